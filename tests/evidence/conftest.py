"""A node's directories without a node: enough for the evidence process to do its work on real processes."""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import holdfast
from holdfast.linux import cgroup, procfs
from holdfast.records import incidents
from holdfast.wire import journal, layout, logindex
from holdfast.wire.jsonlite import dumps, loads

SLOWNESS = float(os.environ.get("HOLDFAST_SLOWNESS", "1"))
SCRIPT = str(Path(holdfast.__file__).parent / "evidence" / "__main__.py")


class Node:
    """Run directory, state directory and plan of a node with one worker, ``backend``."""

    def __init__(self, run_dir: Path, state_dir: Path, app: Path) -> None:
        self.run_dir, self.state_dir, self.app = run_dir, state_dir, app
        self.processes: list[subprocess.Popen[bytes]] = []
        for name in (layout.ORDERS, layout.PULSES, layout.SAMPLES, layout.FIFOS, layout.CONTROL):
            (run_dir / name).mkdir(parents=True)
        self.logs = state_dir / layout.LOGS / "backend"
        self.logs.mkdir(parents=True)
        (state_dir / layout.RUN_LINK).symlink_to(run_dir)
        self.worker: dict[str, Any] = {
            "name": "backend", "kind": "guest", "argv": [sys.executable, str(app / "app.py")], "env": {},
            "directory": str(app), "limits": {"memory_bytes": None}, "restart": {"healthy_s": 10.0},
            "log": {"directory": str(self.logs)}, "components": [], "faulthandler": True,
        }  # fmt: skip
        self.write_plan()

    def write_plan(self, digest: str = "d1", *, drills: bool = False) -> None:
        plan = {
            "format": 1,
            "node": "test",
            "drills": drills,
            "state_dir": str(self.state_dir),
            "digest": digest,
            "env": {},
            "workers": [self.worker],
        }
        (self.run_dir / layout.PLAN).write_text(dumps(plan))

    def program(self, text: str) -> None:
        (self.app / "app.py").write_text(text)

    def start(
        self, n: int = 3, env_more: dict[str, str] | None = None, **more: Any
    ) -> "subprocess.Popen[bytes]":
        """Start the worker's program as the keeper would."""
        env = {
            **os.environ, "HOLDFAST_WORKER": "backend", "HOLDFAST_START": str(n), "HOLDFAST_RUN": str(self.run_dir),
            "PYTHONFAULTHANDLER": "1", **(env_more or {}),
        }  # fmt: skip
        process = subprocess.Popen(
            self.worker["argv"],
            env=env,
            cwd=self.app,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            **more,
        )
        self.processes.append(process)
        return process

    def die(self, text: str, n: int = 3, **order: Any) -> dict[str, Any]:
        """Run a program until it dies, log what it said, and return the incident of its death."""
        self.program(text)
        process = self.start(n)
        _, said = process.communicate(timeout=60 * SLOWNESS)
        self.log("err", said, n)
        return self.incident(self.order(process, n=n, **order))

    def log(self, stream: str, data: bytes, n: int) -> None:
        """Append to a segment and its index as the logger does."""
        segment = self.logs / f"{stream}.log"
        offset = segment.stat().st_size if segment.exists() else 0
        with segment.open("ab") as file:
            file.write(data)
        with (self.logs / f".{stream}.log.idx").open("ab") as file:
            file.write(logindex.encode(offset, time.time_ns(), n))

    def order(
        self,
        process: "subprocess.Popen[bytes]",
        *,
        n: int = 3,
        key: str = "exit-41",
        live: bool = False,
        **more: Any,
    ) -> str:
        code = process.returncode
        status = None if code is None else -code if code < 0 else code << 8
        record = {
            "seq": 41, "k": "exit", "unix_s": time.time(), "mono_s": time.monotonic(), "worker": "backend", "n": n, "role": "main",
            "pid": process.pid, "status": status, "lived_s": 0.5, "cause": "died", "deaths": 1, "next": "restart", "delay_s": 0.0,
        }  # fmt: skip
        if not live:
            (self.run_dir / layout.JOURNAL).write_bytes(journal.encode(record))
        self.place({
            "key": key, "kind": "exit", "worker": "backend", "n": n, "pid": process.pid, "status": status, "lived_s": 0.5,
            "seq": None if live else 41, "flag": None, "unix_s": time.time(), "deadline_s": 10.0 * SLOWNESS, "live": live,
            **more,
        })  # fmt: skip
        return key

    def place(self, order: dict[str, Any]) -> None:
        (self.run_dir / layout.ORDERS / f"{order['key']}.json").write_text(dumps(order))

    def hang_order(
        self, process: "subprocess.Popen[bytes]", key: str = "flag-backend-1", **more: Any
    ) -> str:
        flag = {
            "worker": "backend",
            "flag": "missed_heartbeat",
            "since_unix_s": time.time() - 5.2,
            "says": "no heartbeat",
        }
        return self.order(process, key=key, live=True, flag=flag, kind="hang", **more)

    def evidence(self, key: str, env: dict[str, str] | None = None) -> "subprocess.Popen[bytes]":
        process = subprocess.Popen(
            [sys.executable, "-P", SCRIPT, str(self.run_dir), key], stderr=subprocess.PIPE, env=env
        )
        self.processes.append(process)
        return process

    def incident(self, key: str, env: dict[str, str] | None = None) -> dict[str, Any]:
        """Carry out an order and return the incident."""
        _, said = self.evidence(key, env).communicate(timeout=60 * SLOWNESS)
        assert said == b"", said.decode()
        done = self.done(key)
        assert done is not None
        assert not (self.run_dir / layout.ORDERS / f"{key}.json").exists()
        return incidents.load(str(self.state_dir), str(done["incident"]))

    def done(self, key: str) -> "dict[str, Any] | None":
        path = self.run_dir / layout.ORDERS / f"{key}.done"
        return loads(path.read_text()) if path.exists() else None

    def bundles(self) -> list[str]:
        """Return the names in the directory of incidents, temporary ones too, the index not."""
        parent = self.state_dir / layout.INCIDENTS
        return sorted(p.name for p in parent.iterdir() if p.is_dir()) if parent.exists() else []

    def file(self, incident: dict[str, Any], name: str) -> str:
        return (Path(incident["path"]) / name).read_text()


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    # In /dev/shm, as in life: the path of a Unix socket is short, tmp_path is not.
    run_dir = Path(tempfile.mkdtemp(dir="/dev/shm", prefix="holdfast-test-"))
    app = tmp_path / "app"
    app.mkdir()
    made = Node(run_dir / "node", tmp_path / "state", app)
    yield made
    for process in made.processes:
        if process.poll() is None:
            process.kill()
        process.wait()
        for pipe in (process.stdout, process.stderr):
            if pipe:
                pipe.close()
    shutil.rmtree(run_dir)


def wait_for(condition: Callable[[], bool], what: str, seconds: float = 20.0) -> None:
    until = time.monotonic() + seconds * SLOWNESS
    while not condition():
        assert time.monotonic() < until, f"waited {seconds * SLOWNESS:g} s for {what}"
        time.sleep(0.005)


@pytest.fixture
def started(node: Node) -> Callable[..., "subprocess.Popen[bytes]"]:
    """Start a program that says "there" and wait until it is where it hangs."""

    def start(text: str, *, asleep: bool = True, **more: Any) -> "subprocess.Popen[bytes]":
        node.program(text)
        process = node.start(**more)
        assert process.stdout is not None
        assert process.stdout.readline() == b"there\n"
        looks: list[str] = []

        def settled() -> bool:
            found = procfs.reading(process.pid)
            looks.append(found.state if found else "gone")
            return looks[-3:] == ["S", "S", "S"]

        if asleep:
            wait_for(settled, "the program to fall asleep")
        return process

    return start


@pytest.fixture
def memory_group() -> Iterator[str]:
    """A memory cgroup of 64 MiB for the worker, where this machine allows one; its path."""
    for tree in cgroup.trees():
        if tree.controller == "memory":
            path = f"{tree.path}/holdfast-test-{os.getpid()}"
            try:
                os.mkdir(path)
            except OSError as error:
                pytest.skip(f"no memory cgroup can be made here: {error}")
            limit = "memory.limit_in_bytes" if tree.version == 1 else "memory.max"
            Path(path, limit).write_text(str(64 << 20))
            yield path
            os.rmdir(path)
            return
    pytest.skip("no memory cgroup controller is mounted here")
