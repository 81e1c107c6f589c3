"""What has a stream of a worker's output said since the place that somebody has noted?

:mod:`holdfast.records.logs` reads and follows; a tap reads on, in portions, from a mark that outlives the reader. A mark does not name files, which the
logger closes, renames and compresses under a reader's hands: it says behind which closed segment (their times grow strictly) and how far into the next
one everything is read. The date of that segment's first byte tells whether it is still the same one: where the logger has dropped it meanwhile, reading
goes on with the oldest that is left, and the tap says so (:attr:`Tap.lost`).

Left out: lines that have no end yet, and who keeps the mark.
"""

import os
import time
from typing import NamedTuple

from holdfast.records.logs import (
    _SETTLE_S,
    Line,
    _line,
    _line_begin,
    _raw_lines,
    _Segment,
    _segments,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from holdfast.records.logs import _Raw


class Mark(NamedTuple):
    """How far a stream was read."""

    after_ms: int  #: all closed segments up to this one are done; 0: none
    first_ns: int  #: date of the first byte of the segment behind it; 0: not known
    offset: int  #: so far into that segment


class Tap:
    """Reads on in one stream; files are open only between the first portion and the last.

    Args:
        directory: Where the logs of the worker are.
        worker: Its name, for the lines.
        stream: "out" or "err".
        mark: Where somebody stopped; None: begin with what came at ``since_unix_s`` or later.
        since_unix_s: Only without a mark.
    """

    def __init__(
        self, directory: str, worker: str, stream: str, mark: Mark | None, since_unix_s: float = 0.0
    ) -> None:
        self._directory, self._worker, self._stream = directory, worker, stream
        self._live = f"{directory}/{stream}.log"
        self._since_unix_s = since_unix_s
        self.mark = mark
        self.lost = False  #: what was to come next is not there any more
        self._segments: list[_Segment] = []
        self._lines: Iterator[_Raw] | None = None
        self._at = (0, 0)
        self._seen: tuple[int, int] | None = (
            None  #: inode and size of the live segment when all was read
        )

    def has_news(self) -> bool:
        """Whether a look is worth its price: one ``stat``."""
        return self._lines is not None or self._stat() != self._seen

    def is_far_behind(self) -> bool:
        """Whether a closed segment is being read, which may stand unpacked in memory."""
        return self._lines is not None and self._at[0] < len(self._segments) - 1

    def read(self, most_bytes: int) -> list[Line]:
        """Return the next whole lines, about so many bytes; none when there are no more. :attr:`mark` is behind them."""
        if self._lines is None:
            self._begin()
        assert self._lines is not None  # noqa: S101 -- _begin has set it
        found: list[Line] = []
        size = 0
        for raw in self._lines:
            found.append(_line(raw, self._worker, self._stream))
            self._reach(raw.end)
            size += len(raw.data) + 1
            if size >= most_bytes:
                return found
        self._end()
        return found

    def close(self) -> None:
        """Let go of the files; the next portion opens them again."""
        for segment in self._segments:
            segment.close()
        self._segments, self._lines = [], None

    def _begin(self) -> None:
        seen: tuple[int, int] | None = self._stat()
        self.lost = False
        done_ms = self.mark.after_ms if self.mark is not None else 0
        found = _segments(self._directory, self._stream)
        self._segments = [one for one in found if not 0 < one.closed_ms <= done_ms]
        if len(self._segments) > 1 and not self._segments[-2].closed_ms:
            # A segment is being closed. What is behind it has no name yet that a mark could rest on.
            self._segments.pop().close()
            seen = None
        self._settle()
        self._at = self._start()
        if self.lost and self._at[0] < len(self._segments):
            self.mark = self._mark_at(*self._at)
        self._lines = _raw_lines(self._segments, *self._at, whole=True)
        self._seen = seen

    def _settle(self) -> None:
        """Keep to the bytes that are there now, and wait until the logger has dated them."""
        live = self._segments[-1] if self._segments else None
        if live is None or live.closed_ms or not live.open():
            return
        size = live.size
        try:
            is_fresh = time.time() - os.stat(live.path).st_mtime < 2 * _SETTLE_S
        except OSError:
            return  # closed at this moment: what is open is whole
        if is_fresh:
            time.sleep(_SETTLE_S)
            live.refresh()
            live.size = min(size, live.size)

    def _start(self) -> tuple[int, int]:
        """Return where reading begins: number of the segment, offset."""
        segments, mark = self._segments, self.mark
        if mark is None:
            return self._first_since()
        number, offset = 0, mark.offset
        while number < len(segments) and not segments[number].open():
            number, offset = number + 1, 0
            self.lost = True
        if number == len(segments):
            return (number, 0)
        first_ns = segments[number].first_ns()
        if first_ns and mark.first_ns and first_ns != mark.first_ns:
            self.lost = True
            return (number, 0)
        while offset > segments[number].size:
            if number + 1 == len(segments):
                return (number, 0)  # somebody emptied the file: all that is in it is new
            # The torn end of a very long line, of which a piece was read, moved to the next segment.
            offset -= segments[number].size
            number += 1
            if not segments[number].open():
                return (number, 0)
        return (number, offset)

    def _first_since(self) -> tuple[int, int]:
        segments, first = self._segments, 0
        while first < len(segments) and 0 < segments[first].closed_ms < self._since_unix_s * 1000:
            first += 1
        if first < len(segments) and segments[first].open():
            return _line_begin(segments, first, segments[first].first_since(self._since_unix_s))
        return (first, 0)

    def _reach(self, place: tuple[int, int]) -> None:
        number, offset = place
        while number < len(self._segments) - 1:
            one = self._segments[number]
            if not one.closed_ms or one.file is None or offset < one.size:
                break  # the live one, one that nobody has looked into yet, or there is more in it
            number, offset = number + 1, 0
        if number != self._at[0] or self.mark is None:
            self.mark = self._mark_at(number, offset)
            for one in self._segments[: self._at[0]]:
                one.close()
        else:
            self.mark = self.mark._replace(offset=offset)
        self._at = (number, offset)

    def _mark_at(self, number: int, offset: int) -> Mark:
        before_ms = self.mark.after_ms if self.mark is not None else 0
        after_ms = max([before_ms, *(one.closed_ms for one in self._segments[:number])])
        return Mark(after_ms, self._segments[number].first_ns(), offset)

    def _end(self) -> None:
        """Note where everything is read; a reader that found nothing has a mark, too."""
        if self._at[0] < len(self._segments):
            self._reach(self._at)
            if self.mark is not None and not self.mark.first_ns:
                self.mark = self.mark._replace(first_ns=self._segments[self._at[0]].first_ns())
        self.close()

    def _stat(self) -> tuple[int, int]:
        try:
            found = os.stat(self._live)
        except OSError:
            return (0, 0)
        return (found.st_ino, found.st_size)
