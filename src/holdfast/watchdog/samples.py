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
    from holdfast.watchdog.wards import Ward

_NUMBER = pulse.I64


class Sampler:
    """Goes round all workers for ever."""

    __slots__ = ("_at", "_cost_s", "_credit", "_names", "_run_dir")

    def __init__(self, run_dir: str) -> None:
        self._run_dir = run_dir
        self._names: list[str] = []
        self._at = 0
        self._cost_s = 20e-6
        self._credit = 0.0

    def tick(self, wards: "dict[str, Ward]", passed_s: float, least_s: float) -> None:
        """Take the samples that are due after another ``passed_s``."""
        if self._at >= len(self._names):
            self._names, self._at = list(wards), 0
        count = len(self._names)
        if not count:
            return
        self._credit = min(
            count, self._credit + count * passed_s / pace.round_s(count, self._cost_s, least_s)
        )
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
                take(ward, self._run_dir)
        self._at += due
        if taken:
            self._cost_s += 0.1 * ((time.thread_time() - began_s) / taken - self._cost_s)


def take(ward: "Ward", run_dir: str) -> None:
    """Take one sample of a worker and write it into its ring; nothing happens when it is gone."""
    process = ward.process()
    found = process.read() if process is not None else None
    if process is None or found is None:
        return
    lag_ns = tasks = in_flight = work = 0
    wait_ns = 0
    if ward.care is not None:
        wait_ns = process.wait_ns()
        if ward.care.pulse >= 0:
            beat = pulse.decode(os.pread(ward.care.pulse, pulse.NOTE + pulse.NOTE_BYTES, 0))
            if beat is not None:
                lag_ns, tasks, in_flight, work = (
                    beat.lag_ns,
                    beat.tasks,
                    beat.in_flight,
                    beat.work_done,
                )
    if ward.ring < 0:
        _open_ring(ward, run_dir)
    record = sample.RECORD.pack(
        ward.next_sample, time.time_ns(), time.monotonic_ns(), ward.n, ward.pid, found.rss_bytes, found.cpu_ns,
        found.threads, -1, found.major_faults, wait_ns, lag_ns, tasks, in_flight, work, ord(found.state),
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
