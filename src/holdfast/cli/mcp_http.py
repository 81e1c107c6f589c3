"""How does the MCP server speak HTTP: to whoever has the token, on this machine, and to no web page?

Streamable HTTP with one JSON answer for each POST; no streams, so nothing is lost when this process dies. Every request is checked in the same
order before anything of it is read: the name in ``Host`` (a foreign page may have its own name point here), ``Origin`` (no browser has business
here unless a person said which), the token. Then size, then form. One request a connection, each connection a thread with an end.
"""

import hmac
import json
import os
import secrets
import socket
import stat
import time
from http import HTTPStatus

import h11

from holdfast.cli.mcp_protocol import INVALID_REQUEST, PARSE_ERROR, Headers
from holdfast.cli.metrics_serving import Server
from holdfast.linux import files
from holdfast.model.errors import NodeError, StateError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from holdfast.cli.mcp_protocol import Protocol, Reply

PATH = "/mcp"
TOKEN_FILE = "mcp.token"  # noqa: S105 -- the name of a file
#: The longest message that is read.
LARGEST = 1 << 20
#: So long a client may take to say what it wants, and so long all of it may take.
ASK_S, PATIENCE_S = 10.0, 150.0
_HEAD = 16_384
_LEAST_TOKEN = 16


class _Refusal(Exception):  # noqa: N818 -- reads as what it says
    def __init__(self, status: int, says: str, code: int = INVALID_REQUEST, more: "tuple[tuple[str, str], ...]" = ()) -> None:  # fmt: skip
        super().__init__(says)
        self.status, self.code, self.more = status, code, more


def token_for(state_dir: str, given: "str | None") -> "tuple[str, str]":
    """Return the token and where it is: in the given file, in the environment, or in a file of the node that is made once.

    Raises:
        UsageError: The given file is not there, or what is in it is too short.
        StateError: The node's own file cannot be made.
    """
    if given:
        try:
            token = files.read(given).decode().strip() if os.path.exists(given) else ""
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(
                f"--token-file: {given}: {getattr(error, 'strerror', None) or 'is not a text'}"
            ) from None
        return _long_enough(token, f"--token-file: {given}"), given
    token = os.environ.get("HOLDFAST_MCP_TOKEN", "").strip()
    if token:
        return _long_enough(token, "HOLDFAST_MCP_TOKEN"), "HOLDFAST_MCP_TOKEN"
    path = f"{state_dir}/{TOKEN_FILE}"
    try:
        # Made once and kept: a client goes on with it when this process was killed and is back.
        if not os.path.exists(path):
            files.write_atomic(path, (secrets.token_urlsafe(32) + "\n").encode(), mode=0o600)
        token = files.read(path).decode().strip()
        is_open = bool(stat.S_IMODE(os.stat(path).st_mode) & 0o077)
    except (OSError, UnicodeDecodeError) as error:
        raise StateError(f"{path}: {getattr(error, 'strerror', None) or 'is not a text'}") from None
    if is_open:
        raise StateError(f"{path}: others may read this token\n  chmod 600 {path}")
    return _long_enough(token, path), path


def _long_enough(token: str, where: str) -> str:
    if len(token) < _LEAST_TOKEN or not token.isascii():
        raise UsageError(
            f"{where}: there is no token of at least {_LEAST_TOKEN} ASCII letters in it\n  one:  openssl rand -base64 32"
        )
    return token


def listen(host: str, port: int) -> socket.socket:
    """Return a listening socket.

    Raises:
        NodeError: There is no such address here, or somebody else listens there.
    """
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family, backlog=128)
    except OSError as error:
        shown = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        raise NodeError(
            f"--http: cannot listen at {shown}: {error.strerror or error}\n  elsewhere:  holdfast mcp --http 127.0.0.1:PORT"
        ) from None


class HttpServer(Server):
    """Answers POSTs until it is killed."""

    def __init__(
        self, listener: socket.socket, protocol: "Protocol", token: str, names: "Iterable[str]" = (), origins: "Iterable[str]" = ()
    ) -> None:  # fmt: skip
        """Be ready to serve.

        Args:
            listener: Listens already.
            protocol: Answers messages.
            token: Without it nothing is answered.
            names: Names that may stand in ``Host``, besides localhost and addresses.
            origins: Web pages that may ask, as "https://example.com".
        """
        super().__init__(listener, lambda *_: (404, "", ""), names, PATIENCE_S)
        self._protocol = protocol
        self._token = token.encode()
        self._origins = {origin.rstrip("/").lower() for origin in origins}

    def _talk(self, connected: socket.socket, until_s: float) -> None:
        http = h11.Connection(h11.SERVER, max_incomplete_event_size=_HEAD)
        asked: list[h11.Request] = []
        try:
            reply = self._heard(http, connected, time.monotonic() + ASK_S, asked)
        except _Refusal as error:
            body = {"jsonrpc": "2.0", "error": {"code": error.code, "message": str(error)}}
            is_head = bool(asked) and asked[0].method == b"HEAD"
            said = b"" if is_head else json.dumps(body).encode()
            self._say(http, connected, error.status, said, error.more)
        else:
            if reply is not None:
                body_bytes = b"" if reply.body is None else json.dumps(reply.body).encode()
                self._say(http, connected, reply.status, body_bytes)
        _hang_up(connected, until_s)

    def _heard(
        self,
        http: h11.Connection,
        connected: socket.socket,
        until_s: float,
        asked: "list[h11.Request]",
    ) -> "Reply | None":
        """Return the answer to what is said on a connection; None where nobody said anything."""
        try:
            event = _next(http, connected, until_s)
            if not isinstance(event, h11.Request):
                return None
            asked.append(event)
            heads = {name: value.decode("latin-1") for name, value in event.headers}
            self._check(event, heads)
            body = bytearray()
            while isinstance(event := _next(http, connected, until_s), h11.Data):
                body += event.data
                if len(body) > LARGEST:
                    raise _Refusal(413, f"a message has at most {LARGEST} bytes")
            if not isinstance(event, h11.EndOfMessage):
                return None  # it hung up in the middle
        except h11.RemoteProtocolError as error:
            raise _Refusal(error.error_status_hint, "this is no HTTP request") from None
        try:
            message = json.loads(bytes(body))
        except (ValueError, RecursionError):
            raise _Refusal(400, "this is not JSON", PARSE_ERROR) from None
        version, method, name = (
            heads.get(key) for key in (b"mcp-protocol-version", b"mcp-method", b"mcp-name")
        )
        return self._protocol.answer(message, Headers(version, method, name))

    def _check(self, request: h11.Request, heads: "dict[bytes, str]") -> None:
        """Pass only a request of somebody who may ask."""
        host = heads.get(b"host")
        if host is None or not self._is_allowed(host):
            raise _Refusal(
                403, f"this is not {host!r}; let it be:  holdfast mcp --http … --host NAME"
            )
        origin = heads.get(b"origin")
        if origin is not None and origin.lower() not in self._origins:
            raise _Refusal(
                403,
                f"a page of {origin[:100]!r} may not ask; let it:  holdfast mcp --http … --origin ORIGIN",
            )
        said = heads.get(b"authorization", "")
        scheme, _, token = said.partition(" ")
        if scheme.lower() != "bearer" or not hmac.compare_digest(
            token.strip().encode("latin-1"), self._token
        ):
            raise _Refusal(
                401, "the token is missing or wrong", more=(("WWW-Authenticate", "Bearer"),)
            )
        if request.target.partition(b"?")[0] != PATH.encode():
            raise _Refusal(404, f"there is nothing but {PATH}")
        if request.method != b"POST":
            raise _Refusal(
                405, "POST only: there are no streams and no sessions", more=(("Allow", "POST"),)
            )
        if heads.get(b"content-type", "").partition(";")[0].strip().lower() != "application/json":
            raise _Refusal(415, "a message is application/json")
        accept = heads.get(b"accept", "*/*").lower()
        if not any(kind in accept for kind in ("application/json", "application/*", "*/*")):
            raise _Refusal(406, "an answer is application/json")
        length = heads.get(b"content-length", "0")
        if len(length) > 9 or int(length) > LARGEST:
            raise _Refusal(413, f"a message has at most {LARGEST} bytes")

    @staticmethod
    def _say(
        http: h11.Connection, connected: socket.socket, status: int, body: bytes, more: "tuple[tuple[str, str], ...]" = ()
    ) -> None:  # fmt: skip
        head = [
            ("Content-Length", str(len(body))),
            ("Cache-Control", "no-store"),
            ("X-Content-Type-Options", "nosniff"),
            ("Connection", "close"),
            *more,
        ]
        if body:
            head.append(("Content-Type", "application/json"))
        connected.settimeout(ASK_S)
        response = h11.Response(status_code=status, headers=head, reason=HTTPStatus(status).phrase)
        data = http.send(response) or b""
        if body:
            data += http.send(h11.Data(data=body)) or b""
        connected.sendall(data)


def _next(http: h11.Connection, connected: socket.socket, until_s: float) -> "object":
    while (event := http.next_event()) is h11.NEED_DATA:
        left_s = until_s - time.monotonic()
        if left_s <= 0:
            raise _Refusal(408, f"this took longer than {ASK_S:g} s")
        connected.settimeout(left_s)
        try:
            data = connected.recv(1 << 16)
        except TimeoutError:
            raise _Refusal(408, f"this took longer than {ASK_S:g} s") from None
        http.receive_data(data)
    return event


def _hang_up(connected: socket.socket, until_s: float) -> None:
    """End without taking the answer back: the kernel would, where something that was sent is unread."""
    connected.shutdown(socket.SHUT_WR)
    deadline_s = min(until_s, time.monotonic() + 2.0)
    while (left_s := deadline_s - time.monotonic()) > 0:
        connected.settimeout(left_s)
        if not connected.recv(1 << 16):
            return
