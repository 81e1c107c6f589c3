"""A busy box must not cost a healthy worker its life; a hang on a busy box is still found."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from holdfast.wire import layout

pytestmark = pytest.mark.faults

#: As in the requirement, but for seconds, not for ten minutes.
BUSY, FOR_S = 40, 12.0

#: A worker like our containers: two beats ten times a second, and real work (0.2 s of processor a second) in between.
WORKER = """
import os, struct, threading, time
now = time.monotonic_ns
data = bytearray(4096 + 120 * 512)
struct.pack_into("<8s2q", data, 0, b"HFPULSE1", os.getpid(), int(os.environ["HOLDFAST_START"]))
struct.pack_into("<q", data, 88, 1)
path = os.environ["HOLDFAST_PULSE"]
def beat(at):
    struct.pack_into("<q", data, at, now())
    os.pwrite(fd, data[24:40], 24)
beating = bytes(data)
with open(path + ".new", "wb") as file:
    file.write(beating)
fd = os.open(path + ".new", os.O_RDWR)
beat(24), beat(32)
os.rename(path + ".new", path)
def plain():
    while True:
        beat(24)
        time.sleep(0.1)
threading.Thread(target=plain, daemon=True).start()
next_work = 0.0
while True:
    beat(32)
    if time.monotonic() > next_work:
        until = time.thread_time() + 0.2
        while time.thread_time() < until:
            pass
        next_work = time.monotonic() + 1.0
    time.sleep(0.1)
"""


@pytest.fixture
def load() -> Iterator[Callable[[], None]]:
    busy: list[subprocess.Popen[bytes]] = []

    def begin() -> None:
        # Each in a session of its own: autogroup scheduling would else give all of them one share.
        argv = [sys.executable, "-S", "-c", "while True: pass"]
        busy.extend(subprocess.Popen(argv, start_new_session=True) for _ in range(BUSY))

    yield begin
    for child in busy:
        child.kill()
    for child in busy:
        child.wait()


def test_starved_workers_are_not_shot(house: Any, plan_of: Any, wait_for: Any, load: Any) -> None:
    """0 false kills: a beat that needs 0.2 s of processor takes seconds here, against a timeout of 1 s."""
    beat = {"kind": "pulse", "timeout_s": 1.0}
    house.plan(*(plan_of(f"w{i}", heartbeat=beat) for i in range(4)))
    dog = house.watchdog()
    for i in range(4):
        house.start(f"w{i}", [sys.executable, "-c", WORKER])
    wait_for(lambda: len(list((house.run_dir / layout.PULSES).glob("w?"))) == 4)
    load()
    until = time.monotonic() + FOR_S
    while time.monotonic() < until:
        assert not house.asked("restart"), house.said()
        time.sleep(0.2)

    assert dog.poll() is None
    # The same box, and one of them is really stopped now.
    victim = house.children[-1]
    os.kill(victim.pid, signal.SIGSTOP)
    wait_for(lambda: house.asked("restart"), 60)
    assert {r["worker"] for r in house.asked("restart")} == {"w3"}


def test_time_in_which_the_watchdog_itself_was_stopped_is_nobodys_silence(
    house: Any, plan_of: Any, wait_for: Any, tmp_path: Any
) -> None:
    path = tmp_path / "beat"
    path.touch()
    house.plan(plan_of("api", heartbeat={"kind": "file", "target": str(path), "timeout_s": 1.5}))
    dog = house.watchdog()
    house.start("api")
    wait_for(lambda: (path.touch(), "x")[1])
    dog.send_signal(signal.SIGSTOP)
    time.sleep(3.0)
    path.touch()
    dog.send_signal(signal.SIGCONT)
    for _ in range(10):
        time.sleep(0.1)
        path.touch()

    assert not house.asked("restart"), house.said()
