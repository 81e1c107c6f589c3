"""What is a page, which links lead to one, and what does an answer mean?

Pure: no clock, no file, no network. Left out: robots.txt (`robots.py`), and how deep and how many (`results.py`).
The normal form of a URL is that of RFC 3986, section 6.2.2, so that two spellings of one page are one page.
"""

import codecs
import re
from typing import NamedTuple
from urllib.parse import quote, unquote_to_bytes, urljoin, urlsplit, urlunsplit

#: The life of a page. `found`: to be pushed; `queued`: its job is in the queue; `fetched`: it is here, and has to be parsed.
FOUND, QUEUED, FETCHED = "found", "queued", "fetched"
#: The end of a page. `other`: no HTML; `beyond`: too deep, or one too many.
DONE, OTHER, MOVED, MISSING, FAILED, REFUSED, BEYOND = (
    "done", "other", "moved", "missing", "failed", "refused", "beyond",
)  # fmt: skip
#: Nothing more happens to these by themselves.
ENDS = (DONE, OTHER, MOVED, MISSING, FAILED, REFUSED, BEYOND)

HTML = ("text/html", "application/xhtml+xml")
#: Longer ones are no addresses but accidents (a link that grows with each page); servers refuse them, too.
LONGEST_URL = 2000

_DEFAULT_PORTS = {"http": 80, "https": 443}
_DOTS = re.compile(r"/\.\.?(?=/|$)")
_CHARSET = re.compile(rb"""<meta[^>]{0,200}?charset\s*=\s*["']?\s*([\w.:-]+)""", re.IGNORECASE)
_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
#: Those of the web (encoding.spec.whatwg.org, 4.2). Python knows more: "undefined" and "hex" are codecs, too.
_ENCODINGS = frozenset(
    [
        "utf-8",
        "utf-16",
        "utf-16-le",
        "utf-16-be",
        "cp866",
        "cp874",
        "cp1250",
        "cp1251",
        "cp1252",
        "cp1253",
        "cp1254",
        "cp1255",
        "cp1256",
        "cp1257",
        "cp1258",
        "iso8859-2",
        "iso8859-3",
        "iso8859-4",
        "iso8859-5",
        "iso8859-6",
        "iso8859-7",
        "iso8859-8",
        "iso8859-10",
        "iso8859-13",
        "iso8859-14",
        "iso8859-15",
        "iso8859-16",
        "koi8-r",
        "koi8-u",
        "mac-roman",
        "mac-cyrillic",
        "gbk",
        "gb2312",
        "gb18030",
        "big5",
        "big5hkscs",
        "euc_jp",
        "iso2022_jp",
        "shift_jis",
        "cp932",
        "euc_kr",
        "cp949",
    ]
)
#: What may stand in a path, or a query, as it is. Letters, digits and -._~ always may.
_IN_PATH = "/:@!$&'()*+,;="
_IN_QUERY = _IN_PATH + "?"


class Answer(NamedTuple):
    """What a server said."""

    status: int
    kind: str = ""  #: media type, in small letters: "text/html"
    charset: str = ""  #: that of the header; "": none
    location: str = ""  #: where a redirect leads, as it was written
    body: bytes = b""  #: only of HTML
    size: int = 0  #: bytes of the body, as far as they are known
    is_cut: bool = False  #: it is longer than we take


def normal(link: str, base: str = "") -> str | None:
    """Return the normal form of a link on the page ``base``; None: it leads to no page (mailto:, javascript:, nonsense)."""
    try:
        # Browsers drop tabs and line ends within a link, and blanks around it.
        parts = urlsplit(urljoin(base, re.sub(r"[\t\r\n]", "", link.strip())))
        host, port = parts.hostname, parts.port
        if parts.scheme not in _DEFAULT_PORTS or not host or parts.username is not None:
            return None
        host = host if host.isascii() else host.encode("idna").decode()
    except ValueError:  # UnicodeError is one, too
        return None
    if re.search(r"[^\w.:-]", host):
        return None
    netloc = f"[{host}]" if ":" in host else host
    if port is not None and port != _DEFAULT_PORTS[parts.scheme]:
        netloc += f":{port}"
    path = _without_dots(_quoted(parts.path, _IN_PATH)) or "/"
    url = urlunsplit((parts.scheme, netloc, path, _quoted(parts.query, _IN_QUERY), ""))
    return url if len(url) <= LONGEST_URL else None


def origin(url: str) -> str:
    """Return scheme, host and port of a normal URL: a site is an origin."""
    return "/".join(url.split("/", 3)[:3])


def path(url: str) -> str:
    """Return what follows the origin."""
    return url[len(origin(url)) :]


def must_try_again(status: int) -> bool:
    """Tell whether this answer says something about the moment, not about the page."""
    return status in (408, 425, 429) or status >= 500


def end_of(answer: Answer) -> str:
    """Say what becomes of a page that was answered so: FETCHED, or how it ends."""
    if 300 <= answer.status < 400 and answer.location:
        return MOVED
    if answer.status != 200:
        return FAILED if must_try_again(answer.status) else MISSING
    return FETCHED if is_html(answer.kind, answer.body) else OTHER


def is_html(kind: str, body: bytes = b"") -> bool:
    """Tell whether it is HTML: the server's word counts, and where it has none the first bytes."""
    if kind:
        return kind in HTML
    return re.match(rb"\s*<(!doctype html|html|head|body)\b", body[:500], re.IGNORECASE) is not None


def decoded(body: bytes, charset: str = "") -> str:
    """Return the text of a page, whatever it claims about itself.

    As the HTML standard orders the witnesses: the mark at the beginning, the header, `<meta charset>`. Where there is none it is
    UTF-8, or Windows' Latin alphabet where it cannot be. A byte that fits nowhere becomes U+FFFD: half a title is better than no page.
    """
    for mark, name in _MARKS:
        if body.startswith(mark):
            return body[len(mark) :].decode(name, "replace")
    meta = _CHARSET.search(body, 0, 2048)
    for name in (charset, meta[1].decode() if meta else ""):
        if name and (codec := _codec(name)):
            return body.decode(codec, "replace")
    try:
        # What was cut off in the middle of a character is UTF-8 all the same.
        return codecs.getincrementaldecoder("utf-8")().decode(body)
    except UnicodeDecodeError:
        return body.decode("cp1252", "replace")


def _codec(name: str) -> str | None:
    """Return Python's name of an encoding as the web means it, or None."""
    try:
        found = codecs.lookup(name)
    except (LookupError, ValueError):
        return None
    # Pages that say Latin-1 mean Windows': that is what browsers take it for.
    name = "cp1252" if found.name in ("iso8859-1", "ascii") else found.name
    return name if name in _ENCODINGS else None


def _quoted(text: str, safe: str) -> str:
    """Write every byte in the one way in which it may be written."""

    def once(match: re.Match[str]) -> str:
        raw = unquote_to_bytes(match[0])
        # What was escaped and has a meaning as it is (%2F, %3F) stays escaped: it was written so for a reason.
        return "".join(
            chr(byte) if chr(byte).isascii() and (chr(byte).isalnum() or chr(byte) in "-._~") else f"%{byte:02X}"
            for byte in raw
        )  # fmt: skip

    parts = re.split(r"((?:%[0-9A-Fa-f]{2})+)", text)
    return "".join(
        once(match) if (match := re.fullmatch(r"(?:%[0-9A-Fa-f]{2})+", part)) else quote(part, safe=safe)
        for part in parts
    )  # fmt: skip


def _without_dots(path: str) -> str:
    """Take `.` and `..` out of a path; above the root is the root (RFC 3986, 5.2.4)."""
    if not _DOTS.search(path):
        return path
    kept: list[str] = []
    parts = path.split("/")[1:]
    for part in parts:
        if part == "..":
            del kept[-1:]
        elif part != ".":
            kept.append(part)
    if parts[-1] in (".", ".."):
        kept.append("")
    return "/" + "/".join(kept)
