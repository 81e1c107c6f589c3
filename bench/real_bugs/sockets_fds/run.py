import asyncio

import redis.asyncio as redis


async def fake(r, w):
    while line := await r.readline():
        if line.startswith(b"*"):
            w.write(b"+PONG\r\n")


keep = []


async def handle(port):
    c = redis.Redis(port=port, single_connection_client=True)  # a client for each request
    await c.ping()
    keep.append(c)


async def main():
    s = await asyncio.start_server(fake, "127.0.0.1", 0)
    port = s.sockets[0].getsockname()[1]
    while True:
        await handle(port)
        await asyncio.sleep(0.1)


asyncio.run(main())
