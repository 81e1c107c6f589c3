"""How does a node look on a screen: the table of workers, the line of the house, and what is wrong.

Pure: a snapshot, a width and a painter in, lines out. Fits any width from 60 columns: headings shorten first, then
columns that can be read elsewhere go, then long names lose their middle.
"""

from holdfast.cli import words
from holdfast.cli.terminal import Paint, clip, visible

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

#: What each state looks like.
STATE_STYLES = {
    "waiting": "dim", "starting": "yellow", "running": "green", "stopping": "yellow", "backoff": "red",
    "down": "dim", "failed": "red", "done": "dim", "idle": "dim",
}  # fmt: skip
#: What is being done about a flag, by its phase.
PHASES = {
    "raised": "seen just now; evidence and remedy follow",
    "evidence": "evidence is being taken",
    "remedy": "being remedied (rung {rung})",
    "verify": "remedied (rung {rung}); watching whether it helped",
    "shown": "written up; not bad enough for a remedy",
    "gave_up": "no remedy helped: this needs you",
}
#: Workers that are not as they should be and flags are listed below the table, up to this many.
MOST_NOTES = 20
#: Order in which workers are shown where not all of them fit: those that need a look first.
URGENCY = {
    "failed": 0,
    "backoff": 1,
    "starting": 2,
    "stopping": 3,
    "waiting": 4,
    "down": 5,
    "running": 6,
    "done": 7,
}

_GAP = 2
_NAME_MIN = 10


class Column:
    """One column: its heading, a shorter one, and which side its values lean to."""

    __slots__ = ("cells", "is_right", "short", "styles", "title")

    def __init__(self, title: str, short: str, *, is_right: bool = False) -> None:
        self.title = title
        self.short = short
        self.is_right = is_right
        self.cells: list[str] = []
        self.styles: list[str] = []

    def add(self, text: str, style: str = "") -> None:
        """Add the cell of the next row."""
        self.cells.append(text)
        self.styles.append(style)

    def width(self, title: str) -> int:
        """Return the room this column takes with a heading."""
        return max(len(title), max(map(len, self.cells), default=0))


def status(snapshot: "dict[str, Any]", width: int, paint: Paint, now_unix_s: float) -> "list[str]":
    """Return everything that `holdfast status` shows."""
    return [
        *heading(snapshot, width, paint),
        *table(snapshot["workers"], width, paint, now_unix_s),
        "",
        *house(snapshot, width, paint),
        *notes(snapshot, width, paint, now_unix_s),
    ]


def heading(snapshot: "dict[str, Any]", width: int, paint: Paint) -> "list[str]":
    """Return the line above the table: the node's name and how many workers are in which state."""
    tally: dict[str, int] = {}
    for worker in snapshot["workers"]:
        state = state_of(worker)
        tally[state] = tally.get(state, 0) + 1
    states = ", ".join(
        f"{count} {state}" for state, count in sorted(tally.items(), key=lambda pair: -pair[1])
    )
    ready = sum(worker["ready"] for worker in snapshot["workers"])
    line = f"{paint(snapshot['node'] or 'node', 'bold')}  {words.count(len(snapshot['workers']), 'worker')}"
    if states:
        line += f": {states}; {ready} ready"
    if snapshot["uptime_s"] is not None:
        line += f"; up {words.span(snapshot['uptime_s'])}"
    lines = [clip(line, width)]
    if not snapshot["keeper_answers"]:
        lines += [
            clip(paint(f"the keeper does not answer: {snapshot['trouble']}", "red"), width),
            clip(
                "  shown is what its journal and /proc tell; workers go on running without it",
                width,
            ),
        ]
    return [*lines, ""]


def state_of(worker: "dict[str, Any]") -> str:
    """Return the state of a worker as a person calls it.

    A quarantine lane without suspects is down, and that is how it should be.
    """
    state: str = worker["state"]
    return "idle" if worker.get("jobs") == "quarantine" and state in ("down", "done") else state


def table(
    workers: "list[dict[str, Any]]", width: int, paint: Paint, now_unix_s: float
) -> "list[str]":
    """Return the table of workers, with its heading."""
    name = Column("WORKER", "WORKER")
    state = Column("STATE", "STATE")
    ready = Column("READY", "READY")
    pid = Column("PID", "PID", is_right=True)
    uptime = Column("UPTIME", "UP", is_right=True)
    restarts = Column("RESTARTS", "RST", is_right=True)
    memory = Column("MEMORY", "MEM", is_right=True)
    cpu = Column("CPU", "CPU", is_right=True)
    flags = Column("FLAGS", "FLAGS")
    for worker in workers:
        name.add(worker["name"])
        word = state_of(worker)
        state.add(word, STATE_STYLES.get(word, ""))
        is_up = worker["pid"] is not None
        ready.add(
            "yes" if worker["ready"] else "no" if is_up else "-",
            "" if worker["ready"] or not is_up else "yellow",
        )
        pid.add(str(worker["pid"]) if is_up else "-")
        started = worker["started_at_unix_s"]
        uptime.add(words.span(now_unix_s - started) if is_up and started else "-")
        restarts.add(str(worker["restarts"]))
        memory.add(words.size(worker["rss_bytes"]))
        cpu.add(words.share(worker["cpu_share"]))
        flags.add(",".join(flag["flag"] for flag in worker["flags"]), "red")
    columns = [name, state, ready, pid, uptime, restarts, memory, cpu]
    if any(flags.cells):
        columns.append(flags)
    fitted = _fit(columns, width, name, pid, flags)
    lines = ["  ".join(_aligned(column, title, room) for column, title, room in fitted).rstrip()]
    lines[0] = paint(lines[0], "bold")
    for row in range(len(workers)):
        cells = [
            _painted(paint, _aligned(column, column.cells[row], room), column.styles[row])
            for column, _, room in fitted
        ]
        lines.append("  ".join(cells).rstrip())
    return lines


def _fit(
    columns: "list[Column]", width: int, name: Column, pid: Column, flags: Column
) -> "list[tuple[Column, str, int]]":
    fitted = [(column, column.title, column.width(column.title)) for column in columns]
    if _total(fitted) <= width:
        return fitted
    fitted = [(column, column.short, column.width(column.short)) for column in columns]
    if _total(fitted) <= width:
        return fitted
    # In the order in which a person misses them least: flags are spelled out below the table anyway.
    for dropped in (pid, flags):
        if dropped is flags and dropped in columns:
            spare = width - _total([f for f in fitted if f[0] is not flags]) - _GAP
            if spare >= 8:
                return [(c, t, spare if c is flags else w) for c, t, w in fitted]
        fitted = [entry for entry in fitted if entry[0] is not dropped]
        if _total(fitted) <= width:
            return fitted
    too_much = _total(fitted) - width
    return [(c, t, max(_NAME_MIN, w - too_much) if c is name else w) for c, t, w in fitted]


def _total(fitted: "list[tuple[Column, str, int]]") -> int:
    return sum(room for _, _, room in fitted) + _GAP * (len(fitted) - 1)


def _aligned(column: Column, text: str, room: int) -> str:
    text = shorten(text, room)
    return text.rjust(room) if column.is_right else text.ljust(room)


def _painted(paint: Paint, text: str, style: str) -> str:
    # Only the word is coloured, not the blanks around it: trailing ones are stripped from the line.
    word = text.strip()
    return text.replace(word, paint(word, style), 1) if style and word else text


def shorten(text: str, room: int) -> str:
    """Return a name in ``room`` columns, without its middle: names of many workers differ at the end."""
    if len(text) <= room:
        return text
    tail = (room - 1) // 2
    return text[: room - 1 - tail] + "…" + text[len(text) - tail :]


def house(snapshot: "dict[str, Any]", width: int, paint: Paint) -> "list[str]":
    """Return the line of the house processes (two or more on a narrow screen)."""
    parts = []
    for process in snapshot["house"]:
        if process["pid"] is None:
            parts.append(paint(f"{process['name']} missing", "red"))
        else:
            parts.append(f"{process['name']} {process['pid']} {words.size(process['rss_bytes'])}")
    lines = ["house: " + " · ".join(parts)]
    if visible(lines[0]) > width:
        lines = ["house: " + " · ".join(parts[:2]), "       " + " · ".join(parts[2:])]
    return [clip(line, width) for line in lines]


def notes(snapshot: "dict[str, Any]", width: int, paint: Paint, now_unix_s: float) -> "list[str]":
    """Return what is wrong and what is being done about it: a line or two for each flag and each worker in trouble."""
    found: list[list[str]] = []
    all_flags = list(snapshot["flags"])
    for worker in snapshot["workers"]:
        all_flags += worker["flags"]
    found += [flag_lines(flag, paint, now_unix_s) for flag in all_flags]
    found += [split_lines(split, paint, now_unix_s) for split in snapshot.get("splits", ())]
    flagged = {flag["worker"] for flag in all_flags}
    for worker in snapshot["workers"]:
        if worker["name"] in flagged and worker["state"] == "running":
            continue
        lines = trouble_lines(worker, paint)
        if lines:
            found.append(lines)
    lines = [clip(line, width) for entry in found[:MOST_NOTES] for line in entry]
    if len(found) > MOST_NOTES:
        lines.append(
            f"… and {len(found) - MOST_NOTES} more of this kind (holdfast status --json has them all)"
        )
    return ["", *lines] if lines else []


def flag_lines(flag: "dict[str, Any]", paint: Paint, now_unix_s: float) -> "list[str]":
    """Return what a flag says, since when, and what is being done."""
    since = words.span(now_unix_s - flag["since_unix_s"]) if flag.get("since_unix_s") else "?"
    where = "this machine" if flag["worker"] == "@node" else flag["worker"]
    phase = str(flag.get("phase", ""))
    doing = PHASES.get(phase, phase).format(rung=flag.get("rung", 0))
    lines = [
        f"{paint('!', 'red')} {where}: {paint(flag['flag'], 'bold')} for {since}: {flag.get('says', '')}".rstrip(
            ": "
        ),
        f"    {doing}",
    ]
    if flag.get("incident"):
        lines.append(f"    look: holdfast incident {flag['incident']}")
    return lines


def split_lines(split: "dict[str, Any]", paint: Paint, now_unix_s: float) -> "list[str]":
    """Return how a worker is split to find out which of its components makes it die."""
    alone = [members[0] for members in split["parts"].values() if len(members) == 1]
    who = f"{', '.join(alone[:6])}{' …' if len(alone) > 6 else ''} alone"
    since = words.span(now_unix_s - split["since_unix_s"])
    return [
        f"{paint('!', 'yellow')} {split['worker']}: {paint('split', 'bold')} into {words.count(len(split['parts']), 'part')} "
        f"for {since}, because it died again and again" + (f": {who}" if alone else ""),
        "    look: holdfast isolate",
    ]


def trouble_lines(worker: "dict[str, Any]", paint: Paint) -> "list[str]":
    """Return why a worker is not running, and what to do; nothing when it is as it should be."""
    state, name, why = state_of(worker), worker["name"], worker["why"]
    if state == "failed":
        return [
            f"{paint('!', 'red')} {name}: {paint('failed', 'bold')}: {why or 'it died too often'}",
            f"    look: holdfast incidents --worker {name}      try again: holdfast start {name}",
        ]
    if state == "backoff":
        wait = f" in {words.span(worker['delay_s'])}" if worker["delay_s"] else " soon"
        return [f"{paint('!', 'yellow')} {name}: starts again{wait}" + (f": {why}" if why else "")]
    if state == "waiting" and why:
        return [f"  {name}: waiting: {why}"]
    if state == "down" and why:
        return [f"  {name}: down: {why}"]
    return []


def by_urgency(workers: "list[dict[str, Any]]") -> "list[dict[str, Any]]":
    """Return the workers with those that need a look first; otherwise in their order."""
    return sorted(workers, key=lambda w: (not w["flags"], URGENCY.get(w["state"], 0), w["ready"]))
