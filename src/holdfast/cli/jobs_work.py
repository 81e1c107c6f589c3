"""`holdfast jobs work MODULE`: run the jobs of a queue without a node.

Reads what was asked for; the work is :mod:`holdfast.engine.foreman`. Where no queue is named it serves `default`.
"""

import os
from argparse import SUPPRESS

from holdfast.cli.commands import Formatter
from holdfast.cli.words import parse_span
from holdfast.core.lease import QUARANTINE
from holdfast.model.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from typing import Any

_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


def add(verbs: "Any") -> None:
    """Declare the word `work` and what may follow."""
    says = "run jobs here, without a node, until SIGTERM or Ctrl-C"
    parser: ArgumentParser = verbs.add_parser(
        "work", help=says, description=says[:1].upper() + says[1:] + ".", allow_abbrev=False,
        formatter_class=Formatter,
    )  # fmt: skip
    option = parser.add_argument
    option(
        "module", nargs="+", metavar="MODULE", help="modules that declare the jobs, as in import"
    )
    option(
        "-q", "--queue", action="append", metavar="NAME[,WEIGHT]",
        help="a queue; again for more. Without weights strictly in this order (default: default)",
    )  # fmt: skip
    option(
        "-c", "--concurrency", metavar="THREADS", type=int, default=10,
        help="threads for plain functions in each process (default: 10)",
    )  # fmt: skip
    option(
        "--async", dest="async_concurrency", metavar="N", type=int, default=100,
        help="coroutines at a time in each process (default: 100)",
    )  # fmt: skip
    option("--processes", metavar="N", type=int, default=1, help="processes (default: 1)")
    option("--timeout", metavar="SPAN", help="of a job that names none (default: none)")
    option(
        "--grace", metavar="SPAN", default="25s",
        help="what running jobs get when the work is stopped (default: 25s)",
    )  # fmt: skip
    option(
        "--lease", metavar="SPAN", default="15s",
        help="a machine that was not heard of for so long has lost its jobs (default: 15s)",
    )  # fmt: skip
    option(
        "--recycle-memory", metavar="SIZE",
        help="a process above this is replaced between jobs, as 512M (default: never)",
    )  # fmt: skip
    option(
        "--recycle-jobs", metavar="N", type=int, default=0,
        help="a process is replaced after so many jobs (default: never)",
    )  # fmt: skip
    # With one of its own it gets none of the global options behind the word: there -c is as in Sidekiq.
    option("--json", action="store_true", default=SUPPRESS, help="one JSON object a line")


def run(args: "Namespace") -> int:
    """Be the foreman until told to stop."""
    from holdfast.engine.foreman_run import Wanted
    from holdfast.engine.foreman_run import run as run_foreman

    store, prefix = _address(args)
    wanted = Wanted([_module(name) for name in args.module], store)
    wanted.prefix = prefix
    wanted.queues = _queues(args.queue or ["default"])
    wanted.concurrency = _number("-c", args.concurrency, 1)
    wanted.async_concurrency = _number("--async", args.async_concurrency, 0)
    wanted.processes = _number("--processes", args.processes, 1)
    wanted.recycle_jobs = _number("--recycle-jobs", args.recycle_jobs, 0)
    wanted.lease_s = parse_span(args.lease)
    if wanted.lease_s < 3:
        msg = f"--lease {args.lease}: at least 3s; below that a short hiccup of the store costs jobs a second run"
        raise UsageError(msg)
    wanted.timeout_s = parse_span(args.timeout) if args.timeout else 0.0
    wanted.grace_s = parse_span(args.grace)
    wanted.recycle_bytes = _bytes(args.recycle_memory) if args.recycle_memory else 0
    wanted.is_json = bool(args.json)
    return run_foreman(wanted)


def _address(args: "Namespace") -> "tuple[str, str]":
    """Return URL and prefix of the queue that is meant; what names it is not read by anybody who did not ask."""
    if args.store:
        return args.store, args.prefix or ""
    url = os.environ.get("HOLDFAST_JOBS", "")
    if url and not (args.state or args.config):
        return url, args.prefix or os.environ.get("HOLDFAST_JOBS_PREFIX", "")
    from holdfast.cli import jobs_store

    url, prefix, _ = jobs_store.address(args)
    return url, prefix


def _module(name: str) -> str:
    if all(part.isidentifier() for part in name.split(".")) and not name.endswith(".py"):
        return name
    guess = name.removesuffix(".py").strip("./").replace("/", ".")
    msg = f'"{name}" is no module: it is written as in `import`'
    if all(part.isidentifier() for part in guess.split(".")):
        msg += f"\n  Did you mean:  holdfast jobs work {guess}"
    raise UsageError(msg)


def _queues(words: "list[str]") -> "list[tuple[str, int]]":
    found: dict[str, int] = {}
    for word in words:
        name, comma, weight = word.partition(",")
        if not name or any(sign.isspace() for sign in name):
            msg = f'-q "{word}": a queue has a name, without blanks'
            raise UsageError(msg)
        if name == QUARANTINE:
            msg = f'-q "{word}": that is the lane where jobs that may have killed their worker run alone\n  it is served by itself'
            raise UsageError(msg)
        if comma and not (weight.isdigit() and int(weight)):
            msg = f'-q "{word}": the weight has to be a number above 0, as in  -q {name},3'
            raise UsageError(msg)
        found[name] = int(weight) if comma else 0
    if any(found.values()):
        # One with a weight among others without: those count once, as in Sidekiq.
        found = {name: weight or 1 for name, weight in found.items()}
    return list(found.items())


def _number(option: str, given: int, least: int) -> int:
    if given < least:
        msg = f"{option} {given}: at least {least}"
        raise UsageError(msg)
    return given


def _bytes(text: str) -> int:
    digits, unit = text.rstrip("BbiKkMmGg"), text.rstrip("Bbi")[-1:].upper()
    try:
        return int(float(digits) * _UNITS["" if unit.isdigit() else unit])
    except (ValueError, KeyError):
        msg = f'--recycle-memory "{text}": write a size as 512M or 2G'
        raise UsageError(msg) from None
