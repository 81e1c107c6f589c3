"""Whose core dump is this file, which thread took the signal, and is all of it there?

Reads the notes of an ELF core (64 bits, the machine's own byte order), 0.1 ms however large the file is. A name or a time only makes
it likely whose core a file is; the pid inside proves it. Left out: what is in the memory (the tools do that).
"""

import os
from struct import calcsize, unpack_from

_ELF64 = b"\x7fELF\x02"
_TYPE_CORE, _SEGMENT_NOTE = 4, 4
_THREAD, _PROCESS = 1, 3  # NT_PRSTATUS (one a thread, the one with the signal first), NT_PRPSINFO
#: Where the pid stands in them; the same on x86-64, arm64 and RISC-V.
_THREAD_PID, _PROCESS_PID = 32, 24
_SEGMENT = "=IIQQQQQQ"
_NOTES_BYTES = 4 << 20
#: So many mappings have no place in the header; the number stands elsewhere then.
_MANY = 0xFFFF


class CoreFile:
    """What a core says about itself."""

    __slots__ = ("bytes_there", "bytes_whole", "pid", "tid")

    def __init__(self, pid: int, tid: int, there: int, whole: int) -> None:
        self.pid = pid
        self.tid = tid  #: of the thread that took the signal
        self.bytes_there = there
        self.bytes_whole = whole  #: what it would have without a limit

    def is_cut(self) -> bool:
        """Whether a limit cut it off: no tool reads such a core."""
        return self.bytes_there < self.bytes_whole


def read(path: str) -> "CoreFile | None":
    """Return what the file says about itself; None when it is no core that can be understood.

    Raises:
        OSError: It cannot be read.
    """
    with open(path, "rb", buffering=0) as file:
        there = os.fstat(file.fileno()).st_size
        head = file.read(64)
        if len(head) < 64 or not head.startswith(_ELF64) or unpack_from("=H", head, 16)[0] != _TYPE_CORE:  # fmt: skip
            return None
        (at,), (each, number) = unpack_from("=Q", head, 32), unpack_from("=HH", head, 54)
        if number == _MANY or each < calcsize(_SEGMENT):
            return None
        table = os.pread(file.fileno(), each * number, at)
        whole, notes = at + each * number, b""
        for row in range(len(table) // each):
            kind, _, offset, _, _, count, _, _ = unpack_from(_SEGMENT, table, row * each)
            whole = max(whole, offset + count)
            if kind == _SEGMENT_NOTE:
                notes = os.pread(file.fileno(), min(count, _NOTES_BYTES), offset)
    pid, tid = _who(notes)
    return CoreFile(pid, tid, there, whole)


def _who(notes: bytes) -> tuple[int, int]:
    """Return (pid, number of the thread that took the signal); 0 for what is not said."""
    pid = tid = at = 0
    while at + 12 <= len(notes) and not (pid and tid):
        name_bytes, count, kind = unpack_from("=III", notes, at)
        body = at + 12 + _padded(name_bytes)
        at = body + _padded(count)
        if kind == _THREAD and not tid and body + _THREAD_PID + 4 <= len(notes):
            tid = unpack_from("=i", notes, body + _THREAD_PID)[0]
        elif kind == _PROCESS and body + _PROCESS_PID + 4 <= len(notes):
            pid = unpack_from("=i", notes, body + _PROCESS_PID)[0]
    return pid, tid


def _padded(count: int) -> int:
    return (count + 3) & ~3
