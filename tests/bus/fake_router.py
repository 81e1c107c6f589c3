"""A router for tests of the client: real sockets, the smallest possible brain, and it does as it is told.

It knows one realm, exact procedures with one callee each, exact topics; what a test wants differently it puts into `answers`.
"""

from __future__ import annotations

import asyncio
import itertools
import os
from typing import TYPE_CHECKING, Any

from holdfast.bus.coding import decoder
from holdfast.core.wamp.messages import Objects
from holdfast.wire import rawsocket, websocket
from holdfast.wire.wamp import BY_RAWSOCKET_ID, BY_SUBPROTOCOL

if TYPE_CHECKING:
    from collections.abc import Callable

SLOWNESS = float(os.environ.get("HOLDFAST_SLOWNESS", "1"))
FEATURES = {"features": {"call_canceling": True, "call_timeout": True}}


async def soon(condition: Callable[[], Any], what: str, within_s: float = 10.0) -> Any:
    """Return the first true value of `condition`, or fail with `what`."""
    loop = asyncio.get_running_loop()
    until = loop.time() + within_s * SLOWNESS
    while True:
        found = condition()
        if found:
            return found
        assert loop.time() < until, f"waited in vain for: {what}"
        await asyncio.sleep(0.002)


class Peer(asyncio.Protocol):
    """A client, as the router sees it."""

    def __init__(self, router: FakeRouter) -> None:
        self.router = router
        self.got: list[list[Any]] = []
        self.session = 0
        self.transport: Any = None
        self.feed: Any = None
        self.head = b""
        self.frame: Any = None
        self.pongs: list[bytes] = []
        self.is_gone = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.router.peers.append(self)

    def connection_lost(self, error: Exception | None) -> None:  # noqa: ARG002
        self.is_gone = True
        self.router.forget(self)

    def data_received(self, data: bytes) -> None:
        if self.feed is None:
            self.head += data
            if self.head[0] == 0x7F:
                self.shake_rawsocket()
            elif b"\r\n\r\n" in self.head:
                self.shake_websocket()
            return
        for message in self.feed(data):
            self.receive(message)
        for kind, payload in self.reader.events:
            if kind in (rawsocket.PONG, websocket.PONG):
                self.pongs.append(payload)
            elif kind == self.ping and self.router.answers_pings:
                self.transport.write(self.pong(payload))
        self.reader.events.clear()

    def shake_rawsocket(self) -> None:
        if len(self.head) < 4:
            return
        head, rest = self.head[:4], self.head[4:]
        serializer, _ = rawsocket.read_request(head)
        codec = BY_RAWSOCKET_ID[serializer]
        if codec.name not in self.router.serializers:
            self.transport.write(rawsocket.refusal(rawsocket.SERIALIZER_UNSUPPORTED))
            self.transport.close()
            return
        self.transport.write(rawsocket.hello(serializer, self.router.message_bytes))
        self.codec, self.frame = codec, rawsocket.frame
        self.ping, self.pong = rawsocket.PING, rawsocket.pong_frame
        self.begin(rawsocket.Reader(2**24), rest)

    def shake_websocket(self) -> None:
        head, _, rest = self.head.partition(b"\r\n\r\n")
        first, *lines = head.split(b"\r\n")
        headers = [(k.strip().lower(), v.strip()) for k, _, v in (x.partition(b":") for x in lines)]
        offered = [f"wamp.2.{name}" for name in self.router.serializers]
        accepted = websocket.accept(first.split()[0], headers, offered)
        assert isinstance(accepted, websocket.Accepted)
        self.transport.write(accepted.response)
        assert accepted.subprotocol is not None
        codec = self.codec = BY_SUBPROTOCOL[accepted.subprotocol]
        self.frame = lambda payload: websocket.frame(payload, codec.is_binary)
        self.ping, self.pong = websocket.PING, websocket.pong_frame
        self.begin(websocket.Reader(True, 2**24), rest)

    def begin(self, reader: Any, rest: bytes) -> None:
        self.reader = reader
        self.feed = reader.feed
        self.decode = decoder(self.codec)
        if rest:
            self.data_received(rest)

    def receive(self, data: bytes) -> None:
        message = self.decode(data)
        self.got.append(message)
        special = self.router.answers.get(message[0])
        if special is None or special(self, message) is not True:
            self.router.serve(self, message)

    def say(self, *head: Any, args: list[Any] | None = None, kwargs: Any = None) -> None:
        payload = None if args is None and kwargs is None else Objects(args, kwargs)
        self.transport.write(self.frame(self.codec.encode(list(head), payload)))

    def answer(self, *head: Any, args: list[Any] | None = None) -> bool:
        """Say it, and that the message is dealt with."""
        self.say(*head, args=args)
        return True

    def codes(self) -> list[int]:
        return [message[0] for message in self.got]

    def cut(self) -> None:
        self.transport.abort()


class FakeRouter:
    """Use with `async with FakeRouter() as router: … router.rs …`."""

    def __init__(self) -> None:
        self.peers: list[Peer] = []
        self.procedures: dict[str, tuple[Peer, int]] = {}
        self.topics: dict[str, tuple[int, list[Peer]]] = {}
        self.calls: dict[int, tuple[Peer, int]] = {}
        self.ids = itertools.count(1000)
        #: message code -> function(peer, message); returning True means that it was dealt with
        self.answers: dict[int, Callable[[Peer, list[Any]], Any]] = {}
        self.serializers = ["msgpack", "json", "cbor"]
        self.message_bytes = 2**24
        self.answers_pings = True
        self.port = 0
        self.server: Any = None

    @property
    def rs(self) -> str:
        return f"rs://127.0.0.1:{self.port}"

    @property
    def ws(self) -> str:
        return f"ws://127.0.0.1:{self.port}/ws"

    @property
    def last(self) -> Peer:
        return self.peers[-1]

    async def __aenter__(self) -> FakeRouter:  # noqa: PYI034 -- it has no heirs
        await self.start()
        return self

    async def start(self) -> None:
        loop = asyncio.get_running_loop()
        self.server = await loop.create_server(lambda: Peer(self), "127.0.0.1", self.port)
        self.port = self.server.sockets[0].getsockname()[1]

    def die(self) -> None:
        """Like kill -9: nothing is said to anybody, the port is closed."""
        self.server.close()
        for peer in self.peers:
            if peer.transport is not None and not peer.is_gone:
                peer.cut()

    async def __aexit__(self, *_: object) -> None:
        self.die()
        await soon(lambda: all(peer.is_gone for peer in self.peers), "connections closed")

    def forget(self, peer: Peer) -> None:
        self.procedures = {u: p for u, p in self.procedures.items() if p[0] is not peer}
        for _, peers in self.topics.values():
            if peer in peers:
                peers.remove(peer)

    def serve(self, peer: Peer, m: list[Any]) -> None:  # noqa: PLR0912 -- a broker, in one piece
        if m[0] == 1:
            peer.session = next(self.ids)
            peer.say(2, peer.session, {"roles": {"dealer": FEATURES, "broker": {}}, "authid": "me"})
        elif m[0] == 6:
            peer.say(6, {}, "wamp.close.goodbye_and_out")
        elif m[0] == 64:
            if m[3] in self.procedures:
                peer.say(8, 64, m[1], {}, "wamp.error.procedure_already_exists")
                return
            self.procedures[m[3]] = (peer, next(self.ids))
            peer.say(65, m[1], self.procedures[m[3]][1])
        elif m[0] == 66:
            self.procedures = {u: p for u, p in self.procedures.items() if p[1] != m[2]}
            peer.say(67, m[1])
        elif m[0] == 32:
            id_, peers = self.topics.setdefault(m[3], (next(self.ids), []))
            if peer not in peers:
                peers.append(peer)
            peer.say(33, m[1], id_)
        elif m[0] == 34:
            for id_, peers in self.topics.values():
                if id_ == m[2]:
                    peers.remove(peer)
            peer.say(35, m[1])
        elif m[0] == 16:
            self.publish(m)
            if m[2].get("acknowledge"):
                peer.say(17, m[1], next(self.ids))
        else:
            self.deal(peer, m)

    def publish(self, m: list[Any]) -> None:
        id_, peers = self.topics.get(m[3], (0, []))
        for receiver in peers:
            receiver.say(36, id_, next(self.ids), {}, args=_at(m, 4), kwargs=_at(m, 5))

    def deal(self, peer: Peer, m: list[Any]) -> None:
        if m[0] == 48:
            if m[3] not in self.procedures:
                peer.say(8, 48, m[1], {}, "wamp.error.no_such_procedure")
                return
            callee, registration = self.procedures[m[3]]
            request = next((r for r, c in self.calls.items() if c == (peer, m[1])), 0)
            if not request:
                request = next(self.ids)
                self.calls[request] = (peer, m[1])
            keys = ("timeout", "progress", "receive_progress")
            details = {k: m[2][k] for k in keys if k in m[2]}
            callee.say(68, request, registration, details, args=_at(m, 4), kwargs=_at(m, 5))
        elif m[0] == 70:
            is_progress = m[2].get("progress")
            found = self.calls.get(m[1]) if is_progress else self.calls.pop(m[1], None)
            if found:
                details = {"progress": True} if is_progress else {}
                found[0].say(50, found[1], details, args=_at(m, 3), kwargs=_at(m, 4))
        elif m[0] == 8:
            found = self.calls.pop(m[2], None)
            if found:
                found[0].say(8, 48, found[1], {}, m[4], args=_at(m, 5), kwargs=_at(m, 6))
        elif m[0] == 49:
            for request, (caller, call) in list(self.calls.items()):
                if (caller, call) == (peer, m[1]):
                    del self.calls[request]
                    peer.say(8, 48, call, {}, "wamp.error.canceled")
                    for callee in self.peers:
                        if not callee.is_gone:
                            callee.say(69, request, {"mode": m[2].get("mode", "killnowait")})


def _at(message: list[Any], index: int) -> Any:
    return message[index] if len(message) > index else None
