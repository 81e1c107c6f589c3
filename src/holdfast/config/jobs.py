"""Where is the queue of a node, and which processes follow from a worker of kind ``jobs``?

One configured worker becomes several kept ones, all of them containers with a component of Holdfast's own: NAME, NAME.2 … run
jobs, NAME.quarantine runs suspects alone (the steward has it started), and one steward looks after all of them. No configured name has a
dot, so a name always tells. What one key may be is :mod:`holdfast.config.jobs_definitions`' business, what the processes do the engine's.
"""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from holdfast.config import definitions as d
from holdfast.config.jobs_definitions import JOBS
from holdfast.config.joined import Config, Entry
from holdfast.config.machine import Machine, absolute
from holdfast.config.problems import Problems
from holdfast.config.reading import shown_path, typed_path
from holdfast.config.worker import Job
from holdfast.core.lease import QUARANTINE
from holdfast.linux.places import LONGEST_NAME

if TYPE_CHECKING:
    from holdfast.model.jobs import JobsPlan
    from holdfast.model.plan import ComponentPlan, WorkerPlan

#: The one process of a node that renews leases and settles what the dead leave; no worker can be called so beside it.
STEWARD = "steward"
WORKER_USE, STEWARD_USE = "holdfast.engine:app", "holdfast.engine:steward"
#: Between the configured name and what tells its processes apart.
JOINT = "."
ENV_STORE, ENV_PREFIX = "HOLDFAST_JOBS", "HOLDFAST_JOBS_PREFIX"
#: Leases are renewed five times in this, by a process that may be slow for a moment.
_LEAST_LEASE_S = 2.0
_STEWARD_BYTES = 256 << 20
#: Suspects die one after another here; the next one should not wait long for its turn.
_QUARANTINE_DELAY_MAX_S = 1.0


class JobQueue:
    """The queue of a node while the plan is compiled."""

    def __init__(
        self, config: Config, problems: Problems, state_dir: str, machine: Machine
    ) -> None:
        self.config = config
        self.problems = problems
        self.families = [
            name for name, entry in config.workers.items() if entry.given.get("kind") == "jobs"
        ]
        #: Somebody here takes jobs from it, or puts some into it.
        self.is_used = bool(self.families or config.jobs.raw)
        full = JOBS.filled(config.jobs.given)
        self.prefix: str = full.get("prefix", "")
        self.lease_s: float = full["lease"]
        self.store = self._absolute(full["store"], state_dir, machine)
        self._check()

    def environment(self) -> dict[str, str]:
        """Return what a worker of this node has to know to put jobs into the queue."""
        if not self.is_used:
            return {}
        return {ENV_STORE: self.store} | ({ENV_PREFIX: self.prefix} if self.prefix else {})

    def processes(self, names: Iterable[str]) -> list[str]:
        """Return the kept workers that are meant by configured names: all processes of a `jobs` worker."""
        found: list[str] = []
        for name in names:
            many = self._count(name) if name in self.families else 1
            found += [name, *(f"{name}{JOINT}{number}" for number in range(2, many + 1))]
        return found

    def expand(self, plan: "WorkerPlan", job: Job) -> "list[WorkerPlan]":
        """Return the processes of a `jobs` worker: those that run jobs, then its quarantine lane."""
        name = plan["name"]
        given = job.given
        self._check_memory(job)
        jobs: JobsPlan = {
            "role": "worker", "family": name, "store": self.store, "prefix": self.prefix, "use": given.get("use", []),
            "queues": _queues(given.get("queues", ["default"])), "concurrency": given["concurrency"],
            "async_concurrency": given["async_concurrency"], "lease_s": self.lease_s, "timeout_s": given["timeout"],
            "recycle_bytes": given.get("recycle_memory", 0), "recycle_jobs": given.get("recycle_jobs", 0),
        }  # fmt: skip
        first: WorkerPlan = {
            **plan,
            "after": [STEWARD, *plan["after"]],
            "components": [_component("jobs", WORKER_USE)],
            "jobs": jobs,
        }
        found = [_called(other, first) for other in self.processes([name])]
        lane: WorkerPlan = {
            **first, "components": [_component(QUARANTINE, WORKER_USE)], "autostart": False, "essential": False, "spare": 0,
            # Idle it ends by itself, and that is that; killed by a job it goes on with the next one.
            "restart": {
                **plan["restart"], "policy": "on-failure", "limit": 0,
                "delay_max_s": min(plan["restart"]["delay_max_s"], _QUARANTINE_DELAY_MAX_S),
                "delay_s": min(plan["restart"]["delay_s"], _QUARANTINE_DELAY_MAX_S),
            },
            "jobs": {
                **jobs, "role": "quarantine", "queues": _queues([QUARANTINE]), "concurrency": 1, "async_concurrency": 1,
                "recycle_jobs": 0,
            },
        }  # fmt: skip
        return [*found, _called(f"{name}{JOINT}{QUARANTINE}", lane)]

    def steward_entry(self) -> Entry:
        """Return the steward as if it stood in the file."""
        given = {
            "kind": "jobs",
            "memory_max": _STEWARD_BYTES,
            "restart": {"limit": 0, "delay": 0.05, "delay_max": 2.0},
        }
        return Entry(given, given, self.config.jobs.where)  # fmt: skip

    def steward(self, plan: "WorkerPlan") -> "WorkerPlan":
        """Return the steward of all `jobs` workers, from the plan of a worker that has nothing of its own."""
        jobs: JobsPlan = {
            "role": STEWARD, "family": "", "store": self.store, "prefix": self.prefix, "use": [], "queues": [],
            "concurrency": 0, "async_concurrency": 0, "lease_s": self.lease_s, "timeout_s": 0.0, "recycle_bytes": 0,
            "recycle_jobs": 0, "stewarded": list(self.families),
        }  # fmt: skip
        return {**plan, "components": [_component(STEWARD, STEWARD_USE)], "jobs": jobs}

    # -- what contradicts itself -----------------------------------------------------------------------

    def _count(self, family: str) -> int:
        given = self.config.workers[family].given
        return int(given.get("processes", d.WORKER.defaults["processes"]))

    def _absolute(self, url: str, state_dir: str, machine: Machine) -> str:
        """Return the URL of the store, a file's path made absolute."""
        scheme, _, rest = url.partition(":")
        if scheme != "sqlite":
            return url
        path, mark, query = rest.partition("?")
        if path.startswith("///"):
            full = path.removeprefix("//")
        else:
            # A person writes a path, a URL has some letters escaped.
            full = quote(absolute(state_dir, ""), safe="/").rstrip("/") + "/" + path
        directory = full.rpartition("/")[0]
        if path.startswith("///") and not machine.is_directory(directory):
            where = self.config.jobs.where.at("store")
            says = f"{shown_path(directory)}: there is no such directory"
            self.problems.add(where, says, f"make it:  mkdir -p {typed_path(directory)}")
        return f"sqlite://{full}{mark}{query}"

    def _check(self) -> None:
        jobs, problems = self.config.jobs, self.problems
        if self.prefix and self.store.startswith("sqlite:"):
            says = "has no meaning for a file: each file is a queue of its own"
            problems.add(jobs.where.at("prefix"), says, "leave it out", of_key=True)
        if "lease" in jobs.given and self.lease_s < _LEAST_LEASE_S:
            says = f"{self.lease_s:g} s is too short: a moment of load would make living workers count as dead"
            problems.add(jobs.where.at("lease"), says, f"at least {_LEAST_LEASE_S:g} s")
        if not self.families:
            return
        for table in (self.config.workers, self.config.groups):
            taken = table.get(STEWARD)
            if taken is not None:
                says = f'the name "{STEWARD}" is taken: it is the process that looks after the jobs workers'
                problems.add(taken.where, says, "choose another name", of_key=True)
        longest = LONGEST_NAME - len(JOINT + QUARANTINE)
        for name in self.families:
            if len(name) > longest:
                says = f"has {len(name)} letters; the name of a jobs worker has at most {longest}"
                hint = f"one of its processes is called NAME{JOINT}{QUARANTINE}"
                problems.add(self.config.workers[name].where, says, hint, of_key=True)

    def _check_memory(self, job: Job) -> None:
        recycle, limit = job.given.get("recycle_memory"), job.given.get("memory_max")
        if recycle and limit and recycle >= limit:
            says = f"is not below memory_max ({limit >> 20} MiB): it would be killed before it is recycled"
            hint = f'leave room for one job:  recycle_memory = "{max(48, limit * 3 // 4 >> 20)}M"'
            self.problems.add(job.where("recycle_memory"), says, hint)


def _queues(given: "list[str] | Mapping[str, int]") -> "list[tuple[str, int]]":
    pairs = given.items() if isinstance(given, Mapping) else ((name, 0) for name in given)
    # As JSON gives them back: a plan that was made just now has to be equal to one that was read.
    found: Any = [[name, weight] for name, weight in pairs]
    queues: list[tuple[str, int]] = found
    return queues


def _component(name: str, use: str) -> "ComponentPlan":
    return {"name": name, "use": use, "settings": {}, "bus": None}


def _called(name: str, plan: "WorkerPlan") -> "WorkerPlan":
    """Return an entry under another name, with its own place for the log."""
    if name == plan["name"]:
        return plan
    log = plan["log"]
    if log is not None:
        parent, _, last = log["directory"].rpartition("/")
        own = f"{parent}/{name}" if last == plan["name"] else f"{log['directory']}/{name}"
        log = {**log, "directory": own}
    return {**plan, "name": name, "log": log}


def settings_of(entry: "Mapping[str, Any]") -> "dict[str, Any]":
    """Return what stands under `jobs` of a plan's entry; {} for every other worker."""
    found: dict[str, Any] = entry.get("jobs") or {}
    return found
