"""The last witness of how a worker ended.

A worker's exit status goes to its parent: the keeper, or the anchor once the keeper is dead. When both are killed together it goes
to a stranger. A pidfd that somebody still holds can tell it afterwards (PIDFD_GET_INFO, Linux 6.15), so the watchdog holds one
for each life, and writes into the anchor's journal what the keeper did not get to know. On older kernels such a
status is lost.
"""

import select
import time

from holdfast.linux import files, pidfd, procfs
from holdfast.wire import journal, layout

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from holdfast.watchdog.engine import Engine

#: The keeper is given this long to record an end by itself.
_FIRST_S = 0.2
_AGAIN_S = 0.02
_PATIENCE_S = 3.0


class Witness:
    """Holds a pidfd for each life until its end is on record.

    All of them in an epoll of their own, which the engine watches as one: a callback for each life would cost
    half a megabyte at a thousand workers.
    """

    __slots__ = ("_by_life", "_engine", "_lives", "_path", "_poll")

    def __init__(self, engine: "Engine", run_dir: str) -> None:
        self._engine = engine
        self._path = f"{run_dir}/{layout.EXITS}"
        self._poll = select.epoll()
        self._lives: dict[int, tuple[str, int, int]] = {}  # pidfd -> life, pid, ticks
        self._by_life: dict[str, int] = {}  # life -> pidfd
        engine.watch(self._poll.fileno(), select.EPOLLIN, lambda _: self._ended())

    def hold(self, worker: str, n: int, pid: int, ticks: int) -> None:
        """A life began."""
        life = f"{worker} {n}"
        if life in self._by_life:
            return
        descriptor = pidfd.open_pid(pid)
        if descriptor < 0:
            return
        found = procfs.reading(pid)
        if found is None or found.start_ticks != ticks:
            pidfd.close(descriptor)
            return
        self._lives[descriptor] = (life, pid, ticks)
        self._by_life[life] = descriptor
        self._poll.register(descriptor, select.EPOLLIN)

    def release(self, worker: str, n: int) -> None:
        """Its end is on record."""
        self._forget(self._by_life.get(f"{worker} {n}", -1))

    def _forget(self, descriptor: int) -> None:
        life, _, _ = self._lives.pop(descriptor, ("", 0, 0))
        if life:
            del self._by_life[life]
            pidfd.close(descriptor)  # which takes it out of the epoll, too

    def _ended(self) -> None:
        now_s = time.monotonic()
        for descriptor, _ in self._poll.poll(0):
            self._poll.unregister(descriptor)
            life, pid, ticks = self._lives[descriptor]
            found = procfs.reading(pid)
            if found is not None and found.start_ticks == ticks and found.exit_status is not None:
                # Not reaped yet. Written down at once: whoever reaps it may be killed before telling, and so may we.
                self._record(life, pid, ticks, found.exit_status)
            self._engine.at(now_s + _FIRST_S, self._later(life, now_s + _PATIENCE_S))

    def _later(self, life: str, until_s: float) -> "Callable[[], None]":
        return lambda: self._tell(life, until_s)

    def _tell(self, life: str, until_s: float) -> None:
        descriptor = self._by_life.get(life, -1)
        if descriptor < 0:
            return  # the keeper knows
        _, pid, ticks = self._lives[descriptor]
        status = pidfd.exit_status(descriptor)
        now_s = time.monotonic()
        if status is None and now_s < until_s:
            self._engine.at(now_s + _AGAIN_S, self._later(life, until_s))
            return
        if status is not None:
            self._record(life, pid, ticks, status)
        self._forget(descriptor)

    def _record(self, life: str, pid: int, ticks: int, status: int) -> None:
        """Write a status where the next keeper looks; more than once does no harm."""
        unix_s, mono_s = time.time(), time.monotonic()
        record = {"pid": pid, "ticks": ticks, "status": status, "unix_s": unix_s, "mono_s": mono_s}
        try:
            files.append(self._path, journal.encode(record))
        except OSError as error:
            self._engine.say(f"cannot record how {life} ended: {error}")
