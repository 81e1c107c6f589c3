"""Which process does a person mean who says WORKER, and what may be asked of it now?

For the commands that look into a running worker (`profile`, `stacks`, `heap`, `tasks`). Leaves out what each of them looks at.
"""

from holdfast.cli import place, waiting
from holdfast.cli.words import unknown
from holdfast.linux import procfs
from holdfast.model.errors import NodeError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from typing import Any


class Target:
    """A worker that runs."""

    __slots__ = ("entry", "n", "name", "pid", "run_dir", "state_dir")

    def __init__(self, where: place.Place, entry: "dict[str, Any]", now: "dict[str, Any]") -> None:
        self.run_dir, self.state_dir = where.run_dir, where.state_dir
        self.entry = entry
        self.name = str(entry["name"])
        self.pid = int(now["pid"])
        self.n = int(now.get("n") or 0)

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
    return Target(where, entries.get(args.worker) or {"name": args.worker}, state)
