"""What do the files of this node say that was not known a moment ago?

The keeper's journal and the index of incidents are read from where the last look ended, flags as they are, the plan when it was replaced.
A few system calls a look while nothing happens: it is done four times a second. Nothing is ever written here.
"""

import os
import time

from holdfast.linux import files
from holdfast.wire import beats, journal, layout
from holdfast.wire import plan as plan_format
from holdfast.wire.jsonlite import loads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

#: Of an index with a history of years only the end is of interest.
_INDEX_TAIL = 256 << 10
_KEPT_ROWS = 2000


class Grown:
    """A file that others append to, or replace."""

    __slots__ = ("_at", "_inode", "_path", "_tail")

    def __init__(self, path: str, tail: int = 0) -> None:
        self._path = path
        self._tail = tail  #: begin so many bytes before the end; 0: at the beginning
        self._inode = 0
        self._at = 0

    def read(self) -> bytes:
        """Return the whole lines that are new; a file that was replaced is read anew."""
        try:
            descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return b""
        try:
            info = os.fstat(descriptor)
            if info.st_ino != self._inode or info.st_size < self._at:
                self._inode = info.st_ino
                self._at = max(0, info.st_size - self._tail) if self._tail else 0
            data = os.pread(descriptor, info.st_size - self._at, self._at)
        finally:
            os.close(descriptor)
        used = journal.whole(data)
        self._at += used
        return data[:used]


class Plan:
    """The plan that runs, as far as alerts go."""

    __slots__ = ("_path", "_stamp", "entries", "needs", "node", "verify_s")

    def __init__(self, run_dir: str) -> None:
        self._path = f"{run_dir}/{layout.PLAN}"
        self._stamp: tuple[int, int] | None = None
        self.node = ""
        self.verify_s = 10.0
        self.entries: dict[str, Any] = {}
        self.needs: dict[str, set[str]] = {}

    def look(self, family: "Callable[[str], str]") -> None:
        """Read it if it was replaced.

        Raises:
            OSError: There is none.
            ValueError: It is damaged.
        """
        info = os.stat(self._path)
        stamp = (info.st_ino, info.st_mtime_ns)
        if stamp == self._stamp:
            return
        head, entries = plan_format.split(files.read(self._path))
        self.node = str(head.get("node", ""))
        self.verify_s = float((head.get("watch") or {}).get("verify_s", 10.0))
        self.entries, self.needs = {}, {}
        for entry in entries:
            name = str(entry["name"])
            self.entries[name] = {"ready": entry.get("ready") or {}, "kind": entry.get("kind", "")}
            needed = self.needs.setdefault(family(name), set())
            needed.update(family(other) for key in ("after", "requires") for other in entry.get(key, ()))  # fmt: skip
        for name, needed in self.needs.items():
            needed.discard(name)
        self._stamp = stamp


class Incidents:
    """The ids and titles of the last incidents, by the key of their evidence order."""

    __slots__ = ("_file", "_ids", "fresh", "titles")

    def __init__(self, state_dir: str) -> None:
        self._file = Grown(f"{state_dir}/{layout.INCIDENT_INDEX}", _INDEX_TAIL)
        self._ids: dict[str, str] = {}
        self.titles: dict[str, str] = {}
        self.fresh: list[dict[str, Any]] = []  #: rows that were read and not taken yet

    def look(self) -> None:
        """Read what is new."""
        for line in self._file.read().splitlines():
            try:
                row = loads(line.decode())
            except ValueError:
                continue  # torn, or the middle of a line
            if type(row) is dict and row.get("id"):
                self._ids[str(row.get("key"))] = str(row["id"])
                self.titles[str(row["id"])] = str(row.get("title") or "")
                self.fresh.append(row)
        for kept in (self._ids, self.titles):
            while len(kept) > _KEPT_ROWS:
                del kept[next(iter(kept))]

    def take(self) -> "list[dict[str, Any]]":
        """Return the rows that were read since this was called before."""
        found, self.fresh = self.fresh, []
        return found

    def of(self, key: str) -> str:
        """Return the incident of an order; empty while there is none."""
        return self._ids.get(key, "")


def flags(run_dir: str) -> "Iterator[dict[str, Any]]":
    """Give the flags that are up."""
    directory = f"{run_dir}/{layout.FLAGS}"
    try:
        names = os.listdir(directory)
    except FileNotFoundError:
        return
    for name in sorted(names):
        if name.endswith(".tmp"):
            continue
        try:
            found = loads(files.read(f"{directory}/{name}").decode())
        except (OSError, ValueError):
            continue  # cleared between listing and reading, or somebody else's file
        if type(found) is dict:
            yield found


def beat_ages_s(run_dir: str) -> "dict[str, float]":
    """Return how old the last beat of each process of the house is; those that never beat are left out."""
    data = files.read(f"{run_dir}/{layout.BEATS}")
    if len(data) < beats.SIZE:
        return {}
    now_ns = time.monotonic_ns()
    found = {role: beats.read(data, role)[0] for role in layout.ROLES}
    return {role: max(0.0, (now_ns - at_ns) / 1e9) for role, at_ns in found.items() if at_ns}
