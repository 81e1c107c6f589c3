"""What do the bytes of a WebSocket connection mean, and which bytes say what we mean?

Both sides of RFC 6455 and RFC 7692, without sockets: opening handshake, frames, permessage-deflate. What a message means, when to ping and how
long to wait for a closing handshake is for others. Chance comes in as arguments (nonce, masks). A reader
keeps nothing while no frame is under way, so that ten thousand idle connections cost what their sockets cost.
"""

import hashlib
import zlib
from base64 import b64decode, b64encode
from struct import Struct
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10
_CONTINUATION = 0

#: Close codes that we use.
NORMAL, PROTOCOL_ERROR, UNSUPPORTED, NO_CODE, BAD_DATA, TOO_BIG = 1000, 1002, 1003, 1005, 1007, 1009


class FrameError(Exception):
    """The peer broke the protocol: close with `code` and `reason`.

    `messages` are those that were complete before the offence in the same chunk: what a peer has
    said does not depend on how its bytes were cut.
    """

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"{reason} ({code})")
        self.code = code
        self.reason = reason
        self.messages: list[bytes] = []


class HandshakeError(Exception):
    """The server did not accept: its HTTP status (0: that was no HTTP) and a sentence."""

    def __init__(self, status: int, says: str) -> None:
        super().__init__(says)
        self.status = status
        self.says = says


class Deflate(NamedTuple):
    """permessage-deflate, as offered or agreed: the windows (2**9..2**15 bytes, 8 is taken from peers) and who forgets between messages."""

    server_max_window_bits: int = 15
    client_max_window_bits: int = 15
    server_no_context_takeover: bool = False
    client_no_context_takeover: bool = False


class Accepted(NamedTuple):
    """A server's yes."""

    response: bytes  #: the 101 head, to be written
    subprotocol: str | None
    deflate: Deflate | None


class Refused(NamedTuple):
    """A server's no: an HTTP answer."""

    status: int
    says: str
    headers: tuple[tuple[str, str], ...] = ()  #: to be in the answer, too


def accept(
    method: bytes,
    headers: "Iterable[tuple[bytes, bytes]]",
    subprotocols: "Sequence[str]",
    deflate: Deflate | None = None,
    extra_headers: "Sequence[tuple[str, str]]" = (),
) -> Accepted | Refused:
    """Answer an opening handshake, as a server.

    Args:
        method: Of the HTTP request.
        headers: Names in lower case, as h11 gives them.
        subprotocols: Those we speak; the first of the client's that is among them is taken. Empty: none is agreed on.
        deflate: What we are willing to do; None: no compression.
        extra_headers: For the answer, say Set-Cookie.
    """
    if method != b"GET":
        return Refused(405, "A WebSocket is opened by GET.", (("Allow", "GET"),))
    found = _joined(headers)
    if "websocket" not in _tokens(found.get("upgrade", "").lower()) or "upgrade" not in _tokens(
        found.get("connection", "").lower()
    ):
        return Refused(426, "This is a WebSocket endpoint.", (("Upgrade", "websocket"),))
    if found.get("sec-websocket-version") != "13":
        says = "The version of the WebSocket protocol spoken here is 13."
        return Refused(426, says, (("Sec-WebSocket-Version", "13"), ("Upgrade", "websocket")))
    key = found.get("sec-websocket-key", "")
    if not _is_key(key):
        return Refused(400, "Sec-WebSocket-Key has to be 16 bytes in Base64, once.")
    subprotocol = None
    if subprotocols:
        offered = _tokens(found.get("sec-websocket-protocol", ""))
        subprotocol = next((name for name in offered if name in subprotocols), None)
        if subprotocol is None:
            says = "None of the offered subprotocols is spoken here. Offer one of these: "
            return Refused(400, says + ", ".join(subprotocols) + ".")
    agreed, extension = None, ""
    if deflate is not None:
        agreed, extension = _agree(found.get("sec-websocket-extensions", ""), deflate)
    answer = [
        ("Upgrade", "websocket"),
        ("Connection", "Upgrade"),
        ("Sec-WebSocket-Accept", _proof(key)),
    ]
    if subprotocol is not None:
        answer.append(("Sec-WebSocket-Protocol", subprotocol))
    if agreed is not None:
        answer.append(("Sec-WebSocket-Extensions", extension))
    response = _head("HTTP/1.1 101 Switching Protocols", [*answer, *extra_headers])
    return Accepted(response, subprotocol, agreed)


class ClientHandshake:
    """A client's side of the opening handshake.

    `request` is to be written; `feed` returns None until the answer is whole, and then the bytes behind it, which belong
    to a Reader. `subprotocol` and `deflate` are what was agreed on.
    """

    __slots__ = ("_head", "_nonce", "_offered", "_subprotocols", "deflate", "request", "subprotocol")  # fmt: skip

    def __init__(
        self,
        host: str,
        path: str,
        nonce: bytes,
        subprotocols: "Sequence[str]",
        deflate: Deflate | None = None,
        extra_headers: "Sequence[tuple[str, str]]" = (),
    ) -> None:
        """Make the request.

        Args:
            host: With the port, where that is not the usual one.
            path: With the query.
            nonce: 16 bytes of chance.
            subprotocols: In the order of preference.
            deflate: What to offer; None: no compression.
            extra_headers: For the request.
        """
        self._head = bytearray()
        self._nonce = b64encode(nonce).decode()
        self._offered = deflate
        self._subprotocols = tuple(subprotocols)
        self.subprotocol: str | None = None
        self.deflate: Deflate | None = None
        lines = [
            ("Host", host),
            ("Upgrade", "websocket"),
            ("Connection", "Upgrade"),
            ("Sec-WebSocket-Key", self._nonce),
            ("Sec-WebSocket-Version", "13"),
        ]
        if subprotocols:
            lines.append(("Sec-WebSocket-Protocol", ", ".join(subprotocols)))
        if deflate is not None:
            lines.append(("Sec-WebSocket-Extensions", _extension(deflate, is_offer=True)))
        self.request = _head(f"GET {path} HTTP/1.1", [*lines, *extra_headers])

    def feed(self, data: bytes) -> bytes | None:
        """Take bytes of the answer; raises HandshakeError."""
        head = self._head
        seen = max(0, len(head) - 3)
        head += data
        end = head.find(b"\r\n\r\n", seen)
        if end < 0 and len(head) <= _LONGEST_HEAD:
            if not head.startswith(b"HTTP/1."[: len(head)]):
                raise HandshakeError(0, "the peer does not speak HTTP")
            return None
        if not 0 <= end <= _LONGEST_HEAD:
            raise HandshakeError(0, "the answer of the server is longer than 64 KiB")
        lines = bytes(head[:end]).decode("latin-1").split("\r\n")
        rest = bytes(head[end + 4 :])
        self._head = bytearray()
        self._check(lines)
        return rest

    def _check(self, lines: list[str]) -> None:
        version, _, status_line = lines[0].partition(" ")
        status = status_line[:3]
        if not version.startswith("HTTP/1.") or not status.isdecimal():
            raise HandshakeError(0, "the peer does not speak HTTP")
        if status != "101":
            says = f"the server answered {status_line.strip()!r} in place of 101"
            raise HandshakeError(int(status), says)
        found: dict[str, str] = {}
        for line in lines[1:]:
            name, colon, value = line.partition(":")
            if not colon:
                raise HandshakeError(101, f"no header: {line!r}")
            name = name.strip().lower()
            found[name] = f"{found[name]}, {value.strip()}" if name in found else value.strip()
        if found.get("upgrade", "").lower() != "websocket" or "upgrade" not in _tokens(
            found.get("connection", "").lower()
        ):
            raise HandshakeError(101, "the server did not switch to the WebSocket protocol")
        if found.get("sec-websocket-accept") != _proof(self._nonce):
            raise HandshakeError(101, "the server answered another handshake")
        subprotocol = found.get("sec-websocket-protocol")
        if subprotocol is not None and subprotocol not in self._subprotocols:
            says = f"the server chose the subprotocol {subprotocol!r}, which was not offered"
            raise HandshakeError(101, says)
        if subprotocol is None and self._subprotocols:
            says = f"the server speaks none of {', '.join(self._subprotocols)}"
            raise HandshakeError(101, says)
        self.subprotocol = subprotocol
        extensions = found.get("sec-websocket-extensions")
        if extensions is not None:
            self.deflate = self._agreed(extensions)

    def _agreed(self, extensions: str) -> Deflate:
        answers = _extensions(extensions)
        if self._offered is None or len(answers) != 1:
            raise HandshakeError(
                101, f"the server uses extensions that nobody offered: {extensions}"
            )
        agreed = _read_deflate(answers[0], is_offer=False)
        if agreed is None:
            raise HandshakeError(101, f"no permessage-deflate that we know: {extensions}")
        offered = self._offered
        if agreed.server_max_window_bits > offered.server_max_window_bits or (
            offered.server_no_context_takeover and not agreed.server_no_context_takeover
        ):
            raise HandshakeError(101, f"the server does not keep to our offer: {extensions}")
        return Deflate(
            agreed.server_max_window_bits,
            min(agreed.client_max_window_bits, offered.client_max_window_bits),
            agreed.server_no_context_takeover,
            agreed.client_no_context_takeover or offered.client_no_context_takeover,
        )


class Reader:
    """Takes the bytes of a connection in any pieces, gives messages.

    Control frames are appended to `events` as (PING, PONG or CLOSE, payload); whoever feeds looks whether there are any and
    clears the list. After a CLOSE or an error all input is ignored.
    """

    __slots__ = ("_buffer", "_expects", "_first", "_inflater", "_is_ended", "_is_server", "_message", "_need", "_usual", "events", "max_message_bytes")  # fmt: skip

    def __init__(
        self,
        is_server: bool,
        max_message_bytes: int,
        deflate: Deflate | None = None,
        expects: int | None = None,
    ) -> None:
        """Begin behind the handshake.

        Args:
            is_server: Frames have to be masked (else: must not be).
            max_message_bytes: A longer message is an error, compressed or not; may be changed at any time.
            deflate: As agreed on.
            expects: TEXT or BINARY, what a message has to be; None: either.
        """
        self._is_server = is_server
        self.max_message_bytes = max_message_bytes
        self._expects = expects
        self._inflater = None if deflate is None else _Inflater(is_server, deflate)
        #: Where a frame is under way: its bytes so far, and how many there have to be to go on.
        self._buffer: bytearray | None = None
        self._need = 0
        #: Where a message is under way: the payload so far, and the first byte of its first frame.
        self._message: bytearray | None = None
        self._first = 0
        #: The first byte of a frame that is a message and nothing special.
        self._usual = 0x80 | (expects or BINARY)
        self._is_ended = False
        self.events: list[tuple[int, bytes]] = []

    def feed(self, data: bytes) -> list[bytes]:
        """The messages that became complete; raises FrameError."""
        buffer = self._buffer
        if buffer is not None:
            if self._is_ended:
                return []
            buffer += data
            if len(buffer) < self._need:
                return []
            data = bytes(buffer)
            self._buffer = None
        messages: list[bytes] = []
        try:
            rest, need = self._frames(data, messages)
        except FrameError as error:
            error.messages = messages
            self._end()
            raise
        if self._is_ended:
            self._end()
        elif rest < len(data):
            self._buffer = bytearray(data[rest:])
            self._need = need
        return messages

    def _frames(self, data: bytes, messages: list[bytes]) -> tuple[int, int]:  # noqa: C901, PLR0912  (the hot loop: a call a frame would double its cost)
        """Where the first frame begins that is not complete, and how many bytes of it are needed to go on."""
        is_server = self._is_server
        mask_bit, head = (0x80, 6) if is_server else (0, 2)
        usual = self._usual
        is_text = usual == 0x81
        longest = self.max_message_bytes
        size = len(data)
        at = 0
        while True:
            if size - at < 2:
                return at, 2
            first = data[at]
            length = data[at + 1] ^ mask_bit
            begin = at + head
            if first != usual:
                self._check_first(first, length)
            if length > 125:
                if length > 127:
                    raise FrameError(PROTOCOL_ERROR, _NOT_MASKED if is_server else _MASKED)
                extra = 2 if length == 126 else 8
                begin += extra
                if size < at + 2 + extra:
                    return at, 2 + extra
                length = int.from_bytes(data[at + 2 : at + 2 + extra], "big")
                if length < 126 or (extra == 8 and not 65536 <= length < 1 << 63):
                    raise FrameError(PROTOCOL_ERROR, "a length takes the fewest bytes possible")
            if length > longest and first & 0x08 == 0:
                raise self._too_big()
            end = begin + length
            if end > size:
                if first & 0x0F == _CONTINUATION:
                    self._check_room(length)
                return at, end - at
            payload = data[begin:end]
            if is_server:
                key = data[begin - 4 : begin]
                if key != _NO_MASK:
                    payload = unmask(payload, key)
            at = end
            if first == usual:
                # `isascii` costs a tenth of what decoding does.
                if is_text and not payload.isascii():
                    _check_utf8(payload)
                messages.append(payload)
            else:
                self._unusual(first, payload, messages)
                if self._is_ended:
                    return size, 0
                usual = self._usual

    def _check_first(self, first: int, length: int) -> None:
        """Refuse what no frame begins with, before its payload comes."""
        opcode = first & 0x0F
        if first & 0x30 or (
            first & 0x40 and (self._inflater is None or opcode not in (TEXT, BINARY))
        ):
            raise FrameError(PROTOCOL_ERROR, "a reserved bit is set that was not agreed on")
        if opcode >= CLOSE:
            if opcode > PONG:
                raise FrameError(PROTOCOL_ERROR, f"there is no opcode {opcode}")
            if not first & 0x80:
                raise FrameError(PROTOCOL_ERROR, "a control frame is not fragmented")
            if 125 < length < 128:
                raise FrameError(PROTOCOL_ERROR, "a control frame has 125 bytes at most")
        elif opcode == _CONTINUATION:
            if self._message is None:
                raise FrameError(PROTOCOL_ERROR, "there is no message to be continued")
        elif opcode > BINARY:
            raise FrameError(PROTOCOL_ERROR, f"there is no opcode {opcode}")
        elif self._message is not None:
            raise FrameError(PROTOCOL_ERROR, "the message before this one is not complete")
        elif opcode != (self._expects or opcode):
            kinds = ("text", "binary") if self._expects == TEXT else ("binary", "text")
            raise FrameError(
                UNSUPPORTED, "only {} messages are taken here, no {} ones".format(*kinds)
            )

    def _unusual(self, first: int, payload: bytes, messages: list[bytes]) -> None:
        """Deal with control frames, fragments and compressed messages."""
        opcode = first & 0x0F
        if opcode >= CLOSE:
            if opcode == CLOSE:
                _check_close(payload)
                self._is_ended = True
            self.events.append((opcode, payload))
            return
        message = self._message
        if not first & 0x80:
            if message is None:
                self._message = bytearray(payload)
                self._first = first
                self._usual = -1
            else:
                self._check_room(len(payload))
                message += payload
            return
        if message is not None:
            self._check_room(len(payload))
            message += payload
            payload = bytes(message)
            first = self._first
            self._message = None
            self._usual = 0x80 | (self._expects or BINARY)
        if first & 0x40:
            assert self._inflater is not None  # noqa: S101  (checked with the first byte)
            payload = self._inflater.inflate(payload, self.max_message_bytes)
        if first & 0x0F == TEXT and not payload.isascii():
            _check_utf8(payload)
        messages.append(payload)

    def _check_room(self, length: int) -> None:
        if self._message is not None and len(self._message) + length > self.max_message_bytes:
            raise self._too_big()

    def _too_big(self) -> FrameError:
        return FrameError(TOO_BIG, f"a message has {self.max_message_bytes} bytes at most")

    def _end(self) -> None:
        self._is_ended = True
        self._buffer = bytearray()
        self._message = None


class Compressor:
    """Outgoing messages under permessage-deflate."""

    __slots__ = ("_bits", "_deflater", "_keeps")

    def __init__(self, is_server: bool, deflate: Deflate) -> None:
        self._deflater: Any = None
        if is_server:
            self._bits = deflate.server_max_window_bits
            self._keeps = not deflate.server_no_context_takeover
        else:
            self._bits = deflate.client_max_window_bits
            self._keeps = not deflate.client_no_context_takeover

    def frame(self, payload: bytes, is_binary: bool, mask: bytes | None = None) -> bytes:
        """A message as one frame; not compressed where that would not pay."""
        # zlib has no window of 2**8 for compressing, and a message may always go uncompressed.
        if len(payload) < _TOO_SHORT_TO_COMPRESS or self._bits < 9:
            return frame(payload, is_binary, mask)
        deflater = self._deflater
        if deflater is None:
            deflater = zlib.compressobj(6, zlib.DEFLATED, -self._bits, 8 if self._bits > 12 else 6)
            if self._keeps:
                self._deflater = deflater
        data = deflater.compress(payload) + deflater.flush(zlib.Z_SYNC_FLUSH)
        return _frame(0xC2 if is_binary else 0xC1, data[:-4], mask)


def frame(payload: bytes, is_binary: bool, mask: bytes | None = None) -> bytes:
    """A message as one frame; clients pass 4 bytes of chance as mask."""
    if mask is None and len(payload) < 126:
        return (_SHORT_BINARY if is_binary else _SHORT_TEXT)[len(payload)] + payload
    return _frame(0x82 if is_binary else 0x81, payload, mask)


def ping_frame(payload: bytes = b"", mask: bytes | None = None) -> bytes:
    """A ping, with 125 bytes at most."""
    return _frame(0x89, payload, mask)


def pong_frame(payload: bytes, mask: bytes | None = None) -> bytes:
    """The answer to a ping, with its payload."""
    return _frame(0x8A, payload, mask)


def close_frame(code: int, reason: str = "", mask: bytes | None = None) -> bytes:
    """A close; code 1005: without any. A reason that is too long is cut."""
    if code == NO_CODE:
        return _frame(0x88, b"", mask)
    says = reason.encode("utf-8", "replace")[:123].decode("utf-8", "ignore").encode()
    return _frame(0x88, code.to_bytes(2, "big") + says, mask)


def read_close(payload: bytes) -> tuple[int, str]:
    """Code and reason of a CLOSE event; (1005, "") where the peer gave none."""
    if not payload:
        return NO_CODE, ""
    return int.from_bytes(payload[:2], "big"), payload[2:].decode("utf-8", "replace")


def unmask(payload: bytes, key: bytes) -> bytes:
    """The payload XOR the key; masks just as well. Costs O(n), 64 KiB at a time."""
    size = len(payload)
    if size <= _PIECE:
        mask = int.from_bytes((key * ((size >> 2) + 1))[:size], "little")
        return (int.from_bytes(payload, "little") ^ mask).to_bytes(size, "little")
    long_key = key * (_PIECE // 4)
    mask = int.from_bytes(long_key, "little")
    pieces = [
        (int.from_bytes(payload[at : at + _PIECE], "little") ^ mask).to_bytes(_PIECE, "little")
        for at in range(0, size - _PIECE + 1, _PIECE)
    ]
    pieces.append(unmask(payload[size - size % _PIECE :], key))
    return b"".join(pieces)


# Frames.

_NO_MASK = b"\0\0\0\0"
_NOT_MASKED = "the frames of a client have to be masked"
_MASKED = "the frames of a server must not be masked"
_PIECE = 65536
_TOO_SHORT_TO_COMPRESS = 64
_SHORT_TEXT = [bytes((0x81, n)) for n in range(126)]
_SHORT_BINARY = [bytes((0x82, n)) for n in range(126)]
_with_16 = Struct(">BBH").pack
_with_64 = Struct(">BBQ").pack


def _frame(first: int, payload: bytes, mask: bytes | None) -> bytes:
    size = len(payload)
    bit = 0 if mask is None else 0x80
    if size < 126:
        head = bytes((first, bit | size))
    elif size < 65536:
        head = _with_16(first, bit | 126, size)
    else:
        head = _with_64(first, bit | 127, size)
    if mask is None:
        return head + payload
    return head + mask + (payload if mask == _NO_MASK else unmask(payload, mask))


def _check_utf8(payload: bytes) -> None:
    try:
        payload.decode()
    except UnicodeDecodeError as error:
        says = f"the text is not UTF-8: {error.reason}"
        raise FrameError(BAD_DATA, says) from None


def _check_close(payload: bytes) -> None:
    if not payload:
        return
    code = int.from_bytes(payload[:2], "big")
    if len(payload) == 1 or not (
        1000 <= code <= 1003 or 1007 <= code <= 1014 or 3000 <= code <= 4999
    ):
        raise FrameError(PROTOCOL_ERROR, "that is no code to close with")
    _check_utf8(payload[2:])


class _Inflater:
    """Incoming compressed messages."""

    __slots__ = ("_bits", "_inflater", "_keeps")

    def __init__(self, is_server: bool, deflate: Deflate) -> None:
        self._inflater: Any = None
        if is_server:
            self._bits = deflate.client_max_window_bits
            self._keeps = not deflate.client_no_context_takeover
        else:
            self._bits = deflate.server_max_window_bits
            self._keeps = not deflate.server_no_context_takeover

    def inflate(self, payload: bytes, most: int) -> bytes:
        """The message, of `most` bytes at most: a bomb is not unpacked further."""
        inflater = self._inflater or zlib.decompressobj(-self._bits)
        try:
            message: bytes = inflater.decompress(payload + _TAIL, most + 1)
        except zlib.error as error:
            says = f"a compressed message does not inflate: {error}"
            raise FrameError(BAD_DATA, says) from None
        if len(message) > most or inflater.unconsumed_tail:
            raise FrameError(TOO_BIG, f"a message has {most} bytes at most, inflated")
        if inflater.eof:
            # A final block may end a message (RFC 7692, 7.2.3.4), with an empty block behind it; the next begins anew.
            if inflater.unused_data not in _AFTER_FINAL:
                raise FrameError(BAD_DATA, "a compressed message goes on behind its end")
            inflater = None
        self._inflater = inflater if self._keeps else None
        return message


#: What a sender leaves out of each compressed message.
_TAIL = b"\x00\x00\xff\xff"
_AFTER_FINAL = (_TAIL, b"\x00" + _TAIL)


# The opening handshake.

_LONGEST_HEAD = 65536
_GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455, 1.3
_DEFLATE = "permessage-deflate"


def _proof(key: str) -> str:
    return b64encode(hashlib.sha1((key + _GUID).encode(), usedforsecurity=False).digest()).decode()


def _is_key(key: str) -> bool:
    try:
        return len(b64decode(key, validate=True)) == 16
    except ValueError:
        return False


def _head(first_line: str, headers: "Sequence[tuple[str, str]]") -> bytes:
    lines = [first_line, *(f"{name}: {value}" for name, value in headers)]
    for line in lines:
        if "\r" in line or "\n" in line:
            message = f"a line of a HTTP head has no line break: {line!r}"
            raise ValueError(message)
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def _joined(headers: "Iterable[tuple[bytes, bytes]]") -> dict[str, str]:
    """Headers by name; those that came more than once joined by commas, as HTTP says."""
    found: dict[str, str] = {}
    for raw_name, raw_value in headers:
        name, value = raw_name.decode("latin-1"), raw_value.decode("latin-1").strip()
        found[name] = f"{found[name]}, {value}" if name in found else value
    return found


def _tokens(value: str) -> list[str]:
    return [token for token in (part.strip() for part in value.split(",")) if token]


def _extensions(value: str) -> list[tuple[str, list[tuple[str, str | None]]]]:
    """Name and parameters of each extension; none of those that we know has a comma or semicolon in quotes."""
    found = []
    for extension in _tokens(value):
        name, *rest = (part.strip() for part in extension.split(";"))
        parameters = []
        for part in rest:
            key, equals, text = part.partition("=")
            parameters.append((key.strip(), text.strip().strip('"') if equals else None))
        found.append((name, parameters))
    return found


def _read_deflate(
    extension: tuple[str, list[tuple[str, str | None]]], *, is_offer: bool
) -> Deflate | None:
    """What an offer or an answer says; None where that is nothing we know. In an offer, `client_max_window_bits` is 0 where it is not given."""
    name, parameters = extension
    if name != _DEFLATE or len(dict(parameters)) < len(parameters):
        return None
    server_bits, client_bits = 15, 0 if is_offer else 15
    forgets = {"server_no_context_takeover": False, "client_no_context_takeover": False}
    for key, value in parameters:
        if key in forgets:
            if value is not None:
                return None
            forgets[key] = True
        elif key == "client_max_window_bits" and value is None and is_offer:
            client_bits = 15
        elif key in ("client_max_window_bits", "server_max_window_bits") and value in _WINDOWS:
            if key[0] == "c":
                client_bits = _WINDOWS[value]
            else:
                server_bits = _WINDOWS[value]
        else:
            return None
    return Deflate(server_bits, client_bits, *forgets.values())


_WINDOWS: dict[str | None, int] = {str(bits): bits for bits in range(8, 16)}


def _agree(extensions: str, ours: Deflate) -> tuple[Deflate | None, str]:
    """The first offer that we can take, and what to answer."""
    for extension in _extensions(extensions):
        offer = _read_deflate(extension, is_offer=True)
        if offer is None:
            continue
        # A client that does not offer to make its window smaller must not be asked to.
        client_bits = offer.client_max_window_bits
        agreed = Deflate(
            min(offer.server_max_window_bits, ours.server_max_window_bits),
            min(client_bits, ours.client_max_window_bits) if client_bits else 15,
            offer.server_no_context_takeover or ours.server_no_context_takeover,
            offer.client_no_context_takeover or ours.client_no_context_takeover,
        )
        return agreed, _extension(agreed, is_offer=False)
    return None, ""


def _extension(deflate: Deflate, *, is_offer: bool) -> str:
    parts = [_DEFLATE]
    if deflate.server_no_context_takeover:
        parts.append("server_no_context_takeover")
    if deflate.client_no_context_takeover:
        parts.append("client_no_context_takeover")
    if deflate.server_max_window_bits < 15:
        parts.append(f"server_max_window_bits={deflate.server_max_window_bits}")
    if deflate.client_max_window_bits < 15:
        parts.append(f"client_max_window_bits={deflate.client_max_window_bits}")
    elif is_offer:
        parts.append("client_max_window_bits")
    return "; ".join(parts)
