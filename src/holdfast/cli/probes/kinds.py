"""What kinds of values does a ``probe.toml`` have that a node's configuration has not?

Names are looked up here, unlike in a node: whoever looks from outside wants to know whether the name leads there.
"""

import re
from typing import Any
from urllib.parse import urlsplit

from holdfast.bus import urls
from holdfast.config.kinds import Expanded, Kind, Text, Wrong
from holdfast.config.problems import quoted

_HOST = re.compile(r"[A-Za-z0-9_*](?:[A-Za-z0-9_.-]*[A-Za-z0-9_.])?")
_STATUS = re.compile(r"[1-5](?:xx|[0-9][0-9])")


def split_host(text: str, port: int = 0) -> "tuple[str, int]":
    """Return host and port of "host:port", "[::1]:port", or with a usual port also "host".

    Raises:
        Wrong: It is none of these.
    """
    host, colon, digits = text.rpartition(":")
    if text.endswith("]") or not colon:
        host, digits = text, str(port) if port else ""
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
        is_host = bool(re.fullmatch(r"[0-9A-Fa-f:.]+", host))
    else:
        is_host = bool(_HOST.fullmatch(host))
    if not is_host:
        raise Wrong(
            f'{quoted(text)} is not "host:port"', 'as "example.com:443" or "[2001:db8::1]:443"'
        )
    if not digits.isascii() or not digits.isdigit() or not 1 <= int(digits) <= 65535:
        raise Wrong(f"{quoted(text)} has no port from 1 to 65535", f'as "{host}:443"')
    return host, int(digits)


class HostPort(Kind):
    """A TCP address by name or number."""

    brief = '"host:port"'
    takes: tuple[type, ...] = (str,)

    def __init__(self, port: int = 0) -> None:
        self._port = port
        self.words = 'an address such as "example.com:443"' + (
            f"; the port is {port} without one" if port else ""
        )

    def parse(self, value: object) -> str:
        """Return "host:port"."""
        if not isinstance(value, str):
            raise self.refuse(value)
        if "://" in value:
            raise self.refuse(value, "host and port alone, without a scheme")
        host, port = split_host(value, self._port)
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    def schema(self) -> dict[str, Any]:
        """Return a pattern."""
        pattern = r"^\S+$|\$\{" if self._port else r"^\S+:[0-9]+$|\$\{"
        return {"type": "string", "pattern": pattern}


class PageUrl(Kind):
    """What is asked for by HTTP."""

    brief = "URL"
    words = 'an address such as "https://example.com/health"'

    def parse(self, value: object) -> str:
        """Return the URL."""
        if not isinstance(value, str) or not value.startswith(("http://", "https://")):
            raise self.refuse(value)
        if any(ord(c) <= 32 or ord(c) == 127 for c in value):
            raise self.refuse(value, "write a blank as %20")
        try:
            parts = urlsplit(value)
            _ = parts.port
        except ValueError as error:
            raise self.refuse(value, str(error)) from None
        if not parts.hostname or not parts.netloc.isascii():
            raise self.refuse(
                value, "a name with other than ASCII letters is written in Punycode: xn--…"
            )
        if "@" in parts.netloc:
            raise self.refuse(
                value,
                'a name and a password do not stand here:  headers = { Authorization = "Basic ${…}" }',
            )
        return str(value)

    def schema(self) -> dict[str, Any]:
        """Return a pattern."""
        return {"type": "string", "pattern": r"^https?://[^ ]+$|\$\{"}


class RouterUrl(Kind):
    """A WAMP router."""

    brief = "URL"
    words = 'the address of a router such as "wss://example.com/ws" or "rs://10.0.0.5:8081"'

    def parse(self, value: object) -> str:
        """Return the URL."""
        if not isinstance(value, str):
            raise self.refuse(value)
        try:
            urls.parse(value)
        except ValueError as error:
            raise self.refuse(value, str(error)) from None
        return str(value)

    def schema(self) -> dict[str, Any]:
        """Return a pattern."""
        return {"type": "string", "pattern": r"^(?:wss?|rss?|tcp)://\S+$|^(?:ws\+)?unix:.+$|\$\{"}


class Pattern(Text):
    """A regular expression."""

    brief = "regular expression"

    def __init__(self, words: str = "a regular expression", groups: int | None = None) -> None:
        super().__init__(words)
        self._groups = groups

    def parse(self, value: object) -> str:
        """Return it, tried out."""
        text = super().parse(value)
        try:
            made = re.compile(text)
        except (re.error, OverflowError, RecursionError) as error:
            raise Wrong(f"{quoted(text)} is not a regular expression: {error}") from None
        if self._groups is not None and made.groups != self._groups:
            raise Wrong(
                f"{quoted(text)} has {made.groups} groups", "put the part that is taken into ( )"
            )
        return text


class Status(Kind):
    """Which answers are right: 200, "2xx", or a list of these."""

    brief = 'status, as 200 or "2xx"'
    words = 'a status such as 200 or "2xx", or a list of them'
    takes: tuple[type, ...] = (int, str, list, Expanded)

    def parse(self, value: object) -> list[str]:
        """Return patterns of three letters."""
        given = value if isinstance(value, list) else [value]
        found = [
            str(one) for one in given if isinstance(one, int | str) and not isinstance(one, bool)
        ]
        if not found or len(found) != len(given) or not all(map(_STATUS.fullmatch, found)):
            raise self.refuse(value)
        return found

    def schema(self) -> dict[str, Any]:
        """Return a schema of all notations."""
        one = {"anyOf": [{"type": "integer", "minimum": 100, "maximum": 599}, {"type": "string", "pattern": rf"^{_STATUS.pattern}$|\$\{{"}]}  # fmt: skip
        return {"anyOf": [one, {"type": "array", "items": one, "minItems": 1}]}
