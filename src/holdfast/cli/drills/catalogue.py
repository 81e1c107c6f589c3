"""Which drills does a node have, and how good has the recovery to be?

Pure: a plan and what the machine allows go in, a list of :class:`Drill` comes out, in the order in which they are tried
(every worker and the house in turn, so that one can be watched while another settles). A drill that makes no sense here
is in the list, too, with the reason: a scorecard that leaves it out would promise more than it tested.
Leaves out carrying them out (:mod:`holdfast.cli.drills.worker`, :mod:`holdfast.cli.drills.house`).
"""

from dataclasses import dataclass
from fnmatch import fnmatchcase

from holdfast.core import parts
from holdfast.core.detect import thresholds
from holdfast.core.lease import QUARANTINE
from holdfast.model.plan import HOSTED
from holdfast.wire import layout

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

#: Longest recovery from a crash, and from kill -9 of a house process, unless the configuration says otherwise.
CRASH_S, HOUSE_KILL_S = 5.0, 0.25
#: A component found out, and a full disk told and lived through.
CULPRIT_S, DISK_S = 15.0, 20.0
#: On top of twice the heartbeat's timeout.
HANG_EXTRA_S = 5.0
#: The least that the leak fault allocates in a second on a busy machine (it tries for ten times that).
LEAK_BYTES_PER_S = 20_000_000

KILL, STOP, SEGFAULT, EXCEPTION, DEADLOCK = "kill", "stop", "segfault", "exception", "deadlock"
BUSY_LOOP, BLOCKED_LOOP, GIL, GIL_DEADLOCK = "busy-loop", "blocked-loop", "gil", "gil-deadlock"
TASK_BOMB, SLOW_LIST, THREAD_LEAK, FD_LEAK = "task-bomb", "slow-list", "thread-leak", "fd-leak"
LEAK_1, LEAK_50, LEAK_500, OOM = "leak-1", "leak-50", "leak-500", "oom"
CULPRIT, DISK_FULL, CRASH_LOOP = "culprit", "disk-full", "crash-loop"

#: What each kind of drill does, in the order in which a worker has to bear them.
KINDS = {
    KILL: "kill -9",
    STOP: "SIGSTOP: it is there and does nothing",
    SEGFAULT: "reading address 0 in a C extension",
    EXCEPTION: "an exception that nobody catches",
    DEADLOCK: "a lock that its own holder waits for",
    BUSY_LOOP: "a loop in Python that never ends",
    BLOCKED_LOOP: "a blocking call on the event loop",
    GIL: "C code that never gives the interpreter's lock back",
    GIL_DEADLOCK: "C code that waits for ever and keeps the interpreter's lock",
    TASK_BOMB: "twenty thousand tasks in one instant",
    SLOW_LIST: "work that walks a list which every call makes longer: slow, but alive",
    THREAD_LEAK: "threads that are started and never end",
    FD_LEAK: "files that are opened and never closed",
    LEAK_1: "memory that leaks at 1 MB a second",
    LEAK_50: "memory that leaks at 50 MB a second",
    LEAK_500: "memory that leaks at 500 MB a second",
    OOM: "memory without end, until the kernel kills",
    CULPRIT: "a crash in C code of one component, again and again, until it stands alone",
    DISK_FULL: "no room left on the disk of the state directory, while a worker dies",
    CRASH_LOOP: "kill -9 again and again, until the restart limit acts",
}
#: Fault of the container (holdfast.container.faults) behind a kind.
FAULTS = {
    SEGFAULT: "segfault", EXCEPTION: "exception", DEADLOCK: "deadlock", BUSY_LOOP: "busy_loop",
    BLOCKED_LOOP: "block_loop", GIL: "hold_gil", GIL_DEADLOCK: "hold_gil_asleep", OOM: "leak", TASK_BOMB: "task_bomb",
    SLOW_LIST: "slow_list", THREAD_LEAK: "thread_leak", FD_LEAK: "fd_leak", LEAK_1: "leak_1", LEAK_50: "leak_50",
    LEAK_500: "leak_500", CULPRIT: "segfault",
}  # fmt: skip
#: Faults after which the process is still there and has to be noticed by its silence.
HANGS = frozenset({STOP, DEADLOCK, BUSY_LOOP, BLOCKED_LOOP, GIL, GIL_DEADLOCK})
#: Faults that a detector has to tell while the process goes on: the flag, and seconds until it has to be up. The slow list takes its time
#: to become slow, and what only creeps is not told before the warm-up is over.
SYMPTOMS = {
    TASK_BOMB: ("task_bomb", 3.0), SLOW_LIST: ("slow", 45.0), THREAD_LEAK: ("thread_bomb", 30.0), FD_LEAK: ("fd_leak", 100.0),
    LEAK_1: ("memory_leak", 120.0), LEAK_50: ("memory_leak", 15.0), LEAK_500: ("memory_leak", 8.0),
}  # fmt: skip
#: The least memory_max for a leak: it has to be there for long enough to be seen.
_ROOM = {LEAK_1: 150_000_000, LEAK_50: 250_000_000, LEAK_500: 800_000_000}
#: A disk that is filled on purpose is no larger than this: it was made for that.
SMALL_DISK = 256 << 20
_PROBED = ("http", "exec", "tcp")
_HOUSE = "house"


@dataclass(frozen=True, slots=True)
class Drill:
    """One fault for one process."""

    kind: str
    target: str  #: name of a worker, or role of a house process
    is_house: bool
    default_s: float  #: longest recovery where the configuration does not say
    objective_s: float
    skip: str = ""  #: why it is not possible here; empty: it is

    @property
    def name(self) -> str:
        """What it is called on the command line and in ``node.objectives``."""
        return f"{self.kind}-{self.target}"

    def names(self) -> "tuple[str, ...]":
        """Return all that it answers to, the most particular first."""
        return (self.name, f"{self.kind}-{_HOUSE if self.is_house else 'worker'}", self.kind)


def drills_of(
    plan: "dict[str, Any]", *, enforces_memory: bool, slowness: float = 1.0, disk_bytes: int = 0
) -> "list[Drill]":
    """Return every drill of a node.

    Args:
        plan: The plan that runs.
        enforces_memory: The kernel holds workers to their memory limit here.
        slowness: Stretches the default objectives, not those of the configuration.
        disk_bytes: Size of the file system of the state directory; 0: not known.
    """
    watch = plan["watch"]
    objectives = watch["objectives"]
    rounds: list[list[Drill]] = [[] for _ in KINDS]
    for at, kind in enumerate(KINDS):
        if kind == DISK_FULL:
            skip = _no_small_disk(plan, disk_bytes)
            rounds[at] = [_drill(kind, "node", True, DISK_S * slowness, skip, objectives)]
            continue
        for worker in plan["workers"]:
            if kind in FAULTS and worker["kind"] not in HOSTED:
                continue  # nothing in a guest takes orders
            skip = reason_to_skip(kind, worker, enforces_memory=enforces_memory)
            default_s = default_for_worker(kind, worker) * slowness
            rounds[at].append(_drill(kind, worker["name"], False, default_s, skip, objectives))
        if kind in (KILL, STOP):
            default_s = HOUSE_KILL_S if kind == KILL else 3.0 * watch["house_timeout_s"]
            rounds[at] += [
                _drill(kind, role, True, default_s * slowness, "", objectives)
                for role in layout.ROLES
            ]
    return [drill for turn in rounds for drill in turn]


def _drill(
    kind: str,
    target: str,
    is_house: bool,
    default_s: float,
    skip: str,
    objectives: "dict[str, float]",
) -> Drill:
    bare = Drill(kind, target, is_house, default_s, default_s, skip)
    return Drill(kind, target, is_house, default_s, objective_of(bare, objectives), skip)


def default_for_worker(kind: str, worker: "dict[str, Any]") -> float:
    """Return the longest recovery of a worker where the configuration does not say."""
    restart = worker["restart"]
    if kind in HANGS:
        return float(2.0 * worker["heartbeat"]["timeout_s"] + HANG_EXTRA_S)
    if kind in SYMPTOMS:
        return CRASH_S + SYMPTOMS[kind][1]
    if kind == CULPRIT:
        return CULPRIT_S
    if kind == OOM:
        return CRASH_S + float((worker["limits"]["memory_bytes"] or 0) / LEAK_BYTES_PER_S)
    if kind == CRASH_LOOP and restart["after_limit"] == "slow":
        return CRASH_S + float(restart["delay_max_s"] * (1.0 + restart["jitter"]))
    return CRASH_S


def objective_of(drill: Drill, objectives: "dict[str, float]") -> float:
    """Return the objective that fits a drill best: its own name, then its class, then the longest pattern."""
    for name in drill.names():
        if name in objectives:
            return objectives[name]
    patterns = [p for p in objectives if any(fnmatchcase(name, p) for name in drill.names())]
    return objectives[max(patterns, key=len)] if patterns else drill.default_s


def unused_objectives(drills: "Iterable[Drill]", objectives: "dict[str, float]") -> "list[str]":
    """Return the objectives that fit no drill: nobody would ever know that they are not tested."""
    names = {name for drill in drills for name in drill.names()}
    return [p for p in objectives if not any(fnmatchcase(name, p) for name in names)]


def reason_to_skip(kind: str, worker: "dict[str, Any]", *, enforces_memory: bool) -> str:
    """Return why this drill is not possible by this worker's plan; empty when it is."""
    restart = worker["restart"]
    if (worker.get("jobs") or {}).get("role") == QUARANTINE:
        return "it runs only while there are suspects"
    if kind not in HANGS and restart["policy"] == "never":
        return 'restart.policy = "never": it is not meant to come back'
    if kind in HANGS:
        if worker["heartbeat"]["kind"] == "none":
            return "it has no heartbeat: nobody would notice"
        if kind != STOP and worker["heartbeat"]["kind"] != "pulse":
            return f"its heartbeat ({worker['heartbeat']['kind']}) is not the pulse of its loop"
    if kind == OOM:
        if not worker["limits"]["memory_bytes"]:
            return "it has no memory_max"
        if not enforces_memory:
            return "no memory cgroup can be written here, so the kernel would not kill it (holdfast doctor)"
    if kind in SYMPTOMS:
        return _not_told(kind, worker)
    if kind == CULPRIT:
        if len(worker["components"]) < 2:
            return "it has one component only"
        return (
            ""
            if parts.may_split(worker)
            else "isolate = false, or it may not run as several processes"
        )
    return _no_loop(worker) if kind == CRASH_LOOP else ""


def _not_told(kind: str, worker: "dict[str, Any]") -> str:
    """Return why nobody would tell this symptom, or why it must not be made."""
    flag = SYMPTOMS[kind][0]
    if not thresholds.filled(worker.get("detect"), thresholds.WORKER)[flag]:
        return f"detect.{flag} = false: nobody would tell"
    if kind in _ROOM:
        limit = worker["limits"]["memory_bytes"] or 0
        if not limit and kind != LEAK_1:
            return "it has no memory_max: the leak would take the machine's"
        if limit and limit < _ROOM[kind]:
            return f"its memory_max is less than {_ROOM[kind] // 1_000_000} MB"
    return ""


def _no_small_disk(plan: "dict[str, Any]", disk_bytes: int) -> str:
    if not plan["watch"].get("disk_min_share"):
        return "node.disk_min_share = 0: nobody would tell"
    if not disk_bytes or disk_bytes > SMALL_DISK:
        return f"the state directory has no small disk of its own (at most {SMALL_DISK >> 20} MB): it would be somebody else's that is filled"
    if not any(w["autostart"] and w["restart"]["policy"] != "never" for w in plan["workers"]):
        return "no worker is meant to come back"
    return ""


def _no_loop(worker: "dict[str, Any]") -> str:
    restart = worker["restart"]
    if not restart["limit"]:
        return "restart.limit = 0: there is no limit that could act"
    if worker["essential"] and restart["after_limit"] == "down":
        return "it is essential: reaching its limit ends the node"
    # As core.restart decides: the first death restarts at once, then each delay is twice the one before.
    delays_s = sum(
        min(restart["delay_max_s"], restart["delay_s"] * 2.0 ** min(at, 40))
        for at in range(restart["limit"] - 1)
    )
    if delays_s > 0.8 * restart["window_s"]:
        return (
            f"its delays grow to {delays_s:.0f} s in all, so that {restart['limit']} deaths do not fit"
            f" into restart.window ({restart['window_s']:g} s)"
        )
    return ""


def fits(drill: Drill, wanted: str) -> bool:
    """Whether a word of ``--only`` means this drill: a name of it, its target, or a pattern."""
    return any(fnmatchcase(name, wanted) for name in (*drill.names(), drill.target))


def incident_kinds(kind: str, worker: "dict[str, Any]") -> "tuple[str, ...]":
    """Return the kinds of incident of which one has to appear."""
    if kind in HANGS:
        return ("probe",) if worker["heartbeat"]["kind"] in _PROBED else ("hang",)
    if kind == OOM:
        return ("oom",)
    if kind in SYMPTOMS:
        return (SYMPTOMS[kind][0],)
    if kind == DISK_FULL:
        return ("disk",)
    return ("crash", "crash_loop") if kind == CRASH_LOOP else ("crash",)


def wants_stacks(kind: str, worker: "dict[str, Any]") -> bool:
    """Whether the incident has to hold stacks: of Python programs, where there was time to write or take them."""
    return bool(worker["faulthandler"]) and (kind in HANGS or kind == SEGFAULT)
