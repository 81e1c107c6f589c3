"""What can a program do with the queue, beyond putting jobs into it?

:class:`Queue` is a store in the hands of a program: pushing in chunks, where a job is, how far it got, its result, cancelling
it, batches. It belongs to no process in particular; :func:`default` opens the one that HOLDFAST_JOBS names, at the first use.
Functions, arguments and types are `sdk/job*.py`; taking jobs and running them is the engine's.
"""

import os
import threading
import time

from holdfast.model.jobs import StoreDownError
from holdfast.wire import sidekiq

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from holdfast.jobs.store import Store

#: Jobs that go to the store in one atomic step, at most.
CHUNK = 1000
#: First and longest pause between two looks for a result. A look at SQLite costs some 10 µs.
_FIRST_LOOK_S, _LONGEST_LOOK_S = 0.002, 0.05
#: How long what a running job says about itself is kept after its last word.
PROGRESS_KEPT_S = 86400.0

#: Where an entry lies, in the words of `core/lease.py`.
_STATES = {"schedule": "scheduled", "retry": "scheduled", "dead": "dead", "busy": "leased", "waiting": "waiting"}  # fmt: skip


class NoStoreError(Exception):
    """Nothing says where jobs are kept."""

    def __init__(self) -> None:
        super().__init__(
            "no store for jobs: nothing says where they are kept\n"
            "  in a program of its own: set HOLDFAST_JOBS, e.g. HOLDFAST_JOBS=sqlite:///var/lib/shop/jobs.db\n"
            "                           (or redis://localhost:6379/0), or call holdfast.sdk.use_jobs(url) first\n"
            "  under a node:            its holdfast.toml needs [jobs]; its workers are told by themselves\n"
            "  in a test:               with holdfast.sdk.testing.jobs_inline(): …"
        )


class JobFailedError(Exception):
    """A job was given up, so there will be no result; the message says why it failed the last time."""

    def __init__(self, jid: str, klass: str, error_class: str, message: str) -> None:
        why = f": {error_class}: {message}" if error_class else ""
        super().__init__(f"job {jid}{f' ({klass})' if klass else ''} was given up{why}")
        self.jid = jid
        self.error_class = error_class
        self.error_message = message


class JobDroppedError(Exception):
    """A job was cancelled, or its deadline passed before it was started; or it failed, and its author keeps no dead ones."""

    def __init__(self, jid: str) -> None:
        super().__init__(
            f"job {jid} was dropped: it was cancelled, or its deadline passed before it was started"
            " (or, with dead=False, it failed for good)"
        )
        self.jid = jid


class NoResultError(Exception):
    """The result of this job is not kept, or not any more."""

    def __init__(self, klass: str, jid: str = "") -> None:
        super().__init__(
            f"job {jid} is done, and its result is not there: none was to be kept, its time (result_for) is over, or its process died just then"
            if jid
            else f"results of {klass} are not kept\n"
            f'  keep them for a while: @job(result_for="1h"), or for this one .options(result_for="1h")'
        )


class Progress:
    """How far a job says it got."""

    __slots__ = ("at_unix_s", "done", "of", "text")

    def __init__(self, done: float, of: float, text: str, at_unix_s: float) -> None:
        self.done = done
        self.of = of  #: 0: it did not say of how many
        self.text = text
        self.at_unix_s = at_unix_s

    @property
    def share(self) -> float:
        """From 0 to 1; 0 where nobody knows."""
        return min(1.0, max(0.0, self.done / self.of)) if self.of else 0.0

    def __repr__(self) -> str:
        return f"Progress({self.done:g} of {self.of:g}, {self.text!r})"


class Queue:
    """The queue, for a program that has something to be done. May be used from any thread."""

    __slots__ = ("store",)

    def __init__(self, store: "Store") -> None:
        self.store = store

    # -- pushing -----------------------------------------------------------------------------------------

    def push(self, jobs: "Sequence[bytes]", at_s: "Sequence[float] | None" = None) -> "list[str]":
        """Put jobs (JSON) into the queue, a chunk of at most 1,000 in one atomic step.

        Returns:
            For each "" if it was stored, or the jid of the job that holds its `unique` lock.
        """
        if len(jobs) <= CHUNK:
            return self.store.push(jobs, at_s)
        holders = []
        for first in range(0, len(jobs), CHUNK):
            times = at_s[first : first + CHUNK] if at_s is not None else None
            holders += self.store.push(jobs[first : first + CHUNK], times)
        return holders

    # -- what became of one ------------------------------------------------------------------------------

    def state(self, jid: str) -> str:
        """Return where a job is in its life: "scheduled", "ready", "waiting", "leased", "suspect", "done", "dead", "dropped", or "unknown".

        "unknown" is also what has ended without keeping a result, some time ago. A job that has not ended is looked for
        everywhere: with many jobs waiting this takes its time.
        """
        ended = self.store.notes(jid).get("state")
        if ended:
            return ended
        entry = self.store.find(jid)
        if entry is None:
            # It may have ended between the two looks.
            return self.store.notes(jid).get("state", "unknown")
        where = entry.where
        if where == "queue:quarantine":
            return "suspect"
        return _STATES.get(where, "ready")

    def ended(self, jid: str) -> "tuple[str, Any]":
        """Return how a job ended, and its result as plain JSON values; "" if it has not (or that is not known any more).

        Raises:
            JobFailedError: It was given up.
            JobDroppedError: It was cancelled, or came too late.
            NoResultError: It is done, and there is no result (any more).
        """
        notes = self.store.notes(jid)
        state = notes.get("state", "")
        if state == "dead":
            raise self._failure(jid)
        if state == "dropped":
            raise JobDroppedError(jid)
        text = notes.get("result")
        if state == "done" and text is None:
            # Not None: that is what a function may have returned.
            raise NoResultError("", jid)
        return state, decoded(text) if text else None

    def result(self, jid: str, timeout_s: "float | None" = None) -> "Any":
        """Wait until a job has ended, and return its result as plain JSON values.

        While the store is down it goes on waiting.

        Raises:
            JobFailedError: It was given up (a job that will be tried again is waited for).
            JobDroppedError: It was cancelled, or came too late.
            NoResultError: It is done, and there is no result (any more).
            TimeoutError: It has not ended by then.
        """
        wait = Wait(jid, timeout_s)
        while True:
            pause_s = wait.look(self)
            if wait.is_over:
                return wait.result
            time.sleep(pause_s)

    def progress(self, jid: str) -> "Progress | None":
        """Return how far a job says it got; None: it did not say."""
        text = self.store.notes(jid).get("progress")
        if not text:
            return None
        done, of, words, at_unix_s = decoded(text)
        return Progress(done, of, words, at_unix_s)

    def cancel(self, jid: str) -> None:
        """See to it that a job is not started any more; one that runs is told (a coroutine is cancelled)."""
        self.store.cancel(jid)

    def _failure(self, jid: str) -> JobFailedError:
        entry = self.store.find(jid)
        try:
            job = sidekiq.loads(entry.raw) if entry is not None else {}
        except ValueError:
            job = {}
        return JobFailedError(
            jid,
            str(job.get("class", "")),
            str(job.get("error_class", "")),
            str(job.get("error_message", "")),
        )


class Wait:
    """Waiting for a result, one look at a time; the caller sleeps in between, each in its own way."""

    __slots__ = ("_jid", "_pause_s", "_timeout_s", "_until_s", "is_over", "result")

    def __init__(self, jid: str, timeout_s: "float | None") -> None:
        self._jid = jid
        self._timeout_s = timeout_s
        self._until_s = float("inf") if timeout_s is None else time.monotonic() + timeout_s
        self._pause_s = _FIRST_LOOK_S
        self.is_over = False
        self.result: Any = None

    def look(self, queue: Queue) -> float:
        """Look once; return how long to sleep until the next look.

        Raises:
            TimeoutError: The time is over.
        """
        trouble: StoreDownError | None = None
        state = ""
        try:
            state, self.result = queue.ended(self._jid)
        except StoreDownError as error:
            trouble = error
        if state:
            self.is_over = True
            return 0.0
        left_s = self._until_s - time.monotonic()
        if left_s <= 0:
            says = f"job {self._jid} has not ended within {self._timeout_s:g} s"
            raise TimeoutError(says if trouble is None else f"{says}: {trouble}")
        pause_s = min(self._pause_s, left_s)
        self._pause_s = min(_LONGEST_LOOK_S, self._pause_s * 1.5)
        return pause_s


_lock = threading.Lock()
_default: "Queue | None" = None


def default() -> Queue:
    """Return this program's queue; at the first use it is opened as HOLDFAST_JOBS (and HOLDFAST_JOBS_PREFIX) say.

    Raises:
        NoStoreError: Nobody says where it is.
        StoreRefusedError: What they say is wrong.
    """
    global _default
    found = _default
    if found is not None:
        return found
    with _lock:
        if _default is None:
            url = os.environ.get("HOLDFAST_JOBS")
            if not url:
                raise NoStoreError
            _default = opened(url, os.environ.get("HOLDFAST_JOBS_PREFIX", ""))
        return _default


def opened(url: str, prefix: str = "") -> Queue:
    """Return the queue at a URL.

    Raises:
        StoreRefusedError: There is no such kind of store, or the URL is wrong.
    """
    from holdfast.jobs.opening import open_store

    return Queue(open_store(url, prefix))


def use(queue: "Queue | None") -> "Queue | None":
    """Make a queue this program's (None: look at the environment again); return the one before."""
    global _default
    with _lock:
        before, _default = _default, queue
    return before


def decoded(text: str) -> "Any":
    """Return the values of a note."""
    import msgspec

    return msgspec.json.decode(text)
