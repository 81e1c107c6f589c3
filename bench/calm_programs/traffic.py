"""The clients of the town in the directory above: steady requests, ten times as many for twenty seconds every two minutes, and what
else happens on a normal day.

    python traffic.py HOME      until it is ended; writes what it has seen to HOME/traffic.json

It is no worker of the node: whatever a client sees goes wrong is counted here, and told at the end.
"""

import asyncio
import json
import os
import random
import sys
import time
from pathlib import Path

import tasks
import websockets

from holdfast.sdk import use_jobs

HOME = Path(sys.argv[1])
PORT = int(os.environ["CALM_PORT"])
SPIKE_EVERY_S, SPIKE_S, SPIKE = 120.0, 20.0, 10.0
IDLE_CLIENTS = 200
ITEMS = 6_000
began_s = time.monotonic()
background: set[asyncio.Task] = set()


def is_spike(now_s):
    """The first one after a minute and a half."""
    return (now_s - began_s - 90) % SPIKE_EVERY_S < SPIKE_S and now_s - began_s > 90


class Service:
    """One service as its clients know it: connections that are kept, latencies, failures."""

    def __init__(self, name):
        self.name = name
        self.free = []
        self.ended = self.failed = self.under_way = 0
        self.longest_s = 0.0
        self.latencies = []
        self.why = {}

    async def connect(self):
        if self.name == "shop":
            return await asyncio.open_connection("127.0.0.1", PORT)
        return await asyncio.open_unix_connection(HOME / f"{self.name}.sock")

    async def get(self, path):
        at_s = time.monotonic()
        self.under_way += 1
        try:
            await self.ask(path)
        except (OSError, EOFError, ValueError) as error:
            self.fails(error)
        else:
            self.ended += 1
            took_s = time.monotonic() - at_s
            self.longest_s = max(self.longest_s, took_s)
            self.latencies.append(took_s)
        finally:
            self.under_way -= 1

    def fails(self, error):
        self.failed += 1
        why = type(error).__name__
        self.why[why] = self.why.get(why, 0) + 1

    async def ask(self, path):
        kept = self.free.pop() if self.free else None
        reader, writer = kept or await self.connect()
        try:
            writer.write(f"GET {path} HTTP/1.1\r\nHost: calm\r\n\r\n".encode())
            try:
                head = await reader.readuntil(b"\r\n\r\n")
            except (OSError, EOFError):
                if kept is None:
                    raise
                # A connection that was kept may have ended meanwhile: that is no failure but a new connection.
                writer.close()
                reader, writer = await self.connect()
                writer.write(f"GET {path} HTTP/1.1\r\nHost: calm\r\n\r\n".encode())
                head = await reader.readuntil(b"\r\n\r\n")
            status = int(head.split(b" ", 2)[1])
            length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
            await reader.readexactly(length)
            if status >= 400:
                msg = f"status {status}"
                raise ValueError(msg)
        except BaseException:
            writer.close()
            raise
        if b"close" in head.lower() or head.startswith(b"HTTP/1.0"):
            writer.close()
        else:
            self.free.append((reader, writer))


web, api, shop, push = services = [Service(name) for name in ("web", "api", "shop", "push")]


def keep(coroutine):
    task = asyncio.create_task(coroutine)
    background.add(task)
    task.add_done_callback(background.discard)


def item():
    """A few are asked for often; in a spike also what nobody asked for yesterday."""
    wide = ITEMS if is_spike(time.monotonic()) else ITEMS // 4
    return f"/item/{int(wide * random.random() ** 3)}"


def web_page():
    draw = random.random()
    if draw < 0.70:
        return item()
    if draw < 0.80:
        return f"/report?size={random.choice((2_000, 10_000, 30_000))}"
    return "/database" if draw < 0.95 else "/render"


async def steady(service, per_s, page):
    """Requests at random moments; no more than 300 under way, as a proxy would see to it."""
    next_s = time.monotonic()
    while True:
        now_s = time.monotonic()
        next_s = max(next_s, now_s - 1)
        next_s += random.expovariate(per_s * (SPIKE if is_spike(now_s) else 1.0))
        await asyncio.sleep(max(0.0, next_s - now_s))
        if service.under_way < 300:
            keep(service.get(page()))


async def every(first_s, period_s, do):
    at_s = began_s + first_s
    while True:
        await asyncio.sleep(max(0.0, at_s - time.monotonic()))
        await do()
        at_s += period_s


async def poller():
    while True:
        await push.get("/poll")
        await asyncio.sleep(random.random())


async def listener():
    while True:
        try:
            async with websockets.unix_connect(
                str(HOME / "push.sock"), "ws://calm/", open_timeout=None, ping_interval=None
            ) as socket:
                async for _ in socket:
                    push.ended += 1
        except (OSError, EOFError, websockets.WebSocketException) as error:
            push.fails(error)
            await asyncio.sleep(1)


async def clients():
    """They come within a minute, and stay."""
    for n in range(IDLE_CLIENTS):
        keep(listener() if n % 2 else poller())
        await asyncio.sleep(0.3)


async def jobs():
    """A handful now, and everything at once."""
    await asyncio.to_thread(tasks.short.enqueue_many, [(n,) for n in range(3_000)])
    await asyncio.to_thread(tasks.mail.enqueue_many, [(n,) for n in range(60)])
    await asyncio.to_thread(tasks.fetch.enqueue_many, [(n,) for n in range(40)])
    await asyncio.to_thread(tasks.compute.enqueue_many, [(n,) for n in range(3)])
    await asyncio.to_thread(tasks.long.enqueue, 1)


async def few_jobs():
    await asyncio.to_thread(tasks.mail.enqueue, 1)


async def redis():
    """80 MB into the cache, read, and forgotten."""
    reader, writer = await asyncio.open_unix_connection(HOME / "redis.sock")
    value = b"v" * 100_000
    for n in range(800):
        writer.write(b"*3\r\n$3\r\nSET\r\n$5\r\n%05d\r\n$%d\r\n%b\r\n" % (n, len(value), value))
        await reader.readuntil(b"+OK\r\n")
        await asyncio.sleep(0.02)
    await asyncio.sleep(30)
    writer.write(b"*1\r\n$8\r\nFLUSHALL\r\n")
    await reader.readuntil(b"+OK\r\n")
    writer.close()


def get(service, path):
    return lambda: service.get(path)


async def tell():
    rows = {
        service.name: {
            "ended": service.ended, "failed": service.failed, "why": service.why, "longest_s": round(service.longest_s, 2),
            "p50_ms": percentile(service.latencies, 0.5), "p99_ms": percentile(service.latencies, 0.99),
        }
        for service in services
    }  # fmt: skip
    text = json.dumps({"is_spike": is_spike(time.monotonic()), "services": rows})
    (HOME / "traffic.tmp").write_text(text)
    (HOME / "traffic.tmp").replace(HOME / "traffic.json")


def percentile(values, share):
    ordered = sorted(values)
    return round(ordered[int(share * (len(ordered) - 1))] * 1000, 1) if ordered else None


async def main():
    use_jobs(f"sqlite://{HOME}/state/jobs.db")
    async with asyncio.TaskGroup() as group:
        for coroutine in (
            steady(web, 20, web_page), steady(api, 10, lambda: f"/users/{random.randrange(10_000)}"),
            steady(shop, 6, lambda: "/"), clients(),
            every(45, 171, get(api, "/rebuild")), every(70, 151, get(shop, "/export")),
            every(50, 181, get(web, "/batch")), every(80, 211, get(web, "/shell")), every(100, 97, get(web, "/lazy")),
            every(20, 139, jobs), every(5, 3, few_jobs), every(30, 160, redis), every(10, 10, tell),
        ):  # fmt: skip
            group.create_task(coroutine)


asyncio.run(main())
