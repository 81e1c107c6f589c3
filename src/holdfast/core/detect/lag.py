"""Does the event loop come late, again and again?

Pure. A late tick is no news (a garbage collection, an import, a busy box); three within three seconds are. Time in which the
process waited for a processor is not the loop's fault. Writers of an old pulse do not count late ticks: there, each new
maximum of the lag is one.
"""

from holdfast.core.detect.sign import Sign, span

#: So many late ticks within so long.
NEEDED, WITHIN_S = 3, 3.0
#: Over when there was none for this long.
QUIET_S = 5.0
#: A tick counts as late by itself when the box explains less than this share of it.
EXCUSED = 0.5
#: So long it is remembered when it waited: a late turn lasts over several looks.
MEMORY_S = 4.0
#: What the agent itself counts as late (wire/pulse.py).
COUNTED_S = 0.25


class Lag:
    """Late ticks of one loop."""

    __slots__ = ("_lag_s", "_late", "_times", "_waits", "_worst_s", "is_up")

    def __init__(self) -> None:
        self._late = -1
        self._lag_s = 0.0
        self._waits: list[
            tuple[float, float]
        ] = []  #: when, and the time on the run queue until then
        self._times: list[float] = []
        self._worst_s = 0.0
        self.is_up = False

    def skip(self, lag_s: float, late_ticks: int, waited_s: float) -> None:
        """Forget what happened since the last look: it was our own doing."""
        self._late, self._lag_s, self._waits = late_ticks, lag_s, [(0.0, waited_s)]

    def add(
        self, now_s: float, lag_s: float, late_ticks: int, waited_s: float, limit_s: float
    ) -> "Sign | None":
        """Take in one look.

        Args:
            now_s: Monotonic seconds.
            lag_s: Decaying maximum of the lag.
            late_ticks: Late ticks so far; 0 where nobody counts.
            waited_s: Time on the run queue so far.
            limit_s: A tick this late is late.
        """
        new = max(0, late_ticks - self._late) if self._late >= 0 else 0
        if late_ticks == 0 or limit_s != COUNTED_S:
            new = int(lag_s > limit_s and lag_s > self._lag_s * 1.02)
        waited_s = self._waited(now_s, lag_s, waited_s)
        self._late, self._lag_s = late_ticks, lag_s
        # On a crowded box a collection of half the limit takes all of it: what is late without the waiting, counts.
        if new and waited_s < EXCUSED * max(lag_s, limit_s) and lag_s - waited_s > limit_s:
            self._times = [*self._times, *[now_s] * min(new, NEEDED)][-NEEDED:]
            self._worst_s = max(self._worst_s, lag_s)
        if len(self._times) == NEEDED and self._times[-1] - self._times[0] <= WITHIN_S:
            self.is_up = self.is_up or now_s - self._times[-1] <= WITHIN_S
        if self.is_up and now_s - self._times[-1] > QUIET_S:
            self.is_up, self._times, self._worst_s = False, [], 0.0
        if not self.is_up:
            return None
        says = (
            f"the event loop came more than {span(limit_s)} late {NEEDED} times within {WITHIN_S:g} s "
            f"({span(self._worst_s)} at worst)"
        )
        return Sign(self._worst_s, limit_s, says)

    def _waited(self, now_s: float, lag_s: float, waited_s: float) -> float:
        """Return how long it has waited for a processor since the turn began that is late by ``lag_s``."""
        waits = self._waits
        began_s = (waits[-1][0] if waits else now_s) - lag_s
        before_s = next((sum_s for at_s, sum_s in reversed(waits) if at_s <= began_s), None)
        if before_s is None:
            before_s = waits[0][1] if waits else waited_s
        while waits and waits[0][0] < now_s - MEMORY_S:
            del waits[0]
        waits.append((now_s, waited_s))
        return waited_s - before_s
