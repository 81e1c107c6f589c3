"""Which hangs are caught, how soon, with stacks saved; and is a healthy worker ever shot on a starved machine?

    python bench/hangs.py [--timeout 5] [--json]         six kinds of hang, one after another
    python bench/hangs.py --starve MINUTES [--json]      20 busy processes a core beside healthy containers

The six kinds are those of the table in the project's goals: a request handler that blocks (past its own timeout), a busy
loop, a deadlock, SIGSTOP, a blocked event loop, and C code that holds the GIL. Each worker is a real container on a real
node, the heartbeat is the pulse with the given timeout, and a kind is caught when the watchdog's flag is up; the stacks are those in
the incident's bundle. The goal is twice the timeout, all six, with stacks.

The busy processes die with this script whatever becomes of it (PR_SET_PDEATHSIG, and an alarm besides).
"""

import argparse
import ctypes
import json
import os
import signal
import sys
import time

from own_node import OwnNode, wait_for

from holdfast.cli.drills import catalogue, worker
from holdfast.cli.drills.row import Row
from holdfast.wire import layout

os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # an installation has its byte code
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

BLOCKED_HANDLER = "blocked handler"
KINDS = {
    BLOCKED_HANDLER: catalogue.STOP, "busy loop": catalogue.BUSY_LOOP, "deadlock": catalogue.DEADLOCK,
    "SIGSTOP": catalogue.STOP, "blocked event loop": catalogue.BLOCKED_LOOP, "GIL held in C": catalogue.GIL,
}  # fmt: skip
COMPONENT = '''
import os, time
from holdfast.sdk import Component
app = Component()

@app.every(0.05, timeout=1.0)
def handler():
    """A plain function, as a synchronous request handler: it runs in a thread of the component."""
    app.work()
    if os.path.exists(app.settings["blocks"]):
        time.sleep(3600)
'''
BUSY_PER_CORE = 20
_PR_SET_PDEATHSIG = 1


def configuration(names: "list[str]", timeout_s: float) -> str:
    lines = ["[node]", 'name = "hangs"', 'state_dir = "state"', "drills = true", 'verify = "2s"']
    lines += ["[defaults.worker]", f"heartbeat = {{ pulse = true, timeout = {timeout_s} }}"]
    for name in names:
        lines += [f"[component.{name}]", 'use = "hung:app"', f'settings = {{ blocks = "{name}.blocks" }}']  # fmt: skip
    return "\n".join(lines) + "\n"


def hangs(timeout_s: float) -> "list[dict[str, Any]]":
    names = {kind: kind.lower().replace(" ", "-") for kind in KINDS}
    found = []
    with OwnNode(configuration(list(names.values()), timeout_s), {"hung.py": COMPONENT}) as node:
        node.scene.show = _progress
        for kind, drill in KINDS.items():
            row = _hang(node, kind, drill, names[kind], timeout_s)
            met = row.detection_s is not None and row.detection_s <= 2 * timeout_s
            found.append({
                "kind": kind, "caught_s": _rounded(row.detection_s), "stacks": row.evidence.stacks,
                "recovered_s": _rounded(row.recovery_s), "incident": row.evidence.kind,
                "component": row.evidence.component,
                "met": met and row.evidence.stacks > 0 and row.recovery_s is not None,
            })  # fmt: skip
            _progress("")
    return found


def _hang(node: OwnNode, kind: str, drill: str, name: str, timeout_s: float) -> Row:
    limit_s = 2 * timeout_s
    row = Row(catalogue.Drill(drill, name, False, limit_s, limit_s))
    scene = node.scene
    scene.begin()
    if kind != BLOCKED_HANDLER:
        worker.carry_out(scene, row)
        return row
    n = scene.status()[name]["n"]
    path = f"{node.home}/{name}.blocks"
    row.evidence.expected = ("hang",)
    row.began_unix_s = time.time()
    at_s = time.monotonic()
    with open(path, "wb"):
        pass

    def free_next_life() -> None:
        # The next life must not hang, too: the file goes as soon as this one is about to be shot.
        if os.path.exists(path) and scene.flags().get((name, "missed_heartbeat")):
            os.unlink(path)

    scene.on_turn = free_next_life
    worker.measure(scene, row, n, at_s)
    return row


# -- starvation ------------------------------------------------------------------------------------


def starve(minutes: float, containers: int) -> "dict[str, Any]":
    names = [f"healthy{number}" for number in range(containers)]
    busy: list[int] = []
    with OwnNode(configuration(names, 5.0), {"hung.py": COMPONENT}) as node:
        scene = node.scene
        before = {name: scene.status()[name]["pid"] for name in names}
        house = {role: scene.holder(role) for role in layout.ROLES}
        scene.begin()
        flags: set[tuple[str, str]] = set()
        began_s = time.monotonic()
        try:
            busy = [_busy(minutes * 60 + 60) for _ in range(BUSY_PER_CORE * (os.cpu_count() or 1))]
            while (spent_s := time.monotonic() - began_s) < minutes * 60:
                scene.look()
                flags |= scene.flags().keys()
                killed = sum(r["k"] == "exit" for r in scene.records)
                _progress(f"{spent_s:.0f} s, {len(busy)} busy processes, {killed} killed")
                time.sleep(0.25)
        finally:
            for pid in busy:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
        _progress("")
        after = wait_for(scene.status, "the keeper to answer")
        scene.look()
        return {
            "minutes": minutes, "busy_processes": len(busy), "cores": os.cpu_count(), "containers": containers,
            "load": os.getloadavg()[0], "flags": sorted(".".join(flag) for flag in flags),
            "false_kills": sum(r["k"] == "exit" for r in scene.records),
            "containers_replaced": sum(after[name]["pid"] != pid for name, pid in before.items()),
            "house_replaced": [role for role, pid in house.items() if scene.holder(role) != pid],
        }  # fmt: skip


def _busy(at_most_s: float) -> int:
    """Start a process that does nothing but compute, and that cannot outlive us."""
    parent = os.getpid()
    pid = os.fork()
    if pid:
        return pid
    try:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        signal.alarm(int(at_most_s))
        while os.getppid() == parent:
            for _ in range(1_000_000):
                pass
    finally:
        os._exit(0)


# -- telling ---------------------------------------------------------------------------------------


def _progress(text: str) -> None:
    if sys.stderr.isatty():
        sys.stderr.write(f"\r{text}\x1b[K")
        sys.stderr.flush()


def _rounded(value: "float | None") -> "float | None":
    return None if value is None else round(value, 2)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--timeout", type=float, default=5.0, help="of the heartbeat, in seconds")
    parser.add_argument(
        "--starve", type=float, metavar="MINUTES", help="the starved machine instead"
    )
    parser.add_argument("--containers", type=int, default=6, help="healthy ones, with --starve")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    if args.starve:
        result = starve(args.starve, args.containers)
        print(json.dumps(result) if args.json else "\n".join(f"{k:<20} {v}" for k, v in result.items()))  # fmt: skip
        return 1 if result["false_kills"] or result["house_replaced"] else 0
    rows = hangs(args.timeout)
    if args.json:
        print(json.dumps({"timeout_s": args.timeout, "hangs": rows}))
    else:
        print(f"{'hang':<20} {'caught':>8} {'stacks':>8} {'recovered':>10}   goal {2 * args.timeout:g} s, with stacks")  # fmt: skip
        for row in rows:
            caught = "-" if row["caught_s"] is None else f"{row['caught_s']:.2f} s"
            back = "-" if row["recovered_s"] is None else f"{row['recovered_s']:.2f} s"
            sign = "met" if row["met"] else "NOT MET"
            print(f"{row['kind']:<20} {caught:>8} {row['stacks']:>8} {back:>10}   {sign}")
    return 0 if all(row["met"] for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
