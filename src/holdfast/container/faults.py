"""Real faults, on request, for drills: what a sick component does to its process.

Only a control-socket request to a node that is marked ``drills = true`` gets here. Each function is called on the serving loop, in the context
of the component that is to blame.
"""

import asyncio
import os
import threading
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

#: Bytes of one step of the leak, and seconds between two steps.
LEAK_BYTES, LEAK_EVERY_S = 20_000_000, 0.1
#: Tasks of the bomb.
BOMB = 20_000
#: Threads and descriptors that leak, a second.
THREADS_PER_S, FILES_PER_S = 40, 20
#: The slow list: units of work a second, for so long as they were before, and by how much it grows with each unit then.
WORK_PER_S, USUAL_S, GROWS_BY = 50, 15.0, 400


class InjectedFault(Exception):  # noqa: N818 -- it is what the drill injects
    """The uncaught exception of a drill."""


def segfault() -> None:
    """Read address 0 inside a C extension (ctypes)."""
    import ctypes

    ctypes.string_at(0)


def exception() -> None:
    """Raise what nobody catches."""
    raise InjectedFault("asked for by a drill")


def deadlock() -> None:
    """Acquire a lock that this very thread holds."""
    lock = threading.Lock()
    with lock:
        lock.acquire()


def block_loop() -> None:
    """Sleep where nothing may sleep."""
    time.sleep(3600)


def busy_loop() -> None:
    """Compute without end; other threads get their turns."""
    while True:
        pass


def hold_gil() -> None:
    """Run C code that keeps the interpreter's lock: a regular expression that backtracks for hours."""
    import re

    re.match(r"(a+)+$", "a" * 60 + "b")


def hold_gil_asleep() -> None:
    """Wait in C code that keeps the interpreter's lock: nothing runs, nothing computes."""
    import ctypes

    ctypes.PyDLL(None).sleep(3600)


def leak() -> None:
    """Allocate and touch 20 MB every 100 ms without end, beside a loop that goes on serving."""
    _leak(LEAK_BYTES / LEAK_EVERY_S)


def leak_1() -> None:
    """Leak 1 MB a second."""
    _leak(1e6)


def leak_50() -> None:
    """Leak 50 MB a second."""
    _leak(50e6)


def leak_500() -> None:
    """Leak 500 MB a second."""
    _leak(500e6)


def _leak(per_s: float) -> None:
    kept: list[bytearray] = []
    step = max(4096, int(min(per_s * LEAK_EVERY_S, LEAK_BYTES)))
    pause_s = step / per_s

    def grow() -> None:
        due_s = time.monotonic()
        while True:
            block = bytearray(step)
            block[::4096] = b"\1" * len(range(0, step, 4096))
            kept.append(block)
            due_s += pause_s
            time.sleep(max(0.0, due_s - time.monotonic()))

    threading.Thread(target=grow, name="leak", daemon=True).start()


def task_bomb() -> None:
    """Start twenty thousand tasks in one instant, and wait for none of them."""
    kept = [asyncio.get_running_loop().create_task(asyncio.sleep(3600)) for _ in range(BOMB)]
    _kept.append(kept)


def thread_leak() -> None:
    """Start a thread again and again that never ends."""
    gate = threading.Event()

    def start() -> None:
        while True:
            threading.Thread(target=gate.wait, daemon=True).start()
            time.sleep(1.0 / THREADS_PER_S)

    threading.Thread(target=start, name="starts-threads", daemon=True).start()


def fd_leak() -> None:
    """Open a file again and again and never close it."""

    def open_on() -> None:
        while True:
            _kept.append(os.open(os.devnull, os.O_RDONLY))
            time.sleep(1.0 / FILES_PER_S)

    threading.Thread(target=open_on, name="opens-files", daemon=True).start()


def slow_list() -> None:
    """Do work that costs the same for a while, and then walks a list that every unit makes longer: slow, but alive."""
    _kept.append(asyncio.get_running_loop().create_task(_walk_lists()))


async def _walk_lists() -> None:
    from holdfast.agent.routes import TABLE
    from holdfast.sdk.recorder import Work

    route = TABLE.route("drill: slow list")
    began_s = time.monotonic()
    seen: list[int] = []

    def unit() -> int:
        total = sum(range(500))
        # What every call does from now on: look through all that came before.
        for one in seen:
            total += one
        return total

    while True:
        work = Work(route)
        work.called(unit)
        work.done(None)
        if time.monotonic() - began_s > USUAL_S:
            seen.extend(range(GROWS_BY))
        await asyncio.sleep(1.0 / WORK_PER_S)


#: What the faults hold on to; nothing of it is ever given back.
_kept: "list[object]" = []


def exit() -> None:  # noqa: A001 -- the drill is called that
    """End at once with status 3."""
    os._exit(3)


FAULTS: "dict[str, Callable[[], None]]" = {
    "segfault": segfault,
    "exception": exception,
    "deadlock": deadlock,
    "block_loop": block_loop,
    "busy_loop": busy_loop,
    "hold_gil": hold_gil,
    "hold_gil_asleep": hold_gil_asleep,
    "leak": leak,
    "leak_1": leak_1,
    "leak_50": leak_50,
    "leak_500": leak_500,
    "task_bomb": task_bomb,
    "thread_leak": thread_leak,
    "fd_leak": fd_leak,
    "slow_list": slow_list,
    "exit": exit,
}
