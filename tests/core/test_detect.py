"""The rules that tell sick from starved, one idea each."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.core.detect import level, pace, sickness, starvation
from holdfast.core.detect.silence import Silence
from holdfast.core.detect.storm import QUIET_S, Storm
from holdfast.core.detect.streak import Streak


def turn(*, ran: float = 0.0, wait: float = 0.0, runnable: bool = False) -> starvation.Turn:
    return starvation.Turn(int(ran * 1e9), int(wait * 1e9), is_runnable=runnable)


def test_silence_counts_only_the_time_in_which_it_could_have_spoken() -> None:
    """uvicorn #2506 and its kin: healthy processes shot because the box was busy."""
    silence = Silence(0.0)
    for second in range(1, 61):
        silence.excuse(
            starvation.waited_s(turn(wait=(second - 1) * 0.95), turn(wait=second * 0.95), 1.0)
        )

    assert silence.lasting_s(60.0) == pytest.approx(3.0)


def test_a_stopped_process_is_not_excused_by_a_busy_box() -> None:
    """It waits for a signal, not for a processor: schedstat does not move."""
    silence = Silence(0.0)
    silence.excuse(starvation.waited_s(turn(wait=7), turn(wait=7), 5.0))

    assert silence.lasting_s(5.0) == 5.0


def test_a_sign_of_life_ends_silence_and_what_was_excused_and_an_old_one_does_nothing() -> None:
    silence = Silence(0.0)
    silence.excuse(3.0)
    silence.sign(5.0)
    silence.sign(4.0)

    assert silence.lasting_s(6.0) == 1.0


@given(st.lists(st.tuples(st.sampled_from(["sign", "excuse", "pass"]), st.floats(0, 100))))
def test_silence_is_never_negative_nor_longer_than_the_clock_says(
    steps: list[tuple[str, float]],
) -> None:
    now_s, silence = 0.0, Silence(0.0)
    for what, by_s in steps:
        if what == "sign":
            silence.sign(now_s)
        elif what == "excuse":
            silence.excuse(by_s)
        else:
            now_s += by_s
        assert 0.0 <= silence.lasting_s(now_s) <= now_s


def test_our_own_lateness_counts_only_when_it_is_large() -> None:
    assert starvation.own_lag_s(10.0, 10.3) == 0.0
    assert starvation.own_lag_s(10.0, 14.0) == 4.0


def test_waiting_is_never_more_than_the_time_there_was() -> None:
    assert starvation.waited_s(turn(wait=0), turn(wait=9), 1.0) == 1.0
    assert starvation.waited_s(turn(wait=9), turn(wait=0), 1.0) == 0.0


def test_a_wait_that_still_lasts_is_seen_though_the_kernel_has_not_booked_it() -> None:
    """Found by 40 busy processes: a wait of seconds shows in schedstat only when it is over."""
    before, after = turn(ran=1.0, runnable=True), turn(ran=1.25, runnable=True)

    assert starvation.waited_s(before, after, 2.0) == 1.75
    assert starvation.waited_s(turn(ran=1.0), after, 2.0) == 0.0


def test_a_spinning_thread_that_has_the_processor_is_not_excused() -> None:
    assert starvation.waited_s(turn(runnable=True), turn(ran=2.0, runnable=True), 2.0) == 0.0


@pytest.mark.parametrize(
    ("silent", "watched", "runnable", "starved"),
    [(3, 4, 40, True), (1, 1, 40, False), (3, 4, 2, False), (3, 30, 40, False)],
)
def test_many_silent_at_once_on_a_crowded_box_is_the_box(
    silent: int, watched: int, runnable: float, starved: bool
) -> None:
    assert starvation.box_starved(silent, watched, runnable, processors=2) is starved


@pytest.mark.parametrize(
    ("state", "loop_s", "thread_s", "call_s", "expected"),
    [
        ("S", 0.1, 0.1, 0.0, None),
        ("S", 6.0, 0.1, 0.0, sickness.LOOP_BLOCKED),
        ("R", 6.0, 0.1, 0.0, sickness.LOOP_BLOCKED),
        ("R", 6.0, 6.0, 0.0, sickness.GIL_HELD),
        ("S", 6.0, 5.9, 0.0, sickness.GIL_HELD),
        ("T", 6.0, 6.0, 0.0, sickness.STOPPED),
        ("t", 6.0, 6.0, 0.0, sickness.STOPPED),
        ("D", 6.0, 6.0, 0.0, sickness.DISK_WAIT),
        ("S", 0.1, 0.1, 6.0, sickness.HANDLER_STUCK),
        ("S", 4.0, 6.0, 0.0, sickness.GIL_HELD),
        # The loop serves: a thread that is not woken says something of the machine (its processor stands still).
        ("S", 0.1, 6.0, 0.0, None),
    ],
)
def test_two_beats_a_state_and_a_call_name_the_sickness(
    state: str, loop_s: float, thread_s: float, call_s: float, expected: str | None
) -> None:
    found = sickness.classify(state, loop_s, thread_s, call_s, 5.0)

    assert (found and found[0]) == expected
    if found:
        assert "6.0 s" in sickness.sentence(*found)


def test_one_failed_probe_is_an_accident_two_are_not() -> None:
    streak = Streak()
    streak.add(False, "refused")
    assert not streak.is_broken()
    streak.add(True)
    streak.add(False, "refused")
    assert not streak.is_broken()
    streak.add(False, "no answer")
    assert streak.is_broken()
    assert streak.why == "no answer"


def test_levels_clear_at_a_distance_from_where_they_are_raised() -> None:
    assert not level.memory_is_over(100, 100, was_over=False)
    assert level.memory_is_over(101, 100, was_over=False)
    assert level.memory_is_over(97, 100, was_over=True)
    assert not level.memory_is_over(94, 100, was_over=True)
    assert level.disk_is_low(0.049, 0.05, was_low=False)
    assert level.disk_is_low(0.055, 0.05, was_low=True)
    assert not level.disk_is_low(0.061, 0.05, was_low=True)


def test_readiness_is_asked_quickly_and_then_ever_more_rarely() -> None:
    pauses, last_s = [], 0.0
    for _ in range(12):
        last_s = pace.next_try_s(last_s)
        pauses.append(last_s)

    assert pauses[0] == 0.01
    assert pauses == sorted(pauses)
    assert pauses[-1] == 0.25


@given(st.integers(1, 100_000), st.floats(1e-6, 1e-2), st.floats(0.05, 60))
def test_sampling_never_costs_more_than_its_budget(
    workers: int, cost_s: float, least_s: float
) -> None:
    round_s = pace.round_s(workers, cost_s, least_s)

    assert round_s >= least_s
    assert workers * cost_s / round_s <= pace.BUDGET * 1.000001


@given(st.lists(st.floats(0, 5), max_size=60))
def test_in_a_storm_every_death_is_counted_and_write_ups_keep_their_distance(
    gaps: list[float],
) -> None:
    storm, now_s, written = Storm(), 0.0, []
    for number, gap in enumerate(gaps):
        now_s += gap
        found = storm.death({"seq": number}, now_s)
        if found:
            written.append((now_s, found))
    last = storm.due(now_s + QUIET_S)
    if last:
        written.append((now_s + QUIET_S, last))

    assert sum(1 + folded for _, (_, folded) in written) == len(gaps)
    assert all(b[0] - a[0] >= QUIET_S - 1e-9 for a, b in pairwise(written))
    if gaps:
        assert written[0][1] == ({"seq": 0}, 0)
        assert written[-1][1][0] == {"seq": len(gaps) - 1}
