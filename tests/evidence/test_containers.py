"""The evidence process and a real container: what one writes, the other reads."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import holdfast
from holdfast.evidence.collectors import stacks
from holdfast.linux import files, talk
from holdfast.wire import layout, pulse

pytestmark = pytest.mark.faults
SLOWNESS = float(os.environ.get("HOLDFAST_SLOWNESS", "1"))
MAIN = str(Path(holdfast.__file__).parent / "container" / "__main__.py")
needs_pyspy = pytest.mark.skipif(stacks.find_pyspy() is None, reason="py-spy is not installed")
COMPONENT = "import asyncio\nasync def app():\n    await asyncio.Event().wait()\n"

Running = Callable[[], "subprocess.Popen[bytes]"]


@pytest.fixture
def running(node: Any) -> Running:
    """Start a container with two components and wait until it is ready."""

    def start() -> "subprocess.Popen[bytes]":
        for name in ("board", "chat"):
            (node.app / f"{name}.py").write_text(COMPONENT)
        node.worker.update(
            kind="container",
            argv=[sys.executable, "-P", "-X", "faulthandler", MAIN],
            components=[{"name": n, "use": f"{n}:app", "settings": {}} for n in ("board", "chat")],
            stop={"signal": int(signal.SIGTERM), "grace_s": 5.0},
        )
        node.worker["env"] = {"HOLDFAST_PULSE": str(node.run_dir / layout.PULSES / "backend")}
        node.write_plan(drills=True)
        process: subprocess.Popen[bytes] = node.start(env_more=node.worker["env"])
        look(lambda: is_ready(node, process), "the container to be ready")
        return process

    return start


def look(condition: Callable[[], bool], what: str) -> None:
    until = time.monotonic() + 20 * SLOWNESS
    while not condition():
        assert time.monotonic() < until, f"waited in vain for {what}"
        time.sleep(0.01)


def reading(node: Any) -> pulse.Pulse | None:
    return pulse.decode(files.read(str(node.run_dir / layout.PULSES / "backend")))


def is_ready(node: Any, process: "subprocess.Popen[bytes]") -> bool:
    if process.poll() is not None:
        raise AssertionError(process.communicate()[1].decode())
    found = reading(node)
    return found is not None and found.ready == 1


def inject(node: Any, fault: str) -> None:
    # The answer may never come: that is the fault.
    talk.ask(
        f"{node.run_dir}/ctl/backend.sock",
        {"do": "fault", "component": "chat", "fault": fault, "name": fault},
        0.3,
    )


def hung(node: Any, *, thread_too: bool) -> bool:
    found, now = reading(node), time.monotonic_ns()
    if found is None or now - found.loop_beat_ns < 1.3e9:
        return False
    return not thread_too or now - found.thread_beat_ns > 1.3e9


def end(node: Any, process: "subprocess.Popen[bytes]") -> dict[str, Any]:
    _, said = process.communicate(timeout=60 * SLOWNESS)
    node.log("err", said, 3)
    found: dict[str, Any] = node.incident(node.order(process))
    return found


def test_an_exception_in_a_component_names_it(node: Any, running: Running) -> None:
    process = running()
    inject(node, "exception")

    found = end(node, process)

    assert found["component"] == "chat"
    assert (
        found["title"]
        == 'worker "backend": component "chat" crashed: InjectedFault: asked for by a drill'
    )


def test_a_segfault_in_a_component_names_it(node: Any, running: Running) -> None:
    process = running()
    inject(node, "segfault")

    found = end(node, process)

    assert found["component"] == "chat"
    assert found["fatal"] == "Fatal Python error: Segmentation fault"
    assert found["title"].startswith(
        'worker "backend" (component "chat"): killed by SIGSEGV (segmentation fault) in ctypes'
    )


@needs_pyspy
@pytest.mark.parametrize(
    ("fault", "frozen", "says"),
    [
        (
            "block_loop",
            False,
            r"event loop blocked for [\d.]+ s at faults\.py:\d+ in block_loop: time\.sleep\(3600\)",
        ),
        (
            "deadlock",
            False,
            r"event loop blocked for [\d.]+ s at faults\.py:\d+ in deadlock: lock\.acquire\(\)",
        ),
        ("busy_loop", False, r"event loop blocked for [\d.]+ s at faults\.py:\d+ in busy_loop"),
        ("hold_gil", True, r"frozen for [\d.]+ s at faults\.py:\d+ in hold_gil"),
    ],
)
def test_each_kind_of_hang_is_told_with_component_and_place(
    node: Any, running: Running, fault: str, frozen: bool, says: str
) -> None:
    process = running()
    inject(node, fault)
    look(lambda: hung(node, thread_too=frozen), "the beat to stop")

    found = node.incident(node.hang_order(process))

    assert process.poll() is None
    assert found["component"] == "chat"
    assert re.search(says, found["title"]), found["title"]


def test_a_hang_without_pyspy_is_told_by_the_container_itself(
    node: Any, running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    from holdfast.evidence import capture

    process = running()
    inject(node, "block_loop")
    look(lambda: hung(node, thread_too=False), "the beat to stop")
    monkeypatch.setattr(stacks, "find_pyspy", lambda _="": None)
    case = capture._open_case(str(node.run_dir), node.hang_order(process))

    stacks.collect(case)

    assert process.poll() is None
    frames = [frame for stack in case.facts.live_stacks for frame in stack["frames"]]
    assert any("in block_loop" in frame for frame in frames)
