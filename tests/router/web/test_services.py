"""The small services, and applications of other people: WSGI, ASGI, CGI, functions."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
import textwrap
import threading
from typing import TYPE_CHECKING, Any
from wsgiref.validate import validator

import pytest

from router.web.desk import DEADLINE_S, Desk

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

# Applications that the tests name: "router.web.test_services:NAME" as a user names theirs.
HERE = __name__
Environ = dict[str, Any]
done: dict[str, Any] = {}
go_on = threading.Event()


def wsgi_echo(environ: Environ, start: Callable[..., Any]) -> Iterable[bytes]:
    body = environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"] or 0))
    told = {k: v for k, v in environ.items() if isinstance(v, str)}
    start("201 Made", [("Content-Type", "application/json"), ("X-Twice", "a"), ("X-Twice", "b")])
    return [json.dumps({**told, "body": body.decode()}).encode()]


wsgi_valid = validator(wsgi_echo)


def wsgi_stream(_environ: Environ, start: Callable[..., Any]) -> Iterable[bytes]:
    write = start("200 OK", [("Content-Type", "text/plain")])
    write(b"written ")

    class Chunks:
        def __iter__(self) -> Iterator[bytes]:
            yield b"first "
            assert go_on.wait(DEADLINE_S)
            yield b"second"

        def close(self) -> None:
            done["closed"] = True

    return Chunks()


def wsgi_bug(environ: Environ, start: Callable[..., Any]) -> Iterable[bytes]:
    try:
        raise LookupError("inside")
    except LookupError:
        if environ["QUERY_STRING"] == "handled":
            start("500 Oops", [("Content-Type", "text/plain")], sys.exc_info())
            return [b"handled"]
        raise


async def asgi_echo(scope: dict[str, Any], receive: Any, send: Any) -> None:
    assert scope["type"] == "http"
    body = b""
    while True:
        event = await receive()
        body += event["body"]
        if not event["more_body"]:
            break
    told = {
        k: v
        for k, v in scope.items()
        if k in ("method", "path", "root_path", "http_version", "scheme", "client")
    }
    told |= {
        "query": scope["query_string"].decode(),
        "body": len(body),
        "thread": threading.current_thread().name,
    }
    await send(
        {
            "type": "http.response.start",
            "status": 200,
            "headers": [(b"content-type", b"application/json")],
        }
    )
    await send({"type": "http.response.body", "body": json.dumps(told).encode()})


async def asgi_stream(_scope: dict[str, Any], receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"one ", "more_body": True})
    await send({"type": "http.response.body", "body": b"two", "more_body": False})


async def asgi_waits(_scope: dict[str, Any], receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"begun", "more_body": True})
    done["event"] = await receive()


async def asgi_silent(_scope: dict[str, Any], _receive: Any, _send: Any) -> None:
    return


class AsgiOf:
    """As a framework's application: an object with an asynchronous __call__, made with `extra`."""

    def __init__(self, extra: dict[str, Any]) -> None:
        self.title = extra["title"]

    async def __call__(self, _scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": self.title.encode()})


def plain(request: Any) -> Any:
    if request.query.get("raw"):
        return 418, {"X-Tea": "yes"}, b"pot"
    return {"path": request.path, "method": request.method, "body": request.body.decode()}


class TwistedLike:
    isLeaf = True  # noqa: N815 - as Twisted spells it

    def render(self, request: Any) -> None: ...

    def putChild(self, path: bytes, child: Any) -> None: ...  # noqa: N802


def nothing_at_all() -> None: ...


@pytest.fixture
def desk() -> Iterator[Desk]:
    wsgi = {"kind": "wsgi", "module": HERE, "maxthreads": None}
    resource: dict[str, Any] = {"kind": "resource", "extra": None}
    paths = {
        "wsgi": {**wsgi, "object": "wsgi_valid"}, "wsgi/stream": {**wsgi, "object": "wsgi_stream"},
        "wsgi/bug": {**wsgi, "object": "wsgi_bug"}, "wsgi/none": {**wsgi, "object": "nobody"},
        "asgi": {**resource, "classname": f"{HERE}:asgi_echo"},
        "asgi/on": {**resource, "classname": f"{HERE}:asgi_echo", "on_loop": True},
        "asgi/stream": {**resource, "classname": f"{HERE}:asgi_stream"}, "asgi/waits": {**resource, "classname": f"{HERE}:asgi_waits"},
        "asgi/silent": {**resource, "classname": f"{HERE}:asgi_silent"},
        "asgi/class": {**resource, "classname": f"{HERE}.AsgiOf", "extra": {"title": "mine"}},
        "plain": {**resource, "classname": f"{HERE}:plain"}, "wsgi2": {**resource, "classname": f"{HERE}:wsgi_echo"},
        "twisted": {**resource, "classname": f"{HERE}.TwistedLike"}, "none": {**resource, "classname": f"{HERE}:nothing_at_all"},
        "gone": {**resource, "classname": "no.such.module:app"}, "to": {"kind": "redirect", "url": "https://a.example/ä?x=1\r\nX: y"},
        "json": {"kind": "json", "value": {"b": [1, "ä"]}, "prettify": True, "allow_cross_origin": True, "discourage_caching": True},
        "info": {"kind": "nodeinfo"}, "health": {"kind": "health"}, "livez": {"kind": "health"},
    }  # fmt: skip
    done.clear()
    go_on.clear()
    state: dict[str, str | None] = {"why": None}
    with Desk(
        paths, facts=lambda: {"node": "<b>", "realms": ["r"]}, unready=lambda: state["why"]
    ) as made:
        made.state = state  # type: ignore[attr-defined]
        yield made


def test_small_services(desk: Desk) -> None:
    got = desk.get("/to/below")
    assert (got.status, got.headers["location"]) == (
        302,
        "https://a.example/%C3%A4?x=1%0D%0AX:%20y",
    )
    assert desk.ask("POST", "/to").status == 307
    got = desk.get("/json")
    assert got.text == '{\n   "b": [\n      1,\n      "ä"\n   ]\n}'
    assert got.headers["access-control-allow-origin"] == "*"
    assert got.headers["cache-control"].startswith("no-store")
    page = desk.get("/info")
    assert "&lt;b&gt;" in page.text
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert json.loads(desk.get("/info?format=json").body)["realms"] == ["r"]
    assert json.loads(desk.get("/info", accept="application/json").body)["node"] == "<b>"


def test_health_tells_alive_from_ready(desk: Desk) -> None:
    """A load balancer takes an unready one out; only a dead one is worth a restart."""
    assert [
        desk.get(p).status
        for p in ("/health", "/health/livez", "/health/readyz", "/livez", "/health/x")
    ] == [200, 200, 200, 200, 404]
    desk.state["why"] = "The realm is not open yet."  # type: ignore[attr-defined]
    assert [
        desk.get(p).status for p in ("/health", "/health/livez", "/health/readyz", "/livez")
    ] == [503, 200, 503, 200]
    assert "not open yet" in desk.get("/health").text


def test_a_wsgi_application_gets_what_pep_3333_promises(desk: Desk) -> None:
    """Checked by the validator of the standard library, which complains by raising."""
    got = desk.ask(
        "POST",
        "/wsgi/a%20%C3%A4?q=1",
        b"hello",
        {"Content-Type": "text/x", "X-A": "1", "Proxy": "evil", "Content_Length": "9"},
    )
    told = json.loads(got.body)

    assert got.status == 201
    assert [v for k, v in got.pairs if k == "X-Twice"] == ["a", "b"]
    assert desk.get("/wsgi2").headers["content-length"].isdigit()
    assert (told["SCRIPT_NAME"], told["PATH_INFO"], told["QUERY_STRING"], told["body"]) == (
        "/wsgi",
        "/a \xc3\xa4",
        "q=1",
        "hello",
    )
    assert (told["CONTENT_TYPE"], told["CONTENT_LENGTH"], told["HTTP_X_A"]) == ("text/x", "5", "1")
    assert (told["SERVER_NAME"], told["SERVER_PORT"], told["REMOTE_ADDR"]) == (
        "127.0.0.1",
        str(desk.port),
        "127.0.0.1",
    )
    assert not {"HTTP_PROXY", "HTTP_CONTENT_LENGTH"} & told.keys()


def test_a_wsgi_application_may_take_its_time(desk: Desk) -> None:
    """What it has written is with the client before the rest is made; others are served meanwhile."""
    with desk.dial() as sock:
        sock.sendall(b"GET /wsgi/stream HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        got = b""
        while b"first " not in got:
            got += sock.recv(1000)
        assert desk.get("/json").status == 200
        go_on.set()
        while data := sock.recv(1000):
            got += data
    assert b"second" in got
    assert got.endswith(b"0\r\n\r\n")
    assert done == {"closed": True}


def test_a_wsgi_body_may_be_large_and_chunked(desk: Desk) -> None:
    """It goes to a file, not into memory."""
    size = 3 << 20
    head = (
        b"POST /wsgi HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
    )
    got = desk.raw(head + b"%x\r\n" % size + b"x" * size + b"\r\n0\r\n\r\n")

    assert b'"CONTENT_LENGTH": "%d"' % size in got


def test_a_wsgi_application_that_fails_is_a_500(desk: Desk) -> None:
    assert desk.get("/wsgi/bug").status == 500
    assert "LookupError: inside" in str(desk.log.lines)
    assert desk.get("/wsgi/bug?handled").text == "handled"
    assert desk.get("/json").status == 200


def test_what_cannot_be_loaded_says_so_once_and_the_rest_works(desk: Desk) -> None:
    for path, says in (("wsgi/none", "has no nobody"), ("twisted", "is a Twisted Web resource"), ("none", "nothing that can be served"),
                       ("gone", "cannot be imported")):  # fmt: skip
        assert desk.get(f"/{path}").status == 503
        assert [p for p in desk.site.problems if f"at /{path} " in p and says in p]
    assert len(desk.site.problems) == 4


@pytest.mark.parametrize(("path", "thread"), [("/asgi", "web-asgi"), ("/asgi/on", None)])
def test_an_asgi_application_answers(desk: Desk, path: str, thread: str | None) -> None:
    """In a thread of its own unless it wants to be where components run."""
    got = json.loads(desk.ask("POST", f"{path}/x%20y?q=1", b"z" * 300_000).body)

    assert (got["method"], got["path"], got["root_path"], got["query"]) == (
        "POST",
        f"{path}/x y",
        path,
        "q=1",
    )
    assert (got["http_version"], got["scheme"], got["body"], got["client"][0]) == (
        "1.1",
        "http",
        300_000,
        "127.0.0.1",
    )
    assert (got["thread"] == "web-asgi") == (thread is not None)


def test_asgi_applications_stream_and_take_extra(desk: Desk) -> None:
    assert desk.get("/asgi/stream").text == "one two"
    assert desk.get("/asgi/class").text == "mine"
    assert desk.get("/asgi/silent").status == 500


def test_an_asgi_application_is_told_that_its_client_has_left(desk: Desk) -> None:
    with desk.dial() as sock:
        sock.sendall(b"GET /asgi/waits HTTP/1.1\r\nHost: a\r\n\r\n")
        got = b""
        while b"begun" not in got:
            got += sock.recv(1000)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")

    desk.until(lambda: "event" in done)
    assert done["event"] == {"type": "http.disconnect"}


def test_a_function_may_be_a_resource(desk: Desk) -> None:
    assert json.loads(desk.ask("PUT", "/plain/x", b"hi").body) == {
        "path": "/x",
        "method": "PUT",
        "body": "hi",
    }
    got = desk.get("/plain?raw=1")
    assert (got.status, got.headers["x-tea"], got.body) == (418, "yes", b"pot")
    assert json.loads(desk.get("/wsgi2").body)["SCRIPT_NAME"] == "/wsgi2"


@pytest.fixture
def scripts(tmp_path: Path) -> Iterator[Desk]:
    (tmp_path / "sub").mkdir()
    for name, text in {
        "env": """
            import json, os, sys
            print("Content-Type: application/json\\nStatus: 201 Made\\nX-A: b\\n")
            print(json.dumps({**os.environ, "body": sys.stdin.read(), "cwd": os.getcwd()}))""",
        "sub/to": 'print("Location: /elsewhere\\n")',
        "slow": """
            import os, subprocess, sys, time
            child = subprocess.Popen(["sleep", "600"])
            open("pids", "w").write(f"{os.getpid()} {child.pid}")
            print("Content-Type: text/plain\\n\\nbegun", flush=True)
            time.sleep(600)""",
        "bad": 'import sys; print("oops", file=sys.stderr); sys.exit(3)',
        "loud": 'import sys; sys.stderr.write("x" * 300_000); print("Content-Type: text/plain\\n\\nok")',
    }.items():
        (tmp_path / name).write_text(textwrap.dedent(text))
    os.environ["HOLDFAST_TEST_SECRET"] = "keep me"
    options = {"kind": "cgi", "directory": str(tmp_path), "processor": sys.executable}
    paths = {
        "cgi": options,
        "quick": {**options, "timeout_s": 1.5},
        "none": {**options, "processor": "/no/such/program"},
    }
    with Desk(paths) as made:
        yield made
    del os.environ["HOLDFAST_TEST_SECRET"]


def test_a_script_gets_what_rfc_3875_promises_and_nothing_of_ours(
    scripts: Desk, tmp_path: Path
) -> None:
    got = scripts.ask(
        "POST", "/cgi/env/more/x?a=b", b"hello" * 500_000, {"Content-Type": "text/x", "X-B": "c"}
    )
    told = json.loads(got.body)

    assert (got.status, got.headers["x-a"]) == (201, "b")
    assert (told["SCRIPT_NAME"], told["PATH_INFO"], told["QUERY_STRING"]) == (
        "/cgi/env",
        "/more/x",
        "a=b",
    )
    assert (
        told["REQUEST_METHOD"],
        told["CONTENT_LENGTH"],
        told["CONTENT_TYPE"],
        told["HTTP_X_B"],
    ) == ("POST", "2500000", "text/x", "c")
    assert (told["SCRIPT_FILENAME"], told["cwd"]) == (str(tmp_path / "env"), str(tmp_path))
    assert told["body"] == "hello" * 500_000
    assert "HOLDFAST_TEST_SECRET" not in told


def test_scripts_that_redirect_fail_or_are_not_there(scripts: Desk) -> None:
    got = scripts.get("/cgi/sub/to")
    assert (got.status, got.headers["location"]) == (302, "/elsewhere")
    assert scripts.get("/cgi/bad").status == 502
    assert [
        fields["said"]
        for _, event, fields in scripts.log.lines
        if event == "script wrote to stderr"
    ] == ["oops"]
    assert scripts.get("/cgi/loud").text == "ok\n"
    assert [
        scripts.get(p).status for p in ("/cgi", "/cgi/sub", "/cgi/no", "/cgi/../x", "/none/env")
    ] == [404, 404, 404, 404, 503]


def is_alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


@pytest.mark.parametrize("how", ["deadline", "client"])
def test_no_script_outlives_its_request(scripts: Desk, tmp_path: Path, how: str) -> None:
    """Nor what it has started: an orphan of each request is a machine full of them by the morning."""
    with scripts.dial() as sock:
        path = b"quick" if how == "deadline" else b"cgi"
        sock.sendall(b"GET /%s/slow HTTP/1.1\r\nHost: a\r\n\r\n" % path)
        got = b""
        while b"begun" not in got:
            got += sock.recv(1000)
        pids = [int(p) for p in (tmp_path / "pids").read_text().split()]
        assert all(map(is_alive, pids))
        if how == "client":
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
            sock.close()
        try:
            scripts.until(lambda: not any(map(is_alive, pids)))
        finally:
            for pid in filter(is_alive, pids):
                os.kill(pid, signal.SIGKILL)


def test_no_loop_is_blocked_by_users_code(desk: Desk) -> None:
    """Requests that each block their thread, and the router's own answers are as quick as ever."""
    threads = [threading.Thread(target=desk.get, args=("/wsgi/stream",)) for _ in range(15)]
    for thread in threads:
        thread.start()

    async def turn() -> None:
        await asyncio.sleep(0)

    for _ in range(50):
        desk.on_loop(turn())
        assert desk.get("/json").status == 200
    go_on.set()
    for thread in threads:
        thread.join(DEADLINE_S)
        assert not thread.is_alive()
