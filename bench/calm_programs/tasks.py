"""Jobs of very different lengths."""

import asyncio
import hashlib
import random
import time

from holdfast.sdk import job


@job
def short(number: int) -> None:
    hashlib.sha256(b"%d" % number).hexdigest()


@job
def mail(_number: int) -> None:
    time.sleep(random.uniform(0.05, 0.4))


@job
async def fetch(_number: int) -> None:
    await asyncio.sleep(random.uniform(0.1, 2.0))


@job
def compute(_number: int) -> None:
    """Two seconds of a processor: a report."""
    until = time.thread_time() + 2
    while time.thread_time() < until:
        sum(range(10_000))


@job
def long(_number: int) -> None:
    """A transfer: twenty seconds of waiting."""
    time.sleep(20)
