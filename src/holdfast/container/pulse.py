"""How does this process show that it lives, and how does what it knew last outlive it?

Writes the file that ``wire/pulse.py`` describes. A store into shared memory needs no call, cannot block and is kept by the
kernel whatever becomes of the process. Each field has one writer: the serving loop, the plain thread or the start.
"""

import os
from itertools import count
from mmap import mmap
from struct import Struct

from holdfast.wire import pulse as wire

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

_I64 = wire.I64
_LOOP = Struct("<qq")  # lag, tasks
_THREAD = Struct("<qqqq")  # threads, in_flight, work_done, oldest_call_ns


class PulseWriter:
    """The pulse of this process.

    The file appears under its name whole, by a rename. Its memory is allocated before it is mapped: with a full tmpfs
    that is an error here; a hole in the file would be a SIGBUS in the middle of some store, later.

    Raises:
        OSError: No room, no directory, no permission.
    """

    def __init__(self, path: str, pid: int, start: int) -> None:
        self._path = path
        new = path + ".new"
        descriptor = os.open(new, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
        try:
            os.posix_fallocate(descriptor, 0, wire.SIZE)
            self._memory = mmap(descriptor, wire.SIZE)
        finally:
            os.close(descriptor)
        self._events: Iterator[int] = count()
        self._has_last_words = False
        _I64.pack_into(self._memory, wire.PID, pid)
        _I64.pack_into(self._memory, wire.START, start)
        self._memory[: len(wire.MAGIC)] = wire.MAGIC
        self._keep_last_life(path)
        os.rename(new, path)

    def rename(self, path: str) -> None:
        """Show this pulse under another name: a spare has become the one that serves."""
        self._keep_last_life(path)
        os.rename(self._path, path)
        self._path = path

    def thread_beat(self, now_ns: int, threads: int, in_flight: int, work_done: int, oldest_call_ns: int) -> None:  # fmt: skip
        """Write what the plain thread knows; its time last, so that fresh time means fresh values."""
        _THREAD.pack_into(self._memory, wire.THREADS, threads, in_flight, work_done, oldest_call_ns)
        _I64.pack_into(self._memory, wire.THREAD_BEAT, now_ns)

    def loop_beat(self, now_ns: int, lag_ns: int, tasks: int) -> None:
        """Write what the serving loop knows."""
        _LOOP.pack_into(self._memory, wire.LAG, lag_ns, tasks)
        _I64.pack_into(self._memory, wire.LOOP_BEAT, now_ns)

    def vouch_for_loop(self, now_ns: int) -> None:
        """Beat for a loop that is blocked by something that was declared long."""
        _I64.pack_into(self._memory, wire.LOOP_BEAT, now_ns)

    def set_ready(self) -> None:
        """Say that every component has started."""
        _I64.pack_into(self._memory, wire.READY, 1)

    def set_stopping(self) -> None:
        """Say that the process was asked to end."""
        _I64.pack_into(self._memory, wire.STOPPING, 1)

    def note(self, text: bytes) -> None:
        """Say what runs now; at most 255 bytes. About 0.2 µs."""
        if not self._has_last_words:
            # One store for text and terminator: what a longer note left behind them is not read.
            self._memory[wire.NOTE : wire.NOTE + len(text) + 1] = text + b"\0"

    def last_words(self, text: str) -> None:
        """Leave a note that no later one replaces."""
        raw = text.encode("utf-8", "replace")[: wire.NOTE_BYTES - 1]
        self.note(raw)
        self._has_last_words = True

    def event(self, now_ns: int, text: str) -> None:
        """Write one event into the ring; from any thread. About 1 µs."""
        number = next(self._events)  # atomic: two threads never get one slot
        at = wire.RING_OFFSET + number % wire.EVENTS * wire.EVENT_BYTES
        self._memory[at : at + wire.EVENT_BYTES] = wire.encode_event(now_ns, text)
        _I64.pack_into(self._memory, wire.EVENTS_AT, number + 1)

    @staticmethod
    def _keep_last_life(path: str) -> None:
        """Keep the pulse of the life before as PATH.last: it may be evidence that nobody has read yet."""
        between = path + ".old"
        try:
            os.unlink(between)  # left by a kill between the two steps below
        except FileNotFoundError:
            pass
        try:
            os.link(path, between)
            os.rename(between, path + ".last")
        except FileNotFoundError:
            return  # the first life
