"""Are open files leaked?

Pure. Connections come and go, so what counts is the lowest number of each three seconds; near the limit the number itself does.
"""

from holdfast.core.detect.creep import Creep
from holdfast.core.detect.sign import Sign, count, span

#: Chunks of the creep, and the least growth over all of them that is told.
CHUNK_S, LEAST = 3.0, 30.0
#: Beyond this share of the limit the next accept() or open() fails: a restart is better than that.
GRAVE = 0.95
WELL = 0.9


class Descriptors:
    """Open files of one worker."""

    __slots__ = ("_creep", "_is_high")

    def __init__(self) -> None:
        self._creep = Creep(CHUNK_S)
        self._is_high = False

    def add(
        self, now_s: float, number: int, most: int, share: float, *, is_settled: bool
    ) -> "Sign | None":
        """Take in one look: ``most`` files are allowed, ``share`` of that is told."""
        creeps = self._creep.add(now_s, number, LEAST) and is_settled
        self._is_high = most > 0 and number > share * most * (WELL if self._is_high else 1.0)
        if not creeps and not self._is_high:
            return None
        says = f"{count(number)} files are open, {count(most)} are allowed"
        if creeps:
            per_s = self._creep.per_s()
            left_s = (most - number) / per_s if per_s > 0 else 0.0
            says += f"; {count(self._creep.growth())} more within {span(self._creep.seconds())}, the rest lasts {span(left_s)}"
        return Sign(float(number), share * most, says, is_grave=most > 0 and number > GRAVE * most)
