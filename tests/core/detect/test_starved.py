"""A worker that gets no processor: told, with whose fault it is, and never a reason to restart anything."""

from holdfast.core import ladder
from holdfast.core.detect.sign import Sign
from holdfast.core.detect.starved import Starved


def after(
    waits: "list[tuple[float, float]]", *, blame: str = "", whose: str = ""
) -> "list[Sign | None]":
    """Return what is said second by second; waits: on the run queue, and behind a quota."""
    detector = Starved()
    return [
        detector.add(float(at), 1.0, queued_s, held_s, 0.5, whose=whose, blame=blame)
        for at, (queued_s, held_s) in enumerate(waits)
    ]


def test_a_worker_that_waits_on_the_run_queue_is_told_with_who_uses_the_machine() -> None:
    """Somebody compiles a kernel next door, and the pager blames the application."""
    said = after([(0.02, 0.0)] * 30 + [(0.9, 0.0)] * 45, blame='most of it goes to worker "build"')

    assert said[29] is None
    assert said[-1] is not None
    assert "the machine has none to spare; most of it goes to worker" in said[-1].says
    assert not said[-1].is_grave


def test_a_quota_is_told_apart_from_a_crowd() -> None:
    said = after([(0.0, 0.8)] * 12, whose="the worker itself")

    assert said[-1] is not None
    assert "the processor limit of the worker itself" in said[-1].says


def test_it_is_over_when_it_runs_again() -> None:
    said = after([(0.0, 0.9)] * 12 + [(0.0, 0.0)] * 15)

    assert said[11] is not None
    assert said[-1] is None


def test_a_busy_moment_and_a_busy_neighbour_are_no_hunger() -> None:
    """A compiler next door for twenty seconds, a cron job each minute, half of a processor for hours."""
    assert not any(after([(0.95, 0.0)] * 20 + [(0.05, 0.0)] * 20 + [(1.0, 0.0)] * 20))
    assert not any(after([(0.0, 0.95)] * 4 + [(0.0, 0.05)] * 20 + [(0.0, 1.0)] * 3))
    assert not any(after([(0.35, 0.1)] * 600))


def test_nothing_is_restarted_for_it() -> None:
    assert "starved" not in ladder.RUNGS
