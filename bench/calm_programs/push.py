"""Two hundred clients that wait: websockets, and long polls that are answered after most of a minute."""

import asyncio
import random


async def socket(receive, send):
    await receive()
    await send({"type": "websocket.accept"})

    async def beat():
        while True:
            await asyncio.sleep(random.uniform(20, 40))
            await send({"type": "websocket.send", "text": "still here"})

    beating = asyncio.create_task(beat())
    try:
        while (await receive())["type"] != "websocket.disconnect":
            pass
    finally:
        beating.cancel()


async def poll(send):
    await asyncio.sleep(random.uniform(25, 55))
    body = b"nothing new"
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})  # fmt: skip
    await send({"type": "http.response.body", "body": body})


async def app(scope, receive, send):
    if scope["type"] == "websocket":
        await socket(receive, send)
    else:
        await poll(send)
