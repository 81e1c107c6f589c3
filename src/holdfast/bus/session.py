"""A joined session: calls, publishes, registrations and subscriptions of one life of one connection.

It ends with its connection; :class:`holdfast.bus.connect.Connection` is what comes back. Nothing here knows a socket: a
:class:`Link` takes encoded messages and hands over those that came. What each message means is its role's business
(:mod:`caller`, :mod:`callee`, :mod:`subscriber`); here they are put together, declared, and ended.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from holdfast.bus.api import Bus
from holdfast.bus.asking import NO_OPTIONS, named
from holdfast.bus.callee import Callee
from holdfast.bus.caller import Caller
from holdfast.bus.coding import BROKEN, decoder
from holdfast.bus.declared import Registration, Subscription
from holdfast.bus.errors import BusError, ConnectionLost
from holdfast.bus.subscriber import Subscriber
from holdfast.core.wamp.messages import (
    ABORT,
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
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from typing import Self

    from holdfast.bus.asking import Link, Message, OnProblem, RunSync

#: Seconds that a router has for its answer to GOODBYE.
GOODBYE_S = 1.0


class ClientSession(Caller, Callee, Subscriber, Bus):
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
        features = details.get("roles", {}).get("dealer", {}).get("features", {})
        super().__init__(link, features, run_sync, on_problem)
        self.session = self
        self.id = session_id
        self.realm = realm
        #: WELCOME.Details: authid, authrole, authmethod, the router's roles and features.
        self.details = details
        self._decode = decoder(link.codec)
        self._on_leave: list[Callable[[str], None]] = []
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

    # -- publishing ------------------------------------------------------------------------------

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

    # -- offering and subscribing ----------------------------------------------------------------

    async def _declare(self, made: Registration | Subscription) -> None:
        await self.declare_named(made)

    def declare_named(self, made: Registration | Subscription) -> Awaitable[int]:
        """As :meth:`declare`; errors say what was tried."""
        doing = "registering" if isinstance(made, Registration) else "subscribing to"
        return named(self.declare(made), f"{doing} {made.uri}")

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
        self.session = None
        waiting, self._waiting = self._waiting, {}
        for future in waiting.values():
            if not future.done():
                future.set_exception(ConnectionLost(reason))
        self._drop_procedures()
        self._drop_subscriptions()
        self._declaring = {}
        for function in self._on_leave:
            try:
                function(reason)
            except Exception as error:  # noqa: BLE001 -- the application's; the others have to be called, too
                self._on_problem("on_leave", error)


def _farewell(says: str, message: list[Any]) -> str:
    text = message[1].get("message") if isinstance(message[1], dict) else None
    return f"{says}: {text} ({message[2]})" if text else f"{says} ({message[2]})"


def _revoked(details: dict[str, Any]) -> BusError:
    return BusError(f"the router took it away: {details.get('reason', 'no reason given')}")
