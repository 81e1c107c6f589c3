"""A node of Crossbar.io as it is, on our command line, doing what Crossbar.io 26.10 itself does not.

The other known faults have their tests where the rule is: tests/config/test_crossbar.py (shutdown modes, errors with file and line),
tests/router/test_live_changes.py (permissions that are withdrawn), tests/faults/test_router_dies.py (a stopped container).
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest

from interop.stage import SOURCE
from router.peers import CALL, DEADLINE_S, RESULT, SLOWNESS, RawSocketPeer, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_COMPONENT = """
import asyncio
import os

from autobahn.asyncio.wamp import ApplicationSession


class Echo(ApplicationSession):
    async def onJoin(self, details):
        name = self.config.extra["name"]

        async def slow():
            await asyncio.sleep(60)

        await self.register(lambda: os.getpid(), f"com.example.{name}.pid")
        await self.register(slow, f"com.example.{name}.slow")
"""
_NAMES = [f"echo{n}" for n in range(5)]


def _config(port: int) -> dict[str, Any]:
    endpoint = {"type": "tcp", "host": "127.0.0.1", "port": port}
    allow = dict.fromkeys(("call", "register", "publish", "subscribe"), True)
    permission = {"uri": "", "match": "prefix", "allow": allow, "cache": True}
    return {
        "version": 2,
        "controller": {
            "options": {
                "enable_parallel_worker_start": True, "shutdown": ["shutdown_on_shutdown_requested"],
            },
        },
        "workers": [
            *({
                "type": "container", "id": name, "options": {"pythonpath": [".."]},
                "components": [{
                    "type": "class", "classname": "echo.Echo", "realm": "realm1", "extra": {"name": name}, "restart": "restart-on-failed",
                    "transport": {"type": "rawsocket", "endpoint": endpoint, "serializer": "msgpack"},
                }],
            } for name in _NAMES),
            {
                "type": "router", "id": "router1",
                "realms": [{"name": "realm1", "roles": [{"name": "anonymous", "permissions": [permission]}]}],
                "transports": [{
                    "type": "rawsocket", "endpoint": {"type": "tcp", "interface": "127.0.0.1", "port": port},
                    "auth": {"anonymous": {"type": "static", "role": "anonymous"}},
                }],
            },
        ],
    }  # fmt: skip


def _holdfast(directory: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "holdfast", *words], cwd=directory, capture_output=True, text=True, check=False,
        timeout=60 * SLOWNESS, env={**os.environ, "PYTHONPATH": SOURCE},
    )  # fmt: skip


@pytest.fixture
def port(tmp_path: Path) -> Iterator[int]:
    """Of the router of a running node."""
    pytest.importorskip("autobahn")
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        made = int(sock.getsockname()[1])
    (tmp_path / ".crossbar").mkdir()
    (tmp_path / ".crossbar" / "config.json").write_text(json.dumps(_config(made)))
    (tmp_path / "echo.py").write_text(_COMPONENT)
    try:
        up = _holdfast(tmp_path, "up", "--detach", ".crossbar/config.json")
        assert up.returncode == 0, up.stdout + up.stderr
        yield made
    finally:
        down = _holdfast(tmp_path, "down")
    assert down.returncode == 0, down.stdout + down.stderr


@pytest.mark.faults
def test_a_node_of_crossbar_starts_in_parallel_restarts_what_failed_and_keeps_time(
    port: int,
) -> None:
    """There, five containers race the router and the node exits; nothing restarts; a timeout of 300 ms is one of 300 s."""
    peer = RawSocketPeer(socket.create_connection(("127.0.0.1", port), DEADLINE_S), "json")
    peer.join()

    def pid(name: str) -> int:
        peer.call(f"com.example.{name}.pid")
        answer = peer.receive()
        return int(answer[3][0]) if answer[0] == RESULT else 0

    # `up` has returned: everything is there, at the first call.
    pids = {name: pid(name) for name in _NAMES}
    assert all(pids.values())
    assert len(set(pids.values())) == len(_NAMES)

    began = time.monotonic()
    peer.send(CALL, 1_000, {"timeout": 300}, "com.example.echo0.slow")
    answer = peer.receive()
    assert answer[:3] == [8, CALL, 1_000]
    assert answer[4] == "wamp.error.timeout"
    assert 0.28 < time.monotonic() - began < 5 * SLOWNESS

    os.kill(pids["echo3"], signal.SIGKILL)
    wait_until(
        lambda: pid("echo3") not in (0, pids["echo3"]), "the killed container to be back", 20
    )
    assert {name: pid(name) for name in _NAMES if name != "echo3"} == {
        name: old for name, old in pids.items() if name != "echo3"
    }
    peer.close()
