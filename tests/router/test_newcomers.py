"""What somebody may cost who has not signed in, and who has, with messages that were made to be expensive."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from holdfast.router import alone
from holdfast.router.connection import NEWCOMER_BYTES
from router.peers import ABORT, GOODBYE, HELLO, ROLES, SLOWNESS

if TYPE_CHECKING:
    from router.peers import Peer, Running

KINDS = [("rawsocket", "json"), ("rawsocket", "msgpack"), ("websocket", "json"), ("websocket", "cbor"), ("websocket", "json.batched")]  # fmt: skip
_MB = 1_000_000


def _hello(peer: Peer, size: int) -> None:
    peer.send(HELLO, "realm1", {"roles": ROLES, "authextra": {"x": "y" * size}})


@pytest.mark.parametrize(("kind", "serializer"), KINDS)
def test_a_newcomer_gets_64_kib_and_a_session_what_is_configured(running: Running, kind: str, serializer: str) -> None:  # fmt: skip
    """The limit is for those whom nobody knows, not for those who have work to do."""
    running.start(alone.transport("t0", message_bytes=1 << 20))
    greedy = running.peer(kind, serializer)
    _hello(greedy, NEWCOMER_BYTES)
    peer = running.peer(kind, serializer)
    if peer.serializer == "json" and "batched" in serializer:
        return _batched(running, greedy)

    abort = greedy.expect(ABORT)
    assert abort[2] == "wamp.error.protocol_violation"
    assert f"{NEWCOMER_BYTES} bytes at most" in abort[1]["message"]
    assert "before the sign-in" in abort[1]["message"]
    _hello(peer, NEWCOMER_BYTES // 2)
    assert peer.receive()[0] == 2
    peer.publish("com.t", "x" * 500_000)
    assert peer.is_served()
    return None


def _batched(running: Running, greedy: Peer) -> None:
    """A batch has its own end of each message, which our plain peers do not write: being refused is enough."""
    assert b"before the sign-in" in greedy.drain()
    assert running.join().is_served()


def test_after_goodbye_it_is_a_newcomer_again(running: Running) -> None:
    running.start(alone.transport("t0", message_bytes=1 << 20))
    peer = running.join()
    peer.send(GOODBYE, {}, "wamp.close.normal")
    peer.expect(GOODBYE)

    _hello(peer, NEWCOMER_BYTES)

    assert "before the sign-in" in peer.expect(ABORT)[1]["message"]


@pytest.mark.parametrize(
    ("serializer", "bomb"),
    [
        ("json", b"[1,\"realm1\"," + b"[]," * (_MB // 3) + b"[]]"),
        ("json", b"[" * _MB),
        ("msgpack", b"\xdd" + (_MB).to_bytes(4, "big") + b"\x90" * _MB),
        ("cbor", b"\x9a" + (_MB).to_bytes(4, "big") + b"\x80" * _MB),
    ],
    ids=["json", "json nested", "msgpack", "cbor"],
)  # fmt: skip
def test_a_megabyte_of_empty_arrays_of_a_stranger_costs_nothing(running: Running, serializer: str, bomb: bytes) -> None:  # fmt: skip
    """It is refused by the length in its frame, before a byte of it is decoded."""
    running.start(alone.transport("t0", message_bytes=4 << 20))
    hostile = [running.peer("rawsocket", serializer) for _ in range(10)]
    honest = running.join()
    began_s = running.do(time.thread_time)

    for peer in hostile:
        peer.sock.sendall(peer.frame(bomb)[:100_000])
        assert peer.expect(ABORT)[2] == "wamp.error.protocol_violation"

    assert honest.is_served()
    cost_s = running.do(time.thread_time) - began_s
    assert cost_s / len(hostile) < 0.005 * SLOWNESS
