"""What do the bytes of a WAMP RawSocket connection mean, and which bytes say what we mean?

Both sides, without sockets. Messages that are longer than the peer takes are for the sender to see to: `limit` and the
handshake say how long they may be. Source: WAMP specification, "RawSocket Transport".
"""

MAGIC = 0x7F  #: the first byte of a connection; no HTTP request begins so
MESSAGE, PING, PONG = 0, 1, 2

#: Why a server says no.
SERIALIZER_UNSUPPORTED, LENGTH_UNACCEPTABLE, RESERVED_BITS, TOO_MANY_CONNECTIONS = 1, 2, 3, 4
_REFUSALS = {
    SERIALIZER_UNSUPPORTED: "the serializer is not supported",
    LENGTH_UNACCEPTABLE: "the maximum message length is not acceptable",
    RESERVED_BITS: "reserved bits were used",
    TOO_MANY_CONNECTIONS: "there are too many connections",
}

#: A message has 2**24 bytes at most, whose length has one bit more than the length field.
LONGEST = 1 << 24
_LONGEST_BIT = 0x08000000


class FrameError(Exception):
    """The peer broke the protocol (or said no): write `reply`, which may be empty, and end the connection.

    `messages` are those that were complete before the offence in the same chunk.
    """

    def __init__(self, reason: str, reply: bytes = b"") -> None:
        super().__init__(reason)
        self.reason = reason
        self.reply = reply
        self.messages: list[bytes] = []


def hello(serializer: int, max_message_bytes: int) -> bytes:
    """What a client begins with, and what a server answers to say yes; announces `limit(max_message_bytes)`."""
    return bytes((MAGIC, (limit(max_message_bytes).bit_length() - 10) << 4 | serializer, 0, 0))


def refusal(error: int) -> bytes:
    """What a server answers to say no."""
    return bytes((MAGIC, error << 4, 0, 0))


def limit(max_message_bytes: int) -> int:
    """The smallest limit that can be announced and is not below this: a power of 2, 2**9..2**24."""
    return 1 << min(24, max(9, (max_message_bytes - 1).bit_length()))


def read_request(head: bytes) -> tuple[int, int]:
    """Serializer and longest message that a client takes, from its first 4 bytes; raises FrameError with a reply."""
    if head[0] != MAGIC:
        message = "this is no RawSocket connection"
        raise FrameError(message)
    serializer = head[1] & 0x0F
    if head[2] or head[3]:
        message = "the third and fourth byte of the handshake are reserved"
        raise FrameError(message, refusal(RESERVED_BITS))
    if serializer == 0:
        message = "there is no serializer 0"
        raise FrameError(message, refusal(SERIALIZER_UNSUPPORTED))
    return serializer, 1 << (head[1] >> 4) + 9


def read_reply(head: bytes, serializer: int) -> int:
    """The longest message that a server takes, from its first 4 bytes; raises FrameError where it says no."""
    if head[0] != MAGIC:
        message = "the peer does not speak RawSocket"
        raise FrameError(message)
    chosen, length = head[1] & 0x0F, head[1] >> 4
    if chosen == 0:
        why = _REFUSALS.get(length, f"error {length}, which is not known")
        message = f"the router refused the connection: {why}"
        raise FrameError(message)
    if chosen != serializer:
        message = f"the router answered with serializer {chosen}, asked for was {serializer}"
        raise FrameError(message)
    if head[2] or head[3]:
        message = "the router used reserved bytes of the handshake"
        raise FrameError(message)
    return 1 << length + 9


class Reader:
    """Takes the bytes behind the handshake in any pieces, gives messages.

    PING and PONG are appended to `events` as (kind, payload); whoever feeds looks whether there are any and clears the
    list. After an error all input is ignored.
    """

    __slots__ = ("_buffer", "_is_ended", "_need", "events", "max_message_bytes")

    def __init__(self, max_message_bytes: int) -> None:
        #: May be changed at any time.
        self.max_message_bytes = min(max_message_bytes, LONGEST)
        #: Where a frame is under way: its bytes so far, and how many there have to be to go on.
        self._buffer: bytearray | None = None
        self._need = 0
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
        longest = self.max_message_bytes
        size = len(data)
        at = 0
        need = 4
        while size - at >= 4:
            length = int.from_bytes(data[at : at + 4], "big")
            kind = MESSAGE
            # A message that is no longer than it may be has no bit set beyond its length.
            if length > longest or length > 0xFFFFFF:
                try:
                    kind, length = self._head(length)
                except FrameError as error:
                    error.messages = messages
                    self._buffer = bytearray()
                    self._is_ended = True
                    raise
            begin = at + 4
            end = begin + length
            if end > size:
                need = 4 + length
                break
            if kind == MESSAGE:
                messages.append(data[begin:end])
            else:
                self.events.append((kind, data[begin:end]))
            at = end
        if at < size:
            self._buffer = bytearray(data[at:])
            self._need = need
        return messages

    def _head(self, head: int) -> tuple[int, int]:
        """Kind and length, of what is not simply the length of a message."""
        kind = head >> 24 & 0x07
        length = head & 0xFFFFFF
        if head >> 28:
            message = "a frame begins with four reserved bits"
            raise FrameError(message)
        if kind > PONG:
            message = f"there is no kind of frame {kind}"
            raise FrameError(message)
        if head & _LONGEST_BIT:
            if length:
                message = "a message has 2**24 bytes at most"
                raise FrameError(message)
            length = LONGEST
        if length > self.max_message_bytes:
            message = f"a message has {self.max_message_bytes} bytes at most, this one has {length}"
            raise FrameError(message)
        return kind, length


def frame(payload: bytes) -> bytes:
    """A message as a frame."""
    return _frame(MESSAGE, payload)


def ping_frame(payload: bytes = b"") -> bytes:
    """A ping."""
    return _frame(PING, payload)


def pong_frame(payload: bytes) -> bytes:
    """The answer to a ping, with its payload."""
    return _frame(PONG, payload)


def _frame(kind: int, payload: bytes) -> bytes:
    size = len(payload)
    if size >= LONGEST:
        if size > LONGEST:
            message = f"a RawSocket message has {LONGEST} bytes at most, this one has {size}"
            raise ValueError(message)
        size = _LONGEST_BIT
    return (kind << 24 | size).to_bytes(4, "big") + payload
