"""One HTTP request, and what its status means for somebody who will try again.

Redirects are not followed (the Standard Webhooks specification advises against it, and a body must not go where nobody sent it). Errors name
the host, never the path: the path of many a webhook is its secret.
"""

import urllib.error
import urllib.request
from http.client import HTTPException
from urllib.parse import urlsplit

from holdfast.alerts.channels.channel import NotDelivered

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from email.message import Message

#: Answers after which the same request will fail again: the configuration has to change first.
_REFUSED = frozenset({400, 401, 403, 404, 405, 410, 413, 415, 422})
#: Nobody is left alone for longer than this.
LONGEST_WAIT_S = 3600.0


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_args: object, **_kwargs: object) -> None:
        return None


def send(
    url: str,
    data: "bytes | None",
    headers: "Mapping[str, str]",
    *,
    timeout_s: float = 10.0,
    method: str = "POST",
) -> "Message[str, str]":
    """Send a request; a status from 200 to 299 is success.

    Returns:
        The headers of the answer.

    Raises:
        NotDelivered: Anything else.
    """
    host = urlsplit(url).hostname or "?"
    opener = urllib.request.build_opener(_NoRedirect)
    said: Message[str, str]
    try:
        request = urllib.request.Request(url, data, dict(headers), method=method)  # noqa: S310 -- the scheme was checked
        with opener.open(request, timeout=timeout_s) as reply:
            status, after, said = reply.status, "", reply.headers
    except urllib.error.HTTPError as error:
        status, after = error.code, error.headers.get("Retry-After", "") if error.headers else ""
        error.close()
        said = error.headers
    except (OSError, HTTPException, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        says = f"{host}: {type(reason).__name__}: {_brief(reason, url)}"
        raise NotDelivered(says) from None
    if not 200 <= status < 300:
        after_s = min(float(after), LONGEST_WAIT_S) if after.isdigit() else 0.0
        says = f"{host} answered {status}"
        raise NotDelivered(says, after_s=after_s, is_refused=status in _REFUSED)
    return said


def _brief(reason: object, url: str) -> str:
    text = str(reason)
    path = urlsplit(url).path
    return text if len(path) < 2 or path not in text else "not reachable"
