import asyncio
import socket

import requests
from aiohttp import web

s = socket.socket()
s.bind(("127.0.0.1", 0))
s.listen(5)  # takes connections, answers nothing


async def handle(r):
    requests.get(f"http://127.0.0.1:{s.getsockname()[1]}/")
    return web.Response(text="ok")


async def main():
    app = web.Application()
    app.router.add_get("/", handle)
    run = web.AppRunner(app)
    await run.setup()
    site = web.TCPSite(run, "127.0.0.1", 0)
    await site.start()
    port = site._server.sockets[0].getsockname()[1]
    await asyncio.sleep(1)
    r, w = await asyncio.open_connection("127.0.0.1", port)
    w.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    print("sent", flush=True)
    await asyncio.sleep(1000)


asyncio.run(main())
