"""What the numbers of one worker say: feeds the detectors, and keeps what they remember.

One look costs a reading of ``/proc/PID/stat`` and what the pulse said anyway; whatever costs more (open files, routes, the size
of the log) is asked for rarely. A guest of which nothing is known has two detectors, memory and threads, and of
both only a few numbers as long as nothing grows.
"""

import time

from holdfast.core.detect import peers
from holdfast.core.detect.chatter import Chatter
from holdfast.core.detect.deadlock import deadlock
from holdfast.core.detect.descriptors import Descriptors
from holdfast.core.detect.effort import Effort
from holdfast.core.detect.growth import Growth
from holdfast.core.detect.lag import Lag
from holdfast.core.detect.pegged import Pegged
from holdfast.core.detect.sign import Sign
from holdfast.core.detect.slope import median
from holdfast.core.detect.standstill import Standstill
from holdfast.core.detect.swarm import Swarm
from holdfast.core.ladder import SICK, SUSPECT, UNKNOWN, WELL
from holdfast.linux import system as os
from holdfast.watchdog import samples
from holdfast.watchdog.senses import Look
from holdfast.wire import layout, pulse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from holdfast.linux.procfs import Reading
    from holdfast.watchdog.wards import Ward

#: How often what costs more is asked for.
_PACE_S, _FILES_S, _PEERS_S = 1.0, 3.0, 1.0
#: A guest with fewer open files than this is not remembered for them.
_FEW_FILES = 40
#: A new life is not judged before this age.
_SETTLE_S = 3.0
#: What else may explain these: on a box without processors to spare nobody is shot for them.
_BLAMES_BOX = ("slow", "pegged", "task_bomb", "loop_lag")
#: What a box has when nobody knows.
_PLENTY = 1 << 50
#: Python programs begin with few threads.
_THREADS_AT_START = 2.0
_FACTORS = {"task_bomb": 10.0, "thread_bomb": 3.0, "child_bomb": 5.0}

#: All flags that are raised by what is felt here.
FLAGS = (
    "loop_lag", "slow", "pegged", "deadlock", "task_bomb", "thread_bomb", "child_bomb", "fd_leak", "memory_leak", "odd_one_out",
    "log_storm", "log_silence", "stopped",
)  # fmt: skip
_NEEDS_PULSE = frozenset({"loop_lag", "slow", "pegged", "deadlock", "task_bomb", "odd_one_out"})


class Inner:
    """What is remembered of a worker with a pulse."""

    __slots__ = ("children", "effort", "lag", "likeness", "log", "pegged", "tasks")

    def __init__(self) -> None:
        self.lag = Lag()
        self.effort = Effort()
        self.pegged = Pegged()
        self.tasks = Swarm()
        self.log: Chatter | None = None
        self.children: Swarm | None = None
        self.likeness: dict[str, peers.Likeness] = {}


class Vitals:
    """What is remembered of one worker."""

    __slots__ = (
        "began_rss",
        "children",
        "cpu_ns",
        "cpu_s",
        "descriptors",
        "disturbed_s",
        "felt_s",
        "files",
        "growth",
        "inner",
        "most_files",
        "moved_s",
        "next_files_s",
        "paced",
        "rss",
        "sampled_s",
        "serving_ns",
        "share",
        "signs",
        "standstill",
        "start",
        "threads",
        "waited_ns",
        "wanted",
        "work",
    )  # fmt: skip

    def __init__(self, start: int) -> None:
        self.start = start  #: the life that was felt
        self.growth = Growth()
        self.threads = Swarm()
        self.inner: Inner | None = None
        self.descriptors: Descriptors | None = None  #: None: it has too few to leak any
        self.standstill: Standstill | None = (
            None  #: None: it runs, or has a heartbeat that says more
        )
        self.signs: dict[str, Sign] | None = None  #: what is believed now; None: nothing
        self.felt_s = self.sampled_s = 0.0
        self.moved_s = 0.0  #: when it was seen to have run, or to be otherwise than before
        self.cpu_s = 0.0  #: when processor time was last compared
        self.cpu_ns = self.serving_ns = 0
        self.share = 0.0  #: of a processor, over the last second
        self.wanted = 0.0  #: the same, of the time in which it could have had one
        self.waited_ns = 0  #: on a run queue, so far
        self.work = 0
        self.rss = 0
        self.began_rss = 0  #: when this began to be remembered
        self.files = -1
        self.most_files = -1
        self.paced = 0  #: work done at the last comparison
        self.next_files_s = 0.0
        self.disturbed_s = 0.0  #: evidence is being taken, until then
        self.children = 0  #: processes below it, when they were last counted

    def begin(self, start: int) -> None:
        """Another life: nothing of the old one counts but what work costs."""
        inner = self.inner
        Vitals.__init__(self, start)
        if inner is not None:
            self.inner = Inner()
            self.inner.effort = inner.effort
            self.inner.effort.restart()

    def is_calm(self) -> bool:
        """Whether nothing is remembered that cannot be made again from the last sample."""
        return (
            not (self.signs or self.inner or self.descriptors or self.standstill or self.children)
            and not self.growth.pace_s()
        )

    def remembered(self) -> "Inner":
        """Return what is remembered beyond a few numbers; from now on there is such a thing."""
        if self.inner is None:
            self.inner = Inner()
        return self.inner

    def say(self, flag: str, sign: "Sign | None") -> None:
        """Set what is believed about one flag."""
        if sign is not None:
            if self.signs is None:
                self.signs = {}
            self.signs[flag] = sign
        elif self.signs is not None and self.signs.pop(flag, None) is not None and not self.signs:
            self.signs = None


class Feeler:
    """Feels the pulse of workers, so to speak."""

    __slots__ = ("available", "is_crowded")

    def __init__(self) -> None:
        self.available = _PLENTY  #: memory of the box that can still be had
        self.is_crowded = False  #: no processor to spare on this box

    def feel(self, ward: "Ward", reading: "Reading", now_s: float) -> Vitals:
        """Take in one reading of a worker's life."""
        vitals = ward.vitals
        if vitals is None:
            vitals = ward.vitals = Vitals(ward.n)
            vitals.moved_s = now_s
            known = samples.before(ward)
            if known is not None:
                # What it was like until now: without that its first step would be none.
                self.feel(ward, known[1], known[0])
                vitals.began_rss = vitals.rss
        elif vitals.start != ward.n:
            vitals.begin(ward.n)
        limits = ward.spec.detect
        age_s = now_s - (ward.ready_s if ward.is_ready else ward.started_s)
        beat = ward.care.beat if ward.care is not None else None
        vitals.felt_s, vitals.rss = now_s, reading.rss_bytes
        if limits["memory_leak"]:
            self._memory(ward, vitals, reading, beat, age_s, now_s)
        if limits["thread_bomb"]:
            sign = vitals.threads.add(
                now_s, reading.threads, limits["thread_bomb"], what="threads", factor=_FACTORS["thread_bomb"],
                age_s=age_s, created=beat.threads_created if beat is not None else 0, start_factor=_THREADS_AT_START,
            )  # fmt: skip
            vitals.say("thread_bomb", sign)
        if beat is not None:
            self._inside(ward, vitals, vitals.remembered(), reading, beat, age_s, now_s)
        elif now_s - vitals.cpu_s >= _PACE_S:
            self._pace(vitals, reading.cpu_ns, 0, now_s)
        if beat is None:
            self._state(ward, vitals, reading, now_s)
        if now_s >= vitals.next_files_s and limits["fd_leak"]:
            vitals.next_files_s = now_s + _FILES_S
            self._files(ward, vitals, age_s, now_s)
        return vitals

    def _state(self, ward: "Ward", vitals: Vitals, reading: "Reading", now_s: float) -> None:
        freeze_s = ward.spec.detect["freeze"]
        if reading.state in "TtD" and freeze_s:
            if vitals.standstill is None:
                vitals.standstill = Standstill()
            sign = vitals.standstill.add(now_s, reading.state, reading.cpu_ns, freeze_s)
            vitals.say("stopped", sign)
        elif vitals.standstill is not None:
            vitals.standstill = None
            vitals.say("stopped", None)

    def _memory(
        self,
        ward: "Ward",
        vitals: Vitals,
        reading: "Reading",
        beat: "pulse.Pulse | None",
        age_s: float,
        now_s: float,
    ) -> None:
        limit = ward.spec.memory_bytes
        sign = vitals.growth.add(
            now_s, reading.rss_bytes, limit or reading.rss_bytes + self.available,
            left_limit_s=ward.spec.detect["memory_leak"], age_s=age_s, warm_up_s=ward.spec.detect["warm_up"],
            in_flight=beat.in_flight if beat is not None else 0, is_ready=ward.is_ready, is_bound=bool(limit),
        )  # fmt: skip
        vitals.say("memory_leak", sign)

    def _inside(
        self,
        ward: "Ward",
        vitals: Vitals,
        inner: Inner,
        reading: "Reading",
        beat: "pulse.Pulse",
        age_s: float,
        now_s: float,
    ) -> None:
        limits = ward.spec.detect
        is_settled = ward.is_ready and age_s >= _SETTLE_S
        done, vitals.work = max(0, beat.work_done - vitals.work), beat.work_done
        process = ward.process()
        if now_s < vitals.disturbed_s:
            # Evidence of it is being taken (a profile, traced allocations): what is slow now, we have slowed.
            inner.lag.skip(
                beat.lag_ns / 1e9, beat.late_ticks, process.wait_ns() / 1e9 if process else 0.0
            )
            inner.effort.skip()
        elif limits["loop_lag"] and process is not None:
            sign = inner.lag.add(
                now_s, beat.lag_ns / 1e9, beat.late_ticks, process.wait_ns() / 1e9, limits["loop_lag"]
            )  # fmt: skip
            vitals.say("loop_lag", sign if is_settled and not self.is_crowded else None)
        if limits["task_bomb"]:
            sign = inner.tasks.add(
                now_s, beat.tasks, limits["task_bomb"], what="tasks", factor=_FACTORS["task_bomb"], age_s=age_s,
                created=beat.tasks_created, worked=done + beat.in_flight,
            )  # fmt: skip
            vitals.say("task_bomb", sign)
        if (
            limits["slow"]
            and now_s >= vitals.disturbed_s
            and inner.effort.is_due(now_s, beat.work_done)
        ):
            self._effort(ward, vitals, inner, reading, beat, now_s)
        if now_s - vitals.cpu_s >= _PACE_S:
            waited_ns = process.wait_ns() if process is not None else 0
            finished = self._pace(vitals, reading.cpu_ns, beat.cpu_ns, now_s, beat.work_done, waited_ns)  # fmt: skip
            if limits["pegged"]:
                sign = inner.pegged.add(
                    now_s, vitals.wanted, finished, beat.in_flight, lag_s=beat.lag_ns / 1e9,
                    has_worked=beat.work_done > 0, limit_s=limits["pegged"],
                )  # fmt: skip
                vitals.say("pegged", sign if is_settled else None)
            if limits["deadlock"]:
                # Not only of what is ready: a program that never gets there stands as well.
                sign = deadlock(
                    beat.stuck_threads, beat.stuck_ns / 1e9, vitals.share, finished, limits["deadlock"]
                )  # fmt: skip
                vitals.say("deadlock", sign)

    def _effort(
        self,
        ward: "Ward",
        vitals: Vitals,
        inner: Inner,
        reading: "Reading",
        beat: "pulse.Pulse",
        now_s: float,
    ) -> None:
        cpu_ns = beat.cpu_ns or reading.cpu_ns
        sign = inner.effort.add(
            now_s, cpu_ns / 1e9, beat.work_done, beat.latency_sum_ns / 1e9, self.routes(ward), ward.spec.detect["slow"]
        )  # fmt: skip
        vitals.say("slow", sign)

    def routes(self, ward: "Ward") -> "list[tuple[str, int, float, float]]":
        """Return what the routes of a worker have cost so far; empty where nobody knows."""
        if ward.care is None or ward.care.pulse < 0:
            return []
        try:
            whole = pulse.decode(os.pread(ward.care.pulse, pulse.HEAD_AND_ROUTES, 0))
        except OSError:
            return []
        if whole is None or whole.start != ward.n:
            return []
        return [(name, n, late_ns / 1e9, cpu_ns / 1e9) for name, n, late_ns, cpu_ns in whole.routes]

    def _pace(
        self, vitals: Vitals, cpu_ns: int, serving_ns: int, now_s: float, work: int = 0, waited_ns: int = 0
    ) -> int:  # fmt: skip
        """Compare processor time with that of a second ago; return the work done meanwhile (all of it at first)."""
        passed_ns = (now_s - vitals.cpu_s) * 1e9
        if vitals.cpu_s and passed_ns > 0:
            spent_ns = cpu_ns - vitals.cpu_ns
            if serving_ns and vitals.serving_ns:
                spent_ns = serving_ns - vitals.serving_ns
            vitals.share = max(0.0, spent_ns / passed_ns)
            # On a busy box nobody gets a whole processor; what counts is whether it took all that it was given.
            had_ns = max(passed_ns / 4, passed_ns - max(0, waited_ns - vitals.waited_ns))
            vitals.wanted = min(max(1.0, vitals.share), vitals.share * passed_ns / had_ns)
        vitals.waited_ns = waited_ns
        finished, vitals.paced = work - vitals.paced, work
        vitals.cpu_s, vitals.cpu_ns, vitals.serving_ns = now_s, cpu_ns, serving_ns
        return finished

    # -- what costs more ---------------------------------------------------------------------------

    def _files(self, ward: "Ward", vitals: Vitals, age_s: float, now_s: float) -> None:
        if vitals.most_files < 0:
            vitals.most_files = _most_files(ward.pid)
        vitals.files = open_files(ward.pid)
        few = min(_FEW_FILES, vitals.most_files // 2) if vitals.descriptors is None else 0
        if vitals.files < few:
            return
        if vitals.descriptors is None:
            vitals.descriptors = Descriptors()
        limits = ward.spec.detect
        sign = vitals.descriptors.add(
            now_s, vitals.files, vitals.most_files, limits["fd_leak"],
            is_settled=ward.is_ready and age_s > limits["warm_up"],
        )  # fmt: skip
        vitals.say("fd_leak", sign)

    def log(self, ward: "Ward", written: int, now_s: float) -> None:
        """Take in the size of a worker's log."""
        vitals = ward.vitals
        if vitals is None or vitals.start != ward.n:
            return
        inner = vitals.remembered()
        if inner.log is None:
            inner.log = Chatter()
        limits = ward.spec.detect
        storm, silence = inner.log.add(
            now_s, written, vitals.share, limits["log_storm"], limits["log_silence"]
        )
        vitals.say("log_storm", storm)
        vitals.say("log_silence", silence)

    def children(self, ward: "Ward", number: int, now_s: float) -> None:
        """Take in how many processes there are below a worker."""
        vitals = ward.vitals
        limit = ward.spec.detect["child_bomb"]
        if vitals is None or vitals.start != ward.n or not limit:
            return
        vitals.children = number
        if vitals.inner is None and number < limit / 5:
            return  # nothing worth remembering
        inner = vitals.remembered()
        if inner.children is None:
            inner.children = Swarm(
                usual=0.0
            )  # counted only when many appear: before, there were few
        sign = inner.children.add(
            now_s, number, limit, what="processes below it", factor=_FACTORS["child_bomb"],
            age_s=now_s - ward.started_s,
        )  # fmt: skip
        vitals.say("child_bomb", sign)

    # -- what it means -----------------------------------------------------------------------------

    def disturb(self, ward: "Ward", until_s: float) -> None:
        """Evidence of a worker is being taken: what costs more until then says nothing."""
        if ward.vitals is not None:
            ward.vitals.disturbed_s = until_s

    def look(self, ward: "Ward", flag: str, now_s: float) -> Look:
        """Return what is to be said about one flag now."""
        vitals = ward.vitals
        if vitals is None or not ward.pid or vitals.start != ward.n:
            return Look(UNKNOWN)
        sign = vitals.signs.get(flag) if vitals.signs else None
        if sign is not None:
            is_grave = sign.is_grave and not (self.is_crowded and flag in _BLAMES_BOX)
            return Look(SICK if is_grave else SUSPECT, sign.value, sign.limit, sign.says)
        if not ward.spec.detect.get(flag, 1.0):
            return Look(WELL)  # switched off meanwhile
        if not ward.is_ready or now_s - ward.ready_s < _SETTLE_S:
            return Look(UNKNOWN)
        if flag in _NEEDS_PULSE and (ward.care is None or ward.care.beat is None):
            return Look(UNKNOWN)
        return Look(WELL)


def open_files(pid: int) -> int:
    """Return how many files a process has open; -1 when it cannot be known."""
    path = f"/proc/{pid}/fd"
    try:
        # Since Linux 6.2 the size of the directory says it at once; before it is 0.
        return os.stat(path).st_size or len(os.listdir(path))
    except OSError:
        return -1


def logs_of(ward: "Ward", state_dir: str) -> "tuple[str, str]":
    """Return the files that a worker's output goes to; empty for none."""
    own = ward.spec.own_log
    limits = ward.spec.detect
    if not own or not (limits["log_storm"] or limits["log_silence"]):
        return "", ""
    directory = f"{state_dir}/{layout.LOGS}/{ward.name}" if own == "=" else own
    return f"{directory}/out.log", f"{directory}/err.log"


def written(paths: "tuple[str, str]") -> int:
    """Return the size of the files; they may not be there yet. On the second thread: they are on a disk."""
    size = 0
    for path in paths:
        try:
            size += os.stat(path).st_size
        except OSError:
            continue  # nothing was written yet, or it is being rotated
    return size


def _most_files(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/limits", "rb") as file:
            for line in file:
                if line.startswith(b"Max open files"):
                    soft = line.split()[3]
                    return int(soft) if soft.isdigit() else 0
    except OSError:
        pass  # it is gone
    return 0


def feel_now(feeler: Feeler, ward: "Ward", now_s: "float | None" = None) -> bool:
    """Read a worker and feel it; whether there was anything to read."""
    process = ward.process()
    reading = process.read() if process is not None else None
    if reading is None:
        return False
    feeler.feel(ward, reading, time.monotonic() if now_s is None else now_s)
    return True


class Peers:
    """Compares workers that do the same; see :mod:`holdfast.core.detect.peers`."""

    __slots__ = ("_next_s",)

    def __init__(self) -> None:
        self._next_s = 0.0

    def tick(self, wards: "list[Ward]", now_s: float) -> None:
        """Compare all of them, once in a while."""
        if now_s < self._next_s:
            return
        self._next_s = now_s + _PEERS_S
        groups: dict[int, list[Ward]] = {}
        for ward in wards:
            if ward.spec.peers and ward.spec.detect["odd_one_out"] and _is_settled(ward, now_s):
                groups.setdefault(ward.spec.peers, []).append(ward)
        for group in groups.values():
            if len(group) >= peers.LEAST:
                self._compare(group)

    def _compare(self, group: "list[Ward]") -> None:
        says: dict[str, Sign] = {}
        for what, floor, is_exact, value in _RESPECTS:
            values = [value(ward) for ward in group]
            known = [number for number in values if number >= 0]
            if len(known) < peers.LEAST:
                continue
            usual = median(known)
            found = iter(peers.scores(known, floor))
            for ward, number in zip(group, values, strict=True):
                inner = ward.vitals.inner if ward.vitals is not None else None
                if number < 0 or inner is None:
                    continue
                score, limit = next(found), ward.spec.detect["odd_one_out"]
                likeness = inner.likeness.get(what)
                if likeness is None:
                    likeness = inner.likeness[what] = peers.Likeness(is_exact=is_exact)
                if likeness.add(score, limit):
                    says[ward.name] = peers.sign(
                        what, f"{number:.3g}", f"{usual:.3g}", score, limit
                    )
        for ward in group:
            if ward.vitals is not None:
                ward.vitals.say("odd_one_out", says.get(ward.name))


def _is_settled(ward: "Ward", now_s: float) -> bool:
    vitals = ward.vitals
    if vitals is None or vitals.start != ward.n or vitals.inner is None or not ward.is_ready:
        return False
    return now_s - ward.ready_s > _SETTLE_S


def _unit_ms(ward: "Ward") -> float:
    inner = ward.vitals.inner if ward.vitals is not None else None
    return inner.effort.unit_s * 1000 if inner is not None else -1.0


def _share(ward: "Ward") -> float:
    return ward.vitals.share if ward.vitals is not None else -1.0


def _tasks(ward: "Ward") -> float:
    beat = ward.care.beat if ward.care is not None else None
    return float(beat.tasks) if beat is not None else -1.0


#: In what respect they are compared: its name, a difference that means nothing, and whether it has to be the same
#: everywhere; below 0: not known. The lag of the loop is a bad one: it differs tenfold between healthy peers.
_RESPECTS = (
    ("milliseconds of processor time for a unit of work", 0.5, True, _unit_ms),
    ("share of a processor", 0.1, False, _share),
    ("number of tasks", 100.0, False, _tasks),
)
