"""`holdfast stacks WORKER`: where is each of its threads, right now? Works with a frozen process, too."""

import sys

from holdfast.cli import live, output, terminal
from holdfast.diagnosis import owners
from holdfast.diagnosis import stacks as form
from holdfast.diagnosis.lastwords import split_frame
from holdfast.evidence.collectors import process, pulse, sites
from holdfast.evidence.collectors import stacks as taking
from holdfast.linux import procfs, talk
from holdfast.model.errors import NodeError
from holdfast.wire.jsonlite import loads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from typing import Any

_PYSPY_S, _SOCKET_S = 10.0, 3.0


def add_arguments(parser: "ArgumentParser") -> None:
    """Declare the arguments."""
    live.add_worker(parser)
    parser.add_argument("--native", action="store_true", help="with the frames of C code")
    parser.add_argument(
        "--locals", action="store_true", help="with what the variables hold (secrets by name are left out)"
    )  # fmt: skip
    parser.add_argument("--all", action="store_true", help="the interpreter's own frames as well")


def run(args: "Namespace") -> int:
    """Take the stacks and print equal ones once."""
    target = live.find(args)
    pids = live.family(target)
    held: list[str] = []
    found: dict[int, list[dict[str, Any]]] = {}
    why: list[str] = []
    for pid in pids:
        target.pid = pid
        found[pid], why = take(target, native=args.native, held=held if args.locals else None)
    if not any(found.values()):
        msg = (
            f'no stacks of worker "{target.name}" (pid {target.pid}): {"; ".join(why)}\n'
            "  what this machine allows:  holdfast doctor"
        )
        raise NodeError(msg)
    if args.json:
        more: dict[str, Any] = {"locals": "".join(held)} if args.locals else {}
        if len(pids) > 1:
            more["processes"] = [{"pid": pid, "stacks": found[pid]} for pid in pids]
        output.document({"worker": target.name, "pid": pids[0], "stacks": found[pids[0]], **more})
        return 0
    paint = terminal.paint_for(args)
    parts = []
    for pid in pids:
        target.pid = pid
        parts.append("\n".join(render(target, found[pid], paint, show_all=args.all)) + "\n")
    sys.stdout.write("\n".join(parts))
    if args.locals:
        sys.stdout.write(f"\n{''.join(held) or 'no locals: only py-spy reads them, and not from every frame'}")  # fmt: skip
    return 0


def take(
    target: live.Target, *, native: bool = False, held: "list[str] | None" = None
) -> "tuple[list[dict[str, Any]], list[str]]":
    """Return the stacks from the first source that has any, and what the others said.

    Args:
        target: Whose.
        native: With the frames of C code.
        held: Where a text with the local variables is added, if it is given.
    """
    why: list[str] = []
    threads = process.threads_of(target.pid)
    found: list[dict[str, Any]] = []
    reading = procfs.reading(target.pid)
    if reading is not None and reading.threads > taking.CROWD:
        found = taking.grouped(sites.read(target.run_dir, target.name, target.pid))
        why.append(f"{reading.threads} threads: too many for py-spy")
    if not found:
        found = _pyspy(target, native, reading.state if reading else "?", why, held)
    if not found:
        found = _asked(target, why)
    doing = {thread["tid"]: thread["doing"] for thread in threads}
    for stack in found:
        if stack.get("tid") in doing:
            stack["doing"] = doing[stack["tid"]]
    return [stack for stack in found if not form.is_ours(stack)], why


def _pyspy(
    target: live.Target, native: bool, state: str, why: "list[str]", held: "list[str] | None"
) -> "list[dict[str, Any]]":
    tool = taking.find_pyspy(target.python())
    if tool is None:
        why.append("py-spy is not installed (pip install py-spy)")
        return []
    if not target.python():
        why.append("it is not a Python program")
        return []
    argv = [tool, "dump", "--pid", str(target.pid), "--json", "--full-filenames"]
    # It stands still for 12 ms; pausing what is stopped already would fail.
    if state in "Tt":
        argv.append("--nonblocking")
    elif native:
        argv.append("--native")
    if held is not None:
        argv.append("--locals")
    text, trouble = taking.run_tool(argv, _PYSPY_S)
    try:
        threads = loads(text) if text else []
    except ValueError:
        trouble, threads = "its answer is not JSON", []
    if trouble:
        why.append(f"py-spy: {trouble}")
    if held is not None:
        held.append(form.locals_as_text(threads))
    return form.from_pyspy([t for t in threads if type(t) is dict])


def _asked(target: live.Target, why: "list[str]") -> "list[dict[str, Any]]":
    path = pulse.socket(target.run_dir, target.name, target.pid)
    answer = talk.ask(path, {"do": "stacks"}, _SOCKET_S)
    found = taking.answered(answer or {}, [])
    if not found:
        why.append("it does not answer at its control socket")
    return found


def render(
    target: live.Target, stacks: "list[dict[str, Any]]", paint: terminal.Paint, *, show_all: bool
) -> "list[str]":
    """Return the lines that a person reads: equal stacks once, the program's own lines in bold."""
    directory = str(target.entry.get("directory") or "")
    groups: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for stack in stacks:
        groups.setdefault(tuple(stack["frames"]), []).append(stack)
    forked = "" if target.pid == target.own_pid else ", forked by it"
    lines = [f"{target.name}  pid {target.pid}{forked}, {sum(int(s.get('alike') or 1) for s in stacks)} threads"]  # fmt: skip
    for frames, alike in groups.items():
        first = alike[0]
        name = str(first["thread"]) if len(alike) == 1 else f"{len(alike)} threads alike: {', '.join(str(s['thread']) for s in alike[:3])}"  # fmt: skip
        marks = [str(first["doing"])] if first.get("doing") else []
        marks += ["has the GIL"] if first.get("current") else []
        lines += ["", paint(name, "bold") + (f"  {', '.join(marks)}" if marks else "")]
        hidden = 0
        for frame in frames:
            path, number, function = split_frame(frame)
            machinery = owners.is_machinery(path)
            if machinery and not show_all:
                hidden += 1
                continue
            where = f"{owners.short_path(path, directory)}:{number}" if number else owners.short_path(path, directory)  # fmt: skip
            library = form.is_library(path)
            lines.append(f"    {paint(function, '' if library else 'bold')}  {paint(where, 'dim')}")
        if hidden:
            lines.append(paint(f"    … {hidden} frames of the interpreter (--all)", "dim"))
    return lines
