"""Does memory leak, and how long until the limit?

Pure. Two looks. *Fast*: resident memory climbs now; the nearer the limit, the less proof is asked for, so that 500 MB/s is told
more than a second before the kernel kills, and an import is not told at all. Suspects are sampled every 50 ms
(:meth:`Growth.pace_s`). *Slow*: the lowest value of each few seconds climbs steadily, after the warm-up. A flag is a
reason to look; a reason to restart is only the limit itself, close by, and then when no call is under way if that can wait.
"""

from itertools import pairwise

from holdfast.core.detect.creep import NEEDED, Creep
from holdfast.core.detect.sign import Sign, size, span
from holdfast.core.detect.slope import theil_sen

#: Fast: so many points, over at most so long; at least so many.
POINTS, MEMORY_S, LEAST_POINTS = 24, 12.0, 4
#: Proof that is asked for, as a share of the time that is left; more of a worker that has
#: just begun, and of one that is not ready yet (imports, models).
PROOF, PROOF_START, PROOF_LOADING, START_S = 0.27, 0.4, 1.0, 5.0
#: A rise of at least this share of the whole slope counts as one.
STEADY = 0.2
#: Below this rate nothing is fast.
FAST_PER_S = 2e6
#: Steps between two looks that make a suspect: a share of what is free.
STEP = 0.01
#: It has to have used this share of its limit to be flagged for the time that is left: a batch that loads its tables once does so at any
#: speed, and stops. Where only seconds are left, less is enough.
USED, USED_SOON, SOON_S = 0.5, 0.15, 4.0
#: Restart: this little time left and this much used; without a call under way from twice that on.
GRAVE_S, GRAVE_USED, GRAVE_FULL = 3.0, 0.7, 0.97
#: With calls under way it waits as long as this is left.
LAST_S = 1.5
#: Slow: the creep of chunks of 4.5 s; told when it began at this rate or more and the limit is within three days.
CHUNK_S, SLOW_PER_S, HORIZON_S = 4.5, 30e3, 3 * 86400.0
#: A fast climb is over when there was none for this long.
CALM_S = 4.0


class Growth:
    """Memory of one worker."""

    __slots__ = ("_calm_s", "_creep", "_last", "_last_s", "_left_s", "_per_s", "_points", "is_fast")

    def __init__(self) -> None:
        self._creep = Creep(CHUNK_S)
        self._last = -1
        self._last_s = 0.0
        self._points: list[tuple[float, float]] | None = None  #: only of suspects
        self._per_s = 0.0
        self._left_s = -1.0
        self._calm_s = -1.0
        self.is_fast = False

    def add(
        self,
        now_s: float,
        rss: int,
        limit: int,
        *,
        left_limit_s: float,
        age_s: float,
        warm_up_s: float,
        in_flight: int = 0,
        is_ready: bool = True,
        is_bound: bool = True,
    ) -> "Sign | None":
        """Take in one look.

        Args:
            now_s: Monotonic seconds.
            rss: Resident memory in bytes.
            limit: What it may have; where there is no limit, what the box has.
            left_limit_s: Told when the limit is closer than this.
            age_s: Age of the worker, since it was ready.
            warm_up_s: Age from which steady growth is a leak.
            in_flight: Calls under way.
            is_ready: Whether it has started; imports are no leak.
            is_bound: The limit is the worker's own: there is something to restart for.
        """
        before, before_s, self._last, self._last_s = self._last, self._last_s, rss, now_s
        free = max(1, limit - rss)
        climbs = 0 <= before < rss and (
            rss - before > STEP * free * min(1.0, (now_s - before_s) * 4)
            or (rss - before) / max(1e-3, now_s - before_s) > free / left_limit_s
        )
        if climbs and self._points is None:
            self._points = [(before_s, float(before))]
        if self._points is not None:
            self._climb(now_s, rss, climbs)
        self._per_s = theil_sen(self._points) if self._points and len(self._points) > 2 else 0.0
        self._left_s = free / self._per_s if self._per_s > 0 else -1.0
        is_starting = not is_ready or age_s < START_S
        proof = PROOF if not is_starting else PROOF_START if is_ready else PROOF_LOADING
        self._weigh(now_s, rss, limit, left_limit_s, proof)
        # What is loaded at the start is no growth.
        creeps = not is_starting and self._creep.add(now_s, rss, SLOW_PER_S * CHUNK_S * NEEDED)
        slow_per_s = self._creep.per_s()
        is_slow = creeps and age_s > warm_up_s + self._creep.seconds() / 3 and is_ready
        is_slow = is_slow and slow_per_s > 0 and free / slow_per_s < HORIZON_S
        if not self.is_fast and not is_slow:
            return None
        per_s = self._per_s if self.is_fast and self._per_s > 0 else slow_per_s
        left_s = free / per_s if per_s > 0 else HORIZON_S
        return self._sign(
            rss, limit, per_s, left_s, in_flight, left_limit_s,
            is_grave=is_bound and not is_starting,
        )  # fmt: skip

    def _sign(
        self,
        rss: int,
        limit: int,
        per_s: float,
        left_s: float,
        in_flight: int,
        left_limit_s: float,
        *,
        is_grave: bool,
    ) -> Sign:
        is_near = left_s < GRAVE_S and rss > GRAVE_USED * limit
        is_full = rss > GRAVE_FULL * limit
        can_go = is_near and (not in_flight or left_s < LAST_S)
        idle = not in_flight and rss > GRAVE_USED * limit and left_s < 2 * GRAVE_S
        says = (
            f"memory grows by {size(per_s)} a second: {size(rss)} of {size(limit)} are used, "
            f"the rest lasts {span(left_s)}"
        )
        return Sign(left_s, left_limit_s, says, is_grave=is_grave and (can_go or is_full or idle))

    def _climb(self, now_s: float, rss: int, climbs: bool) -> None:
        points = self._points
        if points is None:
            return
        points.append((now_s, float(rss)))
        if len(points) > POINTS:
            # Every second of the older half goes: long climbs stay visible, and near ones fine.
            del points[1 : POINTS // 2 : 2]
        while len(points) > 2 and points[0][0] < now_s - MEMORY_S:
            del points[0]
        if climbs:
            self._calm_s = -1.0
        elif self._calm_s < 0:
            self._calm_s = now_s
        elif now_s - self._calm_s > CALM_S:
            self._points, self._calm_s = None, -1.0

    def _weigh(self, now_s: float, rss: int, limit: int, left_limit_s: float, proof: float) -> None:
        points, left_s = self._points, self._left_s
        if points is None or left_s < 0:
            self.is_fast = False
            return
        if self.is_fast:
            # Once told, it holds until it has been calm: a pause of a second is no cure.
            return
        # A step (one big allocation) is followed by next to nothing.
        fair = STEADY * self._per_s
        rising = sum(1 for a, b in pairwise(points) if b[1] - a[1] > fair * (b[0] - a[0]))
        self.is_fast = (
            len(points) >= LEAST_POINTS
            and self._per_s > FAST_PER_S
            and left_s < left_limit_s
            and now_s - points[0][0] >= proof * left_s
            and rss > (USED_SOON if left_s < SOON_S else USED) * limit
            and rising >= 0.75 * (len(points) - 1)
        )

    def pace_s(self) -> float:
        """Return how soon it wants to be looked at again; 0 when it does not matter."""
        if self._points is None:
            return 0.0
        return 0.05 if self._left_s < 0 or self._left_s < 10.0 else 0.25
