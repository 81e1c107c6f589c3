"""When a dead worker comes back: the policy, told as stories and checked as properties."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hypothesis import given
from hypothesis import strategies as st

from holdfast.core.restart import Decision, History, after_death

if TYPE_CHECKING:
    from holdfast.model.plan import RestartPolicy


def policy(**changes: object) -> RestartPolicy:
    rules: Any = {
        "policy": "always", "limit": 5, "window_s": 60.0, "after_limit": "slow", "delay_s": 0.1,
        "delay_max_s": 30.0, "jitter": 0.0, "healthy_s": 1.0,
    }  # fmt: skip
    rules.update(changes)
    return rules  # type: ignore[no-any-return]


def die(rules: RestartPolicy, lives: list[float], *, clean: bool = False) -> list[Decision]:
    """Let a worker live these lives, one after another, and return what was decided each time."""
    now_s, history, told = 1000.0, History(), []
    for lived_s in lives:
        now_s += lived_s
        decision = after_death(
            rules, history, now_s=now_s, lived_s=lived_s, clean=clean, chance=0.5
        )
        told.append(decision)
        history = decision.history
        now_s += decision.delay_s
    return told


def test_the_first_death_after_a_good_life_restarts_at_once() -> None:
    """Most crashes are one-offs; a delay would be downtime that we chose to have."""
    (only,) = die(policy(), [3600.0])

    assert (only.action, only.delay_s) == ("restart", 0.0)


def test_short_lives_make_the_delay_grow() -> None:
    """supervisor #487: all attempts happened within a second of a database failover."""
    told = die(policy(limit=0), [0.1] * 6)

    assert [d.delay_s for d in told] == [0.0, 0.1, 0.2, 0.4, 0.8, 1.6]


def test_a_good_life_makes_it_prompt_again() -> None:
    """systemd #43813: back-off that resets when the program is healthy again."""
    told = die(policy(limit=0), [0.1, 0.1, 0.1, 90.0])

    assert told[-1].action == "restart"


def test_beyond_the_limit_it_slows_down_but_never_stops() -> None:
    """OTP gives up; a machine at night is better served by a try every half minute."""
    told = die(policy(), [2.0] * 12)

    assert [d.action for d in told[:6]] == ["restart"] * 5 + ["slow"]
    assert told[5].delay_s == 30.0
    assert {d.action for d in told[6:]} <= {"restart", "slow"}


def test_beyond_the_limit_it_is_left_down_where_that_was_asked_for() -> None:
    told = die(policy(after_limit="down"), [2.0] * 6)

    assert told[-1].action == "down"


def test_deaths_outside_the_window_do_not_count() -> None:
    told = die(policy(limit=2, window_s=60.0), [50.0, 50.0, 50.0, 50.0])

    assert {d.action for d in told} == {"restart"}


def test_policies_that_do_not_want_it_again() -> None:
    (never,) = die(policy(policy="never"), [1.0])
    (done,) = die(policy(policy="on-failure"), [1.0], clean=True)
    (failed,) = die(policy(policy="on-failure"), [1.0], clean=False)

    assert [never.action, done.action, failed.action] == ["none", "none", "restart"]


@given(
    lives=st.lists(st.floats(0, 1000), min_size=1, max_size=200),
    limit=st.integers(0, 10),
    window_s=st.floats(0.1, 1000),
    delay_s=st.floats(0.001, 10),
    jitter=st.floats(0, 1),
    chance=st.floats(0, 1),
)
def test_no_life_story_breaks_the_rule(
    lives: list[float], limit: int, window_s: float, delay_s: float, jitter: float, chance: float
) -> None:
    """Whatever happens: delays stay within bounds, memory stays bounded, `slow` only beyond the limit."""
    rules = policy(limit=limit, window_s=window_s, delay_s=delay_s, jitter=jitter)
    now_s, history = 0.0, History()
    for lived_s in lives:
        now_s += lived_s
        decision = after_death(
            rules, history, now_s=now_s, lived_s=lived_s, clean=False, chance=chance
        )

        in_window = [at for at in [*history.deaths, now_s] if at > now_s - window_s]
        assert 0.0 <= decision.delay_s <= 2 * rules["delay_max_s"]
        assert len(decision.history.deaths) <= max(1, limit + 1)
        assert (decision.action == "slow") == (limit > 0 and len(in_window) > limit)
        history = decision.history
