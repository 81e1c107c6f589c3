"""What goes through a codec comes out as it was, in the same serializer or another one; what cannot be said is refused."""

import datetime
import decimal
import enum
import uuid
from dataclasses import dataclass
from typing import Any

import cbor2
import msgspec
import pytest
from hypothesis import given, settings

from holdfast.core.wamp import messages
from holdfast.core.wamp.messages import Objects
from holdfast.wire.wamp import (
    BY_RAWSOCKET_ID,
    BY_SUBPROTOCOL,
    CODECS,
    Codec,
    EncodeError,
    ProtocolError,
    open_payload,
)
from wire.wamp.samples import arguments, keywords, nested

BOTH = [(a, b) for a in CODECS.values() for b in CODECS.values()]
names = pytest.mark.parametrize("codec", CODECS.values(), ids=lambda codec: codec.name)
pairs = pytest.mark.parametrize(("one", "other"), BOTH, ids=lambda codec: codec.name)
HEAD = [messages.PUBLISH, 7, {"acknowledge": True}, "com.example.topic"]


def carried(codec: Codec, args: list[Any], kwargs: dict[str, Any] | None = None) -> Any:
    """A message with this payload, after its way over the wire."""
    return codec.decode(codec.encode([*HEAD], Objects(args, kwargs)))


@pytest.mark.parametrize(("args", "kwargs"), [([], {}), ([1], {}), ([], {"a": 1}), (["x"], {"ä": [None]})])  # fmt: skip
@pairs
def test_a_payload_means_the_same_in_every_serializer(
    one: Codec, other: Codec, args: list[Any], kwargs: dict[str, Any]
) -> None:
    """A browser speaks JSON, a controller CBOR: neither knows of the other."""
    came = carried(one, args, kwargs)

    went: Any = other.decode(other.encode([messages.EVENT, 1, 2, {}], came))

    assert (came.format, went.format) == (one.format, other.format)
    assert isinstance(went, messages.Event)
    assert open_payload(went) == (args, kwargs)


@settings(deadline=None, max_examples=60)
@given(arguments, keywords)
def test_any_payload_survives_the_way_through_all_serializers(
    args: list[Any], kwargs: dict[str, Any]
) -> None:
    """JSON to MessagePack to CBOR to JSON, binary data and all."""
    payload: Any = Objects(args, kwargs)
    for name in ("json", "msgpack", "cbor", "json.batched", "cbor.batched", "msgpack", "json"):
        codec = CODECS[name]
        payload = codec.decode(codec.encode([messages.YIELD, 1, {}], payload))

    assert open_payload(payload) == (args, kwargs)


@names
def test_the_same_serializer_passes_the_bytes_on(codec: Codec) -> None:
    """What a sender has encoded is not ours to change: spaces, long forms of numbers, order of keys."""
    raw = {
        messages.JSON: b'[16, 1, {}, "t", [1.0 , "\\u00e4"] , { "b":1e0 , "a":2 }]',
        messages.MSGPACK: b"\x96\x10\x01\x80\xa1t\x92\xcd\x00\x01\xd9\x01a\x81\xd9\x01b\xcc\x01",
        messages.CBOR: b"\x86\x10\x01\xa0\x61t\x9f\x19\x00\x01\x78\x01a\xff\xbf\x78\x01b\x18\x01\xff",
    }[codec.format]
    plain = CODECS[codec.name.removesuffix(".batched")]

    sent = codec.encode([messages.EVENT, 1, 2, {}], plain.decode(raw))  # type: ignore[arg-type]

    for part in (b"\\u00e4", b"1e0 ", b"\xcd\x00\x01", b"\x9f\x19\x00\x01\x78\x01a\xff"):
        assert (part in sent) == (part in raw)


@names
def test_every_message_type_comes_back_with_its_elements(codec: Codec) -> None:
    """The order of the elements is the protocol."""
    for class_ in (*messages.CARRYING, *messages.PLAIN):
        fields = [name for name in class_.__struct_fields__ if name not in ("args", "kwargs")]
        head: list[Any] = [class_.__struct_config__.tag]
        for name in fields:
            is_map, is_text = name in ("details", "options", "extra"), name in _TEXTS
            head.append({"a": [1, "b"]} if is_map else "com.example" if is_text else 2**53)

        message = codec.decode(codec.encode([*head], None))

        assert isinstance(message, class_)
        assert [getattr(message, name) for name in fields] == head[1:]


_TEXTS = ("realm", "reason", "method", "signature", "error", "topic", "procedure")


@names
def test_arguments_that_are_there_but_empty_stay_there(codec: Codec) -> None:
    """`[]` before keyword arguments is on the wire, and stays."""
    came = carried(codec, [], {"a": 1})

    assert came.args is not None
    assert open_payload(came) == ([], {"a": 1})


@names
def test_null_in_place_of_arguments_is_none(codec: Codec) -> None:
    """Some clients fill the gap before keyword arguments so; a receiver gets what the specification says."""
    encode: Any = {messages.JSON: msgspec.json.encode, messages.MSGPACK: msgspec.msgpack.encode, messages.CBOR: cbor2.dumps}[codec.format]  # fmt: skip
    plain = CODECS[codec.name.removesuffix(".batched")]

    only_kwargs: Any = plain.decode(encode([*HEAD, None, {"a": 1}]))
    neither: Any = plain.decode(encode([*HEAD, None, None]))
    only_args: Any = plain.decode(encode([*HEAD, [1], None]))

    assert msgspec.json.decode(CODECS["json"].encode([*HEAD], only_kwargs))[4:] == [[], {"a": 1}]
    assert open_payload(neither) == ([], {})
    assert open_payload(only_args) == ([1], {})
    assert only_args.kwargs is None


@pairs
def test_a_transparent_payload_stays_the_single_binary_that_it_is(one: Codec, other: Codec) -> None:
    """End-to-end encrypted payloads (`enc_algo`) have one binary in the place of the arguments."""
    secret = bytes(range(256))
    head = [messages.PUBLISH, 1, {"enc_algo": "cryptobox"}, "com.example.secret"]

    came: Any = one.decode(one.encode(head, Objects(secret)))  # type: ignore[arg-type]
    went: Any = other.decode(other.encode(head, came))

    assert open_payload(went) == ([secret], {})


class Colour(enum.Enum):
    """A value of an application."""

    RED = "red"


@dataclass
class Point:
    """A value of an application."""

    x: int
    picture: bytes


class Markup(str):
    """A string of a library."""

    __slots__ = ()


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (datetime.datetime(2024, 2, 29, 1, 2, 3), "2024-02-29T01:02:03"),  # noqa: DTZ001
        (datetime.date(2024, 2, 29), "2024-02-29"),
        (uuid.UUID(int=1), str(uuid.UUID(int=1))),
        (decimal.Decimal("1.10"), "1.10"),
        (Colour.RED, "red"),
        (Markup("a"), "a"),
        (Point(1, b"\0"), {"x": 1, "picture": b"\0"}),
        ((1, (2,)), [1, [2]]),
        ({3}, [3]),
        (bytearray(b"a"), b"a"),
        (memoryview(b"a"), b"a"),
        (2**64 - 1, 2**64 - 1),
        (-(2**63), -(2**63)),
    ],
)
@names
def test_python_values_are_told_alike_in_every_serializer(
    codec: Codec, value: Any, told: Any
) -> None:
    """A component must not have to know which serializer its connection has."""
    assert open_payload(carried(codec, [value], {"k": [value]})) == ([told], {"k": [told]})


def circle() -> list[Any]:
    """A list in itself."""
    value: list[Any] = []
    value.append(value)
    return value


@pytest.mark.parametrize("value", [object(), circle(), "\ud800", nested(200), {"a": object()}],
    ids=["object", "circle", "surrogate", "nested", "inner object"])  # fmt: skip
@names
def test_what_cannot_be_said_is_an_encode_error(codec: Codec, value: Any) -> None:
    """The caller gets an ERROR that names the reason, the connection goes on."""
    with pytest.raises(EncodeError, match=r"cannot|deeper"):
        codec.encode([*HEAD], Objects([value]))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), {(1, 2): 3}], ids=repr)  # fmt: skip
def test_what_json_has_not_is_an_encode_error_also_for_what_came_otherwise(value: Any) -> None:
    """`NaN` is no JSON: browsers fail on it, and silently sending null would be a lie."""
    for payload in (Objects([value]), carried(CODECS["msgpack"], [value]), carried(CODECS["cbor"], [value])):  # fmt: skip
        with pytest.raises(EncodeError, match="JSON"):
            CODECS["json"].encode([*HEAD], payload)


@pytest.mark.parametrize("value", [{b"k": 1}, {1: "a", "1": "b"}, {1.0: "a", "1.0": "b"}, {float("nan"): 1}, "\0abcd", "\0", {"a": ["\0YWJj"]}],
    ids=repr)  # fmt: skip
def test_what_would_arrive_in_json_as_something_else_is_an_encode_error(value: Any) -> None:
    """Two keys that become one, bytes that become a text, a text that becomes bytes: found by nobody until it matters."""
    for payload in (Objects([value]), carried(CODECS["msgpack"], [value]), carried(CODECS["cbor"], [value])):  # fmt: skip
        with pytest.raises(EncodeError, match="JSON"):
            CODECS["json"].encode([*HEAD], payload)


def test_numbers_as_keys_are_texts_in_json() -> None:
    """As Python and JavaScript write them themselves."""
    came = carried(CODECS["msgpack"], [{1: "a", -2.5: {3: "b"}, "x": 1}])

    assert open_payload(CODECS["json"].decode(CODECS["json"].encode([*HEAD], came))) == (  # type: ignore[arg-type]
        [{"1": "a", "-2.5": {"3": "b"}, "x": 1}],
        {},
    )


def test_a_map_as_a_key_stays_in_cbor() -> None:
    """In CBOR it can be one; few decoders of MessagePack, and none of JSON, know what to do with it."""
    came: Any = CODECS["cbor"].decode(
        cbor2.dumps([*HEAD]).replace(b"\x84", b"\x85", 1) + b"\x81\xa1\xa1\x01\x02\x03"
    )

    assert CODECS["cbor"].encode([*HEAD], came).endswith(b"\x81\xa1\xa1\x01\x02\x03")
    for name in ("json", "msgpack"):
        with pytest.raises(EncodeError):
            CODECS[name].encode([*HEAD], came)


def test_numbers_that_messagepack_has_not_are_an_encode_error() -> None:
    """JSON and CBOR have numbers of any size."""
    with pytest.raises(EncodeError, match="MessagePack"):
        CODECS["msgpack"].encode([*HEAD], carried(CODECS["json"], [2**70]))
    assert open_payload(carried(CODECS["cbor"], [2**70])) == ([2**70], {})


def test_binary_data_in_json_is_a_marked_string() -> None:
    """WAMP specification, "Binary support in JSON": the example there."""
    data = bytes.fromhex("10e3ff9053075c526f5fc06d4fe37cdb")

    wire = CODECS["json"].encode([*HEAD], Objects([data]))

    assert b'"\\u0000EOP/kFMHXFJvX8BtT+N82w=="' in wire
    assert open_payload(CODECS["json"].decode(wire)) == ([data], {})  # type: ignore[arg-type]


def test_a_marked_string_that_is_no_base64_stays_a_string() -> None:
    """Nobody can keep a program from beginning a string with U+0000."""
    text = "\0 not base64"

    assert open_payload(carried(CODECS["json"], [text])) == ([text], {})


def test_binary_data_of_a_sign_in_is_marked_too() -> None:
    """Details hold values of the application as well (authextra)."""
    wire = CODECS["json"].encode([messages.CHALLENGE, "x", {"nonce": b"\1"}], None)

    assert msgspec.json.decode(wire)[2] == {"nonce": "\0AQ=="}


def test_foreign_types_keep_their_content_in_another_serializer() -> None:
    """Timestamps are told as text; an extension or a tag that nobody here knows loses its number, not its content."""
    moment = datetime.datetime(2024, 1, 1, tzinfo=datetime.timezone.utc)  # noqa: UP017
    from_messagepack = carried(CODECS["msgpack"], [moment, msgspec.msgpack.Ext(5, b"five")])
    tags = [cbor2.CBORTag(999, ["x"]), cbor2.undefined, moment, decimal.Decimal("1.5"), uuid.UUID(int=7), {1}]  # fmt: skip
    from_cbor: Any = CODECS["cbor"].decode(cbor2.dumps([*HEAD, tags]))

    def in_json(message: Any) -> Any:
        return open_payload(CODECS["json"].decode(CODECS["json"].encode([*HEAD], message)))[0]  # type: ignore[arg-type]

    assert in_json(from_messagepack) == ["2024-01-01T00:00:00Z", b"five"]
    assert in_json(from_cbor)[3] == "1.5"
    assert in_json(from_cbor)[:3] == [["x"], None, "2024-01-01T00:00:00Z"]
    assert in_json(from_cbor)[4:] == [str(uuid.UUID(int=7)), [1]]


def test_foreign_types_are_passed_on_untouched_in_their_own_serializer() -> None:
    """Two Python programs that speak CBOR may use all that CBOR has."""
    values = [cbor2.CBORTag(999, ["x"]), decimal.Decimal("1.5"), {1}, uuid.UUID(int=7)]

    came: Any = CODECS["cbor"].decode(cbor2.dumps([*HEAD, values]))
    wire = CODECS["cbor"].encode([messages.EVENT, 1, 2, {}], came)

    assert wire.endswith(cbor2.dumps(values))


@pytest.mark.parametrize(
    ("name", "undefined"), [("msgpack", msgspec.msgpack.Ext(0, b"\0")), ("cbor", cbor2.undefined)]
)
def test_undefined_of_javascript_is_nothing(name: str, undefined: Any) -> None:
    """wampy names each option that it has, set or not; in JSON they are gone."""
    encode = msgspec.msgpack.encode if name == "msgpack" else cbor2.dumps
    codec = CODECS[name]
    subscribe: Any = codec.decode(encode([32, 1, {"match": undefined, "x": 1}, "com.example"]))
    publish: Any = codec.decode(encode([16, 1, {}, "com.example", [undefined, 1]]))

    assert subscribe.options == {"match": None, "x": 1}
    sent = CODECS["json"].encode([*HEAD], publish)
    assert open_payload(CODECS["json"].decode(sent)) == ([None, 1], {})  # type: ignore[arg-type]


@names
def test_a_batch_is_the_concatenation_of_its_messages(codec: Codec) -> None:
    """So that a connection joins what it has, and needs no second encoder."""
    one = codec.encode([messages.PUBLISHED, 1, 2], None)
    two = codec.encode([*HEAD], Objects(["\x1e"]))

    if codec.is_batched:
        first, second = codec.decode_batch(one + two)
        assert isinstance(first, messages.Published)
        assert open_payload(second) == (["\x1e"], {})  # type: ignore[arg-type]
        for bad in (b"", one + two[:-1], one + b"\0"):
            with pytest.raises(ProtocolError):
                codec.decode_batch(bad)
        with pytest.raises(ProtocolError):
            codec.decode(one + two)
    else:
        (only,) = codec.decode_batch(two)
        assert open_payload(only) == (["\x1e"], {})  # type: ignore[arg-type]


def test_the_tables_name_what_is_negotiated() -> None:
    """The names are those of the specification; RawSocket has no batches."""
    assert list(BY_SUBPROTOCOL) == [
        "wamp.2.json", "wamp.2.json.batched", "wamp.2.msgpack", "wamp.2.msgpack.batched", "wamp.2.cbor", "wamp.2.cbor.batched",
    ]  # fmt: skip
    assert {number: codec.name for number, codec in BY_RAWSOCKET_ID.items()} == {1: "json", 2: "msgpack", 3: "cbor"}  # fmt: skip
    assert [codec.is_binary for codec in CODECS.values()] == [False, False, True, True, True, True]
