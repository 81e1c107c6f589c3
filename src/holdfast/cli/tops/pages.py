"""The other screens: lines to scroll through (help, a story, what a command printed), incidents, a log.

A page is given room and returns lines; a key that it knows it takes. Leaves out the terminal and the worker's own page.
"""

import time

from holdfast.cli.terminal import Paint, clip
from holdfast.cli.tops import feed
from holdfast.cli.tops.logtail import Tail, plain
from holdfast.cli.tops.overview import chosen
from holdfast.model.errors import StateError

HELP = """\
arrows, j k      one line up or down           PgUp PgDn, Home End (g G)   further
Enter            one worker: lives and deaths, figures, incidents, log
/                filter: words in name, state, kind, group, flags; !word: not; Esc takes it away
< >              the column to sort by         s    the other way round
t                tree: groups, and what a worker was split into
l                log of the worker             i    incidents; Enter tells one, l its log, x its stacks
r                restart it                    S    stop it, or start it
p                profile: 5 s, a flame graph   x    stacks: where each thread is now
?                this help                     q, Esc   back; q on the first screen ends

r and S ask first, then say what has come of it.
! in front of a name: it is flagged, failed, or waits to be started again.
On a worker's page: - and + show more or less time; lives: x died, a digit died so often, o ended on request.
Top itself may be killed at any time: the node does not depend on it.
"""
#: Inside a reversed line a colour would end the reversing.
_NO_PAINT = Paint(False)
_VERDICTS = {"cured": "green", "open": "yellow", "closed": "dim"}


def scrolled(key: str, at: int, count: int, room: int) -> "int | None":
    """Return where a key leads in a list of ``count``; None when it is not one of these keys."""
    steps = {"up": -1, "k": -1, "down": 1, "j": 1, "pgup": -room, "pgdn": room}
    if key in steps:
        at += steps[key]
    elif key in ("home", "g"):
        at = 0
    elif key in ("end", "G"):
        at = count
    else:
        return None
    return max(0, min(count - 1, at))


def window(at: int, top: int, count: int, room: int) -> int:
    """Return the first row that is shown, so that the one at ``at`` is."""
    top = min(top, at)
    top = max(top, at - room + 1)
    return max(0, min(top, count - room))


class Text:
    """Lines to scroll through."""

    hint = "arrows scroll   q back"

    def __init__(self, title: str, lines: "list[str]") -> None:
        self.title = title
        self._lines = lines
        self._broken: list[str] = []
        self._width = 0
        self._top = 0
        self._room = 1

    def key(self, key: str) -> bool:
        """Take a key."""
        most = max(1, len(self._broken) - self._room + 1)
        to = scrolled(key, self._top, most, self._room)
        if to is None:
            return False
        self._top = to
        return True

    def render(self, width: int, room: int, paint: Paint) -> "list[str]":
        """Return ``room`` lines at most."""
        if width != self._width:
            self._width = width
            self._broken = [part for line in self._lines for part in _broken(plain(line), width)]
        self._room = max(1, room - 1)
        count = len(self._broken)
        self._top = max(0, min(self._top, count - self._room))
        more = f"  (line {self._top + 1} of {count})" if count > self._room else ""
        title = clip(paint(self.title, "bold") + more, width)
        return [title, *self._broken[self._top : self._top + self._room]]


def _broken(text: str, width: int) -> "list[str]":
    """Return a long line as several: on a screen of 40 columns nothing may be out of reach."""
    indent = "    " if width > 20 else ""
    parts, text = [text[:width]], text[width:]
    while text:
        parts.append(indent + text[: width - len(indent)])
        text = text[width - len(indent) :]
    return parts


class Log:
    """What a worker writes: the end, as it grows, unless somebody has scrolled back."""

    def __init__(self, worker: str, directory: str) -> None:
        self.worker = worker
        self._tail = Tail(directory) if directory else None
        self._back = 0  # lines between the end and the last one shown
        self._count = 0
        self._room = 1
        self.pattern = ""

    @property
    def hint(self) -> str:
        """The keys."""
        state = "End follows again" if self._back else "following"
        return f"{state}   arrows scroll   / filter   q back"

    def look(self) -> None:
        """Take what is new."""
        if self._tail is None:
            return
        self._tail.read()
        new = self._tail.count - self._count
        self._count = self._tail.count
        if self._back:  # what is looked at stays where it is
            self._back = min(self._back + new, len(self._tail.lines))

    def close(self) -> None:
        """Let go of the files."""
        if self._tail is not None:
            self._tail.close()

    def key(self, key: str) -> bool:
        """Take a key."""
        count = len(self._chosen())
        most = max(1, count - self._room + 1)
        to = scrolled(key, most - 1 - min(self._back, most - 1), most, self._room)
        if to is None:
            return False
        self._back = most - 1 - to
        return True

    def _chosen(self) -> "list[tuple[int, bool, str]]":
        if self._tail is None:
            return []
        words = self.pattern.lower().split()
        return [line for line in self._tail.lines if all(word in line[2].lower() for word in words)]

    def render(self, width: int, room: int, paint: Paint) -> "list[str]":
        """Return ``room`` lines at most."""
        self._room = max(1, room - 1)
        found = self._chosen()
        self._back = max(0, min(self._back, len(found) - self._room))
        end = len(found) - self._back
        title = paint(f"log of {self.worker}", "bold")
        if self.pattern:
            title += f'  only lines with "{self.pattern}"'
        if self._tail is None:
            return [
                title,
                "its output is not kept (log = false): it goes where that of the node goes",
            ]
        if not found:
            return [clip(title, width), "nothing yet" if not self.pattern else "nothing in the last lines"]  # fmt: skip
        return [clip(title, width), *log_lines(found[max(0, end - self._room) : end], width, paint)]


def log_lines(lines: "list[tuple[int, bool, str]]", width: int, paint: Paint) -> "list[str]":
    """Return lines of a log: time, ``|`` or for stderr ``!``, text."""
    shown = []
    for at_ns, is_error, text in lines:
        stamp = time.strftime("%H:%M:%S", time.localtime(at_ns / 1e9))
        mark = paint("!", "red") if is_error else "|"
        shown.append(clip(f"{paint(stamp, 'dim')} {mark} {plain(text)}", width))
    return shown


class Incidents:
    """The incidents, newest first; one is chosen."""

    hint = "Enter tells it   l its log   x its stacks   q back"

    def __init__(self, state_dir: str, worker: str = "") -> None:
        self._state_dir = state_dir
        self._worker = worker
        self._feed = feed.Feed(state_dir, worker)
        self._at = self._top = 0
        self._room = 1

    def look(self) -> None:
        """Read what is new; the one that is chosen stays so."""
        name = self.chosen()
        if self._feed.look(self._top + 2 * self._room) and name and self._at:
            ids = [row["id"] for row in self._feed.rows]
            self._at = ids.index(name) if name in ids else self._at

    def chosen(self) -> str:
        """Return the id of the one that is chosen; "" when there is none."""
        rows = self._feed.rows
        return str(rows[self._at]["id"]) if self._at < len(rows) else ""

    def key(self, key: str) -> bool:
        """Take a key."""
        to = scrolled(key, self._at, len(self._feed.rows), self._room)
        if to is None:
            return False
        self._at = to
        self._feed.look(to + 2 * self._room)
        return True

    def page(self, key: str) -> "Text | None":
        """Return the page that a key opens."""
        name = self.chosen()
        if not name or key not in ("enter", "l", "x"):
            return None
        try:
            if key == "enter":
                offset_s = time.localtime().tm_gmtoff
                return Text(name, feed.story_of(self._state_dir, name, offset_s))
            file = "log.txt" if key == "l" else "stacks.txt"
            lines = feed.file_of(self._state_dir, name, file)
            return Text(f"{name}: {file}", lines or [f"no {file} was kept with this incident"])
        except StateError as error:
            return Text(name, str(error).splitlines())

    def render(self, width: int, room: int, paint: Paint) -> "list[str]":
        """Return ``room`` lines at most."""
        self._room = max(1, room - 1)
        rows = self._feed.rows
        self._at = max(0, min(self._at, len(rows) - 1))
        self._top = window(self._at, self._top, len(rows), self._room)
        whose = f" of {self._worker}" if self._worker else ""
        more = "" if self._feed.is_whole else "+"
        lines = [paint(f"{len(rows)}{more} incidents{whose}, newest first", "bold")]
        if not rows:
            return [*lines, "nothing has broken so far"]
        for at, row in enumerate(rows[self._top : self._top + self._room], self._top):
            line = " " + incident_line(row, self._feed.verdict(row), width - 1, paint if at != self._at else _NO_PAINT)  # fmt: skip
            lines.append(chosen(line, width) if at == self._at else line)
        return lines


def incident_line(row: "dict[str, object]", verdict: str, width: int, paint: Paint) -> str:
    """Return the line of one incident."""
    opened = row["opened_unix_s"]
    moment = time.localtime(opened if isinstance(opened, float) else 0)
    stamp = time.strftime("%m-%d %H:%M", moment)
    said = verdict.replace("_", " ")
    title = plain(str(row.get("title") or row.get("kind") or ""))
    if width < 60:
        return clip(f"{stamp} {paint(said or '-', _VERDICTS.get(verdict, 'red'))} {title}", width)
    styled = paint((said or "-").ljust(12), _VERDICTS.get(verdict, "red" if verdict else "dim"))
    return clip(f"{stamp}  {styled} {title}", width)
