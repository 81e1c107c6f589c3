"""Strangers send what they like: the offender is told what was wrong, and nobody else notices anything."""

from __future__ import annotations

import json
import random
import struct
import time
from typing import TYPE_CHECKING, Any

import pytest

from holdfast.router import alone
from router.peers import (
    ABORT,
    GOODBYE,
    HELLO,
    ROLES,
    Peer,
    RawSocketPeer,
    WebSocketPeer,
    wait_until,
)

if TYPE_CHECKING:
    from router.peers import Running

VIOLATION = "wamp.error.protocol_violation"


def _ends_with_abort(peer: Peer) -> str:
    """The text of the ABORT that the peer got, after which the connection has to be closed."""
    message = peer.receive()
    while message[0] != ABORT:
        message = peer.receive()
    assert message[2] == VIOLATION, message
    peer.drain()
    return str(message[1]["message"])


_BROKEN: dict[str, tuple[bytes, str]] = {
    "no JSON": (b"{[", "JSON"),
    "no array": (b'{"a":1}', ""),
    "unknown type": (b'[99,1,{},"a.b"]', "99"),
    "missing elements": (b"[48,1]", ""),
    "wrong element": (b'[48,"one",{},"a.b"]', ""),
    "negative id": (b'[48,-1,{},"a.b"]', ""),
    "id above 2**53": (b'[48,9007199254740993,{},"a.b"]', ""),
    "bad UTF-8": (b'[48,1,{},"a.\xff"]', "UTF-8"),
    "bad UTF-8 in the payload": (b'[16,1,{},"com.t",["\xff"]]', "UTF-8"),
    "deep nesting": (b'[16,1,{},"com.t",' + b"[" * 5000 + b"]" * 5000 + b"]", "deep"),
    "trailing bytes": (b'[48,1,{},"a.b"]x', ""),
    "a message of a router": (b"[2,1,{}]", "WELCOME"),
    "HELLO again": (b'[1,"realm1",{"roles":{"caller":{}}}]', "HELLO"),
    "YIELD for nothing": (b"[70,77,{}]", "77"),
}


@pytest.mark.parametrize("kind", ["rawsocket", "websocket"])
@pytest.mark.parametrize("name", list(_BROKEN))
def test_what_is_no_proper_message_gets_an_abort_that_says_why(running: Running, kind: str, name: str) -> None:  # fmt: skip
    running.start()
    bystander = running.join("websocket")
    bystander.subscribe("com.t")
    peer = running.join(kind)
    data, says = _BROKEN[name]

    frame = peer.frame(data, 1) if isinstance(peer, WebSocketPeer) and b"\xff" not in data else peer.frame(data)  # fmt: skip
    peer.sock.sendall(frame)

    assert says in _ends_with_abort(peer)
    assert bystander.is_served()
    wait_until(lambda: len(running.router.sessions) == 1, "the offender to be gone")


@pytest.mark.parametrize("kind", ["rawsocket", "websocket"])
def test_what_comes_before_the_offence_in_the_same_chunk_is_carried_out(running: Running, kind: str) -> None:  # fmt: skip
    running.start()
    listener = running.join()
    listener.subscribe("com.t")
    peer = running.join(kind)

    peer.sock.sendall(peer.frame(b'[16,1,{},"com.t",["last words"]]') + peer.frame(b"garbage"))

    assert listener.receive()[4] == ["last words"]
    assert _ends_with_abort(peer)


@pytest.mark.parametrize("serializer", ["msgpack", "cbor"])
def test_broken_binary_messages_get_an_abort_too(running: Running, serializer: str) -> None:
    running.start()
    peer = running.join("websocket", serializer)
    assert isinstance(peer, WebSocketPeer)

    peer.sock.sendall(peer.frame(b"\xc1\xff\xff\xff", 2))

    assert _ends_with_abort(peer)


def test_text_on_a_binary_connection_is_refused(running: Running) -> None:
    running.start()
    peer = running.join("websocket", "msgpack")
    assert isinstance(peer, WebSocketPeer)

    peer.sock.sendall(peer.frame(b'[48,1,{},"a.b"]', 1))

    assert "binary" in _ends_with_abort(peer)


def test_an_unmasked_frame_is_refused_with_code_1002(running: Running) -> None:
    running.start()
    peer = running.join("websocket")
    assert isinstance(peer, WebSocketPeer)

    peer.sock.sendall(b"\x81\x02[]")

    assert "masked" in json.loads(peer.receive_frame()[1])[1]["message"]
    opcode, payload = peer.receive_frame()
    assert (opcode, struct.unpack(">H", payload[:2])[0]) == (8, 1002)
    assert peer.drain() == b""


@pytest.mark.parametrize("kind", ["rawsocket", "websocket"])
def test_an_oversized_message_is_refused_before_it_has_come(running: Running, kind: str) -> None:
    running.start(alone.transport("t0", message_bytes=65536))
    bystander = running.join(kind)
    peer = running.join(kind)
    if isinstance(peer, WebSocketPeer):
        peer.sock.sendall(struct.pack(">BBQ", 0x81, 0xFF, 1 << 40) + b"\1\2\3\4")
    else:
        peer.sock.sendall(struct.pack(">I", 0xFFFFFF))

    assert "65536" in _ends_with_abort(peer)
    assert bystander.is_served()


def test_a_decompression_bomb_is_refused(running: Running) -> None:
    """A thousand to one: 20 MB from 20 KB."""
    import zlib

    running.start(alone.transport("t0", message_bytes=65536))
    offer = ("Sec-WebSocket-Extensions: permessage-deflate",)
    peer = running.peer("websocket", headers=offer)
    assert isinstance(peer, WebSocketPeer)
    deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed = deflate.compress(b" " * 20_000_000) + deflate.flush(zlib.Z_SYNC_FLUSH)
    frame = bytearray(peer.frame(packed[:-4]))
    frame[0] |= 0x40

    peer.sock.sendall(bytes(frame))

    assert b"65536" in peer.drain()


def test_an_end_without_goodbye_to_a_router_that_asked_for_it_is_enough(running: Running) -> None:
    running.start()
    victim, killer = running.join(), running.join("websocket")

    killer.request(48, 50, {}, "wamp.session.kill", [victim.session], {"reason": "com.app.tired"})

    assert victim.expect(GOODBYE)[2] == "com.app.tired"
    victim.send(GOODBYE, {}, "wamp.close.goodbye_and_out")
    assert victim.drain() == b""
    victim.close()
    wait_until(lambda: not running.router.lingering, "the connection to be forgotten")


def test_one_that_was_asked_to_leave_and_does_not_is_ended(running: Running) -> None:
    running.start()
    victim, killer = running.join(), running.join()

    killer.request(48, 50, {}, "wamp.session.kill", [victim.session])

    wait_until(lambda: len(running.router.connections) == 1, "the connection to be ended")
    assert killer.is_served()


def test_messages_before_hello_are_refused(running: Running) -> None:
    running.start()
    for kind in ("rawsocket", "websocket"):
        peer = running.peer(kind)
        peer.send(48, 1, {}, "com.app.echo")
        assert "HELLO" in _ends_with_abort(peer)


def test_a_realm_that_does_not_exist_is_refused_by_name(running: Running) -> None:
    running.start()
    peer = running.peer()

    peer.send(HELLO, "realm7", {"roles": ROLES})

    message = peer.expect(ABORT)
    assert message[2] == "wamp.error.no_such_realm"
    assert "realm7" in message[1]["message"]
    assert peer.drain() == b""


def test_a_handshake_of_no_known_kind_is_answered_in_its_own_language(running: Running) -> None:
    running.start()
    reserved = running.connect()
    reserved.sendall(b"\x7f\xf1\x01\x00")
    assert reserved.recv(4) == b"\x7f\x30\0\0"
    assert reserved.recv(4) == b""

    http = running.connect()
    http.sendall(b"BLAH\r\n\r\n")
    assert http.recv(4096).startswith(b"HTTP/1.1 400")


def test_a_port_for_rawsocket_alone_tells_http_clients_so(running: Running) -> None:
    plan = alone.transport("t0")
    plan["websocket"] = None
    running.start(plan)
    http = running.connect()

    http.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")

    answer = http.recv(4096)
    assert answer.startswith(b"HTTP/1.1 400")
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"Content-Length: %d" % len(body) in head
    assert b"RawSocket" in body


def test_noise_never_hurts_the_router(running: Running) -> None:
    """Half of it after a proper HELLO, on both transports; a session beside it is served all the time."""
    running.start()
    bystander = running.join("websocket")
    chance = random.Random(20260101)
    for n in range(120):
        kind = "websocket" if n % 2 else "rawsocket"
        peer = running.peer(kind, chance.choice(["json", "msgpack", "cbor"]))
        if n % 4 < 2:
            peer.join()
        noise = chance.randbytes(chance.randrange(1, 3000))
        framed = peer.frame(noise) if n % 3 else noise
        try:
            peer.sock.sendall(framed)
            peer.sock.shutdown(1)
        except OSError:
            pass  # refused before all of it was sent
        peer.drain()
        peer.close()
        if n % 20 == 0:
            assert bystander.is_served()

    assert bystander.is_served()
    wait_until(lambda: len(running.router.connections) == 1, "all of them to be gone")
    assert len(running.router.sessions) == 1
    assert not running.router.newcomers


def test_mutated_conversations_never_hurt_the_router(running: Running) -> None:
    """Real messages with a few bytes changed get further into the router than noise."""
    running.start()
    bystander = running.join()
    chance = random.Random(7)
    script: list[list[Any]] = [
        [32, 1, {"match": "prefix"}, "com.t"], [64, 2, {"invoke": "roundrobin"}, "com.p"],
        [16, 3, {"acknowledge": True}, "com.t.a", [1], {"k": 2}], [48, 4, {"timeout": 50}, "com.p", [1]],
        [70, 1, {"progress": True}, [2]], [70, 1, {}, [2]], [49, 4, {"mode": "kill"}], [34, 5, 1], [66, 6, 1],
        [8, 68, 1, {}, "com.error"], [6, {}, "wamp.close.normal"],
    ]  # fmt: skip
    for _ in range(150):
        peer = running.join("rawsocket", "json")
        for message in script:
            data = bytearray(json.dumps(message).encode())
            for _ in range(chance.randrange(3)):
                data[chance.randrange(len(data))] = chance.randrange(256)
            try:
                peer.sock.sendall(peer.frame(bytes(data)))
            except OSError:
                break  # it was ended at an earlier one
        peer.close()

    assert bystander.is_served()
    wait_until(lambda: len(running.router.connections) == 1, "all of them to be gone")
    stats = running.do(lambda: running.router.realms["realm1"].stats())
    assert (stats["sessions"], stats["subscriptions"], stats["registrations"]) == (1, 0, 0)
    assert stats["calls_in_flight"] == 0


def test_a_flood_of_offences_is_no_flood_of_lines(running: Running) -> None:
    running.start()
    began_s = time.monotonic()
    for _ in range(50):
        peer = running.join()
        peer.sock.sendall(peer.frame(b"garbage"))
        _ends_with_abort(peer)
        peer.close()

    lines = [line for line in running.log.lines if "protocol violation" in line]
    assert 1 <= len(lines) <= 2 + (time.monotonic() - began_s)


def test_a_fault_of_the_router_costs_one_connection_and_is_told(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    """Should a rule ever raise what nobody thought of: the log has its traceback, everybody else goes on."""
    running.start()
    bystander = running.join()
    peer = running.join()
    realm = running.router.realms["realm1"]
    session = running.router.sessions[peer.session]

    def broken(*_: object) -> None:
        raise ZeroDivisionError("nobody thought of that")

    monkeypatch.setattr(session, "handlers", dict.fromkeys(list(realm._handlers), broken))
    connection = next(c for c in running.router.connections if c.session is session)
    monkeypatch.setattr(connection, "receive", broken)
    peer.send(48, 1, {}, "com.app.echo")

    assert peer.expect(ABORT)[2] == "wamp.error.internal_error"
    assert bystander.is_served()
    told = [line for line in running.log.lines if "the fault is the router's" in line]
    assert len(told) == 1
    assert peer.session not in running.router.sessions
    running.log.lines.clear()


def test_bytes_by_the_piece_and_a_client_that_vanishes_in_a_frame(running: Running) -> None:
    running.start()
    for kind in ("rawsocket", "websocket"):
        peer = running.join(kind)
        whole = peer.frame(json.dumps([16, 1, {}, "com.t", ["x" * 5000]]).encode())
        peer.sock.sendall(whole[: len(whole) // 2])
        peer.close()

    wait_until(lambda: not running.router.connections, "both to be gone")
    assert running.join().is_served()


def test_peers_that_reset_at_any_point_leave_nothing_behind(running: Running) -> None:
    """A reset (RST) is what a crashed client's kernel sends."""
    linger = struct.pack("ii", 1, 0)
    running.start()
    for n in range(40):
        sock = running.connect()
        conversation = [b"\x7f", b"\xf1\0\0", RawSocketPeer.frame(None, json.dumps([HELLO, "realm1", {"roles": ROLES}]).encode())]  # type: ignore[arg-type]  # fmt: skip
        for piece in conversation[: n % 4]:
            sock.sendall(piece)
        sock.setsockopt(1, 13, linger)  # SO_LINGER
        sock.close()

    wait_until(lambda: not running.router.connections and not running.router.newcomers, "all to be gone")  # fmt: skip
    assert not running.router.sessions
