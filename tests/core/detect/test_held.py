"""One request that holds a process: told by the past of all, never for being slow as ever."""

from __future__ import annotations

from holdfast.core.detect.held import LEAST, held, sentence

USUAL = {"freeze_s": 1.0, "timeout_s": 5.0, "is_whole": True}


def test_a_request_that_never_ends_is_told_after_a_second() -> None:
    """A sync worker has no loop whose silence could tell."""
    assert held(1.1, 0.0, 0.005, 500, **USUAL) == (False, 1.0)  # type: ignore[arg-type]


def test_what_takes_its_time_as_ever_is_no_news() -> None:
    """Reports, exports and uploads are what sync workers are for."""
    assert held(9.0, 1.2, 0.1, 500, **USUAL) is None  # type: ignore[arg-type]
    assert held(2.0, 0.0, 0.08, 500, **USUAL) is None  # type: ignore[arg-type]


def test_without_a_past_nothing_is_told_early() -> None:
    """The first requests of a day warm caches."""
    assert held(10.0, 0.0, 0.005, LEAST - 1, **USUAL) is None  # type: ignore[arg-type]


def test_longer_than_any_servers_patience_is_a_reason_to_act() -> None:
    assert held(31.0, 0.0, 0.0, 0, **USUAL) == (True, 30.0)  # type: ignore[arg-type]


def test_a_server_that_is_known_for_long_requests_is_given_more() -> None:
    assert held(31.0, 12.0, 1.0, 500, **USUAL) is None  # type: ignore[arg-type]


def test_a_single_thread_is_never_a_reason_to_end_the_process() -> None:
    """The other threads serve on: ending them would be the outage."""
    found = held(3600.0, 0.0, 0.005, 500, freeze_s=1.0, timeout_s=5.0, is_whole=False)

    assert found is not None
    assert not found[0]


def test_the_sentence_says_what_it_means() -> None:
    assert sentence(2.0, 0.5, is_whole=True) == (
        "one request has held the process for 2.0 s, the longest before took 0.5 s: nothing else is served by it"
    )
    assert "a thread" in sentence(2.0, 0.0, is_whole=False)
