"""A thread that asks for events and never waits for any is told apart from one that computes, and from one that has much to do."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

from node import SLOWNESS

#: A program that looks at itself as the agent does, often, until a thread turns (or for a second and a half).
PROGRAM = """
import json, os, queue, selectors, sys, threading, time
from time import monotonic_ns
from holdfast.agent import spins
spins._EVERY_NS = 100_000_000
{body}
looking, until_s, found = spins.Spins(), time.monotonic() + {for_s}, (0, 0)
while time.monotonic() < until_s and not found[0]:
    found = looking.look(monotonic_ns(), {serving})
    time.sleep(0.02)
names = {thread.ident: thread.name for thread in threading.enumerate()}
print(json.dumps(names.get(found[1], "")), flush=True)
os._exit(0)
"""
TURNS = """
def turns():
    jobs = queue.Queue()
    while True:
        try:
            jobs.get(block=False)
        except queue.Empty:
            pass
one = threading.Thread(target=turns, name="turns")
one.start()
"""
#: Code of a package: no frame is the program's own, and it asks between any two pieces of work.
PACKAGE = """
code = compile('''
def works():
    with selectors.DefaultSelector() as selector:
        while True:
            selector.select(0)
            sum(range(2000))
''', "/usr/lib/python3/dist-packages/client.py", "exec")
space = {"selectors": selectors}
exec(code, space)
threading.Thread(target=space["works"], name="client").start()
"""
COMPUTES = """
def computes():
    jobs = queue.Queue()
    while True:
        sum(range(100_000))
        if not jobs.empty():
            jobs.get(block=False)
threading.Thread(target=computes).start()
"""


def seen(body: str, *, for_s: float = 60.0 * SLOWNESS, serving: str = "0") -> Any:
    code = PROGRAM.replace("{body}", body).replace("{for_s}", str(for_s)).replace("{serving}", serving)  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=90 * SLOWNESS
    )  # fmt: skip
    return json.loads(done.stdout)


def test_a_thread_that_polls_an_empty_queue_turns() -> None:
    assert seen(TURNS) == "turns"


def test_a_thread_of_a_package_that_asks_between_trifles_turns() -> None:
    """kafka-python 2.2.4: its broker is gone, and its thread never pauses again."""
    assert seen(PACKAGE) == "client"


def test_a_thread_that_computes_does_not_turn() -> None:
    assert seen(COMPUTES, for_s=1.5) == ""


def test_the_loop_that_serves_is_others_business() -> None:
    assert seen(TURNS, for_s=1.5, serving="one.ident") == ""
