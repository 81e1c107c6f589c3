"""How does this process show that it lives, and how does what it knew last outlive it?

Writes the file that ``wire/pulse.py`` describes. A store into shared memory needs no call, cannot block and is kept by the
kernel whatever becomes of the process. Each field has one writer: the serving loop, the plain thread or the start.
"""

import os
from itertools import count
from mmap import MAP_ANONYMOUS, MAP_PRIVATE, mmap
from struct import Struct

from holdfast.wire import pulse as wire

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

#: Bytes of a text of creation sites at most.
SITES_ROOM = wire.SITES_HALF - wire.SITES_HEAD.size

_I64 = wire.I64
_SLOT = wire.SLOT.pack_into
_LOOP = Struct("<qq")  # lag, tasks; stuck_threads, stuck_ns
_PAIR = Struct("<qq")
_LOOP_MORE = Struct("<qq")  # late_ticks, cpu_ns
_MADE = Struct("<qqqq")  # tasks_created, threads_created, greenlets, latency_sum
_COUNTS = Struct("<qqq")
_THREAD = Struct("<qqqq")  # threads, in_flight, work_done, oldest_call_ns


#: The pulse of a parent stays mapped in its copies: to let go of it would cost those that end within a moment more than all the rest.
_inherited: "list[object]" = []


class PulseWriter:
    """The pulse of this process.

    The file appears under its name whole, by a rename. Its memory is allocated before it is mapped: with a full tmpfs
    that is an error here; a hole in the file would be a SIGBUS in the middle of some store, later.

    Raises:
        OSError: No room, no directory, no permission.
    """

    def __init__(
        self, path: str, pid: int, start: int, taken: mmap | None = None, blank: "mmap | bytearray | None" = None
    ) -> None:  # fmt: skip
        self._path = path
        self._events: Iterator[int] = count()
        self._has_last_words = False
        self._sites = 0
        self._memory: mmap | bytearray
        self._blank: mmap | None = None  #: what a copy will write into
        if taken is not None:
            self._memory = taken
            self._take_over(pid)
            return
        new = path + ".new"
        self._memory = blank if blank is not None else _room(new, None)
        _I64.pack_into(self._memory, wire.PID, pid)
        _I64.pack_into(self._memory, wire.START, start)
        _I64.pack_into(self._memory, wire.GREENLETS, -1)
        self._memory[: len(wire.MAGIC)] = wire.MAGIC
        if blank is not None:
            return
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

    def loop_beat(self, now_ns: int, lag_ns: int, tasks: int, late_ticks: int, cpu_ns: int) -> None:  # fmt: skip
        """Write what the serving loop knows."""
        _LOOP.pack_into(self._memory, wire.LAG, lag_ns, tasks)
        _LOOP_MORE.pack_into(self._memory, wire.LATE_TICKS, late_ticks, cpu_ns)
        _I64.pack_into(self._memory, wire.LOOP_BEAT, now_ns)

    def vouch_for_loop(self, now_ns: int) -> None:
        """Beat for a loop that is blocked by something that was declared long."""
        _I64.pack_into(self._memory, wire.LOOP_BEAT, now_ns)

    def loop_beat_age_ns(self, now_ns: int) -> int:
        """Return how long ago the serving loop has beaten; 0 when it never has."""
        beat_ns = int(_I64.unpack_from(self._memory, wire.LOOP_BEAT)[0])
        return now_ns - beat_ns if beat_ns else 0

    def made(self, tasks: int, threads: int, greenlets: int, latency_sum_ns: int) -> None:
        """Write how many of each were created since the start (greenlets: that are there, -1 for none)."""
        _MADE.pack_into(self._memory, wire.TASKS_CREATED, tasks, threads, greenlets, latency_sum_ns)

    def stuck(self, threads: int, longest_ns: int) -> None:
        """Write how many threads wait for a lock, look after look, and for how long the first of them has."""
        _LOOP.pack_into(self._memory, wire.STUCK, threads, longest_ns)

    def route(self, row: int, name: bytes, done: int, latency_ns: int, cpu_ns: int) -> None:
        """Write a row of the table of routes; the name last, so that a row with a name has values."""
        at = wire.ROUTES_OFFSET + row * wire.ROUTE.size
        _COUNTS.pack_into(self._memory, at + wire.ROUTE_NAME_BYTES, done, latency_ns, cpu_ns)
        self._memory[at : at + wire.ROUTE_NAME_BYTES] = name.ljust(wire.ROUTE_NAME_BYTES, b"\0")

    def open(self, row: int, count: int, third_ns: int, oldest_ns: int, slowest_ns: int) -> None:
        """Write how many requests of a route are under way, how old they are, and how long the slowest of late took."""
        at = wire.OPEN_OFFSET + row * wire.OPEN.size
        wire.OPEN.pack_into(self._memory, at, count, third_ns, oldest_ns, slowest_ns)

    def waits(self, waiters: int, for_ns: int, before_ns: int, turns: int, is_pool: int) -> None:
        """Write who waits for what others hold, since when nobody's turn came, how long that ever was, and how many turns there were."""
        wire.WAITS.pack_into(
            self._memory, wire.WAITS_OFFSET, waiters, for_ns, before_ns, turns, is_pool
        )

    def sites(self, text: bytes) -> None:
        """Write where things were created, into the older half; at most ``SITES_ROOM`` bytes."""
        self._sites = number = self._sites + 1
        at = wire.SITES_OFFSET + number % 2 * wire.SITES_HALF
        # Not valid while it is written: killed right here, the other half counts.
        wire.SITES_HEAD.pack_into(self._memory, at, 0, 0)
        begin = at + wire.SITES_HEAD.size
        self._memory[begin : begin + len(text)] = text
        wire.SITES_HEAD.pack_into(self._memory, at, number, len(text))

    @classmethod
    def private(cls, start: int) -> "PulseWriter":
        """Return a pulse that nobody can see, until it is shown (:meth:`show`)."""
        return cls("", 0, start, blank=bytearray(wire.SIZE))

    def go_private(self) -> None:
        """Write for nobody from now on: this process is a copy (fork), and the pulse is its parent's."""
        start = int(_I64.unpack_from(self._memory, wire.START)[0])
        memory = self._blank if self._blank is not None else bytearray(wire.SIZE)
        _inherited.append(self._memory)
        self.__init__("", 0, start, blank=memory)  # type: ignore[misc]

    def expect_fork(self) -> None:
        """Have memory ready that a copy writes into until it is shown: untouched here, it costs neither of them anything."""
        self._blank = mmap(-1, wire.SIZE, flags=MAP_PRIVATE | MAP_ANONYMOUS)

    def show(self, directory: int | None, path: str, pid: int, ticks: int, parent: int) -> None:
        """Make a private pulse a file: ``path``, in an open directory where one is given.

        Raises:
            OSError: As for a pulse of one's own.
        """
        head, slash, name = path.rpartition("/")
        new = f"{head}{slash}.{name}"
        shown = _room(new, directory)
        # What was counted until now is kept; the interpreter lets nobody else run between these two.
        shown[:] = self._memory[:]
        self._memory, self._path = shown, path
        _PAIR.pack_into(shown, wire.TICKS, ticks, parent)
        _I64.pack_into(shown, wire.PID, pid)
        os.rename(new, path, src_dir_fd=directory, dst_dir_fd=directory)

    def held(self, since_ns: int, longest_ns: int, is_whole: int) -> None:
        """Write since when a thread has been in one request, the longest that one ever was, and whether (0/1) that is the whole process."""
        _COUNTS.pack_into(self._memory, wire.HELD, since_ns, longest_ns, is_whole)

    def spins(self, since_ns: int) -> None:
        """Write since when a thread turns without a pause; 0: none does."""
        _I64.pack_into(self._memory, wire.SPINS, since_ns)

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
        raw = text.encode("utf-8", "replace")[: wire.EVENT_TEXT]
        _SLOT(self._memory, at, now_ns, len(raw), raw)
        _I64.pack_into(self._memory, wire.EVENTS_AT, number + 1)

    def _take_over(self, pid: int) -> None:
        memory = self._memory
        self._events = count(_I64.unpack_from(memory, wire.EVENTS_AT)[0])
        memory[wire.SITES_OFFSET :] = bytes(wire.SIZE - wire.SITES_OFFSET)
        memory[wire.ROUTES_OFFSET : wire.HEAD_AND_WAITS] = bytes(
            wire.HEAD_AND_WAITS - wire.ROUTES_OFFSET
        )
        self.made(0, 0, -1, 0)
        _I64.pack_into(memory, wire.STOPPING, 0)
        _I64.pack_into(memory, wire.PID, pid)

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


def _room(path: str, directory: int | None) -> mmap:
    """Return the memory of a new file."""
    flags = os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
    descriptor = os.open(path, flags, 0o644, dir_fd=directory)
    try:
        os.posix_fallocate(descriptor, 0, wire.SIZE)
        return mmap(descriptor, wire.SIZE)
    finally:
        os.close(descriptor)


def of_guest(path: str, pid: int, start: int) -> PulseWriter | None:
    """Return the pulse of this life of a guest, or None when another living process of it has one.

    A guest may be a shell that runs several programs: the first Python among them keeps the pulse until it dies, and the next one
    goes on in the same file, which the watchdog has open.

    Raises:
        OSError: As for a pulse of one's own.
    """
    try:
        with open(path, "r+b", buffering=0) as file:
            found = wire.decode(file.read(wire.HEAD))
            if found is None or found.start != start:
                return PulseWriter(path, pid, start)
            if found.pid != pid and os.path.exists(f"/proc/{found.pid}"):
                return None
            return PulseWriter(path, pid, start, mmap(file.fileno(), wire.SIZE))
    except FileNotFoundError:
        return PulseWriter(path, pid, start)
