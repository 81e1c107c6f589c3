"""RawSocket of the WAMP specification: handshake, frames, and what breaks its rules."""

import random
import sys
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.wire import rawsocket
from holdfast.wire.rawsocket import (
    PING,
    PONG,
    FrameError,
    Reader,
    frame,
    hello,
    limit,
    ping_frame,
    pong_frame,
    read_reply,
    read_request,
    refusal,
)


def read(reader: Reader, data: bytes, cuts: list[int]) -> list[bytes]:
    """Feed data in pieces that end at `cuts`."""
    messages = []
    edges = [0, *sorted(cuts), len(data)]
    for begin, end in pairwise(edges):
        messages += reader.feed(data[begin:end])
    return messages


@pytest.mark.parametrize(
    ("asked", "announced"),
    [(0, 512), (1, 512), (512, 512), (513, 1024), (65536, 65536), (1 << 24, 1 << 24), (1 << 30, 1 << 24)],
)  # fmt: skip
def test_a_limit_is_rounded_up_to_one_that_can_be_said(asked: int, announced: int) -> None:
    """Four bits: 2**9 to 2**24."""
    assert limit(asked) == announced
    assert read_request(hello(2, asked)) == (2, announced)
    assert read_reply(hello(2, asked), 2) == announced


def test_the_handshake_has_the_bytes_of_the_specification() -> None:
    """Magic, length and serializer, two reserved."""
    assert hello(1, 1 << 24) == b"\x7f\xf1\x00\x00"
    assert hello(3, 512) == b"\x7f\x03\x00\x00"
    assert refusal(rawsocket.TOO_MANY_CONNECTIONS) == b"\x7f\x40\x00\x00"


@pytest.mark.parametrize(
    ("head", "reply"),
    [(b"GET ", b""), (b"\x7f\xf0\0\0", b"\x7f\x10\0\0"), (b"\x7f\xf1\1\0", b"\x7f\x30\0\0"), (b"\x7f\xf1\0\1", b"\x7f\x30\0\0")],
)  # fmt: skip
def test_a_bad_request_is_refused_by_the_specified_code(head: bytes, reply: bytes) -> None:
    """An author of a client sees why."""
    with pytest.raises(FrameError) as caught:
        read_request(head)
    assert caught.value.reply == reply


@pytest.mark.parametrize(
    ("head", "says"),
    [
        (b"HTTP", "does not speak RawSocket"), (b"\x7f\x10\0\0", "serializer is not supported"), (b"\x7f\x20\0\0", "length"),
        (b"\x7f\x30\0\0", "reserved"), (b"\x7f\x40\0\0", "too many connections"), (b"\x7f\x90\0\0", "error 9"), (b"\x7f\xf3\0\0", "serializer 3"),
        (b"\x7f\xf2\0\1", "reserved"),
    ],
)  # fmt: skip
def test_a_client_says_why_a_router_refused(head: bytes, says: str) -> None:
    """The four codes of the specification in words."""
    with pytest.raises(FrameError, match=says):
        read_reply(head, 2)


@settings(deadline=None, max_examples=150)
@given(st.lists(st.tuples(st.sampled_from((0, 1, 2)), st.binary(max_size=600)), max_size=8), st.data())  # fmt: skip
def test_messages_come_out_as_they_went_in_whatever_the_cuts(
    sent: list[tuple[int, bytes]], data: st.DataObject
) -> None:
    """Messages, pings and pongs in any order."""
    make = (frame, ping_frame, pong_frame)
    wire = b"".join(make[kind](payload) for kind, payload in sent)
    cuts = data.draw(st.lists(st.integers(0, len(wire)), max_size=12))
    reader = Reader(1024)

    messages = read(reader, wire, cuts)

    assert messages == [payload for kind, payload in sent if kind == 0]
    assert reader.events == [(kind, payload) for kind, payload in sent if kind]


def test_the_longest_message_of_all_has_a_bit_of_its_own() -> None:
    """2**24 does not fit into 24 bits."""
    longest = bytes(1 << 24)
    assert frame(longest)[:4] == b"\x08\0\0\0"
    assert frame(longest[1:])[:4] == b"\x00\xff\xff\xff"
    with pytest.raises(ValueError, match="at most"):
        frame(longest + b"x")

    reader = Reader(1 << 24)
    data = frame(longest) + ping_frame(longest) + frame(b"next")
    assert read(reader, data, list(range(0, len(data), 65536))) == [longest, b"next"]
    assert reader.events == [(PING, longest)]


@pytest.mark.parametrize(
    ("head", "says"),
    [
        (b"\0\0\x02\x01", "512 bytes at most, this one has 513"), (b"\x01\0\x02\x01", "at most"), (b"\x08\0\0\0", "at most"),
        (b"\x08\0\0\1", "2[*][*]24"), (b"\x03\0\0\1", "kind of frame 3"), (b"\x07\0\0\0", "kind of frame 7"),
        (b"\x10\0\0\1", "reserved"), (b"\x80\0\0\1", "reserved"), (b"GET ", "reserved"),
    ],
)  # fmt: skip
def test_what_breaks_the_rules_ends_the_connection(head: bytes, says: str) -> None:
    """At the head already, and what was complete before is not lost with it."""
    reader = Reader(512)

    with pytest.raises(FrameError, match=says) as caught:
        reader.feed(frame(b"a" * 512) + head)

    assert caught.value.messages == [b"a" * 512]
    assert reader.feed(frame(b"more")) == []


def test_a_reader_that_waits_holds_next_to_nothing() -> None:
    """Ten thousand idle connections are a promise; and a length that was only announced takes no memory."""
    reader = Reader(1 << 24)
    reader.feed(frame(b"x" * 100000))
    assert reader._buffer is None
    assert sys.getsizeof(reader) + sys.getsizeof(reader.events) <= 200

    reader.feed(b"\0\xff\xff\xff" + b"some")
    assert sys.getsizeof(reader._buffer) < 200


def test_noise_raises_nothing_but_frame_errors() -> None:
    """Always the same noise."""
    chance = random.Random(9)
    refused = 0
    for _ in range(3000):
        reader = Reader(2048)
        data = bytes(chance.choices((0, 0, 0, 1, 2, 8, 9, 255), k=40))
        try:
            read(reader, data, chance.choices(range(40), k=3))
        except FrameError:
            refused += 1
        assert all(kind in (PING, PONG) for kind, _ in reader.events)
    assert 100 < refused < 3000
