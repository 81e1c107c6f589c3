"""How do WAMP messages get from one connection through a realm to the others, a chunk at a time?

The hot loop of the router: bytes that were read → frames → messages → the realm; what the realm sends is framed, put into
the list of its connection, and written once when the whole chunk is dealt with. Around it the life of a connection: sign-in,
open session, leaving, end. Chosen for the cost of a message: no tasks, no timers, no closures here; deadlines are the
router's sweep (:mod:`holdfast.router.router`). Accepting and telling RawSocket from HTTP: :mod:`holdfast.router.port`.
"""

import asyncio
from struct import Struct
from time import monotonic

from holdfast.core.wamp.errors import ProtocolViolation
from holdfast.core.wamp.messages import (
    ABORT,
    CALL,
    ERROR,
    EVENT,
    GOODBYE,
    INVOCATION,
    RESULT,
    WELCOME,
    YIELD,
    Error,
    Goodbye,
)
from holdfast.router.stream import Stream
from holdfast.router.visit import Visit
from holdfast.wire import rawsocket, websocket
from holdfast.wire.wamp.errors import EncodeError, ProtocolError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from holdfast.core.wamp.handshake import TransportFacts
    from holdfast.core.wamp.messages import Message, Payload, Shared
    from holdfast.core.wamp.session import Session
    from holdfast.router.router import Router
    from holdfast.wire.wamp.codec import Codec

#: Why a session ends, as WAMP says it.
PROTOCOL_VIOLATION = "wamp.error.protocol_violation"
GOODBYE_AND_OUT = "wamp.close.goodbye_and_out"
LOGOUT = "wamp.close.logout"
TOO_LARGE = "wamp.error.payload_size_exceeded"
INVALID_PAYLOAD = "wamp.error.invalid_payload"

#: Each has `messages`, the complete ones before it in the chunk, and `reason`.
_FRAME_ERRORS = (rawsocket.FrameError, websocket.FrameError)

#: Bytes of a message of somebody who has not signed in: room for any HELLO and AUTHENTICATE, and none for mischief.
NEWCOMER_BYTES = 65_536

_LENGTH_16 = Struct(">BBH").pack
_LENGTH_64 = Struct(">BBQ").pack
#: The heads of short WebSocket frames, text and binary, by length.
_SHORT_TEXT = tuple(bytes((0x81, n)) for n in range(126))
_SHORT_BINARY = tuple(bytes((0x82, n)) for n in range(126))


class Connection(asyncio.Protocol):
    """What RawSocket and WebSocket connections have in common; also the outlet of the session on it.

    States: signing in (`visit` is set), open (`session` is set), leaving (neither; input is dropped until the peer closes or
    the sweep ends it).
    """

    __slots__ = ("decode", "encode", "facts", "heard_s", "is_leaving", "key", "message_bytes", "out", "pinged_s", "plan", "reader",
                 "realm", "receive", "router", "session", "transport", "visit")  # fmt: skip

    kind = ""

    def __init__(
        self, router: "Router", transport: "Any", codec: "Codec", plan: "Any", facts: "TransportFacts", reader: "Any"
    ) -> None:  # fmt: skip
        self.router = router
        self.transport = transport
        self.decode = codec.decode
        self.encode = codec.encode
        self.key = codec.name
        self.plan = plan  #: of the service: ping_s, ping_timeout_s, queue_bytes, auth
        self.facts = facts
        self.reader = reader
        #: What its messages may have once it has signed in.
        self.message_bytes: int = reader.max_message_bytes
        self.out: list[bytes] = []
        self.session: Session | None = None
        self.realm: Any = None
        self.visit: Visit | None = None
        self.receive: Callable[[Any, Any, float], object] = self._sign_in
        self._begin_visit()
        self.is_leaving = False
        self.heard_s = monotonic()
        self.pinged_s = 0.0
        transport.set_write_buffer_limits(high=plan["queue_bytes"])
        if transport.__class__ is Stream:
            transport.count_in(router.tally)
        router.connections[self] = None

    @property
    def peer(self) -> str:
        """Who is at the other end: `tcp4:127.0.0.1:53976`."""
        return self.facts.peer

    # -- input -----------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """Deal with a chunk, then write what it has led to."""
        router = self.router
        router.is_idle = False
        self.heard_s = now_s = monotonic()
        try:
            messages = self.reader.feed(data)
            decode = self.decode
            for raw in messages:
                message = decode(raw)
                if message.__class__ is Goodbye:
                    self._said_goodbye(message)
                else:
                    self.receive(self.session, message, now_s)
            if self.reader.events:
                self._control()
            router.worked(len(messages), self.realm)
        except (ProtocolError, ProtocolViolation) as error:
            self.violated(str(error))
        except _FRAME_ERRORS as error:
            self._broken_frames(error)
        except Exception as error:  # noqa: BLE001 -- one client's message must not end the others
            self.failed(error)
        finally:
            router.flush()

    def _control(self) -> None:
        """Deal with what the framing reports beside messages."""
        raise NotImplementedError

    def _broken_frames(self, error: "Any") -> None:
        """Deal with what came before the fault of the framing, then end."""
        now_s = self.heard_s
        try:
            for raw in error.messages:
                message = self.decode(raw)
                if message.__class__ is Goodbye:
                    self._said_goodbye(message)
                else:
                    self.receive(self.session, message, now_s)
        except (ProtocolError, ProtocolViolation) as worse:
            self.violated(str(worse))
            return
        if not self.is_leaving:
            self._end_frames(error)

    def _end_frames(self, error: "Any") -> None:
        self.violated(self._frame_fault(error))

    def _frame_fault(self, error: "Any") -> str:
        # The limit of a message is another one then: without this, nobody would understand it.
        return (
            f"{error.reason} (before the sign-in)" if self.visit is not None else str(error.reason)
        )

    def _drop(self, _session: object, _message: object, _now_s: float) -> None:
        """Receive for a connection that is leaving."""

    # -- the life of the session -----------------------------------------------------------------

    def _begin_visit(self) -> None:
        self.visit = Visit(self.router, self.plan["auth"], self.facts)
        self.receive = self._sign_in
        self.reader.max_message_bytes = min(self.message_bytes, NEWCOMER_BYTES)

    def _sign_in(self, _session: None, message: "Message", now_s: float) -> None:
        visit = self.visit
        assert visit is not None  # noqa: S101 -- this is `receive` only while there is one
        visit.receive(self, message, now_s)

    def opened(self, session: "Session", realm: "Any") -> None:
        """Go over to an open session."""
        self.session = session
        self.realm = realm
        self.visit = None
        self.receive = realm.receive
        self.reader.max_message_bytes = self.message_bytes

    def _said_goodbye(self, message: "Any") -> None:
        """Answer GOODBYE; the connection can be used for another session."""
        if self.is_leaving:
            self.finish()  # the answer to ours
            return
        if self.session is None:
            raise ProtocolViolation("GOODBYE before there is a session")
        self.leave_realm()
        if message.reason == LOGOUT:
            self.router.sign_out(self)
        self.send([GOODBYE, {}, GOODBYE_AND_OUT])
        self._begin_visit()
        self.router.newcomers[self.transport] = self.heard_s

    def leave_realm(self) -> None:
        """Take the session, if there is one, out of its realm."""
        session = self.session
        if session is not None:
            self.session = None
            realm, self.realm = self.realm, None
            self.router.left(self, session, realm)

    def close(self, reason: str, says: str) -> None:
        """Say GOODBYE and end; the session has left its realm already (Outlet)."""
        session, self.session = self.session, None
        if session is not None:
            self.realm = None
            self.router.forget_session(session)
        self.send([GOODBYE, {"message": says}, reason])
        self._await_end()

    def refuse(self, reason: str, says: str) -> None:
        """Say ABORT and end."""
        self.leave_realm()
        if self.is_leaving:
            return
        self.send([ABORT, {"message": says}, reason])
        self._await_end()
        self.finish()

    def violated(self, says: str) -> None:
        """End a connection whose peer broke the protocol."""
        if not self.is_leaving:
            self.router.tell_violation(self, says)
            self.refuse(PROTOCOL_VIOLATION, says)

    def failed(self, error: Exception) -> None:
        """End a connection whose message found a fault in the router: told with its traceback."""
        self.router.tell_fault(self, error)
        self.refuse(
            "wamp.error.internal_error",
            "the router failed at this message; its log has the details",
        )

    def quit(self) -> None:
        """End a connection whose client gave its sign-in up."""
        self._await_end()
        self.finish()

    def overdue(self) -> None:
        """The sweep says: it has taken too long to sign in."""
        limit_s = self.router.limits["handshake_s"]
        self.refuse("wamp.error.timeout", f"the sign-in has to be done within {limit_s:g} s")

    def _await_end(self) -> None:
        self.is_leaving = True
        self.visit = None
        self.receive = self._drop
        self.router.leaving(self)

    def finish(self) -> None:
        """End the output; input goes on until the peer has closed, else a reset could overtake our last words."""
        raise NotImplementedError

    # -- output (Outlet) -------------------------------------------------------------------------

    def send(self, head: "list[Any]", payload: "Payload | None" = None) -> None:
        """Queue a message."""
        raise NotImplementedError

    def send_shared(self, message: "Shared") -> None:
        """Queue a message that others get, too."""
        raise NotImplementedError

    def write_out(self) -> None:
        """Write what is queued."""
        out = self.out
        if out:
            data = b"".join(out)
            out.clear()
            self.transport.write(data)

    def ping(self) -> None:
        """Ask whether the peer is still there."""
        raise NotImplementedError

    def _queue(self, data: bytes) -> None:
        """Queue finished bytes."""
        if not self.out:
            self.router.is_due(self)
        self.out.append(data)

    def _unsayable(self, head: "list[Any]", uri: str, says: str) -> None:
        """Do what is right for a message that this peer cannot be sent: whoever waits for it is told."""
        kind = head[0]
        if kind == RESULT:
            self.send([ERROR, CALL, head[1], {}, uri, [says]])
        elif kind == INVOCATION:
            # As if the callee had refused: in its name, and not in the middle of the dealer's work.
            error = Error(INVOCATION, head[1], {}, uri, [says])
            self.router.soon(self, error)
        elif kind == YIELD:
            # The result of a call that came over a link.
            self.send([ERROR, INVOCATION, head[1], {}, uri, [says]])
        elif kind == EVENT:
            self.router.dropped_event(self, says)
        elif kind == ERROR:
            self.send([*head[:4], uri, [says]])
        elif kind == WELCOME:
            self.refuse(uri, says)
        else:
            self.router.tell_unsayable(self, says)

    # -- what the transport reports --------------------------------------------------------------

    def eof_received(self) -> bool:
        """Treat half-open as closed: nobody would read what the session still gets."""
        return False

    def pause_writing(self) -> None:
        """Cut off: more than `queue_bytes` are unsent."""
        self.router.cut_off(self)

    def connection_lost(self, error: "Exception | None") -> None:  # noqa: ARG002 -- however it was lost
        """Leave the realm, forget everything."""
        try:
            self.leave_realm()
        finally:
            self.is_leaving = True
            self.visit = None
            self.receive = self._drop
            self.out.clear()
            self.router.gone(self)


class RawSocketConnection(Connection):
    """WAMP over RawSocket."""

    __slots__ = ("peer_max",)
    kind = "rawsocket"

    def __init__(self, *args: "Any", peer_max: int) -> None:
        super().__init__(*args)
        self.peer_max = peer_max  #: bytes of a message that the client takes
        self.key += "/rawsocket"

    def send(self, head: "list[Any]", payload: "Payload | None" = None) -> None:
        """Queue a message."""
        try:
            data = self.encode(head, payload)
        except EncodeError as error:
            self._unsayable(head, INVALID_PAYLOAD, str(error))
            return
        n = len(data)
        if n > self.peer_max:
            self._too_long(head, n)
            return
        out = self.out
        if not out:
            self.router.is_due(self)
        # 2**24 exactly has a bit of its own, which is where it belongs: the 25th.
        out += ((n if n < 0x1000000 else 0x8000000).to_bytes(4, "big"), data)

    def send_shared(self, message: "Shared") -> None:
        """Queue a message that others get, too."""
        data = message.encoded.get(self.key)
        if data is None:
            try:
                data = rawsocket.frame(self.encode(message.head, message.payload))
            except EncodeError as error:
                self._unsayable(message.head, INVALID_PAYLOAD, str(error))
                return
            message.encoded[self.key] = data
        if len(data) - 4 > self.peer_max:
            self._too_long(message.head, len(data) - 4)
            return
        out = self.out
        if not out:
            self.router.is_due(self)
        out.append(data)

    def _too_long(self, head: "list[Any]", n: int) -> None:
        says = f"a message of {n} bytes; the peer it is for takes at most {self.peer_max}"
        self._unsayable(head, TOO_LARGE, says)

    def ping(self) -> None:
        """Ask whether the peer is still there."""
        self._queue(rawsocket.ping_frame())

    def _control(self) -> None:
        events, self.reader.events = self.reader.events, []
        for kind, payload in events:
            if kind == rawsocket.PING:
                self._queue(rawsocket.pong_frame(payload))

    def finish(self) -> None:
        """End the output."""
        self.reader = IGNORING
        self.write_out()
        end_output(self.transport)


class WebSocketConnection(Connection):
    """WAMP over WebSocket."""

    __slots__ = ("opcode", "short")
    kind = "websocket"

    def __init__(self, *args: "Any") -> None:
        super().__init__(*args)
        codec: Codec = args[2]
        self.opcode = 0x82 if codec.is_binary else 0x81
        self.short = _SHORT_BINARY if codec.is_binary else _SHORT_TEXT
        self.key += "/websocket"

    def send(self, head: "list[Any]", payload: "Payload | None" = None) -> None:
        """Queue a message."""
        try:
            data = self.encode(head, payload)
        except EncodeError as error:
            self._unsayable(head, INVALID_PAYLOAD, str(error))
            return
        out = self.out
        if not out:
            self.router.is_due(self)
        n = len(data)
        if n < 126:
            out += (self.short[n], data)
        elif n < 65536:
            out += (_LENGTH_16(self.opcode, 126, n), data)
        else:
            out += (_LENGTH_64(self.opcode, 127, n), data)

    def send_shared(self, message: "Shared") -> None:
        """Queue a message that others get, too."""
        data = message.encoded.get(self.key)
        if data is None:
            try:
                raw = self.encode(message.head, message.payload)
            except EncodeError as error:
                self._unsayable(message.head, INVALID_PAYLOAD, str(error))
                return
            message.encoded[self.key] = data = websocket.frame(raw, self.opcode == 0x82)
        out = self.out
        if not out:
            self.router.is_due(self)
        out.append(data)

    def ping(self) -> None:
        """Ask whether the peer is still there."""
        self._queue(websocket.ping_frame())

    def _control(self) -> None:
        events, self.reader.events = self.reader.events, []
        for kind, payload in events:
            if kind == websocket.PING:
                self._queue(websocket.pong_frame(payload))
            elif kind == websocket.CLOSE:
                self.leave_realm()
                code, _ = websocket.read_close(payload)
                self._close_frame(1000 if code == 1005 else code, "")

    def _end_frames(self, error: "Any") -> None:
        says = self._frame_fault(error)
        self.router.tell_violation(self, says)
        self.leave_realm()
        self.send([ABORT, {"message": says}, PROTOCOL_VIOLATION])
        self._close_frame(error.code, says)

    def finish(self) -> None:
        """End the output."""
        if self.reader is not IGNORING:
            self._close_frame(1000, "")

    def _close_frame(self, code: int, reason: str) -> None:
        if not self.is_leaving:
            self._await_end()
        self.reader = IGNORING
        self._queue(websocket.close_frame(code, reason))
        self.write_out()
        end_output(self.transport)


class DeflateConnection(WebSocketConnection):
    """WAMP over WebSocket with permessage-deflate: what goes out is compressed, with a window of its own."""

    __slots__ = ("compressor",)

    def __init__(self, *args: "Any", deflate: websocket.Deflate) -> None:
        super().__init__(*args)
        self.compressor = websocket.Compressor(True, deflate)

    def send(self, head: "list[Any]", payload: "Payload | None" = None) -> None:
        """Queue a message."""
        try:
            data = self.encode(head, payload)
        except EncodeError as error:
            self._unsayable(head, INVALID_PAYLOAD, str(error))
            return
        self._queue(self.compressor.frame(data, self.opcode == 0x82))

    def send_shared(self, message: "Shared") -> None:
        """Queue a message that others get, too: nothing can be shared, each window has its own past."""
        self.send(message.head, message.payload)


class BatchedConnection(WebSocketConnection):
    """WAMP over WebSocket in batches: what a chunk leads to is one WebSocket message."""

    __slots__ = ("batch", "compressor", "decode_batch")

    def __init__(self, *args: "Any", deflate: websocket.Deflate | None) -> None:
        super().__init__(*args)
        codec: Codec = args[2]
        self.decode_batch = codec.decode_batch
        self.batch: list[bytes] = []
        self.compressor = websocket.Compressor(True, deflate) if deflate else None
        self.key = codec.name

    def data_received(self, data: bytes) -> None:
        """Deal with a chunk, then write what it has led to."""
        router = self.router
        router.is_idle = False
        self.heard_s = now_s = monotonic()
        try:
            count = 0
            for raw in self.reader.feed(data):
                count += self._receive_batch(raw, now_s)
            if self.reader.events:
                self._control()
            router.worked(count, self.realm)
        except (ProtocolError, ProtocolViolation) as error:
            self.violated(str(error))
        except _FRAME_ERRORS as error:
            self._broken_frames(error)
        except Exception as error:  # noqa: BLE001 -- one client's message must not end the others
            self.failed(error)
        finally:
            router.flush()

    def _receive_batch(self, raw: bytes, now_s: float) -> int:
        messages = self.decode_batch(raw)
        for message in messages:
            if message.__class__ is Goodbye:
                self._said_goodbye(message)
            else:
                self.receive(self.session, message, now_s)
        return len(messages)

    def _broken_frames(self, error: "Any") -> None:
        try:
            for raw in error.messages:
                self._receive_batch(raw, self.heard_s)
        except (ProtocolError, ProtocolViolation) as worse:
            self.violated(str(worse))
            return
        if not self.is_leaving:
            self._end_frames(error)

    def send(self, head: "list[Any]", payload: "Payload | None" = None) -> None:
        """Queue a message."""
        try:
            data = self.encode(head, payload)
        except EncodeError as error:
            self._unsayable(head, INVALID_PAYLOAD, str(error))
            return
        self._take(data)

    def send_shared(self, message: "Shared") -> None:
        """Queue a message that others get, too."""
        data = message.encoded.get(self.key)
        if data is None:
            try:
                data = self.encode(message.head, message.payload)
            except EncodeError as error:
                self._unsayable(message.head, INVALID_PAYLOAD, str(error))
                return
            message.encoded[self.key] = data
        self._take(data)

    def _take(self, data: bytes) -> None:
        if not self.out and not self.batch:
            self.router.is_due(self)
        self.batch.append(data)

    def _queue(self, data: bytes) -> None:
        # Pings and closes keep their place between the messages.
        if not self.out and not self.batch:
            self.router.is_due(self)
        self._frame_batch()
        self.out.append(data)

    def _frame_batch(self) -> None:
        if self.batch:
            data = b"".join(self.batch)
            self.batch.clear()
            is_binary = self.opcode == 0x82
            if self.compressor is not None:
                self.out.append(self.compressor.frame(data, is_binary))
            else:
                self.out.append(websocket.frame(data, is_binary))

    def write_out(self) -> None:
        """Write what is queued."""
        self._frame_batch()
        super().write_out()


class Ignoring:
    """The reader of a connection that has got our last words: whatever still comes is thrown away."""

    __slots__ = ()
    events: "tuple[()]" = ()

    def feed(self, _data: bytes) -> "tuple[()]":
        """Throw it away."""
        return ()


IGNORING = Ignoring()


def end_output(transport: "Any") -> None:
    """Close our direction where the transport can do that alone, else both."""
    if transport.is_closing():
        return
    if transport.can_write_eof():
        transport.write_eof()
    else:
        transport.close()
