"""The router as a process: killed without warning, started again, many idle connections."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import holdfast
from router.peers import DEADLINE_S, ROLES, RawSocketPeer, WebSocketPeer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_SOURCE = str(Path(holdfast.__file__).parent.parent)


class Alone:
    """`python -m holdfast.router.alone` on a Unix socket and a TCP port."""

    def __init__(self, *urls: str) -> None:
        command = [sys.executable, "-m", "holdfast.router.alone"]
        for url in urls:
            command += ["--listen", url]
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": _SOURCE}
        )
        assert self.process.stdout is not None
        lines = [self.process.stdout.readline() for _ in urls]
        self.urls = [line.split()[1] for line in lines]
        self.port = next((int(url.rsplit(":", 1)[1]) for url in self.urls if "127.0.0.1" in url), 0)

    def rss_kib(self) -> int:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(next(line.split()[1] for line in status.splitlines() if "VmRSS" in line))

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), DEADLINE_S)

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(DEADLINE_S)
        if self.process.stdout is not None:
            self.process.stdout.close()


@pytest.fixture
def start() -> Iterator[Callable[..., Alone]]:
    made: list[Alone] = []

    def begin(*urls: str) -> Alone:
        made.append(Alone(*urls))
        return made[-1]

    yield begin
    for one in made:
        one.kill()


def test_after_a_kill_the_next_one_serves_from_nothing(start: Callable[..., Alone], tmp_path: Path) -> None:  # fmt: skip
    """There is nothing to clean up: not even the socket file, which a new router takes over."""
    path = tmp_path / "bus.sock"
    first = start(f"unix:{path}", "ws://127.0.0.1:0/")
    with closing(socket.socket(socket.AF_UNIX)) as sock:
        sock.settimeout(DEADLINE_S)
        sock.connect(str(path))
        peer = RawSocketPeer(sock, "msgpack")
        peer.join()
        first.kill()
        assert peer.drain() == b""

    start(f"unix:{path}", f"ws://127.0.0.1:{first.port}/")

    with closing(socket.socket(socket.AF_UNIX)) as sock:
        sock.settimeout(DEADLINE_S)
        sock.connect(str(path))
        again = RawSocketPeer(sock, "msgpack")
        again.join()
        assert again.is_served()


def test_the_descriptor_limit_is_raised_and_idle_sessions_are_cheap(start: Callable[..., Alone]) -> None:  # fmt: skip
    """Judged: 35 MB idle, 8 KB a WebSocket session, 5 KB a RawSocket session."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    router = start("ws://127.0.0.1:0/")
    limits = Path(f"/proc/{router.process.pid}/limits").read_text()
    open_files = next(line for line in limits.splitlines() if "Max open files" in line).split()
    assert open_files[3] == open_files[4]
    idle_kib = router.rss_kib()
    assert idle_kib < 45_000

    count = min(400, hard // 2, soft // 2)
    made = []
    for kind, most_kib in ((WebSocketPeer, 8), (RawSocketPeer, 5)):
        before = router.rss_kib()
        for _ in range(count):
            peer = kind(router.connect(), "json")
            peer.send(1, "realm1", {"roles": ROLES})
            made.append(peer)
        for peer in made[-count:]:
            assert peer.receive()[0] == 2
        each_kib = (router.rss_kib() - before) / count
        assert each_kib < most_kib, f"{kind.__name__}: {each_kib:.1f} KiB each"
    for peer in made:
        peer.close()
