"""`holdfast top`: the node on a terminal, as it is at this moment: what is wrong, who uses what, and the keys to do something about it."""

import os
import sys

from holdfast.cli import output, place, snapshot, terminal
from holdfast.cli.words import parse_span
from holdfast.model.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

_SHORTEST_S = 0.2
#: Width of the one picture that goes to a file or a pipe.
_WIDTH = 120


def add_arguments(parser: "ArgumentParser") -> None:
    """Declare the arguments."""
    parser.add_argument(
        "filter", nargs="*", metavar="FILTER",
        help="only workers with these words in name, state, kind, group or flags",
    )  # fmt: skip
    parser.add_argument("--every", metavar="SPAN", default="1s", help="time between two frames (default: 1s)")  # fmt: skip
    parser.add_argument("--once", action="store_true", help="print one frame and end")
    parser.add_argument(
        "--read-only", action="store_true", help="without the keys that give orders"
    )
    parser.epilog = "? shows the keys. --json prints what `holdfast status --json` does."


def run(args: "Namespace") -> int:
    """Show the node until the person has seen enough; 0."""
    every_s = parse_span(args.every)
    if every_s < _SHORTEST_S:
        raise UsageError(f"--every {args.every} is too often: at least {_SHORTEST_S:g}s")
    where = place.find(args)
    place.need_running(where)
    if args.json:
        output.document(snapshot.take(where))
        return 0
    encoding = sys.stdout.encoding or "ascii"
    paint = terminal.paint_for(args)
    pattern = " ".join(args.filter)
    if args.once or not sys.stdout.isatty():
        from holdfast.cli.tops.app import App
        from holdfast.cli.tops.charts import glyphs_for

        glyphs = glyphs_for(encoding, os.environ.get("TERM", ""))
        app = App(where, paint, glyphs, every_s=every_s, is_read_only=True)
        app.choice.pattern = pattern
        columns, height = terminal.size_of()
        is_file = not sys.stdout.isatty()
        lines = app.once(_WIDTH if is_file else columns, 0 if is_file else height)
        sys.stdout.write("\n".join(lines).rstrip() + "\n")
        return 0
    term = os.environ.get("TERM", "")
    if term in ("", "dumb"):
        msg = f'TERM="{term}": nothing can be drawn on this terminal\n  one picture:  holdfast top --once'
        raise UsageError(msg)
    from holdfast.cli.tops import process

    return process.become({
        "state_dir": where.state_dir, "config": where.config, "every_s": every_s, "read_only": args.read_only,
        "colour": paint.is_on, "encoding": encoding, "filter": pattern,
    })  # fmt: skip
