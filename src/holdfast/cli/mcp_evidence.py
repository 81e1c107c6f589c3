"""What of an incident does an assistant get to read: its story, the names of its files, and a piece of one of them?

Only what is inside of the bundle: a file is opened by its plain name in the directory of the bundle, links are not followed, and anything that is no
plain file is not read. What is in there was written by, or about, the application: it is handed on as data.
"""

import os
import re
import stat

from holdfast.diagnosis.story import story
from holdfast.model.errors import StateError
from holdfast.records import incidents as records

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

#: The most that is read at a time.
LARGEST = 64 << 10
ID = r"[0-9][A-Za-z0-9@+._-]{0,120}"
FILE = r"[A-Za-z0-9][A-Za-z0-9._-]{0,120}"
_KEPT = (
    "id", "worker", "component", "kind", "title", "opened_unix_s", "start", "pid", "lived_s", "status_words", "fatal", "findings",
    "restarts", "remedy", "verdict", "changed", "evidence", "damaged",
)  # fmt: skip


class NotThere(Exception):  # noqa: N818 -- reads as what it says
    """There is no such incident, or no such file in it."""


def incident(state_dir: str, name: str) -> "dict[str, Any]":
    """Return the story of an incident, what was found, and the names of its files.

    Raises:
        NotThere: There is none of this name.
    """
    found = _load(state_dir, name)
    path = found["path"]
    timeline = records.timeline_of(path)
    short = {key: found[key] for key in _KEPT if found.get(key) is not None}
    return {**short, "story": story(found, timeline, 0), "timeline": timeline, "files": files(path)}


def last(state_dir: str) -> str:
    """Return the id of the newest incident; "" when there is none."""
    rows = records.list_incidents(state_dir, limit=1)
    return str(rows[0]["id"]) if rows else ""


def files(path: str) -> "list[dict[str, Any]]":
    """Return the plain files of a bundle."""
    with os.scandir(path) as entries:
        found = [
            {"name": entry.name, "bytes": entry.stat(follow_symlinks=False).st_size}
            for entry in entries
            if re.fullmatch(FILE, entry.name) and entry.is_file(follow_symlinks=False)
        ]
    return sorted(found, key=lambda one: str(one["name"]))


def piece(
    state_dir: str, name: str, file: str, offset: int = 0, most: int = LARGEST
) -> "dict[str, Any]":
    """Return a piece of a file of a bundle.

    Args:
        state_dir: The node's.
        name: The incident.
        file: The plain name of the file.
        offset: Where to begin, in bytes; negative: so many before the end.
        most: So many bytes at most.

    Raises:
        NotThere: There is no such incident, or no such file in it.
    """
    found = _load(state_dir, name)
    if not re.fullmatch(FILE, file):
        raise NotThere(f"{file[:80]!r} is no name of a file of an incident")
    data, size, at = _read(found["path"], file, offset, min(most, LARGEST))
    text = data.decode("utf-8", "replace")
    more = at + len(data)
    return {
        "incident": found["id"], "file": file, "bytes": size, "offset": at, "next_offset": more if more < size else None, "text": text,
    }  # fmt: skip


def _load(state_dir: str, name: str) -> "dict[str, Any]":
    if not re.fullmatch(ID, name):
        raise NotThere(f"{name[:80]!r} is no id of an incident")
    try:
        return records.load(state_dir, name)
    except StateError as error:
        raise NotThere(str(error).partition("\n")[0]) from None


def _read(directory: str, file: str, offset: int, most: int) -> "tuple[bytes, int, int]":
    """Return the bytes, the size of the file, and where the bytes begin."""
    try:
        folder = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            # Nonblocking: what looks like a file may be a pipe that nobody writes to.
            descriptor = os.open(
                file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder
            )
        finally:
            os.close(folder)
    except OSError:
        raise NotThere(f"there is no file {file!r} in this incident") from None
    try:
        info = os.fstat(descriptor)
        if not stat.S_ISREG(info.st_mode):
            raise NotThere(f"there is no file {file!r} in this incident")
        at = max(0, info.st_size + offset) if offset < 0 else min(offset, info.st_size)
        return os.pread(descriptor, most, at), info.st_size, at
    finally:
        os.close(descriptor)
