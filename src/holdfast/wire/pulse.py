"""The pulse of a worker: a memory file that outlives it.

The worker writes, the watchdog reads, nobody waits. Two beats, one of a plain thread and one of the
very loop that serves, tell a held GIL (both stale) from a blocked loop (only the loop's stale) from a
stopped process (both stale, state T). The ring at the end keeps the last events through SIGKILL.

Layout, little endian, 4096 bytes of fields and a ring of 512 events of 120 bytes::

    0   magic "HFPULSE1"
    8   pid, start number n                      2 × i64
    24  thread_beat_ns, loop_beat_ns             2 × i64   CLOCK_MONOTONIC
    40  loop_lag_max_ns (since the last read is not tracked: a decaying maximum), tasks, threads,
        in_flight, work_done, oldest_call_ns     6 × i64   oldest_call_ns: start of the oldest handler
                                                           still running, 0 when none
    88  ready (0/1), stopping (0/1)              2 × i64
    104 events_written                           i64
    128 note: 256 bytes, UTF-8, NUL-padded: the component that runs now, or the last words
"""

from struct import Struct

MAGIC = b"HFPULSE1"
RING_OFFSET = 4096
EVENT_BYTES = 120
EVENTS = 512
SIZE = RING_OFFSET + EVENT_BYTES * EVENTS

#: Offsets of single fields, for writers that touch one at a time.
PID, START, THREAD_BEAT, LOOP_BEAT, LAG, TASKS, THREADS, IN_FLIGHT, WORK, OLDEST, READY, STOPPING, EVENTS_AT = (
    8, 16, 24, 32, 40, 48, 56, 64, 72, 80, 88, 96, 104,
)  # fmt: skip
NOTE, NOTE_BYTES = 128, 256

I64 = Struct("<q")
_FIELDS = Struct("<13q")
_EVENT = Struct("<qH")  # monotonic nanoseconds, length of the text


class Pulse:
    """One reading of a pulse; every time is CLOCK_MONOTONIC nanoseconds."""

    __slots__ = (
        "events_written", "in_flight", "lag_ns", "loop_beat_ns", "note", "oldest_call_ns", "pid", "ready",
        "start", "stopping", "tasks", "thread_beat_ns", "threads", "work_done",
    )  # fmt: skip

    def __init__(self, values: "tuple[int, ...]", note: str) -> None:
        (self.pid, self.start, self.thread_beat_ns, self.loop_beat_ns, self.lag_ns, self.tasks, self.threads,
         self.in_flight, self.work_done, self.oldest_call_ns, self.ready, self.stopping,
         self.events_written) = values  # fmt: skip
        self.note = note


def decode(data: bytes) -> "Pulse | None":
    """Return the fields of a pulse file, or None when it is not (yet) one."""
    if len(data) < NOTE + NOTE_BYTES or data[:8] != MAGIC:
        return None
    note = data[NOTE : NOTE + NOTE_BYTES].split(b"\0", 1)[0].decode("utf-8", "replace")
    return Pulse(_FIELDS.unpack_from(data, 8), note)


def encode_event(now_ns: int, text: str) -> bytes:
    """Return one slot of the ring; text beyond 110 bytes is cut."""
    raw = text.encode("utf-8", "replace")[: EVENT_BYTES - _EVENT.size]
    return (_EVENT.pack(now_ns, len(raw)) + raw).ljust(EVENT_BYTES, b"\0")


def decode_events(data: bytes) -> "list[tuple[int, str]]":
    """Return the events of the ring of a whole pulse file, oldest first: (monotonic ns, text)."""
    if len(data) < SIZE or data[:8] != MAGIC:
        return []
    found = []
    for at in range(RING_OFFSET, SIZE, EVENT_BYTES):
        at_ns, length = _EVENT.unpack_from(data, at)
        if at_ns and length <= EVENT_BYTES - _EVENT.size:
            text = data[at + _EVENT.size : at + _EVENT.size + length]
            found.append((at_ns, text.decode("utf-8", "replace")))
    found.sort()
    return found
