"""Where in a TOML file does each key and each value stand?

``tomllib`` reads a file but forgets the places; readers that keep them are slow or foreign. This one reads only
the places, and relies on tomllib having accepted the text before: it checks nothing and decodes no value.
tests/config/test_positions.py holds the two against each other on generated documents.
"""

import re
import tomllib
from typing import NamedTuple

Path = tuple[str | int, ...]


class Position(NamedTuple):
    """Offsets into the text, in characters."""

    key: int
    value: int


#: Deeper than any configuration; a key with thousands of dots must not cost thousands of tuples squared.
DEEPEST = 70

_SPACE = re.compile(r"[ \t]*")
_BLANK = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_KEY = re.compile(r"""[A-Za-z0-9_-]+|"(?:[^"\\\n]|\\.)*"|'[^'\n]*'""")
# The longer quotes come first. At the end of a multi-line string up to two quotes belong to the text.
_STRING = re.compile(
    r'"""(?:[^\\]|\\.)*?"""(?:"{0,2})'
    r"|'''.*?'''(?:'{0,2})"
    r'|"(?:[^"\\\n]|\\.)*"'
    r"|'[^'\n]*'",
    re.DOTALL,
)
_SCALAR = re.compile(r"[^,\]}\n#]+")


class _Scanner:
    __slots__ = ("arrays", "found", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        self.found: dict[Path, Position] = {}
        self.arrays: dict[Path, int] = {}

    def document(self) -> None:
        text = self.text
        table: Path = ()
        at = self.blank(0)
        while at < len(text):
            if text.startswith("[[", at):
                table, at = self.header(at + 2, of_array=True)
                at += 2
            elif text[at] == "[":
                table, at = self.header(at + 1, of_array=False)
                at += 1
            else:
                at = self.pair(at, table)
            at = self.blank(at)

    def header(self, at: int, *, of_array: bool) -> tuple[Path, int]:
        parts, at = self.key(self.space(at))
        path: Path = ()
        for number, (part, offset) in enumerate(parts):
            path = self.inside(path, part)
            is_last = number == len(parts) - 1
            if is_last and of_array:
                self.arrays[path] = self.arrays.get(path, 0) + 1
                self.found.setdefault(path, Position(offset, offset))
                path = (*path, self.arrays[path] - 1)
            elif path in self.arrays:
                path = (*path, self.arrays[path] - 1)
            if is_last:
                self.found[path] = Position(offset, offset)
            else:
                self.found.setdefault(path, Position(offset, offset))
        return path, self.space(at)

    def pair(self, at: int, table: Path) -> int:
        parts, at = self.key(at)
        at = self.space(self.space(at) + 1)  # the sign between key and value
        path = table
        for part, offset in parts[:-1]:
            path = self.inside(path, part)
            self.found.setdefault(path, Position(offset, offset))
        path = self.inside(path, parts[-1][0])
        self.found[path] = Position(parts[-1][1], at)
        return self.value(at, path)

    def value(self, at: int, path: Path) -> int:
        text = self.text
        first = text[at]
        if first == "[":
            at = self.blank(at + 1)
            number = 0
            while text[at] != "]":
                element = self.inside(path, number)
                self.found[element] = Position(at, at)
                at = self.after(self.value(at, element))
                number += 1
            return at + 1
        if first == "{":
            at = self.blank(at + 1)
            while text[at] != "}":
                at = self.after(self.pair(at, path))
            return at + 1
        found = _STRING.match(text, at) if first in "\"'" else _SCALAR.match(text, at)
        return found.end() if found else len(text)

    def after(self, at: int) -> int:
        """Step over what stands between two entries."""
        at = self.blank(at)
        return self.blank(at + 1) if self.text[at] == "," else at

    def key(self, at: int) -> tuple[list[tuple[str, int]], int]:
        parts: list[tuple[str, int]] = []
        while True:
            found = _KEY.match(self.text, at)
            if found is None:  # not TOML after all; end here rather than go round in a circle
                return parts or [("", at)], len(self.text)
            parts.append((_plain(found[0]), at))
            end = found.end()
            at = self.space(end)
            if not self.text.startswith(".", at):
                return parts, end
            at = self.space(at + 1)

    def inside(self, path: Path, part: str | int) -> Path:
        return (*path, part) if len(path) < DEEPEST else path

    def space(self, at: int) -> int:
        found = _SPACE.match(self.text, at)
        return found.end() if found else at

    def blank(self, at: int) -> int:
        found = _BLANK.match(self.text, at)
        return found.end() if found else at


def scan(text: str) -> dict[Path, Position]:
    """Return the place of every key and every list entry of a document that tomllib accepts.

    Paths are those of the data: names of keys, and numbers of list entries (also of ``[[arrays of tables]]``).
    """
    scanner = _Scanner(text)
    try:
        scanner.document()
    except (IndexError, RecursionError):
        # The text ends in the middle of something: tomllib has not seen this one. What was found is still right.
        return scanner.found
    return scanner.found


def line_and_column(text: str, offset: int) -> tuple[int, int]:
    """Return line and column of an offset, both counted from 1."""
    return text.count("\n", 0, offset) + 1, offset - text.rfind("\n", 0, offset)


def _plain(token: str) -> str:
    if token[0] == "'" or (token[0] == '"' and "\\" not in token):
        return token[1:-1]
    if token[0] != '"':
        return token
    try:
        return str(tomllib.loads("k=" + token)["k"])
    except tomllib.TOMLDecodeError:
        return token[1:-1]  # not TOML after all
