"""WAMP messages as CBOR (wamp.2.cbor), by cbor2.

cbor2 knows nothing of raw values, so a message is decoded whole (which shows that it is well formed) and the places where its
arguments begin and end are found by a walk over the bytes. The walk is Python; long arguments are spared it by two facts: no data
item is the beginning of another one (CBOR is prefix-free), and what is encoded in the preferred form is
found by encoding it again.
"""

from struct import Struct
from typing import Any

import cbor2
import msgspec

from holdfast.core.wamp.messages import CBOR, OBJECTS, PLAIN, Message, Payload
from holdfast.wire.wamp.batches import joined, split
from holdfast.wire.wamp.errors import EncodeError, ProtocolError
from holdfast.wire.wamp.opening import open_raw
from holdfast.wire.wamp.structs import (
    ARGS_AT,
    CROWDED,
    FEW_ENOUGH,
    LONGEST,
    MAX_DEPTH,
    TOO_DEEP,
    bad_payload,
    carrying,
    explain,
    is_crowded,
    is_opaque,
    is_too_deep,
)
from holdfast.wire.wamp.tags import load
from holdfast.wire.wamp.values import plain

#: One class at a time: msgspec keeps what it knows of a class, but finds out about a union at each conversion (30 µs).
_all: tuple[Any, ...] = (*carrying(CBOR, Any), *PLAIN)
_CLASSES: dict[int, Any] = {_class.__struct_config__.tag: _class for _class in _all}
_convert = msgspec.convert
_dumps = cbor2.dumps
_NOTHING = b"\x80"
#: cbor2 takes a memoryview for an array of numbers.
_ENCODERS: dict[type, Any] = {memoryview: lambda encoder, value: encoder.encode_bytes(bytes(value))}
_UNDEFINED = b"\xf7"
_INDEFINITE = 0x9F
_BREAK = 0xFF
#: How many data items we walk over before looking for a shorter way.
_FEW = 64


def _sizes() -> list[int]:
    """First byte -> length of a data item that is told by it, else 0."""
    sizes = [0] * 256
    for major in (0, 1, 7):
        for info in range(24):
            sizes[major << 5 | info] = 1
        for info, size in ((24, 2), (25, 3), (26, 5), (27, 9)):
            sizes[major << 5 | info] = size
    for info in range(24):
        sizes[2 << 5 | info] = sizes[3 << 5 | info] = 1 + info
    sizes[0x80] = sizes[0xA0] = 1
    return sizes


_SIZES = _sizes()


def decode(data: bytes) -> Message:
    """The message; raises ProtocolError."""
    items = load(data)
    if len(data) > FEW_ENOUGH and type(items) is list and is_crowded(items, len(data) // 2):
        raise ProtocolError(CROWDED)
    if type(items) is not list or not items or type(items[0]) is not int:
        raise ProtocolError(explain(ValueError(), items))
    class_ = _CLASSES.get(items[0])
    if class_ is None:
        raise ProtocolError(explain(ValueError(), items))
    count = len(items)
    args_at = ARGS_AT.get(items[0], count)
    args: Any = None
    kwargs: Any = None
    if count == args_at + 1:
        args, items[args_at] = items[args_at], _last(data, args_at)
    elif count == args_at + 2:
        args, kwargs = items[args_at], items[args_at + 1]
        items[args_at], items[args_at + 1] = _last_two(data, args_at, args)
    elif _end(data, 0, _FEW) != len(data) and not _is_exact(data):
        raise ProtocolError(_TRAILING)
    if _UNDEFINED in data:
        items = [_defined(item) for item in items]
    try:
        message: Any = _convert(items, class_)
    except ValueError as error:
        raise ProtocolError(explain(error, items)) from None
    if count > args_at:
        if count > args_at + 1 or type(args) is not list:
            _check(message, args, kwargs)
    elif count > LONGEST.get(class_, count):
        says = f"there are {count} elements, expected at most {LONGEST[class_]}"
        raise ProtocolError(explain(Exception(says), items))
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
            return _head(head, 0)
        if payload.format == CBOR:
            if payload.args is None:
                return _head(head, 0)
            if payload.kwargs is None:
                return _head(head, 1) + payload.args  # type: ignore[no-any-return]
            return _head(head, 2) + payload.args + payload.kwargs  # type: ignore[no-any-return]
        if payload.format == OBJECTS:
            args, kwargs = payload.args, payload.kwargs
        else:
            args, kwargs = open_raw(payload)
        if not kwargs and not args and args != b"":
            return _head(head, 0)
        values = [plain(args or [])] if args != b"" else [b""]
        if kwargs:
            values.append(plain(kwargs))
        data = _head(head, len(values))
        for value in values:
            data += _dumps(value, encoders=_ENCODERS)
    except (cbor2.CBORError, TypeError, ValueError, OverflowError, RecursionError) as error:
        says = f"this cannot be said in CBOR: {error}"
        raise EncodeError(says) from None
    if len(data) > MAX_DEPTH and is_too_deep(values):
        raise EncodeError(TOO_DEEP)
    return data


def encode_batched(head: list[Any], payload: Payload | None = None) -> bytes:
    """The message, as a batch of one."""
    return joined(encode(head, payload))


def _check(message: Any, args: Any, kwargs: Any) -> None:
    """The rarer payloads: with keyword arguments, null in place of arguments, transparent."""
    if args is None:
        message.args = None if kwargs is None else _NOTHING
    elif type(args) is not list and (kwargs is not None or not is_opaque(message, args)):
        raise ProtocolError(bad_payload(message, args, {}))
    if kwargs is None:
        message.kwargs = None
    elif type(kwargs) is not dict or not all(type(key) is str for key in kwargs):
        raise ProtocolError(bad_payload(message, [], kwargs))


def _defined(item: Any) -> Any:
    """Options as they are meant: JavaScript says `undefined` for what is not set."""
    if type(item) is not dict:
        return item
    return {key: None if value is cbor2.undefined else value for key, value in item.items()}


# The walk. The bytes have been decoded before: what we walk over is there and well formed.


def _end(data: bytes, at: int, most: int) -> int:
    """Where the data item that begins at `at` ends; -1 after a walk over more than `most` items."""
    left = 1
    outer: list[int] = []
    sizes = _SIZES
    while True:
        first = data[at]
        size = sizes[first]
        if size:
            at += size
            left -= 1
        elif first == _BREAK:
            if left >= 0:  # some releases of cbor2 let a break end what has a length
                raise ProtocolError(_BROKEN)
            at += 1
            left = outer.pop() - 1
        else:
            length, at = _length(data, at)
            major = first >> 5
            if major == 6:  # a tag: its content counts for it
                pass
            elif length < 0:  # indefinite: never counts down to 0, a break ends it
                outer.append(left)
                left = -1
            elif major < 4:
                at += length
                left -= 1
            else:
                outer.append(left)
                left = length if major == 4 else 2 * length
        while left == 0:
            if not outer:
                return at
            left = outer.pop() - 1
        most -= 1
        if most < 0:
            return -1


def _length(data: bytes, at: int) -> tuple[int, int]:
    """The argument of the head at `at` (-1: indefinite), and where the head ends."""
    info = data[at] & 31
    at += 1
    if info < 24:
        return info, at
    if info == 31:
        return -1, at
    end = at + (1 << info - 24)
    return int.from_bytes(data[at:end], "big"), end


def _is_exact(data: bytes) -> bool:
    """Is `data`, of which a beginning decodes, one data item and nothing more?

    If something came behind the item, the item would still be whole without the last byte.
    """
    try:
        load(data[:-1])
    except ProtocolError:
        return True
    return False


def _begin(data: bytes, count: int) -> int:
    """Where the element after the first `count` elements of the outer array begins."""
    at = _length(data, 0)[1]
    sizes = _SIZES
    for _ in range(count):
        size = sizes[data[at]]
        at = at + size if size else _end(data, at, len(data))
    return at


def _last(data: bytes, args_at: int) -> bytes:
    """The bytes of the arguments, with which the message ends."""
    begin = _begin(data, args_at)
    is_indefinite = data[0] == _INDEFINITE
    end = _end(data, begin, _FEW)
    if end < 0:
        if is_indefinite:
            end = _end(data, begin, len(data))
        elif _is_exact(data):
            end = len(data)
    if end + is_indefinite != len(data):
        raise ProtocolError(_TRAILING)
    return data[begin:end]


def _last_two(data: bytes, args_at: int, args: Any) -> tuple[bytes, bytes]:
    """The bytes of arguments and keyword arguments, with which the message ends."""
    begin = _begin(data, args_at)
    middle = _end(data, begin, _FEW)
    if middle < 0:
        again = _again(args)
        is_same = again is not None and data.startswith(again, begin)
        middle = begin + len(again) if again and is_same else _end(data, begin, len(data))
    is_indefinite = data[0] == _INDEFINITE
    end = _end(data, middle, _FEW)
    if end < 0:
        end = len(data) if not is_indefinite and _is_exact(data) else _end(data, middle, len(data))
    if end + is_indefinite != len(data):
        raise ProtocolError(_TRAILING)
    return data[begin:middle], data[middle:end]


def _again(value: Any) -> bytes | None:
    try:
        return _dumps(value)
    except (cbor2.CBORError, TypeError, ValueError, OverflowError, RecursionError):
        return None


# The head of an outgoing message. cbor2.dumps costs 2 µs for what is nearly always small numbers, a known string and an empty map.

_ARRAYS = [bytes((0x80 | n,)) for n in range(24)]
_SMALL = [cbor2.dumps(n) for n in range(256)]
_four = Struct(">BI").pack
_eight = Struct(">BQ").pack


def _head(head: list[Any], more: int) -> bytes:
    out = [_ARRAYS[len(head) + more]]
    for element in head:
        kind = type(element)
        if kind is int:
            if 0 <= element < 256:
                out.append(_SMALL[element])
            elif 65536 <= element < 4294967296:
                out.append(_four(0x1A, element))
            elif 4294967296 <= element < 18446744073709551616:
                out.append(_eight(0x1B, element))
            else:
                out.append(_dumps(element))
        elif kind is dict and not element:
            out.append(b"\xa0")
        elif kind is str and len(element) < 24 and element.isascii():
            out.append(bytes((0x60 | len(element),)) + element.encode())
        else:
            out.append(_dumps(plain(element)))
    return b"".join(out)


_BROKEN = "there is a break in a CBOR array or map that has a length"
_TRAILING = "there is something behind the end of the CBOR message"
