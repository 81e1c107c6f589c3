"""HTTP to WAMP: the bodies, signatures and answers that clients of Crossbar.io's bridges know."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import socket
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import pytest

from holdfast.router.web import signed
from holdfast.router.web.head import Refused
from holdfast.router.web.site import WampFailure
from router.web.desk import DEADLINE_S, Desk, Realm

if TYPE_CHECKING:
    from collections.abc import Iterator

NOW_S = 1_791_997_191.0  # 2026-10-14T16:59:51Z
AS = {"realm": "realm1", "role": "web"}
SIGNED = {"key": "bazapp", "secret": "foobar", "timestamp_delta_limit_s": 300}
BODY = b'{"topic": "com.test.messages", "args": [1]}'


@pytest.fixture
def realm() -> Realm:
    return Realm()


@pytest.fixture
def desk(realm: Realm) -> Iterator[Desk]:
    paths = {
        "publish": {"kind": "publisher", **AS, "post_body_limit": 1000},
        "call": {"kind": "caller", **AS},
        "signed": {"kind": "publisher", **AS, **SIGNED},
        "hook": {
            "kind": "webhook",
            **AS,
            "topic": "com.test.hook",
            "success_response": "thanks",
            "error_response": None,
        },
        "github": {
            "kind": "webhook",
            **AS,
            "topic": "com.test.hook",
            "github_secret": "It's a Secret to Everybody",
        },
        "near": {"kind": "publisher", **AS, "require_ip": ["192.168.1.1/255.255.255.0"]},
        "home": {"kind": "publisher", **AS, "require_ip": ["::1", "127.0.0.0/8"]},
        "tls": {"kind": "publisher", **AS, "require_tls": True},
    }
    with Desk(paths, bridge=realm, unix_clock=lambda: NOW_S) as made:
        yield made


def post(desk: Desk, path: str, value: Any, query: str = "", **headers: str) -> tuple[int, Any]:
    body = value if isinstance(value, bytes) else json.dumps(value).encode()
    named = {
        "Content-Type": "application/json",
        **{k.replace("_", "-"): v for k, v in headers.items()},
    }
    got = desk.ask("POST", path + query, body, named)
    return got.status, json.loads(got.body)


def test_a_post_is_published(desk: Desk, realm: Realm) -> None:
    event = {
        "topic": "com.a",
        "args": [1, "x"],
        "kwargs": {"k": None},
        "options": {"exclude_authid": ["joe"], "retain": True},
    }

    assert post(desk, "/publish", event) == (200, {"id": 4711})
    options = {"exclude_authid": ["joe"], "retain": True, "acknowledge": True}
    assert realm.published == [("realm1", "web", "com.a", [1, "x"], {"k": None}, options)]


def test_a_post_is_a_call(desk: Desk, realm: Realm) -> None:
    call = {"procedure": "com.add", "args": [2, 3], "options": {"timeout": 500}}

    assert post(desk, "/call", call) == (200, {"args": ["ok"]})
    assert realm.called == [("realm1", "web", "com.add", [2, 3], {}, {"timeout": 500})]
    for result, told in (
        (([], {}), {"args": [None]}), (([1, 2], {}), {"args": [1, 2]}), (([], {"a": 1}), {"kwargs": {"a": 1}}),
        (([1], {"a": 2}), {"args": [1], "kwargs": {"a": 2}}),
    ):  # fmt: skip
        realm.result = result
        assert post(desk, "/call", {"procedure": "com.add"}) == (200, told)


@pytest.mark.parametrize(
    ("uri", "status"),
    [("wamp.error.no_such_procedure", 404), ("wamp.error.not_authorized", 403), ("wamp.error.invalid_argument", 400),
     ("wamp.error.timeout", 504), ("wamp.error.canceled", 503), ("com.app.error.full", 200)],
)  # fmt: skip
def test_an_error_has_its_uri_and_its_status(
    desk: Desk, realm: Realm, uri: str, status: int
) -> None:
    """An application's own error is an answer (200, as with Crossbar.io); the router's are statuses."""
    realm.failure = WampFailure(uri, ["why"], {"n": 1})

    assert post(desk, "/call", {"procedure": "com.x"}) == (
        status,
        {"error": uri, "args": ["why"], "kwargs": {"n": 1}},
    )


@pytest.mark.parametrize(
    ("path", "value", "headers", "says"),
    [
        ("/publish", b"{", {}, "not JSON"),
        ("/publish", b'"\xff"', {}, "not JSON"),
        ("/publish", b"[" * 900, {}, "not JSON"),
        ("/publish", [], {}, "not an object"),
        ("/publish", {"args": []}, {}, "'topic'"),
        ("/publish", {"topic": 7}, {}, "'topic'"),
        ("/call", {"topic": "com.a"}, {}, "'procedure'"),
        ("/publish", {"topic": "a", "args": {"x": 1}}, {}, "'args' is not a list"),
        ("/publish", {"topic": "a", "kwargs": [1]}, {}, "'kwargs' is not an object"),
        ("/publish", {"topic": "a", "options": {"eligable_authid": ["x"]}}, {}, "eligable_authid"),
        ("/publish", {"topic": "a"}, {"content_type": "text/plain"}, "application/json"),
        ("/publish", {"topic": "a"}, {"content_type": "application/json; charset=latin-1"}, "UTF-8"),
        ("/publish", {"topic": "a"}, {"content_type": ""}, "application/json"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_body_is_said(
    desk: Desk, realm: Realm, path: str, value: Any, headers: dict[str, str], says: str
) -> None:
    if "content_type" in headers:
        headers = {"Content-Type": headers["content_type"]}
    status, told = post(desk, path, value, **headers)

    assert status == 400
    assert says in told["args"][0]
    assert realm.published == []


def test_limits_and_methods(desk: Desk) -> None:
    assert post(desk, "/publish", {"topic": "x" * 1000})[0] == 413
    assert desk.get("/publish").status == 405
    preflight = desk.ask(
        "OPTIONS",
        "/publish",
        headers={"Origin": "https://a", "Access-Control-Request-Headers": "content-type"},
    )
    assert (preflight.status, preflight.headers["access-control-allow-headers"]) == (
        200,
        "content-type",
    )


def test_only_from_where_and_how_it_is_allowed(desk: Desk) -> None:
    assert post(desk, "/near", {"topic": "a"})[0] == 403
    assert post(desk, "/home", {"topic": "a"})[0] == 200
    assert post(desk, "/tls", {"topic": "a"})[0] == 403


def test_a_caller_that_leaves_gives_its_call_up(desk: Desk, realm: Realm) -> None:
    realm.result = None
    sock = desk.dial()
    body = b'{"procedure": "com.slow"}'
    sock.sendall(
        b"POST /call HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
    )
    assert realm.asked.wait(DEADLINE_S)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
    sock.close()

    assert realm.cancelled.wait(DEADLINE_S)


def test_a_result_that_is_no_json_is_an_error_and_in_the_log(desk: Desk, realm: Realm) -> None:
    realm.result = ([{1j}], {})
    status, told = post(desk, "/call", {"procedure": "com.x"})

    assert (status, told["error"]) == (500, "wamp.error.runtime_error")
    assert desk.log.lines[0][0] == "error"


def query(timestamp: str = "2026-10-14T16:59:50.123Z", nonce: str = "42") -> str:
    # The formula of the documentation, written out: HMAC[SHA256]_{secret} (key | timestamp | seq | nonce | body).
    text = b"bazapp" + timestamp.encode() + b"1" + nonce.encode() + BODY
    mac = hmac.new(b"foobar", text, hashlib.sha256)
    signature = base64.urlsafe_b64encode(mac.digest()).decode()
    given = {"key": "bazapp", "timestamp": timestamp, "seq": "1", "nonce": nonce}
    return "?" + urlencode({**given, "signature": signature})


def test_known_signature() -> None:
    """Made with `printf %s KEY TIMESTAMP SEQ NONCE BODY | openssl dgst -sha256 -hmac foobar -binary | basenc --base64url`."""
    found = signed.signature("foobar", "bazapp", "2011-10-14T16:59:51.123Z", "1", "1234", BODY)

    assert found == "o5a44CYkzPE9xF-Q4qq1-TGxDTaBgEryu6MFJuDsHGs="


def test_a_signed_request_is_taken_once(desk: Desk, realm: Realm) -> None:
    """Whoever listens on the way could send it again, as often as they like."""
    assert post(desk, "/signed", BODY, query())[0] == 200
    status, told = post(desk, "/signed", BODY, query())
    assert (status, told["error"]) == (401, "wamp.error.not_authorized")
    assert "taken before" in told["args"][0]
    assert post(desk, "/signed", BODY, query(nonce="43"))[0] == 200
    assert len(realm.published) == 2


@pytest.mark.parametrize(
    ("changes", "status"),
    [({"key": "spamapp"}, 401), ({"signature": "AAAA"}, 401), ({"nonce": "7"}, 401), ({"signature": "%C3%A9"}, 401), ({"seq": "2"}, 401),
     ({"key": "-"}, 400), ({"timestamp": "-"}, 400), ({"seq": "-"}, 400), ({"nonce": "-"}, 400), ({"signature": "-"}, 400),
     ({"seq": "x"}, 400), ({"nonce": "x"}, 400), ({"timestamp": "yesterday"}, 400)],
)  # fmt: skip
def test_a_request_that_is_not_signed_right_is_refused(
    desk: Desk, realm: Realm, changes: dict[str, str], status: int
) -> None:
    asked = tampered(**changes)

    assert post(desk, "/signed", BODY, asked)[0] == status
    assert realm.published == []


def tampered(**changes: str) -> str:
    parts = dict(part.split("=", 1) for part in query()[1:].split("&"))
    parts.update(changes)
    return "?" + "&".join(f"{k}={v}" for k, v in parts.items() if v != "-")


def test_old_and_early_requests_are_refused(desk: Desk) -> None:
    assert post(desk, "/signed", BODY, query("2026-10-14T16:54:40.000Z"))[0] == 400
    assert post(desk, "/signed", BODY, query("2026-10-14T17:05:00.000Z"))[0] == 400
    assert post(desk, "/signed", b'{"topic": "other"}', query())[0] == 401


def test_what_was_taken_before_a_crash_nobody_can_repeat_after_it() -> None:
    """The memory of signatures dies with the router; so what is older than the new one is not taken."""
    seen = signed.Seen(300.0, began_s=NOW_S)
    with pytest.raises(Refused, match="too long ago"):
        seen.take("a", NOW_S - 60, NOW_S)
    seen.take("b", NOW_S - 5, NOW_S)


def test_forgetting_refuses_rather_than_repeats() -> None:
    seen = signed.Seen(0.0, began_s=NOW_S, limit=10)
    for n in range(40):
        seen.take(str(n), 1000.0 + n, NOW_S)

    for n in range(40):
        with pytest.raises(Refused):
            seen.take(str(n), 1000.0 + n, NOW_S)
    assert seen._count < 30


def test_what_can_no_longer_be_repeated_is_forgotten() -> None:
    seen = signed.Seen(300.0, began_s=0.0)
    for second in range(0, 5000, 5):
        seen.take(str(second), float(second), float(second))

    assert seen._count < 70


def test_a_webhook_is_published_with_its_headers(desk: Desk, realm: Realm) -> None:
    got = desk.ask("POST", "/hook", "größe".encode(), {"X-Github-Event": "ping"})

    assert (got.status, got.text) == (202, "thanks")
    realm_, role, topic, args, kwargs, _ = realm.published[0]
    assert (realm_, role, topic, kwargs) == ("realm1", "web", "com.test.hook", {})
    assert args[0]["body"] == "größe"
    assert args[0]["headers"]["X-Github-Event"] == ["ping"]
    assert "Content-Length" in args[0]["headers"]
    realm.failure = WampFailure("wamp.error.not_authorized", ["no"])
    got = desk.ask("POST", "/hook", b"x")
    assert (got.status, got.text) == (500, "NOT OK")
    assert desk.log.lines[0][1] == "webhook not published"


def test_github_signs_its_webhooks(desk: Desk) -> None:
    """The example of GitHub's documentation."""
    right = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"

    assert (
        desk.ask("POST", "/github", b"Hello, World!", {"X-Hub-Signature-256": right}).status == 202
    )
    assert (
        desk.ask("POST", "/github", b"Hello, World?", {"X-Hub-Signature-256": right}).status == 401
    )
    assert desk.ask("POST", "/github", b"Hello, World!").status == 401
