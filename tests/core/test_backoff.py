"""Coming back: at once, but not all at once, and not for ever as fast as we can."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from holdfast.core.backoff import FIRST_S, LIMIT_S, Backoff


def test_first_attempt_has_no_delay_and_later_ones_double_to_a_limit() -> None:
    """Most losses are a router that is being restarted: waiting then would be downtime of our own making."""
    backoff = Backoff()
    delays = [backoff.next_s(1.0) for _ in range(10)]

    assert delays == [0.0, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]


def test_a_hundred_clients_do_not_come_back_in_step() -> None:
    """Chance takes up to half of each delay away."""
    one, other = Backoff(), Backoff()
    for _ in range(5):
        one.next_s(0.0)
        other.next_s(1.0)

    assert one.next_s(0.0) == other.next_s(1.0) / 2


def test_a_router_that_throws_us_out_at_once_is_not_hammered() -> None:
    """Only a session that lived for a while makes the next attempt a first one again."""
    backoff = Backoff()
    backoff.next_s(1.0)
    backoff.lived(0.01)

    assert backoff.next_s(1.0) == FIRST_S
    backoff.lived(LIMIT_S)
    assert backoff.next_s(1.0) == 0.0


@given(st.lists(st.floats(0, 1), min_size=1, max_size=2000))
def test_no_delay_is_ever_longer_than_the_limit(chances: list[float]) -> None:
    """However long the router is away, and whatever chance says."""
    backoff = Backoff()

    assert all(0 <= backoff.next_s(chance) <= LIMIT_S for chance in chances)
