"""One OTLP request over HTTP, and what its answer means.

What says that these records are wrong (400, 422) is not sent again, as the protocol has it, and what is too large (413) comes again in halves. Everything
else waits: it is on disk, so patience costs nothing, and a collector that was misconfigured for an hour loses nothing. ``Retry-After`` is kept to. Redirects
are not followed. Errors name the host, never a header or the path.
"""

import gzip
import json
import urllib.error
import urllib.request
from http.client import HTTPException
from urllib.parse import urlsplit

import msgspec

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

#: Of an answer, which is a sentence.
_LONGEST_ANSWER = 64 << 10
_LONGEST_WAIT_S = 3600.0
_COMPRESSED = 1024
_BAD, _TOO_LARGE = frozenset({400, 422}), 413


class NotTakenError(Exception):
    """The other side has not taken it; it may be tried again.

    Args:
        says: Why; no secret is in it.
        after_s: The other side wants to be left alone for so long.
    """

    def __init__(self, says: str, after_s: float = 0.0) -> None:
        super().__init__(says)
        self.after_s = after_s


class BadError(Exception):
    """The other side says that this is wrong, so it is not sent again."""


class TooLargeError(Exception):
    """The other side takes it in smaller parts only."""


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_args: object, **_kwargs: object) -> None:
        return None


class Poster:
    """Posts to one endpoint.

    Args:
        endpoint: Its base: ``/v1/logs`` and ``/v1/metrics`` are appended.
        headers: More headers.
        timeout_s: One request may take so long.
        is_compressed: Whether bodies are compressed.
    """

    def __init__(
        self, endpoint: str, headers: "Mapping[str, str]", timeout_s: float, is_compressed: bool
    ) -> None:
        self._base = endpoint.rstrip("/")
        self.host = urlsplit(endpoint).hostname or "?"
        self._headers = {**headers, "Content-Type": "application/json", "User-Agent": "Holdfast"}
        self._timeout_s = timeout_s
        self._is_compressed = is_compressed
        self._opener = urllib.request.build_opener(_NoRedirect)

    def post(self, signal: str, body: "dict[str, Any]") -> str:
        """Send ``body``; "logs" or "metrics".

        Returns:
            What the other side has to say of parts that it did not take; "" when it took all.

        Raises:
            NotTakenError: It was not taken, try again.
            TooLargeError: Try again in parts.
            BadError: Do not try again.
        """
        data = msgspec.json.encode(
            body
        )  # ten times as quick as json, and it is loaded in every container
        headers = dict(self._headers)
        if self._is_compressed and len(data) > _COMPRESSED:
            data = gzip.compress(data, 1, mtime=0)
            headers["Content-Encoding"] = "gzip"
        request = urllib.request.Request(f"{self._base}/v1/{signal}", data, headers, method="POST")  # noqa: S310 -- the scheme was checked
        after = ""
        try:
            with self._opener.open(request, timeout=self._timeout_s) as reply:
                status, said = reply.status, reply.read(_LONGEST_ANSWER)
        except urllib.error.HTTPError as error:
            with error:
                status, said = error.code, error.read(_LONGEST_ANSWER)
                after = error.headers.get("Retry-After") or ""
        except (OSError, HTTPException, ValueError) as error:
            reason = getattr(error, "reason", None) or error
            raise NotTakenError(f"{self.host}: {type(reason).__name__}: {reason}") from None
        if 200 <= status < 300:
            return _rejected(said)
        says = f"{self.host} answered {status}{_message(said)}"
        if status in _BAD:
            raise BadError(says)
        if status == _TOO_LARGE:
            raise TooLargeError(says)
        after_s = min(float(after), _LONGEST_WAIT_S) if after.isdigit() else 0.0
        raise NotTakenError(says, after_s)


def _json(said: bytes) -> "dict[str, Any]":
    try:
        found = json.loads(said)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _message(said: bytes) -> str:
    message = _json(said).get("message")
    return f": {message[:200]}" if isinstance(message, str) and message else ""


def _rejected(said: bytes) -> str:
    found = _json(said).get("partialSuccess")
    if not isinstance(found, dict):
        return ""
    number = found.get("rejectedLogRecords") or found.get("rejectedDataPoints") or 0
    message = str(found.get("errorMessage") or "")[:200]
    if not int(number) and not message:
        return ""
    return f"{number} refused{': ' * bool(message)}{message}"
