"""How many megabytes a second does the logger take from one worker, and is every line there afterwards?

    python bench/log_capture.py [--megabytes 1000] [--segment-megabytes 10] [--repeat 3] [--directory DIR] [--json]

A writer (a small C program where there is a compiler, else Python) writes numbered 100-byte lines as fast as it can
into the pipe of a real logger process, rotation on: once 4 KB a write, once one line a write. The floor is the
same writer into a bare loop of ``os.splice`` that neither rotates nor looks at the clock. The clock stops when
the last byte is in the file. Segments behind ``--keep`` are removed by the logger as in real life, so the check counts the
lines of those that are left and that they are the last ones, in order, whole.
"""

import argparse
import fcntl
import json
import mmap
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SOURCE = Path(__file__).resolve().parent.parent / "src"
sys.path.insert(0, str(SOURCE))

from holdfast.linux import locks  # noqa: E402
from holdfast.wire import beats, jsonlite  # noqa: E402

LINE = 100
GOALS = {4096: 250.0, LINE: 100.0}
C_WRITER = r"""
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
int main(int argc, char **argv) {
    long block = atol(argv[1]), lines = atol(argv[2]), ready = 0, from = 0;
    static char buffer[1 << 16];
    if (argc < 3) return 2;
    for (long i = 0; i < lines;) {
        /* as many whole lines as one write needs; a write may end in the middle of a line */
        while (ready - from < block && i < lines) {
            if (from) { memmove(buffer, buffer + from, ready - from); ready -= from; from = 0; }
            char *at = buffer + ready;
            memset(at, 'x', 99);
            long n = i++;
            for (int digit = 9; digit >= 0; digit--) { at[digit] = '0' + n % 10; n /= 10; }
            at[10] = ' '; at[99] = '\n'; ready += 100;
        }
        while (ready - from >= block || (i == lines && ready > from)) {
            long wanted = ready - from < block ? ready - from : block;
            long done = write(1, buffer + from, wanted);
            if (done < 0) return 1;
            from += done;
        }
    }
    return 0;
}
"""
PYTHON_WRITER = """
import os, sys
block, lines = int(sys.argv[1]), int(sys.argv[2])
rest = bytearray()
for i in range(lines):
    rest += b"%010d " % i + b"x" * 88 + b"\\n"
    while len(rest) >= block:
        del rest[: os.write(1, rest[:block])]
while rest:
    del rest[: os.write(1, rest)]
"""


def make_writer(directory):
    """Return the command of the writer and its language."""
    compiler = shutil.which("cc")
    if compiler:
        source = directory / "writer.c"
        source.write_text(C_WRITER)
        command = [compiler, "-O2", "-o", str(directory / "writer"), str(source)]
        if subprocess.run(command, check=False).returncode == 0:
            return [str(directory / "writer")], "C"
    script = directory / "writer.py"
    script.write_text(PYTHON_WRITER)
    return [sys.executable, "-I", "-S", str(script)], "Python"


def floor(writer, block, lines, directory):
    """A bare loop of os.splice into one file."""
    fifo = directory / "bare"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDWR | os.O_NONBLOCK)
    fcntl.fcntl(reader, fcntl.F_SETPIPE_SZ, 1 << 20)
    target = os.open(directory / "bare.log", os.O_RDWR | os.O_CREAT | os.O_TRUNC)
    pipe = os.open(fifo, os.O_RDWR)
    began = time.monotonic()
    process = subprocess.Popen([*writer, str(block), str(lines)], stdout=pipe)
    offset = 0
    while offset < lines * LINE:
        try:
            moved = os.splice(reader, target, 1 << 20, offset_dst=offset)
        except BlockingIOError:
            moved = 0
        offset += moved
        if moved < 1 << 18:
            time.sleep(0.001)  # let the pipe fill: fewer, larger pieces are faster for both sides
    took = time.monotonic() - began
    process.wait()
    for descriptor in (reader, target, pipe):
        os.close(descriptor)
    os.unlink(fifo)
    os.unlink(directory / "bare.log")
    return took


def logger(writer, block, lines, directory, args):
    """A real logger process on a run directory with one worker; returns seconds, CPU seconds, and what was wrong."""
    run = directory / "run"
    logs = directory / "logs"
    (run / "fifo").mkdir(parents=True)
    (run / "beats").write_bytes(bytes(beats.SIZE))
    policy = {
        "max_bytes": args.segment_megabytes * 1_000_000, "max_age_s": 0.0, "keep": args.keep,
        "compress": args.compress, "directory": str(logs),
    }  # fmt: skip
    house = {**policy, "directory": str(directory / "house")}
    plan = {
        "format": 1,
        "state_dir": str(directory),
        "workers": [{"name": "w", "log": policy}],
        "house_log": house,
    }
    (run / "plan.json").write_text(jsonlite.dumps(plan))
    for name in ("w.out", "w.err"):
        os.mkfifo(run / "fifo" / name)
    anchor = locks.take(
        f"{run}/anchor.lock"
    )  # we are the anchor: without one the logger would start it
    keep_open = os.open(run / "fifo" / "w.out", os.O_RDWR)
    script = str(SOURCE / "holdfast" / "logger" / "__main__.py")
    process = subprocess.Popen([sys.executable, "-I", "-S", script, str(run)], cwd="/")
    try:
        until = time.monotonic() + 20
        while locks.holder(f"{run}/logger.lock") != process.pid:
            if time.monotonic() > until:
                raise SystemExit("the logger did not start")
            time.sleep(0.01)
        began = time.monotonic()
        child = subprocess.Popen([*writer, str(block), str(lines)], stdout=keep_open)
        child.wait()
        last = b"%010d " % (lines - 1)
        while not ends_with(logs, last):
            if time.monotonic() > began + 600:
                raise SystemExit("the last line did not arrive")
            time.sleep(0.001)
        took = time.monotonic() - began
        fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
        cpu = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
        os.close(keep_open)
        os.close(anchor)
        locks.forget(f"{run}/anchor.lock")
    wrong = check(logs, lines)
    shutil.rmtree(run)
    shutil.rmtree(logs)
    return took, cpu, wrong


def ends_with(logs, last):
    """Whether the newest line begins so (it may be in a closed segment: rotated right behind it)."""
    candidates = [logs / "out.log", *sorted(logs.glob("out-*.log"))[-1:]]
    for path in candidates:
        try:
            with path.open("rb") as file:
                size = file.seek(0, os.SEEK_END)
                file.seek(max(0, size - LINE))
                if file.read().startswith(last):
                    return True
        except FileNotFoundError:
            continue
    return False


def check(logs, lines):
    """Return what is wrong with the lines that are left, "" when nothing is."""
    if list(logs.glob("*.gz*")):
        return ""  # tests/logger looks inside compressed segments
    paths = [*sorted(logs.glob("out-*.log")), logs / "out.log"]
    number = None
    for path in paths:
        with path.open("rb") as file:
            if path.stat().st_size == 0:
                continue
            data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        if len(data) % LINE:
            return f"{path.name}: does not end where a line ends"
        for at in range(0, len(data), LINE):
            found = int(data[at : at + 10])
            if number is not None and found != number + 1:
                return f"{path.name}: line {found} follows line {number}"
            number = found
    return "" if number == lines - 1 else f"the last line is {number}, not {lines - 1}"


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--megabytes", type=int, default=1000)
    parser.add_argument("--segment-megabytes", type=int, default=10)
    parser.add_argument("--keep", type=int, default=20)
    parser.add_argument(
        "--compress", action="store_true", help="also compress closed segments meanwhile"
    )
    parser.add_argument("--repeat", type=int, default=3, help="runs of each; the median is shown")
    parser.add_argument("--directory", help="where the logs go (default: a temporary directory)")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    lines = args.megabytes * 1_000_000 // LINE
    directory = Path(tempfile.mkdtemp(prefix="hf-bench-", dir=args.directory))
    rows = []
    try:
        writer, language = make_writer(directory)
        for block, label in ((4096, "4 KB a write"), (LINE, "one 100-byte line a write")):
            floors, ours, cpus, faults = [], [], [], []
            for _ in range(args.repeat):
                floors.append(args.megabytes / floor(writer, block, lines, directory))
                took, cpu, wrong = logger(writer, block, lines, directory, args)
                ours.append(args.megabytes / took)
                cpus.append(cpu / args.megabytes * 1000)
                faults += [wrong] if wrong else []
            rows.append({
                "what": label, "mb_per_s": middle(ours), "floor_mb_per_s": middle(floors), "goal_mb_per_s": GOALS[block],
                "logger_cpu_s_per_gb": middle(cpus), "wrong": faults,
            })  # fmt: skip
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    if args.json:
        print(json.dumps({"writer": language, "rows": rows}))
    else:
        print(
            f"writer in {language}, {args.megabytes} MB, segments of {args.segment_megabytes} MB, median of {args.repeat}"
        )
        print(f"{'':28}{'MB/s':>8}{'floor':>8}{'goal':>8}{'CPU s/GB':>10}  lines")
        for row in rows:
            print(
                f"{row['what']:28}{row['mb_per_s']:8.0f}{row['floor_mb_per_s']:8.0f}{row['goal_mb_per_s']:8.0f}"
                f"{row['logger_cpu_s_per_gb']:10.2f}  {'; '.join(row['wrong']) or 'all there, whole, in order'}"
            )
    return 1 if any(row["wrong"] or row["mb_per_s"] < row["goal_mb_per_s"] for row in rows) else 0


def middle(values):
    return sorted(values)[len(values) // 2]


if __name__ == "__main__":
    sys.exit(main())
