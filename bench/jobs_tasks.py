"""The four jobs of the harness for job queues, as jobs of ours: what the benchmarks and the fault tests let workers do.

Each does what the harness's own of that name does (a byte in a shared file; 20 ms and a line; a line and SIGKILL), and imports
nothing of the harness: a worker's memory is then the worker's. The directory comes from BENCH_DIR. Kept out: anything that the
peers' versions of these jobs do not do.
"""

import asyncio
import mmap
import os
import signal
import time

from holdfast.sdk import job

MARKS = 1 << 20
_open = {}


def marks():
    """The shared file with a byte for each no-op job; J.noop of the harness has it open in the same way."""
    found = _open.get("mark")
    if found is None:
        fd = os.open(os.path.join(os.environ["BENCH_DIR"], "mark"), os.O_RDWR)
        found = _open["mark"] = mmap.mmap(fd, MARKS)
    return found


def say(line, name="out"):
    """One line, one write: it is in the file even if the process is killed in the next instant."""
    fd = _open.get(name)
    if fd is None:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
        fd = _open[name] = os.open(os.path.join(os.environ["BENCH_DIR"], name), flags, 0o644)
    os.write(fd, line.encode())


@job(name="noop")
def noop(i):
    """Leave a mark."""
    marks()[i] = 1


@job(name="append")
def append(i):
    """Take 20 ms, then tell."""
    say(f"{i} {os.getpid()}\n", "started")
    time.sleep(0.02)
    say(f"{i} {os.getpid()}\n")


@job(name="append2")
def append2(i):
    """The same under another name."""
    say(f"b{i} {os.getpid()}\n", "started")
    time.sleep(0.02)
    say(f"b{i} {os.getpid()}\n")


@job(name="pill")
def pill(_i):
    """Kill whoever runs it."""
    say(f"pill {os.getpid()}\n")
    os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(1)


@job(name="clocked")
def clocked(pushed_s):
    """Tell how long it took from the push to here."""
    say(f"{time.time() - pushed_s:.6f}\n", "latency")


@job(name="anoop")
async def anoop(i):
    """Leave a mark, as a coroutine."""
    marks()[i] = 1


@job(name="aappend")
async def aappend(i):
    """Take 20 ms, then tell, as a coroutine."""
    say(f"{i} {os.getpid()}\n", "started")
    await asyncio.sleep(0.02)
    say(f"{i} {os.getpid()}\n")


@job(name="aappend2")
async def aappend2(i):
    """The same under another name."""
    say(f"b{i} {os.getpid()}\n", "started")
    await asyncio.sleep(0.02)
    say(f"b{i} {os.getpid()}\n")


@job(name="apill")
async def apill(_i):
    """Kill whoever runs it."""
    say(f"pill {os.getpid()}\n")
    os.kill(os.getpid(), signal.SIGKILL)
    await asyncio.sleep(1)


JOBS = {
    each.name: each
    for each in (noop, append, append2, pill, clocked, anoop, aappend, aappend2, apill)
}
