"""Frames of RFC 6455 and RFC 7692: what is read does not depend on how it was cut, and what breaks the rules is told by its code."""

import base64
import hashlib
import random
import sys
import zlib
from collections.abc import Iterator
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.wire import websocket
from holdfast.wire.websocket import (
    BINARY,
    CLOSE,
    PING,
    PONG,
    TEXT,
    Compressor,
    Deflate,
    FrameError,
    Reader,
    close_frame,
    frame,
    ping_frame,
    pong_frame,
    read_close,
    unmask,
)

MASK = b"\x11\x00\xfe\x5a"
LIMIT = 1 << 20


def raw(first: int, payload: bytes, mask: bytes | None = None) -> bytes:
    """A frame with any first byte."""
    return bytes((first,)) + frame(payload, True, mask)[1:]


def read(reader: Reader, data: bytes, cuts: list[int]) -> list[bytes]:
    """Feed data in pieces that end at `cuts`."""
    return list(read_each(reader, data, cuts))


def read_each(reader: Reader, data: bytes, cuts: list[int]) -> Iterator[bytes]:
    """The same, one by one: what came before an error has come."""
    for begin, end in pairwise([0, *sorted(cuts), len(data)]):
        yield from reader.feed(data[begin:end])


payloads = st.binary(max_size=300) | st.sampled_from((b"", b"a" * 125, b"b" * 126, b"c" * 65535, b"d" * 65536))  # fmt: skip


@settings(deadline=None, max_examples=100)
@given(st.booleans(), st.lists(payloads, max_size=6), st.data())
def test_messages_come_out_as_they_went_in_whatever_the_cuts(
    is_server: bool, sent: list[bytes], data: st.DataObject
) -> None:
    """TCP knows no messages."""
    mask = data.draw(st.binary(min_size=4, max_size=4)) if is_server else None
    wire = b"".join(frame(payload, True, mask) for payload in sent)
    cuts = data.draw(st.lists(st.integers(0, len(wire)), max_size=12))

    reader = Reader(is_server, LIMIT, None, BINARY)

    assert read(reader, wire, cuts) == sent
    assert reader.events == []


@settings(deadline=None, max_examples=100)
@given(st.booleans(), st.lists(st.binary(max_size=200), min_size=1, max_size=5), st.data())
def test_fragments_make_one_message_with_control_frames_between(
    is_server: bool, parts: list[bytes], data: st.DataObject
) -> None:
    """A ping in the middle of a long message must be answered before its end."""
    mask = MASK if is_server else None
    wire = b""
    for number, part in enumerate(parts):
        wire += raw((2 if number == 0 else 0) | 0x80 * (number == len(parts) - 1), part, mask)
        wire += ping_frame(b"%d" % number, mask)
    wire = frame(b"before", True, mask) + wire + frame(b"behind", True, mask)
    cuts = data.draw(st.lists(st.integers(0, len(wire)), max_size=12))

    reader = Reader(is_server, LIMIT, None, BINARY)

    assert read(reader, wire, cuts) == [b"before", b"".join(parts), b"behind"]
    assert reader.events == [(PING, b"%d" % number) for number in range(len(parts))]


def test_a_byte_at_a_time_is_enough() -> None:
    """The slowest sender."""
    wire = (
        raw(0x01, "ä".encode()[:1], MASK) + pong_frame(b"p", MASK)
        + raw(0x80, "ä".encode()[1:], MASK) + frame(b"x" * 70000, False, MASK) + close_frame(1001, "gone", MASK)
    )  # fmt: skip
    reader = Reader(True, LIMIT, None, TEXT)

    assert read(reader, wire, list(range(len(wire)))) == ["ä".encode(), b"x" * 70000]
    assert reader.events == [(PONG, b"p"), (CLOSE, b"\x03\xe9gone")]
    assert read_close(reader.events[1][1]) == (1001, "gone")


@pytest.mark.parametrize(
    ("is_server", "wire", "code"),
    [
        (True, frame(b"a", False), 1002), (False, frame(b"a", False, MASK), 1002),
        (True, raw(0xC1, b"a", MASK), 1002), (True, raw(0xA1, b"a", MASK), 1002), (True, raw(0x91, b"a", MASK), 1002),
        (True, raw(0x83, b"a", MASK), 1002), (True, raw(0x8B, b"a", MASK), 1002), (True, raw(0x87, b"a", MASK), 1002),
        (True, raw(0x80, b"a", MASK), 1002), (True, raw(0x01, b"a", MASK) + frame(b"b", False, MASK), 1002),
        (True, raw(0x09, b"a", MASK), 1002), (True, raw(0x89, b"a" * 126, MASK), 1002), (True, raw(0x88, b"\x03", MASK), 1002),
        (True, raw(0x88, b"\x03\xe8\xff", MASK), 1007), (True, raw(0x82, b"a", MASK), 1003),
        (True, frame(b"\xff", False, MASK), 1007), (True, raw(0x01, b"\xc3", MASK) + raw(0x80, b"\x28", MASK), 1007),
        (True, frame(b"\xed\xa0\x80", False, MASK), 1007), (True, b"\x81\xfe\x00\x7d" + MASK + b"a" * 125, 1002),
        (True, b"\x81\xff" + (65535).to_bytes(8, "big") + MASK, 1002), (True, b"\x81\xff\x80" + b"\0" * 7 + MASK, 1002),
        (True, b"\x81\xff" + (LIMIT + 1).to_bytes(8, "big") + MASK, 1009),
        (True, raw(0x01, b"a" * LIMIT, MASK) + b"\x80\x81" + MASK, 1009), (True, raw(0x01, b"a" * LIMIT, MASK) + raw(0x00, b"a", MASK), 1009),
        *((True, raw(0x88, code.to_bytes(2, "big"), MASK), 1002) for code in (0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000)),
    ],
)  # fmt: skip
def test_what_breaks_the_rules_is_told_by_its_code(is_server: bool, wire: bytes, code: int) -> None:
    """Close codes are RFC 6455's, 7.4.1; and what was complete before is not lost with it."""
    mask = MASK if is_server else None
    for step in (1, 7, 50000):
        reader = Reader(is_server, LIMIT, None, TEXT)
        data = frame(b"before", False, mask) + wire
        cuts = list(range(0, len(data), step if len(data) < 1000 else 50000))
        messages: list[bytes] = []

        with pytest.raises(FrameError) as caught:
            messages.extend(read_each(reader, data, cuts))

        assert caught.value.code == code
        assert len(caught.value.reason) > 10
        assert messages + caught.value.messages == [b"before"]
        assert reader.feed(frame(b"more", False, mask)) == []


@pytest.mark.parametrize("code", [1000, 1001, 1003, 1007, 1011, 1014, 3000, 4999])
def test_a_close_is_the_last_thing_heard(code: int) -> None:
    """What comes behind a CLOSE does not count (RFC 6455, 5.5.1)."""
    reader = Reader(False, LIMIT)

    messages = reader.feed(frame(b"a", True) + close_frame(code, "why") + frame(b"b", True))

    assert messages == [b"a"]
    assert [(kind, read_close(payload)) for kind, payload in reader.events] == [(CLOSE, (code, "why"))]  # fmt: skip
    assert reader.feed(b"\xff" * 10) == []


def test_a_close_without_a_code_and_one_with_too_many_words() -> None:
    """1005 is never on the wire; a reason has 123 bytes, and is not cut within a character."""
    reader = Reader(False, LIMIT)

    reader.feed(close_frame(1005))
    assert read_close(reader.events[0][1]) == (1005, "")

    payload = close_frame(1002, "ä" * 100)[2:]
    assert len(payload) == 2 + 122
    assert read_close(payload) == (1002, "ä" * 61)


def test_a_reader_that_waits_holds_next_to_nothing() -> None:
    """Ten thousand idle connections are a promise."""
    readers = [Reader(True, 1 << 24, None, TEXT) for _ in range(100)]
    for reader in readers:
        reader.feed(frame(b"x" * 100000, False, MASK))

    sizes = [
        sum(sys.getsizeof(getattr(r, name)) for name in ("_buffer", "events") if getattr(r, name) is not None)
        + sys.getsizeof(r) for r in readers
    ]  # fmt: skip

    assert max(sizes) <= 200 + 16  # the last: the header of the garbage collector


def test_an_announced_length_costs_nothing_before_it_comes() -> None:
    """A frame head of 14 bytes that says 16 MB must not take 16 MB."""
    reader = Reader(True, 1 << 24, None, BINARY)

    reader.feed(b"\x82\xff" + (1 << 24).to_bytes(8, "big") + MASK + b"some")

    assert sys.getsizeof(reader._buffer) < 200


def test_long_messages_in_small_pieces_cost_time_in_proportion() -> None:
    """Joining at every piece would copy 16 MB four thousand times: 34 GB, which no deadline of a test survives."""
    wire = frame(b"x" * (1 << 24), True, MASK)
    reader = Reader(True, 1 << 24, None, BINARY)

    messages = read(reader, wire, list(range(0, len(wire), 4096)))

    assert [len(message) for message in messages] == [1 << 24]


@given(st.binary(max_size=2000), st.binary(min_size=4, max_size=4))
def test_masking_is_an_exclusive_or_with_the_key_repeated(payload: bytes, key: bytes) -> None:
    """By two ways, for short and long ones; twice is nothing."""
    expected = bytes(byte ^ key[at % 4] for at, byte in enumerate(payload))

    assert unmask(payload, key) == expected
    assert unmask(expected, key) == payload


# Compression.

SETTINGS = [
    Deflate(),
    Deflate(9, 9),
    Deflate(12, 10, True, False),
    Deflate(15, 15, False, True),
    Deflate(8, 8, True, True),
]


@pytest.mark.parametrize("deflate", SETTINGS, ids=str)
@pytest.mark.parametrize("is_server", [True, False])
def test_compressed_messages_come_out_as_they_went_in(is_server: bool, deflate: Deflate) -> None:
    """With and without memory of the messages before, in windows of any size, cut anywhere."""
    chance = random.Random(1)
    sent = [bytes(chance.choices(b"abcd ", k=chance.randrange(3000))) for _ in range(30)]
    compressor, reader = Compressor(not is_server, deflate), Reader(is_server, 4000, deflate, TEXT)
    mask = MASK if is_server else None

    wire = b"".join(compressor.frame(payload, False, mask) for payload in sent)

    assert read(reader, wire, chance.choices(range(len(wire)), k=50)) == sent
    if deflate.client_max_window_bits > 8:
        assert len(wire) < sum(map(len, sent)) * 0.7


def deflated(data: bytes, flush: int = zlib.Z_SYNC_FLUSH) -> bytes:
    """As a foreign peer does it."""
    compressor = zlib.compressobj(9, zlib.DEFLATED, -15)
    return compressor.compress(data) + compressor.flush(flush)


def test_a_bomb_is_not_unpacked() -> None:
    """A megabyte of wire can hold a gigabyte of zeros."""
    bomb = deflated(b"\0" * (1 << 26))[:-4]
    reader = Reader(True, LIMIT, Deflate(), BINARY)

    with pytest.raises(FrameError) as caught:
        reader.feed(raw(0xC2, bomb, MASK))

    assert len(bomb) < LIMIT
    assert caught.value.code == 1009


def test_a_message_of_exactly_the_longest_length_passes_compressed() -> None:
    """The limit is the last that is allowed."""
    wire = raw(0xC2, deflated(b"\0" * LIMIT)[:-4], MASK)

    assert Reader(True, LIMIT, Deflate(), BINARY).feed(wire) == [b"\0" * LIMIT]


def test_forms_of_compression_that_the_standard_shows_are_read() -> None:
    """RFC 7692, 7.2.3: fragmented, not compressed at all, with a final block, two blocks."""
    hello = [
        raw(0x41, bytes.fromhex("f248cd"), MASK) + raw(0x80, bytes.fromhex("c9c90700"), MASK),
        raw(0xC1, bytes.fromhex("000500faff48656c6c6f00"), MASK),
        raw(0xC1, bytes.fromhex("f348cdc9c9070000"), MASK),
        raw(0xC1, bytes.fromhex("f248050000 00ffffcac9c90700".replace(" ", "")), MASK),
        raw(0x81, b"Hello", MASK),
        raw(0xC1, deflated(b"Hello", zlib.Z_FINISH), MASK),
        raw(0xC1, bytes.fromhex("f248cdc9c90700"), MASK),
    ]
    reader = Reader(True, LIMIT, Deflate(), TEXT)

    assert reader.feed(b"".join(hello)) == [b"Hello"] * len(hello)


@pytest.mark.parametrize(
    ("wire", "code"),
    [
        (raw(0xC1, b"\xff\xff", MASK), 1007),
        (raw(0xC1, deflated(b"\xff")[:-4], MASK), 1007),
        (raw(0xC1, deflated(b"a", zlib.Z_FINISH) + deflated(b"b", zlib.Z_FINISH), MASK), 1007),
        (raw(0xC9, b"", MASK), 1002),
        (raw(0x41, b"", MASK) + raw(0xC0, b"", MASK), 1002),
    ],
)
def test_bad_compression_is_told_by_its_code(wire: bytes, code: int) -> None:
    """Damaged data, bad text within, two streams in one, the bit where it must not be."""
    with pytest.raises(FrameError) as caught:
        Reader(True, LIMIT, Deflate(), TEXT).feed(wire)
    assert caught.value.code == code


@settings(deadline=None, max_examples=300)
@given(st.lists(st.sampled_from((frame(b"text", False, MASK), raw(0x01, b"a", MASK), raw(0x80, b"b", MASK), ping_frame(b"p", MASK),
       raw(0xC1, deflated(b"x" * 99)[:-4], MASK), close_frame(1000, "", MASK))), max_size=5), st.data())  # fmt: skip
def test_mutated_frames_raise_nothing_but_frame_errors(
    frames: list[bytes], data: st.DataObject
) -> None:
    """Whatever bytes come, in whatever pieces."""
    wire = bytearray(b"".join(frames))
    for _ in range(data.draw(st.integers(0, 4))):
        at = data.draw(st.integers(0, len(wire)))
        wire[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=4))
    reader = Reader(True, 1000, Deflate(), data.draw(st.sampled_from((TEXT, BINARY, None))))

    try:
        read(reader, bytes(wire), data.draw(st.lists(st.integers(0, len(wire)), max_size=5)))
    except FrameError as error:
        code = error.code
    else:
        code = 1002
    assert code in (1002, 1003, 1007, 1009)
    if reader._is_ended:
        assert reader.feed(frame(b"a", False, MASK)) == []


# The opening handshake.

KEY = b"dGhlIHNhbXBsZSBub25jZQ=="
REQUEST = {
    b"host": b"localhost", b"upgrade": b"WebSocket", b"connection": b"keep-alive, Upgrade",
    b"sec-websocket-key": KEY, b"sec-websocket-version": b"13", b"sec-websocket-protocol": b"wamp.2.cbor, wamp.2.json",
}  # fmt: skip
OURS = ["wamp.2.json", "wamp.2.cbor"]


def accept(changes: dict[bytes, bytes | None], deflate: Deflate | None = None, method: bytes = b"GET") -> websocket.Accepted | websocket.Refused:  # fmt: skip
    """Answer a request that differs from a good one."""
    headers = [(k, v) for k, v in (REQUEST | changes).items() if v is not None]
    return websocket.accept(method, headers, OURS, deflate, [("Set-Cookie", "a=b")])


def test_a_good_request_is_accepted() -> None:
    """The key and its proof are those of RFC 6455, 1.3; the client's order decides on the subprotocol."""
    answer = accept({})

    assert isinstance(answer, websocket.Accepted)
    assert answer.subprotocol == "wamp.2.cbor"
    assert answer.deflate is None
    lines = answer.response.decode().split("\r\n")
    assert lines[0] == "HTTP/1.1 101 Switching Protocols"
    assert "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" in lines
    assert "Set-Cookie: a=b" in lines
    assert lines[-2:] == ["", ""]


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({b"upgrade": None}, 426), ({b"upgrade": b"h2c"}, 426), ({b"connection": b"close"}, 426), ({b"connection": None}, 426),
        ({b"sec-websocket-version": b"8"}, 426), ({b"sec-websocket-version": None}, 426),
        ({b"sec-websocket-key": None}, 400), ({b"sec-websocket-key": b"abcd"}, 400), ({b"sec-websocket-key": b"\xff*"}, 400),
        ({b"sec-websocket-protocol": b"mqtt"}, 400), ({b"sec-websocket-protocol": None}, 400), ({b"sec-websocket-protocol": b"wamp.2.jso"}, 400),
    ],
)  # fmt: skip
def test_a_bad_request_is_refused_with_the_reason(
    changes: dict[bytes, bytes | None], status: int
) -> None:
    """And the version and the subprotocols that are spoken here are told."""
    answer = accept(changes)

    assert isinstance(answer, websocket.Refused)
    assert answer.status == status
    assert answer.says.endswith(".")
    if b"sec-websocket-version" in changes:
        assert ("Sec-WebSocket-Version", "13") in answer.headers
    if b"sec-websocket-protocol" in changes:
        assert "wamp.2.json" in answer.says


def test_only_get_opens_and_no_header_can_be_smuggled_in() -> None:
    """A line break in a cookie is our own fault, and loud."""
    refused = accept({}, method=b"POST")

    assert isinstance(refused, websocket.Refused)
    assert refused.status == 405
    with pytest.raises(ValueError, match="line break"):
        websocket.accept(b"GET", REQUEST.items(), OURS, None, [("Set-Cookie", "a\r\nb: c")])


@pytest.mark.parametrize(
    ("offer", "ours", "agreed", "answer"),
    [
        ("permessage-deflate", Deflate(), Deflate(), "permessage-deflate"),
        ("permessage-deflate; client_max_window_bits", Deflate(client_max_window_bits=10), Deflate(15, 10), "permessage-deflate; client_max_window_bits=10"),
        ("permessage-deflate", Deflate(client_max_window_bits=10), Deflate(), "permessage-deflate"),
        ('permessage-deflate; server_max_window_bits="10"', Deflate(12), Deflate(10), "permessage-deflate; server_max_window_bits=10"),
        ("permessage-deflate; server_no_context_takeover", Deflate(), Deflate(15, 15, True), "permessage-deflate; server_no_context_takeover"),
        ("x-unknown, permessage-deflate; bad=1, permessage-deflate; client_no_context_takeover", Deflate(), Deflate(15, 15, False, True), "permessage-deflate; client_no_context_takeover"),
        ("permessage-deflate; server_max_window_bits=16", Deflate(), None, None), ("permessage-deflate; server_max_window_bits", Deflate(), None, None),
        ("permessage-deflate; client_no_context_takeover=1", Deflate(), None, None), ("permessage-deflate; server_max_window_bits=9; server_max_window_bits=9", Deflate(), None, None),
        ("permessage-deflate", None, None, None), ("", Deflate(), None, None), (";;=,", Deflate(), None, None),
    ],
)  # fmt: skip
def test_compression_is_agreed_on_by_the_standard(
    offer: str, ours: Deflate | None, agreed: Deflate | None, answer: str | None
) -> None:
    """The first offer that can be taken is taken; what is unknown is no offer (RFC 7692, 5)."""
    accepted = accept({b"sec-websocket-extensions": offer.encode()}, ours)

    assert isinstance(accepted, websocket.Accepted)
    assert accepted.deflate == agreed
    line = f"Sec-WebSocket-Extensions: {answer}\r\n".encode()
    assert (line in accepted.response) == (answer is not None)


@pytest.mark.parametrize("ours", [None, Deflate(), Deflate(10, 11, True, True)])
@pytest.mark.parametrize("theirs", [None, Deflate(), Deflate(12, 9, False, True)])
def test_client_and_server_agree(ours: Deflate | None, theirs: Deflate | None) -> None:
    """Our own two sides, with the answer cut anywhere and frames right behind it."""
    client = websocket.ClientHandshake("localhost:8080", "/ws?a=b", bytes(16), OURS, ours, [("Cookie", "x=y")])  # fmt: skip
    line, *lines = client.request.decode().split("\r\n")[:-2]
    assert line == "GET /ws?a=b HTTP/1.1"
    assert "Cookie: x=y" in lines
    headers = [(k.lower().encode(), v.encode()) for k, _, v in (x.partition(": ") for x in lines)]
    answer = websocket.accept(b"GET", headers, OURS, theirs)
    assert isinstance(answer, websocket.Accepted)

    for at in range(len(answer.response)):
        assert client.feed(answer.response[at : at + 1]) == (None if at < len(answer.response) - 1 else b"")  # fmt: skip

    assert client.subprotocol == answer.subprotocol == "wamp.2.json"
    if answer.deflate is None:
        assert client.deflate is None
    else:
        assert client.deflate == answer.deflate
    again = websocket.ClientHandshake("localhost", "/", bytes(16), OURS, ours)
    assert again.feed(answer.response + b"\x81\x00") == b"\x81\x00"


def response(status: str = "101 Switching Protocols", **changes: str | None) -> bytes:
    """An answer to a client whose nonce is all zeros."""
    proof = base64.b64encode(hashlib.sha1(base64.b64encode(bytes(16)) + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())  # fmt: skip
    lines = {"upgrade": "websocket", "connection": "Upgrade", "sec-websocket-accept": proof.decode(), "sec-websocket-protocol": "wamp.2.json"}  # fmt: skip
    given = {name.replace("_", "-"): value for name, value in changes.items()}
    text = "".join(f"{k}: {v}\r\n" for k, v in (lines | given).items() if v is not None)
    return f"HTTP/1.1 {status}\r\n{text}\r\n".encode()


@pytest.mark.parametrize(
    ("answer", "status", "says"),
    [
        (response("404 Not Found"), 404, "404 Not Found"), (response("200 OK"), 200, "200"), (b"SSH-2.0-OpenSSH\r\n", 0, "HTTP"),
        (b"HTTP/1.1 abc\r\n\r\n", 0, "HTTP"), (b"HTTP/1.1 101 x\r\n" + b"a" * 70000, 0, "64 KiB"), (b"\x7f\x10\x00\x00", 0, "HTTP"),
        (response(upgrade=None), 101, "switch"), (response(connection="close"), 101, "switch"), (response(sec_websocket_accept="x"), 101, "another"),
        (response(sec_websocket_protocol="mqtt"), 101, "'mqtt'"), (response(sec_websocket_protocol=None), 101, "speaks none"),
        (response(sec_websocket_extensions="permessage-deflate"), 101, "nobody offered"), (b"HTTP/1.1 101 x\r\nabc\r\n\r\n", 101, "no header"),
    ],
)  # fmt: skip
def test_a_client_says_why_a_handshake_failed(answer: bytes, status: int, says: str) -> None:
    """`connect` fails with this sentence in front of a person."""
    client = websocket.ClientHandshake("localhost", "/", bytes(16), OURS)

    with pytest.raises(websocket.HandshakeError, match=says) as caught:
        client.feed(answer)

    assert caught.value.status == status


def test_a_server_that_does_not_keep_to_the_offer_is_left() -> None:
    """A window that is larger than what we offered would break in the middle of a message."""
    client = websocket.ClientHandshake("localhost", "/", bytes(16), OURS, Deflate(10))

    with pytest.raises(websocket.HandshakeError, match="does not keep to our offer"):
        client.feed(response(sec_websocket_extensions="permessage-deflate; server_max_window_bits=11"))  # fmt: skip
