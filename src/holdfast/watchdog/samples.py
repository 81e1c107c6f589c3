"""Samples of every worker, for at most a thousandth of one processor.

One small slice of all workers each tick, never all at once; how long a round takes follows from what a sample has
been measured to cost. The ring files are the contract's (:mod:`holdfast.wire.sample`).
"""

import time
from struct import Struct

from holdfast.core.detect import pace
from holdfast.linux import procfs
from holdfast.linux import system as os
from holdfast.wire import layout, pulse, sample

TYPE_CHECKING = False
if TYPE_CHECKING:
    from holdfast.linux.procfs import Reading
    from holdfast.watchdog.vitals import Feeler
    from holdfast.watchdog.wards import Ward

_NUMBER = pulse.I64
#: Few workers are looked at this often, whether or not it is put on record.
LEAST_S = 0.25
#: Who was felt this lately need not be felt again, and a sample may come this much early.
_FRESH_S, _EARLY_S = 0.2, 0.05
#: Who did not move for so long is forgotten but for the last samples; what creeps is forgotten earlier.
_REST_S = 60.0
#: Where in a record its two times are.
_TIMES, _TIMES_AT = Struct("<2q"), 8


class Sampler:
    """Goes round all workers for ever."""

    __slots__ = ("_at", "_cost_s", "_credit", "_feeler", "_names", "_run_dir", "felt", "is_quick")

    def __init__(self, run_dir: str, feeler: "Feeler") -> None:
        self._run_dir = run_dir
        self._feeler = feeler
        self.is_quick = False  #: few enough workers to look at each of them several times a second
        self.felt: list[Ward] = []  #: those of the last tick of whom something is believed
        self._names: list[str] = []
        self._at = 0
        self._cost_s = 20e-6
        self._credit = 0.0

    def tick(self, wards: "dict[str, Ward]", passed_s: float, least_s: float) -> None:
        """Take the samples that are due after another ``passed_s``; put on record no more often than ``least_s``."""
        self.felt = []
        if self._at >= len(self._names):
            self._names, self._at = list(wards), 0
        count = len(self._names)
        if not count:
            return
        round_s = pace.round_s(count, self._cost_s, min(LEAST_S, least_s))
        self.is_quick = round_s < 2 * LEAST_S
        self._credit = min(count, self._credit + count * passed_s / round_s)
        # A tick that comes a little early must not put off the only worker there is to the next tick.
        due = int(self._credit + 0.05)
        if not due:
            return
        self._credit -= due
        began_s = time.thread_time()
        taken = 0
        for name in self._names[self._at : self._at + due]:
            ward = wards.get(name)
            if ward is not None and ward.pid:
                taken += 1
                self._take(ward, least_s)
        self._at += due
        if taken:
            self._cost_s += 0.1 * ((time.thread_time() - began_s) / taken - self._cost_s)

    def _take(self, ward: "Ward", least_s: float) -> None:
        self.look(ward, least_s)
        if ward.vitals is not None and ward.vitals.signs:
            self.felt.append(ward)

    def glance(self, ward: "Ward") -> None:
        """Feel a worker out of its turn, if it has moved; nothing is put on record."""
        process = ward.process()
        if process is None:
            return
        is_new = not process.seen
        if not is_new and ward.vitals is None and process.is_still():
            return
        found = process.read()
        if found is None:
            return
        vitals = self._feeler.feel(ward, found, time.monotonic())
        if is_new and ward.care is None and vitals.is_calm():
            ward.vitals = None  # its turn, and its first sample, are still to come

    def look(self, ward: "Ward", least_s: float) -> None:
        """Look at one worker, and put on record what was seen.

        Of one that does not move nothing is remembered but its last two samples: the second is dated anew at each look.
        """
        process = ward.process()
        if process is None:
            return
        is_first = not process.seen
        is_still = process.is_still() and ward.care is None
        if is_still and ward.vitals is None and again(ward):
            return
        found = process.read()
        if found is None:
            return
        now_s = time.monotonic()
        vitals = ward.vitals
        if ward.forks is not None and vitals is not None and vitals.start == ward.n:
            found = ward.forks.reading(found)  # with its forks it is felt at each look
        elif vitals is None or vitals.start != ward.n or now_s - vitals.felt_s > _FRESH_S:
            vitals = self._feeler.feel(ward, found, now_s)
        if not is_still:
            vitals.moved_s = now_s
        if is_first or now_s - vitals.sampled_s >= least_s - _EARLY_S:
            vitals.sampled_s = now_s
            wait_ns = process.wait_ns() if ward.care is not None else 0
            write(ward, found, wait_ns, self._run_dir)
        # Only what it is like now may stand for it: felt, and on record, since it moved last.
        is_known = vitals.moved_s <= min(vitals.felt_s, vitals.sampled_s)
        has_rested = is_first or now_s - vitals.moved_s > _REST_S
        if has_rested and is_known and ward.care is None and vitals.is_calm():
            ward.vitals = None  # made again from its last sample as soon as it moves


def write(ward: "Ward", found: "Reading", wait_ns: int, run_dir: str) -> None:
    """Put one sample into a worker's ring."""
    beat = ward.care.beat if ward.care is not None else None
    vitals = ward.vitals
    files, children = (vitals.files, vitals.children) if vitals is not None else (-1, 0)
    inside = (0, 0, 0, 0)
    more = (0, 0, 0, 0)
    if beat is not None:
        inside = (beat.lag_ns, beat.tasks, beat.in_flight, beat.work_done)
        more = (beat.tasks_created, beat.threads_created, beat.latency_sum_ns, beat.late_ticks)
    if ward.ring < 0:
        _open_ring(ward, run_dir)
    ward.is_run = False
    record = sample.RECORD.pack(
        ward.next_sample, time.time_ns(), time.monotonic_ns(), ward.n, ward.pid, found.rss_bytes, found.cpu_ns,
        found.threads, files, found.major_faults, wait_ns, *inside, ord(found.state), *more, children,
    )  # fmt: skip
    try:
        os.pwrite(ward.ring, record, _offset(ward.next_sample))
    except OSError:
        return  # no memory left for samples: that must not be a reason to stop watching
    ward.next_sample += 1


def again(ward: "Ward") -> bool:
    """Put on record that nothing has changed since the last sample of this life; False when there is none.

    Of a run of equal samples the ring holds the first and the last: a worker that sleeps for days keeps the hours before.
    """
    if ward.ring < 0 or ward.next_sample <= 0:
        return False
    number = ward.next_sample - 1
    try:
        if ward.is_run:
            times = _TIMES.pack(time.time_ns(), time.monotonic_ns())
            os.pwrite(ward.ring, times, _offset(number) + _TIMES_AT)
            return True
        found = _last(ward)
        if found is None:
            return False
        record = sample.RECORD.pack(number + 1, time.time_ns(), time.monotonic_ns(), *found[3:])
        os.pwrite(ward.ring, record, _offset(number + 1))
    except OSError:
        return True  # no memory left for samples: that must not be a reason to stop watching
    ward.next_sample, ward.is_run = number + 2, True
    return True


def _offset(number: int) -> int:
    return number % sample.SLOTS * sample.RECORD.size


def _last(ward: "Ward") -> "tuple[int, ...] | None":
    try:
        data = os.pread(ward.ring, sample.RECORD.size, _offset(ward.next_sample - 1))
    except OSError:
        return None
    if len(data) < sample.RECORD.size:
        return None
    found: tuple[int, ...] = sample.RECORD.unpack(data)
    return found if (found[0], found[3]) == (ward.next_sample - 1, ward.n) else None


def before(ward: "Ward") -> "tuple[float, Reading] | None":
    """Return when this life was looked at last, and what was seen; None when that is not on record."""
    if ward.ring < 0 or ward.next_sample <= 0:
        return None
    found = _last(ward)
    if found is None:
        return None
    row = dict(zip(sample.FIELDS, found, strict=True))
    reading = procfs.recalled(
        chr(row["state"]), row["rss_bytes"], row["cpu_ns"], row["threads"], row["major_faults"]
    )
    return row["mono_ns"] / 1e9, reading


def _open_ring(ward: "Ward", run_dir: str) -> None:
    try:
        ward.ring = os.open(
            f"{run_dir}/{layout.SAMPLES}/{ward.name}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644
        )
        ward.next_sample = newest(ward.ring) + 1
    except OSError:
        ward.ring, ward.next_sample = -1, 0


def newest(descriptor: int) -> int:
    """Return the highest number in a ring file; -1 in an empty one (binary search: ten reads of eight bytes)."""

    def number(slot: int) -> int:
        data = os.pread(descriptor, _NUMBER.size, slot * sample.RECORD.size)
        return int(_NUMBER.unpack(data)[0]) if len(data) == _NUMBER.size else -1

    filled = min(sample.SLOTS, os.fstat(descriptor).st_size // sample.RECORD.size)
    if not filled:
        return -1
    first = number(0)
    low, high = 0, filled - 1
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if number(middle) >= first else (low, middle - 1)
    return number(low)
