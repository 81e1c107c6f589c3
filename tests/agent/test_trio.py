"""A guest that runs trio: its loop beats, and its tasks are counted where they are started."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from node import SLOWNESS

pytest.importorskip("trio")

SOURCE = str(Path(__file__).parents[2] / "src")

PROGRAM = """
import json, os, sys
from holdfast.agent import otherloops, trioloop
from holdfast.agent.imports import after_import
from holdfast.agent.pulse import PulseWriter
from holdfast.agent.sites import SITES, TASKS, creators, label
from holdfast.wire import pulse

path = sys.argv[1]
writer = PulseWriter(path, os.getpid(), 1)
rested = []
beat = lambda known: otherloops.OtherBeat(writer, lambda thread: True, known)
after_import("trio._core._run", trioloop.install(beat, lambda: rested.append(1)))
import trio

def read():
    return pulse.decode(open(path, "rb").read())

async def small():
    await trio.sleep_forever()

def fan_out(nursery):
    for _ in range(50):
        nursery.start_soon(small)

async def main():
    async with trio.open_nursery() as nursery:
        fan_out(nursery)
        with trio.fail_after(30):
            while read().tasks < 50:
                await trio.sleep(0.02)
        first_ns = read().loop_beat_ns
        with trio.fail_after(30):
            while read().loop_beat_ns == first_ns:
                await trio.sleep(0.02)
        nursery.cancel_scope.cancel()

trio.run(main)
most = max(SITES.nodes[TASKS], key=lambda node: node.count)
print(json.dumps([most.count, label(most).rpartition(" ")[2], len(most.refs), rested]))
"""


def test_trio_has_a_beat_and_its_tasks_a_line(tmp_path: Path) -> None:
    run = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path / "pulse")],
        capture_output=True, text=True, check=True, timeout=60 * SLOWNESS, env={**os.environ, "PYTHONPATH": SOURCE},
    )  # fmt: skip

    count, where, living, rested = json.loads(run.stdout)
    assert (count, where) == (50, "fan_out")
    assert living == 0
    assert rested == [1]
