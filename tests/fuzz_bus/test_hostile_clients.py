"""Strangers send what they like to a router process: they are told what was wrong, and a healthy pair beside them notices nothing.

Seeded and bounded. A longer run: `HOLDFAST_FUZZ_ROUNDS=50` (times as much of everything that is random), another one: `HOLDFAST_FUZZ_SEED=7`.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import socket
import statistics
import struct
import time
import zlib
from typing import TYPE_CHECKING, Any

import cbor2
import msgspec
import pytest

from fuzz_bus.bystanders import Bystanders
from holdfast.router import alone
from interop.stage import RouterProcess, plan_of
from router.peers import (
    ABORT,
    CALL,
    DEADLINE_S,
    GOODBYE,
    HELLO,
    RESULT,
    ROLES,
    SLOWNESS,
    Peer,
    RawSocketPeer,
    WebSocketPeer,
    wait_until,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

ROUNDS = int(os.environ.get("HOLDFAST_FUZZ_ROUNDS", "1"))
SEED = int(os.environ.get("HOLDFAST_FUZZ_SEED", "20261122"))
MESSAGE_BYTES = 1 << 20
HANDSHAKE_S = 1.0 * SLOWNESS
#: The longest that a call of the healthy pair may take, and most of them. The dearest message costs the router half a second of
#: processor time; the rest is for a machine that has other things to do.
WORST_S, USUAL_S = 4.0 * SLOWNESS, 0.1 * SLOWNESS
#: What the router may have grown by after an attack is over; its allocator keeps some of what it had at the peak.
GROWTH_KIB = 48 * 1024
SERIALIZERS = ("json", "msgpack", "cbor")
#: The codes that say what was wrong: protocol, type, UTF-8, policy, size (and 1000 after a GOODBYE).
CLOSE_CODES = {1000, 1002, 1003, 1007, 1008, 1009}

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


class Arena:
    """The router, the healthy pair, and what it looked like before anybody misbehaved."""

    def __init__(self, directory: Path) -> None:
        local = alone.transport("local", "unix", message_bytes=MESSAGE_BYTES)
        local["endpoint"]["path"] = str(directory / "bus.sock")
        ticket = {"ticket": {"type": "static", "principals": {"joe": {"ticket": "secret!", "role": "anonymous"}}}}  # fmt: skip
        plan = plan_of([
            alone.transport("open", message_bytes=MESSAGE_BYTES, queue_bytes=2 << 20),
            alone.transport("auth", auth=ticket),
            local,
        ])  # fmt: skip
        plan["limits"].update({"handshake_s": HANDSHAKE_S, "connections_unauthenticated": 400})
        self.router = RouterProcess(plan, directory)
        self._opened: list[socket.socket] = []

    def begin(self) -> None:
        self.pair = Bystanders(self.router, "local")
        wait_until(lambda: len(self.pair.took_s) > 50, "the healthy pair to be at work")
        self.rss_kib = self.router.rss_kib()
        self.files = self.router.open_files()

    def connect(self, listener: str = "open") -> socket.socket:
        sock = self.router.connect(listener)
        self._opened.append(sock)
        return sock

    def hang_up(self) -> None:
        """End what a test has left open."""
        for sock in self._opened:
            sock.close()
        self._opened.clear()

    def peer(self, kind: str, serializer: str = "json", listener: str = "open", **options: Any) -> Peer:  # fmt: skip
        sock = self.connect(listener)
        return (RawSocketPeer if kind == "rawsocket" else WebSocketPeer)(sock, serializer, **options)  # fmt: skip

    def join(self, kind: str, serializer: str = "json") -> Peer:
        peer = self.peer(kind, serializer)
        peer.join()
        return peer

    def end(self) -> None:
        if hasattr(self, "pair"):
            self.pair.end()
        self.router.kill()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Arena]:
    made = Arena(tmp_path_factory.mktemp("fuzz"))
    try:
        made.begin()
        yield made
    finally:
        made.end()


@pytest.fixture
def arena(whole: Arena) -> Iterator[Arena]:
    """After each attack: everybody else noticed nothing, and nothing is left of it in the router."""
    pair = whole.pair
    before = len(pair.took_s)
    yield whole
    whole.hang_up()
    after = len(pair.took_s)
    wait_until(lambda: len(pair.took_s) > after + 20 or pair.faults, "the healthy pair to go on")
    assert pair.faults == []
    took_s = pair.since(before)
    assert max(took_s) < WORST_S
    assert statistics.median(took_s) < USUAL_S
    wait_until(
        lambda: whole.router.open_files() <= whole.files, "the offenders' connections to be closed"
    )
    assert whole.router.rss_kib() < whole.rss_kib + GROWTH_KIB
    assert "the fault is the router's" not in whole.router.said()
    assert "Traceback" not in whole.router.said()


def last_words(peer: Peer, up_to: int | None = None) -> tuple[list[Any], int | None]:
    """All messages up to the end of the connection (or the first of a kind), and the code of the close frame."""
    messages: list[Any] = []
    code = None
    try:
        while not messages or messages[-1][0] != up_to:
            if isinstance(peer, WebSocketPeer):
                opcode, payload = peer.receive_frame()
                if opcode == 8:
                    code = struct.unpack(">H", payload[:2])[0]
                elif opcode < 8:
                    messages += _decoded(peer, payload)
            else:
                messages += _decoded(peer, peer.receive_bytes())
    except (EOFError, ConnectionResetError):
        pass  # a reset is an end, too
    return messages, code


def _decoded(peer: Peer, payload: bytes) -> list[Any]:
    return [_DECODE[peer.serializer](payload)]


def send(peer: Peer, data: bytes) -> None:
    """Send; that the router has ended it already is told by what comes back."""
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        peer.sock.sendall(data)


# -- messages


#: Valid messages of every kind that a client sends, in the order of a conversation.
_SCRIPT: tuple[list[Any], ...] = (
    [32, 1, {"match": "prefix", "get_retained": True}, "com.t"],
    [64, 2, {"invoke": "roundrobin", "match": "wildcard", "concurrency": 2}, "com.p..x"],
    [16, 3, {"acknowledge": True, "exclude_me": False, "eligible_authrole": ["anonymous"], "retain": True}, "com.t.a", [1, "ä", None], {"k": 2.5}],
    [48, 4, {"timeout": 5000, "receive_progress": True, "disclose_me": True}, "com.p.q.x", [1, [2, [3]]], {"k": {"l": []}}],
    [70, 1, {"progress": True}, [2]],
    [49, 4, {"mode": "killnowait"}],
    [8, 68, 1, {}, "com.app.error", ["why"]],
    [48, 5, {}, "wamp.session.get", [1]],
    [48, 6, {}, "wamp.session.add_testament", ["com.t.last", [1], {}]],
    [48, 7, {}, "wamp.subscription.get_events", [1, {"limit": 3}]],
    [34, 8, 1],
    [66, 9, 1],
)  # fmt: skip

#: What replaces a part of a message.
_ODD: tuple[Any, ...] = (
    None, True, -1, 0, 2**53, 2**63, 1.5, "", "\0", "a" * 70_000, "..", "com.ü", "wamp.session.kill", [], {}, [[]], {"x": {}},
    [[[[[[[[[[]]]]]]]]]], b"\0\xff", ["a"] * 1000, {str(n): n for n in range(1000)}, "\ud7ff",
)  # fmt: skip


def changed(chance: random.Random, message: list[Any]) -> list[Any]:
    """The message with a part missing, doubled, or something else."""
    made: list[Any] = json.loads(json.dumps(message))
    at = chance.randrange(len(made))
    how = chance.randrange(6)
    if how == 0:
        del made[at]
    elif how == 1:
        made.insert(at, chance.choice(_ODD))
    elif how == 2 and isinstance(made[at], dict) and made[at]:
        made[at][chance.choice(list(made[at]))] = chance.choice(_ODD)
    elif how == 3:
        made[0] = chance.randrange(0, 80)
    else:
        made[at] = chance.choice(_ODD)
    return made


def encoded(serializer: str, message: Any) -> bytes:
    if serializer == "json":
        return json.dumps(message, default=lambda data: f"\0{data!r}").encode()
    return _ENCODE[serializer](message)


def damaged(chance: random.Random, data: bytes) -> bytes:
    """The bytes with some changed, cut off, moved or doubled."""
    made = bytearray(data)
    for _ in range(chance.randrange(1, 4)):
        at = chance.randrange(len(made) + 1)
        how = chance.randrange(5)
        if how == 0 and made:
            made[at % len(made)] = chance.randrange(256)
        elif how == 1:
            del made[at:]
        elif how == 2:
            made[at:at] = chance.randbytes(chance.randrange(1, 9))
        elif how == 3:
            made[at:at] = made[: chance.randrange(20)]
        elif made:
            made[at % len(made)] ^= 1 << chance.randrange(8)
    return bytes(made)


@pytest.mark.parametrize("kind", ["rawsocket", "websocket"])
@pytest.mark.parametrize("serializer", SERIALIZERS)
def test_who_sends_a_broken_message_is_told_why_or_served(arena: Arena, kind: str, serializer: str) -> None:  # fmt: skip
    """Whatever is sent, there is an answer: to the question behind it, or an ABORT that says what was wrong."""
    chance = random.Random(f"{SEED} {kind} {serializer}")
    aborted = served = 0
    for _ in range(300 * ROUNDS):
        peer = arena.join(kind, serializer)
        said = []
        for message in chance.sample(_SCRIPT, chance.randrange(1, 5)):
            data = encoded(serializer, changed(chance, message) if chance.random() < 0.3 else message)  # fmt: skip
            said.append(damaged(chance, data) if chance.random() < 0.15 else data)
        probe = 9_000_000_000
        said.append(encoded(serializer, [CALL, probe, {}, "wamp.session.count"]))
        said.append(encoded(serializer, [GOODBYE, {}, "wamp.close.normal"]))
        send(peer, b"".join(peer.frame(data) for data in said))

        # Whoever has said GOODBYE may say HELLO again on the same connection: the router does not end it.
        messages, code = last_words(peer, GOODBYE)
        peer.close()
        kinds = [message[0] for message in messages]
        if kinds and kinds[-1] == GOODBYE:
            # It may have cut itself off with a GOODBYE of its own, or killed itself by the meta API.
            served += any(message[:2] == [RESULT, probe] for message in messages)
        else:
            assert kinds, (said, code)
            assert kinds[-1] == ABORT, (said, messages, code)
            assert messages[-1][1]["message"], messages[-1]
            aborted += 1
            if kind == "websocket":
                assert code in CLOSE_CODES, (said, messages, code)
    assert aborted > 10
    assert served > 10


def test_messages_in_the_wrong_order_get_an_abort(arena: Arena) -> None:
    """Every message before HELLO, instead of AUTHENTICATE, and HELLO twice."""
    chance = random.Random(SEED)
    first = [[HELLO, "realm1", {"roles": ROLES, "authid": "joe", "authmethods": ["ticket"]}]]
    for listener, before in (("open", []), ("auth", first)):
        for message in (*_SCRIPT, [2, 1, {}], [4, "ticket", {}], [50, 1, {}], [36, 1, 2, {}], [68, 1, 1, {}], [33, 1, 2], [65, 1, 2], [17, 1, 2]):  # fmt: skip
            peer = arena.peer(chance.choice(["rawsocket", "websocket"]), listener=listener)
            for one in (*before, message):
                send(peer, peer.frame(_ENCODE["json"](one)))
            messages, _ = last_words(peer)
            peer.close()
            assert messages, message
            assert messages[-1][0] == ABORT, (message, messages)
            assert messages[-1][2] == "wamp.error.protocol_violation", (message, messages)


def test_what_comes_after_goodbye_is_not_carried_out(arena: Arena) -> None:
    listener = arena.join("websocket")
    listener.subscribe("com.t.late")
    peer = arena.join("rawsocket")
    late = [[GOODBYE, {}, "wamp.close.normal"], [16, 1, {}, "com.t.late", ["late"]], [1, "realm1", {"roles": ROLES}]]  # fmt: skip

    send(peer, b"".join(peer.frame(_ENCODE["json"](one)) for one in late))

    messages, _ = last_words(peer)
    assert [message[0] for message in messages] == [GOODBYE, ABORT], "PUBLISH where HELLO may come"
    assert listener.is_served(), "the next message is the answer, not the late event"
    for one in (peer, listener):
        one.close()


def _nested(serializer: str, depth: int) -> bytes:
    opening, closing = {"json": (b"[", b"]"), "msgpack": (b"\x91", b""), "cbor": (b"\x81", b"")}[serializer]  # fmt: skip
    inner = b"0" if serializer == "json" else b"\0"
    before = {"json": b'[16,1,{},"com.t",', "msgpack": b"\x95\x10\x01\x80\xa5com.t", "cbor": b"\x85\x10\x01\xa0\x65com.t"}  # fmt: skip
    after = b"]" if serializer == "json" else b""
    return before[serializer] + opening * depth + inner + closing * depth + after


def _maps(serializer: str, depth: int) -> bytes:
    inner = {"json": (b'{"a":', b"}"), "msgpack": (b"\x81\xa1a", b""), "cbor": (b"\xa1\x61a", b"")}
    before = {"json": b'[16,1,{},"com.t",[],', "msgpack": b"\x96\x10\x01\x80\xa5com.t\x90", "cbor": b"\x86\x10\x01\xa0\x65com.t\x80"}  # fmt: skip
    opening, closing = inner[serializer]
    end = b"0" if serializer == "json" else b"\0"
    after = b"]" if serializer == "json" else b""
    return before[serializer] + opening * depth + end + closing * depth + after


@pytest.mark.parametrize("serializer", SERIALIZERS)
def test_deep_nesting_is_refused_at_any_depth(arena: Arena, serializer: str) -> None:
    """A decoder that recurses dies of this, and the process with it."""
    for make in (_nested, _maps):
        for depth in (200, 5_000, 150_000):
            peer = arena.join("rawsocket", serializer)
            send(peer, peer.frame(make(serializer, depth)))
            messages, _ = last_words(peer)
            peer.close()
            assert messages[-1][0] == ABORT
            assert "nest" in messages[-1][1]["message"]


def test_messages_that_are_dear_to_decode_hold_up_nobody(arena: Arena) -> None:
    """As much work as fits into a message of the largest size: small numbers, long keys, escapes, numbers of many digits, empty maps."""
    n = MESSAGE_BYTES - 200
    dear = {
        "json": [b"[" + b"0," * (n // 2 - 2) + b"0]", b'["' + b"\\u0041" * (n // 6 - 2) + b'"]', b"[" + b"{}," * (n // 3 - 2) + b"0]", b"[" + b"1" * (n - 2) + b"]", b"[1e" + b"9" * 1000 + b"]"],
        "msgpack": [b"\xdd" + struct.pack(">I", n - 10) + b"\0" * (n - 10), b"\xdd" + struct.pack(">I", n - 10) + b"\x80" * (n - 10), b"\xdd\xff\xff\xff\xff"],
        "cbor": [b"\x9a" + struct.pack(">I", n - 10) + b"\0" * (n - 10), b"\x9a" + struct.pack(">I", n - 10) + b"\xa0" * (n - 10), b"\x9f" + b"\xc1" * 1000 + b"\0\xff", b"\x81\xc2\x5a" + struct.pack(">I", n - 100) + b"\xff" * (n - 100), b"\x9b" + b"\xff" * 8],
    }  # fmt: skip
    before = {"json": b'[16,1,{},"com.t",', "msgpack": b"\x95\x10\x01\x80\xa5com.t", "cbor": b"\x85\x10\x01\xa0\x65com.t"}  # fmt: skip
    for serializer, all_args in dear.items():
        for args in all_args:
            # A subscriber of another serializer makes the router open it.
            other = arena.join("rawsocket", "cbor" if serializer == "json" else "json")
            other.subscribe("com.t")
            peer = arena.join("rawsocket", serializer)
            after = b"]" if serializer == "json" else b""
            send(peer, peer.frame(before[serializer] + args + after))
            send(peer, peer.frame(_ENCODE[serializer]([GOODBYE, {}, "wamp.close.normal"])))
            messages, _ = last_words(peer, GOODBYE)
            peer.close()
            other.close()
            assert [message[0] for message in messages] in ([GOODBYE], [ABORT]), messages


# -- frames


def test_broken_frames_end_with_a_reason(arena: Arena) -> None:
    """Sizes that nobody has, reserved bits, fragments of nothing, control frames that are none, text that is no UTF-8."""
    mask = b"\1\2\3\4"
    broken_websocket = [
        b"\x81\xff" + b"\xff" * 8 + mask,
        b"\x81\xff" + struct.pack(">Q", 1 << 40) + mask,
        b"\x81\xff" + struct.pack(">Q", 5) + mask + b"hello",
        b"\xf1\x80" + mask,
        b"\x83\x80" + mask,
        b"\x80\x80" + mask,
        b"\x89\xfe\x00\x7e" + mask + b"x" * 126,
        b"\x09\x80" + mask,
        b"\x81\x02[]",
        b"\x01\x81" + mask + b"[\x81\x81" + mask + b"]",
        b"\x88\x81" + mask + b"x",
        b"\x88\x82" + bytes(4) + b"\x00\x00",
        b"\x81\x84" + bytes(4) + b'"\xc3("',
        b"\xc1\x84" + bytes(4) + b"\xff\xff\xff\xff",
    ]
    for data in broken_websocket:
        peer = arena.join("websocket")
        send(peer, data)
        messages, code = last_words(peer)
        peer.close()
        assert code in CLOSE_CODES - {1000}, (data, messages, code)
    for data in (
        b"\x00\xff\xff\xff",
        b"\x03\0\0\1x",
        b"\xff\xff\xff\xff",
        b"\x08\0\0\1x",
        b"\x00\0\0\0",
    ):
        peer = arena.join("rawsocket")
        send(peer, data)
        messages, _ = last_words(peer)
        peer.close()
        assert [message[0] for message in messages] == [ABORT], (data, messages)


def test_bombs_of_compression_and_fragments_are_bounded(arena: Arena) -> None:
    offer = ("Sec-WebSocket-Extensions: permessage-deflate",)
    deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed = (deflate.compress(b" " * 200_000_000) + deflate.flush(zlib.Z_SYNC_FLUSH))[:-4]
    assert len(packed) < MESSAGE_BYTES
    for _ in range(3):
        peer = arena.peer("websocket", headers=offer)
        frame = bytearray(peer.frame(packed))
        frame[0] |= 0x40
        send(peer, bytes(frame))
        assert b"\x88" in (data := peer.drain())
        assert struct.pack(">H", 1009) in data

    endless = arena.join("websocket")
    send(
        endless,
        b"\x01\x80\1\2\3\4" + b"\x00\x81\1\2\3\4x" * 200_000 + b"\x00\x80\1\2\3\4" * 200_000,
    )
    half = arena.join("websocket")
    send(
        half,
        b"\x01\xff"
        + struct.pack(">Q", MESSAGE_BYTES // 2)
        + bytes(4)
        + b" " * (MESSAGE_BYTES // 2),
    )
    send(half, b"\x00\xff" + struct.pack(">Q", MESSAGE_BYTES) + bytes(4) + b" " * 100)
    _, code = last_words(half)
    assert code == 1009
    for peer in (endless, half):
        peer.close()


def test_floods_of_pings_and_of_errors_delay_nobody(arena: Arena) -> None:
    """Each answer is as long as the question: whoever does not read them is cut off at the limit of its queue."""
    pings = arena.join("websocket")
    pings.sock.settimeout(0.2)
    ping = b"\x89\xfd" + bytes(4) + b"p" * 125
    raw = arena.join("rawsocket")
    raw.sock.settimeout(0.2)
    wrong = b"".join(raw.frame(b"[66,%d,77]" % n) for n in range(1, 3000))
    until = time.monotonic() + 1.5
    with contextlib.suppress(TimeoutError, BrokenPipeError, ConnectionResetError):
        while time.monotonic() < until:
            pings.sock.sendall(ping * 2000)
    with contextlib.suppress(TimeoutError, BrokenPipeError, ConnectionResetError):
        while time.monotonic() < until + 1.5:
            raw.sock.sendall(wrong)
    for peer in (pings, raw):
        peer.close()


# -- connections


def _handshakes(chance: random.Random) -> Iterator[bytes]:
    good = (
        b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: wamp.2.json\r\n\r\n"
    )
    yield from (
        good.replace(b"Version: 13", b"Version: 8"), good.replace(b"wamp.2.json", b"wamp.2.xml"), good.replace(b"dGhl", b"!!!!"),
        good.replace(b"HTTP/1.1", b"HTTP/9.9"), good.replace(b"GET", b"GE T"), good.replace(b"Host: x\r\n", b"Host: x\r\nHost: y\r\n"),
        good.replace(b"Host: x", b"Host: x\r\nContent-Length: -1"), good.replace(b"Host: x", b"Host: x\r\nTransfer-Encoding: chunked\r\nContent-Length: 3"),
        good.replace(b"Host: x", b"X: " + b"y" * 200_000), good.replace(b"Host: x", b"\r\n".join(b"H%d: y" % n for n in range(5000))),
        good.replace(b"GET /", b"GET /" + b"a" * 100_000), good.replace(b"GET /", b"GET /../../etc/passwd"), good.replace(b"Host: x", b"Host x"),
        good.replace(b"Host: x", b"Host: x\0y"), b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03" + chance.randbytes(500),
        b"\x7f\x00\0\0", b"\x7f\xf0\0\0", b"\x7f\xfa\0\0", b"\x7f\xf1\0\1", b"\x7f", b"", b"\r\n" * 1000, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    )  # fmt: skip
    for _ in range(60 * ROUNDS):
        yield damaged(chance, good)
    for _ in range(60 * ROUNDS):
        yield chance.randbytes(chance.randrange(1, 400))


def test_noise_in_place_of_a_handshake_is_answered_or_ended(arena: Arena) -> None:
    """An HTTP status, RawSocket's own error, or the end; never silence for longer than the handshake may take."""
    chance = random.Random(SEED)
    for data in _handshakes(chance):
        sock = arena.connect()
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            sock.sendall(data)
            sock.shutdown(socket.SHUT_WR)
        answer = b""
        with contextlib.suppress(ConnectionResetError):
            while more := sock.recv(65536):
                answer += more
        sock.close()
        assert not answer or answer.startswith((b"HTTP/1.1 ", b"\x7f")), (data, answer)
        if answer.startswith(b"HTTP/1.1 101"):
            continue  # what was changed did not matter
        assert not answer.startswith((b"HTTP/1.1 500", b"HTTP/1.1 502")), (data[:300], answer)


class Loris:
    """A connection that never gets done with its handshake, and what it is told at the end."""

    def __init__(self, sock: socket.socket, opening: bytes, drips: bool, told: bytes) -> None:
        self.sock, self.drips, self.told = sock, drips, told
        self.answer = b""
        sock.sendall(opening)
        sock.setblocking(False)

    def drip(self) -> None:
        if self.drips:
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                self.sock.send(b"x")

    def is_ended(self) -> bool:
        try:
            while data := self.sock.recv(4096):
                self.answer += data
        except BlockingIOError:
            return False
        except ConnectionResetError:
            pass
        return True


def test_slow_loris_of_every_kind_is_ended_with_a_word(arena: Arena) -> None:
    """Two hundred connections that are never done with their handshake, a byte now and then; the honest come in beside them."""
    hello = _ENCODE["json"]([HELLO, "realm1", {"roles": ROLES, "authid": "joe", "authmethods": ["ticket"]}])  # fmt: skip
    kinds: tuple[tuple[str, bytes, bool, bytes], ...] = (
        ("open", b"GET / HTTP/1.1\r\nX-Slow: ", True, b"HTTP/1.1 408"),
        ("open", b"\x7f", False, b""),
        ("open", b"\x7f\xf1\0\0", False, b"wamp.error.timeout"),
        ("open", b"\x7f\xf1\0\0" + struct.pack(">I", 500) + b"[1,", True, b""),
        ("auth", b"\x7f\xf1\0\0" + struct.pack(">I", len(hello)) + hello, False, b"wamp.error.timeout"),
    )  # fmt: skip
    crowd = [
        Loris(arena.connect(where), opening, drips, told)
        for where, opening, drips, told in kinds * 40
    ]
    began = time.monotonic()

    def all_ended() -> bool:
        waiting = [one for one in crowd if not one.is_ended()]
        # Not to the last: what is on its way when a connection is ended resets it, and the answer is lost.
        if time.monotonic() < began + HANDSHAKE_S / 2:
            for one in waiting:
                one.drip()
        honest = arena.join("websocket")
        assert honest.is_served()
        honest.close()
        return not waiting

    wait_until(all_ended, "all of them to be ended")
    for one in crowd:
        assert one.told in one.answer, (one.told, one.answer)


def test_resets_in_the_middle_of_anything_leave_nothing_behind(arena: Arena) -> None:
    """With subscriptions, registrations and calls in flight in both directions; the callers are told."""
    chance = random.Random(SEED)
    caller = arena.join("websocket")
    for n in range(60 * ROUNDS):
        peer = arena.join(chance.choice(["rawsocket", "websocket"]))
        peer.subscribe("com.t.reset")
        peer.register("com.app.reset")
        caller.send(CALL, n + 1, {}, "com.app.reset", [n])
        peer.expect(68)
        data = peer.frame(_ENCODE["json"]([16, 3, {}, "com.t.reset", ["x" * 500]]))
        send(peer, data[: chance.randrange(len(data))])
        if n % 3:
            peer.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        elif n % 2:
            peer.sock.shutdown(socket.SHUT_WR)
        peer.close()
        answer = caller.receive()
        assert answer[:3] == [8, CALL, n + 1], answer
        assert answer[4] == "wamp.error.canceled", answer
    caller.close()


def test_thousands_of_connections_that_come_and_go(arena: Arena) -> None:
    """Half of them are reset; some say half a word; none of them signs in."""
    chance = random.Random(SEED)
    for batch in range(30 * ROUNDS):
        socks = [arena.connect() for _ in range(100)]
        for n, sock in enumerate(socks):
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                if n % 3 == 0:
                    sock.send(chance.choice([b"\x7f", b"G", b"GET / HT", b"\x7f\xf2\0\0", b"\0"]))
            if (n + batch) % 2:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            sock.close()


def test_sessions_that_join_and_hold_what_they_can_are_forgotten_with_them(arena: Arena) -> None:
    """Testaments, retained events and patterns of many sessions; most of it is gone when they are."""
    for n in range(20 * ROUNDS):
        peer = arena.join("rawsocket", "msgpack")
        frames = []
        for at in range(150):
            frames.append([32, 3 * at + 1, {"match": ("exact", "prefix", "wildcard")[at % 3]}, f"com.s{n}..t{at}" if at % 3 == 2 else f"com.s{n}.t{at}"])  # fmt: skip
            frames.append([64, 3 * at + 2, {}, f"com.p{n}.q{at}"])
            frames.append([CALL, 3 * at + 3, {}, "wamp.session.add_testament", [f"com.s{n}.t{at}", ["x" * 100], {}]])  # fmt: skip
        send(peer, b"".join(peer.frame(msgspec.msgpack.encode(frame)) for frame in frames))
        peer.sock.settimeout(DEADLINE_S)
        for _ in frames:
            peer.receive()
        peer.close()


def test_a_subscriber_that_reads_nothing_is_cut_off(arena: Arena) -> None:
    """2 MB are kept for it, not the 40 MB that are published."""
    frozen = arena.join("rawsocket")
    frozen.subscribe("com.t.flood")
    speaker = arena.join("rawsocket")
    event = speaker.frame(_ENCODE["json"]([16, 1, {}, "com.t.flood", ["x" * 10_000]]))
    before = arena.router.rss_kib()
    for _ in range(80):
        speaker.sock.sendall(event * 50)
    assert speaker.is_served()

    assert arena.router.rss_kib() - before < 32 * 1024
    assert "does not read" in arena.router.said()
    for peer in (frozen, speaker):
        peer.close()
