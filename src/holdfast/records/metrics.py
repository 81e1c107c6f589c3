"""What is there to count about a node, and is the node ready?

Pure: the state of a node (:class:`State`, which somebody else has read) in, families of samples out. Names and units are those that Prometheus
asks for: seconds, bytes, ``_total``. The text formats are in :mod:`holdfast.records.openmetrics`, reading the state in the command
line. Left out: what other exporters tell about the machine, and everything that no process here can know without asking a stranger.
"""

from functools import lru_cache
from operator import itemgetter

from holdfast.core import ladder
from holdfast.records.openmetrics import (
    COUNTER,
    GAUGE,
    HISTOGRAM,
    INFO,
    NO_LABELS,
    SUMMARY,
    Family,
    Labels,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any, NotRequired, TypedDict

    from holdfast.wire.pulse import Pulse

    class Process(TypedDict):
        """A house process; what is None is not known."""

        name: str
        pid: int  #: 0: it is not there
        beat_age_s: float | None
        started_unix_s: float | None
        rss_bytes: int | None
        cpu_ns: int | None

    class Worker(TypedDict):
        """A worker; what is None is not known, or there is no such thing."""

        name: str
        kind: str
        state: str
        ready: bool
        up: bool  #: it is wanted
        pid: int  #: 0: it is not there
        restarts: int
        why: str
        started_unix_s: float | None
        rss_bytes: int | None
        cpu_ns: int | None
        threads: int | None
        major_faults: int | None
        memory_limit_bytes: int | None
        fds: int | None
        children: int | None
        pulse: Pulse | None  #: of this life
        pulse_age_s: (
            float | None
        )  #: since its serving loop (or, of a program without one, its agent) beat

    class Disk(TypedDict):
        """The file system that a directory of the node is on."""

        of: str  #: "state" or "run"
        size_bytes: int
        free_bytes: int  #: for who is not root
        inodes: int
        free_inodes: int

    class Queue(TypedDict):
        """A job store; `counts` is None while it cannot be read."""

        store: str  #: its URL, without a password
        counts: Any

    class State(TypedDict):
        """A node at one moment."""

        node: str
        version: str
        digest: str
        running: bool
        keeper_answers: bool
        began_unix_s: float | None
        house: list[Process]
        workers: list[Worker]
        flags: list[dict[str, Any]]  #: as in their files, the machine's too
        deaths: (
            dict[tuple[str, str], int] | None
        )  #: by worker and cause; None: they cannot be told truly
        incidents: dict[tuple[str, str], int]  #: by kind and verdict
        last_incident_unix_s: float | None
        disks: list[Disk]
        components: list[
            tuple[str, str, dict[str, Any]]
        ]  #: worker, component, what its container said
        unanswered: int  #: containers that did not say it in time
        jobs: list[Queue]
        bounds_s: tuple[float, ...]  #: upper ends of the classes of the components' timings
        took_s: float

    class Reason(TypedDict):
        """Why a node is not ready."""

        what: str
        says: str
        worker: NotRequired[str]


#: Causes that every worker has a series of from the beginning: the first death has to be an increase, too.
CAUSES = ("died", "remedy")
#: States that a worker can be in.
STATES = ("waiting", "starting", "running", "stopping", "backoff", "down", "failed", "done", "idle")
#: Flags that mean from their first moment that somebody is not served. Any other is a suspicion until it has a remedy.
HARD = frozenset({
    "crash_loop", "missed_heartbeat", "failed_probe", "start_failed", "memory_over_limit", "disk_low", "inodes_low",
    "memory_pressure",
})  # fmt: skip
#: At most so many reasons are told: a thousand workers that wait for one are one reason.
MOST_REASONS = 50
NODE = "@node"

#: name -> (kind, unit, what it says). In the order in which they are written.
FAMILIES: "dict[str, tuple[str, str, str]]" = {
    "holdfast_up": (GAUGE, "", "1 while the node runs"),
    "holdfast_build": (INFO, "", "Version of Holdfast that tells this"),
    "holdfast_node": (INFO, "", "Name of the node and the digest of the plan that runs"),
    "holdfast_node_start_time_seconds": (GAUGE, "seconds", "When the node was started, in Unix time"),
    "holdfast_node_ready": (GAUGE, "", "1 while /readyz answers 200"),
    "holdfast_keeper_answering": (GAUGE, "", "1 when the keeper answered; 0: workers are told from its journal and /proc"),
    "holdfast_house_up": (GAUGE, "", "1 while this process of Holdfast is there"),
    "holdfast_house_beat_age_seconds": (GAUGE, "seconds", "Time since it beat; once a second is right"),
    "holdfast_house_start_time_seconds": (GAUGE, "seconds", "When it was started, in Unix time"),
    "holdfast_house_memory_bytes": (GAUGE, "bytes", "Its resident memory"),
    "holdfast_house_cpu_seconds": (COUNTER, "seconds", "Processor time of this life of it"),
    "holdfast_workers": (GAUGE, "", "Number of workers in each state"),
    "holdfast_node_flag": (GAUGE, "", "1 while this flag of the machine is raised"),
    "holdfast_worker": (INFO, "", "Kind of each worker"),
    "holdfast_worker_up": (GAUGE, "", "1 while its process is there"),
    "holdfast_worker_wanted": (GAUGE, "", "1 while it is meant to run"),
    "holdfast_worker_ready": (GAUGE, "", "1 while it can serve"),
    "holdfast_worker_start_time_seconds": (GAUGE, "seconds", "When its life began, in Unix time"),
    "holdfast_worker_restarts": (COUNTER, "", "How often it was started again since the node was started"),
    "holdfast_worker_deaths": (COUNTER, "", "Ended lives by cause: died (by itself), remedy (ordered by the watchdog), stop, restart, apply, group, down"),
    "holdfast_worker_flag": (GAUGE, "", "1 while this flag is raised"),
    "holdfast_worker_memory_bytes": (GAUGE, "bytes", "Resident memory of its main process"),
    "holdfast_worker_memory_limit_bytes": (GAUGE, "bytes", "What it may have (memory_max)"),
    "holdfast_worker_cpu_seconds": (COUNTER, "seconds", "Processor time of this life"),
    "holdfast_worker_major_faults": (COUNTER, "", "Page faults of this life that had to wait for a disk"),
    "holdfast_worker_threads": (GAUGE, "", "Threads of its main process"),
    "holdfast_worker_children": (GAUGE, "", "Processes below it, at the watchdog's last look"),
    "holdfast_worker_open_files": (GAUGE, "", "Open descriptors, at the watchdog's last look"),
    "holdfast_worker_beat_age_seconds": (GAUGE, "seconds", "Time since its pulse beat"),
    "holdfast_worker_loop_lag_seconds": (GAUGE, "seconds", "How late its event loop comes, a maximum that decays"),
    "holdfast_worker_late_turns": (COUNTER, "", "Turns of its event loop that came more than 250 ms late"),
    "holdfast_worker_tasks": (GAUGE, "", "Tasks that it has"),
    "holdfast_worker_new_tasks": (COUNTER, "", "Tasks that it has made in this life"),
    "holdfast_worker_in_flight": (GAUGE, "", "Units of work under way"),
    "holdfast_worker_work": (COUNTER, "", "Units of work that it has finished in this life"),
    "holdfast_worker_work_seconds": (COUNTER, "seconds", "Time that all finished work took together"),
    "holdfast_route_seconds": (SUMMARY, "seconds", "Finished work by route: how much, and how long it took together"),
    "holdfast_route_cpu_seconds": (COUNTER, "seconds", "Processor time of finished work by route"),
    "holdfast_component_events": (COUNTER, "", "What a component counted (count)"),
    "holdfast_component_value": (GAUGE, "", "What a component measured (gauge)"),
    "holdfast_component_seconds": (HISTOGRAM, "seconds", "What a component timed (timing)"),
    "holdfast_component_refused": (COUNTER, "", "Figures of a component that came under a name too many"),
    "holdfast_bus_sessions": (GAUGE, "", "Sessions in a realm"),
    "holdfast_bus_calls": (COUNTER, "", "Calls that went over a realm in this life of its router, without those that the router itself answers"),
    "holdfast_bus_failed_calls": (COUNTER, "", "Calls of a realm that ended with an error"),
    "holdfast_bus_publications": (COUNTER, "", "Events that were published in a realm"),
    "holdfast_bus_events": (COUNTER, "", "Events that went out to subscribers of a realm"),
    "holdfast_incidents": (GAUGE, "", "Incidents on record, by kind and by what the remedy did"),
    "holdfast_last_incident_time_seconds": (GAUGE, "seconds", "When the last incident was opened, in Unix time"),
    "holdfast_disk_size_bytes": (GAUGE, "bytes", "Size of the file system of the state directory, and of the run directory (memory)"),
    "holdfast_disk_free_bytes": (GAUGE, "bytes", "What is free there"),
    "holdfast_disk_inodes": (GAUGE, "", "Inodes of the file system"),
    "holdfast_disk_free_inodes": (GAUGE, "", "Inodes that are free there"),
    "holdfast_job_store_up": (GAUGE, "", "1 when the job store could be read"),
    "holdfast_queue_jobs": (GAUGE, "", "Jobs that wait in a queue"),
    "holdfast_queue_latency_seconds": (GAUGE, "seconds", "How long the next job of a queue has waited"),
    "holdfast_queue_paused": (GAUGE, "", "1 while nobody takes jobs from it because somebody said so"),
    "holdfast_jobs": (GAUGE, "", "Jobs elsewhere: busy, scheduled, retry, waiting (for a limit), dead"),
    "holdfast_jobs_processed": (COUNTER, "", "Runs of jobs that ended, failed ones too, ever"),
    "holdfast_jobs_failed": (COUNTER, "", "Runs of jobs that failed, ever"),
    "holdfast_scrape_unanswered": (GAUGE, "", "Containers that did not tell their figures in time"),
    "holdfast_scrape_duration_seconds": (GAUGE, "seconds", "How long it took to read all this"),
}  # fmt: skip


#: Figures of a realm, and what its router calls them.
_BUS = (
    ("bus_sessions", "sessions"), ("bus_calls", "calls"), ("bus_failed_calls", "calls_failed"), ("bus_publications", "published"),
    ("bus_events", "events"),
)  # fmt: skip

#: Of a thousand workers the same four thousand each time: a third of the time of all this.
_labels = lru_cache(20_000)(Labels)


class _Table(dict[str, Family]):
    """The families, empty."""

    def __init__(self) -> None:
        super().__init__((name, Family(name, *rest)) for name, rest in FAMILIES.items())

    def one(self, name: str, value: "float | None", labels: Labels = NO_LABELS) -> None:
        """Add a sample to the family of this name."""
        self[f"holdfast_{name}"].add(labels, value)

    def column(
        self,
        name: str,
        rows: "list[tuple[_Names, Worker]]",
        value_of: "Callable[[Worker], float | None]",
    ) -> None:
        """Add a figure of many workers to its family: a quarter of the time of one worker after another."""
        family = self[f"holdfast_{name}"]
        suffix, is_free = family.suffix, family.kind == GAUGE
        family.samples += [
            (suffix, names.labels, value)
            for names, worker in rows
            if (value := value_of(worker)) is not None and (is_free or value >= 0)
        ]


class _Names:
    """The labels of one worker."""

    __slots__ = ("causes", "labels", "of_kind")

    def __init__(self, worker: str, kind: str) -> None:
        self.labels = Labels(("worker", worker))
        self.of_kind = Labels(("worker", worker), ("kind", kind))
        self.causes = [Labels(("worker", worker), ("cause", cause)) for cause in CAUSES]


_names = lru_cache(10_000)(_Names)


def families(state: "State") -> "list[Family]":
    """Return what there is to tell about a node."""
    table = _Table()
    _node(table, state)
    for process in state["house"]:
        _house(table, process)
    rows = [(_names(worker["name"], worker["kind"]), worker) for worker in state["workers"]]
    _workers(table, rows)
    known = {worker["name"] for worker in state["workers"]}
    for flag in state["flags"]:
        name, worker_name = text(flag["flag"]), str(flag["worker"])
        if worker_name == NODE:
            table.one("node_flag", 1, Labels(("flag", name)))
        elif worker_name in known:
            table.one("worker_flag", 1, Labels(("worker", worker_name), ("flag", name)))
    _deaths(table, state["deaths"], rows)
    _component_figures(table, state["components"], state["bounds_s"])
    for queue in state["jobs"]:
        _jobs(table, queue)
    return list(table.values())


def not_ready(state: "State") -> "list[Reason]":
    """Return why the node is not ready: nothing when it is.

    A worker that nobody wants to run is no reason, nor is one that has done its work, nor a mere suspicion.
    """
    if not state["running"]:
        return [{"what": "down", "says": "the node does not run"}]
    found: list[Reason] = []
    if not state["keeper_answers"]:
        found.append({"what": "keeper", "says": "the keeper does not answer"})
    for flag in state["flags"]:
        if is_grave(flag):
            says = f"{flag['flag']}: {flag.get('says', '')}".removesuffix(": ")
            found.append({"what": "flag", "says": says, "worker": str(flag["worker"])})
    for worker in state["workers"]:
        if worker["up"] and not worker["ready"] and worker["state"] not in ("done", "idle"):
            why = f": {worker['why']}" if worker["why"] else ""
            found.append(
                {"what": "worker", "says": f"{worker['state']}{why}", "worker": worker["name"]}
            )
    rest = len(found) - MOST_REASONS
    if rest > 0:
        found[MOST_REASONS:] = [{"what": "more", "says": f"and {rest} more"}]
    return found


def is_grave(flag: "dict[str, Any]") -> bool:
    """Whether a flag means that somebody is not served: no suspicion, and not one whose remedy is being verified."""
    phase = flag.get("phase")
    if phase in (ladder.RAISED, ladder.EVIDENCE):
        return flag["flag"] in HARD
    return phase in (ladder.REMEDY, ladder.GAVE_UP)


def text(value: object) -> str:
    """Return a name that a program chose as a label that can be written: half characters and returns are replaced."""
    return str(value).encode("utf-8", "replace").decode().replace("\r", " ")


def _node(table: _Table, state: "State") -> None:
    table.one("up", int(state["running"]))
    table.one("build", 1, Labels(("version", state["version"])))
    table.one("node", 1, Labels(("node", state["node"]), ("digest", state["digest"])))
    table.one("node_ready", int(not not_ready(state)))
    for disk in state["disks"]:
        of = Labels(("of", disk["of"]))
        table.one("disk_size_bytes", disk["size_bytes"], of)
        table.one("disk_free_bytes", disk["free_bytes"], of)
        # Some file systems (btrfs) have as many as they need, and say 0.
        table.one("disk_inodes", disk["inodes"] or None, of)
        table.one("disk_free_inodes", disk["free_inodes"] if disk["inodes"] else None, of)
    for (kind, verdict), number in sorted(state["incidents"].items()):
        table.one("incidents", number, Labels(("kind", text(kind)), ("verdict", text(verdict))))
    table.one("last_incident_time_seconds", state["last_incident_unix_s"])
    table.one("scrape_duration_seconds", round(state["took_s"], 6))
    if not state["running"]:
        return
    table.one("node_start_time_seconds", state["began_unix_s"])
    table.one("keeper_answering", int(state["keeper_answers"]))
    table.one("scrape_unanswered", state["unanswered"])
    numbers = dict.fromkeys(STATES, 0)
    for worker in state["workers"]:
        numbers[worker["state"]] = numbers.get(worker["state"], 0) + 1
    for name, number in numbers.items():
        table.one("workers", number, Labels(("state", name)))


def _house(table: _Table, process: "Process") -> None:
    labels = Labels(("process", process["name"]))
    table.one("house_up", int(process["pid"] != 0), labels)
    table.one("house_beat_age_seconds", process["beat_age_s"], labels)
    table.one("house_start_time_seconds", process["started_unix_s"], labels)
    table.one("house_memory_bytes", process["rss_bytes"], labels)
    table.one("house_cpu_seconds", _seconds(process["cpu_ns"]), labels)


def _workers(table: _Table, rows: "list[tuple[_Names, Worker]]") -> None:
    table["holdfast_worker"].samples += [("_info", names.of_kind, 1) for names, _ in rows]
    for name, value_of in _OF_WORKER:
        table.column(name, rows, value_of)
    beating = [(names, worker) for names, worker in rows if worker["pulse"] is not None]
    table.column("worker_beat_age_seconds", beating, itemgetter("pulse_age_s"))
    for name, of_pulse in _OF_PULSE:
        table.column(name, beating, lambda worker, of=of_pulse: of(worker["pulse"]))  # type: ignore[misc]
    for _, worker in beating:
        if worker["pulse"] is not None:
            _routes(table, worker["name"], worker["pulse"].routes)


def _routes(table: _Table, worker: str, routes: "Iterable[tuple[str, int, int, int]]") -> None:
    # The pulse has room for 40 bytes of a name: long ones of one beginning look the same, and are one series.
    sums: dict[str, tuple[int, int, int]] = {}
    for name, count, latency_ns, cpu_ns in routes:
        name = text(name)
        before = sums.get(name, (0, 0, 0))
        sums[name] = (before[0] + count, before[1] + latency_ns, before[2] + cpu_ns)
    for name, (count, latency_ns, cpu_ns) in sums.items():
        labels = _labels(("worker", worker), ("route", name))
        summary = table["holdfast_route_seconds"]
        summary.add(labels, count, "_count")
        summary.add(labels, _seconds(latency_ns), "_sum")
        table.one("route_cpu_seconds", _seconds(cpu_ns), labels)


def _deaths(
    table: _Table,
    deaths: "dict[tuple[str, str], int] | None",
    rows: "list[tuple[_Names, Worker]]",
) -> None:
    if deaths is None:
        return
    family = table["holdfast_worker_deaths"]
    for at, cause in enumerate(CAUSES):
        family.samples += [
            (family.suffix, names.causes[at], deaths.get((worker["name"], cause), 0))
            for names, worker in rows
        ]
    known = {worker["name"] for _, worker in rows}
    others: dict[tuple[str, str], int] = {}
    for (name, cause), number in deaths.items():
        if name in known and text(cause) not in CAUSES:
            others[name, text(cause)] = number
    for (name, cause), number in others.items():
        table.one("worker_deaths", number, _labels(("worker", name), ("cause", cause)))


def _component_figures(
    table: _Table,
    components: "Iterable[tuple[str, str, dict[str, Any]]]",
    bounds_s: "tuple[float, ...]",
) -> None:
    for worker, component, figures in components:
        of = Labels(("worker", worker), ("component", text(component)))
        for key, kind in (("counts", "component_events"), ("gauges", "component_value")):
            for name, value in _named(figures.get(key), (int, float)):
                table.one(kind, _figure(value), of.plus(("name", name)))
        for name, timing in _named(figures.get("timings"), dict):
            _timing(table["holdfast_component_seconds"], of.plus(("name", name)), timing, bounds_s)  # fmt: skip
        for realm, totals in _named(figures.get("bus"), dict):
            in_realm = Labels(("worker", worker), ("realm", realm))
            for figure, key in _BUS:
                value = totals.get(key)
                table.one(figure, value if type(value) is int else None, in_realm)
        refused = figures.get("refused")
        table.one("component_refused", refused if type(refused) is int else None, of)


def _named(found: object, kinds: "type | tuple[type, ...]") -> "Iterable[tuple[str, Any]]":
    """Return names and values; of names that look the same once written, the first."""
    seen: dict[str, object] = {}
    if isinstance(found, dict):
        for name, value in found.items():
            if isinstance(value, kinds):
                seen.setdefault(text(name), value)
    return seen.items()


def _figure(value: float) -> "float | None":
    """Return what a component said as a figure that a reader can hold: booleans are 0 and 1, all else 64 bits."""
    try:
        return int(value) if isinstance(value, int) and -(2**53) < value < 2**53 else float(value)
    except OverflowError:
        return None


def _timing(
    family: Family, labels: Labels, timing: "dict[str, Any]", bounds_s: "tuple[float, ...]"
) -> None:
    """Add a histogram with all its classes: one that first appears with its first value would be no increase."""
    try:
        in_class = {bound: int(number) for bound, number in timing["up_to_s"]}
        count, sum_s = int(timing["count"]), float(timing["sum_s"])
    except (KeyError, TypeError, ValueError):
        return  # not of ours: a container of another version
    total = 0
    for bound in bounds_s:
        total += in_class.get(bound, 0)
        family.add(labels.plus(("le", repr(bound))), min(total, count), "_bucket")
    family.add(labels.plus(("le", "+Inf")), count, "_bucket")
    family.add(labels, count, "_count")
    family.add(labels, sum_s, "_sum")


def _jobs(table: _Table, queue: "Queue") -> None:
    store, counts = Labels(("store", text(queue["store"]))), queue["counts"]
    table.one("job_store_up", int(counts is not None), store)
    if counts is None:
        return
    for name, (size, latency_s, is_paused) in counts.queues.items():
        labels = store.plus(("queue", text(name)))
        table.one("queue_jobs", size, labels)
        table.one("queue_latency_seconds", round(latency_s, 3), labels)
        table.one("queue_paused", int(is_paused), labels)
    for place in ("busy", "scheduled", "retry", "waiting", "dead"):
        table.one("jobs", getattr(counts, place), store.plus(("place", place)))
    table.one("jobs_processed", counts.processed, store)
    table.one("jobs_failed", counts.failed, store)


def _seconds(ns: "int | None") -> "float | None":
    return None if ns is None else ns / 1e9


#: What every worker has a figure of, or None.
_OF_WORKER: "tuple[tuple[str, Callable[[Worker], float | None]], ...]" = (
    ("worker_up", lambda worker: int(worker["pid"] != 0)),
    ("worker_wanted", lambda worker: int(worker["up"])),
    ("worker_ready", lambda worker: int(worker["ready"])),
    ("worker_start_time_seconds", itemgetter("started_unix_s")),
    ("worker_restarts", itemgetter("restarts")),
    ("worker_memory_bytes", itemgetter("rss_bytes")),
    ("worker_memory_limit_bytes", itemgetter("memory_limit_bytes")),
    ("worker_cpu_seconds", lambda worker: _seconds(worker["cpu_ns"])),
    ("worker_major_faults", itemgetter("major_faults")),
    ("worker_threads", itemgetter("threads")),
    ("worker_children", itemgetter("children")),
    ("worker_open_files", itemgetter("fds")),
)
#: What is told by a pulse.
_OF_PULSE: "tuple[tuple[str, Callable[[Pulse], float | None]], ...]" = (
    ("worker_tasks", lambda pulse: pulse.tasks),
    ("worker_new_tasks", lambda pulse: pulse.tasks_created),
    ("worker_in_flight", lambda pulse: pulse.in_flight),
    ("worker_work", lambda pulse: pulse.work_done),
    ("worker_work_seconds", lambda pulse: _seconds(pulse.latency_sum_ns)),
    ("worker_loop_lag_seconds", lambda pulse: _seconds(pulse.lag_ns) if pulse.loop_beat_ns else None),
    ("worker_late_turns", lambda pulse: pulse.late_ticks if pulse.loop_beat_ns else None),
)  # fmt: skip
