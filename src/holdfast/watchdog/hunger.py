"""Who gets no processor, because of which limit, and who uses the machine instead?

Costs one reading of ``cpu.stat`` a second for the node, and one for each worker that works and has a quota of its own; while anybody is told to starve, two walks over all processes every ten
seconds (25 µs a process) find out who uses most.
"""

from holdfast.core.detect.starved import Starved
from holdfast.linux import cgroup, files, procfs
from holdfast.linux import system as os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from holdfast.core.detect.sign import Sign
    from holdfast.watchdog.wards import Roll, Ward

#: From this share of the last second on a wait is remembered.
_WORTH, _WORKS = 0.2, 0.05
#: The node's own quota is read no more often than this.
_FRESH_S = 0.5
#: Between two walks of a comparison, and between two comparisons.
_APART_S, _EVERY_S = 1.0, 10.0
#: Whoever used less than this share of a processor is nobody's reason.
_MUCH = 0.3


class Quotas:
    """How long control groups were held back so far; one a watchdog."""

    __slots__ = ("_at_s", "_node", "_node_s", "_of_workers", "_paths")

    def __init__(self, node: str) -> None:
        self._node = node
        self._paths: list[str] | None = None  #: not looked for yet: nobody waited so far
        self._of_workers = ""
        self._at_s = -1e9
        self._node_s = 0.0

    def of_node(self, now_s: float) -> float:
        """Return how long the group that all of us run in was held back."""
        if now_s - self._at_s >= _FRESH_S:
            self._at_s = now_s
            self._node_s = max((_held_s(f"{path}/cpu.stat") for path in self._found()), default=0.0)
        return self._node_s

    def of_worker(self, name: str) -> str:
        """Return the file that tells it of a worker's own group; empty when it has none."""
        self._found()
        path = f"{self._of_workers}{name}/cpu.stat"
        return path if self._of_workers and os.path.exists(path) else ""

    def _found(self) -> "list[str]":
        if self._paths is None:
            self._paths, self._of_workers = cgroup.quotas(self._node)
        return self._paths


class Hunger:
    """What is remembered of one worker that may wait for a processor."""

    __slots__ = ("_held_s", "_own", "_own_s", "_quotas", "_starved")

    def __init__(self, quotas: Quotas, ward: "Ward", now_s: float) -> None:
        self._starved = Starved()
        self._quotas = quotas
        self._own = quotas.of_worker(ward.name)
        self._own_s = _held_s(self._own)
        self._held_s = quotas.of_node(now_s)

    def waits(self) -> float:
        """Return the share of the last seconds that it waited."""
        return self._starved.waits

    def feel(
        self, now_s: float, passed_s: float, waited_s: float, share: float, limit: float, blame: str
    ) -> "Sign | None":
        """Take in one look, about once a second; ``share``: of a processor that it used."""
        own_s, held_s = _held_s(self._own), self._quotas.of_node(now_s)
        own = own_s - self._own_s
        # The kernel adds up the waits on all processors; and who rests is not held back, whatever becomes of the others.
        node = (held_s - self._held_s) / procfs.PROCESSORS if share >= _WORKS else 0.0
        self._own_s, self._held_s = own_s, held_s
        whose = "the worker itself" if own >= node else "the container that this node runs in"
        return self._starved.add(
            now_s, passed_s, waited_s, max(0.0, own, node), limit, whose=whose, blame=blame
        )


def _held_s(path: str) -> float:
    try:
        return cgroup.throttled_s(files.read(path)) if path else 0.0
    except OSError:
        return 0.0  # the group goes just now


def is_worth(waited_s: float, share: float, passed_s: float) -> bool:
    """Whether a worker may be one that waits: it did, on a run queue, or it works (what a quota holds back is on none)."""
    return waited_s >= _WORTH * passed_s or share >= _WORKS


class Busiest:
    """Finds out who uses the processors, while somebody asks."""

    __slots__ = ("_next_s", "_roll", "_was", "_was_s", "asked_s", "runnable", "says")

    def __init__(self, roll: "Roll") -> None:
        self._roll = roll
        self._next_s = self._was_s = 0.0
        self._was: dict[int, int] | None = None
        self.runnable = 1.0  #: tasks that want a processor, lately
        self.asked_s = -1e9  #: when somebody starved last
        self.says = ""

    def tick(self, now_s: float) -> None:
        """Walk, if somebody starves; called once a second."""
        if now_s - self.asked_s > _EVERY_S:
            self.says, self._was = "", None
            return
        if self._was is None:
            if now_s >= self._next_s:
                self._was, self._was_s = {pid: one.cpu_ns for pid, one in _all()}, now_s
        elif now_s - self._was_s >= _APART_S * 0.9:
            self._compare(self._was, now_s - self._was_s)
            self._was, self._next_s = None, now_s + _EVERY_S

    def _compare(self, was: "dict[int, int]", passed_s: float) -> None:
        used: dict[str, float] = {}
        pid_of: dict[str, int] = {}
        for pid, found in _all():
            share = (found.cpu_ns - was.get(pid, found.cpu_ns)) / 1e9 / passed_s
            if share <= 0:
                continue
            ward = self._roll.by_pid.get(pid) or self._roll.by_pid.get(found.session)
            key = f'worker "{ward.name}"' if ward is not None else f"{pid}"
            used[key] = used.get(key, 0.0) + share
            pid_of[key] = pid
        most = max(used, key=used.__getitem__, default="")
        if not most or used[most] < _MUCH:
            self.says = f"{self.runnable:.0f} tasks want its {procfs.PROCESSORS} processors, none of them much"
            return
        name = most
        if most.isdecimal():
            words = procfs.command_line(pid_of[most])[:3] or ["?"]
            command = " ".join(word.rpartition("/")[2] for word in words)[:60]
            name = f"`{command}` (process {most}, no worker of this node)"
        self.says = f"most of it goes to {name}: {used[most]:.1f} of {procfs.PROCESSORS} processors"


def _all() -> "list[tuple[int, procfs.Reading]]":
    return [(pid, found) for pid in procfs.pids() if (found := procfs.reading(pid)) is not None]
