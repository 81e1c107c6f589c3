"""A subscriber that does not read: bounded, named, cut off, and nobody else notices (Crossbar.io grows without bound)."""

from __future__ import annotations

import socket
import threading
from typing import TYPE_CHECKING

import pytest

from holdfast.router import alone
from router.peers import DEADLINE_S, EVENT, INVOCATION, YIELD, wait_until

if TYPE_CHECKING:
    from router.peers import Peer, Running

_QUEUE = 1 << 20
_EVENTS, _SIZE = 2000, 10_000


def _frozen(running: Running, kind: str) -> Peer:
    """A subscriber whose kernel keeps as little as possible for it, and that never reads."""
    sock = socket.socket(socket.AF_INET)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.settimeout(DEADLINE_S)
    sock.connect(running.address())
    peer = running.join(kind, sock=sock)
    peer.subscribe("com.t")
    return peer


def _count(peer: Peer, got: list[int]) -> None:
    for n in range(_EVENTS):
        event = peer.expect(EVENT)
        assert event[4][0] == n
        got[0] += 1


@pytest.mark.parametrize("kind", ["rawsocket", "websocket"])
def test_a_frozen_subscriber_is_cut_off_and_the_others_get_everything(running: Running, kind: str) -> None:  # fmt: skip
    running.start(alone.transport("t0", queue_bytes=_QUEUE))
    frozen = _frozen(running, kind)
    healthy = running.join(kind)
    healthy.subscribe("com.t")
    speaker = running.join()
    got = [0]
    reading = threading.Thread(target=_count, args=(healthy, got))
    reading.start()
    most = [0]
    outer = next(c for c in running.router.connections if c.session and c.session.id == frozen.session)  # fmt: skip

    for n in range(_EVENTS):
        speaker.publish("com.t", n, "x" * _SIZE)
        most[0] = max(most[0], outer.transport.get_write_buffer_size())
    reading.join(DEADLINE_S)

    assert got == [_EVENTS]
    wait_until(
        lambda: frozen.session not in running.router.sessions, "the frozen one to be cut off"
    )
    # What a chunk of the publisher leads to may come on top.
    assert most[0] < _QUEUE + (1 << 18)
    line = next(line for line in running.log.lines if "does not read" in line)
    assert f"session={frozen.session}" in line
    assert "peer=tcp4:127.0.0.1:" in line
    assert f"queue_bytes={_QUEUE}" in line
    assert speaker.is_served()
    wait_until(lambda: len(running.router.connections) == 2, "its connection to be ended")


def test_who_was_cut_off_is_told_by_the_health_of_the_router(running: Running) -> None:
    """`holdfast status` shows it for a minute; the pulse's ring and the log for longer."""
    from holdfast.sdk.recorder import RECORDER

    told: list[str] = []
    RECORDER.sink = told.append
    try:
        running.start(alone.transport("t0", queue_bytes=65536))
        assert running.router.health()
        frozen = _frozen(running, "rawsocket")
        authid = frozen.welcome["authid"]
        speaker = running.join()
        for n in range(1000):
            speaker.publish("com.t", n, "x" * _SIZE)
        wait_until(lambda: running.router.cut_offs, "the cut-off")
        with pytest.raises(RuntimeError, match=rf"session {frozen.session} \({authid}, tcp4:.*does not read"):  # fmt: skip
            running.router.health()
        assert any(f"cut off {authid}" in text for text in told)
    finally:
        RECORDER.sink = None


def test_a_caller_that_does_not_read_its_results_is_cut_off_too(running: Running) -> None:
    running.start(alone.transport("t0", queue_bytes=65536))
    callee = running.join()
    callee.register("com.app.much")
    lazy = _frozen(running, "rawsocket")
    big = "y" * 50_000
    for n in range(60):
        lazy.send(48, 100 + n, {}, "com.app.much")
    for _ in range(60):
        invocation = callee.expect(INVOCATION)
        callee.send(YIELD, invocation[1], {}, [big])

    wait_until(lambda: lazy.session not in running.router.sessions, "the lazy one to be cut off")
    assert callee.is_served()


def test_a_burst_that_is_read_in_time_cuts_nobody_off(running: Running) -> None:
    """Slow is not frozen: below the limit everything arrives, in order."""
    running.start(alone.transport("t0", queue_bytes=8 << 20))
    reader = _frozen(running, "websocket")
    speaker = running.join()
    for n in range(300):
        speaker.publish("com.t", n, "x" * _SIZE)
    assert speaker.is_served()

    assert [reader.expect(EVENT)[4][0] for _ in range(300)] == list(range(300))
