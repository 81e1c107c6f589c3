"""How does one connection serve HTTP/1.1 requests, one after the other, and how long does it wait for what?

The port accepts and owns the clock: it calls `sweep(now_s)` of every connection now and then, so that idle ones cost neither
a timer nor a task. A request is answered by a task of its own, in order; an upgrade to WebSocket hands the transport over.
"""

import asyncio
from typing import TYPE_CHECKING, Final

from holdfast.router.web.head import Refused, RequestHead, end_of_head, parse_head
from holdfast.router.web.wording import TEXT, ClientGone, error_text, http_date, reason

if TYPE_CHECKING:
    from holdfast.router.web.request import Request
    from holdfast.router.web.site import Site

#: Nothing of a request is there; its head comes; it is being answered; the last answer is on its way; over.
IDLE, HEAD, BUSY, LINGER, GONE = range(5)

_PIPELINED_BYTES = 65536
#: An answer that refuses an unread body has to arrive before the reset that the unread rest of it causes.
_LINGER_S = 3.0
_LINGER_BYTES = 64 << 20
_CR_LF: Final = b"\r\n"


def serve_http(transport: asyncio.Transport, first: bytes, site: "Site") -> asyncio.Protocol:
    """Serve a connection whose first octets, already read, are HTTP.

    Returns the protocol that the transport has from here on: an `HttpConnection`, or what `site.on_websocket` made
    of it when `first` was a whole upgrade.
    """
    connection = HttpConnection(transport, site)
    transport.set_protocol(connection)
    if first:
        connection.data_received(first)
    return connection.successor or connection


class HttpConnection(asyncio.Protocol):
    """The server's side of one connection."""

    __slots__ = ("_buffer", "_drained", "_ended", "_gone", "_request", "_seen", "_stalled_s", "_task", "is_paused", "since_s",
                 "site", "state", "successor", "transport")  # fmt: skip

    def __init__(self, transport: asyncio.Transport, site: "Site") -> None:
        self.transport = transport
        self.site = site
        #: A new connection owes us a request; one that has had an answer may idle.
        self.state = HEAD
        self.since_s = site.clock()
        #: Who has the transport after an upgrade.
        self.successor: asyncio.Protocol | None = None
        self.is_paused = False
        self._buffer = b""
        self._seen = 0
        self._ended = False
        self._request: "Request | None" = None
        self._task: asyncio.Task[None] | None = None
        self._drained: asyncio.Future[None] | None = None
        self._gone: asyncio.Future[None] | None = None
        self._stalled_s = 0.0

    # asyncio's side

    def data_received(self, data: bytes) -> None:
        """Take what came."""
        if self.state == BUSY:
            assert self._request is not None  # noqa: S101 -- BUSY means that there is one
            if self._request.complete:
                self._buffer += data
                if len(self._buffer) > _PIPELINED_BYTES:
                    self._pause()
            else:
                self.since_s = self.site.clock()
                self._request.feed(data)
                if self._request.is_full:
                    self._pause()
        elif self.state <= HEAD:
            self._buffer = self._buffer + data if self._buffer else data
            self._read()
        elif self.state == LINGER:
            self._seen += len(data)
            if self._seen > _LINGER_BYTES:
                self.transport.abort()

    def eof_received(self) -> bool:
        """The client sends no more. It may still read the answer it waits for."""
        if self.state == BUSY and self._request is not None:
            self._ended = True
            if not self._request.complete:
                self._request.feed(b"")
            # TLS knows no half-closed connections.
            return self.transport.can_write_eof()
        return False

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        """Whoever reads or writes learns that nobody is there."""
        self.state = GONE
        if self._request is not None:
            self._request.fail(ClientGone())
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)
        if self._gone is not None and not self._gone.done():
            self._gone.set_result(None)
        if self._task is not None:
            self._task.cancel()

    def pause_writing(self) -> None:
        """The client reads more slowly than we write."""
        self._stalled_s = self.site.clock()
        if self._drained is None:
            self._drained = asyncio.get_running_loop().create_future()

    def resume_writing(self) -> None:
        """It has caught up."""
        self._stalled_s = 0.0
        if self._drained is not None:
            if not self._drained.done():
                self._drained.set_result(None)
            self._drained = None

    # The port's side

    @property
    def is_idle(self) -> bool:
        """Whether it is a kept connection between two requests; since `since_s`."""
        return self.state == IDLE

    @property
    def is_gone(self) -> bool:
        """Whether the client has left, or was sent away."""
        return self.state >= LINGER or self.transport.is_closing()

    @property
    def is_over(self) -> bool:
        """Whether it needs no looking after: it is closed, or has become something else."""
        return self.state == GONE or self.transport.is_closing()

    def turn_away(self, says: str) -> None:
        """Refuse what it has asked for, before anything was done for it: there are too many connections."""
        if self._task is not None:
            # It was made in this turn of the loop, and has not begun.
            self._task.cancel()
            self._task = None
        self._refuse(Refused(503, says, (("Retry-After", "1"),)))

    def sweep(self, now_s: float) -> None:
        """End what has waited too long for the client. `now_s` is of the clock of the site."""
        waited_s, site = now_s - self.since_s, self.site
        if self.state == IDLE:
            if waited_s > site.idle_s:
                self.transport.close()
        elif self.state == HEAD:
            if waited_s > site.head_s and not self._buffer:
                self.transport.close()
            elif waited_s > site.head_s:
                self._refuse(
                    Refused(408, f"No whole request came within {site.head_s:g} s; send it again.")
                )
        elif self.state == LINGER:
            if waited_s > _LINGER_S:
                self.transport.abort()
        elif self.state == BUSY and self._request is not None:
            if self._stalled_s and now_s - self._stalled_s > site.write_s:
                self.transport.abort()
            elif self._request.is_waiting and (
                waited_s > site.body_s or self._request.is_slow(now_s, site.body_s)
            ):
                self._request.fail(Refused(408, "The body of the request comes too slowly."))

    # The request's side

    async def drain(self) -> None:
        """Wait until the client has read most of what was written.

        Raises:
            ClientGone: It has left instead.
        """
        if self._drained is not None:
            await asyncio.shield(self._drained)
        if self.transport.is_closing():
            raise ClientGone

    async def wait_gone(self) -> None:
        """Return when the client has left."""
        if self.state == GONE:
            return
        if self._gone is None:
            self._gone = asyncio.get_running_loop().create_future()
        await asyncio.shield(self._gone)

    def resume_body(self) -> None:
        """Read on: there is room."""
        if self.is_paused and not self.transport.is_closing():
            self.is_paused = False
            self.since_s = self.site.clock()
            self.transport.resume_reading()

    # Ours

    def _pause(self) -> None:
        if not self.is_paused and not self.transport.is_closing():
            self.is_paused = True
            self.transport.pause_reading()

    def _read(self) -> None:
        """Begin with the request at the beginning of the buffer, if it is whole."""
        buffer = self._buffer
        if buffer.startswith(_CR_LF):
            # RFC 9112 2.2: an empty line before a request is ignored.
            buffer = self._buffer = buffer[2:]
            self._seen = 0
        if not buffer:
            return
        if self.state == IDLE:
            self.state, self.since_s, self._seen = HEAD, self.site.clock(), 0
        try:
            end = end_of_head(buffer, self._seen)
            if end < 0:
                self._seen = len(buffer)
                return
            raw = buffer[:end]
            head = parse_head(raw)
            self._buffer, rest, self._seen = b"", buffer[end:], 0
            if head.is_upgrade and self._upgrade(head, rest):
                return
            self._begin(head, raw, rest)
        except Refused as refused:
            self._refuse(refused)

    def _upgrade(self, head: RequestHead, rest: bytes) -> bool:
        plan = self.site.websocket_for(head)
        if plan is None:
            return False
        assert self.site.on_websocket is not None  # noqa: S101 -- or there were no plan
        protocol = self.site.on_websocket(self.transport, head, plan, rest)
        self.state = GONE
        self.successor = protocol
        self.transport.set_protocol(protocol)
        return True

    def _begin(self, head: RequestHead, raw: bytes, rest: bytes) -> None:
        from holdfast.router.web.request import Request

        self.state, self.since_s = BUSY, self.site.clock()
        request = self._request = Request(self, head, raw, self.since_s)
        if rest:
            if request.complete:
                self._buffer = rest
            else:
                request.feed(rest)
                if request.is_full:
                    self._pause()
        self._task = asyncio.get_running_loop().create_task(self._answer(request))

    async def _answer(self, request: "Request") -> None:
        try:
            await self._served(request)
            if request.ended:
                await self.drain()
        except ClientGone:
            self.transport.abort()
            return
        self._task = None
        self._next(request)

    async def _served(self, request: "Request") -> None:
        head, site = request.head, self.site
        try:
            service = site.find(request)
            await service.serve(request)
            if not request.ended:
                raise RuntimeError("the service has not answered to the end")
        except Refused as refused:
            if refused.status >= 500:
                site.log.error(
                    "request failed", status=refused.status, method=head.method, path=head.path,
                    says=refused.says,
                )  # fmt: skip
            if request.status:
                self.transport.abort()
            else:
                request.say(refused.status, refused.says, refused.headers)
        except ClientGone:
            raise
        except Exception:
            site.log.exception(
                "request failed", status=500, method=head.method, path=head.path,
                service=site.kind_at(head.path),
            )  # fmt: skip
            if request.status:
                # Half an answer is out: only a cut tells the client that it is not whole.
                self.transport.abort()
            else:
                request.say(500, "This failed; what happened is in the log of the router.")

    def _next(self, request: "Request") -> None:
        """The answer is out: wait for the next request, or begin with it, or close."""
        if self.state != BUSY or self.transport.is_closing():
            return
        if not request.keeps_alive or self._ended:
            self._request = None
            self._linger()
            return
        self._buffer = request.leftover + self._buffer
        self._request = None
        self.state, self.since_s, self._seen = IDLE, self.site.clock(), 0
        self.resume_body()
        if self._buffer:
            self._read()

    def _refuse(self, refused: Refused) -> None:
        """Answer what is no request."""
        body = error_text(refused.status, refused.says)
        lines = [f"HTTP/1.1 {refused.status} {reason(refused.status)}"]
        told = [
            ("Date", http_date(self.site.unix_clock())), *TEXT, *refused.headers,
            ("Content-Length", str(len(body))), ("Connection", "close"),
        ]  # fmt: skip
        lines += [f"{name}: {value}" for name, value in told]
        self._request = None
        self.transport.write("\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body)
        self._linger()

    def _linger(self) -> None:
        self.state, self.since_s, self._seen, self._buffer = LINGER, self.site.clock(), 0, b""
        if self.transport.is_closing():
            return
        if self.transport.can_write_eof() and not self._ended:
            self.transport.write_eof()
            if self.is_paused:
                self.is_paused = False
                self.transport.resume_reading()
        else:
            self.transport.close()
