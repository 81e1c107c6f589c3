"""What does a value of one serializer become in another?

Every serializer is met by Python objects in the middle. What JSON and MessagePack have natively is told by msgspec
(dates, UUIDs, dataclasses, structs …); CBOR says the same as JSON does, so that it does not depend on a peer's serializer
what a component gets. Binary data in JSON is a string that begins with U+0000, base64 behind (WAMP
specification, "Binary support in JSON").
"""

from base64 import b64decode, b64encode
from collections.abc import Callable
from typing import Any

import msgspec
from cbor2 import CBORSimpleValue, CBORTag, undefined

from holdfast.wire.wamp.errors import EncodeError

#: What needs no look before it becomes JSON.
_SIMPLE = frozenset((str, int, bool, type(None)))
_BINARY = (bytes, bytearray, memoryview)
_STRINGS = frozenset((str,))
#: What the decoders make of what Python has no type for.
_FOREIGN: dict[type, Callable[[Any], Any]] = {
    CBORTag: lambda tag: tag.value,
    CBORSimpleValue: lambda simple: simple.value,
    type(undefined): lambda _: None,
    msgspec.msgpack.Ext: lambda extension: bytes(extension.data),
}


def extension(code: int, data: memoryview) -> Any:
    """The value of a MessagePack extension; `undefined` of JavaScript, as msgpackr and its kin write it, is nothing."""
    content = bytes(data)
    return None if code == 0 and content == b"\0" else msgspec.msgpack.Ext(code, content)


def builtin(value: Any) -> Any:
    """The hook of the encoders: what msgspec does not know.

    A tag of CBOR that nobody here knows is dropped and its content kept (RFC 8949, 6.1), so is the type of a MessagePack extension.
    """
    kind = type(value)
    if kind in _FOREIGN:
        return _FOREIGN[kind](value)
    # cbor2 has maps of its own, where maps are keys or members of a set.
    if hasattr(value, "items"):
        return dict(value.items())
    if kind.__module__ == "ipaddress":
        return str(value)
    # A subclass, say a string with markup or a number of an array library.
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value)
    if isinstance(value, bytes):
        return bytes(value)
    message = f"a value of type {kind.__module__}.{kind.__qualname__} cannot be sent"
    raise EncodeError(message)


def plain(value: Any) -> Any:
    """The value in what every serializer has: None, bool, int, float, str, bytes, list, dict."""
    return msgspec.to_builtins(value, builtin_types=_BINARY, enc_hook=builtin)


def for_json(value: Any) -> Any:
    """The value as msgspec can write it to JSON by WAMP's rules; itself where it is simple already.

    Raises:
        EncodeError: NaN or infinity, keys that JSON has not, or something that no serializer knows.
    """
    kind = type(value)
    if kind in _SIMPLE:
        return value
    if kind is list or kind is tuple:
        if _SIMPLE.issuperset(map(type, value)):
            return value
        return [for_json(item) for item in value]
    if kind is dict:
        if not _STRINGS.issuperset(map(type, value)):
            value = _with_keys_of_json(value)
        if _SIMPLE.issuperset(map(type, value.values())):
            return value
        return {key: for_json(item) for key, item in value.items()}
    if kind is float:
        if value - value == 0.0:  # neither NaN nor infinite
            return value
        message = f"JSON has no {value}"
        raise EncodeError(message)
    if kind is bytes or kind is bytearray or kind is memoryview:
        return "\0" + b64encode(value).decode()
    # Anything else has to come out as one of the above, or raises.
    return for_json(plain(value))


def _with_keys_of_json(value: dict[Any, Any]) -> dict[Any, Any]:
    """The map with its numbers as texts: two keys that JSON does not tell apart would silently be one at the other side."""
    made: dict[Any, Any] = {}
    for key, item in value.items():
        said = key
        if isinstance(key, _BINARY):
            message = f"JSON has no keys that are bytes, as {bytes(key)[:20]!r}"
            raise EncodeError(message)
        if type(key) is int or type(key) is float:
            for_json(key)  # no NaN
            said = msgspec.json.encode(key).decode()
        if said in made:
            message = f"two keys of a map are both {said!r} in JSON"
            raise EncodeError(message)
        made[said] = item
    return made


def is_mistaken(value: Any) -> bool:
    """Is there a text in it that JSON's reader takes for binary data, because of how it begins?"""
    kind = type(value)
    if kind is str:
        return value[:1] == "\0" and type(from_json(value)) is bytes
    if kind is list or kind is tuple:
        return any(is_mistaken(item) for item in value)
    if kind is dict:
        return any(is_mistaken(item) for item in value.values())
    return False


def from_json(value: Any) -> Any:
    """The value with its marked strings turned to bytes; a marked string that is no base64 stays what it is."""
    kind = type(value)
    if kind is str:
        if value[:1] != "\0":
            return value
        try:
            return b64decode(value[1:], validate=True)
        except ValueError:
            return value
    if kind is list:
        return [from_json(item) for item in value]
    if kind is dict:
        return {key: from_json(item) for key, item in value.items()}
    return value
