"""One worker on one screen: how it is, its lives and deaths, what it uses, what is wrong, what it says.

The screen is shared out by height: a small one gets each chart in a single line, and the log gets what is left.
Leaves out orders (:mod:`holdfast.cli.tops.orders`).
"""

import time

from holdfast.cli import table, words
from holdfast.cli.terminal import Paint, clip
from holdfast.cli.tops import charts
from holdfast.cli.tops.asking import Ask
from holdfast.cli.tops.feed import Feed
from holdfast.cli.tops.logtail import Tail
from holdfast.cli.tops.pages import incident_line, log_lines
from holdfast.cli.tops.past import Lives, Samples
from holdfast.diagnosis.words import status_words
from holdfast.wire import layout

TYPE_CHECKING = False
if TYPE_CHECKING:
    from holdfast.cli.tops.node import Node, Worker

#: Times that the strip and the charts may show.
_SPANS = (60.0, 300.0, 600.0, 1800.0, 3600.0, 6 * 3600.0, 86400.0, 7 * 86400.0)
_COMPONENTS_S = 5.0
_LABEL = 12  #: columns left of a chart
_INCIDENTS = 3
#: Why a life ended, where somebody wanted it to.
_ENDS = {
    "stop": "stopped: ", "restart": "restarted: ", "apply": "new configuration: ", "group": "with its group: ",
    "down": "node down: ", "remedy": "as a remedy: ",
}  # fmt: skip


class One:
    """The page of one worker."""

    hint = "l log  i incidents  r restart  S stop/start  p profile  x stacks  - + time  q back"

    def __init__(self, node: "Node", name: str) -> None:
        self._node = node
        self.name = name
        run_dir = node.where.run_dir
        self._lives, self._samples = Lives(run_dir, name), Samples(run_dir, name)
        entry = node.entries.get(name)
        self._tail = Tail(entry.log) if entry is not None and entry.log else None
        self._feed = Feed(node.where.state_dir, name)
        self._span = 2
        self._states: dict[str, str] = {}
        self._ask: Ask | None = None
        self._asked_s = -_COMPONENTS_S
        self._is_new = True

    # -- looking -----------------------------------------------------------------------------------

    def look(self, now_s: float) -> None:
        """Read what is new."""
        self._lives.read()
        self._samples.read()
        if self._tail is not None:
            self._tail.read()
        self._feed.look(_INCIDENTS)
        if self._is_new:
            self._is_new = False
            self._span = self._fitting()
        worker = self._node.by_name.get(self.name)
        entry = self._node.entries.get(self.name)
        if worker is None or not worker["pid"] or entry is None or not entry.components:
            self._states = {}
        elif self._ask is None and now_s - self._asked_s >= _COMPONENTS_S:
            self._asked_s = now_s
            path = f"{self._node.where.run_dir}/{layout.CONTROL}/{self.name}.sock"
            self._ask = Ask(path, {"do": "components"}, 1.0)

    def take(self) -> bool:
        """Take the answer of its container, if it has come; return whether there is anything new."""
        ask = self._ask
        if ask is None:
            return False
        if not ask.is_over:
            ask.step()
        if not ask.is_over:
            return False
        self._ask = None
        told = (ask.reply or {}).get("components") or ()
        self._states = {str(one.get("name")): str(one.get("state")) for one in told}
        return True

    def asking(self) -> "Ask | None":
        """Return the question that is open."""
        return self._ask

    def _fitting(self) -> int:
        """Return the shortest time that holds the last lives, an hour at most."""
        lives = self._lives.all()
        age_s = time.time() - (lives[0].born_s if lives else time.time())
        return next((at for at, span in enumerate(_SPANS) if span >= min(age_s, 3600.0)), 2)

    def close(self) -> None:
        """Let go of what is open."""
        if self._tail is not None:
            self._tail.close()
        if self._ask is not None:
            self._ask.end()

    def key(self, key: str) -> bool:
        """Take a key."""
        if key in "+=":
            self._span = min(len(_SPANS) - 1, self._span + 1)
        elif key == "-":
            self._span = max(0, self._span - 1)
        else:
            return False
        return True

    # -- drawing -----------------------------------------------------------------------------------

    def render(self, width: int, room: int, paint: Paint, glyphs: charts.Glyphs) -> "list[str]":
        """Return ``room`` lines at most."""
        now_s = time.time()
        worker = self._node.by_name.get(self.name)
        if worker is None:
            return [paint(self.name, "bold"), "this worker is not in the plan of the node any more"]
        lines = [self._head(worker, now_s, width, paint)]
        lines += self._trouble(worker, now_s, paint)
        rows = 1 if room < 22 else 2 if room < 30 else 4
        lines += self._past(now_s, width, rows, paint, glyphs)
        lines += self._figures()
        lines += self._components(paint)
        incidents = [
            incident_line(row, self._feed.verdict(row), width, paint)
            for row in self._feed.rows[: 1 if room < 20 else _INCIDENTS]
        ]
        if incidents:
            lines += [paint("incidents", "dim") if room >= 20 else "", *incidents]
        lines = [clip(line, width) for line in lines if line]
        left = room - len(lines) - 1
        if left > 0 and self._tail is not None:
            lines.append(paint("log", "dim"))
            lines += log_lines(self._tail.lines[-left:], width, paint) or ["nothing yet"]
        return lines[:room]

    def _head(self, worker: "Worker", now_s: float, width: int, paint: Paint) -> str:
        state = table.state_of(worker)
        said = paint(state, table.STATE_STYLES.get(state, ""))
        parts = [f"{paint(self.name, 'bold')}  {said}{', ready' if worker['ready'] else ''}"]
        if worker["pid"]:
            parts.append(f"pid {worker['pid']}")
            if worker["started_at_unix_s"]:
                parts.append(f"up {words.span(now_s - worker['started_at_unix_s'])}")
        parts.append(f"life {worker['n']}, {words.count(worker['restarts'], 'restart')}")
        if width >= 60:
            parts.append(worker["kind"])
            if worker.get("spare_pid"):
                parts.append(f"warm spare {worker['spare_pid']}")
        return "  ".join(parts)

    def _trouble(self, worker: "Worker", now_s: float, paint: Paint) -> "list[str]":
        flags = self._node.flags.get(self.name, [])
        lines = [line for flag in flags for line in table.flag_lines(flag, paint, now_s)]
        lines += table.trouble_lines({**worker, "flags": flags}, paint)
        return lines or [paint("nothing is wrong with it now", "green")]

    def _past(
        self, now_s: float, width: int, rows: int, paint: Paint, glyphs: charts.Glyphs
    ) -> "list[str]":
        span_s = _SPANS[self._span]
        columns, begin_s = max(8, width - _LABEL), now_s - span_s
        lives = self._lives.all()
        strip = charts.strip(lives, begin_s, now_s, columns, glyphs)
        lines = ["lives".ljust(_LABEL) + _coloured(strip, glyphs, paint)]
        lines.append(paint(_axis(span_s, columns), "dim"))
        last = next((life for life in reversed(lives) if life.ended_s is not None), None)
        if last is not None and last.ended_s is not None:
            ago = words.span(now_s - last.ended_s)
            how = _ENDS.get(last.cause, "died: ")
            lived = words.span(last.ended_s - last.born_s)
            lines.append(f"last end    {ago} ago: {how}{status_words(last.status)} after {lived}")
        cpu, memory = self._samples.pieces()
        for name, pieces, least, said in (
            ("cpu", cpu, 0.1, words.share),
            ("memory", memory, 1.0, lambda value: words.size(int(value))),
        ):
            if not pieces:
                continue  # nobody has sampled it yet, which is said below
            values = charts.spread(pieces, begin_s, now_s, columns)
            top = max((value for value in values if value is not None), default=0.0)
            chart = charts.bars(values, rows, max(top, least), glyphs)
            newest = said(pieces[-1][2])
            labels = [f"{name} {newest}", *[""] * (rows - 1)]
            if rows > 1:
                labels = [said(top), *[""] * (rows - 2), f"{name} {newest}"]
            lines += [label.ljust(_LABEL) + line for label, line in zip(labels, chart, strict=True)]
        return lines

    def _figures(self) -> "list[str]":
        now = self._samples.last()
        if now is None:
            return ["not sampled yet"]
        parts = [words.count(now["threads"], "thread")]
        if now["fds"] >= 0:
            parts.append(words.count(now["fds"], "open file"))
        if now["children"]:
            parts.append(
                words.count(now["children"], "child process").replace("processs", "processes")
            )
        if now["tasks"] > 0:
            parts.append(words.count(now["tasks"], "task"))
        if now["in_flight"] > 0:
            parts.append(f"{now['in_flight']} in flight")
        if now["lag_ns"] > 0:
            parts.append(f"loop lag {now['lag_ns'] / 1e6:.0f} ms")
        rate = self._work_rate()
        if rate:
            parts.append(f"{rate:.1f} units of work a second")
        return ["now         " + ", ".join(parts)]

    def _work_rate(self) -> float:
        rows = self._samples.rows[-10:]
        if len(rows) < 2 or rows[0][4] != rows[-1][4] or rows[-1][2] <= rows[0][2]:
            return 0.0
        return max(0.0, (rows[-1][14] - rows[0][14]) / ((rows[-1][2] - rows[0][2]) / 1e9))

    def _components(self, paint: Paint) -> "list[str]":
        entry = self._node.entries.get(self.name)
        if entry is None or not entry.components:
            return []
        parts = []
        for name in entry.components:
            state = self._states.get(name, "")
            parts.append(f"{name} {paint(state, table.STATE_STYLES.get(state, ''))}".rstrip())
        return ["components  " + ", ".join(parts)]


def _coloured(strip: str, glyphs: charts.Glyphs, paint: Paint) -> str:
    """Return the strip with its deaths in red, a run at a time."""
    if not paint.is_on:
        return strip
    out, run, is_death = [], "", False
    for sign in strip:
        died = sign not in (glyphs.alive, glyphs.down, "o")
        if died != is_death and run:
            out.append(paint(run, "red" if is_death else "green"))
            run = ""
        is_death = died
        run += sign
    return "".join(out) + paint(run, "red" if is_death else "green")


def _axis(span_s: float, columns: int) -> str:
    begin, end = f"{words.span(span_s).removesuffix('00s').removesuffix('00m')} ago", "now"
    return " " * _LABEL + begin + " " * max(1, columns - len(begin) - len(end)) + end
