"""sse-starlette 3.1.1 (issue 152): every stream of events starts a task that watches for the server's end, and it stays."""

import asyncio
import subprocess
import sys

import uvicorn
from sse_starlette.sse import EventSourceResponse
from starlette.applications import Starlette
from starlette.routing import Route

CLIENTS = """
import socket, sys, threading, time
def visit():
    while True:
        try:
            with socket.create_connection(("127.0.0.1", int(sys.argv[1]))) as one:
                one.sendall(b"GET /news HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n")
                while b"bye" not in one.recv(4096):
                    pass
        except OSError:
            pass
        time.sleep(0.1)
for _ in range(8):
    threading.Thread(target=visit).start()
"""


async def news(request):
    async def lines():
        for n in range(3):
            yield {"data": f"line {n}"}
            await asyncio.sleep(0.02)
        yield {"data": "bye"}

    return EventSourceResponse(lines())


async def main():
    app = Starlette(routes=[Route("/news", news)])
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning"))
    task = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.05)
    port = server.servers[0].sockets[0].getsockname()[1]
    subprocess.Popen([sys.executable, "-c", CLIENTS, str(port)])
    await task


asyncio.run(main())
