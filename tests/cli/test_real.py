"""The first evening of a newcomer, with real processes: init, up, look, restart, read, change, down."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cli.fake_node import SLOWNESS
from holdfast.cli import commands

pytestmark = pytest.mark.faults

SOURCE = str(Path(commands.__file__).parents[2])


class Shell:
    """A person at a prompt."""

    def __init__(self) -> None:
        # Short: a Unix socket's path has 107 bytes.
        self.home = tempfile.mkdtemp(prefix="h", dir="/tmp")
        self.site = f"{self.home}/site"
        self.env = {**os.environ, "HOLDFAST_RUNTIME_DIR": self.home, "PYTHONPATH": SOURCE}

    def types(self, *argv: str, expect: int = 0) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "holdfast", *argv],
            cwd=self.site if os.path.isdir(self.site) else self.home,
            env=self.env,
            capture_output=True,
            text=True,
            timeout=100 * SLOWNESS,
            check=False,
        )
        assert done.returncode == expect, f"{argv}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout + done.stderr

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.types("status", "--json"))
        return found

    def worker(self, name: str) -> dict[str, Any]:
        return next(worker for worker in self.status()["workers"] if worker["name"] == name)


@pytest.fixture
def shell() -> Iterator[Shell]:
    person = Shell()
    yield person
    subprocess.run(
        [sys.executable, "-m", "holdfast", "--state", f"{person.site}/.holdfast", "down", "--kill"],
        env=person.env, capture_output=True, timeout=100 * SLOWNESS, check=False,
    )  # fmt: skip
    shutil.rmtree(person.home)


def test_a_first_evening(shell: Shell) -> None:
    shell.types("init", "site")
    assert "ok: 2 workers, 1 component" in shell.types("check")
    assert "no node is running" in shell.types("status", expect=3)
    assert "up: 2 workers ready" in shell.types(
        "up", "--detach", "--timeout", f"{60 * SLOWNESS:.0f}"
    )
    assert "a node already runs" in shell.types("up", "--detach", expect=4)

    found = shell.status()
    assert [(w["name"], w["state"], w["ready"]) for w in found["workers"]] == [
        ("greeter", "running", True),
        ("ticker", "running", True),
    ]
    assert all(process["pid"] for process in found["house"])
    assert found["workers"][0]["components"] == [{"name": "hello", "state": "running"}]

    before = shell.worker("ticker")
    assert "ticker: restarted (running, pid " in shell.types("restart", "ticker")
    assert shell.worker("ticker")["n"] == before["n"] + 1
    assert "greeter/hello: restarted" in shell.types("restart", "greeter/hello")
    assert "ticker: stopped (down" in shell.types("stop", "ticker")
    assert "ticker: started (running" in shell.types("start", "ticker")
    assert "| tick\n" in shell.types("logs", "ticker")

    config = Path(shell.site, "holdfast.toml")
    config.write_text(config.read_text().replace("sleep 5", "sleep 6"))
    pids = shell.worker("greeter")["pid"]
    assert "sleep 6" in shell.types("apply", "--yes")
    assert shell.worker("greeter")["pid"] == pids
    assert "no difference" in shell.types("diff")

    assert "down: 2 workers" in shell.types("down")
    assert "no node is running" in shell.types("down", expect=3)
    assert "| tick\n" in shell.types("logs", "ticker")


def test_down_kill_when_the_keeper_is_stopped(shell: Shell) -> None:
    shell.types("init", "site")
    shell.types("up", "--detach", "--timeout", f"{60 * SLOWNESS:.0f}")
    found = shell.status()
    pids = [process["pid"] for process in [*found["house"], *found["workers"]]]
    os.kill(found["house"][1]["pid"], signal.SIGSTOP)

    assert "down: 2 workers" in shell.types("down", "--kill")
    assert [pid for pid in pids if os.path.exists(f"/proc/{pid}/exe") and _is_alive(pid)] == []


def _is_alive(pid: int) -> bool:
    """Whether a process is more than a zombie that nobody has reaped yet."""
    try:
        return os.readlink(f"/proc/{pid}/exe") != ""
    except OSError:
        return False
