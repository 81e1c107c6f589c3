"""What has the node said that a target has not got yet? Lines of its workers and of Holdfast itself, and what became of incidents.

Read in portions, so that a target that was away for a day costs no more memory than one that was not. A look that finds nothing costs one ``stat`` for
each stream, and one for the directories of the incidents. Nothing is ever written here.
"""

import os
import time
from collections import deque
from fnmatch import fnmatchcase
from operator import attrgetter

from holdfast.core.alerting import family
from holdfast.linux import files
from holdfast.model.errors import StateError
from holdfast.records import incidents as records
from holdfast.records.logs import STREAMS, Line
from holdfast.records.taps import Mark, Tap
from holdfast.wire import layout
from holdfast.wire import plan as plan_format

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Any

    from holdfast.forward.cursor import Cursor

#: A target gets about so much at once.
PORTION_BYTES = 256 << 10
#: Streams that are not read to their end stay open, so many at most.
_MOST_OPEN = 32
#: A verdict that has not come after so long comes no more.
_PENDING_S = 86400.0
#: Nobody wants to hear of an incident that is older than this.
_OLDEST_S = 30 * 86400.0
_BY_TIME = attrgetter("unix_s")
OPENED, SETTLED = "opened", "settled"


class News:
    """An incident was opened, or has its verdict."""

    __slots__ = ("kind", "record", "unix_s", "verdict")

    def __init__(self, kind: str, record: "dict[str, Any]", verdict: str, unix_s: float) -> None:
        self.kind = kind  #: OPENED or SETTLED
        self.record = record  #: as in incident.json
        self.verdict = verdict
        self.unix_s = unix_s


class Portion:
    """What a target gets at once, and how far that is."""

    __slots__ = ("lines", "marks", "news", "told")

    def __init__(self) -> None:
        self.lines: list[Line] = []
        self.news: list[News] = []
        self.marks: dict[str, Mark] = {}
        self.told: dict[str, str] = {}

    def __bool__(self) -> bool:
        return bool(self.lines or self.news)


class Feed:
    """The news of a node for one target.

    Args:
        run_dir: The run directory of the node.
        state_dir: Its state directory.
        cursor: How far the target has got.
        workers: Patterns: lines of these workers; empty: no lines.
        has_house: Also what Holdfast itself wrote.
        has_incidents: Also incidents.
        say: Writes a line about what is wrong.
    """

    def __init__(
        self, run_dir: str, state_dir: str, cursor: "Cursor", workers: "Sequence[str]", has_house: bool, has_incidents: bool,
        say: "Callable[..., None]",
    ) -> None:  # fmt: skip
        self._run_dir, self._state_dir = run_dir, state_dir
        self._cursor = cursor
        self._workers, self._has_house = workers, has_house
        self._say = say
        self._incidents = _Incidents(state_dir, cursor) if has_incidents else None
        self.node = ""
        self._plan_is: tuple[int, int] | None = None
        self._taps: dict[str, Tap] = {}
        self._waiting: deque[str] = deque()

    def streams(self) -> int:
        """Return how many streams a look looks at."""
        return len(self._taps)

    def look(self) -> None:
        """See who has something to say."""
        self._look_at_plan()
        waiting = set(self._waiting)
        self._waiting += [key for key, tap in self._taps.items() if key not in waiting and tap.has_news()]  # fmt: skip

    def next(self) -> Portion:
        """Return the next portion; an empty one when all is told. Its marks may be noted even when it is empty."""
        found = Portion()
        room = PORTION_BYTES
        while self._waiting and room > 0:
            key = self._waiting.popleft()
            tap = self._taps.get(key)
            if tap is None:
                continue
            lines = tap.read(room)
            if tap.lost:
                self._say("warning", "lines were dropped from the log before they could be forwarded: log.keep is too small, or the target was away for too long", stream=key)  # fmt: skip
                tap.lost = False
            found.lines += lines
            room -= sum(len(line.text) + 1 for line in lines)
            if tap.mark is not None:
                found.marks[key] = tap.mark
            if tap.is_far_behind():
                self._waiting.appendleft(key)  # unpacking it anew for each portion would cost more
            elif tap.has_news():
                self._waiting.append(key)
        self._let_go()
        found.lines.sort(key=_BY_TIME)
        if self._incidents is not None:
            found.news = self._incidents.news()
            found.told = {one.record["id"]: one.verdict if one.kind == SETTLED else "" for one in found.news}  # fmt: skip
        return found

    def _let_go(self) -> None:
        for key in list(self._waiting)[_MOST_OPEN:]:
            self._taps[key].close()

    def _look_at_plan(self) -> None:
        path = f"{self._run_dir}/{layout.PLAN}"
        try:
            found = os.stat(path)
            stamp = (found.st_ino, found.st_mtime_ns)
            if stamp == self._plan_is:
                return
            head, entries = plan_format.split(files.read(path))
            places = dict(self._places(head, entries))
        except (OSError, ValueError) as error:
            # A worker's lines are there whether or not the plan can be read at this moment.
            self._say("warning", "the plan cannot be read", path=path, why=str(error))
            return
        self._plan_is = stamp
        self.node = str(head.get("node", ""))
        gone: set[str] = set()
        for key in self._cursor.marks:
            # A worker that has left the plan may have said something before.
            name = key.rpartition("/")[0]
            if name not in places and self._wants(name):
                directory = f"{self._state_dir}/{layout.LOGS}/{name}"
                if os.path.isdir(directory):
                    places[name] = directory
                else:
                    gone.add(key)
        self._cursor.forget(gone)
        for name, directory in places.items():
            for stream in STREAMS:
                key = f"{name}/{stream}"
                if key not in self._taps:
                    mark = self._cursor.marks.get(key)
                    self._taps[key] = Tap(directory, name, stream, mark, self._cursor.since_unix_s)
        for key in [key for key in self._taps if key.rpartition("/")[0] not in places]:
            self._taps.pop(key).close()

    def _places(self, head: "dict[str, Any]", entries: "Iterator[dict[str, Any]]") -> "Iterator[tuple[str, str]]":  # fmt: skip
        for entry in entries:
            name, log = str(entry["name"]), entry.get("log")
            if log and self._wants(name):
                yield name, log["directory"]
        house = (head.get("house_log") or {}).get("directory")
        if house and self._has_house:
            yield layout.HOUSE_LOG, house

    def _wants(self, name: str) -> bool:
        if name == layout.HOUSE_LOG:
            return self._has_house
        names = {name, family(name)}  # a part of an isolated worker is that worker, too
        return any(fnmatchcase(one, pattern) for one in names for pattern in self._workers)


class _Incidents:
    """What became of incidents since the last look."""

    def __init__(self, state_dir: str, cursor: "Cursor") -> None:
        self._state_dir = state_dir
        self._cursor = cursor
        self._stamp: object = None
        self._pending: dict[
            str, tuple[str, float, int]
        ] = {}  #: incident -> bundle, opened, its timeline's mtime

    def news(self) -> "list[News]":
        """Return what the target has not been told, oldest first; again and again until the cursor has it."""
        parents = records.parents(self._state_dir)
        stamp = tuple(map(_changed_ns, parents))
        found: list[News] = []
        told = self._cursor.told
        now_unix_s = time.time()
        if stamp != self._stamp:
            # What is older than all that can still change was told long ago, or is before our time. Ten thousand are read once.
            back_s = _OLDEST_S if self._stamp is None else _PENDING_S
            since = max(self._cursor.since_unix_s, now_unix_s - back_s)
            for row in reversed(records.list_incidents(self._state_dir, since)):
                if row["id"] not in told or now_unix_s - row["opened_unix_s"] < _PENDING_S:
                    self._take(row["id"], row["opened_unix_s"])
            self._stamp = stamp
        for name, (path, opened_unix_s, seen_ns) in list(self._pending.items()):
            if name in told and now_unix_s - opened_unix_s > _PENDING_S:
                del self._pending[name]
                continue
            changed_ns = _changed_ns(f"{path}/{records.TIMELINE}")
            if name in told and changed_ns == seen_ns:
                continue
            one = self._news_of(name, path, opened_unix_s)
            if one is not None:
                found.append(one)
            elif name in self._pending:
                self._pending[name] = (path, opened_unix_s, changed_ns)
        return found

    def _take(self, name: str, opened_unix_s: float) -> None:
        if name in self._pending:
            return
        try:
            path = records.bundle_path(self._state_dir, name)
        except StateError:
            return  # removed meanwhile
        self._pending[name] = (path, opened_unix_s, -1)

    def _news_of(self, name: str, path: str, opened_unix_s: float) -> "News | None":
        try:
            record = records.load(self._state_dir, name)
        except StateError:
            del self._pending[name]  # somebody has removed it
            return None
        if name not in self._cursor.told:
            return News(OPENED, record, "", opened_unix_s)  # its verdict is told after it
        verdict = str(record.get("verdict") or "")
        if verdict in ("", "open", self._cursor.told[name]):
            return None
        rows = [row for row in records.timeline_of(path) if row.get("verdict")]
        at = rows[-1].get("unix_s") if rows else None
        return News(SETTLED, record, verdict, float(at) if isinstance(at, int | float) else time.time())  # fmt: skip


def _changed_ns(path: str) -> int:
    try:
        return os.stat(path).st_mtime_ns
    except OSError:
        return 0
