"""stdin and stdout: what an assistant's program starts, feeds and kills."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import pytest

import holdfast
from node import SLOWNESS, Node, program, wait_for

if TYPE_CHECKING:
    from mcp_server.door import Site

META = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientCapabilities": {},
}
ROOT = str(Path(holdfast.__file__).parent.parent)
WAIT_S = 30 * SLOWNESS


class Client:
    """A program that started `holdfast mcp`."""

    def __init__(self, state_dir: str, *words: str) -> None:
        argv = [sys.executable, "-P", "-m", "holdfast", "mcp", "--state", state_dir, *words]
        env = {**os.environ, "PYTHONPATH": ROOT}
        self.process = subprocess.Popen(
            argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env
        )

    def say(self, line: bytes | dict[str, Any]) -> None:
        assert self.process.stdin
        data = line if isinstance(line, bytes) else json.dumps(line).encode()
        self.process.stdin.write(data + b"\n")
        self.process.stdin.flush()

    def hear(self) -> dict[str, Any]:
        assert self.process.stdout
        found: dict[str, Any] = json.loads(self.process.stdout.readline())
        return found

    def call(self, name: str, number: int = 1, **arguments: Any) -> None:
        params = {"_meta": META, "name": name, "arguments": arguments}
        self.say({"jsonrpc": "2.0", "id": number, "method": "tools/call", "params": params})

    def called(self, name: str, **arguments: Any) -> Any:
        self.call(name, **arguments)
        return self.hear()["result"]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()


def test_garbage_is_answered_and_the_next_message_is_heard(site: Site) -> None:
    """A client with a bug must not end the server for its other requests."""
    with Client(str(site.state)) as client:
        for line in (b"{", b"[]", b'"x"', b"\xff\xfe", b"x" * (2 << 20), b""):
            client.say(line)
        client.say({"jsonrpc": "2.0", "id": 9, "method": "ping"})

        codes = [client.hear()["error"]["code"] for _ in range(5)]
        assert codes == [-32700, -32600, -32600, -32700, -32600]
        assert client.hear() == {"jsonrpc": "2.0", "id": 9, "result": {}}


def test_it_ends_with_its_client(site: Site) -> None:
    with Client(str(site.state)) as client:
        assert client.process.stdin
        client.process.stdin.close()
        client.process.stdin = None

        assert client.process.wait(WAIT_S) == 0


@pytest.fixture
def town(node: Node, tmp_path: Path) -> Node:
    text = "import time\nprint('do as I say', flush=True)\ntime.sleep(600)\n"
    node.add("web", program(tmp_path, "web.py", text))
    deaf = "import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nprint('deaf', flush=True)\ntime.sleep(600)\n"
    node.add("stubborn", program(tmp_path, "deaf.py", deaf), stop={"grace_s": 300.0})
    node.start()
    node.wait_state("web", "running")
    log = Path(node.state_dir, "logs/stubborn/out.log")
    wait_for(lambda: log.exists() and b"deaf" in log.read_bytes(), "the stubborn one to be deaf")
    return node


def test_an_assistant_looks_acts_and_is_cancelled(town: Node) -> None:
    """One node for all of it: a node costs a second."""
    with Client(town.state_dir, "--allow-actions") as client:
        status = client.called("status")["structuredContent"]
        assert (status["node"], status["workers"], status["states"]) == ("test", 2, {"running": 2})
        wait_for(
            lambda: client.called("logs", worker="web", grep="as I")["structuredContent"]["lines"],
            "the line to be in the log",
        )

        before = town.status()["web"]["pid"]
        (order,) = client.called("restart_worker", target="web")["structuredContent"]["orders"]
        assert order["ok"]
        assert town.status()["web"]["pid"] not in (0, before)
        rows = [
            json.loads(row)
            for row in Path(town.state_dir, "dashboard/audit.jsonl").read_text().splitlines()
        ]
        assert [(row.get("what"), row.get("target"), row.get("result")) for row in rows] == [
            ("restart_worker", "web", None),
            (None, None, "done"),
        ]

        # A call that takes long does not hold up the next one, and ends when nobody wants it any more.
        client.call("stop_worker", number=5, target="stubborn")
        client.say({"jsonrpc": "2.0", "id": 6, "method": "tools/list", "params": {"_meta": META}})
        assert client.hear()["id"] == 6
        client.say(
            {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 5}}
        )
        path = Path(town.state_dir, "dashboard/audit.jsonl")
        wait_for(lambda: len(path.read_text().splitlines()) == 4, "the call to be given up")
        client.call("doctor", number=7)
        assert client.hear()["id"] == 7, "the answer to a cancelled request"


def test_who_is_killed_is_not_missed_by_the_node(town: Node) -> None:
    """Law 11: it may die at any instant without any worker noticing."""
    before = town.status()["web"]
    with Client(town.state_dir, "--allow-actions") as client:
        client.call("stop_worker", target="stubborn")
        wait_for(lambda: town.status()["stubborn"]["state"] == "stopping", "the order to arrive")
        client.process.kill()
        client.process.wait(WAIT_S)

    after = town.status()["web"]
    assert (after["pid"], after["n"], after["state"]) == (before["pid"], before["n"], "running")
