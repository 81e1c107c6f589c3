"""Our reader of request heads lets nothing pass that h11 would not, and both understand the same."""

from __future__ import annotations

import h11
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.router.web.head import HEAD_BYTES, Refused, RequestHead, end_of_head, parse_head

UPGRADE = (
    b"GET /ws?x=1 HTTP/1.1\r\nHost: localhost:8080\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


def head(*lines: bytes) -> bytes:
    return b"\r\n".join([*lines, b"", b""])


def test_an_upgrade_is_understood() -> None:
    """The way every WebSocket client comes in."""
    got = parse_head(UPGRADE)

    assert got[:4] == ("GET", "/ws?x=1", "/ws", "x=1")
    assert got.is_upgrade
    assert got.get(b"sec-websocket-version") == b"13"


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        ([b"GET / HTTP/1.1"], 400),
        ([b"GET / HTTP/1.1", b"Host: a", b"Host: b"], 400),
        ([b"GET / HTTP/1.1", b"Host: a/b"], 400),
        ([b"POST / HTTP/1.1", b"Host: a", b"Content-Length: 3", b"Transfer-Encoding: chunked"], 400),
        ([b"POST / HTTP/1.1", b"Host: a", b"Content-Length: 3", b"Content-Length: 3"], 400),
        ([b"POST / HTTP/1.1", b"Host: a", b"Content-Length: +3"], 400),
        ([b"POST / HTTP/1.1", b"Host: a", b"Content-Length: 3, 3"], 400),
        ([b"POST / HTTP/1.1", b"Host: a", b"Transfer-Encoding: gzip, chunked"], 501),
        ([b"POST / HTTP/1.1", b"Host: a", b"Transfer-Encoding : chunked"], 400),
        ([b"POST / HTTP/1.0", b"Transfer-Encoding: chunked"], 400),
        ([b"GET / HTTP/1.1", b"Host: a", b"X: b", b" folded"], 400),
        ([b"GET / HTTP/1.1", b"Host: a", b"X: a\x00b"], 400),
        ([b"GET / HTTP/1.1", b"Host: a", b"X: a\rb"], 400),
        ([b"GET / HTTP/1.1\nHost: a"], 400),
        ([b"GET  / HTTP/1.1", b"Host: a"], 400),
        ([b"GET / HTTP/2.0", b"Host: a"], 505),
        ([b"GET x HTTP/1.1", b"Host: a"], 400),
        ([b"GET /#f HTTP/1.1", b"Host: a"], 400),
        ([b"GET /%zz HTTP/1.1", b"Host: a"], 400),
        ([b"GET /%00 HTTP/1.1", b"Host: a"], 400),
        ([b"GET /%ff HTTP/1.1", b"Host: a"], 400),
        ([b"CONNECT a:1 HTTP/1.1", b"Host: a"], 501),
        ([b"GET / HTTP/1.1", b"Host: a", b"Expect: a pony"], 417),
        ([b"GET / HTTP/1.1", b"Host: a", *[b"X: y"] * 101], 431),
        ([b"GET /" + b"a" * 8300 + b" HTTP/1.1", b"Host: a"], 414),
    ],
)  # fmt: skip
def test_what_two_readers_could_read_differently_is_refused(
    lines: list[bytes], status: int
) -> None:
    """Smuggling lives on such differences between a proxy and us."""
    with pytest.raises(Refused) as caught:
        parse_head(head(*lines))

    assert caught.value.status == status
    assert caught.value.says.endswith((".", "?"))


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"GET / HTTP/1.1\n\n", 400),
        (b"\n", 400),
        (b"G" * 9000, 414),
        (b"GET / HTTP/1.1\r\nX: " + b"a" * HEAD_BYTES, 431),
        (b"GET / HTTP/1.1\r\nX: " + b"a" * HEAD_BYTES + b"\r\n\r\n", 431),
    ],
)
def test_a_head_that_can_no_longer_become_one_is_refused_at_once(data: bytes, status: int) -> None:
    with pytest.raises(Refused) as caught:
        end_of_head(data)

    assert caught.value.status == status


def test_an_absolute_address_is_that_of_its_path() -> None:
    """RFC 9112 3.2.2: a server has to accept what is meant for a proxy."""
    assert parse_head(head(b"GET http://a:80/x%20y?z HTTP/1.1", b"Host: a"))[2:4] == ("/x y", "z")
    assert parse_head(head(b"GET http://a HTTP/1.1", b"Host: a")).path == "/"


def by_h11(data: bytes) -> h11.Request | None:
    connection = h11.Connection(h11.SERVER)
    try:
        connection.receive_data(data)
        event = connection.next_event()
    except h11.RemoteProtocolError:
        return None
    return event if isinstance(event, h11.Request) else None


TOKENS = st.sampled_from(
    [b"GET", b"POST", b"/", b"/a%20b", b"*", b" ", b"  ", b"\t", b"HTTP/1.1", b"HTTP/1.0", b"HTTP/1.2", b"\r\n", b"\n", b"\r",
     b"Host: a", b"Host:", b"host: b", b"Content-Length: 5", b"Content-Length: 05", b"Transfer-Encoding: chunked", b"X-Y: z",
     b"X Y: z", b": z", b"Connection: Upgrade", b"Upgrade: websocket", b"\x00", b"\x80", b"\x0b", b"\x7f", b"\xc3\xa9", b"=", b"#", b"?"]
)  # fmt: skip


@settings(max_examples=400)
@given(
    st.one_of(
        st.lists(TOKENS, max_size=14).map(b"".join),
        st.lists(TOKENS, max_size=6).map(lambda t: b"GET / HTTP/1.1\r\nHost: a\r\n" + b"".join(t) + b"\r\n"),
        st.builds(
            lambda at, junk: UPGRADE[: at % len(UPGRADE)] + junk + UPGRADE[at % len(UPGRADE) :],
            st.integers(0, 1000), st.binary(max_size=4),
        ),
    ).map(lambda data: data + b"\r\n\r\n")
)  # fmt: skip
def test_whatever_we_accept_h11_accepts_with_the_same_meaning(data: bytes) -> None:
    """The upgrade goes past h11: so what is faster must never be looser."""
    end = -1
    try:
        end = end_of_head(data)
        ours: RequestHead | None = parse_head(data[:end]) if end > 0 else None
    except Refused:
        ours = None
    if ours is not None:
        theirs = by_h11(data[:end])

        assert theirs is not None
        assert (ours.method, ours.target) == (theirs.method.decode(), theirs.target.decode())
        # h11 joins nothing and drops nothing but a repeated equal Content-Length, which we refuse.
        assert ours.headers == [(bytes(k), bytes(v)) for k, v in theirs.headers]
        assert ours.version == theirs.http_version.decode()
