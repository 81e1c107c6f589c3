"""Does a unit of work cost more than it used to: slow, but alive?

Pure. Processor time for each unit of work, by route, against the worker's own past: the health check answers in a millisecond
while every call walks a list that grows. By route, because a change of the mix is no sickness; against the past,
because nobody knows a fixed number. Latency is the confirmation (:mod:`holdfast.core.detect.drift`), and alone a
reason to look when calls wait for something (a database) without burning anything.
"""

from math import log, sqrt

from holdfast.core.detect.drift import Drift
from holdfast.core.detect.sign import Sign, span

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    #: name, count, latency in seconds, processor seconds: all of them cumulative
    Route = tuple[str, int, float, float]

#: One look is a chunk of at least this long and this many units; it is given up after ``GIVE_UP_S``.
CHUNK_S, LEAST, GIVE_UP_S = 1.0, 20, 15.0
#: Chunks in a row: where routes are known, where some are measured for all and those of the dearest route differ, and where a night job may
#: be mixed in.
BY_ROUTE, VARIED, MIXED = 2, 4, 8
#: They differ by such a share of what one costs. From the second one on a lot is larger, so that its mean is as good as that of others.
DIFFER, EVEN = 0.5, 0.3
#: What is extra has to be worth this share of a processor.
EXTRA = 0.04
#: Time constants of the baseline, in lots of so many units (or in chunks with more): it falls quickly and rises slowly. Of fewer units it
#: would follow the luckiest: a report over a day costs a tenth of one over a month.
FALLS, RISES, LOT = 8, 300, 40
#: What is extra has to be this many times what chance makes of so many units: requests of one route do not cost the same.
CHANCE = 5.0
#: Well again below this share of the limit, for so many chunks.
WELL, WELL_CHUNKS = 0.75, 4
#: Grave: this much more than the limit, for so many chunks, and latency agrees.
GRAVE, GRAVE_CHUNKS = 1.5, 10
#: Latency alone.
LATENCY, LATENCY_CHUNKS = 4.0, 10
#: A burst of this many times the usual rate explains latency, and so does waiting for a processor for this share of the time.
BURST, STARVED = 3.0, 0.25
MAX_ROUTES = 24


class Base:
    """What a unit of work of one route costs, and how much that varies from one to the next."""

    __slots__ = (
        "_count",
        "_cpu_s",
        "_latency_s",
        "_looks",
        "_lots",
        "_unit",
        "cpu_s",
        "latency_s",
        "noise_s",
    )

    def __init__(self, count: int, latency_s: float, cpu_s: float) -> None:
        self.cpu_s = cpu_s / count
        self.latency_s = latency_s / count
        #: Spread of one unit. Before more is known, another may well cost thrice as much.
        self.noise_s = 2.0 * self.cpu_s
        self._unit = (float(count), self.cpu_s)
        self._looks, self._lots = 1, 0
        self._count, self._latency_s, self._cpu_s = count, latency_s, cpu_s

    def learn(self, count: int, latency_s: float, cpu_s: float, share: float = 1.0) -> None:
        """Take in another chunk: so many units, and what they cost together, of which this share was measured."""
        # From one chunk to the next: what grows steadily is no noise.
        before, unit_s = self._unit
        measured = max(1.0, count * share)
        self._unit = (measured, cpu_s / count)
        self._looks = min(60, self._looks + 1)
        moved_s = abs(self._unit[1] - unit_s) * sqrt(measured * before / (measured + before))
        self.noise_s += (moved_s - self.noise_s) / self._looks
        self._count += count
        self._latency_s += latency_s
        self._cpu_s += cpu_s
        lot = (self._cpu_s / self._count, self._latency_s / self._count)
        lot_size = LOT * max(1.0, self.differ() / EVEN) ** 2
        if not self._lots:
            self.cpu_s, self.latency_s = lot
        elif self._count >= lot_size:
            self.cpu_s += (lot[0] - self.cpu_s) / self._inertia(lot[0] < self.cpu_s)
            self.latency_s += (lot[1] - self.latency_s) / self._inertia(lot[1] < self.latency_s)
        if self._count >= lot_size:
            self._lots += 1
            self._count, self._latency_s, self._cpu_s = 0, 0.0, 0.0

    def differ(self) -> float:
        """Return by how much one unit differs from the next, as a share of what it costs."""
        return self.noise_s / self.cpu_s if self.cpu_s > 0 else 0.0

    def _inertia(self, falls: bool) -> float:
        return min(self._lots, FALLS) if falls else min(4 * self._lots, RISES)


class Effort:
    """One worker. What it has learned stays valid over its lives: a restart does not make slow work normal."""

    __slots__ = (
        "_at_s", "_base", "_drift", "_grave", "_last", "_pace", "_rate", "_routes", "_slow", "_waited_s", "_waits", "_well", "is_up",
        "latency_ratio", "ratio", "unit_s",
    )  # fmt: skip

    def __init__(self) -> None:
        self._at_s = -1.0
        self._last = (0.0, 0, 0.0)
        self._routes: dict[str, Route] = {}
        self._base: dict[str, Base] = {}
        self._drift = Drift()
        self._rate = self._pace = self._waited_s = 0.0
        self._slow = self._well = self._grave = self._waits = 0
        self.ratio = self.latency_ratio = 1.0
        self.unit_s = -1.0  #: processor time of a unit of work, in the last chunk
        self.is_up = False

    def restart(self) -> None:
        """Another life: its counters begin anew, and so does the proof."""
        self._at_s = -1.0
        self._routes = {}
        self._drift = Drift()
        self._slow = self._well = self._grave = self._waits = 0
        self.ratio = self.latency_ratio = 1.0
        self.unit_s = -1.0  #: processor time of a unit of work, in the last chunk
        self.is_up = False

    def skip(self) -> None:
        """Forget the chunk that is under way: what it cost was our own doing."""
        self._at_s = -1.0

    def is_due(self, now_s: float, work: int) -> bool:
        """Whether a chunk is full: only then the routes need to be read."""
        if self._at_s < 0:
            return True
        passed_s = now_s - self._at_s
        return passed_s >= CHUNK_S and (work - self._last[1] >= LEAST or passed_s >= GIVE_UP_S)

    def add(
        self,
        now_s: float,
        cpu_s: float,
        work: int,
        latency_s: float,
        routes: "Sequence[Route]",
        limit: float,
        *,
        waited_s: float = 0.0,
        is_crowded: bool = False,
        measured_per_s: float = 0.0,
    ) -> "Sign | None":
        """Take in a full chunk.

        Args:
            now_s: Monotonic seconds.
            cpu_s: Processor time of the serving thread so far.
            work: Units of work done so far.
            latency_s: Sum of their latency so far; 0 where nobody counts it.
            routes: The same by route; empty where nobody knows.
            limit: Times the past.
            waited_s: Time on the run queue so far.
            is_crowded: The machine has no processor to spare.
            measured_per_s: The processor time of so many units a second is measured, and stands for that of the others; 0: of all.
        """
        waited_s, self._waited_s = waited_s - self._waited_s, waited_s
        before_s, (last_cpu_s, last_work, last_latency_s) = self._at_s, self._last
        last_routes, self._routes = self._routes, {route[0]: route for route in routes[:MAX_ROUTES]}
        self._at_s, self._last = now_s, (cpu_s, work, latency_s)
        passed_s, done = now_s - before_s, work - last_work
        if before_s < 0 or passed_s <= 0 or done < LEAST:
            self.unit_s = -1.0
            return self._sign(limit, "")
        self.unit_s = max(0.0, cpu_s - last_cpu_s) / done
        parts = [
            (name, count - old[1], seconds - old[2], cpu - old[3])
            for name, count, seconds, cpu in self._routes.values()
            if (old := last_routes.get(name, (name, 0, 0.0, 0.0)))[1] < count
        ]
        is_mixed = not parts or sum(part[3] for part in parts) <= 0
        if is_mixed:
            parts = [("", done, latency_s - last_latency_s, cpu_s - last_cpu_s)]
        # How many are measured follows the rate of a moment ago.
        pace, self._pace = max(done / passed_s, self._pace), done / passed_s
        share = min(1.0, measured_per_s / pace) if measured_per_s else 1.0
        worst = self._weigh(parts, passed_s, done, share)
        is_starved = is_crowded or waited_s > STARVED * passed_s
        dearest = self._base.get(worst)
        differs = share < 1.0 and dearest is not None and dearest.differ() > DIFFER
        self._judge(
            parts, passed_s, limit, is_mixed=is_mixed, is_starved=is_starved, differs=differs
        )
        self._learn(parts, done / passed_s, limit, share)
        return self._sign(limit, worst)

    def _weigh(self, parts: "list[Route]", passed_s: float, done: int, share: float) -> str:
        """Compare this chunk with what it should have cost; return the route that costs most of the rest."""
        expected = actual = expected_latency = actual_latency = chance = 0.0
        most, worst = 0.0, ""
        for name, count, latency_s, cpu_s in parts:
            base = self._base.get(name)
            if base is None:
                continue
            expected += count * base.cpu_s
            actual += cpu_s
            # A few that are measured, of units that differ, may all be dear ones.
            chance += base.noise_s * base.noise_s * count / share
            expected_latency += count * base.latency_s
            actual_latency += latency_s
            if cpu_s - count * base.cpu_s > most:
                most, worst = cpu_s - count * base.cpu_s, name
        # Below 20 µs a unit nothing is slow, and clocks are coarse.
        expected = max(expected, 20e-6 * done)
        is_much = actual - expected >= max(EXTRA * passed_s, CHANCE * sqrt(chance))
        self.ratio = actual / expected if is_much else min(1.0, actual / expected)
        self.latency_ratio = (
            actual_latency / expected_latency
            if expected_latency > 0 and actual_latency - expected_latency > 0.005 * done
            else 1.0
        )
        return worst

    def _judge(
        self, parts: "list[Route]", passed_s: float, limit: float, *, is_mixed: bool, is_starved: bool, differs: bool
    ) -> None:  # fmt: skip
        latency_s = sum(part[2] for part in parts) / max(1, sum(part[1] for part in parts))
        drifts = latency_s > 0 and self._drift.add(log(latency_s))
        rate = sum(part[1] for part in parts) / passed_s
        is_burst = self._rate > 0 and rate > BURST * self._rate
        self._slow = self._slow + 1 if self.ratio > limit else 0
        waits = drifts and self.latency_ratio > LATENCY and not (is_burst or is_starved)
        self._waits = self._waits + 1 if waits else 0
        if (
            self._slow >= (MIXED if is_mixed else VARIED if differs else BY_ROUTE)
            or self._waits >= LATENCY_CHUNKS
        ):
            self.is_up = True
        is_well = self.ratio < WELL * limit and self.latency_ratio < LATENCY / 2
        self._well = self._well + 1 if is_well else 0
        if self._well >= WELL_CHUNKS:
            self.is_up = False
        is_grave = self.is_up and self.ratio > GRAVE * limit and self.latency_ratio > limit
        self._grave = self._grave + 1 if is_grave else 0

    def _learn(self, parts: "list[Route]", rate: float, limit: float, share: float) -> None:
        self._rate += (rate - self._rate) / (30 if self._rate else 1)
        if self.is_up or self.ratio > 0.75 * limit or self.latency_ratio > 2.0:
            return
        for name, count, latency_s, cpu_s in parts:
            base = self._base.get(name)
            if base is not None:
                base.learn(count, latency_s, cpu_s, share)
            elif len(self._base) < MAX_ROUTES + 1:
                self._base[name] = Base(count, latency_s, cpu_s)

    def _sign(self, limit: float, worst: str) -> "Sign | None":
        if not self.is_up:
            return None
        where = f" (most of it in {worst})" if worst else ""
        if self.ratio > self.latency_ratio or self.ratio > limit:
            says = f"a unit of work costs {self.ratio:.1f} times the processor time that it used to{where}"
            value = self.ratio
            base = self._base.get(worst)
            if base is not None:
                says += f"; usual: {span(base.cpu_s)}"
        else:
            says = f"work takes {self.latency_ratio:.1f} times as long as it used to, without more processor time{where}"
            value = self.latency_ratio
        return Sign(value, limit, says, is_grave=self._grave >= GRAVE_CHUNKS)
