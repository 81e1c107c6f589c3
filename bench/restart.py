"""How quickly is an application back, and how quickly the keeper? Our own column of what the shared harness does not measure.

    python bench/restart.py [spare] [keeper] [kills] [--kills N] [--json]

``spare``   A component that imports for 0.5 s of processor time and serves TCP: kill -9 to the first answer, cold and with
            ``spare = 1``. The listening socket is the keeper's, so a client waits in its backlog; without that it would be refused.
``keeper``  kill -9 of the keeper with 200 children: until the next one answers `status`, and whether any child was touched.
``kills``   The law itself: N (default 1000) random kill -9 of house processes under load, by the test that asserts
            that no worker, log line and exit status is lost (tests/faults/test_house_dies.py).
"""

import argparse
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from own_node import SOURCE, OwnNode, percentile, wait_for

from holdfast.linux import talk
from holdfast.wire import layout

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # an installation has its byte code
ROOT = Path(__file__).resolve().parent.parent
GOAL_SPARE_MS, GOAL_KEEPER_MS = 20.0, 100.0
#: A cold start has no goal: it is what the spare is compared with.
WORDS = {True: "met", False: "NOT MET", None: "-"}
SPAN_S = 0.5
#: Half a second of import, as a web framework with its friends costs.
APPLICATION = f"""
import os, time
_until = time.process_time() + {SPAN_S}
while time.process_time() < _until:
    pass
from holdfast.sdk import Component, serve
app = Component()

async def answer(reader, writer):
    writer.write(b"here I am\\n")
    await writer.drain()

@app.on_start
async def begin():
    await serve(answer, "web")

open(f"imported.{{os.getpid()}}", "w").close()
"""


def spare(kills: int) -> "dict[str, Any]":
    return {"cold": _kill_to_answer(kills, 0), "spare": _kill_to_answer(kills, 1)}


def _kill_to_answer(kills: int, spares: int) -> "dict[str, Any]":
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    text = f"""
[node]
name = "restart"
state_dir = "state"
[component.web]
use = "application:app"
[worker.web]
components = ["web"]
spare = {spares}
restart = {{ limit = 0, delay = "10ms", delay_max = "10ms" }}
listen = [{{ name = "web", address = "tcp://127.0.0.1:{port}" }}]
"""
    found = []
    with OwnNode(text, {"application.py": APPLICATION}) as node:
        for _ in range(kills):
            # Measured from a quiet state: it serves, and its spare (if it has one) has imported everything.
            web = wait_for(lambda: _is_set(node, spares), "the application and its spare", 60)
            _ask(port)
            began_s = time.monotonic()
            os.kill(web["pid"], signal.SIGKILL)
            _ask(port)
            found.append((time.monotonic() - began_s) * 1e3)
    return {
        "kills": kills, "p50_ms": round(percentile(found, 0.5), 1), "p99_ms": round(percentile(found, 0.99), 1),
        "max_ms": round(max(found), 1), "met": percentile(found, 0.5) <= GOAL_SPARE_MS if spares else None,
    }  # fmt: skip


def _is_set(node: OwnNode, spares: int) -> "dict[str, Any] | None":
    web = node.scene.status().get("web")
    if not web or web["state"] != "running":
        return None
    if not spares:
        return web
    imported = os.path.exists(f"{node.home}/imported.{web['spare_pid']}")
    return web if imported and _is_waiting(web["spare_pid"]) else None


def _is_waiting(pid: int) -> bool:
    """Whether the main thread of a process waits, and has not run for a moment: a spare waits for its go."""
    looks = []
    for _ in range(3):
        try:
            looks.append(
                Path(f"/proc/{pid}/task/{pid}/stat").read_text().rpartition(")")[2].split()
            )
        except OSError:
            return False
        time.sleep(0.03)
    # Fields 14 and 15 of proc(5) are its processor time.
    return all(look[0] == "S" and look[11:13] == looks[0][11:13] for look in looks)


def _ask(port: int) -> None:
    """Return when the application has answered; asks again where the answer was cut off by a death."""
    until = time.monotonic() + 60
    while time.monotonic() < until:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=30) as client:
                if client.recv(100):
                    return
        except ConnectionError:
            continue
    raise SystemExit("the application does not answer")


def keeper(kills: int, children: int) -> "dict[str, Any]":
    lines = ["[node]", 'name = "keeper"', 'state_dir = "state"', "[defaults.worker]", "log = false"]
    for number in range(children):
        lines += [f"[worker.w{number:03d}]", 'command = ["/bin/sleep", "100000"]']
    found = []
    with OwnNode("\n".join(lines) + "\n") as node:
        scene = node.scene
        before = {name: worker["pid"] for name, worker in scene.status().items()}
        path = f"{scene.run_dir}/{layout.socket('keeper')}"
        for _ in range(kills):
            wait_for(lambda: not scene.unsteady(), "a steady house")
            old, began_s = scene.signal_house("keeper", signal.SIGKILL)
            wait_for(lambda old=old: _answers(path, old), "the next keeper")
            found.append((time.monotonic() - began_s) * 1e3)
        after = {name: worker["pid"] for name, worker in wait_for(scene.status, "the keeper").items()}  # fmt: skip
        scene.look()
        touched = sum(after.get(name) != pid for name, pid in before.items())
        exits = sum(record["k"] == "exit" for record in scene.records)
    return {
        "children": children, "kills": kills, "p50_ms": round(percentile(found, 0.5), 1),
        "max_ms": round(max(found), 1), "children_touched": touched, "exits": exits,
        "met": percentile(found, 0.5) <= GOAL_KEEPER_MS and not touched and not exits,
    }  # fmt: skip


def _answers(path: str, old: int) -> bool:
    reply = talk.ask(path, {"do": "status"}, 1.0)
    return bool(reply and reply.get("ok") and reply["pid"] != old)


def random_kills(kills: int) -> "dict[str, Any]":
    test = (
        "tests/faults/test_house_dies.py::test_killed_at_random_nothing_is_lost_and_nothing_doubled"
    )
    began_s = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-s", "-p", "no:cacheprovider", "-o", "faulthandler_timeout=0", test],
        cwd=ROOT, env={**os.environ, "HOLDFAST_KILLS": str(kills), "PYTHONPATH": SOURCE}, capture_output=True,
        text=True, check=False,
    )  # fmt: skip
    slowest = [line for line in done.stdout.splitlines() if "slowest return" in line]
    return {
        "kills": kills, "met": done.returncode == 0, "took_s": round(time.monotonic() - began_s, 1),
        "slowest": slowest[0] if slowest else "",
        "why": "" if done.returncode == 0 else "\n".join(done.stdout.splitlines()[-15:]),
    }  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("what", nargs="*", metavar="WHAT", help="spare, keeper, kills (default: spare keeper)")  # fmt: skip
    parser.add_argument("--kills", type=int, default=0, help="default: 40 (spare), 20 (keeper), 1000 (kills)")  # fmt: skip
    parser.add_argument("--children", type=int, default=200, help="of the keeper")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    what = args.what or ["spare", "keeper"]
    unknown = set(what) - {"spare", "keeper", "kills"}
    if unknown:
        parser.error(f"there is no {', '.join(sorted(unknown))}; there are: spare, keeper, kills")
    result: dict[str, Any] = {}
    if "spare" in what:
        result |= spare(args.kills or 40)
    if "keeper" in what:
        result["keeper"] = keeper(args.kills or 20, args.children)
    if "kills" in what:
        result["random kills"] = random_kills(args.kills or 1000)
    if args.json:
        print(json.dumps(result))
    else:
        for name, row in result.items():
            told = "  ".join(f"{key} {value}" for key, value in row.items() if key != "met" and value != "")  # fmt: skip
            print(f"{name:<14} {WORDS[row['met']]:<8} {told}")
    return 0 if all(row["met"] is not False for row in result.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
