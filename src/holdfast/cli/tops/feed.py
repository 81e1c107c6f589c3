"""Which incidents were there last? The end of the index, read backwards as far as somebody looks.

Ten thousand incidents are 15 MB as objects; a screen shows forty. Leaves out mending the index (:mod:`holdfast.records.incidents`,
which is asked when there is none): a bundle whose writer was killed before its row was written shows up after the next `holdfast incidents`.
"""

import os

from holdfast.linux import files
from holdfast.records import incidents
from holdfast.wire import layout
from holdfast.wire.jsonlite import loads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_BLOCK = 1 << 15
#: Older ones are for `holdfast incidents`.
MOST = 2000
_KEPT = ("id", "worker", "component", "kind", "title", "opened_unix_s", "verdict", "start")


class Feed:
    """The incidents of a node, or of one worker, newest first."""

    def __init__(self, state_dir: str, worker: str = "") -> None:
        self._state_dir = state_dir
        self._path = f"{state_dir}/{layout.INCIDENT_INDEX}"
        self._worker = worker
        self._seen = (-1, -1, -1)
        self._is_mended = False
        self._verdicts: dict[str, tuple[int, str]] = {}
        self._wanted = 0
        self.rows: list[dict[str, Any]] = []
        self.is_whole = False  #: there are no older ones

    def look(self, count: int) -> bool:
        """Have the newest ``count`` in :attr:`rows`; return whether they are others than before."""
        seen = self._stamp()
        if seen == self._seen and (self.is_whole or count <= self._wanted):
            return False
        self._seen, self._wanted = seen, max(count, self._wanted)
        self._load(min(MOST, self._wanted))
        return True

    def _stamp(self) -> "tuple[int, int, int]":
        """Return what changes with every new incident, also with those that a full disk keeps in memory."""
        try:
            waiting_ns = os.stat(incidents.parents(self._state_dir)[1]).st_mtime_ns
        except OSError:
            waiting_ns = 0
        try:
            found = os.stat(self._path)
        except OSError:
            if os.path.isdir(os.path.dirname(self._path)) and not self._is_mended:
                self._is_mended = (
                    True  # once: where it cannot be written, trying again costs the same
                )
                incidents.list_incidents(self._state_dir, limit=1)  # writes the index anew
            return (0, 0, waiting_ns)
        return (found.st_ino, found.st_size, waiting_ns)

    def _load(self, count: int) -> None:
        rows: dict[str, dict[str, Any]] = {}
        in_memory = incidents.parents(self._state_dir)[1]
        for name in incidents.names(in_memory):  # bundles of a full disk
            record = incidents.read_record(f"{in_memory}/{name}")
            if record is not None:
                self._add(rows, record)
        self.is_whole = True
        for line in _backwards(self._path):
            if len(rows) >= count:
                self.is_whole = False
                break
            if self._worker and self._worker.encode() not in line:
                continue
            try:
                row = loads(line.decode())
            except ValueError:
                continue  # a torn row: its bundle is there, and the next mending finds it
            if type(row) is dict and type(row.get("id")) is str:
                self._add(rows, row)
        self.rows = sorted(rows.values(), key=lambda row: row["opened_unix_s"], reverse=True)

    def _add(self, rows: "dict[str, dict[str, Any]]", row: "dict[str, Any]") -> None:
        name = row["id"]
        if name in rows or (self._worker and row.get("worker") != self._worker):
            return
        if not os.path.isdir(f"{self._state_dir}/{layout.INCIDENTS}/{name}") and not os.path.isdir(
            f"{self._state_dir}/{layout.RUN_LINK}/{layout.INCIDENTS}/{name}"
        ):
            return  # somebody deleted the bundle
        kept = {key: row.get(key) for key in _KEPT}
        opened = row.get("opened_unix_s")
        kept["opened_unix_s"] = float(opened) if isinstance(opened, (int, float)) else 0.0
        rows[name] = kept

    def verdict(self, row: "dict[str, Any]") -> str:
        """Return the last verdict on an incident, from its timeline."""
        name = str(row["id"])
        path = f"{self._state_dir}/{layout.INCIDENTS}/{name}/{incidents.TIMELINE}"
        try:
            size = os.stat(path).st_size
        except OSError:
            return str(row.get("verdict") or "")
        known = self._verdicts.get(name)
        if known is None or known[0] != size:
            last = next(
                (
                    str(step["verdict"])
                    for step in reversed(incidents.timeline_of(os.path.dirname(path)))
                    if step.get("verdict")
                ),
                str(row.get("verdict") or ""),
            )
            known = self._verdicts[name] = (size, last)
        return known[1]


def _backwards(path: str) -> "Any":
    """Yield the lines of a file from the last to the first."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return
    try:
        at = os.fstat(descriptor).st_size
        rest = b""
        while at > 0:
            begin = max(0, at - _BLOCK)
            lines = (os.pread(descriptor, at - begin, begin) + rest).split(b"\n")
            at, rest = begin, lines[0]
            yield from filter(None, reversed(lines[1:]))
        if rest:
            yield rest
    finally:
        os.close(descriptor)


def story_of(state_dir: str, name: str, offset_s: int) -> "list[str]":
    """Return the story of an incident, as `holdfast incident` tells it.

    Raises:
        StateError: There is none of that name any more.
    """
    from holdfast.diagnosis.story import story

    record = incidents.load(state_dir, name)
    return story(record, incidents.timeline(state_dir, name), offset_s).splitlines()


def file_of(state_dir: str, name: str, file: str) -> "list[str]":
    """Return the lines of a text file of a bundle; none when it was not kept.

    Raises:
        StateError: There is no such incident any more.
    """
    data = files.read(f"{incidents.bundle_path(state_dir, name)}/{file}")
    return data[-(1 << 18) :].decode("utf-8", "replace").splitlines()
