"""A subscriber that does not read: bounded, named, cut off, and nobody else notices (Crossbar.io grows without bound)."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from holdfast.cli.snapshot import read_flags
from holdfast.router import alone
from holdfast.router.slowflag import SlowFlag
from router.peers import (
    DEADLINE_S,
    EVENT,
    INVOCATION,
    SLOWNESS,
    YIELD,
    RawSocketPeer,
    wait_until,
)
from router.test_process import Alone

if TYPE_CHECKING:
    from pathlib import Path

    from holdfast.model.bus import RouterPlan
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


# -- all together ------------------------------------------------------------------------------------


def test_many_frozen_subscribers_together_are_bounded_too(running: Running) -> None:
    """Each below its own limit, a hundred of them are still more memory than the box has: who holds most goes first."""
    total = 8 << 20

    def change(plan: RouterPlan) -> None:
        plan["limits"]["queue_bytes_total"] = total

    running.start(alone.transport("t0", queue_bytes=64 << 20), change=change)
    frozen = [_frozen(running, kind) for kind in ("rawsocket", "websocket") * 2]
    # This one begins when the others have a backlog: what it has is the least.
    speaker = running.join()
    most = 0
    for n in range(100):
        speaker.publish("com.t", n, "x" * _SIZE)
    assert speaker.is_served()
    late = _frozen(running, "rawsocket")
    for n in range(400):
        speaker.publish("com.t", n, "x" * _SIZE)
        most = max(most, running.router.tally.unsent_bytes)
    assert speaker.is_served()

    assert most <= total
    gone = [peer for peer in frozen if peer.session not in running.router.sessions]
    assert gone
    assert late.session in running.router.sessions
    lines = [line for line in running.log.lines if "does not read" in line]
    assert {f"session={peer.session}" for peer in gone} == {line.split()[7] for line in lines}
    assert all(f"queue_bytes_total={total}" in line for line in lines)
    assert "topics=com.t" in lines[0]


def test_what_is_unsent_is_counted_to_the_byte(running: Running) -> None:
    """A counter that drifts would cut off the innocent after a month."""
    running.start(alone.transport("t0", queue_bytes=4 << 20))
    slow, frozen, leaver = (_frozen(running, "rawsocket") for _ in range(3))
    speaker = running.join()
    for n in range(500):
        speaker.publish("com.t", n, "x" * _SIZE)
    assert speaker.is_served()
    tally = running.router.tally
    connections = list(running.router.connections)
    assert tally.unsent_bytes == sum(c.transport.get_write_buffer_size() for c in connections) > 0

    leaver.close()
    for n in range(500):
        assert slow.expect(EVENT)[4][0] == n
    for n in range(800):
        speaker.publish("com.t", n, "x" * _SIZE)
        slow.expect(EVENT)
    wait_until(lambda: frozen.session not in running.router.sessions, "the frozen one to be cut off")  # fmt: skip

    wait_until(lambda: tally.unsent_bytes == 0, "nothing to be unsent")


def test_the_judged_row_twenty_thousand_events_of_ten_kilobytes_unread() -> None:
    """Crossbar.io 26.10 grows from 153 to 370 MB and does nothing."""
    node = Alone("rs://127.0.0.1:0")
    try:
        frozen = _plain_frozen(node.port)
        with closing(socket.create_connection(("127.0.0.1", node.port), DEADLINE_S)) as sock:
            speaker = RawSocketPeer(sock, "msgpack")
            speaker.join()
            before_kib = node.rss_kib()
            most_kib = before_kib
            for n in range(20_000):
                speaker.publish("com.t", n, "x" * 9_900)
                if n % 500 == 0:
                    assert speaker.is_served()
                    most_kib = max(most_kib, node.rss_kib())
            assert speaker.is_served()
        # 8 MiB is what a session of this router may have unsent; it needs as much again while it is cut.
        assert most_kib - before_kib < 24 << 10, f"{before_kib} -> {most_kib} KiB"
        frozen.drain()  # to its end: the router has closed
        frozen.close()
    finally:
        node.kill()


def _plain_frozen(port: int) -> RawSocketPeer:
    sock = socket.socket(socket.AF_INET)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.settimeout(DEADLINE_S)
    sock.connect(("127.0.0.1", port))
    peer = RawSocketPeer(sock, "msgpack")
    peer.join()
    peer.subscribe("com.t")
    return peer


# -- the flag ----------------------------------------------------------------------------------------


def test_a_cut_off_is_a_flag_that_goes_away_by_itself(
    running: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The person on call looks at `holdfast status`, not at the router's log."""
    (tmp_path / "flags").mkdir()
    running.start(alone.transport("t0", queue_bytes=65536))
    running.router.flag = SlowFlag(str(tmp_path), "bus")
    frozen = [_frozen(running, "rawsocket") for _ in range(2)]
    speaker = running.join()
    for n in range(1000):
        speaker.publish("com.t", n, "x" * _SIZE)
    wait_until(lambda: len(running.router.cut_offs) == 2, "the cut-offs")

    (flag,) = read_flags(str(tmp_path))
    assert (flag["worker"], flag["flag"], flag["incident"]) == ("bus", "slow_session", None)
    assert flag["value"] > flag["limit"] == 65536
    assert abs(flag["since_unix_s"] - time.time()) < 60 * SLOWNESS
    last = next(peer for peer in frozen if str(peer.session) in flag["says"])
    for part in (last.welcome["authid"], "tcp4:127.0.0.1:", "subscribed to com.t", "2 were cut off"):  # fmt: skip
        assert part in flag["says"]

    monkeypatch.setattr("holdfast.router.router.TELL_S", 0.0)
    wait_until(lambda: read_flags(str(tmp_path)) == [], "the flag to be taken back")
    assert list((tmp_path / "flags").iterdir()) == []


def test_a_router_that_starts_removes_the_flag_of_the_one_before(tmp_path: Path) -> None:
    """Nobody else would: the one that raised it was killed."""
    flags = tmp_path / "flags"
    flags.mkdir()
    for name in ("bus.slow_session", "bus.slow_session.17.3.tmp", "bus.failed_probe", "bus2.slow_session"):  # fmt: skip
        (flags / name).write_text("{}")

    SlowFlag(str(tmp_path), "bus")

    assert sorted(path.name for path in flags.iterdir()) == ["bus.failed_probe", "bus2.slow_session"]  # fmt: skip


def test_without_room_for_the_flag_the_cut_off_is_still_done(running: Running, tmp_path: Path) -> None:  # fmt: skip
    (tmp_path / "flags").mkdir()
    running.start(alone.transport("t0", queue_bytes=65536))
    running.router.flag = SlowFlag(str(tmp_path), "bus")
    (tmp_path / "flags").rmdir()
    frozen = _frozen(running, "rawsocket")
    speaker = running.join()
    for n in range(1000):
        speaker.publish("com.t", n, "x" * _SIZE)

    wait_until(lambda: frozen.session not in running.router.sessions, "the cut-off")
    assert any("the flag could not be raised" in line for line in running.log.lines)
    assert speaker.is_served()
