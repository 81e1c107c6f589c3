"""When is a thread at a lock a sickness?"""

from holdfast.core.detect.deadlock import deadlock


def test_a_lock_held_for_moments_is_what_locks_are_for() -> None:
    assert deadlock(3, 9.9, 0.0, 0, 10.0) is None


def test_nobody_at_a_lock_says_nothing() -> None:
    assert deadlock(0, 1000.0, 0.0, 0, 10.0) is None


def test_one_that_stands_is_shown_and_nothing_is_done() -> None:
    """Whoever holds the lock may be slow: the others' work is not to be thrown away for it."""
    sign = deadlock(1, 600.0, 0.0, 0, 10.0)
    assert sign is not None
    assert (sign.is_grave, sign.says) == (False, "a thread has waited for a lock for 10 min")


def test_two_that_stand_in_a_process_that_rests_are_grave() -> None:
    early, late = deadlock(2, 11.0, 0.0, 0, 10.0), deadlock(2, 61.0, 0.0, 0, 10.0)
    assert early is not None
    assert late is not None
    assert (early.is_grave, late.is_grave) == (False, True)


def test_as_long_as_work_gets_done_it_is_not_grave() -> None:
    for share, finished in ((0.4, 0), (0.0, 3)):
        sign = deadlock(5, 600.0, share, finished, 10.0)
        assert sign is not None
        assert not sign.is_grave
