"""`holdfast tasks WORKER`: how many tasks and threads are there, which lines created them, and who asked for that?"""

import sys

from holdfast.cli import live, output, terminal
from holdfast.diagnosis import owners
from holdfast.evidence.collectors import sites, tasks
from holdfast.evidence.collectors.pulse import places
from holdfast.linux import files
from holdfast.model.errors import NodeError
from holdfast.wire import pulse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from typing import Any

_SHOWN = 12
_SOCKET_S = 2.0


def add_arguments(parser: "ArgumentParser") -> None:
    """Declare the arguments."""
    live.add_worker(parser)
    parser.add_argument(
        "--tree",
        action="store_true",
        help="which task waits for which, and where (asks the process)",
    )
    parser.epilog = "Needs a container, or a guest with agent = true. The counts are read from outside: a blocked loop does not matter."


def run(args: "Namespace") -> int:
    """Print the creation sites of a worker."""
    target = live.find(args)
    pids = live.family(target)
    target.pid = pids[0]
    found = sites.read(target.run_dir, target.name, target.pid)
    head = _head(target, target.pid)
    if head is None:
        msg = (
            f'worker "{target.name}" has no agent, so nobody counts its tasks\n'
            f"  worker.{target.name}.agent = true   (Python programs), then: holdfast apply"
        )
        raise NodeError(msg)
    counts = {"tasks": head.tasks, "tasks_created": head.tasks_created, "threads": head.threads,
              "threads_created": head.threads_created, "greenlets": head.greenlets}  # fmt: skip
    others = [other for pid in pids[1:] if (other := _head(target, pid)) is not None]
    tree, text = _tree(target) if args.tree else ({}, "")
    if args.json:
        output.document({
            "worker": target.name, "pid": target.pid, **counts,
            "sites": {kind: [_row(row) for row in found.get(kind) or ()] for kind in ("tasks", "threads", "greenlets")},
            "tree": tree or None,
            **({"others": [{"pid": o.pid, "tasks": o.tasks, "threads": o.threads} for o in others]} if others else {}),
        })  # fmt: skip
        return 0
    paint = terminal.paint_for(args)
    directory = str(target.entry.get("directory") or "")
    lines = [
        f"{target.name}  pid {target.pid}, {head.tasks} tasks, {head.threads} threads (created: {head.tasks_created}, {head.threads_created})"
    ]
    if others:
        listed = ", ".join(f"{o.pid} ({o.tasks} tasks, {o.threads} threads)" for o in others)
        lines.append(paint(f"the busiest of {len(pids)} processes; the others (--pid): {listed}", "dim"))  # fmt: skip
    for kind in ("tasks", "threads", "greenlets"):
        lines += _kind(kind, found.get(kind) or [], directory, paint)
    if text:
        lines += ["", text.rstrip()]
    sys.stdout.write("\n".join(lines) + "\n")
    return 0


def _head(target: live.Target, pid: int) -> "pulse.Pulse | None":
    for path in places(target.run_dir, target.name, pid)[:2]:
        found = pulse.decode(files.read(path))
        if found is not None and found.pid == pid:
            return found
    return None


def _kind(kind: str, rows: "list[Any]", directory: str, paint: terminal.Paint) -> "list[str]":
    if not rows:
        return []
    lines = ["", paint(f"created   alive  {kind} created at", "dim")]
    for row in (_row(one) for one in rows[:_SHOWN]):
        place = owners.Place(row["where"], {})
        lines.append(f"{row['created']:7} {row['alive']:7}  {paint(place.short(directory), 'bold')}")  # fmt: skip
        lines += [f"{'':17}<- {owners.Place(c, {}).short(directory)}" for c in row["creators"][:4]]
    return lines


def _row(row: "list[Any]") -> "dict[str, Any]":
    return {"created": int(row[0]), "alive": int(row[1] or 0), "where": str(row[2]), "creators": [str(c) for c in row[3]]}  # fmt: skip


def _tree(target: live.Target) -> "tuple[dict[str, Any], str]":
    found, why = tasks.ask(target.run_dir, target.name, _SOCKET_S, target.pid)
    return found, tasks.as_text(found) if found else f"no tree: {why}"
