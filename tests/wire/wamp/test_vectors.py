"""The test vectors of the WAMP specification, in the serializers that we have.

They are looked for in the folder that HOLDFAST_WAMP_VECTORS names, else in shared/wamp-vectors beside the checkout.
"""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from holdfast.core.wamp import messages
from holdfast.wire.wamp import CODECS, ProtocolError, open_payload

_BESIDE = Path(__file__).parents[4] / "shared" / "wamp-vectors"
VECTORS = Path(os.environ.get("HOLDFAST_WAMP_VECTORS", _BESIDE))
FILES = sorted((VECTORS / "singlemessage").rglob("*.json"))
PLAIN = ("json", "msgpack", "cbor")

pytestmark = pytest.mark.skipif(
    not FILES, reason=f"no WAMP test vectors in {VECTORS} (set HOLDFAST_WAMP_VECTORS)"
)
files = pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)


def samples(file: Path, kind: str) -> list[dict[str, Any]]:
    """The samples of a file that have bytes (`serializers`) or a message to be checked (`wmsg`)."""
    return [s for s in json.loads(file.read_text())["samples"] if kind in s]


@files
def test_a_vector_is_decoded_to_its_attributes_and_encoded_to_its_bytes(file: Path) -> None:
    """One of the given encodings has to be ours, all of them have to be understood."""
    found = samples(file, "serializers")
    assert found
    for sample in found:
        expected = sample["expected_attributes"]
        for name in PLAIN:
            codec = CODECS[name]
            wires = [bytes.fromhex(form["bytes_hex"]) for form in sample["serializers"][name]]
            if expected["message_type"] not in KNOWN:
                with pytest.raises(ProtocolError, match="no WAMP message type"):
                    codec.decode(wires[0])
                continue
            for wire in wires:
                _check(codec.decode(wire), expected)
            assert _encoded(name, codec.decode(wires[0]), wires) in wires


@files
def test_a_valid_message_of_the_vectors_is_taken(file: Path) -> None:
    """What they call valid must not be refused; what is invalid by its details is for the router to refuse."""
    for sample in samples(file, "wmsg"):
        if "expected_error" in sample or sample["wmsg"][0] not in KNOWN:
            continue
        wire = json.dumps(sample["wmsg"]).encode()
        message = CODECS["json"].decode(wire)
        assert message.__struct_config__.tag == sample["wmsg"][0], sample["description"]


KNOWN = {class_.__struct_config__.tag for class_ in (*messages.CARRYING, *messages.PLAIN)}


def _check(message: Any, expected: dict[str, Any]) -> None:
    compared = 0
    assert message.__struct_config__.tag == expected["message_type"]
    for key, value in expected.items():
        name = key.removesuffix("_id") if key.endswith("_id") else key
        if name in ("args", "kwargs"):
            continue
        if hasattr(message, name):
            assert getattr(message, name) == value, key
            compared += 1
    assert compared
    if expected.get("payload"):
        (payload,), kwargs = open_payload(message)
        assert isinstance(payload, bytes)
        assert kwargs == {}
    elif "args" in expected:
        assert open_payload(message) == (expected["args"] or [], expected["kwargs"] or {})


def _encoded(name: str, message: Any, wires: list[bytes]) -> bytes:
    fields = [f for f in message.__struct_fields__ if f not in ("args", "kwargs")]
    head = [message.__struct_config__.tag, *(getattr(message, field) for field in fields)]
    while head[-1] is None:
        head.pop()
    payload = message if hasattr(message, "format") else None
    wire = CODECS[name].encode(head, payload)
    # Arguments are passed on as they came: with the first form's spaces.
    return wire if wire in wires else wire.replace(b", ", b",")
