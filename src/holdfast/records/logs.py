"""What did a worker say, when, and in which life? Reads the logger's segments back into lines.

A segment holds the bytes as the worker wrote them; the index beside it dates them (``wire/logindex.py``). Readers never
wait for the logger and never disturb it: they cope with a missing, short or damaged index (then a line gets the nearest date
known, in the worst case the file's), with segments that are compressed, closed or dropped while they read, with a logger that was
killed in the middle of closing one (:mod:`holdfast.logger.rotate` has the steps), and with bytes that are not UTF-8.

What makes a line: the bytes up to a line end. A life that was killed in the middle of a line leaves a piece without one,
which in the file touches the next life's first line; the index says where the new life began, and there they are
parted. A line of more than LONGEST bytes comes in pieces, so that a worker that writes no line ends costs no memory.
Leaves out: search by anything but a pattern, other workers (the caller merges).
"""

import heapq
import os
import re
import tempfile
import time
import zlib
from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from operator import attrgetter
from typing import IO, NamedTuple

from holdfast.wire import logindex

STREAMS = ("out", "err")
#: Bytes of a line that come in one piece.
LONGEST = 1 << 20
#: How often :func:`follow` looks.
POLL_S = 0.1
_CHUNK = 1 << 18
_GZIP_FORMAT = 31  # 15 bits of window, and 16 for "gzip header"
#: Compressed segments up to this size are unpacked in memory, larger ones to a temporary file.
_SPOOL = 32 << 20
_INDEX_BLOCK = 4096 * logindex.SIZE
#: Who follows and has fallen behind opens so many segments at a time.
_BATCH = 64
#: The logger writes the index record right behind the bytes; who looks in between waits this long.
_SETTLE_S = 0.01
_CLOSED = re.compile(r"(out|err)-(\d+)\.log(\.gz)?")
_CUT = re.compile(r"(out|err)\.cut-(\d+)-(\d+)")


class Line(NamedTuple):
    """One line of output."""

    unix_s: float  #: when the logger took it from the pipe
    stream: str
    worker: str
    start: int  #: number of the life that wrote it; 0: not known
    text: str  #: without its line end; bytes that are not UTF-8 are surrogates (errors="surrogateescape")


# -- asking ----------------------------------------------------------------------------------------


def tail(
    directory: str,
    worker: str,
    lines: int = 200,
    until_unix_s: float | None = None,
    start: int | None = None,
) -> list[Line]:
    """Return the last lines of both streams, oldest first.

    Costs what is at the end of the logs, not what is before it. A line of more than 1 MiB comes in pieces, which
    may be cut at other places than those of :func:`read`.

    Args:
        directory: Where the logs of this worker are (``LogPolicy.directory``).
        worker: Its name, for the result.
        lines: How many at most, of both streams together. The last may be a line that is still being written.
        until_unix_s: None that came later.
        start: Only those of this life.
    """
    if lines <= 0:
        return []
    found = []
    for stream in STREAMS:
        segments = _segments(directory, stream)
        end = _end(segments, until_unix_s, start)
        found.append(_tail(segments, end, worker, stream, lines, until_unix_s, start))
        _close(segments)
    return list(heapq.merge(*found, key=attrgetter("unix_s")))[-lines:]


def read(
    directory: str, worker: str, since_unix_s: float | None = None, until: float | None = None
) -> Iterator[Line]:
    """Yield the lines of both streams by time, closed and compressed segments included.

    Segments that were closed before ``since_unix_s`` are not opened. The last line of each stream may be one that is still
    being written.
    """
    yield from heapq.merge(
        *(_read(directory, worker, stream, since_unix_s, until) for stream in STREAMS),
        key=attrgetter("unix_s"),
    )


def search(lines: Iterable[Line], pattern: str, *, ignore_case: bool = False) -> Iterator[Line]:
    """Yield those lines in which a regular expression is found.

    Raises:
        re.error: The pattern is not one.
    """
    wanted = re.compile(pattern, re.IGNORECASE if ignore_case else 0).search
    return (line for line in lines if wanted(line.text))


def follow(
    directory: str,
    worker: str,
    lines: int = 0,
    stop: Callable[[], bool] = lambda: False,
    poll_s: float = POLL_S,
) -> Iterator[Line]:
    """Yield the last ``lines`` whole lines, then every new one as it comes, until ``stop()`` says so.

    New is what comes after this call. Survives rotation (also several between two looks), compression, truncation, and a
    directory that does not exist yet.
    """
    followers = [_Follower(directory, worker, stream) for stream in STREAMS]
    return _follow(followers, lines, stop, poll_s)


def _follow(
    followers: "list[_Follower]", lines: int, stop: Callable[[], bool], poll_s: float
) -> Iterator[Line]:
    try:
        last = heapq.merge(*[f.last(lines) for f in followers], key=attrgetter("unix_s"))
        yield from list(last)[-lines:] if lines > 0 else []
        while True:
            ends = stop()
            fresh = [f.fresh() for f in followers]
            yield from heapq.merge(*fresh, key=attrgetter("unix_s"))
            if ends and not any(f.is_behind for f in followers):
                return
            if not any(fresh):
                time.sleep(poll_s)
    finally:
        for each in followers:
            each.close()


def _read(
    directory: str, worker: str, stream: str, since_s: float | None, until_s: float | None
) -> Iterator[Line]:
    segments = _segments(directory, stream)
    try:
        first, offset = 0, 0
        if since_s is not None:
            while first < len(segments) and 0 < segments[first].closed_ms < since_s * 1000:
                first += 1
            if first < len(segments) and segments[first].open():
                begin = segments[first].first_since(since_s)
                first, offset = _line_begin(segments, first, begin)
        for raw in _raw_lines(segments, first, offset):
            unix_s = raw.unix_ns / 1e9
            if (since_s is None or unix_s >= since_s) and (until_s is None or unix_s <= until_s):
                yield _line(raw, worker, stream)
    finally:
        _close(segments)


def _tail(
    segments: "list[_Segment]",
    end: tuple[int, int],
    worker: str,
    stream: str,
    lines: int,
    until_s: float | None = None,
    start: int | None = None,
) -> list[Line]:
    """Return the last lines among those that begin before ``end``, by looking back in steps that grow."""
    window = 1 << 16
    while True:
        begin = _back(segments, end, window)
        if begin is None:
            window *= 8
            continue
        found: deque[_Raw] = deque(maxlen=lines)
        older = False
        for raw in _raw_lines(segments, *begin):
            if raw.begin >= end:
                break
            older = older or (start is not None and 0 < raw.start < start)
            if (until_s is None or raw.unix_ns / 1e9 <= until_s) and (
                start is None or raw.start == start
            ):
                found.append(raw)
        if len(found) == lines or begin == (0, 0) or older:
            return [_line(raw, worker, stream) for raw in found]
        window *= 8


def _line(raw: "_Raw", worker: str, stream: str) -> Line:
    text = raw.data.removesuffix(b"\r").decode("utf-8", "surrogateescape")
    return Line(raw.unix_ns / 1e9, stream, worker, raw.start, text)


# -- segments --------------------------------------------------------------------------------------


class _Segment:
    """One file of a stream, opened when it is needed; a closed one may be compressed or dropped until then."""

    __slots__ = (
        "_index_at", "_index_file", "_starts", "_unix_ns", "closed_ms", "file", "index_inode", "index_paths", "inode",
        "is_gone", "limit", "offsets", "path", "size",
    )  # fmt: skip

    def __init__(self, path: str, closed_ms: int, *index_paths: str) -> None:
        self.path = path
        self.closed_ms = closed_ms  #: 0: the live one
        self.index_paths = index_paths or (logindex.beside(path),)
        self.limit: int | None = None  #: bytes behind this are in the next segment, too
        self.file: IO[bytes] | None = None
        self.is_gone = False
        self.size = self.inode = self.index_inode = 0
        self.offsets: list[int] = []
        self._unix_ns: list[int] = []
        self._starts: list[int] = []
        self._index_file: IO[bytes] | None = None
        self._index_at = -1

    def open(self) -> bool:
        """Open it, if that was not done yet; False when it is not there any more."""
        if self.file is None and not self.is_gone:
            self.file = _open(self.path) or _open_compressed(self.path) or _open(self.path)
            if self.file is None:
                self.is_gone = True
                return False
            self.refresh()
        return not self.is_gone

    def close(self) -> None:
        """Let go of it for good."""
        for file in (self.file, self._index_file):
            if file is not None:
                file.close()
        self.file = self._index_file = None
        self.is_gone = True

    def refresh(self) -> bool:
        """Look how long it is now, and forget the index; True when the length is another one."""
        if self.file is None:
            return False
        before = self.size
        found = os.fstat(self.file.fileno()) if _is_real(self.file) else None
        self.size = self.file.seek(0, os.SEEK_END)
        if self.limit is not None:
            self.size = min(self.size, self.limit)
        if found is not None:
            self.inode = found.st_ino
        if self._index_file is None:
            self._index_file = self._open_index()
            if self._index_file is not None:
                self.index_inode = os.fstat(self._index_file.fileno()).st_ino
        self._index_at = -1
        self.offsets, self._unix_ns, self._starts = [], [], []
        return self.size != before

    def _open_index(self) -> IO[bytes] | None:
        found = next(filter(None, map(_open, self.index_paths)), None)
        is_live = not self.closed_ms and len(self.index_paths) == 1
        if found is None or not is_live or _inode(self.path) == self.inode:
            return found
        # Closed since we opened it: the index under that name is the next segment's.
        found.close()
        directory, name = os.path.split(self.path)
        stream = name.removesuffix(".log")
        for ms in reversed(_closed(_names(directory), stream)):
            path = f"{directory}/{stream}-{ms}.log"
            if _inode(path) == self.inode:
                return _open(logindex.beside(path))
        return None

    def first_ns(self) -> int:
        """Return the date of the first byte; 0 where no index tells. Does not unpack a segment for it."""
        if self.file is None and not self.closed_ms:
            self.open()
        kept = self._index_file
        file = kept or next(filter(None, map(_open, self.index_paths)), None)
        if file is None:
            return 0
        try:
            file.seek(0)
            records = logindex.decode(file.read(logindex.SIZE))
        finally:
            if file is not kept:
                file.close()
        return records[0][1] if records else 0

    def read(self, at: int, count: int) -> bytes:
        """Return up to ``count`` bytes from ``at``."""
        if self.file is None or at >= self.size:
            return b""
        self.file.seek(at)
        return self.file.read(min(count, self.size - at))

    # The index is read from its end, in blocks: a segment of short lines has 100,000 records, the tail needs ten.

    def _load(self) -> bool:
        """Load one more block of the index, towards its beginning; False when there is no more."""
        if self._index_at == 0 or not self.open():
            return False
        data = self._earlier_block()
        kept: list[tuple[int, int, int]] = []
        # A later record is right about the bytes from its offset on. Records behind the end of the file
        # are about bytes that moved to the next segment.
        lowest = self.offsets[0] if self.offsets else max(1, self.size)
        for record in reversed(logindex.decode(data)):
            if record[0] < lowest:
                kept.append(record)
                lowest = record[0]
        kept.reverse()
        if self._index_at == 0 and lowest > 0:
            kept.insert(0, (0, self._oldest_ns(kept), 0))
        # An unknown life (a logger that had just been restarted) is most likely the one before.
        lives = []
        start = 0
        for _, _, number in kept:
            start = number or start
            lives.append(start)
        for at, number in enumerate(self._starts):
            if number:
                break
            self._starts[at] = start
        self.offsets[:0] = [offset for offset, _, _ in kept]
        self._unix_ns[:0] = [unix_ns for _, unix_ns, _ in kept]
        self._starts[:0] = lives
        return True

    def _earlier_block(self) -> bytes:
        if self._index_file is None:
            self._index_at = 0
            return b""
        if self._index_at < 0:
            end = self._index_file.seek(0, os.SEEK_END)
            self._index_at = end - end % logindex.SIZE
        high, self._index_at = self._index_at, max(0, self._index_at - _INDEX_BLOCK)
        self._index_file.seek(self._index_at)
        return self._index_file.read(high - self._index_at)

    def _oldest_ns(self, kept: list[tuple[int, int, int]]) -> int:
        """Return the nearest date for bytes in front of the first record."""
        if kept:
            return kept[0][1]
        if self._unix_ns:
            return self._unix_ns[0]
        if self.file is not None and _is_real(self.file):
            return os.fstat(self.file.fileno()).st_mtime_ns
        if self.closed_ms:
            return self.closed_ms * 1_000_000
        return 0

    def _reach(self, offset: int) -> None:
        """Load the index as far as ``offset`` and the number of the life there need it."""
        while not self.offsets or self.offsets[0] > offset or not self._starts[0]:
            if not self._load():
                return

    def stamps(self, offset: int) -> tuple[list[int], list[int], list[int]]:
        """Return the index (offsets, dates, lives), complete from ``offset`` on."""
        self._reach(offset)
        return self.offsets, self._unix_ns, self._starts

    def life_at(self, offset: int) -> int:
        """Return the number of the life that wrote the byte at ``offset``; 0 when unknown."""
        self._reach(offset)
        at = bisect_right(self.offsets, offset) - 1
        return self._starts[at] if at >= 0 else 0

    def end_of(self, until_s: float | None, start: int | None) -> int:
        """Return the offset behind the last bytes that came until then and in that life; 0 when there are none."""
        self._reach(self.size)
        at = len(self.offsets) - 1
        while True:
            while at >= 0:
                if (until_s is None or self._unix_ns[at] / 1e9 <= until_s) and (
                    start is None or self._starts[at] == start
                ):
                    return self.offsets[at + 1] if at + 1 < len(self.offsets) else self.size
                at -= 1
            before = len(self.offsets)
            if self._index_at == 0:
                return 0
            self._load()
            while not self._starts[0] and self._load():
                pass
            at = len(self.offsets) - before - 1

    def first_since(self, since_s: float) -> int:
        """Return the offset of the first bytes that came at ``since_s`` or later; the size when none did."""
        self._reach(0)
        found = (
            o for o, ns in zip(self.offsets, self._unix_ns, strict=True) if ns / 1e9 >= since_s
        )
        return next(found, self.size)


def _is_real(file: IO[bytes]) -> bool:
    """Whether it is the segment itself, and not what was unpacked from it."""
    return not isinstance(file, tempfile.SpooledTemporaryFile)


def _open(path: str) -> IO[bytes] | None:
    try:
        return open(path, "rb", buffering=0)
    except OSError:
        return None


def _open_compressed(path: str) -> IO[bytes] | None:
    file = _open(path + ".gz")
    if file is None:
        return None
    target = tempfile.SpooledTemporaryFile(max_size=_SPOOL)
    unpacker = zlib.decompressobj(_GZIP_FORMAT)
    with file:
        try:
            while block := file.read(_CHUNK):
                target.write(unpacker.decompress(block))
        except (OSError, zlib.error):
            pass  # damaged: what is before the damage is still worth reading
    return target


def _segments(directory: str, stream: str) -> list[_Segment]:
    """Return the segments of a stream, oldest first; the live one is open, so no rotation takes it away.

    One look at a directory in which files are being renamed may miss any of them; in two looks none is missed that was
    there before the first one ended.
    """
    while True:
        names = _names(directory)
        found = _live(directory, stream, names)
        live = found[-1] if found else None
        if live is not None and not live.open():
            continue  # closed between our look and our opening it
        newest = max(_closed(names, stream), default=0)
        seen = names | _names(directory)
        is_live = _inode(f"{directory}/{stream}.log") == (live.inode if live else 0)
        if not is_live:
            seen |= _names(directory)  # it was closed meanwhile: it tells which ones are older
        closed = _closed(seen, stream)
        newer = [ms for ms in closed if ms > newest]
        older: list[int] | None
        if _cuts(names, stream):
            older = None if newer else []
        elif is_live:
            older = newer if live else None if newer else []
        else:
            older = _before(directory, stream, live, newer) if live else None
        if older is not None:
            sure = [*(ms for ms in closed if ms <= newest), *older]
            return [*(_Segment(f"{directory}/{stream}-{ms}.log", ms) for ms in sure), *found]
        _close(found)


def _before(directory: str, stream: str, live: _Segment, closed: list[int]) -> list[int] | None:
    """Return those closed segments that are older than one which was live when it was opened; None: it is not among them."""
    for at, ms in enumerate(closed):
        path = f"{directory}/{stream}-{ms}.log"
        index = _inode(logindex.beside(path))
        if _inode(path) == live.inode or (index and index == live.index_inode):
            return closed[:at]
    return None


def _live(directory: str, stream: str, names: set[str]) -> list[_Segment]:
    """Return the live segment; two where the logger was killed while it closed one (see logger/rotate.py)."""
    path = f"{directory}/{stream}.log"
    found = []
    cuts = _cuts(names, stream)
    is_there = f"{stream}.log" in names
    for ms, at in cuts:
        if is_there and ms not in _closed(names, stream):
            old = _Segment(
                path, 0, logindex.beside(f"{directory}/{stream}-{ms}.log"), logindex.beside(path)
            )
            old.limit = at
            if old.open():
                found.append(old)
        cut = _Segment(
            f"{directory}/{stream}.cut-{ms}-{at}",
            0,
            logindex.beside(f"{directory}/{stream}.tail"),
            logindex.beside(path),
        )
        if cut.open():
            found.append(cut)
    if not cuts and is_there:
        found.append(_Segment(path, 0))
    return found


def _names(directory: str) -> set[str]:
    try:
        return set(os.listdir(directory))
    except OSError:
        return set()


def _closed(names: set[str], stream: str) -> list[int]:
    matches = filter(None, map(_CLOSED.fullmatch, names))
    return sorted({int(match[2]) for match in matches if match[1] == stream})


def _cuts(names: set[str], stream: str) -> list[tuple[int, int]]:
    matches = filter(None, map(_CUT.fullmatch, names))
    return sorted((int(match[2]), int(match[3])) for match in matches if match[1] == stream)


def _inode(path: str) -> int:
    try:
        return os.stat(path).st_ino
    except OSError:
        return 0


def _close(segments: Iterable[_Segment]) -> None:
    for segment in segments:
        segment.close()


# -- lines -----------------------------------------------------------------------------------------


class _Raw(NamedTuple):
    """A line as it is in the files."""

    unix_ns: int
    start: int
    data: bytes
    begin: tuple[int, int]  #: number of the segment, offset
    end: tuple[int, int]  #: behind its line end


def _raw_lines(
    segments: list[_Segment], first: int, offset: int, *, whole: bool = False
) -> Iterator[_Raw]:
    """Yield the lines from a place where a line begins; with ``whole`` not the one that has no end yet."""
    pending = b""
    unix_ns = start = 0
    begin = (first, offset)
    for number in range(first, len(segments)):
        segment = segments[number]
        if not segment.open():
            continue
        at = offset if number == first else 0
        offsets, dates, lives = segment.stamps(at)
        breaks = _breaks(offsets, lives, start if pending else 0)
        if pending and start and segment.life_at(at) not in (0, start):
            yield _Raw(unix_ns, start, pending, begin, (number, at))
            pending = b""
        record, next_break = max(0, bisect_right(offsets, at) - 1), bisect_left(breaks, at)
        while data := segment.read(at, _CHUNK):
            k, count = 0, len(data)
            while k < count:
                here = at + k
                is_break = next_break < len(breaks) and breaks[next_break] == here
                if pending and start and is_break:
                    yield _Raw(unix_ns, start, pending, begin, (number, here))
                    pending = b""
                if not pending:
                    while record + 1 < len(offsets) and offsets[record + 1] <= here:
                        record += 1
                    unix_ns, start, begin = dates[record], lives[record], (number, here)
                while next_break < len(breaks) and breaks[next_break] <= here:
                    next_break += 1
                # Where the life of a line's beginning is not known, nobody can say that another one ends it.
                break_at = breaks[next_break] - at if start and next_break < len(breaks) else count
                end, follows = _piece(data, k, LONGEST - len(pending), break_at)
                pending += data[k:end]
                k = follows
                if k < count or end < count:
                    yield _Raw(unix_ns, start, pending, begin, (number, at + k))
                    pending = b""
            at += count
    if pending and not whole:
        yield _Raw(unix_ns, start, pending, begin, (len(segments), 0))


def _piece(data: bytes, k: int, room: int, break_at: int) -> tuple[int, int]:
    """Return where the line that is at ``k`` ends in this block, and where the next one begins.

    Both are the end of the block when the line goes on behind it.
    """
    line_end = data.find(b"\n", k, k + room + 1)
    end = line_end if line_end >= 0 else min(k + room, len(data))
    if break_at <= end and break_at < len(data):
        # Another life began in the middle of this line: the one before it was killed in it.
        return break_at, break_at
    return end, end + (line_end >= 0)


def _breaks(offsets: list[int], lives: list[int], carried: int) -> list[int]:
    """Return the offsets at which another life begins.

    Args:
        offsets: Of the index records.
        lives: Their numbers; 0 where it is not known (only the first ones).
        carried: The life of the line that goes on from the segment before; 0: there is none.
    """
    found = []
    before = carried
    for k, (offset, life) in enumerate(zip(offsets, lives, strict=True)):
        if k and before and life not in (0, before):
            found.append(offset)
        before = life or before
    return found


def _end(segments: list[_Segment], until_s: float | None, start: int | None) -> tuple[int, int]:
    """Return the place behind the last line that came until then, in that life."""
    for number in range(len(segments) - 1, -1, -1):
        if segments[number].open():
            if until_s is None and start is None:
                return (number, segments[number].size)
            offset = segments[number].end_of(until_s, start)
            if offset:
                return (number, offset)
    return (0, 0)


def _back(segments: list[_Segment], end: tuple[int, int], window: int) -> tuple[int, int] | None:
    """Return the first place in the last ``window`` bytes before ``end`` where a line begins; None when there is none."""
    number, offset = end
    while window > offset and number > 0:
        window -= offset
        number -= 1
        offset = segments[number].size if segments[number].open() else 0
    if window >= offset:
        return (0, 0)
    offset -= window
    while (number, offset) < end:
        while data := segments[number].read(offset - 1 if offset else 0, _CHUNK):
            hit = data.find(b"\n")
            if hit >= 0:
                found = (number, max(0, offset - 1) + hit + 1)
                return found if found < end else None
            offset = max(0, offset - 1) + len(data) + 1
        number, offset = number + 1, 0
        if number >= len(segments) or not segments[number].open():
            return None
    return None


def _line_begin(segments: list[_Segment], number: int, offset: int) -> tuple[int, int]:
    """Return where the line begins in which this place is."""
    while True:
        high = offset
        if number < len(segments) and segments[number].open():
            while high > 0:
                low = max(0, high - _CHUNK)
                hit = segments[number].read(low, high - low).rfind(b"\n")
                if hit >= 0:
                    return (number, low + hit + 1)
                high = low
        if number == 0:
            return (0, 0)
        # The line may have begun in the segment before (one that was closed in the middle of a very long line).
        before = segments[number - 1]
        if before.open() and before.size and before.read(before.size - 1, 1) == b"\n":
            return (number, 0)
        number -= 1
        offset = before.size if before.open() else 0


# -- following -------------------------------------------------------------------------------------


class _Follower:
    """Where we are in a stream: the open segments with lines that were not given out yet."""

    def __init__(self, directory: str, worker: str, stream: str) -> None:
        self.directory, self.worker, self.stream = directory, worker, stream
        self.segments = _segments(directory, stream)
        self.newest_ms = max((s.closed_ms for s in self.segments), default=0)
        self.is_behind = False  #: more was closed than one look takes
        self.at = _line_begin(self.segments, *_end(self.segments, None, None))

    def last(self, lines: int) -> list[Line]:
        """Return the lines before the place where following begins; call it first."""
        found = _tail(self.segments, self.at, self.worker, self.stream, lines) if lines > 0 else []
        self._drop_done()
        return found

    def fresh(self) -> list[Line]:
        """Return the whole lines that came since the last call."""
        is_new = self._find_new()
        changed = [segment.refresh() for segment in self.segments]
        if not (is_new or any(changed)):
            return []
        if not is_new and self._was_emptied():
            self.at = (0, 0)
        time.sleep(_SETTLE_S)
        for segment in self.segments:
            size = segment.size
            segment.refresh()
            segment.size = min(size, segment.size)
        number, offset = self.at
        while number + 1 < len(self.segments) and offset > self.segments[number].size:
            # Its torn last line moved to the next segment, after we had given out a piece of it.
            offset -= self.segments[number].size
            number += 1
        found = []
        for raw in _raw_lines(self.segments, number, offset, whole=True):
            found.append(_line(raw, self.worker, self.stream))
            number, offset = raw.end
        self.at = (number, offset)
        self._drop_done()
        return found

    def close(self) -> None:
        """Let go of the files."""
        _close(self.segments)

    def _was_emptied(self) -> bool:
        """Whether somebody made the live segment shorter: then its content is new from the beginning."""
        if len(self.segments) != 1 or self.segments[0].size >= self.at[1]:
            return False
        # The logger, too, cuts a torn end off, just before it closes the segment: that is not meant.
        is_being_closed = bool(_cuts(_names(self.directory), self.stream))
        return not is_being_closed and _inode(self.segments[0].path) == self.segments[0].inode

    def _find_new(self) -> bool:
        """Add the segments that came after the newest we know, a batch at most; False when there are none yet.

        One look at a directory in which files are being renamed may miss any of them. Two looks may not: what was closed
        before the first one ended is in one of them, under one name or the other. So all closed segments up to
        the newest of the first look are sure, however fast others follow; the live one is if none did follow.
        """
        path = f"{self.directory}/{self.stream}.log"
        live = self.segments[-1] if self.segments else None
        if live is not None and not live.closed_ms and _inode(path) == live.inode:
            return False
        before = _names(self.directory)
        fresh = _Segment(path, 0)
        is_open = not _cuts(before, self.stream) and fresh.open()
        after = _names(self.directory)
        sure = _closed(before, self.stream)[-1:]
        closed = [ms for ms in _closed(before | after, self.stream) if ms > self.newest_ms]
        batch = [ms for ms in closed if ms <= sure[0]]
        self.is_behind = len(batch) > _BATCH
        batch = batch[:_BATCH]
        new = self._unknown(batch)
        self.newest_ms = max([self.newest_ms, *batch])
        if is_open and batch == closed and not _cuts(after, self.stream):
            new.append(fresh)
        else:
            fresh.close()  # closed while we looked, or not its turn yet
        self.segments += new
        return bool(new)

    def _unknown(self, closed: list[int]) -> "list[_Segment]":
        """Return those of the closed segments that are still there and were not the live one when we read them."""
        known = {segment.index_inode for segment in self.segments} - {0}
        inodes = {segment.inode for segment in self.segments} - {0}
        new = []
        for ms in closed:
            path = f"{self.directory}/{self.stream}-{ms}.log"
            if _inode(logindex.beside(path)) not in known and _inode(path) not in inodes:
                segment = _Segment(path, ms)
                if segment.open():
                    new.append(segment)
        return new

    def _drop_done(self) -> None:
        """Close the segments that hold nothing more for us."""
        number, offset = self.at
        while number < len(self.segments) - 1 and offset >= self.segments[number].size:
            number, offset = number + 1, 0
        number = min(number, max(0, len(self.segments) - 1))
        _close(self.segments[:number])
        self.segments = self.segments[number:]
        self.at = (0, offset)
