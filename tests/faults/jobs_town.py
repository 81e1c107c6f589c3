"""A store, a foreman with its workers, a killer, and a judge who goes by evidence.

Every job leaves a line in a file when it has its effect. Before the killer kills it stops the victims (SIGSTOP), reads their flight
recorders and that file, and only then sends SIGKILL: what was running, and whether its effect was out already, is then known and not
guessed. A second effect of a job is excused by exactly this: a death that was seen between its effect and the ring.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import holdfast
from holdfast.core.lease import PROOF
from holdfast.jobs.opening import open_store
from holdfast.linux import procfs
from holdfast.wire import sidekiq
from holdfast.wire.flight import Flight
from node import SLOWNESS, wait_for

if TYPE_CHECKING:
    from holdfast.jobs.store import Store

SOURCE = str(Path(holdfast.__file__).parent.parent)
TESTS = str(Path(__file__).parent.parent)
#: A job that has to fail once comes back after this.
AGAIN_S = 0.05


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def session(leader: int) -> dict[int, str]:
    """Return everything that lives in a session: pid and worker name ("": it is no worker)."""
    found = {}
    for pid in procfs.pids():
        with contextlib.suppress(OSError, ValueError):
            fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
            if int(fields[3]) == leader and fields[0] != "Z":
                found[pid] = procfs.environ(pid).get("HOLDFAST_WORKER", "")
    return found


class RedisServer:
    """A private redis-server that can be killed and started again on its port."""

    def __init__(self, tmp: Path, *, aof: bool) -> None:
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.argv = [
            "redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--dir", str(tmp),
            "--appendonly", "yes" if aof else "no", "--loglevel", "warning",
        ]  # fmt: skip
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen(
            self.argv, stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT
        )

        def answers() -> bool:
            with (
                contextlib.suppress(OSError),
                socket.create_connection(("127.0.0.1", self.port), 1) as sock,
            ):
                sock.sendall(b"PING\r\n")
                return sock.recv(64).startswith(b"+PONG")
            return False

        wait_for(answers, "redis-server to answer")

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


class Seen:
    """One job that was in a slot of a process when that was killed."""

    def __init__(self, jid: str, pid: int, *, had_effect: bool) -> None:
        self.jid = jid
        self.pid = pid
        self.had_effect = had_effect


class Town:
    """The foreman, its workers, the jobs, and all that was seen of deaths."""

    def __init__(self, tmp: Path, store_url: str, *, threads: int = 4, coroutines: int = 4) -> None:
        self.tmp = tmp
        self.url = store_url
        self.out = tmp / "out"
        self.out.touch()
        self.threads, self.coroutines = threads, coroutines
        self.store: Store = open_store(store_url)
        self.names: dict[str, str] = {}  #: jid: name, of jobs that were pushed
        self.seen: list[Seen] = []
        self.deaths: Counter[str] = Counter()
        self.foreman: subprocess.Popen[bytes] | None = None

    # -- jobs

    def push(self, n: int, kind: str = "town.plain", prefix: str = "", **hf: Any) -> list[str]:
        """Push so many jobs of one kind; their names are `prefix` and a number."""
        raws, jids = [], []
        for i in range(n):
            raw, jid = self.made(f"{prefix or kind}-{i}", kind, hf)
            raws.append(raw)
            jids.append(jid)
        self.store.push(raws)
        return jids

    def made(self, name: str, kind: str, hf: dict[str, Any]) -> tuple[bytes, str]:
        """Return a job and its jid; it is known from now on."""
        jid = secrets.token_hex(12)
        self.names[jid] = name
        more: dict[str, Any] = dict(hf)
        if kind == "town.second":
            more["backoff"] = [AGAIN_S, 1.0, AGAIN_S]
        job = sidekiq.new(
            kind, [name], jid=jid, queue="default", now_s=time.time(), retry=20, hf=more or None
        )
        return sidekiq.dumps(job), jid

    def lines(self) -> list[tuple[str, int]]:
        """Every effect so far: name and pid."""
        # While somebody writes, a reader may see the beginning of a line.
        whole = self.out.read_text().rpartition("\n")[0]
        return [(name, int(pid)) for name, pid in (x.split() for x in whole.splitlines())]

    def dead(self) -> dict[str, dict[str, Any]]:
        found = {}
        for entry in self.store.page("dead", 0, 10_000):
            job = json.loads(entry.raw)
            found[job["jid"]] = job
        return found

    def is_over(self) -> bool:
        """Whether each job has had its effect, or is dead."""
        done = {name for name, _ in self.lines()}
        missing = {jid for jid, name in self.names.items() if name not in done}
        return not missing or not missing - self.dead().keys()

    def left(self) -> str:
        """What the store says is still on its way, in words for a failed test."""
        c = self.store.counts()
        done = {name for name, _ in self.lines()}
        missing = sorted(name for name in self.names.values() if name not in done)
        return (
            f"{len(missing)} of {len(self.names)} have no effect ({missing[:5]}); queues {c.queues}, busy {c.busy}, retry {c.retry}, "
            f"scheduled {c.scheduled}, waiting {c.waiting}, dead {c.dead}; foreman says: {self.log()[-800:]}"
        )

    # -- processes

    def start(self) -> None:
        """Start the foreman in a session of its own, and not wait for anything."""
        env = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
        env |= {"TOWN_OUT": str(self.out), "PYTHONPATH": f"{SOURCE}{os.pathsep}{TESTS}"}  # fmt: skip
        argv = [
            sys.executable, "-m", "holdfast", "jobs", "work", "faults.jobs_town_tasks", "-c", str(self.threads),
            "--async", str(self.coroutines), "--store", self.url,
        ]  # fmt: skip
        with (self.tmp / "foreman.log").open("ab") as log:
            self.foreman = subprocess.Popen(
                argv, env=env, cwd=self.tmp, stdout=log, stderr=log, start_new_session=True
            )

    def log(self) -> str:
        return (self.tmp / "foreman.log").read_text(errors="replace")

    def processes(self) -> dict[int, str]:
        """Everything in the foreman's session: pid and worker name ("" is the foreman)."""
        assert self.foreman is not None
        return session(self.foreman.pid)

    def recorders(self, pids: set[int]) -> list[Flight]:
        """The flight recorders of these processes, as they are now."""
        run_dirs = {procfs.environ(pid).get("HOLDFAST_RUN", "") for pid in pids} - {""}
        found = []
        for run_dir in run_dirs:
            for path in Path(run_dir, "jobs").glob("*:*:*"):
                with contextlib.suppress(ValueError, FileNotFoundError):
                    flight = Flight(path.read_bytes())
                    if flight.pid in pids:
                        found.append(flight)
        return found

    def kill(self, whom: str) -> int:
        """Kill "worker", "quarantine", "foreman" or "all"; return how many processes were hit.

        The foreman's children die with it by the kernel's hand (PDEATHSIG), so they are looked at, too.
        """
        everybody = self.processes()
        assert self.foreman is not None
        if whom in ("foreman", "all"):
            targets = set(everybody) | {self.foreman.pid}
        else:
            lane = [pid for pid, name in everybody.items() if name and name.endswith(".quarantine")]
            plain = [pid for pid, name in everybody.items() if name and pid not in lane]
            targets = set(lane if whom == "quarantine" else plain[:1])
        for pid in targets:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP)
        self._witness(targets)
        for pid in {self.foreman.pid} if whom == "foreman" else targets:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if whom == "foreman":
            for pid in targets - {self.foreman.pid}:
                # One that was born a moment ago has not asked the kernel yet to die with its parent: it has to see for itself.
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)
        if whom in ("foreman", "all"):
            self.foreman.wait()
            wait_for(lambda: not self.processes(), "the foreman's children to be gone with it")
        self.deaths[whom] += len(targets)
        return len(targets)

    def _witness(self, pids: set[int]) -> None:
        """Write down what these stopped processes were running."""
        wait_for(lambda: all(map(_is_still, pids)), "the stopped processes to stand still")
        effects = set(self.lines())
        for flight in self.recorders(pids):
            for one in flight.running:
                if one.token not in flight.finished:
                    name = self.names.get(one.jid, one.jid)
                    self.seen.append(
                        Seen(one.jid, flight.pid, had_effect=(name, flight.pid) in effects)
                    )

    def end(self) -> None:
        """End everything; what the foremen kept in memory goes, too."""
        if self.foreman is not None:
            for pid in [*self.processes(), self.foreman.pid]:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self.foreman.wait()
            for run_dir in set(re.findall(r"; run (/\S+)$", self.log(), re.MULTILINE)):
                shutil.rmtree(run_dir, ignore_errors=True)
        self.store.close()

    def stop(self) -> int:
        """SIGTERM, as a service manager does it; return the foreman's status."""
        assert self.foreman is not None
        self.foreman.terminate()
        return self.foreman.wait(20 * SLOWNESS)

    # -- the killer

    def blow(self, whom: str, chance: random.Random) -> None:
        """Kill while the work is under way, at a random instant of it; start again what nobody else starts.

        "quarantine": a worker first, so that there are suspects, and then the lane while it looks into them.
        """
        before = len(self.lines())
        wait_for(lambda: len(self.lines()) > before or self.is_over(), "work to be under way", 30)
        time.sleep(chance.uniform(0, 0.03))
        if whom == "quarantine":
            self.kill("worker")
            wait_for(lambda: self._lane() or self.is_over(), "the lane to be started", 30)
            time.sleep(chance.uniform(0, 0.8))
        self.kill(whom)
        if whom in ("foreman", "all"):
            self.start()

    def _lane(self) -> list[int]:
        return [pid for pid, name in self.processes().items() if name.endswith(".quarantine")]

    # -- the judgement

    def judge(self) -> dict[str, Any]:
        """Say what was lost and what was doubled, and which of that has a cause that was seen."""
        runs = Counter(name for name, _ in self.lines())
        excused: Counter[str] = Counter()
        blows: Counter[str] = Counter()
        for seen in self.seen:
            blows[seen.jid] += 1
            excused[self.names.get(seen.jid, seen.jid)] += seen.had_effect
        dead = self.dead()
        doubled = {name: n for name, n in runs.items() if n > 1}
        return {
            "jobs": len(self.names),
            "deaths": dict(self.deaths),
            "running at a death": len(self.seen),
            "lost": sorted(name for jid, name in self.names.items() if not runs[name] and jid not in dead),
            "doubled": len(doubled),
            "doubled without cause": {name: n for name, n in doubled.items() if n > 1 + excused[name]},
            "dead": len(dead),
            "dead without proof": {
                self.names.get(jid, jid): job.get("error_message") for jid, job in dead.items() if blows[jid] < PROOF
            },
        }  # fmt: skip


def _is_still(pid: int) -> bool:
    """Whether no thread of this process runs any more (SIGSTOP takes a moment to reach all of them)."""
    try:
        return all(
            path.read_text().rsplit(")", 1)[1].split()[0] in "TtZXD"
            for path in Path(f"/proc/{pid}/task").glob("*/stat")
        )
    except (OSError, IndexError):
        return not Path(f"/proc/{pid}").exists()
