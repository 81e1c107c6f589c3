"""The addresses of routers."""

from __future__ import annotations

import pytest

from holdfast.bus.urls import Url, parse


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ws://a:8080/ws", Url("", True, False, "a", 8080, "", "/ws")),
        ("ws://a", Url("", True, False, "a", 80, "", "/")),
        ("wss://a/x?y=1", Url("", True, True, "a", 443, "", "/x?y=1")),
        ("rs://[::1]:8081", Url("", False, False, "::1", 8081, "", "")),
        ("tcp://a:1", Url("", False, False, "a", 1, "", "")),
        ("rss://a:8", Url("", False, True, "a", 8, "", "")),
        ("unix:/run/x.sock", Url("", False, False, "", 0, "/run/x.sock", "")),
        ("unix:///run/x.sock", Url("", False, False, "", 0, "/run/x.sock", "")),
        ("unix:x.sock", Url("", False, False, "", 0, "x.sock", "")),
        ("ws+unix:/run/x.sock", Url("", True, False, "", 0, "/run/x.sock", "/")),
        ("ws+unix:/run/x.sock:/ws", Url("", True, False, "", 0, "/run/x.sock", "/ws")),
    ],
)
def test_every_way_to_write_an_address(text: str, expected: Url) -> None:
    """Scheme, host, port, path: nothing is guessed that is written."""
    assert parse(text) == expected._replace(text=text)


@pytest.mark.parametrize("text", ["", "http://a:1", "ws://", "rs://a", "unix:", "ws://a:x", "a:1"])
def test_a_wrong_address_is_refused_in_a_sentence_that_has_it(text: str) -> None:
    """The person who wrote it finds it in the text."""
    with pytest.raises(ValueError) as refused:
        parse(text)

    assert repr(text) in str(refused.value)


def test_host_header_has_the_port_only_where_it_is_not_the_usual_one() -> None:
    """As browsers write it; some servers compare."""
    written = [parse(url).host_header for url in ("ws://a:80/", "ws://a:81/", "wss://a/", "wss://[::1]:444/", "ws+unix:x")]  # fmt: skip

    assert written == ["a", "a:81", "a", "[::1]:444", "localhost"]
