"""The caller in a session: calls, their results, progress, timeouts and cancelling.

The way of a plain call is hot: one encoding, one dictionary, one future; whatever is rarely asked for (progress, timeouts, options)
takes another way. Message flows: WAMP specification, basic and advanced profile; behaviour of `call` as Autobahn's.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from holdfast.bus.asking import NO_OPTIONS, Asking, name, payload
from holdfast.bus.errors import CallTimeout
from holdfast.bus.running import CURRENT, CallResult
from holdfast.bus.terms import PLAIN
from holdfast.core.wamp.messages import CALL, CANCEL

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from typing import Self

    from holdfast.bus.api import Arguments
    from holdfast.bus.asking import Link, Message, OnProblem, RunSync
    from holdfast.bus.terms import Terms


class Wait:
    """What a call with progress or a timeout has besides its future."""

    __slots__ = ("future", "on_progress", "timeout_s", "timer")

    def __init__(
        self,
        future: asyncio.Future[Any],
        on_progress: Callable[..., Any] | None,
        timeout_s: float | None,
    ) -> None:
        self.future = future
        self.on_progress = on_progress
        self.timeout_s = timeout_s
        self.timer: asyncio.TimerHandle | None = None


class Caller(Asking):
    """Calls that wait for their results."""

    def __init__(
        self,
        link: Link,
        features: dict[str, Any],
        run_sync: RunSync | None = None,
        on_problem: OnProblem | None = None,
    ) -> None:
        super().__init__(link, run_sync, on_problem)
        #: The specification spells it in two ways.
        self._can_cancel = bool(features.get("call_canceling") or features.get("call_cancelling"))
        self._extras: dict[int, Wait] = {}

    def call_now(
        self, procedure: str, args: Arguments, kwargs: dict[str, Any] | None
    ) -> Coroutine[Any, Any, Any]:
        """As :meth:`call` without any options."""
        running = CURRENT.get()
        if running is None or running.deadline_s is None:
            return self._call(procedure, args, kwargs)
        return self._call_on(procedure, args, kwargs, PLAIN)

    async def _call(self, procedure: str, args: Arguments, kwargs: dict[str, Any] | None) -> Any:
        request = self._request + 1
        self._emit([CALL, request, NO_OPTIONS, procedure], args, kwargs)
        self._request = request
        future = self._waiting[request] = self.loop.create_future()
        try:
            return await future
        except asyncio.CancelledError:
            self._cancel(request)
            raise
        except BaseException as error:
            name(error, f"calling {procedure}")
            raise

    async def _call_on(
        self, procedure: str, args: Arguments, kwargs: dict[str, Any] | None, terms: Terms
    ) -> Any:
        made, timeout_s = terms.wire()
        if timeout_s is not None and timeout_s <= 0:
            late = CallTimeout("no time was left for this call")
            late.doing = f"calling {procedure}"
            raise late
        request = self._request + 1
        self._emit([CALL, request, made, procedure], args, kwargs)
        self._request = request
        wait = self._expect(request, terms.on_progress, timeout_s)
        return await self._result(request, procedure, wait)

    def _progressive_call(self, procedure: str, terms: Terms) -> ProgressiveCall:
        return ProgressiveCall(self, procedure, terms)

    def _expect(
        self, request: int, on_progress: Callable[..., Any] | None, timeout_s: float | None
    ) -> Wait:
        future = self._waiting[request] = self.loop.create_future()
        wait = self._extras[request] = Wait(future, on_progress, timeout_s)
        if timeout_s is not None:
            wait.timer = self.loop.call_later(timeout_s, self._time_out_call, request)
        return wait

    async def _result(self, request: int, procedure: str, wait: Wait) -> Any:
        try:
            return await wait.future
        except asyncio.CancelledError:
            self._cancel(request)
            raise
        except BaseException as error:
            name(error, f"calling {procedure}")
            raise
        finally:
            self._extras.pop(request, None)
            if wait.timer is not None:
                wait.timer.cancel()

    def _cancel(self, request: int) -> None:
        if self._waiting.pop(request, None) is not None and self.ended is None and self._can_cancel:
            self._send(self._encode([CANCEL, request, {"mode": "killnowait"}], None))

    def _time_out_call(self, request: int) -> None:
        """Our own clock: the router has its own, too, but it may hang, or not know this feature."""
        future = self._waiting.get(request)
        if future is not None and not future.done():
            self._cancel(request)
            future.set_exception(
                CallTimeout(f"no result within {self._extras[request].timeout_s:g} s")
            )

    def _on_result(self, message: Message) -> None:
        details = message[2]
        if details and details.get("progress"):
            self._on_progress(message)
            return
        future = self._waiting.pop(message[1], None)
        if future is None or future.done():
            return  # given up in the meantime
        n = len(message)
        if n == 4 or (n > 4 and not message[4]):
            args = message[3]
            if args.__class__ is bytes:
                args = (args,)  # a transparent payload
            if len(args) == 1:
                future.set_result(args[0])
                return
            if not args:
                future.set_result(None)
                return
        elif n == 3:
            future.set_result(None)
            return
        result = CallResult()
        result.args = message[3] or []
        if n > 4:
            result.kwargs = message[4]
        result.details = details
        future.set_result(result)

    def _on_progress(self, message: Message) -> None:
        request = message[1]
        wait = self._extras.get(request)
        if wait is None:
            return
        if wait.timer is not None and wait.timeout_s is not None:
            # The specification counts the time between progressive results.
            wait.timer.cancel()
            wait.timer = self.loop.call_later(wait.timeout_s, self._time_out_call, request)
        if wait.on_progress is None:
            return
        args, kwargs = payload(message, 3)
        try:
            wait.on_progress(*args, **kwargs)
        except Exception as error:  # noqa: BLE001 -- the application's; it belongs to who made the call
            future = self._waiting.get(request)
            if future is not None and not future.done():
                self._cancel(request)
                future.set_exception(error)


class ProgressiveCall:
    """A call whose arguments go out in pieces; leaving its block before `finish` cancels it."""

    __slots__ = ("_made", "_on_progress", "_procedure", "_request", "_session", "_timeout_s", "_wait")  # fmt: skip

    def __init__(self, session: Caller, procedure: str, terms: Terms) -> None:
        self._session = session
        self._procedure = procedure
        self._made, self._timeout_s = terms.wire()
        self._on_progress = terms.on_progress
        self._request = 0
        self._wait: Wait | None = None

    def send(self, *args: Any, **kwargs: Any) -> None:
        """Send a piece; more follow."""
        self._piece(args, kwargs, is_last=False)

    async def finish(self, *args: Any, **kwargs: Any) -> Any:
        """Send the last piece and wait for the result, as :meth:`ClientSession.call` does."""
        self._piece(args, kwargs, is_last=True)
        assert self._wait is not None  # noqa: S101 -- made by _piece
        return await self._session._result(self._request, self._procedure, self._wait)  # noqa: SLF001

    def _piece(self, args: tuple[Any, ...], kwargs: dict[str, Any], *, is_last: bool) -> None:
        session = self._session
        is_first = self._request == 0
        if is_first:
            self._request = session._request + 1  # noqa: SLF001
        elif self._request not in session._waiting:  # noqa: SLF001
            return  # answered already (an error, mostly): `finish` raises it
        # Options are frozen with the first piece; only `progress` counts in later ones.
        made = {**self._made} if is_first else {}
        if not is_last:
            made["progress"] = True
        session._emit([CALL, self._request, made, self._procedure], args, kwargs)  # noqa: SLF001
        if is_first:
            session._request = self._request  # noqa: SLF001
            self._wait = session._expect(self._request, self._on_progress, self._timeout_s)  # noqa: SLF001

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._wait is not None:
            session = self._session
            session._cancel(self._request)  # noqa: SLF001
            session._extras.pop(self._request, None)  # noqa: SLF001
            if self._wait.timer is not None:
                self._wait.timer.cancel()
            if self._wait.future.done() and not self._wait.future.cancelled():
                self._wait.future.exception()  # nobody asked for it; that is no reason to complain
