"""`holdfast top` on a real terminal: what a person sees, what keys do, and that the terminal comes back whatever happens."""

import json
import os
import re
import signal
import socket
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cli import vt
from cli.fake_node import SLOWNESS, FakeNode, planned, worker
from holdfast.cli import commands
from holdfast.cli.main import main
from holdfast.linux import procfs
from holdfast.wire import layout
from holdfast.wire import plan as plans

SOURCE = str(Path(commands.__file__).parents[2])
TOP = [sys.executable, "-m", "holdfast", "top", "--every", "0.2s"]


@pytest.fixture
def node() -> Iterator[FakeNode]:
    with FakeNode(planned("web"), planned("mail"), planned("crawler"), node="clandeck") as made:
        yield made.up()


def environment(node: FakeNode, **more: str) -> dict[str, str]:
    env = {**node.env, "PYTHONPATH": SOURCE, "TERM": "xterm-256color", "LC_ALL": "C.UTF-8", **more}
    return {
        k: v
        for k, v in env.items()
        if k not in ("COLUMNS", "LINES", "NO_COLOR", *more) or k in more
    }


def top(node: FakeNode, *argv: str, columns: int = 100, rows: int = 24, **env: str) -> vt.OnTerminal:  # fmt: skip
    words = [*TOP, "--state", node.state_dir, *argv]
    return vt.OnTerminal(words, environment(node, **env), columns, rows)


def orders(node: FakeNode) -> list[tuple[Any, Any]]:
    return [(r["do"], r.get("worker")) for r in node.requests if r["do"] != "status"]


def table(lines: list[str]) -> list[str]:
    """The lines below the heading of the table."""
    at = next((at for at, line in enumerate(lines) if "WORKER" in line), len(lines))
    return [line for line in lines[at + 1 :] if line.strip()]


def named(lines: list[str]) -> list[str]:
    return [line[2:].split()[0] for line in table(lines) if " running " in line]


def chosen(lines: list[str]) -> str:
    """The worker in the line that is marked."""
    return next((line[1:].lstrip(" !").split()[0] for line in lines if line.startswith(">")), "")


def test_one_look_tells_whether_anything_is_wrong(node: FakeNode) -> None:
    """At 3 am the first two lines have to do."""
    with top(node) as terminal:
        lines = terminal.see("all is well: 3 workers ready")
        assert lines[0].startswith("clandeck  up 2h00m  3 workers")
        assert re.match(r"cpu .*memory .*disk ", lines[2])
        assert named(lines) == ["web", "mail", "crawler"]

        node.raise_flag("mail", "memory_leak", says="it grows by 3 MB a minute", phase="remedy", rung=1)  # fmt: skip
        lines = terminal.see("1 of 3 workers needs a look: mail memory_leak")
        assert table(lines)[0].startswith(">!mail")
        assert any("it grows by 3 MB a minute" in line for line in lines[10:])
        assert any("being remedied (rung 1)" in line for line in lines)


def test_the_chosen_worker_stays_chosen_when_the_order_changes(node: FakeNode) -> None:
    """Somebody goes to crawler and presses r; in that moment mail jumps to the top. Restarting mail would be a disaster."""
    with top(node) as terminal:
        terminal.see("all is well")
        terminal.press("jj")
        terminal.see(lambda lines: chosen(lines) == "crawler")
        node.raise_flag("crawler", "slow")
        terminal.see(lambda lines: "slow" in lines[1] and chosen(lines) == "crawler")
        node.raise_flag("web", "slow")
        lines = terminal.see(lambda lines: "2 of 3" in lines[1])
        assert chosen(lines) == "crawler"
        terminal.press("r")
        terminal.see("restart crawler (pid ")


def test_an_order_is_asked_for_given_once_and_its_end_is_told(node: FakeNode) -> None:
    def restart(request: dict[str, Any]) -> dict[str, Any]:
        node.workers[request["worker"]] = worker(request["worker"], n=2, pid=os.getppid())
        return {}

    node.on["restart"] = restart
    with top(node) as terminal:
        terminal.see("all is well")
        terminal.press("jr")
        terminal.see("restart mail (pid ")
        terminal.press("n")
        terminal.see("nothing was done")
        assert orders(node) == []
        terminal.press("ry")  # typed before the question was there: no answer
        terminal.see("restart mail (pid ")
        assert orders(node) == []
        terminal.press("y")
        terminal.see("mail: restarted (running, pid ")
        assert orders(node) == [("restart", "mail")]


def test_a_refusal_is_told_in_the_keepers_words(node: FakeNode) -> None:
    node.on["stop"] = lambda _: {"ok": False, "error": "the node is going down"}
    with top(node) as terminal:
        terminal.see("all is well")
        terminal.press("S")
        terminal.see("stop web (pid ")
        terminal.press("y")
        terminal.see("web: the node is going down")


def test_read_only_gives_no_orders(node: FakeNode) -> None:
    with top(node, "--read-only") as terminal:
        terminal.see("read-only")
        terminal.press("ryS")
        terminal.see("no orders here: --read-only")
        assert orders(node) == []


def test_filter_sort_tree_and_help(node: FakeNode) -> None:
    node.workers["crawler"]["restarts"] = 7
    with top(node) as terminal:
        terminal.see("all is well")
        terminal.press("/ai")
        terminal.see("/ai_")
        terminal.press("\r")
        terminal.see("only 'ai' (1 of 3)")
        terminal.press("\x1b")
        terminal.see(lambda lines: "web" in named(lines))
        terminal.press(">>>>>")
        terminal.see(lambda lines: named(lines) == ["crawler", "web", "mail"])
        assert any("RST▼" in line for line in terminal.screen.lines())
        terminal.press("s")
        terminal.see(lambda lines: named(lines)[-1] == "crawler")
        terminal.press("t")
        terminal.see("WORKER")
        terminal.press("?")
        lines = terminal.see("keys of holdfast top")
        assert any("restart it" in line for line in lines)
        terminal.press("q")
        terminal.see("WORKER")


def test_one_worker_its_log_and_its_incident(node: FakeNode) -> None:
    """From symptom to cause with three keys."""
    logs = Path(node.state_dir, layout.LOGS, "mail")
    logs.mkdir(parents=True)
    (logs / "out.log").write_text("\x1b[31mhello\x1b[0m from mail\n")
    node.plan["workers"][1]["log"] = {"directory": str(logs)}
    node.plan["workers"][1]["components"] = [{"name": "inbox"}]
    node.write_plan()
    node.serve(
        f"{node.run_dir}/{layout.CONTROL}/mail.sock",
        lambda _: {"ok": True, "components": [{"name": "inbox", "state": "running"}]},
    )
    node.write_samples("mail", 60, 0.25)
    bundle = Path(node.state_dir, layout.INCIDENTS, "2026-01-01-mail-1")
    bundle.mkdir(parents=True)
    record = {
        "id": bundle.name, "worker": "mail", "kind": "crash", "title": "mail crashed: the river is dry",
        "opened_unix_s": time.time() - 30, "verdict": "came_back", "cause": {"says": "the river is dry"},
    }  # fmt: skip
    (bundle / "incident.json").write_text(json.dumps(record))
    Path(node.state_dir, layout.INCIDENT_INDEX).write_text(json.dumps(record) + "\n")
    with top(node, rows=34) as terminal:
        terminal.see("nothing is flagged, but: mail crash")
        terminal.press("j\r")
        lines = terminal.see("components  inbox running")
        text = "\n".join(lines)
        for part in ("mail  running, ready", "lives", "cpu 25%", "memory", "came back", "| hello from mail"):  # fmt: skip
            assert part in text
        terminal.press("l")
        terminal.see("log of mail")
        with (logs / "out.log").open("a") as file:
            file.write("one more line\n")
        terminal.see("| one more line")
        terminal.press("qi")
        terminal.see("incidents of mail")
        terminal.press("\r")
        terminal.see("What broke")
        terminal.press("qqqq")
        assert terminal.end() == 0


def test_stacks_come_from_a_process_of_their_own_and_can_be_given_up(node: FakeNode) -> None:
    """What attaches to a worker may hang: the screen must not."""
    with top(node) as terminal:
        terminal.see("all is well")
        terminal.press("x")
        terminal.see("stacks of web")
        lines = terminal.see(lambda lines: any("q back" in line for line in lines), 30)
        assert any("web" in line for line in lines[3:])


def test_it_follows_the_size_of_the_terminal(node: FakeNode) -> None:
    with top(node) as terminal:
        terminal.see("all is well")
        for columns, rows in ((40, 10), (200, 50), (61, 13)):
            terminal.resize(columns, rows)
            lines = terminal.see("WORKER")
            assert "web" in "\n".join(lines)
            terminal.see(lambda lines, at=rows: lines[at - 1])  # type: ignore[misc]


def test_colour_is_left_out_where_it_is_not_wanted(node: FakeNode) -> None:
    """And nothing is said by colour alone: flagged rows have a mark."""
    node.raise_flag("mail", "slow")
    with top(node, NO_COLOR="1") as terminal:
        terminal.see(">!mail")
        assert terminal.screen.styles <= {"0", "7"}
    with top(node) as terminal:
        terminal.see(">!mail")
        assert "31" in terminal.screen.styles


def test_a_console_without_unicode_gets_none(node: FakeNode) -> None:
    node.write_samples("web", 60, 0.25)
    with top(node, LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0") as terminal:
        terminal.see("all is well")
        terminal.press("\r")
        lines = terminal.see("cpu 25%")
        assert "\n".join(lines).isascii()


# -- the keeper, the node --------------------------------------------------------------------------


def test_a_keeper_that_hangs_freezes_neither_the_screen_nor_the_keys(node: FakeNode) -> None:
    """In the worst moment it shows what it knows, and says so."""
    with top(node) as terminal:
        terminal.see("all is well")
        path = f"{node.run_dir}/{layout.socket('keeper')}"
        os.unlink(path)
        with socket.socket(socket.AF_UNIX) as deaf:
            deaf.bind(path)
            deaf.listen(64)
            Path(node.run_dir, layout.JOURNAL).write_text("something new\n")
            lines = terminal.see("the keeper has not answered for")
            assert any("crawler" in line for line in lines[4:])
            terminal.press("?")
            terminal.see("keys of holdfast top", 5)
            terminal.press("qq")
            assert terminal.end() == 0


def test_a_node_that_goes_down_is_told_and_its_return_is_seen(node: FakeNode) -> None:
    with top(node) as terminal:
        terminal.see("all is well")
        node.release()
        lines = terminal.see("the node is down")
        assert any("web" in line and "down" in line for line in lines)
        terminal.press("ry")
        terminal.see("no orders here: the node is down")
        for role in layout.ROLES:
            node._take(f"{node.run_dir}/{layout.lock(role)}")
        terminal.see("all is well")


# -- the terminal comes back -----------------------------------------------------------------------


def given_back(terminal: vt.OnTerminal, before: list[Any]) -> bool:
    modes = terminal.screen.modes
    return terminal.attributes() == before and modes == {"1049": False, "7": True, "25": True}


@pytest.mark.parametrize(
    ("how", "ends_with"),
    [("q", 0), ("\x03", 0), (signal.SIGTERM, signal.SIGTERM), (signal.SIGHUP, signal.SIGHUP), (signal.SIGQUIT, signal.SIGQUIT)],
)  # fmt: skip
def test_the_terminal_is_given_back(node: FakeNode, how: str | int, ends_with: int) -> None:
    """A terminal that stays raw after a `kill` costs somebody their session."""
    with top(node) as terminal:
        before = terminal.attributes()
        terminal.see("all is well")
        assert not terminal.attributes()[3] & termios.ECHO
        if isinstance(how, str):
            terminal.press(how)
        else:
            os.kill(terminal.pid, how)
        status = terminal.end()

        assert (os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)) == ends_with  # fmt: skip
        assert given_back(terminal, before)


def test_the_terminal_is_given_back_after_a_mistake_of_ours(node: FakeNode) -> None:
    with top(node, HOLDFAST_DEBUG="") as terminal:
        before = terminal.attributes()
        terminal.see("all is well")
        node.on["status"] = lambda _: {"workers": [{"no": "name"}]}
        Path(node.run_dir, layout.JOURNAL).write_text("something\n")
        assert os.WEXITSTATUS(terminal.end()) == 70
        assert given_back(terminal, before)
        assert any("holdfast made a mistake" in line for line in terminal.screen.lines())


def test_a_terminal_that_takes_nothing_does_not_keep_it_alive(node: FakeNode) -> None:
    """An ssh that hangs: SIGTERM has to end a process that stands in a write."""
    with top(node, "--every", "0.2s", columns=200, rows=200) as terminal:
        terminal.see("all is well")
        for n in range(150):
            name = f"w{n}"
            node.plan["workers"].append(planned(name))
            node.workers[name] = worker(name)
        node.write_plan()
        # Nobody reads: what a pty holds is full after a few frames, and then a write stands still.
        before, same = -1, 0
        until_s = time.monotonic() + 10 * SLOWNESS
        while same < 5:
            assert time.monotonic() < until_s, f"its writes never stand still ({before} bytes)"
            terminal.press("\x0c")
            time.sleep(0.05)
            unread = terminal.unread()
            same = same + 1 if unread == before > 1000 else 0
            before = unread
        os.kill(terminal.pid, signal.SIGTERM)
        until_s = time.monotonic() + 10 * SLOWNESS
        while not (found := os.waitpid(terminal.pid, os.WNOHANG))[0]:
            assert time.monotonic() < until_s, "it stands in its write for ever"
            time.sleep(0.02)
        terminal.status = found[1]
        assert os.WTERMSIG(found[1]) == signal.SIGTERM


def test_stop_and_go_on_as_in_any_shell(node: FakeNode) -> None:
    """Ctrl-Z gives the shell a sane terminal; fg brings the picture back."""
    words = " ".join([*TOP, "--state", node.state_dir])
    env = {**environment(node), "PS1": "prompt> ", "HISTFILE": "/dev/null"}
    with vt.OnTerminal(["bash", "--norc", "--noprofile", "--noediting", "-i"], env, 100, 24) as terminal:  # fmt: skip
        terminal.see("prompt>")
        terminal.press(f"{words}\n")
        terminal.see("all is well")
        terminal.press("\x1a")
        terminal.see("Stopped")
        assert terminal.attributes()[3] & termios.ECHO
        assert not terminal.screen.modes["1049"]
        assert terminal.screen.modes["25"]
        terminal.press("fg\n")
        terminal.see(lambda _: terminal.screen.modes["1049"])
        terminal.see("all is well")
        assert not terminal.attributes()[3] & termios.ECHO
        terminal.press("q")
        terminal.see(lambda _: not terminal.screen.modes["1049"])


# -- cost ------------------------------------------------------------------------------------------


def test_a_thousand_workers_fit_into_15_mb_and_a_quiet_node_is_not_asked() -> None:
    """It is started on boxes that are out of memory, and may not be what a keeper is busy with."""
    names = [f"worker-of-some-family-{n:04}" for n in range(1000)]
    with FakeNode(
        *(planned(name, argv=["/bin/true"], env={"A": "b" * 60}) for name in names)
    ) as node:
        Path(node.run_dir, layout.PLAN).write_bytes(plans.encode(node.plan))  # type: ignore[arg-type]
        node.up()
        with top(node, rows=50) as terminal:
            terminal.see("all is well: 1000 workers ready")
            asked = len(node.requests)
            written = terminal.written
            began_s = time.monotonic()
            for _ in range(10):
                terminal.press("\x1b[6~")
                terminal.read(0.1)
            terminal.press("G")
            terminal.see("worker-of-some-family-0999")
            took_s = time.monotonic() - began_s
            resident = procfs.reading(terminal.pid)
            assert resident is not None
            assert resident.rss_bytes < 15_000_000
            assert len(node.requests) - asked <= 1 + took_s / 10
            assert terminal.written - written < 60_000


def test_one_picture_for_a_file(node: FakeNode, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["top", "--once", "--state", node.state_dir]) == 0
    out = capsys.readouterr().out

    assert "\x1b" not in out
    assert "all is well: 3 workers ready" in out
    assert [line.split()[0] for line in out.splitlines() if " running " in line] == ["web", "mail", "crawler"]  # fmt: skip
    assert main(["top", "ai", "--once", "--state", node.state_dir]) == 0
    assert "web" not in capsys.readouterr().out.replace(node.state_dir, "")


def test_json_is_that_of_status(node: FakeNode, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["top", "--json", "--state", node.state_dir]) == 0
    ours = json.loads(capsys.readouterr().out)
    assert main(["status", "--json", "--state", node.state_dir]) == 0

    assert ours.keys() == json.loads(capsys.readouterr().out).keys()


def test_mistakes_are_answered_in_words(node: FakeNode, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["top", "--every", "1ms", "--state", node.state_dir]) == 2
    assert "at least 0.2s" in capsys.readouterr().err
    with top(node, TERM="dumb") as terminal:
        terminal.see("holdfast top --once")
        assert os.WEXITSTATUS(terminal.end()) == 2
    node.release()
    assert main(["top", "--once", "--state", node.state_dir]) == 3
