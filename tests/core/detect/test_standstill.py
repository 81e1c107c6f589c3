"""A program without a heartbeat that is kept from running: stopped, or stuck in the kernel."""

from holdfast.core.detect.pegged import Pegged
from holdfast.core.detect.standstill import Standstill


def states(*seen: tuple[str, int], freeze_s: float = 1.0) -> list[bool]:
    """Look once a second; each look is (state, processor time in ns)."""
    standstill = Standstill()
    return [
        standstill.add(float(at), state, cpu_ns, freeze_s) is not None
        for at, (state, cpu_ns) in enumerate(seen)
    ]


def test_a_stopped_program_is_told_after_five_times_the_threshold() -> None:
    told = states(*[("S", 0)] * 3, *[("T", 0)] * 8)

    assert told.index(True) == 8


def test_a_program_stuck_in_the_kernel_is_told_and_one_that_reads_a_disk_is_not() -> None:
    """A backup is in state D at every look, and now and then it uses the processor."""
    assert any(states(*[("D", 7)] * 12))
    assert not any(states(*[("D", at // 5) for at in range(60)]))


def test_a_program_that_merely_waits_is_no_standstill() -> None:
    assert not any(states(*[("S", 0)] * 60))
    assert not any(states(*[("T", 0), ("S", 0)] * 30))


def test_one_call_that_computes_for_long_is_shown_and_a_night_job_is_not_restarted_for_it() -> None:
    """A program that never counted any work may be there to compute."""
    pegged = Pegged()
    told = [
        pegged.add(float(second), 1.0, 0, 1, lag_s=0.0, has_worked=False, limit_s=5.0)
        for second in range(200)
    ]

    first = next(sign for sign in told if sign is not None)
    assert first.says.endswith("a call under way and none ended")
    assert not any(sign.is_grave for sign in told if sign is not None)
