"""One HTTP request, or several in a row: asked, redirected, and judged.

HTTP/1.1 by h11, a connection for each request, all of it under the deadline of its look. A body is read up to a limit; what a page says
beyond that is not looked at. Left out: proxies, HTTP/2, compression (it is not asked for).
"""

import json
import re
import ssl
from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import quote, urljoin, urlsplit

import h11

from holdfast import __version__
from holdfast.cli.probes.cookies import Jar
from holdfast.cli.probes.reaching import Failed, Look, close, connect, context, tls_words

_LARGEST = 1 << 20
_HEAD = 1 << 16
_REDIRECTS = (301, 302, 303, 307, 308)
_QUOTED = 80
_PLAIN = "/?%:@!$&'()*+,;=-._~[]|"


class Answer(NamedTuple):
    """What came back."""

    url: str
    status: int
    headers: Mapping[str, str]  #: small names; of several of one name the last
    body: bytes
    location: str  #: where a redirect leads, made absolute

    def text(self) -> str:
        """Return the body as a text."""
        found = re.search(r"charset=\"?([\w.-]+)", self.headers.get("content-type", ""))
        try:
            return self.body.decode(found[1] if found else "utf-8", "replace")
        except LookupError:
            return self.body.decode("utf-8", "replace")


async def page(given: Mapping[str, Any], look: Look) -> None:
    """Look at a page.

    Raises:
        Failed: It is not as it should be.
    """
    answer = await _asked(given, Jar(), look, given)
    judge(answer, given)
    look.detail = f"{answer.status}, {len(answer.body)} bytes"


async def steps(given: Mapping[str, Any], look: Look) -> None:
    """Look at one page after another; cookies are kept, and values taken along.

    Raises:
        Failed: A step is not as it should be.
    """
    jar, taken = Jar(), dict[str, str]()
    for number, step in enumerate(given["step"], 1):
        name = step.get("name", f"step {number}")
        try:
            answer = await _asked(filled(step, taken), jar, look, given)
            judge(answer, step)
            for key, where in step.get("take", {}).items():
                taken[key] = take(where, answer, jar)
        except Failed as error:
            raise Failed(f"{name}: {error}") from None
    look.detail = f"{len(given['step'])} steps"


def filled(step: Mapping[str, Any], taken: Mapping[str, str]) -> dict[str, Any]:
    """Return a step with what was taken put in; other braces (of JSON) stay."""

    def fill(text: str) -> str:
        return re.sub(r"\{([a-z][a-z0-9_]*)\}", lambda m: taken.get(m[1], m[0]), text)

    made = {
        **step,
        "url": fill(step["url"]),
        "headers": {k: fill(v) for k, v in step.get("headers", {}).items()},
    }
    if "body" in step:
        made["body"] = fill(step["body"])
    return made


def take(where: Mapping[str, str], answer: Answer, jar: Jar) -> str:
    """Return the value that is at a place of an answer.

    Raises:
        Failed: There is none.
    """
    if "json" in where:
        found = at(_json(answer), where["json"])
        return found if isinstance(found, str) else json.dumps(found)
    if "header" in where:
        found = answer.headers.get(where["header"].lower())
        if found is None:
            raise Failed(f"the answer has no header {where['header']}")
        return found
    if "cookie" in where:
        found = jar.get(answer.url, where["cookie"])
        if found is None:
            raise Failed(f"there is no cookie {where['cookie']}")
        return found
    match = re.search(where["match"], answer.text())
    if match is None:
        raise Failed(f"nothing in the body matches {_quoted(where['match'])}")
    return match[1] or ""


def judge(answer: Answer, want: Mapping[str, Any]) -> None:
    """Pass only what is as it should be.

    Raises:
        Failed: It is not.
    """
    digits = str(answer.status)
    if not any(
        digits == one or (one.endswith("xx") and one[0] == digits[0]) for one in want["status"]
    ):
        leads = f" (to {_plain(answer.location)})" if answer.location else ""
        raise Failed(f"it answers {digits}{leads}, not {' or '.join(want['status'])}")
    if "location" in want:
        found = answer.location or answer.url
        if not found.startswith(want["location"]):
            raise Failed(f"it leads to {_plain(found)}, not to {want['location']}")
    if not {"contains", "lacks", "matches", "json"} & set(want):
        return
    text = answer.text()
    if "contains" in want and want["contains"] not in text:
        raise Failed(f"the body lacks {_quoted(want['contains'])}: {_quoted(text)}")
    if "lacks" in want and want["lacks"] in text:
        raise Failed(f"the body has {_quoted(want['lacks'])} in it")
    if "matches" in want and re.search(want["matches"], text) is None:
        raise Failed(f"nothing in the body matches {_quoted(want['matches'])}")
    if "json" in want:
        value = _json(answer)
        for path, wanted in want["json"].items():
            found = at(value, path)
            if found != wanted or isinstance(found, bool) != isinstance(wanted, bool):
                raise Failed(f"{path} is {_quoted(json.dumps(found))}, not {json.dumps(wanted)}")


def at(value: Any, path: str) -> Any:
    """Return what is at a place such as "data.items.0" of a JSON value.

    Raises:
        Failed: There is nothing.
    """
    for part in path.split("."):
        if isinstance(value, dict) and part in value:
            value = value[part]
        elif isinstance(value, list) and part.isdecimal() and int(part) < len(value):
            value = value[int(part)]
        else:
            raise Failed(f"the answer has nothing at {path}")
    return value


# -- asking ----------------------------------------------------------------------------------------


async def _asked(given: Mapping[str, Any], jar: Jar, look: Look, tls: Mapping[str, Any]) -> Answer:
    """Return the answer to a request, after the redirects that are to be followed."""
    url, method = given["url"], given["method"]
    headers: Mapping[str, str] = given.get("headers", {})
    body = given.get("body", "").encode()
    for left in range(given["redirects"], -1, -1):
        answer = await _once(url, method, headers, body, jar, look, tls)
        if not answer.location or not left:
            return answer
        if answer.status == 303 or (answer.status in (301, 302) and method == "POST"):
            method, body = "GET", b""
            headers = {
                name: value
                for name, value in headers.items()
                if not name.lower().startswith("content-")
            }
        if _origin(answer.location) != _origin(url):
            # What signs in here must not go elsewhere.
            headers = {
                name: value
                for name, value in headers.items()
                if name.lower() not in ("authorization", "cookie")
            }
        url = answer.location
        if not url.startswith(("http://", "https://")):
            raise Failed(f"it leads to {_quoted(_plain(url))}, which is no page")
    raise AssertionError("unreachable")


async def _once(
    url: str, method: str, headers: Mapping[str, str], body: bytes, jar: Jar, look: Look, tls: Mapping[str, Any]
) -> Answer:  # fmt: skip
    try:
        parts = urlsplit(url)
        port = parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError:
        raise Failed(f"{_quoted(_plain(url))} is no address") from None
    host = parts.hostname or ""
    secure = context(tls.get("ca_file", ""), tls["verify"]) if parts.scheme == "https" else None
    connected = await connect(host, port, look, secure)
    look.doing = f"waiting for the answer of {parts.netloc}"
    sent = _headers(parts.netloc, headers, jar.header(url), body, method)
    # A redirect may lead to an address with other than ASCII letters in it.
    target = quote((parts.path or "/") + (f"?{parts.query}" if parts.query else ""), safe=_PLAIN)
    http = h11.Connection(h11.CLIENT, max_incomplete_event_size=_HEAD)
    try:
        request = h11.Request(
            method=method,
            target=target.encode(),
            headers=sent,
        )
        connected.writer.write(http.send(request) or b"")
        if body:
            connected.writer.write(http.send(h11.Data(data=body)) or b"")
        connected.writer.write(http.send(h11.EndOfMessage()) or b"")
        await connected.writer.drain()
        return await _read(http, connected.reader, url, jar, look)
    except h11.LocalProtocolError as error:
        raise Failed(f"this cannot be asked: {error}") from None
    except h11.RemoteProtocolError as error:
        raise Failed(f"what it answers is no HTTP: {error}") from None
    except ssl.SSLError as error:
        raise Failed(tls_words(error, host)) from None
    except OSError as error:
        raise Failed(f"the connection was cut: {error.strerror or error}") from None
    finally:
        await close(connected)


def _headers(
    host: str, given: Mapping[str, str], cookies: str, body: bytes, method: str
) -> list[tuple[bytes, bytes]]:
    usual = {"Host": host, "User-Agent": f"holdfast-probe/{__version__}", "Accept": "*/*"}
    usual |= {"Accept-Encoding": "identity", "Connection": "close"}
    if cookies:
        usual["Cookie"] = cookies
    if body or method in ("POST", "PUT", "PATCH"):
        usual["Content-Length"] = str(len(body))
    taken = {name.lower() for name in given}
    sent = {name: value for name, value in usual.items() if name.lower() not in taken} | dict(given)
    return [(name.encode(), value.encode()) for name, value in sent.items()]


async def _read(http: h11.Connection, reader: Any, url: str, jar: Jar, look: Look) -> Answer:
    head: h11.Response | None = None
    parts: list[bytes] = []
    size = 0
    while size < _LARGEST:
        event = http.next_event()
        if event is h11.NEED_DATA:
            data = await reader.read(1 << 16)
            if not data and head is None:
                raise Failed("it hung up without an answer")
            http.receive_data(data)
        elif isinstance(event, h11.Response):
            head = event
            look.doing = "reading the answer"
        elif isinstance(event, h11.Data):
            parts.append(bytes(event.data))
            size += len(event.data)
        elif isinstance(event, h11.EndOfMessage | h11.ConnectionClosed) or event is h11.PAUSED:
            break
    if head is None:
        raise Failed("it hung up without an answer")
    headers: dict[str, str] = {}
    for raw_name, raw in head.headers:
        name, value = raw_name.decode("latin-1").lower(), raw.decode("latin-1")
        headers[name] = value
        if name == "set-cookie":
            jar.take(url, value)
    location = ""
    if head.status_code in _REDIRECTS and headers.get("location"):
        location = urljoin(url, headers["location"])
    return Answer(url, head.status_code, headers, b"".join(parts)[:_LARGEST], location)


def _plain(url: str) -> str:
    """Return an address as it may stand in a message: behind the question mark there are tokens."""
    return url.partition("?")[0] + ("?…" if "?" in url else "")


def _origin(url: str) -> tuple[str, str]:
    parts = urlsplit(url)
    return parts.scheme, parts.netloc.lower()


def _json(answer: Answer) -> Any:
    try:
        return json.loads(answer.text())
    except (ValueError, RecursionError):
        raise Failed(f"the body is no JSON: {_quoted(answer.text())}") from None


def _quoted(text: str) -> str:
    plain = "".join(c if c.isprintable() else " " for c in text[: _QUOTED * 2]).strip()
    return f'"{plain[:_QUOTED]}…"' if len(plain) > _QUOTED else f'"{plain}"'
