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
    words = ("workers", "targets", "incidents", "subjects", "jids", "queues", "places", "owners")
    parser.add_argument("what", choices=words)


def run(args: "Namespace") -> int:
    """Print the words, one a line."""
    try:
        if args.what in ("jids", "queues", "places", "owners"):
            sys.stdout.write("".join(f"{word}\n" for word in _jobs(args)))
            return 0
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


def _jobs(args: "Namespace") -> "list[str]":
    from holdfast.cli import jobs_store, jobs_table

    args.store = args.prefix = None
    with jobs_store.opened(args) as store:
        if args.what == "owners":
            return [str(owner["owner"]) for owner in store.owners()]
        if args.what == "jids":
            places = jobs_store.every_place(store)
            found = [entry for where in reversed(places) for entry in store.page(where, 0, 30)]
            return [str(jid) for entry in found if (jid := jobs_table.row(entry)["jid"])]
        queues = sorted(store.counts().queues)
        return queues if args.what == "queues" else [*queues, *jobs_store.PLACES]


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
