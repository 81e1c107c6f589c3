"""Two components on the bus: prices in bursts, and a shop that calls back; and one that is asked once in ten minutes."""

import asyncio
import itertools
import random

from holdfast.sdk import Component

maker, taker, idle = Component(), Component(), Component()
turns = itertools.count(1)


@maker.every(0.2)
async def trickle():
    for n in range(4):
        maker.publish("calm.price", n, random.random())


@maker.every(67.0)
async def burst():
    """5,000 events within two seconds: the market opens."""
    for _ in range(100):
        for n in range(50):
            maker.publish("calm.price", n, random.random())
        await asyncio.sleep(0.02)


@maker.procedure("calm.discount")
async def discount(n: int) -> float:
    await asyncio.sleep(0.005)
    return n * 0.9


@taker.topic("calm.price")
async def changed(n: int, _price: float):
    if next(turns) % 20 == 0:
        await taker.call("calm.discount", n, timeout_s=30)


@taker.every(600.0)
async def ask():
    await taker.call("calm.rare", timeout_s=30)


@idle.procedure("calm.rare")
async def rare() -> str:
    return "still here"
