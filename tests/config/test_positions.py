"""The position scanner and tomllib read the same document: one the values, the other the places."""

import tomllib
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from holdfast.config.positions import Path, line_and_column, scan

_BARE = st.text("abcXYZ019_-", min_size=1, max_size=4)
_ODD = st.text(st.characters(blacklist_categories=["Cs", "Cc"], max_codepoint=0x2FFF), max_size=4)
_SCALARS = st.sampled_from([
    "1", "-17", "0xff", "1_000", "3.5", "1e9", "inf", "nan", "true", "false", "1979-05-27", "1979-05-27 07:32:00",
    "07:32:00", '""', '"a"', '"a # b"', '"] } ,"', '"\\"\\\\"', "''", "'\\'", "'#'", '"""x"""', '"""\n"\n"" \\""""""',
    '"""\\\n   a"""', "'''\n''\n'''''", "'''it's'''", '"é…"',
])  # fmt: skip
_SPACES = st.sampled_from(["", " ", "  ", "\t"])
_GAPS = st.sampled_from(["", " ", "\n", ' # a ] comment "\n', "\n\n  "])


class _Writer:
    """Writes a document by drawing every choice, and notes where it put what."""

    def __init__(self, draw: Any) -> None:
        self.draw = draw
        self.text = ""
        self.values: dict[Path, str] = {}

    def put(self, text: str) -> None:
        self.text += text

    def blank(self) -> None:
        self.put(self.draw(_SPACES))

    def names(self, most: int = 3) -> list[str]:
        names: list[str] = self.draw(st.lists(_BARE | _ODD, max_size=most, unique=True))
        return names

    def key(self, name: str) -> None:
        is_bare = name and all(c in "abcXYZ019_-" for c in name)
        forms = (
            [_basic(name)]
            + ([name] if is_bare else [])
            + ([f"'{name}'"] if "'" not in name else [])
        )
        self.put(self.draw(st.sampled_from(forms)))

    def dotted(self, names: list[str]) -> None:
        for number, name in enumerate(names):
            if number:
                self.blank()
                self.put(".")
                self.blank()
            self.key(name)

    def value(self, path: Path, depth: int) -> None:
        start = len(self.text)
        kind = self.draw(
            st.sampled_from(["scalar"] * 3 + (["array", "inline"] if depth < 3 else []))
        )
        if kind == "scalar":
            self.put(self.draw(_SCALARS))
        elif kind == "array":
            self.put("[" + self.draw(_GAPS))
            for number in range(count := self.draw(st.integers(0, 3))):
                self.value((*path, number), depth + 1)
                self.put(self.draw(_GAPS))
                is_last = number == count - 1
                self.put("" if is_last and self.draw(st.booleans()) else "," + self.draw(_GAPS))
            self.put("]")
        else:
            self.put("{")
            self.blank()
            for number, name in enumerate(self.names()):
                if number:
                    self.put(",")
                    self.blank()
                self.pair(path, name, depth + 1)
                self.blank()
            self.put("}")
        self.values[path] = self.text[start:]

    def pair(self, path: Path, name: str, depth: int) -> None:
        names = [name, *(self.names(1) if self.draw(st.booleans()) else [])]
        self.dotted(names)
        self.blank()
        self.put("=")
        self.blank()
        self.value((*path, *names), depth)

    def end(self) -> None:
        self.blank()
        self.put(self.draw(st.sampled_from(["\n", "\r\n", " # = [x]\n", "\n\n", "\n# [no]\n"])))

    def table(self, path: Path, header: list[str], depth: int) -> None:
        """Write the keys of a table, then the tables inside it."""
        names = self.names()
        inner = [n for n in names if depth < 3 and self.draw(st.booleans())]
        for name in names:
            if name not in inner:
                self.blank()
                self.pair(path, name, 1)
                self.end()
        for name in inner:
            if self.draw(st.booleans()):
                self.section("[", [*header, name])
                self.table((*path, name), [*header, name], depth + 1)
            else:
                for number in range(self.draw(st.integers(1, 3))):
                    self.section("[[", [*header, name])
                    self.table((*path, name, number), [*header, name], depth + 1)

    def section(self, brackets: str, names: list[str]) -> None:
        self.blank()
        self.put(brackets)
        self.blank()
        self.dotted(names)
        self.blank()
        self.put("]" * len(brackets))
        self.end()


def _basic(name: str) -> str:
    return '"' + name.replace("\\", "\\\\").replace('"', "\\u0022") + '"'


def _paths(value: object, path: Path = ()) -> set[Path]:
    found = {path} if path else set()
    pairs = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, list)
        else ()
    )
    for key, inner in pairs:
        found |= _paths(inner, (*path, key))
    return found


@st.composite
def documents(draw: Any) -> _Writer:
    writer = _Writer(draw)
    writer.table((), [], 0)
    return writer


@settings(max_examples=80, deadline=None)
@given(documents())
def test_the_scanner_finds_exactly_the_keys_that_tomllib_finds(document: _Writer) -> None:
    """A wrong line number sends a person to the wrong place: worse than none."""
    data = tomllib.loads(document.text)

    found = scan(document.text)

    assert set(found) == _paths(data)
    for path, position in found.items():
        name = path[-1]
        if isinstance(name, str):
            token = document.text[position.key :]
            first = token[0] if token[0] in "\"'" else ""
            end = token.index(first, 1) + 1 if first else len(name)
            while first == '"' and token[:end].count("\\") and not _is_token(token[:end], name):
                end = token.index(first, end) + 1
            assert _is_token(token[:end], name)
        if path in document.values:
            assert document.text.startswith(document.values[path], position.value)


def _is_token(token: str, name: str) -> bool:
    try:
        return tomllib.loads(f"{token} = 1") == {name: 1}
    except tomllib.TOMLDecodeError:
        return False


@settings(max_examples=300, deadline=None)
@example('"\\q" = 1')
@given(st.text("[]{}=.,#\"'\\\n ab1", max_size=60) | st.text(max_size=60))
def test_the_scanner_ends_whatever_it_reads(text: str) -> None:
    """Nobody calls it with what tomllib refused; should somebody do so, it must not hang or fall over."""
    found = scan(text)

    assert all(0 <= position.key <= len(text) for position in found.values())


def test_lines_and_columns_count_from_one() -> None:
    text = "a = 1\n[worker.b]\n  after = [\n    'x',\n  ]\n"

    found = scan(text)

    assert line_and_column(text, found["a",].value) == (1, 5)
    assert line_and_column(text, found["worker", "b"].key) == (2, 9)
    assert line_and_column(text, found["worker", "b", "after"].key) == (3, 3)
    assert line_and_column(text, found["worker", "b", "after", 0].value) == (4, 5)
