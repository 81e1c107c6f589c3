"""Which job is running here, and what can it say and ask?

:func:`current` is the job in whose run the calling code is, in a thread as in a coroutine. What it says (progress, a
checkpoint) goes to the store, because it has to outlive this process. Left out: setting a job's limits and running it (the engine's).
"""

import time
from contextvars import ContextVar

from holdfast.jobs.queue import PROGRESS_KEPT_S
from holdfast.model.jobs import StoreDownError
from holdfast.sdk.logline import Log
from holdfast.sdk.recorder import CURRENT as COMPONENT
from holdfast.wire import sidekiq

TYPE_CHECKING = False
if TYPE_CHECKING:
    from contextvars import Token
    from typing import Any

    from holdfast.jobs.store import Store
    from holdfast.sdk.job_batch import Batch

#: Between two notes about progress.
_PROGRESS_EVERY_S = 0.2
#: Kept so long after the last one: longer than 25 retries take.
CHECKPOINT_KEPT_S = 30 * 86400.0


class JobCancelledError(Exception):
    """The job was cancelled while it ran; a job that lets this pass is dropped, not tried again."""


class JobTimeout(Exception):  # noqa: N818 -- reads as what it says
    """The job ran longer than its timeout; raised inside of it, so that it can clean up. It counts as a failure."""


class JobContext:
    """One run of one job: ``current()`` inside of it."""

    __slots__ = ("_saved", "_store", "_told_s", "is_cancelled", "job")

    def __init__(self, job: "dict[str, Any]", store: "Store") -> None:
        self.job = job  #: its JSON; not to be changed
        self.is_cancelled = False  #: it was cancelled: nobody needs what it still does (looked at about once a second)
        self._store = store
        self._told_s = 0.0
        self._saved: tuple[Any] | None = None

    @property
    def jid(self) -> str:
        """The job's id."""
        jid: str = self.job["jid"]
        return jid

    @property
    def name(self) -> str:
        """The job's name, by default "module.function"."""
        name: str = self.job["class"]
        return name

    @property
    def queue(self) -> str:
        """The queue into which it was put."""
        return str(self.job.get("queue", ""))

    @property
    def attempt(self) -> int:
        """1 in the first run, 2 in the first retry …; a run that was cut short by the death of its process does not count."""
        count = self.job.get("retry_count")
        return count + 2 if isinstance(count, int) else 1

    @property
    def is_last_attempt(self) -> bool:
        """Whether it is given up if it fails now."""
        failed = {**self.job, "retry_count": self.attempt - 1, "retried_at": time.time()}
        return not sidekiq.retries_left(failed)

    @property
    def strikes(self) -> int:
        """How many processes died while they ran this job; above 0 it runs alone, in the lane for suspects."""
        strikes = sidekiq.hf(self.job).get("strikes")
        return strikes if isinstance(strikes, int) else 0

    @property
    def slot_unix_s(self) -> float:
        """Of a periodic job: the time for which it was fired, however late it runs; else 0."""
        slot = sidekiq.hf(self.job).get("cron")
        return float(slot) if isinstance(slot, int | float) else 0.0

    @property
    def batch(self) -> "Batch | None":
        """The batch to which it belongs, or whose callback it is; ``with current().batch: …`` adds more jobs to it."""
        ours = sidekiq.hf(self.job)
        known = ours.get("batch") or ours.get("closes")
        if not isinstance(known, str):
            return None
        from holdfast.sdk.job_batch import Batch

        return Batch(known)

    @property
    def log(self) -> Log:
        """Structured log; each line names the job: ``current().log.info("moved", card=3)``."""
        return _JobLog(self)

    def progress(self, done: float, of: float = 0, text: str = "") -> None:
        """Say how far it got: ``current().progress(30, 100, "pages")``; others read it by :meth:`Ref.progress`.

        Costs next to nothing when it is called often: it is written five times a second, and at the end (``done`` = ``of``).
        While the store is down it is not written: that is no reason to fail.
        """
        now_s = time.monotonic()
        if now_s - self._told_s < _PROGRESS_EVERY_S and not 0 < of <= done:
            return
        self._told_s = now_s
        words = _dumps([done, of, text, time.time()])
        try:
            self._store.note(self.jid, {"progress": words}, PROGRESS_KEPT_S)
        except StoreDownError:
            self._told_s = 0.0  # the next word is written as soon as it can be

    def checkpoint(self, value: object) -> None:
        """Keep how far it got, so that its next run, after a crash as after a failure, can go on from there (:attr:`saved`).

        When this returns, the value is stored (one round trip to the store, about 0.1 ms). Kept for 30 days.

        Args:
            value: Whatever JSON can carry; small.

        Raises:
            TypeError: It cannot be carried.
            ValueError: There is a number in it that JSON does not have (nan).
        """
        from holdfast.sdk.job_args import not_finite
        from holdfast.sdk.payload import plain

        made = plain(value)
        trouble = not_finite(made)
        if trouble is not None:
            says = f"checkpoint({value!r:.80}): {trouble}"
            raise ValueError(says)
        text = _dumps(made)
        self._store.note(self.jid, {"checkpoint": text}, CHECKPOINT_KEPT_S)
        self._saved = (_loads(text),)

    @property
    def saved(self) -> "Any":
        """The last checkpoint of this job, as plain JSON values; None: there is none."""
        if self._saved is None:
            text = self._store.notes(self.jid).get("checkpoint")
            self._saved = (_loads(text) if text else None,)
        return self._saved[0]

    def raise_if_cancelled(self) -> None:
        """End the job here if it was cancelled.

        Raises:
            JobCancelledError: It was.
        """
        if self.is_cancelled:
            says = f"job {self.jid} was cancelled"
            raise JobCancelledError(says)


class entering:  # noqa: N801 -- used as a word of its own: `with entering(context):`
    """Make a context the current one inside of ``with``."""

    __slots__ = ("_context", "_token")

    def __init__(self, context: JobContext) -> None:
        self._context = context

    def __enter__(self) -> JobContext:
        self._token: Token[JobContext | None] = RUNNING.set(self._context)
        return self._context

    def __exit__(self, *_: object) -> None:
        RUNNING.reset(self._token)


#: The job that runs in this thread or task.
RUNNING: "ContextVar[JobContext | None]" = ContextVar("holdfast_job", default=None)


def current() -> JobContext:
    """Return the job that is running here.

    Raises:
        RuntimeError: None is.
    """
    context = RUNNING.get()
    if context is None:
        raise RuntimeError(
            "no job is running here: current() is for code inside of a job\n"
            "  in a thread that a job started, run the code in the job's context: contextvars.copy_context().run(…)"
        )
    return context


class _JobLog(Log):
    """The component's log, with the job's name and id in each line."""

    __slots__ = ("_fields",)

    def __init__(self, context: JobContext) -> None:
        component = COMPONENT.get()
        super().__init__(component.name if component is not None else "job")
        self._fields = {"job": context.name, "jid": context.jid}

    def _line(
        self, to: int, level: str, event: str, fields: "dict[str, object]", below: str = ""
    ) -> None:
        super()._line(to, level, event, {**self._fields, **fields}, below)


def _dumps(value: object) -> str:
    from msgspec import json

    return json.encode(value).decode()


def _loads(text: str) -> "Any":
    from msgspec import json

    return json.decode(text)
