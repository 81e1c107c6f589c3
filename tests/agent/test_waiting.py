"""Who waits for what others hold: seen by the plain thread of the agent, in a program that knows nothing of it."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from node import SLOWNESS

#: A program that looks at itself as the agent does, every fifth of a second, until somebody waits (or for two seconds).
PROGRAM = """
import asyncio, json, queue, sys, threading, time
from time import monotonic_ns
from holdfast.agent import tasks, waiting
waiting._LEAST_NS, waiting._LONG_NS, waiting._AGAIN_NS = 200_000_000, 300_000_000, 0
tasks.install()
waits = waiting.Waits()
WANTED = {wanted}

def looks():
    until_s = time.monotonic() + (2 if not WANTED else 60)
    while time.monotonic() < until_s:
        found = waits.look(monotonic_ns())
        if WANTED and found[0] >= WANTED and (waits.holding or not {holders}):
            break
        time.sleep(0.2)
    print(json.dumps([found, waits.told(monotonic_ns(), 4), waits.holding]), flush=True)
    import os
    os._exit(0)

threading.Thread(target=looks, daemon=True).start()
{body}
"""

SEMAPHORE = """
async def keeps(limit):
    async with limit:
        await asyncio.sleep(3600)
async def wants(limit):
    async with limit:
        pass
async def main():
    limit = asyncio.Semaphore(2)
    await asyncio.gather(*[keeps(limit) for _ in range(2)], *[wants(limit) for _ in range(5)])
asyncio.run(main())
"""
IDLE = """
async def consumes(jobs, signal):
    await jobs.get()
async def waits_for_signal(signal):
    await signal.acquire()
async def main():
    jobs, signal, event = asyncio.Queue(), asyncio.Semaphore(0), asyncio.Event()
    work = queue.Queue()
    for _ in range(4):
        threading.Thread(target=work.get, daemon=True).start()
    await asyncio.gather(*[consumes(jobs, signal) for _ in range(5)], *[waits_for_signal(signal) for _ in range(5)],
                         *[event.wait() for _ in range(5)], *[asyncio.sleep(3600) for _ in range(5)])
asyncio.run(main())
"""
MEASURED = """
from holdfast.agent import web
async def answers(scope, receive, send):
    async with limit:
        await asyncio.sleep(3600)
async def main():
    global limit
    limit = asyncio.Semaphore(1)
    app = web.Asgi(answers)
    await asyncio.gather(*[app({"type": "http", "method": "GET", "path": "/"}, None, None) for _ in range(4)])
asyncio.run(main())
"""
FULL = """
full = queue.Queue(maxsize=2)
def produces():
    while True:
        full.put(1)
for _ in range(3):
    threading.Thread(target=produces, daemon=True).start()
time.sleep(3600)
"""


NESTED = """
from concurrent.futures import ThreadPoolExecutor
pool = ThreadPoolExecutor(2)
both = threading.Barrier(2)
def outer():
    both.wait()  # or the second thread may run what the first one waits for
    return pool.submit(time.sleep, 0).result()
for _ in range(4):
    pool.submit(outer)
time.sleep(3600)
"""
BUSY = """
import os
from concurrent.futures import ThreadPoolExecutor
sleeping, polling, serving = ThreadPoolExecutor(2), ThreadPoolExecutor(2), ThreadPoolExecutor(2)
end, work = threading.Event(), queue.Queue()
def polls():
    while not end.wait(0.05):
        pass
for _ in range(8):
    sleeping.submit(time.sleep, 3600)
    polling.submit(polls)
for _ in range(2):
    serving.submit(work.get)  # consumers that rest: nothing waits for their threads
time.sleep(3600)
"""


def seen(body: str, *, wanted: int, holders: bool = False) -> tuple[list[int], Any, Any]:
    code = PROGRAM.replace("{wanted}", str(wanted)).replace("{holders}", str(holders)).replace("{body}", body)  # fmt: skip
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60 * SLOWNESS
    )  # fmt: skip
    worst, waiting, holding = json.loads(run.stdout)
    return worst, waiting, holding


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="asyncio's tasks are in no set there")
def test_tasks_at_a_semaphore_are_counted_with_whoever_is_inside() -> None:
    worst, waiting, holding = seen(SEMAPHORE, wanted=5, holders=True)

    assert worst[0] == 5
    assert worst[4] == 0  # no pool
    (row,) = waiting
    assert row[0] == 5
    assert row[2].endswith(" in wants")
    assert row[3].startswith("asyncio.locks.Semaphore")
    assert [(count, where.rpartition(" ")[2]) for count, where, _ in holding] == [(2, "keeps")]


def test_producers_at_a_full_queue_are_counted() -> None:
    worst, waiting, _ = seen(FULL, wanted=3)

    assert worst[0] == 3
    assert waiting[0][3] == "queue.Queue, size 2"
    assert waiting[0][2].endswith(" in produces")


def test_who_waits_for_work_is_not_counted() -> None:
    """A pool of idle workers, a signal, an event, a timer: that is how healthy programs rest."""
    worst, waiting, holding = seen(IDLE, wanted=0)

    assert (worst, waiting, holding) == ([0, 0, 0, 0, 0], [], [])


def test_jobs_that_wait_for_jobs_of_their_own_executor_are_counted() -> None:
    """Both threads wait for results that only a third thread could bring."""
    worst, waiting, _ = seen(NESTED, wanted=6)

    assert worst[0] == 6  # four in the queue, and the two that keep them there
    assert worst[4] == 1
    assert waiting[0][3] == "concurrent.futures.ThreadPoolExecutor"
    assert waiting[0][2].endswith(" in outer")


def test_an_executor_whose_threads_are_at_work_may_have_any_queue() -> None:
    worst, waiting, _ = seen(BUSY, wanted=0)

    assert (worst, waiting) == ([0, 0, 0, 0, 0], [])


def test_a_request_whose_processor_time_is_measured_is_seen_to_its_innermost_line() -> None:
    """What is measured is driven step by step, and no chain of awaits leads there."""
    worst, waiting, _ = seen(MEASURED, wanted=3)

    assert worst[0] == 3
    assert waiting[0][2].endswith(" in answers")
