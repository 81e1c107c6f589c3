"""Small questions that every method asks: are these two secrets the same, and what would an unknown user have?

Comparing takes as long for a wrong secret as for the right one. A user who does not exist is given a stand-in whose
secret nobody has, so that he goes the same way, at the same cost, as one who exists (WAMP specification, SCRAM: "mock
challenge"). Pure: what looks like chance is derived from a pepper that the caller keeps.
"""

import hashlib
import hmac
from base64 import b64decode, urlsafe_b64encode
from itertools import islice
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

_HEX = frozenset("0123456789abcdefABCDEF")


def is_same(given: object, expected: str) -> bool:
    """Tell whether a secret that came over the wire is the expected one; the time says nothing."""
    if not isinstance(given, str):
        return False
    # Surrogates cannot be encoded strictly, and must not raise here.
    left = given.encode("utf-8", "surrogatepass")
    return hmac.compare_digest(left, expected.encode("utf-8", "surrogatepass"))


def xor(left: bytes, right: bytes) -> bytes:
    """Combine two strings of one length, octet by octet."""
    return (int.from_bytes(left, "big") ^ int.from_bytes(right, "big")).to_bytes(len(left), "big")


def from_base64(text: object) -> bytes | None:
    """Decode canonical Base64; None for anything else."""
    if not isinstance(text, str) or not text.isascii():
        return None
    try:
        return b64decode(text, validate=True)
    except ValueError:
        return None


def from_hex(text: object, length: int | None = None) -> bytes | None:
    """Decode hexadecimal digits; None for anything else, and for another length in bytes."""
    if not isinstance(text, str) or not _HEX.issuperset(text) or len(text) % 2:
        return None
    raw = bytes.fromhex(text)
    return raw if length is None or len(raw) == length else None


def principals(table: "Mapping[str, Any]") -> "Mapping[str, Any]":
    """Return the users of a static table: Crossbar.io calls them `users` or `principals`, by method and version."""
    found = table.get("users") or table.get("principals") or {}
    return found if isinstance(found, dict) else {}


def stand_in(users: "Mapping[str, Any]", authid: str, pepper: bytes) -> dict[str, Any]:
    """Make up a user who is not in the table: parameters as one of those who are, secrets that nobody has.

    The same name gets the same answer each time, or asking twice would tell.
    """
    seed = hmac.digest(pepper, authid.encode("utf-8", "surrogatepass"), "sha256")
    record: dict[str, Any] = {"role": "anonymous"}
    if users:
        at = int.from_bytes(seed[:8], "big") % len(users)
        template = next(islice(users.values(), at, None))
        if isinstance(template, dict):
            record = dict(template)
            # Deriving a key is slow the first time; done for the model, it is as often the first time as for anybody.
            record["derive"] = (str(record.get("secret")), str(record.get("salt")))
    record.pop("realm", None)
    record.pop("extra", None)
    for field in ("secret", "ticket", "salt", "stored-key", "server-key"):
        if isinstance(record.get(field), str):
            record[field] = _like(record[field], hmac.digest(seed, field.encode(), "sha256"))
    record.setdefault("secret", seed.hex())
    record.setdefault("ticket", seed.hex())
    return record


def _like(model: str, seed: bytes) -> str:
    """Make up a string that looks like the model: its length, and its alphabet as far as that is seen from outside."""
    raw = hashlib.shake_256(seed).digest(len(model) + 1)
    if _HEX.issuperset(model):
        text = raw.hex()
        return (text.upper() if model.isupper() else text)[: len(model)]
    return urlsafe_b64encode(raw).decode().replace("-", "a").replace("_", "b")[: len(model)]
