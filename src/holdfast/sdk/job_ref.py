"""What does a program hold in its hand after it enqueued a job?

A reference: the job's id, and the questions one can ask about it. It needs nothing but the id, so another program can make one:
``Ref("94d2b83e11801eb52122bf66").state()``.
"""

from typing import TYPE_CHECKING, Generic, TypeVar

from holdfast.jobs import queue
from holdfast.sdk.job_options import seconds_of

if TYPE_CHECKING:
    from typing import Any

    from holdfast.jobs.queue import Progress
    from holdfast.sdk.job_options import Span
    from holdfast.sdk.job_sending import Sending

R = TypeVar("R")


class Ref(Generic[R]):
    """A job that was enqueued. Each question has a twin for asyncio: `astate`, `aresult`, `aprogress`, `acancel`."""

    __slots__ = ("_sending", "followers", "is_new", "jid")

    def __init__(
        self, jid: str, sending: "Sending[Any, R] | None" = None, is_new: bool = True
    ) -> None:
        self.jid = jid  #: 24 hexadecimal digits
        self.is_new = (
            is_new  #: False: a job with the same `unique` key was there already; this is that one
        )
        self.followers: tuple[Ref[Any], ...] = ()  #: those that were given to `then`
        self._sending = sending

    def state(self) -> str:
        """Return where it is in its life.

        "scheduled" (also between two attempts), "ready", "waiting" (for a limit), "leased" (it runs), "suspect", "done", "dead",
        "dropped", or "unknown": it never was, or has ended without a result that is kept.
        """
        return queue.default().state(self.jid)

    def result(self, timeout: "Span | None" = None) -> R:
        """Wait for the job's end and return what it returned (it needs ``result_for``); while the store is down it waits on.

        Args:
            timeout: At most so long, as seconds or "30s"; None: as long as it takes, retries included. Give
                one where the job may have ended long ago: what nobody remembers is waited for, too.

        Raises:
            TimeoutError: It has not ended yet.
            JobFailedError: It was given up.
            JobDroppedError: It was cancelled, or its deadline passed.
            NoResultError: Its results are not kept, or it is not there any more.
        """
        self._check_kept()
        timeout_s = None if timeout is None else seconds_of(timeout)
        return self._typed(queue.default().result(self.jid, timeout_s))

    def progress(self) -> "Progress | None":
        """Return how far the job said it got (`done`, `of`, `text`, `share`); None: it did not say."""
        return queue.default().progress(self.jid)

    def cancel(self) -> None:
        """See to it that it is not started any more. If it runs, a coroutine is cancelled, a function finds `current().is_cancelled`."""
        queue.default().cancel(self.jid)

    async def astate(self) -> str:
        """As :meth:`state`."""
        from asyncio import to_thread

        return await to_thread(self.state)

    async def aresult(self, timeout: "Span | None" = None) -> R:  # noqa: ASYNC109 -- the same as of its twin
        """As :meth:`result`."""
        from asyncio import sleep, to_thread

        self._check_kept()
        wait = queue.Wait(self.jid, None if timeout is None else seconds_of(timeout))
        while True:
            pause_s = await to_thread(wait.look, queue.default())
            if wait.is_over:
                return self._typed(wait.result)
            await sleep(pause_s)

    async def aprogress(self) -> "Progress | None":
        """As :meth:`progress`."""
        from asyncio import to_thread

        return await to_thread(self.progress)

    async def acancel(self) -> None:
        """As :meth:`cancel`."""
        from asyncio import to_thread

        await to_thread(self.cancel)

    def _check_kept(self) -> None:
        if self._sending is not None and not self._sending.settings.result_s:
            raise queue.NoResultError(self._sending.name)

    def _typed(self, value: "Any") -> R:
        result: R = value if self._sending is None else self._sending.arguments.result(value)
        return result

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Ref) and other.jid == self.jid

    def __hash__(self) -> int:
        return hash(self.jid)

    def __repr__(self) -> str:
        name = self._sending.name if self._sending is not None else "job"
        return f"<{name} {self.jid}{'' if self.is_new else ', was there'}>"
