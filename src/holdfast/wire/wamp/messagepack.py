"""WAMP messages as MessagePack (wamp.2.msgpack), by msgspec.

As with JSON, arguments stay as they came and are decoded once to see that they are well formed.
"""

from typing import Any

import msgspec

from holdfast.core.wamp.messages import CBOR, MSGPACK, OBJECTS, Message, Payload
from holdfast.wire.wamp.batches import joined, split
from holdfast.wire.wamp.errors import EncodeError, ProtocolError
from holdfast.wire.wamp.opening import open_raw
from holdfast.wire.wamp.structs import (
    CROWDED,
    FEW_ENOUGH,
    LONGEST,
    MAX_DEPTH,
    TOO_DEEP,
    any_of,
    bad_payload,
    carrying,
    explain,
    is_crowded,
    is_too_deep,
    mend,
    parts,
)
from holdfast.wire.wamp.values import builtin, extension

_typed = msgspec.msgpack.Decoder(any_of(carrying(MSGPACK, msgspec.Raw)), ext_hook=extension).decode
_untyped = msgspec.msgpack.Decoder(ext_hook=extension).decode
_encode = msgspec.msgpack.Encoder(enc_hook=builtin).encode
_NOTHING = msgspec.Raw(b"\x90")
#: The first bytes of maps and arrays: no more containers than bytes of these values.
_CONTAINERS = bytes((*range(0x80, 0xA0), *range(0xDC, 0xE0)))


def decode(data: bytes) -> Message:
    """The message; raises ProtocolError."""
    args: Any = None
    kwargs: Any = None
    whole: Any = None
    try:
        message: Any = _typed(data)
        longest = LONGEST.get(type(message))
        if longest is not None:
            whole = _untyped(data)
            if len(whole) > longest:
                says = f"there are {len(whole)} elements, expected at most {longest}"
                raise ProtocolError(explain(Exception(says), whole))
        elif message.args is not None:
            args = _untyped(message.args)
            if type(args) is not list:
                mend(message, args, _NOTHING)
            if message.kwargs is not None:
                kwargs = _untyped(message.kwargs)
                if type(kwargs) is not dict or not all(type(key) is str for key in kwargs):
                    if kwargs is not None:
                        raise ProtocolError(bad_payload(message, [], kwargs))
                    message.kwargs = None
    except (ValueError, RecursionError) as error:
        raise ProtocolError(_why(error, data)) from None
    if len(data) > MAX_DEPTH and _may_be_deep(data):
        all_parts = whole or parts(message, args, kwargs)
        if len(data) > FEW_ENOUGH and is_crowded(all_parts, len(data) // 2):
            raise ProtocolError(CROWDED)
        if is_too_deep(all_parts):
            raise ProtocolError(TOO_DEEP)
    return message  # type: ignore[no-any-return]


def decode_one(data: bytes) -> list[Message]:
    """The message, as a batch of one."""
    return [decode(data)]


def decode_batch(data: bytes) -> list[Message]:
    """The messages of a batch, each with its length before it."""
    return [decode(part) for part in split(data)]


def decode_batch_of_one(data: bytes) -> Message:
    """The only message of a batch."""
    (part,) = split(data, 1)
    return decode(part)


def encode(head: list[Any], payload: Payload | None = None) -> bytes:
    """The message of these elements and the payload's; raises EncodeError."""
    try:
        if payload is None:
            return _encode(head)
        if payload.format == MSGPACK:
            if payload.args is None:
                return _encode(head)
            if payload.kwargs is None:
                return _encode([*head, payload.args])
            return _encode([*head, payload.args, payload.kwargs])
        if payload.format == OBJECTS:
            args, kwargs = payload.args, payload.kwargs
        else:
            args, kwargs = open_raw(payload)
        if kwargs:
            data = _encode([*head, args or [], kwargs])
        elif args or args == b"":
            data = _encode([*head, args])
        else:
            return _encode(head)
        if payload.format == CBOR:
            # In CBOR a map can be a key, which few decoders of MessagePack bear.
            _untyped(data)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        says = f"this cannot be said in MessagePack: {error}"
        raise EncodeError(says) from None
    if len(data) > MAX_DEPTH and _may_be_deep(data) and is_too_deep(_untyped(data)):
        raise EncodeError(TOO_DEEP)
    return data


def encode_batched(head: list[Any], payload: Payload | None = None) -> bytes:
    """The message, as a batch of one."""
    return joined(encode(head, payload))


def _may_be_deep(data: bytes) -> bool:
    """Are there so many containers? A level costs a byte, which spares short messages the look."""
    return len(data) - len(data.translate(None, _CONTAINERS)) > MAX_DEPTH


def _why(error: Exception, data: bytes) -> str:
    if isinstance(error, RecursionError):
        return TOO_DEEP
    if isinstance(error, UnicodeDecodeError):
        return f"a string is not UTF-8: {error.reason}"
    try:
        message = _untyped(data)
    except (ValueError, RecursionError) as no_messagepack:
        if isinstance(no_messagepack, RecursionError):
            return TOO_DEEP
        return f"this is no MessagePack: {no_messagepack}"
    return explain(error, message)
