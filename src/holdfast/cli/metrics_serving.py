"""How does `holdfast metrics` speak HTTP: small, to be looked at by machines, and hard to hold up?

One request a connection, GET and HEAD only, each connection a thread of at most :data:`PATIENCE_S`, at most :data:`MOST_CONNECTIONS` of them.
A name in ``Host`` that nobody allowed is refused: a web page that has its own name point to 127.0.0.1 would read along otherwise (an
address cannot be rebound, so addresses are let in). It changes nothing, knows no sign-in, and may be killed at any instant. Left out: what
is answered (:mod:`holdfast.cli.metrics`), TLS, compression.
"""

import ipaddress
import socket
import threading
import time
from http import HTTPStatus

import h11

from holdfast.model.errors import NodeError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    Answer = tuple[int, bytes | str, str]  #: status, body, content type

#: So long a connection may take all in all, and so many there are at a time.
PATIENCE_S = 10.0
MOST_CONNECTIONS = 16
_LONGEST_HEAD = 16_384
#: Who does not fit in is to be told so, and not to knock again a second later.
_BACKLOG = 128
_FULL = b"HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n"
TEXT = "text/plain; charset=utf-8"


def parse_address(text: str) -> "tuple[str, int]":
    """Return host and port of ``HOST:PORT``, ``[V6]:PORT``, ``:PORT`` or ``PORT``; without a host it is loopback.

    Raises:
        UsageError: It is none of these.
    """
    host, colon, port = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        colon, port = "", ""  # an IPv6 address without brackets: where would its port begin?
    if not (port.isascii() and port.isdigit() and int(port) <= 65535):
        msg = f'--listen: "{text}" is no address\n  write 127.0.0.1:9464, [::1]:9464 or 9464'
        raise UsageError(msg)
    return (host if colon and host else "127.0.0.1"), int(port)


def listen(host: str, port: int) -> socket.socket:
    """Return a listening socket.

    Raises:
        NodeError: There is no such address here, or somebody else listens there.
    """
    shown = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    sock = None
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        sock = socket.socket(family, kind)
        # The life before may have left connections in TIME_WAIT; a second listener is refused all the same.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(address)
        sock.listen(_BACKLOG)
    except OSError as error:
        if sock is not None:
            sock.close()
        msg = (
            f"--listen: cannot listen at {shown}: {error.strerror}\n"
            f"  who does:   ss -ltnp 'sport = :{port}'\n"
            "  elsewhere:  holdfast metrics --listen 127.0.0.1:PORT"
        )
        raise NodeError(msg) from None
    return sock


class Server:
    """Answers requests until it is killed."""

    def __init__(
        self,
        listener: socket.socket,
        answer: "Callable[[str, str], Answer]",
        names: "Iterable[str]" = (),
        patience_s: float = PATIENCE_S,
    ) -> None:
        """Be ready to serve.

        Args:
            listener: Listens already.
            answer: Path and ``Accept`` in, answer out; called in many threads.
            names: Names that may stand in ``Host``, besides localhost and addresses.
            patience_s: How long a connection may take.
        """
        self._listener = listener
        self._answer = answer
        self._names = {"localhost", *(name.lower() for name in names)}
        self._patience_s = patience_s
        self._room = threading.BoundedSemaphore(MOST_CONNECTIONS)

    def serve(self) -> None:
        """Take connections, until the listener is closed."""
        while True:
            try:
                connected, _ = self._listener.accept()
            except OSError:
                if self._listener.fileno() < 0:
                    return
                time.sleep(0.05)  # out of descriptors: those that are open end by themselves
                continue
            if not self._room.acquire(blocking=False):
                _refuse(connected)
                continue
            threading.Thread(target=self._attend, args=(connected,), daemon=True).start()

    def _attend(self, connected: socket.socket) -> None:
        try:
            with connected:
                self._talk(connected, time.monotonic() + self._patience_s)
        except OSError:
            pass  # it hung up, or was too slow: nothing is lost but its own answer
        finally:
            self._room.release()

    def _talk(self, connected: socket.socket, until_s: float) -> None:
        http = h11.Connection(h11.SERVER, max_incomplete_event_size=_LONGEST_HEAD)
        try:
            while (event := http.next_event()) is h11.NEED_DATA:
                connected.settimeout(_left(until_s))
                http.receive_data(connected.recv(_LONGEST_HEAD))
        except h11.RemoteProtocolError as error:
            found: Answer = (error.error_status_hint, "this is no HTTP request\n", TEXT)
            event = None
        else:
            if not isinstance(event, h11.Request):
                return  # it hung up without a word
            found = self._found(event)
        status, said, kind = found
        body = said.encode("utf-8", "replace") if isinstance(said, str) else said
        head = [
            ("Content-Type", kind),
            ("Content-Length", str(len(body))),
            ("Cache-Control", "no-store"),
            ("X-Content-Type-Options", "nosniff"),
            ("Connection", "close"),
        ]
        if status == 405:
            head.append(("Allow", "GET, HEAD"))
        data = (
            http.send(
                h11.Response(status_code=status, headers=head, reason=HTTPStatus(status).phrase)
            )
            or b""
        )
        if event is None or event.method != b"HEAD":
            data += http.send(h11.Data(data=body)) or b""
        connected.settimeout(_left(until_s))
        connected.sendall(data)  # the time limit is for all of it
        # What it sent and nobody read would make the kernel take the answer back.
        connected.shutdown(socket.SHUT_WR)
        while (left_s := until_s - time.monotonic()) > 0:
            connected.settimeout(min(left_s, 1.0))
            if not connected.recv(65536):
                return

    def _found(self, request: h11.Request) -> "Answer":
        heads = {name: value.decode("latin-1") for name, value in request.headers}
        if not self._is_allowed(heads.get(b"host")):
            said = heads.get(b"host", "")
            says = f"this is not {said!r}\n  let it be:  holdfast metrics --listen … --host NAME\n"
            return 403, says, TEXT
        if request.method not in (b"GET", b"HEAD"):
            return 405, "there is nothing to change here: GET and HEAD only\n", TEXT
        path = request.target.decode("latin-1").partition("?")[0]
        return self._answer(path, heads.get(b"accept", ""))

    def _is_allowed(self, host: "str | None") -> bool:
        if host is None:
            return True  # HTTP/1.0: no browser
        name = host.strip().lower()
        name = name[1:].partition("]")[0] if name.startswith("[") else name.partition(":")[0]
        if name.removesuffix(".") in self._names:
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True


def _left(until_s: float) -> float:
    left_s = until_s - time.monotonic()
    if left_s <= 0:
        raise TimeoutError
    return left_s


def _refuse(connected: socket.socket) -> None:
    with connected:
        connected.setblocking(False)
        try:
            connected.send(_FULL)
            connected.shutdown(socket.SHUT_WR)
            # With its request unread, the kernel would take the answer back.
            connected.recv(_LONGEST_HEAD)
        except OSError:
            return  # gone already, or has not said anything yet
