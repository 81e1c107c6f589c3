"""`holdfast incidents`: what broke, when, and did the remedy help? One line each, newest first."""

import sys
import time

from holdfast.cli import output, place, terminal
from holdfast.cli.words import parse_moment
from holdfast.records import incidents as records

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from typing import Any

#: So many are read for each line, to find those that it stands for.
_FOLDED = 5
_VERDICT_STYLES = {"cured": "green", "open": "yellow", "closed": "dim"}


def add_arguments(parser: "ArgumentParser") -> None:
    """Declare the arguments."""
    parser.add_argument(
        "--since", metavar="WHEN", help="only later ones: 10m, 2h, 14:30, 2024-11-03"
    )
    parser.add_argument("-w", "--worker", metavar="WORKER", help="only of this worker")
    parser.add_argument(
        "-n",
        "--lines",
        metavar="N",
        type=int,
        default=50,
        help="at most so many (default: 50; 0: all)",
    )
    parser.add_argument(
        "-a", "--all", action="store_true", help="also those that came back as another one of the list (with --json always)",
    )  # fmt: skip


def run(args: "Namespace") -> int:
    """List the incidents; they are on disk, so the node need not run."""
    where = place.find(args)
    now_s = time.time()
    since = parse_moment(args.since, now_s) if args.since else None
    most = args.lines or None
    is_folded = not (args.all or args.json)
    rows = records.list_incidents(
        where.state_dir, since, args.worker, most * _FOLDED if most and is_folded else most
    )
    if args.json:
        output.document({"incidents": rows})
        return 0
    if not rows:
        print(
            "no incidents"
            + (f" of {args.worker}" if args.worker else "")
            + (f" since {args.since}" if since else "")
        )
        return 0
    if is_folded:
        rows = records.folded(rows)[:most]
    columns, _ = terminal.size_of()
    sys.stdout.write("\n".join(render(rows, columns, terminal.paint_for(args))) + "\n")
    return 0


def _since(row: "dict[str, Any]") -> str:
    first_s, last_s = row["first_unix_s"], row["opened_unix_s"]
    is_today = time.strftime("%F", time.localtime(first_s)) == time.strftime("%F", time.localtime(last_s))  # fmt: skip
    return time.strftime("%H:%M" if is_today else "%m-%d %H:%M", time.localtime(first_s))


def render(rows: "list[dict[str, Any]]", width: int, paint: terminal.Paint) -> "list[str]":
    """Return a line for each incident; on a narrow screen the title goes below."""
    room = max(len(row["id"]) for row in rows)
    lines = []
    for row in rows:
        stamp = time.strftime("%m-%d %H:%M", time.localtime(row["opened_unix_s"]))
        verdict = str(row.get("verdict") or "-").replace("_", " ")
        title = str(row.get("title") or row.get("kind") or "")
        if row.get("times", 1) > 1:
            title = f"{row['times']} times since {_since(row)}: {title}"
        said = paint(
            verdict.ljust(12),
            _VERDICT_STYLES.get(str(row.get("verdict")), "red" if verdict != "-" else "dim"),
        )
        head = f"{stamp}  {paint(row['id'].ljust(room), 'bold')}  {said}"
        if room + 27 + min(40, len(title)) > width:
            lines += [
                terminal.clip(head.rstrip(), width),
                terminal.clip(f"             {title}", width),
            ]
        else:
            lines.append(terminal.clip(f"{head}  {title}", width))
    return lines
