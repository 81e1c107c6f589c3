"""Who gets an event?

Subscriptions (exact, prefix, wildcard), publications with black- and whitelists, retained events. Permissions come as verdicts from
:mod:`permissions`; what waits for a dynamic authorizer is in :mod:`holding`. WAMP specification: "Publish and Subscribe" and the
chapters of the advanced profile on it.

An event is one `Shared` message for all receivers of a subscription, so it is encoded once. Which subscriptions a topic
reaches is kept by topic until a subscription comes or goes.
"""

from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from holdfast.core.wamp.errors import (
    INVALID_ARGUMENT,
    LIMIT_EXCEEDED,
    NO_SUCH_SUBSCRIPTION,
    ProtocolViolation,
    Refused,
)
from holdfast.core.wamp.history import History, Past
from holdfast.core.wamp.messages import (
    ERROR,
    EVENT,
    PUBLISH,
    PUBLISHED,
    SUBSCRIBE,
    SUBSCRIBED,
    UNSUBSCRIBE,
    UNSUBSCRIBED,
    Objects,
    Shared,
)
from holdfast.core.wamp.permissions import ALLOW, ASK, DISCLOSE, TRUST
from holdfast.core.wamp.session import LINK, NOTHING, PPT_PUBLISHER
from holdfast.core.wamp.session import UNSUBSCRIBED as TELL_UNSUBSCRIBED
from holdfast.core.wamp.uri import MATCHES, UriMap, is_reserved

if TYPE_CHECKING:
    from collections.abc import Iterator

    from holdfast.core.wamp.messages import Payload, Publish, Subscribe, Unsubscribe
    from holdfast.core.wamp.realm import Realm
    from holdfast.core.wamp.session import Identity, Session
    from holdfast.model.bus import HistoryPlan

#: Options that describe a payload which the router does not look into; the last three are Autobahn's older names.
PASSTHRU = (
    "ppt_scheme", "ppt_serializer", "ppt_cipher", "ppt_keyid", "enc_algo", "enc_key", "enc_serializer",
)  # fmt: skip

#: Topics whose subscriptions are kept ready; beyond it all are forgotten.
ROUTES = 10_000
#: Topics with a retained event; beyond it the one retained longest ago goes.
RETAINED = 10_000
#: Retained events with a restricted audience, a topic.
RETAINED_RESTRICTED = 16


class Audience(NamedTuple):
    """Black- and whitelists of a publication; None: everyone."""

    eligible: frozenset[int] | None
    eligible_authid: frozenset[str] | None
    eligible_authrole: frozenset[str] | None
    exclude: frozenset[int] | None
    exclude_authid: frozenset[str] | None
    exclude_authrole: frozenset[str] | None

    def admits(self, session: "Session") -> bool:
        """Tell whether this session may get the event."""
        return (
            (self.eligible is None or session.id in self.eligible)
            and (self.exclude is None or session.id not in self.exclude)
            and self.admits_person(session.identity)
        )

    def admits_person(self, identity: "Identity") -> bool:
        """Tell whether sessions of this authid and authrole may get the event."""
        return (
            (self.eligible_authid is None or identity.authid in self.eligible_authid)
            and (self.eligible_authrole is None or identity.authrole in self.eligible_authrole)
            and (self.exclude_authid is None or identity.authid not in self.exclude_authid)
            and (self.exclude_authrole is None or identity.authrole not in self.exclude_authrole)
        )


_LISTS = frozenset(Audience._fields)
_PASSTHRU = frozenset(PASSTHRU)


class Subscription:
    """A topic or pattern, and who is subscribed to it."""

    __slots__ = (
        "created_unix_s",
        "events",
        "history",
        "id",
        "match",
        "receivers",
        "sessions",
        "uri",
    )

    def __init__(self, id_: int, uri: str, match: str, created_unix_s: float) -> None:
        self.id = id_
        self.uri = uri
        self.match = match
        self.created_unix_s = created_unix_s
        #: Publications that have reached it, whoever was there to get them.
        self.events = 0
        self.sessions: dict[Session, None] = {}
        #: `sessions`, to go through while they may leave; empty: to be made again.
        self.receivers: tuple[Session, ...] = ()
        #: With a history it stays when nobody is subscribed.
        self.history: History | None = None

    def refreshed(self) -> "tuple[Session, ...]":
        """Make the receivers again after somebody came or went."""
        self.receivers = tuple(self.sessions)
        return self.receivers


class Retained(NamedTuple):
    """An event that is kept for those who subscribe later."""

    order: int
    publication: int
    topic: str
    details: dict[str, Any]
    payload: "Payload"
    audience: Audience | None


class Broker:
    """Subscriptions and publications of one realm."""

    __slots__ = ("_ids", "_order", "_retained", "_routes", "by_id", "delivered", "limit", "published", "realm", "subscriptions")  # fmt: skip

    def __init__(self, realm: "Realm", limit: int) -> None:
        self.realm = realm
        self.limit = limit
        self.subscriptions: UriMap[Subscription] = UriMap()
        self.by_id: dict[int, Subscription] = {}
        self.published = 0
        self.delivered = 0
        self._ids = 0
        self._order = 0
        self._routes: dict[str, tuple[Subscription, ...]] = {}
        self._retained: dict[str, list[Retained]] = {}

    # -- messages of a session

    def publish(self, session: "Session", message: "Publish") -> None:
        """PUBLISH. The path of an event without options to exact subscriptions is the hot one."""
        topic = message.topic
        verdict = session.role.publish.get(topic)
        if verdict != ALLOW or message.options:
            self._publish(session, message, verdict)
            return
        self.published += 1
        session.published += 1
        route = self._routes.get(topic)
        if route is None:
            route = self._route(topic)
        if not route:
            return
        publication = self.realm.new_id()
        delivered = 0
        for subscription in route:
            if subscription.match != "exact" or subscription.history is not None:
                self._deliver(session, subscription, publication, topic, {}, message, None, True)
                continue
            subscription.events += 1
            shared = Shared([EVENT, subscription.id, publication, {}], message)
            receivers = subscription.receivers or subscription.refreshed()
            delivered += len(receivers)
            if session in subscription.sessions:
                delivered -= 1
                for receiver in receivers:
                    if receiver is not session:
                        receiver.outlet.send_shared(shared)
            else:
                for receiver in receivers:
                    receiver.outlet.send_shared(shared)
        self.delivered += delivered

    def subscribe(self, session: "Session", message: "Subscribe") -> None:
        """SUBSCRIBE."""
        realm = self.realm
        match = message.options.get("match") or "exact"
        if match not in MATCHES:
            self._refuse(
                session, SUBSCRIBE, message.request, INVALID_ARGUMENT,
                f"match has to be exact, prefix or wildcard, not {match!r}",
            )  # fmt: skip
            return
        verdict = session.role.pattern_verdict("subscribe", message.topic, match)
        if verdict & ASK:
            realm.holding.hold(session, "subscribe", message.topic, match, message, self.subscribed)
        else:
            self.subscribed(session, message, verdict)

    def subscribed(self, session: "Session", message: "Subscribe", verdict: int) -> None:
        """Carry out or refuse a SUBSCRIBE whose verdict is known."""
        topic, request = message.topic, message.request
        options = message.options
        match = options.get("match") or "exact"
        subscription = self.subscriptions.get(topic, match)
        refusal = self.realm.refusal(session, "subscribe to", topic, match, verdict)
        if (
            refusal is None
            and len(session.subscriptions) >= self.limit
            and not session.can & LINK
            and (subscription is None or session not in subscription.sessions)
        ):
            refusal = (
                LIMIT_EXCEEDED,
                f"a session may have {self.limit} subscriptions (limits.subscriptions_per_session)",
            )
        if refusal is not None:
            self._refuse(session, SUBSCRIBE, request, *refusal)
            return
        is_new = subscription is None
        if subscription is None:
            subscription = self._create(topic, match)
        session.outlet.send([SUBSCRIBED, request, subscription.id])
        if session not in subscription.sessions:
            self._join(subscription, session)
            for link in self.realm.links:
                link.interest(subscription)
            if not is_reserved(topic):
                if is_new:
                    self.realm.announce(
                        "wamp.subscription.on_create", [session.id, self.realm.described(subscription)]
                    )  # fmt: skip
                self.realm.announce("wamp.subscription.on_subscribe", [session.id, subscription.id])
        if options.get("get_retained") is True:
            self._send_retained(session, subscription)

    def unsubscribe(self, session: "Session", message: "Unsubscribe") -> None:
        """UNSUBSCRIBE."""
        subscription = session.subscriptions.get(message.subscription)
        if subscription is None:
            self._refuse(
                session, UNSUBSCRIBE, message.request, NO_SUCH_SUBSCRIPTION,
                f"this session has no subscription {message.subscription}",
            )  # fmt: skip
            return
        session.outlet.send([UNSUBSCRIBED, message.request])
        self.drop(session, subscription)

    # -- for the realm

    def drop(self, session: "Session", subscription: Subscription) -> None:
        """Take a session out of a subscription."""
        del session.subscriptions[subscription.id]
        del subscription.sessions[session]
        subscription.receivers = ()
        is_last = not subscription.sessions and subscription.history is None
        if is_last:
            self._delete(subscription)
        for link in self.realm.links:
            link.interest(subscription)
        if not is_reserved(subscription.uri):
            self.realm.announce("wamp.subscription.on_unsubscribe", [session.id, subscription.id])
            if is_last:
                self.realm.announce("wamp.subscription.on_delete", [session.id, subscription.id])

    def revoke(self, session: "Session", subscription: Subscription, reason: str) -> None:
        """Take a subscription away; the session is told if it understands that."""
        if session.can & TELL_UNSUBSCRIBED:
            details = {"subscription": subscription.id, "reason": reason}
            session.outlet.send([UNSUBSCRIBED, 0, details])
        self.drop(session, subscription)

    def leave(self, session: "Session") -> None:
        """Drop all subscriptions of a session that leaves."""
        for subscription in list(session.subscriptions.values()):
            self.drop(session, subscription)
        session.subscriptions = NOTHING

    def match(self, topic: str) -> "tuple[Subscription, ...]":
        """Find all subscriptions that an event on this topic reaches."""
        route = self._routes.get(topic)
        return self._route(topic) if route is None else route

    def send(
        self,
        publisher: "Session | None",
        topic: str,
        payload: "Payload",
        options: dict[str, Any],
        verdict: int,
    ) -> int:
        """Publish what is allowed (verdict: disclosure and trust level), and return the publication id.

        Raises Refused when the options make no sense.
        """
        realm = self.realm
        audience = audience_of(options) if options else None
        details = self._details(publisher, options, verdict)
        self.published += 1
        if publisher is not None:
            publisher.published += 1
        publication = realm.new_id()
        excluded = None if options.get("exclude_me") is False else publisher
        is_retained = options.get("retain") is True
        is_plain = audience is None and not is_retained
        for subscription in self.match(topic):
            self._deliver(
                excluded, subscription, publication, topic, details, payload, audience, is_plain
            )
        if is_retained:
            self._retain(topic, publication, details, _lasting(payload), audience)
        if not is_plain and not is_reserved(topic):
            for link in realm.links:
                link.forward(topic, publication, details, options, payload)
        return publication

    # -- from another router of the realm, for our own sessions only

    def pass_on(
        self,
        subscription: Subscription,
        publication: int,
        topic: str,
        details: dict[str, Any],
        payload: "Payload",
    ) -> None:
        """Deliver an event that a link got for one subscription."""
        self._deliver(None, subscription, publication, topic, details, payload, None, False)

    def pass_on_all(
        self,
        topic: str,
        publication: int,
        details: dict[str, Any],
        options: dict[str, Any],
        payload: "Payload",
        *,
        is_old: bool,
    ) -> None:
        """Deliver an event with lists, or a retained one; an old one is only kept. Raises Refused for lists of the wrong shape."""
        audience = audience_of(options)
        for subscription in () if is_old else self.match(topic):
            self._deliver(None, subscription, publication, topic, details, payload, audience, False)
        if options.get("retain") is True:
            self._retain(topic, publication, details, _lasting(payload), audience)

    def retained(self, topic: str) -> "list[Retained]":
        """List the events that are kept of a topic, the oldest first."""
        return self._retained.get(topic, [])

    def retained_topics(self) -> list[str]:
        """List the topics of which events are kept."""
        return list(self._retained)

    def keep_histories(self, plans: "list[HistoryPlan]") -> None:
        """Take over which topics have a history; what is kept already stays."""
        wanted: dict[tuple[str, str], int] = {
            (plan["uri"], plan["match"]): plan["limit"] for plan in plans
        }
        before = list(self.by_id.values())
        for subscription in before:
            limit = wanted.pop((subscription.uri, subscription.match), None)
            if limit is not None:
                past = subscription.history.events if subscription.history else ()
                subscription.history = History(limit, past)
            elif subscription.history is not None:
                subscription.history = None
                if not subscription.sessions:
                    self._delete(subscription)
        for (uri, match), limit in wanted.items():
            self._create(uri, match).history = History(limit)
        for link in self.realm.links:
            for subscription in (*before, *self.by_id.values()):
                link.interest(subscription)

    # -- inside

    def _publish(self, session: "Session", message: "Publish", verdict: int | None) -> None:
        options = message.options
        if "ppt_scheme" in options and not session.can & PPT_PUBLISHER:
            raise ProtocolViolation(
                "PUBLISH with ppt_scheme, but the publisher did not announce payload_passthru_mode"
            )
        if verdict is None:
            verdict = session.role.verdict("publish", message.topic)
        if verdict & ASK:
            self.realm.holding.hold(
                session, "publish", message.topic, "exact", message, self.publication
            )
        else:
            self.publication(session, message, verdict)

    def publication(self, session: "Session", message: "Publish", verdict: int) -> None:
        """Carry out or refuse a PUBLISH whose verdict is known."""
        options = message.options
        is_acknowledged = options.get("acknowledge") is True
        refusal = self.realm.refusal(session, "publish to", message.topic, "exact", verdict)
        publication = 0
        if refusal is None:
            try:
                publication = self.send(session, message.topic, message, options, verdict)
            except Refused as refused:
                refusal = (refused.error, refused.says)
        # Who asked for no acknowledgement gets no ERROR either: it could not tell which PUBLISH it is about.
        if is_acknowledged:
            if refusal is None:
                session.outlet.send([PUBLISHED, message.request, publication])
            else:
                self._refuse(session, PUBLISH, message.request, *refusal)

    def _details(
        self, publisher: "Session | None", options: dict[str, Any], verdict: int
    ) -> dict[str, Any]:
        details: dict[str, Any] = {}
        if options and not _PASSTHRU.isdisjoint(options):
            details = {name: options[name] for name in PASSTHRU if name in options}
        if publisher is None:
            return details
        if verdict & TRUST:
            details["trustlevel"] = publisher.role.trustlevel
        forwarded = forwarding(publisher, options)
        if forwarded is not None:
            details["forward_for"] = forwarded
        if verdict & DISCLOSE or options.get("disclose_me") is True:
            origin = forwarded[0] if forwarded is not None else signature(publisher)
            details["publisher"] = origin["session"]
            details["publisher_authid"] = origin["authid"]
            details["publisher_authrole"] = origin["authrole"]
        return details

    def _deliver(
        self,
        excluded: "Session | None",
        subscription: Subscription,
        publication: int,
        topic: str,
        details: dict[str, Any],
        payload: "Payload",
        audience: Audience | None,
        to_links: bool,
    ) -> None:
        subscription.events += 1
        is_pattern = subscription.match != "exact"
        if is_pattern:
            details = {**details, "topic": topic}
        history = subscription.history
        if history is not None and (
            audience is None or (audience.eligible is None and audience.exclude is None)
        ):
            history.keep(
                Past(publication, self.realm.unix_s(), topic, details, _lasting(payload), audience)
            )
        shared = Shared([EVENT, subscription.id, publication, details], payload)
        for receiver in subscription.receivers or subscription.refreshed():
            if receiver is excluded or (audience is not None and not audience.admits(receiver)):
                continue
            if not to_links and receiver.can & LINK:
                continue
            if is_pattern and receiver.role.narrowing and receiver.role.hides(topic):
                continue
            self.delivered += 1
            receiver.outlet.send_shared(shared)

    def _route(self, topic: str) -> "tuple[Subscription, ...]":
        if len(self._routes) >= ROUTES:
            self._routes.clear()
        route = self._routes[topic] = tuple(self.subscriptions.matching(topic))
        return route

    def _create(self, uri: str, match: str) -> Subscription:
        self._ids += 1
        subscription = Subscription(self._ids, uri, match, self.realm.unix_s())
        self.subscriptions.add(uri, match, subscription)
        self.by_id[subscription.id] = subscription
        self._forget(subscription)
        return subscription

    def _join(self, subscription: Subscription, session: "Session") -> None:
        if session.subscriptions is NOTHING:
            session.subscriptions = {}
        session.subscriptions[subscription.id] = subscription
        subscription.sessions[session] = None
        subscription.receivers = ()

    def _delete(self, subscription: Subscription) -> None:
        self.subscriptions.remove(subscription.uri, subscription.match)
        del self.by_id[subscription.id]
        self._forget(subscription)

    def _forget(self, subscription: Subscription) -> None:
        if subscription.match == "exact":
            self._routes.pop(subscription.uri, None)
        else:
            self._routes.clear()

    def _retain(
        self,
        topic: str,
        publication: int,
        details: dict[str, Any],
        payload: "Payload",
        audience: Audience | None,
    ) -> None:
        """One event for everybody, and after it a few for some: those before it are older news for them, too."""
        self._order += 1
        event = Retained(self._order, publication, topic, details, payload, audience)
        before = self._retained.pop(topic, None)
        if audience is None or before is None:
            kept = [event]
        else:
            restricted = [e for e in before if e.audience is not None and e.audience != audience]
            everybody = [e for e in before if e.audience is None]
            kept = [*everybody, *restricted[1 - RETAINED_RESTRICTED :], event]
        self._retained[topic] = kept
        if len(self._retained) > RETAINED:
            del self._retained[next(iter(self._retained))]

    def _send_retained(self, session: "Session", subscription: Subscription) -> None:
        found = []
        for topic in self._retained_topics(subscription):
            if subscription.match != "exact" and session.role.hides(topic):
                continue
            for event in reversed(self._retained[topic]):
                if event.audience is None or event.audience.admits(session):
                    found.append(event)
                    break
        for event in sorted(found):
            details = {**event.details, "retained": True}
            if subscription.match != "exact":
                details["topic"] = event.topic
            self.delivered += 1
            session.outlet.send([EVENT, subscription.id, event.publication, details], event.payload)

    def _retained_topics(self, subscription: Subscription) -> "Iterator[str]":
        uri = subscription.uri
        if subscription.match == "exact":
            if uri in self._retained:
                yield uri
            return
        only: UriMap[bool] = UriMap()
        only.add(uri, subscription.match, True)
        for topic in self._retained:
            if only.best(topic):
                yield topic

    def _refuse(self, session: "Session", kind: int, request: int, error: str, says: str) -> None:
        session.outlet.send([ERROR, kind, request, {}, error], Objects([says]))


def signature(session: "Session") -> dict[str, Any]:
    """Say who somebody is, as `forward_for` does."""
    identity = session.identity
    return {"session": session.id, "authid": identity.authid, "authrole": identity.authrole}


def forwarding(session: "Session", options: dict[str, Any]) -> list[dict[str, Any]] | None:
    """Read who a link between routers acts for, the first one first; None for everybody who is not trusted to say so."""
    if not options or "forward_for" not in options:
        return None
    said = options["forward_for"]
    if (
        not session.role.is_trusted
        or not isinstance(said, list)
        or not said
        or not all(
            isinstance(one, dict) and {"session", "authid", "authrole"} <= one.keys()
            for one in said
        )
    ):
        return None
    return [*said, signature(session)]


def audience_of(options: dict[str, Any]) -> Audience | None:
    """Read black- and whitelists; raises Refused for one of the wrong shape, which must not become an event for everybody."""
    if _LISTS.isdisjoint(options):
        return None
    lists: list[frozenset[Any] | None] = []
    for name in Audience._fields:
        given = options.get(name)
        if given is None:
            lists.append(None)
            continue
        # JavaScript's codecs write whole numbers as large as session ids in floating point; they are equal to the id.
        is_ids = name in ("eligible", "exclude")
        kind = (int, float) if is_ids else str
        if not isinstance(given, list) or not all(isinstance(one, kind) for one in given):
            raise Refused(
                INVALID_ARGUMENT,
                f"{name} has to be a list of {'session ids' if is_ids else 'strings'}",
            )
        lists.append(frozenset(given))
    return Audience(*lists)


def _lasting(payload: "Payload") -> "Payload":
    """Make a payload fit to be kept: a slice of what was read from a socket would keep all of that alive."""
    for name in ("args", "kwargs"):
        part = getattr(payload, name)
        if type(part) is msgspec.Raw:
            setattr(payload, name, part.copy())
    return payload
