"""What the keeper remembers beyond its own death.

An append-only file in the run directory: each change is one record, several changes of one moment are one write. A new keeper
replays it (:func:`replay`) and knows which lives were begun, which ended, and which it still has to look for. When
the file has grown it is replaced by a short one that says the same.
"""

import time

from holdfast.core.restart import History
from holdfast.linux import files
from holdfast.linux import system as os
from holdfast.wire import journal, layout, message

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Record = dict[str, Any]

#: The journal may grow to this before it is replaced: a state, a start and some ends of each worker.
_MIN_BYTES, _BYTES_A_WORKER = 128 * 1024, 2048
#: Exit records that a compaction keeps: the watchdog may still have to read them.
_KEPT_EXITS = 1000


#: What follows an end when the worker is started again.
RESTARTS = frozenset({"restart", "delay", "slow"})


class Open:
    """A life that was intended or begun and of which no end is on record."""

    __slots__ = (
        "entry",
        "intent_mono_s",
        "n",
        "pid",
        "ready",
        "role",
        "started_mono_s",
        "started_unix_s",
        "ticks",
    )

    def __init__(self, n: int, role: str, mono_s: float) -> None:
        self.n = n
        self.role = role
        self.intent_mono_s = mono_s
        self.pid = 0  # 0: intended only
        self.ticks = 0
        self.entry = 0
        self.ready = False
        self.started_mono_s = mono_s
        self.started_unix_s = 0.0


class Past:
    """What is known of one worker."""

    __slots__ = ("by", "history", "last_n", "lives", "restarts", "up")

    def __init__(self) -> None:
        self.up: bool | None = None
        self.by = ""
        self.last_n = 0
        self.restarts = 0
        self.history = History()
        self.lives: dict[int, Open] = {}


class Journal:
    """The keeper's end of the journal."""

    __slots__ = ("_fd", "_path", "_run_dir", "_unwritten", "is_new", "seq")

    def __init__(self, run_dir: str, seq: int) -> None:
        self._run_dir = run_dir
        path = self._path = f"{run_dir}/{layout.JOURNAL}"
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        self._unwritten = b""
        self.seq = seq
        self.is_new = False  #: records were added since the watchdog was told

    def add(self, *records: "Record") -> None:
        """Append records in one write. A full memory disk delays them, it does not stop the keeper."""
        unix_s, mono_s = time.time(), time.monotonic()
        for record in records:
            self.seq += 1
            record.setdefault("mono_s", mono_s)
            record["seq"], record["unix_s"] = self.seq, unix_s
        data = self._unwritten + journal.encode_all(records)
        self._unwritten = b""
        try:
            written = os.write(self._fd, data)
        except OSError:
            written = 0
        if written < len(data):
            self._unwritten = data[written:]
        self.is_new = True

    def is_large(self, workers: int) -> bool:
        """Whether it is time for :meth:`compact`: many times what there is to say about so many workers."""
        return os.fstat(self._fd).st_size > _MIN_BYTES + workers * _BYTES_A_WORKER

    def compact(self, states: "list[Record]") -> None:
        """Replace the file by the last exits and ``states`` (records of kind ``state``, ``start``, …)."""
        seen = message.decode(files.read(f"{self._run_dir}/{layout.SEEN}")) or {}
        unread = int(seen.get("seq", 0))
        ends = [
            r for r in journal.each(files.read(self._path)) if r["k"] in ("exit", "failed_spawn")
        ]
        # All that the watchdog has not dealt with, and the last ones for people.
        exits = [r for r in ends[:-_KEPT_EXITS] if r["seq"] > unread] + ends[-_KEPT_EXITS:]
        unix_s, mono_s = time.time(), time.monotonic()
        for record in states:
            self.seq += 1
            record.setdefault("mono_s", mono_s)
            record["seq"], record["unix_s"] = self.seq, record.get("unix_s", unix_s)
        try:
            files.write_atomic(self._path, journal.encode_all([*exits, *states]))
        except OSError:
            return  # the long one is as good
        os.close(self._fd)
        self._fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        self._unwritten = b""


def replay(data: bytes) -> "tuple[dict[str, Past], int, bool, float]":
    """Return what a journal tells: the workers, the last sequence number, whether the node is to end, its first moment."""
    workers: dict[str, Past] = {}
    seq, is_ending, began_s = 0, False, 0.0
    for record in journal.each(data):
        seq = max(seq, record["seq"])
        if record["k"] == "keeper":
            began_s = began_s or record.get("began_s", record["mono_s"])
        if record["k"] == "down":
            is_ending = True
        name = record.get("worker")
        if name is not None:
            _replay_one(workers.setdefault(name, Past()), record)
    return workers, seq, is_ending, began_s


def _replay_one(past: Past, record: "Record") -> None:
    kind, n = record["k"], record.get("n", 0)
    past.last_n = max(past.last_n, n)
    if kind == "want":
        past.up, past.by = record["up"], record["by"]
        if past.up:
            past.history = History()
    elif kind == "intent":
        past.lives[n] = Open(n, record["role"], record["mono_s"])
    elif kind == "start":
        life = past.lives.setdefault(n, Open(n, record["role"], record["mono_s"]))
        life.role, life.pid, life.ticks, life.entry = (
            record["role"],
            record["pid"],
            record["ticks"],
            record["entry"],
        )
        life.started_mono_s, life.started_unix_s = record["mono_s"], record["unix_s"]
    elif kind == "go" and n in past.lives:
        past.lives[n].role = "main"
    elif kind == "ready" and n in past.lives:
        past.lives[n].ready = True
    elif kind in ("exit", "failed_spawn", "void"):
        past.lives.pop(n, None)
        if "history" in record:
            past.history = History(list(record["history"]), record["short"])
            # An end tells how many restarts there were before it.
            past.restarts = record["restarts"] + (kind == "exit" and record["next"] in RESTARTS)
    elif kind == "state":
        past.up, past.by, past.restarts = record["up"], record["by"], record["restarts"]
        past.history = History(list(record["history"]), record["short"])
