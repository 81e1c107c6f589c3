"""A connection to a realm that comes back by itself: other router, restarted router, same registrations.

::

    async with connect("ws://127.0.0.1:8080/ws", "realm1") as bus:
        await bus.register(add, "com.app.add")
        print(await bus.call("com.app.add", 2, 3))

When the connection is lost, the next URL is tried at once, then all in turn with growing pauses (`core/backoff.py`); then the
session joins again, and everything that was registered and subscribed is so again. Meanwhile:

- a call in flight fails with :class:`ConnectionLost` (nobody knows whether it was carried out), or is made again where it
  is declared `idempotent`; a call made while there is no connection waits for one, as long as its `timeout_s` allows;
- a publish waits, too: up to `queued_publishes` of them, then :class:`QueueFull`. What was sent into a connection that turns
  out to be dead is gone; `acknowledge=True` tells.
- procedures that run for a caller are cancelled: their result could not be delivered.
"""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Any

from holdfast.bus.dialling import PING_S, SERIALIZERS
from holdfast.bus.errors import CannotConnect, ConnectionLost, QueueFull
from holdfast.bus.keeping import Keeping
from holdfast.bus.link import MESSAGE_BYTES
from holdfast.bus.running import remaining_s

if TYPE_CHECKING:
    import ssl as ssl_
    from collections.abc import Awaitable, Callable, Coroutine, Sequence
    from typing import Self

    from holdfast.bus.api import Arguments
    from holdfast.bus.asking import OnProblem, RunSync
    from holdfast.bus.caller import ProgressiveCall
    from holdfast.bus.declared import Registration, Subscription
    from holdfast.bus.session import ClientSession
    from holdfast.bus.terms import Terms
    from holdfast.core.backoff import Backoff

#: Seconds for one attempt: connection, handshake, sign-in.
ATTEMPT_S = 5.0
#: Seconds until the first connection has to be there.
OPEN_S = 10.0


def chance() -> float:
    """Return a number from 0 to 1: all that we need of `random`, which costs an import."""
    return int.from_bytes(os.urandom(4)) / 2**32


def connect(
    urls: str | Sequence[str],
    realm: str,
    *,
    auth: dict[str, Any] | None = None,
    role: str | None = None,
    authid: str | None = None,
    serializers: Sequence[str] | str = SERIALIZERS,
    patient: bool = False,
    open_s: float | None = OPEN_S,
    attempt_s: float = ATTEMPT_S,
    ping_s: float = PING_S,
    queued_publishes: int = 1000,
    message_bytes: int = MESSAGE_BYTES,
    ssl: ssl_.SSLContext | None = None,
    headers: Sequence[tuple[str, str]] = (),
    run_sync: RunSync | None = None,
    on_problem: OnProblem | None = None,
    backoff: Backoff | None = None,
    chance: Callable[[], float] = chance,
) -> Connection:
    """Return a connection to a realm, to be used with ``async with`` (or `open` and `close`).

    Args:
        urls: One or several (tried in turn): ws://, wss://, rs://, rss://, unix:PATH, ws+unix:PATH.
        realm: The realm to join.
        auth: How to sign in, as in :mod:`holdfast.bus.signing`; None: anonymous.
        role: The authrole to ask for (a node's own socket gives what is asked for).
        authid: The name to ask for, where `auth` does not say it.
        serializers: Offered in this order: of json, msgpack, cbor.
        patient: Never give up, not even when a router refuses the very first session: the way of a component.
        open_s: How long the first connection may take before :class:`CannotConnect` is raised; None: as long as it takes.
        attempt_s: Limit of one attempt, sign-in included.
        ping_s: A router that says nothing for this long is asked, and given up after as long again; 0: never.
        queued_publishes: So many publishes wait while there is no connection.
        message_bytes: Larger messages are not accepted.
        ssl: For wss:// and rss://; None: the system's certificate authorities.
        headers: Added to the HTTP request of a WebSocket.
        run_sync: Runs plain functions, see :class:`ClientSession`.
        on_problem: Is told what went wrong in handlers and with registrations (default: logged).
        backoff: The delays between attempts.
        chance: Numbers from 0 to 1, for the delays.
    """
    return Connection(
        [urls] if isinstance(urls, str) else list(urls),
        realm,
        auth=auth,
        role=role,
        authid=authid,
        serializers=(serializers,) if isinstance(serializers, str) else tuple(serializers),
        patient=patient,
        open_s=open_s,
        attempt_s=attempt_s,
        ping_s=ping_s,
        queued_publishes=queued_publishes,
        message_bytes=message_bytes,
        ssl=ssl,
        headers=tuple(headers),
        run_sync=run_sync,
        on_problem=on_problem,
        backoff=backoff,
        chance=chance,
    )


class Connection(Keeping):
    """A session that outlives its connections; made by :func:`connect`."""

    # -- opening and closing ---------------------------------------------------------------------

    async def open(self) -> Self:
        """Connect and join.

        Raises:
            CannotConnect: No router could be reached in `open_s` seconds (unless `patient`).
            JoinRefused: A router said no (unless `patient`).
        """
        if self._keeper is not None:
            says = "this connection is open already"
            raise RuntimeError(says)
        self._keeper = asyncio.get_running_loop().create_task(self._keep(), name="holdfast bus")
        self._keeper.add_done_callback(self._kept)
        try:
            async with asyncio.timeout(self._open_s):
                await self._session_until(None, "connecting")
        except TimeoutError:
            await self.close()
            urls = ", ".join(url.text for url in self.urls)
            says = f"no router could be reached in {self._open_s:g} s at {urls}: {self.trouble or 'no answer'}"
            raise CannotConnect(says) from None
        except BaseException:
            await self.close()
            raise
        return self

    async def close(self, reason: str = "wamp.close.normal") -> None:
        """Leave the realm and do not come back."""
        self._is_closed = True
        tasks = [task for task in (self._mending, self._keeper) if task is not None]
        for task in tasks:
            task.cancel()
        session = self.session
        if session is not None:
            await session.leave(reason)
        self._fail_waiters("the connection was closed here")
        if tasks:
            await asyncio.wait(tasks)

    #: As a session's.
    leave = close

    async def __aenter__(self) -> Self:
        return await self.open()

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def on_join(self, function: Callable[[ClientSession], None]) -> None:
        """Call `function(session)` after each join; registrations are under way by then."""
        self._on_join.append(function)

    def on_leave(self, function: Callable[[str], None]) -> None:
        """Call `function(reason)` each time the session is lost."""
        self._on_lost.append(function)

    @property
    def is_open(self) -> bool:
        """There is a session just now."""
        return self.session is not None

    @property
    def details(self) -> dict[str, Any]:
        """WELCOME.Details of the present session; empty while there is none."""
        return self.session.details if self.session is not None else {}

    @property
    def id(self) -> int | None:
        """Id of the present session."""
        return self.session.id if self.session is not None else None

    @property
    def authid(self) -> str | None:
        """Who the router takes us for."""
        return self.details.get("authid")

    @property
    def authrole(self) -> str | None:
        """The role that the router gave us."""
        return self.details.get("authrole")

    async def wait_declared(self) -> None:
        """Wait until everything is registered and subscribed at a router."""
        while True:
            session = await self._session_until(None, "waiting")
            if self._mending is not None:
                await asyncio.wait([self._mending])
            if self.session is session:
                return

    # -- using -----------------------------------------------------------------------------------

    def _call_on(
        self, procedure: str, args: Arguments, kwargs: dict[str, Any] | None, terms: Terms
    ) -> Coroutine[Any, Any, Any]:
        session = self.session
        if session is not None and not terms.idempotent:
            return session._call_on(procedure, args, kwargs, terms)  # noqa: SLF001 -- what both are filled in for
        return self._call_whenever(procedure, args, kwargs, terms)

    async def _call_whenever(
        self, procedure: str, args: Arguments, kwargs: dict[str, Any] | None, terms: Terms
    ) -> Any:
        loop = asyncio.get_running_loop()
        timeout_s, left_s = terms.timeout_s, remaining_s()
        if left_s is not None:
            timeout_s = left_s if timeout_s is None else min(timeout_s, left_s)
        until = None if timeout_s is None else loop.time() + timeout_s
        while True:
            session = await self._session_until(until, f"calling {procedure}")
            left_s = None if until is None else until - loop.time()
            # Holdfast's routers repeat it, too, when another router is gone with the callee.
            is_repeated_there = terms.idempotent and "x_router" in session.details
            now = (
                terms.within(left_s, idempotent=True) if is_repeated_there else terms.within(left_s)
            )
            try:
                return await session._call_on(procedure, args, kwargs, now)  # noqa: SLF001 -- as above
            except ConnectionLost:
                if not terms.idempotent or self._is_closed:
                    raise

    def _progressive_call(self, procedure: str, terms: Terms) -> ProgressiveCall:
        if self.session is None:
            lost = ConnectionLost(self.trouble or "not connected yet")
            lost.doing = f"calling {procedure}"
            raise lost
        return self.session._progressive_call(procedure, terms)  # noqa: SLF001 -- as above

    def publish_with(
        self,
        topic: str,
        args: Arguments = (),
        kwargs: dict[str, Any] | None = None,
        options: dict[str, Any] | None = None,
        acknowledge: bool = False,
    ) -> Awaitable[int] | None:
        """As :meth:`publish`, with the arguments as a list and a dictionary."""
        session = self.session
        if session is not None:
            return session.publish_with(topic, args, kwargs, options, acknowledge)
        if acknowledge:
            return self._publish_later(topic, args, kwargs, options)
        if self._is_closed:
            raise ConnectionLost("the connection was closed here")
        if len(self._publishes) >= self._queued_publishes:
            says = f"publishing {topic}: there is no connection ({self.trouble}), and {len(self._publishes)} publishes wait for one already"
            raise QueueFull(says)
        self._publishes.append((topic, args, kwargs, options))
        return None

    async def _publish_later(
        self, topic: str, args: Any, kwargs: Any, options: dict[str, Any] | None
    ) -> int:
        session = await self._session_until(None, f"publishing {topic}")
        sent = session.publish_with(topic, args, kwargs, options, acknowledge=True)
        assert sent is not None  # noqa: S101 -- it is acknowledged
        return await sent

    async def unregister(self, registration: Registration) -> None:
        """Do not offer a procedure any more."""
        if registration in self._entries:
            self._entries.remove(registration)
        if self.session is not None:
            await self.session.unregister(registration)

    async def unsubscribe(self, subscription: Subscription) -> None:
        """Get no more events."""
        if subscription in self._entries:
            self._entries.remove(subscription)
        if self.session is not None:
            await self.session.unsubscribe(subscription)

    async def drain(self) -> None:
        """Wait until what was sent has been taken by the system."""
        if self.session is not None:
            await self.session.drain()
