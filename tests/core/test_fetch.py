"""How many jobs a worker takes at a time: none ahead where they are long, many where they are short."""

from hypothesis import given
from hypothesis import strategies as st

from holdfast.core.fetch import MOST, WORTH_S, Pace, how_many


def settled(pace: Pace, executors: int, took_s: float) -> int:
    """What is taken ahead once a worker has run jobs of this length for a while."""
    ahead = 0
    for _ in range(50):
        pace.ran(10, 10 * took_s)
        ahead = pace.ahead(executors)
    return ahead


def test_a_worker_that_knows_nothing_takes_what_it_can_start() -> None:
    """The first jobs may be hours long: none of them waits behind another here while a neighbour idles."""
    pace = Pace()

    assert pace.ahead(1) == 0
    assert how_many(free=10, waiting=0, ahead=pace.ahead(10)) == 10


def test_long_jobs_are_never_taken_ahead() -> None:
    assert settled(Pace(), 10, 1.0) == 0
    assert settled(Pace(), 1, WORTH_S) == 0


def test_short_jobs_are_taken_by_the_hundred() -> None:
    """A round trip costs more than such a job."""
    assert settled(Pace(), 1, 20e-6) == MOST
    assert settled(Pace(), 10, 20e-6) == MOST


def test_middling_jobs_are_worth_the_agreed_time() -> None:
    assert 8 <= settled(Pace(), 1, 0.005) <= 9, "and one runs"


def test_what_is_taken_ahead_grows_by_doubling() -> None:
    """Behind ten short jobs there may be long ones."""
    pace = Pace()
    grown = []
    for _ in range(6):
        pace.ran(1000, 1000 * 20e-6)
        grown.append(pace.ahead(1))

    assert grown == [1, 3, 7, 15, 31, 63]


def test_a_stall_is_remembered_at_once() -> None:
    """What was taken ahead had to be given back: the next fetch takes one."""
    pace = Pace()
    assert settled(pace, 1, 20e-6) == MOST

    pace.stalled()

    assert pace.ahead(1) == 0
    assert settled(pace, 1, 20e-6) == MOST, "and short jobs win their batches back"


def test_one_long_job_among_short_ones_is_remembered_for_a_few_jobs_only() -> None:
    pace = Pace()
    settled(pace, 1, 20e-6)
    pace.ran(1, 10.0)
    assert pace.ahead(1) == 0

    assert settled(pace, 1, 20e-6) == MOST


@given(free=st.integers(0, 500), waiting=st.integers(0, 500), ahead=st.integers(0, MOST))
def test_it_never_holds_more_than_it_may(free: int, waiting: int, ahead: int) -> None:
    limit = how_many(free, waiting, ahead)

    assert limit >= 0
    assert waiting + limit <= max(waiting, free + ahead)


@given(
    runs=st.lists(st.tuples(st.integers(1, 1000), st.floats(0, 1e5)), max_size=30),
    executors=st.integers(1, 1000),
)
def test_whatever_it_has_seen_it_takes_a_sensible_number(
    runs: list[tuple[int, float]], executors: int
) -> None:
    pace = Pace()
    for jobs, took_s in runs:
        pace.ran(jobs, took_s)
        assert 0 <= pace.ahead(executors) <= MOST
