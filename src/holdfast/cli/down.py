"""`holdfast down`: is everything gone?

Asks the keeper to stop every worker by the plan (signal, grace, kill), and returns when no process of the node is
left. ``--kill`` does not ask: for a house that does not answer any more.
"""

import os
import signal
import time

from holdfast.cli import output, place, waiting
from holdfast.cli.words import count, parse_span, span
from holdfast.linux import locks, pidfd, procfs, talk
from holdfast.model.errors import NodeError
from holdfast.wire import layout

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

#: A keeper that has not killed everything after this long is not waited for.
FORCE_S = 3.0


def add_arguments(parser: "ArgumentParser") -> None:
    """Declare the arguments."""
    parser.add_argument(
        "--kill", action="store_true", help="kill every process of the node at once (SIGKILL)"
    )
    parser.add_argument(
        "--timeout", metavar="SPAN", help="how long to wait (default: the longest grace, and 10s)"
    )


def run(args: "Namespace") -> int:
    """Stop the node."""
    where = place.find(args)
    place.need_running(where)
    began_s = time.monotonic()
    names = [worker["name"] for worker in place.read_plan(where).get("workers", [])]
    if args.kill:
        force(where)
        if not wait(where, args, FORCE_S):
            kill(where)
    else:
        ask(where)
    if not wait(where, args, parse_span(args.timeout) if args.timeout else _allowance_s(where)):
        left = ", ".join(_left(where)) or "the house"
        msg = f"the node is still there: {left}\n  wait for it:  holdfast status\n  or:           holdfast down --kill"
        raise NodeError(msg)
    took_s = round(time.monotonic() - began_s, 3)
    if args.json:
        output.document({"down": True, "workers": len(names), "took_s": took_s})
    else:
        print(f"down: {count(len(names), 'worker')}, {span(took_s)}")
    return 0


def ask(where: place.Place) -> None:
    """Ask the keeper to stop everything; it is repeated by the keeper after its own death."""
    waiting.checked(talk.request(where.run_dir, {"do": "down"}))


def force(where: place.Place) -> None:
    """Let the keeper kill every worker, so that the exits are on record; where it does not answer, kill everything."""
    path = f"{where.run_dir}/{layout.socket('keeper')}"
    reply = talk.ask(path, {"do": "down", "by": "user", "force": True}, FORCE_S)
    if not (reply or {}).get("ok"):
        kill(where)


def wait(where: place.Place, args: "Namespace", timeout_s: float) -> bool:
    """Wait until no lock of the house is held any more."""

    def look() -> "tuple[bool, str]":
        if not place.node_pid(where):
            return True, ""
        left = _left(where)
        return (
            False,
            f"stopping: {', '.join(left[:4])}{' …' if len(left) > 4 else ''}"
            if left
            else "stopping the house",
        )

    return waiting.until(look, timeout_s, waiting.progress(args))


def _allowance_s(where: place.Place) -> float:
    return waiting.stop_allowance_s(place.read_plan(where).get("workers", []))


def _left(where: place.Place) -> "list[str]":
    reply = talk.ask(f"{where.run_dir}/{layout.socket('keeper')}", {"do": "status"}, 1.0)
    return [worker["name"] for worker in (reply or {}).get("workers", []) if worker.get("pid")]


def kill(where: place.Place) -> None:
    """Kill the whole node: the house first, all of it stopped before the first dies, or the others would start it again."""
    house = []
    for role in layout.ROLES:
        path = f"{where.run_dir}/{layout.lock(role)}"
        pid = locks.holder(path)
        descriptor = pidfd.open_pid(pid) if pid else -1
        # Asked again with the descriptor in hand: now it is certain that it is this process and no other.
        if descriptor >= 0 and locks.holder(path) == pid:
            house.append(descriptor)
    for number in (signal.SIGSTOP, signal.SIGKILL):
        for descriptor in house:
            pidfd.send(descriptor, number)
    for descriptor in house:
        os.close(descriptor)
    kill_workers(where)


def kill_workers(where: place.Place) -> None:
    """Kill every process that carries the mark of this node in its environment, grandchildren too."""
    wanted = where.run_dir
    mine = procfs.environ(os.getpid()).get("HOLDFAST_RUN")
    for pid in procfs.pids():
        if pid == os.getpid() or procfs.environ(pid).get("HOLDFAST_RUN") != wanted:
            continue
        if mine == wanted and os.getsid(pid) == os.getsid(0):
            continue  # called from inside a worker of this very node: its session goes last, with the house's locks
        descriptor = pidfd.open_pid(pid)
        if descriptor < 0:
            continue
        if procfs.environ(pid).get("HOLDFAST_RUN") == wanted:
            pidfd.send(descriptor, signal.SIGKILL)
        os.close(descriptor)
