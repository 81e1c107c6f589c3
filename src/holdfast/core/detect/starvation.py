"""Is it the worker that is sick, or did it get no processor?

Pure. Three observers, because each is blind somewhere: the worker's own wait on the run queue (exact, but only where
the kernel keeps schedstat), our own lateness (a suspended machine, a stopped watchdog), and the box as a whole (several
workers silent at once while the run queue is long: the load is from elsewhere).
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


def waited_s(before_ns: int, after_ns: int, between_s: float) -> float:
    """Return how much of ``between_s`` a process waited for a processor, from two readings of schedstat."""
    return min(max(0.0, (after_ns - before_ns) / 1e9), max(0.0, between_s))


def box_starved(silent: int, watched: int, runnable: float, processors: int) -> bool:
    """Whether the silence of several workers is better explained by the box than by each of them.

    Args:
        silent: Workers that have said nothing for a good part of their timeout, now.
        watched: Workers with a heartbeat.
        runnable: Tasks on all run queues, smoothed.
        processors: How many can run at once.
    """
    return silent >= MANY and silent >= SHARE * watched and runnable > CROWDED * processors
