"""The processes that a worker forked (gunicorn's workers, a pool): each is felt like a worker, and all of them together are one.

Each writes a pulse of its own into ``RUN/pulse/WORKER.forks`` (:mod:`holdfast.agent.forks`), and is a :class:`Fork` here: a ward in whatever feels and
senses wards. What is said of a worker is the worst that is said of it or of one of them, with the pid. Counts are summed; what the dead had counted
is kept in the file ``dead``, written before their own files go, so that sums only grow, whoever is killed in between.

Made for workers that fork only (:mod:`holdfast.watchdog.senses` looks whether there is such a directory).
"""

import time

from holdfast.core.detect.effort import Effort
from holdfast.core.detect.growth import START_S
from holdfast.core.ladder import SICK, SUSPECT
from holdfast.linux import files, procfs
from holdfast.linux import system as os
from holdfast.watchdog.digest import Spec
from holdfast.watchdog.wards import Care, Ward
from holdfast.wire import layout, pulse
from holdfast.wire.jsonlite import dumps, loads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from holdfast.core.detect.sign import Sign
    from holdfast.linux.procfs import Reading
    from holdfast.watchdog.senses import Look
    from holdfast.watchdog.vitals import Feeler

#: So many are looked at.
MOST = 256
#: Somebody else than the parent may have started what appears so long before the end of another one (the clock ticks a hundred times a second).
_TICK_S = 0.05
_HZ = os.sysconf("SC_CLK_TCK")
_DEAD = "dead"


class Fork(Ward):
    """One process that a worker forked."""

    __slots__ = ("base_rss", "family", "own_bytes", "parent")

    def __init__(
        self, ward: Ward, family: "Forks", spec: Spec, beat: "pulse.Pulse", descriptor: int
    ) -> None:
        super().__init__(ward.name, spec)
        self.family = family
        self.n, self.pid, self.ticks, self.parent = ward.n, beat.pid, beat.ticks, beat.parent
        now_s = time.monotonic()
        self.started_s = self.ready_s = (
            now_s - time.clock_gettime(time.CLOCK_BOOTTIME) + beat.ticks / _HZ
        )
        self.is_ready = self.is_fork = True
        self.base_rss = -1  #: what it held when it had begun: the rest is its own growth
        self.own_bytes = 0  #: what it shared with nobody then
        # Before it had a pulse it could not beat.
        self.care = Care(now_s)
        self.care.pulse, self.care.beat = descriptor, beat

    def past(self) -> "tuple[int, float, float]":
        """Return the same as for a worker, of the whole family: what one of them has seen says enough about the others."""
        return self.family.past


class Forks:
    """All that one worker forked in its present life."""

    __slots__ = (
        "_directory", "_effort", "_gone", "_is_full", "_mtime_ns", "_routes", "_signs", "_spec", "_taken", "ended", "in_hand", "living", "longest_ns",
        "n", "own", "past",
    )  # fmt: skip

    def __init__(self, run_dir: str, ward: Ward) -> None:
        self.n = ward.n
        self.living: dict[int, Fork] = {}
        self.in_hand: dict[str, int] = {}  #: of a flag that is being dealt with: whose it is
        self.ended: dict[int, tuple[float, int]] = {}  #: on order: when, and whose child it was
        self.own: pulse.Pulse | None = None  #: what the worker's own process says
        self.past = (0, 0.0, 0.0)  #: see :meth:`Fork.past`
        self.longest_ns = 0  #: the longest that a request ever held one of them
        self._directory = f"{run_dir}/{layout.forks(ward.name)}"
        self._spec = _spec(ward.spec)
        self._mtime_ns = 0
        self._is_full = False
        self._effort = Effort()
        self._signs: dict[str, Sign] = {}
        self._gone: dict[str, int] = {}
        self._routes: dict[str, list[int]] = {}  #: of the dead
        self._taken: list[str] = []  #: whose counts are in those, though their files may be there
        self._load()

    # -- who is there ------------------------------------------------------------------------------

    def look(self, ward: Ward) -> "list[Fork]":
        """Find new ones, take leave of the dead, and return those that live."""
        dead = [fork for fork in self.living.values() if not _lives(fork)]
        if dead:
            self._bury(dead)
        try:
            changed_ns = os.stat(self._directory).st_mtime_ns
            if changed_ns != self._mtime_ns:
                names = os.listdir(self._directory)
                # File times have the granularity of the kernel's tick: what comes in the same one is found by looking again.
                if time.time_ns() - changed_ns > _TICK_S * 2e9:
                    self._mtime_ns = changed_ns
                self._find(ward, names)
        except OSError:
            pass  # somebody has removed it: who lives is still known
        return list(self.living.values())

    def _find(self, ward: Ward, names: "list[str]") -> None:
        pids = [int(name) for name in names if name.isdecimal()]
        self._is_full = len(pids) >= MOST
        for pid in pids:
            if pid in self.living:
                continue
            descriptor = _open(f"{self._directory}/{pid}")
            beat = _read(descriptor)
            found = procfs.reading(pid)
            lives = found is not None and found.state not in "ZX"
            if beat is None or found is None or not lives or found.start_ticks != beat.ticks:
                # Of one that is gone, or whose pid is another's by now.
                self._count(beat, descriptor)
                if descriptor >= 0:
                    os.close(descriptor)
                self._remove([pid])
            elif beat.start != ward.n or len(self.living) >= MOST:
                os.close(descriptor)
            else:
                self.living[pid] = Fork(ward, self, self._spec, beat, descriptor)
        for name in names:
            if name[:1] == "." and name[1:].isdecimal() and not procfs.start_ticks(int(name[1:])):
                _unlink(f"{self._directory}/{name}")  # killed while it made its file
            if name.endswith(".sock") and name[:-5].isdecimal() and int(name[:-5]) not in pids:
                self._remove([int(name[:-5])])

    def _bury(self, dead: "list[Fork]") -> None:
        pids = [fork.pid for fork in dead]
        for fork in dead:
            del self.living[fork.pid]
            if fork.care is not None:
                self._count(_read(fork.care.pulse), fork.care.pulse)
            fork.close()
        self._remove(pids)

    def _count(self, beat: "pulse.Pulse | None", descriptor: int) -> None:
        """Add what one has counted to what is kept; once, whoever of us was killed meanwhile."""
        if beat is None or beat.start != self.n:
            return
        name = f"{beat.pid}-{beat.ticks}"
        if name in self._taken:
            return
        self._taken.append(name)
        self.longest_ns = max(self.longest_ns, beat.longest_held_ns)
        for what in pulse.COUNTED:
            self._gone[what] = self._gone.get(what, 0) + getattr(beat, what)
        for route, *counts in _routes(descriptor):
            known = self._routes.setdefault(route, [0, 0, 0])
            known[:] = [a + b for a, b in zip(known, counts, strict=True)]

    def _remove(self, pids: "list[int]") -> None:
        """Put on record what the dead had counted, then remove their files."""
        value = {"n": self.n, "counts": self._gone, "routes": self._routes, "taken": self._taken}
        try:
            files.write_atomic(f"{self._directory}/{_DEAD}", dumps(value).encode())
        except OSError:
            return  # no memory left: the files stay until there is
        for pid in pids:
            for name in (f"{pid}", f"{pid}.sock"):
                _unlink(f"{self._directory}/{name}")
        self._taken = []

    def _load(self) -> None:
        try:
            value = loads(files.read(f"{self._directory}/{_DEAD}").decode())
            if value["n"] == self.n:
                self._gone = {str(name): int(count) for name, count in value["counts"].items()}
                self._routes = {str(r): [int(c) for c in counts] for r, counts in value["routes"].items()}  # fmt: skip
                self._taken = [str(name) for name in value["taken"]]
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            pass  # nobody has died yet

    def close(self) -> None:
        """The worker's life is over."""
        for fork in self.living.values():
            fork.close()
        self.living.clear()

    # -- all of them together ----------------------------------------------------------------------

    def merge(self, ward: Ward) -> None:
        """Let the worker's pulse say what all of them do."""
        care = ward.care
        self.own = care.beat if care is not None else None
        beats = [fork.care.beat for fork in self.living.values() if fork.care and fork.care.beat]
        self.longest_ns = max([self.longest_ns, *(beat.longest_held_ns for beat in beats)])
        done, latency_ns = (
            self._gone.get(what, 0) + sum(getattr(beat, what) for beat in beats)
            for what in ("work_done", "latency_sum_ns")
        )
        self.past = done, self.longest_ns / 1e9, latency_ns / 1e9 / max(1, done)
        if care is not None and self.own is not None:
            care.beat = pulse.together(self.own, beats, self._gone)

    def reading(self, found: "Reading") -> "Reading":
        """Return a reading of the worker's own process with the memory of all: of a fork what it does not share, and what it grew by since."""
        now_s = time.monotonic()
        for fork in self.living.values():
            rss = fork.vitals.rss if fork.vitals is not None else 0
            if not rss or now_s - fork.started_s < START_S:
                continue  # what it loads when it begins is no growth
            if fork.base_rss < 0:
                fork.base_rss, fork.own_bytes = rss, _own_bytes(fork.pid)
            found.rss_bytes += max(0, fork.own_bytes + rss - fork.base_rss)
        return found

    def feel(self, feeler: "Feeler", ward: Ward, now_s: float) -> bool:
        """Feel each of them, and the worker; False when that is gone."""
        for fork in self.living.values():
            found = _reading(fork)
            if found is not None:
                feeler.feel(fork, found, now_s)
        found = _reading(ward)
        if found is None:
            return False
        self.feel_worker(feeler, ward, found, now_s)
        return True

    def feel_worker(self, feeler: "Feeler", ward: Ward, reading: "Reading", now_s: float) -> None:
        """Feel the worker's own process by its own beat, with the memory of all, and the work of all."""
        care = ward.care
        together = care.beat if care is not None else None
        if care is not None:
            care.beat = self.own
        felt = feeler.feel(ward, self.reading(reading), now_s)
        if care is None or together is None:
            return
        care.beat = together
        felt.work = together.work_done
        limit = ward.spec.detect["slow"]
        if limit and now_s >= felt.disturbed_s and self._effort.is_due(now_s, together.work_done):
            spent_s = (together.cpu_ns or self._cpu_ns(reading)) / 1e9
            sign = self._effort.add(
                now_s, spent_s, together.work_done, together.latency_sum_ns / 1e9, self.routes(ward), limit,
                measured_per_s=pulse.MEASURED_PER_S * max(1, len(self.living)),
            )  # fmt: skip
            self._signs = {"slow": sign} if sign is not None else {}

    def _cpu_ns(self, reading: "Reading") -> int:
        return reading.cpu_ns + sum(f.vitals.cpu_ns for f in self.living.values() if f.vitals)

    def routes(self, ward: Ward) -> "list[tuple[str, int, float, float]]":
        """Return what each route has cost so far, in all of them."""
        sums = {name: list(counts) for name, counts in self._routes.items()}
        descriptors = [ward.care.pulse if ward.care is not None else -1]
        descriptors += [fork.care.pulse for fork in self.living.values() if fork.care is not None]
        for descriptor in descriptors:
            for name, *counts in _routes(descriptor):
                known = sums.setdefault(name, [0, 0, 0])
                known[:] = [a + b for a, b in zip(known, counts, strict=True)]
        return [(name, n, late / 1e9, cpu / 1e9) for name, (n, late, cpu) in sums.items()]

    # -- what it means -----------------------------------------------------------------------------

    def signs(self, ward: Ward) -> "set[str]":
        """Return the flags of which something is believed, of the worker or one of its forks."""
        found = set(self._signs)
        for one in (ward, *self.living.values()):
            if one.vitals is not None and one.vitals.signs:
                found.update(one.vitals.signs)
        return found

    def felt(self, feeler: "Feeler", ward: Ward, flag: str, now_s: float) -> "Look":
        """Return what is to be said about one flag: the worst of all."""
        own = feeler.look(ward, flag, now_s)
        sign = self._signs.get(flag)
        if sign is not None and own.verdict not in (SICK, SUSPECT):
            own.verdict, own.value, own.limit, own.says = (
                SICK if sign.is_grave else SUSPECT, sign.value, sign.limit, sign.says,
            )  # fmt: skip
        found = [(fork, feeler.look(fork, flag, now_s)) for fork in self.living.values()]
        if own.verdict in (SICK, SUSPECT) and flag in ("slow", "memory_leak"):
            self._attribute(flag, own, found)
        return self.worst(flag, own, found, ward)

    def _attribute(self, flag: str, own: "Look", found: "list[tuple[Fork, Look]]") -> None:
        """What is true of all of them together is the doing of those of whom it is said as well, or of the one that does most of it."""
        guilty = [look for _, look in found if look.verdict in (SICK, SUSPECT)]
        in_hand = self.in_hand.get(flag, 0)
        if in_hand in self.living:
            guilty += [look for fork, look in found if fork.pid == in_hand and look not in guilty]
        if not guilty:
            most = max((_part(flag, fork) for fork, _ in found), default=0.0)
            guilty = [look for fork, look in found if most > 0 and _part(flag, fork) == most]
        for look in guilty:
            if look.verdict != SICK:
                look.verdict, look.value, look.limit = own.verdict, own.value, own.limit
                look.says = own.says

    def worst(self, flag: str, own: "Look", found: "list[tuple[Fork, Look]]", ward: Ward) -> "Look":
        """Return the worst of what is said about the worker's own process and its forks, with the pid.

        A fork comes before its parent: it is the nearer reason. Whoever is being dealt with comes before the others.
        """
        sick = [(fork, look) for fork, look in found if look.verdict == SICK]
        chosen = sick
        if own.verdict != SICK and not sick:
            chosen = [(fork, look) for fork, look in found if look.verdict == SUSPECT]
        if not chosen:
            return own
        in_hand = self.in_hand.get(flag)
        fork, look = next(((f, lk) for f, lk in chosen if f.pid == in_hand), chosen[0])
        look.pid, look.ticks = fork.pid, fork.ticks
        look.others = tuple((f.pid, f.ticks) for f, _ in sick if f is not fork)
        look.says = f"process {fork.pid}, one of {self.number(ward)} that it forked: {look.says}"
        return look

    def number(self, ward: Ward) -> str:
        """Say how many there are."""
        seen = len(self.living)
        if not self._is_full:
            return str(seen)
        known = ward.vitals.children if ward.vitals is not None else 0
        return f"{max(seen, known)} ({seen} of them looked at)"

    def forget_ended(self) -> None:
        """What was ended on order is dead and told of."""
        self.ended = {pid: how for pid, how in self.ended.items() if pid in self.living}

    def has_followed(self, pid: int) -> "tuple[int, float] | None":
        """Return who was started in the place of one that was ended on order, and after how long; None: nobody yet."""
        ended_s, parent = self.ended.get(pid, (0.0, 0))
        after = [
            (fork.started_s - ended_s, fork.pid)
            for fork in self.living.values()
            if fork.parent == parent and fork.started_s > ended_s - _TICK_S
        ]
        if not after:
            return None
        passed_s, follower = min(after)
        return follower, max(0.0, passed_s)


def _spec(spec: Spec) -> Spec:
    """Return what is asked of a fork: its pulse, whatever the worker's own heartbeat is, and no limits, which are the whole worker's."""
    found = Spec.__new__(Spec)
    for name in Spec.__slots__:
        setattr(found, name, getattr(spec, name))
    kind, timeout_s = spec.beat["kind"], spec.beat["timeout_s"]
    found.ready = {**spec.ready, "kind": "none"}
    if kind != "none":
        found.beat = {**spec.beat, "kind": "pulse", "target": "agent", "timeout_s": timeout_s}
    found.memory_bytes = 0
    found.own_log, found.peers = "", 0
    return found


def _reading(ward: Ward) -> "Reading | None":
    process = ward.process()
    return process.read() if process is not None else None


def _part(flag: str, fork: Fork) -> float:
    """Return how much of what all of them do together is a fork's."""
    if fork.vitals is None:
        return 0.0
    if flag == "slow":
        return fork.vitals.share
    return float(fork.vitals.rss - fork.base_rss) if fork.base_rss >= 0 else 0.0


def _own_bytes(pid: int) -> int:
    """Return how much memory a process shares with nobody; some milliseconds for a large one."""
    try:
        text = files.read(f"/proc/{pid}/smaps_rollup")
        return 1024 * sum(int(line.split()[1]) for line in text.split(b"\n") if line.startswith(b"Private_"))  # fmt: skip
    except (OSError, ValueError, IndexError):
        return 0  # it is gone, or the kernel does not tell


def _lives(fork: Fork) -> bool:
    found = _reading(fork)
    return found is not None and found.state not in "ZX"


def _unlink(path: str) -> None:
    try:
        os.unlink(path)
    except OSError:
        pass  # it never had one


def _open(path: str) -> int:
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return -1


def _read(descriptor: int) -> "pulse.Pulse | None":
    if descriptor < 0:
        return None
    try:
        return pulse.decode(os.pread(descriptor, pulse.HEAD, 0))
    except OSError:
        return None


def _routes(descriptor: int) -> "list[tuple[str, int, int, int]]":
    if descriptor < 0:
        return []
    try:
        whole = pulse.decode(os.pread(descriptor, pulse.HEAD_AND_ROUTES, 0))
    except OSError:
        return []
    return whole.routes if whole is not None else []
