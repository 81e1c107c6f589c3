"""`holdfast probe`: the node seen from outside, by another machine: pages, ports, certificates, names, calls over the bus.

Needs no node. With ``--once`` everything is looked at once and the exit status says whether all was well; without, for ever: a table on a
terminal, lines everywhere else (as a worker of another node, say). Killed at any instant, the next life knows what was believed and told.
"""

import asyncio
import os
import signal
import sys
import time

from holdfast.cli import output, terminal
from holdfast.cli.commands import say as speak
from holdfast.cli.words import count, span, unknown
from holdfast.model.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from typing import Any

    from holdfast.cli.probes.load import Probe, Probes
    from holdfast.cli.probes.looks import Result
    from holdfast.cli.probes.running import Watch
    from holdfast.core.outside import Belief

FILE = "probe.toml"
_DRAW_S = 0.5
_STYLES = {"up": "green", "doubt": "yellow", "down": "red", "unknown": "dim"}


def add_arguments(parser: "ArgumentParser") -> None:
    """Declare the arguments."""
    parser.add_argument(
        "file", nargs="?", metavar="FILE", default=FILE, help=f"what to look at (default: {FILE})"
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="only these probes")
    what = parser.add_mutually_exclusive_group()
    what.add_argument(
        "--once",
        action="store_true",
        help="look once at everything; 1 when something is not as it should be",
    )
    what.add_argument("--check", action="store_true", help="only tell what is wrong with the file")
    what.add_argument("--schema", action="store_true", help="print the JSON Schema of such a file")
    parser.epilog = (
        "Without --once it looks until it is killed. What may stand in the file: holdfast docs probe\n"
        "--state DIR takes the place of state_dir in the file."
    )


def run(args: "Namespace") -> int:
    """Look."""
    if args.schema:
        from holdfast.cli.probes.definitions import json_schema

        output.document(json_schema())
        return 0
    from holdfast.cli.probes.load import load

    path = args.file
    if not os.path.lexists(path):
        msg = f"{path}: there is no such file\n  holdfast probe FILE   (what stands in it: holdfast docs probe)"
        raise UsageError(msg)
    probes = load(path, os.environ)
    for note in probes.notes:
        speak(f"note: {note}")
    if args.state:
        probes = probes._replace(state_dir=os.path.abspath(args.state))
    if args.names:
        probes = _only(probes, args.names)
    if args.check:
        _tell_checked(args, probes)
        return 0
    if args.once:
        return _once(args, probes)
    return _for_ever(args, probes)


def _only(probes: "Probes", names: "list[str]") -> "Probes":
    known = [probe.name for probe in probes.probes]
    for name in names:
        if name not in known:
            raise unknown("probe", name, known)
    chosen = tuple(
        probe._replace(after=tuple(other for other in probe.after if other in names))
        for probe in probes.probes
        if probe.name in names
    )
    return probes._replace(probes=chosen)


def _tell_checked(args: "Namespace", probes: "Probes") -> None:
    if args.json:
        output.document(
            {
                "ok": True,
                "probes": [probe.name for probe in probes.probes],
                "notes": list(probes.notes),
            }
        )
    else:
        print(f"ok: {count(len(probes.probes), 'probe')}")


# -- once ------------------------------------------------------------------------------------------


def _once(args: "Namespace", probes: "Probes") -> int:
    from holdfast.cli.probes.running import Watch

    found = asyncio.run(Watch(probes, lambda *_: None).once())
    is_well = all(result.is_good for _, result in found)
    if args.json:
        rows = [_row(probe, result) for probe, result in found]
        output.document({"ok": is_well, "name": probes.name, "probes": rows})
    else:
        columns, _ = terminal.size_of()
        paint = terminal.paint_for(args)
        room = max(len(probe.name) for probe, _ in found)
        for probe, result in found:
            word = paint("ok    ", "green") if result.is_good else paint("failed", "red")
            line = f"{word}  {probe.name.ljust(room)}  {probe.kind:<5}  {_time(result):>7}  {result.says}"
            print(terminal.clip(line, columns))
    return 0 if is_well else 1


def _row(probe: "Probe", result: "Result") -> "dict[str, Any]":
    return {"name": probe.name, "kind": probe.kind, "ok": result.is_good, "says": result.says, "took_s": round(result.took_s, 4)}  # fmt: skip


def _time(result: "Result") -> str:
    return f"{result.took_s * 1000:.0f} ms" if result.took_s < 9.9995 else f"{result.took_s:.1f} s"


# -- for ever --------------------------------------------------------------------------------------


def _for_ever(args: "Namespace", probes: "Probes") -> int:
    from holdfast.cli.probes.running import Watch
    from holdfast.cli.probes.telling import Teller, read_settings, take_lock

    term = os.environ.get("TERM", "")
    table = None
    if sys.stdout.isatty() and not args.json and term not in ("", "dumb"):
        table = _Table(args, probes)
    face = table or (_Json() if args.json else _Lines())
    take_lock(probes, face.say)
    teller: Teller | None = None

    def tell(probe: "Probe", belief: "Belief", result: "Result", has_changed: bool) -> None:
        face.tell(probe, belief, result, has_changed)
        if has_changed and teller is not None:
            teller.hurry()

    watch = Watch(probes, tell)
    made = read_settings(probes, face.say)
    if made is None:
        face.say("warning", "nobody is told: there is no [alerts] in the file")
    else:
        teller = Teller(probes, watch, made, face.say)
        teller.start()
    # Crash-only: there is nothing to be done before the end.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    asyncio.run(_running(watch, table))
    return 0


async def _running(watch: "Watch", table: "_Table | None") -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(watch.run())
        while table is not None:
            table.draw(watch)
            await asyncio.sleep(_DRAW_S)


def _told(level: str, event: str, fields: "dict[str, object]") -> str:
    more = "".join(f"  {name}={value}" for name, value in fields.items())
    return f"{_stamp()}  {level}: {event}{more}"


def _stamp() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S%z")


class _Lines:
    """A line for each failure and each change, as a log has it; about the alerts on stderr."""

    def say(self, level: str, event: str, **fields: object) -> None:
        """Tell of the alerts."""
        speak(_told(level, event, fields))

    def tell(self, probe: "Probe", belief: "Belief", result: "Result", has_changed: bool) -> None:
        """Tell of a look."""
        if result.is_good and not has_changed:
            return
        state = f"{belief.state}{'' if has_changed else ' still'}"
        sys.stdout.write(f"{_stamp()}  {state:<11}  {probe.name}  {_time(result)}  {result.says}\n")
        sys.stdout.flush()


class _Json(_Lines):
    """A JSON object on a line for each look."""

    def tell(self, probe: "Probe", belief: "Belief", result: "Result", has_changed: bool) -> None:
        """Tell of a look."""
        row = _row(probe, result)
        output.line(
            {"unix_s": round(time.time(), 3), **row, "state": belief.state, "changed": has_changed}
        )
        sys.stdout.flush()


class _Table:
    """All probes in place, on a terminal, and below them the last word about the alerts."""

    def __init__(self, args: "Namespace", probes: "Probes") -> None:
        self._block = terminal.Block(sys.stdout)
        self._paint = terminal.paint_for(args)
        self._probes = probes
        self._last = ""

    def tell(self, probe: "Probe", belief: "Belief", result: "Result", has_changed: bool) -> None:
        """Leave it to the next drawing."""
        del probe, belief, result, has_changed

    def say(self, level: str, event: str, **fields: object) -> None:
        """Tell of the alerts; all of it is in `holdfast alerts outbox`."""
        self._last = _told(level, event, fields)

    def draw(self, watch: "Watch") -> None:
        """Draw it."""
        self._block.draw(self.lines(watch, time.time(), time.monotonic()))

    def lines(self, watch: "Watch", now_unix_s: float, now_s: float) -> "list[str]":
        """Return the lines: what is down first."""
        order = {"down": 0, "doubt": 1, "unknown": 2, "up": 3}
        probes = sorted(
            watch.probes.values(), key=lambda probe: order[watch.beliefs[probe.name].state]
        )
        room = max(len(probe.name) for probe in probes)
        down = sum(belief.state == "down" for belief in watch.beliefs.values())
        head = f"{self._probes.name}: {count(len(probes), 'probe')}, {down or 'none'} down"
        lines = [self._paint(head, "red" if down else "bold"), ""]
        for probe in probes:
            belief, result = watch.beliefs[probe.name], watch.results.get(probe.name)
            state = self._paint(f"{belief.state:<7}", _STYLES[belief.state])
            since = span(now_unix_s - belief.since_unix_s) if belief.since_unix_s else "-"
            due = span(max(0.0, watch.due_s.get(probe.name, now_s) - now_s))
            took, says = (_time(result), result.says) if result is not None else ("-", "")
            lines.append(
                f"{state}  {since:>6}  {probe.name.ljust(room)}  {probe.kind:<5}  {took:>7}  next {due:>5}  {says}"
            )
        return [*lines, *(["", self._last] if self._last else [])]
