"""What is in a payload, whatever its format?"""

from typing import Any

import msgspec

from holdfast.core.wamp.messages import JSON, MSGPACK, OBJECTS, Payload
from holdfast.wire.wamp.tags import load
from holdfast.wire.wamp.values import extension, from_json

_json = msgspec.json.Decoder().decode
_messagepack = msgspec.msgpack.Decoder(ext_hook=extension).decode
#: How a string that stands for binary data begins in JSON text; there is no other way to write U+0000.
MARK = b'"\\u0000'


def open_payload(payload: Payload) -> tuple[list[Any], dict[str, Any]]:
    """Positional and keyword arguments, [] and {} where absent. Always new containers, unless they were made in this process.

    A transparent payload (a single binary in place of the arguments) is the only positional argument.
    """
    args, kwargs = (
        (payload.args, payload.kwargs) if payload.format == OBJECTS else open_raw(payload)
    )
    if args is None:
        args = []
    elif type(args) is not list:
        args = list(args) if isinstance(args, tuple) else [args]
    return args, {} if kwargs is None else kwargs


def open_raw(payload: Payload) -> tuple[Any, Any]:
    """Arguments of an encoded payload as they are on the wire: None where absent, bytes or str where transparent."""
    args, kwargs = payload.args, payload.kwargs
    if payload.format == JSON:
        return (
            None if args is None else _open_json(args),
            None if kwargs is None else _open_json(kwargs),
        )
    decode = _messagepack if payload.format == MSGPACK else load
    return None if args is None else decode(args), None if kwargs is None else decode(kwargs)


def _open_json(raw: msgspec.Raw) -> Any:
    value = _json(raw)
    return from_json(value) if MARK in bytes(raw) else value
