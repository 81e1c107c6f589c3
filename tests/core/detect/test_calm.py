"""What a normal hour has in it, and no detector may speak of: one story for each false flag that `bench/calm.py` ever saw."""

import random
from collections.abc import Callable
from typing import Any

import pytest

from holdfast.core.detect.effort import Effort
from holdfast.core.detect.growth import Growth
from holdfast.core.detect.lag import Lag
from holdfast.core.detect.swarm import Swarm
from holdfast.wire.pulse import MEASURED_PER_S

MB = 1 << 20


def swarm(numbers: list[int], limit: float, what: str, factor: float, **how: Any) -> list[Any]:
    found = Swarm()
    return [
        found.add(
            at / 4,
            number,
            limit,
            what=what,
            factor=factor,
            age_s=60.0 + at / 4,
            may_batch=what == "tasks",
            **how,
        )
        for at, number in enumerate(numbers)
    ]


def test_a_batch_of_two_thousand_tasks_that_is_gone_within_two_seconds_is_no_bomb() -> None:
    """`asyncio.gather` over the rows of a table is what gather is for; five thousand that stay are told at once."""
    calm = [20] * 40
    batch = [2014, 2014, 1900, 1400, 700, 300, 20, 20]

    assert swarm((calm + batch) * 5, 1000.0, "tasks", 10.0) == [None] * 240
    assert swarm([*calm, 5020], 1000.0, "tasks", 10.0)[-1] is not None


def test_two_thousand_tasks_that_stay_are_told_after_three_seconds() -> None:
    """A slow bomb is a bomb."""
    signs = swarm([20] * 40 + [2014] * 13, 1000.0, "tasks", 10.0)

    assert signs[-2] is None
    assert signs[-1].says == "2,014 tasks (usually 20)"


def grow(path: Callable[[float], float], seconds: float, limit: int) -> list[Any]:
    """Return what is said of memory that is ``path(second)`` megabytes, looked at as the detector asks for."""
    growth, now_s, signs = Growth(), 0.0, []
    while now_s < seconds:
        sign = growth.add(
            now_s, int(path(now_s) * MB), limit, left_limit_s=30.0, age_s=60.0 + now_s, warm_up_s=30.0
        )  # fmt: skip
        signs.append(sign)
        now_s += growth.pace_s() or 0.25
    return signs


def test_tables_that_are_loaded_once_are_no_leak_at_any_speed() -> None:
    """A batch goes from 50 to 400 MB of its 1 GB within ten seconds, an index within four; then both stay there."""
    for rate in (35, 66, 100):
        loads = grow(lambda s, rate=rate: min(400, 50 + rate * max(0, s - 5)), 30, 1024 * MB)  # type: ignore[misc]
        assert not any(loads)


def test_a_leak_is_told_in_time_all_the_same() -> None:
    """Eight seconds before the limit at 50 MB/s, more than one at 500: what a person, or a restart between two calls, needs."""
    for rate, least_s in ((50, 8.0), (500, 1.2)):
        signs = grow(lambda s, rate=rate: 20 + rate * max(0, s - 5), 30, 1000 * MB)  # type: ignore[misc]
        first = next(sign for sign in signs if sign)
        assert first.value >= least_s


def test_a_burst_of_events_that_nobody_gets_a_processor_for_is_given_longer() -> None:
    """Thirty busy programs on two processors: five thousand events were handled late, one task each, and none stayed."""
    calm, late = [4] * 40, [1607] * 30

    assert swarm([*calm, *late, 4, 4], 1000.0, "tasks", 10.0, is_crowded=True) == [None] * 72
    assert (
        swarm([*calm, *late, *late, *late], 1000.0, "tasks", 10.0, is_crowded=True)[-1] is not None
    )


class Reports:
    """A few reports among many pages: one over a month costs fifteen times as much as one over a day.

    Every two minutes everything is asked for ten times as often, and costs half as much again: two processors of a virtual machine are often
    one of the host, and share its caches.
    """

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.effort = Effort()
        self.counts = {"/": 0, "/report": 0}
        self.cpu_s = {"/": 0.0, "/report": 0.0}
        self.now_s, self.times = 0.0, 1.0

    def second(self) -> Any:
        self.now_s += 1.0
        is_spike = self.now_s % 120 > 100
        rate, dear = (120.0, 1.5) if is_spike else (12.0, 1.0)
        for route, share in (("/", 0.9), ("/report", 0.1)):
            for _ in range(int(rate * share + self.chance.random())):
                cost_s = (
                    self.chance.choice((0.0008, 0.004, 0.012)) if route == "/report" else 0.0005
                )
                self.counts[route] += 1
                self.cpu_s[route] += cost_s * self.times * dear
        done, spent_s = sum(self.counts.values()), sum(self.cpu_s.values())
        if not self.effort.is_due(self.now_s, done):
            return None
        routes = [
            (name, n, 2 * self.cpu_s[name], self.cpu_s[name]) for name, n in self.counts.items()
        ]
        return self.effort.add(self.now_s, spent_s, done, 2 * spent_s, routes, 2.0)


@pytest.mark.parametrize("seed", [1, 2, 3, 4])
def test_reports_of_any_size_are_not_slow_when_many_are_asked_for_at_once(seed: int) -> None:
    """What is usual for a route is its mean, not the luckiest seconds of a quiet hour."""
    reports = Reports(seed)

    assert not any(reports.second() for _ in range(1800))


@pytest.mark.parametrize("seed", [1, 2, 3, 4])
def test_reports_that_have_become_slow_are_told_within_a_minute(seed: int) -> None:
    """One a second, of very different sizes: chance is excused, four times the cost is not."""
    reports = Reports(seed)
    for _ in range(600):
        reports.second()
    reports.times = 4.0

    assert any(reports.second() for _ in range(60))


class Sampled(Reports):
    """The same on a busier site, as the agent sees it: the processor time of so many requests a second is measured, by the rate of the second before."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.every = 1

    def second(self) -> Any:
        self.now_s += 1.0
        rate, dear = (400.0, 1.5) if self.now_s % 120 > 100 else (40.0, 1.0)
        asked = 0
        for route, share in (("/", 0.93), ("/report", 0.07)):
            for _ in range(int(rate * share + self.chance.random())):
                report_s = self.chance.choice((0.0008, 0.004, 0.012))
                cost_s = report_s if route == "/report" else 0.0005
                self.counts[route] += 1
                asked += 1
                if self.chance.random() * self.every < 1:
                    self.cpu_s[route] += cost_s * self.times * dear * self.every
        self.every = max(1, int(asked / MEASURED_PER_S))
        done, spent_s = sum(self.counts.values()), sum(self.cpu_s.values())
        if not self.effort.is_due(self.now_s, done):
            return None
        routes = [
            (name, n, 2 * self.cpu_s[name], self.cpu_s[name]) for name, n in self.counts.items()
        ]
        return self.effort.add(
            self.now_s, spent_s, done, 2 * spent_s, routes, 2.0, measured_per_s=MEASURED_PER_S
        )


@pytest.mark.parametrize("seed", [1, 2, 5])
def test_a_few_that_are_measured_for_many_may_all_be_dear_ones(seed: int) -> None:
    """Seen in a spike of an hour in which nothing was wrong: five reports over a month stood for forty."""
    reports = Sampled(seed)

    assert not any(reports.second() for _ in range(3600))


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_busy_site_that_has_become_slow_is_told_within_seconds(seed: int) -> None:
    reports = Sampled(seed)
    for _ in range(600):
        reports.second()
    reports.times = 4.0

    assert any(reports.second() for _ in range(10))


def test_collections_that_a_crowded_machine_stretches_are_not_late() -> None:
    """A hundred and fifty milliseconds of work take three hundred where somebody else has every second turn."""
    lag = Lag()

    assert all(lag.add(s / 4, 0.3, 1 + s // 3, s // 3 * 0.14, 0.25) is None for s in range(40))
    assert any(lag.add(20 + s / 4, 0.5, 20 + s // 3, 2 + s // 3 * 0.14, 0.25) for s in range(40))


def test_a_turn_that_waited_over_several_looks_is_excused_for_all_of_them() -> None:
    """It is counted when it ends; by then most of the waiting is some looks ago."""
    lag, waited_s, signs = Lag(), 0.0, []
    for s in range(60):
        waited_s += 0.05 if s % 4 == 0 else 0.2
        signs.append(lag.add(s / 4, 0.65, 1 + s // 4, waited_s, 0.25))

    assert not any(signs)


def tooth(fill_s: float, rest_s: float = 15.0) -> list[float]:
    """Return the megabytes of a buffer that fills to 300, second by second, and is written away."""
    return [50 + 250 * s / fill_s for s in range(int(fill_s))] + [300] * 5 + [50] * int(rest_s)


def test_a_buffer_that_gave_everything_back_before_may_fill_as_slowly_as_it_likes() -> None:
    """Half a minute by day, a minute and a half in the evening: as high as before is no leak, and higher is one."""
    day = [*tooth(20), *tooth(40, 300), *tooth(90, 300)]
    evening = [*day, *tooth(120)]
    leak = [*day, *(50 + 4.0 * s for s in range(300))]

    assert not any(grow(lambda s: evening[int(s)], len(evening), 4096 * MB))
    signs = grow(
        lambda s: leak[int(s)] + (4.0 * (s % 1) if s > len(day) else 0), len(leak), 4096 * MB
    )
    assert signs[-1] is not None


def test_a_program_that_needed_much_at_its_start_and_leaks_later_is_told() -> None:
    """What it gave back after a few seconds is not what it is used to."""
    path = [50 + 40.0 * s for s in range(10)] + [60.0] * 10
    signs = grow(lambda s: path[int(s)] if s < 20 else 60 + (s - 20) * 0.3, 110, 4096 * MB)

    assert signs[-1] is not None


def wait_for_rows(waited_share: float) -> list[Any]:
    """Return what is said of requests that take 10 ms, and forty times as long in the last minute."""
    effort, signs, latency_s = Effort(), [], 0.0
    for s in range(180):
        latency_s += 20 * (0.01 if s < 120 else 0.4)
        routes = [("/", 20 * (s + 1), latency_s, 0.02 * (s + 1))]
        sign = effort.add(
            float(s), 0.02 * (s + 1), 20 * (s + 1), latency_s, routes, 2.0, waited_s=max(0, s - 119) * waited_share
        )  # fmt: skip
        signs.append(sign)
    return signs


def test_work_that_waits_for_a_processor_is_not_slow() -> None:
    """Seventeen others want the same two processors: every request takes longer, and no restart gives this worker another turn."""
    assert not any(wait_for_rows(0.6))
    assert any(wait_for_rows(0.01))
