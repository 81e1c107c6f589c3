"""`holdfast alerts …`: what people were told of, what is on its way to them, and what they want to hear no more of.

Looking needs no running process: the file of the alerts says it. Orders (`ack`, `snooze`, `test`) are written down there and carried out by the process
that sends, within a quarter of a second; where none runs they wait for it.
"""

import sqlite3
import sys
import time

from holdfast.cli import commands, output, place, terminal
from holdfast.cli.words import nearest, parse_span, span
from holdfast.model.errors import NodeError, StateError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from typing import Any

    from holdfast.alerts.store import Row, Store

#: So long an order may take before a person is told that nobody carries it out.
_ANSWER_S = 3.0
#: So long a test message may be on its way: the longest timeout of most channels.
_TEST_S = 30.0
_POLL_S = 0.05
_SEVERITY_STYLES = {"critical": "red", "error": "red", "warning": "yellow"}
_STATE_STYLES = {"delivered": "green", "waiting": "yellow", "dropped": "red"}


def add_arguments(parser: "ArgumentParser") -> None:
    """Declare the words that may follow, and what each takes."""
    verbs = parser.add_subparsers(dest="verb", metavar="VERB")
    commands.add_verb(verbs, "list", "list the open alerts (also without a word)")
    ack = commands.add_verb(
        verbs, "ack", "say that you are at it: silence until it gets worse, or is over"
    )
    ack.add_argument("alert", metavar="ALERT", help="its id, the beginning of it, or the worker")
    snooze = commands.add_verb(verbs, "snooze", "say that you want to hear of it later")
    snooze.add_argument("alert", metavar="ALERT", help="its id, the beginning of it, or the worker")
    snooze.add_argument("span", metavar="SPAN", help="for how long: 30m, 2h, 1d")
    test = commands.add_verb(
        verbs, "test", "send a test message through a channel and tell what became of it"
    )
    test.add_argument("channel", metavar="CHANNEL", help="name of the channel")
    outbox = commands.add_verb(
        verbs, "outbox", "list the messages: those that wait, then the newest ones"
    )
    outbox.add_argument(
        "-n", "--lines", metavar="N", type=int, default=50, help="at most so many (default: 50)"
    )


def run(args: "Namespace") -> int:
    """Do what the word says; without one, list."""
    where = place.find(args)
    from holdfast.alerts.store import Store

    store = Store(where.state_dir)
    verb = args.verb or "list"
    try:
        if verb == "list":
            return _list(args, store, where)
        if verb == "outbox":
            return _outbox(args, store, where)
        if verb == "test":
            return _test(args, store, where)
        return _order(args, store, where)
    except sqlite3.Error as error:
        msg = f"{store.path}: {error}\n  if it is damaged, the alerts process sets it aside when it starts:  holdfast restart alerts"
        raise StateError(msg) from None
    finally:
        store.close()


# -- looking ---------------------------------------------------------------------------------------


def _is_there(store: "Store") -> bool:
    import os

    return os.path.exists(store.path)


def _list(args: "Namespace", store: "Store", where: place.Place) -> int:
    found = open_alerts(store) if _is_there(store) else []
    pid = _sender(where)
    if args.json:
        output.document({"alerts": [public(alert) for alert in found], "pid": pid or None})
        return 0
    columns, _ = terminal.size_of()
    sys.stdout.write("\n".join(_shown(found, columns, terminal.paint_for(args))) + "\n")
    if not pid:
        commands.say("nobody sends alerts at this moment: no alerts process runs")
    return 0


def open_alerts(store: "Store") -> "list[dict[str, Any]]":
    """Return the alerts that people were told of and that are not over, as the rules keep them."""
    memory, _ = store.load()
    return [alert for alert in memory.get("rules", {}).get("alerts", []) if alert["state"] != "pending"]  # fmt: skip


def public(alert: "dict[str, Any]") -> "dict[str, Any]":
    """Return what of an alert is in a shape that stays; the rest is the rules' own memory."""
    keys = ("id", "cause", "state", "severity", "since_unix_s", "snoozed_until_unix_s", "signs", "incidents", "members")  # fmt: skip
    return {key: alert[key] for key in keys}


def _shown(found: "list[dict[str, Any]]", width: int, paint: terminal.Paint) -> "list[str]":
    if not found:
        return ["no open alerts"]
    now = time.time()
    lines = []
    for alert in sorted(found, key=lambda one: float(one["since_unix_s"])):
        head = paint(str(alert["severity"]).ljust(8), _SEVERITY_STYLES.get(alert["severity"], ""))
        until = alert["snoozed_until_unix_s"] - now
        state = f"snoozed {span(until)}" if alert["state"] == "snoozed" else alert["state"]
        since = span(now - alert["since_unix_s"])
        lines.append(terminal.clip(f"{head}  {paint(alert['cause'], 'bold')}  {state}, for {since}  {alert['id']}", width))  # fmt: skip
        lines += [terminal.clip(f"          {sign['worker']}: {sign['says']}", width) for sign in alert["signs"][:3]]  # fmt: skip
        if alert["incidents"]:
            lines.append(terminal.clip(f"          look: holdfast incident {alert['incidents'][-1]}", width))  # fmt: skip
    return lines


def _outbox(args: "Namespace", store: "Store", where: place.Place) -> int:
    rows = store.rows(args.lines) if _is_there(store) else []
    if args.json:
        output.document({"messages": [row.to_json() for row in rows], "pid": _sender(where) or None})  # fmt: skip
        return 0
    columns, _ = terminal.size_of()
    paint = terminal.paint_for(args)
    lines = [_line(row, columns, paint) for row in rows] or ["no messages"]
    sys.stdout.write("\n".join(lines) + "\n")
    return 0


def _line(row: "Row", width: int, paint: terminal.Paint) -> str:
    stamp = time.strftime("%m-%d %H:%M:%S", time.localtime(row.made_unix_s))
    state = paint(row.state.ljust(9), _STATE_STYLES[row.state])
    tries = f" ({row.attempts} tries: {row.error})" if row.error else ""
    title = str(row.body.get("title", ""))
    return terminal.clip(f"{stamp}  {state}  {row.channel.ljust(12)}  {row.change.ljust(12)}  {title}{tries}", width)  # fmt: skip


# -- orders ----------------------------------------------------------------------------------------


def _sender(where: place.Place) -> int:
    """Return the pid of the process that sends; 0 when there is none."""
    from holdfast.linux import locks

    return locks.holder(f"{where.state_dir}/alerts/alerts.lock")


def _order(args: "Namespace", store: "Store", where: place.Place) -> int:
    body: dict[str, Any] = {"alert": args.alert}
    if args.verb == "snooze":
        body["until_unix_s"] = time.time() + parse_span(args.span)
    if _is_there(store):
        _check_alert(store, args.alert)
    else:
        msg = f"no alert was ever sent from {where.state_dir}"
        raise UsageError(msg)
    answer = answered(store, store.ask(args.verb, body), where)
    if args.json:
        output.document({"alert": public(answer["alert"])})
        return 0
    alert = answer["alert"]
    until = f" for {args.span}" if args.verb == "snooze" else ""
    print(f"{alert['cause']}: {alert['state']}{until}")
    return 0


def _check_alert(store: "Store", name: str) -> None:
    """Find a mistyped name while the person still looks at it."""
    found = open_alerts(store)
    if any(name == alert["cause"] or alert["id"].startswith(name) for alert in found):
        return
    meant = nearest(name, [key for alert in found for key in (alert["cause"], alert["id"])])
    hint = f'Did you mean "{meant}"?' if meant else "the open ones:  holdfast alerts"
    msg = f'there is no open alert "{name}"\n  {hint}'
    raise UsageError(msg)


def answered(store: "Store", number: int, where: place.Place) -> "dict[str, Any]":
    """Wait for the answer to a request.

    Raises:
        UsageError: It was refused.
        NodeError: Nobody answers; it stays written down.
    """
    until_s = time.monotonic() + _ANSWER_S
    while _sender(where) and time.monotonic() < until_s:
        answer = store.answer(number)
        if answer is not None:
            if answer["ok"]:
                return answer
            known = answer.get("known") or []
            hint = f"\n  there are: {', '.join(known)}" if known else ""
            raise UsageError(f"{answer['error']}{hint}")
        time.sleep(_POLL_S)
    who = "does not answer" if _sender(where) else "does not run"
    msg = f"the alerts process {who}; what you want is written down and done when it does\n  look:  holdfast status   holdfast logs alerts"
    raise NodeError(msg)


def _test(args: "Namespace", store: "Store", where: place.Place) -> int:
    if not _sender(where):
        msg = "no alerts process runs here: a test from another one would prove nothing\n  start it:  holdfast start alerts"
        raise NodeError(msg)
    answer = answered(store, store.ask("test", {"channel": args.channel}), where)
    until_s = time.monotonic() + _TEST_S
    row = store.row(answer["message"], args.channel)
    while time.monotonic() < until_s and (row is None or row.state == "waiting"):
        time.sleep(_POLL_S)
        row = store.row(answer["message"], args.channel)
    if args.json:
        output.document(row.to_json() if row is not None else {"state": "waiting"})
    if row is not None and row.state == "delivered":
        if not args.json:
            print(f"{args.channel}: delivered in {(row.ended_unix_s or 0.0) - row.made_unix_s:.1f} s")  # fmt: skip
        return 0
    why = row.error if row is not None and row.error else f"still on its way after {_TEST_S:g} s"
    if not args.json:
        commands.say(f"{args.channel}: not delivered: {why}")
    return 1
