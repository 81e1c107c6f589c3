"""How do messages get to a router and back? A link is one connection: RawSocket here, or WebSocket (:mod:`weblink`).

All that is sent in one turn of the loop is written together: a system call costs more than a message. A link that has heard
nothing for a while asks (ping), and one that gets no answer is given up: a frozen router would keep its clients waiting for ever.
Over TCP, TLS or a Unix socket. Frames and handshakes: `wire/rawsocket.py`.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from holdfast.bus.errors import CannotConnect
from holdfast.wire import rawsocket
from holdfast.wire.wamp import CODECS

if TYPE_CHECKING:
    from collections.abc import Callable

    from holdfast.wire.wamp.codec import Codec

#: No message that comes may be larger (bytes).
MESSAGE_BYTES = 2**24
#: RawSocket messages from this length on have a header of their own.
_LONGEST = 2**24


def _nobody(_message: bytes) -> None:
    """Messages before anybody wants them: there are none, the router speaks second."""


class Connected(asyncio.Protocol):
    """What both kinds of link have; subclasses shake hands and frame."""

    #: Answered once by the handshake.
    opened: asyncio.Future[None]
    codec: Codec
    #: What the reader raises when the router breaks the framing (FrameError of `wire/rawsocket.py` or `wire/websocket.py`);
    #: its `messages` are those that were whole before.
    _broken: Any

    def __init__(self, message_bytes: int, ping_s: float) -> None:
        self._loop = asyncio.get_running_loop()
        self.opened = self._loop.create_future()
        self.receive: Callable[[bytes], None] = _nobody
        self.lost: Callable[[str], None] = self._lost_early
        self.limit = message_bytes
        self._message_bytes = message_bytes
        self._ping_s = ping_s
        self._out: list[bytes] = []
        self._is_scheduled = False
        self._transport: Any = None
        self._reader: Any = None
        self._feed: Callable[[bytes], list[bytes]] | None = None
        self._heard = True
        self._asked = False
        self._watch: asyncio.TimerHandle | None = None
        self._drained: asyncio.Future[None] | None = None
        self._is_paused = False
        self._reason = ""
        self._is_gone = False

    # -- what the session uses -------------------------------------------------------------------

    def close(self) -> None:
        """Write what is queued, then end."""
        if self._transport is not None:
            self._out.append(self._goodbye())
            self._flush()
            self._transport.close()
        self._stop_watching()

    def abort(self, reason: str) -> None:
        """End at once, for a reason."""
        self._reason = self._reason or reason
        if self._transport is not None:
            self._transport.abort()
        self._stop_watching()

    @property
    def gone(self) -> str:
        """Why the connection ended; "" while it has not."""
        return self._reason if self._is_gone else ""

    def channel_id(self) -> bytes | None:
        """SHA-256 of what identifies the TLS channel (tls-unique); None without TLS, or where TLS 1.3 has no such thing."""
        tls = self._transport and self._transport.get_extra_info("ssl_object")
        if not tls:
            return None
        unique = tls.get_channel_binding("tls-unique")
        if unique is None:
            return None
        from hashlib import sha256

        return sha256(unique).digest()

    def unsent_bytes(self) -> int:
        """Tell how much waits because the other side does not read."""
        unsent: int = self._transport.get_write_buffer_size() if self._transport is not None else 0
        return unsent

    async def drain(self) -> None:
        """Wait until the system has taken most of what was sent."""
        if self._out:
            self._flush()
        if self._is_paused:
            if self._drained is None:
                self._drained = self._loop.create_future()
            await asyncio.shield(self._drained)

    # -- what the loop calls ---------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin the handshake."""
        self._transport = transport
        self._transport.write(self._hello())

    def data_received(self, data: bytes) -> None:
        """Hand over the messages of a chunk, then write at once all that was said in answer."""
        self._heard = True
        if self._feed is None:
            try:
                self._shake_hands(data)
            except CannotConnect as error:
                self._fail(error)
            return
        self._is_scheduled = True
        try:
            for message in self._feed(data):
                self.receive(message)
        except self._broken as error:
            for message in error.messages:
                self.receive(message)
            self.abort(f"the router broke the framing: {error}")
            return
        finally:
            self._is_scheduled = False
            if self._out:
                self._flush()
        if self._reader.events:
            self._answer_control()

    def pause_writing(self) -> None:
        """The system takes no more for now."""
        self._is_paused = True

    def resume_writing(self) -> None:
        """It does again."""
        self._is_paused = False
        if self._drained is not None:
            self._drained.set_result(None)
            self._drained = None

    def eof_received(self) -> None:
        """Nothing comes any more: that is the end, there is nothing half-open in WAMP."""
        self._reason = self._reason or "the router closed the connection"

    def connection_lost(self, error: Exception | None) -> None:
        """Tell the session."""
        self._stop_watching()
        self._is_gone = True
        self._out.clear()
        self._transport = None
        if self._is_paused:
            self.resume_writing()
        if not self._reason:
            self._reason = f"the connection broke: {error}" if error else "the connection is closed"
        if not self.opened.done():
            self.opened.set_exception(CannotConnect(self._reason))
        self.lost(self._reason)

    # -- common to both kinds --------------------------------------------------------------------

    def _flush(self) -> None:
        self._is_scheduled = False
        out = self._out
        if not out:
            return
        self._out = []
        if self._transport is not None:
            self._transport.write(out[0] if len(out) == 1 else b"".join(out))

    def _established(self, reader: Any, rest: bytes) -> None:
        self._reader = reader
        self._feed = reader.feed
        if not self.opened.done():
            self.opened.set_result(None)
        if self._ping_s > 0:
            self._watch = self._loop.call_later(self._ping_s, self._look)
        if rest:
            self.data_received(rest)

    def _look(self) -> None:
        """Has the router been heard since last time? If not: ask; asked already: it is gone."""
        if not self._heard:
            if self._asked:
                self.abort(f"the router did not answer for {self._ping_s:g} s")
                return
            self._asked = True
            self._transport.write(self._ping())
        else:
            self._asked = False
        self._heard = False
        self._watch = self._loop.call_later(self._ping_s, self._look)

    def _stop_watching(self) -> None:
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None

    def _fail(self, error: CannotConnect) -> None:
        if not self.opened.done():
            self.opened.set_exception(error)
        self.abort(str(error))

    def _lost_early(self, reason: str) -> None:
        """Before there is a session nobody but `opened` wants to know."""

    # -- to be filled in -------------------------------------------------------------------------

    def _hello(self) -> bytes:
        raise NotImplementedError

    def _shake_hands(self, data: bytes) -> None:
        raise NotImplementedError

    def send(self, message: bytes) -> None:
        """Queue a message for this turn's write."""
        raise NotImplementedError

    def _ping(self) -> bytes:
        raise NotImplementedError

    def _goodbye(self) -> bytes:
        raise NotImplementedError

    def _answer_control(self) -> None:
        raise NotImplementedError


class RawSocketLink(Connected):
    """WAMP over RawSocket: four octets of handshake, four octets a frame."""

    _broken = rawsocket.FrameError

    def __init__(self, serializer: str, message_bytes: int, ping_s: float) -> None:
        super().__init__(message_bytes, ping_s)
        self.codec = CODECS[serializer]
        self._head = b""

    def _hello(self) -> bytes:
        return rawsocket.hello(self.codec.rawsocket_id, self._message_bytes)

    def _shake_hands(self, data: bytes) -> None:
        self._head += data
        if len(self._head) < 4:
            return
        head, rest = self._head[:4], self._head[4:]
        self._head = b""
        try:
            self.limit = rawsocket.read_reply(head, self.codec.rawsocket_id)
        except rawsocket.FrameError as error:
            raise CannotConnect(str(error)) from None
        self._established(rawsocket.Reader(rawsocket.limit(self._message_bytes)), rest)

    def send(self, message: bytes) -> None:
        """Queue a message for this turn's write: the hot way, without a call for the frame."""
        n = len(message)
        if n < _LONGEST:
            self._out += (n.to_bytes(4, "big"), message)
        else:
            self._out.append(rawsocket.frame(message))
        if not self._is_scheduled:
            self._is_scheduled = True
            self._loop.call_soon(self._flush)

    def _ping(self) -> bytes:
        return rawsocket.ping_frame(b"holdfast")

    def _goodbye(self) -> bytes:
        return b""

    def _answer_control(self) -> None:
        events = self._reader.events
        for kind, payload in events:
            if kind == rawsocket.PING and self._transport is not None:
                self._transport.write(rawsocket.pong_frame(payload))
        events.clear()
