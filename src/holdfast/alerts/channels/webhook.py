"""A signed webhook, as the Standard Webhooks specification (1.0.0) has it.

``webhook-id`` is the same at each attempt, so a receiver can leave out what it had; ``webhook-timestamp`` is that of the attempt;
``webhook-signature`` is ``v1,`` and the base64 of HMAC-SHA256 over ``ID.TIMESTAMP.BODY``, one for each secret (several while they are changed).
"""

import base64
import hashlib
import hmac
import json
import time

from holdfast.alerts.channels import http
from holdfast.alerts.channels.moments import rfc3339

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_PREFIX = "whsec_"


class Webhook:
    """Posts each message as JSON: ``{"type": "alert.firing", "timestamp": …, "data": {…}}``."""

    def __init__(
        self, url: str, secrets: "list[str]", headers: "dict[str, str]", timeout_s: float
    ) -> None:
        self._url = url
        self._keys = [key_of(secret) for secret in secrets]
        self._headers = headers
        self._timeout_s = timeout_s

    def wants(self, message: "dict[str, Any]") -> bool:
        """Programs want everything."""
        return bool(message)

    def deliver(self, message: "dict[str, Any]") -> None:
        """Post it."""
        body = json.dumps(
            {
                "type": f"alert.{message['change']}",
                "timestamp": rfc3339(message["at_unix_s"]),
                "data": message,
            },
            separators=(",", ":"),
        ).encode()
        stamp = str(int(time.time()))
        headers = {
            **self._headers,
            "Content-Type": "application/json",
            "User-Agent": "Holdfast",
            "webhook-id": message["id"],
            "webhook-timestamp": stamp,
        }
        if self._keys:
            headers["webhook-signature"] = " ".join(
                sign(key, message["id"], stamp, body) for key in self._keys
            )
        http.send(self._url, body, headers, timeout_s=self._timeout_s)


def key_of(secret: str) -> bytes:
    """Return the key in a serialized secret: ``whsec_`` and base64.

    Raises:
        ValueError: It is not base64, or is shorter than the 24 bytes that the specification asks for.
    """
    key = base64.b64decode(secret.strip().removeprefix(_PREFIX), validate=True)
    if not 24 <= len(key) <= 64:
        says = f"the key has {len(key)} bytes; 24 to 64 are wanted"
        raise ValueError(says)
    return key


def sign(key: bytes, name: str, stamp: str, body: bytes) -> str:
    """Return the signature of the message that is called ``name``."""
    digest = hmac.new(key, f"{name}.{stamp}.".encode() + body, hashlib.sha256).digest()
    return "v1," + base64.b64encode(digest).decode()
