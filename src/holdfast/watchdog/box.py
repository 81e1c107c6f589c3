"""The machine itself: memory, disk, clock, and who of ours grows most or breeds.

Read once a second from three files that cost 60 µs together. When one of them moves (many more threads on the box, memory that
shrinks quickly), everybody is looked at once, however many there are: that is how a bomb among a thousand guests, each of
which is looked at twice a minute, is found within two seconds.
"""

import time

from holdfast.core.detect import level, thresholds
from holdfast.core.detect.clock import Clock
from holdfast.core.detect.filling import Filling
from holdfast.core.detect.pressure import Pressure
from holdfast.core.detect.sign import Sign, size
from holdfast.core.ladder import SICK, SUSPECT, WELL
from holdfast.linux import procfs
from holdfast.linux import system as os
from holdfast.watchdog.cases import NODE
from holdfast.watchdog.hunger import Busiest
from holdfast.watchdog.senses import Look
from holdfast.watchdog.vitals import feel_now

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from holdfast.model.plan import WatchPlan
    from holdfast.watchdog.cases import Cases
    from holdfast.watchdog.engine import Engine
    from holdfast.watchdog.vitals import Feeler
    from holdfast.watchdog.wards import Roll

FLAGS = ("memory_pressure", "disk_filling", "inodes_low", "clock_jump")
#: So many more threads on the box within a second make us look at everybody.
_MORE_THREADS = 60
#: Memory that would be gone within so long does, too.
_SOON_S = 60.0
#: A walk over all processes costs 25 µs each; it may take this share of a processor.
_WALK_SHARE, _WALK_S = 0.002, 1.0
#: Processes that nobody noticed (they came one by one) are counted every so often.
_WALK_ANYWAY_S, _WALK_IDLE = 60.0, 0.00005
#: Runnable tasks for each processor from which nobody is blamed for slowness, smoothed over some seconds.
_CROWDED = 3.0
#: Who grew most is told over this long.
_GROWER_S = 30.0
#: A starting box is judged from this age of ours on: everybody grows at first.
_SETTLE_S = 10.0
#: What was shed comes back when there was no pressure for so long.
_TAKE_BACK_S = 30.0
_PROCESSORS = os.cpu_count() or 1


class Box:
    """The machine, and the flags of ``@node``."""

    __slots__ = (
        "_began_s", "_cases", "_clock", "_disk_asked", "_engine", "_feeler", "_filling", "_grown", "_loadavg", "_meminfo", "_pressure", "_roll",
        "_runnable", "_threads", "_walk_cost_s", "_walked_s", "_was", "_was_s", "_well_s", "_work", "_work_s", "has_cared", "limits", "sweep",
        "watch",
    )  # fmt: skip

    def __init__(
        self,
        engine: "Engine",
        roll: "Roll",
        cases: "Cases",
        feeler: "Feeler",
        sweep: "Callable[[], None]",
    ) -> None:
        self._engine = engine
        self._roll = roll
        feeler.busiest = Busiest(roll)
        self._cases = cases
        self._feeler = feeler
        self.sweep = sweep  #: look at every worker now
        self._pressure, self._filling, self._clock = Pressure(), Filling(), Clock()
        self._loadavg = procfs.Text("/proc/loadavg", 128)
        self._meminfo = procfs.Text("/proc/meminfo", 1200)
        self._runnable = 1.0
        self._threads = -1
        self._walked_s = self._began_s = time.monotonic()
        self._walk_cost_s = 0.0
        self._was: dict[str, int] = {}
        self._was_s = 0.0
        self._well_s = self._began_s
        self._grown = ""
        self._work = 0
        self._work_s = 0.0
        self._disk_asked = False
        self.has_cared = True  #: somebody counts work
        self.watch: WatchPlan
        self.limits = thresholds.BOX

    def go_by(self, watch: "WatchPlan") -> None:
        """Set what the plan says."""
        self.watch = watch
        self.limits = thresholds.filled(watch.get("detect"), thresholds.BOX)

    def tick(self, now_s: float) -> None:
        """Look at the machine; once a second."""
        bred = self._load()
        if bred or now_s - self._walked_s > max(_WALK_ANYWAY_S, self._walk_cost_s / _WALK_IDLE):
            self._walk(now_s)
        self._memory(now_s)
        if bred:
            self.sweep()
        if self._feeler.busiest is not None:
            self._feeler.busiest.runnable = self._runnable
            self._feeler.busiest.tick(now_s)
        self._take_back(now_s)
        sign = self._clock.add(
            time.clock_gettime(time.CLOCK_BOOTTIME), time.time(), self.limits["clock_jump"]
        )
        self._say("clock_jump", sign)

    def _say(self, flag: str, sign: "Sign | None") -> None:
        if sign is None:
            if self._cases.has(NODE, flag):
                self._cases.look(NODE, flag, Look(WELL), 0)
            return
        look = Look(SICK if sign.is_grave else SUSPECT, sign.value, sign.limit, sign.says)
        self._cases.look(NODE, flag, look, 0)

    def _take_back(self, now_s: float) -> None:
        """Start what was shed, once the box has been well for a while; asked again until it is so."""
        if self._cases.has(NODE, "memory_pressure"):
            self._well_s = now_s
        elif now_s - self._well_s > _TAKE_BACK_S:
            self._well_s = now_s
            self._cases.take_back()

    # -- processors and processes --------------------------------------------------------------------

    def _load(self) -> bool:
        """Read how busy the box is; return whether there are many more threads than a second ago."""
        try:
            running, _, threads = self._loadavg.read().split()[3].partition(b"/")
            found = int(threads)
            self._runnable += 0.2 * (int(running) - self._runnable)
        except (ValueError, IndexError):
            return False
        self._feeler.is_crowded = self._runnable > _CROWDED * _PROCESSORS
        before, self._threads = self._threads, found
        return before >= 0 and found - before > _MORE_THREADS

    def _walk(self, now_s: float) -> None:
        """Count the processes below each worker."""
        if now_s - self._walked_s < max(_WALK_S, self._walk_cost_s / _WALK_SHARE):
            return
        self._walked_s = now_s
        began_s = time.thread_time()
        wards = self._roll.by_pid
        session_of: dict[int, int] = {}
        parent_of: dict[int, int] = {}
        for pid in procfs.pids():
            found = procfs.reading(pid)
            if found is not None:
                # One that has ended and was not waited for is its parent's, whatever session it made for itself: the anchor waits for all others.
                session_of[pid] = 0 if found.state == "Z" else found.session
                parent_of[pid] = found.ppid
        counts: dict[int, int] = {}
        for pid, session in session_of.items():
            # A worker has a session of its own; who left it is still below it.
            above = session if session in wards else parent_of[pid]
            for _ in range(16):
                if above in wards or above <= 1:
                    break
                above = parent_of.get(above, 0)
            if above in wards and above != pid:
                counts[above] = counts.get(above, 0) + 1
        for pid, ward in list(wards.items()):
            if pid in counts and ward.vitals is None:
                feel_now(
                    self._feeler, ward, now_s
                )  # it has not moved itself, but there is something to remember
            self._feeler.children(ward, counts.get(pid, 0), now_s)
        self._walk_cost_s = time.thread_time() - began_s

    # -- memory ------------------------------------------------------------------------------------

    def _memory(self, now_s: float) -> None:
        text = self._meminfo.read()
        total, available = _bytes(text, b"MemTotal:"), _bytes(text, b"MemAvailable:")
        if total <= 0 or available < 0:
            return
        before, self._feeler.available = self._feeler.available, available
        if before < 2 * total and before - available > available / _SOON_S:
            self.sweep()
        swap = _bytes(text, b"SwapTotal:")
        is_tight = available < 0.3 * total
        if not self.limits["memory_pressure"] or now_s - self._began_s < _SETTLE_S:
            return
        self._grow(now_s)
        sign = self._pressure.add(
            now_s, available, total,
            swap_free_share=_bytes(text, b"SwapFree:") / swap if swap > 0 else 1.0,
            faults=_major_faults() if is_tight else -1, work_per_s=self._worked(now_s),
            least=self.limits["memory_pressure"], grower=self._grown,
        )  # fmt: skip
        self._say("memory_pressure", sign)

    def _grow(self, now_s: float) -> None:
        """Find out who grew most lately."""
        if now_s - self._was_s < _GROWER_S:
            return
        is_known = bool(self._was_s)
        now, grown = {}, {}
        for ward in self._roll.by_pid.values():
            if ward.vitals is not None:
                now[ward.name] = rss = ward.vitals.rss
                grown[ward.name] = rss - self._was.get(ward.name, ward.vitals.began_rss)
        self._was, self._was_s = now, now_s
        self._grown = ""
        if is_known and grown:
            name = max(grown, key=grown.__getitem__)
            if grown[name] > 1 << 20:
                self._grown = f"{name} grew most: {size(grown[name])} within {_GROWER_S:g} s, to {size(now[name])}"

    def _worked(self, now_s: float) -> float:
        if not self.has_cared:
            return 0.0
        work = sum(w.vitals.work for w in self._roll.by_pid.values() if w.vitals is not None)
        done, passed_s = work - self._work, now_s - self._work_s
        self._work, self._work_s = work, now_s
        return max(0.0, done / passed_s) if passed_s > 0 else 0.0

    # -- disk --------------------------------------------------------------------------------------

    def look_at_disk(self) -> None:
        """Ask how full the disk is, on the second thread."""
        if self._disk_asked:
            return  # the last question is still open: the disk hangs
        self._disk_asked = True
        path = self._cases.state_dir
        self._engine.aside(lambda: os.statvfs(path), self._disk_answered)

    def _disk_answered(self, found: object) -> None:
        self._disk_asked = False
        if not isinstance(found, os.statvfs_result):
            return
        path, least = self._cases.state_dir, self.watch["disk_min_share"]
        share = found.f_bavail / found.f_blocks if found.f_blocks else 1.0
        if level.disk_is_low(share, least, was_low=self._cases.has(NODE, "disk_low")):
            says = f"{share:.1%} of the disk of {path} is free, less than {least:.1%}"
            self._cases.look(NODE, "disk_low", Look(SICK, share, least, says), 0)
        else:
            self._cases.look(NODE, "disk_low", Look(WELL), 0)
        free, total = found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize
        sign = self._filling.add(time.monotonic(), free, total, self.limits["disk_filling"], path)
        self._say("disk_filling", sign)
        least = self.limits["inodes_low"]
        inodes = found.f_favail / found.f_files if found.f_files else 1.0
        sign = None
        if level.disk_is_low(inodes, least, was_low=self._cases.has(NODE, "inodes_low")):
            says = (
                f"{inodes:.1%} of the inodes of the disk of {path} are free, less than {least:.1%}"
            )
            sign = Sign(inodes, least, says)
        self._say("inodes_low", sign)


def _bytes(meminfo: bytes, key: bytes) -> int:
    """Return one number of /proc/meminfo, in bytes; -1 when it is not there."""
    _, found, rest = meminfo.partition(key)
    try:
        return int(rest[: rest.index(b"k")]) * 1024 if found else -1
    except ValueError:
        return -1


def _major_faults() -> int:
    try:
        with open("/proc/vmstat", "rb") as file:
            _, _, rest = file.read().partition(b"\npgmajfault ")
        return int(rest.split(b"\n", 1)[0])
    except (OSError, ValueError):
        return -1
