#!/usr/bin/env python3
"""How much memory does the dashboard take where it lives: in its container, on a real node with 1,000 idle guests and 1,000 incidents?

    python bench/dashboard_memory.py [--workers 1000] [--incidents 1000] [--for 20] [--json FILE]

dashboard.py measures it alone, on a synthetic node with more going on. Resident memory of the process of the worker `dashboard` (own and shared, /proc/PID/status), before
anybody has looked, while a page is open, and after each screen was asked for; beside it a container with one component that does nothing, on the same node.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
SOURCE = str(HERE.parent / "src")
sys.path[:0] = [SOURCE, str(HERE.parent / "tests"), str(HERE)]
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # else each start compiles all that it imports

from dashboard import Client, break_often  # noqa: E402

GOAL = 60_000_000
CONFIG = """
[node]
name = "many"
state_dir = "state"
[dashboard]
listen = "127.0.0.1:{port}"
[worker.empty]
components = ["nothing"]
[component.nothing]
use = "nothing:app"
"""
NOTHING = 'from holdfast.sdk import Component\n\napp = Component("nothing")\n'
SCREENS = ("/api/incidents", "/api/machine", "/api/bus", "/api/jobs", "/api/workers/w0007", "/api/workers/w0007/chart?for=600", "/api/workers/w0007/log")  # fmt: skip


def memory(pid: int) -> "dict[str, int]":
    """Return the kinds of memory of a process, in bytes."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    pairs = (line.split() for line in lines if line.startswith(("VmRSS", "RssAnon", "RssFile")))
    return {name.rstrip(":"): int(value) * 1024 for name, value, *_ in pairs}


def main() -> int:
    """Print the figures beside the goal."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workers", type=int, default=1000)
    parser.add_argument("--incidents", type=int, default=1000)
    parser.add_argument("--for", dest="for_s", type=float, default=20.0)
    parser.add_argument("--port", type=int, default=28750)
    parser.add_argument("--json", metavar="FILE")
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # the node is taken down in any case
    with tempfile.TemporaryDirectory() as scratch:
        guests = (f'[worker.w{at:04d}]\ncommand = ["sleep", "100000"]\n' for at in range(args.workers))  # fmt: skip
        Path(scratch, "holdfast.toml").write_text(CONFIG.format(port=args.port) + "".join(guests))
        Path(scratch, "nothing.py").write_text(NOTHING)
        Path(scratch, "state").mkdir()
        break_often(f"{scratch}/state", args.workers, args.incidents)
        env = {**os.environ, "PYTHONPATH": f"{SOURCE}:{scratch}"}

        def run(*words: str) -> str:
            done = subprocess.run([sys.executable, "-m", "holdfast", *words], cwd=scratch, env=env, capture_output=True, text=True, check=False)  # fmt: skip
            if done.returncode:
                raise SystemExit(f"holdfast {' '.join(words)}: {done.stderr}")
            return done.stdout

        run("up", "--detach")
        try:
            found = measure(run, args.port, args.for_s)
        finally:
            run("down", "--kill")
    for what, kinds in found.items():
        sign = "   " if what.startswith("an empty") else "ok " if kinds["VmRSS"] <= GOAL else "NOT"
        own, shared = kinds["RssAnon"] / 1e6, kinds["RssFile"] / 1e6
        print(f"{sign}  {what:<44} {kinds['VmRSS'] / 1e6:6.1f} MB  ({own:.1f} its own, {shared:.1f} of files)   (goal {GOAL / 1e6:.0f} MB)")  # fmt: skip
    if args.json:
        Path(args.json).write_text(json.dumps(found, indent=2) + "\n")
    return 0


def measure(run: "object", port: int, for_s: float) -> "dict[str, dict[str, int]]":
    assert callable(run)
    workers = {one["name"]: one for one in json.loads(run("status", "--json"))["workers"]}
    pid, empty = workers["dashboard"]["pid"], workers["empty"]["pid"]
    found = {"an empty container beside it": memory(empty), "nobody has looked yet": memory(pid)}
    token = json.loads(run("dashboard", "--json"))["url"].partition("token=")[2]
    client = Client(port, token)
    until_s = time.monotonic() + for_s
    news = 0
    for name, _ in client.events():
        news += name == "delta"
        if time.monotonic() > until_s:
            break
    found[f"a page was open, {news} news"] = memory(pid)
    for path in SCREENS:
        client.get(path)
    for row in json.loads(client.get("/api/incidents?q=number+77")[1])["rows"][:5]:
        client.get(f"/api/incidents/{row['id']}")
    found["every screen was asked for"] = memory(pid)
    return found


if __name__ == "__main__":
    sys.exit(main())
