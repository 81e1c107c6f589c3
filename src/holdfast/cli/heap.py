"""`holdfast heap WORKER`: what is its memory made of, and what becomes more?"""

import sys
import time

from holdfast.cli import live, output, terminal
from holdfast.cli.words import parse_span, size, span
from holdfast.diagnosis import owners
from holdfast.evidence.collectors import census, memory
from holdfast.model.errors import NodeError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from typing import Any

_LONGEST_S = 10.0
_SLACK_S = 20.0
_SHOWN = 12


def add_arguments(parser: "ArgumentParser") -> None:
    """Declare the arguments."""
    live.add_worker(parser)
    parser.add_argument("--for", dest="span", metavar="SPAN", default="2s", help="how long to look for growth (default: 2s, at most 10s)")  # fmt: skip
    parser.add_argument(
        "--trace", action="store_true", help="watch which lines allocate; the program is several times slower meanwhile"
    )  # fmt: skip
    parser.epilog = "Types and lines need a container, or a guest with agent = true; every process has mappings."


def run(args: "Namespace") -> int:
    """Look twice, and print what there is and what grew."""
    seconds = parse_span(args.span)
    if not 0.1 <= seconds <= _LONGEST_S:
        msg = f"--for {args.span}: between 0.1s and {_LONGEST_S:g}s"
        raise UsageError(msg)
    target = live.find(args)
    before = memory.by_name(target.pid)
    if not before:
        msg = f'the memory of worker "{target.name}" (pid {target.pid}) cannot be looked at: another user\'s?'
        raise NodeError(msg)
    began_s = time.monotonic()
    found, why = census.ask(
        target.run_dir, target.name, seconds, seconds + _SLACK_S, trace=args.trace
    )
    time.sleep(max(0.0, seconds - (time.monotonic() - began_s)))
    now = memory.by_name(target.pid)
    passed_s = time.monotonic() - began_s
    for site in found.get("allocated") or ():
        site["frames"] = [census.named(frame) for frame in site["frames"]]
    grown = memory.grown(before, now)
    if args.json:
        output.document({
            "worker": target.name, "pid": target.pid, "window_s": round(passed_s, 2), "rss_bytes": sum(now.values()),
            "mappings": [{"name": n, "bytes": b, "grown": b - before.get(n, 0)} for n, b in _largest(now)],
            "census": found or None, "why_no_census": why or None,
        })  # fmt: skip
        return 0
    lines = _lines(target, now, grown, found, why, passed_s, terminal.paint_for(args))
    sys.stdout.write("\n".join(lines) + "\n")
    return 0


def _largest(now: "dict[str, int]") -> "list[tuple[str, int]]":
    return sorted(now.items(), key=lambda item: -item[1])[:_SHOWN]


def _lines(
    target: live.Target, now: "dict[str, int]", grown: "list[dict[str, Any]]", found: "dict[str, Any]", why: str,
    passed_s: float, paint: terminal.Paint,
) -> "list[str]":  # fmt: skip
    more = {row["name"]: row["grown"] for row in grown}
    lines = [
        f"{target.name}  pid {target.pid}, {size(sum(now.values()))} resident, {_signed(sum(more.values()))} in {span(passed_s)}",
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
    if found.get("allocated"):
        lines += ["", paint("  bytes  allocated and kept by", "dim")]
    for site in found.get("allocated") or ():
        mine = owners.places(site["frames"], {}) or [owners.Place(site["frames"][0], {})]
        way = " <- ".join(place.short(directory) for place in mine[:3])
        lines.append(f"{size(site['bytes']):>7}  {way}")
    if found.get("held_by"):
        lines += ["", "held by " + " in ".join(str(h["says"]) for h in found["held_by"])]
    return lines


def _signed(count: int) -> str:
    return f"+{size(count)}" if count > 0 else "0"
