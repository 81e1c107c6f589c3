"""Append-only journals: one record a line, each with a checksum of its own.

A line is eight hexadecimal digits of CRC-32, a space, JSON, a newline. A torn last line (the
writer was killed in the middle, the disk was full) does not match and is left out; so is anything that
somebody wrote into the file by hand.
"""

from binascii import crc32

from holdfast.wire.jsonlite import dumps, loads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
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
    end = data.rfind(b"\n") + 1
    records = []
    for line in data[:end].split(b"\n"):
        body = line[9:]
        if len(line) > 9 and line[:8] == b"%08x" % crc32(body):
            try:
                record = loads(body.decode())
            except ValueError:
                continue
            if type(record) is dict:
                records.append(record)
    return records, end
