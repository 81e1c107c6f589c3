"""A real worker of kind `jobs` for tests: a container process with a plan of its own; the test plays the keeper, and the steward where it wants to."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from holdfast.jobs.opening import open_store
from holdfast.wire import flight, sidekiq
from holdfast.wire import pulse as pulses
from node import SLOWNESS, wait_for

if TYPE_CHECKING:
    from holdfast.jobs.store import Store

SOURCE = Path(__file__).parents[2] / "src"

#: What the jobs of most tests are.
TASKS = """
import asyncio, os, signal, sys, threading, time
from holdfast.sdk import job
from holdfast.sdk.job_context import current

LOG = os.environ["EFFECTS"]

def effect(text):
    fd = os.open(LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(fd, f"{text}\\n".encode())
    os.close(fd)

@job(name="noop")
def noop(*args): pass

@job(name="write")
def write(text): effect(text)

@job(name="awrite")
async def awrite(text): effect(text)

@job(name="sleep")
def sleep(seconds, text=""):
    effect(f"begin {text}")
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        time.sleep(0.01)
    effect(f"end {text}")

@job(name="asleep")
async def asleep(seconds, text=""):
    effect(f"begin {text}")
    await asyncio.sleep(seconds)
    effect(f"end {text}")
"""


class Worker:
    """One worker process over one store."""

    def __init__(self, root: Path, url: str = "") -> None:
        self.root = root
        self.run_dir = root / "run"
        self.code = root / "code"
        for directory in ("run/pulse", "run/ctl", "run/jobs", "code"):
            (root / directory).mkdir(parents=True, exist_ok=True)
        self.url = url or f"sqlite://{root}/jobs.db"
        self.store: Store = open_store(self.url)
        self.effects_file = root / "effects"
        self.plan: dict[str, Any] = {
            "role": "worker", "family": "work", "store": self.url, "prefix": "", "use": ["tasks"], "queues": [["default", 0]],
            "concurrency": 1, "async_concurrency": 10, "lease_s": 60.0 * SLOWNESS, "timeout_s": 0.0,
            "recycle_bytes": 0, "recycle_jobs": 0,
        }  # fmt: skip
        self.grace_s = 5.0 * SLOWNESS
        self.started: list[subprocess.Popen[bytes]] = []
        self.tasks("")

    def tasks(self, more: str) -> None:
        """Write the module that declares the jobs."""
        (self.code / "tasks.py").write_text(TASKS + more)

    def start(self, n: int = 1, **env: str) -> subprocess.Popen[bytes]:
        """Start a life of the worker."""
        component = {"name": "jobs", "use": "holdfast.engine:app", "settings": {}}
        entry = {
            "name": "work", "kind": "jobs", "directory": str(self.code), "components": [component], "jobs": self.plan,
            "stop": {"signal": signal.SIGTERM, "grace_s": self.grace_s},
        }  # fmt: skip
        plan = {"format": 1, "node": "t", "drills": True, "workers": [entry]}
        (self.run_dir / "plan.json").write_text(json.dumps(plan))
        self.err = self.root / f"err{n}"
        self.out = self.root / f"out{n}"
        with self.out.open("wb") as out, self.err.open("wb") as err:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-X", "faulthandler", SOURCE / "holdfast/container/__main__.py"],
                stdout=out, stderr=err, stdin=subprocess.DEVNULL, cwd=self.code,
                env={
                    "PATH": os.environ["PATH"], "HOLDFAST_NODE": "t", "HOLDFAST_RUN": str(self.run_dir),
                    "HOLDFAST_WORKER": "work", "HOLDFAST_START": str(n), "HOLDFAST_ROLE": "main", "EFFECTS": str(self.effects_file),
                    "HOLDFAST_PULSE": str(self.run_dir / "pulse/work"), **env,
                },
            )  # fmt: skip
        self.started.append(self.process)
        return self.process

    def start_ready(self, n: int = 1, **env: str) -> None:
        """Start a life and wait until it takes jobs."""
        process = self.start(n, **env)

        def look() -> bool:
            assert process.poll() is None, self.stderr()
            found = pulses.decode((self.run_dir / "pulse/work").read_bytes()) if (self.run_dir / "pulse/work").exists() else None  # fmt: skip
            return found is not None and found.ready == 1 and found.start == n

        wait_for(look, "the worker to be ready")

    def push(self, klass: str, *args: object, queue: str = "default", **more: Any) -> str:
        """Put one job into the queue as any client would; returns its jid."""
        jid = os.urandom(12).hex()
        made = sidekiq.new(
            klass,
            list(args),
            jid=jid,
            queue=queue,
            now_s=time.time(),
            hf=more.pop("hf", None),
            extra=more,
        )
        self.store.push([sidekiq.dumps({**made, **more})])
        return jid

    def push_many(self, klass: str, texts: list[str]) -> None:
        """Put many jobs into the queue."""
        now_s = time.time()
        raws = [
            sidekiq.dumps(
                sidekiq.new(klass, [text], jid=os.urandom(12).hex(), queue="default", now_s=now_s)
            )
            for text in texts
        ]
        for at in range(0, len(raws), 1000):
            self.store.push(raws[at : at + 1000])

    def effects(self) -> list[str]:
        """What the jobs did, in order."""
        try:
            return self.effects_file.read_text().splitlines()
        except FileNotFoundError:
            return []

    def wait_effect(self, text: str, within_s: float = 15.0) -> None:
        """Wait until a job has done this."""
        wait_for(
            lambda: text in self.effects(),
            f"{text!r} (there is {self.effects()[-5:]})",
            within_s,
        )

    def wait_drained(self, within_s: float = 20.0) -> None:
        """Wait until nothing is left to do, or being done."""

        def look() -> bool:
            counts = self.store.counts()
            return not counts.busy and not any(size for size, *_ in counts.queues.values())

        wait_for(look, f"everything to be done: {self.stderr()[-500:]}", within_s)

    def flights(self) -> list[flight.Flight]:
        """All recorders that lie there."""
        paths = list((self.run_dir / "jobs").iterdir())
        owners = [p for p in paths if p.name.count(":") == 2 and not p.name.startswith(".")]
        return [flight.Flight(path.read_bytes()) for path in owners]

    def flight(self) -> flight.Flight:
        """The recorder of the life that was started last."""
        return next(one for one in self.flights() if one.pid == self.process.pid)

    def dead(self) -> list[dict[str, Any]]:
        """The jobs of the dead set."""
        return [sidekiq.loads(entry.raw) for entry in self.store.page("dead")]

    def retries(self) -> list[dict[str, Any]]:
        """The jobs that wait for another attempt."""
        return [sidekiq.loads(entry.raw) for entry in self.store.page("retry")]

    def stderr(self) -> str:
        """What the worker has written there."""
        return self.err.read_text()

    def stdout(self) -> str:
        """What the worker has written there."""
        return self.out.read_text()

    def wait_exit(self) -> int:
        """Wait for the end of the last life and return its status."""
        return self.process.wait(timeout=20 * SLOWNESS)

    def stop(self) -> int:
        """Ask it to end."""
        self.process.send_signal(signal.SIGTERM)
        return self.wait_exit()

    def end(self) -> None:
        """End everything, whatever state the test has left it in."""
        for process in self.started:
            if process.poll() is None:
                process.kill()
            process.wait()
        self.store.close()
