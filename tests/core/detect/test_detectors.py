"""Each detector by itself: what it detects, and on what it stays silent."""

import random
from typing import Any

import pytest

from holdfast.core.detect import cause, peers, thresholds
from holdfast.core.detect.chatter import Chatter, alike
from holdfast.core.detect.clock import Clock
from holdfast.core.detect.creep import Creep
from holdfast.core.detect.descriptors import Descriptors
from holdfast.core.detect.drift import Drift
from holdfast.core.detect.effort import Effort
from holdfast.core.detect.filling import Filling
from holdfast.core.detect.growth import Growth
from holdfast.core.detect.lag import Lag
from holdfast.core.detect.lasting import Lasting
from holdfast.core.detect.pegged import Pegged
from holdfast.core.detect.pile import Pile
from holdfast.core.detect.pressure import Pressure
from holdfast.core.detect.sign import Sign, count, size, span
from holdfast.core.detect.slope import median, theil_sen
from holdfast.core.detect.swarm import Swarm

GB = 10**9


# -- tools -------------------------------------------------------------------------------------------


def test_a_slope_is_not_bent_by_single_samples() -> None:
    points = [(float(s), 10.0 * s) for s in range(12)]
    points[5] = (5.0, 0.0)
    points[8] = (8.0, 500.0)

    assert theil_sen(points) == pytest.approx(10.0)
    assert theil_sen([(1.0, 5.0)]) == 0.0
    assert median([3.0, 1.0, 2.0, 10.0]) == 2.5


def test_numbers_are_written_as_people_write_them() -> None:
    assert (count(20012), size(75_000), size(1.5e9)) == ("20,012", "75 KB", "1.5 GB")
    assert (span(0.25), span(12.34), span(600), span(36000)) == (
        "250 ms",
        "12.3 s",
        "10 min",
        "10 h",
    )


def test_something_lasting_is_neither_raised_nor_cleared_by_a_moment() -> None:
    lasting = Lasting()
    told = [
        lasting.add(float(s), so, 3.0, 2.0)
        for s, so in enumerate([True, True, False, True, True, True, True, False, True, False, False, False])
    ]  # fmt: skip

    assert told.index(True) == 6
    assert told[7:11] == [True] * 4
    assert told[-1] is False


def test_what_creeps_is_told_from_what_steps_fills_and_saws() -> None:
    chance = random.Random(4)

    def creeps(value: Any, for_s: int = 240) -> bool:
        creep = Creep(5.0)
        return any(creep.add(float(s), value(s), 20.0) for s in range(for_s))

    assert creeps(lambda s: 100 + s + chance.uniform(0, 0.5))
    assert not creeps(lambda s: 100 + (500 if s > 60 else 0))
    assert not creeps(lambda s: 1000 * (1 - 2.718 ** (-s / 100)))
    assert not creeps(lambda s: 100 + (s % 20) * 3)
    assert not creeps(lambda _: 100 + chance.uniform(0, 50))


def test_a_creep_that_stops_is_soon_over() -> None:
    creep = Creep(5.0)
    for s in range(100):
        creep.add(float(s), 10.0 * s, 20.0)
    assert creep.is_up
    for s in range(100, 120):
        creep.add(float(s), 1000.0, 20.0)

    assert not creep.is_up


# -- memory and files --------------------------------------------------------------------------------


def grow(rate: float, *, start: float = 50e6, begin_s: float = 60.0, look_s: float = 0.25, limit: int = GB, **how: Any) -> tuple[float, Sign]:  # fmt: skip
    """Let memory grow at ``rate``; return the seconds that are left at the flag."""
    growth, now_s, rss = Growth(), begin_s, start
    while rss < limit:
        sign = growth.add(
            now_s, int(rss), limit, left_limit_s=30.0, age_s=now_s, warm_up_s=30.0, **how
        )
        if sign is not None:
            return (limit - rss) / rate, sign
        step_s = min(look_s, growth.pace_s() or look_s)
        now_s, rss = now_s + step_s, rss + rate * step_s
    raise AssertionError("never flagged")


@pytest.mark.parametrize(("rate", "least_s"), [(10e6, 20.0), (50e6, 8.0), (500e6, 1.2)])
def test_the_nearer_the_limit_the_sooner_a_leak_is_told(rate: float, least_s: float) -> None:
    """kernel and PSI: never; a slope on samples a second apart: 0.15 s at 500 MB/s."""
    left_s, sign = grow(rate)

    assert left_s >= least_s
    assert not sign.is_grave
    assert "grows by" in sign.says


def test_a_leak_is_told_from_the_first_second_of_a_life_as_well() -> None:
    assert grow(500e6, start=12e6, begin_s=0.0)[0] >= 1.2


@pytest.mark.parametrize(("in_flight", "waits"), [(0, False), (3, True)])
def test_the_restart_comes_before_the_limit_and_waits_for_calls_while_it_can(
    in_flight: int, waits: bool
) -> None:
    growth, now_s, rss = Growth(), 60.0, 50e6
    while True:
        sign = growth.add(
            now_s, int(rss), GB, left_limit_s=30.0, age_s=now_s, warm_up_s=30.0, in_flight=in_flight
        )
        if sign is not None and sign.is_grave:
            break
        assert rss < GB, "it ran into its limit"
        now_s, rss = now_s + 0.05, rss + 50e6 * 0.05
    left_s = (GB - rss) / 50e6

    assert left_s < 1.6 if waits else 3.0 < left_s < 6.1


def test_imports_caches_and_a_full_house_are_no_leak() -> None:
    """300 MB in two seconds at the start, a cache that fills, and then 600 MB for good."""
    growth = Growth()
    rss = 20e6
    for look in range(4 * 900):
        now_s = look / 4
        rss += 150e6 / 4 if now_s < 2 else 0
        cache = 200e6 * (1 - 2.718 ** (-max(0.0, now_s - 3) / 60))
        step = 200e6 if now_s > 300 else 0.0
        sign = growth.add(
            now_s, int(rss + cache + step), GB, left_limit_s=30.0, age_s=max(0.0, now_s - 3), warm_up_s=30.0,
            is_ready=now_s > 3,
        )  # fmt: skip
        assert sign is None, (now_s, sign.says)


def test_where_there_is_no_limit_a_leak_is_told_and_nobody_is_restarted_for_it() -> None:
    growth, told, graves = Growth(), 0, 0
    for look in range(400):
        sign = growth.add(
            60 + look / 4, int(50e6 + look * 10e6), 6 * GB, left_limit_s=30.0, age_s=60.0 + look / 4, warm_up_s=30.0,
            is_bound=False,
        )  # fmt: skip
        told += int(sign is not None)
        graves += int(sign is not None and sign.is_grave)
    assert told
    assert not graves


def test_descriptors_that_leak_are_told_and_bursts_of_connections_are_not() -> None:
    leaking, busy, chance = Descriptors(), Descriptors(), random.Random(2)
    told = []
    for look in range(120):
        now_s = look * 2.0
        sign = leaking.add(now_s, 20 + 2 * look, 1024, 0.8, is_settled=True)
        told.append(sign is not None)
        assert (
            busy.add(now_s, 20 + chance.choice([0, 0, 3, 400]), 1024, 0.8, is_settled=True) is None
        )

    assert 40 <= told.index(True) * 2.0 <= 90
    assert leaking.add(300.0, 1000, 1024, 0.8, is_settled=True).is_grave  # type: ignore[union-attr]
    assert Descriptors().add(0.0, 900, 1024, 0.8, is_settled=False) is not None


def piles(tasks: Any, files: Any = lambda _: 20, in_flight: int = 0) -> float:
    """Return the second in which it is told that tasks pile up; -1 for never within ten minutes."""
    found = Pile()
    for look in range(2400):
        now_s = look / 4
        if found.add(now_s, int(tasks(now_s)), int(files(now_s)), in_flight, is_settled=True):
            return now_s
    return -1.0


def test_tasks_that_pile_up_slowly_are_told_before_they_are_a_bomb() -> None:
    """sse-starlette 3.1.1: one task for each visitor that stays, and what is usual grows with them."""
    assert 40 <= piles(lambda s: 30 + 40 * s) <= 75
    assert 40 <= piles(lambda s: 30 + 5 * s + random.Random(int(s)).choice([0, 40])) <= 90


def test_tasks_that_connections_explain_and_batches_are_no_pile() -> None:
    """A chat server in the morning; a crawler that works through a list; requests that come in bursts; a cache of tasks that fills."""
    assert piles(lambda s: 30 + 20 * s, files=lambda s: 20 + 10 * s) == -1
    assert piles(lambda s: max(0, 20_000 - 100 * s)) == -1
    assert piles(lambda s: 30 + 500 * (s % 60 < 15)) == -1
    assert piles(lambda s: 30 + 30 * (s % 40)) == -1
    assert piles(lambda s: 30 + 3000 * (1 - 2.718 ** (-s / 60))) == -1


# -- loop, work, processor ---------------------------------------------------------------------------


def test_a_loop_that_is_late_again_and_again_is_told_and_one_long_block_is_not() -> None:
    lag = Lag()
    assert all(lag.add(s / 4, 0.8 * 0.9**s, 1, 0.0, 0.25) is None for s in range(40))
    signs = [lag.add(20 + s / 4, 0.4, 1 + s // 3, 0.0, 0.25) for s in range(20)]

    assert signs[-1] is not None
    assert "250 ms late 3 times" in signs[-1].says
    assert all(lag.add(26 + s / 4, 0.0, 7, 0.0, 0.25) is None for s in range(20, 30))


def test_lateness_that_the_box_explains_is_not_held_against_the_loop() -> None:
    lag = Lag()

    assert all(lag.add(s / 4, 0.4, 1 + s, s * 0.3, 0.25) is None for s in range(40))


def test_an_old_pulse_that_counts_no_late_ticks_is_read_by_its_maximum() -> None:
    lag, peak, told = Lag(), 0.0, []
    for s in range(40):
        peak = 0.35 if s % 3 == 0 else peak * 0.7
        told.append(lag.add(s / 4, peak, 0, 0.0, 0.25))

    assert told[-1] is not None


def test_a_mean_that_goes_up_is_told_from_noise() -> None:
    chance, drift = random.Random(1), Drift()
    assert not any(drift.add(chance.gauss(-4, 0.1)) for _ in range(500))
    found = [drift.add(chance.gauss(-3.2, 0.1)) for _ in range(10)]

    assert found.index(True) <= 3


def serve(
    effort: "Counting", seconds: range, cost: Any, rate: int = 50, mix: Any = None
) -> list[Any]:
    """Feed chunks of a second; ``cost(second)`` and ``mix(second)`` say what it is like."""
    signs = []
    for s in seconds:
        share = mix(s) if mix else 0.5
        effort.done = {
            "a": effort.done["a"] + rate * share,
            "b": effort.done["b"] + rate * (1 - share),
        }
        spent = {"a": rate * share * cost(s), "b": rate * (1 - share) * cost(s) * 20}
        effort.cost = {name: effort.cost[name] + spent[name] for name in spent}
        routes = [(n, int(effort.done[n]), effort.cost[n] * 2, effort.cost[n]) for n in ("a", "b")]
        total = sum(effort.cost.values())
        signs.append(
            effort.add(float(s), total, int(sum(effort.done.values())), total * 2, routes, 2.0)
        )
    return signs


class Counting(Effort):
    """With the totals of a simulated worker."""

    def __init__(self) -> None:
        super().__init__()
        self.done = {"a": 0.0, "b": 0.0}
        self.cost = {"a": 0.0, "b": 0.0}


def test_work_that_costs_ever_more_is_told_and_named() -> None:
    effort = Counting()
    assert serve(effort, range(60), lambda _: 0.001) == [None] * 60
    signs = serve(effort, range(60, 70), lambda s: 0.001 * (1 + 0.6 * (s - 59)))

    first = next(at for at, sign in enumerate(signs) if sign)
    assert first <= 4
    assert "in b" in signs[first].says


def test_another_mix_of_routes_is_no_sickness() -> None:
    """Route b costs twenty times as much as a; more of b is more work, not slower work."""
    effort = Counting()
    signs = serve(effort, range(240), lambda _: 0.001, mix=lambda s: 0.9 if s < 120 else 0.1)

    assert signs == [None] * 240


def test_one_slow_chunk_is_a_garbage_collection() -> None:
    effort = Counting()
    signs = serve(effort, range(200), lambda s: 0.004 if s % 37 == 36 else 0.001)

    assert signs == [None] * 200


def test_a_restart_does_not_make_slow_work_normal() -> None:
    """The symptom is verified against what work cost before it was sick."""
    effort = Counting()
    serve(effort, range(60), lambda _: 0.001)
    serve(effort, range(60, 90), lambda _: 0.004)
    effort.restart()
    signs = serve(effort, range(90, 100), lambda _: 0.004)

    assert signs[-1] is not None


def pegged(finished: int, in_flight: int, share: float = 1.0, lag_s: float = 0.0, for_s: int = 60) -> int:  # fmt: skip
    """Return the second in which it is told; -1 for never."""
    found = Pegged()
    for s in range(for_s):
        how: Any = {"lag_s": lag_s, "has_worked": True, "limit_s": 5.0}
        if found.add(float(s), share, finished, in_flight, **how):
            return s
    return -1


def test_a_busy_processor_is_told_only_when_nothing_gets_done() -> None:
    assert pegged(0, 3) == 5
    assert pegged(0, 0) == 15
    assert pegged(0, 0, lag_s=0.5) == -1
    assert pegged(40, 3) == -1
    assert pegged(0, 3, share=0.5) == -1


def test_a_thread_that_turns_is_shown_and_never_a_reason_to_restart() -> None:
    """Whatever the program is for goes on beside it; nobody knows whether it matters."""
    how: Any = {"lag_s": 0.0, "has_worked": False, "limit_s": 5.0}
    found = [Pegged().add(1.0, 1.0, 0, 0, thread_s=s, **how) for s in (0.0, 14.0, 16.0, 900.0)]

    assert found[:2] == [None, None]
    assert all(sign is not None and not sign.is_grave for sign in found[2:])
    assert "never waits" in found[2].says  # type: ignore[union-attr]


def swarm(numbers: list[int], limit: float = 1000.0, age_s: float = 60.0, **how: Any) -> list[Any]:
    found = Swarm()
    return [
        found.add(at / 4, number, limit, what="tasks", factor=10.0, age_s=age_s + at / 4, **how)
        for at, number in enumerate(numbers)
    ]


def test_a_swarm_is_many_times_what_is_usual() -> None:
    calm = [20] * 40
    assert swarm(calm + [5020] * 2)[-1].says.startswith("5,020 tasks (usually 20)")
    assert swarm(calm + [600] * 40) == [None] * 80  # traffic times thirty, below the limit
    assert swarm([900] * 40 + [5000] * 40) == [None] * 80  # ten times 900 is more
    assert swarm([3000] * 8, age_s=0.0) == [None] * 8  # a start


def test_a_swarm_that_lasts_is_grave_and_one_that_goes_is_forgotten() -> None:
    signs = swarm([20] * 40 + [5020] * 120 + [20] * 40)

    assert signs[60] is not None
    assert not signs[60].is_grave
    assert signs[158].is_grave
    assert signs[-1] is None


def test_tasks_that_are_gone_already_are_counted_unless_work_explains_them() -> None:
    found = Swarm()
    how: Any = {"what": "tasks", "factor": 10.0, "age_s": 60.0}
    assert found.add(0.0, 5, 1000, created=100, **how) is None
    assert found.add(0.25, 5, 1000, created=5100, worked=700, **how) is None
    assert "20,000 tasks within 250 ms" in found.add(0.5, 5, 1000, created=25_100, **how).says  # type: ignore[union-attr]


# -- peers, log --------------------------------------------------------------------------------------


def test_one_that_was_like_its_peers_and_is_not_any_more_is_told() -> None:
    likeness, leader = peers.Likeness(), peers.Likeness()
    chance, told = random.Random(3), []
    for s in range(60):
        shares = [0.2 + chance.uniform(-0.02, 0.02) for _ in range(5)]
        shares[0] = 0.95 if s >= 40 else shares[0]
        shares[1] = 0.99  # a leader: from the beginning
        found = peers.scores(shares, 0.1)
        told.append(likeness.add(found[0], 4.0))
        assert not leader.add(found[1], 4.0)

    assert told.index(True) <= 43


def test_peers_that_are_all_but_equal_are_all_alike() -> None:
    assert max(peers.scores([1.0, 1.0, 1.0, 1.01, 1.02], 0.1)) < 1


def test_a_log_storm_is_told_and_a_busy_hour_is_not() -> None:
    log, now_s, written, told = Chatter(), 0.0, 0, []
    for look in range(900):
        now_s += 2.0
        written += 10_000 * (10 if 200 < look < 400 else 1) * 2 if look < 850 else 40_000_000
        told.append(log.add(now_s, written, 0.2, 1e6, 120.0)[0])

    assert told[:850] == [None] * 850
    assert told[-1] is not None
    assert "20 MB of log a second" in told[-1].says


COMPLAINT = b"2026-01-01 00:00:%02d ERROR websocket: [Errno 111] Connection refused - goodbye\n"


def complains(share: float, per_s: int, after_s: int = 0) -> int:
    """Return after how many seconds it is told, -1 for never."""
    log, written = Chatter(), 0
    for s in range(0, 300, 2):
        written += 2 * (per_s if s >= after_s else 100)
        if log.add(float(s), written, 0.9, 1e6, 120.0, share if log.is_loud else 0.0)[0]:
            return s - after_s
    return -1


def test_a_complaint_that_goes_on_stays_a_storm() -> None:
    """It began ten seconds after the start; a minute later it is still no usual rate."""
    log, written, up = Chatter(), 0, []
    for s in range(0, 200, 2):
        written += 2 * (270_000 if s >= 10 else 100)
        up.append(log.add(float(s), written, 0.9, 1e6, 120.0, 1.0 if log.is_loud else 0.0)[0])

    assert all(up[12:])


def test_one_and_the_same_complaint_is_a_storm_long_before_a_megabyte_a_second() -> None:
    """websocket-client in a loop: the server is gone, and it connects again three thousand times a second."""
    assert 0 < complains(1.0, 270_000, after_s=100) <= 14
    assert 0 < complains(1.0, 270_000) <= 14
    assert complains(0.5, 270_000, after_s=100) == -1
    assert complains(1.0, 20_000, after_s=100) == -1


def test_complaints_are_told_from_lines_of_a_busy_server() -> None:
    assert alike(b"".join(COMPLAINT % (n % 60) for n in range(100))) == 1.0
    assert alike(b"".join(b"10.0.0.%d GET /shop 200\n" % n for n in range(100))) == 0.0
    assert alike(b"".join(b"error: line %s\n" % (b"x" * n) for n in range(100))) < 0.1
    assert alike(COMPLAINT % 1 * 10) == 0.0


@pytest.mark.parametrize("banner", [(), (1.0,), (1.0, 2.0, 3.0, 4.0, 5.0, 6.0)])
def test_one_that_never_had_the_habit_of_writing_is_not_silent(banner: tuple[float, ...]) -> None:
    """A server without an access log says that it is up, and nothing more for weeks."""
    log, now_s, written, told = Chatter(), 0.0, 0, []
    for _ in range(3000):
        now_s += 1.0
        written += 80 * (now_s in banner)
        told.append(log.add(now_s, written, 0.3, 1e6, 120.0)[1])

    assert not any(told)


@pytest.mark.parametrize(("share", "told"), [(0.2, True), (0.0, False)])
def test_silence_is_told_of_one_that_still_works(share: float, told: bool) -> None:
    log, now_s, written = Chatter(), 0.0, 0
    for _ in range(400):
        now_s, written = now_s + 2.0, written + 500
        assert log.add(now_s, written, 0.2, 1e6, 120.0) == (None, None)
    found = [log.add(now_s + s, written, share, 1e6, 120.0)[1] for s in range(2, 300, 2)]

    assert (found[-1] is not None) is told
    assert found[50] is None


# -- the box -----------------------------------------------------------------------------------------


def press(available: Any, faults: Any = lambda _: 0, work: float = 100.0, for_s: int = 60) -> list[Any]:  # fmt: skip
    box = Pressure()
    return [
        box.add(float(s), int(available(s)), 8 * GB, swap_free_share=1.0, faults=faults(s), work_per_s=work, least=0.05)
        for s in range(for_s)
    ]  # fmt: skip


def test_memory_that_will_be_gone_in_half_a_minute_is_told_before_it_is_low() -> None:
    signs = press(lambda s: max(0.1 * GB, 2.4 * GB - s * 50e6))
    first = next(at for at, sign in enumerate(signs) if sign)

    assert 2.4 * GB - first * 50e6 > 1.3 * GB
    assert "gone in" in signs[first].says


def test_pages_that_are_read_again_and_again_are_told_when_memory_is_tight() -> None:
    """10 s before the kernel's own pressure figures move."""
    signs = press(lambda _: GB, lambda s: 5000 * max(0, s - 20))

    assert next(at for at, sign in enumerate(signs) if sign) <= 26


def test_much_memory_cold_starts_and_page_cache_are_no_pressure() -> None:
    assert press(lambda s: 6 * GB - s * 20e6) == [None] * 60
    assert press(lambda _: 6 * GB, lambda s: 5000 * s) == [None] * 60
    assert press(lambda s: GB + (s % 7) * 1e7) == [None] * 60


def test_a_disk_that_fills_is_told_and_rotated_logs_are_not() -> None:
    filling, rotating, told = Filling(), Filling(), []
    for look in range(60):
        now_s = look * 5.0
        told.append(filling.add(now_s, int(30e9 - look * 250e6), 100 * GB, 600.0, "/var"))
        free = 30e9 - (look % 6) * 1e9
        assert rotating.add(now_s, int(free), 100 * GB, 600.0, "/var") is None

    first = next(at for at, sign in enumerate(told) if sign)
    assert first * 5.0 <= 70
    assert "full in" in told[first].says  # type: ignore[union-attr]


def test_a_clock_that_is_set_is_told_for_a_while_and_sleep_and_slew_are_not() -> None:
    clock = Clock()
    assert all(clock.add(s, 1e9 + s * 1.0005, 1.0) is None for s in range(3600))
    assert clock.add(3600, 1e9 + 3601.8 - 7200, 1.0).says.endswith("backwards")  # type: ignore[union-attr]
    assert clock.add(3700, 1e9 + 3701.8 - 7200, 1.0) is None
    # A suspended machine: both clocks go on.
    assert clock.add(90_000, 1e9 + 90_001.8 - 7200, 1.0) is None


def test_the_death_of_one_that_needs_another_is_laid_at_its_door() -> None:
    needs = {"web": ["api"], "api": ["db"], "db": [], "mail": []}
    died = {"db": 100.0, "api": 101.0, "mail": 101.0}

    assert cause.root("web", needs.__getitem__, died, 102.0) == "db"
    assert cause.root("mail", needs.__getitem__, died, 102.0) == ""
    assert cause.root("web", needs.__getitem__, died, 200.0) == ""


def test_thresholds_that_nobody_knows_are_left_out_and_the_rest_keeps_its_default() -> None:
    found = thresholds.filled({"slow": 3, "nonsense": 1}, thresholds.WORKER)

    assert found == {**thresholds.WORKER, "slow": 3.0}
    assert thresholds.filled(None, thresholds.BOX) is thresholds.BOX


def test_what_evidence_slows_down_is_not_held_against_the_worker() -> None:
    """Found by a leak: tracing its allocations made each request ten times as dear, and it was called slow for that."""
    effort, lag = Counting(), Lag()
    serve(effort, range(60), lambda _: 0.001)
    for s in range(60, 66):
        effort.skip()
        assert serve(effort, range(s, s + 1), lambda _: 0.01) == [None]
        lag.skip(0.5, s, 0.0)
    assert serve(effort, range(66, 90), lambda _: 0.001) == [None] * 24
    assert lag.add(67.0, 0.0, 65, 0.0, 0.25) is None
