"""Does something grow steadily, chunk of time after chunk of time?

Pure. The *least* value of each chunk is compared with that of the one before: bursts (connections, requests) raise the
highest value, a leak raises the lowest. It creeps when each of ``NEEDED`` chunks in a row is higher than the one before, each
by a fair share of the whole (one big step is no creep), and the second half grew no less than the first (a cache that
fills grows ever more slowly, and more slowly than a while ago). What climbed once and gave it back (a buffer that is written away
when it is full) has to climb higher than that. Idle workers cost nothing: what does not grow is not remembered.
"""

from itertools import pairwise

from holdfast.core.detect.slope import median

#: So many rises in a row.
NEEDED = 10
#: It is no slower than it was within the last so many seconds, by more than this: what warms up slows down.
PEAK, PEAK_S = 0.85, 240.0
#: … measured over so many rises.
SHORT = 6
#: So many chunks in a row have to agree.
AGREE = 2
#: Where looks are rarer than chunks, each look is one; beyond so many chunks without a look it begins anew.
GAP = 10.0
#: Each of them at least this share of their mean.
FAIR = 0.3
#: The later half of the growth, compared with the earlier one. A leak has 1; a cache that fills with a time
#: constant of three minutes has less.
STRAIGHT = 0.88
#: Given back: it fell below this part of its climb. As high again is no news, this much higher is.
GIVEN_BACK, HIGHER = 0.5, 1.1


_NONE: "list[float]" = []  #: shared by all that remember nothing


class Creep:
    """The lowest values of the last chunks of one quantity."""

    __slots__ = (
        "_began_s",
        "_chunk_s",
        "_fallen",
        "_given",
        "_lows",
        "_now_low",
        "_peak",
        "_peak_s",
        "_quiet",
        "_straight",
        "_times",
        "_top",
        "is_up",
    )

    def __init__(self, chunk_s: float) -> None:
        self._chunk_s = chunk_s
        self._began_s = -1.0
        self._now_low = 0.0
        self._lows: list[float] | None = None
        self._times: list[float] = _NONE
        self._quiet = self._straight = 0
        self._peak = self._peak_s = 0.0
        #: The top of the last climb, below what it has given that back, and the highest one that it gave back.
        self._top = self._fallen = self._given = 0.0
        self.is_up = False

    def add(self, now_s: float, value: float, least: float) -> bool:
        """Take in a value; return whether it creeps.

        Args:
            now_s: Monotonic seconds.
            value: What may leak.
            least: Growth over all chunks below this is of no interest.
        """
        if self._began_s < 0:
            self._began_s, self._now_low = now_s, value
        elif now_s - self._began_s < self._chunk_s:
            self._now_low = min(self._now_low, value)
        else:
            if now_s - self._began_s > GAP * self._chunk_s:
                self._lows = None  # nobody looked for a while
            self._close(self._began_s, self._now_low, least)
            self._began_s, self._now_low = now_s, value
        return self.is_up

    def _close(self, began_s: float, low: float, least: float) -> None:
        lows = self._lows
        if low < self._fallen:
            self._given, self._fallen = max(self._given, self._top), 0.0
        if not lows:
            self._lows, self._times = [low], [began_s]
            return
        if low <= lows[-1]:
            # Without a rise there is nothing to remember, but one quiet chunk does not clear a flag.
            self._quiet += 1
            if self._quiet > 1 or not self.is_up:
                self.is_up = False
                self._end(lows, low)
                self._lows, self._times = [low], [began_s]
            return
        self._quiet = 0
        lows.append(low)
        self._times.append(began_s)
        if len(lows) > NEEDED + 1:
            del lows[0], self._times[0]
        rises = [late - early for early, late in pairwise(lows)]
        if len(rises) >= SHORT:
            # By medians: one big step (a lazy import, a burst) is no rate.
            lately = median(rises[-SHORT:]) / self._chunk_s
            if lately > self._peak or began_s - self._peak_s > PEAK_S:
                self._peak, self._peak_s = lately, began_s
        is_straight = len(rises) == NEEDED and self._is_straight(rises, least)
        is_news = low > HIGHER * self._given
        self._straight = self._straight + 1 if is_straight and is_news else 0
        self.is_up = self.is_up or self._straight >= AGREE

    def _end(self, lows: "list[float]", low: float) -> None:
        """Note the climb that has just ended; a short one (a start) is none."""
        if len(lows) <= SHORT:
            return
        self._top = lows[-1]
        self._fallen = lows[0] + GIVEN_BACK * (lows[-1] - lows[0])
        if low < self._fallen:
            self._given, self._fallen = max(self._given, self._top), 0.0

    def _is_straight(self, rises: "list[float]", least: float) -> bool:
        grown, half = sum(rises), NEEDED // 2
        if grown < least or min(rises) < FAIR * grown / NEEDED:
            return False
        is_even = median(rises[half:]) >= STRAIGHT * median(rises[:half])
        is_even = is_even and sum(rises[half:]) >= STRAIGHT * sum(rises[:half])
        return is_even and median(rises) / self._chunk_s >= PEAK * self._peak

    def growth(self) -> float:
        """Return by how much it grew over the chunks that are remembered."""
        return self._lows[-1] - self._lows[0] if self._lows else 0.0

    def seconds(self) -> float:
        """Return over how long."""
        return self._times[-1] - self._times[0] if self._lows else 0.0

    def per_s(self) -> float:
        """Return the growth a second."""
        return self.growth() / self.seconds() if self.seconds() else 0.0
