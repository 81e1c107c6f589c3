"""How do messages get to a router and back over WebSocket?

Apart from :mod:`link`, because components reach the router of their node over RawSocket: what hashes, compression and masks cost
at the start of each of them is paid by those who need it. Frames and handshakes: `wire/websocket.py`.
"""

from __future__ import annotations

import os
from struct import Struct

from holdfast.bus.errors import CannotConnect
from holdfast.bus.link import Connected
from holdfast.wire import websocket
from holdfast.wire.wamp import BY_SUBPROTOCOL, CODECS

#: Bytes of chance that are fetched at a time, for masks.
_POOL = 4096
#: Heads of masked WebSocket frames: text and binary, short ones by length (RFC 6455, 5.2).
_SHORT = [[bytes((first, 0x80 | n)) for n in range(126)] for first in (0x81, 0x82)]
_WITH_16 = Struct(">BBH").pack


class WebSocketLink(Connected):
    """WAMP over WebSocket; every frame is masked with fresh chance, as RFC 6455 wants it of clients."""

    _broken = websocket.FrameError

    def __init__(
        self,
        host: str,
        path: str,
        serializers: tuple[str, ...],
        message_bytes: int,
        ping_s: float,
        headers: tuple[tuple[str, str], ...],
    ) -> None:
        super().__init__(message_bytes, ping_s)
        self._handshake: websocket.ClientHandshake | None = websocket.ClientHandshake(
            host, path, os.urandom(16), [CODECS[name].subprotocol for name in serializers],
            extra_headers=headers,
        )  # fmt: skip
        self._chance = b""
        self._at = 0
        self._is_binary = True
        self._first = 0
        self._short: list[bytes] = []

    def _hello(self) -> bytes:
        assert self._handshake is not None  # noqa: S101 -- kept until the answer is whole
        return self._handshake.request

    def _shake_hands(self, data: bytes) -> None:
        assert self._handshake is not None  # noqa: S101 -- kept until the answer is whole
        try:
            rest = self._handshake.feed(data)
        except websocket.HandshakeError as error:
            raise CannotConnect(str(error)) from None
        if rest is None:
            return
        subprotocol = self._handshake.subprotocol
        if subprotocol is None or subprotocol not in BY_SUBPROTOCOL:
            raise CannotConnect(f"the router chose no WAMP serializer of ours ({subprotocol})")
        self._handshake = None
        self.codec = BY_SUBPROTOCOL[subprotocol]
        self._is_binary = self.codec.is_binary
        self._first = 0x82 if self._is_binary else 0x81
        self._short = _SHORT[self._is_binary]
        expects = websocket.BINARY if self._is_binary else websocket.TEXT
        reader = websocket.Reader(False, self._message_bytes, None, expects)
        self._established(reader, rest)

    def _mask(self) -> bytes:
        at = self._at
        if at == len(self._chance):
            self._chance = os.urandom(_POOL)
            at = 0
        self._at = at + 4
        return self._chance[at : at + 4]

    def send(self, message: bytes) -> None:
        """Queue a message for this turn's write: the hot way, with frame and mask of most messages made here."""
        n = len(message)
        mask = self._mask()
        if n < 126:
            head = self._short[n] + mask
        elif n < 65536:
            head = _WITH_16(self._first, 0xFE, n) + mask
        else:
            self._out.append(websocket.frame(message, self._is_binary, mask))
            head = b""
        if head:
            key = int.from_bytes((mask * ((n >> 2) + 1))[:n], "little")
            self._out += (head, (int.from_bytes(message, "little") ^ key).to_bytes(n, "little"))
        if not self._is_scheduled:
            self._is_scheduled = True
            self._loop.call_soon(self._flush)

    def _ping(self) -> bytes:
        return websocket.ping_frame(b"holdfast", self._mask())

    def _goodbye(self) -> bytes:
        return websocket.close_frame(1000, "", self._mask())

    def _answer_control(self) -> None:
        events = self._reader.events
        for kind, payload in events:
            if self._transport is None:
                break
            if kind == websocket.PING:
                self._transport.write(websocket.pong_frame(payload, self._mask()))
            elif kind == websocket.CLOSE:
                code, reason = websocket.read_close(payload)
                self._reason = self._reason or f"the router closed the connection: {code} {reason}".rstrip()  # fmt: skip
                self._transport.write(websocket.close_frame(1000, "", self._mask()))
                self._transport.close()
        events.clear()
