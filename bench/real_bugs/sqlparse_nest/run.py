import asyncio

import sqlparse


async def handle(q):
    return len(sqlparse.parse(q))


async def main():
    await asyncio.sleep(1)
    await handle("select 1")
    print("start", flush=True)
    await handle("select " + ",".join(f"f(a{i}, b)" for i in range(20000)) + " from t")


asyncio.run(main())
