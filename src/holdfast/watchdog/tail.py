"""What is new in the keeper's journal, each record once.

By inode and offset. The keeper replaces the journal by a shorter one now and then (compaction); the new file is read
from its beginning, and every reader tells by the sequence number what it has had.
"""

from holdfast.linux import system as os
from holdfast.wire import journal, layout

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

#: Read this much at once: a journal of a thousand starts as Python objects would be a megabyte that never comes back.
_CHUNK = 1 << 16


class Tail:
    """A place in the journal."""

    __slots__ = ("_descriptor", "_inode", "_offset", "_path", "_seq")

    def __init__(self, run_dir: str) -> None:
        self._path = f"{run_dir}/{layout.JOURNAL}"
        self._descriptor = -1
        self._inode = 0
        self._offset = 0
        self._seq = 0

    def read(self) -> "Iterator[dict[str, Any]]":
        """Give the records that were not given before, in order; none when there is nothing new."""
        yield from self._more()
        try:
            status = os.stat(self._path)
        except OSError:
            return
        if status.st_ino != self._inode:
            # What was appended to the old file before it was replaced has just been read.
            self._reopen()
            yield from self._more()
        elif status.st_size < self._offset:
            self._offset = 0
            yield from self._more()

    def _reopen(self) -> None:
        try:
            descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor = descriptor
        self._inode = os.fstat(descriptor).st_ino
        self._offset = 0

    def _more(self) -> "Iterator[dict[str, Any]]":
        while self._descriptor >= 0:
            data = os.pread(self._descriptor, _CHUNK, self._offset)
            records, used = journal.decode(data)
            if not used and len(data) == _CHUNK:
                used = _CHUNK  # a line longer than any of ours is not one of ours
            self._offset += used
            for record in records:
                seq = record.get("seq")
                if type(seq) is int and seq > self._seq:
                    self._seq = seq
                    yield record
            if len(data) < _CHUNK:
                break
