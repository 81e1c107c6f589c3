"""What does the router tell about sessions, registrations and subscriptions, and what can be done to them?

The meta procedures of the WAMP specification (session, registration, subscription, testament and history API), and those that
Crossbar.io and nexus add: `remove_callee`, `remove_subscriber`, `modify_details`. They are answered here, no session is called; who may call
them is a matter of permissions like any other call. The meta *events* are announced where the things happen.

A session of the role `trusted` can only be killed by another one of that role.
"""

from typing import TYPE_CHECKING, Any

from holdfast.core.wamp import testament
from holdfast.core.wamp.errors import (
    HISTORY_UNAVAILABLE,
    INVALID_ARGUMENT,
    INVALID_URI,
    KILLED,
    NO_SUCH_REGISTRATION,
    NO_SUCH_SESSION,
    NO_SUCH_SUBSCRIPTION,
    NOT_AUTHORIZED,
    Refused,
)
from holdfast.core.wamp.messages import CALL, ERROR, RESULT, Objects
from holdfast.core.wamp.permissions import ALLOW
from holdfast.core.wamp.testament import Testament
from holdfast.core.wamp.uri import MATCHES, is_valid

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from holdfast.core.wamp.broker import Subscription
    from holdfast.core.wamp.dealer import Registration
    from holdfast.core.wamp.messages import Call
    from holdfast.core.wamp.realm import Realm
    from holdfast.core.wamp.session import Session

_MISSING = object()

#: Of a session these are what the sign-in found out, and nobody's to modify.
_FIXED = ("session", "authid", "authrole", "authmethod", "authprovider", "authextra", "transport")


class Asked:
    """The arguments of a call: each may come by position or by name."""

    __slots__ = ("_args", "_kwargs", "session")

    def __init__(self, session: "Session", args: list[Any], kwargs: dict[str, Any]) -> None:
        self.session = session
        self._args = args
        self._kwargs = kwargs

    def take(
        self, at: int, name: str, kind: type | tuple[type, ...], default: Any = _MISSING
    ) -> Any:
        """Get an argument; raises Refused when it is missing or of another type."""
        value = self._args[at] if 0 <= at < len(self._args) else self._kwargs.get(name, _MISSING)
        if value is _MISSING or (value is None and default is not _MISSING):
            if default is _MISSING:
                raise Refused(INVALID_ARGUMENT, f"the argument {name!r} is missing")
            return default
        if kind is int and isinstance(value, float) and value.is_integer():
            # As JavaScript's codecs write whole numbers that are as large as session ids.
            return int(value)
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            names = " or ".join(k.__name__ for k in (kind if isinstance(kind, tuple) else (kind,)))
            raise Refused(INVALID_ARGUMENT, f"the argument {name!r} has to be of type {names}")
        return value

    def named(self) -> dict[str, Any]:
        """Get all that came by name."""
        return self._kwargs


class Meta:
    """The meta procedures of one realm."""

    __slots__ = ("_procedures", "is_on", "realm")

    def __init__(self, realm: "Realm") -> None:
        self.realm = realm
        self.is_on = True
        self._procedures: dict[str, Callable[[Asked], list[Any]]] = {
            "wamp.session.count": self._session_count,
            "wamp.session.list": self._session_list,
            "wamp.session.get": self._session_get,
            "wamp.session.kill": self._kill,
            "wamp.session.kill_by_authid": self._kill_by_authid,
            "wamp.session.kill_by_authrole": self._kill_by_authrole,
            "wamp.session.kill_all": self._kill_all,
            "wamp.session.modify_details": self._modify_details,
            "wamp.session.add_testament": self._add_testament,
            "wamp.session.flush_testaments": self._flush_testaments,
            "wamp.registration.list": self._registration_list,
            "wamp.registration.lookup": self._registration_lookup,
            "wamp.registration.match": self._registration_match,
            "wamp.registration.get": self._registration_get,
            "wamp.registration.list_callees": self._list_callees,
            "wamp.registration.count_callees": self._count_callees,
            "wamp.registration.remove_callee": self._remove_callee,
            "wamp.subscription.list": self._subscription_list,
            "wamp.subscription.lookup": self._subscription_lookup,
            "wamp.subscription.match": self._subscription_match,
            "wamp.subscription.get": self._subscription_get,
            "wamp.subscription.list_subscribers": self._list_subscribers,
            "wamp.subscription.count_subscribers": self._count_subscribers,
            "wamp.subscription.remove_subscriber": self._remove_subscriber,
            "wamp.subscription.get_events": self._get_events,
        }

    def has(self, procedure: str) -> bool:
        """Tell whether a procedure is the router's own."""
        return self.is_on and procedure in self._procedures

    def answers(self, session: "Session", message: "Call") -> bool:
        """Answer a permitted CALL, if it is for us."""
        procedure = self._procedures.get(message.procedure)
        if procedure is None or not self.is_on:
            return False
        args, kwargs = self.realm.open_payload(message)
        try:
            result = procedure(Asked(session, args, kwargs))
        except Refused as refused:
            head = [ERROR, CALL, message.request, {}, refused.error]
            session.outlet.send(head, Objects([refused.says]))
        else:
            session.outlet.send([RESULT, message.request, {}], Objects(result))
        return True

    # -- sessions

    def _sessions(self, asked: Asked) -> "list[Session]":
        roles = asked.take(0, "filter_authroles", list, None)
        sessions = self.realm.sessions.values()
        return [s for s in sessions if roles is None or s.identity.authrole in roles]

    def _session_count(self, asked: Asked) -> list[Any]:
        return [len(self._sessions(asked))]

    def _session_list(self, asked: Asked) -> list[Any]:
        return [[session.id for session in self._sessions(asked)]]

    def _session_get(self, asked: Asked) -> list[Any]:
        return [self._session(asked, 0).details()]

    def _kill(self, asked: Asked) -> list[Any]:
        session = self._session(asked, 0)
        if session is asked.session:
            raise Refused(NO_SUCH_SESSION, "there is no other session with the id of this one")
        if not self._kill_those(asked, [session]):
            raise Refused(NOT_AUTHORIZED, f"session {session.id} is trusted, and this one is not")
        return []

    def _kill_by_authid(self, asked: Asked) -> list[Any]:
        authid = asked.take(0, "authid", str)
        return [self._kill_those(asked, self._where(lambda s: s.identity.authid == authid))]

    def _kill_by_authrole(self, asked: Asked) -> list[Any]:
        authrole = asked.take(0, "authrole", str)
        return [len(self._kill_those(asked, self._where(lambda s: s.identity.authrole == authrole)))]  # fmt: skip

    def _kill_all(self, asked: Asked) -> list[Any]:
        return [len(self._kill_those(asked, self._where(lambda _: True)))]

    def _where(self, wanted: "Callable[[Session], bool]") -> "list[Session]":
        return [session for session in self.realm.sessions.values() if wanted(session)]

    def _kill_those(self, asked: Asked, sessions: "Iterable[Session]") -> list[int]:
        reason = asked.take(-1, "reason", str, KILLED)
        message = asked.take(-1, "message", str, "")
        if not is_valid(reason):
            raise Refused(INVALID_URI, f"reason has to be a URI, not {reason!r}")
        killer = asked.session
        killed = []
        for session in sessions:
            if session is killer or session.id not in self.realm.sessions:
                continue
            if session.role.is_trusted and not killer.role.is_trusted:
                continue
            killed.append(session.id)
            self.realm.close(session, reason, message)
        return killed

    def _modify_details(self, asked: Asked) -> list[Any]:
        session = self._session(asked, 0)
        changes = asked.take(1, "details", dict)
        for name in changes:
            if name in _FIXED:
                raise Refused(INVALID_ARGUMENT, f"{name!r} of a session cannot be modified")
        merged = {**session.extra, **changes}
        session.extra = {name: value for name, value in merged.items() if value is not None}
        return []

    def _add_testament(self, asked: Asked) -> list[Any]:
        options = asked.take(-1, "publish_options", dict, {})
        scope = asked.take(-1, "scope", str, "destroyed")
        topic = asked.take(0, "topic", str)
        args, kwargs = asked.take(1, "args", list, []), asked.take(2, "kwargs", dict, {})
        testament.add(asked.session, Testament(topic, args, kwargs, options), scope)
        return []

    def _flush_testaments(self, asked: Asked) -> list[Any]:
        return [testament.flush(asked.session, asked.take(0, "scope", str, "destroyed"))]

    def _session(self, asked: Asked, at: int, name: str = "session") -> "Session":
        id_ = asked.take(at, name, int)
        session = self.realm.sessions.get(id_)
        if session is None:
            raise Refused(NO_SUCH_SESSION, f"there is no session {id_} in this realm")
        return session

    # -- registrations

    def _registration_list(self, asked: Asked) -> list[Any]:
        found: Iterable[Registration] = self.realm.dealer.by_id.values()
        if asked.take(0, "session_id", int, None) is not None:
            mine = self._session(asked, 0, "session_id").registrations.values()
            found = [endpoint.registration for endpoint in mine]
        return [_by_match(found)]

    def _registration_lookup(self, asked: Asked) -> list[Any]:
        uri, match = _pattern(asked, "procedure")
        return [_id_of(self.realm.dealer.registrations.get(uri, match))]

    def _registration_match(self, asked: Asked) -> list[Any]:
        return [_id_of(self.realm.dealer.route(asked.take(0, "procedure", str)))]

    def _registration_get(self, asked: Asked) -> list[Any]:
        return [self.realm.described(self._registration(asked))]

    def _list_callees(self, asked: Asked) -> list[Any]:
        return [[session.id for session in self._registration(asked).endpoints]]

    def _count_callees(self, asked: Asked) -> list[Any]:
        return [len(self._registration(asked).endpoints)]

    def _remove_callee(self, asked: Asked) -> list[Any]:
        registration = self._registration(asked)
        session = self._session(asked, 1, "callee_id")
        reason = asked.take(2, "reason", str, KILLED)
        if registration.id not in session.registrations:
            raise Refused(
                NO_SUCH_REGISTRATION, f"session {session.id} is no callee of {registration.uri!r}"
            )
        self.realm.dealer.revoke(session, registration, reason)
        return []

    def _registration(self, asked: Asked) -> "Registration":
        id_ = asked.take(0, "registration", int)
        registration = self.realm.dealer.by_id.get(id_)
        if registration is None:
            raise Refused(NO_SUCH_REGISTRATION, f"there is no registration {id_} in this realm")
        return registration

    # -- subscriptions

    def _subscription_list(self, asked: Asked) -> list[Any]:
        found: Iterable[Subscription] = self.realm.broker.by_id.values()
        if asked.take(0, "session_id", int, None) is not None:
            found = self._session(asked, 0, "session_id").subscriptions.values()
        return [_by_match(found)]

    def _subscription_lookup(self, asked: Asked) -> list[Any]:
        uri, match = _pattern(asked, "topic")
        return [_id_of(self.realm.broker.subscriptions.get(uri, match))]

    def _subscription_match(self, asked: Asked) -> list[Any]:
        found = self.realm.broker.match(asked.take(0, "topic", str))
        return [[subscription.id for subscription in found] or None]

    def _subscription_get(self, asked: Asked) -> list[Any]:
        return [self.realm.described(self._subscription(asked))]

    def _list_subscribers(self, asked: Asked) -> list[Any]:
        return [[session.id for session in self._subscription(asked).sessions]]

    def _count_subscribers(self, asked: Asked) -> list[Any]:
        return [len(self._subscription(asked).sessions)]

    def _remove_subscriber(self, asked: Asked) -> list[Any]:
        subscription = self._subscription(asked)
        session = self._session(asked, 1, "subscriber_id")
        reason = asked.take(2, "reason", str, KILLED)
        if subscription.id not in session.subscriptions:
            raise Refused(
                NO_SUCH_SUBSCRIPTION, f"session {session.id} does not subscribe to {subscription.uri!r}"
            )  # fmt: skip
        self.realm.broker.revoke(session, subscription, reason)
        return []

    def _get_events(self, asked: Asked) -> list[Any]:
        subscription = self._subscription(asked)
        if subscription.history is None:
            raise Refused(HISTORY_UNAVAILABLE, f"there is no history of {subscription.uri!r}")
        session = asked.session
        uri, match = subscription.uri, subscription.match
        verdict = session.granted.get(("subscribe", match, uri))
        if verdict is None:
            verdict = session.role.pattern_verdict("subscribe", uri, match)
        if not verdict & ALLOW and session not in subscription.sessions:
            raise Refused(
                NOT_AUTHORIZED, f"who may not subscribe to {uri!r} may not see its history"
            )
        filters = dict(asked.named())
        limit = asked.take(1, "limit", int, None)
        if limit is not None:
            filters["limit"] = limit
        history, open_payload = subscription.history, self.realm.open_payload
        return [history.told(subscription.id, session, filters, open_payload)]

    def _subscription(self, asked: Asked) -> "Subscription":
        id_ = asked.take(0, "subscription", int)
        subscription = self.realm.broker.by_id.get(id_)
        if subscription is None:
            raise Refused(NO_SUCH_SUBSCRIPTION, f"there is no subscription {id_} in this realm")
        return subscription


def _pattern(asked: Asked, name: str) -> tuple[str, str]:
    match = asked.take(1, "options", dict, {}).get("match") or "exact"
    if match not in MATCHES:
        raise Refused(INVALID_ARGUMENT, f"match has to be exact, prefix or wildcard, not {match!r}")
    return asked.take(0, name, str), match


def _id_of(found: "Registration | Subscription | None") -> int | None:
    return None if found is None else found.id


def _by_match(found: "Iterable[Registration | Subscription]") -> dict[str, list[int]]:
    lists: dict[str, list[int]] = {match: [] for match in MATCHES}
    for one in found:
        lists[one.match].append(one.id)
    return lists
