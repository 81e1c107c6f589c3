"""A joined session: calls, publishes, registrations and subscriptions of one life of one connection.

It ends with its connection; :class:`holdfast.bus.connect.Connection` is what comes back. Nothing here knows a socket: a
:class:`Link` takes encoded messages and hands over those that came. The way of a call and of an invocation is hot: one
encoding, one dictionary, one future; everything that is rarely asked for (progress, timeouts, details) leaves it early.
Message flows: WAMP specification, basic and advanced profile; behaviour of `call` as Autobahn's.
"""

from __future__ import annotations

import asyncio
import sys
import time
from functools import partial
from threading import get_ident
from typing import TYPE_CHECKING, Any, Literal, Protocol, overload

from holdfast.bus.coding import BROKEN, decoder
from holdfast.bus.errors import (
    BusError,
    CallTimeout,
    ConnectionLost,
    InvalidPayload,
    PayloadTooLarge,
    from_wire,
    to_wire,
)
from holdfast.bus.handlers import COROUTINE, GENERATOR, INLINE, Handler
from holdfast.bus.running import CURRENT, CallResult, Chunk, Event, Invocation
from holdfast.core.wamp.messages import (
    ABORT,
    CALL,
    CANCEL,
    ERROR,
    EVENT,
    GOODBYE,
    INTERRUPT,
    INVOCATION,
    PUBLISH,
    PUBLISHED,
    REGISTER,
    REGISTERED,
    RESULT,
    SUBSCRIBE,
    SUBSCRIBED,
    UNREGISTER,
    UNREGISTERED,
    UNSUBSCRIBE,
    UNSUBSCRIBED,
    YIELD,
    Objects,
)
from holdfast.wire.wamp import EncodeError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine
    from typing import Self

    from holdfast.wire.wamp.codec import Codec

    Message = list[Any]
    Match = Literal["exact", "prefix", "wildcard"]
    Invoke = Literal["single", "first", "last", "random", "roundrobin", "all"]
    #: Runs a plain function somewhere else and gives its result.
    RunSync = Callable[[Callable[[], Any]], Awaitable[Any]]
    #: Is told about an exception of a handler: what it was doing, the exception.
    OnProblem = Callable[[str, BaseException], None]

NO_OPTIONS: dict[str, Any] = {}
#: Seconds that a router has for its answer to GOODBYE.
GOODBYE_S = 1.0


class Link(Protocol):
    """A connection that messages go through, one by one and in order."""

    codec: Codec
    #: The other side takes no larger messages (bytes).
    limit: int
    #: Gets each message that comes.
    receive: Callable[[bytes], None]
    #: Called once, with the reason, when the link is gone.
    lost: Callable[[str], None]

    def send(self, message: bytes) -> None:
        """Queue a message; all of one turn of the loop are written together."""

    def close(self) -> None:
        """Write what is queued and end."""

    def abort(self, reason: str) -> None:
        """End at once."""

    async def drain(self) -> None:
        """Wait until what is queued has been taken by the system."""


class Registration:
    """A procedure that is offered here; `id` is None while it is not registered at a router."""

    __slots__ = ("handler", "id", "options", "owner", "uri")

    def __init__(self, owner: Any, uri: str, handler: Handler, options: dict[str, Any]) -> None:
        self.owner = owner
        self.uri = uri
        self.handler = handler
        self.options = options
        self.id: int | None = None

    async def unregister(self) -> None:
        """Do not offer it any more."""
        await self.owner.unregister(self)

    def __repr__(self) -> str:
        return f"<Registration {self.uri!r} id={self.id}>"


class Subscription:
    """A handler of events; `id` is None while it is not subscribed at a router."""

    __slots__ = ("handler", "id", "options", "owner", "uri")

    def __init__(self, owner: Any, uri: str, handler: Handler, options: dict[str, Any]) -> None:
        self.owner = owner
        self.uri = uri
        self.handler = handler
        self.options = options
        self.id: int | None = None

    async def unsubscribe(self) -> None:
        """Get no more events."""
        await self.owner.unsubscribe(self)

    def __repr__(self) -> str:
        return f"<Subscription {self.uri!r} id={self.id}>"


class _Wait:
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


def register_options(
    handler: Handler,
    match: str,
    invoke: str,
    concurrency: int | None,
    options: dict[str, Any] | None,
) -> dict[str, Any]:
    """Return REGISTER.Options; what is the default is left out."""
    made: dict[str, Any] = {} if match == "exact" else {"match": match}
    if invoke != "single":
        made["invoke"] = invoke
    if concurrency is not None:
        made["concurrency"] = concurrency
    if handler.kind != INLINE:
        # The router tells us the caller's timeout, so that it travels on with the calls that the procedure makes.
        made["forward_timeout"] = True
    if options:
        made.update(options)
    return made


def subscribe_options(
    match: str, get_retained: bool, options: dict[str, Any] | None
) -> dict[str, Any]:
    """Return SUBSCRIBE.Options; what is the default is left out."""
    made: dict[str, Any] = {} if match == "exact" else {"match": match}
    if get_retained:
        made["get_retained"] = True
    if options:
        made.update(options)
    return made


class ClientSession:
    """One joined session.

    Args:
        link: Where it sends to; its `receive` and `lost` become this session's.
        session_id: From WELCOME.
        realm: The realm.
        details: WELCOME.Details.
        run_sync: Runs plain functions (default: procedures in `asyncio.to_thread`, events in one
            thread, one after the other, so that they keep their order).
        on_problem: Is told about exceptions of handlers (default: logged, with traceback).
    """

    def __init__(
        self,
        link: Link,
        session_id: int,
        realm: str,
        details: dict[str, Any],
        *,
        run_sync: RunSync | None = None,
        on_problem: OnProblem | None = None,
    ) -> None:
        self.loop = asyncio.get_running_loop()
        #: The thread of the loop.
        self.thread = get_ident()
        self.id = session_id
        self.realm = realm
        #: WELCOME.Details: authid, authrole, authmethod, the router's roles and features.
        self.details = details
        #: Why it ended; None while it is open.
        self.ended: str | None = None
        self._link = link
        self._send = link.send
        self._encode = link.codec.encode
        self._decode = decoder(link.codec)
        self._run_sync = run_sync
        self._on_problem = on_problem or log_problem
        self._on_leave: list[Callable[[str], None]] = []
        features = details.get("roles", {}).get("dealer", {}).get("features", {})
        self._can_cancel = bool(features.get("call_canceling") or features.get("call_cancelling"))
        self._request = 0
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._extras: dict[int, _Wait] = {}
        self._declaring: dict[int, Registration | Subscription] = {}
        self._procedures: dict[int, Registration] = {}
        self._subscriptions: dict[int, tuple[Subscription, ...]] = {}
        self._running: dict[int, Invocation] = {}
        self._event_tasks: set[asyncio.Task[Any]] = set()
        self._lane: Any = None
        self._create_task = _task_factory(self.loop)
        self._goodbye: asyncio.Future[None] | None = None
        self._dispatch: dict[int, Callable[[Message], None]] = {
            RESULT: self._on_result, INVOCATION: self._on_invocation, EVENT: self._on_event, ERROR: self._on_error,
            PUBLISHED: self._on_acknowledged, UNREGISTERED: self._on_unregistered, UNSUBSCRIBED: self._on_unsubscribed,
            REGISTERED: self._on_registered, SUBSCRIBED: self._on_subscribed, INTERRUPT: self._on_interrupt,
            GOODBYE: self._on_goodbye, ABORT: self._on_abort,
        }  # fmt: skip
        link.receive = self.receive
        link.lost = self.lost

    # -- who we are ------------------------------------------------------------------------------

    @property
    def authid(self) -> str | None:
        """Who the router takes us for."""
        return self.details.get("authid")

    @property
    def authrole(self) -> str | None:
        """The role that the router gave us."""
        return self.details.get("authrole")

    @property
    def is_open(self) -> bool:
        """Messages can be sent."""
        return self.ended is None

    def on_leave(self, function: Callable[[str], None]) -> None:
        """Call `function(reason)` once, when the session has ended, whoever ended it."""
        self._on_leave.append(function)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.leave()

    # -- calling ---------------------------------------------------------------------------------

    def call(
        self,
        procedure: str,
        /,
        *args: Any,
        timeout_s: float | None = None,
        on_progress: Callable[..., Any] | None = None,
        disclose_me: bool | None = None,
        idempotent: bool = False,  # noqa: ARG002 -- a session has one life; Connection repeats
        options: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> Coroutine[Any, Any, Any]:
        """Call a procedure; the value it returned, or a :class:`CallResult` where it is not exactly one.

        Cancelling the task that waits cancels the call (CANCEL, mode killnowait).

        Args:
            procedure: Its URI.
            args: Passed on.
            timeout_s: Give up after this long; the router and the callee know it, too. A call made
                inside a procedure has at most what is left of that one's time.
            on_progress: Gets the arguments of each progressive result.
            disclose_me: Ask the router to tell the callee who calls.
            idempotent: Only for :class:`holdfast.bus.connect.Connection`: may be repeated.
            options: Further CALL.Options.
            kwargs: Passed on. A keyword argument named as one of the above goes through `call_with`.

        Raises:
            WampError: The callee or the router answered with an error (subclasses in `bus.errors`).
            ConnectionLost: The connection ended before there was an answer.
        """
        return self.call_with(procedure, args, kwargs, timeout_s, on_progress, disclose_me, options)

    def call_with(
        self,
        procedure: str,
        args: tuple[Any, ...] | list[Any] = (),
        kwargs: dict[str, Any] | None = None,
        timeout_s: float | None = None,
        on_progress: Callable[..., Any] | None = None,
        disclose_me: bool | None = None,
        options: dict[str, Any] | None = None,
    ) -> Coroutine[Any, Any, Any]:
        """As :meth:`call`, with the arguments as a list and a dictionary."""
        if (
            timeout_s is None
            and on_progress is None
            and disclose_me is None
            and options is None
            and ((running := CURRENT.get()) is None or running.deadline_s is None)
        ):
            return self._call(procedure, args, kwargs)
        return self._call_fully(
            procedure, args, kwargs, timeout_s, on_progress, disclose_me, options
        )

    async def _call(
        self, procedure: str, args: tuple[Any, ...] | list[Any], kwargs: dict[str, Any] | None
    ) -> Any:
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
            _name(error, f"calling {procedure}")
            raise

    async def _call_fully(
        self,
        procedure: str,
        args: tuple[Any, ...] | list[Any],
        kwargs: dict[str, Any] | None,
        timeout_s: float | None,
        on_progress: Callable[..., Any] | None,
        disclose_me: bool | None,
        options: dict[str, Any] | None,
    ) -> Any:
        made, timeout_s = _call_options(timeout_s, on_progress, disclose_me, options)
        if timeout_s is not None and timeout_s <= 0:
            late = CallTimeout("no time was left for this call")
            late.doing = f"calling {procedure}"
            raise late
        request = self._request + 1
        self._emit([CALL, request, made, procedure], args, kwargs)
        self._request = request
        wait = self._expect(request, on_progress, timeout_s)
        return await self._result(request, procedure, wait)

    def progressive_call(
        self,
        procedure: str,
        /,
        *,
        timeout_s: float | None = None,
        on_progress: Callable[..., Any] | None = None,
        disclose_me: bool | None = None,
        options: dict[str, Any] | None = None,
    ) -> ProgressiveCall:
        """Call with the arguments in several pieces.

        ::

            async with session.progressive_call("com.app.upload") as call:
                call.send("name.txt")
                call.send(b"…")
                result = await call.finish(b"the rest")
        """
        return ProgressiveCall(self, procedure, timeout_s, on_progress, disclose_me, options)

    def _expect(
        self, request: int, on_progress: Callable[..., Any] | None, timeout_s: float | None
    ) -> _Wait:
        future = self._waiting[request] = self.loop.create_future()
        wait = self._extras[request] = _Wait(future, on_progress, timeout_s)
        if timeout_s is not None:
            wait.timer = self.loop.call_later(timeout_s, self._time_out_call, request)
        return wait

    async def _result(self, request: int, procedure: str, wait: _Wait) -> Any:
        try:
            return await wait.future
        except asyncio.CancelledError:
            self._cancel(request)
            raise
        except BaseException as error:
            _name(error, f"calling {procedure}")
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
        args, kwargs = _payload(message, 3)
        try:
            wait.on_progress(*args, **kwargs)
        except Exception as error:  # noqa: BLE001 -- the application's; it belongs to who made the call
            future = self._waiting.get(request)
            if future is not None and not future.done():
                self._cancel(request)
                future.set_exception(error)

    def _on_error(self, message: Message) -> None:
        request = message[2]
        future = self._waiting.pop(request, None)
        self._declaring.pop(request, None)
        if future is not None and not future.done():
            args, kwargs = _payload(message, 5)
            future.set_exception(from_wire(message[4], args, kwargs))

    # -- publishing ------------------------------------------------------------------------------

    @overload
    def publish(self, topic: str, /, *args: Any, acknowledge: Literal[True], options: dict[str, Any] | None = None, **kwargs: Any) -> Awaitable[int]: ...  # fmt: skip
    @overload
    def publish(self, topic: str, /, *args: Any, acknowledge: Literal[False] = False, options: dict[str, Any] | None = None, **kwargs: Any) -> None: ...  # fmt: skip

    def publish(
        self,
        topic: str,
        /,
        *args: Any,
        acknowledge: bool = False,
        options: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> Awaitable[int] | None:
        """Publish an event. It is on its way when this returns; nobody tells whether it arrived.

        Args:
            topic: Its URI.
            args: Passed on.
            acknowledge: Return an awaitable that gives the publication id when the router has it,
                or raises what the router says.
            options: PUBLISH.Options: exclude_me, retain, disclose_me, eligible, exclude, eligible_authid,
                exclude_authrole and so on.
            kwargs: Passed on; names as above through `publish_with`.

        Raises:
            ConnectionLost: The session has ended.
        """
        return self.publish_with(topic, args, kwargs, options, acknowledge)

    def publish_with(
        self,
        topic: str,
        args: tuple[Any, ...] | list[Any] = (),
        kwargs: dict[str, Any] | None = None,
        options: dict[str, Any] | None = None,
        acknowledge: bool = False,
    ) -> Awaitable[int] | None:
        """As :meth:`publish`, with the arguments as a list and a dictionary."""
        request = self._request + 1
        if not acknowledge:
            self._emit([PUBLISH, request, options or NO_OPTIONS, topic], args, kwargs)
            self._request = request
            return None
        made = {**options, "acknowledge": True} if options else {"acknowledge": True}
        self._emit([PUBLISH, request, made, topic], args, kwargs)
        self._request = request
        return self._acknowledged(request, f"publishing {topic}")

    def _acknowledged(self, request: int, doing: str) -> Awaitable[Any]:
        future = self._waiting[request] = self.loop.create_future()
        return _named(future, doing)

    # -- offering and subscribing ----------------------------------------------------------------

    async def register(
        self,
        handler: Callable[..., Any],
        uri: str,
        *,
        match: Match = "exact",
        invoke: Invoke = "single",
        concurrency: int | None = None,
        inline: bool = False,
        options: dict[str, Any] | None = None,
    ) -> Registration:
        """Offer a procedure.

        Args:
            handler: Coroutine function (a task each), async generator (each value is a progressive result) or
                plain function (in a thread, or where it is `inline` on the loop). Keyword-only parameters
                named details, progress, chunks are filled in (:mod:`holdfast.bus.handlers`).
            uri: The procedure, or a pattern.
            match: How it is matched.
            invoke: Who gets a call where several offer the same.
            concurrency: The router gives us at most so many at a time.
            inline: Run a plain function on the loop: for those that are short and never block.
            options: Further REGISTER.Options (force_reregister, …).

        Raises:
            ProcedureExists, NotAuthorized, InvalidUri: The router says no.
        """
        how = Handler(handler, inline=inline)
        made = Registration(
            self, uri, how, register_options(how, match, invoke, concurrency, options)
        )
        await self.declare_named(made)
        return made

    async def subscribe(
        self,
        handler: Callable[..., Any],
        uri: str,
        *,
        match: Match = "exact",
        get_retained: bool = False,
        inline: bool = False,
        options: dict[str, Any] | None = None,
    ) -> Subscription:
        """Get the events of a topic.

        Coroutine functions run as tasks, started in the order of the events; plain functions run one after
        the other in a thread, or where they are `inline` on the loop.

        Args:
            handler: Called with the event's arguments; a keyword-only parameter `details` gets the :class:`Event`.
            uri: The topic, or a pattern.
            match: How it is matched.
            get_retained: Also get the event that the router keeps for latecomers.
            inline: Run a plain function on the loop: for those that are short and never block.
            options: Further SUBSCRIBE.Options.
        """
        made = Subscription(self, uri, Handler(handler, inline=inline), subscribe_options(match, get_retained, options))  # fmt: skip
        await self.declare_named(made)
        return made

    def declare_named(self, made: Registration | Subscription) -> Awaitable[int]:
        """As :meth:`declare`; errors say what was tried."""
        doing = "registering" if isinstance(made, Registration) else "subscribing to"
        return _named(self.declare(made), f"{doing} {made.uri}")

    def declare(self, made: Registration | Subscription) -> asyncio.Future[int]:
        """Send REGISTER or SUBSCRIBE at once; the future gets the id."""
        self._check_open()
        request = self._request = self._request + 1
        code = REGISTER if isinstance(made, Registration) else SUBSCRIBE
        self._send(self._encode([code, request, made.options, made.uri], None))
        self._declaring[request] = made
        future: asyncio.Future[int] = self.loop.create_future()
        self._waiting[request] = future
        return future

    async def unregister(self, registration: Registration) -> None:
        """Do not offer a procedure any more; calls under way go on."""
        self._check_open()
        if registration.id is None or self._procedures.get(registration.id) is not registration:
            return
        request = self._request = self._request + 1
        self._send(self._encode([UNREGISTER, request, registration.id], None))
        await self._acknowledged(request, f"unregistering {registration.uri}")
        self._procedures.pop(registration.id, None)
        registration.id = None

    async def unsubscribe(self, subscription: Subscription) -> None:
        """Get no more events; the router is told when the topic's last handler goes."""
        self._check_open()
        id_ = subscription.id
        if id_ is None:
            return
        subscription.id = None
        left = tuple(s for s in self._subscriptions.get(id_, ()) if s is not subscription)
        if left:
            self._subscriptions[id_] = left
            return
        self._subscriptions.pop(id_, None)
        if any(
            isinstance(other, Subscription) and other.uri == subscription.uri
            for other in self._declaring.values()
        ):
            return  # another handler of this topic is on its way, and will get the same id
        request = self._request = self._request + 1
        self._send(self._encode([UNSUBSCRIBE, request, id_], None))
        await self._acknowledged(request, f"unsubscribing from {subscription.uri}")

    def _on_acknowledged(self, message: Message) -> None:
        future = self._waiting.pop(message[1], None)
        if future is not None and not future.done():
            future.set_result(message[2])

    def _on_registered(self, message: Message) -> None:
        # At once, not when the waiting task runs: an invocation may be next in the same chunk.
        made = self._declaring.pop(message[1])
        assert isinstance(made, Registration)  # noqa: S101 -- the id is ours
        made.id = message[2]
        self._procedures[message[2]] = made
        self._on_acknowledged(message)

    def _on_subscribed(self, message: Message) -> None:
        made = self._declaring.pop(message[1])
        assert isinstance(made, Subscription)  # noqa: S101 -- the id is ours
        id_ = made.id = message[2]
        self._subscriptions[id_] = (*self._subscriptions.get(id_, ()), made)
        self._on_acknowledged(message)

    def _on_unregistered(self, message: Message) -> None:
        if message[1] == 0:  # the router took it away
            details = message[2] if len(message) > 2 and message[2] else {}
            gone = self._procedures.pop(details.get("registration", 0), None)
            if gone is not None:
                gone.id = None
                self._on_problem(f"registration of {gone.uri}", _revoked(details))
            return
        future = self._waiting.pop(message[1], None)
        if future is not None and not future.done():
            future.set_result(0)

    def _on_unsubscribed(self, message: Message) -> None:
        if message[1] == 0:  # the router took it away
            details = message[2] if len(message) > 2 and message[2] else {}
            for gone in self._subscriptions.pop(details.get("subscription", 0), ()):
                gone.id = None
                self._on_problem(f"subscription to {gone.uri}", _revoked(details))
            return
        future = self._waiting.pop(message[1], None)
        if future is not None and not future.done():
            future.set_result(0)

    # -- events ----------------------------------------------------------------------------------

    def _on_event(self, message: Message) -> None:
        subscriptions = self._subscriptions.get(message[1])
        if subscriptions is None:
            return  # unsubscribed in the meantime
        n = len(message)
        args = message[4] if n > 4 else ()
        if args.__class__ is bytes:
            args = (args,)  # a transparent payload: one binary in the place of the arguments
        kwargs = message[5] if n > 5 else {}
        for subscription in subscriptions:
            handler = subscription.handler
            given = kwargs
            if handler.wants_details:
                given = {**kwargs, "details": Event(subscription.uri, message[2], message[3])}
            if handler.kind == INLINE:
                try:
                    handler.function(*args, **given)
                except Exception as error:  # noqa: BLE001 -- the application's
                    self._on_problem(f"event of {subscription.uri}", error)
            else:
                self._start_event(subscription, args, given)

    def _start_event(
        self, subscription: Subscription, args: tuple[Any, ...] | list[Any], kwargs: dict[str, Any]
    ) -> None:
        task = self._create_task(self._run_event(subscription, args, kwargs))
        if not task.done():
            self._event_tasks.add(task)
            task.add_done_callback(self._event_tasks.discard)

    async def _run_event(
        self, subscription: Subscription, args: tuple[Any, ...] | list[Any], kwargs: dict[str, Any]
    ) -> None:
        # Made by a publish inside a procedure's context or not: an event has no deadline.
        CURRENT.set(None)
        handler = subscription.handler
        try:
            if handler.kind == COROUTINE:
                await handler.function(*args, **kwargs)
            elif handler.kind == GENERATOR:
                async for _ in handler.function(*args, **kwargs):
                    pass
            elif self._run_sync is not None:
                await self._run_sync(partial(handler.function, *args, **kwargs))
            else:
                await self._in_lane(partial(handler.function, *args, **kwargs))
        except Exception as error:  # noqa: BLE001 -- the application's
            self._on_problem(f"event of {subscription.uri}", error)

    def _in_lane(self, function: Callable[[], Any]) -> Awaitable[Any]:
        if self._lane is None:
            from concurrent.futures import ThreadPoolExecutor

            self._lane = ThreadPoolExecutor(1, thread_name_prefix="bus-events")
        return self.loop.run_in_executor(self._lane, function)

    # -- invocations -----------------------------------------------------------------------------

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
        invocation = Invocation(self, request, registration, details)
        if invocation.is_progressive and not handler.wants_chunks:
            invocation.disarm()
            self._refuse(request, "wamp.error.feature_not_supported",
                         f"{registration.uri} takes its arguments in one piece only")  # fmt: skip
            return
        self._running[request] = invocation
        if handler.has_extras:
            kwargs = self._with_extras(invocation, handler, kwargs)
        task = self._create_task(self._run(invocation, args, kwargs))
        invocation.task = task

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
        self,
        request: int,
        registration: Registration,
        args: tuple[Any, ...] | list[Any],
        kwargs: dict[str, Any],
    ) -> None:
        try:
            result = registration.handler.function(*args, **kwargs)
        except Exception as error:  # noqa: BLE001 -- it crosses the wire
            self._fail(request, registration, error, args, kwargs)
        else:
            self._yield(request, registration, result)

    async def _run(
        self, invocation: Invocation, args: tuple[Any, ...] | list[Any], kwargs: dict[str, Any]
    ) -> None:
        CURRENT.set(invocation)
        invocation.is_started = True
        registration = invocation.registration
        handler = registration.handler
        request = invocation.request
        try:
            if handler.kind == COROUTINE:
                result = await handler.function(*args, **kwargs)
            else:
                result = await self._run_otherwise(invocation, handler, args, kwargs)
        except asyncio.CancelledError:
            if self._end(request) is not None:
                self._refuse(request, "wamp.error.canceled", "the procedure was canceled")
            raise
        except Exception as error:  # noqa: BLE001 -- it crosses the wire
            if self._end(request) is not None:
                self._fail(request, registration, error, args, kwargs)
        else:
            # Not ours any more: interrupted, timed out, or the session has ended. Nobody waits for it.
            if self._end(request) is not None:
                self._yield(request, registration, result)

    async def _run_otherwise(
        self,
        invocation: Invocation,
        handler: Handler,
        args: tuple[Any, ...] | list[Any],
        kwargs: dict[str, Any],
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
        args: tuple[Any, ...] | list[Any] = (),
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

    def yield_progress(
        self, request: int, args: tuple[Any, ...] | list[Any], kwargs: dict[str, Any]
    ) -> None:
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

    # -- the end ---------------------------------------------------------------------------------

    async def leave(self, reason: str = "wamp.close.normal") -> None:
        """Say GOODBYE, wait a moment for the answer, and end the connection."""
        if self.ended is not None:
            return
        self._goodbye = self.loop.create_future()
        self._send(self._encode([GOODBYE, {}, reason], None))
        try:
            async with asyncio.timeout(GOODBYE_S):
                await self._goodbye
        except TimeoutError:
            pass  # it is leaving all the same
        self.lost(f"left ({reason})")
        self._link.close()

    async def drain(self) -> None:
        """Wait until what was sent has been taken by the system: for those who publish much."""
        await self._link.drain()

    def _on_goodbye(self, message: Message) -> None:
        if self._goodbye is not None:
            if not self._goodbye.done():
                self._goodbye.set_result(None)
            return
        self._send(self._encode([GOODBYE, {}, "wamp.close.goodbye_and_out"], None))
        self.lost(_farewell("the router said goodbye", message))
        self._link.close()

    def _on_abort(self, message: Message) -> None:
        self.lost(_farewell("the router ended the session", message))
        self._link.close()

    def receive(self, data: bytes) -> None:
        """Take a message from the link."""
        try:
            message = self._decode(data)
        except BROKEN as error:
            self._violated(f"what came is no WAMP message: {error}")
            return
        try:
            self._dispatch[message[0]](message)
        except (LookupError, TypeError, AttributeError, AssertionError) as error:
            if self.ended is None:
                self._violated(f"{message!r:.200} is not what a router may send: {error!r}")

    def _violated(self, says: str) -> None:
        self._send(self._encode([ABORT, {"message": says}, "wamp.error.protocol_violation"], None))
        self.lost(f"the router broke the protocol: {says}")
        self._link.close()

    def lost(self, reason: str) -> None:
        """The session is over: whoever waits is told, whatever runs for a caller is cancelled."""
        if self.ended is not None:
            return
        self.ended = reason
        waiting, self._waiting = self._waiting, {}
        for future in waiting.values():
            if not future.done():
                future.set_exception(ConnectionLost(reason))
        running, self._running = self._running, {}
        for invocation in running.values():
            invocation.disarm()
            if invocation.task is not None:
                invocation.task.cancel()
        for registration in self._procedures.values():
            registration.id = None
        for subscriptions in self._subscriptions.values():
            for subscription in subscriptions:
                subscription.id = None
        self._procedures = {}
        self._subscriptions = {}
        self._declaring = {}
        if self._lane is not None:
            self._lane.shutdown(wait=False)
        for function in self._on_leave:
            try:
                function(reason)
            except Exception as error:  # noqa: BLE001 -- the application's; the others have to be called, too
                self._on_problem("on_leave", error)

    # -- sending ---------------------------------------------------------------------------------

    def _emit(
        self, head: list[Any], args: tuple[Any, ...] | list[Any], kwargs: dict[str, Any] | None
    ) -> None:
        if self.ended is not None:
            raise ConnectionLost(self.ended)
        try:
            if kwargs:
                data = self._encode(head, Objects(list(args), kwargs))
            elif args:
                data = self._encode(head, Objects(list(args)))
            else:
                data = self._encode(head, None)
        except (EncodeError, TypeError, ValueError, OverflowError) as error:
            says = f"{head[-1]}: {error}" if isinstance(head[-1], str) else str(error)
            raise InvalidPayload(says) from error
        if len(data) > self._link.limit:
            raise PayloadTooLarge(f"{len(data)} bytes, and the other side takes {self._link.limit}")
        self._send(data)

    def _check_open(self) -> None:
        if self.ended is not None:
            raise ConnectionLost(self.ended)


class ProgressiveCall:
    """A call whose arguments go out in pieces; leaving its block before `finish` cancels it."""

    __slots__ = ("_made", "_on_progress", "_procedure", "_request", "_session", "_timeout_s", "_wait")  # fmt: skip

    def __init__(
        self,
        session: ClientSession,
        procedure: str,
        timeout_s: float | None,
        on_progress: Callable[..., Any] | None,
        disclose_me: bool | None,
        options: dict[str, Any] | None,
    ) -> None:
        self._session = session
        self._procedure = procedure
        self._made, self._timeout_s = _call_options(timeout_s, on_progress, disclose_me, options)
        self._on_progress = on_progress
        self._request = 0
        self._wait: _Wait | None = None

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


def _call_options(
    timeout_s: float | None,
    on_progress: Callable[..., Any] | None,
    disclose_me: bool | None,
    options: dict[str, Any] | None,
) -> tuple[dict[str, Any], float | None]:
    running = CURRENT.get()
    if running is not None and running.deadline_s is not None:
        left_s = running.deadline_s - time.monotonic()
        timeout_s = left_s if timeout_s is None else min(timeout_s, left_s)
    made: dict[str, Any] = dict(options) if options else {}
    if timeout_s is not None:
        made["timeout"] = max(1, int(timeout_s * 1000))  # 0 would mean "no limit"
    if on_progress is not None:
        made["receive_progress"] = True
    if disclose_me is not None:
        made["disclose_me"] = disclose_me
    return made, timeout_s


def _payload(message: list[Any], at: int) -> tuple[list[Any], dict[str, Any]]:
    n = len(message)
    return (message[at] if n > at else []), (message[at + 1] if n > at + 1 else {})


def _name(error: BaseException, doing: str) -> None:
    if isinstance(error, BusError) and not error.doing:
        error.doing = doing


async def _named(future: asyncio.Future[Any], doing: str) -> Any:
    try:
        return await future
    except BusError as error:
        _name(error, doing)
        raise


async def _drain(generator: Any, invocation: Invocation) -> Any:
    """Send what an async generator gives; a caller who wants no progress gets all of it as a list."""
    if invocation.takes_progress:
        async for value in generator:
            invocation.progress(value)
        return CallResult()
    return [value async for value in generator]


def _farewell(says: str, message: list[Any]) -> str:
    text = message[1].get("message") if isinstance(message[1], dict) else None
    return f"{says}: {text} ({message[2]})" if text else f"{says} ({message[2]})"


def _revoked(details: dict[str, Any]) -> BusError:
    return BusError(f"the router took it away: {details.get('reason', 'no reason given')}")


def log_problem(doing: str, error: BaseException) -> None:
    """Tell the log of an exception that nobody else gets."""
    import logging

    logging.getLogger("holdfast.bus").error("%s: %r", doing, error, exc_info=error)


def _task_factory(
    loop: asyncio.AbstractEventLoop,
) -> Callable[[Coroutine[Any, Any, Any]], asyncio.Task[Any]]:
    """Return what starts a handler: with its first step at once, where Python can (3.12).

    A handler that never waits then costs no turn of the loop. Driving the first step by hand on 3.11 is no way:
    `asyncio.timeout` and others have to find the task they run in.
    """
    if sys.version_info >= (3, 12):
        return partial(asyncio.Task, loop=loop, eager_start=True)
    return partial(asyncio.Task, loop=loop)
