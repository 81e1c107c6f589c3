"""Carries out one order in a child that kills itself before its N-th change to the file system; then in one that does not.

    python killed_at.py RUN_DIR KEY N

Prints "killed" or "finished" for the first child. Not a test: the program that test_exactly_once.py starts.
"""

import os
import signal
import sys
from typing import Any

from holdfast.evidence import capture
from holdfast.linux import system

run_dir, key, last = sys.argv[1], sys.argv[2], int(sys.argv[3])
changes = 0


def counted(real: Any) -> Any:
    def call(*arguments: Any, **named: Any) -> Any:
        global changes
        # Only what is ours: opening for reading changes nothing.
        if real is os_open and not arguments[1] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            return real(*arguments, **named)
        changes += 1
        if changes == last:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*arguments, **named)

    return call


os_open = os.open
child = os.fork()
if child == 0:
    for name in ("open", "write", "rename", "mkdir", "unlink", "rmdir", "link"):
        call = counted(getattr(os, name))
        setattr(os, name, call)
        if hasattr(system, name):  # what the house's own modules call
            setattr(system, name, call)
    capture.carry_out(run_dir, key)
    os._exit(0)
_, status = os.waitpid(child, 0)
print("killed" if os.WIFSIGNALED(status) else "finished")
if os.WIFSIGNALED(status):
    assert os.WTERMSIG(status) == signal.SIGKILL
else:
    assert status == 0
capture.carry_out(run_dir, key)
