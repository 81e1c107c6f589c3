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
from collections import deque
from typing import TYPE_CHECKING, Any

from holdfast.bus.api import Bus
from holdfast.bus.asking import log_problem
from holdfast.bus.dialling import PING_S, SERIALIZERS, open_session
from holdfast.bus.errors import (
    BusError,
    CallTimeout,
    CannotConnect,
    ConnectionLost,
    JoinRefused,
    ProcedureExists,
    QueueFull,
    WampError,
)
from holdfast.bus.link import MESSAGE_BYTES
from holdfast.bus.running import remaining_s
from holdfast.bus.urls import parse
from holdfast.core.backoff import Backoff

if TYPE_CHECKING:
    import ssl as ssl_
    from collections.abc import Awaitable, Callable, Coroutine, Sequence
    from typing import Self

    from holdfast.bus.asking import OnProblem, RunSync
    from holdfast.bus.caller import ProgressiveCall
    from holdfast.bus.declared import Registration, Subscription
    from holdfast.bus.session import ClientSession

#: No batches: this client writes all messages of a turn together as it is.
_SPOKEN = frozenset(("json", "msgpack", "cbor"))
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


class Connection(Bus):
    """A session that outlives its connections; made by :func:`connect`."""

    def __init__(
        self,
        urls: list[str],
        realm: str,
        *,
        patient: bool,
        open_s: float | None,
        attempt_s: float,
        queued_publishes: int,
        backoff: Backoff | None,
        chance: Callable[[], float],
        on_problem: OnProblem | None,
        **how: Any,
    ) -> None:
        if not urls:
            says = "connect() needs the URL of a router, like 'ws://127.0.0.1:8080/ws'"
            raise ValueError(says)
        if how.get("auth"):
            from holdfast.bus.signing import make_signer

            make_signer(how["auth"])  # what is wrong with the configuration is said now
        for name in how["serializers"]:
            if name not in _SPOKEN:
                says = f'serializers: there is no "{name}" here; there are {", ".join(sorted(_SPOKEN))}'
                raise ValueError(says)
        self.realm = realm
        self.urls = [parse(url) for url in urls]
        #: The open session; None while there is none.
        self.session: ClientSession | None = None
        #: What was wrong with the last attempt, or why the last session ended; "" at first.
        self.trouble = ""
        self._how = how
        self._patient = patient
        self._open_s = open_s
        self._attempt_s = attempt_s
        self._backoff = backoff or Backoff()
        self._chance = chance
        self._problem = on_problem or log_problem
        self._entries: list[Registration | Subscription] = []
        self._publishes: deque[tuple[str, Any, Any, dict[str, Any] | None]] = deque()
        self._queued_publishes = queued_publishes
        self._waiters: set[asyncio.Future[ClientSession]] = set()
        self._keeper: asyncio.Task[None] | None = None
        self._mending: asyncio.Task[None] | None = None
        self._ended: asyncio.Future[str] | None = None
        self._is_closed = False
        self._next_url = 0
        self._on_join: list[Callable[[ClientSession], None]] = []
        self._on_lost: list[Callable[[str], None]] = []

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

    def call_with(
        self,
        procedure: str,
        args: tuple[Any, ...] | list[Any] = (),
        kwargs: dict[str, Any] | None = None,
        timeout_s: float | None = None,
        on_progress: Callable[..., Any] | None = None,
        disclose_me: bool | None = None,
        options: dict[str, Any] | None = None,
        idempotent: bool = False,
    ) -> Coroutine[Any, Any, Any]:
        """As :meth:`call`, with the arguments as a list and a dictionary."""
        session = self.session
        if session is not None and not idempotent:
            return session.call_with(procedure, args, kwargs, timeout_s, on_progress, disclose_me, options)  # fmt: skip
        return self._call_whenever(procedure, args, kwargs, timeout_s, on_progress, disclose_me, options, idempotent)  # fmt: skip

    async def _call_whenever(
        self,
        procedure: str,
        args: tuple[Any, ...] | list[Any],
        kwargs: dict[str, Any] | None,
        timeout_s: float | None,
        on_progress: Callable[..., Any] | None,
        disclose_me: bool | None,
        options: dict[str, Any] | None,
        idempotent: bool,
    ) -> Any:
        loop = asyncio.get_running_loop()
        left_s = remaining_s()
        if left_s is not None:
            timeout_s = left_s if timeout_s is None else min(timeout_s, left_s)
        until = None if timeout_s is None else loop.time() + timeout_s
        while True:
            session = await self._session_until(until, f"calling {procedure}")
            left_s = None if until is None else until - loop.time()
            if idempotent and "x_router" in session.details:
                # Holdfast's routers repeat it, too, when another router is gone with the callee.
                options = {"idempotent": True, **(options or {})}
            try:
                return await session.call_with(procedure, args, kwargs, left_s, on_progress, disclose_me, options)  # fmt: skip
            except ConnectionLost:
                if not idempotent or self._is_closed:
                    raise

    def _progressive_call(
        self,
        procedure: str,
        timeout_s: float | None,
        on_progress: Callable[..., Any] | None,
        disclose_me: bool | None,
        options: dict[str, Any] | None,
    ) -> ProgressiveCall:
        if self.session is None:
            lost = ConnectionLost(self.trouble or "not connected yet")
            lost.doing = f"calling {procedure}"
            raise lost
        return self.session.progressive_call(
            procedure, timeout_s=timeout_s, on_progress=on_progress, disclose_me=disclose_me, options=options
        )  # fmt: skip

    def publish_with(
        self,
        topic: str,
        args: tuple[Any, ...] | list[Any] = (),
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

    # -- keeping it open -------------------------------------------------------------------------

    async def _keep(self) -> None:
        loop = asyncio.get_running_loop()
        has_joined = False
        while True:
            session = await self._join_one(is_first=not has_joined)
            has_joined = True
            began_s = loop.time()
            if session.ended is None:
                ended = self._ended = loop.create_future()
                self._adopt(session)
                self.trouble = await ended
            else:
                self.trouble = session.ended
            # Another router, if there is one: a killed one's socket may be open, with nobody there to answer yet.
            self._next_url += 1
            self._backoff.lived(loop.time() - began_s)

    async def _join_one(self, *, is_first: bool) -> ClientSession:
        """Try the URLs in turn, beginning with the next one, until a router lets us in."""
        while True:
            await asyncio.sleep(self._backoff.next_s(self._chance()))
            refused: JoinRefused | None = None
            for _ in self.urls:
                url = self.urls[self._next_url % len(self.urls)]
                try:
                    async with asyncio.timeout(self._attempt_s):
                        return await open_session(url, self.realm, on_problem=self._problem, **self._how)  # fmt: skip
                except TimeoutError:
                    self.trouble = f"{url.text}: no answer in {self._attempt_s:g} s"
                except CannotConnect as error:
                    self.trouble = f"{url.text}: {error}"
                except JoinRefused as error:
                    self.trouble = f"{url.text}: {error}"
                    refused = error
                self._next_url += 1
            if refused is not None and is_first and not self._patient:
                raise refused

    def _adopt(self, session: ClientSession) -> None:
        """Make a session the present one. All of this is one turn of the loop, and one write."""
        self.session = session
        self.trouble = ""
        session.on_leave(self._lost)
        sent = [(entry, session.declare(entry)) for entry in self._entries]
        if sent:
            self._mending = asyncio.get_running_loop().create_task(self._mend(session, sent))
        publishes, self._publishes = self._publishes, deque()
        for topic, args, kwargs, options in publishes:
            try:
                session.publish_with(topic, args, kwargs, options)
            except WampError as error:
                self._problem(f"publishing {topic}", error)
        waiters, self._waiters = self._waiters, set()
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(session)
        for function in self._on_join:
            function(session)

    def _lost(self, reason: str) -> None:
        self.session = None
        self.trouble = reason
        if self._ended is not None and not self._ended.done():
            self._ended.set_result(reason)
        for function in self._on_lost:
            function(reason)

    async def _mend(
        self,
        session: ClientSession,
        sent: list[tuple[Registration | Subscription, asyncio.Future[int]]],
    ) -> None:
        """See that all is registered and subscribed again.

        A router that has not noticed the end of our last session yet says "procedure already exists": that passes, so
        it is tried again. Whatever else is wrong is reported once, and tried again as well.
        """
        pauses = Backoff()
        reported: set[Registration | Subscription] = set()
        while sent:
            answers = await asyncio.gather(*(future for _, future in sent), return_exceptions=True)
            failed: list[Registration | Subscription] = []
            for (entry, _), answer in zip(sent, answers, strict=True):
                if isinstance(answer, ConnectionLost):
                    return
                if isinstance(answer, BaseException):
                    failed.append(entry)
                    if entry not in reported and not isinstance(answer, ProcedureExists):
                        reported.add(entry)
                        self._problem(f"declaring {entry.uri} again", answer)
            if not failed:
                return
            await asyncio.sleep(pauses.next_s(self._chance()))
            if session.ended is not None:
                return
            sent = [(e, session.declare(e)) for e in failed if e in self._entries]

    async def _declare(self, made: Registration | Subscription) -> None:
        while True:
            session = await self._session_until(None, f"declaring {made.uri}")
            try:
                await session.declare_named(made)
            except ConnectionLost:
                if self._is_closed:
                    raise
            else:
                if session is self.session:
                    self._entries.append(made)
                    return

    async def _session_until(self, until: float | None, doing: str) -> ClientSession:
        """Wait for a session, at most until the loop's time is `until`."""
        if self.session is not None:
            return self.session
        if self._keeper is None:
            says = "this connection was not opened: use `async with connect(…) as bus:` or `await connection.open()`"
            raise RuntimeError(says)
        if self._is_closed:
            lost = ConnectionLost("the connection was closed here")
            lost.doing = doing
            raise lost
        waiter: asyncio.Future[ClientSession] = asyncio.get_running_loop().create_future()
        self._waiters.add(waiter)
        try:
            async with asyncio.timeout_at(until):
                return await waiter
        except TimeoutError:
            late = CallTimeout(
                f"there was no connection in that time ({self.trouble or 'not yet'})"
            )
            late.doing = doing
            raise late from None
        finally:
            self._waiters.discard(waiter)

    def _kept(self, task: asyncio.Task[None]) -> None:
        if task.cancelled():
            return
        error = task.exception()
        if error is not None:
            self._is_closed = True
            for waiter in self._waiters:
                if not waiter.done():
                    waiter.set_exception(error)
            if not isinstance(error, BusError):
                self._problem("keeping the connection", error)

    def _fail_waiters(self, reason: str) -> None:
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_exception(ConnectionLost(reason))
