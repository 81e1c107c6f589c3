"""Who takes part in a realm, and what does the realm remember of it?

No rule is in here: broker, dealer and meta API are the only ones that write these fields. An idle session is to cost next
to nothing, so everything that most sessions never have starts as one shared, empty, unwritable dict.
"""

from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from holdfast.core.wamp.permissions import Role

if TYPE_CHECKING:
    from collections import deque
    from collections.abc import Callable

    from holdfast.core.wamp.broker import Subscription
    from holdfast.core.wamp.dealer import Endpoint, Pending
    from holdfast.core.wamp.holding import Held
    from holdfast.core.wamp.messages import Outlet
    from holdfast.core.wamp.testament import Testament

    Handler = Callable[["Session", Any], None]


class Identity(NamedTuple):
    """What the sign-in found out."""

    authid: str
    authrole: str
    authmethod: str
    authprovider: str
    authextra: dict[str, Any] | None = None


class Nothing(dict[Any, Any]):
    """An empty dict that everybody shares: whoever wants to write makes one of their own first."""

    def __setitem__(self, key: Any, value: Any) -> NoReturn:
        raise TypeError("this dict is shared by all who have nothing")

    def __ior__(self, other: Any) -> NoReturn:  # type: ignore[misc]
        raise TypeError("this dict is shared by all who have nothing")

    def setdefault(self, *_: Any) -> NoReturn:
        """Refused, as every other way of writing."""
        raise TypeError("this dict is shared by all who have nothing")

    def update(self, *_: Any, **__: Any) -> NoReturn:
        """Refused, as every other way of writing."""
        raise TypeError("this dict is shared by all who have nothing")


NOTHING = Nothing()

#: Of a session that has not joined.
NOBODY = Role("", None, "loose")

#: What a peer announced in HELLO, as far as it changes what the router sends (bits of `Session.can`).
CANCEL, PROGRESSIVE_CALLS, PROGRESSIVE_INVOCATIONS = 1, 2, 4
UNREGISTERED, UNSUBSCRIBED = 8, 16  # revocation is told
PPT_CALLER, PPT_CALLEE, PPT_PUBLISHER = 32, 64, 128
#: Not announced but found out: the session is another router of the realm (:mod:`holdfast.core.wamp.link`).
LINK = 256

#: (role, feature, bit); `call_cancelling` is how one chapter of the specification spells it.
_ANNOUNCED = (
    ("callee", "call_canceling", CANCEL),
    ("callee", "call_cancelling", CANCEL),
    ("caller", "progressive_call_invocations", PROGRESSIVE_CALLS),
    ("callee", "progressive_call_invocations", PROGRESSIVE_INVOCATIONS),
    ("callee", "registration_revocation", UNREGISTERED),
    ("subscriber", "subscription_revocation", UNSUBSCRIBED),
    ("caller", "payload_passthru_mode", PPT_CALLER),
    ("callee", "payload_passthru_mode", PPT_CALLEE),
    ("publisher", "payload_passthru_mode", PPT_PUBLISHER),
)


def abilities(features: dict[str, Any]) -> int:
    """Read the features of HELLO's `roles` into bits; whatever has the wrong shape was not announced."""
    bits = 0
    for role, feature, bit in _ANNOUNCED:
        details = features.get(role)
        announced = details.get("features") if isinstance(details, dict) else None
        if isinstance(announced, dict) and announced.get(feature) is True:
            bits |= bit
    return bits


class Session:
    """An open session. What broker and dealer keep of it is in here, so that leaving costs what it holds."""

    __slots__ = ("asked", "calls", "can", "extra", "features", "finished", "granted", "handlers", "held", "id", "identity", "invocations",
                 "next_invocation", "outlet", "published", "registrations", "role", "subscriptions", "testaments", "transport")  # fmt: skip

    def __init__(
        self,
        id_: int,
        identity: Identity,
        outlet: "Outlet",
        features: dict[str, Any],
        transport: dict[str, Any],
    ) -> None:
        self.id = id_
        self.identity = identity
        self.outlet = outlet
        #: `roles` of HELLO: {"callee": {"features": {…}}, …}.
        self.features = features
        #: Told by wamp.session.get: {"type", "protocol", "peer", …}.
        self.transport = transport
        #: What of `features` matters to the router, as bits.
        self.can = abilities(features)
        #: What to do with a message, by its class; set by joining, and changed by leaving to do nothing any more.
        self.handlers: dict[Any, Handler] = NOTHING
        #: What it may do; set by joining.
        self.role: Role = NOBODY
        #: Calls in flight that it made, by request id.
        self.calls: dict[int, Pending] = NOTHING
        #: Calls in flight that it was given, by the request id of INVOCATION.
        self.invocations: dict[int, Pending] = NOTHING
        self.next_invocation = 0
        #: Whom it has called, as far as that is counted by pairs (:mod:`holdfast.core.wamp.traffic`).
        self.asked: dict[Endpoint, None] = NOTHING
        #: Events that it has published.
        self.published = 0
        #: By registration id and subscription id.
        self.registrations: dict[int, Endpoint] = NOTHING
        self.subscriptions: dict[int, Subscription] = NOTHING
        #: Answers of a dynamic authorizer that it said may be kept: (action, match, URI) -> verdict.
        self.granted: dict[tuple[str, str, str], int] = NOTHING
        #: Actions that wait for an authorizer's answer, in the order in which they came; None: none.
        self.held: deque[Held] | None = None
        #: Progressive calls that ended lately: chunks that were already on their way are no offence.
        self.finished: dict[int, None] = NOTHING
        #: By scope: "detached" and "destroyed".
        self.testaments: dict[str, list[Testament]] = NOTHING
        #: Added by wamp.session.modify_details.
        self.extra: dict[str, Any] = NOTHING

    def details(self) -> dict[str, Any]:
        """What the meta API and authorizers are told of it."""
        identity = self.identity
        return {
            **self.extra,
            "session": self.id,
            "authid": identity.authid,
            "authrole": identity.authrole,
            "authmethod": identity.authmethod,
            "authprovider": identity.authprovider,
            "authextra": identity.authextra,
            "transport": self.transport,
        }
