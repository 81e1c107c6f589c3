"""Has the mean of a noisy series gone up for good?

Page-Hinkley's test, on logarithms: 20 ms that become 40 weigh as much as 2 s that become 4. Confirms what other detectors
believe; alone it takes 4-5 s and mistakes a burst for a change.
"""

#: What is forgiven at each step, and the sum from which it is a change.
DELTA, LAMBDA = 0.05, 1.0
#: The mean is that of this many steps at most.
MEMORY = 120


class Drift:
    """One series."""

    __slots__ = ("_least", "_mean", "_steps", "_sum")

    def __init__(self) -> None:
        self._steps = 0
        self._mean = 0.0
        self._sum = 0.0
        self._least = 0.0

    def add(self, value: float) -> bool:
        """Take in one value; return whether the mean has gone up."""
        self._steps += 1
        if self._steps == 1:
            self._mean = value
        is_up = self.is_up()
        if not is_up:
            self._mean += (value - self._mean) / min(self._steps, MEMORY)
        self._sum += value - self._mean - DELTA
        # Bounded above, so that a change that has gone is soon believed to be gone.
        self._sum = min(self._sum, self._least + 3 * LAMBDA)
        self._least = min(self._least, self._sum)
        return self.is_up()

    def is_up(self) -> bool:
        """Whether the mean has gone up."""
        return self._sum - self._least > LAMBDA
