"""Is one worker unlike the others that do the same?

Pure. Robust z-score: distance from the median in units of the median distance, with a floor, so that peers that are all but
equal do not make the smallest difference a scandal. Being different is no sickness (a leader, another shard): only one
that *was* like its peers for a while and then is not any more is told. Processor time for a unit of work needs no
such proof: the same work costs the same everywhere.
"""

from holdfast.core.detect.sign import Sign
from holdfast.core.detect.slope import median

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

#: Fewer than this many are no crowd.
LEAST = 4
#: Looks in a row before it is told, and before it is forgotten.
TWICE, WELL_LOOKS = 2, 5
#: A time of likeness that is asked for, in looks, and the score that counts as alike.
ALIKE, NEAR = 20, 2.5
#: The floor of a distance, as a share of the median.
FLOOR = 0.2
#: 1.4826 makes the median distance of a normal distribution its standard deviation.
_SIGMA = 1.4826


def scores(values: "Sequence[float]", floor: float) -> "list[float]":
    """Return how far above the others each value is; ``floor`` is a distance that means nothing."""
    middle = median(values)
    unit = max(
        _SIGMA * median([abs(value - middle) for value in values]), FLOOR * abs(middle), floor
    )
    return [(value - middle) / unit for value in values]


class Likeness:
    """How one worker compares with its peers, in one respect."""

    __slots__ = ("_alike", "_odd", "_well", "is_up")

    def __init__(self, *, is_exact: bool = False) -> None:
        #: The same work costs the same everywhere: no time of likeness is asked for.
        self._alike = ALIKE if is_exact else 0
        self._odd = self._well = 0
        self.is_up = False

    def add(self, score: float, limit: float) -> bool:
        """Take in one look; return whether it is the odd one out."""
        if score > limit:
            self._odd, self._well = self._odd + 1, 0
            if self._odd >= TWICE and self._alike >= ALIKE:
                self.is_up = True
        else:
            self._odd, self._well = 0, self._well + 1
            if score < NEAR:
                self._alike = min(ALIKE, self._alike + 1)
            if self._well >= WELL_LOOKS:
                self.is_up = False
        return self.is_up


def sign(what: str, value: str, usual: str, score: float, limit: float) -> Sign:
    """Say it."""
    says = f"unlike its peers: {what} is {value}, theirs {usual}"
    return Sign(score, limit, says)
