"""How does the client read and write messages?

The router leaves arguments as bytes, because it passes them on; a client wants all of it as objects, so it decodes a
message in one go, into a list of its elements. What goes out is encoded by the codecs of :mod:`holdfast.wire.wamp`; only
the plainest messages, one simple argument and no options, do not need their care.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from holdfast.core.wamp.messages import Objects
from holdfast.wire.wamp import ProtocolError
from holdfast.wire.wamp.tags import load
from holdfast.wire.wamp.values import from_json

if TYPE_CHECKING:
    from collections.abc import Callable

    from holdfast.wire.wamp.codec import Codec

    Elements = list[Any]
    Arguments = tuple[Any, ...] | list[Any]
    Encode = Callable[[Elements, Arguments, dict[str, Any] | None], bytes]

#: How a string that stands for a binary value begins in JSON text.
_BINARY = b'"\\u0000'
_json = msgspec.json.Decoder(list[Any]).decode
_messagepack = msgspec.msgpack.Decoder(list[Any]).decode

#: Types whose values contain nothing, and which everybody writes the same way: no hook, no look at the depth.
_PLAIN: frozenset[type] = frozenset((str, int, bool, type(None)))
#: Name of a codec -> how values of which types are written where nothing has to be looked at.
_PLAIN_WAYS: dict[str, tuple[Callable[[Any], bytes], frozenset[type]]] = {
    "msgpack": (msgspec.msgpack.Encoder().encode, _PLAIN | {float, bytes}),
    "json": (msgspec.json.Encoder().encode, _PLAIN),
}

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


def encoder(codec: Codec) -> Encode:
    """Return the function that turns the first elements of a message and its arguments into bytes.

    It raises what the codec's `encode` raises.
    """
    encode = codec.encode

    def say(head: Elements, args: Arguments, kwargs: dict[str, Any] | None) -> bytes:
        if kwargs:
            return encode(head, Objects(list(args), kwargs))
        return encode(head, Objects(list(args)) if args else None)

    if codec.name not in _PLAIN_WAYS:
        return say
    write, plain = _PLAIN_WAYS[codec.name]

    def say_plainly(head: Elements, args: Arguments, kwargs: dict[str, Any] | None) -> bytes:
        # CALL, PUBLISH and YIELD have their options there; other messages are not made often.
        if len(args) == 1 and not kwargs and args[0].__class__ in plain and not head[2]:
            head.append(args)
            try:
                data = write(head)
            except (ValueError, OverflowError):
                data = _BINARY  # half a surrogate, too large a number: the codec says so
            if _BINARY not in data:
                return data
            head.pop()
        return say(head, args, kwargs)

    return say_plainly


def _from_json_text(data: bytes) -> Elements:
    made = _json(data)
    if _BINARY in data:
        made = from_json(made)
    return made
