"""What does every serializer of WAMP messages offer?"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from holdfast.core.wamp.messages import Message, Payload


class Codec:
    """A serializer: bytes of one WebSocket or RawSocket message to WAMP messages, and back.

    `decode`, `decode_batch` and `encode` are plain functions, so calling them costs no bound method. A message
    of a batched codec is a batch: `encode` returns a batch of one, and a batch of many is the concatenation.
    """

    __slots__ = ("decode", "decode_batch", "encode", "format", "is_batched", "is_binary", "name", "rawsocket_id", "subprotocol")  # fmt: skip

    def __init__(
        self,
        name: str,
        format_: int,
        rawsocket_id: int,
        is_binary: bool,
        is_batched: bool,
        decode: "Callable[[bytes], Message]",
        decode_batch: "Callable[[bytes], list[Message]]",
        encode: "Callable[[list[Any], Payload | None], bytes]",
    ) -> None:
        self.name = name  #: "json", "msgpack", "cbor", "json.batched", …
        self.format = format_  #: JSON, MSGPACK or CBOR of `core.wamp.messages`
        self.subprotocol = f"wamp.2.{name}"  #: of the WebSocket handshake
        self.rawsocket_id = rawsocket_id  #: 1, 2, 3; 0: not over RawSocket (batched)
        self.is_binary = is_binary  #: binary WebSocket messages; else text
        self.is_batched = is_batched
        self.decode = decode  #: exactly one message; raises ProtocolError
        self.decode_batch = decode_batch  #: one or more; of an unbatched codec exactly one
        self.encode = encode  #: (head, payload or None) -> bytes; raises EncodeError
