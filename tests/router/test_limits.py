"""What one router bears: beyond each limit there is a clear answer, and everybody else is served."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from holdfast.router import alone
from router.peers import (
    ABORT,
    EVENT,
    HELLO,
    ROLES,
    SLOWNESS,
    SUBSCRIBE,
    WebSocketPeer,
    wait_until,
)

if TYPE_CHECKING:
    from holdfast.model.bus import RouterPlan
    from router.peers import Running


def _limits(**limits: float) -> object:
    def change(plan: RouterPlan) -> None:
        plan["limits"].update(limits)  # type: ignore[typeddict-item]

    return change


def test_one_session_too_many_is_told_the_limit(running: Running) -> None:
    running.start(change=_limits(sessions=2))  # type: ignore[arg-type]
    first, second = running.join(), running.join("websocket")
    third = running.peer()

    third.send(HELLO, "realm1", {"roles": ROLES})

    message = third.expect(ABORT)
    assert message[2] == "wamp.error.unavailable"
    assert "bears 2 sessions" in message[1]["message"]
    assert first.is_served()
    second.close()
    wait_until(lambda: len(running.router.sessions) == 1, "the second to have left")
    assert running.join().is_served(), "there is room again"


def test_slow_loris_is_ended_by_the_deadline_of_the_handshake(running: Running) -> None:
    """One byte now and then keeps a naive server's connection open for ever; here the whole sign-in has one deadline."""
    running.start(change=_limits(handshake_s=0.6))  # type: ignore[arg-type]
    patient = running.join()
    silent = running.connect()
    raw = running.connect()
    raw.sendall(b"\x7f\xf1")
    http = running.connect()
    http.sendall(b"GET /ws HTTP/1.1\r\nHost: x\r\n")
    signing_in, upgraded = running.peer("rawsocket"), running.peer("websocket")
    until = time.monotonic() + 10 * SLOWNESS
    for number, sock in enumerate((silent, raw, http)):
        answer = b""
        try:
            while time.monotonic() < until:
                answer += sock.recv(4096) or b"END"
                if answer.endswith(b"END"):
                    break
        except ConnectionResetError:
            answer += b"END"
        assert answer.endswith(b"END")
        assert number < 2 or answer.startswith(b"HTTP/1.1 408")

    for peer in (signing_in, upgraded):
        message = peer.expect(ABORT)
        assert message[2] == "wamp.error.timeout"
        assert "0.6 s" in message[1]["message"]
        peer.drain()
    assert patient.is_served()
    wait_until(lambda: not running.router.newcomers, "all newcomers to be gone")


def test_too_many_that_wait_to_sign_in_do_not_lock_out_the_honest(running: Running) -> None:
    """A flood of silent connections: the oldest goes for the next, but nobody who came a moment ago."""
    running.start(change=_limits(connections_unauthenticated=5))  # type: ignore[arg-type]
    crowd = [running.connect() for _ in range(5)]
    wait_until(lambda: len(running.router.newcomers) == 5, "the crowd to be in")

    refused = running.connect()
    assert refused.recv(1) == b"", "nobody of the crowd has had its second yet"

    def oldest_s() -> float:
        return time.monotonic() - next(iter(running.router.newcomers.values()))

    wait_until(lambda: oldest_s() > 1.1, "the crowd to have had its time")
    honest = running.join()
    assert honest.is_served()
    assert crowd[0].recv(1) == b""
    assert len(running.router.newcomers) == 4


def test_who_is_turned_away_is_told_in_its_language(running: Running) -> None:
    running.start(change=_limits(connections_unauthenticated=0))  # type: ignore[arg-type]
    stopped = running.do(lambda: running.router.poller.change(running.router.ports[0]._descriptor, reads=False, writes=False))  # fmt: skip
    assert stopped is None
    raw, http = running.connect(), running.connect()
    raw.sendall(b"\x7f\xf1\0\0")
    http.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")

    running.do(running.router.ports[0]._accept_again)

    assert raw.recv(4) == b"\x7f\x40\0\0", "maximum connection count reached"
    assert http.recv(4096).startswith(b"HTTP/1.1 503")


def test_limits_of_a_session_come_from_the_plan(running: Running) -> None:
    running.start(change=_limits(subscriptions_per_session=1))  # type: ignore[arg-type]
    peer = running.join()
    peer.subscribe("com.a")
    assert "limit" in peer.request(SUBSCRIBE, 8, {}, "com.b")[4]

    running.reconfigure(_limits(subscriptions_per_session=2))  # type: ignore[arg-type]

    peer.subscribe("com.b")


def test_a_silent_connection_is_asked_and_ended_when_it_does_not_answer(running: Running) -> None:
    """A client whose machine lost its power says nothing; TCP would take hours to notice."""
    running.start(alone.transport("t0", ping_s=0.3, ping_timeout_s=0.3))
    dead, raw, alive = running.join("websocket"), running.join(), running.join("websocket")
    assert isinstance(dead, WebSocketPeer)
    assert isinstance(alive, WebSocketPeer)
    assert dead.receive_frame() == (9, b"")
    assert raw.take(4) == b"\x01\0\0\0"
    seen = 0
    until = time.monotonic() + 15 * SLOWNESS
    while len(running.router.connections) > 1 and time.monotonic() < until:
        opcode, payload = alive.receive_frame()
        assert opcode == 9
        alive.sock.sendall(alive.frame(payload, 10))
        seen += 1

    assert seen >= 1
    assert running.do(lambda: [c.session and c.session.id for c in running.router.connections]) == [
        alive.session
    ]
    dead.drain()
    raw.drain()
    assert any("answers no ping" in line for line in running.log.lines)


def test_time_limits_of_calls_are_kept_while_nobody_says_anything(running: Running) -> None:
    """The timer of a realm is the router's one timer."""
    running.start()
    callee, caller = running.join(), running.join()
    callee.register("com.app.slow")

    began_s = time.monotonic()
    caller.send(48, 1, {"timeout": 150}, "com.app.slow")

    assert caller.expect(8)[4] == "wamp.error.timeout"
    assert 0.14 < time.monotonic() - began_s < 5 * SLOWNESS


def test_events_are_counted_as_work(running: Running) -> None:
    """The watchdog tells a busy router from a stuck one by what it gets done."""
    from holdfast.sdk.recorder import RECORDER

    running.start()
    listener, speaker = running.join(), running.join()
    listener.subscribe("com.t")
    before = RECORDER.work_done

    for n in range(10):
        speaker.publish("com.t", n)

    assert [listener.expect(EVENT)[4] for _ in range(10)] == [[n] for n in range(10)]
    assert RECORDER.work_done >= before + 10


def test_a_plan_of_an_older_holdfast_is_served_with_the_newest_limits_as_they_are_by_default(running: Running) -> None:  # fmt: skip
    """The package was upgraded while the node runs, and now the router dies: its plan is still the old one."""

    def change(plan: RouterPlan) -> None:
        loose: Any = plan["limits"]
        del loose["queue_bytes_total"], loose["connections_http"]

    running.start(change=change)

    assert running.join("websocket").is_served()
    assert running.reconfigure(lambda _: None) == []
    assert running.router.limits["queue_bytes_total"] == 256 << 20
