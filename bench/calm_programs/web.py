"""A web service in a container: routes of very different cost, a cache that warms up, what people do in handlers."""

import asyncio
import contextlib
import hashlib
import importlib
import json
import random
import socket
import time
from collections import OrderedDict
from urllib.parse import parse_qs

import uvicorn

from holdfast.sdk import Component

app = Component()
CACHE = 4_000
#: Imported by a request in the middle of the day, one after the other; what is not installed is passed over.
HEAVY = [
    "email.mime.multipart", "unittest.mock", "xmlrpc.client", "sqlite3", "jsonschema", "numpy", "pydantic",
    "cryptography.x509", "multiprocessing.pool", "concurrent.futures.process", "pydoc", "rich.console",
    "websockets.client", "twisted.internet.defer", "hypothesis", "jinja2",
]  # fmt: skip


class Items:
    """What was computed before costs next to nothing."""

    def __init__(self):
        self.kept = OrderedDict()

    def get(self, key):
        found = self.kept.get(key)
        if found is None:
            rows = [{"id": n, "hash": hashlib.sha256(b"%d.%d" % (key, n)).hexdigest()} for n in range(150)]  # fmt: skip
            found = self.kept[key] = json.dumps(rows)
            if len(self.kept) > CACHE:
                self.kept.popitem(last=False)
        else:
            self.kept.move_to_end(key)
        return found[:2000]


items = Items()


def report(size):
    rows = [random.random() for _ in range(size)]
    return str(sum(sorted(rows)[: size // 2]))


def render():
    """Half waiting for a file, half work; runs in a thread."""
    time.sleep(0.02)
    return report(5_000)


async def batch():
    """A batch job: 2,000 tasks that end within a second."""

    async def one(n):
        await asyncio.sleep(0.2 + 0.8 * random.random())
        return n * n

    return str(sum(await asyncio.gather(*(one(n) for n in range(2_000)))))


async def shell():
    """Twenty programs at once, as a service that calls `git` or `convert` does."""

    async def one():
        process = await asyncio.create_subprocess_exec("true")
        return await process.wait()

    return str(sum(await asyncio.gather(*(one() for _ in range(20)))))


def lazy():
    for at, name in enumerate(HEAVY):
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
            del HEAVY[: at + 1]
            return name
    return "nothing left"


async def answer(path, query):
    if path.startswith("/item/"):
        return items.get(int(path[6:]))
    if path == "/report":
        return report(int(query["size"][0]))
    if path == "/database":
        await asyncio.sleep(random.uniform(0.01, 0.06))
        return "row"
    if path == "/render":
        return await asyncio.to_thread(render)
    if path == "/batch":
        return await batch()
    if path == "/shell":
        return await shell()
    if path == "/lazy":
        return lazy()
    return ""


async def serve(scope, receive, send):
    while (await receive()).get("more_body"):
        pass
    body = (await answer(scope["path"], parse_qs(scope["query_string"].decode()))).encode()
    head = [(b"content-type", b"text/plain"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200 if body else 404, "headers": head})
    await send({"type": "http.response.body", "body": body})


class Server(uvicorn.Server):
    """The container has the signals."""

    @contextlib.contextmanager
    def capture_signals(self):
        yield


@app.task
async def web():
    sock = app.listen_fds()["web"]
    assert sock.family == socket.AF_UNIX
    config = uvicorn.Config(serve, lifespan="off", ws="none", log_level="warning")
    await Server(config).serve(sockets=[sock])
