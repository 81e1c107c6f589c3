"""An ASGI service that knows nothing of Holdfast: an access log, an index of millions of objects, and its collections."""

import asyncio
import gc
import json
import logging
import time

log = logging.getLogger("uvicorn.error")
OBJECTS, CHUNK = 2_000_000, 20_000
#: A full collection takes this long, again and again until it did: what a heap of a few gigabytes costs.
PAUSE_S = 0.5
index = []


async def rebuild():
    """A new index beside the old one, then the old one goes and everything is collected: the loop stands."""
    new = []
    for start in range(0, OBJECTS, CHUNK):
        new.append([[n] for n in range(start, start + CHUNK)])
        await asyncio.sleep(0.02)
    index[:] = new
    del new
    began = time.monotonic()
    while time.monotonic() - began < PAUSE_S:
        gc.collect()
    log.info("collected for %.2f s", time.monotonic() - began)
    await asyncio.sleep(20)
    index.clear()


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
        return
    path = scope["path"]
    if path == "/rebuild":
        await rebuild()
        body = b"rebuilt"
    else:
        user = {"id": path, "groups": [f"group{n}" for n in range(40)], "rights": list(range(100))}
        body = json.dumps([user] * 5).encode()
        if path.endswith("7"):
            await asyncio.sleep(0.05)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})  # fmt: skip
    await send({"type": "http.response.body", "body": body})
