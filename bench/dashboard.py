#!/usr/bin/env python3
"""What does the dashboard cost with 1,000 workers and 10,000 incidents?

    python bench/dashboard.py [--workers 1000] [--incidents 10000] [--looks 10] [--json FILE] [--serve [--plain]]

A node that is not there (tests/cli/fake_node.py: real directories, locks and a socket, a keeper that answers), with samples that change every second in every
worker, bundles on the disk, and the dashboard in a process of its own, asked over HTTP. Times are wall clock, costs processor time of the dashboard's
process. `--serve` keeps it up and prints a link: for a browser (script time, page ready); with `--plain` another one, of a dashboard with the plain modules.
"""

import argparse
import http.client
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
SOURCE, TESTS = str(HERE.parent / "src"), str(HERE.parent / "tests")
sys.path[:0] = [SOURCE, TESTS, str(HERE)]
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # else each start compiles all that it imports

from cli.fake_node import FakeNode, planned, worker  # noqa: E402
from holdfast.records import incidents as records  # noqa: E402
from holdfast.wire import layout, plan, sample  # noqa: E402

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_TICKS = os.sysconf("SC_CLK_TCK")
ROWS = (
    ("start_s", "from the start of the process to the first answer", 1.0, "s"),
    ("page_s", "page, its modules and the first state, without a browser", 0.5, "s"),
    ("state_s", "GET /api/state, nobody looked before", 0.5, "s"),
    ("state_again_s", "GET /api/state again, median", 0.1, "s"),
    ("state_bytes", "size of the state", 1_000_000, "bytes"),
    ("delta_bytes", "size of a delta, every worker live, median", 200_000, "bytes"),
    ("look_cpu_s", "processor time of a look with its delta, one page open", 0.1, "s"),
    ("feed_s", "GET /api/incidents, median", 0.2, "s"),
    ("search_s", "GET /api/incidents?q=…, median", 0.2, "s"),
    ("incident_s", "GET /api/incidents/ID, median", 0.1, "s"),
    ("worker_s", "GET /api/workers/NAME, median", 0.1, "s"),
    ("rss_bytes", "memory of the process (resident, own and shared) at the end", 60 << 20, "bytes"),
)


def fill(node: FakeNode, count: int, number: int) -> None:
    """Write the plan, and bundles."""
    whole: Any = {
        **node.plan,
        "env": {},
        "groups": [],
        "drills": False,
        "watch": {},
        "house_log": {},
    }
    for directory in (node.run_dir, node.state_dir):
        Path(directory, layout.PLAN).write_bytes(plan.encode(whole))
    break_often(node.state_dir, count, number)


def break_often(state_dir: str, count: int, number: int) -> None:
    """Write bundles with an index.

    Args:
        state_dir: Of the node.
        count: Of workers, w0000 and so on.
        number: Of incidents.
    """
    parent = f"{state_dir}/{layout.INCIDENTS}"
    os.makedirs(parent)
    now = time.time()
    index = []
    for at in range(number):
        name = f"2026-11-{1 + at * 20 // number:02d}-w{at % count:04d}-{at}"
        record = {
            "format": 1, "id": name, "key": f"exit-{at}", "worker": f"w{at % count:04d}", "component": None,
            "kind": ("crash", "hang", "oom")[at % 3], "title": f'worker "w{at % count:04d}" crashed: ValueError: number {at}',
            "cause": {"says": f"crashed: ValueError: number {at}", "next": "restart", "why": []}, "opened_unix_s": now - (number - at) * 60,
            "start": at, "pid": 4711, "lived_s": 12.5, "status": 256, "status_words": "exited with status 1", "findings": [], "stacks": [],
            "restarts": at, "remedy": None, "verdict": "open", "changed": [], "evidence": {"files": [], "collected": [], "missed": [], "took_s": 0.1},
        }  # fmt: skip
        os.mkdir(f"{parent}/{name}")
        Path(parent, name, records.RECORD).write_text(json.dumps(record))
        Path(parent, name, records.TIMELINE).write_text(
            f'{{"unix_s":{now},"what":"verdict","verdict":"cured"}}\n'
        )
        Path(parent, name, "log.txt").write_text("a line\n" * 200)
        index.append(records.encode_row(record))
    Path(state_dir, layout.INCIDENT_INDEX).write_bytes(b"".join(index))


class Sampler(threading.Thread):
    """Writes a sample of every worker, once a second, as the watchdog would in a small node."""

    def __init__(self, node: FakeNode, names: "list[str]", pids: "dict[str, int]") -> None:
        super().__init__(daemon=True)
        self._files = {
            name: os.open(f"{node.run_dir}/{layout.SAMPLES}/{name}", os.O_RDWR | os.O_CREAT)
            for name in names
        }
        self._pids = pids
        self._number = 0
        for _ in range(60):
            self.turn(time.time() - 60 + self._number)

    def turn(self, unix_s: float) -> None:
        number = self._number
        mono_ns = time.monotonic_ns() - int((time.time() - unix_s) * 1e9)
        for at, (name, descriptor) in enumerate(self._files.items()):
            cpu_ns = number * (200_000_000 + at % 37 * 5_000_000) + number * number % 7 * 10_000_000
            row = sample.RECORD.pack(
                number, int(unix_s * 1e9), mono_ns, 1, self._pids[name], (40 << 20) + (number * at % 97 << 16), cpu_ns, 4, 20, 0, 0,
                2_000_000 + number % 5 * 100_000, 12, 1, number * (50 + at % 11), ord("S"), 0, 0, number * 1_000_000, 0, 0,
            )  # fmt: skip
            os.pwrite(descriptor, row, number % sample.SLOTS * sample.RECORD.size)
        self._number += 1

    def run(self) -> None:
        while True:
            self.turn(time.time())
            time.sleep(1.0)


class Client:
    """Somebody who is signed in."""

    def __init__(self, port: int, token: str) -> None:
        self._port = port
        self.cookie = ""
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        heads = {"Content-Type": "application/json", "X-Holdfast": "1"}
        connection.request("POST", "/api/enter", json.dumps({"token": token}), heads)
        answer = connection.getresponse()
        assert answer.status == 204, answer.read()
        self.cookie = (answer.getheader("set-cookie") or "").partition(";")[0]
        connection.close()

    def get(self, path: str) -> "tuple[float, bytes]":
        """Return how long it took, and the body."""
        began_s = time.perf_counter()
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=30)
        connection.request("GET", path, headers={"Cookie": self.cookie})
        answer = connection.getresponse()
        body = answer.read()
        assert answer.status == 200, (path, answer.status, body[:200])
        connection.close()
        return time.perf_counter() - began_s, body

    def median_s(self, path: str, times: int = 7) -> float:
        return sorted(self.get(path)[0] for _ in range(times))[times // 2]

    def events(self) -> "Any":
        """Give (name, data) of the live events."""
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)
        connection.request("GET", "/api/live", headers={"Cookie": self.cookie})
        answer = connection.getresponse()
        name = ""
        while line := answer.readline():
            if line.startswith(b"event: "):
                name = line[7:].strip().decode()
            elif line.startswith(b"data: "):
                yield name, line[6:]


def cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def rss_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def plain_copy(directory: str) -> str:
    """Copy the package without the page that was put together; return where."""
    shutil.copytree(
        f"{SOURCE}/holdfast",
        f"{directory}/holdfast",
        ignore=shutil.ignore_patterns("built", "flame"),
    )
    return directory


def start(node: FakeNode, source: str = SOURCE) -> "tuple[subprocess.Popen[str], int, str, float]":
    """Start the dashboard; return its process, port, token and how long it took."""
    began_s = time.perf_counter()
    what = {
        "state_dir": node.state_dir,
        "config": node.config,
        "json": True,
        "listen": "127.0.0.1:0",
        "open": False,
    }
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "holdfast.dashboard", "serve", json.dumps(what)], env={**node.env, "PYTHONPATH": source},
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    url = json.loads(process.stdout.readline())["url"]
    port = int(url.partition("/#")[0].rpartition(":")[2])
    while True:
        try:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
            connection.request("GET", "/livez")
            assert connection.getresponse().status == 200
            break
        except ConnectionError:
            time.sleep(0.01)
    return process, port, url.partition("token=")[2], time.perf_counter() - began_s


def measure(node: FakeNode, looks: int) -> "dict[str, float]":
    process, port, token, start_s = start(node)
    found: dict[str, float] = {"start_s": start_s}
    try:
        client = Client(port, token)
        found["state_s"], body = client.get("/api/state")
        found["state_bytes"] = len(body)
        assert len(json.loads(body)["workers"]) == len(node.workers)
        found["state_again_s"] = client.median_s("/api/state")
        began_s = time.perf_counter()
        for path in re.findall(rb'(?:src|href)="(/[^"]+)"', client.get("/")[1]):
            client.get(path.decode())
        events = client.events()
        assert next(events)[0] == "state"
        found["page_s"] = time.perf_counter() - began_s
        sizes = []
        before_s = cpu_s(process.pid)
        for name, data in events:
            if name == "delta":
                sizes.append(len(data))
            if len(sizes) > looks:
                break
        found["look_cpu_s"] = (cpu_s(process.pid) - before_s) / len(sizes)
        found["delta_bytes"] = sorted(sizes)[len(sizes) // 2]
        found["feed_s"] = client.median_s("/api/incidents")
        found["search_s"] = client.median_s("/api/incidents?q=number+77")
        rows = json.loads(client.get("/api/incidents")[1])["rows"]
        found["incident_s"] = client.median_s(f"/api/incidents/{rows[3]['id']}")
        found["worker_s"] = client.median_s(f"/api/workers/{rows[3]['worker']}")
        found["rss_bytes"] = rss_bytes(process.pid)
    finally:
        process.kill()
        process.wait()
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workers", type=int, default=1000)
    parser.add_argument("--incidents", type=int, default=10_000)
    parser.add_argument("--looks", type=int, default=10)
    parser.add_argument("--json", metavar="FILE")
    parser.add_argument("--serve", action="store_true")
    parser.add_argument("--plain", action="store_true")
    args = parser.parse_args()
    names = [f"w{at:04d}" for at in range(args.workers)]
    # One living process stands for all workers: what is asked of it is asked of /proc as often as of a thousand.
    sleeper = subprocess.Popen(["sleep", "100000"])
    try:
        with FakeNode(
            *(
                planned(name, kind="container", components=[{"name": name, "use": "a:b"}])
                for name in names
            )
        ).up() as node:
            node.workers = {name: worker(name, pid=sleeper.pid, kind="container") for name in names}
            fill(node, args.workers, args.incidents)
            sampler = Sampler(node, names, dict.fromkeys(names, sleeper.pid))
            sampler.start()
            if args.serve:
                with tempfile.TemporaryDirectory() as scratch:
                    sources = [SOURCE, plain_copy(scratch)] if args.plain else [SOURCE]
                    started = []
                    for source in sources:
                        process, port, token, _ = start(node, source)
                        started.append(process)
                        print(f"http://127.0.0.1:{port}/#token={token}", flush=True)
                    try:
                        started[0].wait()
                    except KeyboardInterrupt:
                        for process in started:
                            process.kill()
                return 0
            found = measure(node, args.looks)
    finally:
        sleeper.kill()
        sleeper.wait()
    for key, what, goal, unit in ROWS:
        shown = f"{found[key] / (1 << 20):.1f} MiB" if unit == "bytes" and found[key] > 1 << 20 else f"{found[key]:,.3f} s" if unit == "s" else f"{found[key]:,.0f} B"  # fmt: skip
        bound = (
            f"{goal / (1 << 20):.1f} MiB"
            if unit == "bytes" and goal >= 1 << 20
            else f"{goal:g} {unit}"
        )
        print(f"{'ok ' if found[key] <= goal else 'NOT'}  {what:<62} {shown:>12}   (goal {bound})")
    if args.json:
        Path(args.json).write_text(json.dumps(found, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
