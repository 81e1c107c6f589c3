"""How do we open a link to another router, and what goes over that connection?

The dialling end of :mod:`holdfast.router.links`: the bus client connects and signs in (:func:`holdfast.bus.dialling.dial`), then the
connection belongs to the link. Over here a session stands for the other router, and this module is its connection. Imported
only where there is a link to open.
"""

from __future__ import annotations

import asyncio
from time import monotonic

from holdfast.bus.connect import chance
from holdfast.bus.dialling import dial
from holdfast.bus.errors import CannotConnect, JoinRefused
from holdfast.bus.joining import ROLES
from holdfast.bus.urls import parse
from holdfast.core.backoff import Backoff
from holdfast.core.wamp.errors import PROTOCOL_VIOLATION, ProtocolViolation
from holdfast.core.wamp.link import Link
from holdfast.core.wamp.messages import (
    ABORT,
    ERROR,
    GOODBYE,
    INVOCATION,
    YIELD,
    Abort,
    Error,
    Goodbye,
)
from holdfast.core.wamp.permissions import TRUSTED
from holdfast.core.wamp.session import Identity, Session
from holdfast.model.errors import ConfigError
from holdfast.router.links_neighbour import MARK, PING_S, Neighbour
from holdfast.wire.wamp.errors import EncodeError, ProtocolError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from holdfast.bus.dialling import Joined
    from holdfast.core.wamp.messages import Payload, Shared
    from holdfast.core.wamp.realm import Realm
    from holdfast.model.bus import LinkPlan
    from holdfast.router.links import Links

TOO_LARGE = "wamp.error.payload_size_exceeded"
INVALID_PAYLOAD = "wamp.error.invalid_payload"
#: Limit of one attempt: connection, handshake, sign-in.
ATTEMPT_S = 5.0
#: No pause between attempts is longer: calls wait for nobody.
PAUSE_S = 1.0
#: Unsent output beyond this: the other router does not read, and is given up.
QUEUE_BYTES = 1 << 26
#: Bytes sent between two looks at that.
_LOOK_BYTES = 1 << 20


class Dialler:
    """Keeps one link open."""

    def __init__(self, links: Links, plan: LinkPlan) -> None:
        self.links = links
        self.plan = plan
        self._wire: Dialled | None = None
        self._told = ""

    async def run(self) -> None:
        """Open the link, and again when it is lost, until cancelled."""
        plan, links = self.plan, self.links
        backoff = Backoff(limit_s=PAUSE_S)
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(backoff.next_s(chance()))
            try:
                async with asyncio.timeout(ATTEMPT_S):
                    joined = await dial(
                        parse(plan["url"]), plan["realm"], auth=plan["auth"] or None, ping_s=PING_S,
                        authid=None if plan["auth"] else f"router-{links.router.name}",
                        roles={**ROLES, MARK: {"features": {"router": links.me}}},
                    )  # fmt: skip
            except TimeoutError:
                self._trouble(f"no answer in {ATTEMPT_S:g} s")
                continue
            except (CannotConnect, JoinRefused, ConfigError, ValueError) as error:
                self._trouble(str(error))
                continue
            began_s = loop.time()
            peer = await self._live(joined)
            backoff.lived(loop.time() - began_s)
            if peer:
                await links.apart(plan["realm"], peer)

    def close(self, says: str) -> None:
        """End the link, if it is open."""
        if self._wire is not None:
            self._wire.say_goodbye("wamp.close.normal", says)

    async def _live(self, joined: Joined) -> str:
        """Use a link until it is lost; returns what the other router calls itself."""
        mark = joined.details.get(MARK)
        peer = mark.get("router") if isinstance(mark, dict) else None
        realm = self.links.router.realms.get(self.plan["realm"])
        if not isinstance(peer, str) or realm is None:
            joined.link.close()
            role = joined.details.get("authrole")
            says = f'it takes nobody of the role "{role}" for a router: the sign-in there has to give the role "{TRUSTED}"'
            if role == TRUSTED:
                says = "it is no Holdfast router that knows links"
            self._trouble(
                says if realm is not None else f'there is no realm "{self.plan["realm"]}"'
            )
            return ""
        if peer == self.links.me:
            joined.link.close()
            self._trouble("a router cannot be linked with itself")
            return ""
        wire = self._wire = Dialled(self.links, joined, realm, f"{peer} at {self.plan['url']}")
        try:
            if wire.open(peer):
                self._told = ""
                await wire.lost
        finally:
            self._wire = None
            wire.end("given up")
        return peer

    def _trouble(self, says: str) -> None:
        if says != self._told:
            self._told = says
            plan = self.plan
            self.links.router.log.warning(
                "link not open yet", to=plan["url"], realm=plan["realm"], says=says
            )


class Dialled:
    """The connection of a link that we opened, and the session that stands for the other router in our realm."""

    def __init__(self, links: Links, joined: Joined, realm: Realm, name: str) -> None:
        router = links.router
        self.lost: asyncio.Future[None] = router.loop.create_future()
        self._links = links
        self._router = router
        self._realm = realm
        self._name = name
        self._connected = joined.link
        self._rest = joined.rest
        self._encode = joined.link.codec.encode
        self._decode = joined.link.codec.decode
        self._key = f"{joined.link.codec.name}/link"
        self._since = 0
        self._is_over = False
        details = {"type": "link", "peer": name}
        identity = Identity(name, TRUSTED, "link", "router")
        self.session = Session(router.new_id(), identity, self, ROLES, details)
        self._link = Link(realm, self.session, self, self._refused)

    def open(self, peer: str) -> bool:
        """Join our realm in the other router's name; false when the link is one too many."""
        router = self._router
        router.sessions[self.session.id] = self.session
        self._realm.join(self.session, monotonic())
        neighbour = Neighbour(self._realm, peer, self._links.me, self._link, self._name)
        if not self._links.opened(neighbour):
            return False
        self._connected.receive = self._received
        self._connected.lost = self.end
        for data in self._rest:
            self._received(data)
        if self._connected.gone:
            self.end(self._connected.gone)
        return True

    def end(self, reason: str) -> None:
        """Forget everything: the connection is lost, or to be given up."""
        if self._is_over:
            return
        self._is_over = True
        self._links.left(self.session)
        self._router.forget_session(self.session)
        self._realm.leave(self.session, monotonic())
        self._connected.abort(reason)
        if not self.lost.done():
            self.lost.set_result(None)

    def say_goodbye(self, reason: str, says: str) -> None:
        """End in peace."""
        if not self._is_over:
            self._realm.close(self.session, reason, says)

    # -- what comes ----------------------------------------------------------------------------------

    def _received(self, data: bytes) -> None:
        if self._is_over:
            return
        try:
            message = self._decode(data)
            if isinstance(message, Goodbye | Abort):
                self._refused(f"closed by the other router: {message.reason} {message.details.get('message', '')}")  # fmt: skip
                self.end(message.reason)
                return
            self._link.receive(self.session, message, monotonic())
            self._router.worked(0, self._realm)
        except (ProtocolError, ProtocolViolation) as error:
            self._refused(f"the other router broke the protocol: {error}")
            self._connected.send(self._encode([ABORT, {"message": str(error)}, PROTOCOL_VIOLATION], None))  # fmt: skip
            self._connected.close()
            self.end(str(error))
        except Exception:
            # As for any connection: one message must not end the others.
            self._router.log.exception("a message could not be dealt with: the fault is the router's", peer=self._name)  # fmt: skip
            self.end("the router failed at a message")

    # -- the wire ------------------------------------------------------------------------------------

    def send(self, head: list[Any], payload: Payload | None = None) -> None:
        """Queue a message."""
        try:
            data = self._encode(head, payload)
        except EncodeError as error:
            self._unsayable(head, INVALID_PAYLOAD, str(error))
            return
        self._write(head, data)

    def send_shared(self, message: Shared) -> None:
        """Queue an event that others get, too."""
        data = message.encoded.get(self._key)
        if data is None:
            try:
                data = self._encode(message.head, message.payload)
            except EncodeError as error:
                self._unsayable(message.head, INVALID_PAYLOAD, str(error))
                return
            message.encoded[self._key] = data
        self._write(message.head, data)

    def close(self, reason: str, says: str) -> None:
        """Say GOODBYE and end; the session has left the realm already."""
        if not self._is_over:
            self._connected.send(self._encode([GOODBYE, {"message": says}, reason], None))
            self._connected.close()
            self.end(reason)

    def _write(self, head: list[Any], data: bytes) -> None:
        n = len(data)
        connected = self._connected
        if n > connected.limit:
            says = f"a message of {n} bytes; the other router takes at most {connected.limit}"
            self._unsayable(head, TOO_LARGE, says)
            return
        connected.send(data)
        self._since += n
        if self._since > _LOOK_BYTES:
            self._since = 0
            if connected.unsent_bytes() > QUEUE_BYTES:
                self._refused(f"given up: more than {QUEUE_BYTES} bytes are unsent")
                # Not here: a realm is in the middle of its work.
                self._router.loop.call_soon(self.end, "the other router does not read")

    def _unsayable(self, head: list[Any], uri: str, says: str) -> None:
        """Do what is right for a message that cannot be sent: whoever waits for it is told."""
        if head[0] == INVOCATION:
            error = Error(INVOCATION, head[1], {}, uri, [says])
            self._router.loop.call_soon(self._answer, error)
        elif head[0] == YIELD:
            self.send([ERROR, INVOCATION, head[1], {}, uri, [says]])
        else:
            self._refused(f"not sent: {says}")

    def _answer(self, error: Error) -> None:
        if not self._is_over:
            self._link.receive(self.session, error, monotonic())

    def _refused(self, text: str) -> None:
        self._router.tell(f"link to {self._name}", says=text)
