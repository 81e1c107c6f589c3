"""`holdfast up`: is the node running, and shall I watch it?

Three ways. On a terminal: the node is started apart from it and a live table is shown; Ctrl-C stops the node, a
second one kills it. Without a terminal (systemd, a container, a pipe) or with ``--quiet``: this process becomes the
anchor. With ``--detach``: it returns when every worker serves, or at the first that does not.

If the table itself is killed the node goes on: nothing in the house depends on a terminal.
"""

import contextlib
import os
import signal
import sys
import time

from holdfast.cli import check, down, events, output, place, snapshot, table, terminal, waiting
from holdfast.cli.commands import add_file, say
from holdfast.cli.words import count, parse_span, span
from holdfast.linux import launch, talk
from holdfast.model.errors import AlreadyRunning, NodeError
from holdfast.wire import layout

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Iterator
    from types import FrameType
    from typing import Any

    from holdfast.model.plan import Plan

#: Time between two drawings of the live table.
DRAW_S = 0.5
#: Lines of events below the table.
EVENT_LINES = 6


def add_arguments(parser: "ArgumentParser") -> None:
    """Declare the arguments."""
    add_file(parser)
    parser.add_argument(
        "-d",
        "--detach",
        action="store_true",
        help="start it in the background and return when every worker serves",
    )
    parser.add_argument(
        "-q", "--quiet", action="store_true", help="no table: events as lines, in the foreground"
    )
    parser.add_argument(
        "--timeout", metavar="SPAN",
        help="with --detach: how long to wait for the workers (default: what the plan allows, and 10s)",
    )  # fmt: skip


def run(args: "Namespace") -> int:
    """Start the node."""
    config = check.config_of(args)
    plan = check.plan_of(args, config)
    where = place.Place(plan["state_dir"], config)
    pid = place.node_pid(where)
    if pid:
        msg = (
            f"a node already runs on {where.state_dir} (process {pid})\n"
            "  look:                    holdfast status\n"
            "  put a new configuration into effect:  holdfast apply"
        )
        raise AlreadyRunning(msg)
    run_dir = launch.prepare(plan)
    if args.detach:
        _spawn(run_dir)
        return _wait_until_serving(args, where, plan)
    if args.quiet or args.json or not (sys.stdout.isatty() and sys.stdin.isatty()):
        sys.stdout.flush()
        launch.exec_anchor(run_dir)
    return Live(args, where, _spawn(run_dir)).run()


def _spawn(run_dir: str) -> int:
    """Start the anchor apart from this terminal: it must not write into the table, nor hold a pipe open."""
    with _silenced():
        return launch.fork_anchor(run_dir)


@contextlib.contextmanager
def _silenced() -> "Iterator[None]":
    """Point stdout and stderr to nowhere for a child that is started meanwhile."""
    sys.stdout.flush()
    null = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
    kept = [os.dup(number) for number in (1, 2)]  # close-on-exec, so the child does not get them
    try:
        for number in (1, 2):
            os.dup2(null, number)
        yield
    finally:
        for number, copy in zip((1, 2), kept, strict=True):
            os.dup2(copy, number)
            os.close(copy)
        os.close(null)


def _wait_until_serving(args: "Namespace", where: place.Place, plan: "Plan") -> int:
    wanted: list[dict[str, Any]] = [
        dict(worker) for worker in plan["workers"] if worker["autostart"]
    ]
    allowed_s = parse_span(args.timeout) if args.timeout else waiting.start_allowance_s(wanted)
    names = {worker["name"] for worker in wanted}
    began_s = time.monotonic()
    last: dict[str, dict[str, Any]] = {}
    #: The life that is to serve. A node that was killed with all its workers goes on counting where it was.
    expected: dict[str, int] = {}

    def look() -> "tuple[bool, str]":
        try:
            last.update(waiting.workers(where.run_dir, 2.0))
        except NodeError:
            if not place.node_pid(where) and time.monotonic() - began_s > waiting.SLACK_S:
                raise
            return False, "starting the house"
        for name, worker in last.items():
            n = worker.get("n", 0)
            expected.setdefault(name, 1 if n <= 1 else n + 1)
        serving = [name for name in names if name in last and waiting.is_serving(last[name])]
        failed = [
            name
            for name in names
            if name in last
            and waiting.has_failed(last[name], expected[name])
            # Until then it waits out the end of a life before this start.
            and (last[name].get("n", 0) >= expected[name] or last[name]["state"] == "failed")
        ]
        missing = [name for name in last if name in names and name not in serving]
        text = f"{len(serving)} of {len(names)} ready; {', '.join(missing[:4])}{' …' if len(missing) > 4 else ''}"
        return bool(failed) or len(serving) == len(names), text

    waiting.until(look, allowed_s, waiting.progress(args))
    late = [name for name in last if name in names and not waiting.is_serving(last[name])]
    late += sorted(names - set(last))
    took_s = time.monotonic() - began_s
    if args.json:
        output.document(
            {
                "up": True,
                "node": plan["node"],
                "ready": len(names) - len(late),
                "late": [{"name": name, "state": last.get(name, {}).get("state")} for name in late],
                "took_s": round(took_s, 3),
            }
        )
    elif not late:
        print(f"up: {count(len(names), 'worker')} ready in {span(took_s)}")
    if late:
        _tell_late(late, last, took_s)
        _tell_missing(where)
    return 1 if late else 0


def _tell_late(late: "list[str]", last: "dict[str, dict[str, Any]]", took_s: float) -> None:
    for name in late[:10]:
        worker = last.get(name, {})
        say(
            f"{name} is not ready after {span(took_s)}: it is {worker.get('state', 'unknown')}{waiting.because(worker)}"
        )
        say(f"  look:  holdfast logs --worker {name}")
    if len(late) > 10:
        say(f"… and {len(late) - 10} more")
    say("the node runs and goes on trying:  holdfast status    (stop it:  holdfast down)")


def _tell_missing(where: place.Place) -> None:
    """Say which of the house is not there: without a watchdog nobody sees that a worker is ready."""
    missing = [role for role, pid in place.running_roles(where).items() if not pid]
    if missing:
        say(f"missing of the house: {', '.join(missing)}\n  look:  holdfast logs holdfast")


class Live:
    """The live table, and what Ctrl-C does to the node."""

    def __init__(self, args: "Namespace", where: place.Place, anchor: int) -> None:
        self._args = args
        self._where = where
        self._anchor = anchor
        self._block = terminal.Block(sys.stdout)
        self._tail = events.Tail(f"{where.run_dir}/{layout.JOURNAL}")
        self._events: list[str] = []
        self._asked = 0  # how often the person (or a signal) asked to end
        self._obeyed = 0
        self._status = 0
        self._wake_read, self._wake_write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)

    def run(self) -> int:
        """Show the node until it has ended; return 0 when it ended because it was asked to."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._ask)
        signal.signal(signal.SIGWINCH, self._wake)
        paint = terminal.paint_for(self._args)
        try:
            while not self._has_ended():
                self._draw(paint)
                self._obey()
                self._pause()
        finally:
            self._show_cursor()
        self._draw_last(paint)
        return self._status

    def _ask(self, number: int, frame: "FrameType | None") -> None:
        self._asked += 1
        self._wake(number, frame)

    def _wake(self, number: int, frame: "FrameType | None") -> None:
        del number, frame
        try:
            os.write(self._wake_write, b"\0")
        except BlockingIOError:
            pass  # it is awake already

    def _pause(self) -> None:
        from select import select

        select([self._wake_read], [], [], DRAW_S)
        try:
            os.read(self._wake_read, 512)
        except BlockingIOError:
            pass  # the time was over, nobody woke us

    def _obey(self) -> None:
        if self._asked and not self._obeyed:
            # A short deadline: when the keeper does not answer, Ctrl-C again still has to work.
            reply = talk.ask(
                f"{self._where.run_dir}/{layout.socket('keeper')}", {"do": "down"}, 1.0
            )
            if (reply or {}).get("ok"):
                self._obeyed = 1
                self._note("stopping every worker; Ctrl-C again kills them")
            else:
                self._note(
                    "the keeper did not take the order to stop; asking again (Ctrl-C again kills)"
                )
        if self._asked > 1 and self._obeyed < 2:
            self._obeyed = 2
            self._note("killing every process of the node")
            down.force(self._where)

    def _note(self, text: str) -> None:
        self._events.append(f"{time.strftime('%H:%M:%S')}  {text}")

    def _has_ended(self) -> bool:
        try:
            pid, status = os.waitpid(self._anchor, os.WNOHANG)
        except ChildProcessError:
            # The first anchor is gone (somebody killed it and another one took over): the locks tell the rest.
            return not place.node_pid(self._where)
        if not pid:
            return False
        if not os.WIFEXITED(status):
            return self._obeyed == 2 and not place.node_pid(self._where)
        self._status = 0 if self._obeyed else os.WEXITSTATUS(status)
        return not place.node_pid(self._where)

    def _draw(self, paint: terminal.Paint) -> None:
        sys.stdout.write("\x1b[?25l")  # no cursor jumping about
        columns, height = terminal.size_of()
        try:
            found = snapshot.take(self._where, timeout_s=0.5, components=False)
        except NodeError as error:
            self._block.draw([str(error)])
            return
        self._events = [*self._events, *events.lines(self._tail.read())][-100:]
        self._block.draw(frame(found, self._events, columns, height, paint, time.time()))

    def _draw_last(self, paint: terminal.Paint) -> None:
        del paint
        self._events = [*self._events, *events.lines(self._tail.read())][-100:]
        self._block.clear()
        if self._obeyed:
            print("down")
        else:
            print("\n".join(self._events[-EVENT_LINES:]))
            print(f"the node has ended by itself (status {self._status})")

    def _show_cursor(self) -> None:
        sys.stdout.write("\x1b[?25h")
        sys.stdout.flush()


def frame(
    found: "dict[str, Any]", last_events: "list[str]", columns: int, height: int, paint: terminal.Paint,
    now_unix_s: float,
) -> "list[str]":  # fmt: skip
    """Return one picture of the live table, made to fit: those workers first that need a look."""
    head = table.heading(found, columns, paint)
    notes = table.notes(found, columns, paint, now_unix_s)[: max(4, height // 4)]
    house = table.house(found, columns, paint)
    below = [paint(line, "dim") for line in last_events[-EVENT_LINES:]]
    is_ending = any(worker["state"] == "stopping" for worker in found["workers"]) and not any(
        worker["up"] for worker in found["workers"]
    )
    hint = paint("stopping; Ctrl-C again kills" if is_ending else "Ctrl-C stops the node", "dim")
    room = height - 1 - len(head) - len(house) - len(notes) - len(below) - 4
    workers = found["workers"]
    hidden = 0
    if len(workers) > room:
        shown = max(1, room - 1)
        hidden = len(workers) - shown
        workers = table.by_urgency(workers)[:shown]
    lines = [*head, *table.table(workers, columns, paint, now_unix_s)]
    if hidden:
        lines.append(paint(f"… and {hidden} more (holdfast status)", "dim"))
    lines += ["", *house, *notes]
    if below:
        lines += ["", *below]
    return [*lines, hint]
