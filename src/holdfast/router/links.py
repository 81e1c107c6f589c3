"""Which other routers serve our realms, and how do we keep a link to each?

A link is a WAMP session of one router at another that both know to be one: HELLO's roles and WELCOME's details have `x_link`, with
a name that each router process makes up for itself. One of the two opens the connection (`links` of the plan) and comes back
when it is lost; which of the two does not matter afterwards. What is said on it: :mod:`holdfast.core.wamp.link`.

Only a session of the role `trusted` can be a link: it publishes and calls for other people, whom the other router has checked.
When both routers open one to the other, the one that was opened by the lesser name stays.
"""

from __future__ import annotations

import asyncio
import os
from time import monotonic
from traceback import format_exception

from holdfast.core.wamp.link import Link
from holdfast.core.wamp.permissions import TRUSTED
from holdfast.router.links_neighbour import MARK, PING_S, TWICE, Neighbour

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from holdfast.core.wamp.realm import Realm
    from holdfast.core.wamp.session import Identity, Session
    from holdfast.model.bus import RouterPlan
    from holdfast.router.connection import Connection
    from holdfast.router.links_dialled import Dialler
    from holdfast.router.router import Router


class Links:
    """All links of a router."""

    def __init__(self, router: Router) -> None:
        self.router = router
        self.me = os.urandom(8).hex()
        self._sessions: dict[Session, Neighbour] = {}
        self._neighbours: dict[tuple[str, str], Neighbour] = {}
        self._diallers: dict[str, tuple[Dialler, asyncio.Task[None]]] = {}
        self._waiters: dict[tuple[str, str], list[asyncio.Future[None]]] = {}

    # -- hooks of the router -----------------------------------------------------------------------

    def configure(self, plan: RouterPlan) -> None:
        """Open the links of a plan, and close those that are not in it any more."""
        wanted = {repr(link): link for link in plan["links"]}
        for key in [key for key in self._diallers if key not in wanted]:
            self._stop(key)
        if not wanted:
            return
        # Most routers have none to open, and never need the client.
        from holdfast.router.links_dialled import Dialler

        for key, link in wanted.items():
            if key not in self._diallers:
                dialler = Dialler(self, link)
                task = self.router.loop.create_task(dialler.run(), name=f"link {link['url']}")
                task.add_done_callback(self._ended)
                self._diallers[key] = dialler, task

    def welcome(self, roles: dict[str, Any], identity: Identity) -> dict[str, Any]:
        """Return what WELCOME says to another router; nothing to everybody else."""
        return {MARK: {"router": self.me}} if self._peer(roles, identity) else {}

    def admitted(
        self, connection: Connection, session: Session, realm: Realm, roles: dict[str, Any]
    ) -> None:
        """Look at a session that has just been opened: another router's becomes a link."""
        peer = self._peer(roles, session.identity)
        if not peer:
            return
        link = Link(realm, session, connection, self._says)
        if self.opened(Neighbour(realm, peer, peer, link, session.identity.authid)):
            connection.receive = link.receive
            # Whoever opened the link asks us; a router that is frozen asks nothing, and its calls would wait for ever. The
            # internal socket, over which the routers of a node are linked, has no pings of its own.
            connection.plan = {**connection.plan, "ping_s": PING_S, "ping_timeout_s": PING_S}

    def left(self, session: Session) -> None:
        """Forget a link whose session is over, before its realm does."""
        neighbour = self._sessions.pop(session, None)
        if neighbour is None:
            return
        neighbour.realm.now_s = monotonic()
        neighbour.link.end()
        # Calls may wait now for procedures that are gone with it.
        self.router.loop.call_soon(self.router.worked, 0, neighbour.realm)
        key = neighbour.realm.name, neighbour.peer
        if self._neighbours.get(key) is neighbour:
            del self._neighbours[key]
            self.router.log.warning("link lost", to=neighbour.name, realm=neighbour.realm.name)
            for waiter in self._waiters.pop(key, ()):
                if not waiter.done():
                    waiter.set_result(None)

    def close(self) -> None:
        """End those that we opened; the others end with their connections."""
        for key in list(self._diallers):
            self._stop(key)

    # -- common to both ends -----------------------------------------------------------------------

    def opened(self, neighbour: Neighbour) -> bool:
        """Take a link into use; false where it was closed because it is one too many."""
        realm, session, peer = neighbour.realm, neighbour.link.session, neighbour.peer
        if peer == self.me:
            realm.close(session, TWICE, "a router cannot be linked with itself")
            return False
        key = realm.name, peer
        other = self._neighbours.get(key)
        if other is not None:
            if neighbour.dialler > other.dialler:
                realm.close(
                    session, TWICE, "the two routers are linked already, the other way round"
                )
                return False
            # A twin, or what is left of a connection that broke without our notice.
            realm.close(other.link.session, TWICE, "there is a newer link between the two routers")
        self._neighbours[key] = self._sessions[session] = neighbour
        neighbour.link.open()
        self.router.log.info("link open", to=neighbour.name, realm=realm.name)
        return True

    def apart(self, realm: str, peer: str) -> asyncio.Future[None]:
        """Wait until there is no link to a router."""
        waiter: asyncio.Future[None] = self.router.loop.create_future()
        if (realm, peer) in self._neighbours:
            self._waiters.setdefault((realm, peer), []).append(waiter)
        else:
            waiter.set_result(None)
        return waiter

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self.router.log.error(
                "a link is given up: the fault is the router's",
                says="".join(format_exception(error)),
            )

    def _says(self, text: str) -> None:
        self.router.tell("link", says=text)

    def _stop(self, key: str) -> None:
        dialler, task = self._diallers.pop(key)
        task.cancel()
        dialler.close("this router has no such link any more")

    @staticmethod
    def _peer(roles: dict[str, Any], identity: Identity) -> str:
        features = roles.get(MARK, {}).get("features", {})
        peer = features.get("router")
        return peer if isinstance(peer, str) and identity.authrole == TRUSTED else ""
