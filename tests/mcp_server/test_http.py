"""The port: a stranger gets no data and no action, a friend gets both."""

from __future__ import annotations

import http.client
import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import holdfast
from holdfast.cli import mcp_http
from holdfast.model.errors import StateError, UsageError
from mcp_server.door import Door
from node import SLOWNESS

if TYPE_CHECKING:
    from mcp_server.door import Site

ROOT = str(Path(holdfast.__file__).parent.parent)
META = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientCapabilities": {},
}
LIST = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {"_meta": META}}


def call(name: str, **arguments: Any) -> dict[str, Any]:
    return {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "tools/call",
        "params": {"_meta": META, "name": name, "arguments": arguments},
    }


def test_who_has_the_token_is_answered(door: Door) -> None:
    status, body = door.knock(call("incident"))

    assert status == 200
    assert body["result"]["structuredContent"]["id"] == "2026-01-02-web-1"


def test_a_client_of_an_earlier_revision_is_answered_without_a_session(door: Door) -> None:
    greeting = {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "initialize",
        "params": {"protocolVersion": "2025-06-18", "capabilities": {}},
    }
    old: dict[str, Any] = {"Mcp_Protocol_Version": "2025-06-18", "Mcp_Method": None}

    status, body = door.knock(greeting, Mcp_Protocol_Version=None, Mcp_Method=None)
    assert (status, body["result"]["protocolVersion"]) == (200, "2025-06-18")
    assert door.knock({"jsonrpc": "2.0", "method": "notifications/initialized"}, **old) == (202, {})
    assert door.knock({"jsonrpc": "2.0", "id": 2, "method": "tools/list"}, **old)[0] == 200


HOSTILE: dict[str, tuple[dict[str, Any], int]] = {
    "no token": ({"Authorization": None}, 401),
    "an empty token": ({"Authorization": "Bearer "}, 401),
    "a wrong token": ({"Authorization": "Bearer a-token-that-nobody-guessed"}, 401),
    "the beginning of the token": ({"Authorization": "Bearer a-token"}, 401),
    "the token as a password": ({"Authorization": "Basic a-token-that-nobody-guesses"}, 401),
    "a token of other letters": ({"Authorization": "Bearer tök\xe9n"}, 401),
    "the token in the address": (
        {"Authorization": None, "path": "/mcp?token=a-token-that-nobody-guesses"},
        401,
    ),
    "a foreign name": ({"Host": "evil.example"}, 403),
    "a foreign name with our port": ({"Host": "evil.example:80"}, 403),
    "a name that begins like ours": ({"Host": "localhost.evil.example"}, 403),
    "an empty name": ({"Host": ""}, 403),
    "a foreign page": ({"Origin": "https://evil.example"}, 403),
    "a page of this machine": ({"Origin": "http://localhost:3000"}, 403),
    "a page without an origin": ({"Origin": "null"}, 403),
    "another path": ({"path": "/"}, 404),
    "a path with dots": ({"path": "/mcp/../mcp"}, 404),
    "looking": ({"method": "GET"}, 405),
    "looking at the head": ({"method": "HEAD"}, 405),
    "ending a session": ({"method": "DELETE"}, 405),
    "asking what is allowed": ({"method": "OPTIONS"}, 405),
    "a form": ({"Content_Type": "application/x-www-form-urlencoded"}, 415),
    "a plain text": ({"Content_Type": "text/plain"}, 415),
    "no type": ({"Content_Type": None}, 415),
    "only streams": ({"Accept": "text/html"}, 406),
    "another version": ({"Mcp_Protocol_Version": "1900-01-01"}, 400),
    "another version than inside": ({"Mcp_Protocol_Version": "2025-11-25"}, 400),
    "another method than inside": ({"Mcp_Method": "tools/call"}, 400),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_a_stranger_gets_nothing(door: Door, what: str) -> None:
    """A page in a browser on this machine can send requests here; so can whoever shares the machine."""
    changes, wanted = HOSTILE[what]

    status, body = door.knock(LIST, **changes)

    assert status == wanted
    assert "result" not in body


BODIES: dict[str, tuple[bytes, int]] = {
    "nothing": (b"", 400),
    "no JSON": (b"{", 400),
    "no UTF-8": (b"\xff\xfe", 400),
    "too deep": (b"[" * 100_000, 400),
    "a batch": (json.dumps([LIST, LIST]).encode(), 400),
    "a number": (b"5", 400),
    "too much": (b" " * (mcp_http.LARGEST + 1), 413),
    "no id": (json.dumps({**LIST, "id": None}).encode(), 400),
}


@pytest.mark.parametrize("what", BODIES)
def test_what_is_no_message_is_refused(door: Door, what: str) -> None:
    body, wanted = BODIES[what]

    status, said = door.knock(body)

    assert (status, "error" in said) == (wanted, True)


def test_a_body_of_unknown_length_has_an_end_too(door: Door) -> None:
    """Without a Content-Length nothing says beforehand that it is too much."""
    connection = http.client.HTTPConnection("127.0.0.1", door.port, timeout=20 * SLOWNESS)
    headers = {
        "Authorization": "Bearer a-token-that-nobody-guesses",
        "Content-Type": "application/json",
    }
    pieces = (b" " * 65536 for _ in range(64))
    try:
        connection.request("POST", "/mcp", pieces, headers, encode_chunked=True)
        assert connection.getresponse().status == 413
    except (BrokenPipeError, ConnectionResetError):
        pass  # it hung up while we still talked: as good
    finally:
        connection.close()
    assert door.knock(LIST)[0] == 200


HEAD = b"POST /mcp HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer a-token-that-nobody-guesses\r\nContent-Type: application/json\r\n"
RAW = {
    "a greeting of TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200),
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "no name": b"POST /mcp HTTP/1.1\r\n\r\n",
    "two names": HEAD + b"Host: evil.example\r\n\r\n",
    "two lengths": HEAD + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
    "less than nothing": HEAD + b"Content-Length: -1\r\n\r\n{}",
    "a length of letters": HEAD + b"Content-Length: many\r\n\r\n{}",
    "a length beyond measure": HEAD + b"Content-Length: " + b"9" * 400 + b"\r\n\r\n{}",
    "length and pieces": HEAD
    + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    "pieces that are none": HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n",
    "a head without an end": HEAD + b"X-Long: " + b"a" * 100_000 + b"\r\n\r\n",
    "a head in two lines": HEAD + b"X-Folded: a\r\n b\r\nContent-Length: 2\r\n\r\n{}",
    "bytes of nothing": bytes(1000),
    "a proxy's wish": b"CONNECT evil.example:443 HTTP/1.1\r\nHost: evil.example:443\r\n\r\n",
}


@pytest.mark.parametrize("what", RAW)
def test_what_is_no_request_does_no_harm(door: Door, what: str) -> None:
    """Whatever stands between a client and us must not read a request in another way than we do."""
    with socket.create_connection(("127.0.0.1", door.port), timeout=20 * SLOWNESS) as raw:
        said = b""
        try:
            raw.sendall(RAW[what])
            raw.shutdown(socket.SHUT_WR)
            while data := raw.recv(65536):
                said += data
        except (BrokenPipeError, ConnectionResetError):
            pass  # it hung up on us: as good as a refusal

    assert b" 200 " not in said.partition(b"\r\n")[0]
    assert b'"result"' not in said
    assert door.knock(LIST)[0] == 200


def test_a_page_that_was_named_may_ask(site: Site) -> None:
    door = Door(site, origins=["https://desk.example/"], names=["node.example"])
    try:
        assert door.knock(LIST, Origin="https://desk.example", Host="node.example:8080")[0] == 200
    finally:
        door.listener.close()


def test_someone_who_says_nothing_does_not_hold_up_the_others(door: Door) -> None:
    with socket.create_connection(("127.0.0.1", door.port)) as silent:
        silent.sendall(b"POST /mcp HTTP/1.1\r\nHost: localhost\r\n")

        assert door.knock(LIST)[0] == 200


def test_the_token_is_made_once_and_for_us_alone(tmp_path: Path) -> None:
    """A client goes on with it after a kill."""
    token, path = mcp_http.token_for(str(tmp_path), None)

    assert mcp_http.token_for(str(tmp_path), None) == (token, path)
    assert len(token) >= 40
    assert (tmp_path / "mcp.token").stat().st_mode & 0o077 == 0
    (tmp_path / "mcp.token").chmod(0o644)
    with pytest.raises(StateError, match="others may read"):
        mcp_http.token_for(str(tmp_path), None)


def test_a_token_that_can_be_guessed_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "short").write_text("secret\n")
    with pytest.raises(UsageError, match="at least 16"):
        mcp_http.token_for(str(tmp_path), str(tmp_path / "short"))
    monkeypatch.setenv("HOLDFAST_MCP_TOKEN", "0123456789abcdef")
    assert mcp_http.token_for(str(tmp_path), None)[0] == "0123456789abcdef"


class Server:
    """A `holdfast mcp --http` of its own."""

    def __init__(self, site: Site, port: int = 0) -> None:
        argv = [
            sys.executable,
            "-P",
            "-m",
            "holdfast",
            "mcp",
            "--http",
            f"127.0.0.1:{port}",
            "--state",
            str(site.state),
        ]
        self.process = subprocess.Popen(
            argv, stderr=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": ROOT}
        )
        assert self.process.stderr is not None
        self.said = self.process.stderr.readline()
        self.port = int(self.said.partition("/mcp")[0].rpartition(":")[2])

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()


def posted(port: int, token: str) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20 * SLOWNESS)
    headers = {
        "Authorization": f"Bearer {token}",
        "Content-Type": "application/json",
        "Mcp-Protocol-Version": "2026-07-28",
        "Mcp-Method": "tools/list",
    }
    try:
        connection.request("POST", "/mcp", json.dumps(LIST), headers)
        return connection.getresponse().status
    finally:
        connection.close()


def test_a_client_goes_on_when_the_server_was_killed(site: Site) -> None:
    """No session, and the same token: it never learns of it."""
    server = Server(site)
    token = (site.state / "mcp.token").read_text().strip()
    try:
        assert server.said.endswith(f"token: {site.state}/mcp.token\n")
        assert posted(server.port, token) == 200
        server.kill()
        server = Server(site, server.port)
        assert posted(server.port, token) == 200
    finally:
        server.kill()
