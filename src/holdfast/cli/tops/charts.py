"""How does a row of figures look in characters: bars of a chart, the strip of a worker's lives?

Pure. A terminal that cannot show block characters gets others; what is said never depends on colour.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from holdfast.cli.tops.past import Life


class Glyphs:
    """The characters that this terminal can show."""

    __slots__ = ("alive", "down", "fall", "full", "levels", "rise")

    def __init__(self, levels: str, alive: str, down: str, rise: str, fall: str) -> None:
        self.levels = levels  #: from empty to full
        self.full = levels[-1]
        self.alive, self.down = alive, down
        self.rise, self.fall = rise, fall


def glyphs_for(encoding: str, term: str) -> Glyphs:
    """Return what may be used: Unicode blocks, those of the Linux console's font, or ASCII."""
    if encoding.lower().replace("-", "") != "utf8":
        return Glyphs(" .:-=+*#", "=", ".", "^", "v")
    if term == "linux":
        return Glyphs(" ▄█", "■", "·", "^", "v")
    return Glyphs(" ▁▂▃▄▅▆▇█", "━", "·", "▲", "▼")


def bars(values: "Sequence[float | None]", rows: int, top: float, glyphs: Glyphs) -> "list[str]":
    """Return a chart of ``rows`` lines, a column for each value; nothing where there is none."""
    steps = len(glyphs.levels) - 1
    lines = []
    for row in range(rows - 1, -1, -1):
        line = []
        for value in values:
            if value is None:
                line.append(" ")
                continue
            height = min(1.0, value / top) * rows * steps if top > 0 else 0.0
            # The lowest line shows the least mark also for zero: there was a sample.
            level = max(round(height - row * steps), 1 if row == 0 else 0)
            line.append(glyphs.levels[min(steps, level)])
        lines.append("".join(line))
    return lines


def spread(
    pieces: "Iterable[tuple[float, float, float]]", begin_s: float, end_s: float, columns: int
) -> "list[float | None]":
    """Return the largest value in each of ``columns`` equal parts of a time; pieces are (from, to, value)."""
    found: list[float | None] = [None] * columns
    width_s = (end_s - begin_s) / columns if columns else 0
    if width_s <= 0:
        return found
    for from_s, to_s, value in pieces:
        first = max(0, int((from_s - begin_s) / width_s))
        last = min(columns - 1, int((to_s - begin_s) / width_s))
        for column in range(first, last + 1):
            old = found[column]
            found[column] = value if old is None else max(old, value)
    return found


def strip(
    lives: "Iterable[Life]", begin_s: float, end_s: float, columns: int, glyphs: Glyphs
) -> str:
    """Return lives and deaths, a character for each part of the time.

    ``x`` a death, a digit several of them, ``o`` an end that somebody asked for; else whether it lived.
    """
    cells = [glyphs.down] * columns
    deaths = [0] * columns
    asked = [0] * columns
    width_s = (end_s - begin_s) / columns if columns else 0
    if width_s <= 0:
        return ""
    for life in lives:
        until_s = end_s if life.ended_s is None else life.ended_s
        if until_s < begin_s or life.born_s > end_s:
            continue
        first = max(0, int((life.born_s - begin_s) / width_s))
        last = min(columns - 1, int((until_s - begin_s) / width_s))
        for column in range(first, last + 1):
            cells[column] = glyphs.alive
        if life.ended_s is not None:
            (deaths if life.is_death else asked)[last] += 1
    for column in range(columns):
        if deaths[column]:
            cells[column] = "x" if deaths[column] == 1 else str(min(9, deaths[column]))
        elif asked[column]:
            cells[column] = "o"
    return "".join(cells)
