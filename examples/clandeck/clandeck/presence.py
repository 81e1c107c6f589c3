"""Who is online, and where is everybody's mouse? In memory only: after a crash the visitors tell it again."""

import random

from clandeck import cache
from holdfast.sdk import Component

app = Component()
mice: dict[int, tuple[int, int]] = {}


@app.on_start
async def begin() -> None:
    """Let everybody in."""
    for visitor in range(app.settings["visitors"]):
        mice[visitor] = (random.randrange(1000), random.randrange(1000))
    app.log.info("doors open", visitors=len(mice))


@app.every(0.1)
async def move() -> None:
    """Every mouse moves a bit."""
    for visitor, (x, y) in mice.items():
        mice[visitor] = (x + random.randint(-5, 5), y + random.randint(-5, 5))
    app.work(len(mice))


@app.every(5, timeout=3)
async def tell() -> None:
    """Leave the number in the cache and in the log."""
    answer = await cache.ask(
        int(app.settings["cache_port"]), "SET", "clandeck:online", str(len(mice))
    )
    app.log.info("online", visitors=len(mice), cache="away" if answer is None else "told")
