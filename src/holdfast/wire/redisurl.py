"""Which server does a URL mean?

Written out instead of `urllib`: that import costs a worker 2 MB and 10 ms, and does not know several hosts in one URL.
Left out: finding out who is the master just now (:mod:`holdfast.jobs.redis.link`).
"""

from holdfast.model.jobs import StoreRefusedError

ONE, SENTINEL, CLUSTER = "one", "sentinel", "cluster"
_SCHEMES = {
    "redis": (ONE, False),
    "rediss": (ONE, True),
    "valkey": (ONE, False),
    "valkeys": (ONE, True),
    "redis+unix": (ONE, False),
    "unix": (ONE, False),
    "redis+sentinel": (SENTINEL, False),
    "rediss+sentinel": (SENTINEL, True),
    "redis+cluster": (CLUSTER, False),
    "rediss+cluster": (CLUSTER, True),
}
_PORTS = {ONE: 6379, SENTINEL: 26379, CLUSTER: 6379}
_OPTIONS = ("db", "timeout", "ca", "cert", "key", "verify", "user", "password", "sentinel_password")


class Address:
    """What a URL says.

    Raises:
        StoreRefusedError: It does not say it properly; the text tells where.
    """

    __slots__ = ("db", "hosts", "is_tls", "kind", "options", "password", "path", "service", "timeout_s", "url", "user")  # fmt: skip

    def __init__(self, url: str) -> None:
        scheme, colon, rest = url.partition("://")
        if not colon or scheme not in _SCHEMES:
            raise _wrong(url, f"it has to begin with one of {', '.join(_SCHEMES)} and ://")
        self.kind, self.is_tls = _SCHEMES[scheme]
        rest, _, query = rest.partition("?")
        self.options = _options(url, query)
        place, _, path = rest.partition("/")
        login, at, place = place.rpartition("@")
        user, has_password, password = login.partition(":")
        self.user = _plain(user) or self.options.get("user", "")
        self.password = _plain(password) or self.options.get("password", "")
        #: Without its password: this one is printed.
        self.url = f"{scheme}://{user}{':***' if has_password else ''}{at}{place}{'/' + path if path else ''}"
        self.hosts: list[tuple[str, int]] = []
        self.path = self.service = ""
        db = self.options.get("db", "0")
        if scheme in ("redis+unix", "unix"):
            self.path = "/" + _plain(path)
            if place or not path:
                raise _wrong(self.url, "a socket is written redis+unix:///path/of/the.sock")
        else:
            self.hosts = [_host(self.url, one, _PORTS[self.kind]) for one in place.split(",")]
            if self.kind == SENTINEL:
                self.service, _, path = path.partition("/")
                if not self.service:
                    raise _wrong(self.url, "the name of the service is missing: …:26379/mymaster/0")
            db = path or db
        if not db.isascii() or not db.isdigit():
            raise _wrong(self.url, f'the database has to be a number, not "{db}"')
        self.db = int(db)
        if self.kind == CLUSTER and self.db:
            raise _wrong(self.url, "a cluster has only database 0")
        try:
            self.timeout_s = float(self.options.get("timeout", "5"))
        except ValueError:
            self.timeout_s = 0.0
        if not 0.05 <= self.timeout_s <= 3600:
            raise _wrong(self.url, "timeout has to be a number of seconds")


def _options(url: str, query: str) -> "dict[str, str]":
    found = {}
    for pair in query.split("&") if query else ():
        name, _, value = pair.partition("=")
        if name not in _OPTIONS:
            raise _wrong(
                url.partition("?")[0].rpartition("@")[2],
                f'there is no option "{name}"; there are {", ".join(_OPTIONS)}',
            )
        found[name] = _plain(value)
    return found


def _host(url: str, text: str, port: int) -> "tuple[str, int]":
    """Return host and port of `host`, `host:port`, `[::1]:port`."""
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        if not bracket:
            raise _wrong(url, f'"{text}" has no closing bracket')
        digits = rest[1:]
    else:
        host, _, digits = text.partition(":")
    if digits and not (digits.isascii() and digits.isdigit() and 0 < int(digits) < 65536):
        raise _wrong(url, f'"{digits}" is no port')
    return host or "127.0.0.1", int(digits) if digits else port


def _plain(text: str) -> str:
    """Return text without its percent signs."""
    if "%" not in text:
        return text
    head, *parts = text.encode().split(b"%")
    out = bytearray(head)
    for part in parts:
        try:
            out += bytes((int(part[:2], 16),)) + part[2:]
        except ValueError:
            out += b"%" + part
    return out.decode("utf-8", "replace")


def _wrong(url: str, says: str) -> StoreRefusedError:
    return StoreRefusedError(f'the store\'s URL "{url}" cannot be used: {says}')
