"""How many calls a second does our WAMP client make, and how many Autobahn|Python's, through the same router?

    python bench/wamp_client.py ws://127.0.0.1:8080/ --serializer json
    python bench/wamp_client.py rs://127.0.0.1:8081 --serializer msgpack --seconds 5

One process per client, in turn: a callee session and a caller session in it, 64 calls in flight, an echo of 100 bytes by a
coroutine function. Any router will do, as long as it is faster than the clients (`python -m holdfast.router.alone`).
Autobahn is measured where it is installed. Prints one JSON line for each client, and how many times faster ours is.
"""

import argparse
import asyncio
import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "src"))


async def ours(o):
    """A caller and a callee of this package."""
    from holdfast.bus.connect import connect

    callee = connect(o.url, o.realm, serializers=o.serializer)
    caller = connect(o.url, o.realm, serializers=o.serializer)
    await callee.open()
    await caller.open()

    async def echo(x):
        return x

    await callee.register(echo, o.procedure)
    return caller.call, [caller.close, callee.close]


async def autobahn(o):
    """The same with Autobahn|Python."""
    import txaio

    txaio.use_asyncio()
    from autobahn.asyncio.component import Component

    async def session():
        parts = urlsplit(o.url)
        if parts.scheme == "ws":
            transport = {"type": "websocket", "url": o.url, "serializers": [o.serializer]}
        else:
            transport = {
                "type": "rawsocket", "url": f"rs://{parts.netloc}", "serializer": o.serializer,
                "endpoint": {"type": "tcp", "host": parts.hostname, "port": parts.port},
            }  # fmt: skip
        component = Component(transports=[transport], realm=o.realm)
        joined = asyncio.get_running_loop().create_future()

        @component.on_join
        async def _(session, _details):
            joined.set_result(session)

        component.start(loop=asyncio.get_running_loop())
        return await asyncio.wait_for(joined, 20)

    callee, caller = await session(), await session()

    async def echo(x):
        return x

    await callee.register(echo, o.procedure)

    async def leave(which):
        which.leave()

    return caller.call, [lambda: leave(caller), lambda: leave(callee)]


async def measure(o):
    """Keep so many calls in flight for so long, and count."""
    call, endings = await {"ours": ours, "autobahn": autobahn}[o.client](o)
    body = "x" * o.payload
    perf = time.perf_counter
    took = []
    n = 0
    warm = perf() + min(1.0, o.seconds / 4)
    end = warm + o.seconds

    async def one():
        nonlocal n
        while (began := perf()) < end:
            assert await call(o.procedure, body) == body
            if began >= warm:
                n += 1
                took.append(perf() - began)

    tasks = [asyncio.create_task(one()) for _ in range(o.inflight)]
    await asyncio.sleep(max(0.0, warm - perf()))
    before = resource.getrusage(resource.RUSAGE_SELF)
    began = perf()
    await asyncio.gather(*tasks)
    seconds = perf() - began
    after = resource.getrusage(resource.RUSAGE_SELF)
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    took.sort()
    print(json.dumps({
        "client": o.client, "url": o.url, "serializer": o.serializer, "inflight": o.inflight, "payload": o.payload,
        "calls_per_s": round(n / seconds), "calls_per_cpu_s": round(n / cpu_s), "cpu_share": round(cpu_s / seconds, 2),
        "p50_ms": round(took[len(took) // 2] * 1e3, 3), "p99_ms": round(took[int(len(took) * 0.99)] * 1e3, 3),
    }), flush=True)  # fmt: skip
    for ending in endings:
        await ending()


def main():
    """Measure one client here, or all of them in a process each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    parser.add_argument("url")
    parser.add_argument("--realm", default="realm1")
    parser.add_argument("--serializer", default="json", choices=["json", "msgpack", "cbor"])
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--inflight", type=int, default=64)
    parser.add_argument("--payload", type=int, default=100)
    parser.add_argument("--client", default="", choices=["", "ours", "autobahn"], help="only this one, in this process")  # fmt: skip
    parser.add_argument("--uvloop", action="store_true")
    o = parser.parse_args()
    if o.client:
        o.procedure = f"com.bench.echo.{o.client}.{time.time_ns()}"
        if o.uvloop:
            import uvloop

            uvloop.run(measure(o))
        else:
            asyncio.run(measure(o))
        return
    rates = {}
    for client in ("ours", "autobahn"):
        run = subprocess.run(
            [sys.executable, __file__, *sys.argv[1:], "--client", client],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if run.returncode != 0:
            last = (run.stderr.strip().splitlines() or ["no output"])[-1]
            print(f"{client}: not measured: {last}", file=sys.stderr)
            continue
        print(run.stdout, end="", flush=True)
        rates[client] = json.loads(run.stdout.splitlines()[-1])["calls_per_s"]
    if len(rates) == 2:
        print(f"{rates['ours'] / rates['autobahn']:.1f} times Autobahn's", file=sys.stderr)


if __name__ == "__main__":
    main()
