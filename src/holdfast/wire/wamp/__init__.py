"""WAMP messages as bytes: one file a serializer, one table of all."""

from holdfast.core.wamp.messages import CBOR, JSON, MSGPACK
from holdfast.wire.wamp import cbor, jsontext, messagepack
from holdfast.wire.wamp.codec import Codec
from holdfast.wire.wamp.errors import EncodeError, ProtocolError
from holdfast.wire.wamp.opening import open_payload

__all__ = ["BY_RAWSOCKET_ID", "BY_SUBPROTOCOL", "CODECS", "Codec", "EncodeError", "ProtocolError", "open_payload"]  # fmt: skip

#: Name -> serializer.
CODECS: dict[str, Codec] = {}
for _name, _format, _id, _room in (
    ("json", JSON, 1, jsontext),
    ("msgpack", MSGPACK, 2, messagepack),
    ("cbor", CBOR, 3, cbor),
):
    _is_binary = _format != JSON
    CODECS[_name] = Codec(
        _name, _format, _id, _is_binary, False, _room.decode, _room.decode_one, _room.encode
    )
    CODECS[f"{_name}.batched"] = Codec(
        f"{_name}.batched",
        _format,
        0,
        _is_binary,
        True,
        _room.decode_batch_of_one,
        _room.decode_batch,
        _room.encode_batched,
    )

#: "wamp.2.json" -> serializer, in the order of our preference.
BY_SUBPROTOCOL: dict[str, Codec] = {codec.subprotocol: codec for codec in CODECS.values()}
#: The SERIALIZER field of a RawSocket handshake -> serializer.
BY_RAWSOCKET_ID: dict[int, Codec] = {c.rawsocket_id: c for c in CODECS.values() if c.rawsocket_id}
