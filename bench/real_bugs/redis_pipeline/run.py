"""redis-py issue 4121: a pipeline that is cancelled while it takes back its WATCH never gives its connection back.

Visitors who go away cancel their request; those who stay wait for a connection of the pool, for ever.
"""

import asyncio
import subprocess
import sys

import redis.asyncio as redis
from aiohttp import web

STORE = """
import asyncio, random
async def serve(reader, writer):
    try:
        while True:
            head = await reader.readline()
            for _ in range(int(head[1:])):
                size = int((await reader.readline())[1:])
                await reader.readexactly(size + 2)
            await asyncio.sleep(random.uniform(0.001, 0.02))
            writer.write(b"+OK\\r\\n")
    except (OSError, ValueError, asyncio.IncompleteReadError):
        writer.close()
async def main():
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()
asyncio.run(main())
"""
CLIENTS = """
import random, socket, sys, threading, time
port, leaves = int(sys.argv[1]), 0.0
def ask():
    while True:
        with socket.create_connection(("127.0.0.1", port)) as one:
            one.sendall(b"GET /add HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n")
            if random.random() < leaves:
                time.sleep(random.uniform(0.005, 0.4))
                continue
            one.recv(1000)
        time.sleep(0.05)
for _ in range(12):
    threading.Thread(target=ask).start()
time.sleep(8)
leaves = 0.5
"""


async def main(store_port):
    pool = redis.BlockingConnectionPool(port=store_port, max_connections=8, timeout=None)
    client = redis.Redis(connection_pool=pool)

    async def add(request):
        async with client.pipeline() as pipe:
            await pipe.watch("number")
            await pipe.get("number")
        return web.Response(text="ok")

    app = web.Application()
    app.router.add_get("/add", add)
    run = web.AppRunner(app, handler_cancellation=True)
    await run.setup()
    site = web.TCPSite(run, "127.0.0.1", 0)
    await site.start()
    port = site._server.sockets[0].getsockname()[1]
    subprocess.Popen([sys.executable, "-c", CLIENTS, str(port)])
    await asyncio.Event().wait()


if __name__ == "__main__":
    store = subprocess.Popen([sys.executable, "-c", STORE], stdout=subprocess.PIPE, text=True)
    asyncio.run(main(int(store.stdout.readline())))
