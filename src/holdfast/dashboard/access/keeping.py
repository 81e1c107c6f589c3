"""Where are sessions and one-time links kept? One file each, named by the SHA-256 of the secret, under ``STATE/dashboard``.

The file is the truth: whoever removes it ends the session at once, a dashboard that is killed signs nobody out, and who reads the directory learns no
secret that opens anything. A full disk must not lock out those who come because of it: what does not fit is kept in the run directory, in memory,
as long as the node runs. Left out: who gets one.
"""

import errno
import getpass
import hashlib
import os
import secrets

from holdfast.linux import files
from holdfast.wire import layout
from holdfast.wire.jsonlite import dumps, loads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from holdfast.dashboard.access.rules import Role

DIRECTORY = "dashboard"
#: So long a one-time link may be used.
LINK_S = 600.0
#: Beyond these the oldest session ends: a script that signs in again and again must not fill the disk.
MOST_SESSIONS = 1000
_SESSIONS, _LINKS = "sessions", "links"
#: The disk takes nothing.
_FULL = frozenset((errno.ENOSPC, errno.EDQUOT, errno.EROFS))


def directory(home: str, *more: str) -> str:
    """Return the directory of the dashboard, or one in it, made for nobody but the owner."""
    path = os.path.join(home, DIRECTORY)
    for part in ("", *more):
        path = os.path.join(path, part) if part else path
        os.makedirs(path, mode=0o700, exist_ok=True)
    return path


def name_of(secret: str) -> str:
    """Return the name of the file of a secret."""
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).hexdigest()


def make_link(state_dir: str, role: "Role", now_unix_s: float, for_s: float = LINK_S) -> str:
    """Return a secret that signs in once.

    Args:
        state_dir: The node's state directory.
        role: What it allows.
        now_unix_s: The time.
        for_s: How long it may be used, in seconds.

    Raises:
        OSError: It cannot be written down.
    """
    kept = {"user": _account(), "role": role, "expires_unix_s": now_unix_s + for_s}
    return _keep(state_dir, _LINKS, kept, now_unix_s)


def take_link(state_dir: str, secret: str, now_unix_s: float) -> "dict[str, Any] | None":
    """Use up a link; None when there is none like this, or it is too old.

    Of two who come with the same one, only one can remove its file.
    """
    for path in _paths(state_dir, _LINKS, name_of(secret)):
        kept = _read(path)
        try:
            os.unlink(path)
        except OSError:
            continue
        return kept if kept is not None and kept["expires_unix_s"] > now_unix_s else None
    return None


def make_session(state_dir: str, kept: "dict[str, Any]", now_unix_s: float) -> str:
    """Write a session down and return the secret for its cookie.

    Raises:
        OSError: It cannot be written down.
    """
    return _keep(state_dir, _SESSIONS, kept, now_unix_s, MOST_SESSIONS)


def read_session(state_dir: str, name: str, now_unix_s: float) -> "dict[str, Any] | None":
    """Return what is known of a session; None when it is over."""
    found = (_read(path) for path in _paths(state_dir, _SESSIONS, name))
    kept = next((one for one in found if one is not None), None)
    return kept if kept is not None and kept["expires_unix_s"] > now_unix_s else None


def end_session(state_dir: str, name: str) -> None:
    """Remove a session that may be over already."""
    for path in _paths(state_dir, _SESSIONS, name):
        _remove(path)


def _paths(state_dir: str, kind: str, name: str) -> "Iterator[str]":
    """Give the places where a secret may be kept."""
    for home in (state_dir, f"{state_dir}/{layout.RUN_LINK}"):
        yield f"{home}/{DIRECTORY}/{kind}/{name}"


def _keep(state_dir: str, kind: str, kept: "dict[str, Any]", now_unix_s: float, most: int = 100) -> str:  # fmt: skip
    """Write something down under a new secret, and return that."""
    secret = secrets.token_urlsafe(32)
    spare = f"{state_dir}/{layout.RUN_LINK}"
    for home in (state_dir, spare):
        try:
            path = directory(home, kind)
            _tidy(path, now_unix_s, most - 1)
            files.write_atomic(f"{path}/{name_of(secret)}", dumps(kept).encode())
        except OSError as error:
            # Without a node there is no run directory, and no link to one.
            if home == spare or error.errno not in _FULL or not os.path.isdir(spare):
                raise
        else:
            break
    return secret


def _read(path: str) -> "dict[str, Any] | None":
    try:
        kept = loads(files.read(path).decode())
    except (OSError, ValueError):
        return None
    is_whole = (
        type(kept) is dict
        and type(kept.get("user")) is str
        and kept.get("role") in ("reader", "operator")
        and isinstance(kept.get("expires_unix_s"), int | float)
    )
    return kept if is_whole else None


def _tidy(path: str, now_unix_s: float, most: int = 100) -> None:
    """Remove what is over, and the oldest of what is too many."""
    alive = []
    for entry in os.scandir(path):
        kept = _read(entry.path)
        if kept is not None and kept["expires_unix_s"] > now_unix_s:
            alive.append((kept["expires_unix_s"], entry.path))
        elif (
            kept is not None
            or not entry.name.endswith(".tmp")
            or _is_left_behind(entry, now_unix_s)
        ):
            _remove(entry.path)
    alive.sort()
    for _, old in alive[: max(0, len(alive) - most)]:
        _remove(old)


def _is_left_behind(entry: "os.DirEntry[str]", now_unix_s: float) -> bool:
    """Whether a file that is being written is in truth one whose writer was killed."""
    try:
        return now_unix_s - entry.stat().st_mtime > 3600.0
    except FileNotFoundError:
        return False


def _remove(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass  # somebody else was tidying, too


def _account() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"  # an account without a name, as in many containers
