"""How does an ASGI application answer here?

The http scope of ASGI 3 (spec version 2.3); lifespan is off and WebSockets are the router's. It runs on an event loop of its own, in a
thread: one that blocks holds up nobody but itself. With `on_loop` it runs where components run, and may use
their sessions; then it must not block, as they must not.
"""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from holdfast.router.web.gateway import HOP_BY_HOP
from holdfast.router.web.head import Refused
from holdfast.router.web.wording import ClientGone

if TYPE_CHECKING:
    from holdfast.router.web.request import Request
    from holdfast.router.web.site import Site

Event = dict[str, Any]
Application = Callable[
    [Event, Callable[[], Awaitable[Event]], Callable[[Event], Awaitable[None]]], Awaitable[None]
]

_side: asyncio.AbstractEventLoop | None = None


def side_loop() -> asyncio.AbstractEventLoop:
    """The loop, in a thread of its own, on which applications run."""
    global _side
    if _side is None:
        _side = asyncio.new_event_loop()
        threading.Thread(target=_side.run_forever, name="web-asgi", daemon=True).start()
    return _side


class Asgi:
    """An ASGI application."""

    def __init__(self, app: Application, site: "Site", *, on_loop: bool) -> None:
        self._app = app
        self._site = site
        self._side = None if on_loop else side_loop()
        self._running: set[asyncio.Future[None]] = set()

    async def serve(self, request: "Request") -> None:
        """Answer it."""
        ours = asyncio.get_running_loop()
        talk = _Talk(request, None if self._side is None else ours)
        made = self._app(_scope(request), talk.receive, talk.send)
        running: asyncio.Future[None]
        if self._side is None:
            running = asyncio.ensure_future(made)
        else:
            running = asyncio.wrap_future(
                asyncio.run_coroutine_threadsafe(_awaited(made), self._side)
            )
        self._running.add(running)
        running.add_done_callback(self._running.discard)
        try:
            # A client that leaves is told to the application as http.disconnect; it is not cancelled in the middle.
            await asyncio.shield(running)
        except asyncio.CancelledError:
            running.add_done_callback(self._after_client)
            raise
        if not request.ended and not request.is_gone:
            raise RuntimeError("the application returned without a whole answer")

    def _after_client(self, running: "asyncio.Future[None]") -> None:
        error = None if running.cancelled() else running.exception()
        if error is not None:
            self._site.log.error(
                "application failed after its client had left",
                error=f"{type(error).__name__}: {error}",
            )


class _Talk:
    """receive and send of one request."""

    def __init__(self, request: "Request", ours: asyncio.AbstractEventLoop | None) -> None:
        self._request = request
        self._ours = ours
        self._start: Event | None = None

    async def receive(self) -> Event:
        """What the application waits for."""
        if self._ours is None:
            return await self._receive()
        return await asyncio.wrap_future(
            asyncio.run_coroutine_threadsafe(self._receive(), self._ours)
        )

    async def send(self, event: Event) -> None:
        """What the application says."""
        if self._ours is None:
            await self._send(event)
        else:
            work = asyncio.run_coroutine_threadsafe(self._send(event), self._ours)
            await asyncio.wrap_future(work)

    _is_read = False

    async def _receive(self) -> Event:
        request = self._request
        if self._is_read:
            await request.disconnected()
            return {"type": "http.disconnect"}
        try:
            data = await request.chunk()
        except (ClientGone, Refused):
            return {"type": "http.disconnect"}
        self._is_read = request.at_end
        return {"type": "http.request", "body": data, "more_body": not self._is_read}

    async def _send(self, event: Event) -> None:
        request = self._request
        if request.is_gone:
            return
        kind = event["type"]
        if kind == "http.response.start" and self._start is None:
            self._start = event
        elif kind == "http.response.body" and self._start is not None and not request.ended:
            try:
                await self._body(event.get("body", b""), bool(event.get("more_body", False)))
            except ClientGone:
                return
        else:
            raise RuntimeError(f"unexpected ASGI message {kind!r}")

    async def _body(self, data: bytes, more: bool) -> None:
        request, start = self._request, self._start
        assert start is not None  # noqa: S101 -- _send has seen to it
        if not request.status:
            headers = [
                (bytes(k).decode("latin-1"), bytes(v).decode("latin-1"))
                for k, v in start.get("headers", ())
            ]
            headers = [(k, v) for k, v in headers if k.lower() not in HOP_BY_HOP]
            has_length = any(k.lower() == "content-length" for k, _ in headers)
            if not more and not has_length:
                request.respond(start["status"], headers, bytes(data))
                return
            request.start(start["status"], headers)
            if not data:
                request.flush()
        if data:
            await request.write(bytes(data))
        if not more:
            request.end()


def _scope(request: "Request") -> Event:
    head = request.head
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": head.version,
        "method": head.method,
        "scheme": request.scheme,
        # The whole path: root_path is a part of it (ASGI 2.3 as Starlette and Django read it).
        "path": head.path,
        "raw_path": head.target.partition("?")[0].encode("latin-1"),
        "query_string": head.query.encode("latin-1"),
        "root_path": request.mount,
        "headers": [list(pair) for pair in head.headers],
        "client": list(request.peer) if request.peer[0] else None,
        "server": list(request.local) if request.local[0] else None,
        "extensions": {},
    }


async def _awaited(made: Awaitable[None]) -> None:
    await made
