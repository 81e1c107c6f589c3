"""How is a page got over HTTP, without waiting for ever and without eating the memory?

One request, no redirects (those are pages, too: `rules.MOVED`), no retries (those are the queue's). What is no HTML is not
downloaded. There are three limits: of bytes, of the silence between two pieces, and of the whole.
"""

import os
import time
from email.message import Message

import urllib3

from crawler.rules import Answer, is_html

AGENT = os.environ.get("CRAWLER_AGENT", "holdfast-crawler/1.0 (an example; see robots.txt)")
#: What robots.txt calls us.
ROBOT = AGENT.split("/", 1)[0]
MOST_BYTES = int(os.environ.get("CRAWLER_MAX_BYTES", str(2 << 20)))
SILENCE_S = 10.0
WHOLE_S = float(os.environ.get("CRAWLER_WHOLE_S", "20"))

_HEADERS = {
    "User-Agent": AGENT,
    "Accept": "text/html,application/xhtml+xml,*/*;q=0.1",
    "Accept-Encoding": "gzip",
}
_PIECE = 65536

#: One for all threads of the process: connections are kept, at most so many a host.
_pool = urllib3.PoolManager(num_pools=20, maxsize=16)


class UnreachableError(Exception):
    """There was no answer, or not all of it: try again."""


def get(url: str, most_bytes: int = MOST_BYTES, *, whole_s: float = WHOLE_S, anything: bool = False) -> Answer:  # fmt: skip
    """Ask for a page, once.

    Args:
        url: In its normal form.
        most_bytes: The body is cut off after so many.
        whole_s: Seconds for everything.
        anything: Take the body of any kind and status (robots.txt).

    Raises:
        UnreachableError: No connection, silence, not done in time, or cut off in the middle.
    """
    until_s = time.monotonic() + whole_s
    silence_s = min(SILENCE_S, whole_s)
    try:
        reply = _pool.request(
            "GET", url, headers=_HEADERS, redirect=False, retries=False, preload_content=False,
            timeout=urllib3.Timeout(connect=min(5.0, whole_s), read=silence_s),
        )  # fmt: skip
        kind, charset = _kind(reply.headers.get("Content-Type", ""))
        location = reply.headers.get("Location", "")
        size = int(text) if (text := reply.headers.get("Content-Length", "")).isdigit() else 0
        is_wanted = anything or (reply.status == 200 and (not kind or is_html(kind)))
        try:
            # The short body of an answer that nobody wants is taken, too: a connection that is read to its end can be used again.
            body, is_cut = _read(reply, most_bytes if is_wanted else _PIECE, until_s)
        except BaseException:
            reply.close()
            raise
        finally:
            reply.release_conn()
    except urllib3.exceptions.HTTPError as error:
        # Its text begins with the repr of a connection or a pool, which is of no use to anybody.
        says = str(error).split(": ", 1)[-1]
        raise UnreachableError(f"{type(error).__name__}: {says}") from error
    if not is_wanted:
        return Answer(reply.status, kind, charset, location, b"", size)
    return Answer(reply.status, kind, charset, location, body, max(size, len(body)), is_cut)


def _read(reply: urllib3.BaseHTTPResponse, most_bytes: int, until_s: float) -> tuple[bytes, bool]:
    """Take the body piece by piece, as it comes: one byte a second is an answer that never ends."""
    pieces: list[bytes] = []
    size = 0
    while True:
        if time.monotonic() > until_s:
            raise UnreachableError(f"not done in time; {size} bytes came")
        piece = reply.read1(_PIECE)
        if not piece:
            return b"".join(pieces), False
        pieces.append(piece)
        size += len(piece)
        if size > most_bytes:
            reply.close()
            return b"".join(pieces)[:most_bytes], True


def _kind(header: str) -> tuple[str, str]:
    """Take a Content-Type apart."""
    if not header:
        return "", ""
    message = Message()
    message["Content-Type"] = header
    return message.get_content_type(), message.get_content_charset() or ""
