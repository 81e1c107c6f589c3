"""Close a log segment at the end of a line, so that no line is lost, torn or doubled, whenever we are killed.

``splice`` cannot see line ends, so a segment that has reached its size ends in the middle of a line, as a
rule. That line's beginning (the *tail*) has to move to the next segment. What is on disk for the stream ``out``::

    out.log, .out.log.idx                 the live segment and its index
    out-<ms>.log[.gz], .out-<ms>.log.idx  closed ones; <ms> grows strictly, also when the clock is set back
    out.tail, .out.tail.idx               being made: the tail and its index
    out.cut-<ms>-<at>                    the tail, complete: from here on the rotation has happened

The steps, and what ``recover`` does after a SIGKILL right behind each:

1. ``.out.tail.idx`` and ``out.tail`` are written.  Killed: out.log is untouched; both are thrown away.
2. ``out.tail`` is renamed to ``out.cut-<ms>-<at>``. **The one instant at which it is decided.** Before it out.log
   holds every byte; after it every byte before <at> is in out.log and every byte behind it is in the cut.
3. ``.out.log.idx`` -> ``.out-<ms>.log.idx``.        Killed: the closed index is there, so it is not done again.
4. out.log is truncated to <at>.                   Killed: truncating it once more changes nothing.
5. out.log -> ``out-<ms>.log``.                    Killed: the closed segment is there, so 3 to 5 are skipped.
6. ``.out.tail.idx`` -> ``.out.log.idx``.            Killed: .out.tail.idx is gone, so 3 and 6 are skipped.
7. the cut -> ``out.log``.                         Killed: there is no cut, so there is nothing to do.

Nobody moves bytes to out.log between 2 and 7: the logger has one thread and calls ``recover`` before it opens a
segment. So each byte is in exactly one segment in the order in which it was written, and the segments
end where lines end. Power cuts are another matter: nothing here waits for the disk.

A line longer than a whole segment has no end to cut at. Then the segment grows, to LONG_LINE times its size at
most; behind that the line is cut in the middle (the reader joins what follows a closed segment without a line end).
"""

from holdfast.linux import system as os
from holdfast.wire import logindex

#: How far a segment without any line end may grow, in multiples of its size.
LONG_LINE = 8
#: Logs may hold secrets: the group may read them, nobody else.
MODE = 0o640
_BLOCK = 64 * 1024
_LOG, _GZIP, _INDEX, _TEMPORARY = ".log", ".gz", ".idx", ".tmp"


def live(directory: str, stream: str) -> str:
    """Path of the segment that is being written."""
    return f"{directory}/{stream}{_LOG}"


def closed(directory: str, stream: str, unix_ms: int) -> str:
    """Path of a closed segment, uncompressed."""
    return f"{directory}/{stream}-{unix_ms}{_LOG}"


def closed_ms(name: str, stream: str) -> int:
    """Return when the segment with this file name was closed; 0 when it is not a closed segment of the stream."""
    name = name.removesuffix(_GZIP)
    digits = name[len(stream) + 1 : -len(_LOG)]
    return int(digits) if name == f"{stream}-{digits}{_LOG}" and digits.isdigit() else 0


def find_cut(descriptor: int, size: int, searched: int) -> int:
    """Return the offset behind the last line end in [searched, size); 0 when there is none.

    Raises:
        OSError: The file cannot be read.
    """
    high = size
    while high > searched:
        low = max(searched, high - _BLOCK)
        hit = os.pread(descriptor, high - low, low).rfind(b"\n")
        if hit >= 0:
            return low + hit + 1
        high = low
    return 0


def close_segment(directory: str, stream: str, size: int, at: int, unix_ms: int) -> None:
    """Close the live segment of ``size`` bytes at offset ``at``; what is behind begins the next one.

    Raises:
        OSError: Disk full, directory gone, …; ``recover`` has to be called before the segment is opened again.
    """
    path = live(directory, stream)
    tail = f"{directory}/{stream}.tail"
    _write(logindex.beside(tail), _tail_index(logindex.beside(path), at, size))
    _copy(path, at, size, tail)
    os.rename(tail, f"{directory}/{stream}.cut-{unix_ms}-{at}")
    _finish(directory, stream, unix_ms, at)


def recover(directory: str, stream: str) -> "tuple[list[int], list[int]]":
    """Finish what a killed predecessor left half done.

    Returns:
        When the closed segments were closed, oldest first; and those among them that are not compressed.

    Raises:
        OSError: The directory is gone, read-only, …
    """
    names = os.listdir(directory)
    prefix = f"{stream}.cut-"
    cuts = [name for name in names if name.startswith(prefix)]
    for name in cuts:
        unix_ms, _, at = name[len(prefix) :].partition("-")
        if unix_ms.isdigit() and at.isdigit():
            _finish(directory, stream, int(unix_ms), int(at))
    if cuts:
        names = os.listdir(directory)
    for name in (f"{stream}.tail", f".{stream}.tail.idx"):
        if name in names:
            _unlink(f"{directory}/{name}")
    plain = {ms for name in names if name.endswith(_LOG) and (ms := closed_ms(name, stream))}
    compressed = {ms for name in names if name.endswith(_GZIP) and (ms := closed_ms(name, stream))}
    for ms in plain & compressed:
        # The compressed one appears by one rename, complete; the child was killed before it removed the plain one.
        _unlink(closed(directory, stream, ms))
    for name in names:
        # Made for a segment that is not there (any more): what only a kill in the middle of a removal leaves.
        segment = name[1:].removesuffix(_INDEX) if name.startswith(".") else name
        ms = (
            closed_ms(segment.removesuffix(_GZIP + _TEMPORARY), stream)
            if segment != name or name.endswith(_TEMPORARY)
            else 0
        )
        if ms and ms not in plain and ms not in compressed:
            _unlink(f"{directory}/{name}")
    return sorted(plain | compressed), sorted(plain - compressed)


def drop(directory: str, stream: str, unix_ms: int) -> int:
    """Remove a closed segment and all that belongs to it; return how many bytes that frees."""
    path = closed(directory, stream, unix_ms)
    # The index goes last: left alone by a kill, it is what recover looks for.
    parts = [path + suffix for suffix in (_GZIP + _TEMPORARY, _GZIP, "")]
    return sum(_unlink(part) for part in [*parts, logindex.beside(path)])


def _finish(directory: str, stream: str, unix_ms: int, at: int) -> None:
    """Carry out steps 3 to 7, as far as they are not done yet."""
    path = live(directory, stream)
    target = closed(directory, stream, unix_ms)
    tail_index = logindex.beside(f"{directory}/{stream}.tail")
    has_tail_index = os.path.exists(tail_index)
    if not os.path.exists(target):
        if has_tail_index and not os.path.exists(logindex.beside(target)):
            _rename_if_there(logindex.beside(path), logindex.beside(target))
        try:
            os.truncate(path, at)
        except FileNotFoundError:
            pass  # somebody removed it; its bytes are gone, those behind the cut are not
        else:
            os.rename(path, target)
    if has_tail_index:
        os.rename(tail_index, logindex.beside(path))
    os.rename(f"{directory}/{stream}.cut-{unix_ms}-{at}", path)


def _tail_index(path: str, at: int, size: int) -> bytes:
    """Return the index of the tail: the records behind ``at``, and the one that covers its beginning."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return b""
    found: list[tuple[int, int, int]] = []
    try:
        high = os.fstat(descriptor).st_size // logindex.SIZE * logindex.SIZE
        while high > 0 and (not found or found[0][0] > at):
            low = max(0, high - 64 * logindex.SIZE)
            found = logindex.decode(os.pread(descriptor, high - low, low)) + found
            high = low
    finally:
        os.close(descriptor)
    before = [record for record in found if record[0] <= at][-1:]
    behind = [record for record in found if at < record[0] < size]
    if size == at:
        return b""
    return b"".join(logindex.encode(max(0, o - at), ns, start) for o, ns, start in before + behind)


def _copy(source: str, at: int, size: int, target: str) -> None:
    descriptor = os.open(source, os.O_RDONLY | os.O_CLOEXEC)
    try:
        out = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, MODE)
        try:
            while at < size:
                copied = os.sendfile(out, descriptor, at, size - at)
                if not copied:
                    raise OSError(5, "the segment became shorter while it was being closed", source)
                at += copied
        finally:
            os.close(out)
    finally:
        os.close(descriptor)


def _write(path: str, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, MODE)
    try:
        if os.write(descriptor, data) != len(data):
            raise OSError(28, "No space left on device", path)
    finally:
        os.close(descriptor)


def _rename_if_there(source: str, target: str) -> None:
    try:
        os.rename(source, target)
    except FileNotFoundError:
        pass  # a segment without an index: it is only less well dated


def _unlink(path: str) -> int:
    try:
        size = os.stat(path).st_size
        os.unlink(path)
    except FileNotFoundError:
        return 0
    return size
