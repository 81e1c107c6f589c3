"""What does the URL of a router say?

`ws://host:port/path`, `wss://…` (WebSocket), `rs://host:port`, `rss://…` (RawSocket), `unix:PATH` (RawSocket), `ws+unix:PATH`
or `ws+unix:PATH:/http/path` (WebSocket). `tcp://` is taken for `rs://`, as Crossbar.io's tools write it.
"""

from __future__ import annotations

from typing import NamedTuple

_KINDS = {"ws": 80, "wss": 443, "rs": 0, "rss": 0, "tcp": 0}


class Url(NamedTuple):
    """Where a router listens."""

    text: str
    is_websocket: bool
    is_tls: bool
    host: str  #: "" for a Unix socket
    port: int
    socket_path: str  #: of a Unix socket
    http_path: str  #: of a WebSocket, with the query

    @property
    def host_header(self) -> str:
        """The value of HTTP's Host."""
        if not self.host:
            return "localhost"
        name = f"[{self.host}]" if ":" in self.host else self.host
        return name if self.port == (443 if self.is_tls else 80) else f"{name}:{self.port}"


def parse(text: str) -> Url:
    """Return what a URL says; ValueError with a sentence otherwise."""
    for scheme in ("ws+unix:", "unix:"):
        if text.startswith(scheme):
            return _unix(text, text[len(scheme) :], is_websocket=scheme == "ws+unix:")
    # Two milliseconds of each start, which components that know their node's socket do not need.
    from urllib.parse import urlsplit

    parts = urlsplit(text)
    scheme = parts.scheme.lower()
    if scheme not in _KINDS:
        says = (
            f"{text!r}: a router's URL begins with ws://, wss://, rs://, rss://, unix: or ws+unix:"
        )
        raise ValueError(says)
    try:
        port = parts.port or _KINDS[scheme]
    except ValueError:
        port = -1
    if not parts.hostname or port <= 0:
        says = f"{text!r}: the URL needs a host{' and a port' if port <= 0 else ''}, like {scheme}://127.0.0.1:8080"
        raise ValueError(says)
    is_websocket = scheme.startswith("ws")
    path = parts.path or "/"
    if parts.query:
        path += f"?{parts.query}"
    is_tls = scheme in ("wss", "rss")
    return Url(text, is_websocket, is_tls, parts.hostname, port, "", path if is_websocket else "")


def _unix(text: str, rest: str, *, is_websocket: bool) -> Url:
    if rest.startswith("//"):
        rest = "/" + rest.lstrip("/")
    http_path = ""
    if is_websocket:
        rest, colon, after = rest.partition(":/")
        http_path = f"/{after}" if colon else "/"
    if not rest:
        says = f"{text!r}: the URL needs the path of the socket, like unix:/run/router.sock"
        raise ValueError(says)
    return Url(text, is_websocket, False, "", 0, rest, http_path)
