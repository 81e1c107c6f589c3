"""How does a service read the body of a request and answer it?

One `Request` from head to answer; h11 does the framing of both directions. What is not here: which service is
meant (site.py), and the connection with its deadlines (connection.py).
"""

import asyncio
import time
from collections import deque
from collections.abc import Iterable
from typing import TYPE_CHECKING, Protocol

import h11

from holdfast.router.web.head import HEAD_BYTES, Refused, RequestHead
from holdfast.router.web.wording import TEXT, ClientGone, error_text, http_date, reason

if TYPE_CHECKING:
    from holdfast.router.web.connection import HttpConnection

Headers = Iterable[tuple[str, str]]

#: Octets of a body that wait here for a slow service before the client is no longer read.
_QUEUE_BYTES = 262144
#: A body comes at least at this speed on average, after `Site.body_s` of grace.
_BYTES_PER_S = 500.0


class Service(Protocol):
    """What is served at a path."""

    async def serve(self, request: "Request") -> None:
        """Answer it. May raise `Refused` before the answer was begun."""


class Request:
    """A request that is being answered."""

    __slots__ = ("_began_s", "_chunks", "_connection", "_fault", "_h11", "_pending", "_queued", "_received", "_waiter",
                 "complete", "ended", "head", "mount", "rest", "status")  # fmt: skip

    def __init__(
        self, connection: "HttpConnection", head: RequestHead, raw_head: bytes, now_s: float
    ) -> None:
        self.head = head
        #: The part of the path that chose the service ("" or "/api/call"), and what is left ("" or "/…").
        self.mount, self.rest = "", head.path
        #: Whether the whole body has come.
        self.complete = False
        #: Status of the answer; 0: not begun.
        self.status = 0
        self.ended = False
        self._connection = connection
        self._chunks: deque[bytes] = deque()
        self._queued = self._received = 0
        self._began_s = now_s
        self._fault: Exception | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._pending = b""
        self._h11 = h11.Connection(h11.SERVER, max_incomplete_event_size=HEAD_BYTES)
        try:
            self._h11.receive_data(raw_head)
            self._h11.next_event()
        except h11.RemoteProtocolError as error:
            raise Refused(error.error_status_hint, f"The request is malformed: {error}.") from None
        self.feed(None)

    # What services use

    @property
    def method(self) -> str:
        """GET, POST, …."""
        return self.head.method

    @property
    def peer(self) -> tuple[str, int]:
        """Address and port of the client; ("", 0) on a Unix socket."""
        return _address(self._connection.transport.get_extra_info("peername"))

    @property
    def local(self) -> tuple[str, int]:
        """Address and port of ours; ("", 0) on a Unix socket."""
        return _address(self._connection.transport.get_extra_info("sockname"))

    @property
    def scheme(self) -> str:
        """Https over TLS, else http."""
        is_tls = self._connection.transport.get_extra_info("ssl_object") is not None
        return "https" if is_tls else "http"

    @property
    def host(self) -> str:
        """What the client called us, with the port."""
        address, port = self.local
        return (self.head.get(b"host") or b"").decode("latin-1") or f"{address}:{port}"

    @property
    def length(self) -> int | None:
        """Content-Length; None for a chunked body."""
        value = self.head.get(b"content-length")
        if value is not None:
            return int(value)
        return None if self.head.get(b"transfer-encoding") else 0

    @property
    def is_gone(self) -> bool:
        """Whether the client has left."""
        return self._connection.is_gone

    @property
    def at_end(self) -> bool:
        """Whether the body has been taken to its end."""
        return self.complete and not self._chunks

    def allow(self, *methods: str) -> None:
        """Refuse other methods."""
        if self.method not in methods:
            raise Refused(
                405,
                f"{self.method} is not understood at this address; use {' or '.join(methods)}.",
                (("Allow", ", ".join(methods)),),
            )

    async def body(self, limit: int) -> bytes:
        """The whole body.

        Raises:
            Refused: 413, it has more than `limit` bytes.
        """
        length = self.length
        if length is not None and length > limit:
            raise _too_large(limit)
        parts, size = [], 0
        while data := await self.chunk():
            size += len(data)
            if size > limit:
                raise _too_large(limit)
            parts.append(data)
        return b"".join(parts)

    async def chunk(self) -> bytes:
        """The next part of the body, of any length; empty at its end.

        Raises:
            ClientGone: The connection was lost.
            Refused: 400, 408: the body is malformed, or comes too slowly.
        """
        while not self._chunks:
            if self._fault is not None:
                raise self._fault
            if self.complete:
                return b""
            if self._h11.they_are_waiting_for_100_continue:
                go_on = h11.InformationalResponse(status_code=100, headers=[], reason=b"Continue")
                self._connection.transport.write(self._h11.send(go_on) or b"")
            self._connection.resume_body()
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        data = self._chunks.popleft()
        self._queued -= len(data)
        if self._queued < _QUEUE_BYTES // 2:
            self._connection.resume_body()
        return data

    async def disconnected(self) -> None:
        """Return when the client has left."""
        await self._connection.wait_gone()

    def respond(self, status: int, headers: Headers = (), body: bytes = b"") -> None:
        """Answer at once."""
        has_body = status >= 200 and status not in (204, 304)
        self.start(
            status, [*headers, ("Content-Length", str(len(body)))] if has_body else [*headers]
        )
        if body and has_body:
            self._put(body)
        self.end()

    def say(self, status: int, says: str, headers: Headers = ()) -> None:
        """Answer with a short plain text."""
        self.respond(status, [*TEXT, *headers], error_text(status, says))

    def start(self, status: int, headers: Headers) -> None:
        """Begin an answer; it goes out with the first part of its body."""
        told = [*headers]
        if not any(name.lower() == "date" for name, _ in told):
            told.append(("Date", http_date(time.time())))
        if not self.complete:
            # The body was not read to its end: where the next request begins, nobody knows.
            told.append(("Connection", "close"))
        raw = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in told]
        self._pending = (
            self._h11.send(
                h11.Response(status_code=status, headers=raw, reason=reason(status).encode())
            )
            or b""
        )
        self.status = status

    async def write(self, data: bytes) -> None:
        """Add to the body of the answer; waits while the client reads too slowly.

        Raises:
            ClientGone: Nobody is there.
        """
        if self._connection.is_gone:
            raise ClientGone
        if data:
            self._put(data)
        await self._connection.drain()

    def flush(self) -> None:
        """Send the head of the answer now."""
        if self._pending:
            self._connection.transport.write(self._pending)
            self._pending = b""

    def end(self) -> None:
        """The answer is complete."""
        last = self._pending + (self._h11.send(h11.EndOfMessage()) or b"")
        self._pending = b""
        self.ended = True
        if last:
            self._connection.transport.write(last)

    # What the connection uses

    @property
    def keeps_alive(self) -> bool:
        """Whether another request may follow on the connection."""
        return self._h11.our_state is h11.DONE and self._h11.their_state is h11.DONE

    @property
    def leftover(self) -> bytes:
        """What came after the body."""
        return bytes(self._h11.trailing_data[0])

    @property
    def is_waiting(self) -> bool:
        """Whether the service waits for the client's body."""
        return self._waiter is not None

    @property
    def is_full(self) -> bool:
        """Whether the client is ahead of the service."""
        return self._queued > _QUEUE_BYTES

    def feed(self, data: bytes | None) -> None:
        """Take octets of the body; b"" is the end of the connection."""
        try:
            if data is not None:
                self._received += len(data)
                self._h11.receive_data(data)
            while True:
                event = self._h11.next_event()
                if type(event) is h11.Data:
                    part = bytes(event.data)
                    self._chunks.append(part)
                    self._queued += len(part)
                elif type(event) is h11.EndOfMessage:
                    self.complete = True
                    break
                else:
                    break
        except h11.RemoteProtocolError as error:
            gone = data == b""
            self._fault = (
                ClientGone()
                if gone
                else Refused(400, f"The body of the request is malformed: {error}.")
            )
        self._wake()

    def fail(self, fault: Exception) -> None:
        """Let whoever waits for the body have this instead."""
        self._fault = self._fault or fault
        self._wake()

    def is_slow(self, now_s: float, grace_s: float) -> bool:
        """Whether the body comes so slowly that somebody must mean it."""
        return now_s - self._began_s > grace_s + self._received / _BYTES_PER_S

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _put(self, data: bytes) -> None:
        if self.method == "HEAD":
            return  # h11 frames the answer to a HEAD as one without a body
        out = self._h11.send_with_data_passthrough(h11.Data(data=data)) or []
        parts = [self._pending, *out] if self._pending else out
        self._pending = b""
        self._connection.transport.writelines(parts)


def _address(name: object) -> tuple[str, int]:
    if isinstance(name, tuple) and len(name) >= 2:
        return str(name[0]), int(name[1])
    return "", 0


def _too_large(limit: int) -> Refused:
    return Refused(413, f"The body is too large: at most {limit} bytes are taken.")
