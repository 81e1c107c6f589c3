"""How much does each worker use at this moment, and how has that been for the last minute?

The watchdog's samples first (they also know the inside: lag, tasks, work); where its round takes long, in a node of a thousand workers, the process itself.
At most :data:`SWEEP` workers are looked at in one look, others each time: what a look costs does not grow with the node. Leaves out longer
histories (:mod:`holdfast.dashboard.charts`).
"""

import os
import time
from itertools import pairwise

from holdfast.wire import layout, sample

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from holdfast.cli.tops.node import Node, Worker

#: So many workers in one look.
SWEEP = 250
#: Points of the line of each worker, and their distance: a minute.
POINTS, POINT_S = 30, 2.0
#: Samples that are read at the first look: as many as a minute has at most.
_BEGIN = 61
#: A sample that is older than this is not "now"; one further from the next than this says nothing about a rate.
_FRESH_NS, _GAP_NS = 2_500_000_000, 90_000_000_000

_AT = {name: at for at, name in enumerate(sample.FIELDS)}
_UNIX, _MONO, _PID, _RSS, _CPU = (_AT[name] for name in ("unix_ns", "mono_ns", "pid", "rss_bytes", "cpu_ns"))  # fmt: skip
_LAG, _TASKS, _IN_FLIGHT, _WORK = (_AT[name] for name in ("lag_ns", "tasks", "in_flight", "work_done"))  # fmt: skip

#: What is known of a process of which nothing is known.
NOTHING: "dict[str, Any]" = dict.fromkeys(
    ("rss_bytes", "cpu_share", "lag_ms", "tasks", "work_rate", "in_flight")
)


class Ring:
    """The newest samples of one worker, read as they come."""

    __slots__ = ("_path", "before", "last")

    def __init__(self, run_dir: str, worker: str) -> None:
        self._path = f"{run_dir}/{layout.SAMPLES}/{worker}"
        self.before: tuple[int, ...] | None = None
        self.last: tuple[int, ...] | None = None

    def read(self) -> "list[tuple[int, ...]]":
        """Return what is new, oldest first: at the first time the last minute."""
        try:
            descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return []  # nobody has sampled it yet
        try:
            found = self._follow(descriptor) if self.last is not None else self._begin(descriptor)
        finally:
            os.close(descriptor)
        for row in found:
            self.before, self.last = self.last, row
        return found

    def _begin(self, descriptor: int) -> "list[tuple[int, ...]]":
        newest = _newest(descriptor)
        if newest < 0:
            return []
        size, first = sample.RECORD.size, newest - _BEGIN + 1
        data = b""
        if first < 0:  # the ring goes on at its end
            data = os.pread(descriptor, -first * size, (first + sample.SLOTS) * size)
            data = data if len(data) == -first * size else b""  # it never went round
        data += os.pread(descriptor, (newest + 1 - max(0, first)) * size, max(0, first) * size)
        rows = sample.RECORD.iter_unpack(data[: len(data) // size * size])
        return sorted(row for row in rows if row[_UNIX])

    def _follow(self, descriptor: int) -> "list[tuple[int, ...]]":
        assert self.last is not None  # noqa: S101 -- read() has asked
        number = self.last[0]
        again = _row(descriptor, number % sample.SLOTS)
        if again is not None and again[0] == number:
            self.last = again  # of a worker that does not move the last sample is dated anew
        found: list[tuple[int, ...]] = []
        while len(found) < sample.SLOTS:
            row = _row(descriptor, (number + 1) % sample.SLOTS)
            if row is None or row[0] != number + 1:
                if row is not None and row[0] > number + 1:
                    # Nobody looked for longer than the ring is.
                    self.before = self.last = None
                    return self._begin(descriptor)
                return found
            found.append(row)
            number += 1
        return found


class Figures:
    """What is known of one worker."""

    __slots__ = ("_line", "_point_s", "line", "now", "ring")

    def __init__(self, run_dir: str, worker: str) -> None:
        self.ring = Ring(run_dir, worker)
        self._line: list[float] = []
        self._point_s = 0.0
        #: Shares of a processor, oldest first; another object when it is another line.
        self.line: list[float] = []
        self.now = NOTHING

    def look(self, node: "Node", worker: "Worker", now_s: float) -> None:
        """Read anew what this worker uses."""
        pid = worker["pid"]
        first = not self._line
        rows = self.ring.read()
        if not pid:
            self.now = NOTHING
        else:
            self.now = of_samples(self.ring.before, self.ring.last, pid, time.monotonic_ns())
            if self.now["cpu_share"] is None:
                node.measure([worker], now_s)
                usage = node.usage(worker)
                if usage is not None:
                    self.now = {**self.now, "rss_bytes": usage.rss_bytes, "cpu_share": usage.cpu_share}  # fmt: skip
        if first:
            self._line = line_of(rows, time.monotonic_ns())
        if now_s - self._point_s >= POINT_S:
            self._point_s = now_s
            self._line = [*self._line, rounded(self.now["cpu_share"] or 0.0)][-POINTS:]
            if any(self._line) or any(self.line) or not self.line:
                self.line = self._line


def of_samples(
    before: "tuple[int, ...] | None", last: "tuple[int, ...] | None", pid: int, now_ns: int
) -> "dict[str, Any]":
    """Return the figures that two samples give; None where they say nothing of this process or of now.

    Args:
        before: The one before the last.
        last: The last one.
        pid: The process that is meant.
        now_ns: Monotonic.
    """
    if last is None or last[_PID] != pid:
        return NOTHING
    is_now = now_ns - last[_MONO] < _FRESH_NS
    found = {
        "rss_bytes": last[_RSS] if is_now else None,
        "cpu_share": None,
        "lag_ms": last[_LAG] / 1e6 if last[_LAG] else None,
        "tasks": last[_TASKS] or None,
        "work_rate": None,
        "in_flight": last[_IN_FLIGHT] or None,
    }
    if before is not None and before[_PID] == pid:
        elapsed_ns = last[_MONO] - before[_MONO]
        share = _share(before, last)
        if share is not None:
            if is_now:
                found["cpu_share"] = share
            if last[_WORK]:
                found["work_rate"] = max(0.0, (last[_WORK] - before[_WORK]) * 1e9 / elapsed_ns)
    return found


def line_of(rows: "list[tuple[int, ...]]", now_ns: int) -> "list[float]":
    """Return the share of a processor at each point of the last minute; as many as are known.

    By time, not by sample: a worker that did not move for a while has none of that while.
    """
    spans = [(before[_MONO], row[_MONO], share) for before, row in pairwise(rows) if (share := _share(before, row)) is not None]  # fmt: skip
    step_ns = int(POINT_S * 1e9)
    found: list[float] = []
    for back in range(POINTS - 1, -1, -1):
        at_ns = now_ns - back * step_ns
        # What moved within a point is seen at it, also when it was over before.
        inside = [share for began, ended, share in spans if began < at_ns and ended > at_ns - step_ns]  # fmt: skip
        if inside:
            found.append(rounded(max(inside)))
        elif found:
            found.append(0.0)  # between two lives
    return found


def _share(before: "tuple[int, ...]", row: "tuple[int, ...]") -> "float | None":
    """Return the share of a processor between two samples; None where they say nothing of it."""
    elapsed_ns, used_ns = row[_MONO] - before[_MONO], row[_CPU] - before[_CPU]
    if before[_PID] != row[_PID] or elapsed_ns <= 0:
        return None
    if elapsed_ns >= _GAP_NS and used_ns:
        return None  # long ago; nothing in all that time is known, too
    return max(0.0, used_ns / elapsed_ns)


def rounded(share: float) -> float:
    """Return a share of a processor to what a person reads: what an idle program uses flickers, and is 0."""
    return round(max(0.0, share) * 200) / 200 if share < 0.1 else round(share, 2)


def _row(descriptor: int, slot: int) -> "tuple[int, ...] | None":
    size = sample.RECORD.size
    data = os.pread(descriptor, size, slot * size)
    return sample.RECORD.unpack(data) if len(data) == size else None


def _newest(descriptor: int) -> int:
    """Return the slot of the newest sample, by halving; -1 when there is none.

    Slot j belongs to the newest round as long as its number is that of slot 0 plus j.
    """
    first = _row(descriptor, 0)
    if first is None:
        return -1
    low, high = 0, sample.SLOTS - 1
    while low < high:
        middle = (low + high + 1) // 2
        row = _row(descriptor, middle)
        if row is not None and row[0] == first[0] + middle and row[_UNIX]:
            low = middle
        else:
            high = middle - 1
    return low
