"""What is no WAMP message is refused with a sentence; what is passed on can be decoded by whoever gets it."""

import contextlib
import json
import random
from typing import Any

import cbor2
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.core.wamp import messages
from holdfast.core.wamp.messages import Objects
from holdfast.wire.wamp import CODECS, Codec, EncodeError, ProtocolError, open_payload
from wire.wamp.samples import arguments, keywords, nested

PLAIN = ("json", "msgpack", "cbor")
ENCODE: dict[str, Any] = {
    "json": msgspec.json.encode,
    "msgpack": msgspec.msgpack.encode,
    "cbor": cbor2.dumps,
}
DECODE: dict[str, Any] = {
    "json": json.loads,
    "msgpack": msgspec.msgpack.decode,
    "cbor": cbor2.loads,
}


@pytest.mark.parametrize(
    ("message", "says"),
    [
        ({}, "an array, this is a map"),
        (48, "an array, this is a number"),
        ([], "begins with its type"),
        (["CALL"], "begins with its type, a number"),
        ([337, 1, 2], "no WAMP message type 337"),
        ([-48, 1, {}, "p"], "no WAMP message type -48"),
        ([2**63, 1], "no WAMP message type"),
        ([48], "CALL: Expected array of at least length 4"),
        ([48, 1, {}], "CALL: Expected array of at least length 4"),
        ([48, "1", {}, "p"], "CALL: Expected int, got str - at request"),
        ([48, 1.5, {}, "p"], "CALL: Expected int, got float - at request"),
        ([48, -1, {}, "p"], "CALL: Expected int >= 0 - at request"),
        ([48, 2**53 + 1, {}, "p"], "CALL: Expected int <= 9007199254740992 - at request"),
        ([48, 1, [], "p"], "CALL: Expected object, got array - at options"),
        ([48, 1, {}, 2], "CALL: Expected str, got int - at procedure"),
        ([48, 1, {}, "p", {}], "CALL: the arguments are a map, expected an array"),
        ([48, 1, {}, "p", "args"], "CALL: the arguments are a string, expected an array"),
        ([48, 1, {}, "p", [], []], "CALL: the keyword arguments are an array, expected a map"),
        ([48, 1, {}, "p", [], {}, 7], "CALL: Expected array of at most length"),
        ([32, 1, {}, "t", "more"], "SUBSCRIBE: there are 5 elements, expected at most 4"),
        ([1, None], "HELLO: Expected array of at least length 3"),
        ([16, 1, {}, "t", nested(200)], "deeper than 128"),
        ([16, 1, {}, "t", [], {"a": nested(200)}], "deeper than 128"),
        ([16, 1, {"a": nested(200)}, "t"], "deeper than 128"),
        ([16, 1, {}, "t", nested(5000)], "deeper than 128"),
        ([32, 1, {"a": nested(200)}, "t"], "deeper than 128"),
    ],
)
@pytest.mark.parametrize("name", PLAIN)
def test_a_message_that_is_none_is_refused_with_the_reason(
    name: str, message: Any, says: str
) -> None:
    """The author of a client reads the ABORT, and has no debugger in our router."""
    data = _deep(name, message)

    with pytest.raises(ProtocolError) as caught:
        CODECS[name].decode(data)

    text = str(caught.value)
    if "deeper" in says:
        # cbor2 says it in its own words.
        assert "deeper than 128" in text or "nesting depth (128)" in text
    else:
        assert says in text
    assert "`" not in text


def _deep(name: str, message: Any) -> bytes:
    """Encode also what the encoders are too cautious for."""
    if name == "json":
        return _json(message).encode()
    if name == "msgpack":
        return _nested_bytes(message, b"\x91", b"\x90", ENCODE[name])
    return _nested_bytes(message, b"\x81", b"\x80", ENCODE[name])


def _json(value: Any) -> str:
    text, closing = "", ""
    if isinstance(value, list) and len(value) == 1 and isinstance(value[0], list):
        while value:
            text, closing, value = text + "[", closing + "]", value[0]
        return text + "[]" + closing
    if isinstance(value, list):
        return "[" + ",".join(map(_json, value)) + "]"
    if isinstance(value, dict):
        return "{" + ",".join(f"{json.dumps(k)}:{_json(v)}" for k, v in value.items()) + "}"
    return json.dumps(value)


def _nested_bytes(message: Any, one: bytes, none: bytes, encode: Any) -> bytes:
    """Encode with the deep lists put in afterwards: a marker stands for them."""
    marker = "<<deep>>"
    levels = 0

    def mark(value: Any) -> Any:
        nonlocal levels
        if isinstance(value, list) and len(value) == 1 and isinstance(value[0], list):
            levels = 1
            while value:
                levels, value = levels + 1, value[0]
            return marker
        if isinstance(value, list):
            return [mark(item) for item in value]
        if isinstance(value, dict):
            return {key: mark(item) for key, item in value.items()}
        return value

    data: bytes = encode(mark(message))
    return data.replace(encode(marker), one * (levels - 1) + none)


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("json", b""), ("json", b"["), ("json", b'[16,1,{},"t"]]'), ("json", b'[16,1,{},"t"] x'), ("json", b'[16,1,{},"t",]'),
        ("json", b'[16,1,{},"t",["\xff"]]'), ("json", b'[16,1,{},"t",["\xed\xa0\x80"]]'), ("json", b'[16,1,{},"\xff"]'),
        ("json", b'[16,1,{},"t",[],{"\xc3":1}]'), ("json", b'[16,1,{},"t",["\\ud800"]]'), ("json", b'[16,1,{},"t",["\\x"]]'),
        ("json", b'[16,1,{},"t",["\n"]]'), ("json", b'[16,1,{},"t",[1e400]]'), ("json", b'[16,1,{},"t",[NaN]]'),
        ("json", b'[16,1,{},"t",[01]]'), ("json", b'[16,1,{},"t",[' + b"9" * 5000 + b"]]"), ("json", b'\xef\xbb\xbf[16,1,{},"t"]'),
        ("json", b"[16,1,{},'t']"), ("json", b'[16.0,1,{},"t"]'), ("json", b'[true,1,{},"t"]'), ("json", b'[16,true,{},"t"]'),
        ("msgpack", b""), ("msgpack", b"\x95"), ("msgpack", b"\x94\x10\x01\x80\xa1t\x00"), ("msgpack", b"\x94\x10\x01\x80\xa1\xff"),
        ("msgpack", b"\x95\x10\x01\x80\xa1t\x91\xa1\xff"), ("msgpack", b"\x95\x10\x01\x80\xa1t\x91\xc1"),
        ("msgpack", b"\x96\x10\x01\x80\xa1t\x90\x81\x01\x02"), ("msgpack", b"\x96\x10\x01\x80\xa1t\x90\x81\xa1\xff\x02"),
        ("msgpack", b"\x95\x10\x01\x80\xa1t\xdd\xff\xff\xff\xff"), ("msgpack", b"\x95\x10\x01\x80\xa1t\x91\xdb\xff\xff\xff\xff"),
        ("msgpack", b"\x95\x10\x01\x80\xa1t\x91\xc7\x03\xffabc"), ("msgpack", b"\x95\x10\x01\x80\xa1t\x91\x81\x81\x01\x02\x03"),
        ("msgpack", b"\x94\x10\x01\x81\xa1a\xdd\xff\xff\xff\xff\xa1t"), ("msgpack", b"\x94\x10\xc3\x80\xa1t"),
        ("cbor", b""), ("cbor", b"\x84"), ("cbor", b"\x84\x10\x01\xa0\x61t\x00"), ("cbor", b"\x84\x10\x01\xa0\x61t\xff"),
        ("cbor", b"\x85\x10\x01\xa0\x61t\x80\x00"), ("cbor", b"\x85\x10\x01\xa0\x61t\x80\xff"), ("cbor", b"\x85\x10\x01\xa0\x61t\x81\x18\x18\x18"),
        ("cbor", b"\x86\x10\x01\xa0\x61t\x80\xa0\x00"), ("cbor", b"\x9f\x10\x01\xa0\x61t\x80\xff\x00"), ("cbor", b"\x9f\x10\x01\xa0\x61t\x80\xff\xff"),
        ("cbor", b"\x84\x10\x01\xa0\x61\xff"), ("cbor", b"\x85\x10\x01\xa0\x61t\x81\x61\xff"), ("cbor", b"\x86\x10\x01\xa0\x61t\x80\xa1\x61\xff\x00"),
        ("cbor", b"\x86\x10\x01\xa0\x61t\x80\xa1\x01\x02"), ("cbor", b"\x85\x10\x01\xa0\x61t\x81\x1c"), ("cbor", b"\x85\x10\x01\xa0\x61t\x81\xff"),
        ("cbor", b"\x85\x10\x01\xa0\x61t\x9b\xff\xff\xff\xff\xff\xff\xff\xff"), ("cbor", b"\x85\x10\x01\xa0\x61t\x5b\x7f\xff\xff\xff\xff\xff\xff\xff"),
        ("cbor", b"\x85\x10\x01\xa0\x61t\x81\xd8\x1c\x81\xd8\x1d\x00"), ("cbor", b"\x85\x10\x01\xa0\x61t\x81\xd9\x01\x00\x82\x63abc\xd8\x19\x00"),
        ("cbor", b"\x85\x10\x01\xa0\x61t\x81\xc0\x61a"), ("cbor", b"\x85\x10\x01\xa0\x61t\x81\xd8\x23\x61("), ("cbor", b"\x84\x10\xf5\xa0\x61t"),
        ("cbor", b"\x85\x10\x01\xa0\x61t\x81\xd8\x1e\x82\x01\x00"), ("cbor", b"\xd9\xd9\xf7\x84\x10\x01\xa0\x61t"), ("cbor", b"\x85\x10\x01\xa0\x61t\x81\xc5\x82\x01\x61a"),
    ],
)  # fmt: skip
def test_malformed_bytes_are_refused(name: str, data: bytes) -> None:
    """Also within arguments, which the router does not need: the receiver would choke on them, and be blamed."""
    with pytest.raises(ProtocolError) as caught:
        CODECS[name].decode(data)

    assert len(str(caught.value)) > 10


@pytest.mark.parametrize("name", PLAIN)
def test_nesting_up_to_the_limit_passes(name: str) -> None:
    """The limit is one that people do not meet."""
    codec = CODECS[name]

    message: Any = codec.decode(codec.encode([16, 1, {}, "t"], Objects(nested(120), {"a": nested(120)})))  # fmt: skip

    assert open_payload(message) == (nested(120), {"a": nested(120)})


@pytest.mark.parametrize("name", PLAIN)
def test_long_arguments_that_are_not_deep_pass(name: str) -> None:
    """The quick look counts containers; many beside each other are fine."""
    codec, rows = CODECS[name], [[n, {"n": n}, n / 7] for n in range(2000)]

    message: Any = codec.decode(codec.encode([16, 1, {}, "t"], Objects(rows, {"rows": rows})))

    assert open_payload(message) == (rows, {"rows": rows})


@pytest.mark.parametrize("form", ["definite", "indefinite", "long heads"])
@pytest.mark.parametrize("count", [1, 40, 1000])
def test_cbor_arguments_are_found_in_every_form(form: str, count: int) -> None:
    """Encoders of microcontrollers do not know lengths beforehand."""
    args, kwargs = [list(range(-count, count)), "ä" * count, b"\1" * count], {"k": [1.5] * count}
    raw_args, raw_kwargs = cbor2.dumps(args), cbor2.dumps(kwargs)
    if form == "indefinite":
        raw_args = cbor2.dumps(args, indefinite_containers=True)
        raw_kwargs = cbor2.dumps(kwargs, indefinite_containers=True)
        data = b"\x9f" + cbor2.dumps([16, 1, {}, "t"])[1:] + raw_args + raw_kwargs + b"\xff"
    elif form == "long heads":
        raw_args = b"\x9b" + len(args).to_bytes(8, "big") + raw_args[1:]
        data = b"\x9a\0\0\0\x06" + cbor2.dumps([16, 1, {}, "t"])[1:] + raw_args + raw_kwargs
    else:
        data = cbor2.dumps([16, 1, {}, "t", args, kwargs])

    message: Any = CODECS["cbor"].decode(data)

    assert (message.args, message.kwargs) == (raw_args, raw_kwargs)
    assert open_payload(message) == (args, kwargs)
    for tail in (b"\0", b"\xff", b"\x18", b"\xd9\xd9\xf7", raw_kwargs):
        with pytest.raises(ProtocolError, match="behind the end"):
            CODECS["cbor"].decode(data + tail)


@settings(deadline=None, max_examples=300)
@given(st.sampled_from(PLAIN), arguments, keywords, st.data())
def test_mutated_messages_are_refused_or_harmless(
    name: str, args: list[Any], kwargs: dict[str, Any], data: st.DataObject
) -> None:
    """Whatever bytes come: a ProtocolError, or a message that others can decode."""
    codec = CODECS[name]
    wire = bytearray(codec.encode([16, 1, {"a": 1}, "t"], Objects(args, kwargs)))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(wire) - 1))
        what = data.draw(st.sampled_from(("set", "cut", "put", "double")))
        if what == "set":
            wire[at] = data.draw(st.integers(0, 255))
        elif what == "cut" and at:
            del wire[at:]
        elif what == "put":
            wire[at:at] = data.draw(st.binary(max_size=9))
        else:
            wire[at:at] = wire[: at + 1]

    _take(codec, bytes(wire))


@settings(deadline=None, max_examples=300)
@given(st.sampled_from(PLAIN), st.binary(max_size=60), st.booleans())
def test_random_bytes_are_refused_or_harmless(name: str, data: bytes, is_payload: bool) -> None:
    """The same for noise, as a message or as its arguments."""
    codec = CODECS[name]
    if is_payload:
        data = codec.encode([16, 1, {}, "t"], Objects([0]))[:-2] + data
    _take(codec, data)


def test_many_random_bytes_in_the_place_of_arguments() -> None:
    """A quick and wide net besides Hypothesis' clever one, always the same."""
    chance = random.Random(3)
    heads = {"json": b'[16,1,{},"t",[', "msgpack": b"\x95\x10\x01\x80\xa1t\x91", "cbor": b"\x85\x10\x01\xa0\x61t\x81"}  # fmt: skip
    taken = 0
    for _ in range(20000):
        name = chance.choice(PLAIN)
        alphabet = b'[]{}",:01e.-\\ut\x00\xc3\xa4' if name == "json" else bytes(range(256))
        noise = bytes(chance.choices(alphabet, k=chance.randrange(1, 12)))
        taken += _take(CODECS[name], heads[name] + noise + (b"]]" if name == "json" else b""))

    assert taken > 50


def _take(codec: Codec, data: bytes) -> bool:
    """Decode; a message that was taken has to go through, and to be what decoders of others expect."""
    try:
        message: Any = codec.decode(data)
    except ProtocolError:
        return False
    if not hasattr(message, "format"):
        return True
    args, kwargs = open_payload(message)
    assert isinstance(args, list)
    assert all(type(key) is str for key in kwargs)
    wire = codec.encode([messages.EVENT, 1, 2, {}], message)
    again: Any = codec.decode(wire)
    assert repr(open_payload(again)[1].keys()) == repr(kwargs.keys())
    theirs = DECODE[codec.name](wire)
    assert theirs[:3] == [messages.EVENT, 1, 2]
    for other in PLAIN:
        with contextlib.suppress(EncodeError):
            CODECS[other].decode(CODECS[other].encode([messages.EVENT, 1, 2, {}], message))
    return True


@pytest.mark.parametrize(
    ("name", "begin", "item", "end"),
    [
        ("json", b'[16,1,{},"com.t",[', b"{},", b"1]]"),
        ("msgpack", b"\x95\x10\x01\x80\xa5com.t\xdd\x00\x01\x00\x00", b"\x80", b""),
        ("cbor", b"\x85\x10\x01\xa0\x65com.t\x9f", b"\xa0", b"\xff"),
    ],
)
def test_a_crowd_of_empty_maps_is_refused(name: str, begin: bytes, item: bytes, end: bytes) -> None:
    """A megabyte of them keeps the router busy for a second; the points of a drawing are none."""
    with pytest.raises(ProtocolError, match="too many arrays and maps"):
        CODECS[name].decode(begin + item * 65536 + end)

    points = CODECS[name].encode(
        [16, 1, {}, "com.t"], Objects([[n % 100, n % 7] for n in range(20_000)])
    )
    decoded: Any = CODECS[name].decode(points)
    assert len(open_payload(decoded)[0]) == 20_000
