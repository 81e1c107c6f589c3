"""The router as a worker of a real node: the keeper's sockets, another plan by rename, SIGKILL, micro-reboot."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import holdfast
from holdfast.linux.files import write_atomic
from holdfast.linux.listen import listen
from holdfast.router import alone
from node import wait_for
from router.peers import ABORT, DEADLINE_S, HELLO, ROLES, RawSocketPeer, WebSocketPeer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from node import Node

_CONTAINER = str(Path(holdfast.__file__).parent / "container/__main__.py")


def test_two_sockets_of_one_address_only_where_both_are_shared() -> None:
    """The keeper opens one for each router: what one of them has not taken when it dies waits for its next life."""
    wanted: Any = {"name": "t0", "kind": "tcp", "host": "127.0.0.1", "port": 0, "path": "", "backlog": 8, "shared": True}  # fmt: skip
    with socket.socket(fileno=listen(wanted)) as one:
        wanted["port"] = one.getsockname()[1]
        with socket.socket(fileno=listen(wanted)) as other:
            assert other.getsockname() == one.getsockname()
            del wanted["shared"]
            with pytest.raises(OSError, match=r"in use"):
                listen(wanted)


class Hosted:
    """A node with a router on one TCP port."""

    def __init__(self, node: Node) -> None:
        self.node = node
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        listener = {
            "name": "t0", "kind": "tcp", "host": "127.0.0.1", "port": self.port, "path": "", "backlog": 512,
        }  # fmt: skip
        node.add(
            "bus", [sys.executable, "-P", "-X", "faulthandler", _CONTAINER], kind="container", faulthandler=True,
            listen=[listener], router=alone.open_plan([alone.transport("t0")]),
            components=[{"name": "router", "use": "holdfast.router:app", "settings": {}}],
            ready={"kind": "pulse", "target": "", "argv": [], "timeout_s": 20.0},
        )  # fmt: skip
        node.start()
        self.opened: list[socket.socket] = []

    def connect(self) -> socket.socket:
        sock = socket.create_connection(("127.0.0.1", self.port), DEADLINE_S)
        self.opened.append(sock)
        return sock

    def join(self) -> RawSocketPeer:
        peer = RawSocketPeer(self.connect(), "json")
        peer.join()
        return peer

    def change(self, change: Any) -> None:
        plan = self.node.plan()
        change(plan["workers"][0]["router"])
        write_atomic(f"{self.node.run_dir}/plan.json", json.dumps(plan).encode())

    def log(self) -> str:
        directory = Path(self.node.state_dir, "logs/bus")
        return "".join(path.read_text() for path in directory.glob("*.log"))

    def ask(self, **request: Any) -> dict[str, Any]:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(DEADLINE_S)
            sock.connect(f"{self.node.run_dir}/ctl/bus.sock")
            sock.sendall(json.dumps(request).encode() + b"\n")
            answer: dict[str, Any] = json.loads(sock.makefile().readline())
            return answer


@pytest.fixture
def hosted(node: Node) -> Iterator[Hosted]:
    made = Hosted(node)
    yield made
    for sock in made.opened:
        sock.close()


def test_clients_wait_in_the_backlog_while_a_killed_router_comes_back(hosted: Hosted) -> None:
    """Nobody is refused: the socket is the keeper's."""
    assert hosted.join().is_served()
    pid = hosted.node.status()["bus"]["pid"]
    peer = hosted.join()

    os.kill(pid, signal.SIGKILL)
    began_s = time.monotonic()
    again = hosted.join()

    assert again.is_served()
    assert time.monotonic() - began_s < DEADLINE_S
    assert peer.drain() == b""
    assert hosted.node.status()["bus"]["pid"] != pid


def test_another_plan_is_taken_over_by_its_inode(hosted: Hosted) -> None:
    """`apply` does not restart a router: sessions live on, and what is withdrawn ends."""
    peer = hosted.join()
    peer.subscribe("com.t")
    pid = hosted.node.status()["bus"]["pid"]

    def change(plan: Any) -> None:
        plan["realms"][0]["roles"][0]["permissions"][0]["allow"] = ["call"]

    hosted.change(change)

    wait_for(lambda: "ended: 1 subscriptions" in hosted.log(), "the change in the log")
    assert peer.is_served()
    assert peer.request(32, 8, {}, "com.t")[4] == "wamp.error.not_authorized"
    assert hosted.node.status()["bus"]["pid"] == pid


def test_a_broken_plan_is_told_and_the_one_before_goes_on(hosted: Hosted) -> None:
    assert hosted.join().is_served()

    write_atomic(f"{hosted.node.run_dir}/plan.json", b'{"workers": [')

    wait_for(lambda: "the new plan cannot be read" in hosted.log(), "the complaint")
    assert hosted.join().is_served()


def test_the_router_can_be_restarted_within_its_process(hosted: Hosted) -> None:
    """Crossbar's router components live in the same process and keep running."""
    peer = hosted.join()
    pid = hosted.node.status()["bus"]["pid"]

    answer = hosted.ask(do="restart", component="router")

    assert answer["ok"], answer
    assert peer.drain() == b""
    web = WebSocketPeer(hosted.connect(), "msgpack")
    web.join()
    assert web.is_served()
    assert hosted.node.status()["bus"]["pid"] == pid


def test_a_plan_without_a_socket_is_a_clear_refusal(node: Node) -> None:
    plan = alone.open_plan([alone.transport("t5")])
    node.add(
        "bus", [sys.executable, "-P", "-X", "faulthandler", _CONTAINER], kind="container", router=plan,
        components=[{"name": "router", "use": "holdfast.router:app", "settings": {}}],
        restart={"policy": "never"},
    )  # fmt: skip
    node.start()

    wait_for(lambda: node.journal("exit"), "its end")
    assert os.waitstatus_to_exitcode(node.journal("exit")[0]["status"]) == 78
    log = "".join(p.read_text() for p in Path(node.state_dir, "logs/bus").glob("*.log"))
    assert 'has no listening socket \\"t5\\"' in log
    assert "Traceback" not in log


def test_a_session_refused_in_the_new_life_is_refused_as_in_the_old(hosted: Hosted) -> None:
    """Nothing of what may be done hangs on the memory of a process."""
    hosted.join().close()
    hosted.change(lambda plan: plan["limits"].update(sessions=1))
    wait_for(lambda: "limits have changed" in hosted.log(), "the change in the log")
    os.kill(hosted.node.status()["bus"]["pid"], signal.SIGKILL)
    first = hosted.join()
    second = RawSocketPeer(hosted.connect(), "json")

    second.send(HELLO, "realm1", {"roles": ROLES})

    assert second.expect(ABORT)[2] == "wamp.error.unavailable"
    assert first.is_served()


def test_the_routers_worker_tells_what_goes_over_it(hosted: Hosted) -> None:
    """Issue 6: the page of the bus shows rates and who calls whom; they begin at nothing with each life of the router."""
    callee, caller = hosted.join(), hosted.join()
    callee.register("com.p")
    callee.subscribe("com.t")
    for _ in range(3):
        caller.call("com.p")
        callee.expect(68)
    caller.publish("com.t")
    callee.expect(36)

    before = hosted.ask(do="traffic")
    figures = hosted.ask(do="metrics")["metrics"]["router"]
    assert hosted.ask(do="restart", component="router")["ok"]
    after = hosted.ask(do="traffic")

    assert before["ok"], before
    realm = before["traffic"]["realms"]["realm1"]
    assert (realm["calls"], realm["published"], realm["events"], realm["sessions"]) == (3, 1, 1, 2)
    assert figures["bus"]["realm1"] == {name: realm[name] for name in figures["bus"]["realm1"]}
    assert realm["registrations"] == [["com.p", "exact", 3]]
    assert realm["subscriptions"] == [["com.t", "exact", 1]]
    ((by, to, *what),) = realm["pairs"]
    assert what == ["com.p", "exact", 3]
    assert {by, to} == {session for session, *_ in realm["by_session"]}
    assert after["traffic"]["began_s"] > before["traffic"]["began_s"]
    assert after["traffic"]["realms"]["realm1"]["pairs"] == []
    assert "traffic" in hosted.ask(do="nonsense")["error"]
