import asyncio

import anyio


async def main():
    scope = None

    async def child():
        nonlocal scope
        scope = anyio.CancelScope()
        scope.__enter__()  # left open by an async generator that was dropped

    await asyncio.create_task(child())
    await asyncio.sleep(1)
    print("cancel", flush=True)
    scope.cancel()
    await asyncio.sleep(600)


asyncio.run(main())
