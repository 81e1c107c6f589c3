"""One call of a job's function, with its middleware around it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, cast

import pytest

from holdfast.engine import running
from holdfast.sdk.job_context import JobContext
from holdfast.sdk.job_registry import REGISTRY
from holdfast.sdk.jobs import job

if TYPE_CHECKING:
    from collections.abc import Iterator

    from holdfast.jobs.store import Store

PAYLOAD: dict[str, Any] = {"class": "c", "args": [], "jid": "0"}


@pytest.fixture(autouse=True)
def _forgotten() -> Iterator[None]:
    before = dict(REGISTRY)
    yield
    REGISTRY.clear()
    REGISTRY.update(before)


def forgiving(_: JobContext) -> Iterator[None]:
    try:
        yield
    except ValueError:
        pass


@pytest.mark.parametrize("is_async", [False, True])
def test_a_job_whose_error_a_middleware_swallows_ran_once(is_async: bool) -> None:
    """It was called again, without its middleware, and failed after all: its effects were there twice."""
    ran = []

    @job(name="plain", around=[forgiving])
    def plain() -> None:
        ran.append("plain")
        raise ValueError

    @job(name="coroutine", around=[forgiving])
    async def coroutine() -> None:
        ran.append("coroutine")
        raise ValueError

    context = JobContext(PAYLOAD, cast("Store", None))
    if is_async:
        assert asyncio.run(running.await_call(coroutine, PAYLOAD, context)) is None
    else:
        assert running.call(plain, PAYLOAD, context) is None

    assert len(ran) == 1
