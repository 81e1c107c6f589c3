"""`holdfast __complete WHAT`: which words may come next? Asked by the completion scripts, at each press of Tab.

Never fails and never prints anything but words: a shell that completes must not show an error.
"""

import os
import sys

from holdfast.cli import place
from holdfast.model.errors import HoldfastError
from holdfast.wire import layout

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace


def add_arguments(parser: "ArgumentParser") -> None:
    """Declare the arguments."""
    parser.add_argument("what", choices=("workers", "targets", "incidents", "subjects"))


def run(args: "Namespace") -> int:
    """Print the words, one a line."""
    try:
        where = place.find(args)
        words = []
        if args.what != "incidents":
            words += _workers(where, with_components=args.what == "targets")
        if args.what in ("incidents", "subjects"):
            words += _incidents(where)
    except (HoldfastError, OSError):
        return 0
    sys.stdout.write("".join(f"{word}\n" for word in words))
    return 0


def _workers(where: place.Place, *, with_components: bool) -> "list[str]":
    words = []
    for worker in place.read_plan(where).get("workers", []):
        words.append(worker["name"])
        if with_components:
            words += [
                f"{worker['name']}/{component['name']}"
                for component in worker.get("components", [])
            ]
    return words


def _incidents(where: place.Place) -> "list[str]":
    directory = os.path.join(where.state_dir, layout.INCIDENTS)
    names = os.listdir(directory) if os.path.isdir(directory) else []
    return sorted(
        (name for name in names if os.path.isdir(os.path.join(directory, name))), reverse=True
    )
