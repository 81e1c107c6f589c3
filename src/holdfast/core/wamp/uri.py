"""Which URIs are well-formed, and which patterns match one?

Rules: WAMP specification, "URIs" (loose and strict), "Pattern-based Subscriptions" and "Pattern-based Registrations" (who is
the best match). A prefix is one of the string, not of its parts; a wildcard is an empty part, and stands for exactly one.
"""

import re
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

T = TypeVar("T")

MATCHES = ("exact", "prefix", "wildcard")

# Where empty parts may be depends on what the URI is for. Possessive quantifiers: no backtracking on hostile input.
_RULES: dict[tuple[str, str], "Callable[[str], Any]"] = {
    ("loose", "exact"): re.compile(r"(?:[^\s.#]++\.)*+[^\s.#]++").fullmatch,
    ("loose", "prefix"): re.compile(r"(?:[^\s.#]++\.)*+[^\s.#]*+").fullmatch,
    ("loose", "wildcard"): re.compile(r"(?:[^\s.#]*+\.)*+[^\s.#]*+").fullmatch,
    ("strict", "exact"): re.compile(r"(?:[0-9a-z_]++\.)*+[0-9a-z_]++").fullmatch,
    ("strict", "prefix"): re.compile(r"(?:[0-9a-z_]++\.)*+[0-9a-z_]*+").fullmatch,
    ("strict", "wildcard"): re.compile(r"(?:[0-9a-z_]*+\.)*+[0-9a-z_]*+").fullmatch,
}


def is_valid(uri: str, match: str = "exact", check: str = "loose") -> bool:
    """Tell whether a URI may be used with this match policy."""
    return _RULES[check, match](uri) is not None


def is_reserved(uri: str) -> bool:
    """Tell whether the first part is `wamp`: those names are the router's."""
    return uri.startswith("wamp.") or uri == "wamp"


def matches_wildcard(pattern: str, uri: str) -> bool:
    """Tell whether each part of the pattern is empty or the same as the URI's."""
    parts = pattern.split(".")
    others = uri.split(".")
    return len(parts) == len(others) and all(
        not part or part == other for part, other in zip(parts, others, strict=True)
    )


def fixed_runs(pattern: str) -> tuple[int, ...]:
    """Count the fixed parts before each wildcard: of two patterns, the greater one is the better match."""
    runs = [0]
    for part in pattern.split("."):
        if part:
            runs[-1] += 1
        else:
            runs.append(0)
    return tuple(runs)


class UriMap(Generic[T]):
    """Values under exact URIs, prefixes and wildcard patterns."""

    __slots__ = ("_lengths", "_wild", "exact", "prefix", "wildcard")

    def __init__(self) -> None:
        self.exact: dict[str, T] = {}
        self.prefix: dict[str, T] = {}
        self.wildcard: dict[str, T] = {}
        #: How many prefixes there are of each length: few lengths, so a look-up is a few slices and not a scan.
        self._lengths: dict[int, int] = {}
        #: A trie of the parts of the wildcard patterns; the pattern itself under the key None.
        self._wild: dict[str | None, Any] = {}

    def get(self, uri: str, match: str) -> T | None:
        """Look up by the pattern itself."""
        return self._of(match).get(uri)

    def add(self, uri: str, match: str, value: T) -> None:
        """Put a value under a pattern that is not there yet."""
        self._of(match)[uri] = value
        if match == "prefix":
            length = len(uri)
            self._lengths[length] = self._lengths.get(length, 0) + 1
        elif match == "wildcard":
            node = self._wild
            for part in uri.split("."):
                node = node.setdefault(part, {})
            node[None] = uri

    def remove(self, uri: str, match: str) -> None:
        """Take a pattern out that is there."""
        del self._of(match)[uri]
        if match == "prefix":
            length = len(uri)
            self._lengths[length] -= 1
            if not self._lengths[length]:
                del self._lengths[length]
        elif match == "wildcard":
            self._prune(uri.split("."))

    def matching(self, uri: str) -> list[T]:
        """List all values whose pattern matches: exact, then prefixes from the shortest, then wildcards."""
        found: list[T] = []
        value = self.exact.get(uri)
        if value is not None:
            found.append(value)
        if self.prefix:
            for length in sorted(self._lengths):
                if length > len(uri):
                    break
                value = self.prefix.get(uri[:length])
                if value is not None:
                    found.append(value)
        if self.wildcard:
            found.extend(self.wildcard[pattern] for pattern in self._walk(uri))
        return found

    def best(self, uri: str) -> T | None:
        """Find the one that a call goes to: exact, else the longest prefix, else the wildcard with the longest runs."""
        value = self.exact.get(uri)
        if value is not None:
            return value
        if self.prefix:
            for length in sorted(self._lengths, reverse=True):
                if length <= len(uri):
                    value = self.prefix.get(uri[:length])
                    if value is not None:
                        return value
        if self.wildcard:
            patterns = list(self._walk(uri))
            if patterns:
                return self.wildcard[max(patterns, key=fixed_runs)]
        return None

    def values(self) -> "Iterator[T]":
        """Go through all values."""
        yield from self.exact.values()
        yield from self.prefix.values()
        yield from self.wildcard.values()

    def __len__(self) -> int:
        return len(self.exact) + len(self.prefix) + len(self.wildcard)

    def _of(self, match: str) -> dict[str, T]:
        if match == "exact":
            return self.exact
        return self.prefix if match == "prefix" else self.wildcard

    def _walk(self, uri: str) -> "Iterator[str]":
        nodes = [self._wild]
        for part in uri.split("."):
            below = []
            for node in nodes:
                if part in node:
                    below.append(node[part])
                if part and "" in node:
                    below.append(node[""])
            if not below:
                return
            nodes = below
        for node in nodes:
            if None in node:
                yield node[None]

    def _prune(self, parts: list[str]) -> None:
        path = [self._wild]
        for part in parts:
            path.append(path[-1][part])
        del path[-1][None]
        for part in reversed(parts):
            if path.pop():
                break
            del path[-1][part]
