"""A web worker that never was: what it does under load, look by look, on a clock that a test moves.

Open-loop Poisson traffic of three routes, bursts of ten times as much, garbage collections, imports at the start and one at midday, a cron job
in a thread, a cache that fills, log rotation, an hour without a visitor. Every number that the watchdog reads is kept, and nothing else.
"""

import math
import random
from typing import Any

from holdfast.core.detect import thresholds
from holdfast.linux.procfs import Reading
from holdfast.watchdog.remembered import Vitals
from holdfast.watchdog.vitals import Feeler
from holdfast.wire.pulse import Pulse

LOOK_S = 0.25
MB = 1 << 20
#: route: share of the traffic, processor seconds, waiting seconds
ROUTES = {"/": (0.6, 0.001, 0.004), "/search": (0.39, 0.002, 0.02), "/report": (0.01, 0.04, 0.1)}


class Process:
    """What the kernel would say."""

    def __init__(self) -> None:
        self.waited_s = 0.0

    def wait_ns(self) -> int:
        return int(self.waited_s * 1e9)


class Ward:
    """As much of a ward as is felt."""

    def __init__(self, **detect: float) -> None:
        self.name = "web"
        self.n = 1
        self.pid = 77
        self.is_ready = False
        self.started_s = self.ready_s = 0.0
        self.vitals: Vitals | None = None
        self.care: Any = self
        self.pulse = -1
        self.beat: Any = None
        self.spec: Any = self
        self.detect = {**thresholds.WORKER, "fd_leak": 0.0, **detect}
        self.memory_bytes = 1000 * MB
        self.own_log = "="
        self.ring = self.next_sample = -1
        self._process = Process()

    def process(self) -> Any:
        return self._process


class Felt(Feeler):
    """Reads the routes from the simulation, not from a file."""

    __slots__ = ("web",)
    web: "Web"

    def routes(self, ward: Any) -> list[tuple[str, int, float, float]]:
        assert ward is self.web.ward
        rows = self.web.by_route.items() if self.web.has_routes else ()
        return [(name, row[0], row[1], row[2]) for name, row in rows]


class Web:
    """The worker. Faults are switched on from outside."""

    def __init__(self, seed: int, *, base_rate: float = 50.0, **detect: float) -> None:
        self.chance = random.Random(seed)
        self.ward = Ward(**detect)
        self.feeler = Felt()
        self.feeler.web = self
        self.has_routes = True
        self.now_s = 0.0
        self.base_rate = base_rate
        self.work = self.tasks_created = self.late = self.faults = 0
        self.cpu_s = self.serving_s = self.latency_s = 0.0
        self.lag_s = 0.0
        self.own_tasks, self.threads, self.in_flight = 12, 9, 0
        self.rss = 25.0 * MB
        self.cache = self.garbage = self.heap = 0.0
        self.burst = 0.0  #: extra rate
        self.burst_until_s = 0.0
        self.log_bytes = 0
        self.by_route: dict[str, Any] = {name: [0, 0.0, 0.0] for name in ROUTES}
        self.flags: dict[str, float] = {}  #: when each flag was raised first
        self.says: dict[str, str] = {}
        self.grave: dict[str, float] = {}
        # -- faults
        self.leak_per_s = 0.0
        self.list_per_request_s = 0.0  #: each request walks a list that grew by this much
        self.walk_s = 0.0
        self.spins = False
        self.quiet = False  #: no visitor at all

    # -- one look ------------------------------------------------------------------------------------

    def look(self) -> None:
        self.now_s = round(self.now_s + LOOK_S, 6)
        now = self.now_s
        cpu = serving = 0.0
        lag = 0.003 + abs(self.chance.gauss(0, 0.004))
        self.lag_s *= 0.8
        if now < 3.0:  # imports
            cpu = serving = LOOK_S * 0.9
            self.rss += 4 * MB
        elif not self.ward.is_ready:
            self.ward.is_ready, self.ward.ready_s = True, now
        if self.ward.is_ready:
            used, served_lag = self._serve(now)
            cpu, serving = cpu + used, serving + used
            lag = max(lag, served_lag)
        if now % 1200 == 590:  # a lazy import: one block, 30 MB
            lag = 0.8
            self.rss += 30 * MB
        if (
            now % 600 < 30 and now > 30
        ):  # a cron job: another thread, processor time, memory that is given back
            cpu += LOOK_S * 0.6
            self.rss += (100 * MB / 120) if now % 600 < 29.9 else 0
            self.threads = 25
        elif self.threads == 25:
            self.rss -= 99 * MB
            self.threads = 9
        if int(now / 40) != int((now - LOOK_S) / 40):  # a full garbage collection
            cpu, serving = cpu + 0.15, serving + 0.15
            lag = max(lag, 0.16)
            self.garbage = 0.0
        self.garbage += 1 * MB / 40 * LOOK_S * self.chance.uniform(0.5, 1.5)
        self.heap = max(self.heap, self.garbage)  # what was freed is used again, not given back
        if self.spins:
            cpu, serving = LOOK_S * 0.99, LOOK_S * 0.99
        self.lag_s = max(self.lag_s, lag)
        self.late += int(lag > 0.25)
        self.cpu_s += cpu
        self.serving_s += serving
        vitals = self.ward.vitals
        steps = 5 if vitals is not None and 0 < vitals.growth.pace_s() < LOOK_S else 1
        for step in range(1, steps + 1):  # a suspect is looked at every 50 ms
            self.now_s = now - LOOK_S + LOOK_S * step / steps
            self.rss += self.leak_per_s * LOOK_S / steps
            self._feel()
        self.now_s = now

    def _serve(self, now: float) -> tuple[float, float]:
        if now > self.burst_until_s + 60 and self.chance.random() < LOOK_S / 90:
            self.burst, self.burst_until_s = self.base_rate * 9, now + self.chance.uniform(5, 40)
        rate = self.base_rate + (self.burst if now < self.burst_until_s else 0)
        mean = 0.0 if self.quiet else rate * LOOK_S
        count = max(0, round(self.chance.gauss(mean, math.sqrt(mean)))) if mean else 0
        used = 0.0
        for name, (share, cpu, wait) in ROUTES.items():
            n = (
                sum(self.chance.random() < share for _ in range(count))
                if share < 0.5
                else round(count * share)
            )
            for _ in range(n):
                self.walk_s += self.list_per_request_s
                cost = cpu * self.chance.uniform(0.7, 1.3) + self.walk_s
                used += cost
                row = self.by_route[name]
                row[0] += 1
                row[1] += cost + wait * self.chance.uniform(0.5, 2)
                row[2] += cost
        done = sum(row[0] for row in self.by_route.values())
        self.tasks_created += (done - self.work) * 2
        self.work = done
        self.latency_s = sum(row[1] for row in self.by_route.values())
        busy = min(3.0, used / LOOK_S)
        self.in_flight = round(rate * 0.02 * (1 + 3 * busy)) if mean else 0
        self.cache += (150 * MB - self.cache) * LOOK_S / 120 if mean else 0
        self.log_bytes += count * 120
        if self.log_bytes > 10 * MB:
            self.log_bytes = 0  # rotated
        return min(used, LOOK_S), 0.02 * busy + (0.1 * max(0.0, busy - 0.8))

    def _feel(self) -> None:
        ward = self.ward
        reading = object.__new__(Reading)
        transient = self.in_flight * 0.2 * MB
        reading.rss_bytes = int(self.rss + self.cache + self.heap + transient)
        reading.threads, reading.state, reading.major_faults = self.threads, "S", 0
        reading.cpu_ns = int(self.cpu_s * 100) * 10_000_000  # ticks of the kernel
        beat = object.__new__(Pulse)
        beat.lag_ns, beat.tasks = int(self.lag_s * 1e9), self.own_tasks + self.in_flight * 2
        beat.threads, beat.in_flight, beat.work_done = self.threads, self.in_flight, self.work
        beat.tasks_created, beat.threads_created = self.tasks_created, self.threads
        beat.latency_sum_ns, beat.late_ticks = int(self.latency_s * 1e9), self.late
        beat.cpu_ns, beat.start = int(self.serving_s * 1e9), 1
        beat.stuck_threads = beat.stuck_ns = beat.spins_ns = 0
        ward.beat = beat
        vitals = self.feeler.feel(ward, reading, self.now_s)  # type: ignore[arg-type]
        if self.now_s % 2 == 0:
            self.feeler.log(ward, self.log_bytes, self.now_s)  # type: ignore[arg-type]
            self.feeler.children(ward, 20 if self.threads == 25 else 1, self.now_s)  # type: ignore[arg-type]
        for flag, sign in (vitals.signs or {}).items():
            self.flags.setdefault(flag, self.now_s)
            self.says.setdefault(flag, sign.says)
            if sign.is_grave:
                self.grave.setdefault(flag, self.now_s)

    def run(self, for_s: float) -> "Web":
        until = self.now_s + for_s
        while self.now_s < until - 1e-6:
            self.look()
        return self

    def until(self, flag: str, within_s: float) -> float:
        """Look until a flag is up; return after how long."""
        began = self.now_s
        while flag not in self.flags:
            assert self.now_s - began < within_s, f"no {flag} within {within_s:g} s; {self.says}"
            self.look()
        return self.now_s - began
