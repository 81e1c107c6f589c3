"""`holdfast top` at work: the one loop that looks at the node, draws, and hears keys.

It never waits for anything but a person, the clock, an answer that was asked for, or a signal. Everything that the screens
show is read from files and sockets that are there whether it runs or not: it may die at any instant. Leaves out what each screen
shows (:mod:`holdfast.cli.tops.overview`, ``worker``, ``pages``).
"""

import os
import time
from select import select

from holdfast.cli.terminal import Paint, clip
from holdfast.cli.tops import keys, overview
from holdfast.cli.tops.asking import Program
from holdfast.cli.tops.box import Box
from holdfast.cli.tops.charts import Glyphs
from holdfast.cli.tops.feed import Feed
from holdfast.cli.tops.node import Node
from holdfast.cli.tops.orders import Order
from holdfast.cli.tops.pages import HELP, Incidents, Log, Text, scrolled, window
from holdfast.cli.tops.rows import MEASURED, Choice, Row, rows_of
from holdfast.cli.tops.worker import One

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from holdfast.cli.place import Place
    from holdfast.cli.tops.screen import Screen

    Page = One | Log | Incidents | Text

#: An answer that is on its way is waited for this long before a frame is drawn without it.
_ANSWER_S = 0.15
#: So long a lone escape byte may still become an arrow, on a slow line.
_ESCAPE_S = 0.12
_ORDER_LOOK_S = 0.15
_SORT_S = 5.0
_MESSAGE_S = 15.0
_FAR_S = 1e9
#: Lines of one picture beside those of the workers.
_HIGH = 60
_NO_PAINT = Paint(False)
_HINT = "Enter one  / filter  s sort  t tree  l log  i incidents  r restart  S stop  p profile  x stacks  ? help  q quit"  # fmt: skip


class App:
    """What is shown, and what a person is about to do."""

    def __init__(
        self, where: "Place", paint: Paint, glyphs: Glyphs, *, every_s: float, is_read_only: bool
    ) -> None:
        self.node = Node(where)
        self._where = where
        self._paint, self._glyphs = paint, glyphs
        self._every_s = every_s
        self._is_read_only = is_read_only
        self._box = Box(where.state_dir)
        self._feed = Feed(where.state_dir)
        self.choice = Choice()
        self._rows: list[Row] = []
        self._rows_of: tuple[Any, ...] = ()
        self._sorted_s = 0.0
        self._names = 0
        self._key = ""  # of the row that is chosen
        self._at = self._top = 0
        self._has_chosen = False
        self._room = 1
        self._pages: list[Page] = []
        self._typing: str | None = None
        self._question: Order | None = None
        self._order: Order | None = None
        self._program: Program | None = None
        self._program_page: tuple[str, str] = ("", "")
        self._message: tuple[str, str, float] = ("", "", 0.0)
        self._ends = self._is_once = False

    # -- the loop ----------------------------------------------------------------------------------

    def run(self, screen: "Screen") -> None:
        """Show the node until the person has seen enough."""
        rest = b""
        tick_s = draw_s = rest_s = 0.0
        try:
            while not (self._ends or screen.obey()):
                now_s = time.monotonic()
                if now_s >= tick_s:
                    tick_s = now_s + (min(_ORDER_LOOK_S, self._every_s) if self._order else self._every_s)  # fmt: skip
                    self.look(now_s)
                    draw_s = now_s + (_ANSWER_S if self.node.asking else 0)
                if self.take(now_s):
                    draw_s = now_s
                if now_s >= draw_s:
                    screen.draw(self.frame(*screen.size(), now_s))
                    draw_s = _FAR_S
                until_s = min(tick_s, draw_s, rest_s if rest else _FAR_S)
                ready = self._wait(screen, until_s)
                if screen.input in ready:
                    data = os.read(screen.input, 1024)
                    if not data:
                        return  # the terminal has gone
                    names, rest = keys.split(rest + data)
                    rest_s = time.monotonic() + _ESCAPE_S
                else:
                    is_over = bool(rest) and time.monotonic() >= rest_s
                    names, rest = (keys.flush(rest), b"") if is_over else ([], rest)
                if names:
                    self._press_all(names, screen)
                if names or screen.wake in ready:
                    draw_s = 0.0
        finally:
            self._close()

    def _press_all(self, names: "list[str]", screen: "Screen") -> None:
        for name in names:
            if name == "redraw":
                screen.redraw()
            self.press(name)
            if self._question is not None:
                return  # what was typed or pasted before the question was seen is no answer to it

    def _wait(self, screen: "Screen", until_s: float) -> "list[Any]":
        asks = [ask for ask in self._asks() if not ask.is_over]
        readers: list[Any] = [screen.input, screen.wake, *asks]
        if self._program is not None:
            readers.append(self._program)
        for ask in asks:
            until_s = min(until_s, ask.deadline_s)
        found, writable, _ = select(
            readers, [ask for ask in asks if ask.wants_to_write()], [], max(0.0, until_s - time.monotonic())
        )  # fmt: skip
        del writable  # the next take() steps all of them
        return found

    def _asks(self) -> "list[Any]":
        asks: list[Any] = [self.node.asking] if self.node.asking is not None else []
        if self._order is not None:
            asks += self._order.asking()
        for page in self._pages:
            if isinstance(page, One) and (ask := page.asking()) is not None:
                asks.append(ask)
        return asks

    def look(self, now_s: float) -> None:
        """Read what has changed since the last frame, of what is shown."""
        self.node.look(now_s, is_urgent=self._order is not None)
        self._box.look(now_s)
        self._feed.look(1)
        page = self._pages[-1] if self._pages else None
        if page is None:
            if self.choice.sort in MEASURED:
                self.node.sweep(now_s)
        elif isinstance(page, One):
            page.look(now_s)
        elif isinstance(page, (Log, Incidents)):
            page.look()

    def take(self, now_s: float) -> bool:
        """Take the answers that have come; return whether there is anything new to draw."""
        is_new = self.node.take(now_s)
        for page in self._pages:
            if isinstance(page, One):
                is_new |= page.take()
        if self._order is not None and (result := self._order.look()) is not None:
            self._order = None
            self._say(*result)
            is_new = True
        program = self._program
        if program is not None:
            program.step()
            if program.is_over:
                self._program = None
                self._show_output(program)
                is_new = True
        return is_new

    def _close(self) -> None:
        while self._pages:
            self._drop()
        if self._program is not None:
            self._program.give_up()

    # -- drawing -----------------------------------------------------------------------------------

    def frame(self, width: int, height: int, now_s: float) -> "list[str]":
        """Return the lines of the screen."""
        if self._message[2] and now_s > self._message[2]:
            self._message = ("", "", 0.0)
        head = self._head(width, height, now_s)
        room = max(1, height - len(head) - 1)
        page = self._pages[-1] if self._pages else None
        if page is None:
            body = self._table(width, room, now_s)
        elif isinstance(page, One):
            body = page.render(width, room, self._paint, self._glyphs)
        else:
            body = page.render(width, room, self._paint)
        body = body[:room]
        foot = "" if self._is_once else self._foot(width)
        return [*head, *body, *[""] * (room - len(body)), foot][:height]

    def _head(self, width: int, height: int, now_s: float) -> "list[str]":
        row = self._feed.rows[0] if self._feed.rows else None
        unix_s = time.time()
        last = overview.Last(row, self._feed.verdict(row) if row else "", unix_s)
        clock = time.strftime("%H:%M:%S", time.localtime(unix_s))
        lines = overview.heading(self.node, now_s, clock, last, width, self._paint)
        if height >= 14 or not self._pages:
            box = self._box.lines(width, self._paint, self._glyphs)
            lines += [clip(line, width) for line in box[: 1 if height < 20 else 2]]
        return [*lines, ""] if height >= 16 else lines

    def _table(self, width: int, room: int, now_s: float) -> "list[str]":
        unix_s = time.time()
        # A screen that is high enough says below what is being done; at most a third of it.
        notes = overview.notes(self.node, now_s, unix_s, width, room // 3 if room >= 12 else 0, self._paint)  # fmt: skip
        below = [overview.house(self.node)] if room >= 16 else []
        below = [clip(self._paint(line, "dim"), width) for line in below] + notes
        if below:
            below = ["", *below]
        self._room = max(1, room - 1 - len(below))
        rows = self._sorted(now_s)
        self._top = window(self._at, self._top, len(rows), self._room)
        shown = rows[self._top : self._top + self._room]
        self.node.measure([row.worker for row in shown if row.worker is not None], now_s)
        table = overview.Table(width, self._names, has_flags=bool(self.node.flags))
        lines = [table.heading(self.choice, self._paint, self._glyphs)]
        for at, row in enumerate(shown, self._top):
            if at == self._at and not self._is_once:
                lines.append(overview.chosen(table.line(row, self.node, unix_s, _NO_PAINT), width))
            else:
                lines.append(table.line(row, self.node, unix_s, self._paint))
        if not rows:
            lines.append(self._nothing())
        lines += [""] * (0 if self._is_once else room - len(lines) - len(below))
        return lines + below

    def _nothing(self) -> str:
        if self.choice.pattern:
            return f'  no worker fits "{self.choice.pattern}"   (Esc takes the filter away)'
        return "  the keeper has not told of any worker yet" if not self.node.version else "  no workers"  # fmt: skip

    def _sorted(self, now_s: float) -> "list[Row]":
        """Return the rows, made anew when anything that they depend on has changed; the chosen one stays chosen."""
        choice = self.choice
        made_of = (self.node.version, choice.pattern, choice.sort, choice.is_turned, choice.is_tree)
        # What everybody uses changes all the time: every few seconds is often enough to sort a thousand.
        is_stale = choice.sort in MEASURED and now_s - self._sorted_s >= _SORT_S
        if made_of != self._rows_of or is_stale:
            self._rows_of, self._sorted_s = made_of, now_s
            self._rows = rows_of(self.node, choice)
            indent = 4 if choice.is_tree else 0
            self._names = indent + max((len(worker["name"]) for worker in self.node.workers), default=0)  # fmt: skip
            # The row that a person has chosen stays chosen, wherever it goes: a key must not order something about another
            # worker. Who has chosen none sees the first.
            found = next((at for at, row in enumerate(self._rows) if row.key == self._key), None)
            if found is not None and self._has_chosen:
                self._at = found
        self._at = max(0, min(self._at, len(self._rows) - 1))
        if self._rows and (self._key != self._rows[self._at].key):
            self._key = self._rows[self._at].key
        return self._rows

    def _foot(self, width: int) -> str:
        paint = self._paint
        if self._question is not None:
            return clip(
                f"{paint(self._question.question(), 'bold')}  y yes   any other key: no", width
            )
        if self._typing is not None:
            return clip(f"/{self._typing}_   Enter keeps it, Esc takes it away", width)
        text, style, _ = self._message
        if text:
            return clip(paint(text, style), width)
        page = self._pages[-1] if self._pages else None
        hint = page.hint if page is not None else _HINT
        if page is None and self.choice.pattern:
            hint = f"only {self.choice.pattern!r} ({len(self._rows)} of {len(self.node.workers)})   Esc all   {hint}"  # fmt: skip
        if self._is_read_only:
            hint = f"read-only   {hint}"
        return clip(paint(hint, "dim"), width)

    def _say(self, text: str, style: str = "", *, stays: bool = False) -> None:
        self._message = (text, style, _FAR_S if stays else time.monotonic() + _MESSAGE_S)

    # -- keys --------------------------------------------------------------------------------------

    def press(self, key: str) -> None:
        """Do what a key means."""
        if self._question is not None:
            self._answer(key)
        elif self._typing is not None:
            self._type(key)
        elif key in ("q", "esc"):
            self._back(key)
        elif key == "?":
            self._open(Text("keys of holdfast top", HELP.splitlines()))
        elif key == "/":
            self._typing = self._filtered().pattern if self._filtered() else None
        elif self._pages:
            self._press_page(key)
        else:
            self._press_table(key)

    def _answer(self, key: str) -> None:
        order, self._question = self._question, None
        if key in ("y", "Y") and order is not None:
            order.give()
            self._order = order
            self._say(f"{order.verb} {', '.join(order.names[:3])}: ordered …", stays=True)
        else:
            self._say("nothing was done")

    def _filtered(self) -> "Any":
        """Return what a filter would be for: the table, or a log."""
        page = self._pages[-1] if self._pages else None
        return self.choice if page is None else page if isinstance(page, Log) else None

    def _type(self, key: str) -> None:
        what = self._filtered()
        typed = self._typing or ""
        if key in ("enter", "esc"):
            self._typing = None
            typed = "" if key == "esc" else typed
        elif key == "backspace":
            typed = self._typing = typed[:-1]
        elif key == "clear":
            typed = self._typing = ""
        elif len(key) == 1:
            typed = self._typing = typed + key
        what.pattern = typed
        self._forget_choice()

    def _forget_choice(self) -> None:
        """Begin at the first row again: others are shown now."""
        if not self._pages:
            self._at = self._top = 0
            self._has_chosen = False

    def _back(self, key: str) -> None:
        if self._message[0]:
            self._message = ("", "", 0.0)
            if key == "esc":
                self._give_up_program()
                return
        what = self._filtered()
        if key == "esc" and what is not None and what.pattern:
            what.pattern = ""
            self._forget_choice()
        elif self._pages:
            self._drop()
        elif key == "q":
            self._ends = True

    def _give_up_program(self) -> None:
        if self._program is not None:
            self._program.give_up()
            self._program = None
            self._say("given up")

    def _open(self, page: "Page") -> None:
        self._pages.append(page)
        self.look(time.monotonic())

    def _drop(self) -> None:
        page = self._pages.pop()
        if isinstance(page, (One, Log)):
            page.close()

    def _press_page(self, key: str) -> None:
        page = self._pages[-1]
        if isinstance(page, Incidents):
            opened = page.page(key)
            if opened is not None:
                self._open(opened)
                return
        if page.key(key) or not isinstance(page, One):
            return
        self._act(key, page.name, [page.name])

    def _press_table(self, key: str) -> None:
        to = scrolled(key, self._at, len(self._rows), self._room)
        if to is not None:
            self._at = to
            self._has_chosen = key not in ("home", "g")
            self._key = self._rows[to].key if self._rows else ""
            return
        choice = self.choice
        if key in ("<", ">", "left", "right"):
            choice.sort = overview.next_sort(choice.sort, 1 if key in (">", "right") else -1)
            choice.is_turned = False
            if choice.sort in MEASURED:
                self.node.measure(self.node.workers, time.monotonic())
            self._say(f"sorted by {choice.sort}" + (": those first that need a look" if choice.sort == "urgency" else ""))  # fmt: skip
            return
        if key == "s":
            choice.is_turned = not choice.is_turned
        elif key == "t":
            choice.is_tree = not choice.is_tree
        row = self._rows[self._at] if self._rows else None
        if row is not None:
            self._has_chosen |= (len(key) == 1 and key in "rSlpx") or key == "enter"
            self._act(key, row.worker["name"] if row.worker is not None else "", row.members)
        elif key == "i":
            self._act(key, "", [])

    def _act(self, key: str, name: str, members: "list[str]") -> None:
        """Do to a worker, or to all under a heading, what a key says."""
        if key == "i":
            whose = self._pages[-1].name if self._pages and isinstance(self._pages[-1], One) else ""
            self._open(Incidents(self._where.state_dir, whose))
        elif key in ("r", "S"):
            self._ask_for(key, members)
        elif key in ("enter", "l", "p", "x") and not name:
            self._say("this is a heading: choose a worker below it")
        elif key == "enter":
            self._open(One(self.node, name))
        elif key == "l":
            entry = self.node.entries.get(name)
            self._open(Log(name, entry.log if entry is not None else ""))
        elif key in ("p", "x"):
            self._start_program(key, name)

    def _ask_for(self, key: str, members: "list[str]") -> None:
        if self._is_read_only or not (self.node.is_up and self.node.may_order()):
            why = "--read-only" if self._is_read_only else "this user may not give orders to the keeper" if self.node.is_up else "the node is down"  # fmt: skip
            self._say(f"no orders here: {why}", "yellow")
            return
        if self._order is not None:
            self._say("the order before is not done yet", "yellow")
            return
        known = [self.node.by_name[name] for name in members if name in self.node.by_name]
        verb = "restart"
        if key == "S":
            verb = "stop" if any(worker["pid"] or worker["state"] == "backoff" for worker in known) else "start"  # fmt: skip
        order = Order(self.node, verb, [worker["name"] for worker in known])
        if order.names:
            self._question = order

    def _start_program(self, key: str, name: str) -> None:
        if self._program is not None:
            self._say("one thing at a time: Esc gives up what runs", "yellow")
            return
        state = ["--state", self._where.state_dir, "--no-color"]
        if key == "x":
            command, title, says = (
                ["stacks", name],
                f"stacks of {name}",
                f"taking the stacks of {name} …",
            )
        else:
            file = f"{name.replace('/', '-')}-{time.strftime('%H%M%S')}.svg"
            command = ["profile", name, "--for", "5s", "--output", file]
            title, says = f"profile of {name}", f"profiling {name} for 5 s …"
        try:
            self._program = Program([*command, *state])
        except OSError as error:
            self._say(f"holdfast {command[0]} could not be started: {error}", "red")
            return
        self._program_page = (title, says)
        self._say(f"{says}   Esc gives up", stays=True)

    def _show_output(self, program: Program) -> None:
        title, _ = self._program_page
        self._message = ("", "", 0.0)
        failed = f" (failed, status {program.status})" if program.status else ""
        self._open(Text(title + failed, program.lines() or ["it printed nothing"]))

    def once(self, width: int, height: int) -> "list[str]":
        """Return one picture, for a file or a pipe: with all workers when ``height`` is 0."""
        self._is_once = True
        while True:
            now_s = time.monotonic()
            self.look(now_s)
            while self.node.asking is not None:
                if not self.node.asking.is_over:
                    select([self.node.asking], [], [], _ANSWER_S)
                self.take(time.monotonic())
            # A keeper that was killed just now is back in a moment.
            if self.node.silent_since_s is None or not self.node.answers(time.monotonic()):
                break
            time.sleep(_ANSWER_S)
        return self.frame(width, height or _HIGH + 2 * len(self.node.workers), time.monotonic())
