"""The example site for tests: a copy of it, as a real node on free ports, and words to hurt it with."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples" / "clandeck"
SLOWNESS = float(os.environ.get("HOLDFAST_SLOWNESS", "1"))


def wait_for(look: Callable[[], Any], what: str, within_s: float = 20.0) -> Any:
    """Look until there is something to see, or fail with what there is not."""
    until = time.monotonic() + within_s * SLOWNESS
    while not (seen := look()):
        assert time.monotonic() < until, f"waited in vain for {what}"
        time.sleep(0.02)
    return seen


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


class Site:
    """One node with the example on it."""

    def __init__(self, tmp: Path, config: str = "split.toml", vendor: Path | None = None) -> None:
        self.directory = tmp / "site"
        self.config = config
        left_out = shutil.ignore_patterns(
            "data", ".holdfast", "vendor", "__pycache__", "node_modules"
        )
        shutil.copytree(EXAMPLE, self.directory, ignore=left_out)
        if vendor is not None:
            shutil.copytree(vendor, self.directory / "web" / "vendor")
        self.data = self.directory / "data"
        self.port, cache = free_ports(2)
        self.url = f"http://127.0.0.1:{self.port}/"
        self.bus_url = f"ws://127.0.0.1:{self.port}/ws"
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("HOLDFAST_", "CLANDECK_"))}
        self.env = kept | {
            "PYTHONPATH": str(ROOT / "src"), "PYTHONDONTWRITEBYTECODE": "1", "HOLDFAST_SLOWNESS": str(SLOWNESS),
            "CLANDECK_PORT": str(self.port), "CLANDECK_CACHE_PORT": str(cache),
        }  # fmt: skip

    def holdfast(self, *words: str) -> str:
        command = [sys.executable, "-m", "holdfast", "-c", self.config, *words]
        done = subprocess.run(
            command, cwd=self.directory, env=self.env, capture_output=True, text=True, stdin=subprocess.DEVNULL,
            timeout=60 * SLOWNESS, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def up(self) -> None:
        self.holdfast("up", "--detach")

    def workers(self) -> dict[str, dict[str, Any]]:
        return {
            one["name"]: one for one in json.loads(self.holdfast("status", "--json"))["workers"]
        }

    def kill(self, worker: str) -> int:
        """Kill a worker; return the pid that it had."""
        pid = int(self.workers()[worker]["pid"])
        os.kill(pid, signal.SIGKILL)
        return pid

    def end(self) -> None:
        subprocess.run(
            [sys.executable, "-m", "holdfast", "-c", self.config, "--json", "down", "--kill"],
            cwd=self.directory, env=self.env, capture_output=True, timeout=60 * SLOWNESS, check=False,
        )  # fmt: skip
