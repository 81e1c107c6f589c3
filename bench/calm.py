"""Is anything flagged in an hour in which nothing is wrong?

    python bench/calm.py [--minutes 60] [--json FILE]

A node of programs that live normally and hard (calm_programs/): a web service in a container and one that knows nothing of us,
a threaded shop, websockets and long polls that idle, jobs in bursts, components on the bus, Redis, memory that fills and is
given back, a batch that grows once and stays, collections that stop the loop, imports in the middle of the day, spikes of ten
times the traffic, bursts of tasks, threads, files, log lines; deploys under load; cron. Every restart asked for is asked for here.

Each flag, each incident and each restart that nobody asked for is a false one. With each goes how busy the machine was in the ten
seconds before: a machine without a processor to spare is another matter than a quiet one, and the table tells them apart.
Exits with 1 if there was any. Whatever it started ends with it, also when it is killed itself. Left out: real faults (`holdfast drill`).
"""

import argparse
import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections import deque
from pathlib import Path

from own_node import SOURCE, OwnNode

from holdfast.model.errors import NodeError
from holdfast.records import incidents as records
from holdfast.wire import layout
from holdfast.wire.jsonlite import loads

os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # an installation has its byte code
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

PROGRAMS = Path(__file__).resolve().parent / "calm_programs"
_TICK_S = 1 / os.sysconf("SC_CLK_TCK")
#: What a person does meanwhile: worker, verb, first time, period; in seconds.
ORDERS = (
    ("web", "restart", 300.0, 600.0), ("api", "restart", 500.0, 1200.0), ("jobs", "restart", 420.0, 900.0),
    ("cron", "start", 60.0, 190.0),
)  # fmt: skip
#: A machine is crowded when so little of it was idle, or so much of it was taken by its host.
CROWDED_IDLE, CROWDED_STEAL = 0.05, 0.10
#: Ends of lives that somebody ordered; `recycle` ends by itself with 0, and is meant to.
ORDERED = ("stop", "restart", "apply", "group", "down")
MEANT = ("recycle", "cron")
_LOOK_S, _WINDOW_S = 0.2, 10.0

CONFIGURATION = """
[node]
name = "calm"
state_dir = "state"

[worker.router]
kind = "router"

[component.web]
use = "web:app"
bus = false
[worker.web]
components = ["web"]
listen = ["unix:web.sock"]
memory_max = "512M"

[worker.api]
command = [{python}, "-m", "uvicorn", "--fd", "3", "api:app"]
listen = ["unix:api.sock"]
agent = true
memory_max = "1G"

[worker.shop]
command = [{python}, "shop.py"]
listen = ["tcp://127.0.0.1:{port}"]
heartbeat = {{ http = "http://127.0.0.1:{port}/health", period = "5s" }}
agent = true

[worker.push]
command = [{python}, "-m", "uvicorn", "--fd", "3", "--no-access-log", "push:app"]
listen = ["unix:push.sock"]
agent = true

[worker.jobs]
kind = "jobs"
use = ["tasks"]
memory_max = "512M"

[component.maker]
use = "market:maker"
[component.taker]
use = "market:taker"
[component.idle]
use = "market:idle"

[worker.redis]
command = ["redis-server", "--port", "0", "--unixsocket", "redis.sock", "--save", "", "--appendonly", "no", "--loglevel", "warning"]
ready = {{ unix = "redis.sock" }}
heartbeat = {{ exec = ["redis-cli", "-s", "redis.sock", "ping"], period = "5s" }}
memory_max = "512M"

[worker.sawtooth]
command = [{python}, "memory.py", "sawtooth"]
agent = true
memory_max = "1G"

[worker.nightly]
command = [{python}, "memory.py", "nightly", "{nightly_s}"]
agent = true
memory_max = "1G"

[worker.cron]
command = [{python}, "chores.py", "cron"]
autostart = false
restart = {{ policy = "on-failure" }}

[worker.recycle]
command = [{python}, "chores.py", "recycle"]

[worker.talk]
command = [{python}, "chores.py", "talk"]
agent = true

[worker.scratch]
command = [{python}, "chores.py", "scratch"]

[worker.files]
command = [{python}, "chores.py", "files"]

[worker.sleeper]
command = ["sleep", "infinity"]
"""


class Machine:
    """How busy the machine is."""

    def __init__(self):
        self.looks: deque[tuple[float, list[int]]] = deque()
        self.first = self.worst_steal = self.worst_load = None
        self.seen = self.crowded = 0

    def look(self) -> None:
        with open("/proc/stat") as file:
            fields = [int(word) for word in file.readline().split()[1:]]
        now_s = time.monotonic()
        look = (now_s, fields)
        self.first = self.first or look
        self.looks.append(look)
        while now_s - self.looks[0][0] > _WINDOW_S:
            self.looks.popleft()
        lately = self.lately()
        self.seen, self.crowded = self.seen + 1, self.crowded + lately["is_crowded"]
        self.worst_steal = max(self.worst_steal or 0.0, lately["steal"])
        self.worst_load = max(self.worst_load or 0.0, os.getloadavg()[0])

    def lately(self) -> "dict[str, Any]":
        return self._between(self.looks[0], self.looks[-1])

    def whole(self) -> "dict[str, Any]":
        return self._between(self.first, self.looks[-1])

    def _between(self, before, after) -> "dict[str, Any]":
        passed = [late - early for early, late in zip(before[1], after[1], strict=True)]
        total = max(1, sum(passed[:8]))
        idle, steal = (passed[3] + passed[4]) / total, passed[7] / total
        return {
            "idle": round(idle, 3), "steal": round(steal, 3), "load": round(os.getloadavg()[0], 2),
            "is_crowded": idle < CROWDED_IDLE or steal > CROWDED_STEAL,
        }  # fmt: skip


def spent_s(pid: int) -> float:
    """Processor time of a process and of those that it has waited for."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0  # it is gone
    return sum(int(word) for word in fields[11:15]) * _TICK_S


class Hour:
    """What was raised, opened and restarted so far, and what a person ordered."""

    def __init__(self, node: OwnNode, seconds: float):
        self.node, self.scene = node, node.scene
        self.began_s, self.began_unix_s = time.monotonic(), time.time()
        self.seconds = seconds
        self.machine = Machine()
        self.flags: dict[tuple[str, str, float], dict[str, Any]] = {}
        self.incidents: dict[str, dict[str, Any]] = {}
        self.restarts: list[dict[str, Any]] = []
        self.asked = self.meant = 0
        self.orders = [[worker, verb, first, period] for worker, verb, first, period in ORDERS]
        self.running: list[subprocess.Popen[str]] = []
        self.refused: list[str] = []
        self.read = 0

    def passed_s(self) -> float:
        return time.monotonic() - self.began_s

    def look(self) -> None:
        self.machine.look()
        for (worker, name), flag in self.scene.flags().items():
            key = (worker, name, flag["since_unix_s"])
            if key not in self.flags:
                self.flags[key] = self._found(worker, name, str(flag["says"]), flag["since_unix_s"])
        self.scene.look()
        for record in self.scene.records[self.read :]:
            self._ended(record)
        self.read = len(self.scene.records)

    def _found(self, worker: str, kind: str, says: str, at_unix_s: float) -> "dict[str, Any]":
        found = {
            "worker": worker, "kind": kind, "says": says, "at_s": round(at_unix_s - self.began_unix_s, 1), **self.machine.lately(),
        }  # fmt: skip
        say(f"  {clock(found['at_s'])}  {worker} {kind}: {says}  ({busy(found)})")
        return found

    def _ended(self, record: "dict[str, Any]") -> None:
        if record["k"] != "exit" or record.get("role", "main") != "main":
            return
        if record["cause"] in ORDERED:
            self.asked += 1
        elif record["worker"] in MEANT and record["status"] == 0:
            self.meant += 1
        else:
            says = f"status {record['status']}, cause {record['cause']}, flag {record.get('flag')}"
            self.restarts.append(self._found(record["worker"], "ended", says, record["unix_s"]))

    def look_at_incidents(self) -> None:
        """Every one: also of a flag that came and went between two looks."""
        for row in records.list_incidents(self.node.state):
            if row["id"] not in self.incidents:
                path = Path(self.node.state, "incidents", row["id"], records.RECORD)
                bundle = loads(path.read_text()) if path.exists() else {}
                findings = bundle.get("findings") or [] if isinstance(bundle, dict) else []
                self.incidents[row["id"]] = {
                    "worker": row["worker"], "kind": row["kind"], "title": row["title"], "verdict": row["verdict"],
                    "at_s": round(row["opened_unix_s"] - self.began_unix_s, 1),
                    "finding": findings[0]["says"] if findings else "",
                }  # fmt: skip

    def order(self) -> None:
        """What a person and cron do, and nobody waits for."""
        for order in self.orders:
            worker, verb, next_s, period_s = order
            if self.passed_s() >= next_s and next_s < self.seconds - 30:
                order[2] += period_s
                argv = [sys.executable, "-m", "holdfast", "-c", f"{self.node.home}/holdfast.toml", verb, worker]  # fmt: skip
                self.running.append(
                    subprocess.Popen(
                        argv, env={**os.environ, "PYTHONPATH": SOURCE}, text=True,
                        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                    )
                )  # fmt: skip
        for process in [one for one in self.running if one.poll() is not None]:
            self.running.remove(process)
            told = process.communicate()[0].strip()
            if process.returncode:
                self.refused.append(f"{clock(self.passed_s())} {told}")

    def minute(self) -> str:
        self.look_at_incidents()
        seen = self.machine.lately()
        return (
            f"{clock(self.passed_s())}  flags {len(self.flags)}, incidents {len(self.incidents)}, ended unasked {len(self.restarts)}; "
            f"ended as ordered {self.asked}, by itself as meant {self.meant}; {busy(seen)}"
        )

    def result(self, traffic: "dict[str, Any]", own_s: float) -> "dict[str, Any]":
        self.look_at_incidents()
        whole = self.machine.whole()
        return {
            "minutes": round(self.passed_s() / 60, 1), "workers": len(self.scene.entries),
            "flags": list(self.flags.values()), "incidents": list(self.incidents.values()), "ended_unasked": self.restarts,
            "ended_as_ordered": self.asked, "ended_as_meant": self.meant, "orders_refused": self.refused,
            "traffic": traffic, "own_processor_share": round(own_s / self.passed_s(), 3),
            "machine": {
                "cores": os.cpu_count(), "idle": whole["idle"], "steal": whole["steal"],
                "worst_load": self.machine.worst_load, "worst_steal": self.machine.worst_steal,
                "crowded": round(self.machine.crowded / max(1, self.machine.seen), 3),
            },
        }  # fmt: skip


def live(minutes: float) -> "dict[str, Any]":
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    text = CONFIGURATION.format(
        python=json.dumps(sys.executable), port=port, nightly_s=round(minutes * 60 * 0.4)
    )
    files = {path.name: path.read_text() for path in PROGRAMS.glob("*.py")}
    node = OwnNode(text, files)
    with swept(node.home), node:
        hour = Hour(node, minutes * 60)
        with clients(node.home, port) as traffic:
            return watch(node, hour, traffic)


def watch(node: OwnNode, hour: Hour, traffic: "subprocess.Popen[bytes]") -> "dict[str, Any]":
    next_minute_s = 60.0
    before_s = own_s(node, traffic)
    while hour.passed_s() < hour.seconds:
        if traffic.poll() is not None:
            raise SystemExit(f"the clients ended with {traffic.returncode}: nothing was measured")
        hour.look()
        hour.order()
        if hour.passed_s() >= next_minute_s:
            say(hour.minute())
            next_minute_s += 60.0
        progress(f"{clock(hour.passed_s())} of {clock(hour.seconds)}")
        time.sleep(_LOOK_S)
    progress("")
    hour.look()
    seen = Path(node.home, "traffic.json")
    told = json.loads(seen.read_text())["services"] if seen.exists() else {}
    return hour.result(told, own_s(node, traffic) - before_s)


def own_s(node: OwnNode, traffic: "subprocess.Popen[bytes]") -> float:
    """Processor time of the clients, the house and the workers; lives that ended are in the keeper's."""
    pids = [traffic.pid, *(node.scene.holder(role) for role in layout.ROLES)]
    pids += [worker["pid"] for worker in node.scene.status(10.0).values() if worker.get("pid")]
    return sum(spent_s(pid) for pid in pids)


# -- what is started, and its end ------------------------------------------------------------------


@contextlib.contextmanager
def clients(home: str, port: int):
    environment = {**os.environ, "PYTHONPATH": SOURCE, "CALM_PORT": str(port)}
    with open(f"{home}/traffic.log", "wb") as log:
        process = subprocess.Popen(
            [sys.executable, "traffic.py", home], cwd=home, env=environment,
            stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
    try:
        yield process
    finally:
        text = Path(home, "traffic.log").read_text()
        if text:
            say(f"the clients said:\n{text[-2000:]}")
        process.kill()
        process.wait()


@contextlib.contextmanager
def swept(home: str):
    """Have the node ended and its directory removed even if this process is killed: by one that waits for our end."""
    with subprocess.Popen(
        [sys.executable, __file__, "--sweep", home], stdin=subprocess.PIPE, start_new_session=True
    ):
        yield


def sweep(home: str) -> int:
    """Wait until whoever started this is gone, then leave nothing behind."""
    sys.stdin.buffer.read()
    for directory in Path("/proc").glob("[0-9]*"):
        # The clients are no part of the node.
        with contextlib.suppress(OSError):
            if (directory / "cmdline").read_bytes().split(b"\0")[1:3] == [b"traffic.py", home.encode()]:  # fmt: skip
                os.kill(int(directory.name), signal.SIGKILL)
    if os.path.exists(f"{home}/holdfast.toml"):
        subprocess.run(
            [sys.executable, "-m", "holdfast", "-c", f"{home}/holdfast.toml", "down", "--kill"],
            env={**os.environ, "PYTHONPATH": SOURCE}, stdout=subprocess.DEVNULL, check=False,
        )  # fmt: skip
        shutil.rmtree(home, ignore_errors=True)
    return 0


# -- telling ---------------------------------------------------------------------------------------


def say(text: str) -> None:
    progress("")
    print(text, flush=True)


def progress(text: str) -> None:
    if sys.stderr.isatty():
        sys.stderr.write(f"\r{text}\x1b[K")
        sys.stderr.flush()


def clock(seconds: float) -> str:
    return f"{int(seconds) // 60:02d}:{int(seconds) % 60:02d}"


def busy(seen: "dict[str, Any]") -> str:
    crowded = ", crowded" if seen["is_crowded"] else ""
    return f"{seen['idle']:.0%} idle, steal {seen['steal']:.0%}, load {seen['load']:.1f}{crowded}"


def table(result: "dict[str, Any]") -> str:
    lines = ["", f"{result['minutes']:g} minutes, {result['workers']} workers"]
    for name in ("flags", "ended_unasked"):
        lines.append(f"{name.replace('_', ' ')}: {len(result[name]) or 'none'}")
        lines += [
            f"  {clock(row['at_s'])}  {row['worker']:<10} {row['kind']:<14} {row['says']}  ({busy(row)})"
            for row in sorted(result[name], key=lambda row: (row["kind"], row["worker"]))
        ]
    lines.append(f"incidents: {len(result['incidents']) or 'none'}")
    for row in sorted(result["incidents"], key=lambda row: (row["kind"], row["worker"])):
        lines.append(
            f"  {clock(row['at_s'])}  {row['worker']:<10} {row['kind']:<14} {row['title']}"
        )
        lines += [f"      {row['finding']}"] if row["finding"] else []
    lines.append(f"ended as ordered: {result['ended_as_ordered']}, by itself as meant: {result['ended_as_meant']}")  # fmt: skip
    lines += [f"refused: {told}" for told in result["orders_refused"]]
    for name, seen in result["traffic"].items():
        lines.append(
            f"{name}: {seen['ended']} answered, {seen['failed']} failed {seen['why'] or ''}; "
            f"p50 {seen['p50_ms']} ms, p99 {seen['p99_ms']} ms, longest {seen['longest_s']} s"
        )
    machine = result["machine"]
    lines.append(
        f"machine: {machine['cores']} cores, {machine['idle']:.0%} idle, steal {machine['steal']:.1%} "
        f"({machine['worst_steal']:.0%} at worst), load {machine['worst_load']:.1f} at worst, crowded for {machine['crowded']:.0%} of the time; ours {result['own_processor_share']:.0%} of a core"
    )
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--json", metavar="FILE", help="keep the result there, too")
    parser.add_argument("--sweep", metavar="HOME", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.sweep:
        return sweep(args.sweep)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        result = live(args.minutes)
    except NodeError as error:
        raise SystemExit(str(error)) from None
    except KeyboardInterrupt:
        return 130
    if args.json:
        Path(args.json).write_text(json.dumps(result, indent=1) + "\n")
    print(table(result))
    return 1 if result["flags"] or result["incidents"] or result["ended_unasked"] else 0


if __name__ == "__main__":
    sys.exit(main())
