"""The first screen: is anything wrong, how is the machine, and every worker in a line.

What is known comes in, lines go out. The table has columns of fixed widths, so that nothing jumps while one scrolls; on a narrow
screen those go first that can be read elsewhere. Leaves out keys (:mod:`holdfast.cli.tops.app`).
"""

from holdfast.cli import table, words
from holdfast.cli.terminal import Paint, clip, visible
from holdfast.cli.tops.rows import SORTS, Row

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from holdfast.cli.tops.charts import Glyphs
    from holdfast.cli.tops.node import Node, Worker
    from holdfast.cli.tops.rows import Choice

#: Name of a column, its heading, its width, whether it leans to the right.
_COLUMNS = (
    ("state", "STATE", 8, False),
    ("ready", "READY", 5, False),
    ("pid", "PID", 8, True),
    ("uptime", "UP", 6, True),
    ("restarts", "RST", 5, True),
    ("memory", "MEM", 6, True),
    ("cpu", "CPU", 6, True),
    ("flags", "FLAGS", 0, False),
)
#: Missed least first.
_DROPPED = ("pid", "ready", "restarts", "flags", "uptime", "cpu")
#: An incident that was not cured is told for so long, though everything runs.
_RECENT_S = 600.0
_NAME_MIN, _NAME_MAX, _FLAGS_MIN = 12, 48, 10


class Last:
    """The last incident, in words."""

    __slots__ = ("is_recent", "says")

    def __init__(self, row: "dict[str, Any] | None", verdict: str, now_unix_s: float) -> None:
        self.says, self.is_recent = "no incident so far", False
        if row is None:
            return
        age_s = now_unix_s - row["opened_unix_s"]
        what = f"{row['worker']} {row['kind'] or ''}".strip()
        said = f", {verdict.replace('_', ' ')}" if verdict else ""
        self.says = f"last incident {words.span(age_s)} ago: {what}{said}"
        #: Just now, and nobody can say yet that it is over: then all is not well, though everything runs.
        self.is_recent = age_s < _RECENT_S and verdict not in ("cured", "closed")
        if self.is_recent:
            is_open = verdict in ("", "open")
            self.says = f"{what} {words.span(age_s)} ago{'; whether it is over is not known yet' if is_open else said}"


def health(node: "Node", now_s: float) -> "tuple[str, str]":
    """Return whether anything is wrong, as one sentence, and its style."""
    if not node.is_up:
        return "the node is down: nobody holds its locks   (holdfast up)", "red"
    if node.plan_trouble:
        return node.plan_trouble, "red"
    if not node.answers(now_s):
        since = words.span(now_s - (node.silent_since_s or now_s))
        return f"the keeper has not answered for {since}; shown is what its journal and /proc tell; workers go on without it", "red"  # fmt: skip
    missing = [role for role, pid in node.house.items() if not pid]
    troubled = [f"this machine {flag['flag']}" for flag in node.flags.get("@node", ())]
    count = len(node.workers)
    for worker in node.workers:
        name = worker["name"]
        if name in node.flags:
            is_left = any(flag.get("phase") == "gave_up" for flag in node.flags[name])
            troubled.append(
                f"{name} {node.flags[name][0]['flag']}{' (no remedy helped)' if is_left else ''}"
            )
        elif worker["state"] in ("failed", "backoff"):
            troubled.append(f"{name} {worker['state']}")
    if troubled:
        shown = ", ".join(troubled[:3]) + (f" and {len(troubled) - 3} more" if len(troubled) > 3 else "")  # fmt: skip
        needs = "needs" if len(troubled) == 1 else "need"
        return f"{len(troubled)} of {words.count(count, 'worker')} {needs} a look: {shown}", "red"
    if missing:
        return f"missing of the house: {', '.join(missing)}; it comes back by itself", "yellow"
    late = [w["name"] for w in node.workers if w["up"] and not w["ready"] and w["state"] not in ("done", "down")]  # fmt: skip
    if late:
        return f"{len(late)} of {words.count(count, 'worker')} not ready yet: {', '.join(late[:4])}", "yellow"  # fmt: skip
    ready = sum(1 for worker in node.workers if worker["ready"])
    resting = count - ready
    rest = f", {resting} at rest" if resting else ""
    return f"all is well: {words.count(ready, 'worker')} ready{rest}, nothing is flagged", "green"


def heading(node: "Node", now_s: float, clock: str, last: Last, width: int, paint: Paint) -> "list[str]":  # fmt: skip
    """Return the line of the node, and the sentence that says whether anything is wrong.

    Args:
        node: What is known.
        now_s: Monotonic.
        clock: The time as it is to be shown.
        last: What is said of the last incident, behind the sentence.
        width: Of the screen.
        paint: Colour or not.
    """
    uptime = node.uptime_s(now_s)
    left = paint(node.name or "node", "bold")
    left += (
        f"  up {words.span(uptime)}" if uptime is not None else "  down" if not node.is_up else ""
    )
    left += f"  {words.count(len(node.workers), 'worker')}"
    if width >= 100:
        left += f"  {node.where.config or node.where.state_dir}"
    left = clip(left, max(1, width - len(clock) - 1))
    room = max(1, width - visible(left) - len(clock))
    says, style = health(node, now_s)
    if style == "green" and last.is_recent:
        says, style = f"nothing is flagged, but: {last.says}", "yellow"
    lines = [left + " " * room + clock, clip(paint(says, style), width)]
    if style == "green" and len(says) + len(last.says) + 2 <= width:
        lines[1] += "  " + paint(last.says, "dim")
    return lines


class Table:
    """The table of workers at one width."""

    def __init__(self, width: int, names: int, *, has_flags: bool) -> None:
        self._width = width
        chosen = [name for name, *_ in _COLUMNS if name != "flags" or has_flags]
        self._name = min(_NAME_MAX, max(_NAME_MIN, names))
        for dropped in _DROPPED:
            if self._rest(chosen) >= 0:
                break
            chosen = [name for name in chosen if name != dropped]
        self._chosen = [column for column in _COLUMNS if column[0] in chosen]
        self._name = max(_NAME_MIN, self._name + min(0, self._rest(chosen)))

    def _rest(self, chosen: "list[str]") -> int:
        used = 2 + self._name
        for name, _, width, _ in _COLUMNS:
            if name in chosen:
                used += 1 + (width or _FLAGS_MIN)
        return self._width - used

    def heading(self, choice: "Choice", paint: Paint, glyphs: "Glyphs") -> str:
        """Return the line above; the column that is sorted by has an arrow."""
        arrow = glyphs.fall if choice.is_turned == (choice.sort in ("worker", "state", "pid", "uptime", "urgency")) else glyphs.rise  # fmt: skip
        title = "WORKER" + (arrow if choice.sort == "worker" else "")
        line = f"  {title.ljust(self._name)}"
        for name, text, width, is_right in self._chosen:
            marked = text + (arrow if choice.sort == name else "")
            line += " " + (marked.rjust(width) if is_right else marked.ljust(width))
        return paint(clip(line.rstrip(), self._width), "bold")

    def line(self, row: Row, node: "Node", now_unix_s: float, paint: Paint) -> str:
        """Return the line of a worker, or of the heading of several."""
        indent = "  " * row.depth
        if row.worker is None:
            ready = sum(1 for name in row.members if node.by_name.get(name, {}).get("ready"))
            text = f"{indent}{row.says}  {ready} of {len(row.members)} ready"
            return clip(f"  {paint(text, 'bold')}", self._width)
        worker = row.worker
        flags = node.flags.get(worker["name"], ())
        is_bad = bool(flags) or worker["state"] in ("failed", "backoff")
        name = table.shorten(indent + worker["name"], self._name)
        line = f" {paint('!', 'red') if is_bad else ' '}{name.ljust(self._name)}"
        cells = self._cells(worker, node, now_unix_s)
        for column, _, width, is_right in self._chosen:
            text, style = cells[column]
            padded = text.rjust(width) if is_right else text.ljust(width)
            line += " " + (padded.replace(text, paint(text, style), 1) if style and text else padded)  # fmt: skip
        return clip(line.rstrip(), self._width)

    def _cells(
        self, worker: "Worker", node: "Node", now_unix_s: float
    ) -> "dict[str, tuple[str, str]]":
        usage = node.usage(worker)
        state = table.state_of(worker)
        is_there = worker["pid"] is not None
        started = worker["started_at_unix_s"]
        flags = ",".join(flag["flag"] for flag in node.flags.get(worker["name"], ()))
        return {
            "state": (state, table.STATE_STYLES.get(state, "")),
            "ready": ("yes" if worker["ready"] else "no" if is_there else "-", "" if worker["ready"] or not is_there else "yellow"),
            "pid": (str(worker["pid"] or "-"), ""),
            "uptime": (words.span(now_unix_s - started) if is_there and started else "-", ""),
            "restarts": (str(worker["restarts"]), ""),
            "memory": (words.size(usage.rss_bytes if usage else None), ""),
            "cpu": (words.share(usage.cpu_share if usage else None), ""),
            "flags": (flags, "red"),
        }  # fmt: skip


def notes(node: "Node", now_s: float, now_unix_s: float, width: int, most: int, paint: Paint) -> "list[str]":  # fmt: skip
    """Return what is wrong and what is being done about it, in ``most`` lines at most."""
    if most < 2:
        return []
    found = table.notes(node.snapshot(now_s), width, paint, now_unix_s)[1:]
    if len(found) > most:
        found = [*found[: most - 1], paint("… i shows the incidents", "dim")]
    return found


def house(node: "Node") -> str:
    """Return the line of the house processes."""
    return "house: " + "  ".join(f"{role} {pid or 'MISSING'}" for role, pid in node.house.items())


def chosen(line: str, width: int) -> str:
    """Return a line as the one that is chosen: a mark in front, and reversed (which is no colour)."""
    marked = ">" + line[1:]
    return f"\x1b[7m{marked}{' ' * max(0, width - visible(marked))}\x1b[0m"


def next_sort(sort: str, step: int) -> str:
    """Return the column to the right or to the left."""
    return SORTS[(SORTS.index(sort) + step) % len(SORTS)]
