#!/usr/bin/env python3
"""What does a call, an event, a join and an idle session cost the router?

Starts `python -m holdfast.router.alone` pinned to one CPU and a load client pinned to another, and prints a table per CPU second of
the router. The load client is any script with the interface of `wamp_load.py` (see bench/README.md):

    python bench/wamp_router.py --load PATH/wamp_load.py [--seconds 5] [--only rpc,pubsub] [--profile FILE]

Without --load: the path of a call inside the process, without sockets (chunks of 64 through two connections, the best of
many runs; on a busy machine the only figure that can be compared).
"""

import argparse
import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

SOURCE = str(Path(__file__).resolve().parent.parent / "src")
sys.path.insert(0, SOURCE)

#: (name, address, serializer, test, further arguments, goal per CPU second of the router or None)
RUNS = (
    ("calls", "rs", "msgpack", "rpc", [], 47_000),
    ("calls", "ws", "json", "rpc", [], 19_000),
    ("round trip", "ws", "json", "lat", [], None),
    ("events to 1", "ws", "json", "pubsub", ["--subs", "1"], 23_000),
    ("events to 10", "ws", "json", "pubsub", ["--subs", "10"], 128_000),
    ("joins", "ws", "json", "idle", ["--conns", "4000"], None),
    ("joins", "rs", "msgpack", "idle", ["--conns", "4000"], None),
)


def memory_mib(pid):
    status = Path(f"/proc/{pid}/status").read_text()
    return int(next(line for line in status.splitlines() if "VmRSS" in line).split()[1]) / 1024


def start(profile):
    cpus = sorted(os.sched_getaffinity(0))
    command = [
        "taskset",
        "-c",
        str(cpus[0]),
        sys.executable,
        "-m",
        "holdfast.router.alone",
        "--listen",
        "ws://127.0.0.1:0/",
    ]
    command += ["--profile", profile] if profile else []
    router = subprocess.Popen(
        command, env={**os.environ, "PYTHONPATH": SOURCE}, stdout=subprocess.PIPE, text=True
    )
    port = router.stdout.readline().strip().rsplit(":", 1)[1]
    return router, port, str(cpus[-1])


def loaded(options):
    router, port, client_cpu = start(options.profile)
    print(f"idle: {memory_mib(router.pid):.1f} MiB")
    print(
        f"{'what':<14}{'transport':<14}{'measured':>34}{'router CPU':>12}{'per CPU second':>16}{'goal':>10}"
    )
    try:
        for name, scheme, serializer, test, more, goal in RUNS:
            if options.only and test not in options.only.split(","):
                continue
            done = subprocess.run(
                ["taskset", "-c", client_cpu, sys.executable, options.load, f"{scheme}://127.0.0.1:{port}/", "--serializer", serializer,
                 "--test", test, "--seconds", str(options.seconds), "--router-pid", str(router.pid), *more],
                capture_output=True, text=True, check=False,
            )  # fmt: skip
            if done.returncode:
                print(f"{name:<14}{scheme}/{serializer}: {done.stderr.strip().splitlines()[-1]}")
                continue
            found = json.loads(done.stdout.splitlines()[-1])
            share = next(iter(found["router_cpu_pct"].values())) / 100
            rate = found.get("calls_per_s") or found.get("events_per_s") or found.get("joins_per_s")
            measured = f"{rate:,}/s"
            if test in ("lat", "rpc"):
                measured += f", p50 {found['p50_ms']} p99 {found['p99_ms']} ms"
            if test == "idle":
                measured += f", {next(iter(found['kb_per_conn'].values()))} KB each"
            each = f"{rate / share:,.0f}" if share else "-"
            print(
                f"{name:<14}{scheme + '/' + serializer:<14}{measured:>34}{share:>12.0%}{each:>16}{goal or '':>10}"
            )
        print(f"after all that: {memory_mib(router.pid):.1f} MiB")
    finally:
        router.send_signal(signal.SIGTERM if options.profile else signal.SIGKILL)
        router.wait(10)
        router.stdout.close()


class Sink:
    """A transport that keeps what is written."""

    def __init__(self):
        self.data = []

    def write(self, data):
        self.data.append(data)

    def set_write_buffer_limits(self, high=None):
        pass

    def abort(self):
        pass


async def inside():
    import msgspec

    from holdfast.core.wamp.handshake import TransportFacts
    from holdfast.router import alone
    from holdfast.router.connection import RawSocketConnection
    from holdfast.router.router import Router
    from holdfast.sdk.logline import Log
    from holdfast.wire import rawsocket
    from holdfast.wire.wamp import CODECS

    transport = alone.transport("t0")
    encoders = {"json": msgspec.json.encode, "msgpack": msgspec.msgpack.encode}
    decoders = {"json": msgspec.json.decode, "msgpack": msgspec.msgpack.decode}
    for name, encode in encoders.items():
        router = Router(alone.open_plan([transport]), Log("router"))

        def frame(*message, encode=encode):
            return rawsocket.frame(encode(message))

        def connect(name=name, router=router, frame=frame):
            made = RawSocketConnection(
                router, Sink(), CODECS[name], transport["rawsocket"], TransportFacts("rawsocket", "tcp4:bench"),
                rawsocket.Reader(1 << 20), peer_max=1 << 24,
            )  # fmt: skip
            made.data_received(frame(1, "realm1", {"roles": {"caller": {}, "callee": {}}}))
            made.transport.data.clear()
            return made

        caller, callee = connect(), connect()
        callee.data_received(frame(64, 1, {}, "com.bench.echo"))
        callee.transport.data.clear()
        body, request, best_call, best_yield = "x" * 100, 0, 1.0, 1.0
        for _ in range(500):
            chunk = b"".join(
                frame(48, request + n, {}, "com.bench.echo", [body]) for n in range(1, 65)
            )
            request += 64
            began = time.perf_counter()
            caller.data_received(chunk)
            best_call = min(best_call, time.perf_counter() - began)
            frames = rawsocket.Reader(1 << 20).feed(b"".join(callee.transport.data))
            callee.transport.data.clear()
            chunk = b"".join(frame(70, decoders[name](raw)[1], {}, [body]) for raw in frames)
            began = time.perf_counter()
            callee.data_received(chunk)
            best_yield = min(best_yield, time.perf_counter() - began)
            caller.transport.data.clear()
        print(
            f"{name}: CALL to INVOCATION {best_call / 64 * 1e6:.2f} µs, YIELD to RESULT {best_yield / 64 * 1e6:.2f} µs"
            f" (best of 500 chunks of 64)"
        )
        router.close()


def main():
    reading = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    reading.add_argument("--load", help="path of the load client")
    reading.add_argument("--seconds", type=float, default=5)
    reading.add_argument("--only", default="", help="tests of the load client: rpc,lat,pubsub,idle")
    reading.add_argument("--profile", default="", help="write a cProfile of the router here")
    options = reading.parse_args()
    if options.load:
        loaded(options)
    else:
        asyncio.run(inside())


if __name__ == "__main__":
    main()
