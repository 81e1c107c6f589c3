"""Test an application that enqueues jobs: no store, no worker, no waiting.

    with jobs_inline():                       # enqueue runs the job, here and now
        assert resize.enqueue("a.png").result() == "a-small.png"

    with jobs_recorded() as jobs:             # enqueue only writes it down
        sign_up("ann@example.org")
        assert jobs.of(send)[0].args == ["ann@example.org"]
        jobs.run()

Arguments travel as they do for real: through JSON, and back through the annotations. Chains and batches follow; `unique`, `cancel`,
progress, checkpoints and results work. Times are not waited for, limits and timeouts not kept, and nothing is tried again: what
a job raises is raised where it was enqueued (or where `run` was called).
"""

from contextlib import contextmanager
from contextvars import copy_context
from typing import TYPE_CHECKING, Any

from holdfast.jobs import queue
from holdfast.model.jobs import Entry
from holdfast.sdk.job_batch import BATCH
from holdfast.sdk.job_context import JobContext, entering
from holdfast.sdk.job_middleware import around
from holdfast.sdk.job_registry import REGISTRY
from holdfast.wire import sidekiq

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from contextvars import Context

    from holdfast.sdk.job_sending import Sending


class RecordedJob:
    """A job that was enqueued."""

    __slots__ = ("args", "at_unix_s", "jid", "job", "kwargs", "name", "queue", "raw")

    def __init__(self, raw: bytes, at_unix_s: float) -> None:
        self.raw = raw
        self.job = sidekiq.loads(raw)  #: its JSON
        self.name = str(self.job["class"])
        self.args: list[Any] = self.job["args"]  # type: ignore[assignment]
        self.kwargs: Any = sidekiq.hf(self.job).get("kw", {})
        self.queue = str(self.job["queue"])
        self.jid = str(self.job["jid"])
        self.at_unix_s = at_unix_s  #: 0: at once

    def __repr__(self) -> str:
        return f"<{self.name} {self.args} in {self.queue}>"


class RecordedJobs:
    """All jobs that were enqueued in the block, in their order."""

    def __init__(self, is_inline: bool) -> None:
        self._all: list[RecordedJob] = []
        self._store = _Memory(self._all, is_inline)

    def of(self, job: "Sending[Any, Any] | str") -> "list[RecordedJob]":
        """Return those of one job, given as it is or by its name."""
        name = job if isinstance(job, str) else job.name
        return [one for one in self._all if one.name == name]

    def run(self) -> int:
        """Run all that wait, and those that they enqueue; return how many."""
        return self._store.run()

    def __len__(self) -> int:
        return len(self._all)

    def __iter__(self) -> "Iterator[RecordedJob]":
        return iter(self._all)

    def __getitem__(self, at: int) -> RecordedJob:
        return self._all[at]

    def __repr__(self) -> str:
        return repr(self._all)


@contextmanager
def jobs_inline() -> "Iterator[RecordedJobs]":
    """Run each job at once, inside of `enqueue`, for the time of the block."""
    with _instead(RecordedJobs(is_inline=True)) as jobs:
        yield jobs


@contextmanager
def jobs_recorded() -> "Iterator[RecordedJobs]":
    """Write down each job that is enqueued in the block; none runs before ``jobs.run()``."""
    with _instead(RecordedJobs(is_inline=False)) as jobs:
        yield jobs


@contextmanager
def _instead(jobs: RecordedJobs) -> "Iterator[RecordedJobs]":
    before = queue.use(queue.Queue(jobs._store))  # type: ignore[arg-type]  # noqa: SLF001 -- what workers and people need, it lacks
    try:
        yield jobs
    finally:
        queue.use(before)


class _Memory:
    """As much of a store as programs that enqueue need."""

    url = "memory:"

    def __init__(self, jobs: "list[RecordedJob]", is_inline: bool) -> None:
        self._jobs = jobs
        self._is_inline = is_inline
        self._waiting: dict[str, RecordedJob] = {}
        self._locks: dict[str, str] = {}
        self._notes: dict[str, dict[str, str]] = {}
        self._batches: dict[str, dict[str, int]] = {}
        self._callbacks: dict[str, bytes] = {}
        self._cancelled: set[str] = set()

    def push(self, jobs: "Sequence[bytes]", at_s: "Sequence[float] | None" = None) -> "list[str]":
        """Write jobs down; run them if that is what was asked for."""
        holders = []
        added = []
        for at, raw in enumerate(jobs):
            one = RecordedJob(raw, at_s[at] if at_s else 0.0)
            lock = sidekiq.hf(one.job).get("unique")
            holder = self._locks.get(str(lock), "") if lock else ""
            holders.append(holder)
            if holder:
                continue
            if lock:
                self._locks[str(lock)] = one.jid
            self._count(one, "total")
            self._jobs.append(one)
            self._waiting[one.jid] = one
            added.append(one)
        if self._is_inline:
            for one in added:
                self._run(one)
        return holders

    def run(self) -> int:
        """Run all that wait."""
        count = 0
        while self._waiting:
            self._run(next(iter(self._waiting.values())))
            count += 1
        return count

    def open_batch(self, batch: str, callback: bytes) -> None:
        """Begin to count."""
        self._batches[batch] = {"total": 0, "done": 0, "failed": 0, "open": 1}
        self._callbacks[batch] = callback

    def close_batch(self, batch: str) -> None:
        """Push the callback if all have ended."""
        self._batches[batch]["open"] = 0
        self._call_back(batch)

    def batch(self, batch: str) -> "dict[str, int] | None":
        """Return the counts of a batch."""
        return self._batches.get(batch)

    def note(self, jid: str, fields: "Mapping[str, str]", keep_s: float) -> None:  # noqa: ARG002 -- a test is over sooner
        """Keep something about a job."""
        self._notes.setdefault(jid, {}).update(fields)

    def notes(self, jid: str) -> "dict[str, str]":
        """Return what is kept about a job."""
        return dict(self._notes.get(jid, {}))

    def cancel(self, jid: str) -> None:
        """Drop it when its turn comes."""
        self._cancelled.add(jid)

    def find(self, jid: str) -> "Entry | None":
        """Return where a job waits."""
        one = self._waiting.get(jid)
        if one is None:
            return None
        return Entry("schedule" if one.at_unix_s else f"queue:{one.queue}", one.raw, one.at_unix_s)

    def _run(self, one: RecordedJob) -> None:
        self._waiting.pop(one.jid, None)
        if one.jid in self._cancelled:
            self._end(one, "dropped")
            return
        known = REGISTRY.get(one.name)
        if known is None:
            says = (
                f"no job {one.name!r} was imported; known: {', '.join(sorted(REGISTRY)) or 'none'}"
            )
            raise LookupError(says)
        scope = copy_context()
        scope.run(BATCH.set, "")
        try:
            result = _ran(known, one, JobContext(one.job, self), scope)  # type: ignore[arg-type]
        except BaseException:
            self._end(one, "dead")
            raise
        if sidekiq.hf(one.job).get("result_s"):
            self.note(one.jid, {"result": known.pack_result(result).decode()}, 0.0)
        self._end(one, "done")

    def _end(self, one: RecordedJob, state: str) -> None:
        self.note(one.jid, {"state": state}, 0.0)
        self._locks = {lock: jid for lock, jid in self._locks.items() if jid != one.jid}
        if state == "done":
            # First what follows, then the count: those may belong to the same batch.
            followers: Any = sidekiq.hf(one.job).get("then", ())
            self.push([text.encode() for text in followers])
        self._count(one, "done" if state == "done" else "failed")

    def _count(self, one: RecordedJob, what: str) -> None:
        batch = sidekiq.hf(one.job).get("batch")
        if isinstance(batch, str) and batch in self._batches:
            self._batches[batch][what] += 1
            if what != "total":
                self._call_back(batch)

    def _call_back(self, batch: str) -> None:
        counts = self._batches[batch]
        if counts["open"] or counts["done"] + counts["failed"] < counts["total"]:
            return
        callback = self._callbacks.pop(batch, b"")
        if callback:
            self.push((callback,))


def _ran(known: "Any", one: RecordedJob, context: JobContext, scope: "Context") -> "Any":
    """Run a job's function, as a worker would."""
    args, kwargs = known.bind(one.job)

    def run() -> "Any":
        with entering(context), around(known.middleware, context):
            return known.function(*args, **kwargs)

    async def run_async() -> "Any":
        with entering(context), around(known.middleware, context):
            return await known.function(*args, **kwargs)

    if not known.is_async:
        return scope.run(run)
    import asyncio
    from concurrent.futures import ThreadPoolExecutor

    # In a thread of its own: where this is called, a loop may be running already.
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(scope.run, asyncio.run, run_async()).result()
