"""asgiref 3.5.2 (issue 348): a view in a task of its own waits for a thread that waits for the view."""

import asyncio
import subprocess
import sys

import uvicorn
from asgiref.sync import ThreadSensitiveContext, async_to_sync, sync_to_async

CLIENTS = """
import socket, sys, threading, time
def visit(path, pause):
    while True:
        with socket.create_connection(("127.0.0.1", int(sys.argv[1]))) as one:
            one.sendall(b"GET %s HTTP/1.1\\r\\nHost: x\\r\\nConnection: close\\r\\n\\r\\n" % path)
            while one.recv(1000):
                pass
        time.sleep(pause)
for _ in range(6):
    threading.Thread(target=visit, args=(b"/", 0.05)).start()
time.sleep(8)
for _ in range(6):
    threading.Thread(target=visit, args=(b"/export", 0.2)).start()
"""


def read_rows():
    return "rows"


async def view(path):
    if path == "/export":
        return await asyncio.create_task(sync_to_async(read_rows)())
    return await sync_to_async(read_rows)()


def middleware(path):
    return async_to_sync(view)(path)


async def application(scope, receive, send):
    if scope["type"] != "http":
        return
    async with ThreadSensitiveContext():
        text = await sync_to_async(middleware, thread_sensitive=True)(scope["path"])
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": text.encode()})


async def main():
    server = uvicorn.Server(uvicorn.Config(application, port=0, log_level="warning"))
    task = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.05)
    port = server.servers[0].sockets[0].getsockname()[1]
    subprocess.Popen([sys.executable, "-c", CLIENTS, str(port)])
    await task


asyncio.run(main())
