"""How are the files of a directory served?

Crossbar.io's static service (directory, or package and resource; enable_directory_listing, mime_types, cache_timeout, a fallback
page), with what browsers and proxies expect today: ETag, Last-Modified, 304, one Range, `NAME.gz` beside a file.
Files are opened and read in threads: a disk that hangs holds up those who want files, never the router. os.sendfile
would save a copy, and block the loop for as long as the page cache misses.
"""

import functools
import html
import os
import re
from email.utils import parsedate_to_datetime
from mimetypes import MimeTypes
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote

from holdfast.router.web.failures import SiteError
from holdfast.router.web.head import Refused
from holdfast.router.web.paths import Opened, open_below, parts_of
from holdfast.router.web.threads import on_disk
from holdfast.router.web.wording import http_date

if TYPE_CHECKING:
    from holdfast.router.web.request import Request
    from holdfast.router.web.site import Site

_READ_BYTES = 262144
_RANGE = re.compile(rb"bytes=(\d{0,18})-(\d{0,18})")
#: What the standard table lacks or has wrong; of the machine's own tables nothing is read.
_TYPES = {
    ".js": "text/javascript", ".mjs": "text/javascript", ".jgz": "text/javascript", ".svg": "image/svg+xml",
    ".wasm": "application/wasm", ".webmanifest": "application/manifest+json", ".map": "application/json",
    ".md": "text/markdown", ".woff": "font/woff", ".woff2": "font/woff2", ".ttf": "font/ttf", ".otf": "font/otf",
    ".webp": "image/webp", ".avif": "image/avif", ".ico": "image/x-icon", ".toml": "application/toml", ".yaml": "application/yaml",
    ".log": "text/plain",
}  # fmt: skip


class Chosen(NamedTuple):
    """What is sent."""

    opened: Opened
    mime: str
    is_gzip: bool
    varies: bool
    first: bytes  #: the whole of a small file


class Listing(NamedTuple):
    """A directory without an index page: its names."""

    names: list[str]


class Moved(NamedTuple):
    """A directory asked for without the slash at its end."""


class Static:
    """The files of a directory."""

    def __init__(self, options: dict[str, Any], site: "Site") -> None:
        self._directory = _directory(options)
        self._root = os.path.realpath(self._directory)
        if not os.path.isdir(self._root):
            site.log.warning("no such directory", directory=self._directory, answers="404")
        self._lists = bool(options.get("enable_directory_listing", False))
        #: None and 0: browsers ask each time, and are told that nothing has changed.
        self._cache_s = int(options.get("cache_timeout_s") or 0)
        self._fallback = str(options.get("fallback") or "").lstrip("/")
        self._cross_origin = bool(options.get("allow_cross_origin", False))
        self._types = MimeTypes(filenames=())
        for extension, mime in {**_TYPES, **(options.get("mime_types") or {})}.items():
            self._types.add_type(mime, extension.lower())
        self._site = site

    async def serve(self, request: "Request") -> None:
        """Answer it."""
        request.allow("GET", "HEAD")
        try:
            parts = parts_of(request.rest)
            found = await self._find(request, parts)
        except Refused as refused:
            if refused.status != 404 or not self._fallback:
                raise
            found = await self._find(request, [self._fallback], is_page=True)
        if isinstance(found, Moved):
            self._move(request)
        elif isinstance(found, Listing):
            self._list(request, found.names)
        else:
            try:
                await self._send(request, found)
            finally:
                os.close(found.opened.fd)

    async def _find(
        self, request: "Request", parts: list[str], *, is_page: bool = False
    ) -> Chosen | Listing | Moved:
        head = request.head
        gzip = b"range" not in dict(head.headers) and _takes_gzip(head.values(b"accept-encoding"))
        # Apps at "/board" and "/board/" would else have the same page with other relative links.
        is_folder = is_page or head.path.endswith("/")
        must_be_folder = head.path.endswith("/") and not is_page
        return await on_disk(lambda: self._look(parts, gzip, is_folder, must_be_folder), _close)

    def _look(
        self, parts: list[str], gzip: bool, is_folder: bool, must_be_folder: bool
    ) -> Chosen | Listing | Moved:
        """Find and open; in a thread."""
        opened = open_below(self._root, parts)
        if opened.is_directory:
            try:
                if not is_folder:
                    return Moved()
                try:
                    page = open_below(self._root, [*parts, "index.html"])
                except Refused:
                    if not self._lists:
                        raise
                    return Listing(_names(opened.fd))
            finally:
                os.close(opened.fd)
            parts, opened = [*parts, "index.html"], page
            if opened.is_directory:
                os.close(opened.fd)
                raise Refused(404, "There is no such file.")
        elif must_be_folder:
            os.close(opened.fd)
            raise Refused(404, "There is no such directory.")
        return self._choose(opened, parts, gzip)

    def _choose(self, opened: Opened, parts: list[str], gzip: bool) -> Chosen:
        mime, encoding = self._types.guess_type(parts[-1])
        if encoding is not None and parts[-1].endswith((".gz", ".tgz", ".bz2", ".xz", ".Z")):
            # The archive itself is wanted, to be kept as it is.
            mime = "application/gzip" if encoding == "gzip" else "application/octet-stream"
        is_gzip = varies = False
        try:
            packed = open_below(self._root, [*parts[:-1], parts[-1] + ".gz"])
        except Refused:
            pass
        else:
            # An older one is of an older version of the file.
            varies = not packed.is_directory and packed.mtime_ns >= opened.mtime_ns
            is_gzip = varies and gzip
            os.close((opened if is_gzip else packed).fd)
            opened = packed if is_gzip else opened
        try:
            first = os.pread(opened.fd, _READ_BYTES, 0) if opened.size <= _READ_BYTES else b""
        except BaseException:
            os.close(opened.fd)
            raise
        return Chosen(opened, _with_charset(mime), is_gzip, varies, first)

    async def _send(self, request: "Request", found: Chosen) -> None:
        size = len(found.first) if found.first else found.opened.size
        etag = f'"{found.opened.mtime_ns:x}-{size:x}{"-gz" if found.is_gzip else ""}"'
        headers = self._headers(request, found, etag)
        if not _matches(request, etag, found.opened.mtime_ns // 10**9):
            request.say(412, "The file is another one by now.")
            return
        if _is_unchanged(request, etag, found.opened.mtime_ns // 10**9):
            request.respond(304, headers)
            return
        start, end, status = 0, size, 200
        wanted = _range(request, etag, size)
        if wanted is not None:
            start, end = wanted
            if start >= end:
                request.respond(
                    416, [("Content-Range", f"bytes */{size}"), ("Accept-Ranges", "bytes")]
                )
                return
            status = 206
            headers.append(("Content-Range", f"bytes {start}-{end - 1}/{size}"))
        headers += [("Content-Type", found.mime), ("Accept-Ranges", "bytes")]
        if found.first or start == end or request.method == "HEAD":
            if request.method == "HEAD" and not found.first:
                request.start(status, [*headers, ("Content-Length", str(end - start))])
                request.end()
                return
            request.respond(status, headers, found.first[start:end])
            return
        request.start(status, [*headers, ("Content-Length", str(end - start))])
        await _copy(request, found.opened.fd, start, end)
        request.end()

    def _headers(self, request: "Request", found: Chosen, etag: str) -> list[tuple[str, str]]:
        headers = [
            ("ETag", etag),
            ("Last-Modified", http_date(found.opened.mtime_ns / 10**9)),
            ("X-Content-Type-Options", "nosniff"),
        ]
        cookie = None
        if self._site.set_cookie is not None and found.mime.startswith("text/html"):
            cookie = self._site.set_cookie(request.head)
        if cookie is not None:
            # What carries somebody's cookie is nobody else's to keep.
            headers += [("Set-Cookie", cookie), ("Cache-Control", "private, no-cache")]
        else:
            timeout = f"public, max-age={self._cache_s}" if self._cache_s else "no-cache"
            headers.append(("Cache-Control", timeout))
        if found.is_gzip:
            headers.append(("Content-Encoding", "gzip"))
        if found.varies:
            headers.append(("Vary", "Accept-Encoding"))
        if self._cross_origin:
            headers.append(("Access-Control-Allow-Origin", "*"))
        return headers

    def _move(self, request: "Request") -> None:
        head = request.head
        # "//host/" would be another host's address.
        path = "/" + quote(head.path.lstrip("/")) + "/"
        where = path + (f"?{head.query}" if head.query else "")
        request.say(301, f"It is at {where}", [("Location", where)])

    def _list(self, request: "Request", names: list[str]) -> None:
        title = html.escape(request.head.path)
        up = '<li><a href="../">../</a></li>\n' if request.rest.strip("/") else ""
        lines = "".join(
            f'<li><a href="./{html.escape(quote(name))}">{html.escape(name)}</a></li>\n'
            for name in names
        )
        page = (
            f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title></head>\n'
            f"<body><h1>{title}</h1>\n<ul>\n{up}{lines}</ul></body></html>\n"
        )
        request.respond(
            200,
            [
                ("Content-Type", "text/html; charset=utf-8"),
                ("Cache-Control", "no-cache"),
                ("X-Content-Type-Options", "nosniff"),
                ("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'"),
            ],
            page.encode("utf-8", "replace"),
        )


async def _copy(request: "Request", fd: int, start: int, end: int) -> None:
    while start < end:
        data = await on_disk(functools.partial(os.pread, fd, min(_READ_BYTES, end - start), start))
        if not data:
            raise OSError(f"a file became shorter while it was sent, at {start} of {end}")
        start += len(data)
        await request.write(data)


def _close(found: Chosen | Listing | Moved) -> None:
    if isinstance(found, Chosen):
        os.close(found.opened.fd)


def _directory(options: dict[str, Any]) -> str:
    if options.get("directory"):
        return str(options["directory"])
    package, resource = options.get("package"), options.get("resource")
    if not package or not resource:
        raise SiteError("it needs a directory, or a package and a resource")
    from importlib.resources import files

    try:
        return os.path.abspath(str(files(package) / resource))
    except (ImportError, TypeError, ValueError) as error:
        raise SiteError(
            f"package {package} cannot be imported ({error}); is it installed, or missing in pythonpath?"
        ) from None


def _names(fd: int) -> list[str]:
    with os.scandir(fd) as entries:
        found = [
            entry.name + ("/" if entry.is_dir() else "")
            for entry in entries
            if not entry.name.startswith(".")
        ]
    return sorted(found, key=lambda name: (not name.endswith("/"), name))


def _with_charset(mime: str | None) -> str:
    if mime is None:
        return "application/octet-stream"
    is_text = mime.startswith("text/") or mime in ("application/json", "application/manifest+json")
    return f"{mime}; charset=utf-8" if is_text else mime


def _takes_gzip(codings: list[bytes]) -> bool:
    for coding in codings:
        name, _, quality = coding.partition(b";")
        if name.strip() in (b"gzip", b"*"):
            return re.fullmatch(rb"\s*q=0(\.0*)?\s*", quality) is None
    return False


def _matches(request: "Request", etag: str, mtime_s: int) -> bool:
    """If-Match and If-Unmodified-Since."""
    wanted = request.head.get(b"if-match")
    if wanted is not None:
        return wanted == b"*" or etag.encode() in [t.strip() for t in wanted.split(b",")]
    since = _time(request.head.get(b"if-unmodified-since"))
    return since is None or mtime_s <= since


def _is_unchanged(request: "Request", etag: str, mtime_s: int) -> bool:
    """If-None-Match, and If-Modified-Since where that is not there."""
    known = request.head.get(b"if-none-match")
    if known is not None:
        tags = [tag.strip().removeprefix(b"W/") for tag in known.split(b",")]
        return known.strip() == b"*" or etag.encode() in tags
    since = _time(request.head.get(b"if-modified-since"))
    return since is not None and mtime_s <= since


def _range(request: "Request", etag: str, size: int) -> tuple[int, int] | None:
    """First and last + 1 of the one range that is wanted; None: everything. Several ranges get everything, too."""
    found = _RANGE.fullmatch(request.head.get(b"range") or b"")
    if found is None or found[0] == b"bytes=-":
        return None
    condition = request.head.get(b"if-range")
    if condition is not None and condition != etag.encode():
        return None
    first, last = found.groups()
    if not first:
        return max(0, size - int(last)), size
    start = int(first)
    end = min(size, int(last) + 1) if last else size
    if last and int(last) < start:
        return None
    return (start, end) if start < size else (size, size)


def _time(value: bytes | None) -> float | None:
    if value is None:
        return None
    try:
        return parsedate_to_datetime(value.decode("ascii")).timestamp()
    except (ValueError, TypeError, UnicodeDecodeError, OverflowError):
        return None
