"""Are there far too many of them: tasks, threads, child processes?

Pure. Far too many is more than a set number *and* several times what is usual here; what is usual is learned, slowly and with
bounds, so that a swarm does not become usual by lasting. A bomb whose tasks are gone before anybody looks shows in the number
created: more than the work done explains. A batch (two thousand at once, gone within a second or two) is none.
"""

from holdfast.core.detect.sign import Sign, count, span

#: Time constants of what is usual, upwards and downwards.
UP_S, DOWN_S = 300.0, 60.0
#: A start is not usual: the number is learned from this age on, and only a swarm of this many times the limit is told.
START_S, START_FACTOR = 5.0, 5.0
#: Created beyond what the work explains, in limits, between two looks.
BURST = 3.0
#: Up to so many limits at once may be a batch: it is told when they are still there after so long, and where
#: there is no processor to spare after so many times that.
BATCH, BATCH_S, CROWDED = 3.0, 3.0, 5.0
#: A unit of work may make so many.
EACH = 8
#: Over below this share of the limit for so long.
WELL, OFF_S = 0.7, 5.0
#: Grave after so long, when it has not begun to fall.
GRAVE_S = 20.0


class Swarm:
    """The number of one kind of thing in one worker."""

    __slots__ = ("_calm_s", "_created", "_last_s", "_over_s", "_peak", "_up_s", "_usual")

    def __init__(self, usual: float = -1.0) -> None:
        self._usual = usual  #: -1: not known yet
        self._created = -1
        self._last_s = 0.0
        self._up_s = self._over_s = -1.0
        self._calm_s = -1.0
        self._peak = 0

    def add(
        self,
        now_s: float,
        number: int,
        limit: float,
        *,
        what: str,
        factor: float,
        age_s: float,
        created: int = 0,
        worked: int = 0,
        start_factor: float = START_FACTOR,
        is_crowded: bool = False,
        may_batch: bool = False,
    ) -> "Sign | None":
        """Take in one look.

        Args:
            now_s: Monotonic seconds.
            number: How many there are.
            limit: Fewer are never too many.
            what: Their name, plural.
            factor: Times what is usual.
            age_s: Age of the worker.
            created: How many were ever made; 0 where nobody counts.
            worked: Units of work done or begun since the last look.
            start_factor: So many limits are told while it starts.
            is_crowded: The machine has no processor to spare.
            may_batch: A batch of them is ordinary: of tasks, not of threads or processes.
        """
        passed_s, self._last_s = now_s - self._last_s, now_s
        made = created - self._created if self._created >= 0 else 0
        self._created = created
        bound = self._bound(limit, factor, age_s, start_factor)
        is_burst = made - EACH * worked > BURST * limit
        if number <= bound:
            self._over_s = -1.0
        elif self._over_s < 0:
            self._over_s = now_s
        batch_s = BATCH_S * (CROWDED if is_crowded else 1.0) if may_batch else 0.0
        is_over = number > bound and (
            self._up_s >= 0 or number > BATCH * limit or now_s - self._over_s >= batch_s
        )
        if is_over or is_burst:
            if self._up_s < 0:
                self._up_s, self._peak = now_s, 0
            self._calm_s = -1.0
            self._peak = max(self._peak, number, made if is_burst else 0)
        elif self._up_s >= 0 and number < WELL * bound:
            if self._calm_s < 0:
                self._calm_s = now_s
            if now_s - self._calm_s >= OFF_S:
                self._up_s = self._calm_s = -1.0
        if self._up_s < 0:
            self._learn(number, age_s, passed_s)
            return None
        usual = f"usually {count(max(self._usual, 0))}" if self._usual >= 0 else "at its start"
        says = f"{count(number)} {what} ({usual})"
        if is_burst or self._peak > number:
            says = f"{count(self._peak)} {what} within {span(max(0.05, passed_s))} ({usual}), {count(number)} of them are left"
        lasted = now_s - self._up_s >= GRAVE_S and number > 0.9 * self._peak and number > bound
        return Sign(float(max(number, self._peak)), bound, says, is_grave=lasted)

    def _bound(self, limit: float, factor: float, age_s: float, start_factor: float) -> float:
        if self._usual < 0 or age_s < START_S:
            return limit * start_factor
        return max(limit, factor * self._usual)

    def _learn(self, number: int, age_s: float, passed_s: float) -> None:
        if self._usual < 0:
            if age_s >= START_S:
                self._usual = float(number)
            return
        if age_s < START_S:
            self._usual = max(self._usual, float(number))  # what it starts with is meant
            return
        seen = min(float(number), 2 * self._usual + 10)
        self._usual += (seen - self._usual) * min(
            1.0, passed_s / (UP_S if seen > self._usual else DOWN_S)
        )
