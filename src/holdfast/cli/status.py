"""`holdfast status`: how is every worker, the house, and what is wrong?"""

import gc
import sys
import time

from holdfast.cli import output, place, snapshot, table, terminal
from holdfast.cli.words import parse_span, unknown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace


def add_arguments(parser: "ArgumentParser") -> None:
    """Declare the arguments."""
    parser.add_argument("worker", nargs="*", metavar="WORKER", help="only these workers")
    parser.add_argument(
        "--timeout", metavar="SPAN", default="2s",
        help="how long to wait for the keeper before its journal has to do (default: 2s)",
    )  # fmt: skip


def run(args: "Namespace") -> int:
    """Print the state of the node; 0 also when workers are in trouble: the question was answered."""
    # It lives for a moment and makes no circles; searching a thousand workers' values for some is a fifth of its time.
    gc.disable()
    where = place.find(args)
    place.need_running(where)
    found = snapshot.take(where, timeout_s=parse_span(args.timeout))
    if args.worker:
        names = [worker["name"] for worker in found["workers"]]
        for name in args.worker:
            if name not in names:
                raise unknown("worker", name, names)
        found["workers"] = [worker for worker in found["workers"] if worker["name"] in args.worker]
    if args.json:
        output.document(found)
        return 0
    columns, _ = terminal.size_of()
    lines = table.status(found, columns, terminal.paint_for(args), time.time())
    sys.stdout.write("\n".join(lines) + "\n")
    return 0
