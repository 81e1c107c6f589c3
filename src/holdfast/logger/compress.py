"""Compress one closed log segment: a process of its own, the least important one of the machine.

Started by the logger as ``python -I -S compress.py PATH``. Makes ``PATH.gz.tmp``, renames it to ``PATH.gz``, then
removes PATH: killed at any point, either the plain or the compressed segment is there and complete. Two
of these on one segment (the logger was killed and started another) are kept apart by a lock on the plain file.
"""

import fcntl
import os
import sys
import zlib

_CHUNK = 256 * 1024
#: Level 3 of 9: about three times as fast as the usual 6 and 10 % larger on log text. The disk that is
#: saved must not cost the CPU that the workers need.
_LEVEL = 3
_GZIP_FORMAT = 31  # 15 bits of window, and 16 for "gzip header"


def main(path: str) -> int:
    """Compress ``path``; 0 when it is compressed or somebody else is at it."""
    os.nice(19)
    try:
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
        with open("/proc/self/oom_score_adj", "wb", buffering=0) as file:
            file.write(b"500")
    except OSError:
        pass  # a courtesy to the others; the work itself does not depend on it
    try:
        source = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return 0  # dropped meanwhile, or done by another
    try:
        fcntl.flock(source, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return 0
    status = os.fstat(source)
    if not status.st_nlink:
        return 0  # another one was just done with it
    temporary = path + ".gz.tmp"
    target = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        os.fchmod(target, status.st_mode & 0o7777)
        _stream(source, target)
        os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns))
        # The plain segment is removed next: without this a power cut could take both.
        os.fsync(target)
    except OSError as error:
        _unlink(temporary)
        sys.stderr.write(f"holdfast: cannot compress {path}: {error.strerror}\n")
        return 1
    try:
        os.rename(temporary, path + ".gz")
    except FileNotFoundError:
        return 0  # the segment was dropped while we were at it
    _unlink(path)
    return 0


def _unlink(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass  # dropped by the logger: only so many are kept


def _stream(source: int, target: int) -> None:
    packer = zlib.compressobj(_LEVEL, zlib.DEFLATED, _GZIP_FORMAT)
    while block := os.read(source, _CHUNK):
        _write(target, packer.compress(block))
    _write(target, packer.flush())


def _write(target: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(target, view) :]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
