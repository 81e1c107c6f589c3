"""The beats of the house processes: one small shared file, a slot for each.

Each process writes its monotonic clock into its own slot once a second from the very loop that
does its work. Whoever reads a slot that is too old knows that its owner is stopped or stuck.
Eight bytes, aligned, are written in one store, so a reader never sees half a value.
"""

from struct import Struct

#: Slot number of each house process.
SLOTS = {"anchor": 0, "keeper": 1, "watchdog": 2, "logger": 3}
#: Size of the file.
SIZE = 4096
#: Period of a beat, in nanoseconds.
PERIOD_NS = 1_000_000_000

_SLOT = Struct("<qq")  # monotonic nanoseconds of the last beat, pid
_STRIDE = 64  # a cache line each


def write(buffer: "memoryview", role: str, now_ns: int, pid: int) -> None:
    """Put one beat into its slot."""
    _SLOT.pack_into(buffer, SLOTS[role] * _STRIDE, now_ns, pid)


def read(buffer: "memoryview | bytes", role: str) -> "tuple[int, int]":
    """Return (monotonic nanoseconds of the last beat, pid); zeros before the first."""
    beat_ns, pid = _SLOT.unpack_from(buffer, SLOTS[role] * _STRIDE)
    return beat_ns, pid
