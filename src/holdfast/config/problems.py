"""What is wrong with a configuration, and where does it stand?

Everything that is found is collected: a person should not have to start six times to learn of six mistakes.
A problem knows its file, line, column and key; its text has the form of every message of Holdfast: where, what,
what to do. Positions are looked up only when there is something to report, since a good file needs none.
"""

from typing import NamedTuple

from holdfast.config.positions import Position, line_and_column, scan
from holdfast.model.errors import ConfigError

Part = str | int
Path = tuple[Part, ...]

#: Looking for similar names costs a millisecond each among a thousand; nobody reads the hundredth hint.
_MOST_HINTS = 100
_WIDTH = 100


class Problem(NamedTuple):
    """One mistake; line and column count from 1, and are 0 where the whole file is meant."""

    file: str
    line: int
    column: int
    key: str
    says: str
    hints: tuple[str, ...]

    def __str__(self) -> str:
        """Return the problem as a person reads it."""
        place = f"{self.file}:{self.line}" if self.line else self.file
        head = f"{place} {self.key}: {self.says}" if self.key else f"{place}: {self.says}"
        return "\n".join([head, *(f"  {hint}" for hint in self.hints)])


class ConfigProblems(ConfigError):  # noqa: N818 -- reads as what it says
    """A ConfigError that also has its problems as values, for editors and ``--json``."""

    def __init__(self, details: list[Problem]) -> None:
        super().__init__([str(problem) for problem in details])
        self.details = details


class Document:
    """One file that was read: its name for messages, its text, what it says."""

    __slots__ = ("data", "directory", "file", "number", "path", "positions", "text")

    def __init__(
        self, number: int, path: str, file: str, text: str, data: dict[str, object]
    ) -> None:
        self.number = number
        self.path = path
        self.file = file
        self.text = text
        self.data = data
        self.directory = path.rpartition("/")[0] or "/"
        self.positions: dict[Path, Position] | None = None

    def name(self, path: Path) -> str:
        """Return a key as a person finds it in the file."""
        return dotted(path)

    def place(self, path: Path, *, of_key: bool) -> tuple[int, int]:
        """Return line and column of a key or of its value; of what is around it when it has none of its own."""
        if self.positions is None:
            self.positions = scan(self.text)
        while path and path not in self.positions:
            path = path[:-1]
            of_key = True
        if not path:
            return 1, 1
        position = self.positions[path]
        return line_and_column(self.text, position.key if of_key else position.value)


class Where(NamedTuple):
    """A key of a document."""

    document: Document
    path: Path

    def at(self, part: Part) -> "Where":
        """Return the place of something inside."""
        return Where(self.document, (*self.path, part))


class Problems:
    """The mistakes found so far."""

    __slots__ = ("_found", "_hinted", "_warned")

    def __init__(self) -> None:
        self._warned: dict[tuple[int, Path, str], tuple[int, int, int, Problem]] = {}
        self._found: dict[tuple[int, Path, str], tuple[int, int, int, Problem]] = {}
        self._hinted = 0

    def __bool__(self) -> bool:
        return bool(self._found)

    def add(self, where: Where, says: str, *hints: str, of_key: bool = False) -> None:
        """Note a mistake; the same one in the same place counts once."""
        _note(self._found, where, says, hints, of_key=of_key)

    def warn(self, where: Where, says: str, *hints: str, of_key: bool = False) -> None:
        """Note what is probably not meant, but does not keep the node from running."""
        _note(self._warned, where, says, hints, of_key=of_key)

    def warnings(self) -> "list[Problem]":
        """Return what is probably not meant, in file order."""
        return [entry[3] for entry in sorted(self._warned.values(), key=lambda e: e[:3])]

    def add_whole(self, file: str, says: str, *hints: str, line: int = 0, column: int = 0) -> None:
        """Note a mistake of a file as a whole, or of its syntax."""
        problem = Problem(file, line, column, "", says, hints)
        self._found.setdefault((-1, (file,), says), (-1, line, column, problem))

    def similar(self, word: str, names: "list[str]") -> str:
        """Return a question with the name that was probably meant, or nothing."""
        self._hinted += 1
        found = nearest(word, names) if self._hinted <= _MOST_HINTS else ""
        return f'Did you mean "{found}"?' if found else ""

    def finish(self) -> None:
        """Raise what was found.

        Raises:
            ConfigProblems: There is at least one problem; they are in file order.
        """
        if self._found:
            raise ConfigProblems(
                [entry[3] for entry in sorted(self._found.values(), key=lambda e: e[:3])]
            )


def _note(
    found: dict[tuple[int, Path, str], tuple[int, int, int, Problem]],
    where: Where,
    says: str,
    hints: tuple[str, ...],
    *,
    of_key: bool,
) -> None:
    document, path = where
    line, column = document.place(path, of_key=of_key)
    problem = Problem(document.file, line, column, document.name(path), says, hints)
    found.setdefault((document.number, path, says), (document.number, line, column, problem))


def nearest(word: str, names: list[str]) -> str:
    """Return the name that is most like the word, or nothing."""
    same = {name.lower().replace("-", "_"): name for name in names}
    found = same.get(word.lower().replace("-", "_"), "")
    if found or not names or len(word) > 100:
        return found
    import difflib  # 3 ms that only a mistake has to pay

    return next(iter(difflib.get_close_matches(word, names, n=1, cutoff=0.6)), "")


def dotted(path: Path) -> str:
    """Return a path as a person writes it: ``worker.crawler.listen[0].name``."""
    words = ""
    for part in path[:12]:
        if isinstance(part, int):
            words += f"[{part}]"
        else:
            bare = part.isascii() and part.replace("_", "").replace("-", "").isalnum()
            words += ("." if words else "") + (part if bare else quoted(part))
    # A list says itself which of its entries is meant: the value is in the sentence.
    while words.endswith("]") and words.rpartition("[")[2][:-1].isdigit():
        words = words.rpartition("[")[0]
    return words + ("…" if len(path) > 12 else "")


def quoted(text: str) -> str:
    """Return a text in quotes, fit for one line of a terminal."""
    cut = text if len(text) <= 60 else text[:57] + "…"
    safe = "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in cut)
    return f'"{safe}"'


def shown(value: object) -> str:
    """Return a value as it would stand in the file, or what sort it is when it is long."""
    if isinstance(value, str):
        return quoted(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value) if -(10**30) < value < 10**30 else "a number of more than 30 digits"
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, dict):
        return "a table"
    return "a list" if isinstance(value, list) else f"the date or time {value}"


def listed(words: str, names: "list[str]") -> str:
    """Return "valid here: a, b, c", broken into lines that fit a terminal."""
    lines = [words]
    for at, name in enumerate(names):
        item = name + ("," if at < len(names) - 1 else "")
        if len(lines[-1]) + 1 + len(item) > _WIDTH:
            lines.append("  ")
        lines[-1] += " " + item
    return "\n  ".join(lines)
