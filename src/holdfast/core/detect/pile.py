"""Do tasks pile up, a few a second, that nobody ends?

Pure. A bomb is many times what is usual (:mod:`holdfast.core.detect.swarm`); a slow leak becomes usual while it lasts. What counts is the lowest number of each
few seconds, and only what open connections and requests under way do not explain: a chat server in the morning has ever more tasks, and ever more
sockets. A batch that works through its tasks has fewer of them each time it is looked at.
"""

from holdfast.core.detect.creep import Creep
from holdfast.core.detect.sign import Sign, count, span

#: Chunks of the creep, and the least growth over all of them that is told.
CHUNK_S, LEAST = 4.0, 150.0
#: Tasks that one connection, or one request, may have.
EACH = 6


class Pile:
    """The tasks of one worker."""

    __slots__ = ("_creep",)

    def __init__(self) -> None:
        self._creep = Creep(CHUNK_S)

    def add(
        self, now_s: float, tasks: int, files: int, in_flight: int, *, is_settled: bool
    ) -> "Sign | None":
        """Take in one look.

        Args:
            now_s: Monotonic seconds.
            tasks: How many there are.
            files: How many files and sockets are open; less than 0 where nobody knows.
            in_flight: Requests under way.
            is_settled: It has warmed up.
        """
        creeps = self._creep.add(now_s, tasks - EACH * (max(0, files) + in_flight), LEAST)
        if not creeps or not is_settled:
            return None
        grown, for_s = self._creep.growth(), self._creep.seconds()
        says = f"{count(tasks)} tasks, and {count(grown)} more within {span(for_s)}: they pile up and do not end"
        return Sign(float(tasks), LEAST, says)
