"""Real faults, on request, for drills: what a sick component does to its process.

Only a control-socket request to a node that is marked ``drills = true`` gets here. Each function is called on the serving loop, in the context
of the component that is to blame.
"""

import os
import threading
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

#: Bytes of one step of the leak, and seconds between two steps.
LEAK_BYTES, LEAK_EVERY_S = 20_000_000, 0.1


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


def leak() -> None:
    """Allocate and touch 20 MB every 100 ms without end, beside a loop that goes on serving."""
    kept: list[bytearray] = []

    def grow() -> None:
        while True:
            block = bytearray(LEAK_BYTES)
            block[::4096] = b"\1" * len(range(0, LEAK_BYTES, 4096))
            kept.append(block)
            time.sleep(LEAK_EVERY_S)

    threading.Thread(target=grow, name="leak", daemon=True).start()


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
    "leak": leak,
    "exit": exit,
}
