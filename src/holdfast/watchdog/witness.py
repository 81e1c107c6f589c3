"""The last witness of how a worker ended.

A worker's exit status goes to its parent: the keeper, or the anchor once the keeper is dead. When both are killed together it goes
to a stranger. A pidfd that somebody still holds can tell it afterwards (PIDFD_GET_INFO, Linux 6.15), so the watchdog holds one
for each life, and writes into the anchor's journal what the keeper did not get to know. On older kernels such a
status is lost.
"""

import time

from holdfast.linux import files, pidfd, procfs
from holdfast.wire import journal, layout

TYPE_CHECKING = False
if TYPE_CHECKING:
    from holdfast.watchdog.engine import Engine

#: The keeper is given this long to record an end by itself.
_FIRST_S = 0.2
_AGAIN_S = 0.02
_PATIENCE_S = 3.0


class Witness:
    """Holds a pidfd for each life until its end is on record."""

    __slots__ = ("_engine", "_held", "_path")

    def __init__(self, engine: "Engine", run_dir: str) -> None:
        self._engine = engine
        self._path = f"{run_dir}/{layout.EXITS}"
        self._held: dict[
            tuple[str, int], tuple[int, int, int]
        ] = {}  # (worker, n) -> pidfd, pid, ticks

    def hold(self, worker: str, n: int, pid: int, ticks: int) -> None:
        """A life began."""
        if (worker, n) in self._held:
            return
        descriptor = pidfd.open_pid(pid)
        if descriptor < 0:
            return
        found = procfs.reading(pid)
        if found is None or found.start_ticks != ticks:
            pidfd.close(descriptor)
            return
        self._held[worker, n] = (descriptor, pid, ticks)
        self._engine.watch(descriptor, 1, lambda _: self._ended(worker, n))

    def release(self, worker: str, n: int) -> None:
        """Its end is on record."""
        descriptor, _, _ = self._held.pop((worker, n), (-1, 0, 0))
        if descriptor >= 0:
            self._engine.unwatch(descriptor)
            pidfd.close(descriptor)

    def _ended(self, worker: str, n: int) -> None:
        self._engine.unwatch(self._held[worker, n][0])
        now_s = time.monotonic()
        self._engine.at(now_s + _FIRST_S, lambda: self._tell(worker, n, now_s + _PATIENCE_S))

    def _tell(self, worker: str, n: int, until_s: float) -> None:
        descriptor, pid, ticks = self._held.get((worker, n), (-1, 0, 0))
        if descriptor < 0:
            return  # the keeper knows
        status = pidfd.exit_status(descriptor)
        now_s = time.monotonic()
        if status is None and now_s < until_s:
            self._engine.at(now_s + _AGAIN_S, lambda: self._tell(worker, n, until_s))
            return
        if status is not None:
            record = {
                "pid": pid,
                "ticks": ticks,
                "status": status,
                "unix_s": time.time(),
                "mono_s": now_s,
            }
            try:
                files.append(self._path, journal.encode(record))
            except OSError as error:
                self._engine.say(f"cannot record how {worker} ended: {error}")
        self.release(worker, n)
