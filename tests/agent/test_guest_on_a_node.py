"""A guest with ``agent = true`` on a real node: its pulse is its heartbeat, and its program is untouched."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import holdfast
from holdfast.agent import words
from holdfast.config.load import load_plan
from holdfast.wire import layout, pulse
from node import SLOWNESS, Node, wait_for

BOOT = str(Path(holdfast.__file__).parent / "agent/boot")
BLOCKS = """
import asyncio, os, pathlib, time
seen = pathlib.Path("blocked.once")
async def main():
    while True:
        await asyncio.sleep(0.05)
        if not seen.exists():
            seen.touch()
            time.sleep(3600)
asyncio.run(main())
"""


def agent_pulse(node: Node, worker: str) -> Any:
    try:
        return pulse.decode(Path(node.run_dir, layout.pulse(worker)).read_bytes())
    except FileNotFoundError:
        return None


def add_guest(node: Node, name: str, argv: list[str], timeout_s: float) -> None:
    node.add(
        name, argv, agent=True, env={"PYTHONPATH": BOOT}, faulthandler=True,
        heartbeat={"kind": "pulse", "target": "agent", "timeout_s": timeout_s},
    )  # fmt: skip


def test_a_guest_whose_loop_is_blocked_is_replaced(node: Node, tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(BLOCKS)
    add_guest(node, "app", [sys.executable, str(tmp_path / "app.py")], 2.0 * SLOWNESS)
    node.start()

    ended = wait_for(lambda: node.journal("exit"), "the blocked one to be ended", 40)

    assert ended[0]["flag"] == "missed_heartbeat"
    assert (tmp_path / "blocked.once").exists()
    beat = wait_for(lambda: (b := agent_pulse(node, "app")) and b.start == 2 and b, "the next life")
    now_ns = time.monotonic_ns()
    wait_for(lambda: agent_pulse(node, "app").loop_beat_ns > now_ns, "beats of its loop")
    assert beat.pid == node.status()["app"]["pid"]


def test_a_shell_that_starts_a_python_now_and_then_is_not_judged_by_its_pulse(node: Node, tmp_path: Path) -> None:  # fmt: skip
    script = (
        f"{sys.executable} -c 'import time; time.sleep(0.5)'; touch {tmp_path}/first; sleep 3600"
    )
    add_guest(node, "mixed", ["/bin/sh", "-c", script], 0.5 * SLOWNESS)
    node.start()
    wait_for((tmp_path / "first").exists, "the Python program to end")
    last = agent_pulse(node, "mixed")
    assert last is not None

    wait_for(
        lambda: time.monotonic_ns() - last.thread_beat_ns > 3e9 * SLOWNESS,
        "three seconds of silence",
    )

    assert node.journal("exit") == []
    assert not list(Path(node.run_dir, layout.FLAGS).iterdir())


def test_the_configuration_brings_the_agent_in(tmp_path: Path) -> None:
    (tmp_path / "holdfast.toml").write_text(f"""
        [worker.app]
        command = ["{sys.executable}", "app.py"]
        agent = true
        env = {{ PYTHONPATH = "lib" }}

        [worker.plain]
        command = ["{sys.executable}", "app.py"]

        [component.board]
        use = "board:app"

        [worker.quiet]
        components = ["board"]
        agent = false
    """)

    plan = load_plan(str(tmp_path / "holdfast.toml"), dict(os.environ))

    app, plain, quiet = (
        {w["name"]: w for w in plan["workers"]}[n] for n in ("app", "plain", "quiet")
    )
    assert app["agent"] is True
    assert app["env"]["PYTHONPATH"] == f"{BOOT}:lib"
    assert (app["heartbeat"]["kind"], app["heartbeat"]["target"]) == ("pulse", "agent")
    assert app["ready"]["kind"] == "none"
    assert "agent" not in plain
    assert "PYTHONPATH" not in plain["env"]
    assert plain["heartbeat"]["kind"] == "none"
    assert quiet["agent"] is False


CRASHES = """
import ctypes, pathlib, time
if not pathlib.Path("crashed.once").exists():
    pathlib.Path("crashed.once").touch()
    ctypes.string_at(0)
time.sleep(3600)
"""


def test_dying_words_are_kept_where_no_log_is(node: Node, tmp_path: Path) -> None:
    """With `log = false` the report of a segmentation fault was lost to the node's own stderr."""
    (tmp_path / "app.py").write_text(CRASHES)
    add_guest(node, "app", [sys.executable, str(tmp_path / "app.py")], 20.0)
    node.workers[0]["log"] = None
    node.start()
    wait_for(lambda: len(node.journal("start")) == 2, "the next life")
    wait_for(lambda: words.read(node.run_dir, "app", 1), "the words of the first life")

    lines = words.read(node.run_dir, "app", 1)

    assert lines[0] == "Fatal Python error: Segmentation fault"
    assert any("app.py" in line for line in lines)
    found = wait_for(lambda: [*Path(node.state_dir, "incidents").glob("*-app-1/incident.json")], "the incident")  # fmt: skip
    assert json.loads(found[0].read_text())["fatal"] == "Fatal Python error: Segmentation fault"
