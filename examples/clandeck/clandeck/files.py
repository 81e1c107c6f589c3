"""Files that are whole at every instant, whoever is killed in the middle of a write."""

import json
import os
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any


class Journal:
    """An append-only file of records, one a line, each with a checksum.

    A torn last line, left by a kill in the middle of a write, is cut off when the file is opened again.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        self._open()
        self.records = list(read_journal(path))
        whole = sum(len(_line(record)) for record in self.records)
        self.torn_bytes = os.fstat(self._file).st_size - whole
        if self.torn_bytes:
            os.ftruncate(self._file, whole)

    def append(self, record: Any) -> None:
        """Write one record, in a single write."""
        line = _line(record)
        if os.write(self._file, line) != len(line):
            # A full disk: what is there of the line would spoil the next one. Crash; the next start cuts it off.
            raise OSError(f"{self._path}: only a part of a record could be written")

    def size(self) -> int:
        """Return the bytes written so far."""
        return os.fstat(self._file).st_size

    def rewrite(self, records: Iterable[Any]) -> None:
        """Put these in the place of everything: readers see the old file or the new one, never a part."""
        replace(self._path, b"".join(_line(record) for record in records))
        os.close(self._file)
        self._open()

    def _open(self) -> None:
        self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)


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


def replace(path: Path, data: bytes) -> None:
    """Write a file so that its readers see the old one or the new one, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f".{path.name}.new")
    new.write_bytes(data)
    new.rename(path)


def _line(record: Any) -> bytes:
    body = json.dumps(record, separators=(",", ":")).encode()
    return b"%08x %s\n" % (zlib.crc32(body), body)
