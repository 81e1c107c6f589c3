"""A house around one real watchdog: this process plays the anchor and the keeper, the evidence is a small script."""

import json
import mmap
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from holdfast.linux import locks, procfs
from holdfast.wire import beats, journal, layout, pulse

SLOWNESS = float(os.environ.get("HOLDFAST_SLOWNESS", "1"))
SOURCE = Path(__file__).parents[2] / "src"


def wait_for(what: Callable[[], Any], within_s: float = 10.0, words: str = "") -> Any:
    """Return the first true value of ``what()``; fail when there is none in time."""
    until = time.monotonic() + within_s * SLOWNESS
    while True:
        value = what()
        if value:
            return value
        assert time.monotonic() < until, (
            f"waited {within_s * SLOWNESS:g} s in vain for {words or what}"
        )
        time.sleep(0.01)


def worker_plan(name: str, **changes: Any) -> dict[str, Any]:
    plan: dict[str, Any] = {
        "name": name, "kind": "guest", "argv": ["/bin/sleep", "1000"], "env": {}, "directory": "/", "user": None,
        "umask": None, "after": [], "requires": [], "crash_only": False, "spare": 0, "autostart": True,
        "essential": False, "log": None, "listen": [], "components": [], "faulthandler": False,
        "limits": {"memory_bytes": None, "cpu_share": None, "processes": None, "files": None, "core_bytes": None},
        "restart": {
            "policy": "always", "limit": 5, "window_s": 60.0, "after_limit": "slow", "delay_s": 0.5,
            "delay_max_s": 30.0, "jitter": 0.0, "healthy_s": 10.0,
        },
        "ready": {"kind": "none", "target": "", "argv": [], "timeout_s": 30.0},
        "heartbeat": {"kind": "none", "target": "", "argv": [], "period_s": 0.2, "timeout_s": 1.0},
        "stop": {"signal": 15, "grace_s": 5.0},
    }  # fmt: skip
    for key, value in changes.items():
        plan[key] = {**plan.get(key, {}), **value} if isinstance(value, dict) else value
    return plan


class FakeHouse:
    """Anchor and keeper in this process; the watchdog is a real one in a process of its own."""

    def __init__(self, root: Path) -> None:
        self.source = SOURCE
        self.run_dir = root / "run"
        self.state_dir = root / "state"
        for name in (layout.FLAGS, layout.ORDERS, layout.PULSES, layout.SAMPLES, layout.FIFOS):
            (self.run_dir / name).mkdir(parents=True)
        (self.state_dir / layout.INCIDENTS).mkdir(parents=True)
        (self.run_dir / layout.STATE_LINK).symlink_to(self.state_dir)
        (self.run_dir / layout.BEATS).write_bytes(bytes(beats.SIZE))
        self.seq = 0
        self.n: dict[str, int] = {}
        self.requests: list[dict[str, Any]] = []
        self.answers: Callable[[dict[str, Any]], dict[str, Any] | None] = lambda _: {"ok": True}
        self.watch = {
            "evidence_budget_s": 1.0, "sample_s": 1.0, "disk_min_share": 0.0, "verify_s": 1.0,
            "house_timeout_s": 3.0, "objectives": {},
        }  # fmt: skip
        self.children: list[subprocess.Popen[bytes]] = []
        self.held: dict[str, int] = {}
        self._ends = False
        with open(self.run_dir / layout.BEATS, "r+b") as file:
            self._beats = mmap.mmap(file.fileno(), beats.SIZE)
        self._beat()
        self._lock = locks.take(str(self.run_dir / layout.lock("anchor")))
        self._anchor = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._anchor.bind(str(self.run_dir / layout.socket("anchor")))
        self._keeper = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._keeper.bind(str(self.run_dir / layout.socket("keeper")))
        self._keeper.listen()
        self._clients: list[socket.socket] = []
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()
        self.evidence = root / "evidence.py"
        self.evidence_does(
            "import json, os, sys\n"
            "run, key = sys.argv[1:3]\n"
            "path = f'{run}/orders/{key}'\n"
            "order = json.load(open(path + '.json'))\n"
            "incident = 'incident-' + key\n"
            "os.makedirs(f'{run}/state/incidents/{incident}', exist_ok=True)\n"
            "open(f'{run}/evidence.log', 'a').write(json.dumps(order) + '\\n')\n"
            "open(path + '.tmp', 'w').write(json.dumps({'incident': incident}))\n"
            "os.rename(path + '.tmp', path + '.done')\n"
            "os.unlink(path + '.json')\n"
        )

    # -- what the test says ------------------------------------------------------------------------

    def evidence_does(self, script: str) -> None:
        self.evidence.write_text(script)

    def plan(self, *workers: dict[str, Any], groups: list[dict[str, Any]] | None = None) -> None:
        value = {
            "format": 1, "node": "test", "config": "/x", "state_dir": str(self.state_dir), "digest": "d",
            "drills": False, "env": {}, "workers": list(workers), "groups": groups or [], "watch": self.watch,
            "house_log": {},
        }  # fmt: skip
        temporary = self.run_dir / "plan.tmp"
        temporary.write_text(json.dumps(value))
        temporary.rename(self.run_dir / layout.PLAN)

    def record(self, **record: Any) -> int:
        self.seq += 1
        full = {"seq": self.seq, "unix_s": time.time(), "mono_s": time.monotonic(), **record}
        with open(self.run_dir / layout.JOURNAL, "ab") as file:
            file.write(journal.encode(full))
        return self.seq

    def tell(self) -> None:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            sock.sendto(b'{"do":"journal"}\n', str(self.run_dir / layout.socket("watchdog")))
        except OSError:
            pass  # it is not up yet, and reads the journal when it comes
        finally:
            sock.close()

    def start(
        self, name: str, argv: list[str] | None = None, env: dict[str, str] | None = None
    ) -> "subprocess.Popen[bytes]":
        """Start a life of a worker and put it on record."""
        n = self.n[name] = self.n.get(name, 0) + 1
        marks = {
            "HOLDFAST_WORKER": name, "HOLDFAST_RUN": str(self.run_dir), "HOLDFAST_START": str(n),
            "NOTIFY_SOCKET": str(self.run_dir / layout.NOTIFY), "HOLDFAST_PULSE": str(self.run_dir / layout.pulse(name)),
        }  # fmt: skip
        child = subprocess.Popen(
            argv or ["/bin/sleep", "1000"],
            env={**os.environ, **marks, **(env or {})},
            start_new_session=True,
        )
        self.children.append(child)
        ticks = procfs.start_ticks(child.pid)
        self.record(k="start", worker=name, n=n, pid=child.pid, ticks=ticks, role="main")
        self.tell()
        return child

    def exit(self, name: str, n: int = 1, **fields: Any) -> int:
        seq = self.record(**{
            "k": "exit", "worker": name, "n": n, "role": "main", "pid": 1, "status": 9, "lived_s": 1.0, "cause": "died",
            "deaths": 1, "next": "restart", "delay_s": 0.0, "restarts": 1, **fields,
        })  # fmt: skip
        self.tell()
        return seq

    def die(self, name: str, child: "subprocess.Popen[bytes]", **fields: Any) -> int:
        """A life ends, as the keeper would put it on record."""
        if child.poll() is None:
            child.kill()
        child.wait()
        return self.exit(name, self.n[name], pid=child.pid, **fields)

    def watchdog(self, held: bool = True) -> "subprocess.Popen[bytes]":
        """Start the watchdog (again)."""
        env = dict(os.environ)
        fds = dict(self.held) if held else {}
        if fds:
            env["HOLDFAST_FDS"] = ",".join(f"{n}={fd}" for n, fd in fds.items())
        boot = (
            "import sys\n"
            f"sys.path.insert(0, {str(SOURCE)!r})\n"
            "from holdfast.watchdog import watch\n"
            f"watch.evidence_command = lambda: [sys.executable, {str(self.evidence)!r}]\n"
            f"sys.exit(watch.main(['watchdog', {str(self.run_dir)!r}]))\n"
        )
        out = open(self.run_dir / "watchdog.out", "ab")
        child = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", boot], env=env, pass_fds=tuple(fds.values()),
            stdout=out, stderr=subprocess.STDOUT,
        )  # fmt: skip
        out.close()
        self.children.append(child)
        wait_for(lambda: self.beat_of(child.pid), 30, "the watchdog's first beat\n" + self.said())
        return child

    # -- what the test sees ------------------------------------------------------------------------

    def beat_of(self, pid: int) -> bool:
        return beats.read((self.run_dir / layout.BEATS).read_bytes(), "watchdog")[1] == pid

    def said(self) -> str:
        path = self.run_dir / "watchdog.out"
        return path.read_text() if path.exists() else ""

    def flag(self, worker: str, name: str) -> dict[str, Any] | None:
        try:
            value: dict[str, Any] = json.loads(
                (self.run_dir / layout.flag(worker, name)).read_text()
            )
        except FileNotFoundError:
            return None
        return value

    def orders(self) -> list[dict[str, Any]]:
        """Orders that were carried out, in order."""
        path = self.run_dir / "evidence.log"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def asked(self, do: str) -> list[dict[str, Any]]:
        return [r for r in self.requests if r["do"] == do]

    def verdicts(self, key: str) -> list[str]:
        path = self.state_dir / layout.INCIDENTS / f"incident-{key}" / "timeline.jsonl"
        rows = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
        return [row["verdict"] for row in rows if row["what"] == "verdict"]

    # -- anchor and keeper -------------------------------------------------------------------------

    def _serve(self) -> None:
        received: dict[int, bytes] = {}
        while not self._ends:
            self._beat()
            ready, _, _ = select.select([self._anchor, self._keeper, *self._clients], [], [], 0.05)
            for sock in ready:
                if sock is self._anchor:
                    data, descriptors, _, _ = socket.recv_fds(sock, 4096, 4)
                    message = json.loads(data)
                    if message["do"] == "hold":
                        old = self.held.pop(message["name"], None)
                        if old is not None:
                            os.close(old)
                        self.held[message["name"]] = descriptors[0]
                elif sock is self._keeper:
                    self._clients.append(sock.accept()[0])
                else:
                    try:
                        data = sock.recv(65536)
                    except ConnectionResetError:
                        data = b""
                    if not data:
                        self._clients.remove(sock)
                        sock.close()
                        continue
                    lines = (received.pop(sock.fileno(), b"") + data).split(b"\n")
                    received[sock.fileno()] = lines.pop()
                    for line in lines:
                        self._answer(sock, json.loads(line))

    def _answer(self, sock: socket.socket, request: dict[str, Any]) -> None:
        self.requests.append(request)
        answer = self.answers(request)
        if answer is None:
            return
        try:
            sock.sendall(json.dumps(answer).encode() + b"\n")
        except BrokenPipeError:
            pass  # the watchdog was killed while it waited for the answer
        if request["do"] == "ready" and answer.get("ok"):
            self.record(k="ready", worker=request["worker"], n=request["n"])
            self.tell()

    def _beat(self) -> None:
        """An anchor that does not beat is shot: that would be us."""
        with memoryview(self._beats) as view:
            beats.write(view, "anchor", time.monotonic_ns(), os.getpid())

    def end(self) -> None:
        for child in self.children:
            if child.poll() is None:
                child.kill()
                child.send_signal(signal.SIGCONT)
            child.wait()
        self._ends = True
        self._thread.join()
        for sock in (self._anchor, self._keeper, *self._clients):
            sock.close()
        for descriptor in self.held.values():
            os.close(descriptor)
        if self._lock is not None:
            os.close(self._lock)
        self._beats.close()
        locks.forget(str(self.run_dir / layout.lock("anchor")))


class Heart:
    """A pulse file that the test beats by itself."""

    def __init__(self, house: FakeHouse, worker: str, pid: int, n: int) -> None:
        self.path = house.run_dir / layout.pulse(worker)
        self.data = bytearray(pulse.SIZE)
        self.data[:8] = pulse.MAGIC
        self.set(pulse.PID, pid)
        self.set(pulse.START, n)
        self.is_ready = True
        self.loop = self.thread = True
        self._ends = False
        self.beat()
        self._runs = threading.Thread(target=self._run, daemon=True)
        self._runs.start()

    def set(self, offset: int, value: int) -> None:
        pulse.I64.pack_into(self.data, offset, value)

    def beat(self) -> None:
        now_ns = time.monotonic_ns()
        if self.loop:
            self.set(pulse.LOOP_BEAT, now_ns)
        if self.thread:
            self.set(pulse.THREAD_BEAT, now_ns)
        self.set(pulse.READY, int(self.is_ready))
        if self.path.exists():
            with open(self.path, "r+b") as file:
                file.write(self.data)
        else:
            temporary = self.path.with_suffix(".tmp")
            temporary.write_bytes(self.data)
            temporary.rename(self.path)

    def _run(self) -> None:
        while not self._ends:
            self.beat()
            time.sleep(0.05)

    def end(self) -> None:
        self._ends = True
        self._runs.join()
        self.path.unlink()


@pytest.fixture
def house(tmp_path: Path) -> Iterator[FakeHouse]:
    found = FakeHouse(tmp_path)
    try:
        yield found
    finally:
        found.end()
        print(found.said())


@pytest.fixture
def heart() -> Iterator[Callable[[FakeHouse, str, int, int], Heart]]:
    hearts: list[Heart] = []

    def make(house: FakeHouse, worker: str, pid: int, n: int = 1) -> Heart:
        hearts.append(Heart(house, worker, pid, n))
        return hearts[-1]

    yield make
    for one in hearts:
        if not one._ends:
            one.end()


@pytest.fixture
def plan_of() -> Callable[..., dict[str, Any]]:
    return worker_plan


@pytest.fixture(name="wait_for")
def waiting() -> Callable[..., Any]:
    return wait_for
