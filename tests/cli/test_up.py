"""`holdfast up`: detached with progress, in the foreground, and with the live table on a real terminal."""

import fcntl
import json
import os
import pty
import select
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path
from typing import Any

import pytest

from cli.fake_node import SLOWNESS, FakeNode, planned, shown, snapshot, worker
from holdfast.cli import check, commands, events, up
from holdfast.cli.main import main
from holdfast.cli.terminal import Paint
from holdfast.linux import launch
from holdfast.wire import journal

SOURCE = str(Path(commands.__file__).parents[2])
TESTS = str(Path(__file__).parents[1])
NOW = 1_000_000.0


class Launches:
    """Stands in for the launch of real processes: the fake node comes up instead."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._patch = monkeypatch
        self.spawned: list[str] = []

    def of(self, node: FakeNode) -> None:
        def spawn(run_dir: str) -> int:
            self.spawned.append(run_dir)
            node.up()
            return 0

        self._patch.setattr(check, "load", lambda *_: (node.plan, []))
        self._patch.setattr(launch, "prepare", lambda _: node.run_dir)
        self._patch.setattr(launch, "fork_anchor", spawn)


@pytest.fixture
def launches(monkeypatch: pytest.MonkeyPatch) -> Launches:
    return Launches(monkeypatch)


def detach(node: FakeNode, launches: Launches, *argv: str) -> int:
    launches.of(node)
    return main(["up", node.config, "--detach", *argv])


def test_detach_returns_when_all_are_ready(
    launches: Launches, capsys: pytest.CaptureFixture[str]
) -> None:
    with FakeNode(planned("web"), planned("mail"), planned("spare", autostart=False)) as node:
        node.workers["spare"] = worker("spare", state="down", ready=False, pid=None)
        looks = []

        def status(_: dict[str, Any]) -> dict[str, Any]:
            looks.append(1)
            if len(looks) > 2:
                node.workers["web"] = worker("web")
            return {"pid": 1, "digest": "one", "workers": list(node.workers.values())}

        node.workers["web"] = worker("web", state="starting", ready=False)
        node.on["status"] = status
        assert detach(node, launches) == 0

    out, err = capsys.readouterr()
    assert out.startswith("up: 2 workers ready in ")
    assert "1 of 2 ready; web" in err
    assert launches.spawned == [node.run_dir]


def test_detach_returns_at_the_first_failure_and_leaves_the_node_running(
    launches: Launches, capsys: pytest.CaptureFixture[str]
) -> None:
    with FakeNode(planned("web"), planned("mail")) as node:
        node.workers["web"] = worker("web", state="starting", ready=False)
        node.workers["mail"] = worker(
            "mail", state="backoff", ready=False, pid=None, why="exit status 1"
        )
        assert detach(node, launches) == 1

    err = capsys.readouterr().err
    assert "mail is not ready after " in err
    assert "it is backoff: exit status 1" in err
    assert "the node runs and goes on trying" in err


def test_a_worker_in_its_second_life_has_failed_once(
    launches: Launches, capsys: pytest.CaptureFixture[str]
) -> None:
    """The first death restarts at once: nobody sees a backoff, and it would starve the person who waits."""
    with FakeNode(planned("web")) as node:
        node.workers["web"] = worker("web", state="starting", ready=False, n=2, restarts=1)
        assert detach(node, launches) == 1

    assert "it is starting: restarted 1x" in capsys.readouterr().err


def test_detach_as_json(launches: Launches, capsys: pytest.CaptureFixture[str]) -> None:
    with FakeNode(planned("web")) as node:
        node.workers["web"] = worker("web", state="starting", ready=False)
        assert detach(node, launches, "--json", "--timeout", "0.1s") == 1

    found = json.loads(capsys.readouterr().out)
    assert list(found) == ["up", "node", "ready", "late", "took_s"]
    assert found["late"] == [{"name": "web", "state": "starting"}]


def test_a_node_that_runs_is_not_started_again(
    launches: Launches, capsys: pytest.CaptureFixture[str]
) -> None:
    with FakeNode(planned("web")) as node:
        node.up()
        assert detach(node, launches) == 4

    assert launches.spawned == []
    assert "holdfast apply" in capsys.readouterr().err


def test_without_a_terminal_this_process_becomes_the_anchor(
    launches: Launches, monkeypatch: pytest.MonkeyPatch
) -> None:
    """systemd and container runtimes watch the process that they started."""
    became: list[str] = []

    def become(run_dir: str) -> None:
        became.append(run_dir)
        sys.exit(0)

    monkeypatch.setattr(launch, "exec_anchor", become)
    with FakeNode(planned("web")) as node:
        launches.of(node)
        with pytest.raises(SystemExit):
            main(["up", node.config])

    assert became == [node.run_dir]


def test_what_is_started_does_not_hold_our_output_open() -> None:
    """`holdfast up --detach | cat` has to end."""
    code = (
        f"import sys; sys.path.insert(0, {SOURCE!r}); import subprocess\n"
        "from holdfast.cli import up\n"
        "with up._silenced():\n"
        "    child = subprocess.Popen(['sleep', '60'])\n"
        "print(child.pid)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=50, check=True
    )
    os.kill(int(done.stdout), 9)  # reached before the 60 s are over: nobody held the pipe


# -- the picture -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("columns", "height"), [(60, 12), (80, 24), (200, 50)])
@pytest.mark.parametrize("count", [1, 7, 3000])
def test_a_picture_fits_its_terminal(columns: int, height: int, count: int) -> None:
    workers = [shown(f"worker-{n}") for n in range(count)]
    workers[-1] = shown("sick", state="failed", pid=None, why="it died too often")
    lines = up.frame(
        snapshot(*workers), [f"event {n}" for n in range(9)], columns, height, Paint(False), NOW
    )

    assert len(lines) <= max(height - 1, 20)
    assert max(map(len, lines)) <= columns
    assert any(line.startswith("sick") for line in lines)
    assert lines[-1] == "Ctrl-C stops the node"


def test_the_journal_reads_as_events() -> None:
    records: list[dict[str, Any]] = [
        {"k": "start", "worker": "web", "pid": 7, "n": 1, "role": "main"},
        {"k": "start", "worker": "web", "pid": 8, "n": 2, "role": "spare"},
        {"k": "ready", "worker": "web", "n": 1},
        {"k": "exit", "worker": "web", "role": "main", "status": 11, "lived_s": 75.0, "cause": "died", "next": "delay", "delay_s": 2.0},
        {"k": "exit", "worker": "web", "role": "main", "status": 0x200, "lived_s": 1.0, "cause": "died", "next": "down"},
        {"k": "exit", "worker": "web", "role": "main", "status": None, "lived_s": 1.0, "cause": "stop"},
        {"k": "go", "worker": "web", "n": 2},
        {"k": "failed_spawn", "worker": "web", "error": "no such file"},
        {"k": "keeper", "pid": 9, "adopted": 3},
        {"k": "intent", "worker": "web"},
    ]  # fmt: skip

    assert [text for text in map(events.sentence, records) if text] == [
        "web started (pid 7, start 1)",
        "web is ready",
        "web died: killed by SIGSEGV after 1m15s; starts again in 2.0s",
        "web died: exit status 2 after 1.0s; left down",
        "web stopped: nobody saw how after 1.0s",
        "web: the warm spare took over (start 2)",
        "web could not be started: no such file",
        "a new keeper took over 3 running workers",
    ]


def test_only_what_is_new_is_read_from_a_journal_and_its_compaction_is_no_event(
    tmp_path: Path,
) -> None:
    path = tmp_path / "journal"
    tail = events.Tail(str(path))
    first = {"k": "exit", "worker": "web", "seq": 1}
    assert tail.read() == []
    path.write_bytes(journal.encode(first))
    assert tail.read() == [first]
    with path.open("ab") as file:
        file.write(journal.encode({"k": "ready", "worker": "web", "seq": 2})[:-3])
    assert tail.read() == []

    other = tmp_path / "other"
    states = [
        first,
        {"k": "start", "worker": "web", "seq": 3},
        {"k": "exit", "worker": "web", "seq": 4},
    ]
    other.write_bytes(journal.encode_all(states))
    other.rename(path)
    assert tail.read() == [states[2]]


# -- the live table on a real terminal ---------------------------------------------------------------

LIVE = """
import subprocess, sys, threading
sys.path[:0] = [{source!r}, {tests!r}]
from cli.fake_node import FakeNode, planned, worker
from holdfast.cli import check
from holdfast.cli.main import main
from holdfast.linux import launch

with FakeNode(planned("web"), planned("mail")) as node:
    anchor = subprocess.Popen(["sleep", "600"])
    def spawn(run_dir):
        node.up()
        return anchor.pid
    def down(request):
        if not {obeys} and not request.get("force"):
            return {{}}
        node.release()
        anchor.kill()
        return {{}}
    node.on["down"] = down
    check.load = lambda *_: (node.plan, [])
    launch.prepare = lambda plan: node.run_dir
    launch.fork_anchor = spawn
    node.raise_flag("mail", "missed_heartbeat", says="no beat for 12 s")
    status = main(["up", node.config])
    print("status", status, [r.get("force", False) for r in node.requests if r["do"] == "down"])
    anchor.kill()
"""


class Terminal:
    """A real pseudo terminal with the live table in it."""

    def __init__(self, columns: int, lines: int, *, obeys: bool) -> None:
        self.text = ""
        self.pid, self.descriptor = pty.fork()
        if not self.pid:
            code = LIVE.format(source=SOURCE, tests=TESTS, obeys=obeys)
            env = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "NO_COLOR")}
            os.execve(sys.executable, [sys.executable, "-c", code], {**env, "TERM": "xterm"})
        self.resize(columns, lines)

    def resize(self, columns: int, lines: int) -> None:
        fcntl.ioctl(self.descriptor, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def type(self, keys: bytes) -> None:
        os.write(self.descriptor, keys)

    def wait_for(self, text: str) -> str:
        """Read until ``text`` has come; return what came since the last call, and forget it."""
        deadline_s = time.monotonic() + 30 * SLOWNESS
        while text not in self.text:
            left_s = deadline_s - time.monotonic()
            assert left_s > 0, f"{text!r} did not come; there was {self.text!r}"
            if select.select([self.descriptor], [], [], left_s)[0]:
                try:
                    self.text += os.read(self.descriptor, 65536).decode()
                except OSError:  # EIO: the other side is gone
                    assert text in self.text, f"{text!r} did not come; there was {self.text!r}"
        seen, self.text = self.text, ""
        return seen

    def end(self) -> int:
        _, status = os.waitpid(self.pid, 0)
        os.close(self.descriptor)
        return os.waitstatus_to_exitcode(status)


def test_the_live_table_and_ctrl_c() -> None:
    terminal = Terminal(80, 24, obeys=True)
    first = terminal.wait_for("Ctrl-C stops the node")
    terminal.resize(60, 20)
    again = terminal.wait_for("\x1b[H\x1b[2J") + terminal.wait_for("Ctrl-C stops the node")
    terminal.type(b"\x03")
    last = terminal.wait_for("status 0 [False]")

    assert "fake" in first
    assert "\x1b[32mrunning\x1b[0m" in first
    assert "missed_heartbeat" in first
    assert "no beat for 12 s" in first
    assert "\x1b[?25l" in first
    assert "web" in again
    assert "\x1b[?25h" in last
    assert "down\r\n" in last
    assert terminal.end() == 0


def test_a_second_ctrl_c_kills() -> None:
    terminal = Terminal(100, 30, obeys=False)
    terminal.wait_for("Ctrl-C stops the node")
    terminal.type(b"\x03")
    terminal.wait_for("Ctrl-C again kills them")
    terminal.type(b"\x03")
    terminal.wait_for("status 0 [False, True]")

    assert terminal.end() == 0
