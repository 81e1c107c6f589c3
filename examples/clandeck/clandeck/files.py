"""Files that are whole at every instant, whoever is killed in the middle of a write."""

import json
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any


class Journal:
    """An append-only file of records, one a line, each with a checksum.

    A torn last line, left by a kill in the middle of a write, is cut off when the file is opened again.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        self.records = list(read_journal(path))
        whole = sum(len(_line(record)) for record in self.records)
        self.torn_bytes = os.fstat(self._file).st_size - whole
        if self.torn_bytes:
            os.ftruncate(self._file, whole)

    def append(self, record: Any) -> None:
        """Write one record, in a single write."""
        os.write(self._file, _line(record))

    def size(self) -> int:
        """Return the bytes written so far."""
        return os.fstat(self._file).st_size


def read_journal(path: Path) -> Iterator[Any]:
    """Yield the good records from the beginning up to the first that is not."""
    try:
        lines = path.read_bytes().splitlines(keepends=True)
    except FileNotFoundError:
        return
    for line in lines:
        check, _, body = line.rstrip(b"\n").partition(b" ")
        if not line.endswith(b"\n") or check != b"%08x" % zlib.crc32(body):
            return
        yield json.loads(body)


def replace(path: Path, text: str) -> None:
    """Write a file so that its readers see the old one or the new one, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f".{path.name}.new")
    new.write_text(text)
    new.rename(path)


def _line(record: Any) -> bytes:
    body = json.dumps(record, separators=(",", ":")).encode()
    return b"%08x %s\n" % (zlib.crc32(body), body)
