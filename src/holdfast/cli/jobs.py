"""`holdfast jobs …`: what is in the queue, who works on it, and what a person can do about it.

The words after `jobs` and what each takes. What they do: looking (`jobs_look`, `jobs_top`), changing (`jobs_change`), working without a
node (`jobs_work`); which store is meant: `jobs_store`.
"""

from argparse import SUPPRESS
from importlib import import_module

from holdfast.cli import commands

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from typing import Any

    Verbs = Any  # argparse's list of sub-commands has no public name

_WHERE = "dead, retry, schedule, busy, waiting, quarantine, or a queue's name"
_JIDS = "ids of jobs; the first letters are enough where they are unique among what is shown"


def add_arguments(parser: "ArgumentParser") -> None:
    """Declare the words that may follow, and what each takes."""
    _add_store(parser, None)
    parser.add_argument("--prefix", metavar="TEXT", help="before each key of Redis")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB")
    _add_looking(verbs)
    _add_changing(verbs)
    _add_queues(verbs)
    _add_workers(verbs)
    _work(verbs)


def run(args: "Namespace") -> int:
    """Do what the word says; without one, tell how the queue is."""
    if args.verb is None:
        args.verb, args.queue = "stats", []
    if args.verb == "work":
        module: Any = import_module("holdfast.cli.jobs_work")
    elif args.verb in ("list", "show", "stats", "workers"):
        module = import_module("holdfast.cli.jobs_look")
    elif args.verb == "top":
        module = import_module("holdfast.cli.jobs_top")
    else:
        module = import_module("holdfast.cli.jobs_change")
    return int(module.run(args))


def _add(verbs: "Verbs", name: str, says: str) -> "ArgumentParser":
    """Declare a word; which store is meant may be said before it and behind it."""
    made = commands.add_verb(verbs, name, says)
    _add_store(made, SUPPRESS)
    return made


def _add_store(parser: "ArgumentParser", default: "str | None") -> None:
    parser.add_argument(
        "--store", metavar="URL", default=default,
        help="the queue, as sqlite:///path.db or redis://host/0 (default: that of the node, else HOLDFAST_JOBS)",
    )  # fmt: skip


def _add_looking(verbs: "Verbs") -> None:
    stats = _add(verbs, "stats", "show the queue in figures, and what is wrong with its store")
    stats.add_argument("queue", nargs="*", metavar="QUEUE", help="only these queues")
    found = _add(verbs, "list", "list jobs of one place, or the first ones of every place")
    found.add_argument("where", nargs="?", metavar="WHERE", help=_WHERE)
    found.add_argument("--class", dest="klass", metavar="NAME", help="only of this class")
    _add_number(found, 50)
    found.add_argument(
        "--offset", metavar="N", type=int, default=0, help="leave out the first ones"
    )
    show = _add(verbs, "show", "tell everything about a job: its state, errors, evidence")
    show.add_argument("jid", nargs="+", metavar="JID", help="ids of jobs")
    top = _add(verbs, "top", "watch the queue: figures, workers and running jobs, again and again")
    top.add_argument("--every", metavar="SPAN", default="1s", help="how often (default: 1s)")
    top.add_argument("--once", action="store_true", help="one picture, then end")
    _add(verbs, "workers", "list the processes that work on the queue, on every machine")


def _add_number(parser: "ArgumentParser", default: int) -> None:
    parser.add_argument(
        "-n", "--lines", metavar="N", type=int, default=default,
        help=f"at most so many of a place (default: {default}; 0: all)",
    )  # fmt: skip


def _add_changing(verbs: "Verbs") -> None:
    push = _add(verbs, "push", "put a job into the queue by the name of its class")
    push.add_argument("klass", metavar="CLASS", help='as "shop.tasks.send"')
    push.add_argument(
        "args",
        nargs="*",
        metavar="ARG",
        default=[],
        help="JSON, or else taken as a text: 5, true, [1], hello",
    )
    push.add_argument(
        "-q", "--queue", metavar="QUEUE", default="default", help="where to (default: default)"
    )
    push.add_argument(
        "--in", dest="in_", metavar="SPAN", help="not before so long from now: 90, 10m, 2h"
    )
    push.add_argument("--at", metavar="WHEN", help='not before then: 14:30, "2024-11-03 14:30"')
    push.add_argument("--retries", metavar="N", type=int, help="so many times (default: 25)")
    retry = _add(
        verbs, "retry", "put dead jobs, or those that wait for their retry, into their queue now"
    )
    _add_choice(retry, "dead", "dead, retry or schedule")
    kill = _add(verbs, "kill", "move jobs that wait to the dead: they are kept, and not run")
    _add_choice(kill, "", "retry, schedule, waiting, quarantine, or a queue's name")
    delete = _add(verbs, "delete", "delete jobs for good")
    _add_choice(delete, "", "dead, retry, schedule, waiting, quarantine, or a queue's name")
    edit = _add(verbs, "edit", "print a job as JSON, or put it back as it was edited")
    edit.add_argument("jid", metavar="JID", help="id of a job that waits or is dead")
    edit.add_argument(
        "--from", dest="source", metavar="FILE", help="what it is from now on (-: standard input)"
    )
    edit.add_argument("--retry", action="store_true", help="and put it into its queue at once")
    cancel = _add(
        verbs, "cancel", "let jobs not begin any more; tell those that run that nobody waits for them"
    )  # fmt: skip
    cancel.add_argument("jid", nargs="+", metavar="JID", help="ids of jobs")


def _add_choice(parser: "ArgumentParser", default: str, places: str) -> None:
    parser.add_argument("jid", nargs="*", metavar="JID", help=_JIDS)
    parser.add_argument("--all", action="store_true", help="all jobs of one place")
    parser.add_argument(
        "--where", metavar="WHERE", default=default,
        help=f"with --all: {places}" + (f" (default: {default})" if default else ""),
    )  # fmt: skip
    parser.add_argument("--class", dest="klass", metavar="NAME", help="with --all: only this class")
    _add_yes(parser)


def _add_yes(parser: "ArgumentParser") -> None:
    parser.add_argument("-y", "--yes", action="store_true", help="do not ask")


def _add_queues(verbs: "Verbs") -> None:
    for name, says in (
        ("pause", "take no more jobs from queues; what runs goes on"),
        ("resume", "take jobs from queues again"),
    ):
        _add(verbs, name, says).add_argument(
            "queue", nargs="+", metavar="QUEUE", help="names of queues"
        )
    drain = _add(verbs, "drain", "wait until queues have been worked off")
    drain.add_argument("queue", nargs="+", metavar="QUEUE", help="names of queues")
    drain.add_argument("--timeout", metavar="SPAN", default="1h", help="at most (default: 1h)")
    wipe = _add(verbs, "wipe", "delete all jobs of queues for good")
    wipe.add_argument("queue", nargs="+", metavar="QUEUE", help="names of queues")
    _add_yes(wipe)


def _add_workers(verbs: "Verbs") -> None:
    for name, says in (
        ("quiet", "let processes finish what they run and take nothing new"),
        ("stop", "let processes end; their keeper starts them again"),
    ):
        parser = _add(verbs, name, says)
        parser.add_argument(
            "owner", nargs="*", metavar="OWNER", help="HOST:PID:NONCE, a pid, or a worker's name"
        )
        parser.add_argument("--all", action="store_true", help="all processes on every machine")
        _add_yes(parser)


def _work(verbs: "Verbs") -> None:
    from holdfast.cli import jobs_work

    jobs_work.add(verbs)
    _add_store(verbs.choices["work"], SUPPRESS)
