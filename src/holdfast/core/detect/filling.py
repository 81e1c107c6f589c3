"""Will the disk be full soon?

Pure. The slope of free space over a minute or two; rotated and compressed logs give space back, so the last third of the
samples has to lie below the first.
"""

from itertools import pairwise

from holdfast.core.detect.lasting import Lasting
from holdfast.core.detect.sign import Sign, size, span
from holdfast.core.detect.slope import theil_sen

#: Points of the slope, the fewest that say something, and the share of them that have to fall.
POINTS, LEAST, FALLING = 24, 9, 0.7
#: With more than this share free nothing is soon.
PLENTY = 0.4
ON_S, OFF_S = 10.0, 30.0


class Filling:
    """Free space of one disk."""

    __slots__ = ("_lasting", "_points")

    def __init__(self) -> None:
        self._points: list[tuple[float, float]] = []
        self._lasting = Lasting()

    def add(self, now_s: float, free: int, total: int, limit_s: float, path: str) -> "Sign | None":
        """Take in one look; ``limit_s``: told when it is full within that."""
        points = self._points = [*self._points, (now_s, float(free))][-POINTS:]
        per_s = left_s = 0.0
        is_soon = False
        if len(points) >= LEAST and free < PLENTY * total:
            per_s = -theil_sen(points)
            third = len(points) // 3
            has_sunk = max(p[1] for p in points[-third:]) < min(p[1] for p in points[:third])
            falls = sum(1 for a, b in pairwise(points) if b[1] < a[1])
            left_s = free / per_s if per_s > 0 else 0.0
            is_soon = per_s > 0 and left_s < limit_s and has_sunk
            is_soon = is_soon and falls >= FALLING * (len(points) - 1)
        if not self._lasting.add(now_s, limit_s > 0 and is_soon, ON_S, OFF_S):
            return None
        says = f"the disk of {path} fills by {size(per_s)} a second: full in {span(left_s)}, {size(free)} are free"
        return Sign(left_s, limit_s, says)
