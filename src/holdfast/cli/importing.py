"""`holdfast import FILE`: what would this supervisor's configuration be as a holdfast.toml?

Prints TOML and, on stderr, a note for everything that has no counterpart: nothing is dropped in silence.
"""

import os
import sys

from holdfast.cli import output
from holdfast.cli.commands import say
from holdfast.cli.words import count
from holdfast.config.importers import KINDS, import_file
from holdfast.model.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace


def add_arguments(parser: "ArgumentParser") -> None:
    """Declare the arguments."""
    parser.add_argument("file", metavar="FILE", help="what to read")
    parser.add_argument(
        "--kind", choices=sorted(KINDS), help="its kind (default: told by its name)"
    )
    parser.add_argument("-o", "--output", metavar="OUT", help="write to this file (default: print)")


def run(args: "Namespace") -> int:
    """Import the file."""
    if not os.path.exists(args.file):
        msg = f"{args.file}: there is no such file"
        raise UsageError(msg)
    if args.output and os.path.lexists(args.output):
        msg = f"{args.output}: this is there already, nothing was written"
        raise UsageError(msg)
    result = import_file(args.file, args.kind)
    notes = [str(note) for note in result.notes]
    if args.output:
        with open(args.output, "x", encoding="utf-8") as file:
            file.write(result.toml)
    if args.json:
        output.document({"toml": result.toml, "notes": notes, "written": args.output})
        return 0
    if not args.output:
        sys.stdout.write(result.toml)
        sys.stdout.flush()
    for note in notes:
        say(f"note: {note}")
    if args.output:
        say(f"wrote {args.output}" + (f" ({count(len(notes), 'note')})" if notes else ""))
        say(f"now:  holdfast check {args.output}")
    return 0
