"""Was this request signed by somebody who has the secret, now, and for the first time?

Crossbar.io's signed requests: query parameters key, timestamp, seq, nonce, signature; the signature is the URL-safe Base64 of
HMAC-SHA256 with the secret over key, timestamp, seq, nonce and body, one after the other. Crossbar.io never looks whether
it has seen a request before; here each is taken once: its signature is remembered for as long as its timestamp
would be accepted. No clock here: `now_s` is Unix time.
"""

import base64
import hashlib
import hmac
import re
from collections import deque
from datetime import UTC, datetime
from typing import NamedTuple

from holdfast.router.web.head import Refused

_FIELDS = ("key", "timestamp", "seq", "nonce", "signature")
_SLOT_S = 10


class Rule(NamedTuple):
    """What a bridge asks of a request."""

    key: str | None
    secret: str | None
    delta_s: float  #: how far a timestamp may be from now; 0: any


def signature(secret: str, key: str, timestamp: str, seq: str, nonce: str, body: bytes) -> str:
    """The signature of a request."""
    text = (key + timestamp + seq + nonce).encode() + body
    return base64.urlsafe_b64encode(
        hmac.new(secret.encode(), text, hashlib.sha256).digest()
    ).decode()


def check(rule: Rule, query: dict[str, str], body: bytes, now_s: float, seen: "Seen") -> None:
    """Let a request pass.

    Raises:
        Refused: 400 for what is malformed, 401 for what is not from whom it says.
    """
    if rule.secret is not None:
        for name in _FIELDS:
            if name not in query:
                raise Refused(
                    400, f"Signed requests are required here, and the query has no {name!r}."
                )
    at_s = None
    if "timestamp" in query:
        at_s = _unix_s(query["timestamp"])
        if rule.delta_s and abs(now_s - at_s) > rule.delta_s:
            raise Refused(
                400,
                f"The timestamp is more than {rule.delta_s:g} s from the time here; is the clock right?",
            )
    for name in ("seq", "nonce"):
        if name in query and re.fullmatch(r"-?[0-9]{1,20}", query[name]) is None:
            raise Refused(400, f"{name!r} is not an integer.")
    if rule.secret is None:
        return
    assert at_s is not None  # noqa: S101 -- the fields were looked for above
    expected = signature(
        rule.secret, query["key"], query["timestamp"], query["seq"], query["nonce"], body
    )
    # Both are compared before either is judged: which of the two was wrong is nobody's business.
    is_key = hmac.compare_digest(query["key"].encode(), (rule.key or "").encode())
    is_signed = hmac.compare_digest(query["signature"].encode(), expected.encode())
    if not (is_key and is_signed):
        raise Refused(401, "The signature is not right, or the key is not known.")
    seen.take(expected, at_s, now_s)


class Seen:
    """The requests that were taken, in slots by their timestamp.

    When there are too many, the oldest slot goes, and what is as old as that is refused from then on: nothing is ever taken twice.

    Args:
        delta_s: As in `Rule`.
        began_s: What was taken before this process began, nobody knows: older requests are refused, but for a grace in
            which clients wait for a router that is being restarted.
    """

    def __init__(self, delta_s: float, began_s: float, limit: int = 200_000) -> None:
        self._delta_s = delta_s
        self._limit = limit
        self._slots: dict[int, set[bytes]] = {}
        self._order: deque[int] = deque()
        self._count = 0
        self._floor = int((began_s - _SLOT_S) // _SLOT_S) if delta_s else -(10**12)

    def take(self, text: str, at_s: float, now_s: float) -> None:
        """Take a request.

        Raises:
            Refused: 401, it was taken before, or is too old to know.
        """
        slot = int(at_s // _SLOT_S)
        if slot < self._floor:
            raise Refused(401, "The request was signed too long ago; sign it again.")
        digest = hashlib.blake2b(text.encode(), digest_size=16).digest()
        known = self._slots.get(slot)
        if known is None:
            known = self._slots[slot] = set()
            self._order = deque(sorted([*self._order, slot]))
        if digest in known:
            raise Refused(
                401, "This very request was taken before; sign it again, with another nonce."
            )
        known.add(digest)
        self._count += 1
        oldest = int((now_s - self._delta_s) // _SLOT_S) if self._delta_s else -(10**12)
        while self._order and (
            self._order[0] < oldest or (self._count > self._limit and len(self._order) > 1)
        ):
            gone = self._order.popleft()
            self._count -= len(self._slots.pop(gone))
            self._floor = max(self._floor, gone + 1)


def _unix_s(text: str) -> float:
    try:
        return datetime.strptime(text, "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=UTC).timestamp()
    except (ValueError, OverflowError):
        raise Refused(
            400,
            "The timestamp is not a time of UTC as in 2026-10-14T16:59:51.123Z.",
        ) from None
