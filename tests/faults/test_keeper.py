"""The keeper with real processes: it starts, restarts, stops, and nothing is left behind."""

from __future__ import annotations

import os
import signal
import socket
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from holdfast.linux import launch, procfs
from holdfast.model.errors import AlreadyRunning
from node import program, wait_for

if TYPE_CHECKING:
    from node import Node

pytestmark = pytest.mark.faults

SLEEP = ["/bin/sleep", "100000"]


def test_a_killed_worker_is_back_and_the_others_notice_nothing(node: Node) -> None:
    """Story 1: a crash of one worker is invisible to the others."""
    node.add("one", SLEEP)
    node.add("two", SLEEP)
    node.start()
    before = {n: node.wait_state(n, "running")["pid"] for n in ("one", "two")}

    os.kill(before["one"], signal.SIGKILL)

    back = wait_for(
        lambda: (s := node.status()["one"])["pid"] not in (None, before["one"]) and s,
        "one to be back",
    )
    assert back["restarts"] == 1
    assert node.status()["two"]["pid"] == before["two"]
    (record,) = node.journal("exit")
    assert (record["worker"], record["status"], record["cause"]) == ("one", 9, "died")


def test_what_a_dead_worker_left_running_is_killed_before_it_is_back(node: Node) -> None:
    """supervisor #1101: a child of the dead program holds its port against the new one."""
    node.add("parent", ["/bin/sh", "-c", "sleep 100000 & sleep 100000 & wait"])
    node.start()
    old = node.wait_state("parent", "running")["pid"]
    family = wait_for(lambda: len(f := node.processes("parent")) == 3 and f, "its two children")

    os.kill(old, signal.SIGKILL)

    wait_for(lambda: len(node.processes("parent")) == 3, "a new family")
    wait_for(
        lambda: not any(procfs.start_ticks(pid) for pid in family), "the old family to be gone"
    )


def test_stopping_takes_even_the_grandchild_that_made_a_session_of_its_own(node: Node) -> None:
    node.add("parent", ["/bin/sh", "-c", "setsid sleep 100000 & wait"])
    node.start()
    node.wait_state("parent", "running")
    wait_for(lambda: len(node.processes("parent")) == 2, "the grandchild")

    node.ask(do="stop", worker="parent")

    node.wait_state("parent", "down")
    wait_for(lambda: node.processes("parent") == [], "all of it to be gone")
    assert node.journal("exit")[-1]["cause"] == "stop"


def test_a_worker_that_ignores_the_request_is_killed_after_its_grace(
    node: Node, tmp_path: Path
) -> None:
    deaf = program(
        tmp_path,
        "deaf.py",
        "import signal\nsignal.signal(15, signal.SIG_IGN)\nwhile True: signal.pause()\n",
    )
    node.add("deaf", deaf, stop={"signal": 15, "grace_s": 0.3}, ready={"kind": "none"})
    node.start()
    node.wait_state("deaf", "running")
    pid = node.status()["deaf"]["pid"]
    wait_for(lambda: int(_field(pid, "SigIgn"), 16) & (1 << 14), "the program to ignore SIGTERM")

    node.ask(do="stop", worker="deaf")

    node.wait_state("deaf", "down")
    assert node.journal("exit")[-1]["status"] == signal.SIGKILL


def _field(pid: int, name: str) -> str:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(name + ":"):
            return line.split()[1]
    return "0"


def test_a_program_that_dies_at_once_is_slowed_down_and_one_that_is_not_there_too(
    node: Node,
) -> None:
    """Neither may spin: circusd is unresponsive when a command is wrong (circus #1157)."""
    node.add("dies", ["/bin/false"], restart={"delay_s": 5.0, "delay_max_s": 5.0, "jitter": 0.0})
    node.add(
        "missing", ["/no/such/program"], restart={"delay_s": 5.0, "delay_max_s": 5.0, "jitter": 0.0}
    )
    node.start()

    node.wait_state("dies", "backoff")
    missing = node.wait_state("missing", "backoff")
    assert "/no/such/program" in missing["why"]
    assert [r["next"] for r in node.journal("exit")] == ["restart", "delay"]
    assert len(node.journal("failed_spawn")) == 1


def test_on_failure_and_never(node: Node) -> None:
    node.add("clean", ["/bin/true"], restart={"policy": "on-failure"})
    node.add("once", ["/bin/false"], restart={"policy": "never"})
    node.start()

    node.wait_state("clean", "done")
    node.wait_state("once", "done")


def test_a_group_restarts_together(node: Node) -> None:
    """OTP's one_for_all."""
    for name in ("a", "b", "c"):
        node.add(name, SLEEP)
    node.groups = [{"name": "g", "strategy": "one_for_all", "workers": ["a", "b", "c"]}]
    node.start()
    before = {n: node.wait_state(n, "running")["pid"] for n in ("a", "b", "c")}

    os.kill(before["b"], signal.SIGKILL)

    def all_new() -> bool:
        now = node.status()
        return all(now[n]["state"] == "running" and now[n]["pid"] != before[n] for n in before)

    wait_for(all_new, "three new processes")
    assert {r["worker"]: r["cause"] for r in node.journal("exit")} == {
        "a": "group",
        "b": "died",
        "c": "group",
    }


def test_requires_holds_back_and_down_goes_in_reverse(node: Node) -> None:
    node.add("db", SLEEP)
    node.add("api", SLEEP, requires=["db"])
    node.start()
    node.wait_state("api", "running")
    starts = [r["worker"] for r in node.journal("start")]
    assert starts == ["db", "api"]

    node.ask(do="stop", worker="db")
    node.wait_state("db", "down")
    node.ask(do="restart", worker="api")
    assert node.wait_state("api", "waiting")["why"] == "waits for db"

    node.ask(do="start", worker="db")
    node.wait_state("api", "running")


def test_apply_touches_only_what_changed(node: Node, tmp_path: Path) -> None:
    """supervisor #1637: programs can be part of critical infrastructure."""
    for name in ("same", "changes", "goes"):
        node.add(name, SLEEP)
    node.start()
    before = {n: node.wait_state(n, "running")["pid"] for n in ("same", "changes", "goes")}
    node.workers[0]["stop"] = {"signal": 2, "grace_s": 1.0}
    node.workers[1]["argv"] = ["/bin/sleep", "99999"]
    node.workers.pop()
    node.add("comes", SLEEP)
    from holdfast.wire.plan import encode

    new = tmp_path / "new.json"
    new.write_bytes(encode(node.plan()))

    reply = node.ask(do="apply", plan=str(new))

    assert (reply["start"], reply["stop"], reply["restart"]) == (["comes"], ["goes"], ["changes"])
    wait_for(lambda: "goes" not in node.status(), "the one that left the plan to be gone")
    wait_for(
        lambda: node.status()["changes"]["pid"] not in (None, before["changes"]), "a new process"
    )
    node.wait_state("comes", "running")
    assert node.status()["same"]["pid"] == before["same"]


def test_a_plan_that_is_none_is_refused_and_the_running_one_stays(
    node: Node, tmp_path: Path
) -> None:
    node.add("w", SLEEP)
    node.start()
    bad = tmp_path / "bad.json"
    bad.write_text("{")

    reply = node.ask(do="apply", plan=str(bad))

    assert not reply["ok"]
    assert "not a plan" in reply["error"]
    assert node.wait_state("w", "running")


def test_listening_sockets_outlive_the_worker(node: Node, tmp_path: Path) -> None:
    """Zero-downtime restart: between two lives connections queue in the kernel, nobody is refused."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    server = program(
        tmp_path,
        "server.py",
        "import os, socket\n"
        "assert os.environ['LISTEN_PID'] == str(os.getpid()) and os.environ['LISTEN_FDNAMES'] == 'web'\n"
        "s = socket.socket(fileno=3)\n"
        "while True:\n"
        "    c, _ = s.accept(); c.sendall(str(os.getpid()).encode()); c.close()\n",
    )
    node.add(
        "web", server,
        listen=[{"name": "web", "kind": "tcp", "host": "127.0.0.1", "port": port, "path": "", "backlog": 128}],
    )  # fmt: skip
    node.start()

    def visit() -> int:
        with socket.create_connection(("127.0.0.1", port), timeout=10) as c:
            return int(c.recv(100) or 0)

    first = visit()
    os.kill(first, signal.SIGSTOP)
    wait_for(lambda: (r := procfs.reading(first)) and r.state == "T", "the server to stand still")
    with socket.create_connection(("127.0.0.1", port), timeout=10) as waiting:
        os.kill(first, signal.SIGKILL)
        assert int(waiting.recv(100)) not in (0, first)
    for role in ("keeper", "anchor"):
        node.wait_back(role, node.kill(role))
        assert visit()
    # Both at once: the worker itself is the last that holds the socket.
    keeper, anchor = node.kill("keeper"), node.kill("anchor")
    node.wait_back("keeper", keeper)
    node.wait_back("anchor", anchor)
    last = visit()
    wait_for(lambda: node.status(), "the new keeper")
    os.kill(last, signal.SIGKILL)
    assert visit() != last


def test_a_port_in_use_is_said_and_tried_again(node: Node) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        node.add(
            "web", SLEEP, restart={"delay_s": 0.2, "delay_max_s": 0.2},
            listen=[{"name": "web", "kind": "tcp", "host": "127.0.0.1", "port": port, "path": "", "backlog": 8}],
        )  # fmt: skip
        node.start()
        why = node.wait_state("web", "backoff")["why"]
        assert f"tcp://127.0.0.1:{port}" in why
        assert "in use" in why
    node.wait_state("web", "running")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_user_umask_directory_and_limits_reach_the_program(node: Node) -> None:
    node.add(
        "who", ["/bin/sh", "-c", "id -u; umask; pwd; ulimit -n; sleep 100000"], directory="/", umask=0o027,
        user={"uid": 65534, "gid": 65534, "groups": [], "name": "nobody"}, limits={"files": 333},
    )  # fmt: skip
    node.start()
    node.wait_state("who", "running")
    log = Path(node.state_dir, "logs", "who", "out.log")

    wait_for(lambda: log.exists() and log.read_text().count("\n") == 4, "four lines in the log")
    assert log.read_text().split() == ["65534", "0027", "/", "333"]


def test_what_fails_between_fork_and_exec_is_in_the_log(node: Node) -> None:
    node.add(
        "lost",
        SLEEP,
        directory="/no/such/place",
        umask=0,
        restart={"delay_s": 5.0, "delay_max_s": 5.0},
    )
    node.start()
    node.wait_state("lost", "backoff")
    log = Path(node.state_dir, "logs", "lost", "err.log")

    wait_for(lambda: log.exists() and log.read_text(), "words in the log")
    assert "cannot directory /no/such/place: No such file or directory" in log.read_text()


def test_down_leaves_nothing(node: Node) -> None:
    node.add("a", SLEEP)
    node.add("b", ["/bin/sh", "-c", "setsid sleep 100000 & wait"], after=["a"])
    node.start()
    node.wait_state("b", "running")

    node.ask(do="down")

    wait_for(lambda: not Path(node.run_dir).exists(), "the run directory to be gone")
    assert node.processes() == []
    os.waitpid(node.anchor_child, 0)


def test_sigterm_to_the_anchor_ends_the_node(node: Node) -> None:
    node.add("a", SLEEP)
    node.start()
    node.wait_state("a", "running")

    os.kill(node.anchor_child, signal.SIGTERM)

    _, status = os.waitpid(node.anchor_child, 0)
    assert status == 0
    assert node.processes() == []


def test_an_essential_worker_that_is_done_ends_the_node(node: Node) -> None:
    """supervisor #712: in a container, exit when an essential program is dead for good."""
    node.add("job", ["/bin/false"], restart={"policy": "never"}, essential=True)
    node.add("side", SLEEP)
    node.run_dir = launch.prepare(node.plan())
    node.anchor_child = launch.spawn_anchor(node.run_dir)

    _, status = os.waitpid(node.anchor_child, 0)
    assert os.WEXITSTATUS(status) == 1


def test_a_second_node_on_the_same_state_is_refused(node: Node) -> None:
    node.add("a", SLEEP)
    node.start()

    with pytest.raises(AlreadyRunning, match="already runs here"):
        launch.prepare(node.plan())


def test_workers_do_not_inherit_what_python_ignores(node: Node) -> None:
    """A program that never gets SIGPIPE writes into closed pipes for ever."""
    node.add("sleeps", SLEEP)
    node.start()
    pid = node.wait_state("sleeps", "running")["pid"]

    # Signals 32 and 33 belong to the C library.
    assert int(_field(pid, "SigIgn"), 16) & 0x7FFFFFFF == 0
    assert int(_field(pid, "SigBlk"), 16) == 0
    assert sorted(os.listdir(f"/proc/{pid}/fd")) == ["0", "1", "2"]
