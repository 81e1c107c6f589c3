"""A node as people run it: a router with a spare, a hundred components in ten containers, started by `holdfast up`."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import holdfast
from holdfast.linux import talk
from holdfast.wire import layout
from node import SLOWNESS, wait_for
from router.peers import DEADLINE_S, RawSocketPeer, WebSocketPeer, tls_files, trusting

if TYPE_CHECKING:
    from router.peers import Peer

SOURCE = str(Path(holdfast.__file__).parent.parent)
CONTAINERS, EACH = 10, 10

_COMPONENTS = f"""
import asyncio, os
from holdfast.sdk import Component

def made(n):
    component = Component(f"c{{n}}")

    @component.procedure(f"town.c{{n}}.echo")
    async def echo(x):
        return x

    @component.procedure(f"town.c{{n}}.slow")
    async def slow(x):
        await asyncio.sleep(0.02)
        return x

    return component

for n in range({CONTAINERS * EACH}):
    globals()[f"c{{n}}"] = made(n)
"""

_NODE = """
[node]
verify = "1s"

[defaults.worker]
restart = {{ limit = 0, delay = "50ms", delay_max = "50ms", healthy = "0s" }}
heartbeat = {{ pulse = true, timeout = "{timeout_s}s" }}

[realm.town.role.guest]
permissions = [
  {{ uri = "town.*", allow = ["call", "subscribe"] }},
  {{ uri = "wamp.session.count", allow = ["call"] }},
]

[realm.town.role.speaker]
permissions = [{{ uri = "*", allow = ["call", "register", "publish", "subscribe"] }}]

[worker.bus]
kind = "router"
spare = 1
tls = {{ certificate = "localhost.crt", key = "localhost.key" }}

[[worker.bus.transport]]
listen = "tcp://127.0.0.1:{port}"
rawsocket = {{ queue_max = "1M", message_max = "512K", auth = {{ anonymous = {{ role = "speaker" }} }} }}
[worker.bus.transport.paths.ws]
kind = "websocket"
auth = {{ ticket = {{ principals = {{ joe = {{ ticket = "open sesame", role = "guest" }} }} }}, cookie = true }}

[[worker.bus.transport]]
listen = "wss://127.0.0.1:{tls_port}"
auth = {{ anonymous = {{ role = "guest" }} }}
paths."/" = {{ kind = "static", directory = "web" }}
paths.health = {{ kind = "health" }}
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Town:
    """The running node."""

    def __init__(self, containers: int = CONTAINERS, timeout_s: float = 5.0) -> None:
        # Short: a Unix socket's path has 107 bytes.
        self.home = Path(tempfile.mkdtemp(prefix="t", dir="/tmp"))
        self.env = {**os.environ, "HOLDFAST_RUNTIME_DIR": str(self.home), "PYTHONPATH": SOURCE}
        self.port, self.tls_port = free_port(), free_port()
        self.count = containers * EACH
        self.containers = [f"w{n}" for n in range(containers)]
        self.opened: list[socket.socket] = []
        self.certificate, _ = tls_files(self.home)
        (self.home / "web").mkdir()
        (self.home / "web/index.html").write_text("<title>town</title>")
        (self.home / "townsfolk.py").write_text(_COMPONENTS)
        text = _NODE.format(port=self.port, tls_port=self.tls_port, timeout_s=timeout_s)
        for n in range(self.count):
            text += f'\n[component.c{n}]\nuse = "townsfolk:c{n}"\n'
        for at, name in enumerate(self.containers):
            hosted = [f"c{n}" for n in range(at * EACH, (at + 1) * EACH)]
            text += f"\n[worker.{name}]\ncomponents = {json.dumps(hosted)}\n"
        self.config = self.home / "holdfast.toml"
        self.config.write_text(text)

    # -- the command line

    def types(self, *argv: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "holdfast", *argv], cwd=self.home, env=self.env, capture_output=True, text=True,
            timeout=100 * SLOWNESS, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{argv}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def up(self) -> Town:
        self.types("up", "--detach", "--timeout", f"{60 * SLOWNESS:.0f}")
        return self

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.types("status", "--json"))
        return found

    def worker(self, name: str) -> dict[str, Any]:
        return next(worker for worker in self.status()["workers"] if worker["name"] == name)

    def kept(self) -> list[dict[str, Any]]:
        """What the keeper says, without the start of a program."""
        address = f"{self.home}/.holdfast/run/{layout.socket('keeper')}"
        reply = talk.ask(address, {"do": "status"}, DEADLINE_S)
        found: list[dict[str, Any]] = reply["workers"] if reply else []
        return found

    def pids(self) -> dict[str, int]:
        return {worker["name"]: worker["pid"] for worker in self.kept()}

    def spare(self, name: str) -> int:
        found = [worker.get("spare_pid") for worker in self.kept() if worker["name"] == name]
        return int(found[0] or 0) if found else 0

    def pid(self, name: str) -> int:
        return self.pids().get(name) or 0

    def incidents(self) -> list[dict[str, Any]]:
        kept = self.home / ".holdfast/incidents"
        # A hidden one is being made.
        return [json.loads(path.read_text()) for path in kept.glob("[!.]*/incident.json")]

    def change(self, before: str, after: str) -> None:
        text = self.config.read_text()
        assert text.count(before) == 1, before
        self.config.write_text(text.replace(before, after))
        self.types("apply", "--yes")

    # -- clients

    def connect(self, port: int = 0) -> socket.socket:
        sock = socket.create_connection(("127.0.0.1", port or self.port), DEADLINE_S)
        self.opened.append(sock)
        return sock

    def secure(self) -> Any:
        context = trusting(self.certificate)
        sock = context.wrap_socket(self.connect(self.tls_port), server_hostname="localhost")
        self.opened.append(sock)
        return sock

    def speaker(self) -> RawSocketPeer:
        peer = RawSocketPeer(self.connect(), "json")
        peer.join("town")
        return peer

    def browser(self, *headers: str) -> WebSocketPeer:
        return WebSocketPeer(self.connect(), "json", "/ws", headers)

    def registered(self, peer: Peer) -> int:
        """How many of the components' procedures can be called now."""
        peer._last += 1
        peer.send(48, peer._last, {}, "wamp.registration.list")
        ids = peer.expect(50)[3][0]["exact"]
        return len(ids) // 2

    def wait_whole(self, within_s: float = 30.0) -> None:
        """Wait until every component can be called."""
        peer = self.speaker()
        wait_for(lambda: self.registered(peer) >= self.count, f"{self.count} components", within_s)
        peer.close()

    def end(self) -> None:
        for sock in self.opened:
            sock.close()
        subprocess.run(
            [sys.executable, "-m", "holdfast", "down", "--kill"], cwd=self.home, env=self.env, capture_output=True,
            timeout=100 * SLOWNESS, check=False,
        )  # fmt: skip
        shutil.rmtree(self.home, ignore_errors=True)
