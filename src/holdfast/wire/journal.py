"""Append-only journals: one record a line, each with a checksum of its own.

A line is eight hexadecimal digits of CRC-32, a space, JSON, a newline. A torn last line (the
writer was killed in the middle, the disk was full) does not match and is left out; so is anything that
somebody wrote into the file by hand.
"""

from binascii import crc32

from holdfast.wire.jsonlite import dumps, loads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any


def encode(record: "dict[str, Any]") -> bytes:
    """Return one line, newline included."""
    body = dumps(record).encode()
    return b"%08x %s\n" % (crc32(body), body)


def encode_all(records: "Iterable[dict[str, Any]]") -> bytes:
    """Return the lines of several records, for a single write."""
    return b"".join(map(encode, records))


def decode(data: bytes) -> "tuple[list[dict[str, Any]], int]":
    """Return the good records in ``data`` and how many bytes of it form whole lines.

    What follows the last newline is not touched: it may still be being written.
    """
    return list(each(data)), whole(data)


def whole(data: bytes) -> int:
    """Return how many bytes of ``data`` form whole lines."""
    return data.rfind(b"\n") + 1


def each(data: bytes) -> "Iterator[dict[str, Any]]":
    """Yield the good records in ``data``, one after another: all of a large journal are megabytes of objects."""
    at = 0
    while (end := data.find(b"\n", at)) >= 0:
        body = data[at + 9 : end]
        if end - at > 9 and data[at : at + 8] == b"%08x" % crc32(body):
            try:
                record = loads(body.decode())
            except ValueError:
                record = None
            if type(record) is dict:
                yield record
        at = end + 1
