"""The flight recorder of a jobs worker: a memory file that outlives it.

The worker writes, the steward reads, nobody waits. After a death it tells who was running (suspects), who had ended but was not
settled yet (nobody runs it twice), and whether the death was meant.

Layout, little endian::

    0    magic "HFFLITE1"
    8    pid, start time of the process in ticks, slots, ring entries          4 × i64
    40   lease_until_ns (CLOCK_MONOTONIC; 0: not renewed yet; the steward writes it)   i64
    48   quiet, meant (the process ends on purpose)                            2 × i64
    64   started, finished, failed: counts of this life                        3 × i64
    96   last_claim_ns, buffered (leased, not started)                         2 × i64
    128  owner, 128 bytes · 256 worker, 128 bytes · 384 boot id, 64 bytes      NUL-padded UTF-8
    448  store, 512 bytes
    1024 slots of 128 bytes: jid (32 bytes), class (56), thread id, deadline_ns (0: none), started_ns (monotonic), started_unix_s
         (f64), token (0: free; written last)
    then a ring of (outcome, token) 2 × i64: what ended; outcome 1 ack, 2 retry, 3 drop. The token is written last.

A token is in its slot until its entry in the ring is complete. The ring is longer than what can be unsettled at one time.
"""

from struct import Struct

from holdfast.model.jobs import ACK, DROP, RETRY

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from mmap import mmap

MAGIC = b"HFFLITE1"
SLOTS_AT, SLOT = 1024, 128
RING = 4096
LEASE_UNTIL, QUIET, MEANT, STARTED, FINISHED, FAILED, LAST_CLAIM, BUFFERED = 40, 48, 56, 64, 72, 80, 96, 104  # fmt: skip
OUTCOMES = {1: ACK, 2: RETRY, 3: DROP}
OUTCOME_CODES = {end: code for code, end in OUTCOMES.items()}

_HEAD = Struct("<8s4q")
_NUMBER = Struct("<q")
_SLOT = Struct("<32s56sqqqdq")
_ENTRY = Struct("<qq")
#: Within a slot.
_DEADLINE_AT, _TOKEN_AT = 96, 120
_TEXTS = {"owner": (128, 128), "worker": (256, 128), "boot": (384, 64), "store": (448, 512)}


def size(slots: int) -> int:
    """Return the size of the file, in bytes."""
    return SLOTS_AT + slots * SLOT + RING * _ENTRY.size


def fresh(
    slots: int, pid: int, ticks: int, owner: str, worker: str, boot: str, store: str
) -> bytes:
    """Return a whole file as it is before the first job."""
    data = bytearray(size(slots))
    _HEAD.pack_into(data, 0, MAGIC, pid, ticks, slots, RING)
    for name, text in (("owner", owner), ("worker", worker), ("boot", boot), ("store", store)):
        at, room = _TEXTS[name]
        data[at : at + room] = text.encode()[: room - 1].ljust(room, b"\0")
    return bytes(data)


class Recorder:
    """The writing side; every method is one or two stores into memory and may be called from any thread.

    A slot belongs to one executor. ``buffer`` is the mapped file.
    """

    __slots__ = ("_buffer", "_next", "_numbers", "_ring_at", "slots")

    def __init__(self, buffer: "memoryview", next_entry: "Iterator[int]") -> None:
        self._buffer = buffer
        #: One store each: what packs into the buffer clears it first, and whoever reads just then would see 0.
        self._numbers = buffer.cast("q")
        self._next = next_entry  #: 0, 1, 2 …: `itertools.count()`, which is atomic under the GIL
        self.slots: int = _HEAD.unpack_from(buffer, 0)[3]
        self._ring_at = SLOTS_AT + self.slots * SLOT

    def begin(
        self, slot: int, token: int, jid: bytes, klass: bytes, thread: int, deadline_ns: int, now_ns: int, unix_s: float
    ) -> None:  # fmt: skip
        """Write down that this executor starts to run a job."""
        _SLOT.pack_into(
            self._buffer,
            SLOTS_AT + slot * SLOT,
            jid,
            klass,
            thread,
            deadline_ns,
            now_ns,
            unix_s,
            token,
        )

    def end(self, slot: int, token: int, outcome: int) -> None:
        """Write down that it has ended, and how; from now on it is not run again."""
        _ENTRY.pack_into(
            self._buffer, self._ring_at + (next(self._next) % RING) * _ENTRY.size, outcome, token
        )
        _NUMBER.pack_into(self._buffer, SLOTS_AT + (slot + 1) * SLOT - 8, 0)

    def put(self, at: int, value: int) -> None:
        """Set one of the numbers of the head."""
        self._numbers[at >> 3] = value

    def get(self, at: int) -> int:
        """Return one of the numbers of the head."""
        value: int = _NUMBER.unpack_from(self._buffer, at)[0]
        return value


class Running:
    """What one executor runs."""

    __slots__ = (
        "deadline_ns",
        "jid",
        "klass",
        "slot",
        "started_ns",
        "started_unix_s",
        "thread",
        "token",
    )

    def __init__(self, slot: int, fields: "tuple[bytes, bytes, int, int, int, float, int]") -> None:
        self.slot = slot
        self.jid = fields[0].rstrip(b"\0").decode("utf-8", "replace")
        self.klass = fields[1].rstrip(b"\0").decode("utf-8", "replace")
        self.thread, self.deadline_ns, self.started_ns, self.started_unix_s, self.token = fields[2:]


def overdue(data: "bytes | bytearray | mmap", slots: int, now_ns: int) -> "list[int]":
    """Return the tokens of what runs though its deadline was before this moment; without reading anything else."""
    found = []
    for at in range(SLOTS_AT, SLOTS_AT + slots * SLOT, SLOT):
        deadline_ns: int = _NUMBER.unpack_from(data, at + _DEADLINE_AT)[0]
        if 0 < deadline_ns < now_ns:
            token: int = _NUMBER.unpack_from(data, at + _TOKEN_AT)[0]
            if token:
                found.append(token)
    return found


class Flight:
    """What a recorder tells, read at one moment.

    Raises:
        ValueError: These bytes are no flight recorder, or only a part of one.
    """

    __slots__ = ("boot", "buffered", "failed", "finished", "is_meant", "is_quiet", "lease_until_ns", "owner", "pid", "running", "slots", "started", "store", "ticks", "worker")  # fmt: skip

    def __init__(self, data: "bytes | memoryview") -> None:
        if len(data) < SLOTS_AT or bytes(data[:8]) != MAGIC:
            raise ValueError("no flight recorder")
        _, self.pid, self.ticks, self.slots, ring = _HEAD.unpack_from(data, 0)
        if ring != RING or not 0 < self.slots <= 100_000 or len(data) < size(self.slots):
            raise ValueError("a flight recorder that was cut off")

        def number(at: int) -> int:
            value: int = _NUMBER.unpack_from(data, at)[0]
            return value

        def text(name: str) -> str:
            at, room = _TEXTS[name]
            return bytes(data[at : at + room]).split(b"\0", 1)[0].decode("utf-8", "replace")

        self.lease_until_ns = number(LEASE_UNTIL)
        self.is_quiet, self.is_meant = bool(number(QUIET)), bool(number(MEANT))
        self.started, self.failed, self.buffered = number(STARTED), number(FAILED), number(BUFFERED)
        self.owner, self.worker = text("owner"), text("worker")
        self.boot, self.store = text("boot"), text("store")
        #: By slot, what is running.
        self.running = [
            Running(slot, fields)
            for slot in range(self.slots)
            if (fields := _SLOT.unpack_from(data, SLOTS_AT + slot * SLOT))[6]
        ]
        ring_at = SLOTS_AT + self.slots * SLOT
        #: Token and end of what has ended lately, settled or not.
        self.finished = {
            token: OUTCOMES[outcome]
            for outcome, token in _ENTRY.iter_unpack(bytes(data[ring_at : ring_at + RING * 16]))
            if token and outcome in OUTCOMES
        }
