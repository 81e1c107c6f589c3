"""Who is the anchor, the keeper, …: the process that holds the lock.

POSIX record locks, because the kernel drops them at death, they are not inherited by children, and ``F_GETLK``
tells the pid of the holder: there is no pid file that could be stale. The known trap of POSIX locks
(closing *any* descriptor of the file drops them) is avoided by remembering which locks this process took:
it never opens their files a second time. The same path has to be spelled the same way everywhere.
"""

import fcntl
from struct import Struct

from holdfast.linux import system as os

#: struct flock on 64-bit Linux: l_type, l_whence, l_start, l_len, l_pid.
_FLOCK = Struct("hhqqi4x")
_held: "set[str]" = set()


def take(path: str) -> "int | None":
    """Take the lock; None when somebody else has it.

    Returns:
        A descriptor that has to stay open for as long as the lock is wanted.

    Raises:
        OSError: The file cannot be made (permission, full disk, directory gone).
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        os.close(descriptor)
        return None
    _held.add(path)
    return descriptor


def holder(path: str) -> int:
    """Return the pid of the process that holds the lock; 0 when nobody does."""
    if path in _held:
        return os.getpid()
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return 0
    try:
        query = _FLOCK.pack(fcntl.F_RDLCK, os.SEEK_SET, 0, 0, 0)
        kind, _, _, _, pid = _FLOCK.unpack(fcntl.fcntl(descriptor, fcntl.F_GETLK, query))
    except OSError:
        return 0
    finally:
        os.close(descriptor)
    return 0 if kind == fcntl.F_UNLCK else int(pid)


def forget(path: str) -> None:
    """Say that a lock was given up (its descriptor is closed)."""
    _held.discard(path)
