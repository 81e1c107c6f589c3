"""The rule: when is a thing believed to be down, and when up again? And when is it looked at next?"""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.cli.probes.definitions import DEFAULTS
from holdfast.core import outside
from holdfast.core.outside import DOUBT, DOWN, UNKNOWN, UP, Belief, Rule


def believed(looks: str, rule: Rule) -> list[str]:
    """Return what is believed after each look: "+" is a good one, "-" a failure."""
    belief, found = Belief(), []
    for at, look in enumerate(looks):
        outside.note(belief, rule, look == "+", float(at), at + 0.5, 1000.0 + at)
        found.append(belief.state)
    return found


def test_one_failure_wakes_nobody() -> None:
    """A packet was lost: at 3 am that is no reason to get up."""
    assert believed("+-+++", Rule(3, 3, 2)) == [UP, DOUBT, DOUBT, UP, UP]


def test_three_failures_in_a_row_are_an_outage_and_one_good_look_does_not_end_it() -> None:
    assert believed("+---+-++", Rule(3, 3, 2)) == [UP, DOUBT, DOUBT, DOWN, DOWN, DOWN, DOWN, UP]


def test_failures_among_good_looks_count_too() -> None:
    """A server behind a balancer fails every second time: half of the people see it."""
    assert believed("-+-+-", Rule(3, 5, 2))[-1] == DOWN
    assert DOWN not in believed("-+-+-+-+-+", Rule(3, 3, 2))


def test_after_an_outage_the_next_failure_is_the_first_one_again() -> None:
    assert believed("---++-", Rule(3, 5, 2))[-2:] == [UP, DOUBT]


@given(st.text("+-", max_size=60), st.integers(1, 5), st.integers(0, 5), st.integers(1, 4))
def test_no_row_of_looks_is_without_an_answer(looks: str, fails: int, more: int, good: int) -> None:
    rule = Rule(fails, fails + more, good)
    states = believed(looks, rule)

    assert all(state in outside.STATES for state in states)
    for at, state in enumerate(states):
        if state == DOWN and (at == 0 or states[at - 1] != DOWN):
            assert looks[max(0, at + 1 - rule.of) : at + 1].count("-") >= fails
        if state == UP and at and states[at - 1] == DOWN:
            assert looks[at + 1 - good : at + 1] == "+" * good


def test_a_life_takes_up_what_the_one_before_believed() -> None:
    """It was killed in the middle of an outage: nobody is told a second time, and nobody is told that all is well."""
    belief = Belief()
    for at in range(3):
        outside.note(belief, Rule(), False, float(at), at + 0.5, 1000.0 + at)

    again = outside.restore(json.loads(json.dumps(belief.to_json())), 1.0)

    assert (again.state, again.since_unix_s) == (DOWN, 1002.0)
    assert again.bad_s == 1.0, "monotonic times of another boot are in the past"


@pytest.mark.parametrize("damage", [{"state": "sideways"}, {"row": None}, {"looks": 5}])
def test_what_is_no_belief_is_refused(damage: dict[str, object]) -> None:
    with pytest.raises((ValueError, TypeError)):
        outside.restore({**Belief().to_json(), **damage}, 1.0)


def failing(at_s: float, state: str = DOWN) -> Belief:
    belief = Belief()
    belief.state, belief.failing_since_s, belief.bad_s, belief.looked_s = state, at_s, at_s, at_s
    return belief


def resting(state: str, looked_s: float, since_s: float = 0.0) -> Belief:
    belief = Belief()
    belief.state, belief.looked_s, belief.since_s = state, looked_s, since_s
    return belief


def test_a_consequence_waits_until_its_cause_was_looked_at() -> None:
    """The gateway died; the shop behind it was looked at first. One outage, one alert."""
    shop = failing(100.0)

    assert outside.is_riddle(shop, resting(UP, 95.0), 30.0, 101.0), "not looked at since"
    assert outside.is_riddle(shop, resting(DOUBT, 101.0, 101.0), 30.0, 102.0), (
        "looked at, not believed yet"
    )
    assert not outside.is_riddle(shop, resting(DOWN, 104.0, 104.0), 30.0, 104.0)
    assert not outside.is_riddle(shop, resting(UP, 101.0), 30.0, 102.0), (
        "the gateway is well: the shop it is"
    )


def test_nobody_waits_for_ever_to_learn_of_a_cause() -> None:
    """A gateway that is neither up nor down must not keep an outage of the shop from people."""
    assert not outside.is_riddle(failing(100.0), resting(DOUBT, 129.0), 30.0, 131.0)
    assert not outside.is_riddle(failing(100.0), resting(UNKNOWN, 0.0), 30.0, 131.0)


def test_a_consequence_is_looked_at_again_before_it_counts_for_itself() -> None:
    """The gateway is back since a second; the shop will be found well at the next look."""
    shop, gateway = failing(100.0), resting(UP, 199.0, since_s=200.0)

    assert outside.is_riddle(shop, gateway, 30.0, 201.0)
    shop.bad_s = 202.0
    assert not outside.is_riddle(shop, gateway, 30.0, 203.0)


@given(st.floats(0, 1), st.floats(0, 100), st.floats(0.1, 100))
def test_the_next_look_is_always_ahead_and_never_far(
    chance: float, late_s: float, every_s: float
) -> None:
    now_s = 1000.0 + late_s
    for state in outside.STATES:
        due_s = outside.next_s(1000.0, now_s, every_s, 3.0, state, chance)
        assert now_s <= due_s <= max(now_s, 1000.0) + every_s * 1.1 + 1e-9


def test_doubt_is_looked_into_soon() -> None:
    assert outside.next_s(0.0, 1.0, 60.0, 3.0, DOUBT, 0.5) == 3.0
    assert outside.next_s(0.0, 1.0, 60.0, 3.0, DOWN, 0.0) == 60.0
    assert outside.next_s(0.0, 1.0, 60.0, 3.0, UP, 1.0) == 48.0
    assert 0.0 <= outside.first_s(0.0, 3600.0, 1.0) <= 5.0


def test_what_hangs_is_looked_at_beside_but_not_what_is_slow_every_day() -> None:
    """A page that takes a second must not get two requests for each one; one that is down must not get more than before."""
    assert outside.beside_s(10.0, 0.5, 0.1, UP) == 10.5
    assert outside.beside_s(10.0, 0.5, 1.0, UP) == 12.0
    assert outside.beside_s(10.0, 0.5, 0.1, DOWN) == float("inf")


@pytest.mark.parametrize("hangs", [False, True])
def test_with_the_defaults_somebody_hears_of_an_outage_within_five_seconds(hangs: bool) -> None:
    """On paper: from the worst moment of the fault to the belief; what is left of the five seconds is for telling."""
    full = DEFAULTS.filled({})
    every_s = full["every"]
    rule = Rule(full["fails"], full["fails"], full["good"])
    longest_s = outside.longest_s(rule, every_s, full["again"], every_s * 0.75, hangs=hangs)

    assert longest_s == (4.5 if hangs else 3.0)


def test_while_all_is_well_there_is_nothing_new_to_write_down() -> None:
    """Otherwise a prober would write to its disk four times a second, for years."""
    belief = Belief()
    for at in range(5):
        outside.note(belief, Rule(), True, float(at), at + 0.5, 1000.0 + at)
    before = belief.to_json()
    outside.note(belief, Rule(), True, 9.0, 9.5, 1009.0)

    assert belief.to_json() == before
