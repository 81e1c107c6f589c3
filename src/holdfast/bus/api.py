"""What can be done on the bus? The methods, said once for a session and for a connection that comes back.

:class:`holdfast.bus.session.ClientSession` has one life and refuses when it is over; :class:`holdfast.bus.connect.Connection`
waits for the next one. What differs is below, in the methods that each fills in.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, overload

from holdfast.bus.declared import (
    Registration,
    Subscription,
    register_options,
    subscribe_options,
)
from holdfast.bus.handlers import Handler
from holdfast.bus.terms import Terms

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

    from holdfast.bus.caller import ProgressiveCall
    from holdfast.bus.declared import Invoke, Match
    from holdfast.bus.session import ClientSession

    Arguments = tuple[Any, ...] | list[Any]


class Bus:
    """Calling, publishing, offering, subscribing."""

    #: What messages go through just now; None while there is nothing.
    session: ClientSession | None

    def call(
        self,
        procedure: str,
        /,
        *args: Any,
        timeout_s: float | None = None,
        on_progress: Callable[..., Any] | None = None,
        disclose_me: bool | None = None,
        idempotent: bool = False,
        options: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> Coroutine[Any, Any, Any]:
        """Call a procedure; the value it returned, or a :class:`CallResult` where it is not exactly one.

        Cancelling the task that waits cancels the call (CANCEL, mode killnowait). A connection waits for a
        router where there is none.

        Args:
            procedure: Its URI.
            args: Passed on.
            timeout_s: Give up after this long; the router and the callee know it, too. A call made
                inside a procedure has at most what is left of that one's time.
            on_progress: Gets the arguments of each progressive result.
            disclose_me: Ask the router to tell the callee who calls.
            idempotent: It does no harm when it is carried out twice, so a connection makes it again when the
                router is lost under way. A session, which has one life, does not.
            options: Further CALL.Options.
            kwargs: Passed on. A keyword argument named as one of the above goes through `call_with`.

        Raises:
            WampError: The callee or the router answered with an error (subclasses in `bus.errors`).
            ConnectionLost: The connection ended before there was an answer.
        """
        session = self.session
        if (
            session is not None
            and timeout_s is None
            and on_progress is None
            and disclose_me is None
            and options is None
            and not idempotent
        ):
            return session.call_now(procedure, args, kwargs)
        return self.call_with(
            procedure, args, kwargs, timeout_s, on_progress, disclose_me, options, idempotent
        )

    def call_with(
        self,
        procedure: str,
        args: Arguments = (),
        kwargs: dict[str, Any] | None = None,
        timeout_s: float | None = None,
        on_progress: Callable[..., Any] | None = None,
        disclose_me: bool | None = None,
        options: dict[str, Any] | None = None,
        idempotent: bool = False,
    ) -> Coroutine[Any, Any, Any]:
        """As :meth:`call`, with the arguments as a list and a dictionary."""
        session = self.session
        is_plain = timeout_s is None and on_progress is None and disclose_me is None
        if session is not None and is_plain and options is None and not idempotent:
            return session.call_now(procedure, args, kwargs)
        terms = Terms(timeout_s, on_progress, disclose_me, options, idempotent=idempotent)
        return self._call_on(procedure, args, kwargs, terms)

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
        """Call with the arguments in several pieces; ConnectionLost where there is no connection.

        ::

            async with session.progressive_call("com.app.upload") as call:
                call.send("name.txt")
                call.send(b"…")
                result = await call.finish(b"the rest")
        """
        terms = Terms(timeout_s, on_progress, disclose_me, options)
        return self._progressive_call(procedure, terms)

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

        Where there is no router a connection queues it.

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
            QueueFull: A connection has no router, and `queued_publishes` wait already.
        """
        return self.publish_with(topic, args, kwargs, options, acknowledge)

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
        """Offer a procedure; a connection offers it again after each join.

        Args:
            handler: Coroutine function (concurrently), async generator (each value is a progressive result) or
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
        await self._declare(made)
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
        """Get the events of a topic; a connection subscribes again after each join.

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
        await self._declare(made)
        return made

    # -- filled in -------------------------------------------------------------------------------

    def publish_with(
        self,
        topic: str,
        args: Arguments = (),
        kwargs: dict[str, Any] | None = None,
        options: dict[str, Any] | None = None,
        acknowledge: bool = False,
    ) -> Awaitable[int] | None:
        """As :meth:`publish`, with the arguments as a list and a dictionary."""
        raise NotImplementedError

    async def unregister(self, registration: Registration) -> None:
        """Do not offer a procedure any more; calls under way go on."""
        raise NotImplementedError

    async def unsubscribe(self, subscription: Subscription) -> None:
        """Get no more events; the router is told when the topic's last handler goes."""
        raise NotImplementedError

    async def drain(self) -> None:
        """Wait until what was sent has been taken by the system: for those who publish much."""
        raise NotImplementedError

    async def _declare(self, made: Registration | Subscription) -> None:
        raise NotImplementedError

    def _call_on(
        self, procedure: str, args: Arguments, kwargs: dict[str, Any] | None, terms: Terms
    ) -> Coroutine[Any, Any, Any]:
        raise NotImplementedError

    def _progressive_call(self, procedure: str, terms: Terms) -> ProgressiveCall:
        raise NotImplementedError
