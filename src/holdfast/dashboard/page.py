"""Which file of the page is meant by a path, and how long may a browser keep it?

The page was put together when the package was built (``pages/built``, script/page_bundle.py): one script instead of thirty, with hashes in the names, compressed, and kept for
ever by whoever has it. It is given while it was made of the very files that are here; else the plain modules are: whoever edits one sees that at once. A file is what is
there, never what a path makes of it. Left out: who may ask (:mod:`holdfast.dashboard.access`).
"""

import hashlib
import mimetypes
import os
from typing import NamedTuple

from holdfast.linux import files
from holdfast.wire.jsonlite import loads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

PAGES = os.path.join(os.path.dirname(os.path.abspath(__file__)), "pages")
#: The flame graph is a program of its own (speedscope): it styles its elements itself, and compiles what it draws with.
FLAME = "/flame/"
_FLAME_HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; "
        "font-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
    ),
    "x-frame-options": "SAMEORIGIN",
}
#: What was put together; a name in there means one content for ever.
BUILT = "built"
MADE_FROM = "made-from.json"
_ALWAYS = "public, max-age=31536000, immutable"
#: Where the page routes itself; what follows may have dots: names of workers have them.
_SCREENS = frozenset(("", "workers", "incidents", "bus", "jobs", "machine", "enter"))
_TYPES = {
    ".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8", ".html": "text/html; charset=utf-8",
    ".svg": "image/svg+xml", ".json": "application/json", ".woff2": "font/woff2", ".webmanifest": "application/manifest+json",
}  # fmt: skip


class File(NamedTuple):
    """What is sent."""

    status: int
    data: bytes
    headers: "dict[str, str]"
    kind: str


MISSING = File(404, b"there is no such file\n", {}, "text/plain")


class PageFiles:
    """The files of the page; from any thread."""

    def __init__(self, pages: str = PAGES) -> None:
        self._pages = pages
        self._looked_at: object = None
        self._is_built = False

    def get(self, path: str, known_tag: "str | None" = None, *, takes_gzip: bool = False) -> File:
        """Return the file of a path, or the page itself for a path that a person may have before them.

        Args:
            path: Of the request.
            known_tag: The ``ETag`` of what the browser has.
            takes_gzip: Whether it can unpack.
        """
        headers = {"cache-control": "no-cache"}
        if path.startswith(FLAME):
            found = self.found(f"vendor{path}index.html" if path == FLAME else f"vendor{path}")
            headers |= _FLAME_HEADERS
        else:
            found = self.found(path.lstrip("/"))
            if found is None and path.split("/")[1] in _SCREENS:
                found = self.found(f"{BUILT}/index.html" if self.is_built() else "index.html")
        if found is None:
            return MISSING
        ending = os.path.splitext(found)[1]
        kind = _TYPES.get(ending) or mimetypes.guess_type(found)[0] or "application/octet-stream"
        is_kept = path.startswith(f"/{BUILT}/") and ending != ".html"
        if is_kept:
            headers |= {"cache-control": _ALWAYS, "vary": "accept-encoding"}
            if takes_gzip and os.path.isfile(f"{found}.gz"):
                found += ".gz"
                headers["content-encoding"] = "gzip"
        info = os.stat(found)
        headers["etag"] = f'"{info.st_mtime_ns:x}-{info.st_size:x}"'
        if known_tag == headers["etag"]:
            return File(304, b"", headers, kind)
        with open(found, "rb") as file:
            return File(200, file.read(), headers, kind)

    def found(self, path: str) -> "str | None":
        """Return the file of a path below the pages; None where there is none, or it leads elsewhere."""
        whole = os.path.realpath(os.path.join(self._pages, path))
        is_below = whole.startswith(os.path.realpath(self._pages) + os.sep)
        hidden = any(part.startswith(".") for part in path.split("/"))
        return whole if is_below and not hidden and os.path.isfile(whole) else None

    def is_built(self) -> bool:
        """Whether the page was put together of the files that are here. Looks at their times; reads them only when one is another."""
        made: Any = None
        try:
            made = loads(files.read(f"{self._pages}/{BUILT}/{MADE_FROM}").decode())
            sources = made["sources"]
            stamps = [self._stamp(name) for name in sources]
        except (OSError, ValueError, KeyError, TypeError):
            return False  # it was never put together, or a file of it is gone
        looked_at = (sources, stamps)
        if looked_at != self._looked_at:
            self._is_built = all(self._digest(name) == digest for name, digest in sources.items())
            self._looked_at = looked_at
        return self._is_built

    def _stamp(self, name: str) -> "tuple[int, int, int]":
        info = os.stat(f"{self._pages}/{name}")
        return info.st_ino, info.st_size, info.st_mtime_ns

    def _digest(self, name: str) -> str:
        return hashlib.sha256(files.read(f"{self._pages}/{name}")).hexdigest()
