"""The pulse of a worker: a memory file that outlives it.

The worker writes, the watchdog reads, nobody waits. Two beats, one of a plain thread and one of the
very loop that serves, tell a held GIL (both stale) from a blocked loop (only the loop's stale) from a
stopped process (both stale, state T). The ring at the end keeps the last events through SIGKILL.

Layout, little endian, 4096 bytes of fields, a ring of 512 events of 120 bytes, and where things were created::

    0   magic "HFPULSE1"
    8   pid, start number n                      2 × i64
    24  thread_beat_ns, loop_beat_ns             2 × i64   CLOCK_MONOTONIC
    40  loop_lag_max_ns (since the last read is not tracked: a decaying maximum), tasks, threads,
        in_flight, work_done, oldest_call_ns     6 × i64   oldest_call_ns: start of the oldest handler
                                                           still running, 0 when none
    88  ready (0/1), stopping (0/1)              2 × i64
    104 events_written                           i64
    128 note: 256 bytes, UTF-8, NUL-padded: the component that runs now, or the last words
    384 tasks_created, threads_created           2 × i64   cumulative
    400 greenlets                                i64       -1: the program does not use them
    408 latency_sum_ns                           i64       over all finished work; work_done counts it
    416 late_ticks                               i64       turns of the loop more than 250 ms late, cumulative
    424 cpu_ns                                   i64       of the thread that serves, cumulative
    432 stuck_threads, stuck_ns                  2 × i64   wait for a lock, look after look; the longest of them
    448 ticks, parent                            2 × i64   of a process that the worker forked: its start time (/proc/PID/stat), who forked it
    464 held_ns, longest_held_ns, is_held        3 × i64   since when a thread of a server that has one for each request has been in one (0: none
                                                           is, for long); the longest so far; 1: it is the main thread, nothing else is served,
                                                           2: it is no request but a job of a pool of processes
    488 spins_ns                                 i64       since when a thread beside the serving one turns without a pause, 0: none does
    1024 24 routes of 64 bytes: name (40 bytes, NUL-padded), count, latency_sum_ns, cpu_ns, cumulative;
        the first empty name ends them
    2560 requests under way of each route, 24 × 4 × i64, in the same order, once a second: how many, and how old a third of them (three at least;
        0: fewer) and the oldest are, and how long the slowest of late took, in ns
    3328 waiters, since when nobody's turn came (ns), the longest such time before (ns), turns so far, whether it is a pool (0/1): 5 × i64
        of the thing that most tasks and threads wait for because others have it (:mod:`holdfast.agent.waiting`)

and from 65536 on two halves of 16 KiB, written in turn: sequence number (0: being written), length, JSON. The one with the
greater number is the newer one. The JSON (:func:`decode_sites`)::

    {"at_ns": …,                            CLOCK_MONOTONIC
     "tasks": [[count, live, "file:line in function", ["file:line in function" of its creator, of the creator's …]]],
     "threads": […], "greenlets": […],      the same; most of the last ten seconds first
     "recent": {"tasks": [count of the last ten seconds, for each of the above], "threads": […], "greenlets": […]},
     "stacks": {"file:line in function": [[frames of one creation there, innermost first], …]},
     "running": [[how many threads, [frames, innermost first]]],   where the threads are; only when there are very many
     "blocked": [[how many looks, [frames]]],                      where the serving loop was while it was late
     "stuck": [[frames]],                                          of threads that wait for a lock, look after look
     "waiting": [[how many, longest wait in seconds, line of the program, what for, [frames]]],   who waits for something that others hold
     "holding": [[how many, line of the program, what]],           who has it, as far as that can be seen
     "children": [[count, 0, "file:line in function", []]],        who started processes
     "handlers": [[how many, added there, logger, "file:line in function"]],   loggers with far too many handlers
     "died": [signal],                                             of child processes that died of one unasked; only if any did
     "asking": {"file:line in function": count}}                   who handed work to executors
"""

from struct import Struct

from holdfast.wire.jsonlite import loads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

MAGIC = b"HFPULSE1"
RING_OFFSET = 4096
EVENT_BYTES = 120
EVENTS = 512
RING_END = RING_OFFSET + EVENT_BYTES * EVENTS
SITES_OFFSET = RING_END
SITES_HALF = 16384
SIZE = SITES_OFFSET + 2 * SITES_HALF

#: Offsets of single fields, for writers that touch one at a time.
PID, START, THREAD_BEAT, LOOP_BEAT, LAG, TASKS, THREADS, IN_FLIGHT, WORK, OLDEST, READY, STOPPING, EVENTS_AT = (
    8, 16, 24, 32, 40, 48, 56, 64, 72, 80, 88, 96, 104,
)  # fmt: skip
NOTE, NOTE_BYTES = 128, 256
TASKS_CREATED, THREADS_CREATED, GREENLETS, LATENCY_SUM, LATE_TICKS, CPU, STUCK, TICKS, HELD, SPINS = (
    384, 392, 400, 408, 416, 424, 432, 448, 464, 488,
)  # fmt: skip
#: Of so many pieces of work a second the agent measures the processor time; where there are more, those stand for the others.
MEASURED_PER_S = 150
#: Values of ``is_held``.
WHOLE, JOB = 1, 2
#: All single fields: what is read often.
HEAD = 496
ROUTES_OFFSET, ROUTES, ROUTE_NAME_BYTES = 1024, 24, 40
ROUTE = Struct("<40s3q")
#: With the routes.
HEAD_AND_ROUTES = ROUTES_OFFSET + ROUTES * ROUTE.size
SITES_HEAD = Struct("<qq")
#: With the requests under way, and who waits.
OPEN_OFFSET, OPEN = HEAD_AND_ROUTES, Struct("<4q")
WAITS_OFFSET, WAITS = OPEN_OFFSET + ROUTES * OPEN.size, Struct("<5q")
HEAD_AND_WAITS = WAITS_OFFSET + WAITS.size

I64 = Struct("<q")
_FIELDS = Struct("<13q")
_MORE = Struct("<14q")
_NOTHING_MORE = (0, 0, -1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
#: What counts up for as long as a process lives: of a worker that forks, the counts of the dead are kept.
COUNTED = (
    "work_done",
    "tasks_created",
    "threads_created",
    "latency_sum_ns",
    "late_ticks",
    "cpu_ns",
)
_SUMMED = (*COUNTED, "tasks", "threads", "in_flight", "stuck_threads")
_WORST = ("lag_ns", "stuck_ns")
_EVENT = Struct("<qH")  # monotonic nanoseconds, length of the text
EVENT_TEXT = EVENT_BYTES - _EVENT.size
SLOT = Struct(f"<qH{EVENT_TEXT}s")


class Pulse:
    """One reading of a pulse; every time is CLOCK_MONOTONIC nanoseconds.

    What the bytes did not reach, or an older writer did not know, is 0 or empty (``greenlets``: -1).
    """

    __slots__ = (
        "cpu_ns", "events_written", "greenlets", "held_ns", "in_flight", "is_held", "lag_ns", "late_ticks", "latency_sum_ns", "longest_held_ns", "loop_beat_ns",
        "note", "oldest_call_ns", "parent", "pid", "ready", "routes", "sites", "spins_ns", "start", "stopping", "stuck_ns", "stuck_threads", "tasks",
        "tasks_created", "thread_beat_ns", "threads", "threads_created", "ticks", "work_done",
    )  # fmt: skip

    def __init__(
        self, values: "tuple[int, ...]", note: str, more: "tuple[int, ...]" = _NOTHING_MORE
    ) -> None:
        (self.pid, self.start, self.thread_beat_ns, self.loop_beat_ns, self.lag_ns, self.tasks, self.threads,
         self.in_flight, self.work_done, self.oldest_call_ns, self.ready, self.stopping,
         self.events_written) = values  # fmt: skip
        self.note = note
        (self.tasks_created, self.threads_created, self.greenlets, self.latency_sum_ns, self.late_ticks,
         self.cpu_ns, self.stuck_threads, self.stuck_ns, self.ticks, self.parent, self.held_ns,
         self.longest_held_ns, self.is_held, self.spins_ns) = more  # fmt: skip
        self.routes: list[tuple[str, int, int, int]] = []  #: name, count, latency_sum_ns, cpu_ns
        self.sites: dict[str, Any] = {}


def decode(data: bytes) -> "Pulse | None":
    """Return what is in a pulse file, or None when it is not (yet) one.

    The first ``HEAD`` bytes have every single field, the first ``HEAD_AND_ROUTES`` the routes as well, the whole file the
    creation sites.
    """
    if len(data) < NOTE + NOTE_BYTES or data[:8] != MAGIC:
        return None
    note = data[NOTE : NOTE + NOTE_BYTES].split(b"\0", 1)[0].decode("utf-8", "replace")
    more = _MORE.unpack_from(data, TASKS_CREATED) if len(data) >= HEAD else _NOTHING_MORE
    found = Pulse(_FIELDS.unpack_from(data, 8), note, more)
    if len(data) >= HEAD_AND_ROUTES:
        found.routes = _decode_routes(data)
        found.sites = decode_sites(data)
    return found


def together(own: Pulse, forks: "Iterable[Pulse]", gone: "Mapping[str, int]") -> Pulse:
    """Return what a worker and the processes that it forked do together: counts summed, the worst lag, the rest its own.

    Args:
        own: Of the worker's own process.
        forks: Of the processes that live.
        gone: What those that have died had counted, by the names of ``COUNTED``.
    """
    found = Pulse.__new__(Pulse)
    for name in Pulse.__slots__:
        setattr(found, name, getattr(own, name))
    for name, count in gone.items():
        setattr(found, name, getattr(found, name) + count)
    for fork in forks:
        for name in _SUMMED:
            setattr(found, name, getattr(found, name) + getattr(fork, name))
        for name in _WORST:
            setattr(found, name, max(getattr(found, name), getattr(fork, name)))
        found.spins_ns = found.spins_ns or fork.spins_ns
        if fork.greenlets >= 0:
            found.greenlets = max(0, found.greenlets) + fork.greenlets
    return found


def _decode_routes(data: bytes) -> "list[tuple[str, int, int, int]]":
    found = []
    for at in range(ROUTES_OFFSET, HEAD_AND_ROUTES, ROUTE.size):
        name, count, latency_ns, cpu_ns = ROUTE.unpack_from(data, at)
        name = name.rstrip(b"\0")
        if not name:
            break
        found.append((name.decode("utf-8", "replace"), count, latency_ns, cpu_ns))
    return found


def decode_open(data: bytes) -> "list[tuple[str, int, float, float, float]]":
    """Return the requests under way, from the first ``HEAD_AND_WAITS`` bytes: route, how many, ages of a third and of the oldest, the slowest of late (s)."""
    if len(data) < HEAD_AND_WAITS or data[:8] != MAGIC:
        return []
    found = []
    for at, (name, *_) in enumerate(_decode_routes(data)):
        count, *ages_ns = OPEN.unpack_from(data, OPEN_OFFSET + at * OPEN.size)
        if count > 0:
            third_s, oldest_s, slowest_s = (age / 1e9 for age in ages_ns)
            found.append((name, count, third_s, oldest_s, slowest_s))
    return found


def decode_waits(data: bytes) -> "tuple[int, float, float, int, bool]":
    """Return who waits for what others hold: how many, since when nobody's turn came, the longest such time before (s), turns so far, whether it is a pool."""
    if len(data) < HEAD_AND_WAITS or data[:8] != MAGIC:
        return 0, 0.0, 0.0, 0, False
    waiters, for_ns, before_ns, turns, is_pool = WAITS.unpack_from(data, WAITS_OFFSET)
    return waiters, for_ns / 1e9, before_ns / 1e9, turns, bool(is_pool)


def decode_sites(data: bytes) -> "dict[str, Any]":
    """Return where things were created, from a whole pulse file; empty when nobody has written it."""
    halves = []
    for at in (SITES_OFFSET, SITES_OFFSET + SITES_HALF):
        if len(data) >= at + SITES_HALF:
            number, length = SITES_HEAD.unpack_from(data, at)
            if number > 0 and 0 < length <= SITES_HALF - SITES_HEAD.size:
                halves.append((number, at + SITES_HEAD.size, length))
    # Newest first; the older one where the newer was being written while it was read.
    for _, at, length in sorted(halves, reverse=True):
        try:
            value = loads(data[at : at + length].decode())
        except ValueError:
            continue
        if type(value) is dict:
            return value
    return {}


def encode_event(now_ns: int, text: str) -> bytes:
    """Return one slot of the ring; text beyond 110 bytes is cut."""
    raw = text.encode("utf-8", "replace")[:EVENT_TEXT]
    return SLOT.pack(now_ns, len(raw), raw)


def decode_events(data: bytes) -> "list[tuple[int, str]]":
    """Return the events of the ring of a whole pulse file, oldest first: (monotonic ns, text)."""
    if len(data) < RING_END or data[:8] != MAGIC:
        return []
    found = []
    for at in range(RING_OFFSET, RING_END, EVENT_BYTES):
        at_ns, length = _EVENT.unpack_from(data, at)
        if at_ns and length <= EVENT_TEXT:
            text = data[at + _EVENT.size : at + _EVENT.size + length]
            found.append((at_ns, text.decode("utf-8", "replace")))
    found.sort()
    return found
