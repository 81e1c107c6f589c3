"""Who knocks at a listening socket, and in which language?

Accepts connections of one transport, puts TLS on top where the plan says so, and tells by the first octet what is spoken:
0x7F is WAMP-over-RawSocket, anything else HTTP (:mod:`holdfast.router.web`), which hands WebSocket upgrades back
to us. What a newcomer may cost is limited here: their number, and how long they take. The listening sockets are the keeper's:
closing ours loses no client that waits.
"""

import asyncio
import errno
import socket
import struct
from fnmatch import fnmatchcase
from time import monotonic

from holdfast.core.wamp.handshake import TransportFacts
from holdfast.router.connection import (
    BatchedConnection,
    DeflateConnection,
    RawSocketConnection,
    WebSocketConnection,
    end_output,
)
from holdfast.router.stream import Stream
from holdfast.router.web.connection import HttpConnection, serve_http
from holdfast.router.web.head import Refused
from holdfast.router.web.site import Site
from holdfast.wire import rawsocket, websocket
from holdfast.wire.wamp import BY_RAWSOCKET_ID, BY_SUBPROTOCOL, CODECS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from holdfast.model.bus import TransportPlan, WebSocketPlan
    from holdfast.router.router import Router
    from holdfast.router.web.head import RequestHead
    from holdfast.wire.wamp.codec import Codec

#: Connections accepted in one go; the loop gets its turn between.
_ACCEPTS = 64
#: A newcomer that has had this long may be sent away for the next one when there are too many.
_FAIR_S = 1.0


def _answer(status: str, says: str) -> bytes:
    """Make an HTTP answer that is the last one on its connection."""
    return (
        f"HTTP/1.1 {status}\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n"
        f"Content-Length: {len(says) + 1}\r\n\r\n{says}\n"
    ).encode()


_TOO_MANY = _answer(
    "503 Service Unavailable", "Too many connections wait to sign in; try again in a moment."
)
_NO_HTTP = _answer("400 Bad Request", "Here only WAMP over RawSocket is spoken (rs://), not HTTP.")
_CRED = struct.Struct("iII")
_OUT_OF_DESCRIPTORS = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


class Port:
    """A listening socket and what is served there."""

    def __init__(self, router: "Router", plan: "TransportPlan", listening: socket.socket) -> None:
        self.router = router
        self.plan = plan
        self._listening = listening
        self._descriptor = listening.fileno()
        self._is_unix = listening.family == socket.AF_UNIX
        self.site: Site | None = None
        self.certificates: Any = None
        #: In the order in which they came.
        self.http: dict[HttpConnection, None] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._sweeps = 0
        self._configure(plan)

    def _configure(self, plan: "TransportPlan") -> None:
        self.plan = plan
        self.trouble = ""
        tls = plan["endpoint"]["tls"]
        if tls is not None:
            from holdfast.router.tls import Certificates

            self.certificates = Certificates(tls)
            self._renew()
        else:
            self.certificates = None
        self.site = None
        if plan["websocket"] is not None or plan["paths"]:
            self.site = Site(
                plan["paths"], plan["websocket"], on_websocket=self.on_websocket, bridge=self.router.bridge,
                facts=self.router.facts, unready=self.router.unready, set_cookie=self._cookie_setter(plan),
                head_s=self.router.limits["handshake_s"],
                log=self.router.log,
            )  # fmt: skip

    def _cookie_setter(self, plan: "TransportPlan") -> "Callable[[RequestHead], str | None] | None":
        """Return what gives browsers the cookie of this port's sign-in with a page, before the page opens a WebSocket."""
        services = [plan["websocket"], *(path["websocket"] for path in plan["paths"].values())]
        auth = next(
            (one["auth"] for one in services if one is not None and one["auth"].get("cookie")), None
        )
        if auth is None:
            return None
        signin, is_tls = self.router.signin, plan["endpoint"]["tls"] is not None

        def set_cookie(head: "RequestHead") -> str | None:
            found = signin.cookie(auth, _cookies(head), is_tls=is_tls)
            return found.set_cookie if found is not None else None

        return set_cookie

    def open(self) -> None:
        """Begin to accept."""
        self._listening.setblocking(False)
        self.router.poller.watch(self._descriptor, self)
        self.router.ports.append(self)
        self._accept_again()

    def _accept_again(self) -> None:
        """Accept, unless there is no certificate: clients wait in the backlog until there is one."""
        if self in self.router.ports:
            self.router.poller.change(self._descriptor, reads=not self.trouble, writes=False)

    def close(self) -> None:
        """Accept no more; connections live on, and clients that wait stay in the keeper's backlog."""
        self.router.poller.forget(self._descriptor)
        self._listening.close()
        for connection in self.http:
            if connection.is_idle:
                connection.transport.close()

    def reconfigure(self, plan: "TransportPlan") -> None:
        """Serve new connections by another plan."""
        self._configure(plan)
        self._accept_again()

    # -- accepting -------------------------------------------------------------------------------

    def readable(self) -> None:
        """Accept who waits."""
        for _ in range(_ACCEPTS):
            try:
                sock, address = self._listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                if error.errno in _OUT_OF_DESCRIPTORS:
                    self._pause(error)
                    return
                raise
            self._welcome(sock, address)

    def _pause(self, error: OSError) -> None:
        """Look again in a moment: the backlog keeps who waits."""
        self.router.tell("accepting pauses", transport=self.plan["name"], says=error.strerror or "")
        self.router.poller.change(self._descriptor, reads=False, writes=False)
        self.router.loop.call_later(0.2, self._accept_again)

    def _welcome(self, sock: socket.socket, address: "Any") -> None:
        router = self.router
        sock.setblocking(False)
        if self._is_unix:
            peer = _unix_peer(sock)
        else:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            peer = _tcp_peer(address)
        if len(router.newcomers) + len(self._tasks) >= router.limits["connections_unauthenticated"]:
            router.tell("too many connections wait to sign in", peer=peer)
            if not self._make_room():
                _turn_away(sock)
                return
        if self.certificates is not None:
            task = router.loop.create_task(self._start_tls(sock, peer))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        else:
            Stream(router.poller, sock, Entrance(self, peer))

    def _make_room(self) -> bool:
        """Send the newcomer away that has had longest, if that was long enough for an honest one."""
        newcomers = self.router.newcomers
        transport = next(iter(newcomers), None)
        if transport is None or monotonic() - newcomers[transport] < _FAIR_S:
            return False
        del newcomers[transport]
        protocol = transport.get_protocol()
        if protocol is not None:
            protocol.overdue()
        return True

    async def _start_tls(self, sock: socket.socket, peer: str) -> None:
        try:
            await self.router.loop.connect_accepted_socket(
                lambda: Entrance(self, peer), sock, ssl=self.certificates.context,
                ssl_handshake_timeout=self.router.limits["handshake_s"],
            )  # fmt: skip
        except OSError as error:  # ssl.SSLError is one, and so is a timeout
            sock.close()
            self.router.tell("TLS handshake failed", peer=peer, says=str(error))

    def sweep(self, now_s: float) -> None:
        """Look after deadlines of HTTP connections and after changed certificates."""
        for connection in tuple(self.http):
            if connection.is_over:
                del self.http[connection]
            else:
                connection.sweep(now_s)
        self._sweeps += 1
        if self.certificates is not None and self._sweeps % 4 == 0:
            self._renew()

    def _renew(self) -> None:
        from holdfast.router.tls import TlsError

        log, name = self.router.log, self.plan["name"]
        is_first = self.certificates.context is None
        try:
            if self.certificates.renew() and not is_first:
                log.info("new certificate taken over", transport=name)
        except TlsError as error:
            if self.certificates.context is None:
                self.trouble = str(error)
                log.error(
                    "not served until the certificate is there", transport=name, says=str(error)
                )
            else:
                log.error("the certificate before goes on", transport=name, says=str(error))
        else:
            if self.trouble and self.certificates.context is not None:
                self.trouble = ""
                self._accept_again()

    # -- who it is -------------------------------------------------------------------------------

    def recognise(self, transport: "Any", first: bytes, peer: str) -> bool:
        """Hand a connection over to whoever speaks its language; False: more octets are needed."""
        if first[0] == rawsocket.MAGIC:
            return self._rawsocket(transport, first, peer)
        self.router.newcomers.pop(transport, None)
        if self.site is None:
            transport.write(_NO_HTTP)
            Leaving.take(self.router, transport)
            return True
        protocol = serve_http(transport, first, self.site)
        # What became a WebSocket at once is none of these; what becomes one later is let go by the sweep.
        if isinstance(protocol, HttpConnection):
            self.http[protocol] = None
            self.router.limit_http(protocol)
        return True

    def _rawsocket(self, transport: "Any", first: bytes, peer: str) -> bool:
        plan = self.plan["rawsocket"]
        if plan is None:
            transport.write(rawsocket.refusal(rawsocket.SERIALIZER_UNSUPPORTED))
            Leaving.take(self.router, transport)
            return True
        if len(first) < 4:
            return False
        try:
            serializer, peer_max = rawsocket.read_request(first[:4])
        except rawsocket.FrameError as error:
            transport.write(error.reply)
            Leaving.take(self.router, transport)
            return True
        codec = BY_RAWSOCKET_ID.get(serializer)
        if codec is None or codec.name not in plan["serializers"]:
            transport.write(rawsocket.refusal(rawsocket.SERIALIZER_UNSUPPORTED))
            Leaving.take(self.router, transport)
            return True
        most = plan["message_bytes"]
        # What is announced holds once there is a session; before that it is much less (see Connection).
        transport.write(rawsocket.hello(serializer, most))
        connection = RawSocketConnection(
            self.router, transport, codec, plan, self._facts(transport, "rawsocket", codec, peer),
            rawsocket.Reader(rawsocket.limit(most)), peer_max=peer_max,
        )  # fmt: skip
        transport.set_protocol(connection)
        if len(first) > 4:
            connection.data_received(first[4:])
        return True

    def _facts(
        self, transport: "Any", kind: str, codec: "Codec", peer: str, cookie: str | None = None
    ) -> TransportFacts:
        is_tls = self.certificates is not None
        details: dict[str, Any] = {
            "type": kind,
            "protocol": codec.subprotocol,
            "peer": peer,
            "is_secure": is_tls,
        }
        channel = certificate = None
        if is_tls:
            from holdfast.router import tls

            channel, certificate = tls.channel_id(transport), tls.client_certificate(transport)
        return TransportFacts(
            kind, peer, is_tls, self.plan["internal"], channel, certificate, cookie, details
        )

    def on_websocket(
        self, transport: "Any", head: "RequestHead", plan: "WebSocketPlan", rest: bytes
    ) -> asyncio.Protocol:
        """Do the WebSocket handshake; returns the protocol that goes on with the connection.

        Raises:
            holdfast.router.web.head.Refused: The request cannot be one, or its page may not use us.
        """
        router, is_tls = self.router, self.certificates is not None
        _check_origin(head, plan["origins"])
        peer = peer_of(transport)
        cookie = router.signin.cookie(plan["auth"], _cookies(head), is_tls=is_tls)
        extra = (("Set-Cookie", cookie.set_cookie),) if cookie and cookie.set_cookie else ()
        offer = websocket.Deflate() if plan["compression"] else None
        names = [CODECS[name].subprotocol for name in plan["serializers"]]
        found = websocket.accept(head.method.encode(), head.headers, names, offer, extra)
        if isinstance(found, websocket.Refused):
            raise Refused(found.status, found.says, found.headers)
        transport.write(found.response)
        codec = BY_SUBPROTOCOL[found.subprotocol or ""]
        reader = websocket.Reader(
            True, plan["message_bytes"], found.deflate, websocket.BINARY if codec.is_binary else websocket.TEXT
        )  # fmt: skip
        facts = self._facts(transport, "websocket", codec, peer, cookie and cookie.value)
        args = (router, transport, codec, plan, facts, reader)
        connection: WebSocketConnection
        if codec.is_batched:
            connection = BatchedConnection(*args, deflate=found.deflate)
        elif found.deflate is not None:
            connection = DeflateConnection(*args, deflate=found.deflate)
        else:
            connection = WebSocketConnection(*args)
        router.newcomers[transport] = monotonic()
        transport.set_protocol(connection)
        if rest:
            connection.data_received(rest)
        return connection


class Entrance(asyncio.Protocol):
    """A connection whose language is not known yet."""

    __slots__ = ("_first", "_peer", "_port", "_transport")

    def __init__(self, port: Port, peer: str) -> None:
        self._port = port
        self._peer = peer
        self._first = b""
        self._transport: Any = None

    def connection_made(self, transport: "Any") -> None:
        """Begin to wait."""
        self._transport = transport
        self._port.router.newcomers[transport] = monotonic()

    def data_received(self, data: bytes) -> None:
        """Look at the first octets."""
        first = self._first + data if self._first else data
        if not self._port.recognise(self._transport, first, self._peer):
            self._first = first

    def connection_lost(self, error: "Exception | None") -> None:  # noqa: ARG002 -- however
        """Forget it."""
        self._port.router.newcomers.pop(self._transport, None)

    def overdue(self) -> None:
        """End a connection that says nothing."""
        self._transport.abort()


class Leaving(asyncio.Protocol):
    """A connection that was refused: what still comes is thrown away until it closes, or is overdue."""

    __slots__ = ("_router", "transport")

    def __init__(self, router: "Router", transport: "Any") -> None:
        self._router = router
        self.transport = transport

    @classmethod
    def take(cls, router: "Router", transport: "Any") -> None:
        """End the output of a connection and wait for its end."""
        self = cls(router, transport)
        transport.set_protocol(self)
        router.leaving(self)
        end_output(transport)

    def data_received(self, data: bytes) -> None:
        """Throw it away."""

    def connection_lost(self, error: "Exception | None") -> None:  # noqa: ARG002 -- however
        """Forget it."""
        self._router.lingering.pop(self, None)


def _turn_away(sock: socket.socket) -> None:
    """Tell one that is too many why, in its own language if it has spoken already."""
    try:
        first = sock.recv(65536)
        if first[:1] == b"\x7f":
            sock.send(rawsocket.refusal(rawsocket.TOO_MANY_CONNECTIONS))
        elif first:
            sock.send(_TOO_MANY)
    except OSError:
        pass  # it has said nothing yet, or is gone: closing is all there is to say
    sock.close()


def _cookies(head: "RequestHead") -> str | None:
    sent = b"; ".join(value for name, value in head.headers if name == b"cookie")
    return sent.decode("latin-1") or None


def _check_origin(head: "RequestHead", allowed: "list[str]") -> None:
    """Refuse pages of strangers: browsers say where a page is from."""
    origin = head.get(b"origin")
    if origin is None or "*" in allowed:
        return
    text = origin.decode("latin-1").lower()
    if not any(fnmatchcase(text, pattern.lower()) for pattern in allowed):
        raise Refused(
            403, f"Pages from {text[:200]} may not connect here (origins of the transport)."
        )


def peer_of(transport: "Any") -> str:
    """Return who is at the other end, as Crossbar.io writes it: `tcp4:127.0.0.1:53976`, `unix:…`."""
    sock = transport.get_extra_info("socket")
    if sock is not None and sock.family == socket.AF_UNIX:
        return _unix_peer(sock)
    address = transport.get_extra_info("peername")
    return _tcp_peer(address) if address else "tcp4:?"


def _tcp_peer(address: "Any") -> str:
    return f"tcp{4 if len(address) == 2 else 6}:{address[0]}:{address[1]}"


def _unix_peer(sock: "Any") -> str:
    """Name the process at the other end: paths of clients' sockets are mostly empty."""
    try:
        pid, uid, _ = _CRED.unpack(
            sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CRED.size)
        )
    except OSError:
        return "unix:"
    return f"unix:pid={pid},uid={uid}"
