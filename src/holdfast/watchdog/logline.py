"""Has a worker written a certain line since its life began?

Plain words are searched here. A pattern with special characters is searched by this very file run as a process of its own
that follows the log: a regular expression can run for ever, and one in somebody's configuration must not be able
to stop the watchdog.
"""

import sys
import time

if __name__ == "__main__":
    sys.path.insert(0, __file__.rsplit("/", 3)[0])

from holdfast.linux import system as os

_SPECIAL = frozenset("\\^$.|?*+()[]{}")
_CHUNK = 1 << 18
_POLL_S = 0.05
_STREAMS = ("out.log", "err.log")
#: Index record before which the bytes of this life begin: see wire/logindex.py.
_LONGEST_LINE = 8192


def is_plain(pattern: str) -> bool:
    """Whether a pattern means just itself."""
    return not _SPECIAL.intersection(pattern)


def begins_at(path: str, n: int) -> "int | None":
    """Return the offset at which life ``n`` begins in a log segment; None when it has written nothing yet."""
    from holdfast.linux import files
    from holdfast.wire import logindex

    for offset, _, start in logindex.decode(files.read(logindex.beside(path))):
        if start >= n:
            return offset
    return None


def find(directory: str, n: int, words: bytes, at: "dict[str, int]") -> bool:
    """Search what is new in both logs; ``at`` keeps the places."""
    for name in _STREAMS:
        path = f"{directory}/{name}"
        offset = at.get(name)
        if offset is None:
            offset = begins_at(path, n)
            if offset is None:
                continue
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            continue
        try:
            if os.fstat(descriptor).st_size < offset:
                offset = 0  # a new segment was begun
            data = os.pread(descriptor, _CHUNK, offset)
        finally:
            os.close(descriptor)
        if words in data:
            return True
        # The words may be cut in two by the end of what is there.
        at[name] = offset + max(0, len(data) - len(words) + 1)
    return False


def _follow(directory: str, n: int, pattern: str) -> int:
    search = __import__("re").compile(pattern.encode()).search
    at: dict[str, int] = {}
    parent = os.getppid()
    while os.getppid() == parent:  # whoever asked is gone: so is the question
        for name in _STREAMS:
            path = f"{directory}/{name}"
            offset = at.get(name, begins_at(path, n))
            if offset is None or not os.path.exists(path):
                continue
            with open(path, "rb") as file:
                if os.fstat(file.fileno()).st_size < offset:
                    offset = 0  # a new segment was begun
                file.seek(offset)
                data = file.read(_CHUNK)
            whole = data.rfind(b"\n") + 1 or (len(data) if len(data) > _LONGEST_LINE else 0)
            if any(search(line) for line in data[:whole].split(b"\n")):
                return 0
            at[name] = offset + whole
        time.sleep(_POLL_S)  # a file has no descriptor to wait on
    return 1


if __name__ == "__main__":
    sys.exit(_follow(sys.argv[1], int(sys.argv[2]), sys.argv[3]))
