"""`holdfast apply`: is the changed configuration in effect?

Checks the file, shows the difference, hands the new plan to the keeper, and returns when the node runs by it. A file
with a mistake never gets that far: the node goes on as before.
"""

import sys
import time

from holdfast.cli import diff, output, place, waiting
from holdfast.cli.commands import add_file, say
from holdfast.cli.words import parse_span, span
from holdfast.linux import files, talk
from holdfast.model.errors import NodeError, UsageError
from holdfast.wire import layout
from holdfast.wire import plan as plan_format

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from typing import Any

    from holdfast.cli.waiting import Workers
    from holdfast.model.plan import Plan

#: The new plan, checked, on its way to the keeper.
NEW_PLAN = "plan.new.json"


def add_arguments(parser: "ArgumentParser") -> None:
    """Declare the arguments."""
    add_file(parser)
    parser.add_argument("-y", "--yes", action="store_true", help="do not ask")
    parser.add_argument(
        "--timeout",
        metavar="SPAN",
        help="how long to wait (default: what the plan allows, and 10s)",
    )


def run(args: "Namespace") -> int:
    """Apply the configuration; 1 when a worker that it touched does not serve afterwards."""
    where, plan, change = diff.compare(args)
    if not change["says"]:
        if args.json:
            output.document({**change, "applied": False, "touched": {}, "late": []})
        else:
            print("no difference; nothing to do")
        return 0
    if not args.json:
        print("\n".join(change["says"]), flush=True)
    if any(
        entry["worker"] == "@node" and entry["action"] == "restart" for entry in change["changes"]
    ):
        raise NodeError(
            "nothing was changed: this cannot be done to a running node\n  holdfast down, then holdfast up"
        )
    _confirm(args)
    touched, late, took_s = _carry_out(args, where, plan)
    if args.json:
        output.document({**change, "applied": True, "touched": touched, "late": late})
        return 1 if late else 0
    if late:
        for entry in late:
            why = f": {entry['why']}" if entry["why"] else ""
            say(
                f"{entry['name']} is {entry['state']}{why}\n  look:  holdfast logs --worker {entry['name']}"
            )
        say("the new configuration is in effect, but not every worker serves")
        return 1
    print(f"applied in {span(took_s)}")
    return 0


def _confirm(args: "Namespace") -> None:
    """Ask the person where there is one; a program has to say --yes."""
    if args.yes:
        return
    if args.json or not sys.stdin.isatty():
        raise UsageError("nothing was changed: nobody is here to be asked\n  holdfast apply --yes")
    sys.stderr.write("apply this? [y/N] ")
    sys.stderr.flush()
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise UsageError("nothing was changed")


def _carry_out(
    args: "Namespace", where: place.Place, plan: "Plan"
) -> "tuple[dict[str, list[str]], list[dict[str, Any]], float]":
    began_s = time.monotonic()
    data = plan_format.encode(plan)
    path = f"{where.run_dir}/{NEW_PLAN}"
    before = waiting.workers(where.run_dir)
    files.write_atomic(path, data, mode=0o600)
    reply = waiting.checked(talk.request(where.run_dir, {"do": "apply", "plan": path}))
    # The plan on disk is what the next `up` and `status` without a node read; the keeper itself writes only in memory.
    files.write_atomic(f"{where.state_dir}/{layout.PLAN}", data, sync=True, mode=0o600)
    touched = {key: reply.get(key, []) for key in ("start", "stop", "restart")}
    allowed_s = parse_span(args.timeout) if args.timeout else _allowance_s(plan)
    now: Workers = {}

    def look() -> "tuple[bool, str]":
        now.clear()
        now.update(waiting.workers(where.run_dir))
        left = [name for name in _names(touched) if not _is_settled(name, touched, before, now)]
        return not left, f"waiting for {', '.join(left[:4])}{' …' if len(left) > 4 else ''}"

    waiting.until(look, allowed_s, waiting.progress(args))
    late = [
        {
            "name": name,
            "state": now.get(name, {}).get("state"),
            "why": waiting.why(now.get(name, {})),
        }
        for name in _names(touched)
        if not _is_good(name, touched, before, now)
    ]
    return touched, late, time.monotonic() - began_s


def _allowance_s(plan: "Plan") -> float:
    entries: list[dict[str, Any]] = [dict(worker) for worker in plan["workers"]]
    return waiting.stop_allowance_s(entries) + waiting.start_allowance_s(entries)


def _names(touched: "dict[str, list[str]]") -> "list[str]":
    return [*touched["start"], *touched["restart"], *touched["stop"]]


def _is_settled(
    name: str, touched: "dict[str, list[str]]", before: "Workers", now: "Workers"
) -> bool:
    """Whether nothing more is to be expected of a worker: it is as wanted, or it has failed."""
    worker = now.get(name)
    expected_n = before.get(name, {}).get("n", 0) + 1
    has_failed = worker is not None and waiting.has_failed(worker, expected_n)
    return _is_good(name, touched, before, now) or has_failed


def _is_good(name: str, touched: "dict[str, list[str]]", before: "Workers", now: "Workers") -> bool:
    worker = now.get(name)
    if name in touched["stop"]:
        return worker is None or not worker["pid"]
    if worker is None or not waiting.is_serving(worker):
        return False
    old = before.get(name, {})
    return name in touched["start"] or not old.get("pid") or worker["n"] > old["n"]
