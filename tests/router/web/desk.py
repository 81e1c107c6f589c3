"""A port with a site, on a loop in a thread of its own, and clients that speak to it in raw bytes."""

from __future__ import annotations

import asyncio
import http.client
import os
import socket
import threading
from typing import TYPE_CHECKING, Any, Self, TypeVar

from holdfast.router.stream import Poller, Stream
from holdfast.router.web.connection import HttpConnection, serve_http
from holdfast.router.web.site import Site, WampFailure
from holdfast.sdk.logline import Log

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable

    from holdfast.router.web.request import Request

SLOWNESS = float(os.environ.get("HOLDFAST_SLOWNESS", "1"))
DEADLINE_S = 20 * SLOWNESS
Result = TypeVar("Result")


class Notes(Log):
    """A log that keeps its lines."""

    def __init__(self) -> None:
        super().__init__("web")
        self.lines: list[tuple[str, str, dict[str, object]]] = []

    def _line(
        self, _to: int, level: str, event: str, fields: dict[str, object], below: str = ""
    ) -> None:
        self.lines.append((level, event, {**fields, "below": below} if below else fields))


class Answer:
    """What came back."""

    def __init__(self, status: int, headers: Iterable[tuple[str, str]], body: bytes) -> None:
        self.status = status
        self.pairs = list(headers)
        self.headers = {name.lower(): value for name, value in self.pairs}
        self.body = body

    @property
    def text(self) -> str:
        return self.body.decode()


class Desk:
    """A served site. `native`: on asyncio's transport instead of the router's own."""

    def __init__(
        self, paths: dict[str, Any] | None = None, *, native: bool = False, **more: Any
    ) -> None:
        self.log = Notes()
        self.now_s = 1000.0
        self.connections: list[HttpConnection] = []
        self.transports: list[asyncio.Transport] = []
        self._loop = asyncio.new_event_loop()
        self._loop.set_exception_handler(self._complain)
        self.complaints: list[dict[str, Any]] = []
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        self._native = native
        self.site: Site = self.on_loop(self._make(paths or {}, more))
        self.on_loop(self._listen())

    async def _make(self, paths: dict[str, Any], more: dict[str, Any]) -> Site:
        plans: Any = {
            path: plan if "kind" in plan and "options" in plan
            else {"kind": plan["kind"], "options": {k: v for k, v in plan.items() if k != "kind"}, "websocket": None}
            for path, plan in paths.items()
        }  # fmt: skip
        return Site(plans, log=self.log, clock=lambda: self.now_s, **more)

    async def _listen(self) -> None:
        self._poller = Poller(self._loop, self._failed)
        self._tasks = {self._loop.create_task(self._accept())}

    async def _accept(self) -> None:
        self._socket.setblocking(False)
        while True:
            sock, _ = await self._loop.sock_accept(self._socket)
            sock.setblocking(False)
            if self._native:
                await self._loop.connect_accepted_socket(lambda: _Entrance(self), sock)
            else:
                Stream(self._poller, sock, _Entrance(self))

    def _failed(self, stream: Any, error: Exception) -> None:
        self.complaints.append({"exception": error})
        stream.abort()

    def _complain(self, _loop: Any, context: dict[str, Any]) -> None:
        self.complaints.append(context)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        async def end() -> None:
            mine = asyncio.current_task()
            others = [task for task in asyncio.all_tasks() if task is not mine]
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)
            for transport in self.transports:
                transport.abort()
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            self._poller.close()

        self.on_loop(end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self._socket.close()
        if exc[0] is None:
            assert self.complaints == []

    def on_loop(self, work: Coroutine[Any, Any, Result]) -> Result:
        """Run something where the site runs."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(DEADLINE_S)

    def later(self, seconds: float) -> None:
        """Move the clock and let the port look after its connections."""

        async def sweep() -> None:
            self.now_s += seconds
            for connection in self.connections:
                connection.sweep(self.now_s)

        self.on_loop(sweep())

    def until(self, holds: Callable[[], bool]) -> None:
        """Wait for a condition of the site."""

        async def wait() -> None:
            async with asyncio.timeout(DEADLINE_S):
                while not holds():  # noqa: ASYNC110 -- a look at what no event tells
                    await asyncio.sleep(0.005)

        self.on_loop(wait())

    def ask(
        self,
        method: str,
        target: str,
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
    ) -> Answer:
        """A request of its own connection."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=DEADLINE_S)
        try:
            connection.request(method, target, body, headers or {})
            got = connection.getresponse()
            return Answer(got.status, got.getheaders(), got.read())
        finally:
            connection.close()

    def get(self, target: str, **headers: str) -> Answer:
        """A GET; `if_none_match="…"` becomes If-None-Match."""
        return self.ask("GET", target, headers={k.replace("_", "-"): v for k, v in headers.items()})

    def dial(self) -> socket.socket:
        """A raw connection."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=DEADLINE_S)

    def raw(self, *pieces: bytes) -> bytes:
        """Send pieces, and everything that comes until the server closes."""
        with self.dial() as sock:
            for piece in pieces:
                sock.sendall(piece)
            return everything(sock)


def everything(sock: socket.socket) -> bytes:
    """What comes until the end."""
    parts = []
    while data := sock.recv(65536):
        parts.append(data)
    return b"".join(parts)


class _Entrance(asyncio.Protocol):
    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._desk.transports.append(transport)

    def data_received(self, data: bytes) -> None:
        protocol = serve_http(self._transport, data, self._desk.site)
        if isinstance(protocol, HttpConnection):
            self._desk.connections.append(protocol)


class Realm:
    """A bridge that remembers, and answers what it is told to."""

    def __init__(self) -> None:
        self.published: list[tuple[Any, ...]] = []
        self.called: list[tuple[Any, ...]] = []
        self.result: Any = (["ok"], {})
        self.failure: WampFailure | None = None
        self.cancelled = threading.Event()
        self.asked = threading.Event()

    async def publish(
        self,
        realm: str,
        role: str,
        topic: str,
        args: list[Any],
        kwargs: dict[str, Any],
        options: dict[str, Any],
    ) -> int:
        if self.failure:
            raise self.failure
        self.published.append((realm, role, topic, args, kwargs, options))
        return 4711

    async def call(
        self,
        realm: str,
        role: str,
        procedure: str,
        args: list[Any],
        kwargs: dict[str, Any],
        options: dict[str, Any],
    ) -> tuple[list[Any], dict[str, Any]]:
        if self.failure:
            raise self.failure
        self.called.append((realm, role, procedure, args, kwargs, options))
        self.asked.set()
        if self.result is None:
            try:
                await asyncio.get_running_loop().create_future()
            except asyncio.CancelledError:
                self.cancelled.set()
                raise
        result: tuple[list[Any], dict[str, Any]] = self.result
        return result


class Behaves:
    """A service made of a coroutine function."""

    def __init__(self, function: Callable[[Request], Coroutine[Any, Any, None]]) -> None:
        self._function = function

    async def serve(self, request: Request) -> None:
        await self._function(request)
