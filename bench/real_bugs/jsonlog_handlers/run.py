"""Each request fetches its logger, and each fetch adds a handler: a line is written once, then twice, then a thousand times."""

import asyncio
import logging
import subprocess
import sys

from aiohttp import web
from pythonjsonlogger import jsonlogger

CLIENTS = """
import socket, sys, time
while True:
    with socket.create_connection(("127.0.0.1", int(sys.argv[1]))) as one:
        one.sendall(b"GET /order HTTP/1.1\\r\\nHost: x\\r\\nConnection: close\\r\\n\\r\\n")
        while one.recv(1000):
            pass
    time.sleep(0.03)
"""


def get_logger(name):
    logger = logging.getLogger(name)
    handler = logging.StreamHandler()
    handler.setFormatter(jsonlogger.JsonFormatter("%(asctime)s %(name)s %(message)s"))
    logger.addHandler(handler)
    return logger


async def order(request):
    get_logger("orders").warning("an order came in")
    return web.Response(text="thanks")


async def main():
    app = web.Application()
    app.router.add_get("/order", order)
    run = web.AppRunner(app, access_log=None)
    await run.setup()
    site = web.TCPSite(run, "127.0.0.1", 0)
    await site.start()
    port = site._server.sockets[0].getsockname()[1]
    subprocess.Popen([sys.executable, "-c", CLIENTS, str(port)])
    await asyncio.Event().wait()


asyncio.run(main())
