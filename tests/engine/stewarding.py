"""A steward for tests, with real workers that do as they are told: their jobs are claimed, begun and ended by word."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from holdfast.engine.dying import Death
from holdfast.engine.families import Families
from holdfast.engine.storm import Storm
from holdfast.engine.tending import Steward
from holdfast.jobs.opening import open_store
from holdfast.model.jobs import StoreDownError
from holdfast.wire import flight, sidekiq
from holdfast.wire.plan import encode, stub
from node import SLOWNESS, wait_for

if TYPE_CHECKING:
    from collections.abc import Callable

    from holdfast.jobs.store import Store

SOURCE = Path(__file__).parents[2] / "src"

#: A worker whose every step is a line on its standard input.
PUPPET = """
import itertools, sys, time
from holdfast.engine.recording import Recording
from holdfast.jobs.opening import open_store
run_dir, worker, url, lease_s = sys.argv[1:5]
store = open_store(url)
recording = Recording(run_dir, worker, 8, store.url)
recorder = recording.recorder
recording.tell("born " + recording.owner)
store.register(recording.owner, float(lease_s))
print(recording.owner, flush=True)
tokens = itertools.count(1)
for line in sys.stdin:
    do, *words = line.split()
    if do == "claim":
        leases, _ = store.claim(recording.owner, words[1:], int(words[0]), 1)
        print(*[lease.token for lease in leases], flush=True)
        continue
    if do == "begin":
        recorder.begin(int(words[0]), int(words[1]), (words[2:] or ["jid"])[0].encode(), b"Klass", 1, 0, time.monotonic_ns(), time.time())
    elif do == "late":
        now_ns = time.monotonic_ns()
        recorder.begin(int(words[0]), int(words[1]), b"jid", b"Klass", 1, now_ns - 10**10, now_ns - 2 * 10**10, time.time())
    elif do == "quiet":
        recorder.put(48, 1)
    elif do == "end":
        recorder.end(int(words[0]), int(words[1]), int(words[2]))
    elif do == "meant":
        recording.meant()
    elif do == "scribble":
        memory = recorder._buffer
        memory[0:1024] = b"x" * 1024
    print("ok", flush=True)
"""


def job(n: int, queue: str = "default", **more: Any) -> bytes:
    made = sidekiq.new("Klass", [n], jid=f"{n:024x}", queue=queue, now_s=1.5e9, extra=more)
    return sidekiq.dumps(made)


def parsed(raw: bytes) -> dict[str, Any]:
    return sidekiq.loads(raw)


def numbers(store: Store, where: str) -> list[int]:
    """The jobs of one place by their argument, the next one first."""
    return [parsed(entry.raw)["args"][0] for entry in store.page(where, 0, 1000)]


class Puppet:
    """One worker process."""

    def __init__(self, run_dir: str, worker: str, url: str, lease_s: float) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", PUPPET, run_dir, worker, url, str(lease_s)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(SOURCE)},
        )  # fmt: skip
        assert self.process.stdout is not None
        self.owner = self.process.stdout.readline().strip()
        assert self.owner, "the puppet did not start"
        self.path = Path(run_dir, "jobs", self.owner)
        self.pid = self.process.pid

    def do(self, *words: object) -> list[int]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(" ".join(map(str, words)) + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline().split()
        assert answer or words[0] == "claim", f"the puppet died at {words}"
        return [] if answer == ["ok"] else [int(word) for word in answer]

    def kill(self, number: int = signal.SIGKILL) -> int:
        self.process.send_signal(number)
        self.end()
        return self.pid

    def end(self) -> None:
        if self.process.poll() is None and self.process.returncode is None:
            self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout):
            assert stream is not None
            with contextlib.suppress(BrokenPipeError):
                stream.close()

    def flight(self) -> flight.Flight:
        return flight.Flight(self.path.read_bytes())


class Told:
    """Causes of deaths, as a test wants them known."""

    def __init__(self) -> None:
        self.deaths: dict[int, Death] = {}
        self.knows_all = True  #: of those that are not named here: they died by themselves

    def read(self) -> None:
        pass

    def of(self, worker: str, pid: int) -> Death | None:  # noqa: ARG002
        return self.deaths.get(pid) or (Death("died", 9) if self.knows_all else None)

    def likely(self, worker: str) -> Death:  # noqa: ARG002
        return Death()


class Flaky:
    """A store that can be taken away: whatever is asked then fails with ``error``, or waits until ``answers`` is set."""

    def __init__(self, store: Store, url: str) -> None:
        self._store = store
        self.url = url
        self.error: Exception | None = None
        self.answers = threading.Event()
        self.answers.set()
        self.calls: list[str] = []

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._store, name)

        def ask(*args: Any) -> Any:
            self.calls.append(name)
            self.answers.wait(60 * SLOWNESS)
            if self.error is not None:
                raise self.error
            return method(*args)

        return ask


def refused() -> StoreDownError:
    """What a store says of which nothing is left that could answer."""
    error = StoreDownError("cannot connect")
    error.__cause__ = ConnectionRefusedError(111, "Connection refused")
    return error


class Estate:
    """A run directory, a store, and a steward that looks after them."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.run_dir = str(root / "run")
        Path(self.run_dir, "jobs").mkdir(parents=True)
        self.url = f"sqlite://{root}/jobs.db"
        self.store = open_store(self.url)
        self.lease_s = 15.0
        self.causes: Any = Told()
        self.storm = Storm(self.run_dir)
        self.lanes: list[str] = []
        self.said: list[str] = []
        self.puppets: list[Puppet] = []
        self.watched: Any = self.store
        self.state_dir = ""
        self._steward: Steward | None = None
        self._thread: threading.Thread | None = None
        self._is_over = threading.Event()
        self._error: BaseException | None = None
        self.plan({"crawl": ["default", "low"]})

    def plan(self, families: dict[str, list[str]]) -> None:
        entries = []
        for family, queues in families.items():
            for name, role in ((family, "worker"), (f"{family}.quarantine", "quarantine")):
                entry = stub(name, str(self.root))
                entry["kind"] = "jobs"
                entry["jobs"] = {
                    "role": role, "family": family, "store": self.url, "prefix": "", "use": [],
                    "queues": [(queue, 0) for queue in queues], "concurrency": 4, "async_concurrency": 0,
                    "lease_s": self.lease_s, "timeout_s": 0.0, "recycle_bytes": 0, "recycle_jobs": 0,
                }  # fmt: skip
                entries.append(entry)
        loose: Any = {"format": 1, "node": "box", "workers": entries}
        new = Path(self.run_dir, "plan.new")
        new.write_bytes(encode(loose))
        new.rename(Path(self.run_dir, "plan.json"))

    def puppet(self, worker: str = "crawl") -> Puppet:
        made = Puppet(self.run_dir, worker, self.url, self.lease_s)
        self.puppets.append(made)
        return made

    def push(self, *numbers: int, queue: str = "default") -> None:
        self.store.push([job(n, queue) for n in numbers])

    def start(self) -> Steward:
        """Begin to look after everything, in a thread."""
        self._is_over.clear()
        steward = self._steward = Steward(
            self.run_dir, Families(self.run_dir), self.watched, self.lease_s, self.causes, self.storm, self.lanes.append,
            self._say, self.state_dir,
        )  # fmt: skip
        self._thread = threading.Thread(target=self._run, args=(steward,))
        self._thread.start()
        return steward

    def _say(self, event: str, **fields: object) -> None:
        self.said.append(f"{event} {json.dumps(fields)}")

    def _run(self, steward: Steward) -> None:
        try:
            while not self._is_over.is_set():
                steward.turn(0.05)
            steward.finish(0.0)
        except BaseException as error:  # noqa: BLE001 -- for the test
            self._error = error

    def stop(self) -> None:
        if self._thread is not None:
            self._is_over.set()
            self._thread.join(30 * SLOWNESS)
            self._thread = None
        if self._error is not None:
            raise self._error

    def wait(self, look: Callable[[], Any], what: str, within_s: float = 15.0) -> Any:
        def watch() -> Any:
            if self._error is not None:
                raise self._error
            return look()

        return wait_for(watch, f"{what} (said: {self.said})", within_s)

    def wait_settled(self, puppet: Puppet) -> None:
        self.wait(lambda: not puppet.path.exists(), "the recorder to be removed")

    def end(self) -> None:
        try:
            self.stop()
        finally:
            for puppet in self.puppets:
                puppet.end()
            self.store.close()
