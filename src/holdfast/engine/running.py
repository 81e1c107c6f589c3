"""What an executor needs to know of a class of jobs, and what becomes of a job that has ended.

Common to threads and coroutines. Left out: who runs when (`threads.py`, `coroutines.py`) and how an end reaches the store
(`settling.py`).
"""

import random
import time

from holdfast.agent.routes import TABLE
from holdfast.core.lease import QUARANTINE, backoff_delay_s, retry_delay_s
from holdfast.model.jobs import ACK, DEAD, DROP, RETRY, Settle
from holdfast.sdk.instance import Instance
from holdfast.sdk.job_context import RUNNING, JobCancelledError, JobContext, JobTimeout
from holdfast.sdk.job_middleware import around
from holdfast.sdk.job_registry import REGISTRY
from holdfast.sdk.logline import write_text
from holdfast.wire import sidekiq
from holdfast.wire.flight import FAILED, OUTCOME_CODES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType
    from typing import Any

    from holdfast.model.jobs import Lease
    from holdfast.sdk.jobs import Job
    from holdfast.sdk.logline import Log
    from holdfast.wire.flight import Recorder

    #: A job in hand: its lease, its JSON, its class.
    Item = tuple[Lease, dict[str, Any], "Known"]

#: What under `hf` has to happen at a job's end: without any of it, the end goes the fast way.
RICH = frozenset(("result_s", "unique", "limit", "then", "batch"))
#: So many failures a second are logged with their traceback.
_LOGGED_PER_S = 10


#: In nanoseconds it still is a number of the recorder's.
_FOR_EVER_S = 1e9


class Known:
    """A class of jobs that this process can run."""

    __slots__ = ("instance", "is_async", "job", "klass", "route", "timeout_s")

    def __init__(self, job: "Job[Any, Any]", component: str, timeout_s: float) -> None:
        self.job = job
        self.is_async = job.is_async
        self.klass = job.name.encode()[:56]
        self.route = TABLE.route(f"job {job.name}")
        self.timeout_s = min(job.timeout_s or timeout_s, _FOR_EVER_S)
        #: Names the job in the pulse's note. Not the component's own: its end cancels what is its own, and a job is to be finished.
        self.instance = Instance(component, {})
        self.instance.note = f"component={component} job={job.name}".encode()[:255]

    def deadline_s(self, job: "dict[str, Any]") -> float:
        """Return how long this one may run; 0: for ever."""
        hf = job.get("hf")
        own = hf.get("timeout") if type(hf) is dict else None
        # Anybody may have written it: what makes no sense is not said, what no clock can count is for ever.
        if isinstance(own, int | float) and own >= 0 and own is not True:
            return float(min(own, _FOR_EVER_S))
        return self.timeout_s


class Classes:
    """All classes of jobs that were imported."""

    def __init__(self, component: str, timeout_s: float) -> None:
        self._component = component
        self._timeout_s = timeout_s
        self._known: dict[str, Known] = {}

    def get(self, name: str) -> "Known | None":
        """Return what is known of a class; None: nothing."""
        found = self._known.get(name)
        if found is None:
            job = REGISTRY.get(name)
            if job is None:
                return None
            found = self._known[name] = Known(job, self._component, self._timeout_s)
        return found

    @property
    def kinds(self) -> "tuple[bool, bool]":
        """Whether there are plain functions, and coroutine functions."""
        kinds = {job.is_async for job in REGISTRY.values()}
        return False in kinds or not kinds, True in kinds


def is_plain(job: "dict[str, Any]", lease: "Lease") -> bool:
    """Whether nothing but the lease has to go when this job has run to its end."""
    hf = job.get("hf")
    return (not hf or RICH.isdisjoint(hf)) and lease.queue != QUARANTINE


def call(job: "Job[Any, Any]", payload: "dict[str, Any]", context: JobContext) -> "Any":
    """Run a plain function on its arguments; in a `contextvars` context of the job's own."""
    RUNNING.set(context)
    args, kwargs = job.bind(payload)
    if job.middleware:
        with around(job.middleware, context):
            return job.function(*args, **kwargs)
        return None  # one of them has swallowed what the job raised
    return job.function(*args, **kwargs)


async def await_call(job: "Job[Any, Any]", payload: "dict[str, Any]", context: JobContext) -> "Any":
    """Run a coroutine function on its arguments; in a task of the job's own."""
    RUNNING.set(context)
    args, kwargs = job.bind(payload)
    if job.middleware:
        with around(job.middleware, context):
            return await job.function(*args, **kwargs)
        return None
    return await job.function(*args, **kwargs)


def settlement(
    lease: "Lease", payload: "dict[str, Any]", known: Known, result: object, error: "BaseException | None", telling: "Telling",
) -> Settle:  # fmt: skip
    """Return how the lease of a job that has ended is settled."""
    if error is None:
        try:
            keeps = sidekiq.hf(payload).get("result_s")
            return Settle(lease.token, ACK, result=known.job.pack_result(result) if keeps else b"")
        except Exception as trouble:  # noqa: BLE001 -- a result that cannot be kept is the job's failure
            error = trouble
    if isinstance(error, JobCancelledError):
        return Settle(lease.token, DROP)
    says = _text(error)
    if isinstance(error, JobTimeout) and not says:  # thrown at a thread, without words
        says = f"ran longer than {known.deadline_s(payload):g} s"
    settle = failed(lease, payload, name_of(error), says, lines_of(error))
    telling.failed(payload, error, settle)
    return settle


def outcome(settle: Settle) -> int:
    """Return what the recorder's ring says of an end: it has no word for dead, whose details would be lost as a retry's are."""
    return OUTCOME_CODES[RETRY if settle.end == DEAD else settle.end]


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception as trouble:  # noqa: BLE001 -- an exception whose text raises is still a failure to be told
        return f"(its text cannot be had: {type(trouble).__name__})"


def failed(lease: "Lease", job: "dict[str, Any]", error_class: str, message: str, backtrace: "list[str]") -> Settle:  # fmt: skip
    """Return the settlement of a job that failed: another attempt, or the end of it."""
    now_s = time.time()
    kept = sidekiq.fail(job, error_class, message, backtrace, now_s)
    raw = sidekiq.dumps(kept)
    if not sidekiq.retries_left(kept):
        return Settle(lease.token, DEAD if sidekiq.keeps_dead(kept) else DROP, raw, now_s)
    count = kept["retry_count"]
    assert isinstance(count, int)  # noqa: S101 -- fail() has written it
    return Settle(lease.token, RETRY, raw, now_s + _delay_s(count, sidekiq.backoff(job)))


def _delay_s(count: int, backoff: "tuple[float, float, float] | None") -> float:
    chance = random.random()  # noqa: S311 -- jitter
    if backoff is not None:
        return backoff_delay_s(count, *backoff, chance)
    return retry_delay_s(count, chance)


def malformed(lease: "Lease") -> Settle:
    """Return the settlement of what is no job: it is kept as it is, for a person."""
    return Settle(lease.token, DEAD, at_s=time.time())


def unknown(lease: "Lease", job: "dict[str, Any]") -> Settle:
    """Return the settlement of a job whose class was not imported: tried again, as the next deploy may bring it."""
    has = ", ".join(sorted(REGISTRY)[:20]) or "none at all"
    says = f'no job "{job["class"]}" is declared in the modules of this worker; they declare: {has}'
    return failed(lease, job, "UnknownJob", says, [])


def name_of(error: BaseException) -> str:
    """Return an exception's class as a person knows it."""
    kind = type(error)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"  # fmt: skip


def lines_of(error: BaseException) -> "list[str]":
    """Return the stack at which it was raised, innermost first, without the engine's own frames."""
    found = []
    trace = error.__traceback__
    while trace is not None:
        code = trace.tb_frame.f_code
        if not code.co_filename.startswith(_HOUSE):
            found.append(f"{code.co_filename}:{trace.tb_lineno}:in {code.co_qualname}")
        trace = trace.tb_next
    return found[::-1]


def lines_of_frames(frames: "list[FrameType]") -> "list[str]":
    """Return a stack of something that runs, innermost first, without the engine's own frames."""
    found = []
    for frame in frames:
        code = frame.f_code
        if not code.co_filename.startswith(_HOUSE):
            found.append(f"{code.co_filename}:{frame.f_lineno}:in {code.co_qualname}")
    return found


_HOUSE = __file__.rpartition("/")[0] + "/"


class Telling:
    """Logs failures, but not more of them than anybody reads."""

    __slots__ = ("_failed", "_hidden", "_left", "_log", "_recorder", "_second")

    def __init__(self, log: "Log", recorder: "Recorder") -> None:
        self._log = log
        self._recorder = recorder
        self._failed = 0
        self._second = 0
        self._left = 0
        self._hidden = 0

    def failed(self, job: "dict[str, Any]", error: BaseException, settle: Settle) -> None:
        """Log one failure with its traceback, if it is one of the first of this second."""
        self._failed += 1
        self._recorder.put(FAILED, self._failed)
        second = int(time.monotonic())
        if second != self._second:
            hidden, self._hidden = self._hidden, 0
            self._second, self._left = second, _LOGGED_PER_S
            if hidden:
                self._log.warning("more jobs failed than were told", jobs=hidden)
        if not self._left:
            self._hidden += 1
            return
        self._left -= 1
        from traceback import format_exception

        fields = {
            "job": job["class"],
            "jid": job["jid"],
            "error": f"{name_of(error)}: {_text(error)}",
        }
        if settle.end == RETRY:
            fields["retry_in_s"] = f"{settle.at_s - time.time():.0f}"
        else:
            fields["given_up"] = settle.end
        self._log.error("job failed", **fields)
        trace = error.__traceback__
        while trace is not None and trace.tb_frame.f_code.co_filename.startswith(_HOUSE):
            trace = trace.tb_next  # ours: nothing that its author could learn from
        shown = trace or error.__traceback__
        write_text(2, "".join(format_exception(type(error), error, shown)))
