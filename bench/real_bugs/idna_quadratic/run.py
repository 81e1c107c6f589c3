import asyncio

import idna


async def handle(host):
    return idna.encode(host)


async def main():
    await asyncio.sleep(1)
    for n in (50, 500, 20000):
        try:
            await handle("\u0660" * n)
        except Exception as e:
            print(n, type(e).__name__, e, flush=True)
        await asyncio.sleep(0.1)
    await asyncio.sleep(60)


asyncio.run(main())
