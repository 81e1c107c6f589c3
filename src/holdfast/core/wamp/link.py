"""What do two routers of one realm say to each other?

A link is one connection on which each router is a client of the other one. A router subscribes over there to what its own
clients want, and offers over there what its own clients offer; so an event crosses only where somebody wants it, and a call only
where nobody nearer has the procedure. The message types of clients and of routers are disjoint, so one connection carries both
directions; a CALL never crosses, it arrives as INVOCATION and its RESULT goes back as YIELD.

What crosses goes one hop: events and calls that came over a link reach local sessions only. So routers of a realm are linked
each with each, nothing goes in circles, and everybody gets an event once. Names in `wamp.` stay at home: each router tells of itself.

- An EVENT belongs to one subscription, here as there, and keeps its publication id. Events with black- or whitelists, and
  retained ones, cross once as a PUBLISH that carries lists and details, for only the other router knows its sessions.
- Retained events go to all linked routers, and what one has and the other lacks is told when the link opens.
- A local callee is preferred to one over a link, whatever its policy (`invoke` = `all` asks everybody).

The idea is Crossbar.io's rlink, with an exchange of interests in place of its meta API. Sockets: :mod:`holdfast.router.links`.
"""

from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from holdfast.core.wamp.errors import NO_SUCH_PROCEDURE, ProtocolViolation, Refused
from holdfast.core.wamp.messages import (
    CALL,
    CBOR,
    ERROR,
    INVOCATION,
    JSON,
    MSGPACK,
    OBJECTS,
    PUBLISH,
    PUBLISHED,
    REGISTER,
    RESULT,
    SUBSCRIBE,
    UNREGISTER,
    UNSUBSCRIBE,
    YIELD,
    Call,
    Cancel,
    Error,
    Event,
    Interrupt,
    Invocation,
    Objects,
    Publish,
    Published,
    Register,
    Registered,
    Subscribe,
    Subscribed,
    Unregister,
    Unregistered,
    Unsubscribe,
    Unsubscribed,
    Yield,
)
from holdfast.core.wamp.session import LINK
from holdfast.core.wamp.uri import is_reserved

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from holdfast.core.wamp.broker import Retained, Subscription
    from holdfast.core.wamp.dealer import Registration
    from holdfast.core.wamp.messages import Message, Payload, Shared
    from holdfast.core.wamp.realm import Realm
    from holdfast.core.wamp.session import Session

    #: (pattern, match policy)
    Key = tuple[str, str]

#: Retained events that are sent before the other side has to say that it has got them.
BATCH = 50

#: Of INVOCATION's details these are not options of a CALL.
_NOT_OPTIONS = ("procedure", "caller", "caller_authid", "caller_authrole", "trustlevel")


class Wire(Protocol):
    """The connection to the other router; an Outlet of `messages`."""

    def send(self, head: list[Any], payload: "Payload | None" = None) -> None:
        """Queue a message."""

    def send_shared(self, message: "Shared") -> None:
        """Queue a message that others get, too."""

    def close(self, reason: str, says: str) -> None:
        """Say GOODBYE and end."""


class _JsonCall(Call, array_like=True, tag=CALL, gc=False):
    format: ClassVar[int] = JSON


class _MsgpackCall(Call, array_like=True, tag=CALL, gc=False):
    format: ClassVar[int] = MSGPACK


class _CborCall(Call, array_like=True, tag=CALL, gc=False):
    format: ClassVar[int] = CBOR


#: A CALL with the payload of an INVOCATION, which stays as it came.
_CALLS: dict[int, type[Call]] = {
    OBJECTS: Call, JSON: _JsonCall, MSGPACK: _MsgpackCall, CBOR: _CborCall,
}  # fmt: skip


class _Mirrored:
    """A subscription or registration of ours at the other router."""

    __slots__ = ("id", "is_asked", "key", "sent", "wanted")

    def __init__(self, key: "Key") -> None:
        self.key = key
        #: The options that it shall have there; None: it shall not be there.
        self.wanted: dict[str, Any] | None = None
        #: The options that were sent last.
        self.sent: dict[str, Any] | None = None
        self.id: int | None = None
        #: The answer is still to come.
        self.is_asked = False


class _Mirror:
    """All subscriptions, or all registrations, of ours at the other router."""

    __slots__ = ("_asked", "_entries", "_forth", "_link", "_undo", "by_id")

    def __init__(self, link: "Link", forth: int, undo: int) -> None:
        self._link = link
        self._forth = forth
        self._undo = undo
        self._entries: dict[Key, _Mirrored] = {}
        self._asked: dict[int, _Mirrored] = {}
        #: By their ids there.
        self.by_id: dict[int, Key] = {}

    def want(self, key: "Key", options: dict[str, Any] | None) -> None:
        """Have it there with these options, or (None) not have it there."""
        entry = self._entries.get(key)
        if entry is None:
            if options is None:
                return
            entry = self._entries[key] = _Mirrored(key)
        elif entry.wanted == options:
            return
        entry.wanted = options
        self._reconcile(entry)

    def got(self, request: int, id_: int) -> None:
        """Take the answer SUBSCRIBED or REGISTERED."""
        entry = self._asked.pop(request, None)
        if entry is None:
            raise ProtocolViolation(f"the answer to request {request}, which was never sent")
        entry.is_asked = False
        entry.id = id_
        self.by_id[id_] = entry.key
        self._reconcile(entry)

    def refused(self, request: int) -> "Key | None":
        """Take an ERROR; asked again only with other options."""
        entry = self._asked.pop(request, None)
        if entry is None:
            return None  # of an UNSUBSCRIBE or UNREGISTER that came too late
        entry.is_asked = False
        if entry.wanted != entry.sent:
            self._reconcile(entry)
        return entry.key

    def lost(self, id_: int) -> None:
        """Take note that the other router has taken one away; not asked for again."""
        key = self.by_id.pop(id_, None)
        entry = self._entries.get(key) if key is not None else None
        if entry is not None and entry.id == id_:
            entry.id = None

    def _reconcile(self, entry: _Mirrored) -> None:
        if entry.is_asked:
            return  # goes on when the answer is there
        link = self._link
        if entry.id is not None:
            if entry.wanted == entry.sent:
                return
            self.by_id.pop(entry.id, None)
            link.wire.send([self._undo, link.next_request(), entry.id])
            entry.id = None
        if entry.wanted is None:
            self._entries.pop(entry.key, None)
            return
        request = link.next_request()
        entry.sent = entry.wanted
        entry.is_asked = True
        self._asked[request] = entry
        link.wire.send([self._forth, request, entry.wanted, entry.key[0]])


class Link:
    """One end of a link; also the outlet of the session that stands for the other router."""

    __slots__ = ("_adopting", "_dispatch", "_offers", "_request", "_retained", "_topics", "is_open", "realm", "says", "session", "wire")  # fmt: skip

    def __init__(
        self, realm: "Realm", session: "Session", wire: Wire, says: "Callable[[str], object]"
    ) -> None:
        """Make an end that is not open yet.

        Args:
            realm: The realm here.
            session: Who the other router is here: it has joined, and is trusted.
            wire: To the other router.
            says: Is told what the other router refused.
        """
        self.realm = realm
        self.session = session
        self.wire = wire
        self.says = says
        self.is_open = False
        self._request = 0
        self._topics = _Mirror(self, SUBSCRIBE, UNSUBSCRIBE)
        self._offers = _Mirror(self, REGISTER, UNREGISTER)
        #: Topics whose retained events are still to be sent.
        self._retained: Iterator[str] = iter(())
        #: The topic of which we take retained events over just now.
        self._adopting: str | None = None
        self._dispatch = _Dispatch(
            {
                Event: self._event,
                Invocation: self._invoked,
                Interrupt: self._interrupted,
                Publish: self._published,
                Subscribed: self._subscribed,
                Registered: self._registered,
                Unsubscribed: self._unsubscribed,
                Unregistered: self._unregistered,
                Published: self._acknowledged,
                Error: self._error,
                Subscribe: self._as_client,
                Unsubscribe: self._as_client,
                Register: self._as_client,
                Unregister: self._as_client,
                Yield: self._as_client,
            }
        )

    def open(self) -> None:
        """Begin: tell the other router all that our clients want and offer."""
        self.is_open = True
        self.session.can |= LINK
        self.session.outlet = self
        realm = self.realm
        realm.links = (*realm.links, self)
        for subscription in list(realm.broker.by_id.values()):
            self.interest(subscription)
        for registration in list(realm.dealer.by_id.values()):
            self.offer(registration)
        self._retained = iter(realm.broker.retained_topics())
        self._send_retained()

    def end(self) -> None:
        """Forget the link; the session is the caller's to take out of the realm."""
        if not self.is_open:
            return
        self.is_open = False
        realm, session = self.realm, self.session
        realm.links = tuple(link for link in realm.links if link is not self)
        realm.awaited.expect(
            (endpoint.registration.uri, endpoint.registration.match)
            for endpoint in session.registrations.values()
        )

    def next_request(self) -> int:
        """Return the id of our next request."""
        self._request += 1
        return self._request

    # -- what broker and dealer tell ---------------------------------------------------------------

    def interest(self, subscription: "Subscription") -> None:
        """Look again whether any of our own clients wants these events."""
        if is_reserved(subscription.uri):
            return
        match = subscription.match
        options = None
        if subscription.history is not None or any(
            not session.can & LINK for session in subscription.sessions
        ):
            options = {} if match == "exact" else {"match": match}
        self._topics.want((subscription.uri, match), options)

    def offer(self, registration: "Registration") -> None:
        """Look again whether any of our own clients offers this procedure."""
        if is_reserved(registration.uri):
            return
        local = [e for e in registration.endpoints.values() if not e.is_link]
        options: dict[str, Any] | None = None
        if local:
            options = {"forward_timeout": True}
            if registration.match != "exact":
                options["match"] = registration.match
            if local[0].invoke != "single":
                options["invoke"] = local[0].invoke
            if any(e.discloses for e in local):
                options["disclose_caller"] = True
            if all(e.is_idempotent for e in local):
                options["idempotent"] = True
        self._offers.want((registration.uri, registration.match), options)

    def forward(
        self,
        topic: str,
        publication: int,
        details: dict[str, Any],
        options: dict[str, Any],
        payload: "Payload",
    ) -> None:
        """Send an event that has lists or is retained; `options` are those of its PUBLISH."""
        session = self.session
        if options.get("retain") is not True and not any(
            session in subscription.sessions for subscription in self.realm.broker.match(topic)
        ):
            return
        self._publish(0, topic, publication, details, options, payload)

    # -- the outlet of the session: the other router as a client of ours ---------------------------

    def send(self, head: list[Any], payload: "Payload | None" = None) -> None:
        """Send what is for the other router; the answers to its calls are, over there, a callee's."""
        kind = head[0]
        if kind == RESULT:
            head[0] = YIELD
        elif kind == ERROR and head[1] == CALL:
            head[1] = INVOCATION
        self.wire.send(head, payload)

    def send_shared(self, message: "Shared") -> None:
        """Send an event."""
        self.wire.send_shared(message)

    def close(self, reason: str, says: str) -> None:
        """End the connection: the realm has let the session go."""
        self.end()
        self.wire.close(reason, says)

    # -- messages of the other router ---------------------------------------------------------------

    def receive(self, session: "Session", message: "Message", now_s: float) -> None:
        """Carry a message out. Raises ProtocolViolation, as `Realm.receive` does."""
        self.realm.now_s = now_s
        if not self.is_open:
            return
        try:
            self._dispatch[type(message)](session, message)
        except ProtocolViolation:
            self.end()
            self.realm.leave(session, now_s)
            raise

    def _as_client(self, session: "Session", message: Any) -> None:
        session.handlers[type(message)](session, message)

    def _event(self, _session: "Session", message: Event) -> None:
        key = self._topics.by_id.get(message.subscription)
        if key is None:
            return  # on its way when we unsubscribed
        subscription = self.realm.broker.subscriptions.get(*key)
        if subscription is not None:
            details = message.details
            topic = details.get("topic", key[0])
            if not isinstance(topic, str):
                raise ProtocolViolation("EVENT with a topic that is no string")
            if not is_reserved(topic):
                self.realm.broker.pass_on(
                    subscription, message.publication, topic, details, message
                )

    def _published(self, session: "Session", message: Publish) -> None:
        options = message.options
        details = options.get("x_details")
        publication = options.get("x_publication")
        if not isinstance(details, dict) or not isinstance(publication, int):
            raise ProtocolViolation("PUBLISH over a link without x_details and x_publication")
        broker = self.realm.broker
        kept = options.get("x_kept")
        if kept == 1:
            # What we know of a topic may be newer than what is known there: we keep it.
            self._adopting = None if broker.retained(message.topic) else message.topic
        try:
            if kept is None or self._adopting == message.topic:
                broker.pass_on_all(
                    message.topic, publication, details, options, message, is_old=kept is not None
                )
        except Refused as refused:
            raise ProtocolViolation(refused.says) from None
        if options.get("acknowledge") is True:
            session.outlet.send([PUBLISHED, message.request, publication])

    def _invoked(self, session: "Session", message: Invocation) -> None:
        details = message.details
        request = message.request
        key = self._offers.by_id.get(message.registration)
        procedure = details.get("procedure") if details else None
        if type(procedure) is not str:
            procedure = key[0] if key is not None else ""
        dealer = self.realm.dealer
        registration = dealer.route(procedure)
        if registration is None or registration.everyone[0].is_link:
            # Taken back while the call was on its way. Never passed on: it could go in circles.
            says = "nobody has registered it any more at the router that the call was sent to"
            self.wire.send([ERROR, INVOCATION, request, {}, NO_SUCH_PROCEDURE], Objects([says]))
            return
        options = _options(details) if details else {}
        call = _CALLS[message.format](request, options, procedure, message.args, message.kwargs)
        dealer.call(session, call)

    def _interrupted(self, session: "Session", message: Interrupt) -> None:
        mode = message.options.get("mode", "killnowait")
        self.realm.dealer.cancel(session, Cancel(message.request, {"mode": mode}))

    def _subscribed(self, _session: "Session", message: Subscribed) -> None:
        self._topics.got(message.request, message.subscription)

    def _registered(self, _session: "Session", message: Registered) -> None:
        self._offers.got(message.request, message.registration)

    def _unsubscribed(self, _session: "Session", message: Unsubscribed) -> None:
        if message.request == 0 and message.details:
            self._topics.lost(message.details.get("subscription", 0))

    def _unregistered(self, _session: "Session", message: Unregistered) -> None:
        if message.request == 0 and message.details:
            self._offers.lost(message.details.get("registration", 0))

    def _acknowledged(self, _session: "Session", _message: Published) -> None:
        self._send_retained()

    def _error(self, session: "Session", message: Error) -> None:
        kind = message.request_type
        if kind == INVOCATION:
            self._as_client(session, message)
            return
        mirror = {SUBSCRIBE: self._topics, REGISTER: self._offers}.get(kind)
        key = mirror.refused(message.request) if mirror is not None else None
        if key is not None:
            args, _ = self.realm.open_payload(message)
            verb = "subscribe to" if kind == SUBSCRIBE else "register"
            self.says(f"cannot {verb} {key[0]!r} there: {message.error} {' '.join(map(str, args))}")

    # -- sending -----------------------------------------------------------------------------------

    def _publish(
        self,
        request: int,
        topic: str,
        publication: int,
        details: dict[str, Any],
        options: dict[str, Any],
        payload: "Payload",
        **more: Any,
    ) -> None:
        made: dict[str, Any] = {"x_publication": publication, "x_details": details, **more}
        for name in _CROSSING:
            if name in options:
                made[name] = options[name]
        self.wire.send([PUBLISH, request, made, topic], payload)

    def _send_retained(self) -> None:
        """Send retained events of the next topics; the last one asks for an acknowledgement, at which the next ones go out."""
        broker = self.realm.broker
        found: list[tuple[int, Retained]] = []
        for topic in self._retained:
            found += enumerate(broker.retained(topic), 1)
            if len(found) >= BATCH:
                break
        for at, (place, event) in enumerate(found, 1):
            lists = event.audience._asdict() if event.audience is not None else {}
            options = {name: sorted(those) for name, those in lists.items() if those is not None}
            more: dict[str, Any] = {"retain": True, "x_kept": place}
            if at == len(found):
                more["acknowledge"] = True
            self._publish(
                self.next_request(), event.topic, event.publication, event.details, options,
                event.payload, **more,
            )  # fmt: skip


class _Dispatch(dict[Any, Any]):
    """By class of message; codecs have subclasses of their own, which are learned as they come."""

    def __missing__(self, kind: type) -> Any:
        for above in kind.__mro__[1:]:
            if above in self:
                self[kind] = self[above]
                return self[above]
        raise ProtocolViolation(f"{kind.__name__.upper()} has no business on a link")


#: Options of PUBLISH that are for the other router, too.
_CROSSING = (
    "eligible", "eligible_authid", "eligible_authrole", "exclude", "exclude_authid", "exclude_authrole", "retain",
)  # fmt: skip


def _options(details: dict[str, Any]) -> dict[str, Any]:
    """Make the options of a CALL from the details of an INVOCATION."""
    options = {name: value for name, value in details.items() if name not in _NOT_OPTIONS}
    if "caller" in details:
        options["disclose_me"] = True
        if "forward_for" not in options:
            options["forward_for"] = [
                {
                    "session": details["caller"],
                    "authid": details.get("caller_authid"),
                    "authrole": details.get("caller_authrole"),
                }
            ]
    return options
