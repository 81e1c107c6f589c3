"""A small real node with a dashboard: containers, a router, jobs, programs that can be made to crash, one that just sleeps, and somebody who is told."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

from holdfast.alerts.store import Store
from holdfast.cli import commands, snapshot
from holdfast.cli.alerts import open_alerts, public
from holdfast.cli.place import Place
from holdfast.dashboard.access import audit, keeping, passwords
from holdfast.records import incidents as records
from node import SLOWNESS, wait_for

SOURCE = str(Path(commands.__file__).parents[2])
PASSWORD = "correct horse"

CODE = """
import asyncio, ctypes, os
from holdfast.sdk import Component, job

app = Component("board")

@app.procedure("demo.add")
async def add(a: int, b: int) -> int:
    return a + b

@app.every(0.2)
async def tick():
    app.work()

@job(name="fails", retries=0)
def fails(page):
    raise ValueError("no such page: " + page)
"""
TRIO = """
import os
from holdfast.sdk import Component

left, middle, right = Component("left"), Component("middle"), Component("right")

@middle.every(0.05)
async def look():
    if os.path.exists("crash-middle"):
        os.unlink("crash-middle")
        raise ValueError("in the middle")
"""
MOODY = """
import os, sys, time
while not os.path.exists("moody"):
    time.sleep(0.02)
sys.exit(3)
"""
FRAGILE = """
import ctypes, os, sys, time
print("fragile is up", flush=True)
while not os.path.exists(sys.argv[1]):
    time.sleep(0.05)
os.unlink(sys.argv[1])
ctypes.string_at(0)
"""
CONFIG = """
[node]
name = "clinic"
state_dir = "state"
verify = "2s"

[dashboard]
listen = "127.0.0.1:{port}"
user.ann = {{ password_hash = "{hash}", role = "operator" }}
user.bob = {{ password_hash = "{hash}", role = "reader" }}

[realm.demo.role.backend]
permissions = [{{ uri = "demo.*", allow = ["call", "register"] }}]

[worker.router]
kind = "router"

[worker.web]
components = ["board"]

[component.board]
use = "demo:app"
realm = "demo"
role = "backend"

[worker.pages]
kind = "jobs"
use = ["demo"]
queues = ["default"]

[worker.fragile]
command = ["{python}", "-X", "faulthandler", "fragile.py", "crash"]
directory = "."

[worker.sleeper]
command = ["/bin/sleep", "100000"]

[worker.trio]
components = ["left", "middle", "right"]
directory = "."

[component.left]
use = "trio:left"
[component.middle]
use = "trio:middle"
[component.right]
use = "trio:right"

[worker.moody]
command = ["{python}", "moody.py"]
directory = "."
restart = {{ limit = 1, after_limit = "down", delay = "50ms" }}

[alerts.channel.oncall]
type = "command"
command = ["sh", "-c", "cat >> pages.jsonl"]
"""


class Clinic:
    """The node, its dashboard, and ways to hurt it."""

    def __init__(self, tmp: Path) -> None:
        self.tmp = tmp
        self.state_dir = str(tmp / "state")
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.env = {**os.environ, "PYTHONPATH": f"{SOURCE}:{tmp}"}
        (tmp / "demo.py").write_text(CODE)
        (tmp / "fragile.py").write_text(FRAGILE)
        (tmp / "trio.py").write_text(TRIO)
        (tmp / "moody.py").write_text(MOODY)
        hashed = passwords.make(PASSWORD)
        (tmp / "holdfast.toml").write_text(
            CONFIG.format(port=self.port, hash=hashed, python=sys.executable)
        )
        self.holdfast("up", "--detach")
        wait_for(self.answers, "the dashboard")

    def holdfast(self, *argv: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "holdfast", *argv],
            cwd=self.tmp, env=self.env, capture_output=True, text=True, timeout=120 * SLOWNESS, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{argv}: {done.stdout}\n{done.stderr}"
        return done.stdout

    def answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/livez", timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def place(self) -> Place:
        return Place(self.state_dir, str(self.tmp / "holdfast.toml"))

    def worker(self, name: str) -> dict[str, Any]:
        return self.workers()[name]

    def crash(self) -> None:
        """Have the fragile worker break its own memory."""
        (self.tmp / "crash").touch()

    # What the commands read, read here: each of them would be a process more.

    def workers(self) -> dict[str, dict[str, Any]]:
        found = snapshot.take(self.place(), components=False)["workers"]
        return {one["name"]: one for one in found}

    def alert_of(self, cause: str) -> dict[str, Any]:
        """Return the open alert about a worker; empty when there is none."""
        store = Store(self.state_dir)
        try:
            found = [public(one) for one in open_alerts(store)] if os.path.exists(store.path) else []  # fmt: skip
        finally:
            store.close()
        return next((one for one in found if one["cause"] == cause), {})

    def audit(self) -> list[str]:
        """Return who did what and what came of it, oldest first."""
        entries = audit.read(self.state_dir)
        return [f"{one['what']} {one['target']}: {one['result']}" for one in entries]

    def incidents(self, worker: str) -> list[dict[str, Any]]:
        found = records.list_incidents(self.state_dir)
        return [one for one in found if one["worker"] == worker]

    def link(self, role: Any = "operator") -> str:
        return f"{self.url}/#token={keeping.make_link(self.state_dir, role, time.time())}"

    def end(self) -> None:
        subprocess.run(
            [sys.executable, "-m", "holdfast", "down", "--kill"], cwd=self.tmp, env=self.env, check=False,
            capture_output=True, timeout=120 * SLOWNESS,
        )  # fmt: skip
        shutil.rmtree(self.state_dir, ignore_errors=True)
