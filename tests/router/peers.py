"""A real router on real sockets in a thread of the test, and peers that speak WAMP byte by byte.

The peers use nothing of ours: blocking sockets, serializers as they come, frames made by hand. What they can do wrong, a
stranger can do wrong.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import ssl
import struct
import threading
import time
from typing import TYPE_CHECKING, Any

import cbor2
import msgspec

from holdfast.router import alone
from holdfast.router.serving import serve
from holdfast.sdk.logline import Log

if TYPE_CHECKING:
    from collections.abc import Callable

    from holdfast.model.bus import RouterPlan, TransportPlan
    from holdfast.router.router import Router

SLOWNESS = float(os.environ.get("HOLDFAST_SLOWNESS", "1"))
DEADLINE_S = 10.0 * SLOWNESS

HELLO, WELCOME, ABORT, GOODBYE, ERROR = 1, 2, 3, 6, 8
PUBLISH, SUBSCRIBE, SUBSCRIBED, EVENT = 16, 32, 33, 36
CALL, RESULT, REGISTER, REGISTERED, INVOCATION, YIELD = 48, 50, 64, 65, 68, 70

ROLES: dict[str, dict[str, Any]] = {"caller": {}, "callee": {}, "publisher": {}, "subscriber": {}}

_ENCODE: dict[str, Callable[[Any], bytes]] = {
    "json": lambda value: json.dumps(value).encode(),
    "msgpack": msgspec.msgpack.encode,
    "cbor": cbor2.dumps,
}
_DECODE: dict[str, Callable[[bytes], Any]] = {
    "json": json.loads,
    "msgpack": msgspec.msgpack.decode,
    "cbor": cbor2.loads,
}
_RAWSOCKET_ID = {"json": 1, "msgpack": 2, "cbor": 3}


def wait_until(condition: Callable[[], Any], what: str, within_s: float = 10.0) -> Any:
    """Return the first true value of `condition`, or fail saying what did not happen."""
    until = time.monotonic() + within_s * SLOWNESS
    while not (found := condition()):
        if time.monotonic() > until:
            raise AssertionError(f"waited {within_s * SLOWNESS:g} s in vain for: {what}")
        time.sleep(0.005)
    return found


class Lines(Log):
    """A log that tests can read."""

    def __init__(self) -> None:
        super().__init__("router")
        self.lines: list[str] = []

    def _line(
        self, _to: int, level: str, event: str, fields: dict[str, object], below: str = ""
    ) -> None:
        words = " ".join(f"{key}={value}" for key, value in fields.items())
        self.lines.append(f"{level} {event} {words}{below}")


class Running:
    """A router in a thread, with a loop of its own."""

    def __init__(self) -> None:
        self.log = Lines()
        self.loop = asyncio.new_event_loop()
        self.loop.set_exception_handler(self._unhandled)
        self.unhandled: list[str] = []
        self.plan: RouterPlan
        self.router: Router
        self._sockets: dict[str, socket.socket] = {}
        self._opened: list[socket.socket] = []
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)

    def _unhandled(self, _: object, context: dict[str, Any]) -> None:
        self.unhandled.append(str(context.get("exception") or context.get("message")))

    def start(self, *transports: TransportPlan, change: Callable[[RouterPlan], None] | None = None) -> Running:  # fmt: skip
        """Serve; `change` may alter the open plan before."""
        self.plan = alone.open_plan(list(transports) or [alone.transport("t0")])
        if change is not None:
            change(self.plan)
        for transport in self.plan["transports"]:
            name = transport["endpoint"]["listener"]
            is_unix = transport["endpoint"]["kind"] == "unix"
            url = f"unix:{transport['endpoint']['path']}" if is_unix else "ws://127.0.0.1:0"
            self._sockets[name] = alone.listen(url)
        self._thread.start()
        served = asyncio.run_coroutine_threadsafe(serve(self.plan, self._sockets, self.log), self.loop)  # fmt: skip
        self.router = served.result(DEADLINE_S)
        return self

    def do(self, function: Callable[[], Any]) -> Any:
        """Run something on the router's loop and return what it returns."""

        async def run() -> Any:
            return function()

        return asyncio.run_coroutine_threadsafe(run(), self.loop).result(DEADLINE_S)

    def reconfigure(self, change: Callable[[RouterPlan], None]) -> list[str]:
        """Give the router another plan."""
        plan = json.loads(json.dumps(self.router.plan))
        change(plan)
        changed: list[str] = self.do(lambda: self.router.reconfigure(plan))
        return changed

    def address(self, listener: str = "t0") -> Any:
        return self._sockets[listener].getsockname()

    def connect(self, listener: str = "t0") -> socket.socket:
        """A bare connection."""
        opened = self._sockets[listener]
        sock = socket.socket(opened.family)
        sock.settimeout(DEADLINE_S)
        self._opened.append(sock)
        sock.connect(opened.getsockname())
        return sock

    def keep(self, sock: Any) -> Any:
        """Close this at the end, too."""
        self._opened.append(sock)
        return sock

    def peer(self, kind: str = "rawsocket", serializer: str = "json", **options: Any) -> Peer:
        """A connection that is through its handshake."""
        sock = options.pop("sock", None) or self.connect(options.pop("listener", "t0"))
        self._opened.append(sock)
        return (RawSocketPeer if kind == "rawsocket" else WebSocketPeer)(sock, serializer, **options)  # fmt: skip

    def join(self, kind: str = "rawsocket", serializer: str = "json", **options: Any) -> Peer:
        """A session of realm1."""
        peer = self.peer(kind, serializer, **options)
        peer.join()
        return peer

    def end(self) -> None:
        for sock in self._opened:
            sock.close()
        self.do(self.router.close)
        self.do(lambda: None)  # one more turn, for what close() has asked for
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(DEADLINE_S)
        self.loop.close()
        for listening in self._sockets.values():
            listening.close()


class Peer:
    """A WAMP client."""

    def __init__(self, sock: socket.socket, serializer: str) -> None:
        self.sock = sock
        self.serializer = serializer
        self.buffer = b""
        self.session = 0
        self.welcome: dict[str, Any] = {}
        self._last = 0

    # -- messages

    def send(self, *message: Any) -> None:
        self.sock.sendall(self.frame(_ENCODE[self.serializer](list(message))))

    def receive(self) -> list[Any]:
        """The next message; EOFError when the router has closed instead."""
        message: list[Any] = _DECODE[self.serializer](self.receive_bytes())
        return message

    def expect(self, kind: int) -> list[Any]:
        message = self.receive()
        assert message[0] == kind, message
        return message

    def join(self, realm: str = "realm1", **details: Any) -> None:
        self.send(HELLO, realm, {"roles": ROLES, **details})
        _, self.session, self.welcome = self.expect(WELCOME)

    def request(self, kind: int, answer: int, *rest: Any) -> list[Any]:
        self._last += 1
        self.send(kind, self._last, *rest)
        return self.expect(answer)

    def subscribe(self, topic: str) -> int:
        return int(self.request(SUBSCRIBE, SUBSCRIBED, {}, topic)[2])

    def register(self, procedure: str) -> int:
        return int(self.request(REGISTER, REGISTERED, {}, procedure)[2])

    def publish(self, topic: str, *args: Any) -> None:
        self._last += 1
        self.send(PUBLISH, self._last, {}, topic, list(args))

    def call(self, procedure: str, *args: Any) -> None:
        self._last += 1
        self.send(CALL, self._last, {}, procedure, list(args))

    def is_served(self) -> bool:
        """Whether the router still answers this session."""
        return bool(self.request(CALL, RESULT, {}, "wamp.session.count")[3][0])

    # -- bytes

    def frame(self, payload: bytes) -> bytes:
        raise NotImplementedError

    def receive_bytes(self) -> bytes:
        raise NotImplementedError

    def take(self, n: int) -> bytes:
        while len(self.buffer) < n:
            data = self.sock.recv(65536)
            if not data:
                raise EOFError(self.buffer)
            self.buffer += data
        data, self.buffer = self.buffer[:n], self.buffer[n:]
        return data

    def drain(self) -> bytes:
        """Everything up to the end of the connection; a reset is an end, too."""
        data = self.buffer
        try:
            while more := self.sock.recv(65536):
                data += more
        except ConnectionResetError:
            pass
        return data

    def close(self) -> None:
        self.sock.close()


class RawSocketPeer(Peer):
    """WAMP over RawSocket."""

    def __init__(self, sock: socket.socket, serializer: str, length: int = 15) -> None:
        super().__init__(sock, serializer)
        sock.sendall(bytes((0x7F, length << 4 | _RAWSOCKET_ID[serializer], 0, 0)))
        self.answer = self.take(4)
        assert self.answer[1] & 15 == _RAWSOCKET_ID[serializer], self.answer

    def frame(self, payload: bytes) -> bytes:
        return struct.pack(">I", len(payload)) + payload

    def receive_bytes(self) -> bytes:
        while True:
            head = struct.unpack(">I", self.take(4))[0]
            data = self.take(head & 0xFFFFFF)
            if head >> 24 == 0:
                return data


class WebSocketPeer(Peer):
    """WAMP over WebSocket. The mask is not zero: the router has to take it off."""

    def __init__(
        self, sock: socket.socket, serializer: str, path: str = "/", headers: tuple[str, ...] = ()
    ) -> None:
        super().__init__(sock, serializer.removesuffix(".batched"))
        lines = [
            f"GET {path} HTTP/1.1", "Host: localhost", "Upgrade: websocket", "Connection: Upgrade",
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Version: 13",
            f"Sec-WebSocket-Protocol: wamp.2.{serializer}", *headers,
        ]  # fmt: skip
        sock.sendall("\r\n".join(lines).encode() + b"\r\n\r\n")
        while b"\r\n\r\n" not in self.buffer:
            data = sock.recv(65536)
            if not data:
                raise EOFError(self.buffer)
            self.buffer += data
        head, _, self.buffer = self.buffer.partition(b"\r\n\r\n")
        self.head = head.decode()
        assert " 101 " in self.head, self.head + self.buffer.decode()
        self.control: list[tuple[int, bytes]] = []

    def frame(self, payload: bytes, opcode: int = 0) -> bytes:
        first = 0x80 | (opcode or (1 if self.serializer == "json" else 2))
        n = len(payload)
        if n < 126:
            head = struct.pack(">BB", first, 0x80 | n)
        elif n < 65536:
            head = struct.pack(">BBH", first, 0xFE, n)
        else:
            head = struct.pack(">BBQ", first, 0xFF, n)
        key = os.urandom(4)
        whole = (key * (n // 4 + 1))[:n]
        masked = int.from_bytes(payload, "big") ^ int.from_bytes(whole, "big")
        return head + key + masked.to_bytes(n, "big")

    def receive_frame(self) -> tuple[int, bytes]:
        first, n = self.take(2)
        if n == 126:
            n = struct.unpack(">H", self.take(2))[0]
        elif n == 127:
            n = struct.unpack(">Q", self.take(8))[0]
        return first & 15, self.take(n)

    def receive_bytes(self) -> bytes:
        while True:
            opcode, payload = self.receive_frame()
            if opcode < 8:
                return payload
            self.control.append((opcode, payload))


def tls_files(directory: Any, name: str = "localhost", days: float = 1) -> tuple[str, str]:
    """Make a certificate that signs itself; (certificate, key)."""
    import datetime as dt

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    who = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(who)
        .issuer_name(who)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=30))
        .not_valid_after(now + dt.timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    certificate_path, key_path = directory / f"{name}.crt", directory / f"{name}.key"
    certificate_path.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    key_path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )  # fmt: skip
    return str(certificate_path), str(key_path)


def trusting(certificate: str) -> ssl.SSLContext:
    """A client's context that trusts this certificate only."""
    return ssl.create_default_context(cafile=certificate)
