import asyncio

from multipart.multipart import parse_options_header


async def handle():
    parse_options_header('application/x-www-form-urlencoded; !="' + "\\" * 60)


async def main():
    await asyncio.sleep(1)
    print("start", flush=True)
    await handle()


asyncio.run(main())
