"""For how long has a worker been silent, in time in which it could have spoken?

Pure. A watchdog that compares a beat with the clock shoots healthy processes on a busy box (uvicorn's 5 s ping:
2,560 kills an hour on one staging system). Time in which the worker waited on a run queue, or in which we
ourselves were not running, is therefore *excused*: it is taken off the silence. A worker that sleeps, is locked, stopped
or spins is not waiting on a run queue, so true hangs lose nothing by it.
"""


class Silence:
    """The last sign of life of one worker, and what has been excused since."""

    __slots__ = ("excused_s", "last_s")

    def __init__(self, now_s: float) -> None:
        self.last_s = now_s
        self.excused_s = 0.0

    def sign(self, at_s: float) -> None:
        """Take note of a sign of life at ``at_s``; one that is older than the last changes nothing."""
        if at_s > self.last_s:
            self.last_s = at_s
            self.excused_s = 0.0

    def excuse(self, for_s: float) -> None:
        """Take ``for_s`` off the silence that lasts now."""
        if for_s > 0.0:
            self.excused_s += for_s

    def lasting_s(self, now_s: float) -> float:
        """Return the seconds of silence that nothing excuses; never negative."""
        return max(0.0, now_s - self.last_s - self.excused_s)
