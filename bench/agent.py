"""What does the agent cost, and how soon does a bomb's line stand in the pulse?

    python bench/agent.py [--rounds 5] [--echo-s 2] [--threads 5000,20000] [--json]

Each figure is a real program, started with the agent as the keeper starts a guest, and without it; the two take turns, and the best
round of either counts: other load on the machine only ever makes a round slower. The HTTP echo is an asyncio server with keep-alive clients in a
process of its own; its figure is the processor time of the server for each request, which is what the agent adds to. With aiohttp
installed there is an aiohttp echo as well, and one of uvicorn.
"""

import argparse
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SOURCE = Path(__file__).parents[1] / "src"
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # an installation has its byte code
sys.path.insert(0, str(SOURCE))
from holdfast.wire import pulse  # noqa: E402 -- runs from the working tree

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

BOOT = str(SOURCE / "holdfast/agent/boot")

TASKS = """
import asyncio, gc, sys, time
N = 20_000
async def nothing(): pass
async def main():
    best = 1.0
    gc.disable()
    for _ in range(10):
        began = time.thread_time()
        made = [asyncio.create_task(nothing()) for _ in range(N)]
        for task in made: await task
        best = min(best, (time.thread_time() - began) / N)
        del made
    print(best * 1e6)
asyncio.run(main())
"""

IDLE = """
import asyncio, sys, time
async def main():
    await asyncio.sleep(1)
    began, wall = time.process_time(), time.monotonic()
    await asyncio.sleep(5)
    print((time.process_time() - began) / (time.monotonic() - wall) * 100)
asyncio.run(main())
"""

EVENT = """
import sys, time
sys.path.insert(0, sys.argv[1])
from holdfast.agent.pulse import PulseWriter
writer = PulseWriter(sys.argv[2] + ".events", 1, 1)
N = 50_000
best = 1.0
for _ in range(5):
    began = time.thread_time()
    for _ in range(N): writer.event(time.monotonic_ns(), "board: card 17 moved")
    best = min(best, (time.thread_time() - began) / N)
print(best * 1e6)
"""

START = "import time, sys; print(0)"

#: Answers without looking, with a task for each request: the agent's share is nowhere greater, and no HTTP server is like this.
PLAIN_SERVER = """
import asyncio, sys, time
BODY = b"HTTP/1.1 200 OK\\r\\nContent-Length: 2\\r\\n\\r\\nok"
class Echo(asyncio.Protocol):
    def connection_made(self, transport): self.transport = transport
    def data_received(self, data): asyncio.get_running_loop().create_task(self.answer(data))
    async def answer(self, data): self.transport.write(BODY)
async def main():
    server = await asyncio.get_running_loop().create_server(Echo, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    line = await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
    print(time.process_time(), flush=True)
    line = await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
    print(time.process_time(), flush=True)
asyncio.run(main())
"""

AIOHTTP_SERVER = """
import asyncio, sys, time
from aiohttp import web
async def echo(request): return web.Response(body=await request.read())
async def main():
    app = web.Application()
    app.router.add_post("/echo/{name}", echo)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    print(site._server.sockets[0].getsockname()[1], flush=True)
    for _ in range(2):
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
        print(time.process_time(), flush=True)
asyncio.run(main())
"""

#: The same with the agent in it all the time; its parts in a request and in the creation of a task are taken out and put back every 20 ms, and
#: processor time is summed for either: other load on the machine is the same for both. What it samples by time it samples in half of the time
#: then, so its share is a little too great here. The two beats are on all the while: `idle_percent_of_a_core` is theirs.
TOGGLING_SERVER = """
import asyncio, sys, time
from aiohttp import web
from aiohttp.web_app import Application
counted = Application._handle
plain = next(c.cell_contents for c in counted.__closure__ or () if getattr(c.cell_contents, "__name__", "") == "_handle")
known = getattr(asyncio.tasks, "_all_tasks", None)
if known is None: known = asyncio.tasks._scheduled_tasks
classes = (type(known).__mro__[1], type(known))
spent, done = [0.0, 0.0], [0, 0]
now = 1
def turn():
    global now
    now = 1 - now
    Application._handle = counted if now else plain
    known.__class__ = classes[now]
async def echo(request):
    done[now] += 1
    return web.Response(body=await request.read())
async def toggle():
    while True:
        began = time.thread_time()
        await asyncio.sleep(0.02)
        spent[now] += time.thread_time() - began
        turn()
async def main():
    app = web.Application()
    app.router.add_post("/echo/{name}", echo)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    kept = asyncio.create_task(toggle())
    print(site._server.sockets[0].getsockname()[1], flush=True)
    for _ in range(2):
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
        print(spent[1] / max(1, done[1]) / (spent[0] / max(1, done[0])) if all(done) else 0, flush=True)
        spent[:], done[:] = [0.0, 0.0], [0, 0]
asyncio.run(main())
"""

UVICORN_SERVER = """
import asyncio, sys, time, uvicorn
async def app(scope, receive, send):
    body = (await receive())["body"]
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": body})
class Server(uvicorn.Server):
    async def startup(self, sockets=None):
        await super().startup(sockets)
        print(self.servers[0].sockets[0].getsockname()[1], flush=True)
        self.asked = asyncio.create_task(self.answer())
    async def answer(self):
        for _ in range(2):
            await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
            print(time.process_time(), flush=True)
Server(uvicorn.Config(app, port=0, access_log=False, log_level="error", lifespan="off")).run()
"""

CLIENT = """
import socket, sys, time
port, path, seconds = int(sys.argv[1]), sys.argv[2], float(sys.argv[3])
ask = b"POST %s HTTP/1.1\\r\\nHost: x\\r\\nContent-Length: 2\\r\\n\\r\\nok" % path.encode()
sockets = [socket.create_connection(("127.0.0.1", port)) for _ in range(8)]
done, until = 0, time.monotonic() + seconds
while time.monotonic() < until:
    for one in sockets: one.sendall(ask)
    for one in sockets:
        data = one.recv(4096)
        while not data.endswith(b"ok"): data += one.recv(4096)
        done += 1
print(done)
"""

BOMB = """
import asyncio, sys, time
def fan_out(n):
    for _ in range(n): asyncio.ensure_future(asyncio.sleep(60))
async def main():
    await asyncio.sleep(1)
    print(time.monotonic_ns(), flush=True)
    fan_out(20_000)
    print(time.monotonic_ns(), flush=True)
    time.sleep(30)
asyncio.run(main())
"""

THREAD_BOMB = """
import sys, threading, time
threading.stack_size(65536)
gate = threading.Event()
def connect(n):
    for _ in range(n): threading.Thread(target=gate.wait, daemon=True).start()
print(time.monotonic_ns(), flush=True)
try:
    connect(int(sys.argv[1]))
except RuntimeError as error:
    print("refused", error, file=sys.stderr)
print(time.monotonic_ns(), flush=True)
time.sleep(60)
"""


class Bench:
    def __init__(self, home: str) -> None:
        self.home = home
        self.pulse = f"{home}/pulse"
        self._n = 0

    def start(self, text: str, *arguments: str, agent: bool) -> "subprocess.Popen[str]":
        self._n += 1
        env = {"PATH": os.environ["PATH"], "PYTHONDONTWRITEBYTECODE": ""}
        if agent:
            env |= {
                "HOLDFAST_PULSE": self.pulse,
                "HOLDFAST_START": str(self._n),
                "PYTHONPATH": BOOT,
            }
        return subprocess.Popen(
            [sys.executable, "-c", text, *arguments], env=env, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip

    def number(self, text: str, *arguments: str, agent: bool) -> float:
        process = self.start(text, *arguments, agent=agent)
        out, _ = process.communicate(timeout=300)
        return float(out)

    def pair(self, text: str, rounds: int, *arguments: str) -> "tuple[float, float]":
        """(without, with), the best of several rounds."""
        found: dict[bool, list[float]] = {False: [], True: []}
        for _ in range(rounds):
            for agent in (False, True):
                found[agent].append(self.number(text, *arguments, agent=agent))
        return min(found[False]), min(found[True])

    def start_ms(self, rounds: int) -> "tuple[float, float]":
        found: dict[bool, list[float]] = {False: [], True: []}
        for _ in range(rounds * 3):
            for agent in (False, True):
                began_s = time.monotonic()
                self.number(START, agent=agent)
                found[agent].append((time.monotonic() - began_s) * 1e3)
        return min(found[False]), min(found[True])

    def echo(self, server: str, path: str, seconds: float, *, agent: bool) -> float:
        """Microseconds of processor time for each request."""
        process = self.start(server, agent=agent)
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            port = process.stdout.readline().strip()
            self._client(port, path, 0.5)
            before = self._ask(process)
            done = self._client(port, path, seconds)
            return (self._ask(process) - before) / done * 1e6
        finally:
            process.kill()
            process.communicate()

    def toggled(self, seconds: float) -> float:
        """What a request costs with the agent's part in it, as a multiple of what it costs without."""
        process = self.start(TOGGLING_SERVER, agent=True)
        assert process.stdout is not None
        try:
            port = process.stdout.readline().strip()
            self._client(port, "/echo/x", 0.5)
            self._ask(process)
            self._client(port, "/echo/x", seconds)
            return self._ask(process)
        finally:
            process.kill()
            process.communicate()

    @staticmethod
    def _ask(process: "subprocess.Popen[str]") -> float:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write("\n")
        process.stdin.flush()
        return float(process.stdout.readline())

    @staticmethod
    def _client(port: str, path: str, seconds: float) -> int:
        made = subprocess.run(
            [sys.executable, "-c", CLIENT, port, path, str(seconds)], capture_output=True, text=True, check=True,
        )  # fmt: skip
        return int(made.stdout)

    def bomb(self, text: str, kind: str, *arguments: str, within_s: float) -> "dict[str, Any]":
        process = self.start(text, *arguments, agent=True)
        assert process.stdout is not None
        try:
            began_ns = int(process.stdout.readline())
            named: int | None = None
            until_s = time.monotonic() + within_s
            top: Any = None
            while time.monotonic() < until_s and named is None:
                beat = self._beat(process.pid)
                top = beat and beat.sites.get(kind)
                if top and top[0][0] >= 300:
                    named = beat.sites["at_ns"]
                time.sleep(0.002)
            done_ns = int(process.stdout.readline())
            time.sleep(1.5)
            beat = self._beat(process.pid)
            top = beat and beat.sites[kind][0]
            return {
                "named_after_s": round((named - began_ns) / 1e9, 3) if named else None, "made_in_s": round((done_ns - began_ns) / 1e9, 3),
                "line": top and top[2], "count": top and top[0],
                "groups_of_threads": beat and [n for n, _ in beat.sites.get("running", ())][:3],
            }  # fmt: skip
        finally:
            process.kill()
            process.communicate()

    def _beat(self, pid: int) -> "Any":
        try:
            found = pulse.decode(Path(self.pulse).read_bytes())
        except FileNotFoundError:
            return None
        return found if found is not None and found.pid == pid else None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--echo-s", type=float, default=2.0)
    parser.add_argument("--threads", default="5000,20000")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    found: dict[str, Any] = {"python": sys.version.split()[0]}
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.path.isdir("/dev/shm") else None) as home:
        bench = Bench(home)
        without, with_agent = bench.pair(TASKS, asked.rounds)
        found["task_us"] = {
            "without": without,
            "with": with_agent,
            "adds": with_agent - without,
            "goal": 6.0,
        }
        without, with_agent = bench.pair(IDLE, max(1, asked.rounds // 2))
        found["idle_percent_of_a_core"] = {"without": without, "with": with_agent, "adds": with_agent - without, "goal": 0.5}  # fmt: skip
        found["event_us"] = {
            "with": bench.number(EVENT, str(SOURCE), f"{home}/x", agent=False),
            "goal": 1.0,
        }
        without, with_agent = bench.start_ms(asked.rounds)
        found["start_ms"] = {"without": without, "with": with_agent, "adds": with_agent - without}
        servers = {"tiny_server": (PLAIN_SERVER, "/echo")}
        for name, module, server in (
            ("aiohttp_echo", "aiohttp", AIOHTTP_SERVER),
            ("uvicorn_echo", "uvicorn", UVICORN_SERVER),
        ):
            if importlib.util.find_spec(module) is not None:
                servers[name] = (server, "/echo/x")
        for name, (server, path) in servers.items():
            rounds: dict[bool, list[float]] = {False: [], True: []}
            for _ in range(asked.rounds):
                for agent in (False, True):
                    rounds[agent].append(bench.echo(server, path, asked.echo_s, agent=agent))
            without, with_agent = min(rounds[False]), min(rounds[True])
            median = statistics.median(
                b / a for a, b in zip(rounds[False], rounds[True], strict=True)
            )
            found[f"{name}_us_a_request"] = {
                "without": without, "with": with_agent, "percent": (with_agent / without - 1) * 100,
                "percent_median_of_pairs": (median - 1) * 100,
            }  # fmt: skip
            if name != "tiny_server":
                found[f"{name}_us_a_request"]["goal_percent"] = 1.0
        if importlib.util.find_spec("aiohttp") is not None:
            shares = [(bench.toggled(asked.echo_s * 2) - 1) * 100 for _ in range(asked.rounds)]
            found["aiohttp_echo_toggled_percent"] = {"median": statistics.median(shares), "all": [round(x, 2) for x in shares], "goal": 1.0}  # fmt: skip
        found["bomb_of_20000_tasks"] = bench.bomb(BOMB, "tasks", within_s=20)
        for threads in asked.threads.split(","):
            found[f"bomb_of_{threads}_threads"] = bench.bomb(
                THREAD_BOMB, "threads", threads, within_s=60
            )
    if asked.json:
        print(json.dumps(found, indent=1))
        return
    for name, value in found.items():
        shown = value if not isinstance(value, dict) else "  ".join(
            f"{key} {round(x, 2) if isinstance(x, float) else x}" for key, x in value.items()
        )  # fmt: skip
        print(f"{name:26} {shown}")


if __name__ == "__main__":
    main()
