"""One connection: framing, order, limits, patience. Raw bytes, as a client (or an attacker) sends them."""

from __future__ import annotations

import asyncio
import socket
import threading
from typing import TYPE_CHECKING, Any

import pytest

from holdfast.router.web.connection import BUSY, HEAD, IDLE
from holdfast.router.web.head import Refused, RequestHead
from router.web.desk import DEADLINE_S, Behaves, Desk, everything

if TYPE_CHECKING:
    from collections.abc import Iterator

    from holdfast.router.web.request import Request

GET = b"GET /v HTTP/1.1\r\nHost: a\r\n\r\n"
CLOSE = b"GET /v HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"


async def echo(request: Request) -> None:
    body = await request.body(100_000)
    request.respond(200, [("X-Path", request.rest)], body)


@pytest.fixture(params=[False, True], ids=["stream", "asyncio"])
def desk(request: pytest.FixtureRequest) -> Iterator[Desk]:
    paths = {"v": {"kind": "json", "value": 1, "prettify": False}, "echo": {"kind": "path"}}
    with Desk(paths, native=request.param) as made:
        made.site._services["echo"] = Behaves(echo)
        yield made


def post(body: bytes, *more: bytes) -> bytes:
    lines = [b"POST /echo HTTP/1.1", b"Host: a", b"Content-Length: %d" % len(body), *more]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def test_requests_of_one_connection_are_answered_in_order(desk: Desk) -> None:
    """Pipelining: three questions in one packet, three answers in their order."""
    got = desk.raw(post(b"one") + post(b"two") + GET + CLOSE)

    assert got.count(b"HTTP/1.1 200 OK\r\n") == 4
    assert [got.index(word) for word in (b"one", b"two")] == sorted(
        got.index(w) for w in (b"one", b"two")
    )
    assert got.endswith(b"\r\n\r\n1")


def test_any_way_of_cutting_a_request_is_the_same_request(desk: Desk) -> None:
    with desk.dial() as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for octet in post(b"hello", b"Connection: close"):
            sock.sendall(bytes([octet]))
        assert everything(sock).endswith(b"\r\n\r\nhello")


def test_a_chunked_body_is_one_body(desk: Desk) -> None:
    head = (
        b"POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
    )
    got = desk.raw(head, b"3\r\nabc\r\n", b"2;x=y\r\nde\r\n0\r\n\r\n")

    assert got.endswith(b"\r\n\r\nabcde")


def test_who_asks_before_sending_is_told_to_go_on(desk: Desk) -> None:
    """curl waits a second for the 100 of a large body otherwise."""
    with desk.dial() as sock:
        sock.sendall(
            b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n"
        )
        assert sock.recv(1000).startswith(b"HTTP/1.1 100 ")
        sock.sendall(b"hi")
        assert everything(sock).endswith(b"\r\n\r\nhi")


def test_a_body_that_is_too_large_is_refused_before_it_is_sent(desk: Desk) -> None:
    with desk.dial() as sock:
        sock.sendall(
            b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 100001\r\nExpect: 100-continue\r\n\r\n"
        )
        got = everything(sock)

    assert got.startswith(b"HTTP/1.1 413 ")
    assert b"at most 100000 bytes" in got


def test_a_refusal_arrives_although_the_body_is_still_on_its_way(desk: Desk) -> None:
    """A reset for the unread rest would throw the answer away, and the client would blame the network."""
    got = desk.raw(
        b"POST /nothing HTTP/1.1\r\nHost: a\r\nContent-Length: 500000\r\n\r\n" + b"x" * 500_000
    )

    assert got.startswith(b"HTTP/1.1 404 ")
    assert b"Connection: close" in got


def test_a_body_without_end_is_cut_off_by_its_limit(desk: Desk) -> None:
    head = b"POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    got = desk.raw(
        head + b"8000\r\n" + b"x" * 0x8000 + b"\r\n" + (b"8000\r\n" + b"y" * 0x8000 + b"\r\n") * 3
    )

    assert got.startswith(b"HTTP/1.1 413 ")


def test_a_malformed_chunk_is_refused(desk: Desk) -> None:
    got = desk.raw(b"POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n")

    assert got.startswith(b"HTTP/1.1 400 ")


def test_head_has_the_headers_of_get_and_no_body(desk: Desk) -> None:
    got = desk.raw(b"HEAD /v HTTP/1.1\r\nHost: a\r\n\r\n" + CLOSE)
    first, _, rest = got.partition(b"\r\n\r\n")

    assert b"Content-Length: 1" in first
    assert rest.startswith(b"HTTP/1.1 200 ")


def test_http_1_0_gets_its_answer_and_the_end(desk: Desk) -> None:
    got = desk.raw(b"GET /v HTTP/1.0\r\n\r\n")

    assert got.startswith(b"HTTP/1.1 200 ")
    assert got.endswith(b"\r\n\r\n1")


@pytest.mark.parametrize(
    "data",
    [
        b"GET /v HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /admin HTTP/1.1\r\n",
        b"GET /v HTTP/1.1\nHost: a\n\n",
        b"GET /v HTTP/1.1\r\nHost: a\r\nX: 1\r\n Y: 2\r\n\r\n",
        b"GET /v HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    ],
)
def test_what_could_be_smuggled_is_refused_and_the_connection_closed(
    desk: Desk, data: bytes
) -> None:
    got = desk.raw(data)

    assert got.startswith(b"HTTP/1.1 400 ")
    assert got.count(b"Date: ") == 1


def test_slow_loris_is_sent_away(desk: Desk) -> None:
    """A head that comes an octet at a time has a deadline of its own; what it sends does not move it."""
    with desk.dial() as sock:
        sock.sendall(b"GET /v HTTP/1.1\r\nHost: ")
        desk.until(lambda: bool(desk.connections))
        desk.later(6)
        sock.sendall(b"a")
        desk.until(lambda: desk.connections[0]._buffer.endswith(b"a"))
        assert desk.connections[0].state == HEAD
        desk.later(5)
        got = everything(sock)

    assert got.startswith(b"HTTP/1.1 408 ")


def test_a_body_that_does_not_come_is_not_waited_for(desk: Desk) -> None:
    with desk.dial() as sock:
        sock.sendall(b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc")
        desk.until(lambda: bool(desk.connections) and desk.connections[0].state == BUSY and desk.connections[0]._request is not None
                   and desk.connections[0]._request.is_waiting)  # fmt: skip
        desk.later(31)
        got = everything(sock)

    assert got.startswith(b"HTTP/1.1 408 ")


def test_an_idle_connection_is_kept_for_a_while_and_then_closed(desk: Desk) -> None:
    with desk.dial() as sock:
        sock.sendall(GET)
        desk.until(lambda: bool(desk.connections) and desk.connections[0].is_idle)
        desk.later(60)
        assert desk.connections[0].state == IDLE
        sock.sendall(GET)
        desk.until(
            lambda: desk.connections[0].since_s == desk.now_s and desk.connections[0].is_idle
        )
        desk.later(76)
        assert everything(sock).count(b"200 OK") == 2


def test_an_idle_connection_costs_little() -> None:
    """Browsers leave them open by the thousand."""
    import sys

    from holdfast.router.web.connection import HttpConnection

    with Desk({"v": {"kind": "json", "value": 1}}) as desk, desk.dial() as sock:
        sock.sendall(GET)
        desk.until(lambda: bool(desk.connections) and desk.connections[0].is_idle)
        idle = desk.connections[0]

        assert (idle._request, idle._buffer, idle._task) == (None, b"", None)
        assert not hasattr(idle, "__dict__")
        assert sys.getsizeof(idle) < 250
        assert isinstance(idle, HttpConnection)


def test_a_bug_in_a_service_costs_one_request(desk: Desk) -> None:
    """500 without a traceback for the client, with one in the log; the connection goes on."""

    async def bug(_request: Request) -> None:
        raise ZeroDivisionError("mine")

    desk.site._services["echo"] = Behaves(bug)
    got = desk.raw(b"GET /echo HTTP/1.1\r\nHost: a\r\n\r\n" + CLOSE)

    assert got.startswith(b"HTTP/1.1 500 ")
    assert b"ZeroDivisionError" not in got
    assert got.endswith(b"\r\n\r\n1")
    assert "ZeroDivisionError: mine" in str(desk.log.lines[0])


def test_half_an_answer_is_cut_not_ended(desk: Desk) -> None:
    """A client must not take a torn file for a whole one."""

    async def torn(request: Request) -> None:
        request.start(200, [])
        await request.write(b"first half")
        raise RuntimeError("torn")

    desk.site._services["echo"] = Behaves(torn)
    with desk.dial() as sock:
        sock.sendall(b"GET /echo HTTP/1.1\r\nHost: a\r\n\r\n")
        try:
            got = everything(sock)
        except ConnectionResetError:
            got = b""

    assert not got.endswith(b"0\r\n\r\n")


def test_a_service_learns_that_its_client_has_left(desk: Desk) -> None:
    cancelled = threading.Event()

    async def slow(_request: Request) -> None:
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    desk.site._services["echo"] = Behaves(slow)
    sock = desk.dial()
    sock.sendall(b"GET /echo HTTP/1.1\r\nHost: a\r\n\r\n")
    desk.until(lambda: bool(desk.connections) and desk.connections[0].state == BUSY)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
    sock.close()

    assert cancelled.wait(DEADLINE_S)


def test_a_client_that_sends_no_more_still_gets_its_answer(desk: Desk) -> None:
    """`nc` and old scripts close their direction after the request."""
    with desk.dial() as sock:
        sock.sendall(post(b"hi"))
        sock.shutdown(socket.SHUT_WR)
        assert everything(sock).endswith(b"\r\n\r\nhi")


def test_a_client_that_does_not_read_is_waited_for_and_then_cut_off(desk: Desk) -> None:
    """Its answer waits in the service, not in our memory."""
    written = 0

    async def much(request: Request) -> None:
        nonlocal written
        request.start(200, [])
        for _ in range(2000):
            await request.write(b"x" * 65536)
            written += 65536

    desk.site._services["echo"] = Behaves(much)
    with desk.dial() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.sendall(b"GET /echo HTTP/1.1\r\nHost: a\r\n\r\n")
        desk.until(lambda: bool(desk.connections) and desk.connections[0]._stalled_s > 0)
        assert written < 64 << 20
        desk.later(61)
        desk.until(lambda: desk.connections[0].is_gone)
        assert written < 64 << 20


class Taken(asyncio.Protocol):
    """What the router makes of an upgrade."""

    def __init__(self, transport: Any, head: RequestHead, plan: Any, rest: bytes) -> None:
        self.facts = (head.path, plan, rest)
        transport.write(b"TAKEN " + rest)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(data.upper())
        self.transport.close()


UPGRADE = b"GET %s HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"


@pytest.mark.parametrize("native", [False, True])
def test_upgrades_are_handed_over_with_what_came_behind_them(native: bool) -> None:
    socket_at_ws: dict[str, Any] = {"kind": "websocket", "options": {}, "websocket": "at ws"}
    with Desk(
        {"ws": socket_at_ws, "v": {"kind": "json", "value": 1}},
        native=native,
        websocket="anywhere",
        on_websocket=Taken,
    ) as desk:
        for before in (b"", GET):
            with desk.dial() as sock:
                sock.sendall(before + UPGRADE % b"/ws" + b"frames")
                got = b""
                while not got.endswith(b"frames"):
                    got += sock.recv(1000)
                sock.sendall(b"more")
                assert everything(sock) == b"MORE"
            assert got.endswith(b"TAKEN frames")

        def websocket_for(path: bytes) -> Any:
            return desk.site.websocket_for(head_of(path))

        assert websocket_for(b"/ws/below") == "at ws"
        assert websocket_for(b"/other") == "anywhere"
        assert websocket_for(b"/v") is None
        assert desk.get("/ws").status == 426
        assert desk.get("/other").status == 426


def head_of(path: bytes) -> RequestHead:
    from holdfast.router.web.head import parse_head

    return parse_head(UPGRADE % path)


def test_a_handshake_that_is_wrong_gets_its_status() -> None:
    def refuse(*_: Any) -> asyncio.Protocol:
        raise Refused(403, "Not from there.", (("X-Why", "origin"),))

    with Desk({}, websocket="any", on_websocket=refuse) as desk:
        got = desk.raw(UPGRADE % b"/")

    assert got.startswith(b"HTTP/1.1 403 ")
    assert b"X-Why: origin" in got


def test_the_longest_path_wins() -> None:
    """As Crossbar.io's paths do."""
    value: dict[str, Any] = {"kind": "json", "prettify": False}
    paths = {p: {**value, "value": p} for p in ("/", "api", "api/call")}
    with Desk({**paths, "deep": {"kind": "path"}}) as desk:
        asked = ("/", "/api", "/api/", "/api/x", "/api/call/y", "/apix", "/API", "/%61pi", "//api")
        got = [desk.get(p).text.strip('"') for p in asked]

        assert got == ["/", "api", "api", "api", "api/call", "/", "/", "api", "/"]
        assert desk.get("/deep/x").status == 404
