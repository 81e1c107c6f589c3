"""Applications that enqueue are tested without a store: at once, or written down."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest

from holdfast.jobs import queue
from holdfast.sdk import JobDroppedError, batch, current, job
from holdfast.sdk.job_cron import entries
from holdfast.sdk.testing import jobs_inline, jobs_recorded

seen: list[Any] = []


@pytest.fixture(autouse=True)
def nothing_seen() -> None:
    seen.clear()


@job(name="testing.when", result_for="1h")
def when(moment: datetime) -> int:
    seen.append(moment)
    return moment.year


@job(name="testing.awaits", result_for="1h", unique=True)
async def awaits(what: str) -> str:
    await asyncio.sleep(0)
    seen.append(what)
    return what.upper()


@job(name="testing.outer")
def outer() -> None:
    awaits.enqueue("from inside")
    current().progress(1, 1)
    current().checkpoint({"a": 1})
    seen.append(current().saved)


@job(name="testing.breaks")
def breaks() -> None:
    raise LookupError("broken")


def test_inline_jobs_run_where_they_are_enqueued() -> None:
    with jobs_inline() as jobs:
        ref = when.enqueue(datetime(2026, 1, 1, tzinfo=UTC))

        assert seen == [datetime(2026, 1, 1, tzinfo=UTC)], "through JSON and back"
        assert (ref.result(), ref.state()) == (2026, "done")
        assert awaits.enqueue("a").result() == "A"
        assert len(jobs) == 2


def test_inline_jobs_may_enqueue_and_be_awaited() -> None:
    async def story() -> None:
        with jobs_inline() as jobs:
            assert await (await awaits.aenqueue("a")).aresult(timeout=5) == "A"
            assert awaits.enqueue("b").result() == "B", "on a running loop, too"
            progress = outer.enqueue().progress()
            assert progress is not None
            assert progress.share == 1.0
            assert [one.name for one in jobs][-2:] == ["testing.outer", "testing.awaits"]

    asyncio.run(story())
    assert seen == ["a", "b", "from inside", {"a": 1}]


def test_an_inline_failure_is_raised_where_the_job_was_enqueued() -> None:
    with jobs_inline(), pytest.raises(LookupError, match="broken"):
        breaks.enqueue()


def test_recorded_jobs_wait_until_they_are_run() -> None:
    with jobs_recorded() as jobs:
        awaits.enqueue("a")
        when.schedule(in_="1h").enqueue(datetime(2026, 1, 1, tzinfo=UTC))
        outer.options(queue="low").enqueue()

        assert seen == []
        assert len(jobs) == 3
        assert jobs.of(awaits)[0].args == ["a"]
        assert jobs.of("testing.when")[0].at_unix_s > 0
        assert jobs[2].queue == "low"
        assert jobs.run() == 4, "one was enqueued by another"
        assert jobs.run() == 0
    assert len(seen) == 4


def test_recorded_jobs_have_locks_and_can_be_cancelled() -> None:
    with jobs_recorded() as jobs:
        first = awaits.enqueue("a")
        assert awaits.enqueue("a") == first
        other = awaits.enqueue("b")
        other.cancel()
        assert (first.state(), other.state()) == ("ready", "ready")
        jobs.run()

        with pytest.raises(JobDroppedError):
            other.result()
        assert awaits.enqueue("a").is_new
    assert seen == ["a"]


def test_chains_and_batches_follow() -> None:
    with jobs_recorded() as jobs:
        with batch(then=awaits.job("last")) as mine:
            awaits.job("1").then(awaits.job("2")).enqueue()
            awaits.enqueue("3")
        jobs.run()

        assert seen == ["1", "3", "2", "last"]
        assert mine.counts() == {"total": 3, "done": 3, "failed": 0, "open": 0}


def test_the_queue_of_before_comes_back() -> None:
    before = queue.use(None)
    try:
        with jobs_inline():
            inside = queue.default()
        assert queue.use(None) is None
        assert inside is not before
    finally:
        queue.use(before)


def test_a_job_that_was_not_imported_is_named() -> None:
    from holdfast.sdk import push

    with (
        jobs_inline(),
        pytest.raises(LookupError, match="no job 'HardWorker' was imported; known: "),
    ):
        push("HardWorker")


# -- by the clock --------------------------------------------------------------------------------------------


def test_periodic_jobs_are_listed_for_the_steward() -> None:
    nightly = job(name="testing.nightly", cron="30 4 * * mon", tz="Europe/Berlin", queue="low", unique=True)(lambda: None)  # fmt: skip
    hourly = job(name="testing.hourly", cron="@hourly")(lambda often=1: None)  # noqa: ARG005

    assert entries([when, nightly, hourly]) == [
        {"name": "testing.nightly", "cron": "30 4 * * mon", "tz": "Europe/Berlin", "queue": "low", "payload": {
            "class": "testing.nightly", "args": [], "queue": "low", "retry": True, "backtrace": True,
            "hf": {"unique": "testing.nightly:[]"}}},
        {"name": "testing.hourly", "cron": "0 * * * *", "tz": "", "queue": "default", "payload": {
            "class": "testing.hourly", "args": [], "queue": "default", "retry": True, "backtrace": True}},
    ]  # fmt: skip
    assert {entry["name"] for entry in entries()} >= {"testing.nightly", "testing.hourly"}
