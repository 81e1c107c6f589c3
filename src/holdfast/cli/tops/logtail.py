"""What does a worker write just now? The end of both of its streams, and then what comes.

A lean reader beside :mod:`holdfast.records.logs`, which reads whole logs and costs 2 MB of memory to import: this one never reads more than
the last 64 KiB of a stream, however much was written since the last look, and follows the live segment through its rotation.
Leaves out closed segments: `holdfast logs` has them.
"""

import os
from bisect import bisect_right

from holdfast.wire import logindex

STREAMS = ("out", "err")
#: Read at most of a stream at once: more has gone by than anybody can read.
_WINDOW = 1 << 16
_INDEX_WINDOW = 2048 * logindex.SIZE
#: A line longer than this is cut: no screen is wider.
_LONGEST = 1000
LINES = 1000


class Tail:
    """The last lines of a worker."""

    def __init__(self, directory: str) -> None:
        self._streams = [_Stream(directory, name) for name in STREAMS]
        #: (Unix nanoseconds, is from stderr, text), oldest first.
        self.lines: list[tuple[int, bool, str]] = []
        self.count = 0  #: of all lines that ever were in ``lines``: tells a reader what is new

    def read(self) -> None:
        """Take what is new."""
        found: list[tuple[int, bool, str]] = []
        for stream in self._streams:
            is_error = stream.name == "err"
            found += [(at_ns, is_error, text) for at_ns, text in stream.read()]
        found.sort(key=lambda line: line[0])
        self.lines += found
        del self.lines[:-LINES]
        self.count += len(found)

    def close(self) -> None:
        """Let go of the files."""
        for stream in self._streams:
            stream.close()


class _Stream:
    """The live segment of one stream."""

    def __init__(self, directory: str, name: str) -> None:
        self.name = name
        self._path = f"{directory}/{name}.log"
        self._fd = self._index = -1
        self._offset = 0
        self._pending = b""
        self._pending_ns = 0

    def close(self) -> None:
        """Let go of the files."""
        for descriptor in (self._fd, self._index):
            if descriptor >= 0:
                os.close(descriptor)
        self._fd = self._index = -1

    def read(self) -> "list[tuple[int, str]]":
        """Return the new whole lines, each with its time."""
        if self._fd < 0 and not self._open(is_first=not self._offset):
            return []
        found = self._new()
        try:
            is_same = os.stat(self._path).st_ino == os.fstat(self._fd).st_ino
        except OSError:
            is_same = True  # closed just now, and the next one is not there yet
        if not is_same:
            self.close()
            if self._open(is_first=False):
                found += self._new()
        return found

    def _open(self, *, is_first: bool) -> bool:
        try:
            self._fd = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            self._index = os.open(logindex.beside(self._path), os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            self._index = -1  # the lines get the time of the file
        self._offset = 0
        if is_first:
            self._skip()
        return True

    def _skip(self) -> None:
        """Go to where the last window begins; the line that it cuts is left out."""
        size = os.fstat(self._fd).st_size
        if size - self._offset > _WINDOW:
            self._offset = size - _WINDOW
            head = os.pread(self._fd, _WINDOW, self._offset)
            self._offset += head.find(b"\n") + 1
            self._pending = b""

    def _new(self) -> "list[tuple[int, str]]":
        size = os.fstat(self._fd).st_size
        if size < self._offset:  # somebody emptied it
            self._offset, self._pending = 0, b""
        self._skip()
        data = os.pread(self._fd, _WINDOW, self._offset)
        if not data:
            return []
        offsets, dates = self._dates()
        found = []
        at = 0
        while at < len(data):
            end = data.find(b"\n", at)
            here = bisect_right(offsets, self._offset + at) - 1
            if not self._pending:
                self._pending_ns = dates[max(0, here)]
            if end < 0:
                self._pending = (self._pending + data[at:])[:_LONGEST]
                break
            text = (self._pending + data[at:end])[:_LONGEST]
            found.append((self._pending_ns, text.decode("utf-8", "replace")))
            self._pending = b""
            at = end + 1
        self._offset += len(data)
        return found

    def _dates(self) -> "tuple[list[int], list[int]]":
        """Return the end of the index: offsets and dates; one entry at least."""
        records: list[tuple[int, int, int]] = []
        if self._index >= 0:
            size = os.fstat(self._index).st_size
            begin = max(0, size - size % logindex.SIZE - _INDEX_WINDOW)
            records = logindex.decode(os.pread(self._index, _INDEX_WINDOW, begin))
        if not records:
            return [0], [os.fstat(self._fd).st_mtime_ns]
        return [record[0] for record in records], [record[1] for record in records]


def plain(text: str) -> str:
    """Return a text that cannot do anything to a terminal: without colours, escapes and control characters."""
    if text.isprintable():
        return text
    out = []
    at = 0
    while at < len(text):
        sign = text[at]
        at += 1
        if sign == "\x1b":
            at = _behind_escape(text, at)
        elif sign == "\t":
            out.append("    ")
        else:
            out.append(sign if sign.isprintable() else " ")
    return "".join(out)


def _behind_escape(text: str, at: int) -> int:
    if text[at : at + 1] != "[":
        return at + 1
    at += 1
    while at < len(text) and not "@" <= text[at] <= "~":
        at += 1
    return at + 1
