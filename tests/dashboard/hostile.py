"""What a stranger sends who wants data, or to do something: one list, for the door alone and for the whole dashboard.

Each is a name, the raw bytes of a request (``{host}`` stands for the right name and port) and the statuses that are right. None of them may get a
byte of the node, and none may do anything.
"""

import contextlib
import socket
from typing import NamedTuple

#: Where data is, and where something is done: of the contract of the dashboard.
DATA = (
    "/api/state", "/api/live", "/api/workers/api", "/api/workers/api/chart?for=600", "/api/workers/api/log", "/api/workers/api/log/live", "/api/incidents",
    "/api/incidents/20260101-000000-api-1", "/api/incidents/20260101-000000-api-1/text", "/api/incidents/20260101-000000-api-1/bundle",
    "/api/incidents/20260101-000000-api-1/files/log.txt", "/api/bus", "/api/jobs", "/api/jobs/list?state=dead", "/api/jobs/job/abc", "/api/machine",
    "/api/orders/1", "/api/alerts",
)  # fmt: skip
ACTS = ("/api/orders", "/api/alerts/a1", "/api/jobs")
BODY = '{"do":"restart","worker":"api","ids":["a"]}'


class Hostile(NamedTuple):
    """One request of a stranger."""

    name: str
    data: bytes
    right: tuple[int, ...]


def get(path: str, *heads: str, host: str = "{host}", method: str = "GET") -> bytes:
    """Return a request without a body."""
    lines = [f"{method} {path} HTTP/1.1", f"Host: {host}", *heads, "Connection: close", "", ""]
    return "\r\n".join(lines).encode("latin-1")


def post(path: str, *heads: str, host: str = "{host}", body: str = BODY) -> bytes:
    """Return a POST as the page itself would send it, with other headers appended."""
    return (
        get(path, f"Content-Length: {len(body)}", *heads, host=host, method="POST") + body.encode()
    )


def ask(host: str, data: bytes) -> tuple[int, dict[str, str], bytes]:
    """Send raw bytes; return status, headers and body. A server that hangs up without a word is a status of 0."""
    name, _, port = host.partition(":")
    with socket.create_connection((name, int(port)), timeout=10) as sock:
        with contextlib.suppress(ConnectionError):
            sock.sendall(data.replace(b"{host}", host.encode()))
        got = b""
        with contextlib.suppress(ConnectionError):
            while part := sock.recv(65536):
                got += part
    head, _, body = got.partition(b"\r\n\r\n")
    lines = head.decode("latin-1").split("\r\n")
    pairs = [line.split(": ", 1) for line in lines[1:] if ": " in line]
    status = lines[0].split(" ")
    return (
        (int(status[1]) if len(status) > 1 else 0),
        {name.lower(): value for name, value in pairs},
        body,
    )


OURS = (
    "Content-Type: application/json",
    "X-Holdfast: 1",
    "Origin: http://{host}",
    "Sec-Fetch-Site: same-origin",
)
COOKIE = "Cookie: holdfast="


def _list() -> list[Hostile]:
    made = [Hostile(f"looks at {path}", get(path), (401,)) for path in DATA]
    made += [Hostile(f"acts at {path}", post(path, *OURS), (401,)) for path in ACTS]
    guesses = {
        "an empty session": "", "a guessed session": "A" * 43, "a path as session": "../../../etc/passwd", "a session of NULs": "%00" * 8,
        "a session with quotes": '"a" OR 1=1', "a very long session": "B" * 4000, "two sessions": "a; holdfast=b", "a __Host- session": "x; __Host-holdfast=y",
    }  # fmt: skip
    made += [
        Hostile(f"with {name}", get("/api/state", COOKIE + value), (401,))
        for name, value in guesses.items()
    ]
    made += [
        Hostile(f"acts with {name}", post("/api/orders", *OURS, COOKIE + value), (401,))
        for name, value in guesses.items()
    ]
    foreign = {"a foreign name": "evil.example", "a name that begins like ours": "localhost.evil.example", "a name with an address in it": "127.0.0.1.nip.example", "an empty name": "", "a user in it": "localhost@evil.example"}  # fmt: skip
    made += [
        Hostile(f"under {name}", get("/api/state", host=host), (400, 403))
        for name, host in foreign.items()
    ]
    made += [
        Hostile(f"the page under {name}", get("/", host=host), (400, 403))
        for name, host in foreign.items()
    ]
    made += [
        Hostile("without a name", b"GET /api/state HTTP/1.1\r\nConnection: close\r\n\r\n", (400, 403)),
        Hostile("without a name, HTTP/1.0", b"GET /api/state HTTP/1.0\r\n\r\n", (400, 403)),
        Hostile("with two names", get("/api/state", "Host: evil.example"), (400,)),
        Hostile("with an absolute address", get("http://evil.example/api/state"), (400, 401, 403)),
        Hostile("from a foreign page", get("/api/state", "Sec-Fetch-Site: cross-site"), (403,)),
        Hostile("from a neighbour's page", get("/api/state", "Sec-Fetch-Site: same-site"), (403,)),
        Hostile("posts from a foreign page", post("/api/orders", *OURS[:2], "Origin: http://evil.example"), (403,)),
        Hostile("posts from a sandbox", post("/api/orders", *OURS[:2], "Origin: null"), (403,)),
        Hostile("posts from our name at another port", post("/api/orders", *OURS[:2], "Origin: http://127.0.0.1:1"), (403,)),
        Hostile("posts, says the browser, from elsewhere", post("/api/orders", *OURS[:3], "Sec-Fetch-Site: cross-site"), (403,)),
        Hostile("posts a form", post("/api/orders", "Content-Type: application/x-www-form-urlencoded", *OURS[1:]), (415,)),
        Hostile("posts plain text", post("/api/orders", "Content-Type: text/plain", *OURS[1:]), (415,)),
        Hostile("posts without our header", post("/api/orders", OURS[0], *OURS[2:]), (403,)),
        Hostile("posts too much", post("/api/orders", *OURS, body="x" * 70_000), (401, 413)),
        Hostile("signs in with too much", post("/api/enter", *OURS, body="x" * 70_000), (413,)),
        Hostile("promises a lot", get("/api/enter", *OURS, "Content-Length: 999999999999", method="POST"), (413,)),
        Hostile("promises less than nothing", get("/api/enter", *OURS, "Content-Length: -1", method="POST"), (400, 413)),
        Hostile("signs in with no JSON", post("/api/enter", *OURS, body="{"), (400,)),
        Hostile("signs in with a list", post("/api/enter", *OURS, body="[1,2]"), (400,)),
        Hostile("signs in with numbers", post("/api/enter", *OURS, body='{"token":1}'), (400,)),
        Hostile("signs in with a path", post("/api/enter", *OURS, body='{"token":"../sessions/x"}'), (401,)),
        Hostile("is a proxy, it says", get("/api/state", "X-Forwarded-User: root"), (401,)),
        Hostile("is a proxy for loopback, it says", get("/api/state", "X-Forwarded-For: 127.0.0.1", "X-Forwarded-User: root", "Forwarded: for=127.0.0.1"), (401,)),
        Hostile("rewrites the path by a header", get("/api/me", "X-Original-URL: /api/state", "X-Rewrite-URL: /api/state"), (200,)),
        Hostile("overrides the method", get("/api/orders", "X-HTTP-Method-Override: POST"), (401,)),
        Hostile("has a token in the address", get("/api/state?token=abc"), (401,)),
        Hostile("has Basic credentials", get("/api/state", "Authorization: Basic cm9vdDpyb290"), (401,)),
        Hostile("has a Bearer token", get("/api/state", "Authorization: Bearer abc"), (401,)),
        Hostile("climbs out of the pages", get("/../../../../etc/passwd"), (400, 404)),
        Hostile("climbs out, encoded", get("/%2e%2e/%2e%2e/%2e%2e/etc/passwd"), (400, 404)),
        Hostile("climbs out, encoded twice", get("/%252e%252e/%252e%252e/etc/passwd"), (200, 400, 404)),
        Hostile("climbs out below js", get("/js/..%2f..%2f..%2faccess%2fguard.py"), (400, 404)),
        Hostile("climbs with backslashes", get("/..\\..\\etc\\passwd"), (400, 404)),
        Hostile("has a NUL in the path", get("/api/state%00.js"), (400, 401, 404)),
        Hostile("has two slashes", get("//api/state"), (400, 404)),
        Hostile("has other letters", get("/API/state"), (200, 404)),
        Hostile("has a dot in it", get("/./api/state"), (400, 404)),
        Hostile("encodes the slash", get("/api%2fstate"), (400, 401, 404)),
        Hostile("has a very long path", get("/api/" + "a" * 5000), (400, 401, 414)),
        Hostile("deletes", get("/api/orders", method="DELETE"), (405,)),
        Hostile("puts", get("/api/orders", method="PUT"), (405,)),
        Hostile("traces", get("/api/state", method="TRACE"), (405,)),
        Hostile("asks for options, cross-origin", get("/api/state", "Origin: http://evil.example", "Access-Control-Request-Method: POST", method="OPTIONS"), (405,)),
        Hostile("invents a method", get("/api/state", method="ROOT"), (400, 405)),
        Hostile("wants a WebSocket", get("/api/live", "Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Version: 13"), (400, 401, 403)),
        Hostile("smuggles by two lengths", post("/api/orders", *OURS, "Content-Length: 5"), (400,)),
        Hostile("smuggles by chunks and a length", post("/api/orders", *OURS, "Transfer-Encoding: chunked"), (400, 401)),
        Hostile("ends lines twice in a header", get("/api/state", "X-A: b\r\n\r\nGET /api/state HTTP/1.1"), (401,)),
        Hostile("is no HTTP", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 64, (400,)),
        Hostile("speaks SSH", b"SSH-2.0-OpenSSH_9.2\r\n\r\n", (400,)),
        Hostile("has a header without end", get("/api/state", "X-A: " + "a" * 100_000), (400, 401, 431)),
    ]  # fmt: skip
    return made


HOSTILE = _list()
