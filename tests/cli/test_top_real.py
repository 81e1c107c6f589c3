"""`holdfast top` on a real node: a worker dies, and the whole story is on the screen; what top does to the node is nothing."""

import os
import signal
import sys
from pathlib import Path

import pytest

from cli import vt
from holdfast.cli import commands
from node import Node, program

pytestmark = pytest.mark.faults

SOURCE = str(Path(commands.__file__).parents[2])


def top(node: Node, *argv: str) -> vt.OnTerminal:
    env = {**os.environ, "PYTHONPATH": SOURCE, "TERM": "xterm", "LC_ALL": "C.UTF-8"}
    for name in ("COLUMNS", "LINES", "NO_COLOR"):
        env.pop(name, None)
    words = [sys.executable, "-m", "holdfast", "top", "--every", "0.2s", "--state", node.state_dir]
    return vt.OnTerminal([*words, *argv], env, 110, 36)


def test_a_crash_is_seen_from_the_first_line_to_its_story(node: Node) -> None:
    """What broke, since when, why, what was done: without leaving the terminal."""
    go = node.tmp / "go"
    text = (
        "import os, time\n"
        "print('reading the list', flush=True)\n"
        f"while not os.path.exists({str(go)!r}): time.sleep(0.01)\n"
        f"os.unlink({str(go)!r})\n"
        "raise RuntimeError('the river is dry')\n"
    )
    node.add("crawler", program(node.tmp, "crawler.py", text), faulthandler=True)
    node.add("idle", ["/bin/sleep", "1000"])
    node.start()
    first = node.wait_state("crawler", "running")["pid"]
    node.wait_state("idle", "running")
    with top(node) as terminal:
        terminal.see("all is well: 2 workers ready")
        go.touch()
        terminal.see("crawler crash", 30)
        terminal.press("/crawler\r\r")
        lines = terminal.see(lambda lines: any(line.startswith("lives") and "x" in line for line in lines))  # fmt: skip
        assert any("RuntimeError: the river is dry" in line for line in lines)
        terminal.see("reading the list")
        terminal.press("i\r")
        lines = terminal.see("What broke")
        assert any("certain: the exception RuntimeError" in line for line in lines)
        terminal.press("qqq\x1b")
        terminal.see("> crawler")
        terminal.see("  idle")
        second = node.wait_state("crawler", "running")["pid"]
        assert second != first

        terminal.press("Gr")
        terminal.see("restart idle (pid ")
        terminal.press("y")
        terminal.see("idle: restarted (running, pid ", 30)
        assert node.status()["idle"]["n"] == 2


def test_neither_a_killed_keeper_nor_a_killed_top_is_noticed(node: Node) -> None:
    """Law 11: it may die at any instant; and the node may lose its keeper while somebody looks."""
    node.add("idle", ["/bin/sleep", "1000"])
    node.start()
    pid = node.wait_state("idle", "running")["pid"]
    with top(node) as terminal:
        terminal.see("all is well")
        old = node.kill("keeper")
        node.wait_back("keeper", old)
        new = node.holder("keeper")
        terminal.see(lambda lines: any(f"keeper {new}" in line for line in lines))
        terminal.see("all is well: 1 worker ready")
        os.kill(terminal.pid, signal.SIGKILL)
        assert os.WTERMSIG(terminal.end()) == signal.SIGKILL
    assert node.status()["idle"]["pid"] == pid
