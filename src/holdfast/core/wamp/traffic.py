"""How much goes over a realm, and who calls whom?

Plain numbers on the objects that broker and dealer have in hand anyway: a call adds one to the pair of its caller and an endpoint (so to a
registration), an event one to its subscription, a publication one to its session. They only grow; whoever wants a rate looks twice. Sums
are made when somebody asks. Left out: time, what is in the messages, the router's own procedures (nobody is called there).

Pairs are bounded (:data:`PAIRS` a realm): calls of further callers, and of those who have left, are counted by endpoint, without a name.
"""

from heapq import nlargest
from itertools import islice
from typing import TYPE_CHECKING, Any

from holdfast.core.wamp.session import NOTHING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from holdfast.core.wamp.dealer import Endpoint
    from holdfast.core.wamp.realm import Realm
    from holdfast.core.wamp.session import Session

#: Pairs of caller and endpoint that a realm counts each for itself: about 0.5 MB.
PAIRS = 2_000
#: Registrations, subscriptions and sessions that are looked at when somebody asks: a realm may have 100,000, and its loop waits meanwhile.
LOOKED_AT = 10_000
#: The busiest of them are told.
TOLD = 2_000


class Pair:
    """The calls of one caller to one endpoint."""

    __slots__ = ("calls",)

    def __init__(self) -> None:
        self.calls = 0


class Pairs:
    """Who calls whom in one realm. The numbers themselves are in `Endpoint.callers`."""

    __slots__ = ("count", "limit")

    def __init__(self, limit: int = PAIRS) -> None:
        self.count = 0
        self.limit = limit

    def first(self, caller: "Session", endpoint: "Endpoint") -> "Pair | Endpoint":
        """Return where the calls of this caller are counted: the first one, or there is no room for another pair."""
        if self.count >= self.limit:
            return endpoint
        self.count += 1
        if endpoint.callers is NOTHING:
            endpoint.callers = {}
        if caller.asked is NOTHING:
            caller.asked = {}
        caller.asked[endpoint] = None
        pair = endpoint.callers[caller] = Pair()
        return pair

    def caller_left(self, caller: "Session") -> None:
        """Forget a caller; its calls stay with those whom it called."""
        for endpoint in caller.asked:
            endpoint.calls += endpoint.callers.pop(caller).calls
            self.count -= 1
        caller.asked = NOTHING

    def callee_left(self, endpoint: "Endpoint") -> None:
        """Forget an endpoint; its calls stay with the registration."""
        registration = endpoint.registration
        registration.calls += endpoint.calls
        endpoint.calls = 0
        for caller, pair in endpoint.callers.items():
            registration.calls += pair.calls
            del caller.asked[endpoint]
            self.count -= 1
        endpoint.callers = NOTHING


def told(realm: "Realm") -> dict[str, Any]:
    """Tell all numbers of a realm, as JSON values.

    Lists, without those of whom there is nothing to tell and, where `is_whole` is false, of the busiest only: `registrations` [URI, match, calls], `subscriptions` [URI, match, events], `by_session` [id, calls made, calls given,
    events published], and `pairs` [id of the caller, id of the callee, URI, match, calls]; `who` names the sessions of the pairs. `other_calls` have no
    pair. Where a call goes to many callees, or to another one after the first, each of them counts.
    """
    dealer, broker = realm.dealer, realm.broker
    registrations: list[list[Any]] = []
    pairs: list[list[Any]] = []
    who: dict[str, dict[str, Any]] = {}
    other = 0
    for registration in islice(dealer.by_id.values(), LOOKED_AT):
        calls, nameless = registration.calls, registration.calls
        for endpoint in registration.endpoints.values():
            nameless += endpoint.calls
            calls += endpoint.calls
            for caller, pair in endpoint.callers.items():
                calls += pair.calls
                pairs.append([caller.id, endpoint.session.id, registration.uri, registration.match, pair.calls])  # fmt: skip
                for session in (caller, endpoint.session):
                    who[str(session.id)] = _named(session)
        other += nameless
        if calls:
            registrations.append([registration.uri, registration.match, calls])
    subscriptions = [
        [one.uri, one.match, one.events]
        for one in islice(broker.by_id.values(), LOOKED_AT)
        if one.events
    ]
    sessions = [
        [one.id, _made(one), one.next_invocation, one.published]
        for one in islice(realm.sessions.values(), LOOKED_AT)
        if one.asked or one.next_invocation or one.published
    ]
    sizes = (len(dealer.by_id), len(broker.by_id), len(realm.sessions))
    return {
        "is_whole": max(sizes) <= LOOKED_AT
        and max(map(len, (registrations, subscriptions, sessions))) <= TOLD,
        **totals(realm),
        "other_calls": other,
        "registrations": _busiest(registrations),
        "subscriptions": _busiest(subscriptions),
        "by_session": nlargest(TOLD, sessions, key=_sum),
        "pairs": pairs,
        "who": who,
    }


def totals(realm: "Realm") -> dict[str, int]:
    """Tell how much went over a realm in all, and who is there; cheap, and from any thread."""
    dealer, broker = realm.dealer, realm.broker
    return {
        "sessions": len(realm.sessions),
        "calls": dealer.called - dealer.answered_here,
        "calls_failed": dealer.failed,
        "published": broker.published,
        "events": broker.delivered,
    }


def _made(session: "Session") -> int:
    return sum(endpoint.callers[session].calls for endpoint in session.asked)


def _named(session: "Session") -> dict[str, Any]:
    return {"authid": session.identity.authid, "peer": session.transport.get("peer")}


def _busiest(rows: "list[list[Any]]") -> "list[list[Any]]":
    return nlargest(TOLD, rows, key=_last)


def _last(row: "list[Any]") -> int:
    count: int = row[-1]
    return count


def _sum(row: "Iterable[int]") -> int:
    _, *counts = row
    return sum(counts)
