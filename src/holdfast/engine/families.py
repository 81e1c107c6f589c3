"""Which jobs workers does the plan of this node have, by family?

A family is a configured worker: its processes, and its lane for suspects. Read from `RUN/plan.json`, and again when that file
was replaced (`holdfast apply`): what a steward knows of a plan is never older than a second.
"""

import os

from holdfast.linux import files
from holdfast.wire import layout
from holdfast.wire import plan as plan_format

TYPE_CHECKING = False
if TYPE_CHECKING:
    from holdfast.model.jobs import JobsPlan


class Family:
    """One configured worker of kind jobs."""

    __slots__ = ("lane", "name", "queues", "workers")

    def __init__(self, name: str) -> None:
        self.name = name
        self.queues: set[str] = set()
        self.workers: list[str] = []
        self.lane = ""  #: name of the worker that runs its suspects


class Families:
    """The jobs workers of a plan."""

    def __init__(self, run_dir: str) -> None:
        self._path = f"{run_dir}/{layout.PLAN}"
        self._stamp: tuple[int, int] | None = None
        self.node = ""
        self.all: list[Family] = []
        self.workers: dict[str, JobsPlan] = {}
        self.look()

    def look(self) -> None:
        """Read the plan if it was replaced.

        Raises:
            OSError: There is no plan.
            ValueError: It is damaged.
        """
        info = os.stat(self._path)
        stamp = (info.st_ino, info.st_mtime_ns)
        if stamp == self._stamp:
            return
        head, entries = plan_format.split(files.read(self._path))
        workers: dict[str, JobsPlan] = {}
        for entry in entries:
            jobs = entry.get("jobs")
            if jobs is not None:
                workers[str(entry["name"])] = jobs
        self._stamp, self.node, self.workers = stamp, str(head.get("node", "")), workers
        self.all = _families(workers)

    def of(self, queue: str) -> "Family | None":
        """Return who serves a queue and has a lane."""
        return next((one for one in self.all if one.lane and queue in one.queues), None)

    def first(self) -> "Family | None":
        """Return whose business it is what is nobody's."""
        return next((one for one in self.all if one.lane), None)

    def run_jobs(self) -> "list[str]":
        """Return the workers that publish tables and run jobs."""
        return [name for name, plan in self.workers.items() if plan["role"] == "worker"]

    def is_lane(self, worker: str) -> bool:
        """Whether this worker runs one suspect at a time."""
        plan = self.workers.get(worker)
        return plan["role"] == "quarantine" if plan is not None else worker.endswith(".quarantine")


def _families(workers: "dict[str, JobsPlan]") -> "list[Family]":
    families: dict[str, Family] = {}
    for name, plan in workers.items():
        if plan["role"] == "steward":
            continue
        family = families.setdefault(plan["family"], Family(plan["family"]))
        if plan["role"] == "quarantine":
            family.lane = name
        else:
            family.workers.append(name)
            family.queues.update(queue for queue, _ in plan["queues"])
    return list(families.values())
