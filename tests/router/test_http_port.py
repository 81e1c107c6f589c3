"""HTTP at a router's port: how many connections, over TLS, and the cookie that comes with a page."""

from __future__ import annotations

import http.client
import socket
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from holdfast.router import alone
from router.peers import DEADLINE_S, HELLO, ROLES, WELCOME, tls_files, trusting, wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from holdfast.model.bus import RouterPlan, TransportPlan
    from router.peers import Running

CHALLENGE, AUTHENTICATE = 4, 5
_PAGE = b"<!doctype html><title>board</title>"


def _site(tmp_path: Path, **changes: Any) -> TransportPlan:
    """A port with a page, a slow upload and WAMP."""
    web = tmp_path / "web"
    web.mkdir()
    (web / "index.html").write_bytes(_PAGE)
    (web / "style.css").write_text("p {}")
    plan = alone.transport("t0", **changes)
    plan["paths"] = {
        "/": {"kind": "static", "options": {"directory": str(web)}, "websocket": None},
        "info": {"kind": "nodeinfo", "options": {}, "websocket": None},
    }
    return plan


class Browser:
    """An HTTP client that keeps its connection."""

    def __init__(self, running: Running, secure: Any = None) -> None:
        self.http = http.client.HTTPConnection("localhost")
        self.sock = running.connect()
        if secure:
            self.sock = running.keep(secure(self.sock))
        self.http.sock = self.sock

    def get(self, path: str, **headers: str) -> tuple[int, bytes, http.client.HTTPMessage]:
        self.http.request("GET", path, headers=headers)
        answer = self.http.getresponse()
        return answer.status, answer.read(), answer.headers

    def is_closed(self) -> bool:
        try:
            return bool(self.http.sock.recv(1) == b"")
        except ConnectionResetError:
            return True


def _at_most(count: int) -> Any:
    def change(plan: RouterPlan) -> None:
        plan["limits"]["connections_http"] = count

    return change


# -- how many ----------------------------------------------------------------------------------------


def test_an_idle_connection_makes_room_for_a_new_one_the_oldest_first(running: Running, tmp_path: Path) -> None:  # fmt: skip
    """Browsers keep half a dozen connections open each that they do not need."""
    running.start(_site(tmp_path), change=_at_most(3))
    first, second, third = (Browser(running) for _ in range(3))
    for browser in (second, first, third, second):
        assert browser.get("/")[0] == 200

    fourth = Browser(running)
    assert fourth.get("/")[0] == 200

    assert first.is_closed()
    for browser in (second, third, fourth):
        assert browser.get("/")[0] == 200


def test_where_all_are_busy_the_new_one_is_told_so(running: Running, tmp_path: Path) -> None:
    """Who is being served is not sent away for somebody else."""
    running.start(_site(tmp_path), change=_at_most(2))
    busy = [running.connect() for _ in range(2)]
    for sock in busy:
        sock.sendall(b"GET / HTTP/1.1\r\nHost: lo")
    wait_until(lambda: sum(len(port.http) for port in running.router.ports) == 2, "both to be there")  # fmt: skip

    browser = Browser(running)
    status, body, headers = browser.get("/")
    browser.sock.close()

    assert (status, headers["Retry-After"], headers["Connection"]) == (503, "1", "close")
    assert b"2 HTTP connections" in body
    for sock in busy:
        sock.sendall(b"calhost\r\nConnection: close\r\n\r\n")
        with sock.makefile("rb") as answer:
            assert _PAGE in answer.read()
    wait_until(lambda: not any(port.http for port in running.router.ports), "both to be forgotten")
    assert Browser(running).get("/")[0] == 200


def test_websockets_are_no_http_connections(running: Running, tmp_path: Path) -> None:
    """Also where the upgrade comes in two pieces, so that it looks like a page at first."""
    running.start(_site(tmp_path), change=_at_most(1))
    for _ in range(3):
        assert running.join("websocket").is_served()
    pieces = running.connect()
    pieces.sendall(b"GET /ws HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n")  # fmt: skip
    wait_until(lambda: any(port.http for port in running.router.ports), "the first half")

    pieces.sendall(b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: wamp.2.json\r\n\r\n")  # fmt: skip
    assert pieces.recv(4096).startswith(b"HTTP/1.1 ")

    wait_until(lambda: not any(port.http for port in running.router.ports), "it to be no page")
    assert Browser(running).get("/info")[0] == 200


def test_a_flood_of_pages_leaves_wamp_alone(running: Running, tmp_path: Path) -> None:
    running.start(_site(tmp_path), change=_at_most(10))
    peer = running.join()
    opened = [running.connect() for _ in range(60)]
    for sock in opened:
        sock.sendall(b"GET / HTTP/1.1\r\n")

    assert peer.is_served()
    assert running.join("websocket").is_served()
    wait_until(lambda: sum(len(port.http) for port in running.router.ports) <= 10, "the rest to be turned away")  # fmt: skip


# -- the cookie --------------------------------------------------------------------------------------


def _auth(path: str | None) -> dict[str, Any]:
    return {
        "anonymous": {"type": "static", "role": "anonymous"},
        "ticket": {
            "type": "static",
            "principals": {"joe": {"ticket": "open sesame", "role": "anonymous"}},
        },
        "cookie": {"name": "shop", "length": 24, "max_age_s": 3600, "path": path},
    }


def test_a_page_brings_the_cookie_that_its_websocket_signs_in_with(running: Running, tmp_path: Path) -> None:  # fmt: skip
    """Else the first visit opens a WebSocket whose cookie some browsers drop, and everybody signs in twice."""
    running.start(_site(tmp_path, auth=_auth(str(tmp_path / "cookies"))))
    browser = Browser(running)

    status, body, headers = browser.get("/")
    assert (status, body) == (200, _PAGE)
    assert headers["Cache-Control"].startswith("private")
    cookie = headers["Set-Cookie"].partition(";")[0]
    assert cookie.startswith("shop=")
    assert "HttpOnly" in headers["Set-Cookie"]
    assert "Secure" not in headers["Set-Cookie"]
    assert browser.get("/", Cookie=cookie)[2]["Set-Cookie"] is None
    assert browser.get("/style.css")[2]["Set-Cookie"] is None

    first = running.peer("websocket", headers=(f"Cookie: {cookie}",))
    assert "set-cookie" not in first.head.lower()  # type: ignore[attr-defined]
    first.send(
        HELLO, "realm1", {"roles": ROLES, "authmethods": ["cookie", "ticket"], "authid": "joe"}
    )
    first.expect(CHALLENGE)
    first.send(AUTHENTICATE, "open sesame", {})
    first.expect(WELCOME)
    again = running.peer("websocket", headers=(f"Cookie: {cookie}",))
    again.send(HELLO, "realm1", {"roles": ROLES, "authmethods": ["cookie"]})
    assert again.expect(WELCOME)[2]["authid"] == "joe"


def test_without_cookie_sign_in_pages_bring_none(running: Running, tmp_path: Path) -> None:
    running.start(_site(tmp_path))
    assert Browser(running).get("/")[2]["Set-Cookie"] is None


# -- TLS ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("parts", [1, 7])
def test_pages_and_wamp_share_a_tls_port(running: Running, tmp_path: Path, parts: int) -> None:
    certificate, key = tls_files(tmp_path)
    plan = _site(tmp_path, auth=_auth(str(tmp_path / "cookies")))
    big = b"x" * 3_000_000
    (tmp_path / "web/big.bin").write_bytes(big)
    plan["endpoint"]["tls"] = {
        "certificate": certificate, "key": key, "chain": [], "ca": [], "require_client": False, "ciphers": None,
    }  # fmt: skip
    running.start(plan)

    def secure(sock: socket.socket) -> Any:
        return trusting(certificate).wrap_socket(sock, server_hostname="localhost")

    browser = Browser(running, secure)
    for _ in range(parts):
        assert browser.get("/big.bin")[:2] == (200, big)
    headers = browser.get("/")[2]
    assert "Secure" in headers["Set-Cookie"]
    assert running.join("websocket", sock=secure(running.connect())).is_served()
    assert running.join("rawsocket", "cbor", sock=secure(running.connect())).is_served()
    assert sum(len(port.http) for port in running.router.ports) == 1

    with closing(running.connect()) as plain:
        plain.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        plain.settimeout(DEADLINE_S)
        assert b"200 OK" not in plain.recv(4096)
    wait_until(lambda: any("TLS handshake failed" in line for line in running.log.lines), "the complaint")  # fmt: skip
    assert browser.get("/")[0] == 200


def test_frozen_subscribers_over_tls_count_together_too(running: Running, tmp_path: Path) -> None:
    """TLS keeps its backlog where only the sweep sees it: four times a second is soon enough."""
    certificate, key = tls_files(tmp_path)
    plan = alone.transport("t0", queue_bytes=256 << 20)
    plan["endpoint"]["tls"] = {
        "certificate": certificate, "key": key, "chain": [], "ca": [], "require_client": False, "ciphers": None,
    }  # fmt: skip

    def change(plan: RouterPlan) -> None:
        plan["limits"]["queue_bytes_total"] = 2 << 20

    running.start(plan, change=change)
    frozen = []
    for _ in range(3):
        secure = trusting(certificate).wrap_socket(running.connect(), server_hostname="localhost")
        frozen.append(running.join(sock=secure))
        frozen[-1].subscribe("com.t")
    secure = trusting(certificate).wrap_socket(running.connect(), server_hostname="localhost")
    speaker = running.join(sock=secure)

    for n in range(1000):
        speaker.publish("com.t", n, "x" * 10_000)
    assert speaker.is_served()

    wait_until(lambda: len(running.router.sessions) < 4, "a cut-off")
    assert any("queue_bytes_total=2097152" in line for line in running.log.lines)
    assert speaker.is_served()
