"""What the detectors cost an idle node, and how soon a real fault is flagged.

python bench/detect.py idle [workers] [seconds]     watchdog: share of a processor, resident memory
python bench/detect.py feel                         microseconds of one look at one worker
python bench/detect.py faults                       leak, threads: seconds to the flag, seconds left
"""

import json
import os
import statistics
import sys
import time
from pathlib import Path

from own_node import SOURCE, OwnNode

sys.path[:0] = [str(Path(SOURCE).parent / "tests"), SOURCE]

_NODE = '[node]\nname = "bench"\nstate_dir = "state"\n'
_TICK_S = 1 / os.sysconf("SC_CLK_TCK")

LEAK = """
import sys, time
rate, kept = float(sys.argv[1]), []
time.sleep(8)
began = time.monotonic()
open(sys.argv[2], "w").write(str(time.time()))
held = 0
while True:
    while held < (time.monotonic() - began) * rate:
        kept.append(bytearray(b"x" * (1 << 20)))
        held += 1 << 20
    time.sleep(0.002)
"""
THREADS = """
import sys, threading, time
time.sleep(8)
open(sys.argv[2], "w").write(str(time.time()))
threading.stack_size(1 << 16)
gate = threading.Event()
for _ in range(5000):
    threading.Thread(target=gate.wait, daemon=True).start()
gate.wait()
"""


def spent_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * _TICK_S


def idle(workers: int, seconds: float) -> None:
    text = _NODE + "".join(
        f'[worker.w{n}]\ncommand = ["/bin/sleep", "100000"]\nlog = false\n' for n in range(workers)
    )
    with OwnNode(text) as node:
        pid = _watchdog(node)
        time.sleep(20)
        before_s, began_s = spent_s(pid), time.monotonic()
        time.sleep(seconds)
        share = (spent_s(pid) - before_s) / (time.monotonic() - began_s)
        status = Path(f"/proc/{pid}/status").read_text()
        rss = int(status.partition("VmRSS:")[2].split()[0])
        print(
            f"{workers} guests: watchdog {share:.2%} of a processor, {rss / 1024:.1f} MiB resident"
        )


def _watchdog(node: OwnNode) -> int:
    run = os.path.realpath(f"{node.state}/run")
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            argv = path.read_bytes().split(b"\0")
        except OSError:
            continue
        if run.encode() in argv and any(b"/watchdog/" in word for word in argv):
            return int(path.parent.name)
    raise SystemExit("there is no watchdog")


def feel() -> None:
    from core.detect.simulated import Web

    web = Web(1)
    web.run(30)
    costs = []
    for _ in range(4000):
        web.now_s += 0.25
        began = time.perf_counter()
        web._feel()  # noqa: SLF001 -- one look, without what the simulation does in between
        costs.append((time.perf_counter() - began) * 1e6)
    print(
        f"one look at a worker with a pulse: {statistics.median(costs):.0f} µs (with the simulation's own)"
    )


def faults() -> None:
    rates = (50e6, 500e6)
    text = _NODE + "".join(
        f'[worker.leak{n}]\ncommand = ["{sys.executable}", "leak.py", "{rate}", "began{n}"]\nmemory_max = "1GB"\nautostart = false\n'
        for n, rate in enumerate(rates)
    )
    text += f'[worker.threads]\ncommand = ["{sys.executable}", "threads.py", "0", "began.threads"]\nautostart = false\n'
    with OwnNode(text, {"leak.py": LEAK, "threads.py": THREADS}) as node:
        for n, rate in enumerate(rates):
            flag, took_s = _flagged(node, f"leak{n}", "memory_leak", f"{node.home}/began{n}")
            whole_s = 1e9 / rate
            print(
                f"leak {rate / 1e6:.0f} MB/s: flagged after {took_s:.2f} s, about {whole_s - took_s:.1f} s before the limit; {flag['says']}"
            )
            time.sleep(whole_s)
            node.command("stop", f"leak{n}")
        flag, took_s = _flagged(node, "threads", "thread_bomb", f"{node.home}/began.threads")
        print(f"5,000 threads: flagged after {took_s:.2f} s; {flag['says']}")


def _flagged(
    node: OwnNode, worker: str, flag: str, began: str
) -> "tuple[dict[str, object], float]":
    node.command("start", worker)
    path = Path(f"{node.state}/run/flags/{worker}.{flag}")
    until = time.monotonic() + 60
    while not path.exists():
        if time.monotonic() > until:
            raise SystemExit(f"{worker}: no flag {flag} within a minute")
        time.sleep(0.005)
    return json.loads(path.read_text()), path.stat().st_mtime - float(Path(began).read_text())


if __name__ == "__main__":
    what = sys.argv[1] if len(sys.argv) > 1 else "feel"
    if what == "idle":
        idle(
            int(sys.argv[2]) if len(sys.argv) > 2 else 1000,
            float(sys.argv[3]) if len(sys.argv) > 3 else 30,
        )
    else:
        {"feel": feel, "faults": faults}[what]()
