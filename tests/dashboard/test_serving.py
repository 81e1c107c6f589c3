"""The process of the dashboard: what it serves, where it fails with a sentence, and that nobody notices when it is shot."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import io
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

pytest.importorskip("uvicorn", reason="needs holdfast[dashboard]")

import holdfast
from cli.fake_node import FakeNode, planned
from dashboard.seen import ANN, break_something, leave_log, place
from holdfast.dashboard import __main__, live, serving, waiting
from holdfast.dashboard.access import keeping
from holdfast.dashboard.access.audit import Audit
from holdfast.dashboard.access.passwords import Passwords
from holdfast.dashboard.access.rules import Rules
from holdfast.dashboard.page import PAGES
from holdfast.dashboard.settings import Settings
from node import SLOWNESS, wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

    from node import Node

_CONTAINER = str(Path(holdfast.__file__).parent / "container/__main__.py")
_SOURCE = str(Path(holdfast.__file__).parents[1])
PATIENCE_S = 20.0 * SLOWNESS


class Browser:
    """Somebody who is signed in by a link."""

    def __init__(self, port: int, state_dir: str, context: ssl.SSLContext | None = None) -> None:
        self.port = port
        self.cookie = ""
        self.more: dict[str, str] = {}
        self._context = context
        token = keeping.make_link(state_dir, "operator", time.time())
        status, heads, _ = self.ask("POST", "/api/enter", {"token": token})
        assert status == 204
        self.cookie = heads["set-cookie"].partition(";")[0]

    @contextlib.contextmanager
    def open(self, method: str, path: str, body: Any = None) -> Iterator[http.client.HTTPResponse]:
        if self._context is not None:
            connection: Any = http.client.HTTPSConnection(
                "127.0.0.1", self.port, timeout=PATIENCE_S, context=self._context
            )
        else:
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_S)
        heads = {"Cookie": self.cookie, **self.more}
        data = None
        if method == "POST":
            heads |= {"Content-Type": "application/json", "X-Holdfast": "1"}
            data = body if isinstance(body, bytes) else json.dumps(body).encode()
        with contextlib.closing(connection):
            connection.request(method, path, data, heads)
            with contextlib.closing(connection.getresponse()) as answer:
                yield answer

    def ask(self, method: str, path: str, body: Any = None) -> tuple[int, dict[str, str], bytes]:
        with self.open(method, path, body) as answer:
            return (
                answer.status,
                {name.lower(): value for name, value in answer.getheaders()},
                answer.read(),
            )

    def get(self, path: str) -> Any:
        status, _, body = self.ask("GET", path)
        assert status == 200, body
        return json.loads(body)


class Served:
    """A dashboard in a thread of this process."""

    def __init__(self, node: FakeNode, made: Settings) -> None:
        self.node = node
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._loop = asyncio.new_event_loop()
        self._task: asyncio.Task[None] | None = None
        self._made = made
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        async def serve() -> None:
            self._task = asyncio.current_task()
            with contextlib.suppress(asyncio.CancelledError):
                await serving.serve_on(self._listener, place(self.node), self._made)

        self._loop.run_until_complete(serve())
        self._loop.close()

    def stop(self) -> None:
        wait_for(lambda: self._task, "the server to begin")
        assert self._task is not None
        self._loop.call_soon_threadsafe(self._task.cancel)
        self._thread.join()
        self._listener.close()

    def browser(self, context: ssl.SSLContext | None = None) -> Browser:
        return Browser(self.port, self.node.state_dir, context)


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with FakeNode(planned("web")) as node:
        node.plan["workers"][0]["log"] = {"directory": f"{node.state_dir}/logs/web"}
        node.write_plan()
        made = Served(node.up(), Settings())
        yield made
        made.stop()


@pytest.fixture
def browser(served: Served) -> Browser:
    return served.browser()


# -- what is served --------------------------------------------------------------------------------


def test_the_state_comes_over_http_and_only_to_who_is_signed_in(browser: Browser) -> None:
    assert list(browser.get("/api/state")["workers"]) == ["web"]
    browser.cookie = ""
    status, _, body = browser.ask("GET", "/api/state")

    assert status == 401
    assert b"web" not in body


def test_a_page_is_fed_live(browser: Browser, served: Served) -> None:
    """From the file of a flag to the event on an open page, through the whole of it."""
    with browser.open("GET", "/api/live") as answer:
        lines = iter(answer.readline, b"")
        first = next(json.loads(line[6:]) for line in lines if line.startswith(b"data: "))
        served.node.raise_flag("web", "missed_heartbeat", says="it does not beat")
        for line in lines:
            if line.startswith(b"data: ") and "flags" in json.loads(line[6:]).get(
                "workers", {}
            ).get("web", {}):
                told = json.loads(line[6:])
                break
        else:
            pytest.fail("the stream ended without the flag")
    os.unlink(f"{served.node.run_dir}/flags/web.missed_heartbeat")

    assert list(first["workers"]) == ["web"]
    assert told["workers"]["web"]["flags"][0]["says"] == "it does not beat"
    assert told["now"]["level"] == "trouble"


def test_a_log_is_followed_live(browser: Browser, served: Served) -> None:
    directory = leave_log(served.node, "web", ["before"])
    with browser.open("GET", "/api/workers/web/log/live") as answer:
        events = (
            json.loads(line[6:])
            for line in iter(answer.readline, b"")
            if line.startswith(b"data: ")
        )
        first = next(events)
        with Path(directory, "out.log").open("a") as file:
            file.write("now\n")
        then = next(events)

    assert [line["text"] for line in first["lines"]] == ["before"]
    assert [line["text"] for line in then["lines"]] == ["now"]


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/incidents",
        "/incidents/2026-11-01-web-1",
        "/workers/web+part1",
        "/workers/mail.2",
        "/machine",
    ],
)
def test_a_path_that_a_person_has_before_them_is_the_page(browser: Browser, path: str) -> None:
    """Somebody sends the address of an incident into a chat: it has to open."""
    status, heads, body = browser.ask("GET", path)

    assert (status, heads["content-type"]) == (200, "text/html; charset=utf-8")
    assert body.startswith(b"<!doctype html>")


def test_a_file_that_is_known_is_not_sent_again(browser: Browser) -> None:
    _, heads, _ = browser.ask("GET", "/")
    browser.more = {"If-None-Match": heads["etag"]}

    assert browser.ask("GET", "/")[0] == 304


@pytest.mark.parametrize(
    "path",
    [
        "/nothing.js",
        "/js/nothing.js",
        "/vendor/.hidden",
        "/elsewhere",
        "/__init__.py",
        "/flame/nothing.js",
    ],
)
def test_a_file_that_is_not_there_is_not_the_page(browser: Browser, path: str) -> None:
    """A module that is a page would be a riddle in somebody's console."""
    assert browser.ask("GET", path)[0] == 404


def test_what_does_not_exist_is_json_with_a_sentence(browser: Browser) -> None:
    for path, says in (
        ("/api/nothing", "nothing at"),
        ("/api/workers/nobody", "no worker"),
        ("/api/incidents/x", "no incident"),
    ):
        status, heads, body = browser.ask("GET", path)
        assert (status, heads["content-type"]) == (404, "application/json")
        assert says in json.loads(body)["error"]


@pytest.mark.parametrize("body", [b"[]", b"{", b"", b"null", b'"x"', b"\xff"])
def test_a_body_that_is_no_object_is_refused(browser: Browser, body: bytes) -> None:
    assert browser.ask("POST", "/api/orders", body)[0] == 400


def test_a_bundle_is_streamed(browser: Browser, served: Served) -> None:
    name = break_something(served.node, "2026-11-01")

    status, heads, body = browser.ask("GET", f"/api/incidents/{name}/bundle")

    assert (status, heads["content-type"], body[:2]) == (200, "application/gzip", b"\x1f\x8b")


def test_a_page_that_never_reads_holds_nobody_up(served: Served, browser: Browser) -> None:
    """A phone went into a tunnel. The others go on, and what waits for it is bounded."""
    with socket.create_connection(("127.0.0.1", browser.port)) as deaf:
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.sendall(
            f"GET /api/live HTTP/1.1\r\nHost: localhost\r\nCookie: {browser.cookie}\r\n\r\n".encode()
        )
        for number in range(20):
            served.node.workers["web"] |= {"restarts": number}
            assert list(browser.get("/api/state")["workers"]) == ["web"]


def test_who_opens_a_connection_and_says_nothing_is_shown_out(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There may be so many connections and no more: silence must not take them all."""
    monkeypatch.setattr(waiting, "HEAD_S", 0.05)
    whole = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"
    for before, said in ((b"", b""), (b"", whole[:-2]), (whole, whole[:10])):
        with socket.create_connection(("127.0.0.1", served.port), timeout=PATIENCE_S) as sock:
            sock.sendall(before)
            got = b""
            while before and b"\r\n\r\nok\n" not in got:
                got += sock.recv(4096)
            sock.sendall(said)
            with contextlib.suppress(ConnectionResetError):
                assert sock.recv(4096) == b""


def test_a_page_that_takes_its_time_is_not_shown_out(
    browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An open page is one request that lasts for hours."""
    monkeypatch.setattr(waiting, "HEAD_S", 0.02)
    monkeypatch.setattr(live, "QUIET_S", 0.1)
    with browser.open("GET", "/api/live") as answer:
        lines = iter(answer.readline, b"")
        still = next((line for line in lines if line.startswith(b":")), b"the stream ended")

    assert still == b": still here\n"


def test_the_head_of_a_stream_is_no_stream(browser: Browser) -> None:
    for path in ("/api/live", "/api/workers/web/log/live"):
        status, heads, body = browser.ask("HEAD", path)
        assert (status, body) == (200, b"")
        assert heads["content-type"].startswith("text/event-stream")


def test_the_nodes_trouble_and_our_own_mistakes_are_sentences(
    browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device", "/state/dashboard/audit.jsonl")

    def mistaken(*_: object) -> None:
        raise KeyError("oops")

    monkeypatch.setattr("holdfast.records.audit.files.append", full)
    status, _, body = browser.ask("POST", "/api/orders", {"do": "restart", "worker": "web"})
    assert (status, json.loads(body)["error"]) == (
        503,
        "/state/dashboard/audit.jsonl: No space left on device",
    )

    monkeypatch.setattr("holdfast.dashboard.api.workers.planned.entry", mistaken)
    status, _, body = browser.ask("GET", "/api/workers/web")
    assert (status, "mistake of the dashboard" in json.loads(body)["error"]) == (500, True)


def test_the_flame_graph_may_do_what_it_needs_and_nothing_outside(browser: Browser) -> None:
    if not os.path.exists(f"{PAGES}/vendor/flame/index.html"):
        pytest.skip("script/frontend has not fetched speedscope here")
    _, heads, _ = browser.ask("GET", "/flame/")

    policy = heads["content-security-policy"]
    assert "connect-src 'self'" in policy
    assert "default-src 'none'" in policy
    assert "http:" not in policy


# -- how it fails ----------------------------------------------------------------------------------


def test_a_missing_extra_is_one_clear_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    with socket.create_server(("127.0.0.1", 0)) as listener, FakeNode(planned("web")) as node, pytest.raises(serving.Missing) as caught:  # fmt: skip
        asyncio.run(serving.serve_on(listener, place(node), Settings()))

    assert "pip install 'holdfast[dashboard]'" in str(caught.value)


def test_tls_is_served_and_a_renewed_certificate_is_taken_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Certificates last 90 days, pages stay open longer: no restart for a new one."""
    pytest.importorskip("cryptography")
    from router.peers import tls_files

    monkeypatch.setattr(serving, "_RENEW_S", 0.02)
    certificate, key = tls_files(tmp_path)
    made = Settings(Rules(is_tls=True), certificate_file=certificate, key_file=key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE

    def shown(port: int) -> bytes:
        with (
            socket.create_connection(("127.0.0.1", port)) as plain,
            context.wrap_socket(plain) as sock,
        ):
            return sock.getpeercert(binary_form=True) or b""

    with FakeNode(planned("web")) as node:
        served = Served(node.up(), made)
        try:
            browser = served.browser(context)
            assert browser.cookie.startswith("__Host-")
            assert list(browser.get("/api/state")["workers"]) == ["web"]
            before = shown(served.port)
            tls_files(tmp_path)
            wait_for(lambda: shown(served.port) != before, "the new certificate")
        finally:
            served.stop()


# -- real processes --------------------------------------------------------------------------------


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return int(sock.getsockname()[1])


@pytest.mark.faults
def test_shot_in_the_middle_it_is_missed_by_nobody_and_signs_nobody_out(node: Node) -> None:
    """Law 11: it may die at any instant. Whoever asks meanwhile waits in the backlog, and is answered by the next life."""
    port = free_port()
    node.add("bystander", ["/bin/sleep", "100000"])
    node.add(
        "dashboard", [sys.executable, "-P", "-X", "faulthandler", _CONTAINER], kind="container", faulthandler=True, crash_only=True,
        ready={"kind": "pulse", "target": "", "argv": [], "timeout_s": 30.0 * SLOWNESS},
        listen=[{"name": "dashboard", "kind": "tcp", "host": "127.0.0.1", "port": port, "path": "", "backlog": 128}],
        components=[{"name": "dashboard", "use": "holdfast.dashboard:app", "settings": {"listen": f"127.0.0.1:{port}"}, "bus": None}],
    )  # fmt: skip
    node.start()
    browser = Browser(port, node.state_dir)
    before = wait_for(
        lambda: (found := browser.get("/api/state"))["workers"]["bystander"]["pid"] and found,
        "the bystander",
    )

    os.kill(node.status()["dashboard"]["pid"], signal.SIGKILL)
    after = browser.get("/api/state")

    assert after["workers"]["bystander"]["pid"] == before["workers"]["bystander"]["pid"]
    assert after["workers"]["dashboard"]["pid"] != before["workers"]["dashboard"]["pid"]
    assert {record["worker"] for record in node.journal("exit")} == {"dashboard"}


@pytest.mark.faults
def test_what_a_dead_node_left_is_read_in_the_foreground() -> None:
    """The machine came back without its node: what happened is on the disk, and somebody wants to see it."""
    with FakeNode(planned("web")) as node:
        name = break_something(node, "2026-11-01", verdict="gave_up")
        command = [
            sys.executable,
            "-m",
            "holdfast",
            "--state",
            node.state_dir,
            "dashboard",
            "serve",
            "--listen",
            "127.0.0.1:0",
            "--json",
        ]
        with subprocess.Popen(
            command, env={**node.env, "PYTHONPATH": _SOURCE}, stdout=subprocess.PIPE, text=True
        ) as process:
            try:
                assert process.stdout is not None
                url = json.loads(process.stdout.readline())["url"]
                browser = Browser(int(url.partition("/#")[0].rpartition(":")[2]), node.state_dir)
                found = browser.get("/api/state")
                status, _, body = browser.ask("GET", f"/api/incidents/{name}/text")
            finally:
                process.send_signal(signal.SIGINT)
            assert process.wait(PATIENCE_S) == 130

    assert found["now"]["level"] == "lost"
    assert [one["id"] for one in found["incidents"]] == [name]
    assert (status, body[:12]) == (200, b'worker "web"')


# -- the command line ------------------------------------------------------------------------------


def typed(
    capsys: pytest.CaptureFixture[str], node: FakeNode, verb: str, **more: Any
) -> tuple[int, str, str]:
    """Do what `holdfast dashboard VERB` becomes; return status, stdout, stderr."""
    what = {
        "state_dir": node.state_dir,
        "config": node.config,
        "json": False,
        "open": False,
        "reader": False,
        "listen": None,
        "lines": 50,
    }
    status = __main__.main([verb, json.dumps(what | more)])
    said = capsys.readouterr()
    return status, said.out, said.err


def test_who_has_no_dashboard_is_told_how_to_get_one(capsys: pytest.CaptureFixture[str]) -> None:
    with FakeNode(planned("web")) as node:
        status, out, said = typed(capsys, node, "link")

    assert (status, out) == (1, "")
    assert "has no dashboard" in said
    assert "holdfast dashboard serve" in said


@pytest.mark.parametrize("is_reader", [True, False])
def test_a_link_leads_to_the_dashboard_of_the_plan_and_signs_in_with_its_role(
    capsys: pytest.CaptureFixture[str], is_reader: bool
) -> None:
    use = {
        "name": "dashboard",
        "use": "holdfast.dashboard:app",
        "settings": {"listen": "[::1]:8760", "certificate_file": "/x"},
    }
    with FakeNode(planned("dashboard", kind="container", components=[use])) as node:
        status, out, said = typed(capsys, node, "link", reader=is_reader)
        url, _, token = out.strip().partition("/#token=")
        kept = keeping.take_link(node.state_dir, token, time.time())

    assert (status, url) == (0, "https://[::1]:8760")
    assert kept is not None
    assert kept["role"] == ("reader" if is_reader else "operator")
    assert "the dashboard does not run at the moment" in said


def test_links_that_are_switched_off_are_not_made(capsys: pytest.CaptureFixture[str]) -> None:
    use = {"name": "dashboard", "use": "holdfast.dashboard:app", "settings": {"links": False}}
    with FakeNode(planned("dashboard", kind="container", components=[use])) as node:
        status, out, said = typed(capsys, node, "link")

    assert (status, out) == (1, "")
    assert "links are switched off" in said


@pytest.mark.parametrize(("listen", "says"), [("0.0.0.0:0", "others reach it"), ("192.0.2.1:80", "others reach it"), ("x:y", "is no address")])  # fmt: skip
def test_in_the_foreground_it_is_for_this_machine_only(
    capsys: pytest.CaptureFixture[str], listen: str, says: str
) -> None:
    with FakeNode(planned("web")) as node:
        status, _, said = typed(capsys, node, "serve", listen=listen)

    assert status == 2
    assert says in said


def test_a_port_that_is_taken_is_told_with_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    with FakeNode(planned("web")) as node, socket.create_server(("127.0.0.1", 0)) as taken:
        status, _, said = typed(capsys, node, "serve", listen=str(taken.getsockname()[1]))

    assert status == 1
    assert "Address already in use" in said


def test_a_password_becomes_a_hash_that_lets_in(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("argon2")
    with FakeNode(planned("web")) as node:
        monkeypatch.setattr("sys.stdin", io.StringIO("correct horse\n"))
        status, out, _ = typed(capsys, node, "password")
        monkeypatch.setattr("sys.stdin", io.StringIO("short\n"))
        refused, nothing, _ = typed(capsys, node, "password")

    assert status == 0
    assert asyncio.run(Passwords().is_right(out.strip(), "correct horse"))
    assert (refused, nothing) == (2, "")


def test_the_audit_is_told_and_does_nothing_to_a_terminal(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with FakeNode(planned("web")) as node:
        empty = typed(capsys, node, "audit")
        book = Audit(node.state_dir)
        book.done(book.note(ANN, "restart", "web\x1b[31m"), "done: web: restarted")
        status, out, _ = typed(capsys, node, "audit")

    assert empty[:2] == (0, "nobody has signed in yet\n")
    assert status == 0
    assert "ann (127.0.0.1)" in out
    assert "restart web [31m: done: web: restarted" in out
