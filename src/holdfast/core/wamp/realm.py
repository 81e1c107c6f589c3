"""What happens to a message of a session, and to everybody else because of it?

A `Realm` is a routing domain: sessions join it, send messages, and leave; broker, dealer, meta API, permissions and held actions
are parts of it. It knows no socket, no clock and no chance: `now_s` (monotonic seconds) comes with each call, ids and choices from two
functions. What goes out is given to the `Outlet` of each session. Rules: WAMP specification, basic and advanced profile.

For whoever drives it:

- An outlet must not call `receive` from `send`; it may call `leave` of any session.
- `receive` raises `ProtocolViolation` when the peer broke the rules: its session has left already; say ABORT with
  `wamp.error.protocol_violation` and the text, and close. Nothing else is raised, and messages after that are ignored.
- GOODBYE is answered by `outlet.close("wamp.close.goodbye_and_out", "")`, after the session has left.
- `due_s` is the instant (on the clock of `now_s`) at which `tick` wants to be called.
"""

from typing import TYPE_CHECKING, Any, NoReturn

from holdfast.core.wamp import testament
from holdfast.core.wamp.awaited import Awaited
from holdfast.core.wamp.broker import Broker, Subscription
from holdfast.core.wamp.dealer import Dealer, Pending, Registration
from holdfast.core.wamp.errors import (
    AUTHORIZATION_FAILED,
    GOODBYE_AND_OUT,
    INVALID_URI,
    KILLED,
    LIMIT_EXCEEDED,
    NOT_AUTHORIZED,
    PROTOCOL_VIOLATION,
    ProtocolViolation,
    Refused,
)
from holdfast.core.wamp.holding import Holding
from holdfast.core.wamp.messages import (
    ERROR,
    RESULT,
    Abort,
    Call,
    Cancel,
    Error,
    Goodbye,
    Objects,
    Publish,
    Register,
    Subscribe,
    Unregister,
    Unsubscribe,
    Yield,
)
from holdfast.core.wamp.meta import Meta
from holdfast.core.wamp.moment import rfc3339
from holdfast.core.wamp.permissions import (
    ALLOW,
    ASK,
    FAILED,
    INVALID,
    TOO_MANY,
    TRUSTED,
    Role,
    roles_of,
)
from holdfast.core.wamp.session import NOTHING, Identity, Session
from holdfast.core.wamp.uri import is_valid

if TYPE_CHECKING:
    from collections.abc import Callable

    from holdfast.core.wamp.link import Link
    from holdfast.core.wamp.messages import Message, OpenPayload, Payload, Shared
    from holdfast.core.wamp.session import Handler
    from holdfast.model.bus import RealmPlan, RouterLimits

    #: Gets (None or an error URI, args, kwargs).
    Then = Callable[[str | None, list[Any], dict[str, Any]], None]

#: Where the plan says nothing.
LIMITS: "RouterLimits" = {
    "sessions": 100_000,
    "connections_unauthenticated": 1_000,
    "handshake_s": 10.0,
    "subscriptions_per_session": 10_000,
    "registrations_per_session": 10_000,
    "calls_per_session": 1_000,
    "connections_http": 1_024,
    "queue_bytes_total": 256 << 20,
}

#: What the router announces.
ROLES: dict[str, Any] = {
    "broker": {
        "features": {
            "publisher_identification": True,
            "publisher_exclusion": True,
            "publication_trustlevels": True,
            "subscriber_blackwhite_listing": True,
            "pattern_based_subscription": True,
            "subscription_revocation": True,
            "event_retention": True,
            "event_history": True,
            "session_meta_api": True,
            "subscription_meta_api": True,
            "payload_passthru_mode": True,
            "payload_transparency": True,
            "payload_encryption_cryptobox": True,
            "acknowledge_event_received": False,
        }
    },
    "dealer": {
        "features": {
            "caller_identification": True,
            "call_trustlevels": True,
            "call_canceling": True,
            "call_timeout": True,
            "call_reroute": True,
            "progressive_call_results": True,
            "progressive_call_invocations": True,
            "pattern_based_registration": True,
            "registration_revocation": True,
            "shared_registration": True,
            "session_meta_api": True,
            "registration_meta_api": True,
            "testament_meta_api": True,
            "payload_passthru_mode": True,
            "payload_transparency": True,
            "payload_encryption_cryptobox": True,
        }
    },
}

#: Different sets of features whose dicts are shared among sessions.
_FEATURE_SETS = 100
#: Longer than any client's: not worth keeping.
_FEATURES_LENGTH = 8_000


class Realm:
    """One realm of a router."""

    __slots__ = ("_deaf", "_features", "_handlers", "_own", "_plan", "_request", "_roles", "_then", "awaited", "broker", "choose", "dealer", "holding",
                 "links", "meta", "name", "new_id", "now_s", "open_payload", "sessions", "unix_at_zero_s")  # fmt: skip

    def __init__(
        self,
        plan: "RealmPlan",
        new_id: "Callable[[], int]",
        open_payload: "OpenPayload",
        choose: "Callable[[int], int]",
        *,
        limits: "RouterLimits | None" = None,
        unix_at_zero_s: float = 0.0,
    ) -> None:
        """Make a realm without sessions.

        Args:
            plan: Roles, histories, how strict URIs are.
            new_id: Draws an id from 1 to 2**53, uniformly.
            open_payload: Decodes the arguments of a message.
            choose: Picks a number from 0 to n - 1, given n.
            limits: Of each session: subscriptions, registrations, calls in flight.
            unix_at_zero_s: The time of day (seconds since 1970) when the clock of `now_s` said 0; may be set anew.
        """
        limits = limits or LIMITS
        self.name = plan["name"]
        self.new_id = new_id
        self.open_payload = open_payload
        self.choose = choose
        self.unix_at_zero_s = unix_at_zero_s
        self.now_s = 0.0
        self.sessions: dict[int, Session] = {}
        #: To the other routers of the realm.
        self.links: tuple[Link, ...] = ()
        self.awaited = Awaited(self)
        self.broker = Broker(self, limits["subscriptions_per_session"])
        self.dealer = Dealer(self, limits["registrations_per_session"], limits["calls_per_session"])
        self.holding = Holding(self, limits["calls_per_session"])
        self.meta = Meta(self)
        self.meta.is_on = plan["meta_api"]
        self._plan = plan
        self._roles = roles_of(plan["roles"], plan["uri_check"])
        self._features: dict[str, dict[str, Any]] = {}
        self._handlers = _Handlers(
            {
                Publish: self.broker.publish,
                Subscribe: self.broker.subscribe,
                Unsubscribe: self.broker.unsubscribe,
                Call: self.dealer.call,
                Yield: self.dealer.yielded,
                Register: self.dealer.register,
                Unregister: self.dealer.unregister,
                Cancel: self.dealer.cancel,
                Error: self.dealer.error,
                Goodbye: self._goodbye,
                Abort: self._goodbye,
            }
        )
        #: The router itself, as a caller.
        self._own = Session(
            0, Identity("router", TRUSTED, "internal", "router"), _Own(self), {}, {}
        )
        self._own.role = self._roles[TRUSTED]
        self._request = 0
        self._then: dict[int, Then] = {}
        self.broker.keep_histories(plan["history"])

    # -- sessions

    def welcome(self, session: Session) -> dict[str, Any]:
        """Make the details of WELCOME."""
        identity = session.identity
        details: dict[str, Any] = {
            "realm": self.name,
            "authid": identity.authid,
            "authrole": identity.authrole,
            "authmethod": identity.authmethod,
            "authprovider": identity.authprovider,
            "roles": ROLES,
        }
        if identity.authextra is not None:
            details["authextra"] = identity.authextra
        return details

    def new_session_id(self) -> int:
        """Draw an id that no session here has."""
        while True:
            id_ = self.new_id()
            if id_ not in self.sessions:
                return id_

    def has_role(self, authrole: str) -> bool:
        """Tell whether sessions of this authrole are welcome."""
        return authrole in self._roles

    def join(self, session: Session, now_s: float) -> None:
        """Take a session in; WELCOME goes out before it, by the caller."""
        self.now_s = now_s
        if session.id in self.sessions:
            raise ValueError(f"there is a session {session.id} in realm {self.name!r} already")
        authrole = session.identity.authrole
        session.role = self._roles.get(authrole) or Role(authrole, None, self._plan["uri_check"])
        session.features = self._shared(session.features)
        session.handlers = self._handlers
        self.sessions[session.id] = session
        if self.broker.match("wamp.session.on_join"):
            self.announce("wamp.session.on_join", [session.details()])

    def receive(self, session: Session, message: "Message", now_s: float) -> None:
        """Carry a message out. Raises ProtocolViolation; messages of a session that has left are ignored."""
        self.now_s = now_s
        try:
            session.handlers[type(message)](session, message)
        except ProtocolViolation:
            self.leave(session, now_s)
            raise

    def leave(self, session: Session, now_s: float) -> None:
        """Forget a session and all it had; calling it again does nothing."""
        self.now_s = now_s
        if self.sessions.get(session.id) is not session:
            return
        del self.sessions[session.id]
        session.handlers = _DEAF
        session.held = None
        self.dealer.leave(session)
        self.broker.leave(session)
        session.granted = NOTHING
        if session.testaments:
            testament.publish(session, self.broker)
        if self.broker.match("wamp.session.on_leave"):
            identity = session.identity
            self.announce("wamp.session.on_leave", [session.id, identity.authid, identity.authrole])

    def close(self, session: Session, reason: str, says: str) -> None:
        """End a session from our side, with GOODBYE."""
        self.leave(session, self.now_s)
        session.outlet.close(reason, says)

    def expel(self, session: Session, says: str) -> None:
        """End a session that broke the rules, found out while another one's message was being carried out."""
        self.close(session, PROTOCOL_VIOLATION, says)

    # -- time

    def due_s(self) -> float | None:
        """Tell when `tick` has something to do; None: nothing is timed."""
        first_s, other_s = self.dealer.due_s(), self.awaited.due_s()
        if first_s is None or other_s is None:
            return other_s if first_s is None else first_s
        return min(first_s, other_s)

    def tick(self, now_s: float) -> None:
        """Do what is due: end calls whose time is over."""
        self.now_s = now_s
        self.dealer.tick(now_s)
        self.awaited.tick(now_s)

    def unix_s(self) -> float:
        """Tell the time of day of what is being carried out."""
        return self.unix_at_zero_s + self.now_s

    # -- in the router's own name

    def call(
        self,
        procedure: str,
        args: list[Any],
        kwargs: dict[str, Any],
        then: "Then",
        now_s: float,
        timeout_s: float,
    ) -> None:
        """Call a procedure; `then` gets (None or an error URI, args, kwargs), exactly once, maybe before this returns.

        Progressive results are passed over.
        """
        self.now_s = now_s
        self._request += 1
        self._then[self._request] = then
        options = {"timeout": max(int(timeout_s * 1000), 1)}
        self.dealer.call(self._own, Call(self._request, options, procedure, args, kwargs))

    def publish(
        self, topic: str, args: list[Any], kwargs: dict[str, Any], options: dict[str, Any]
    ) -> int:
        """Publish an event; options are those of PUBLISH. Returns the publication id.

        Raises ValueError for a topic that is none and options that make no sense.
        """
        verdict = self._own.role.verdict("publish", topic)
        try:
            if not verdict & ALLOW:
                raise Refused(INVALID_URI, f"{topic!r} is no URI")
            return self.broker.send(None, topic, Objects(args, kwargs), options, verdict)
        except Refused as refused:
            raise ValueError(refused.says) from None

    def announce(self, topic: str, args: list[Any]) -> None:
        """Publish a meta event, if there is anybody to hear it."""
        if self.meta.is_on and self.broker.match(topic):
            self.broker.send(None, topic, Objects(args), {}, ALLOW)

    # -- a new plan

    def reconfigure(
        self, plan: "RealmPlan", now_s: float, limits: "RouterLimits | None" = None
    ) -> dict[str, int]:
        """Take a new plan over. What it permits no longer ends at once; returns how much of each kind did.

        Subscriptions and registrations are revoked, calls in flight end with `wamp.error.not_authorized`, a role that is
        gone closes its sessions. Where a role has another authorizer than before, that one is asked about all that goes on.
        """
        self.now_s = now_s
        ended = {"sessions": 0, "subscriptions": 0, "registrations": 0, "calls": 0}
        if limits is not None:
            self.broker.limit = limits["subscriptions_per_session"]
            self.dealer.limit = limits["registrations_per_session"]
            self.dealer.call_limit = self.holding.limit = limits["calls_per_session"]
        before = self._roles
        roles = roles_of(plan["roles"], plan["uri_check"])
        for name, role in roles.items():
            if name in before and before[name].same_as(role):
                roles[name] = before[name]
        self._plan = plan
        self._roles = roles
        self._own.role = roles[TRUSTED]
        self.meta.is_on = plan["meta_api"]
        self.broker.keep_histories(plan["history"])
        for session in list(self.sessions.values()):
            authrole = session.identity.authrole
            if authrole not in roles:
                ended["sessions"] += 1
                self.close(
                    session, KILLED, f"the role {authrole!r} is no more in realm {self.name!r}"
                )
            elif session.role is not roles[authrole]:
                session.role = roles[authrole]
                session.granted = NOTHING
        # Only when all have their new role: an ended call may go to another callee, whose role has to be the new one.
        for session in list(self.sessions.values()):
            if session.role is not before.get(session.identity.authrole):
                self._recheck(session, ended)
        return ended

    def _recheck(self, session: Session, ended: dict[str, int]) -> None:
        role = session.role

        def check(action: str, uri: str, match: str, end: "Callable[[], bool]") -> None:
            def answered(verdict: int) -> None:
                # An authorizer that fails is no reason to end what goes well: that would be an outage of our making.
                if not verdict & (ALLOW | FAILED) and session.role is role:
                    end()

            verdict = role.pattern_verdict(action, uri, match)
            if verdict & ASK:
                self.holding.ask(session, action, uri, match, answered)
            elif not verdict & ALLOW and end():
                ended[_KINDS[action]] += 1

        for subscription in list(session.subscriptions.values()):
            check("subscribe", subscription.uri, subscription.match, self._unsubscriber(session, subscription))  # fmt: skip
        for endpoint in list(session.registrations.values()):
            registration = endpoint.registration
            check("register", registration.uri, registration.match, self._unregisterer(session, registration))  # fmt: skip
        for request, pending in list(session.calls.items()):
            check("call", pending.procedure, "exact", self._canceler(session, request, pending))

    def _unsubscriber(self, session: Session, subscription: Subscription) -> "Callable[[], bool]":
        def end() -> bool:
            if session.subscriptions.get(subscription.id) is not subscription:
                return False
            self.broker.revoke(session, subscription, _WITHDRAWN)
            return True

        return end

    def _unregisterer(self, session: Session, registration: Registration) -> "Callable[[], bool]":
        def end() -> bool:
            if registration.id not in session.registrations:
                return False
            self.dealer.revoke(session, registration, _WITHDRAWN)
            self.dealer.abandon(session, registration, "the callee may not offer this any more")
            return True

        return end

    def _canceler(self, session: Session, request: int, pending: Pending) -> "Callable[[], bool]":
        def end() -> bool:
            if session.calls.get(request) is not pending:
                return False
            self.dealer.revoke_call(pending)
            return True

        return end

    # -- for status and dashboard

    def stats(self) -> dict[str, int]:
        """Count what there is, and what there was since the realm began."""
        return {
            "sessions": len(self.sessions),
            "subscriptions": len(self.broker.by_id),
            "registrations": len(self.dealer.by_id),
            "calls_in_flight": self.dealer.in_flight,
            "calls": self.dealer.called,
            "calls_failed": self.dealer.failed,
            "published": self.broker.published,
            "delivered": self.broker.delivered,
        }

    def describe(self) -> dict[str, list[dict[str, Any]]]:
        """List sessions, subscriptions and registrations, as the meta API tells of them."""
        return {
            "sessions": [
                {
                    **session.details(),
                    "subscriptions": len(session.subscriptions),
                    "registrations": len(session.registrations),
                    "calls_in_flight": len(session.calls),
                    "invocations_in_flight": len(session.invocations),
                }
                for session in self.sessions.values()
            ],
            "subscriptions": [
                {**self.described(s), "sessions": [one.id for one in s.sessions]}
                for s in self.broker.by_id.values()
            ],
            "registrations": [
                {**self.described(r), "sessions": [one.id for one in r.endpoints]}
                for r in self.dealer.by_id.values()
            ],
        }

    def described(self, one: "Subscription | Registration") -> dict[str, Any]:
        """Make what the meta API calls SubscriptionDetails or RegistrationDetails."""
        details = {
            "id": one.id,
            "created": rfc3339(one.created_unix_s),
            "uri": one.uri,
            "match": one.match,
        }
        if isinstance(one, Registration):
            details["invoke"] = one.invoke
        return details

    # -- for the parts

    def is_own(self, session: Session) -> bool:
        """Tell whether a session is the router itself."""
        return session is self._own

    def refusal(
        self, session: Session, verb: str, uri: str, match: str, verdict: int
    ) -> tuple[str, str] | None:
        """Say why an action is not carried out: error URI and text; None: it is."""
        if verdict & ALLOW:
            return None
        if verdict & INVALID:
            kind = "URI" if match == "exact" else f"{match} pattern"
            rules = self._plan["uri_check"]
            if is_valid(uri, match, rules):
                return INVALID_URI, f"cannot {verb} {uri!r}: names in wamp. are the router's own"
            return INVALID_URI, f"cannot {verb} {uri!r}: it is no {kind} by the {rules} rules"
        role = session.role
        if verdict & FAILED:
            says = (
                f"cannot {verb} {uri!r}: the authorizer {role.authorizer!r} of role {role.name!r} gave no "
                'usable answer; is it registered, and does it return a bool or {"allow": bool}?'
            )
            return AUTHORIZATION_FAILED, says
        if verdict & TOO_MANY:
            return (
                LIMIT_EXCEEDED,
                f"cannot {verb} {uri!r}: {self.holding.limit} actions of this session wait for the authorizer already",
            )
        identity = session.identity
        says = (
            f"session {session.id} (authid {identity.authid!r}, authrole {identity.authrole!r}) "
            f"may not {verb} {uri!r} in realm {self.name!r}"
        )
        return NOT_AUTHORIZED, says

    def forget_answers(self, procedure: str) -> None:
        """Forget what an authorizer said once it is no more registered."""
        if any(role.authorizer == procedure for role in self._roles.values()):
            for session in self.sessions.values():
                if session.role.authorizer == procedure:
                    session.granted = NOTHING

    def answer(self, head: list[Any], payload: "Payload | None") -> None:
        """Take what the router's own call got."""
        if head[0] == RESULT and head[2].get("progress"):
            return
        is_error = head[0] == ERROR
        then = self._then.pop(head[2] if is_error else head[1])
        args, kwargs = ([], {}) if payload is None else self.open_payload(payload)
        then(head[4] if is_error else None, args, kwargs)

    def _goodbye(self, session: Session, _message: Any) -> None:
        self.close(session, GOODBYE_AND_OUT, "")

    def _shared(self, features: dict[str, Any]) -> dict[str, Any]:
        """Share one dict among all sessions of the same client library."""
        key = repr(features)
        if len(key) > _FEATURES_LENGTH:
            return features
        if len(self._features) >= _FEATURE_SETS:
            self._features.clear()
        return self._features.setdefault(key, features)


class _Handlers(dict[Any, "Handler"]):
    """By class of message; codecs have subclasses of their own, which are learned as they come."""

    def __missing__(self, kind: type) -> "Handler":
        for above in kind.__mro__[1:]:
            if above in self:
                self[kind] = self[above]
                return self[above]
        self[kind] = _offence
        return _offence


class _Deaf(dict[Any, "Handler"]):
    def __missing__(self, kind: type) -> "Handler":
        return _ignore


def _ignore(session: Session, message: Any) -> None:
    """Do nothing: the session has left."""


def _offence(_session: Session, message: Any) -> NoReturn:
    kinds = [k.__name__ for k in type(message).__mro__ if k.__module__ == Publish.__module__]
    name = kinds[0] if kinds else type(message).__name__
    raise ProtocolViolation(f"{name.upper()} is not for a client to send in an open session")


_DEAF = _Deaf()
_KINDS = {"subscribe": "subscriptions", "register": "registrations", "call": "calls"}
_WITHDRAWN = "wamp.error.not_authorized: the permission was withdrawn"


class _Own:
    """The router's own connection to itself."""

    __slots__ = ("_realm",)

    def __init__(self, realm: Realm) -> None:
        self._realm = realm

    def send(self, head: list[Any], payload: "Payload | None" = None) -> None:
        self._realm.answer(head, payload)

    def send_shared(self, message: "Shared") -> None:
        """Nothing: the router subscribes to nothing."""

    def close(self, reason: str, says: str) -> None:
        """Nothing: nobody can kill it."""
