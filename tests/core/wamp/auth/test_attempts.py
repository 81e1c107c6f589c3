"""Who guesses too often waits; everybody else does not."""

from __future__ import annotations

from holdfast.core.wamp.auth.attempts import Attempts


def test_a_guesser_waits_until_the_oldest_guess_is_a_window_ago() -> None:
    """Three in ten seconds; then as slow as that, for ever."""
    attempts = Attempts(limit=3, window_s=10.0)
    for at_s in (0.0, 1.0, 2.0):
        assert attempts.wait_s("eve", at_s) == 0.0
        attempts.note_failure("eve", at_s)

    assert attempts.wait_s("eve", 2.0) == 8.0
    assert attempts.wait_s("joe", 2.0) == 0.0
    assert attempts.wait_s("eve", 10.0) == 0.0
    attempts.note_failure("eve", 10.0)
    assert attempts.wait_s("eve", 10.0) == 1.0


def test_a_peer_that_waited_costs_nothing_any_more() -> None:
    """No memory of yesterday's typing mistakes."""
    attempts = Attempts(limit=3, window_s=10.0)
    attempts.note_failure("joe", 0.0)

    assert attempts.wait_s("joe", 10.0) == 0.0
    assert attempts._failures == {}


def test_guessing_from_many_addresses_does_not_fill_the_memory() -> None:
    """The one that failed longest ago is forgotten."""
    attempts = Attempts(limit=1, window_s=10.0)
    for number in range(10_001):
        attempts.note_failure(f"peer{number}", 0.0)

    assert len(attempts._failures) == 10_000
    assert attempts.wait_s("peer0", 0.0) == 0.0
    assert attempts.wait_s("peer10000", 0.0) == 10.0
