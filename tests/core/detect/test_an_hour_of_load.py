"""No flag in an hour of normal, bursty load; and each fault in the middle of it is found in time."""

from collections.abc import Callable

import pytest

from core.detect.simulated import MB, Web


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_an_hour_of_bursts_collections_imports_and_cron_jobs_is_silent(seed: int) -> None:
    """A detector that cries wolf is switched off, and then it detects nothing."""
    web = Web(seed).run(2400)
    web.quiet = True
    web.run(600)
    web.quiet = False
    web.run(600)

    assert web.says == {}


def test_routes_that_nobody_tells_apart_are_silent_as_well() -> None:
    """Without the agent there is one number for all work, and one request in a hundred costs forty times as much."""
    web = Web(7, base_rate=30)
    web.has_routes = False
    web.run(1800)

    assert web.says == {}


def sick_after(seconds: float, make_sick: Callable[[Web], None], seed: int = 11) -> Web:
    web = Web(seed).run(seconds)
    assert web.says == {}
    make_sick(web)
    return web


@pytest.mark.parametrize("seed", [1, 2, 3, 4])
def test_a_list_that_every_request_walks_is_found_within_five_seconds(seed: int) -> None:
    """Each request is slower than the last, and the health check answers in a millisecond."""
    web = sick_after(120, lambda w: setattr(w, "list_per_request_s", 30e-6), seed)

    assert web.until("slow", 5.0) <= 5.0
    assert "times the processor time" in web.says["slow"]


def test_a_list_from_the_first_request_on_is_found_as_well() -> None:
    """Nobody gives a sick program two healthy minutes to learn from."""
    web = Web(5)
    web.list_per_request_s = 30e-6
    web.run(3)

    assert web.until("slow", 8.0) <= 8.0


def test_slow_work_is_a_reason_to_restart_only_when_latency_agrees_for_long() -> None:
    web = sick_after(60, lambda w: setattr(w, "list_per_request_s", 30e-6))
    web.until("slow", 6)
    found_s = web.now_s
    web.run(40)

    assert web.grave["slow"] - found_s >= 5


def test_twenty_thousand_tasks_in_one_instant_are_found_at_the_next_look() -> None:
    """They may be gone before anybody looks: the number made is enough."""
    web = sick_after(60, lambda _: None)
    web.tasks_created += 20_000
    assert web.until("task_bomb", 0.5) <= 0.5
    assert "20,0" in web.says["task_bomb"]

    stays = sick_after(60, lambda w: setattr(w, "own_tasks", 5012))
    assert stays.until("task_bomb", 0.5) <= 0.5
    assert stays.says["task_bomb"].startswith("5,0")


def test_five_thousand_threads_are_found_at_the_next_look() -> None:
    web = sick_after(60, lambda w: setattr(w, "threads", 5009))

    assert web.until("thread_bomb", 0.5) <= 0.5
    web.run(30)
    assert "thread_bomb" in web.grave


def test_a_leak_of_75_kb_a_second_is_found_within_a_minute_after_the_warm_up() -> None:
    web = Web(3, base_rate=20)
    web.cache = 150.0 * MB
    web.run(33)  # started, and warm
    web.leak_per_s = 75e3

    assert web.until("memory_leak", 60) <= 60
    assert "memory_leak" not in web.grave


@pytest.mark.parametrize(("rate", "least_s"), [(50e6, 8.0), (500e6, 1.2)])
def test_a_fast_leak_is_told_long_enough_before_the_limit(rate: float, least_s: float) -> None:
    """The kernel says nothing before it kills: PSI moves a millisecond before."""
    web = sick_after(60, lambda w: setattr(w, "leak_per_s", rate))
    limit = web.ward.memory_bytes
    web.until("memory_leak", 20)
    left = (limit - web.rss - web.cache) / rate

    assert left >= least_s
    while web.rss + web.cache < limit and "memory_leak" not in web.grave:
        web.look()
    assert "memory_leak" in web.grave, "it has to be restarted before the limit"


def test_a_loop_that_spins_without_work_is_found_and_a_busy_one_is_not() -> None:
    web = sick_after(60, lambda w: setattr(w, "spins", True))
    web.quiet = True

    assert web.until("pegged", 60) <= 35
