"""`holdfast start/stop/restart WORKER[/COMPONENT]`: has it really happened?

Sends the order, then looks until it is done; the exit status says what was seen. A component is its container's
own business: the order goes to the container's control socket.
"""

import os
import time

from holdfast.cli import output, place, waiting
from holdfast.cli.commands import say
from holdfast.cli.words import parse_span, unknown
from holdfast.core.parts import family
from holdfast.linux import talk
from holdfast.model.errors import NodeError
from holdfast.wire import layout

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from typing import Any

_PAST = {"start": "started", "stop": "stopped", "restart": "restarted"}


def add_arguments(parser: "ArgumentParser") -> None:
    """Declare the arguments."""
    parser.add_argument("target", nargs="+", metavar="WORKER[/COMPONENT]", help="what to order")
    parser.add_argument("--no-wait", action="store_true", help="return when the order was accepted")
    parser.add_argument(
        "--timeout",
        metavar="SPAN",
        help="how long to wait until it is done (default: what the plan allows, and 10s)",
    )


def run(args: "Namespace") -> int:
    """Give the orders one after another; 1 when one of them was not carried out."""
    where = place.find(args)
    place.need_running(where)
    plan = place.read_plan(where)
    entries = {worker["name"]: worker for worker in plan["workers"]}
    targets = [
        target
        for word in args.target
        for target in _targets(word, entries, plan.get("split") or {})
    ]
    results = []
    for worker, component in targets:
        if component:
            results.append(_order_component(args, where, worker, component))
        else:
            results.append(_order_worker(args, where, entries[worker]))
        _tell(args, results[-1])
    if args.json:
        output.document({"orders": results})
    return 0 if all(result["ok"] for result in results) else 1


def _targets(
    word: str, entries: "dict[str, dict[str, Any]]", splits: "dict[str, Any]"
) -> "list[tuple[str, str]]":
    """Return what a word means: of a jobs worker all processes; of one that is split all parts, or the part that has the component."""
    worker, _, component = word.partition("/")
    if worker not in splits:
        found = _target(word, entries)
        return [found] if component else [(name, "") for name in _processes(found[0], entries)]
    parts = splits[worker]["parts"]
    if not component:
        return [(name, "") for name in parts]
    home = next((name for name, members in parts.items() if component in members), worker)
    return [_target(f"{home}/{component}", entries)]


def _processes(worker: str, entries: "dict[str, dict[str, Any]]") -> "list[str]":
    """Return the processes that run the jobs of a configured worker; of any other word the worker itself."""
    return [
        name
        for name, entry in entries.items()
        if (entry.get("jobs") or {}).get("family") == worker and entry["jobs"]["role"] == "worker"
    ] or [worker]


def _target(word: str, entries: "dict[str, dict[str, Any]]") -> "tuple[str, str]":
    """Return worker and component; all are checked before the first order is given."""
    worker, slash, component = word.partition("/")
    if worker not in entries:
        raise unknown("worker", worker, list(entries))
    if slash:
        names = [entry["name"] for entry in entries[worker].get("components", [])]
        if component not in names:
            msg = f'component of worker "{worker}" named'
            raise unknown(msg, component, names)
    return worker, component


def _order_worker(
    args: "Namespace", where: place.Place, entry: "dict[str, Any]"
) -> "dict[str, Any]":
    name, verb = entry["name"], args.command
    before = waiting.workers(where.run_dir).get(name, {})
    began_s = time.monotonic()
    reply = talk.request(where.run_dir, {"do": verb, "worker": name, "by": "user"})
    result = {
        "do": verb,
        "worker": name,
        "component": None,
        "ok": True,
        "state": None,
        "pid": None,
        "says": "",
    }
    if not reply.get("ok"):
        return {**result, "ok": False, "says": str(reply.get("error", "the keeper refused"))}
    if args.no_wait:
        return {**result, "says": f"{name}: ordered to {verb}"}
    allowed_s = parse_span(args.timeout) if args.timeout else _allowance_s(verb, entry)
    last = dict(before)

    def look() -> "tuple[bool, str]":
        last.update(waiting.workers(where.run_dir).get(name, {}))
        return _is_over(verb, before, last), f"{name}: {last.get('state')} …"

    is_over = waiting.until(look, allowed_s, waiting.progress(args))
    result |= {"state": last.get("state"), "pid": last.get("pid") or None}
    is_done = is_over and last["state"] in (("down",) if verb == "stop" else ("running", "done"))
    if is_done:
        took = time.monotonic() - began_s
        pid = f", pid {last['pid']}" if last.get("pid") else ""
        return {**result, "says": f"{name}: {_PAST[verb]} ({last['state']}{pid}, {took:.2f} s)"}
    waited = "" if is_over else f" after {allowed_s:g} s"
    return {
        **result,
        "ok": False,
        "says": f"{name}: not {_PAST[verb]}: it is {last.get('state')}{waited}{waiting.because(last)}\n"
        f"  look:  holdfast logs --worker {name}   holdfast incidents --worker {name}",
    }


def _allowance_s(verb: str, entry: "dict[str, Any]") -> float:
    stop_s = waiting.stop_allowance_s([entry])
    start_s = waiting.start_allowance_s([entry])
    return {"start": start_s, "stop": stop_s, "restart": stop_s + start_s}[verb]


def _is_over(verb: str, before: "dict[str, Any]", now: "dict[str, Any]") -> bool:
    """Whether nothing more is to be expected of an order: it is done, or it has failed."""
    if verb == "stop":
        return not now["pid"] and now["state"] not in (
            "waiting",
            "starting",
            "running",
            "stopping",
            "backoff",
        )
    old_n = before.get("n", 0)
    is_new_life = verb == "start" or now.get("n", 0) > old_n
    if now["state"] == "failed" or (is_new_life and waiting.is_serving(now)):
        return True
    # A life that ended while we waited for it to serve: it will be tried again, but the answer is "not started". A
    # backoff without a new life is what was there before the order.
    return now.get("n", 0) > old_n and waiting.has_failed(now, old_n + 1)


def _order_component(
    args: "Namespace", where: place.Place, worker: str, component: str
) -> "dict[str, Any]":
    path = f"{where.run_dir}/{layout.CONTROL}/{worker}.sock"
    result = {
        "do": args.command,
        "worker": worker,
        "component": component,
        "ok": True,
        "state": None,
        "pid": None,
    }
    if not os.path.exists(path):
        msg = (
            f'worker "{worker}" does not take orders for its components: it is not running\n'
            f"  holdfast start {worker}"
        )
        raise NodeError(msg)
    timeout_s = parse_span(args.timeout) if args.timeout else waiting.SLACK_S
    reply = talk.ask(path, {"do": args.command, "component": component}, timeout_s)
    if reply is None:
        says = f"{worker}/{component}: the container did not answer within {timeout_s:g} s\n  holdfast status"
        return {**result, "ok": False, "says": says}
    if not reply.get("ok"):
        return {
            **result,
            "ok": False,
            "says": f"{worker}/{component}: {reply.get('error', 'refused')}",
        }
    state = reply.get("state")
    return {**result, "state": state, "says": f"{worker}/{component}: {_PAST[args.command]}"}


def _tell(args: "Namespace", result: "dict[str, Any]") -> None:
    if args.json:
        return
    if result["ok"]:
        print(result["says"], flush=True)
    else:
        say(result["says"])


def settle(args: "Namespace", where: place.Place, whole: str) -> "list[str]":
    """Wait until a configured worker, or all its parts, serve; return those that do not in time."""
    left: list[str] = []

    def look() -> "tuple[bool, str]":
        now = waiting.workers(where.run_dir)
        left[:] = [
            name
            for name, one in now.items()
            if family(name) == whole and one.get("up") and not waiting.is_serving(one)
        ]
        return not left, f"waiting for {', '.join(left[:4])}"

    waiting.until(look, waiting.SLACK_S, waiting.progress(args))
    return left
