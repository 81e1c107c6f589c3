"""A router in a process of its own, companions that speak each serializer, and other people's clients as programs.

Each client program is started once, gets all its cases as JSON on standard input and prints one JSON line for each check:
`{"case", "check", "saw"}`, or `"failed"` instead of `"saw"`. What has to be seen is in one table of the tests, the same for all
libraries. No rule about what a client can do is in here.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import holdfast
from holdfast.router import alone
from router.peers import DEADLINE_S, RawSocketPeer, wait_until

if TYPE_CHECKING:
    from holdfast.model.bus import RouterPlan, TransportPlan

HERE = Path(__file__).parent
SOURCE = str(Path(holdfast.__file__).parent.parent)

SUBSCRIBE, SUBSCRIBED, EVENT = 32, 33, 36
INVOCATION, YIELD = 68, 70

#: In a case: what all clients send. The big one and the binary one make one message of 0.9 MB in JSON.
TEXT = 'grüße, 世界, 😀, \u0001 \u2028 "quoted\\"'
BIG = "0123456789abcdef" * 40_000
BINARY = bytes(range(256)) * 800


def plan_of(transports: list[TransportPlan], *roles: str) -> RouterPlan:
    """The open plan, with the same rights for more roles; callers and publishers are disclosed."""
    plan = alone.open_plan(transports)
    (role,) = plan["realms"][0]["roles"]
    role["permissions"][0].update({"disclose_caller": True, "disclose_publisher": True})
    plan["realms"][0]["roles"] += [{**role, "name": name} for name in roles]
    return plan


class RouterProcess:
    """A router that dies with the test."""

    def __init__(self, plan: RouterPlan, directory: Path) -> None:
        path, addresses = directory / "plan.json", directory / "addresses.json"
        path.write_text(json.dumps(plan))
        self.log = directory / "router.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, str(HERE / "serve.py"), str(path), str(addresses)],
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, "PYTHONPATH": SOURCE},
            )
        try:
            wait_until(
                lambda: addresses.exists() or self.process.poll() is not None, "the router to serve"
            )
            assert self.process.poll() is None, self.said()
        except BaseException:
            self.kill()
            raise
        self.addresses: dict[str, Any] = json.loads(addresses.read_text())

    def port(self, listener: str) -> int:
        return int(self.addresses[listener][1])

    def connect(self, listener: str) -> socket.socket:
        address = self.addresses[listener]
        sock = socket.socket(socket.AF_UNIX if isinstance(address, str) else socket.AF_INET)
        sock.settimeout(DEADLINE_S)
        sock.connect(address if isinstance(address, str) else tuple(address))
        return sock

    def rss_kib(self) -> int:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(next(line.split()[1] for line in status.splitlines() if "VmRSS" in line))

    def open_files(self) -> int:
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def said(self) -> str:
        """What it wrote to its log."""
        return self.log.read_text(errors="replace")

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(DEADLINE_S)


def summary(value: Any, serializer: str) -> str:
    """What arrived, in a few letters. In JSON binary is a string that begins with NUL (base64 after it)."""
    if serializer == "json" and isinstance(value, str) and value.startswith("\0"):
        value = base64.b64decode(value[1:])
    data = value.encode() if isinstance(value, str) else bytes(value)
    return f"{type(value).__name__}:{len(data)}:{hashlib.sha256(data).hexdigest()[:12]}"


class Companion:
    """A session that nobody's library runs: it echoes, and tells what it has seen.

    Procedures: `com.peer.SERIALIZER.echo`, `.seen` (a summary of each argument) and `.heard` (a summary of the last event of `com.peer.news`).
    """

    def __init__(self, sock: socket.socket, serializer: str) -> None:
        self.peer = RawSocketPeer(sock, serializer)
        self.peer.join()
        self.serializer = serializer
        self._heard: list[str] = []
        self._procedures = {
            self.peer.register(f"com.peer.{serializer}.{name}"): name
            for name in ("echo", "seen", "heard")
        }
        self.peer.subscribe("com.peer.news")
        sock.settimeout(None)
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        try:
            while True:
                message = self.peer.receive()
                if message[0] == INVOCATION:
                    self._answer(message)
                elif message[0] == EVENT:
                    self._heard = [summary(value, self.serializer) for value in message[4]]
        except (EOFError, OSError):
            return  # the router is killed, or the test has ended

    def _answer(self, message: list[Any]) -> None:
        args = message[4] if len(message) > 4 else []
        name = self._procedures[message[2]]
        if name == "echo":
            self.peer.send(YIELD, message[1], {}, args, message[5] if len(message) > 5 else {})
        elif name == "seen":
            seen = [summary(value, self.serializer) for value in args]
            self.peer.send(YIELD, message[1], {}, [seen])
        else:
            self.peer.send(YIELD, message[1], {}, [self._heard])

    def end(self) -> None:
        self.peer.sock.shutdown(socket.SHUT_RDWR)
        self._thread.join(DEADLINE_S)
        self.peer.close()


class Report:
    """What a client program has seen, by case and check."""

    def __init__(self, program: str, done: subprocess.CompletedProcess[str]) -> None:
        self._told = f"{program} ended with {done.returncode}\n{done.stderr[-4000:]}"
        self._lines = {}
        for line in done.stdout.splitlines():
            if line.startswith("{"):
                told = json.loads(line)
                self._lines[told["case"], told["check"]] = told

    def saw(self, case: str, check: str) -> Any:
        told = self._lines.get((case, check))
        assert told is not None, f"{case}: {check} was not reported: {self._told}"
        assert "failed" not in told, f"{case}: {check}: {told['failed']}"
        return told["saw"]


def run(
    command: list[str],
    cases: list[dict[str, Any]],
    within_s: float,
    environment: dict[str, str] | None = None,
) -> Report:
    """Run a client program with all its cases."""
    try:
        done = subprocess.run(
            command, input=json.dumps(cases), capture_output=True, text=True, timeout=within_s, check=False,
            env={**os.environ, **(environment or {})},
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        # Bytes also where text was asked for.
        out, err = ((part or b"").decode(errors="replace") for part in (error.stdout, error.stderr))
        done = subprocess.CompletedProcess(command, -1, out, f"not done within {within_s:g} s\n{err}")  # fmt: skip
    return Report(" ".join(command), done)
