"""The deque that executors take their jobs from, while somebody else goes through it."""

from __future__ import annotations

import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest

from holdfast.engine.crew import Crew
from holdfast.model.jobs import Lease

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def crew() -> Iterator[Crew]:
    """A crew whose jobs are taken as fast as they come, by a thread that gets its turn very often."""
    made = Crew(1)
    is_over = threading.Event()

    def take() -> None:
        while not is_over.is_set():
            try:
                made.waiting.popleft()
            except IndexError:
                continue

    before, thread = sys.getswitchinterval(), threading.Thread(target=take)
    sys.setswitchinterval(1e-6)
    thread.start()
    yield made
    is_over.set()
    thread.join()
    sys.setswitchinterval(before)


def items(n: int) -> list[Any]:
    return [
        (Lease(token, "default", b"{}"), {"queue": f"q{token % 3}"}, None) for token in range(n)
    ]


def test_executors_take_jobs_while_their_queues_are_noted(crew: Crew) -> None:
    """A worker that had both plain functions and coroutines crashed here, once in some 10,000 short jobs."""
    waiting = items(200)
    for turn in range(300):
        crew.waiting.extend(waiting)
        crew.see_queues(turn)

    assert crew.seen.keys() <= {"q0", "q1", "q2"}


def test_executors_take_jobs_while_those_are_sought_that_others_have_by_now(crew: Crew) -> None:
    waiting = items(200)
    for _ in range(300):
        crew.waiting.extend(waiting)
        crew.forget(range(100, 200))

    assert all(lease.token < 100 for lease, _, _ in crew.waiting.copy())
