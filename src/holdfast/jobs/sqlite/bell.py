"""When does it pay to look into the file? The kernel says who writes into its log (inotify), so who waits need not poll.

The sign comes when a commit is being written, a moment before others can see it; with synchronous=FULL there is an fsync in between. So
after a sign the file is looked at each few ms for a while. Where inotify is not to be had (its instances are counted: 128 a user),
there is no bell, and who waits polls all the time.
"""

import os
import time

_IN_MODIFY = 0x2
_IN_NONBLOCK_CLOEXEC = os.O_NONBLOCK | os.O_CLOEXEC
#: So long after a sign the commit that it announced may still not be seen: an fsync on a busy disk.
ECHO_S = 1.0


class Bell:
    """Rings when somebody writes into a file. For one thread at a time."""

    __slots__ = ("_identity", "_path", "descriptor", "echo_until_s", "pid")

    def __init__(self, path: str) -> None:
        self._path = path
        found = os.stat(path)
        self._identity = (found.st_dev, found.st_ino)
        self.descriptor = _watch(path)
        self.echo_until_s = time.monotonic() + ECHO_S
        self.pid = os.getpid()

    def rang(self) -> bool:
        """Say whether it rang since the last call."""
        try:
            return bool(os.read(self.descriptor, 65536))
        except BlockingIOError:
            return False

    def is_good(self) -> bool:
        """Say whether it still hangs at the file of this name, and is not a parent's."""
        try:
            found = os.stat(self._path)
        except FileNotFoundError:
            return False
        return (found.st_dev, found.st_ino) == self._identity and self.pid == os.getpid()

    def close(self) -> None:
        """Take it down."""
        os.close(self.descriptor)


def hang(path: str) -> "Bell | None":
    """Return a bell at a file; None: there can be none."""
    try:
        return Bell(path)
    except OSError:
        return None


def _watch(path: str) -> int:
    import ctypes  # here: only who waits needs it

    libc = ctypes.CDLL(None, use_errno=True)
    descriptor: int = libc.inotify_init1(_IN_NONBLOCK_CLOEXEC)
    if descriptor < 0:
        raise OSError(ctypes.get_errno(), "inotify_init1")
    if libc.inotify_add_watch(descriptor, os.fsencode(path), _IN_MODIFY) < 0:
        number = ctypes.get_errno()
        os.close(descriptor)
        raise OSError(number, "inotify_add_watch")
    return descriptor
