"""A small real node with a dashboard: a container, a router, jobs, a program that can be made to crash, and one that just sleeps."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

from holdfast.cli import commands
from holdfast.dashboard.access import keeping, passwords
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

    def worker(self, name: str) -> dict[str, Any]:
        found = json.loads(self.holdfast("status", "--json"))["workers"]
        return next(one for one in found if one["name"] == name)

    def crash(self) -> None:
        """Have the fragile worker break its own memory."""
        (self.tmp / "crash").touch()

    def incidents(self, worker: str) -> list[dict[str, Any]]:
        found = json.loads(self.holdfast("incidents", "--json"))["incidents"]
        return [one for one in found if one["worker"] == worker]

    def link(self, role: Any = "operator") -> str:
        return f"{self.url}/#token={keeping.make_link(self.state_dir, role, time.time())}"

    def end(self) -> None:
        subprocess.run(
            [sys.executable, "-m", "holdfast", "down", "--kill"], cwd=self.tmp, env=self.env, check=False,
            capture_output=True, timeout=120 * SLOWNESS,
        )  # fmt: skip
        shutil.rmtree(self.state_dir, ignore_errors=True)
