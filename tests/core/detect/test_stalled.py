"""Requests that begin and do not end: what is told of them, and of whom nothing is said."""

import random

import pytest

from holdfast.core.detect.sign import Sign
from holdfast.core.detect.stalled import Stalled, queue

LIMIT = 5.0


class Route:
    """One route of a worker, second by second: requests come, and end after so long."""

    def __init__(self, name: str, *, rate: float, takes_s: float, spread: float = 0.3) -> None:
        self.name = name
        self.rate = rate
        self.takes_s = takes_s
        self.spread = spread
        self.chance = random.Random(5)
        self.clients = 0  #: at most so many at once; 0: they never wait for each other
        self.under_way: list[tuple[float, float]] = []  #: began, ends
        self.count, self.latency_s, self.slowest_s = 0, 0.0, 0.0
        self.owed = 0.0

    def second(self, now_s: float) -> None:
        self.owed += self.rate
        while self.owed >= 1:
            self.owed -= 1
            if self.clients and len(self.under_way) >= self.clients:
                continue
            takes_s = self.takes_s * self.chance.uniform(1 - self.spread, 1 + self.spread)
            self.under_way.append((now_s, now_s + takes_s))
        for began_s, ends_s in list(self.under_way):
            if ends_s <= now_s + 1:
                self.under_way.remove((began_s, ends_s))
                self.count += 1
                self.latency_s += ends_s - began_s
                self.slowest_s = max(self.slowest_s, ends_s - began_s)

    def open(self, now_s: float) -> tuple[str, int, float, float, float]:
        ages = sorted((now_s + 1 - began_s for began_s, _ in self.under_way), reverse=True)
        third = max(3, -(-len(ages) // 3))
        third_s = ages[third - 1] if len(ages) >= third else 0.0
        return (self.name, len(ages), third_s, max(ages, default=0.0), self.slowest_s)


class Worker:
    """Its routes, looked at once a second."""

    def __init__(self, *routes: Route) -> None:
        self.routes = routes
        self.detector = Stalled()
        self.now_s = 0.0
        self.said: list[tuple[float, Sign]] = []

    def run(self, for_s: float) -> "Worker":
        for _ in range(int(for_s)):
            for route in self.routes:
                route.second(self.now_s)
            sign = self.detector.add(
                self.now_s,
                [(r.name, r.count, r.latency_s, 0.0) for r in self.routes],
                [r.open(self.now_s) for r in self.routes if r.under_way],
                LIMIT,
            )
            self.now_s += 1.0
            if sign is not None:
                self.said.append((self.now_s, sign))
        return self


def stops(route: Route) -> None:
    """From now on nothing ends there: not what is under way, not what comes."""
    route.takes_s = 1e9
    route.under_way = [(began_s, 1e9) for began_s, _ in route.under_way]


# -- detects ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("takes_s", [0.01, 0.1, 0.3])
def test_a_route_that_stops_answering_is_found_within_five_seconds(takes_s: float) -> None:
    """A pool is exhausted: for half a minute, until the first timeouts, no request has ended and no number has moved."""
    route = Route("GET /users", rate=20, takes_s=takes_s)
    worker = Worker(route, Route("GET /health", rate=1, takes_s=0.001)).run(60)
    stops(route)
    worker.run(15)

    at_s, sign = worker.said[0]
    assert at_s - 60 <= 5.0
    assert "GET /users" in sign.says
    assert "/health" not in sign.says
    assert not sign.is_grave


def test_a_few_clients_that_all_wait_are_enough() -> None:
    """Eight threads of a server, and each of them waits: nothing new can begin either."""
    route = Route("GET /users", rate=40, takes_s=0.05)
    route.clients = 8
    worker = Worker(route).run(60)
    stops(route)
    worker.run(8)

    assert worker.said


def test_what_never_goes_on_becomes_grave_and_what_does_is_over() -> None:
    route = Route("GET /users", rate=20, takes_s=0.1)
    worker = Worker(route).run(60)
    stops(route)
    worker.run(80)

    assert worker.said[-1][1].is_grave

    route.takes_s, route.under_way = 0.1, []
    worker.said.clear()
    worker.run(30)

    assert not worker.said or worker.said[-1][0] < 60 + 80 + 6


def test_a_restart_does_not_make_it_usual() -> None:
    """The next life stalls as well, and has no minute of health to learn from."""
    route = Route("GET /users", rate=20, takes_s=0.1)
    worker = Worker(route).run(60)
    stops(route)
    worker.run(20)
    worker.detector.restart()
    route.count, route.latency_s, route.under_way = 0, 0.0, []
    worker.said.clear()
    worker.run(10)

    assert worker.said


# -- stays silent ------------------------------------------------------------------------------------


def test_long_polls_are_how_that_route_is() -> None:
    """A hundred browsers that wait for news are not a hundred requests that hang."""
    polls = Route("GET /events", rate=4, takes_s=25)
    worker = Worker(polls, Route("GET /", rate=10, takes_s=0.05)).run(300)
    polls.takes_s = 40  # a quiet evening: nearly all wait until the end
    worker.run(200)

    assert not worker.said


def test_polls_that_end_early_while_there_is_news_may_wait_when_there_is_none() -> None:
    polls = Route("GET /events", rate=5, takes_s=10, spread=0.99)
    polls.clients = 40
    worker = Worker(polls).run(300)
    polls.takes_s, polls.spread = 19, 0.05
    worker.run(200)

    assert not worker.said


def test_streams_that_never_end_have_no_past() -> None:
    streams = Route("GET /stream", rate=0.2, takes_s=1e9)
    worker = Worker(streams, Route("GET /", rate=10, takes_s=0.05)).run(600)

    assert not worker.said


def test_one_slow_request_is_no_standstill() -> None:
    route = Route("GET /report", rate=5, takes_s=0.1)
    worker = Worker(route).run(60)
    route.under_way.append((worker.now_s, worker.now_s + 60))
    worker.run(70)

    assert not worker.said


def test_ten_times_the_traffic_takes_longer_but_ends() -> None:
    route = Route("GET /", rate=20, takes_s=0.2)
    worker = Worker(route).run(120)
    route.rate, route.takes_s = 200, 1.5
    worker.run(40)
    route.rate, route.takes_s = 20, 0.2
    worker.run(60)

    assert not worker.said


def test_a_night_without_visitors_is_silent() -> None:
    route = Route("GET /", rate=20, takes_s=0.2)
    worker = Worker(route).run(120)
    route.rate = 0
    worker.run(300)
    route.rate = 20
    worker.run(60)

    assert not worker.said


def test_a_route_that_is_asked_for_rarely_gets_more_patience() -> None:
    """Three people ask for their yearly report at once."""
    route = Route("POST /report", rate=0.1, takes_s=2)
    worker = Worker(route).run(900)
    route.under_way += [(worker.now_s, worker.now_s + 20)] * 3
    worker.run(60)

    assert not worker.said


def test_before_anything_has_ended_nothing_is_known() -> None:
    """It starts, and the first requests wait for a cache to fill."""
    worker = Worker(Route("GET /", rate=20, takes_s=20)).run(19)

    assert not worker.said


# -- tasks and threads that wait for what others hold --------------------------------------------------


def test_a_pool_whose_turn_never_comes_is_told() -> None:
    sign = queue(8, 12.0, 1.2, 40, True, LIMIT)

    assert sign is not None
    assert "nobody's turn has come for 12 s" in sign.says
    assert not sign.is_grave
    assert queue(8, 25.0, 0.0, 0, True, LIMIT) is not None


@pytest.mark.parametrize(
    ("waiters", "for_s", "before_s", "turns", "is_pool"),
    [
        (2, 900.0, 1.0, 50, True),  # two are no queue
        (900, 40.0, 10.0, 50, False),  # a crawler: each page takes ten seconds
        (900, 120.0, 0.0, 0, False),  # the first pages are slow ones
        (12, 4.0, 0.1, 500, True),  # a busy moment
        (12, 15.0, 0.0, 0, True),  # the first moment of all
    ],
)
def test_a_queue_that_moves_as_it_always_did_is_silent(
    waiters: int, for_s: float, before_s: float, turns: int, is_pool: bool
) -> None:
    assert queue(waiters, for_s, before_s, turns, is_pool, LIMIT) is None
