"""Which cookies go along with the next request? As much of RFC 6265 as signing in needs.

Name, domain, path, `Secure`, and the end of a cookie; a look lasts seconds, so what only says until when it lives does not matter.
"""

from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit


class _Cookie:
    __slots__ = ("domain", "is_exact", "is_secure", "name", "path", "value")

    def __init__(self, name: str, value: str, domain: str, path: str) -> None:
        self.name, self.value, self.domain, self.path = name, value, domain, path
        self.is_exact = True  #: only for the very host that set it
        self.is_secure = False

    def fits(self, host: str, path: str, is_secure: bool) -> bool:
        is_host = host == self.domain or (not self.is_exact and host.endswith(f".{self.domain}"))
        is_path = path == self.path or path.startswith(
            self.path if self.path.endswith("/") else f"{self.path}/"
        )
        return is_host and is_path and (is_secure or not self.is_secure)


class Jar:
    """The cookies of one look."""

    def __init__(self) -> None:
        self._cookies: list[_Cookie] = []

    def take(self, url: str, text: str) -> None:
        """Take up a ``Set-Cookie`` of the answer to a request."""
        first, *attributes = text.split(";")
        name, equals, value = first.partition("=")
        host, path, _ = _place(url)
        if not equals or not name.strip():
            return
        cookie = _Cookie(name.strip(), value.strip(), host, path.rpartition("/")[0] or "/")
        is_over = False
        for attribute in attributes:
            key, _, said = attribute.strip().partition("=")
            key, said = key.lower(), said.strip()
            if key == "domain" and said:
                domain = said.lstrip(".").lower()
                if host != domain and not host.endswith(f".{domain}"):
                    return  # a foreign one
                cookie.domain, cookie.is_exact = domain, False
            elif key == "path" and said.startswith("/"):
                cookie.path = said
            elif key == "secure":
                cookie.is_secure = True
            elif key == "max-age":
                is_over = said.lstrip("-").isdigit() and int(said) <= 0
            elif key == "expires":
                is_over = is_over or _is_past(said)
        same = (cookie.name, cookie.domain, cookie.path)
        self._cookies = [one for one in self._cookies if (one.name, one.domain, one.path) != same]
        if not is_over:
            self._cookies.append(cookie)

    def header(self, url: str) -> str:
        """Return the ``Cookie`` of a request; empty when there is none."""
        return "; ".join(f"{cookie.name}={cookie.value}" for cookie in self._fitting(url))

    def get(self, url: str, name: str) -> str | None:
        """Return the value of the cookie that a request to this address would carry."""
        return next((cookie.value for cookie in self._fitting(url) if cookie.name == name), None)

    def _fitting(self, url: str) -> list[_Cookie]:
        host, path, is_secure = _place(url)
        found = [cookie for cookie in self._cookies if cookie.fits(host, path, is_secure)]
        return sorted(found, key=lambda cookie: -len(cookie.path))


def _place(url: str) -> tuple[str, str, bool]:
    parts = urlsplit(url)
    return (parts.hostname or "").lower(), parts.path or "/", parts.scheme == "https"


def _is_past(text: str) -> bool:
    """Whether a date is that of a removal: servers write 1970 for it."""
    try:
        return parsedate_to_datetime(text).year < 2000
    except (ValueError, IndexError, TypeError):
        return False
