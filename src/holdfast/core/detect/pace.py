"""When to look next: often while it matters, rarely while nothing happens.

Pure. A worker that starts is asked at 10 ms first (many are ready by then, and others wait for it), then ever more
rarely. A round of samples may cost at most a set share of one processor, whatever the number of workers: the watchdog
must not be the load it warns of.
"""

FIRST_S, LONGEST_S, GROWTH = 0.01, 0.25, 1.6
#: Share of one processor that sampling may cost.
BUDGET = 0.0008


def next_try_s(last_s: float) -> float:
    """Return the pause before the next readiness check; ``last_s`` is the one before, 0 at first."""
    return min(LONGEST_S, max(FIRST_S, last_s * GROWTH))


def round_s(workers: int, cost_s: float, least_s: float) -> float:
    """Return how long one round over all workers should take.

    Args:
        workers: How many there are.
        cost_s: Measured processor time of one sample of one worker.
        least_s: The shortest time between two samples of one worker (from the plan).
    """
    return max(least_s, workers * cost_s / BUDGET)
