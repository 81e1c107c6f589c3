"""A realm inside a test: the router's own rules, no socket, no process, no chance.

::

    router = InMemoryRouter()
    async with router.connect() as backend, router.connect(role="guest") as browser:
        await backend.register(add, "com.app.add")
        assert await browser.call("com.app.add", 2, 3) == 5

Messages go through the real codec both ways, so what cannot be sent over a socket cannot be sent here either, and nobody
shares a list with anybody. They arrive in the order in which they were sent, one turn of the loop later; ids count from 1.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from typing import TYPE_CHECKING, Any

from holdfast.bus.errors import JoinRefused
from holdfast.bus.joining import ROLES
from holdfast.bus.session import ClientSession
from holdfast.core.wamp.errors import ProtocolViolation
from holdfast.core.wamp.messages import ABORT, GOODBYE
from holdfast.core.wamp.realm import Realm
from holdfast.core.wamp.session import Identity, Session
from holdfast.wire.wamp import CODECS, EncodeError, ProtocolError, open_payload

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from holdfast.bus.asking import OnProblem, RunSync
    from holdfast.core.wamp.messages import Payload, Shared
    from holdfast.model.bus import Action, HistoryPlan, Match, PermissionPlan, RealmPlan, RolePlan

#: Where messages may be as large as they like.
_NO_LIMIT = 2**40


def permission(
    uri: str,
    *allow: Action,
    deny: Sequence[Action] = (),
    match: Match = "exact",
    disclose: bool = True,
) -> PermissionPlan:
    """Return a permission for :func:`role`."""
    return {
        "uri": uri,
        "match": match,
        "allow": list(allow),
        "deny": list(deny),
        "disclose_caller": disclose,
        "disclose_publisher": disclose,
    }


def role(name: str, *permissions: PermissionPlan, authorizer: str | None = None) -> RolePlan:
    """Return a role; without permissions it may do everything."""
    everything = permission("", "call", "register", "publish", "subscribe", match="prefix")
    return {
        "name": name,
        "permissions": list(permissions) or [everything],
        "authorizer": authorizer,
    }


class InMemoryRouter:
    """A router with one realm.

    Args:
        realm: Its name.
        roles: What the roles may do (default: one role, `anonymous`, that may do everything). The role
            `trusted` is always there and may do everything.
        serializer: What messages go through.
        history: Topics whose events are kept.
    """

    def __init__(
        self,
        realm: str = "realm1",
        roles: Sequence[RolePlan] | None = None,
        *,
        serializer: str = "msgpack",
        history: Sequence[HistoryPlan] = (),
    ) -> None:
        self.codec = CODECS[serializer]
        self.plan: RealmPlan = {
            "name": realm,
            "roles": list(roles) if roles is not None else [role("anonymous")],
            "meta_api": True,
            "history": list(history),
            "uri_check": "loose",
        }
        ids = itertools.count(1)
        turns = itertools.count()
        self.realm = Realm(
            self.plan,
            lambda: next(ids),
            open_payload,
            lambda n: next(turns) % n,
            unix_at_zero_s=time.time() - time.monotonic(),
        )
        self._links: dict[int, _Wire] = {}
        self._timer: asyncio.TimerHandle | None = None

    def connect(
        self,
        role: str | None = None,
        authid: str | None = None,
        *,
        run_sync: RunSync | None = None,
        on_problem: OnProblem | None = None,
    ) -> ClientSession:
        """Return a joined session. Needs a running loop; use it with ``async with``, or `leave` it.

        Args:
            role: Its authrole (default: the first role of the realm).
            authid: Who it is (default: the name of the role).
            run_sync: As for :class:`ClientSession`.
            on_problem: As for :class:`ClientSession`.

        Raises:
            JoinRefused: The realm has no such role.
        """
        name = role or self.plan["roles"][0]["name"]
        if not self.realm.has_role(name):
            raise JoinRefused("wamp.error.no_such_role", f'the realm has no role "{name}"')
        identity = Identity(authid or name, name, "anonymous", "static")
        wire = _Wire(self)
        session = Session(
            self.realm.new_session_id(),
            identity,
            _Outlet(wire),
            ROLES,
            {"type": "memory", "peer": "memory"},
        )
        wire.session = session
        self._links[session.id] = wire
        welcome = self.realm.welcome(session)
        client = ClientSession(wire, session.id, self.realm.name, welcome, run_sync=run_sync, on_problem=on_problem)  # fmt: skip
        self.realm.join(session, self.now_s())
        return client

    def cut(self, client: ClientSession) -> None:
        """Lose the connection of a session, as if somebody had pulled the plug."""
        self._links[client.id].abort("the connection was cut")

    def reconfigure(self, roles: Sequence[RolePlan]) -> None:
        """Give the realm other roles, while it runs."""
        self.plan = {**self.plan, "roles": list(roles)}
        self.realm.reconfigure(self.plan, self.now_s())
        self.look_at_clock()

    def now_s(self) -> float:
        """The realm's clock: the loop's."""
        return asyncio.get_running_loop().time()

    def look_at_clock(self) -> None:
        """Set the timer for what the realm wants to do next."""
        due_s = self.realm.due_s()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if due_s is not None:
            self._timer = asyncio.get_running_loop().call_at(due_s, self._tick)

    def forget(self, session: Session) -> None:
        """A session has gone."""
        self._links.pop(session.id, None)
        self.realm.leave(session, self.now_s())

    def _tick(self) -> None:
        # The loop may be early by its clock's resolution; the realm would do nothing then, and be asked again.
        due_s = self.realm.due_s()
        self.realm.tick(max(self.now_s(), due_s or 0.0))
        self.look_at_clock()


class _Wire:
    """The connection between a client and the realm, as the client sees it (a link)."""

    limit = _NO_LIMIT
    session: Session

    def __init__(self, router: InMemoryRouter) -> None:
        self.codec = router.codec
        self.receive: Callable[[bytes], None] = _nobody
        self.lost: Callable[[str], None] = _nobody
        self._router = router
        self._loop = asyncio.get_running_loop()
        self._is_gone = False

    # -- the client's side -----------------------------------------------------------------------

    def send(self, message: bytes) -> None:
        self._loop.call_soon(self._arrive, message)

    def close(self) -> None:
        self._loop.call_soon(self._end, "the connection is closed")

    def abort(self, reason: str) -> None:
        self._end(reason)

    async def drain(self) -> None:
        """There is nothing between us."""

    def _arrive(self, data: bytes) -> None:
        if self._is_gone:
            return
        router = self._router
        try:
            router.realm.receive(self.session, self.codec.decode(data), router.now_s())
        except (ProtocolViolation, ProtocolError) as error:
            self.say([ABORT, {"message": str(error)}, "wamp.error.protocol_violation"], None)
            self.close()
        router.look_at_clock()

    def _end(self, reason: str) -> None:
        if not self._is_gone:
            self._is_gone = True
            self._router.forget(self.session)
            self.lost(reason)

    # -- the realm's side ------------------------------------------------------------------------

    def say(self, head: list[Any], payload: Payload | None) -> None:
        """Give the client a message, one turn later."""
        if self._is_gone:
            return
        try:
            data = self.codec.encode(head, payload)
        except EncodeError as error:
            # Only the realm itself can have said it: what a client sends has been through the codec.
            raise AssertionError(f"the realm said {head!r}: {error}") from error
        self._loop.call_soon(self._hand_over, data)

    def _hand_over(self, data: bytes) -> None:
        if not self._is_gone:
            self.receive(data)


class _Outlet:
    """The way from the realm to one client."""

    def __init__(self, wire: _Wire) -> None:
        self._wire = wire

    def send(self, head: list[Any], payload: Payload | None = None) -> None:
        self._wire.say(head, payload)

    def send_shared(self, message: Shared) -> None:
        self._wire.say(message.head, message.payload)

    def close(self, reason: str, says: str) -> None:
        self._wire.say([GOODBYE, {"message": says} if says else {}, reason], None)
        self._wire.close()


def _nobody(_: Any) -> None:
    """Before there is a client."""
