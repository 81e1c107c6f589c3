"""One OTLP request over HTTP, and what its answer means.

As the protocol has it: 429, 502, 503, 504 and no answer at all mean that the same request may come again, after ``Retry-After`` where that is given; every
other 4xx and 5xx means that it must not. What is too large (413) comes in halves, which are other requests. Redirects are not followed, and nothing is lost by
one. Errors name the host, never a header or the path.
"""

import gzip
import json
import time
import urllib.error
import urllib.request
from email.utils import parsedate_to_datetime
from http.client import HTTPException
from urllib.parse import urlsplit

import msgspec

from holdfast.forward.answers import NOTHING, NotTakenError, Refused

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

#: Of an answer, which is a sentence.
_LONGEST_ANSWER = 64 << 10
_LONGEST_WAIT_S = 3600.0
_COMPRESSED = 1024
#: The only refusals after which the same request may come again.
_AGAIN = frozenset({429, 502, 503, 504})
#: These records are wrong, others may be right. Any other refusal is about who sends, or about the other side: the next request would fare no better.
_RECORDS = frozenset({400, 413, 415, 422})
_TOO_LARGE = 413


class BadError(Exception):
    """The other side will not have it, so it is not sent again.

    Args:
        says: Why; no secret is in it.
        is_general: The next request would be refused as well: a wrong token, a wrong address, a broken server.
    """

    def __init__(self, says: str, is_general: bool = False) -> None:
        super().__init__(says)
        self.is_general = is_general


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

    def post(self, signal: str, body: "dict[str, Any]") -> Refused:
        """Send ``body``; "logs" or "metrics".

        Returns:
            What the other side did not take of it.

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
        if status == _TOO_LARGE:
            raise TooLargeError(says)
        if status >= 400 and status not in _AGAIN:
            raise BadError(says, status not in _RECORDS)
        raise NotTakenError(says, _after_s(after, time.time()))


def _after_s(after: str, now_unix_s: float) -> float:
    """Return how long the other side wants to be left alone: ``Retry-After`` has seconds, or a date."""
    try:
        found = float(after) if after.isdigit() else parsedate_to_datetime(after).timestamp() - now_unix_s  # fmt: skip
    except (ValueError, OverflowError, TypeError):
        return 0.0
    return min(max(0.0, found), _LONGEST_WAIT_S)


def _json(said: bytes) -> "dict[str, Any]":
    try:
        found = json.loads(said)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _message(said: bytes) -> str:
    """Return why, as the other side says it: the protocol's JSON, or a line of text as others answer; a page for browsers says nothing."""
    message = _json(said).get("message")
    if not isinstance(message, str):
        message = said.decode("utf-8", "replace").strip().partition("\n")[0]
        if message[:1] in ("<", "{", "[") or not message.isprintable():
            return ""
    return f": {message[:200]}" if message else ""


def _rejected(said: bytes) -> Refused:
    found = _json(said).get("partialSuccess")
    if not isinstance(found, dict):
        return NOTHING
    try:
        number = int(found.get("rejectedLogRecords") or found.get("rejectedDataPoints") or 0)
    except (TypeError, ValueError):
        number = 0
    message = str(found.get("errorMessage") or "")[:200]
    if number > 0:
        return Refused(number, message or "a part was refused, without a word why")
    return Refused(0, message)
