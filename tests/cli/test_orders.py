"""start, stop, restart and down: the exit status says what was seen, not what was hoped for."""

import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from cli.fake_node import SLOWNESS, FakeNode, planned, worker
from holdfast.cli import commands, down, place
from holdfast.cli.main import main
from holdfast.linux import procfs
from holdfast.wire import layout


def becomes(node: FakeNode, name: str, *states: dict[str, Any]) -> Any:
    """Return an answer to an order, after which each look at the worker finds the next of these states."""
    left = [worker(name, **state) for state in states]

    def status(_: dict[str, Any]) -> dict[str, Any]:
        if len(left) > 1:
            node.workers[name] = left.pop(0)
        elif left:
            node.workers[name] = left[0]
        return {"pid": 1, "digest": node.plan["digest"], "workers": list(node.workers.values())}

    def accept(_: dict[str, Any]) -> dict[str, Any]:
        node.on["status"] = status
        return {}

    return accept


def test_a_restart_is_done_when_a_new_life_serves(capsys: pytest.CaptureFixture[str]) -> None:
    with FakeNode(planned("web")) as node:
        node.up()
        node.on["restart"] = becomes(
            node,
            "web",
            {"state": "stopping"},
            {"state": "starting", "n": 2, "ready": False},
            {"n": 2, "pid": 5},
        )
        assert main(["restart", "--state", node.state_dir, "web"]) == 0

    assert {"do": "restart", "worker": "web", "by": "user"} in node.requests
    out, err = capsys.readouterr()
    assert out.startswith("web: restarted (running, pid 5, ")
    assert err == "web: stopping …\nweb: starting …\n"


def test_a_restart_that_ends_in_backoff_has_failed_and_says_why(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with FakeNode(planned("web")) as node:
        node.up()
        node.on["restart"] = becomes(
            node, "web", {"state": "backoff", "n": 2, "pid": None, "why": "exit status 1"}
        )
        assert main(["restart", "--state", node.state_dir, "web"]) == 1

    err = capsys.readouterr().err
    assert "web: not restarted: it is backoff: exit status 1" in err
    assert "holdfast logs --worker web" in err


def test_waiting_has_an_end(capsys: pytest.CaptureFixture[str]) -> None:
    with FakeNode(planned("web")) as node:
        node.up()
        node.on["start"] = becomes(node, "web", {"state": "starting", "ready": False})
        assert main(["start", "--state", node.state_dir, "web", "--timeout", "0.3s"]) == 1

    assert "web: not started: it is starting after 0.3 s" in capsys.readouterr().err


def test_an_old_failure_does_not_end_the_wait_for_a_start() -> None:
    """The first look may come before the keeper has begun: what is there then was there before the order."""
    with FakeNode(planned("web")) as node:
        node.up()
        node.workers["web"] = worker("web", state="backoff", ready=False, pid=None, n=3)
        node.on["start"] = becomes(
            node,
            "web",
            {"state": "backoff", "pid": None, "n": 3, "ready": False},
            {"state": "starting", "n": 4},
            {"n": 4},
        )
        assert main(["start", "--state", node.state_dir, "web"]) == 0


def test_a_stop_is_done_when_no_process_is_left(capsys: pytest.CaptureFixture[str]) -> None:
    with FakeNode(planned("web")) as node:
        node.up()
        node.on["stop"] = becomes(
            node, "web", {"state": "stopping"}, {"state": "down", "pid": None, "ready": False}
        )
        assert main(["stop", "--state", node.state_dir, "web"]) == 0

    assert capsys.readouterr().out.startswith("web: stopped (down, ")


def test_a_refusal_is_told_in_the_keepers_words(capsys: pytest.CaptureFixture[str]) -> None:
    with FakeNode(planned("web")) as node:
        node.up()
        node.on["start"] = lambda _: {"ok": False, "error": "the node is going down"}
        assert main(["start", "--state", node.state_dir, "web"]) == 1

    assert capsys.readouterr().err == "the node is going down\n"


def test_an_unknown_worker_stops_all_orders_before_the_first(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with FakeNode(planned("web")) as node:
        node.up()
        assert main(["stop", "--state", node.state_dir, "web", "wep"]) == 2

    assert capsys.readouterr().err == 'there is no worker "wep"\n  Did you mean "web"?\n'
    assert node.requests == []


def test_orders_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    with FakeNode(planned("web")) as node:
        node.up()
        assert main(["start", "--state", node.state_dir, "web", "--json"]) == 0

    out, err = capsys.readouterr()
    (order,) = json.loads(out)["orders"]
    assert list(order) == ["do", "worker", "component", "ok", "state", "pid", "says"]
    assert (order["do"], order["worker"], order["ok"], order["state"]) == (
        "start",
        "web",
        True,
        "running",
    )
    assert err == ""


def test_a_component_is_its_containers_business(capsys: pytest.CaptureFixture[str]) -> None:
    asked: list[dict[str, Any]] = []

    def container(request: dict[str, Any]) -> dict[str, Any]:
        asked.append(request)
        return (
            {"ok": True}
            if request["component"] == "board"
            else {"ok": False, "error": "it does not stop"}
        )

    plan = planned(
        "backend", kind="container", components=[{"name": "board"}, {"name": "presence"}]
    )
    with FakeNode(plan) as node:
        node.up()
        assert (
            main(["restart", "--state", node.state_dir, "backend/board"]) == 1
        )  # not running: no socket
        node.serve(f"{node.run_dir}/{layout.CONTROL}/backend.sock", container)
        assert main(["restart", "--state", node.state_dir, "backend/board"]) == 0
        assert main(["stop", "--state", node.state_dir, "backend/presence"]) == 1
        assert main(["stop", "--state", node.state_dir, "backend/bord"]) == 2

    assert asked == [
        {"do": "restart", "component": "board"},
        {"do": "stop", "component": "presence"},
    ]
    out, err = capsys.readouterr()
    assert out == "backend/board: restarted\n"
    assert "does not take orders for its components" in err
    assert "backend/presence: it does not stop" in err
    assert 'Did you mean "board"?' in err


def test_orders_to_a_node_that_does_not_run_are_status_3() -> None:
    with FakeNode(planned("web")) as node:
        for command in (["start", "web"], ["stop", "web"], ["restart", "web"], ["down"]):
            assert main([*command, "--state", node.state_dir]) == 3


def test_down_returns_when_the_house_is_gone(capsys: pytest.CaptureFixture[str]) -> None:
    with FakeNode(planned("web"), planned("mail")) as node:
        node.up()

        def end(_: dict[str, Any]) -> dict[str, Any]:
            threading.Timer(0.3, node.release).start()
            return {}

        node.on["down"] = end
        assert main(["down", "--state", node.state_dir]) == 0

    out, err = capsys.readouterr()
    assert out.startswith("down: 2 workers, 0.")
    assert "stopping: web, mail" in err


def test_a_house_that_stays_is_told_with_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    with FakeNode(planned("web")) as node:
        node.up()
        assert main(["down", "--state", node.state_dir, "--timeout", "0.2s"]) == 1

    err = capsys.readouterr().err
    assert "the node is still there: web" in err
    assert "holdfast down --kill" in err


HOUSE = """
import os, sys, time
sys.path.insert(0, sys.argv[1])
from holdfast.linux import locks
held = [locks.take(path) for path in sys.argv[2:]]
print("ready", flush=True)
time.sleep(600)
"""


def start_house(*paths: str) -> "subprocess.Popen[str]":
    source = str(Path(commands.__file__).parents[2])
    child = subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", HOUSE, source, *paths], stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "ready\n"
    child.stdout.close()
    return child


def test_down_kill_needs_nobodys_answer() -> None:
    """A house whose keeper hangs, and a worker with a grandchild in a session of its own: all of it is gone after."""
    with FakeNode(planned("web")) as node:
        house = [start_house(f"{node.run_dir}/{layout.lock(role)}") for role in layout.ROLES]
        house[0].send_signal(19)  # stopped processes die, too
        marked = {**os.environ, "HOLDFAST_RUN": node.run_dir}
        web = subprocess.Popen(["sleep", "600"], env=marked, start_new_session=True)
        stranger = subprocess.Popen(
            ["sleep", "600"], env={**marked, "HOLDFAST_RUN": "/another/node"}
        )
        ended: list[subprocess.Popen[Any]] = [*house, web]
        try:
            assert place.node_pid(place.Place(node.state_dir, "")) != 0
            down.kill(place.Place(node.state_dir, ""))
            statuses = [process.wait(20 * SLOWNESS) for process in ended]
            assert place.node_pid(place.Place(node.state_dir, "")) == 0
            assert stranger.poll() is None
        finally:
            for process in [*ended, stranger]:
                process.kill()
                process.wait()

    assert statuses == [-9] * 5


def test_a_process_that_took_over_a_pid_is_not_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between asking who holds the lock and the kill its holder may have died: it is asked again with a pidfd in hand."""
    bystander = subprocess.Popen(["sleep", "600"])
    answers = iter([bystander.pid, 0] * len(layout.ROLES))
    monkeypatch.setattr("holdfast.linux.locks.holder", lambda _: next(answers))
    try:
        with FakeNode() as node:
            down.kill(place.Place(node.state_dir, ""))
        assert procfs.start_ticks(bystander.pid)
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()
