"""How is a session kept, whatever becomes of routers and connections?

The loop behind :mod:`holdfast.bus.connect`: one attempt after the other, the session that comes of it, and on it all that was
declared and published before. Calls and publishes themselves are the other module's.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Any

from holdfast.bus.api import Bus
from holdfast.bus.asking import log_problem
from holdfast.bus.dialling import open_session
from holdfast.bus.errors import (
    BusError,
    CallTimeout,
    CannotConnect,
    ConnectionLost,
    JoinRefused,
    ProcedureExists,
    WampError,
)
from holdfast.bus.urls import parse
from holdfast.core.backoff import Backoff

if TYPE_CHECKING:
    from collections.abc import Callable

    from holdfast.bus.asking import OnProblem
    from holdfast.bus.declared import Registration, Subscription
    from holdfast.bus.session import ClientSession

#: No batches: this client writes all messages of a turn together as it is.
_SPOKEN = frozenset(("json", "msgpack", "cbor"))


class Keeping(Bus):
    """One session at a time, and what is to hold in each."""

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
