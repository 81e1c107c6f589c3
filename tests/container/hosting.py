"""A real container process for tests, started without a keeper."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from holdfast.wire import pulse as wire

SLOWNESS = float(os.environ.get("HOLDFAST_SLOWNESS", "1"))
SOURCE = Path(__file__).parents[2] / "src"


def wait_for(look: Callable[[], Any], what: str, within_s: float = 20.0) -> Any:
    """Look until there is something to see; a deadline, never a sleep that hopes."""
    deadline_s = time.monotonic() + within_s * SLOWNESS
    while not (seen := look()):
        assert time.monotonic() < deadline_s, f"waited in vain for {what}"
        time.sleep(0.005)
    return seen


class Container:
    """One container process with a run directory of its own."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.run_dir = root / "run"
        self.code = root / "code"
        for directory in ("run/pulse", "run/ctl", "code"):
            (root / directory).mkdir(parents=True, exist_ok=True)
        self.components: list[dict[str, Any]] = []
        self.env: dict[str, str] = {}
        self.drills = True
        self.urls: list[str] = []  #: of routers; then each component has a bus
        self.wrapper: list[str] = []
        self.started: list[subprocess.Popen[bytes]] = []

    def write(self, name: str, text: str) -> None:
        path = self.code / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("import asyncio, os, sys, threading, time\n" + text)

    def host(self, name: str, use: str, **settings: object) -> None:
        entry: dict[str, Any] = {"name": name, "use": use, "settings": settings}
        if self.urls:
            entry["bus"] = {"realm": "realm1", "urls": self.urls, "role": None, "auth": {}}
        self.components.append(entry)

    def start(self, n: int = 1, pass_fds: tuple[int, ...] = (), **env: str) -> None:
        worker = {
            "name": "backend", "kind": "container", "directory": str(self.code), "components": self.components,
            "stop": {"signal": signal.SIGTERM, "grace_s": 5.0},
        }  # fmt: skip
        plan = {"format": 1, "node": "t", "drills": self.drills, "workers": [worker]}
        (self.run_dir / "plan.json").write_text(json.dumps(plan))
        self.out = self.root / f"out{n}"
        self.err = self.root / f"err{n}"
        with self.out.open("wb") as out, self.err.open("wb") as err:
            self.process = subprocess.Popen(
                [*self.wrapper, sys.executable, "-P", "-X", "faulthandler", SOURCE / "holdfast/container/__main__.py"],
                stdout=out, stderr=err, stdin=subprocess.DEVNULL, pass_fds=pass_fds, cwd=self.code,
                env={
                    "PATH": os.environ["PATH"], "HOLDFAST_NODE": "hash", "HOLDFAST_RUN": str(self.run_dir),
                    "HOLDFAST_WORKER": "backend", "HOLDFAST_START": str(n), "HOLDFAST_ROLE": "main",
                    "HOLDFAST_PULSE": str(self.run_dir / "pulse/backend"), **self.env, **env,
                },
            )  # fmt: skip
        self.started.append(self.process)

    def start_ready(self, n: int = 1, **env: str) -> None:
        self.start(n, (), **env)
        self.wait_ready(n)

    def wait_ready(self, n: int = 1) -> None:
        def look() -> bool:
            assert self.process.poll() is None, self.stderr()
            pulse = self.pulse()
            return pulse is not None and pulse.ready == 1 and pulse.start == n

        wait_for(look, "ready")

    def pulse_bytes(self, suffix: str = "") -> bytes:
        try:
            return (self.run_dir / f"pulse/backend{suffix}").read_bytes()
        except FileNotFoundError:
            return b""

    def pulse(self, suffix: str = "") -> wire.Pulse | None:
        return wire.decode(self.pulse_bytes(suffix))

    def fresh(self, after_s: float = 0.0) -> wire.Pulse:
        """The pulse as its thread wrote it ``after_s`` from now or later: counts are up to a beat old."""
        from_ns = time.monotonic_ns() + int(after_s * 1e9)
        found: wire.Pulse = wait_for(
            lambda: (p := self.pulse()) and p.thread_beat_ns > from_ns and p, "a fresh pulse"
        )
        return found

    def events(self) -> list[str]:
        return [text for _, text in wire.decode_events(self.pulse_bytes())]

    def stdout(self) -> str:
        return self.out.read_text()

    def stderr(self) -> str:
        return self.err.read_text()

    def ask(self, within_s: float = 20.0, **request: object) -> dict[str, Any]:
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(within_s * SLOWNESS)
            path = str(self.run_dir / "ctl/backend.sock")
            wait_for(lambda: client.connect_ex(path) == 0, "control socket")
            client.sendall(json.dumps(request).encode() + b"\n")
            with client.makefile("rb") as lines:
                answer: dict[str, Any] = json.loads(lines.readline())
                return answer

    def wait_exit(self) -> int:
        return self.process.wait(timeout=20 * SLOWNESS)

    def kill_all(self) -> None:
        for process in self.started:
            if process.poll() is None:
                process.kill()
            process.wait()
