"""What does a request ask for, and which requests are refused before anybody looks at them?

One strict reader for the head of every request: an upgrade to WebSocket needs nothing more (15 µs instead of h11's 150),
all others go on to h11, which reads the head once more and frames the body. Stricter than h11 on purpose, never looser
(tests/router/web/test_head.py compares them): no bare LF, no folded lines, no control characters, no repeated Host,
Content-Length or Transfer-Encoding, not both of the latter; two readers that disagree about these are how requests
are smuggled past a proxy. Rules: RFC 9110, RFC 9112.
"""

import re
from typing import NamedTuple

#: Of request line and fields together; what Apache and nginx bear, too.
HEAD_BYTES = 16384
TARGET_BYTES = 8192
FIELDS = 100

_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_LINE = rb"(" + _TOKEN + rb") ([\x21-\x7e]+) HTTP/1\.([01])\r\n"
_FIELD = _TOKEN + rb":[\t\x20-\x7e\x80-\xff]*+\r\n"
_HEAD = re.compile(_LINE + rb"((?:" + _FIELD + rb")*+)\r\n")
_FIELD_PARTS = re.compile(rb"([^:]+):([^\r]*)\r\n")
_HOST = re.compile(rb"[0-9A-Za-z\-._~%!$&'()*+,;=\[\]:]*")
_AUTHORITY = re.compile(r"https?://[^/?#]*", re.IGNORECASE)
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_ONCE = (b"host", b"content-length", b"transfer-encoding", b"content-type", b"expect")


class Refused(Exception):  # noqa: N818 -- an outcome, said as one
    """A request that is answered with an error status. `says`: what is wrong and what to do, for a person."""

    def __init__(self, status: int, says: str, headers: tuple[tuple[str, str], ...] = ()) -> None:
        super().__init__(status, says)
        self.status = status
        self.says = says
        self.headers = headers


class RequestHead(NamedTuple):
    """A request without its body."""

    method: str
    target: str  #: as it came
    path: str  #: percent-decoded once; begins with "/" (or is "*")
    query: str  #: as it came, without the question mark
    headers: list[tuple[bytes, bytes]]  #: names in small letters, values without blanks at the ends
    version: str = "1.1"

    def get(self, name: bytes) -> bytes | None:
        """The first value of a header; the name in small letters."""
        for key, value in self.headers:
            if key == name:
                return value
        return None

    def values(self, name: bytes) -> list[bytes]:
        """The elements of a header whose value is a list, in small letters."""
        found = [value for key, value in self.headers if key == name]
        return [word.strip().lower() for value in found for word in value.split(b",")]

    @property
    def is_upgrade(self) -> bool:
        """Whether the client wants to speak WebSocket from here on."""
        return (
            self.method == "GET"
            and b"websocket" in self.values(b"upgrade")
            and b"upgrade" in self.values(b"connection")
        )


def end_of_head(buffer: bytes | bytearray, start: int = 0) -> int:
    """Return the index after the head, or -1 while it is incomplete. `start`: what was looked at before.

    Raises:
        Refused: It is too long, or its lines do not end as they must.
    """
    end = buffer.find(b"\r\n\r\n", max(0, start - 3))
    if end >= 0 and end + 4 <= HEAD_BYTES:
        return end + 4
    line = buffer.find(b"\n")
    if (line > 0 and buffer[line - 1] != 13) or line == 0:
        raise Refused(400, "Lines of an HTTP request end with CR LF; this one has a bare LF.")
    if (line if line >= 0 else len(buffer)) > TARGET_BYTES + 64:
        raise Refused(414, f"The address is too long: at most {TARGET_BYTES} bytes are read.")
    if end >= 0 or len(buffer) > HEAD_BYTES:
        raise Refused(
            431,
            f"The head of the request is too long: at most {HEAD_BYTES} bytes are read. A cookie that grew?",
        )
    return -1


def parse_head(head: bytes) -> RequestHead:
    """Read a whole head, with the empty line at its end.

    Raises:
        Refused: With the status to answer.
    """
    found = _HEAD.fullmatch(head)
    if found is None:
        raise _why(head)
    raw_method, raw_target, minor, lines = found.groups()
    fields = [(name.lower(), value.strip(b" \t")) for name, value in _FIELD_PARTS.findall(lines)]
    if len(fields) > FIELDS:
        raise Refused(431, f"Too many header fields: at most {FIELDS} are read.")
    named = dict(fields)
    if len(named) != len(fields):
        names = [name for name, _ in fields]
        for name in _ONCE:
            if names.count(name) > 1:
                raise Refused(400, f"The header {name.decode()} is there more than once.")
    _check_fields(named, minor == b"1")
    method, target = raw_method.decode(), raw_target.decode()
    path, query = _split(method, target)
    return RequestHead(method, target, path, query, fields, "1.1" if minor == b"1" else "1.0")


def _check_fields(named: dict[bytes, bytes], is_11: bool) -> None:
    host = named.get(b"host")
    if host is None:
        if is_11:
            raise Refused(400, "The Host header is missing; HTTP/1.1 requires it.")
    elif _HOST.fullmatch(host) is None:
        raise Refused(400, "The Host header is not the name of a host.")
    length, coding = named.get(b"content-length"), named.get(b"transfer-encoding")
    if length is not None and not (length.isdigit() and len(length) <= 19):
        raise Refused(400, "Content-Length is not a number.")
    if coding is not None:
        if length is not None:
            raise Refused(400, "Content-Length and Transfer-Encoding are both there; send one.")
        if not is_11:
            raise Refused(400, "Transfer-Encoding needs HTTP/1.1.")
        if coding.lower() != b"chunked":
            raise Refused(501, "The only Transfer-Encoding that is understood is chunked.")
    expect = named.get(b"expect")
    if expect is not None and expect.lower() != b"100-continue":
        raise Refused(417, "The only expectation that is understood is 100-continue.")


def _split(method: str, target: str) -> tuple[str, str]:
    if len(target) > TARGET_BYTES:
        raise Refused(414, f"The address is too long: at most {TARGET_BYTES} bytes are read.")
    if target[0] != "/":
        if target == "*" and method == "OPTIONS":
            return "*", ""
        if method == "CONNECT":
            raise Refused(501, "This is no proxy: CONNECT is not understood.")
        found = _AUTHORITY.match(target)
        if found is None:
            raise Refused(400, "The address of a request begins with a slash.")
        target = target[found.end() :]
        if not target.startswith("/"):
            target = "/" + target
    if "#" in target:
        raise Refused(400, "The address has a fragment (#…), which is the client's own business.")
    path, _, query = target.partition("?")
    return decode_path(path) if "%" in path else path, query


def decode_path(path: str) -> str:
    """Percent-decode once, as UTF-8.

    Raises:
        Refused: It is no UTF-8, has a NUL, or a percent sign that is none.
    """
    from urllib.parse import unquote_to_bytes

    if _BAD_ESCAPE.search(path):
        raise Refused(400, "A percent sign in the address is not followed by two hex digits.")
    raw = unquote_to_bytes(path)
    if b"\0" in raw:
        raise Refused(400, "The address has a NUL.")
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise Refused(400, "The address is not UTF-8.") from None


def _why(head: bytes) -> Refused:
    """What is wrong with a head that did not match."""
    line, _, rest = head.partition(b"\r\n")
    version = re.fullmatch(rb"\S+ \S+ HTTP/(\d+)(?:\.(\d+))?", line)
    if version and version[1] != b"1":
        return Refused(505, "Only HTTP/1.1 and HTTP/1.0 are spoken here.")
    if b"\n" in head.replace(b"\r\n", b"") or b"\r" in head.replace(b"\r\n", b""):
        return Refused(
            400, "Lines of an HTTP request end with CR LF; this one has a bare CR or LF."
        )
    if re.match(rb"(" + _TOKEN + rb") ([\x21-\x7e]+) HTTP/1\.[01]$", line) is None:
        return Refused(400, "The first line is not that of an HTTP request.")
    for field in rest.split(b"\r\n"):
        if field[:1] in (b" ", b"\t"):
            return Refused(400, "A header is folded over two lines; put it on one.")
        if field and re.fullmatch(_FIELD, field + b"\r\n") is None:
            return Refused(400, "A header field is malformed.")
    return Refused(400, "The request is malformed.")
