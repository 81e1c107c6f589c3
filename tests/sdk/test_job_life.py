"""What a program sees of its jobs while a worker has them: states, results, progress, checkpoints, chains and batches.

The stores are real ones (SQLite, Redis); the worker is the smallest that can be written.
"""

from __future__ import annotations

import asyncio
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from holdfast.jobs import queue
from holdfast.model.jobs import ACK, DEAD, DROP, Settle, StoreDownError
from holdfast.sdk import (
    Batch,
    JobCancelledError,
    JobContext,
    JobDroppedError,
    JobFailedError,
    JobTimeout,
    NoResultError,
    PayloadTooLargeError,
    Ref,
    around_job,
    batch,
    before_enqueue,
    current,
    job,
    push,
    use_jobs,
)
from holdfast.sdk.job_context import entering
from holdfast.sdk.job_middleware import around, forget
from holdfast.sdk.job_registry import REGISTRY
from holdfast.wire import sidekiq
from jobs.redis_server import redis_server
from node import SLOWNESS, wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from holdfast.jobs.store import Store

__all__ = ["redis_server"]

seen: list[Any] = []


@dataclass
class Sum:
    total: int


@job(name="life.add", result_for="1h")
def add(a: int, b: int) -> Sum:
    return Sum(a + b)


@job(name="life.note")
def note(what: str) -> None:
    seen.append(what)


@job(name="life.fail", retries=0)
def fail() -> None:
    raise RuntimeError("it is broken")


@job(name="life.report")
def report() -> None:
    inside = current().batch
    assert inside is not None
    seen.append(inside.counts())


@job(name="life.grow")
def grow(more: int) -> None:
    """Add to the batch that it belongs to."""
    mine = current().batch
    assert mine is not None
    with mine:
        note.enqueue_many([(f"grown {number}",) for number in range(more)])


class Worker:
    """As much of a worker as it takes."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.owner = "here:1:0123456789ab"
        self.token = 1
        store.register(self.owner, 60.0)

    def step(self) -> bool:
        """Run one job; tell whether there was one."""
        leases, _ = self.store.claim(self.owner, ["default", "low"], 1, self.token)
        if not leases:
            return False
        self.token += 1
        lease = leases[0]
        payload: dict[str, Any] = sidekiq.loads(lease.raw)
        registered = REGISTRY[payload["class"]]
        context = JobContext(payload, self.store)
        args, kwargs = registered.bind(payload)
        try:
            with entering(context), around(registered.middleware, context):
                result = registered.function(*args, **kwargs)
        except JobCancelledError:
            end = Settle(lease.token, DROP)
        except Exception as error:  # noqa: BLE001 -- a job may raise anything
            kept = sidekiq.fail(payload, type(error).__name__, str(error), [], time.time())
            end = Settle(lease.token, DEAD, sidekiq.dumps(kept), time.time())
        else:
            end = Settle(lease.token, ACK, result=registered.pack_result(result))
        assert self.store.claim(self.owner, [], 0, self.token, settled=[end]) == ([], [])
        return True

    def run(self) -> int:
        """Run all there is; return how many."""
        count = 0
        while self.step():
            count += 1
        return count


@pytest.fixture(params=["sqlite", "redis"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite://{tmp_path}/jobs.db"
    server = request.getfixturevalue("redis_server")
    server.do("FLUSHALL")
    found: str = server.url
    return found


@pytest.fixture
def worker(url: str) -> Iterator[Worker]:
    seen.clear()
    before = queue.use(None)
    use_jobs(url)
    store = queue.default().store
    yield Worker(store)
    queue.use(before)
    store.close()


def entered(payload: dict[str, Any], store: Any = None) -> JobContext:
    return JobContext({"class": "c", "args": [], "jid": "0", **payload}, store)


# -- what became of it ---------------------------------------------------------------------------------------


def test_a_program_follows_its_job_from_the_queue_to_its_result(worker: Worker) -> None:
    ref = add.enqueue(2, 3)
    later = add.schedule(in_="1h").enqueue(2, 3)
    assert (ref.state(), later.state()) == ("ready", "scheduled")

    assert worker.run() == 1

    assert ref.state() == "done"
    assert ref.result(timeout="10s") == Sum(5), "a dataclass as the function returned it"
    assert Ref[Any](ref.jid).result() == {"total": 5}, "who has only the id gets plain values"
    assert Ref[Any]("f" * 24).state() == "unknown"


def test_waiting_for_a_result_ends_with_the_job(worker: Worker) -> None:
    ref = add.enqueue(1, 1)
    thread = threading.Thread(target=worker.run)
    timer = threading.Timer(0.05, thread.start)
    timer.start()

    assert ref.result(timeout=30 * SLOWNESS) == Sum(2)

    timer.join()
    thread.join()


def test_asyncio_waits_without_blocking(worker: Worker) -> None:
    async def story() -> None:
        ref = await add.aenqueue(1, 1)
        assert await ref.astate() == "ready"
        waiting = asyncio.create_task(ref.aresult(timeout=30 * SLOWNESS))
        await asyncio.to_thread(worker.run)
        assert await waiting == Sum(2)
        other = await add.aenqueue(1, 1)
        await other.acancel()
        assert await other.aprogress() is None
        with pytest.raises(TimeoutError):
            await other.aresult(timeout=0.01)

    asyncio.run(story())


def test_waiting_has_an_end(worker: Worker) -> None:
    ref = add.enqueue(1, 1)

    with pytest.raises(TimeoutError, match=rf"job {ref.jid} has not ended within 0\.01 s"):
        ref.result(timeout="10ms")
    assert worker.run() == 1


def test_waiting_outlives_a_store_that_is_down(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A restart of Redis is no reason for a web request to fail."""
    ref = add.enqueue(1, 1)
    worker.run()
    notes = worker.store.notes
    troubles = iter([StoreDownError("connection refused")] * 3)

    def sometimes(jid: str) -> dict[str, str]:
        if (trouble := next(troubles, None)) is not None:
            raise trouble
        return notes(jid)

    monkeypatch.setattr(type(worker.store), "notes", lambda _, jid: sometimes(jid))

    assert ref.result(timeout=30 * SLOWNESS) == Sum(2)
    troubles = iter([StoreDownError("connection refused")] * 1000)
    with pytest.raises(TimeoutError, match="connection refused"):
        ref.result(timeout=0.02)


def test_a_job_that_was_given_up_says_why(worker: Worker) -> None:
    ref = fail.options(result_for="1h").enqueue()
    worker.run()

    with pytest.raises(
        JobFailedError,
        match=rf"job {ref.jid} \(life\.fail\) was given up: RuntimeError: it is broken",
    ) as caught:
        ref.result(timeout=10)
    assert (caught.value.error_class, caught.value.error_message) == (
        "RuntimeError",
        "it is broken",
    )
    assert ref.state() == "dead"


def test_a_cancelled_job_is_not_run(worker: Worker) -> None:
    ref = note.options(result_for=60).enqueue("never")
    ref.cancel()

    assert worker.run() == 0

    assert seen == []
    assert ref.state() == "dropped"
    with pytest.raises(JobDroppedError, match="was cancelled, or its deadline passed"):
        ref.result(timeout=10)


def test_a_result_whose_time_is_over_is_not_none(worker: Worker) -> None:
    """None is what a function may have returned; so it was, too, when a process died just after its job's end."""
    ref = add.options(result_for=0.05).enqueue(1, 1)
    worker.run()
    wait_for(lambda: "result" not in worker.store.notes(ref.jid), "the result is forgotten")

    assert ref.state() == "done"
    with pytest.raises(NoResultError, match=rf"job {ref.jid} is done, and its result is not there"):
        ref.result(timeout=10)


def test_asking_for_a_result_that_is_not_kept_is_an_error_at_once(worker: Worker) -> None:
    """Else one would wait for ever."""
    ref = note.enqueue("x")

    with pytest.raises(NoResultError, match=r'(?s)life\.note are not kept.*result_for="1h"'):
        ref.result()
    assert worker.run() == 1


def test_a_lock_lets_one_in_at_a_time(worker: Worker) -> None:
    only = note.options(unique=True)
    first = only.enqueue("a")
    second = only.enqueue("a")
    assert (second == first, second.is_new, only.enqueue("b").is_new) == (True, False, True)

    worker.run()

    assert only.enqueue("a").is_new


def test_a_job_that_no_one_here_declares_is_only_a_name(worker: Worker) -> None:
    ref = push("HardWorker", 1, queue="ruby")

    assert ref.state() == "ready"
    assert worker.run() == 0


# -- inside of a job -----------------------------------------------------------------------------------------


def test_a_job_says_how_far_it_got(worker: Worker) -> None:
    @job(name="life.progress")
    def walk() -> None:
        current().progress(1, 4, "pages")
        current().progress(2, 4)  # too soon after the first to be written
        first = ref.progress()
        assert first is not None
        assert (first.done, first.of, first.text, first.share) == (1, 4, "pages", 0.25)
        current().progress(4, 4)

    ref = walk.enqueue()
    assert ref.progress() is None
    worker.run()

    last = ref.progress()
    assert last is not None
    assert (last.done, last.share) == (4, 1.0)
    assert time.time() - last.at_unix_s < 60
    assert ref.state() != "dead"


def test_progress_that_cannot_be_written_does_not_fail_the_job() -> None:
    class Down:
        def note(self, *_: object) -> None:
            raise StoreDownError("connection refused")

    context = entered({}, Down())
    context.progress(1, 2)

    with pytest.raises(StoreDownError):
        context.checkpoint(1)


def test_a_checkpoint_is_there_in_the_next_life(worker: Worker) -> None:
    """A job of an hour that is killed after fifty minutes goes on where it was."""
    walked = []

    @job(name="life.resume")
    def walk() -> None:
        context = current()
        for page in range(context.saved or 0, 5):
            walked.append(page)
            context.checkpoint(page + 1)
            assert context.saved == page + 1
            if page == 2 and len(walked) == 3:
                raise KeyboardInterrupt  # as good as SIGKILL: the worker is gone

    walk.enqueue()
    with pytest.raises(KeyboardInterrupt):
        worker.run()
    worker.store.recover(worker.owner, [])
    worker.owner = "here:2:0123456789ab"
    worker.store.register(worker.owner, 60.0)
    worker.run()

    assert walked == [0, 1, 2, 3, 4]


def test_a_context_knows_its_attempt() -> None:
    assert entered({}).attempt == 1
    assert entered({"retry_count": 0}).attempt == 2
    assert entered({"retry_count": 24}).is_last_attempt
    assert not entered({"retry_count": 23}).is_last_attempt
    assert entered({"retry": 0}).is_last_attempt
    assert entered({"retry": 1, "retry_count": 0}).is_last_attempt
    assert not entered({"retry": 1}).is_last_attempt
    context = entered({"queue": "q", "hf": {"strikes": 1, "cron": 60.0}})
    assert (context.name, context.queue, context.strikes, context.slot_unix_s) == (
        "c",
        "q",
        1,
        60.0,
    )
    assert context.batch is None


def test_a_checkpoint_is_what_was_said_or_an_error() -> None:
    """JSON makes null of nan, and the next run would begin at nothing."""
    with pytest.raises(ValueError, match=r"checkpoint\(.*nan.*\): JSON has no nan"):
        entered({}).checkpoint({"at": float("nan")})


def test_a_context_tells_of_its_cancellation() -> None:
    context = entered({})
    context.raise_if_cancelled()
    context.is_cancelled = True

    with pytest.raises(JobCancelledError, match="job 0 was cancelled"):
        context.raise_if_cancelled()


def test_outside_of_a_job_there_is_none() -> None:
    with pytest.raises(RuntimeError, match="no job is running here"):
        current()
    with entering(entered({})) as context:
        assert current() is context
    with pytest.raises(RuntimeError):
        current()
    assert issubclass(JobTimeout, Exception)


def test_a_log_line_of_a_job_names_it(capfd: pytest.CaptureFixture[str]) -> None:
    with entering(entered({"jid": "abc"})):
        current().log.info("moved", card=3)

    assert capfd.readouterr().out == "level=info component=job moved job=c jid=abc card=3\n"


# -- jobs that belong together -------------------------------------------------------------------------------


def test_a_chain_runs_in_order_and_each_follower_once(worker: Worker) -> None:
    ref = note.job("1").then(note.job("2")).then(note.options(queue="low").job("3")).enqueue()

    assert ref.followers[0].state() == "unknown"
    assert worker.run() == 3

    assert seen == ["1", "2", "3"]
    assert len({ref.jid, ref.followers[0].jid, ref.followers[0].followers[0].jid}) == 3


def test_a_chain_that_is_too_long_says_so_before_anything_is_stored(worker: Worker) -> None:
    plan = note.job("0")
    for number in range(20):
        plan = plan.then(note.job(str(number)))

    with pytest.raises(PayloadTooLargeError, match="let a job enqueue the next one"):
        plan.enqueue()
    assert worker.run() == 0


def test_a_fork_runs_all_its_branches(worker: Worker) -> None:
    plan = note.job("1").then(note.job("2"), note.job("3").then(note.job("4")))
    plan.enqueue()
    plan.enqueue()

    worker.run()

    assert sorted(seen) == ["1", "1", "2", "2", "3", "3", "4", "4"]
    with pytest.raises(TypeError, match="use a batch"):
        plan.then(note.job("5"))
    with pytest.raises(TypeError, match=r"takes planned jobs: then\(send\.job"):
        note.job("1").then(note)  # type: ignore[arg-type]


def test_what_follows_a_failure_is_not_run(worker: Worker) -> None:
    fail.job().then(note.job("never")).enqueue()

    worker.run()

    assert seen == []


def test_a_planned_job_is_checked_where_it_is_planned(worker: Worker) -> None:
    with pytest.raises(ValueError, match='argument "what": expected str'):
        note.job(5)  # type: ignore[arg-type]
    later = note.schedule(in_="1h").job("x").enqueue()
    assert later.state() == "scheduled"
    assert asyncio.run(note.job("y").aenqueue()).is_new
    assert worker.run() == 1


def test_a_batch_calls_back_when_the_last_of_its_jobs_has_ended(worker: Worker) -> None:
    with batch(then=report.job()) as mine:
        note.enqueue_many([("a",), ("b",)])
        fail.enqueue()
        note.job("c").then(note.job("d")).enqueue()
        assert mine.counts()["open"] == 1
        worker.step()
    note.enqueue("not of the batch")
    assert not mine.is_over

    worker.run()

    assert seen[-1] == {"total": 5, "done": 4, "failed": 1, "open": 0}
    assert sorted(seen[:-1]) == ["a", "b", "c", "d", "not of the batch"]
    assert mine.wait(10 * SLOWNESS) == Batch(mine.id).counts() == seen[-1]


def test_a_job_of_a_batch_may_add_to_it(worker: Worker) -> None:
    with batch(then=report.job()):
        grow.enqueue(3)

    worker.run()

    assert seen == [
        "grown 0",
        "grown 1",
        "grown 2",
        {"total": 4, "done": 4, "failed": 0, "open": 0},
    ]


def test_an_empty_batch_calls_back_at_once(worker: Worker) -> None:
    async def story() -> None:
        async with batch(then=report.job()) as mine:
            pass
        assert (await mine.await_("10s"))["open"] == 0

    asyncio.run(story())
    worker.run()

    assert seen == [{"total": 0, "done": 0, "failed": 0, "open": 0}]


def test_a_batch_whose_block_failed_never_calls_back(worker: Worker) -> None:
    """Half of the jobs are no reason to send the report."""
    mine = batch(then=report.job())

    def fill() -> None:
        with mine:
            note.enqueue("a")
            raise RuntimeError("in the block")

    with pytest.raises(RuntimeError, match="in the block"):
        fill()
    note.enqueue("b")

    worker.run()

    assert seen == ["a", "b"]
    assert mine.counts() == {"total": 1, "done": 1, "failed": 0, "open": 1}
    with pytest.raises(TimeoutError, match="has not ended in time"):
        mine.wait("10ms")


def test_wrong_uses_of_batches_are_said(worker: Worker) -> None:
    with pytest.raises(TypeError, match=r"batch\(then=report\.job"):
        batch(then=report)  # type: ignore[arg-type]
    with pytest.raises(LookupError, match="is unknown"):
        Batch("0" * 24).counts()
    assert worker.run() == 0


# -- middleware ----------------------------------------------------------------------------------------------


def test_middleware_wraps_runs_global_outside_own_inside(worker: Worker) -> None:
    def inner(context: JobContext) -> Iterator[None]:
        seen.append(f"in {context.name}")
        yield
        seen.append("out")

    @job(name="life.wrapped", around=[inner])
    def wrapped() -> None:
        seen.append("run")

    def outer(context: JobContext) -> Iterator[None]:
        seen.append("outer in")
        try:
            yield
        finally:
            seen.append(f"outer out {context.attempt}")

    assert around_job(outer) is outer
    try:
        wrapped.enqueue()
        fail.enqueue()
        worker.run()
    finally:
        forget(outer)

    assert seen == [
        "outer in",
        "in life.wrapped",
        "run",
        "out",
        "outer out 1",
        "outer in",
        "outer out 1",
    ]
    assert len(wrapped.middleware) == 1
    assert fail.middleware == ()


def test_middleware_that_is_no_generator_function_is_refused() -> None:
    with pytest.raises(TypeError, match="a middleware around jobs is a generator function"):
        around_job(print)  # type: ignore[arg-type]


def test_a_middleware_that_cannot_begin_lets_the_others_clean_up(worker: Worker) -> None:
    def first(_: JobContext) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:
            seen.append(str(error))
            raise

    def second(_: JobContext) -> Iterator[None]:
        if context_is_bad:
            raise RuntimeError("no database")
        yield

    context_is_bad = True
    ref = job(name="life.stack", around=[first, second], retries=0)(lambda: None).enqueue()
    worker.run()

    assert seen == ["no database"]
    assert ref.state() == "dead"


def test_what_middleware_adds_counts_as_payload(worker: Worker) -> None:
    """The limit is there for the store, which does not care who wrote the three megabytes."""

    def generous(payload: dict[str, Any]) -> None:
        payload["trace"] = "x" * 3_000_000

    heavy = job(name="life.heavy", before=[generous])(lambda: None)

    with pytest.raises(PayloadTooLargeError, match="3,000,"):
        heavy.enqueue()
    with pytest.raises(PayloadTooLargeError):
        heavy.enqueue_many([()])
    assert worker.store.counts().queues == {}


def test_middleware_before_enqueue_changes_or_refuses(worker: Worker) -> None:
    def traced(payload: dict[str, Any]) -> None:
        payload["trace_id"] = "t1"

    def strict(payload: dict[str, Any]) -> None:
        if "secret" in payload["args"]:
            raise PermissionError("no secrets in the queue")

    guarded = job(name="life.guarded", before=[strict])(lambda what: seen.append(what))
    before_enqueue(traced)
    try:
        refs = [guarded.enqueue("a"), *guarded.enqueue_many([("b",)]), note.enqueue("c")]
        with pytest.raises(PermissionError):
            guarded.options(queue="low").enqueue("secret")
    finally:
        forget(traced)

    for ref in refs:
        entry = worker.store.find(ref.jid)
        assert entry is not None
        assert sidekiq.loads(entry.raw)["trace_id"] == "t1"
    assert worker.run() == 3
