"""How do the HTTP services of a port publish and call?

As sessions like any other (authmethod `http`), one for each realm and role, opened when first needed: permissions, lists and
the meta API treat them as they treat everybody. Their outlet is no connection; it hands each answer to whoever waits for it.
"""

import asyncio
from time import monotonic

from holdfast.core.wamp.errors import ProtocolViolation
from holdfast.core.wamp.messages import ERROR, PUBLISHED, RESULT, Call, Cancel, Publish
from holdfast.core.wamp.session import Identity, Session
from holdfast.router.web.site import WampFailure
from holdfast.wire.wamp import open_payload

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Awaitable
    from typing import Any

    from holdfast.core.wamp.messages import Payload, Shared
    from holdfast.core.wamp.realm import Realm
    from holdfast.router.router import Router

_FEATURES = {"caller": {"features": {"call_canceling": True}}, "publisher": {}}
#: Requests in flight of one session; then there is another one, for realms limit them by session.
_IN_FLIGHT = 500


class RouterBridge:
    """The realms of a router, as HTTP services see them."""

    def __init__(self, router: "Router") -> None:
        self._router = router
        self._outlets: dict[tuple[str, str], list[BridgeOutlet]] = {}

    def call(
        self, realm: str, role: str, procedure: str, args: "list[Any]", kwargs: "dict[str, Any]", options: "dict[str, Any]",
    ) -> "Awaitable[tuple[list[Any], dict[str, Any]]]":  # fmt: skip
        """Call; see :class:`holdfast.router.web.site.Bridge`."""
        outlet = self._outlet(realm, role)
        return outlet.request(lambda id_: Call(id_, options, procedure, args, kwargs))

    def publish(
        self, realm: str, role: str, topic: str, args: "list[Any]", kwargs: "dict[str, Any]", options: "dict[str, Any]",
    ) -> "Awaitable[int]":  # fmt: skip
        """Publish; see :class:`holdfast.router.web.site.Bridge`."""
        outlet = self._outlet(realm, role)
        options = {**options, "acknowledge": True}
        return outlet.request(lambda id_: Publish(id_, options, topic, args, kwargs))

    def forget(self, outlet: "BridgeOutlet") -> None:
        """Use a session no more that its realm has closed."""
        for outlets in self._outlets.values():
            if outlet in outlets:
                outlets.remove(outlet)

    def _outlet(self, realm_name: str, role: str) -> "BridgeOutlet":
        realm = self._router.realms.get(realm_name)
        if realm is None:
            raise WampFailure(
                "wamp.error.no_such_realm", [f'there is no realm "{realm_name}" here']
            )
        outlets = self._outlets.setdefault((realm_name, role), [])
        for outlet in outlets:
            if outlet.realm is realm and len(outlet.waiting) < _IN_FLIGHT:
                return outlet
        outlet = BridgeOutlet(self._router, self, realm, role)
        outlets.append(outlet)
        return outlet


class BridgeOutlet:
    """A session without a connection."""

    __slots__ = ("_bridge", "_last", "_router", "_session", "realm", "waiting")

    def __init__(self, router: "Router", bridge: RouterBridge, realm: "Realm", role: str) -> None:
        self._router = router
        self._bridge = bridge
        self.realm = realm
        self._last = 0
        self.waiting: dict[int, asyncio.Future[Any]] = {}
        identity = Identity(f"http-{role}", role, "http", "router")
        self._session = Session(
            router.new_id(), identity, self, _FEATURES, {"type": "http", "peer": "http"}
        )
        router.sessions[self._session.id] = self._session
        realm.welcome(self._session)
        realm.join(self._session, monotonic())

    def request(self, make: "Any") -> "asyncio.Future[Any]":
        """Send a request; the future gets its answer, and cancelling it cancels a call."""
        self._last += 1
        id_ = self._last
        future = asyncio.get_running_loop().create_future()
        self.waiting[id_] = future
        message = make(id_)
        future.add_done_callback(lambda done: self._done(id_, done, message.__class__ is Call))
        self._receive(message)
        return future

    def _receive(self, message: "Any") -> None:
        try:
            self.realm.receive(self._session, message, monotonic())
        except ProtocolViolation as error:
            # An option of a wrong shape: the request's fault, and this session is over.
            self._end(WampFailure("wamp.error.invalid_argument", [str(error)]))
        self._router.worked(1, self.realm)

    def _done(self, id_: int, future: "asyncio.Future[Any]", is_call: bool) -> None:
        if future.cancelled() and self.waiting.pop(id_, None) is not None and is_call:
            self._receive(Cancel(id_, {"mode": "killnowait"}))

    # -- the outlet ------------------------------------------------------------------------------

    def send(self, head: "list[Any]", payload: "Payload | None" = None) -> None:
        """Hand an answer to who waits for it."""
        kind = head[0]
        future = self.waiting.pop(head[2] if kind == ERROR else head[1], None)
        if future is None or future.done():
            return
        if kind == ERROR:
            args, kwargs = open_payload(payload) if payload is not None else _loose(head, 5)
            future.set_exception(WampFailure(head[4], args, kwargs))
        elif kind == RESULT:
            future.set_result(open_payload(payload) if payload is not None else _loose(head, 3))
        elif kind == PUBLISHED:
            future.set_result(head[2])

    def send_shared(self, message: "Shared") -> None:
        """Drop an event: these sessions subscribe to nothing."""

    def close(self, reason: str, says: str) -> None:
        """End: the realm has let the session go."""
        self._end(WampFailure(reason, [says]))

    def _end(self, failure: WampFailure) -> None:
        self._router.forget_session(self._session)
        self._bridge.forget(self)
        waiting, self.waiting = self.waiting, {}
        for future in waiting.values():
            if not future.done():
                future.set_exception(failure)


def _loose(head: "list[Any]", at: int) -> "tuple[list[Any], dict[str, Any]]":
    """Return a payload that is part of the head."""
    return (head[at] if len(head) > at else []), (head[at + 1] if len(head) > at + 1 else {})
