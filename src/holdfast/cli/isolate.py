"""`holdfast isolate`: who is the culprit, how is its worker split, and what is to be kept of that?

Shows what the splits have shown so far, who is suspicious over all workers, and the configuration that makes a split
permanent: it is printed, never written into a person's file. A component can be taken out by hand, and a worker made whole.
"""

import sys
import time

from holdfast.cli import output, place, snapshot, terminal
from holdfast.cli.order import settle
from holdfast.cli.words import count, span, unknown
from holdfast.core import isolate, parts, suspicion
from holdfast.linux import talk
from holdfast.model.errors import NodeError, UsageError
from holdfast.records import spectra

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from typing import Any

#: Of the suspects so many are shown.
_MOST_SUSPECTS = 8


def add_arguments(parser: "ArgumentParser") -> None:
    """Declare the arguments."""
    parser.add_argument(
        "target", nargs="?", metavar="WORKER[/COMPONENT]",
        help="only this worker; with a component: let it run alone from now on",
    )  # fmt: skip
    parser.add_argument("--undo", action="store_true", help="make the worker whole again")


def run(args: "Namespace") -> int:
    """Show the splits, or make or undo one; 1 when the node refuses."""
    where = place.find(args)
    place.need_running(where)
    plan: Any = place.read_plan(where)
    worker, _, component = (args.target or "").partition("/")
    whole = parts.family(worker)
    wholes = list(dict.fromkeys(parts.family(entry["name"]) for entry in plan["workers"]))
    if worker and whole not in wholes:
        raise unknown("worker", worker, wholes)
    if args.undo or component:
        return _order(args, where, plan, whole, component)
    found = look(where, plan, whole)
    if args.json:
        output.document(found)
        return 0
    columns, _ = terminal.size_of()
    lines = render(found, columns, terminal.paint_for(args))
    sys.stdout.write("\n".join(lines) + "\n")
    return 0


def look(where: place.Place, plan: "Any", only: str = "") -> "dict[str, Any]":
    """Return what is known: the splits, the suspects and the configuration to keep.

    Args:
        where: The node.
        plan: The one that runs.
        only: A configured worker; "" for all.
    """
    known = spectra.deaths(where.run_dir)
    now_s, now_unix_s = time.monotonic(), time.time()
    splits = []
    for whole, split in (plan.get("split") or {}).items():
        if only and whole != only:
            continue
        since_s = now_s - (now_unix_s - split["since_unix_s"])
        found = isolate.find(split["parts"], known.get(whole, []), since_s=since_s, now_s=now_s)
        culprits = [{"component": name, "died_alone": times} for name, times in found.culprits]
        splits.append({
            "worker": whole, "since_unix_s": split["since_unix_s"], "kind": found.kind, "says": found.says,
            "culprits": culprits, "parts": [{"name": n, "components": c} for n, c in split["parts"].items()],
            "steps": split["steps"], "toml": toml(whole, split, [name for name, _ in found.culprits]),
        })  # fmt: skip
    living = [
        {
            "name": one["name"], "pid": one["pid"],
            "lived_s": now_unix_s - (one["started_at_unix_s"] or now_unix_s),
            "components": [component["name"] for component in one["components"]],
        }
        for one in snapshot.take(where, components=False)["workers"]
        if one["pid"] and one["ready"] and one["components"]
    ]  # fmt: skip
    ranked = suspicion.suspects(spectra.lives(where.state_dir, where.run_dir, living))
    return {
        "splits": splits,
        "suspects": [
            {"name": s.name, "score": round(s.score, 3), "crashed": s.crashed, "well": s.well}
            for s in ranked
        ],
    }


def toml(whole: str, split: "dict[str, Any]", culprits: "list[str]") -> str:
    """Return the tables that make a split permanent: the culprits alone, everybody else as before."""
    entry = split["written"]
    everybody = parts.components(entry)
    if culprits:
        rest = [name for name in everybody if name not in culprits]
        groups = {whole: rest} if rest else {}
        taken = {whole}
        for name in culprits:
            own = name if name not in taken else f"{name}-alone"
            groups[own] = [name]
            taken.add(own)
    else:
        groups = {name.replace(parts.JOINT, "-"): list(c) for name, c in split["parts"].items()}
    lines = []
    for name, members in groups.items():
        listed = ", ".join(f'"{one}"' for one in members)
        lines += [f"[worker.{name}]", f"components = [{listed}]"]
        if name != whole:
            lines.append(f"# and the other keys of [worker.{whole}] that it needs")
        lines.append("")
    return "\n".join(lines).rstrip() + "\n"


def render(found: "dict[str, Any]", width: int, paint: terminal.Paint) -> "list[str]":
    """Return what a person reads."""
    lines: list[str] = []
    for split in found["splits"]:
        ago = span(time.time() - split["since_unix_s"])
        head = f"{split['worker']}: split into {count(len(split['parts']), 'part')} {ago} ago"
        lines += [paint(head, "bold"), f"  {split['says']}"]
        room = max(len(part["name"]) for part in split["parts"])
        alone = {culprit["component"] for culprit in split["culprits"]}
        for part in split["parts"]:
            mark = "  <- culprit" if alone & set(part["components"]) and len(part["components"]) == 1 else ""  # fmt: skip
            members = ", ".join(part["components"])
            lines.append(
                terminal.clip(
                    f"    {part['name'].ljust(room)}  {members}{paint(mark, 'red')}", width
                )
            )
        lines += [f"  why: {step['why']}" for step in split["steps"] if step.get("why")]
        lines += ["  to keep it, write into the configuration (nothing is written for you):", ""]
        lines += [f"    {line}" for line in split["toml"].splitlines()]
        lines += ["", f"  to undo it:  holdfast isolate {split['worker']} --undo", ""]
    if not found["splits"]:
        lines += ["nothing is split", ""]
    ranked = found["suspects"][:_MOST_SUSPECTS]
    if ranked:
        lines.append(
            "suspicious over all workers (1.00: in every crash, and in nothing that went well):"
        )
        lines += [
            terminal.clip(
                f"  {s['score']:.2f}  {s['name']}  in {count(s['crashed'], 'crash').replace('crashs', 'crashes')}, "
                f"in {count(s['well'], 'life').replace('lifes', 'lives')} that went well", width
            )
            for s in ranked
        ]  # fmt: skip
    return lines


# -- orders -----------------------------------------------------------------------------------------


def _order(args: "Namespace", where: place.Place, plan: "Any", whole: str, component: str) -> int:
    if not whole:
        raise UsageError("--undo: which worker?\n  holdfast isolate WORKER --undo")
    if args.undo:
        request: dict[str, Any] = {"do": "rejoin", "worker": whole, "by": "user"}
        done = f"{whole}: made whole again, as the configuration has it"
    else:
        request = {**_apart(plan, whole, component), "by": "user", "why": "a person asked for it"}
        done = f"{whole}: component {component} runs alone now"
    reply = talk.request(where.run_dir, request)
    if not reply.get("ok"):
        raise NodeError(f"{whole}: {reply.get('error', 'the keeper refused')}\n  holdfast isolate")
    late = settle(args, where, whole)
    if args.json:
        output.document({"ok": not late, "worker": whole, "late": late})
    else:
        print(done if not late else f"{done}, but not every part serves yet: {', '.join(late)}")
    return 1 if late else 0


def _apart(plan: "Any", whole: str, component: str) -> "dict[str, Any]":
    has = parts.partition(plan, whole)
    home = next((name for name, members in has.items() if component in members), None)
    if home is None:
        everybody = [name for members in has.values() for name in members]
        raise unknown(f'component of worker "{whole}" named', component, everybody)
    rest = [name for name in has[home] if name != component]
    if not rest:
        raise UsageError(
            f'component "{component}" runs alone already: it is all of worker "{home}"'
        )
    return {"do": "isolate", "worker": home, "parts": [rest, [component]]}
