"""The callee in a session: how are procedures run for callers, and how do they answer?

Most coroutine functions that serve calls never wait: they look something up and return. A task for each of them costs more than they
do, so those of one chunk share a task, the *lane*, one after the other. The first that waits leaves the lane: those behind
it get tasks of their own in the same turn of the loop, and so do all later runs of its procedure.
Message flows: WAMP specification, basic and advanced profile.
"""

from __future__ import annotations

import asyncio
import sys
from collections import deque
from contextvars import copy_context
from functools import partial
from typing import TYPE_CHECKING, Any

from holdfast.bus.asking import NO_OPTIONS, Asking
from holdfast.bus.errors import BusError, to_wire
from holdfast.bus.handlers import COROUTINE, GENERATOR, INLINE, Handler
from holdfast.bus.running import CURRENT, CallResult, Chunk, Invocation
from holdfast.core.wamp.messages import ERROR, INVOCATION, YIELD, Objects

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from holdfast.bus.asking import Link, Message, OnProblem, RunSync
    from holdfast.bus.declared import Registration

    Arguments = tuple[Any, ...] | list[Any]


class Callee(Asking):
    """Procedures that run for callers."""

    def __init__(
        self, link: Link, run_sync: RunSync | None = None, on_problem: OnProblem | None = None
    ) -> None:
        super().__init__(link, run_sync, on_problem)
        self._procedures: dict[int, Registration] = {}
        self._running: dict[int, Invocation] = {}
        self._create_task = task_factory(self.loop)
        #: Invocations that wait for the lane.
        self._queue: deque[tuple[Invocation, Arguments, dict[str, Any]]] = deque()
        #: Number of the lane's task while others may rely on it; 0: there is none, the next one begins another.
        self._lane = 0
        self._lanes = 0
        self._watched = 0
        self._lane_task: asyncio.Task[None] | None = None

    def _on_invocation(self, message: Message) -> None:
        request = message[1]
        details = message[3]
        n = len(message)
        args = message[4] if n > 4 else ()
        if args.__class__ is bytes:
            args = (args,)  # a transparent payload: one binary in the place of the arguments
        kwargs = message[5] if n > 5 else {}
        if details and request in self._running:
            self._on_chunk(request, details, args, kwargs)
            return
        registration = self._procedures.get(message[2])
        if registration is None:
            self._refuse(request, "wamp.error.unavailable", "this procedure is not offered here any more")  # fmt: skip
            return
        handler = registration.handler
        if handler.kind == INLINE and not handler.has_extras:
            self._run_inline(request, registration, args, kwargs)
            return
        invocation = self._running[request] = Invocation(self, request, registration, details)
        if handler.is_brief and (not details or invocation.is_simple):
            self._queue.append((invocation, args, kwargs))
            lane = self._lane
            if not lane:
                lane = self._lane = self._lanes = self._lanes + 1
                self._lane_task = self._create_task(self._serve(lane))
            elif self._watched != lane:
                # Behind the lane's first step: whoever still waits then waits for somebody who waits.
                self._watched = lane
                self.loop.call_soon(self._relieve, lane)
            return
        if invocation.is_progressive and not handler.wants_chunks:
            self._end(request)
            self._refuse(request, "wamp.error.feature_not_supported",
                         f"{registration.uri} takes its arguments in one piece only")  # fmt: skip
            return
        if handler.has_extras:
            kwargs = self._with_extras(invocation, handler, kwargs)
        invocation.task = self._create_task(self._run(invocation, args, kwargs))

    def _with_extras(
        self, invocation: Invocation, handler: Handler, kwargs: dict[str, Any]
    ) -> dict[str, Any]:
        given = dict(kwargs)
        if handler.wants_details:
            given["details"] = invocation
        if handler.wants_progress:
            given["progress"] = invocation.progress if invocation.takes_progress else None
        if handler.wants_chunks:
            given["chunks"] = invocation.chunks()
        return given

    def _on_chunk(
        self, request: int, details: dict[str, Any], args: Any, kwargs: dict[str, Any]
    ) -> None:
        invocation = self._running[request]
        if invocation.is_progressive:
            invocation.feed(Chunk(args, kwargs, not details.get("progress")))

    def _run_inline(
        self, request: int, registration: Registration, args: Arguments, kwargs: dict[str, Any]
    ) -> None:
        try:
            result = registration.handler.function(*args, **kwargs)
        except Exception as error:  # noqa: BLE001 -- it crosses the wire
            self._fail(request, registration, error, args, kwargs)
        else:
            self._yield(request, registration, result)

    # -- the lane --------------------------------------------------------------------------------

    async def _serve(self, lane: int) -> None:
        """Run what is queued, one after the other, until one has waited."""
        if CURRENT.get() is not None:
            CURRENT.set(
                None
            )  # the connection was made inside a procedure: its deadline is not theirs
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 -- this is one
        queue, running = self._queue, self._running
        context = copy_context()
        try:
            while queue:
                invocation, args, kwargs = queue.popleft()
                is_last = not queue
                if is_last:
                    self._lane = 0  # nobody relies on it: the next one begins a lane of its own
                request, registration = invocation.request, invocation.registration
                if request not in running:
                    continue  # interrupted, or the session has ended
                invocation.task = task
                invocation.is_started = True
                # As in _run, without the price of one more coroutine.
                try:
                    result = await registration.handler.function(*args, **kwargs)
                except asyncio.CancelledError:
                    self._cancelled(request)
                    raise
                except Exception as error:  # noqa: BLE001 -- it crosses the wire
                    self._failed(invocation, error, args, kwargs)
                else:
                    if running.pop(request, None) is not None:
                        self._yield(request, registration, result)
                if self._lane != lane:
                    if not is_last:
                        registration.handler.is_brief = False
                    return
                # What a handler leaves behind in its context or its task is not the next one's.
                if copy_context() != context or task.cancelling():
                    return
        finally:
            context.run(self._relieve, lane)

    def _relieve(self, lane: int) -> None:
        """Give those who still stand in this lane tasks of their own."""
        if self._lane != lane:
            return
        self._lane = 0
        queue = self._queue
        while queue:
            invocation, args, kwargs = queue.popleft()
            if invocation.request in self._running:
                invocation.task = self._create_task(self._run(invocation, args, kwargs))

    # -- a run -----------------------------------------------------------------------------------

    async def _run(self, invocation: Invocation, args: Arguments, kwargs: dict[str, Any]) -> None:
        if invocation.deadline_s is not None or CURRENT.get() is not None:
            CURRENT.set(invocation)
        invocation.is_started = True
        handler = invocation.registration.handler
        request = invocation.request
        try:
            if handler.kind == COROUTINE:
                result = await handler.function(*args, **kwargs)
            else:
                result = await self._run_otherwise(invocation, handler, args, kwargs)
        except asyncio.CancelledError:
            self._cancelled(request)
            raise
        except Exception as error:  # noqa: BLE001 -- it crosses the wire
            self._failed(invocation, error, args, kwargs)
        else:
            # Not ours any more: interrupted, timed out, or the session has ended. Nobody waits for it.
            if self._end(request) is not None:
                self._yield(request, invocation.registration, result)

    def _cancelled(self, request: int) -> None:
        if self._end(request) is not None:
            self._refuse(request, "wamp.error.canceled", "the procedure was canceled")

    def _failed(
        self, invocation: Invocation, error: Exception, args: Arguments, kwargs: dict[str, Any]
    ) -> None:
        if self._end(invocation.request) is not None:
            self._fail(invocation.request, invocation.registration, error, args, kwargs)

    async def _run_otherwise(
        self, invocation: Invocation, handler: Handler, args: Arguments, kwargs: dict[str, Any]
    ) -> Any:
        if handler.kind == GENERATOR:
            return await _drain(handler.function(*args, **kwargs), invocation)
        function = partial(handler.function, *args, **kwargs)
        if handler.kind == INLINE:
            return function()
        if self._run_sync is not None:
            return await self._run_sync(function)
        return await asyncio.to_thread(function)

    def _end(self, request: int) -> Invocation | None:
        invocation = self._running.pop(request, None)
        if invocation is not None and invocation.timeout_s is not None:
            invocation.disarm()
        return invocation

    def _yield(self, request: int, registration: Registration, result: Any) -> None:
        try:
            if result.__class__ is CallResult:
                self._emit([YIELD, request, NO_OPTIONS], result.args, result.kwargs)
            else:
                self._emit([YIELD, request, NO_OPTIONS], (result,), None)
        except BusError as error:
            self._fail(request, registration, error)

    def _fail(
        self,
        request: int,
        registration: Registration,
        error: BaseException,
        args: Arguments = (),
        kwargs: dict[str, Any] | None = None,
    ) -> None:
        if self.ended is not None:
            return
        if kwargs is not None and error.__class__ is TypeError:
            misfit = registration.handler.misfit(args, kwargs)
            if misfit:
                self._refuse(request, "wamp.error.invalid_argument", misfit)
                return
        uri, args, kwargs = to_wire(error)
        if uri == "wamp.error.runtime_error":
            self._on_problem(f"procedure {registration.uri}", error)
        try:
            self._emit([ERROR, INVOCATION, request, NO_OPTIONS, uri], args, kwargs)
        except BusError:
            # The exception carries what cannot be sent; the text says as much as can be said.
            self._refuse(request, uri, f"{type(error).__name__}: {error}")

    def _refuse(self, request: int, uri: str, says: str) -> None:
        if self.ended is None:
            self._send(self._encode([ERROR, INVOCATION, request, NO_OPTIONS, uri], Objects([says])))

    def yield_progress(self, request: int, args: Arguments, kwargs: dict[str, Any]) -> None:
        """Send a progressive result of an invocation that still runs; otherwise nothing."""
        if request in self._running and self.ended is None:
            self._emit([YIELD, request, {"progress": True}], args, kwargs)

    def time_out(self, request: int) -> None:
        """End an invocation whose time is over."""
        invocation = self._end(request)
        if invocation is not None:
            self._refuse(request, "wamp.error.timeout",
                         f"{invocation.registration.uri} took longer than {invocation.timeout_s:g} s")  # fmt: skip
            if invocation.task is not None:
                invocation.task.cancel()

    def _on_interrupt(self, message: Message) -> None:
        invocation = self._running.get(message[1])
        if invocation is None:
            return
        if message[2].get("mode") == "kill" and invocation.is_started:
            # The answer tells that the procedure has really ended, so it is given when it has.
            assert invocation.task is not None  # noqa: S101 -- it is started
            invocation.task.cancel()
            return
        self._end(message[1])
        if message[2].get("mode") != "killnowait":
            self._refuse(message[1], "wamp.error.canceled", "the procedure was canceled")
        if invocation.task is not None:
            invocation.task.cancel()

    def _drop_procedures(self) -> None:
        """The session is over: nobody waits for a result any more."""
        running = tuple(self._running.values())
        self._running.clear()
        self._queue.clear()
        for invocation in running:
            invocation.disarm()
            if invocation.task is not None:
                invocation.task.cancel()
        for registration in self._procedures.values():
            registration.id = None
        self._procedures = {}


async def _drain(generator: Any, invocation: Invocation) -> Any:
    """Send what an async generator gives; a caller who wants no progress gets all of it as a list."""
    if invocation.takes_progress:
        async for value in generator:
            invocation.progress(value)
        return CallResult()
    return [value async for value in generator]


def task_factory(
    loop: asyncio.AbstractEventLoop,
) -> Callable[[Coroutine[Any, Any, Any]], asyncio.Task[Any]]:
    """Return what starts a handler: with its first step at once, where Python can (3.12).

    A handler that never waits then costs no turn of the loop. Driving the first step by hand on 3.11 is no way:
    `asyncio.timeout` and others have to find the task they run in.
    """
    if sys.version_info >= (3, 12):
        return partial(asyncio.Task, loop=loop, eager_start=True)
    return partial(asyncio.Task, loop=loop)
