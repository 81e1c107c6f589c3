"""`holdfast heap WORKER`: what is its memory made of, and what becomes more?"""

import os
import sys
import time

from holdfast.cli import live, output, terminal
from holdfast.cli.words import parse_span, size, span
from holdfast.evidence.collectors import allocations, census, memory
from holdfast.model.errors import NodeError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from typing import Any

_LONGEST_S = 10.0
_SLACK_S = 20.0
_SHOWN = 12
#: Allocating stacks that are shown; for a picture all that matter, and deep enough to stand on the program's first line.
_SITES, _MOST_SITES, _DEEP = 8, 4000, 40
_ENDINGS = (".svg", ".json", ".txt", ".collapsed")


def add_arguments(parser: "ArgumentParser") -> None:
    """Declare the arguments."""
    live.add_worker(parser)
    parser.add_argument("--for", dest="span", metavar="SPAN", default="2s", help="how long to look for growth (default: 2s, at most 10s)")  # fmt: skip
    parser.add_argument(
        "--trace", action="store_true", help="watch which lines allocate; allocating code is several times slower meanwhile"
    )  # fmt: skip
    parser.add_argument(
        "--by", choices=("memray", "tracemalloc"), help="what watches (default: memray where the program's environment has it)"
    )  # fmt: skip
    parser.add_argument("--native", action="store_true", help="with the C code that allocates; memray only")  # fmt: skip
    parser.add_argument(
        "-o", "--output", metavar="FILE",
        help="what was allocated and stayed: .svg flame graph, .json for speedscope, .txt collapsed stacks, in bytes",
    )  # fmt: skip
    parser.epilog = (
        "Types and lines need a container, or a guest with agent = true; every process has mappings.\n"
        "--by, --native and -o mean --trace."
    )


def run(args: "Namespace") -> int:
    """Look twice, and print what there is and what grew."""
    seconds = parse_span(args.span)
    if not 0.1 <= seconds <= _LONGEST_S:
        msg = f"--for {args.span}: between 0.1s and {_LONGEST_S:g}s"
        raise UsageError(msg)
    ending = os.path.splitext(args.output or "x.svg")[1]
    if ending not in _ENDINGS:
        msg = f"{args.output}: the ending says what is written: {', '.join(_ENDINGS)}"
        raise UsageError(msg)
    if args.native and args.by == "tracemalloc":
        msg = "--native: tracemalloc sees no C code\n  leave --by tracemalloc out, and have memray in the environment of the program"
        raise UsageError(msg)
    target = live.find(args)
    target.pid = live.largest(target)
    before = memory.by_name(target.pid)
    if not before:
        msg = f'the memory of worker "{target.name}" (pid {target.pid}) cannot be looked at: another user\'s?'
        raise NodeError(msg)
    began_s = time.monotonic()
    found, why = _ask(args, target, seconds)
    time.sleep(max(0.0, seconds - (time.monotonic() - began_s)))
    now = memory.by_name(target.pid)
    passed_s = time.monotonic() - began_s
    sites = _allocated(target, found)
    if args.output:
        _write(args, target, sites, found, ending)
    if found:
        found["allocated"] = sites[:_SITES]
    grown = memory.grown(before, now)
    if args.json:
        output.document({
            "worker": target.name, "pid": target.pid, "window_s": round(passed_s, 2), "rss_bytes": sum(now.values()),
            "mappings": [{"name": n, "bytes": b, "grown": b - before.get(n, 0)} for n, b in _largest(now)],
            "census": found or None, "why_no_census": why or None,
        })  # fmt: skip
        return 0
    lines = _lines(target, now, grown, found, why, sites, passed_s, terminal.paint_for(args))
    if args.output:
        lines += ["", f"{size(sum(site['bytes'] for site in sites))} by {found['by']} -> {args.output}"]  # fmt: skip
    sys.stdout.write("\n".join(lines) + "\n")
    return 0


def _ask(
    args: "Namespace", target: live.Target, seconds: float
) -> "tuple[dict[str, Any], str]":  # fmt: skip
    """Ask the agent in the program; (nothing, why) where there is none and nothing but it could have answered is wanted.

    Raises:
        NodeError: The lines that allocate were asked for, and nobody can tell them.
    """
    by = args.by or ("memray" if args.native else "best")
    is_traced = bool(args.trace or args.by or args.native or args.output)
    wide = {"sites": _MOST_SITES, "depth": _DEEP} if args.output else {}
    found, why = census.ask(
        target.run_dir, target.name, seconds, seconds + _SLACK_S, trace=is_traced, pid=target.pid, by=by, native=args.native, **wide
    )  # fmt: skip
    if found or not (args.by or args.native or args.output):
        return found, why
    if "memray" in why and "ModuleNotFoundError" in why:
        what = (
            "memray is not in the environment of the program\n"
            f"  install it there:   {target.python() or 'python'} -m pip install memray\n"
            f"  without it:         holdfast heap {target.name} --by tracemalloc"
        )
    elif why == census.NOBODY:
        # Not `memray attach`: the debugger that injects its call has ended programs (OSError 514 out of a sleep).
        what = (
            "no agent answers in it, and nothing is injected into a program that runs\n"
            "  a Python program:   set  agent = true  for the worker, then  holdfast apply\n"
            f"  any program:        holdfast profile {target.name} --native   (where it is, not what it allocates)"
        )
    else:
        what = why
    msg = f'the lines that allocate in worker "{target.name}" cannot be told: {what}'
    raise NodeError(msg)


def _allocated(target: live.Target, found: "dict[str, Any]") -> "list[dict[str, Any]]":
    """Return the allocating stacks, whoever watched."""
    if found.get("recorded"):
        sites, why = allocations.read(str(found.pop("recorded")), target.pid, target.python() or sys.executable)  # fmt: skip
        if why:
            msg = f'what memray recorded in worker "{target.name}" cannot be read: {why}'
            raise NodeError(msg)
        return sites
    sites = list(found.get("allocated") or ())
    for site in sites:
        site["frames"] = [census.named(frame) for frame in site["frames"]]
    return sites


def _write(
    args: "Namespace", target: live.Target, sites: "list[dict[str, Any]]", found: "dict[str, Any]", ending: str
) -> None:  # fmt: skip
    title = (
        f"{target.name}, allocated within {found['window_s']:g} s and still there ({found['by']})"
    )
    made = allocations.outputs(sites, title)[ending]()
    if ending == ".json":
        from json import dumps

        made = dumps(made)
    with open(args.output, "w", encoding="utf-8", errors="replace") as file:
        file.write(made)


def _largest(now: "dict[str, int]") -> "list[tuple[str, int]]":
    return sorted(now.items(), key=lambda item: -item[1])[:_SHOWN]


def _lines(
    target: live.Target, now: "dict[str, int]", grown: "list[dict[str, Any]]", found: "dict[str, Any]", why: str,
    sites: "list[dict[str, Any]]", passed_s: float, paint: terminal.Paint,
) -> "list[str]":  # fmt: skip
    more = {row["name"]: row["grown"] for row in grown}
    of_forks = "" if target.pid == target.own_pid else " (forked by it)"
    lines = [
        f"{target.name}  pid {target.pid}{of_forks}, {size(sum(now.values()))} resident, {_signed(sum(more.values()))} in {span(passed_s)}",
        "", paint("   size   grown  mapping", "dim"),
    ]  # fmt: skip
    lines += [f"{size(count):>7} {_signed(more.get(name, 0)):>7}  {name}" for name, count in _largest(now)]  # fmt: skip
    if not found:
        return [*lines, "", f"no types: {why}"]
    lines += ["", paint(f"  count     more  type ({found['objects']} objects)", "dim")]
    rose = {row["type"]: row["more"] for row in found["grown"]}
    shown = [*found["grown"][:_SHOWN], *found["types"]]
    seen: set[str] = set()
    for row in shown:
        if row["type"] not in seen and len(seen) < 2 * _SHOWN:
            seen.add(row["type"])
            lines.append(f"{row['count']:7} {rose.get(row['type'], 0):+8}  {row['type']}")
    directory = str(target.entry.get("directory") or "")
    if sites:
        lines += ["", paint(f"  bytes    count  allocated and kept by  ({found['by']})", "dim")]
    for count_bytes, count, way in allocations.by_way(sites, directory)[:_SITES]:
        lines.append(f"{size(count_bytes):>7} {count:8}  {way}")
    if found.get("held_by"):
        lines += ["", "held by " + " in ".join(str(h["says"]) for h in found["held_by"])]
    return lines


def _signed(count: int) -> str:
    return f"+{size(count)}" if count > 0 else "0"
