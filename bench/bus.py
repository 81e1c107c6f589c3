#!/usr/bin/env python3
"""What does the bus cost, how quickly is it back, and how does Crossbar.io do on the same machine?

    python bench/bus.py --load PATH/wamp_load.py [--crossbar BIN --crossbar-node DIR] [--seconds 5] [--only load,node] [--json FILE]

The whole table in one run: the router on one processor, the load client on another (`wamp_load.py`, any script with its
interface, see bench/README.md). Parts for --only: `load` (calls, events, round trip), `client` (ours against Autobahn's),
`idle` (memory, joins, 10,000 connections), `slow` (a subscriber that does not read), `node` (the split with five containers, kills).
A figure "per CPU s" is divided by the processor time that the router took: it does not depend on how busy the machine is.
"""

import argparse
import contextlib
import json
import os
import resource
import shutil
import signal
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import msgspec

os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # an installation has its byte code
SOURCE = str(Path(__file__).resolve().parent.parent / "src")
ENVIRONMENT = {**os.environ, "PYTHONPATH": SOURCE}
CPUS = sorted(os.sched_getaffinity(0))
PARTS = ("load", "client", "idle", "slow", "node")
#: (key, what, goal, whether more is better, unit)
ROWS = (
    ("calls rs msgpack", "calls/s of CPU, RawSocket MessagePack, 64 in flight", 47_000, True, ""),
    ("calls ws json", "calls/s of CPU, WebSocket JSON, 64 in flight", 19_000, True, ""),
    ("events to 1", "events/s of CPU to 1 subscriber, WebSocket JSON", 23_000, True, ""),
    ("events to 10", "events/s of CPU to 10 subscribers, WebSocket JSON", 128_000, True, ""),
    ("p50", "round trip p50, one in flight, WebSocket JSON", 0.3, False, " ms"),
    ("p99", "round trip p99", 0.6, False, " ms"),
    ("client json", "our client against Autobahn's, calls/s of CPU, JSON", 5, True, " times"),
    ("client msgpack", "our client against Autobahn's, calls/s of CPU, MessagePack", 5, True, " times"),
    ("router memory", "router memory, idle", 35, False, " MB"),
    ("ws connection", "memory of an idle connection, WebSocket", 8, False, " KB"),
    ("rs connection", "memory of an idle connection, RawSocket", 5, False, " KB"),
    ("joins", "sessions joined/s of CPU, WebSocket", 2_000, True, ""),
    ("held", "idle connections held, of 10,000", 10_000, True, ""),
    ("slow growth", "router's growth at 20,000 events of 10 KB unread", 32, False, " MB"),
    ("slow cut", "seconds until that subscriber is cut off", 20, False, " s"),
    ("split memory", "the split, router and 5 containers: memory (proportional)", 150, False, " MB"),
    ("split ready", "the split: all ready", 1.5, False, " s"),
    ("first call", "node start to first call answered", 0.8, False, " s"),
    ("container back", "container killed: component callable again, import 100 ms", 300, False, " ms"),
    ("spare back", "container killed: callable again, warm spare", 50, False, " ms"),
    ("hundred back", "router killed: 100 components registered again", 1.0, False, " s"),
)  # fmt: skip


# -- a client of a few lines: RawSocket, MessagePack, blocking


class Client:
    """A WAMP session; errors are ConnectionError, LookupError for ERROR."""

    def __init__(self, address, within_s=5.0):
        self.sock = socket.socket(socket.AF_UNIX if isinstance(address, str) else socket.AF_INET)
        self.sock.settimeout(within_s)
        self.buffer = b""
        self.last = 0
        try:
            self.sock.connect(address)
            self.sock.sendall(b"\x7f\xf2\0\0")
            self.take(4)
            self.send([1, "realm1", {"roles": {"caller": {}, "publisher": {}, "subscriber": {}}}])
            if self.receive()[0] != 2:
                raise ConnectionError("not welcome")
        except BaseException:
            self.sock.close()
            raise

    def take(self, n):
        while len(self.buffer) < n:
            data = self.sock.recv(65536)
            if not data:
                raise ConnectionError("closed")
            self.buffer += data
        data, self.buffer = self.buffer[:n], self.buffer[n:]
        return data

    def send(self, message):
        data = msgspec.msgpack.encode(message)
        self.sock.sendall(struct.pack(">I", len(data)) + data)

    def receive(self):
        while True:
            head = struct.unpack(">I", self.take(4))[0]
            data = self.take(head & 0xFFFFFF)
            if head >> 24 == 0:
                return msgspec.msgpack.decode(data)

    def call(self, procedure, *args):
        self.last += 1
        self.send([48, self.last, {}, procedure, list(args)])
        while True:
            message = self.receive()
            if message[0] == 50 and message[1] == self.last:
                return message[3][0] if len(message) > 3 and message[3] else None
            if message[0] == 8 and message[2] == self.last:
                raise LookupError(message[4])

    def close(self):
        self.sock.close()


def wait_for(condition, what, within_s=60.0, pause_s=0.002):
    """The first true value and the seconds until then; not there yet is also LookupError and OSError."""
    began = time.perf_counter()
    while True:
        with contextlib.suppress(LookupError, OSError):
            if found := condition():
                return found, time.perf_counter() - began
        if time.perf_counter() - began > within_s:
            raise TimeoutError(f"waited {within_s:g} s in vain for: {what}")
        time.sleep(pause_s)


def status_kib(pid, file, key):
    text = Path(f"/proc/{pid}/{file}").read_text()
    return int(next(line for line in text.splitlines() if line.startswith(key)).split()[1])


def memory_mb(pid):
    return status_kib(pid, "status", "VmRSS:") / 1024


def proportional_mb(pids):
    return sum(status_kib(pid, "smaps_rollup", "Pss:") for pid in pids) / 1024


def pinned(cpu, command):
    return ["taskset", "-c", str(cpu), *command] if len(CPUS) > 1 else list(command)


# -- the systems


class Ours:
    """`python -m holdfast.router.alone`."""

    name = "holdfast"
    first_call = None

    def __init__(self, _options):
        self.log = tempfile.NamedTemporaryFile("w+")
        self.process = subprocess.Popen(
            pinned(CPUS[0], [sys.executable, "-m", "holdfast.router.alone", "--listen", "ws://127.0.0.1:0/"]),
            env=ENVIRONMENT, stdout=self.log, stderr=subprocess.STDOUT,
        )  # fmt: skip
        said, _ = wait_for(lambda: self.said("listening"), "the router to serve")
        port = int(said[0].rsplit(":", 1)[1])
        self.pid, self.addresses = self.process.pid, {"ws": port, "rs": port}

    def said(self, words):
        """The lines of its log with these words."""
        return [line for line in Path(self.log.name).read_text().splitlines() if words in line]

    def end(self):
        self.process.kill()
        self.process.wait(10)
        self.log.close()


class Crossbar:
    """Its own node for measurements, in a copy of its directory."""

    name = "crossbar"

    def __init__(self, options):
        self.directory = tempfile.mkdtemp()
        shutil.copytree(options.crossbar_node, f"{self.directory}/node")
        config = json.loads(Path(f"{self.directory}/node/.crossbar/config.json").read_text())
        transports = config["workers"][0]["transports"]
        ports = {t["type"]: t["endpoint"]["port"] for t in transports}
        self.addresses = {"ws": ports["websocket"], "rs": ports["rawsocket"]}
        began = time.perf_counter()
        self.log = tempfile.TemporaryFile()
        self.process = subprocess.Popen(
            pinned(CPUS[0], [options.crossbar, "start", "--cbdir", ".crossbar"]),
            cwd=f"{self.directory}/node", stdout=self.log, stderr=self.log, start_new_session=True,
        )  # fmt: skip

        def answers():
            client = Client(("127.0.0.1", self.addresses["rs"]))
            try:
                client.call("com.bench.container.echo", 1)
            finally:
                client.close()
            return True

        wait_for(answers, "Crossbar's container to answer", 90, 0.02)
        self.first_call = time.perf_counter() - began
        self.pid = listener_of(self.addresses["rs"])

    def end(self):
        self.process.terminate()
        try:
            self.process.wait(15)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(10)
        self.log.close()
        shutil.rmtree(self.directory, ignore_errors=True)


def listener_of(port):
    """The pid that listens on a port, by /proc."""
    inodes = set()
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[3] == "0A" and int(fields[1].rsplit(":", 1)[1], 16) == port:
            inodes.add(f"socket:[{fields[9]}]")
    for fd in Path("/proc").glob("[0-9]*/fd/*"):
        with contextlib.suppress(OSError):
            if os.readlink(fd) in inodes:
                return int(fd.parts[2])
    raise LookupError(f"nobody listens on {port}")


# -- the parts


def load(options, system, found):
    """Calls, events and round trips by the load script."""
    for key, scheme, serializer, test, more in (
        ("calls rs msgpack", "rs", "msgpack", "rpc", ()),
        ("calls ws json", "ws", "json", "rpc", ()),
        ("events to 1", "ws", "json", "pubsub", ("--subs", "1")),
        ("events to 10", "ws", "json", "pubsub", ("--subs", "10")),
        ("p50", "ws", "json", "lat", ()),
    ):
        result = loaded(options, system, scheme, serializer, test, *more)
        share = share_of(result)
        if test == "rpc":
            found[key] = result["calls_per_s"] / share
        elif test == "pubsub":
            found[key] = result["events_per_s"] / share
        else:
            found["p50"], found["p99"] = result["p50_ms"], result["p99_ms"]
        found.setdefault("details", {})[key] = result


def share_of(result):
    """How much of its processor the router got; a hundredth at least, for it is told in whole ones."""
    return max(sum(result["router_cpu_pct"].values()), 1) / 100


def loaded(options, system, scheme, serializer, test, *more):
    done = subprocess.run(
        pinned(CPUS[-1], [sys.executable, options.load, f"{scheme}://127.0.0.1:{system.addresses[scheme]}/", "--serializer", serializer,
         "--test", test, "--seconds", str(options.seconds), "--router-pid", str(system.pid), *more]),
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"{test}: {done.stderr[-500:]}")
    return json.loads(done.stdout.splitlines()[-1])


def client(options, system, found):
    """Our client library and Autobahn's, each through the same router."""
    for serializer in ("json", "msgpack"):
        scheme = "ws" if serializer == "json" else "rs"
        rates = {}
        for which in ("ours", "autobahn"):
            done = subprocess.run(
                pinned(CPUS[-1], [sys.executable, str(Path(__file__).parent / "wamp_client.py"), f"{scheme}://127.0.0.1:{system.addresses[scheme]}/",
                 "--serializer", serializer, "--seconds", str(options.seconds), "--client", which]),
                capture_output=True, text=True, check=False, env=ENVIRONMENT,
            )  # fmt: skip
            if done.returncode:
                print(
                    f"client {which} {serializer}: {(done.stderr.splitlines() or ['?'])[-1]}",
                    file=sys.stderr,
                )
                continue
            rates[which] = json.loads(done.stdout.splitlines()[-1])
        found.setdefault("details", {})[f"client {serializer}"] = rates
        if len(rates) == 2:
            found[f"client {serializer}"] = rates["ours"]["calls_per_cpu_s"] / rates["autobahn"]["calls_per_cpu_s"]  # fmt: skip


def idle(options, system, found):
    """Memory before and by connection, joins, and as many as 10,000 connections at a time."""
    found["router memory"] = memory_mb(system.pid)
    for kind, serializer in (("ws", "json"), ("rs", "msgpack")):
        result = loaded(options, system, kind, serializer, "idle", "--conns", "1000")
        found[f"{kind} connection"] = next(iter(result["kb_per_conn"].values()))
        found.setdefault("details", {})[f"idle {kind}"] = result
        if kind == "ws":
            found["joins"] = result["joins_per_s"] / share_of(result)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 10_000
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, wanted + 200)), hard))
    held = []
    try:
        for _ in range(wanted):
            held.append(Client(("127.0.0.1", system.addresses["rs"])))  # noqa: PERF401 -- those before a failure count
    except OSError as error:
        print(f"{system.name}: {error} at {len(held)} connections", file=sys.stderr)
    counter = Client(("127.0.0.1", system.addresses["rs"]))
    with contextlib.suppress(LookupError):
        found["held"] = counter.call("wamp.session.count") - 1
    found.setdefault("details", {})["memory with them"] = memory_mb(system.pid)
    for one in (*held, counter):
        one.close()


def slow(_options, system, found):
    """One subscriber never reads 20,000 events of 10 KB; the publisher asks now and then whether it is still there."""
    address = ("127.0.0.1", system.addresses["rs"])
    frozen, speaker = Client(address), Client(address, 60.0)
    frozen.send([32, 1, {}, "com.bench.flood"])
    frozen.receive()
    before, most, cut_s = memory_mb(system.pid), 0.0, None
    began = time.perf_counter()
    sessions = speaker.call("wamp.session.count")
    for n in range(20_000):
        speaker.send([16, n + 1000, {}, "com.bench.flood", ["x" * 10_000]])
        if n % 500 == 499:
            if speaker.call("wamp.session.count") < sessions and cut_s is None:
                cut_s = time.perf_counter() - began
            most = max(most, memory_mb(system.pid))
    found["slow growth"] = most - before
    if cut_s is not None:
        found["slow cut"] = cut_s
    if isinstance(system, Ours):
        found.setdefault("details", {})["named"] = system.said("does not read")[:1]
    frozen.close()
    speaker.close()


# -- nodes of ours


class Node:
    """A node in a directory of its own, by the command line."""

    def __init__(self, config, files):
        self.directory = tempfile.mkdtemp()
        for name, text in {"holdfast.toml": config, **files}.items():
            Path(self.directory, name).write_text(text)

    def holdfast(self, *words):
        return subprocess.run(
            [sys.executable, "-m", "holdfast", *words], cwd=self.directory, env=ENVIRONMENT,
            capture_output=True, text=True, check=False, timeout=90,
        )  # fmt: skip

    def up(self):
        began = time.perf_counter()
        self.starting = subprocess.Popen(
            [sys.executable, "-m", "holdfast", "up", "--detach"], cwd=self.directory, env=ENVIRONMENT,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        return began

    def is_up(self, began):
        """The seconds until everything was ready."""
        said, _ = self.starting.communicate(timeout=90)
        if self.starting.returncode:
            raise RuntimeError(said)
        return time.perf_counter() - began

    def status(self):
        return json.loads(self.holdfast("status", "--json").stdout)

    def pids(self):
        return {
            worker["name"]: worker["pid"] for worker in self.status()["workers"] if worker["pid"]
        }

    def everybody(self):
        """All processes of this node: whoever has its run directory in the environment or on the command line."""
        state = os.path.realpath(f"{self.directory}/.holdfast/run")
        found = []
        for path in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if (
                    state.encode()
                    in path.joinpath("cmdline").read_bytes() + path.joinpath("environ").read_bytes()
                ):
                    found.append(int(path.name))
        return found

    def end(self):
        self.holdfast("down")
        shutil.rmtree(self.directory, ignore_errors=True)


COMPONENT = """
import os{more}
from holdfast.sdk import Component

app = Component()

@app.procedure("com.bench.{name}")
async def echo(x=None):
    return x

@app.procedure("com.bench.{name}.pid")
async def pid():
    return os.getpid()
"""
MANY = """
from holdfast.sdk import Component

def one(n):
    app = Component()

    @app.procedure(f"com.bench.many.{n}")
    async def echo(x=None):
        return x

    return app

for n in range(100):
    globals()[f"app{n}"] = one(n)
"""
ROUTER = '[worker.router]\nkind = "router"\nlisten = ["rs://127.0.0.1:{port}"]\n\n'


def free_port():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def node(options, _system, found):
    """The split, and everything that is killed."""
    split(options, found)
    for key, spare in (("container back", 0), ("spare back", 1)):
        found[key] = container_back(options, spare)
    found["hundred back"] = hundred_back(options)


def split(options, found):
    ready, first, memory = [], [], []
    names = ["presence", "board", "users", "mail", "audit", "search"]
    for _ in range(options.repeat):
        port = free_port()
        config = ROUTER.format(port=port)
        for worker, inside in (("live", names[:2]), *((name, [name]) for name in names[2:])):
            config += f"[worker.{worker}]\ncomponents = {json.dumps(inside)}\n"
        config += "".join(f'[component.{name}]\nuse = "{name}:app"\n' for name in names)
        files = {f"{name}.py": COMPONENT.format(name=name, more="") for name in names}
        one = Node(config, files)
        try:
            began = one.up()

            def answers(port=port):
                client = Client(("127.0.0.1", port))
                try:
                    return client.call("com.bench.presence", "here") == "here"
                finally:
                    client.close()

            wait_for(answers, "the first call to be answered")
            first.append(time.perf_counter() - began)
            ready.append(one.is_up(began))
            time.sleep(1.0)
            pids = one.pids()
            memory.append(proportional_mb(pids.values()))
            found.setdefault("details", {})["split"] = {
                "workers": {name: round(proportional_mb([pid]), 1) for name, pid in pids.items()},
                "with house": round(proportional_mb(one.everybody()), 1),
            }
        finally:
            one.end()
    found["split ready"], found["first call"] = statistics.median(ready), statistics.median(first)
    found["split memory"] = statistics.median(memory)


def container_back(options, spare):
    """Milliseconds from SIGKILL to the first answer of another process, median."""
    port = free_port()
    more = "\nimport time\n\ntime.sleep(0.1)  # what importing a framework costs\n"
    config = ROUTER.format(port=port) + f'[worker.app]\ncomponents = ["echo"]\nspare = {spare}\nrestart = {{ limit = 0 }}\n[component.echo]\nuse = "echo:app"\n'  # fmt: skip
    one = Node(config, {"echo.py": COMPONENT.format(name="echo", more=more)})
    took = []
    try:
        one.is_up(one.up())
        client = Client(("127.0.0.1", port))
        for _ in range(options.repeat * 3):
            before = client.call("com.bench.echo.pid")
            time.sleep(2.0)  # the next spare has to be imported, and the restart rule to be calm
            os.kill(before, signal.SIGKILL)

            def back(before=before):
                return client.call("com.bench.echo.pid") != before

            took.append(wait_for(back, "the component to be back", pause_s=0.001)[1] * 1000)
        client.close()
    finally:
        one.end()
    return statistics.median(took)


def hundred_back(options):
    """Seconds from SIGKILL of the router until 100 components answer again, median."""
    port = free_port()
    config = ROUTER.format(port=port)
    for at in range(5):
        names = [f"c{n}" for n in range(at * 20, at * 20 + 20)]
        config += f"[worker.w{at}]\ncomponents = {json.dumps(names)}\n"
    config += "".join(f'[component.c{n}]\nuse = "many:app{n}"\n' for n in range(100))
    one = Node(config, {"many.py": MANY})
    took = []
    try:
        one.is_up(one.up())
        for _ in range(options.repeat):
            router = one.pids()["router"]
            time.sleep(2.0)
            os.kill(router, signal.SIGKILL)
            began = time.perf_counter()
            missing = set(range(100))
            client = None
            while missing:
                if time.perf_counter() - began > 60:
                    raise TimeoutError(f"{len(missing)} of 100 components are not back")
                try:
                    client = client or Client(("127.0.0.1", port))
                    for n in sorted(missing):
                        client.call(f"com.bench.many.{n}", n)
                        missing.discard(n)
                except LookupError:
                    time.sleep(0.001)
                except OSError:
                    client = None
                    time.sleep(0.001)
            took.append(time.perf_counter() - began)
            client.close()
    finally:
        one.end()
    return statistics.median(took)


# -- the table


def measured(options, make, parts):
    found = {}
    system = None
    try:
        for part, of in parts:
            print(f"{make.name}: {part} ...", file=sys.stderr, flush=True)
            try:
                if part != "node":
                    # A fresh one for each part: what one part leaves behind is not the next one's figure.
                    system = make(options)
                    if system.first_call is not None:
                        found["first call"] = system.first_call
                of(options, system, found)
            except (RuntimeError, TimeoutError, LookupError, OSError) as error:
                print(f"{make.name}: {part}: {error}", file=sys.stderr)
            finally:
                if system is not None:
                    system.end()
                    system = None
    finally:
        if system is not None:
            system.end()
    return found


def shown(value, unit):
    if value is None:
        return "-"
    return (f"{value:,.0f}" if abs(value) >= 100 else f"{value:.2f}") + unit


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    parser.add_argument("--load", required=True, metavar="PATH", help="wamp_load.py")
    parser.add_argument(
        "--crossbar", metavar="BIN", help="the program `crossbar`, to measure it too"
    )
    parser.add_argument("--crossbar-node", metavar="DIR", help="its node (default: crossbar-node beside the load script)")  # fmt: skip
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument(
        "--repeat", type=int, default=3, help="of starts and kills; the median is shown"
    )
    parser.add_argument("--only", metavar="PARTS", help=", ".join(PARTS))
    parser.add_argument("--json", metavar="FILE")
    options = parser.parse_args()
    options.crossbar_node = options.crossbar_node or str(
        Path(options.load).parent / "crossbar-node"
    )
    wanted = options.only.split(",") if options.only else list(PARTS)
    parts = [(name, globals()[name]) for name in PARTS if name in wanted]
    systems = {"ours": measured(options, Ours, parts)}
    if options.crossbar:
        its = [(name, of) for name, of in parts if name in ("load", "idle", "slow")]
        systems["crossbar"] = measured(options, Crossbar, its)
    print(f"{'':<60}{'Crossbar.io':>14}{'ours':>14}{'goal':>14}")
    for key, what, goal, more_is_better, unit in ROWS:
        value = systems["ours"].get(key)
        theirs = systems.get("crossbar", {}).get(key)
        if value is None and theirs is None:
            continue
        met = value is not None and (value >= goal if more_is_better else value <= goal)
        sign = "" if value is None else "met" if met else "NOT MET"
        print(
            f"{what:<60}{shown(theirs, unit):>14}{shown(value, unit):>14}{shown(goal, unit):>14}  {sign}"
        )
    print(f"load average {os.getloadavg()[0]:.1f}: of spans and waits, only a quiet machine tells")
    if options.json:
        Path(options.json).write_text(
            json.dumps({"load_average": os.getloadavg(), **systems}, indent=1)
        )


if __name__ == "__main__":
    main()
