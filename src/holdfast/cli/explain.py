"""`holdfast explain WORKER|INCIDENT`: what is wrong, who is to blame, how sure is that, and from where on is it "wrong"?"""

import sys
import time

from holdfast.cli import output, place, terminal
from holdfast.cli.words import count, nearest, size, span
from holdfast.core.detect import thresholds
from holdfast.diagnosis.story import hang, headline, wrap
from holdfast.linux import files
from holdfast.model.errors import StateError, UsageError
from holdfast.records import incidents, samples
from holdfast.wire import layout
from holdfast.wire.jsonlite import loads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from typing import Any

NODE = "@node"
#: Threshold -> how it reads with its value.
_WORDS = {
    "freeze": "the pulse is silent for {:g} s (written up; the remedy waits for heartbeat.timeout)",
    "loop_lag": "the event loop comes {:g} s late, three times within three seconds",
    "slow": "a unit of work costs {:g} times the processor time that it used to",
    "stalled": "requests are {:g} times as old as they get, three of a route at once, and hardly any ends",
    "starved": "it waits for a processor for {:.0%} of the time",
    "pegged": "a busy processor for {:g} s, and no work gets done",
    "deadlock": "a thread waits for one lock for {:g} s",
    "task_bomb": "{:g} asyncio tasks, and ten times what is usual",
    "thread_bomb": "{:g} threads, and three times what is usual",
    "child_bomb": "{:g} processes below it, and five times what is usual",
    "fd_leak": "{:.0%} of the files that it may have open; steady growth is told long before",
    "memory_leak": "memory lasts no longer than {:g} s; steady growth is told long before",
    "odd_one_out": "{:g} robust standard deviations above its peers",
    "log_storm": "{:.0f} bytes of log a second, and thirty times what is usual",
    "log_silence": "no line for {:g} s, while it works as before",
    "warm_up": "(within {:g} s after it is ready no growth is a leak)",
    "disk_filling": "the disk is full within {:g} s",
    "inodes_low": "less than {:.0%} of the inodes are free",
    "memory_pressure": "less than {:.0%} of the memory is available",
    "clock_jump": "the clock is set by more than {:g} s",
}
_SHOWN = 3


def add_arguments(parser: "ArgumentParser") -> None:
    """Declare the arguments."""
    parser.add_argument(
        "what", metavar="WORKER|INCIDENT", help="a worker, @node for the machine, or the id of an incident"
    )  # fmt: skip


def run(args: "Namespace") -> int:
    """Explain a worker or an incident; both work while the node is down."""
    where = place.find(args)
    plan = place.read_plan(where)
    entries = {worker["name"]: worker for worker in plan.get("workers") or ()}
    worker = str(args.what)
    if worker == NODE or worker in entries or _has_history(where, worker):
        return _worker(args, where, plan, entries.get(worker) or {"name": worker})
    try:
        found = incidents.load(where.state_dir, worker)
    except StateError:
        names = [*entries, *(row["id"] for row in incidents.list_incidents(where.state_dir))]
        meant = nearest(worker, names)
        hint = f'Did you mean "{meant}"?' if meant else "holdfast status   holdfast incidents"
        msg = f'there is no worker and no incident "{worker}"\n  {hint}'
        raise UsageError(msg) from None
    timeline = incidents.timeline(where.state_dir, str(found["id"]))
    if args.json:
        output.document({"incident": _short(found, timeline)})
    else:
        paint = terminal.paint_for(args)
        _print(["", *_incident(found, timeline, paint), "", f"the whole story:  holdfast incident {found['id']}"])  # fmt: skip
    return 0


def _has_history(where: place.Place, worker: str) -> bool:
    return bool(incidents.list_incidents(where.state_dir, worker=worker, limit=1))


def _print(lines: "list[str]") -> None:
    sys.stdout.write("\n".join(lines).lstrip("\n") + "\n")


# -- a worker --------------------------------------------------------------------------------------


def _worker(args: "Namespace", where: place.Place, plan: "dict[str, Any]", entry: "dict[str, Any]") -> int:  # fmt: skip
    name = str(entry["name"])
    rows = incidents.list_incidents(where.state_dir, worker=name, limit=_SHOWN)
    found = [incidents.load(where.state_dir, row["id"]) for row in rows]
    if args.json:
        last = samples.recent(where.run_dir, name)[-1:]
        output.document({
            "worker": name, "flags": flags_of(where.run_dir, name), "now": last[0] if last else None,
            "thresholds": thresholds_of(plan, entry),
            "incidents": [_short(one, incidents.timeline(where.state_dir, one["id"])) for one in found],
        })  # fmt: skip
    else:
        _print(worker_lines(where, plan, entry, found, terminal.paint_for(args)))
    return 0


def worker_lines(
    where: place.Place, plan: "dict[str, Any]", entry: "dict[str, Any]", found: "list[dict[str, Any]]", paint: terminal.Paint
) -> "list[str]":  # fmt: skip
    """Return what a person reads of a worker.

    Args:
        where: The node.
        plan: The node's part of it is enough.
        entry: The worker's part of it, or its name alone.
        found: The records of its last incidents.
        paint: Colour, or not.
    """
    name = str(entry["name"])
    flags = flags_of(where.run_dir, name)
    limits = thresholds_of(plan, entry)
    columns, _ = terminal.size_of()
    lines = [paint(name, "bold") + _now(samples.recent(where.run_dir, name)[-1:]), ""]
    for flag in flags:
        since_s = time.time() - float(flag.get("since_unix_s") or time.time())
        name_of, rest = str(flag["flag"]), f"  for {span(since_s)}: {flag.get('says')}  ({flag.get('phase')})"  # fmt: skip
        first, *more = hang(name_of + rest, columns, 4)
        lines += [paint(name_of, "red") + first[len(name_of) :], *more]
    if not flags:
        lines.append(paint("nothing is wrong now", "green"))
    for one in found:
        lines += ["", *_incident(one, incidents.timeline(where.state_dir, one["id"]), paint)]
    key = "node.detect" if name == NODE else f"worker.{name}.detect"
    lines += [
        "",
        paint(f"flagged when ({key} = {{ NAME = … }} changes it, false switches it off)", "dim"),
    ]
    room = max(len(detector) for detector in limits)
    for detector, limit in limits.items():
        says = _WORDS.get(detector, "{:g}").format(limit) if limit else "off"
        lines += hang(f"  {detector.ljust(room)}  {says}", columns, room + 4)
    return lines


def flags_of(run_dir: str, worker: str) -> "list[dict[str, Any]]":
    """Return the flags of a worker that are up, the oldest first."""
    import os

    found = []
    directory = f"{run_dir}/{layout.FLAGS}"
    try:
        names = os.listdir(directory)
    except OSError:
        return []  # the node does not run: no flags
    for name in names:
        # The name of a worker may have dots; that of a flag has none.
        if name.rpartition(".")[0] != worker:
            continue
        try:
            flag = loads(files.read(f"{directory}/{name}").decode())
        except (OSError, ValueError):
            continue  # it was cleared just now
        if type(flag) is dict and flag.get("flag"):
            found.append(flag)
    return sorted(found, key=lambda flag: float(flag.get("since_unix_s") or 0))


def thresholds_of(plan: "dict[str, Any]", entry: "dict[str, Any]") -> "dict[str, float]":
    """Return the thresholds that apply to a worker, or to the machine; 0 is off."""
    if entry["name"] == NODE:
        return thresholds.filled((plan.get("watch") or {}).get("detect"), thresholds.BOX)
    return thresholds.filled(entry.get("detect"), thresholds.WORKER)


def _now(last: "list[dict[str, int]]") -> str:
    if not last:
        return "  (not sampled: it is down, or has just begun)"
    now = last[0]
    parts = [f"pid {now['pid']}", f"{size(now['rss_bytes'])} of memory", count(now["threads"], "thread")]  # fmt: skip
    if now.get("tasks"):
        parts.append(count(now["tasks"], "task"))
    if now["lag_ns"]:
        parts.append(f"loop lag {now['lag_ns'] / 1e6:.0f} ms")
    return "  " + ", ".join(parts)


# -- an incident -----------------------------------------------------------------------------------


def _short(found: "dict[str, Any]", timeline: "list[dict[str, Any]]") -> "dict[str, Any]":
    keys = (
        "id",
        "worker",
        "component",
        "kind",
        "title",
        "opened_unix_s",
        "verdict",
        "findings",
        "changed",
    )
    return {**{key: found.get(key) for key in keys}, "timeline": timeline}


def _incident(found: "dict[str, Any]", timeline: "list[dict[str, Any]]", paint: terminal.Paint) -> "list[str]":  # fmt: skip
    columns, _ = terminal.size_of()
    stamp = time.strftime("%m-%d %H:%M:%S", time.localtime(float(found.get("opened_unix_s") or 0)))
    verdict = str(found.get("verdict") or "open").replace("_", " ")
    style = {"cured": "green", "open": "yellow", "closed": "dim"}.get(verdict, "red")
    lines = [f"{stamp}  {paint(str(found['id']), 'bold')}  {paint(verdict, style)}", *hang(f"  {headline(found)}", columns, 2)]  # fmt: skip
    width = min(100, columns) - 4
    for finding in found.get("findings") or ():
        said = f"{finding['confidence']}: {finding['says']}"
        lines += [f"    {line}" for line in wrap(said, width)]
        rests = ", ".join(finding.get("rests_on") or ())
        lines.append(paint(f"    rests on {rests}", "dim"))
    if not found.get("findings"):
        reasons = (found.get("cause") or {}).get("why") or []
        for why in reasons[:_SHOWN]:
            lines += hang(f"    {why['confidence']}: {why['says']}", columns, 4)
        lines.append(paint("    nothing in the evidence points to a culprit", "dim"))
    for row in timeline[-_SHOWN:]:
        says = row.get("says") or row.get("verdict") or row.get("what")
        lines += hang(f"    {says}", columns, 4)
    return lines
