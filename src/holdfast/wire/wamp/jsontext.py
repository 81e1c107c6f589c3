"""WAMP messages as JSON text (wamp.2.json), by msgspec.

Arguments stay as the bytes that came, but are decoded once to see that they are what they seem: msgspec skips over a raw
value without looking whether its strings are UTF-8 or its numbers can be held, and what is passed on must not hurt a receiver.
"""

from typing import Any

import msgspec

from holdfast.core.wamp.messages import JSON, OBJECTS, Message, Payload
from holdfast.wire.wamp.errors import EncodeError, ProtocolError
from holdfast.wire.wamp.opening import MARK, open_raw
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
from holdfast.wire.wamp.values import for_json, is_mistaken

_typed = msgspec.json.Decoder(any_of(carrying(JSON, msgspec.Raw))).decode
_untyped = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode
_NOTHING = msgspec.Raw(b"[]")
_SEPARATOR = b"\x1e"


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
                if type(kwargs) is not dict:
                    if kwargs is not None:
                        raise ProtocolError(bad_payload(message, [], kwargs))
                    message.kwargs = None
    except (ValueError, RecursionError) as error:
        raise ProtocolError(_why(error, data)) from None
    if len(data) > 2 * MAX_DEPTH and _may_be_deep(data):
        all_parts = whole or parts(message, args, kwargs)
        if len(data) > FEW_ENOUGH and is_crowded(all_parts, len(data) // 4):
            raise ProtocolError(CROWDED)
        if is_too_deep(all_parts):
            raise ProtocolError(TOO_DEEP)
    return message  # type: ignore[no-any-return]


def decode_one(data: bytes) -> list[Message]:
    """The message, as a batch of one."""
    return [decode(data)]


def decode_batch(data: bytes) -> list[Message]:
    """The messages of a batch, each of which ends with 0x1E."""
    texts = data.split(_SEPARATOR)
    if texts.pop() or not texts:
        raise ProtocolError(_NO_BATCH)
    return [decode(text) for text in texts]


def decode_batch_of_one(data: bytes) -> Message:
    """The only message of a batch."""
    messages = decode_batch(data)
    if len(messages) != 1:
        raise ProtocolError(_NOT_ONE)
    return messages[0]


def encode(head: list[Any], payload: Payload | None = None) -> bytes:
    """The message of these elements and the payload's; raises EncodeError."""
    try:
        if payload is None:
            if type(head[-1]) is dict and head[-1]:
                head = for_json(head)
            return _encode(head)
        if payload.format == JSON:
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
            data = _encode([*head, for_json(args or []), for_json(kwargs)])
        elif args or args == b"":
            data = _encode([*head, for_json(args)])
        else:
            return _encode(head)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        says = f"this cannot be said in JSON: {error}"
        raise EncodeError(says) from None
    _check(data, args, kwargs)
    return data


def encode_batched(head: list[Any], payload: Payload | None = None) -> bytes:
    """The message, as a batch of one."""
    return encode(head, payload) + _SEPARATOR


def _check(data: bytes, args: Any, kwargs: Any) -> None:
    """Raise EncodeError for what could be written, but would not be read as it was meant."""
    if MARK in data and is_mistaken((args, kwargs)):
        raise EncodeError(_TAKEN_FOR_BINARY)
    if len(data) > 2 * MAX_DEPTH and _may_be_deep(data) and is_too_deep(_untyped(data)):
        raise EncodeError(TOO_DEEP)


def _may_be_deep(data: bytes) -> bool:
    """Are there so many containers? A level costs two bytes, which spares short messages the look."""
    return data.count(b"[") + data.count(b"{") > MAX_DEPTH


def _why(error: Exception, data: bytes) -> str:
    if isinstance(error, RecursionError):
        return TOO_DEEP
    if isinstance(error, UnicodeDecodeError):
        return f"this is not UTF-8: {error.reason}"
    try:
        message = _untyped(data)
    except (ValueError, RecursionError) as no_json:
        if isinstance(no_json, RecursionError):
            return TOO_DEEP
        return f"this is no JSON: {no_json}"
    return explain(error, message)


_TAKEN_FOR_BINARY = (
    "this cannot be said in JSON: a text that begins with U+0000 would be read as binary data"
)
_NO_BATCH = "a batch of JSON messages has one message or more, each with 0x1E behind it"
_NOT_ONE = "one message was expected, the batch has another number"
