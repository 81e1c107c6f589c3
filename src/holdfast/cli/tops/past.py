"""What has become of one worker so far: its lives and deaths, and its samples. Read as they grow, never twice.

The keeper's journal and the watchdog's ring are read by their new parts only; what a compaction of the journal takes away
stays known here. Leaves out how that looks (:mod:`holdfast.cli.tops.charts`).
"""

import os

from holdfast.wire import journal, layout, sample
from holdfast.wire.jsonlite import dumps

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_CHUNK = 1 << 16
#: Lives that are kept in mind.
_MOST_LIVES = 2000
#: Ends that nobody asked for; a remedy is one: the worker was sick.
_DEATHS = ("died", "remedy")
#: Samples further apart than this do not belong together.
_GAP_NS = 90_000_000_000


class Life:
    """One process of a worker: when it was there, and how it ended."""

    __slots__ = ("born_s", "cause", "ended_s", "is_death", "n", "status")

    def __init__(self, n: int, born_s: float) -> None:
        self.n = n
        self.born_s = born_s
        self.ended_s: float | None = None
        self.is_death = False
        self.cause = ""
        self.status: int | None = None


class Lives:
    """The lives of one worker, from the keeper's journal."""

    def __init__(self, run_dir: str, worker: str) -> None:
        self._path = f"{run_dir}/{layout.JOURNAL}"
        self._needle = f'"worker":{dumps(worker)}'.encode()
        self._worker = worker
        self._inode = self._offset = 0
        self._spares: dict[int, Life] = {}
        self.known: dict[int, Life] = {}

    def read(self) -> None:
        """Take what is new."""
        try:
            descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return  # the node is down: what is known stays
        try:
            inode = os.fstat(descriptor).st_ino
            if inode != self._inode:
                self._inode, self._offset = inode, 0
            rest = b""
            while part := os.pread(descriptor, _CHUNK, self._offset + len(rest)):
                rest += part
                used = journal.whole(rest)
                self._take(rest[:used])
                self._offset += used
                rest = rest[used:]
        finally:
            os.close(descriptor)

    def _take(self, data: bytes) -> None:
        at = data.find(self._needle)
        while at >= 0:
            begin, end = data.rfind(b"\n", 0, at) + 1, data.find(b"\n", at) + 1
            for record in journal.each(data[begin:end]):
                if record.get("worker") == self._worker:
                    self._learn(record)
            at = data.find(self._needle, end)

    def _learn(self, record: "dict[str, Any]") -> None:
        kind, n = record.get("k"), int(record.get("n") or 0)
        unix_s = float(record.get("unix_s") or 0)
        if kind == "start":
            # A compaction writes the start of a life that goes on once more, with the time that it had.
            place = self._spares if record.get("role") == "spare" else self.known
            place.setdefault(n, Life(n, unix_s))
        elif kind == "go" and n in self._spares:
            self.known[n] = self._spares.pop(n)
            self.known[n].born_s = unix_s
        elif kind == "exit" and record.get("role") != "spare":
            life = self.known.setdefault(n, Life(n, unix_s - float(record.get("lived_s") or 0)))
            life.ended_s = unix_s
            life.cause = str(record.get("cause") or "died")
            life.is_death = life.cause in _DEATHS
            life.status = record.get("status")
        elif kind == "failed_spawn":
            life = self.known.setdefault(n, Life(n, unix_s))
            life.ended_s, life.cause, life.is_death = unix_s, "died", True
        if len(self.known) > _MOST_LIVES:
            del self.known[min(self.known)]

    def all(self) -> "list[Life]":
        """Return them, oldest first."""
        return [self.known[n] for n in sorted(self.known)]


class Samples:
    """The samples of one worker, from the watchdog's ring."""

    def __init__(self, run_dir: str, worker: str) -> None:
        self._path = f"{run_dir}/{layout.SAMPLES}/{worker}"
        self._last = 0
        #: In the order of time, as in :data:`holdfast.wire.sample.FIELDS`.
        self.rows: list[tuple[int, ...]] = []

    def read(self) -> None:
        """Take what is new: the whole ring once, then the slots that follow."""
        try:
            descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return  # nobody has sampled it yet
        try:
            if self._last:
                self._follow(descriptor)
            else:
                data = os.pread(descriptor, sample.SIZE, 0)
                whole = len(data) - len(data) % sample.RECORD.size
                found = [row for row in sample.RECORD.iter_unpack(data[:whole]) if row[1]]
                self.rows.extend(sorted(found))
                self._last = self.rows[-1][0] if self.rows else 0
        finally:
            os.close(descriptor)

    def _follow(self, descriptor: int) -> None:
        size = sample.RECORD.size
        for _ in range(sample.SLOTS):
            data = os.pread(descriptor, size, (self._last + 1) % sample.SLOTS * size)
            row = sample.RECORD.unpack(data) if len(data) == size else (0,)
            if row[0] != self._last + 1:
                if row[0] > self._last + 1:
                    self._last = 0  # we slept for longer than the ring is: begin anew
                    self.rows.clear()
                return
            self._last = row[0]
            self.rows.append(row)
            del self.rows[: -sample.SLOTS]

    def pieces(self) -> "tuple[list[tuple[float, float, float]], list[tuple[float, float, float]]]":
        """Return the share of a processor and the bytes of memory, each as (from, to, value) in Unix seconds."""
        cpu, memory = [], []
        before: tuple[int, ...] | None = None
        for row in self.rows:
            from_s = to_s = row[1] / 1e9
            if before is not None and before[4] == row[4] and 0 < row[2] - before[2] < _GAP_NS:
                from_s = before[1] / 1e9
                cpu.append((from_s, to_s, max(0.0, (row[6] - before[6]) / (row[2] - before[2]))))
            memory.append((from_s, to_s, float(row[5])))
            before = row
        return cpu, memory

    def last(self) -> "dict[str, int] | None":
        """Return the newest sample."""
        return dict(zip(sample.FIELDS, self.rows[-1], strict=True)) if self.rows else None
