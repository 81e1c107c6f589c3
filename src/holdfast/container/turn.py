"""When may this process import its code? At most as many at a time as there are processors, when a node starts.

Imports are all processor. Begun by all workers at once they share the processors, and the first is ready when the last is; one after the
other each is ready as early as it can be, and the last no later. Turns are locks on files, which the kernel gives back
whatever happens to us. Nobody waits for long, a restart does not wait at all, and neither does a worker in whose sockets
somebody may be waiting already (a router, a web server). Left out: which worker comes first, which is the keeper's.
"""

import fcntl
import os
import time

from holdfast.wire import layout

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

#: The longest wait. A worker that takes longer to import, or hangs in it, costs the others this once.
PATIENCE_S = 0.25
#: Between two looks: a hundredth of what importing asyncio and the bus takes.
_LOOK_S = 0.002


def patience_s(environ: "Mapping[str, str]") -> float:
    """Return how long the worker with this environment may wait."""
    is_first_life = environ.get("HOLDFAST_START") == "1"
    return PATIENCE_S if is_first_life and not environ.get("LISTEN_FDS") else 0.0


def take(run_dir: str, wait_s: float, count: int) -> int:
    """Wait for one of `count` turns, and return what :func:`give_back` takes; -1 when it goes without one."""
    until_s = time.monotonic() + wait_s
    while True:
        for number in range(count):
            try:
                turn = os.open(
                    f"{run_dir}/{layout.CONTROL}/.turn.{number}",
                    os.O_RDWR | os.O_CREAT | os.O_CLOEXEC,
                    0o600,
                )
            except OSError:
                return -1  # another user's directory, or none: order is not worth a failed start
            try:
                fcntl.flock(turn, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                os.close(turn)
            else:
                return turn
        if time.monotonic() >= until_s:
            return -1
        time.sleep(_LOOK_S)


def give_back(turn: int) -> None:
    """Let the next one import."""
    if turn >= 0:
        # Said, not left to the closing: a child that a component has forked meanwhile has this descriptor, too.
        fcntl.flock(turn, fcntl.LOCK_UN)
        os.close(turn)
