"""How many jobs does a worker take at a time?

Pure. What is taken and not yet started is out of everybody else's reach, so it has to be worth little: a waiting job must not sit behind
a long one while another process idles. But a round trip for each job costs several times what a short job does. So the answer goes by
how long jobs have taken here of late, and begins with the careful one.
"""

#: What is taken ahead is worth no more than this.
WORTH_S = 0.05
#: And is no more than so many jobs, however short they are.
MOST = 200
#: So many jobs' durations are remembered, roughly.
MEMORY = 32
#: Jobs that were taken and wait for so long, while nothing was started, are given back.
STALE_S = 0.05


class Pace:
    """How long a job takes here: an average that forgets, careful at first."""

    __slots__ = ("_ahead", "mean_s")

    def __init__(self) -> None:
        self.mean_s = WORTH_S
        self._ahead = 0  #: what was allowed last time

    def ran(self, jobs: int, took_s: float) -> None:
        """Learn that so many jobs took so long, all together."""
        if jobs:
            weight = min(1.0, jobs / MEMORY)
            self.mean_s += (took_s / jobs - self.mean_s) * weight

    def stalled(self) -> None:
        """Learn that what was taken ahead had to be given back."""
        self.mean_s = max(self.mean_s, WORTH_S)
        self._ahead = 0

    def ahead(self, executors: int) -> int:
        """Return how many jobs may wait here for so many executors: none where jobs are long, more and more where they are short."""
        worth = int(WORTH_S * executors / max(self.mean_s, 1e-7)) - executors
        # Twice as many as last time at most: the jobs ahead may be of another kind than those behind.
        self._ahead = max(0, min(worth, MOST, 2 * self._ahead + executors))
        return self._ahead


def how_many(free: int, waiting: int, ahead: int) -> int:
    """Return how many jobs to take.

    Args:
        free: Executors that run nothing.
        waiting: Jobs that were taken and are not started.
        ahead: How many may wait beyond those that start at once.
    """
    return max(0, free + ahead - waiting)
