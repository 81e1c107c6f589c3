"""A node that is not there: real directories, real locks, a real socket, and a keeper that says what a test wants."""

import json
import os
import shutil
import socket
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

from holdfast.linux import locks, places
from holdfast.wire import layout, sample

SLOWNESS = float(os.environ.get("HOLDFAST_SLOWNESS", "1"))


def planned(name: str, **more: Any) -> dict[str, Any]:
    """The plan of one worker, as far as the command line reads it."""
    return {
        "name": name,
        "kind": "guest",
        "autostart": True,
        "after": [],
        "requires": [],
        "ready": {"kind": "none", "target": "", "argv": [], "timeout_s": 1.0},
        "stop": {"signal": 15, "grace_s": 1.0},
        "components": [],
        "log": None,
    } | more


def worker(name: str, **more: Any) -> dict[str, Any]:
    """What the keeper says of one worker."""
    return {
        "name": name,
        "kind": "guest",
        "state": "running",
        "ready": True,
        "pid": os.getpid(),
        "n": 1,
        "started_at_unix_s": time.time() - 90,
        "restarts": 0,
        "up": True,
        "spare_pid": None,
        "why": "",
    } | more


def shown(name: str, **more: Any) -> dict[str, Any]:
    """One worker of a snapshot, in the shape of `status --json`."""
    return {
        "name": name,
        "kind": "guest",
        "state": "running",
        "ready": True,
        "pid": 4711,
        "started_at_unix_s": 1_000_000.0 - 3723,
        "restarts": 0,
        "rss_bytes": 20 << 20,
        "cpu_share": 0.02,
        "components": [],
        "flags": [],
        "n": 1,
        "up": True,
        "spare_pid": None,
        "delay_s": None,
        "why": "",
    } | more


def snapshot(*workers: dict[str, Any], **more: Any) -> dict[str, Any]:
    """A whole snapshot."""
    return {
        "node": "clandeck-1",
        "state_dir": "/srv/clandeck/.holdfast",
        "run_dir": "/dev/shm/holdfast-0/0123456789abcdef",
        "config": "/srv/clandeck/holdfast.toml",
        "digest": "abc",
        "uptime_s": 7200.0,
        "keeper_answers": True,
        "trouble": "",
        "workers": list(workers),
        "flags": [],
        "house": [
            {"name": role, "pid": 100 + at, "rss_bytes": 9_500_000, "uptime_s": 7200.0}
            for at, role in enumerate(layout.ROLES)
        ],
    } | more


class FakeNode:
    """Use as a context manager; ``env`` is what a command line in another process needs to find it."""

    def __init__(self, *plans: dict[str, Any], node: str = "fake") -> None:
        # Short: a Unix socket's path has 107 bytes.
        self.root = tempfile.mkdtemp(prefix="h", dir="/tmp")
        self.state_dir = f"{self.root}/site/.holdfast"
        self.config = f"{self.root}/site/holdfast.toml"
        os.makedirs(self.state_dir)
        Path(self.config).write_text("[node]\n")
        self.env = {**os.environ, "HOLDFAST_RUNTIME_DIR": self.root}
        self._old = os.environ.get("HOLDFAST_RUNTIME_DIR")
        os.environ["HOLDFAST_RUNTIME_DIR"] = self.root
        self.run_dir = places.run_dir_for(self.state_dir)
        for name in (layout.FLAGS, layout.SAMPLES, layout.CONTROL):
            os.makedirs(f"{self.run_dir}/{name}")
        self.plan: dict[str, Any] = {
            "format": 1,
            "node": node,
            "config": self.config,
            "state_dir": self.state_dir,
            "digest": "one",
            "workers": list(plans),
        }
        self.write_plan()
        self.workers: dict[str, dict[str, Any]] = {
            p["name"]: worker(p["name"], kind=p["kind"]) for p in plans
        }
        self.requests: list[dict[str, Any]] = []
        self.on: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {}
        self._held: dict[str, int] = {}
        self._servers: list[socket.socket] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for server in self._servers:
            server.shutdown(socket.SHUT_RDWR)
            server.close()
        self.release()
        if self._old is None:
            del os.environ["HOLDFAST_RUNTIME_DIR"]
        else:
            os.environ["HOLDFAST_RUNTIME_DIR"] = self._old
        shutil.rmtree(self.root)

    def write_plan(self) -> None:
        for directory in (self.run_dir, self.state_dir):
            Path(directory, layout.PLAN).write_text(json.dumps(self.plan))

    # -- the house -----------------------------------------------------------------------------------

    def up(self, roles: tuple[str, ...] = layout.ROLES) -> Self:
        """Take the locks of the house, and listen as the keeper."""
        for role in roles:
            self._take(f"{self.run_dir}/{layout.lock(role)}")
        if "anchor" in roles:
            self._take(f"{self.state_dir}/{layout.NODE_LOCK}")
        if "keeper" in roles:
            self.serve(f"{self.run_dir}/{layout.socket('keeper')}", self.answer)
        return self

    def _take(self, path: str) -> None:
        descriptor = locks.take(path)
        assert descriptor is not None
        self._held[path] = descriptor

    def release(self) -> None:
        """The house is gone."""
        for path, descriptor in self._held.items():
            os.close(descriptor)
            locks.forget(path)
        self._held.clear()

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        self.requests.append(request)
        what = str(request.get("do"))
        if what in self.on:
            return {"ok": True, **self.on[what](request)}
        if what == "status":
            return {
                "ok": True,
                "pid": os.getpid(),
                "digest": self.plan["digest"],
                "uptime_s": 7200.0,
                "workers": list(self.workers.values()),
            }
        return {"ok": True}

    def serve(self, path: str, answer: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
        server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        server.bind(path)
        server.listen(16)
        self._servers.append(server)

        def loop() -> None:
            while True:
                try:
                    client, _ = server.accept()
                except OSError:
                    return
                with client, client.makefile("rwb") as stream:
                    for line in stream:
                        try:
                            stream.write(json.dumps(answer(json.loads(line))).encode() + b"\n")
                            stream.flush()
                        except OSError:
                            break

        threading.Thread(target=loop, daemon=True).start()

    # -- what the watchdog leaves ----------------------------------------------------------------------

    def raise_flag(self, name: str, flag: str, **more: Any) -> None:
        text = {
            "worker": name,
            "flag": flag,
            "since_unix_s": time.time() - 10,
            "value": 1,
            "limit": 0,
            "says": "it does not beat",
            "incident": None,
            "rung": 0,
            "phase": "raised",
        } | more
        Path(self.run_dir, layout.flag(name, flag)).write_text(json.dumps(text))

    def write_samples(self, name: str, count: int, cpu_share: float, first: int = 1) -> None:
        """Write ``count`` samples a second apart, the last one now."""
        data = bytearray(sample.SIZE)
        now_ns, unix_ns = time.monotonic_ns(), time.time_ns()
        for number in range(first, first + count):
            ago = (first + count - 1 - number) * 1_000_000_000
            values = dict.fromkeys(sample.FIELDS, 0) | {
                "number": number,
                "unix_ns": unix_ns - ago,
                "mono_ns": now_ns - ago,
                "pid": os.getpid(),
                "cpu_ns": int(number * cpu_share * 1e9),
            }
            at = number % sample.SLOTS * sample.RECORD.size
            data[at : at + sample.RECORD.size] = sample.RECORD.pack(
                *values.values(), *[0] * (len(sample.FIELDS) - len(values))
            )
        Path(self.run_dir, layout.SAMPLES, name).write_bytes(data)
