"""Samples of every worker, for at most a thousandth of one processor.

One small slice of all workers each tick, never all at once; how long a round takes follows from what a sample has
been measured to cost. The ring files are the contract's (:mod:`holdfast.wire.sample`).
"""

import os
import time

from holdfast.core.detect import pace
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
        process = ward.process()
        found = process.read() if process is not None else None
        if process is None or found is None:
            return
        now_s = time.monotonic()
        vitals = ward.vitals
        if vitals is None or vitals.start != ward.n or now_s - vitals.felt_s > _FRESH_S:
            vitals = self._feeler.feel(ward, found, now_s)
            if vitals.signs:
                self.felt.append(ward)
        if now_s - vitals.sampled_s >= least_s - _EARLY_S:
            vitals.sampled_s = now_s
            wait_ns = process.wait_ns() if ward.care is not None else 0
            write(ward, found, wait_ns, self._run_dir)


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
    record = sample.RECORD.pack(
        ward.next_sample, time.time_ns(), time.monotonic_ns(), ward.n, ward.pid, found.rss_bytes, found.cpu_ns,
        found.threads, files, found.major_faults, wait_ns, *inside, ord(found.state), *more, children,
    )  # fmt: skip
    try:
        os.pwrite(ward.ring, record, ward.next_sample % sample.SLOTS * sample.RECORD.size)
    except OSError:
        return  # no memory left for samples: that must not be a reason to stop watching
    ward.next_sample += 1


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
