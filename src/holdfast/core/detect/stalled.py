"""Do requests begin and not end: does service stand still while the worker looks well?

Pure. What has ended is :mod:`holdfast.core.detect.effort`'s business; a route whose requests suddenly take half a minute has no ended ones
for half a minute. So this looks at the age of those under way, by route, against the route's own past: a third of them (three at least) are far
older than its requests ever get, and hardly any ends. What waits is told by the agent (:mod:`holdfast.agent.waiting`): a
pool whose connections nobody gives back, a server that does not answer. Long polls and downloads have a past that says how long they take;
a route on which nothing has ended yet has none, and one slow request is no standstill.

A program without requests is asked for the waits of its tasks and threads for what others hold (:class:`Queue`).
"""

from holdfast.core.detect.sign import Sign, span

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    #: name, count, latency in seconds, processor seconds: all of them cumulative
    Route = tuple[str, int, float, float]
    #: name, how many, age of a third of them, of the oldest, latency of the slowest of late (seconds)
    Open = tuple[str, int, float, float, float]

#: Younger than this nothing is old.
LEAST_S = 2.0
#: So many have to have ended before there is a past.
KNOWN = 20
#: Of a route that is asked for rarely nothing is missed soon: this many times more patience.
RARE, EXPECTED = 4.0, 3.0
#: Less than this share of the usual rate is hardly any.
FEW = 0.25
#: Time constants: of the usual rate, and of the one right now.
USUAL_S, NOW_S = 60.0, 1.5
#: Latency is learned quickly upwards and slowly downwards: it is how long they may take.
RISES, FALLS = 0.5, 0.02
#: Looks in a row until it is believed, and until it is over.
LOOKS, WELL_LOOKS = 2, 3
#: Grave when nothing at all has ended on these routes for so long.
GRAVE_S = 60.0
MAX_ROUTES = 24


class Past:
    """What is usual on one route."""

    __slots__ = ("count", "ended", "latency_s", "looks", "now", "rate")

    def __init__(self, count: int) -> None:
        self.count = count  #: that had ended at the last look
        self.ended = 0  #: since this is remembered
        self.looks = 0
        self.latency_s = 0.0
        self.rate = 0.0  #: ends a second
        self.now = 0.0  #: the same, right now


class Stalled:
    """One worker. How long its requests take stays known over its lives."""

    __slots__ = ("_at_s", "_last", "_looks", "_past", "_since_s", "_well", "is_up")

    def __init__(self) -> None:
        self._past: dict[str, Past] = {}
        self._last: dict[str, float] = {}  #: sums of latency
        self._at_s = -1.0
        self._looks = self._well = 0
        self._since_s = 0.0
        self.is_up = False

    def restart(self) -> None:
        """Another life: its counters begin anew, what is usual stays."""
        self._at_s = -1.0
        self._last = {}
        self._looks = self._well = 0
        self.is_up = False
        for past in self._past.values():
            past.count = 0
            past.now = past.rate

    def add(
        self, now_s: float, routes: "Iterable[Route]", under_way: "Sequence[Open]", limit: float
    ) -> "Sign | None":
        """Take in one look, about once a second.

        Args:
            now_s: Monotonic seconds.
            routes: What has ended so far.
            under_way: What has not.
            limit: Times the past.
        """
        passed_s, self._at_s = now_s - self._at_s if self._at_s >= 0 else 0.0, now_s
        fresh = self._count(routes, passed_s)
        stuck = [one for one in under_way if self._is_stuck(one, limit)]
        self._looks = self._looks + 1 if stuck else 0
        if self._looks >= LOOKS and not self.is_up:
            self.is_up = True
            self._since_s = now_s - stuck[0][2]
        self._well = 0 if stuck else self._well + 1
        if self.is_up and self._well >= WELL_LOOKS:
            self.is_up = False
        if not self.is_up:
            if not stuck:
                self._learn(fresh, passed_s)
            return None
        if any(ended for name, ended, _ in fresh if any(name == one[0] for one in stuck)):
            self._since_s = now_s
        return self._sign(now_s, stuck, limit)

    def _count(self, routes: "Iterable[Route]", passed_s: float) -> "list[tuple[str, int, float]]":
        """Return (route, how many ended since the last look, latency of each)."""
        found = []
        for name, count, latency_s, _ in routes:
            past = self._past.get(name)
            if past is None:
                if len(self._past) < MAX_ROUTES:
                    self._past[name] = Past(count)
                    self._last[name] = latency_s
                continue
            ended, past.count = max(0, count - past.count), count
            spent_s = latency_s - self._last.get(name, 0.0)
            self._last[name] = latency_s
            if passed_s > 0:
                past.now += (ended / passed_s - past.now) * min(1.0, passed_s / NOW_S)
            found.append((name, ended, max(0.0, spent_s) / max(1, ended)))
        return found

    def _is_stuck(self, one: "Open", limit: float) -> bool:
        name, _, third_s, _, slowest_s = one
        past = self._past.get(name)
        if past is None or past.ended < KNOWN or third_s <= 0:
            return False
        patience = limit if past.rate * third_s >= EXPECTED else limit * RARE
        if third_s <= max(LEAST_S, patience * past.latency_s, slowest_s):
            return False
        return past.now <= FEW * past.rate

    def _learn(self, fresh: "list[tuple[str, int, float]]", passed_s: float) -> None:
        if passed_s <= 0:
            return
        for name, ended, latency_s in fresh:
            past = self._past[name]
            past.looks += 1
            weight = max(1.0 / past.looks, min(1.0, passed_s / USUAL_S))
            past.rate += (ended / passed_s - past.rate) * weight
            if ended:
                first = not past.ended
                past.ended += ended
                weight = 1.0 if first else RISES if latency_s > past.latency_s else FALLS
                past.latency_s += (latency_s - past.latency_s) * weight

    def _sign(self, now_s: float, stuck: "list[Open]", limit: float) -> Sign:
        if not stuck:
            return Sign(0.0, limit, "requests that waited begin to end again")
        worst = max(stuck, key=lambda one: one[1])
        usual_s = self._past[worst[0]].latency_s
        how_many = f"{sum(one[1] for one in stuck)} requests are"
        others = f" and {len(stuck) - 1} other routes" if len(stuck) > 1 else ""
        for_s = now_s - self._since_s
        says = (
            f"{how_many} under way on {worst[0]}{others} and hardly any ends: a third of them for {span(worst[2])} or longer,"
            f" usually they take {span(usual_s)}"
        )
        return Sign(worst[2], limit * usual_s, says, is_grave=for_s >= GRAVE_S)


#: Without a past a pool may keep people waiting for so long, anything else (a crawler's semaphore, a full queue) for much longer.
POOL_S, OTHERS_S = 20.0, 300.0
#: With one, it is many times that, and this at least.
SHORTEST_S = 5.0
#: So many have to wait, and so many turns to have come before there is a past.
WAITERS, TURNS = 3, 3


def queue(
    waiters: int, for_s: float, before_s: float, turns: int, is_pool: bool, limit: float
) -> "Sign | None":
    """Return what is to be said of tasks and threads that wait for something that others hold, and nobody's turn comes.

    Args:
        waiters: How many wait.
        for_s: Since when nobody's turn has come.
        before_s: The longest such time before that ended.
        turns: How many turns came so far.
        is_pool: Whether connections are what it lends.
        limit: Times the past.
    """
    if waiters < WAITERS:
        return None
    unknown_s = 0.0 if turns >= TURNS else POOL_S if is_pool else OTHERS_S
    patience_s = max(SHORTEST_S, limit * before_s, unknown_s)
    if for_s < patience_s:
        return None
    past = f"; before, that took {span(before_s)} at most" if turns else ""
    says = f"{waiters} tasks or threads wait for something that others have, and nobody's turn has come for {span(for_s)}{past}"
    return Sign(for_s, patience_s, says)
