"""What plan follows from what the files say?

Finds what contradicts itself across tables: names that nobody has, circles, components in two places; and puts the
workers in start order. What follows within one worker is :mod:`holdfast.config.worker`'s, what a single value may be
:mod:`holdfast.config.kinds`'.
"""

import os
from binascii import crc32
from collections.abc import Iterable, Mapping
from heapq import heapify, heappop, heappush
from typing import TYPE_CHECKING, Any

from holdfast.config import alerts, dashboard, forward
from holdfast.config import definitions as d
from holdfast.config.bus import Bus
from holdfast.config.jobs import STEWARD, JobQueue
from holdfast.config.joined import Config, Entry
from holdfast.config.machine import absolute, passed_on
from holdfast.config.problems import Document, Problems
from holdfast.config.reading import shown_path
from holdfast.config.worker import Job, Node
from holdfast.core.isolate import AT_ONCE, HALVES
from holdfast.model.plan import PLAN_FORMAT
from holdfast.wire import layout
from holdfast.wire.jsonlite import dumps

if TYPE_CHECKING:
    from holdfast.model.plan import ComponentPlan, GroupPlan, LogPolicy, Plan, WorkerPlan


def compile_plan(
    documents: list[Document],
    environ: Mapping[str, str],
    problems: Problems,
    state_dir: str | None = None,
) -> "Plan":
    """Return the plan; where problems were noted it is good for nothing.

    ``state_dir`` replaces the one that the file names.
    """
    return _Compiler(Config(documents, problems), environ, problems, state_dir).plan()


#: Into how many parts a worker is split in one step, by what stands in the file.
_FAN = {True: AT_ONCE, "halves": HALVES, False: 0}


class _Compiler:
    def __init__(
        self,
        config: Config,
        environ: Mapping[str, str],
        problems: Problems,
        state_dir: str | None,
    ) -> None:
        self.config = config
        self.problems = problems
        self.homes: dict[str, str] = {}  # component -> worker
        node = config.node
        base = node.where.document.directory
        named = d.NODE.filled(node.given)["state_dir"]
        self.base = base
        self.log_directories: dict[str, str] = {}  # directory -> whose log it holds
        self.state_dir = state_dir or absolute(_directory_of(node, "state_dir", base), named)
        passed_env = passed_on(environ, node.given.get("env_pass", ["*"]))
        self.node = Node(config.defaults, node.given.get("env", {}), passed_env, problems)

    def plan(self) -> "Plan":
        config, given = self.config, d.NODE.filled(self.config.node.given)
        self._check_state_dir()
        self._place_components()
        self._check_names()
        self.bus = Bus(config, self.problems, self.state_dir)
        self.jobs = JobQueue(config, self.problems, self.state_dir, self.node.machine)
        self.node.jobs_workers = self.jobs.families
        self.alerts = alerts.Alerts(config, self.problems)
        self.dashboard = dashboard.Dashboard(config, self.problems)
        self.forward = forward.Forward(config, self.problems)
        order = self._start_order()
        workers = [one for name in order for one in self._workers(name, config.workers[name])]
        if self.jobs.families:
            workers.insert(0, self._steward())
        if self.alerts.is_used:
            workers.append(self._alerts())
        if self.dashboard.is_used:
            workers.append(self._dashboard())
        if self.forward.is_used:
            workers.append(self._forward())
        if not config.workers and not self.problems:
            self.problems.add_whole(
                config.main.file,
                "there is nothing to run: no worker and no component",
                "an example:  holdfast init",
            )
        plan: Plan = {
            "format": PLAN_FORMAT,
            "node": given.get("name") or self.node.machine.name(),
            "config": config.main.path,
            "state_dir": self.state_dir,
            "digest": "",
            "drills": given["drills"],
            "env": self.node.passed_env,
            "workers": workers,
            "groups": self._groups(order),
            "watch": {
                "evidence_budget_s": given["evidence_budget"],
                "sample_s": given["sample"],
                "disk_min_share": given["disk_min_share"],
                "verify_s": given["verify"],
                "house_timeout_s": given["house_timeout"],
                "objectives": given.get("objectives", {}),
                "detect": {
                    name: float(value)
                    for name, value in d.DETECT_NODE.filled(given.get("detect", {})).items()
                },
                "shed": self._shed(given.get("shed", [])),
            },
            "house_log": self._log_policy(given.get("log", {}), layout.HOUSE_LOG, config.node),
        }
        return plan if self.problems else with_digest(plan)

    def _shed(self, names: list[str]) -> list[str]:
        for at, name in enumerate(names):
            if name not in self.config.workers:
                where = self.config.node.where.at("shed").at(at)
                says = f'there is no worker "{name}"'
                self.problems.add(where, says, *self._meant(name, self.config.workers, "worker"))
        return self.jobs.processes(names)

    # -- names and order ---------------------------------------------------------------------------

    def _place_components(self) -> None:
        config, problems = self.config, self.problems
        for name, entry in config.workers.items():
            for at, component in enumerate(entry.given.get("components", ())):
                where = entry.where.at("components").at(at)
                if component not in config.components:
                    says = f'there is no component "{component}"'
                    problems.add(
                        where, says, *self._meant(component, config.components, "component")
                    )
                elif component in self.homes and self.homes[component] != name:
                    problems.add(
                        where,
                        f'the component "{component}" is in the worker "{self.homes[component]}" already',
                        "a component lives in one worker; for a second one give it a second [component.NAME]",
                    )
                else:
                    self.homes[component] = name
        for name, entry in config.components.items():
            if name in self.homes or entry.is_broken:
                continue
            other = config.workers.get(name)
            if other is None:
                config.workers[name] = Entry({"components": [name]}, {}, entry.where)
            elif "components" not in other.raw or "components" in other.given:
                problems.add(
                    entry.where,
                    f'no worker has this component, and a worker of its own cannot be called "{name}": there is one',
                    f"add it to the `components` of a worker, or rename [worker.{name}]",
                    of_key=True,
                )

    def _check_names(self) -> None:
        config, problems = self.config, self.problems
        for table in (config.workers, config.groups):
            entry = table.get(layout.HOUSE_LOG)
            if entry is not None:
                says = f'the name "{layout.HOUSE_LOG}" is taken: it stands for Holdfast itself'
                problems.add(entry.where, says, "choose another name", of_key=True)
        for name, entry in config.groups.items():
            if name in config.workers:
                says = f'"{name}" is the name of a worker, too; one word cannot mean both'
                problems.add(entry.where, says, "rename one of them", of_key=True)

    def _meant(self, name: str, known: Iterable[str], title: str) -> list[str]:
        config = self.config
        if title == "worker" and name in config.components:
            return [f'"{name}" is a component; it is in the worker "{self.homes.get(name, name)}"']
        if title == "worker" and name in config.groups:
            return [f'"{name}" is a group; name its workers']
        names = list(known)
        guess = self.problems.similar(name, names)
        if guess:
            return [guess]
        return (
            ["there are: " + ", ".join(names[:12]) + (", …" if len(names) > 12 else "")]
            if names
            else []
        )

    def _start_order(self) -> list[str]:
        workers = self.config.workers
        names = list(workers)
        number = {name: at for at, name in enumerate(names)}
        waits_for: dict[str, set[str]] = {}
        followers: dict[str, list[str]] = {name: [] for name in names}
        for name, entry in workers.items():
            waits_for[name] = set()
            for key in ("after", "requires"):
                for at, other in enumerate(entry.given.get(key, ())):
                    where = entry.where.at(key).at(at)
                    if other == name:
                        self.problems.add(where, "a worker cannot wait for itself")
                    elif other not in workers:
                        meant = self._meant(other, names, "worker")
                        self.problems.add(where, f'there is no worker "{other}"', *meant)
                    elif other not in waits_for[name]:
                        waits_for[name].add(other)
                        followers[other].append(name)
        left = {name: len(others) for name, others in waits_for.items()}
        # In the order of the file as far as it can be: a person finds their own order again.
        free = [number[name] for name in names if not left[name]]
        heapify(free)
        order = []
        while free:
            name = names[heappop(free)]
            order.append(name)
            for follower in followers[name]:
                left[follower] -= 1
                if not left[follower]:
                    heappush(free, number[follower])
        if len(order) < len(names):
            self._circles(
                {
                    name: sorted(waits_for[name], key=number.__getitem__)
                    for name in names
                    if left[name]
                }
            )
            order += [name for name in names if left[name]]
        return order

    def _circles(self, waits_for: dict[str, list[str]]) -> None:
        done: set[str] = set()
        for first in waits_for:
            path: list[str] = []
            name = first
            while name not in done and name not in path:
                path.append(name)
                # Each of them waits for another one of them: that is why they were left over.
                name = next((n for n in waits_for[name] if n in waits_for), name)
            if name not in done and name in path:
                circle = path[path.index(name) :]
                entry = self.config.workers[circle[0]]
                key = (
                    "after"
                    if circle[1 % len(circle)] in entry.given.get("after", ())
                    else "requires"
                )
                shown = [*circle[:8], "…"] if len(circle) > 8 else circle
                says = "these wait for each other in a circle: " + " -> ".join([*shown, circle[0]])
                self.problems.add(
                    entry.where.at(key),
                    says,
                    "none of them could ever start; take out one of the arrows",
                )
            done.update(path)

    def _groups(self, order: list[str]) -> "list[GroupPlan]":
        number = {name: at for at, name in enumerate(order)}
        groups: list[GroupPlan] = []
        member_of: dict[str, str] = {}
        for name, entry in self.config.groups.items():
            given = d.GROUP.filled(entry.given)
            members = []
            for at, worker in enumerate(given.get("workers", ())):
                where = entry.where.at("workers").at(at)
                if worker not in number:
                    self.problems.add(
                        where,
                        f'there is no worker "{worker}"',
                        *self._meant(worker, order, "worker"),
                    )
                elif worker in member_of:
                    says = f'the worker "{worker}" is in the group "{member_of[worker]}" already'
                    self.problems.add(where, says, "a worker is in one group at most")
                else:
                    member_of[worker] = name
                    members.append(worker)
            if given["strategy"] == "rest_for_one":
                self._check_listed_order(entry, members)
            else:
                members.sort(key=number.__getitem__)
            all_of_them = self.jobs.processes(members)
            groups.append({"name": name, "strategy": given["strategy"], "workers": all_of_them})
        return groups

    def _check_listed_order(self, entry: Entry, members: list[str]) -> None:
        for at, worker in enumerate(members):
            given = self.config.workers[worker].given
            for later in members[at + 1 :]:
                if later in given.get("after", ()) or later in given.get("requires", ()):
                    says = f'"{worker}" stands before "{later}", but starts after it'
                    self.problems.add(entry.where.at("workers"), says, "list them in start order")

    # -- one worker --------------------------------------------------------------------------------

    def _workers(self, name: str, entry: Entry) -> "list[WorkerPlan]":
        """Return what a configured worker becomes: one process, or of a jobs worker several."""
        job = Job(name, entry, self.node)
        plan = self._worker(job)
        return self.jobs.expand(plan, job) if job.is_jobs else [plan]

    def _steward(self) -> "WorkerPlan":
        return self.jobs.steward(self._own(STEWARD, self.jobs.steward_entry()))

    def _alerts(self) -> "WorkerPlan":
        return self.alerts.worker(self._own(alerts.WORKER, self.alerts.entry()))

    def _dashboard(self) -> "WorkerPlan":
        return self.dashboard.worker(self._own(dashboard.WORKER, self.dashboard.entry()))

    def _forward(self) -> "WorkerPlan":
        return self.forward.worker(self._own(forward.WORKER, self.forward.entry()))

    def _own(self, name: str, entry: Entry) -> "WorkerPlan":
        """Return the plan of a worker that is Holdfast's own."""
        # Of what all workers have by default only the log is meant for it.
        given = {key: self.config.defaults.given[key] for key in ("log",) if key in self.config.defaults.given}  # fmt: skip
        defaults = Entry(given, given, self.config.defaults.where)
        node = Node(defaults, {}, self.node.passed_env, self.problems)
        node.claims = self.node.claims
        return self._worker(Job(name, entry, node))

    def _worker(self, job: Job) -> "WorkerPlan":
        name, entry, given = job.name, job.entry, job.given
        env = {**job.environment(), **self.jobs.environment()}
        directory = job.directory()
        user = job.user(env)
        argv = job.argv(env, directory)
        router, listen = (
            (None, job.listen(directory)) if not job.is_router else self.bus.router(job, directory)
        )
        log = given.get("log", {})
        has_log = "none" not in log
        faulthandler = given.get("faulthandler")
        if faulthandler is None:
            faulthandler = job.is_container or self.node.machine.is_python_program(
                argv[0] if argv else ""
            )
        components = [self._component(component, name) for component in given.get("components", ())]
        if job.is_router:
            components.insert(0, self.bus.own_component())
        plan: WorkerPlan = {
            "name": name,
            "kind": job.kind,
            "argv": argv,
            "env": dict(sorted(env.items())),
            "directory": directory,
            "user": user,
            "umask": given.get("umask"),
            "limits": job.limits(),
            "restart": job.restart(),
            "after": self.jobs.processes(given.get("after", [])),
            "requires": self.jobs.processes(given.get("requires", [])),
            "ready": job.ready(env, directory, has_log=has_log),
            "heartbeat": job.heartbeat(env, directory),
            "stop": job.stop(),
            "crash_only": given["crash_only"],
            "spare": given["spare"],
            "autostart": given["autostart"],
            "essential": given["essential"],
            "log": self._log_policy(log, name, entry) if has_log else None,
            "listen": listen,
            "components": components,
            "faulthandler": faulthandler,
            "detect": job.detect(),
        }
        if job.has_agent != job.is_container:
            plan["agent"] = job.has_agent
        if router is not None:
            plan["router"] = router
        elif job.kind == "container":
            plan["isolate"] = _FAN.get(given["isolate"], 0)
        return plan

    def _component(self, name: str, worker: str) -> "ComponentPlan":
        entry = self.config.components.get(name)
        given = entry.given if entry else {}
        plan: ComponentPlan = {
            "name": name,
            "use": given.get("use", ""),
            "settings": given.get("settings", {}),
        }
        if entry is not None:
            bus = self.bus.join(worker, entry)
            if bus is not None or self.bus.routers:
                plan["bus"] = bus
        return plan

    def _log_policy(self, given: Mapping[str, Any], name: str, entry: Entry) -> "LogPolicy":
        full = d.LOG.filled(given)
        directory = f"{self.state_dir}/{layout.LOGS}/{name}"
        if full.get("directory"):
            directory = absolute(_directory_of(entry, "log", self.base), full["directory"])
        # Segments of two workers in one directory would replace each other.
        other = self.log_directories.setdefault(directory, name)
        if other != name:
            says = f"{shown_path(directory)} holds the log of worker {other} already"
            self.problems.add(
                entry.where.at("log"), says, "give each worker a directory of its own"
            )
        return {
            "max_bytes": full["max_size"],
            "max_age_s": full["max_age"],
            "keep": full["keep"],
            "compress": full["compress"],
            "directory": directory,
        }

    def _check_state_dir(self) -> None:
        path = self.state_dir
        while path and not os.path.lexists(path):
            path = os.path.dirname(path)
        if not os.path.isdir(path):
            where = self.config.node.where.at("state_dir")
            self.problems.add(
                where,
                f"{shown_path(path)} is not a directory",
                "remove it, or choose another place",
            )


def _directory_of(entry: Entry, key: str, base: str) -> str:
    return entry.where.document.directory if key in entry.raw else base


def with_digest(plan: "Plan") -> "Plan":
    """Return the plan under the name that follows from its content."""
    plan["digest"] = ""
    data = dumps(plan).encode()
    # Two checksums of 32 bits: it has to tell one plan from the next, which is not worth 3 MB of OpenSSL.
    plan["digest"] = f"{crc32(data):08x}{crc32(data[::-1], 0x5EED):08x}"
    return plan
