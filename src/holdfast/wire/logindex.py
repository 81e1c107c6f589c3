"""The index beside a log segment: when did which byte arrive, and from which life of the worker.

A segment (``out.log``) holds exactly the bytes that the worker wrote, moved there by ``splice`` without
being touched, which is what makes it impossible to lose or tear a line when the logger is killed.
The index (``.out.log.idx``, hidden from whoever just wants to read the log) says for each moved chunk where it begins. Fixed-size records, each
with its own checksum, appended after the bytes are in place: bytes that no record covers (the logger
was killed in between) belong to the last record before them.
"""

from binascii import crc32
from struct import Struct

_BODY = Struct("<QQI")


def encode(offset: int, unix_ns: int, start: int) -> bytes:
    """Return the record for the chunk that begins at ``offset``."""
    body = _BODY.pack(offset, unix_ns, start)
    return body + crc32(body).to_bytes(4, "little")


def decode(data: bytes) -> "list[tuple[int, int, int]]":
    """Return the good records as (offset, unix nanoseconds, start number), in file order."""
    size = _BODY.size + 4
    found = []
    for at in range(0, len(data) - size + 1, size):
        body = data[at : at + _BODY.size]
        if crc32(body).to_bytes(4, "little") == data[at + _BODY.size : at + size]:
            found.append(_BODY.unpack(body))
    return found


#: Bytes of one record.
SIZE = _BODY.size + 4


def beside(segment: str) -> str:
    """Return the path of the index of a segment."""
    directory, slash, name = segment.rpartition("/")
    return f"{directory}{slash}.{name}.idx"
