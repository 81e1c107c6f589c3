"""Which file does an address mean, and is it really inside the directory that is served?

Names are checked part by part, and then what was *opened* is asked where it lies (/proc/self/fd): between looking and
opening nothing can be exchanged, and no symbolic link leads out. A hidden name (".env", ".git") is not there,
but for ".well-known" (RFC 8615).
"""

import os
import stat
from typing import NamedTuple

from holdfast.router.web.head import Refused

_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY


class Opened(NamedTuple):
    """An open file or directory; whoever has it closes it."""

    fd: int
    path: str
    is_directory: bool
    size: int
    mtime_ns: int


def parts_of(rest: str) -> list[str]:
    """The names in the path below a service. Empty parts ("//", a slash at the end) are left out.

    Raises:
        Refused: 404, a part is hidden or leads upwards.
    """
    parts = [part for part in rest.split("/") if part]
    for index, part in enumerate(parts):
        if part.startswith(".") and not (index == 0 and part == ".well-known"):
            raise not_there()
        if "\0" in part:
            raise not_there()
    return parts


def open_below(root: str, parts: list[str]) -> Opened:
    """Open what `parts` name below `root`, which is a real path.

    Raises:
        Refused: 404 for what is not there, no file or directory, or outside; 403 for what we may not read.
    """
    wanted = os.path.join(root, *parts)
    try:
        fd = os.open(wanted, _FLAGS)
    except (FileNotFoundError, NotADirectoryError):
        raise not_there() from None
    except PermissionError:
        raise Refused(403, "The router may not read this file.") from None
    except (OSError, ValueError):
        # Too long a name, a loop of links, a socket, surrogates.
        raise not_there() from None
    try:
        found = os.fstat(fd)
        is_directory = stat.S_ISDIR(found.st_mode)
        real = os.readlink(f"/proc/self/fd/{fd}")
        inside = real == root or real.startswith(root.rstrip("/") + "/")
        if not inside or not (is_directory or stat.S_ISREG(found.st_mode)):
            raise not_there()
    except BaseException:
        os.close(fd)
        raise
    return Opened(fd, wanted, is_directory, found.st_size, found.st_mtime_ns)


def not_there() -> Refused:
    """There is no such file, or none that anybody is told of."""
    return Refused(404, "There is no such file.")
