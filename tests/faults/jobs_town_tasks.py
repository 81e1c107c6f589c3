"""The jobs of `jobs_town.py`: each leaves one line for each effect, by one write, so that a SIGKILL leaves it whole or not at all."""

import asyncio
import os
import random
import time

from holdfast.sdk import job

_FD = os.open(os.environ["TOWN_OUT"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)


def effect(name: str) -> None:
    """What happened in the world, and who did it."""
    os.write(_FD, f"{name} {os.getpid()}\n".encode())


@job(name="town.plain", retries=20)
def plain(name: str) -> None:
    """Take some milliseconds, on a thread."""
    time.sleep(random.random() * 0.01)
    effect(name)


@job(name="town.steady", retries=20)
def steady(name: str) -> None:
    """Take 20 ms, on a thread: a rate that can be counted on."""
    time.sleep(0.02)
    effect(name)


@job(name="town.coroutine", retries=20)
async def coroutine(name: str) -> None:
    """Take some milliseconds, as a coroutine."""
    await asyncio.sleep(random.random() * 0.01)
    effect(name)


@job(name="town.second", retries=20)
def second(name: str) -> None:
    """Fail at first; the second attempt has the effect."""
    tried = f"{os.environ['TOWN_OUT']}.{name}"
    if not os.path.exists(tried):
        os.close(os.open(tried, os.O_CREAT))
        raise ValueError("not at the first attempt")
    effect(name)


@job(name="town.pill", retries=20)
def pill(name: str) -> None:
    """Kill whoever runs it."""
    effect(name)
    os.kill(os.getpid(), 9)
