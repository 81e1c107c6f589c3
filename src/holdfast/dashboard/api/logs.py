"""What a worker wrote: pages of its log, backwards, and the lines as they come."""

import asyncio
import os
from threading import Lock

from holdfast.cli.tops.logtail import Tail, plain
from holdfast.dashboard import planned
from holdfast.dashboard.asking import Refused
from holdfast.dashboard.live import MOST_PAGES, Page, Stream, encode, event
from holdfast.records import logs as records
from holdfast.wire import layout

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from holdfast.cli.place import Place
    from holdfast.dashboard.asking import Ask
    from holdfast.dashboard.site import Site
    from holdfast.records.logs import Line

#: Lines that are looked through for a text before the page is asked to go on by itself.
_SEARCHED, _AT_A_TIME = 40_000, 4_000
#: A line is shown no longer than this; the file has all of it.
_LONGEST = 4000
_LOOK_S = 0.5
#: The first event of the live log has so many lines.
_FIRST = 200


def page(site: "Site", ask: "Ask") -> "dict[str, Any]":
    """Return the last lines before a cursor, oldest first, and the cursor of those before."""
    name = ask.part("name")
    wanted = ask.how_many("lines", 200)
    directory = directory_of(site.where, name)
    text = (ask.query.get("grep") or "").lower()
    until, skip = read_cursor(ask.query.get("before") or "")
    if not text:
        lines, cursor = before(directory, name, wanted, until, skip)
        return {"lines": [told(line) for line in lines], "before": cursor}
    lines, cursor = search(directory, name, text, wanted, until, skip)
    return {"lines": [told(line) for line in lines], "before": cursor}


def search(
    directory: str, name: str, text: str, wanted: int, until: "float | None", skip: int
) -> "tuple[list[Line], str | None]":
    """Return lines with a text before a cursor, and where to go on: also when none was found so far."""
    found: list[Line] = []
    searched = 0
    cursor: str | None = None
    while searched < _SEARCHED:
        lines, cursor = before(directory, name, _AT_A_TIME, until, skip)
        searched += len(lines)
        fit = [at for at, line in enumerate(lines) if text in line.text.lower()]
        room = wanted - len(found)
        if len(fit) > room:
            # What does not fit any more is the beginning of the next page.
            fit = fit[-room:]
            cursor = _cursor(lines[fit[0] :], until, skip)
        found = [lines[at] for at in fit] + found
        if cursor is None or len(found) >= wanted:
            break
        until, skip = read_cursor(cursor)
    return found, cursor


def before(
    directory: str, name: str, wanted: int, until: "float | None", skip: int
) -> "tuple[list[Line], str | None]":
    """Return lines before a cursor, and the cursor of the next ones; None: there are none.

    Lines that the logger took in one go share their time, so a cursor is a time and how many lines of it were shown.
    """
    lines = records.tail(directory, name, wanted + skip, until)
    are_all = len(lines) < wanted + skip
    # Of the cursor's own time the last ones were shown.
    for _ in range(skip):
        if lines and lines[-1].unix_s == until:
            lines.pop()
    if are_all or not lines:
        return lines, None
    return lines, _cursor(lines, until, skip)


def _cursor(shown: "list[Line]", until: "float | None", skip: int) -> str:
    oldest = shown[0].unix_s
    count = sum(line.unix_s == oldest for line in shown) + (skip if until == oldest else 0)
    return f"{oldest!r}:{count}"


def read_cursor(text: str) -> "tuple[float | None, int]":
    """Return time and count of a cursor.

    Raises:
        Refused: It is none.
    """
    if not text:
        return None, 0
    at, _, count = text.partition(":")
    try:
        return float(at), min(max(0, int(count or 0)), 1_000_000)
    except ValueError:
        raise Refused(400, "before: this is no cursor of this log") from None


def told(line: "Line") -> "dict[str, Any]":
    """Return a line as it is shown."""
    text = line.text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    return {"at_unix_s": round(line.unix_s, 3), "stream": line.stream, "text": plain(text[:_LONGEST])}  # fmt: skip


def directory_of(where: "Place", name: str) -> str:
    """Return where the log of a worker is.

    Raises:
        Refused: There is no such worker, or its output is not kept.
    """
    if name == layout.HOUSE_LOG:
        kept = (planned.header(where).get("house_log") or {}).get("directory")
        return str(kept or f"{where.state_dir}/{layout.LOGS}/{layout.HOUSE_LOG}")
    try:
        entry = planned.entry(where, name)
    except Refused:
        # A worker that was taken out of the configuration has left its logs.
        left = f"{where.state_dir}/{layout.LOGS}/{name}"
        if "/" in name or name.startswith(".") or not os.path.isdir(left):
            raise
        return left
    if not entry.get("log"):
        raise Refused(404, f'worker "{name}" has log = false: its output goes where that of `holdfast up` goes')  # fmt: skip
    return str(entry["log"]["directory"])


# -- as they come ----------------------------------------------------------------------------------


async def live(site: "Site", ask: "Ask") -> Stream:
    """Feed a page with the lines of a worker."""
    directory = await site.run(directory_of, site.where, ask.part("name"))
    if site.followers >= MOST_PAGES:
        raise Refused(503, "too many logs are being followed", "close one of them")
    site.followers += 1
    fed, tail = Page(), _Following(directory)
    feeding = asyncio.ensure_future(_feed(site, tail, fed))

    def close() -> None:
        site.followers -= 1
        feeding.cancel()
        tail.close()

    return Stream(fed, close)


class _Following:
    """The end of a log, read in one thread and let go of in another."""

    def __init__(self, directory: str) -> None:
        self._tail = Tail(directory)
        self._lock = Lock()
        self._count = 0
        self._is_closed = False

    def read(self) -> "list[tuple[int, bool, str]]":
        """Return the lines that are new."""
        with self._lock:
            if self._is_closed:
                return []
            self._tail.read()
            fresh = self._tail.count - self._count
            most = len(self._tail.lines) if self._count else _FIRST
            self._count = self._tail.count
            return self._tail.lines[-min(fresh, most) :] if fresh else []

    def close(self) -> None:
        """Let go of the files."""
        with self._lock:
            self._is_closed = True
            self._tail.close()


async def _feed(site: "Site", tail: _Following, fed: Page) -> None:
    while not fed.ended.is_set():
        shown = [
            {"at_unix_s": round(at_ns / 1e9, 3), "stream": "err" if is_error else "out", "text": plain(text)}
            for at_ns, is_error, text in await site.run(tail.read)
        ]  # fmt: skip
        if shown:
            fed.put(event("lines", encode({"lines": shown})))
        await asyncio.sleep(_LOOK_S)
