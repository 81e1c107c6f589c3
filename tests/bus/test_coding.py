"""What the client writes is what the codecs write, whichever way it takes."""

from __future__ import annotations

from typing import Any

import pytest

from holdfast.bus.coding import encoder
from holdfast.core.wamp.messages import Objects
from holdfast.wire.wamp import CODECS, EncodeError

NESTED: list[Any] = []
for _ in range(200):
    NESTED = [NESTED]


@pytest.mark.parametrize("name", ["json", "msgpack", "cbor"])
@pytest.mark.parametrize(
    "args", [[], ["x"], ("x" * 300,), [""], ["\0 eA"], [b"\0\xff"], [True], [None], [2**63], [-1], [1.5], [[1]], [1, "a"]], ids=repr
)  # fmt: skip
def test_the_short_way_says_what_the_codec_says(name: str, args: Any) -> None:
    """A router, a recording, another client: none can tell which way a message took."""
    say, encode = encoder(CODECS[name]), CODECS[name].encode
    for options in ({}, {"disclose_me": True}):
        head = [48, 1, options, "com.app.add"]
        assert say([*head], args, None) == encode(head, Objects(list(args)) if args else None)
        assert say([*head], args, {"a": 1}) == encode(head, Objects(list(args), {"a": 1}))


@pytest.mark.parametrize(
    ("name", "value"),
    [("json", "\ud800"), ("msgpack", "\ud800"), ("json", float("nan")), ("json", "\0eA=="), ("msgpack", 2**70), ("json", NESTED), ("msgpack", NESTED), ("json", object())],
    ids=["json-surrogate", "msgpack-surrogate", "json-nan", "json-mark", "msgpack-large", "json-deep", "msgpack-deep", "json-object"],
)  # fmt: skip
def test_what_the_codec_refuses_is_refused(name: str, value: Any) -> None:
    """With its words, and the first elements are as they were: an error names the procedure by them."""
    head = [48, 1, {}, "com.app.add"]
    with pytest.raises(EncodeError) as by_codec:
        CODECS[name].encode([*head], Objects([value]))
    with pytest.raises(EncodeError) as by_client:
        encoder(CODECS[name])(head, (value,), None)
    assert str(by_client.value) == str(by_codec.value)
    assert head == [48, 1, {}, "com.app.add"]
