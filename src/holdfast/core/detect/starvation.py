"""Is it the worker that is sick, or did it get no processor?

Pure. Four observers, because each is blind somewhere: the worker's own wait on the run queue (exact, but only where
the kernel keeps schedstat), our own lateness (a suspended machine, a stopped watchdog), the box as a whole (several
workers silent at once while the run queue is long: the load is from elsewhere), and a processor on which nobody gets a turn
(a virtual machine whose host is busy; :mod:`holdfast.watchdog.processors` goes there).
"""

#: A tick that comes this much too late says that we did not run.
LATE_S = 0.5
#: Runnable tasks for each processor from which a box counts as crowded.
CROWDED = 2.0
#: As many workers at once, and this share of the watched ones, are not a coincidence.
MANY, SHARE = 3, 0.5


def own_lag_s(planned_s: float, now_s: float) -> float:
    """Return the seconds that we lost ourselves; 0 when we are in time."""
    late_s = now_s - planned_s
    return late_s if late_s > LATE_S else 0.0


class Turn:
    """What the kernel says about one thread's turns on a processor, at one moment."""

    __slots__ = ("is_runnable", "processor", "ran_ns", "waited_ns")

    def __init__(
        self, ran_ns: int, waited_ns: int, *, is_runnable: bool, processor: int = -1
    ) -> None:
        self.ran_ns = ran_ns
        self.waited_ns = waited_ns
        self.is_runnable = is_runnable
        self.processor = processor  #: where it ran last, and where its timers are; -1: not known


def waited_s(before: Turn, after: Turn, between_s: float) -> float:
    """Return how much of ``between_s`` a thread waited for a processor.

    The kernel adds a wait to its account only when it is over. One that still lasts (seconds, on a crowded box) shows
    as a thread that is runnable at both moments and did not run in between.
    """
    waited = (after.waited_ns - before.waited_ns) / 1e9
    if before.is_runnable and after.is_runnable:
        waited = max(waited, between_s - (after.ran_ns - before.ran_ns) / 1e9)
    return min(max(0.0, waited), max(0.0, between_s))


def box_starved(silent: int, watched: int, runnable: float, processors: int) -> bool:
    """Whether the silence of several workers is better explained by the box than by each of them.

    Args:
        silent: Workers that have said nothing for a good part of their timeout, now.
        watched: Workers with a heartbeat.
        runnable: Tasks on all run queues, smoothed.
        processors: How many can run at once.
    """
    return silent >= MANY and silent >= SHARE * watched and runnable > CROWDED * processors
