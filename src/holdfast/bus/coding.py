"""How does the client read messages?

The router leaves arguments as bytes, because it passes them on; a client wants all of it as objects, so it decodes a
message in one go, into a list of its elements. What goes out is encoded by the codecs of :mod:`holdfast.wire.wamp`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from holdfast.wire.wamp import ProtocolError
from holdfast.wire.wamp.tags import load
from holdfast.wire.wamp.values import from_json

if TYPE_CHECKING:
    from collections.abc import Callable

    from holdfast.wire.wamp.codec import Codec

    Elements = list[Any]

#: How a string that stands for a binary value begins in JSON text.
_BINARY = b'"\\u0000'
_json = msgspec.json.Decoder(list[Any]).decode
_messagepack = msgspec.msgpack.Decoder(list[Any]).decode

#: What decoding may raise when the bytes are no message.
BROKEN = (ProtocolError, msgspec.DecodeError, ValueError)


def decoder(codec: Codec) -> Callable[[bytes], Elements]:
    """Return the function that turns the bytes of one message into the list of its elements.

    It raises one of `BROKEN`.
    """
    if codec.name == "msgpack":
        return _messagepack
    if codec.name == "json":
        return _from_json_text
    if codec.name == "cbor":
        return load
    says = f"the client does not speak {codec.name}"
    raise ValueError(says)


def _from_json_text(data: bytes) -> Elements:
    made = _json(data)
    if _BINARY in data:
        made = from_json(made)
    return made
