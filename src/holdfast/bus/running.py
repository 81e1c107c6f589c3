"""What does a handler see of what it is running for? An :class:`Invocation` of a procedure, or an :class:`Event`.

The current invocation is in a context variable, so that calls made inside it inherit its deadline: what remains of the
caller's time is all that the calls behind it get.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from contextvars import ContextVar
from threading import get_ident
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from concurrent.futures import Future

    from holdfast.bus.callee import Callee
    from holdfast.bus.declared import Registration

#: What runs in this context, if it runs for a call.
CURRENT: ContextVar[Invocation | None] = ContextVar("holdfast_invocation", default=None)


def remaining_s() -> float | None:
    """Return what is left of the time of the call that the running code serves; None: no limit."""
    running = CURRENT.get()
    if running is None or running.deadline_s is None:
        return None
    return running.deadline_s - time.monotonic()


class CallResult:
    """The result of a call where it is not a single value; also what a procedure returns to give more."""

    __slots__ = ("args", "details", "kwargs")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.args: list[Any] | tuple[Any, ...] = args
        self.kwargs = kwargs
        self.details: dict[str, Any] = {}

    def __repr__(self) -> str:
        said = [*map(repr, self.args), *(f"{k}={v!r}" for k, v in self.kwargs.items())]
        return f"CallResult({', '.join(said)})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, CallResult):
            return NotImplemented
        return list(self.args) == list(other.args) and self.kwargs == other.kwargs

    __hash__ = None  # type: ignore[assignment]  # it is as changeable as what is in it


class Chunk(NamedTuple):
    """One of the later payloads of a progressive call."""

    args: list[Any]
    kwargs: dict[str, Any]
    is_last: bool


class Event:
    """What a subscriber may want to know besides the arguments."""

    __slots__ = ("details", "publication", "topic")

    def __init__(self, topic: str, publication: int, details: dict[str, Any]) -> None:
        #: The topic of this event (with a pattern subscription: the one that was published to).
        self.topic: str = details.get("topic", topic)
        self.publication = publication
        self.details = details

    @property
    def publisher(self) -> int | None:
        """Session id of the publisher, where it is disclosed."""
        return self.details.get("publisher")

    @property
    def publisher_authid(self) -> str | None:
        """Who the publisher signed in as, where it is disclosed."""
        return self.details.get("publisher_authid")

    @property
    def is_retained(self) -> bool:
        """Published before we subscribed, and kept by the router."""
        return bool(self.details.get("retained"))


class Invocation:
    """One run of a procedure."""

    # Most runs never need more than the four things that they are made with.
    task: asyncio.Task[None] | None = None
    is_started = False
    #: End of the caller's patience (monotonic seconds), where the router tells it.
    deadline_s: float | None = None
    timeout_s: float | None = None
    _timer: asyncio.TimerHandle | None = None
    _chunks: deque[Chunk] | None = None
    _waiter: asyncio.Future[None] | None = None
    _ended = False

    def __init__(
        self,
        session: Callee,
        request: int,
        registration: Registration,
        details: dict[str, Any],
    ) -> None:
        self.session = session
        self.request = request
        self.registration = registration
        #: INVOCATION.Details as they came.
        self.details = details
        if details:
            self._read(details)

    def _read(self, details: dict[str, Any]) -> None:
        timeout_ms = details.get("timeout")
        if timeout_ms and isinstance(timeout_ms, (int, float)):
            self.timeout_s = timeout_ms / 1000
            self._rearm()
        if details.get("progress"):
            self._chunks = deque()

    # -- what handlers use -----------------------------------------------------------------------

    @property
    def procedure(self) -> str:
        """The procedure that was called (with a pattern registration: not the pattern)."""
        return str(self.details.get("procedure", self.registration.uri))

    @property
    def caller(self) -> int | None:
        """Session id of the caller, where it is disclosed."""
        return self.details.get("caller")

    @property
    def caller_authid(self) -> str | None:
        """Who the caller signed in as, where it is disclosed."""
        return self.details.get("caller_authid")

    @property
    def caller_authrole(self) -> str | None:
        """The role of the caller, where it is disclosed."""
        return self.details.get("caller_authrole")

    @property
    def takes_progress(self) -> bool:
        """Whether the caller wants progressive results."""
        return bool(self.details.get("receive_progress"))

    def progress(self, *args: Any, **kwargs: Any) -> None:
        """Send a progressive result; from any thread. Nothing is sent when nobody waits any more."""
        if get_ident() == self.session.thread:
            self._progress(args, kwargs)
        else:
            # Through the loop, so that an error in the arguments is still the handler's own.
            sent: Future[None] = asyncio.run_coroutine_threadsafe(
                self._progress_later(args, kwargs), self.session.loop
            )
            sent.result()

    async def _progress_later(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._progress(args, kwargs)

    def _progress(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if self.timeout_s is not None:
            self._rearm()  # the time of a call with progressive results is counted between them
        self.session.yield_progress(self.request, args, kwargs)

    async def chunks(self) -> AsyncIterator[Chunk]:
        """Iterate over the payloads that come after the first one; ends after the last one."""
        while self._chunks is not None:
            while self._chunks:
                chunk = self._chunks.popleft()
                yield chunk
                if chunk.is_last:
                    return
            self._waiter = self.session.loop.create_future()
            await self._waiter

    # -- what the session uses -------------------------------------------------------------------

    @property
    def is_simple(self) -> bool:
        """Its arguments are in one piece, and there is no deadline."""
        return self.timeout_s is None and self._chunks is None

    @property
    def is_progressive(self) -> bool:
        """More payloads are to come."""
        return self._chunks is not None and not self._ended

    def feed(self, chunk: Chunk) -> None:
        """Take a further payload of a progressive call."""
        assert self._chunks is not None  # noqa: S101 -- is_progressive was asked
        self._chunks.append(chunk)
        self._ended = chunk.is_last
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def disarm(self) -> None:
        """The invocation has its answer: no timeout any more, for tasks that it leaves behind either."""
        self.deadline_s = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _rearm(self) -> None:
        assert self.timeout_s is not None  # noqa: S101 -- the callers asked
        self.disarm()
        self.deadline_s = time.monotonic() + self.timeout_s
        self._timer = self.session.loop.call_later(
            self.timeout_s, self.session.time_out, self.request
        )
