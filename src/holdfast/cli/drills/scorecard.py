"""How does a scorecard look to a person? One line for each drill, and below it what was not as it has to be."""

from holdfast.cli.drills import catalogue
from holdfast.cli.drills import row as rows
from holdfast.cli.terminal import clip
from holdfast.cli.words import count, span

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from holdfast.cli.drills.catalogue import Drill
    from holdfast.cli.drills.row import Row
    from holdfast.cli.terminal import Paint

_STYLES = {rows.PASSED: "green", rows.FAILED: "red", rows.SKIPPED: "dim"}
_SIGNS = {rows.PASSED: "ok", rows.FAILED: "FAILED", rows.SKIPPED: "skipped"}
_HEAD = ("drill", "result", "noticed", "back", "objective", "evidence", "verdict", "others")
_RIGHT = (2, 3, 4)


def seconds(value: "float | None") -> str:
    """Return a time of a scorecard: milliseconds where they matter."""
    if value is None:
        return "-"
    if value < 0.0005:
        return "<1 ms"
    if value < 0.995:
        return f"{value * 1000:.0f} ms"
    return f"{value:.2f} s" if value < 9.95 else f"{value:.0f} s"


def render(table: "Sequence[Row]", columns: int, paint: "Paint", took_s: float) -> "list[str]":
    """Return the scorecard."""
    cells = [_HEAD, *(_cells(row) for row in table if not row.skipped)]
    widths = [max(len(line[at]) for line in cells) for at in range(len(_HEAD))]
    lines = [paint(_line(_HEAD, widths), "bold")]
    for row in table:
        if row.skipped:
            continue
        line = _line(_cells(row), widths)
        sign = _SIGNS[row.result]
        at = widths[0] + 2
        painted = paint(sign, _STYLES[row.result])
        lines.append(clip(line[:at] + painted + line[at + len(sign) :], columns))
        lines += [f"    {paint('!', 'red')} {says}" for says in row.failures()]
        lines += [
            f"    {paint('-', 'dim')} no {gap.get('what')}: {gap.get('why')}"
            for gap in row.evidence.missed
            if row.evidence.state == rows.PARTIAL
        ]
    skipped = [row for row in table if row.skipped]
    if skipped:
        lines += ["", paint("skipped", "dim")]
        width = max(len(row.drill.name) for row in skipped)
        lines += [clip(f"  {row.drill.name:<{width}}  {row.skipped}", columns) for row in skipped]
    return [*lines, "", summary(table, paint, took_s)]


def summary(table: "Sequence[Row]", paint: "Paint", took_s: float) -> str:
    """Return the last line."""
    results = [row.result for row in table]
    passed, failed = results.count(rows.PASSED), results.count(rows.FAILED)
    words = [f"{count(passed + failed, 'drill')} in {span(took_s)}"]
    words.append(paint(f"{failed} failed", "red") if failed else paint("all passed", "green"))
    if not passed + failed:
        words = ["no drill was carried out"]
    if rows.SKIPPED in results:
        words.append(f"{results.count(rows.SKIPPED)} skipped")
    return ", ".join(words)


def one_line(row: "Row", paint: "Paint") -> str:
    """Return what is said when a drill is over: the verdict may still be open."""
    sign = paint(_SIGNS[row.result].ljust(7), _STYLES[row.result])
    if row.skipped:
        return f"{sign} {row.drill.name}: {row.skipped}"
    failures = row.failures()
    says = f": {failures[0]}" if failures else ""
    times = f"noticed after {seconds(row.detection_s)}, back after {seconds(row.recovery_s)}"
    return f"{sign} {row.drill.name}  {times}{says}"


def listing(drills: "Sequence[Drill]", columns: int, paint: "Paint") -> "list[str]":
    """Return the drills that there are, with their objectives."""
    width = max((len(drill.name) for drill in drills), default=0)
    lines = []
    for drill in drills:
        what = catalogue.KINDS[drill.kind]
        says = paint(f"skipped: {drill.skip}", "dim") if drill.skip else what
        lines.append(
            clip(f"{drill.name:<{width}}  {seconds(drill.objective_s):>8}  {says}", columns)
        )
    return lines


def _cells(row: "Row") -> "tuple[str, ...]":
    evidence = row.evidence
    found = evidence.incident or (evidence.kind if evidence.state != rows.NONE else None) or "none"
    if evidence.incident:
        found += f" ({evidence.kind}"
        found += f", {count(evidence.stacks, 'stack')})" if evidence.stacks else ")"
    return (
        row.drill.name, _SIGNS[row.result], seconds(row.detection_s), seconds(row.recovery_s),
        seconds(row.drill.objective_s), found, (row.verdict or "-").replace("_", " "),
        count(len(row.collateral), "effect") if row.collateral else "untouched",
    )  # fmt: skip


def _line(cells: "Sequence[str]", widths: "Sequence[int]") -> str:
    parts = [
        cell.rjust(width) if at in _RIGHT else cell.ljust(width)
        for at, (cell, width) in enumerate(zip(cells, widths, strict=True))
    ]
    return "  ".join(parts).rstrip()
