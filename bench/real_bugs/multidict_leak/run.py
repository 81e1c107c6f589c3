"""multidict issue 1131 (6.3.0 to 6.3.2): each header that is added leaves a string behind."""

import asyncio

from multidict import CIMultiDict


def copied(headers):
    found = CIMultiDict()
    for name, value in headers.items():
        found.add(name, value)
    return found


async def main():
    number = 0
    while True:
        for _ in range(500):
            number += 1
            copied(CIMultiDict({f"X-Any-{i}": str(number) for i in range(10)}))
        await asyncio.sleep(0.05)


asyncio.run(main())
