"""What does evidence cost: seconds, bytes, and how long the target stands still?

    python bench/evidence.py [--runs 7] [--json]

Each row is the evidence process as the watchdog starts it, on a real target (a program of 10 threads that computes), from the start of the
process to its end; "bundle" is the time from the order until the process has ended, which is what the remedy waits for (what it does with the
bundle afterwards, a copy of it does), "in it" what the process says it took itself (without
the start of its interpreter). "processor" is what all of it used, tools included: on a busy machine the only honest figure.

| row | goal |
|---|---|
| first bundle (a hang: stacks, /proc, environment) | ≤ 150 ms, ≤ 20 KB |
| with a profile of one second | ≤ 1.5 s |
| before a memory kill (nothing is started, only what is in memory) | ≤ 50 ms |
| profile at 100 Hz: the target stands still | ≤ 10 % |

The last one is measured by the target: a loop that writes down the time and takes the longest pauses; the share is what the same
loop loses beyond a run without a profiler.
"""

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from own_node import SOURCE

from holdfast.evidence.collectors import profile
from holdfast.wire import layout

os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # an installation has its byte code
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

TARGET = """
import threading, time
def idle(depth):
    if depth:
        return idle(depth - 1)
    time.sleep(600)
def work(n):
    return sum(i * i for i in range(n))
def main():
    for _ in range(9):
        threading.Thread(target=idle, args=(25,), daemon=True).start()
    print("there", flush=True)
    while True:
        work(1000)
main()
"""
#: Counts its own turns: what it loses under a profiler is what it stood still.
TURNS = """
import sys, time
def main():
    print("there", flush=True)
    for _ in range(2):
        sys.stdin.readline()
        until, turns = time.monotonic() + SECONDS, 0
        while time.monotonic() < until:
            turns += 1
        print(turns, flush=True)
main()
"""


class Rig:
    """The directories of a node, and a target in it."""

    def __init__(self) -> None:
        self.run_dir = Path(tempfile.mkdtemp(dir="/dev/shm", prefix="hfb"))
        self.state_dir = Path(tempfile.mkdtemp(prefix="hfb"))
        for name in (layout.ORDERS, layout.PULSES, layout.SAMPLES, layout.CONTROL):
            (self.run_dir / name).mkdir()
        self.script = self.state_dir / "app" / "target.py"
        self.script.parent.mkdir()
        self.script.write_text(TARGET)
        worker = {
            "name": "target", "kind": "guest", "argv": [sys.executable, str(self.script)], "env": {}, "log": None,
            "directory": str(self.script.parent), "limits": {}, "restart": {}, "components": [], "faulthandler": True,
        }  # fmt: skip
        plan = {"format": 1, "node": "bench", "state_dir": str(self.state_dir), "digest": "d", "env": {}, "workers": [worker]}  # fmt: skip
        (self.run_dir / layout.PLAN).write_text(json.dumps(plan))
        env = {**os.environ, "HOLDFAST_WORKER": "target", "HOLDFAST_START": "1"}
        self.target = subprocess.Popen([sys.executable, str(self.script)], stdout=subprocess.PIPE, env=env)  # fmt: skip
        assert self.target.stdout is not None
        self.target.stdout.readline()

    def end(self) -> None:
        self.target.kill()
        self.target.wait()
        shutil.rmtree(self.run_dir)
        shutil.rmtree(self.state_dir)

    def bundle(self, number: int, flag: str, deadline_s: float, **more: "Any") -> "dict[str, Any]":
        key = f"flag-target-{flag}-{number}"
        kind = {"missed_heartbeat": "hang", "memory_over_limit": "memory"}.get(flag, flag)
        order = {
            "key": key, "kind": kind, "worker": "target", "n": 1, "pid": self.target.pid, "status": None, "lived_s": 1.0,
            "seq": None, "flag": {"flag": flag, "since_unix_s": time.time() - 1, "says": "for the bench"},
            "unix_s": time.time(), "deadline_s": deadline_s, "live": True, **more,
        }  # fmt: skip
        base = self.run_dir / layout.ORDERS / key
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        began_s = time.perf_counter()
        Path(f"{base}.json").write_text(json.dumps(order))
        command = [sys.executable, "-P", "-S", f"{SOURCE}/holdfast/evidence/__main__.py", str(self.run_dir), key]  # fmt: skip
        evidence = subprocess.Popen(command)
        evidence.wait()
        took_s = time.perf_counter() - began_s
        if evidence.returncode or not Path(f"{base}.done").exists():
            raise SystemExit(f"the evidence process failed: {evidence.returncode}")
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        identity = json.loads(Path(f"{base}.done").read_text())["incident"]
        path = self.state_dir / layout.INCIDENTS / identity
        record = json.loads((path / "incident.json").read_text())
        return {
            "bundle_s": took_s, "cpu_s": cpu_s, "in_it_s": record["evidence"]["took_s"],
            "bytes": sum(entry.stat().st_size for entry in path.iterdir()),
        }  # fmt: skip


def bundles(runs: int) -> "list[dict[str, Any]]":
    rows = []
    rig = Rig()
    try:
        for name, flag, deadline_s, more in (
            ("first bundle", "missed_heartbeat", 2.0, {"profile_s": 0}),
            ("with a profile of 1 s", "slow", 2.0, {}),
            ("before a memory kill", "memory_over_limit", 0.05, {}),
        ):
            rig.bundle(
                999, flag, deadline_s, **more
            )  # the first one reads what the others find in the caches
            found = [rig.bundle(number, flag, deadline_s, **more) for number in range(runs)]
            rows.append({
                "row": name,
                **{key: statistics.median(one[key] for one in found) for key in found[0]},
                "worst_bundle_s": max(one["bundle_s"] for one in found),
            })  # fmt: skip
    finally:
        rig.end()
    return rows


def standstill(runs: int, seconds: float = 2.0) -> float:
    """Return the share of its turns that a target loses while it is profiled at 100 Hz; the median of some runs."""
    lost = []
    directory = tempfile.mkdtemp(dir="/dev/shm", prefix="hfb")
    try:
        for number in range(runs):
            text = TURNS.replace("SECONDS", str(seconds))
            target = subprocess.Popen([sys.executable, "-c", text], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)  # fmt: skip
            assert target.stdin is not None
            assert target.stdout is not None
            target.stdout.readline()
            counts = {}
            # In turns: whatever a machine does to the first or the second half evens out.
            for profiled in (False, True) if number % 2 else (True, False):
                running = None
                if profiled:
                    running = profile.start(target.pid, seconds + 1, directory, rate=100)
                    if isinstance(running, str):
                        raise SystemExit(running)
                    time.sleep(0.2)
                target.stdin.write("\n")
                target.stdin.flush()
                counts[profiled] = int(target.stdout.readline())
                if running is not None:
                    running.abandon()
            target.wait()
            lost.append(1 - counts[True] / counts[False])
    finally:
        shutil.rmtree(directory)
    return statistics.median(lost)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    rows = bundles(args.runs)
    stands = standstill(max(3, args.runs // 2))
    if args.json:
        print(json.dumps({"bundles": rows, "standstill_share": stands}, indent=1))
        return
    print(f"{'':24} {'bundle':>9} {'worst':>9} {'in it':>9} {'processor':>9} {'bytes':>9}")
    for row in rows:
        print(
            f"{row['row']:24} {row['bundle_s'] * 1e3:6.0f} ms {row['worst_bundle_s'] * 1e3:6.0f} ms {row['in_it_s'] * 1e3:6.0f} ms {row['cpu_s'] * 1e3:6.0f} ms {row['bytes']:9.0f}"
        )
    print(f"the target loses {stands:.1%} of its turns while it is profiled at 100 Hz")


if __name__ == "__main__":
    main()
