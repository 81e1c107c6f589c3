"""Which process does a person mean who says WORKER, and what may be asked of it now?

A worker may have forked others (gunicorn's workers, a pool): they are found by their pulses, and any process of the worker by ``--pid``. For the commands that look into a running worker (`profile`, `stacks`, `heap`, `tasks`). Leaves out what each of them looks at.
"""

import time

from holdfast.cli import place, waiting
from holdfast.cli.words import unknown
from holdfast.evidence.collectors import pulse
from holdfast.linux import procfs
from holdfast.model.errors import NodeError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from typing import Any


#: Processor time is counted in hundredths of a second.
_BUSY_S = 0.25


class Target:
    """A worker that runs."""

    __slots__ = ("entry", "n", "name", "own_pid", "pid", "run_dir", "state_dir")

    def __init__(self, where: place.Place, entry: "dict[str, Any]", now: "dict[str, Any]") -> None:
        self.run_dir, self.state_dir = where.run_dir, where.state_dir
        self.entry = entry
        self.name = str(entry["name"])
        self.pid = int(now["pid"])
        self.n = int(now.get("n") or 0)
        self.own_pid = self.pid  #: of the worker's own process, whichever is looked at

    def python(self) -> str:
        """Return the interpreter of a Python program; "" for any other program."""
        argv = procfs.command_line(self.pid) or [
            str(word) for word in self.entry.get("argv") or [""]
        ]
        name = argv[0].rpartition("/")[2]
        return argv[0] if "python" in name or self.entry.get("faulthandler") else ""


def add_worker(parser: "ArgumentParser") -> None:
    """Declare the worker as the only word."""
    parser.add_argument("worker", metavar="WORKER", help="which worker")
    parser.add_argument(
        "--pid", type=int, metavar="PID", help="one process of it, where it has several (a server that forks)"
    )  # fmt: skip


def find(args: "Namespace") -> Target:
    """Return the running worker that is meant.

    Raises:
        UsageError: There is none of that name.
        NotRunning: The node does not run.
        NodeError: The worker does not run.
    """
    where = place.find(args)
    place.need_running(where)
    entries = {worker["name"]: worker for worker in place.read_plan(where)["workers"]}
    now = waiting.workers(where.run_dir)
    if args.worker not in now:
        raise unknown("worker", args.worker, list(now))
    state = now[args.worker]
    if not state.get("pid"):
        msg = (
            f'worker "{args.worker}" has no process to look into: it is {state.get("state")}\n'
            f"  start it:          holdfast start {args.worker}\n"
            f"  what it died of:   holdfast explain {args.worker}"
        )
        raise NodeError(msg)
    # A part of a split worker is not in the plan under its own name.
    target = Target(where, entries.get(args.worker) or {"name": args.worker}, state)
    if args.pid:
        _choose(target, args.pid)
    return target


def _choose(target: Target, pid: int) -> None:
    found = procfs.reading(pid)
    mine = found is not None and target.own_pid in (pid, found.session)
    if not mine and pid not in (beat.pid for beat in pulse.forked(target.run_dir, target.name)):
        known = ", ".join(str(one) for one in family(target))
        msg = (
            f'process {pid} is none of worker "{target.name}"\n'
            f"  its processes, the busiest first:  {known}"
        )
        raise UsageError(msg)
    target.pid = pid


def family(target: Target) -> "list[int]":
    """Return the process that was chosen; without a choice that of the worker and those that it forked, the busiest first.

    Takes a moment to see who is busy; no time at all where there is only one.
    """
    forks = [beat.pid for beat in pulse.forked(target.run_dir, target.name)]
    if target.pid != target.own_pid or not forks:
        return [target.pid]
    before = {pid: _cpu_ns(pid) for pid in (*forks, target.own_pid)}
    time.sleep(_BUSY_S)
    return sorted(before, key=lambda pid: before[pid] - _cpu_ns(pid))


def largest(target: Target) -> int:
    """Return the process that holds most memory, of those that may be meant."""
    sizes = {pid: found.rss_bytes for pid in family(target) if (found := procfs.reading(pid))}
    return max(sizes, key=sizes.__getitem__, default=target.pid)


def _cpu_ns(pid: int) -> int:
    found = procfs.reading(pid)
    return found.cpu_ns if found is not None else 0
