"""What do the faces in a terminal cost with a large node: how long does `holdfast status` take, and how much memory has `holdfast top`?

    python bench/faces.py [--workers 1000] [--runs 15] [--json]

A real node with that many guests that do nothing. `status` is started again and again, in turns with an interpreter that does nothing (`python -c pass`) and one without
`site` (`python -I -S -c pass`), so that what else this machine does meets all three: wall clock and processor time, medians and least. `top` runs in a terminal of its own (120 × 40)
until it has drawn for some seconds; its memory is that of `/proc/PID/smaps_rollup`, beside that of an interpreter that does nothing but wait.
The goals: `status` within 150 ms, `top` within 15 MB.
"""

import argparse
import fcntl
import json
import os
import pty
import select
import signal
import statistics
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from own_node import SOURCE, OwnNode

NOTHING = [sys.executable, "-c", "pass"]
BARE = [sys.executable, "-I", "-S", "-c", "pass"]
WAITING = [sys.executable, "-I", "-S", "-c", "import time; time.sleep(1000)"]
TOP_S = 5.0


def once(command: list[str]) -> tuple[float, float]:
    """Return wall clock and processor time of a command, in milliseconds."""
    began_s = time.perf_counter()
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, env={**os.environ, "PYTHONPATH": SOURCE}
    )
    _, status, used = os.wait4(process.pid, 0)
    took_s = time.perf_counter() - began_s
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{command}: status {process.returncode}")
    return took_s * 1e3, (used.ru_utime + used.ru_stime) * 1e3


def told(rows: list[tuple[float, float]]) -> dict[str, float]:
    """Return medians and least values."""
    wall, cpu = zip(*rows, strict=True)
    return {
        "median_ms": round(statistics.median(wall), 1), "least_ms": round(min(wall), 1),
        "cpu_median_ms": round(statistics.median(cpu), 1), "cpu_least_ms": round(min(cpu), 1),
    }  # fmt: skip


def memory_mb(pid: int) -> dict[str, float]:
    """Return the memory of a process."""
    found = {}
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        name, _, rest = line.partition(":")
        if name in ("Rss", "Pss", "Private_Dirty"):
            found[f"{name.lower()}_mb"] = round(int(rest.split()[0]) / 1024, 1)
    return found


def top(config: str) -> dict[str, object]:
    """Return the memory of `holdfast top` after some seconds, and its processor time meanwhile."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.environ.update(PYTHONPATH=SOURCE, TERM="xterm-256color")
        os.execv(sys.executable, [sys.executable, "-m", "holdfast", "-c", config, "top"])
    drawn = 0
    try:
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
        until_s = time.monotonic() + TOP_S
        while (left_s := until_s - time.monotonic()) > 0:
            if select.select([terminal], [], [], left_s)[0]:
                drawn += len(os.read(terminal, 1 << 16))
        if drawn < 10_000:
            raise SystemExit(f"top has drawn {drawn} bytes only")
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks = os.sysconf("SC_CLK_TCK")
        cpu_s = (int(fields[11]) + int(fields[12])) / ticks
        return {**memory_mb(pid), "cpu_s": cpu_s, "in_s": TOP_S, "bytes_drawn": drawn}
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(terminal)


def waiting() -> dict[str, float]:
    """Return the memory of an interpreter that does nothing."""
    with subprocess.Popen(WAITING) as process:
        try:
            while "S" not in Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2][:3]:
                time.sleep(0.01)
            return memory_mb(process.pid)
        finally:
            process.kill()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, default=1000)
    parser.add_argument("--runs", type=int, default=15)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    # Who ends us in the middle must not leave a thousand processes behind.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    guests = "".join(
        f'[worker.w{at:04d}]\ncommand = ["sleep", "100000"]\n' for at in range(args.workers)
    )
    with OwnNode(f'[node]\nstate_dir = "state"\n{guests}') as node:
        config = f"{node.home}/holdfast.toml"
        commands = {
            "status": [sys.executable, "-m", "holdfast", "-c", config, "status"],
            "python": NOTHING,
            "python -I -S": BARE,
        }
        rows: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
        for turn in range(args.runs + 1):
            for name, command in commands.items():
                measured = once(command)
                if turn:  # the first of each fills the caches
                    rows[name].append(measured)
        found: dict[str, object] = {"workers": args.workers, "load": round(os.getloadavg()[0], 1)}
        found |= {name: told(several) for name, several in rows.items()}
        found["top"], found["python -I -S that waits"] = top(config), waiting()
    print(json.dumps(found) if args.json else json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
