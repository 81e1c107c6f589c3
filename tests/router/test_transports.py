"""Every way to reach a realm: transports, serializers, compression, batches, TLS; and what they look like on the wire."""

from __future__ import annotations

import socket
import struct
import zlib
from typing import TYPE_CHECKING, Any, cast

import pytest

from holdfast.router import alone
from router.peers import (
    ABORT,
    CALL,
    DEADLINE_S,
    EVENT,
    GOODBYE,
    HELLO,
    INVOCATION,
    RESULT,
    ROLES,
    WELCOME,
    YIELD,
    Peer,
    WebSocketPeer,
    tls_files,
    trusting,
    wait_until,
)

if TYPE_CHECKING:
    from pathlib import Path

    from router.peers import Running

_KINDS = ("rawsocket", "websocket")
_SERIALIZERS = ("json", "msgpack", "cbor")


def _call_through(caller: Peer, callee: Peer, procedure: str, argument: Any) -> Any:
    """One call from one peer to the other and back; what arrived at the callee and at the caller."""
    callee.register(procedure)
    caller.call(procedure, argument)
    invocation = callee.expect(INVOCATION)
    callee.send(YIELD, invocation[1], {}, invocation[4])
    return invocation[4][0], caller.expect(RESULT)[3][0]


@pytest.mark.parametrize("kind", _KINDS)
@pytest.mark.parametrize("serializer", _SERIALIZERS)
def test_a_call_makes_its_round_on_every_transport_in_every_serializer(running: Running, kind: str, serializer: str) -> None:  # fmt: skip
    running.start()
    caller, callee = (running.join(kind, serializer) for _ in range(2))

    assert _call_through(caller, callee, "com.app.echo", {"grüße": [1, "x" * 70_000]}) == (
        {"grüße": [1, "x" * 70_000]},
        {"grüße": [1, "x" * 70_000]},
    )


@pytest.mark.parametrize("theirs", _SERIALIZERS)
@pytest.mark.parametrize("ours", _SERIALIZERS)
def test_peers_with_different_serializers_understand_each_other(running: Running, ours: str, theirs: str) -> None:  # fmt: skip
    running.start()
    caller = running.join("websocket", ours)
    callee = running.join("rawsocket", theirs)

    assert _call_through(caller, callee, "com.app.echo", [1.5, None, "ü"]) == (
        [1.5, None, "ü"],
        [1.5, None, "ü"],
    )


def test_one_event_reaches_subscribers_of_all_kinds(running: Running) -> None:
    """It is encoded once for each kind of connection and shared: nobody may get another one's bytes."""
    running.start()
    peers = [running.join(kind, s) for kind in _KINDS for s in _SERIALIZERS for _ in range(2)]
    for peer in peers:
        peer.subscribe("com.app.news")

    running.join().publish("com.app.news", "hello", b"x".decode())

    assert [peer.expect(EVENT)[4] for peer in peers] == [["hello", "x"]] * len(peers)


def test_a_unix_socket_names_the_process_at_the_other_end(running: Running, tmp_path: Path) -> None:
    plan = alone.transport("t0", "unix")
    plan["endpoint"]["path"] = str(tmp_path / "bus.sock")
    running.start(plan)
    peer = running.join()

    details = peer.request(CALL, RESULT, {}, "wamp.session.get", [peer.session])[3][0]

    assert details["transport"]["peer"].startswith("unix:pid=")


def test_who_opens_the_internal_socket_has_the_role_that_it_names(running: Running, tmp_path: Path) -> None:  # fmt: skip
    """The run directory is 0700: opening the socket is the proof."""
    plan = alone.transport("t0", "unix")
    plan["endpoint"]["path"] = str(tmp_path / "bus.sock")
    plan["internal"] = True
    running.start(plan)
    peer = running.peer()

    peer.join(authrole="anonymous", authid="board")

    assert (peer.welcome["authrole"], peer.welcome["authid"]) == ("anonymous", "board")
    other = running.join()
    assert other.welcome["authrole"] == "trusted"


@pytest.mark.parametrize("kind", _KINDS)
def test_welcome_says_who_one_is_and_what_the_router_can(running: Running, kind: str) -> None:
    running.start()

    welcome = running.join(kind).welcome

    assert welcome["realm"] == "realm1"
    assert welcome["authrole"] == "anonymous"
    assert welcome["authmethod"] == "anonymous"
    assert welcome["authid"]
    assert welcome["authprovider"] == "static"
    assert welcome["roles"]["broker"]["features"]["event_history"] is True
    assert welcome["roles"]["dealer"]["features"]["call_timeout"] is True
    assert welcome["x_router"] == "router"


@pytest.mark.parametrize("kind", _KINDS)
def test_a_connection_carries_one_session_after_the_other(running: Running, kind: str) -> None:
    """WAMP: a session may end without its transport."""
    running.start()
    peer = running.join(kind)
    first = peer.session

    peer.send(GOODBYE, {}, "wamp.close.close_realm")

    assert peer.expect(GOODBYE)[2] == "wamp.close.goodbye_and_out"
    peer.join()
    assert peer.session != first
    assert peer.is_served()
    assert running.do(lambda: len(running.router.sessions)) == 1


@pytest.mark.parametrize("serializer", _SERIALIZERS)
def test_batches_come_and_go_in_one_websocket_message(running: Running, serializer: str) -> None:
    """wamp.2.json.batched and its kin: what one chunk leads to is one message."""
    import json

    import cbor2
    import msgspec

    encode: Any = {"json": lambda v: json.dumps(v).encode(), "msgpack": msgspec.msgpack.encode, "cbor": cbor2.dumps}[serializer]  # fmt: skip
    decode: Any = {"json": json.loads, "msgpack": msgspec.msgpack.decode, "cbor": cbor2.loads}[serializer]  # fmt: skip

    def batch(*messages: list[Any]) -> bytes:
        parts = [encode(message) for message in messages]
        if serializer == "json":
            return b"".join(part + b"\x1e" for part in parts)
        return b"".join(struct.pack(">I", len(part)) + part for part in parts)

    def split(data: bytes) -> list[Any]:
        if serializer == "json":
            return [decode(part) for part in data.split(b"\x1e") if part]
        found = []
        while data:
            n = struct.unpack(">I", data[:4])[0]
            found.append(decode(data[4 : 4 + n]))
            data = data[4 + n :]
        return found

    running.start()
    peer = running.peer("websocket", f"{serializer}.batched")
    assert isinstance(peer, WebSocketPeer)
    peer.sock.sendall(peer.frame(batch([HELLO, "realm1", {"roles": ROLES}])))
    assert split(peer.receive_bytes())[0][0] == WELCOME

    peer.sock.sendall(peer.frame(batch(*([32, n, {}, f"com.t{n}"] for n in range(1, 4)))))

    assert [message[:2] for message in split(peer.receive_bytes())] == [[33, 1], [33, 2], [33, 3]]


def test_compressed_messages_are_understood_and_sent(running: Running) -> None:
    running.start()
    offer = ("Sec-WebSocket-Extensions: permessage-deflate",)
    peer = running.peer("websocket", "json", headers=offer)
    assert isinstance(peer, WebSocketPeer)
    assert "permessage-deflate" in peer.head
    deflate = zlib.compressobj(6, zlib.DEFLATED, -15)
    hello = b'[1,"realm1",{"roles":{"subscriber":{},"publisher":{}}}]'
    packed = (deflate.compress(hello) + deflate.flush(zlib.Z_SYNC_FLUSH))[:-4]
    frame = bytearray(peer.frame(packed))
    frame[0] |= 0x40

    peer.sock.sendall(bytes(frame))

    first = peer.take(1)[0]
    assert first & 0x40, "WELCOME is long enough to be compressed"
    n = peer.take(1)[0]
    n = struct.unpack(">H", peer.take(2))[0] if n == 126 else n
    unpacked = zlib.decompressobj(-15).decompress(peer.take(n) + b"\0\0\xff\xff")
    assert unpacked.startswith(b"[2,")


def test_a_ping_is_answered_with_its_payload(running: Running) -> None:
    running.start()
    web = running.join("websocket")
    raw = running.join("rawsocket")
    assert isinstance(web, WebSocketPeer)

    web.sock.sendall(web.frame(b"are you there", 9))
    raw.sock.sendall(b"\x01\0\0\x03abc")

    assert web.receive_frame() == (10, b"are you there")
    assert raw.take(7) == b"\x02\0\0\x03abc"


def test_a_websocket_close_is_answered_with_one(running: Running) -> None:
    running.start()
    peer = running.join("websocket")
    assert isinstance(peer, WebSocketPeer)

    peer.sock.sendall(peer.frame(struct.pack(">H", 1001), 8))

    assert peer.receive_frame() == (8, struct.pack(">H", 1001))
    assert peer.sock.recv(1) == b""
    wait_until(lambda: not running.router.sessions, "the session to be gone")


def test_tls_serves_everything_and_a_new_certificate_without_restart(running: Running, tmp_path: Path) -> None:  # fmt: skip
    """Certificates are renewed every few weeks, and nobody should be signed out for that."""
    certificate, key = tls_files(tmp_path)
    plan = alone.transport("t0")
    plan["endpoint"]["tls"] = {
        "certificate": certificate, "key": key, "chain": [], "ca": [], "require_client": False, "ciphers": None,
    }  # fmt: skip
    running.start(plan)

    def secure() -> Any:
        context = trusting(certificate)
        return context.wrap_socket(running.connect(), server_hostname="localhost")

    old_context = trusting(certificate)
    before = running.join("websocket", sock=secure())
    raw = running.join("rawsocket", "msgpack", sock=secure())
    assert _call_through(before, raw, "com.app.echo", "x" * 100_000) == ("x" * 100_000,) * 2

    tls_files(tmp_path)  # the same names, another certificate
    wait_until(lambda: any("new certificate" in line for line in running.log.lines), "the renewal")

    assert running.join("websocket", sock=secure()).is_served()
    with pytest.raises(OSError, match="CERTIFICATE_VERIFY_FAILED"):
        old_context.wrap_socket(running.connect(), server_hostname="localhost")
    assert before.is_served()


def test_a_transport_without_a_certificate_is_served_as_soon_as_there_is_one(running: Running, tmp_path: Path) -> None:  # fmt: skip
    """One missing file must not keep the others from being served."""
    plan, plain = alone.transport("t0"), alone.transport("t1")
    plan["endpoint"]["tls"] = {
        "certificate": str(tmp_path / "localhost.crt"), "key": str(tmp_path / "localhost.key"),
        "chain": [], "ca": [], "require_client": False, "ciphers": None,
    }  # fmt: skip
    running.start(plan, plain)
    assert running.join(listener="t1").is_served()
    with pytest.raises(RuntimeError, match=r'transport "t0" is not served: .*localhost\.crt'):
        running.router.health()

    waits = running.connect()  # in the backlog, which is the keeper's
    certificate, _ = tls_files(tmp_path)

    secure = trusting(certificate).wrap_socket(waits, server_hostname="localhost")
    assert running.join(sock=secure).is_served()


def test_a_client_certificate_signs_in(running: Running, tmp_path: Path) -> None:
    import hashlib
    import ssl

    certificate, key = tls_files(tmp_path)
    theirs, their_key = tls_files(tmp_path, "alice")
    sha256 = hashlib.sha256(
        ssl.PEM_cert_to_DER_cert((tmp_path / "alice.crt").read_text())
    ).hexdigest()
    principals = {"alice": {"certificate-sha256": sha256, "role": "anonymous"}}
    plan = alone.transport("t0", auth={"tls": {"type": "static", "principals": principals}})
    plan["endpoint"]["tls"] = {
        "certificate": certificate, "key": key, "chain": [], "ca": [theirs], "require_client": False, "ciphers": None,
    }  # fmt: skip
    running.start(plan)
    context = trusting(certificate)
    context.load_cert_chain(theirs, their_key)
    peer = running.peer(sock=context.wrap_socket(running.connect(), server_hostname="localhost"))

    peer.join(authmethods=["tls"])

    assert (peer.welcome["authid"], peer.welcome["authmethod"]) == ("alice", "tls")


def test_a_page_of_a_stranger_may_not_connect(running: Running) -> None:
    running.start(alone.transport("t0"))
    running.reconfigure(
        lambda plan: cast("Any", plan["transports"][0]["websocket"]).update(
            origins=["https://*.example.com"]
        )
    )
    good = running.join("websocket", headers=("Origin: https://app.example.com",))
    assert good.is_served()

    with pytest.raises(AssertionError, match="403"):
        running.peer("websocket", headers=("Origin: https://evil.org",))


def test_a_serializer_that_is_not_offered_is_refused_in_the_transports_own_words(running: Running) -> None:  # fmt: skip
    running.start(alone.transport("t0", serializers=["json"]))
    raw = running.connect()
    raw.sendall(b"\x7f\xf2\0\0")

    assert raw.recv(4) == b"\x7f\x10\0\0"
    with pytest.raises(AssertionError, match="400"):
        running.peer("websocket", "msgpack")


def test_a_rawsocket_client_never_gets_a_message_longer_than_it_takes(running: Running) -> None:
    """Whoever waits for it is told; the connection goes on."""
    running.start()
    tiny = running.peer(length=0)
    tiny.send(HELLO, "realm1", {"roles": ROLES})
    assert tiny.expect(ABORT)[2] == "wamp.error.payload_size_exceeded", (
        "WELCOME has more than 512 bytes"
    )
    small = running.join(length=3)  # 4096 bytes
    other = running.join()
    small.subscribe("com.app.news")
    other.publish("com.app.news", "x" * 6000)
    other.publish("com.app.news", "short")
    assert small.expect(EVENT)[4] == ["short"]

    small.register("com.app.small")
    other.call("com.app.small", "x" * 6000)
    assert other.expect(8)[4] == "wamp.error.payload_size_exceeded"

    other.register("com.app.large")
    small.call("com.app.large")
    invocation = other.expect(INVOCATION)
    other.send(YIELD, invocation[1], {}, ["x" * 6000])
    assert small.expect(8)[4] == "wamp.error.payload_size_exceeded"
    assert other.is_served()


def test_half_open_connections_are_closed(running: Running) -> None:
    """A peer that has closed its direction reads nothing that a session would still get."""
    running.start()
    peer = running.join()

    peer.sock.shutdown(socket.SHUT_WR)

    assert peer.sock.recv(1) == b""
    wait_until(lambda: not running.router.connections, "the connection to be gone")


def test_thousands_of_messages_in_one_chunk_and_one_message_in_thousands(running: Running) -> None:
    running.start()
    peer = running.join("websocket")
    assert isinstance(peer, WebSocketPeer)
    calls = b"".join(
        peer.frame(b'[48,%d,{},"wamp.session.count"]' % n) for n in range(1, 2001)
    )  # fmt: skip
    peer.sock.settimeout(DEADLINE_S)

    peer.sock.sendall(calls)
    assert [peer.expect(RESULT)[1] for _ in range(2000)] == list(range(1, 2001))

    for byte in peer.frame(b'[48,2001,{},"wamp.session.count"]'):
        peer.sock.sendall(bytes((byte,)))
    assert peer.expect(RESULT)[1] == 2001
