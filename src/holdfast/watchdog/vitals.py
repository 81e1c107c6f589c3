"""What do the numbers of one worker say? Feeds the detectors, whose memory is :mod:`holdfast.watchdog.remembered`.

One look costs a reading of ``/proc/PID/stat`` and what the pulse said anyway; whatever costs more (open files, routes, the size
of the log) is asked for rarely.
"""

import time

from holdfast.core.detect import stalled, starvation
from holdfast.core.detect.chatter import Chatter
from holdfast.core.detect.deadlock import deadlock
from holdfast.core.detect.descriptors import Descriptors
from holdfast.core.detect.standstill import Standstill
from holdfast.core.detect.swarm import Swarm
from holdfast.core.ladder import SICK, SUSPECT, UNKNOWN, WELL
from holdfast.linux import system as os
from holdfast.watchdog import hunger, samples
from holdfast.watchdog.holdings import most_files, open_files
from holdfast.watchdog.remembered import Inner, Vitals
from holdfast.watchdog.senses import Look, turns
from holdfast.wire import pulse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from holdfast.linux.procfs import Reading
    from holdfast.watchdog.wards import Ward

#: How often what costs more is asked for.
_PACE_S, _FILES_S = 1.0, 3.0
#: A guest with fewer open files than this is not remembered for them.
_FEW_FILES = 40
#: A new life is not judged before this age.
SETTLE_S = 3.0
#: What else may explain these: on a box without processors to spare nobody is shot for them.
_BLAMES_BOX = ("slow", "stalled", "pegged", "task_bomb", "loop_lag")
#: What a box has when nobody knows.
_PLENTY = 1 << 50
#: Python programs begin with few threads.
_THREADS_AT_START = 2.0
_FACTORS = {"task_bomb": 10.0, "thread_bomb": 3.0, "child_bomb": 5.0}

#: All flags that are raised by what is felt here.
FLAGS = (
    "loop_lag", "slow", "stalled", "pegged", "deadlock", "task_bomb", "thread_bomb", "child_bomb", "fd_leak", "memory_leak", "odd_one_out",
    "log_storm", "log_silence", "stopped", "starved",
)  # fmt: skip
_NEEDS_PULSE = frozenset(
    {"loop_lag", "slow", "stalled", "pegged", "deadlock", "task_bomb", "odd_one_out"}
)


class Feeler:
    """Feels the pulse of workers, so to speak."""

    __slots__ = ("available", "busiest", "is_crowded", "quotas")

    def __init__(self) -> None:
        self.available = _PLENTY  #: memory of the box that can still be had
        self.is_crowded = False  #: no processor to spare on this box
        self.quotas = hunger.Quotas("")
        self.busiest: hunger.Busiest | None = None  #: who uses this box, where somebody finds out

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
            self._pace(ward, vitals, reading.cpu_ns, 0, now_s)
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
        is_settled = ward.is_ready and age_s >= SETTLE_S
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
                created=beat.tasks_created, worked=done + beat.in_flight, is_crowded=self.is_crowded, may_batch=True,
            )  # fmt: skip
            vitals.say("task_bomb", sign or inner.pile.add(
                now_s, beat.tasks, vitals.files, beat.in_flight, is_settled=is_settled and age_s > limits["warm_up"],
            ))  # fmt: skip
        if (
            limits["slow"]
            and now_s >= vitals.disturbed_s
            and inner.effort.is_due(now_s, beat.work_done)
        ):
            self._effort(ward, vitals, inner, reading, beat, now_s)
        if now_s - vitals.cpu_s >= _PACE_S:
            if limits["stalled"]:
                self._stalled(ward, vitals, inner, now_s)
            finished = self._pace(ward, vitals, reading.cpu_ns, beat.cpu_ns, now_s, beat.work_done)
            if limits["pegged"]:
                sign = inner.pegged.add(
                    now_s, vitals.wanted, finished, beat.in_flight, lag_s=beat.lag_ns / 1e9,
                    has_worked=beat.work_done > 0, limit_s=limits["pegged"],
                    thread_s=now_s - beat.spins_ns / 1e9 if beat.spins_ns else 0.0,
                )  # fmt: skip
                vitals.say("pegged", sign if is_settled else None)
            if limits["deadlock"]:
                # Not only of what is ready: a program that never gets there stands as well.
                sign = deadlock(
                    beat.stuck_threads, beat.stuck_ns / 1e9, vitals.share, finished, limits["deadlock"]
                )  # fmt: skip
                vitals.say("deadlock", sign)

    def _stalled(self, ward: "Ward", vitals: Vitals, inner: Inner, now_s: float) -> None:
        limit = ward.spec.detect["stalled"]
        ended, under_way, waits = self.under_way(ward)
        sign = inner.stalled.add(now_s, ended, under_way, limit)
        # Of requests it is known what is usual; a wait for what others hold is asked about where there are none.
        vitals.say("stalled", sign or stalled.queue(*waits, limit))

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
        process = ward.process()
        sign = inner.effort.add(
            now_s, cpu_ns / 1e9, beat.work_done, beat.latency_sum_ns / 1e9, self.routes(ward), ward.spec.detect["slow"],
            waited_s=process.wait_ns() / 1e9 if process is not None else 0.0, is_crowded=self.is_crowded,
            measured_per_s=pulse.MEASURED_PER_S,
        )  # fmt: skip
        vitals.say("slow", sign)

    def routes(self, ward: "Ward") -> "list[stalled.Route]":
        """Return what the routes of a worker have cost so far; empty where nobody knows."""
        return _routes(ward, _read(ward, pulse.HEAD_AND_ROUTES))

    def under_way(
        self, ward: "Ward"
    ) -> "tuple[list[stalled.Route], list[stalled.Open], tuple[int, float, float, int, bool]]":
        """Return the same, which requests have not ended, and who waits for what others have."""
        data = _read(ward, pulse.HEAD_AND_WAITS)
        if _life(data) != ward.n:
            data = b""
        return _routes(ward, data), pulse.decode_open(data), pulse.decode_waits(data)

    def _pace(
        self, ward: "Ward", vitals: Vitals, cpu_ns: int, serving_ns: int, now_s: float, work: int = 0
    ) -> int:  # fmt: skip
        """Compare processor time with that of a second ago; return the work done meanwhile (all of it at first)."""
        passed_ns = (now_s - vitals.cpu_s) * 1e9
        process = ward.process()
        waited_ns = process.wait_ns() if process is not None else 0
        if vitals.cpu_s and passed_ns > 0:
            spent_ns = cpu_ns - vitals.cpu_ns
            if serving_ns and vitals.serving_ns:
                spent_ns = serving_ns - vitals.serving_ns
            vitals.share = max(0.0, spent_ns / passed_ns)
            # On a busy box nobody gets a whole processor; what counts is whether it took all that it was given.
            passed_s = passed_ns / 1e9
            waited_s = max(0, waited_ns - vitals.waited_ns) / 1e9
            waited_s = max(waited_s, self._threads_waited_s(ward, vitals, passed_s))
            had_s = max(passed_s / 4, passed_s - waited_s)
            vitals.wanted = min(max(1.0, vitals.share), vitals.share * passed_s / had_s)
            self._starved(ward, vitals, passed_s, waited_s, now_s)
        vitals.waited_ns = waited_ns
        finished, vitals.paced = work - vitals.paced, work
        vitals.cpu_s, vitals.cpu_ns, vitals.serving_ns = now_s, cpu_ns, serving_ns
        return finished

    def _threads_waited_s(self, ward: "Ward", vitals: Vitals, passed_s: float) -> float:
        """Return for how long the thread that waited most did, on a crowded box, where threads serve; the main thread's wait costs less to know."""
        inner = vitals.inner
        beat = ward.care.beat if ward.care is not None else None
        if (
            inner is None
            or beat is None
            or not (self.is_crowded and beat.in_flight and beat.threads > 1)
        ):
            return 0.0
        before, inner.turns = inner.turns, turns(ward.pid)
        return max(
            (
                starvation.waited_s(before[tid], now, passed_s)
                for tid, now in inner.turns.items()
                if tid in before
            ),
            default=0.0,
        )

    def _starved(
        self, ward: "Ward", vitals: Vitals, passed_s: float, waited_s: float, now_s: float
    ) -> None:
        limit = ward.spec.detect["starved"]
        if not limit:
            return
        if vitals.hunger is None:
            if hunger.is_worth(waited_s, vitals.share, passed_s):
                vitals.hunger = hunger.Hunger(self.quotas, ward, now_s)
            return
        blame = self.busiest.says if self.busiest is not None else ""
        sign = vitals.hunger.feel(now_s, passed_s, waited_s, vitals.share, limit, blame)
        vitals.say("starved", sign)
        # Asked before it is told: two looks at all processes take a while.
        if self.busiest is not None and vitals.hunger.waits() >= limit:
            self.busiest.asked_s = now_s

    # -- what costs more ---------------------------------------------------------------------------

    def _files(self, ward: "Ward", vitals: Vitals, age_s: float, now_s: float) -> None:
        if vitals.most_files < 0:
            vitals.most_files = most_files(ward.pid)
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

    def log(self, ward: "Ward", written: int, now_s: float, alike: float = 0.0) -> None:
        """Take in the size of a worker's log, and how much of its end is one complaint, where that was asked (:meth:`is_loud`)."""
        vitals = ward.vitals
        if vitals is None or vitals.start != ward.n:
            return
        inner = vitals.remembered()
        if inner.log is None:
            inner.log = Chatter()
        limits = ward.spec.detect
        storm, silence = inner.log.add(
            now_s, written, vitals.share, limits["log_storm"], limits["log_silence"], alike
        )
        vitals.say("log_storm", storm)
        vitals.say("log_silence", silence)

    @staticmethod
    def is_loud(ward: "Ward") -> bool:
        """Whether a worker writes so much that it is worth to look at what it writes."""
        inner = ward.vitals.inner if ward.vitals is not None else None
        return inner is not None and inner.log is not None and inner.log.is_loud

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
            is_hungry = self.is_crowded or bool(vitals.signs and "starved" in vitals.signs)
            is_grave = sign.is_grave and not (is_hungry and flag in _BLAMES_BOX)
            return Look(SICK if is_grave else SUSPECT, sign.value, sign.limit, sign.says)
        if not ward.spec.detect.get(flag, 1.0):
            return Look(WELL)  # switched off meanwhile
        if not ward.is_ready or now_s - ward.ready_s < SETTLE_S:
            return Look(UNKNOWN)
        if flag in _NEEDS_PULSE and (ward.care is None or ward.care.beat is None):
            return Look(UNKNOWN)
        return Look(WELL)


def _read(ward: "Ward", size: int) -> bytes:
    if ward.care is None or ward.care.pulse < 0:
        return b""
    try:
        return os.pread(ward.care.pulse, size, 0)
    except OSError:
        return b""


def _life(data: bytes) -> int:
    whole = pulse.decode(data[: pulse.HEAD])
    return whole.start if whole is not None else 0


def _routes(ward: "Ward", data: bytes) -> "list[stalled.Route]":
    whole = pulse.decode(data)
    if whole is None or whole.start != ward.n:
        return []
    return [(name, n, late_ns / 1e9, cpu_ns / 1e9) for name, n, late_ns, cpu_ns in whole.routes]


def feel_now(feeler: Feeler, ward: "Ward", now_s: "float | None" = None) -> bool:
    """Read a worker and feel it; whether there was anything to read."""
    if ward.forks is not None:
        return ward.forks.feel(feeler, ward, time.monotonic() if now_s is None else now_s)
    process = ward.process()
    reading = process.read() if process is not None else None
    if reading is None:
        return False
    feeler.feel(ward, reading, time.monotonic() if now_s is None else now_s)
    return True
