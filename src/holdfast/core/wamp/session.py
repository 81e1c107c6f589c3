"""Who takes part in a realm, and what does the realm remember of it?"""

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from holdfast.core.wamp.messages import Outlet


class Identity(NamedTuple):
    """What the sign-in found out."""

    authid: str
    authrole: str
    authmethod: str
    authprovider: str
    authextra: dict[str, Any] | None = None


class Session:
    """An open session. What broker and dealer keep of it is in here, so that leaving costs what it holds."""

    __slots__ = ("calls", "features", "granted", "id", "identity", "invocations", "next_invocation", "outlet", "registrations",
                 "subscriptions", "testaments", "transport")  # fmt: skip

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
