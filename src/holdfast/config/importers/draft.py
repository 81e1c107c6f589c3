"""How is a holdfast.toml written that a person will want to go on editing?

Tables of keys with comments, in the order in which they were added. Writing only: reading TOML is the
standard library's business. A text that came from a foreign file is *literal*: what the file format of
Holdfast would expand in it (``${NAME}``) is escaped, unless the importer says that it meant an expansion.
"""

import re
from math import isfinite
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from holdfast.config.importers.tree import Node

Path = tuple[str | int, ...]

_BARE = re.compile(r"[A-Za-z0-9_-]+")
_NAME = re.compile(r"[^A-Za-z0-9_-]+")
_ESCAPES = {
    '"': '\\"',
    "\\": "\\\\",
    "\b": "\\b",
    "\t": "\\t",
    "\n": "\\n",
    "\f": "\\f",
    "\r": "\\r",
}
_WIDTH = 96
_OURS = ("HOLDFAST_", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "NOTIFY_SOCKET")
#: Private-use characters stand around the name of an environment variable until the file is written.
_OPEN, _CLOSE = "\ue000", "\ue001"
#: Holdfast reads `$$` as one dollar and `${` as the beginning of a variable; any other dollar is one.
_DOLLAR = re.compile(rf"\$(?=[${{{_OPEN}])")
_LIVE = re.compile(f"{_OPEN}([^{_CLOSE}]*){_CLOSE}")


class Remarked:
    """An entry of a list with a comment behind it."""

    __slots__ = ("value", "why")

    def __init__(self, value: object, why: str) -> None:
        self.value = value
        self.why = why


class Table:
    """One ``[section]`` in the making, or one ``[[entry]]`` of a list of them."""

    __slots__ = ("header", "is_entry", "lines", "origins", "path", "remarks")

    def __init__(
        self,
        header: tuple[str, ...],
        remarks: list[str],
        path: Path,
        origins: "dict[Path, Node]",
        *,
        is_entry: bool = False,
    ) -> None:
        self.header = header
        self.remarks = remarks
        self.is_entry = is_entry
        self.path = path  #: where its keys are once the file has been read
        self.origins = origins
        self.lines: list[tuple[str, object, str]] = []

    def put(self, key: str, value: object, why: str = "", at: "Node | None" = None) -> None:
        """Set a key; ``why`` becomes a comment behind it, ``at`` is where the value comes from."""
        self.lines = [line for line in self.lines if line[0] != key]
        self.lines.append((key, value, why))
        if at is not None:
            self.mark((key,), at)

    def mark(self, path: Path, node: "Node") -> None:
        """Say where something inside of this table comes from, and everything in it."""
        self.origins[(*self.path, *path)] = node
        for key, below in (node.pairs or {}).items():
            self.mark((*path, key), below)
        for number, below in enumerate(node.items or ()):
            self.mark((*path, number), below)

    def say(self, remark: str) -> None:
        """Add a comment above the section."""
        self.remarks.append(remark)

    def write(self) -> list[str]:
        """Return the lines of the section."""
        out = [comment(text) for text in self.remarks]
        name = ".".join(_key(part) for part in self.header)
        out.append(f"[[{name}]]" if self.is_entry else f"[{name}]")
        for key, value, why in self.lines:
            text = f"{_key(key)} = {_value(value)}"
            if isinstance(value, list) and any(isinstance(item, Remarked) for item in value):
                text = f"{_key(key)} = [\n{''.join(map(_line, value))}]"
            elif isinstance(value, (list, tuple)) and len(text) > _WIDTH:
                inner = "".join(f"  {_value(item)},\n" for item in value)
                text = f"{_key(key)} = [\n{inner}]"
            if not why:
                out.append(text)
            elif len(text) + len(why) > _WIDTH:
                out += [comment(why), text]
            else:
                out.append(f"{text}  {comment(why)}")
        return out


class Draft:
    """A whole file: a heading and its sections."""

    def __init__(self, heading: list[str]) -> None:
        self.heading = heading
        self._tables: list[Table] = []
        self._names: set[tuple[str, ...]] = set()
        self._entries: dict[tuple[str, ...], int] = {}
        #: Where each key comes from, by its place in the file that is written.
        self.origins: dict[Path, Node] = {}
        #: Values that TOML cannot carry as they are, for a reader that does not need TOML.
        self.exact: dict[Path, Any] = {}

    def table(
        self, *header: str, remarks: list[str] | None = None, at: "Node | None" = None
    ) -> Table:
        """Append a section."""
        self._names.add(header)
        return self._add(Table(header, list(remarks or []), header, self.origins), at)

    def entry(
        self, *header: str, remarks: list[str] | None = None, at: "Node | None" = None
    ) -> Table:
        """Append an entry to a list of sections: ``[[header]]``."""
        number = self._entries[header] = self._entries.get(header, -1) + 1
        path: Path = (*header, number)
        return self._add(Table(header, list(remarks or []), path, self.origins, is_entry=True), at)

    def inside(self, table: Table, *parts: str, at: "Node | None" = None) -> Table:
        """Append a section that belongs to another one."""
        header, path = (*table.header, *parts), (*table.path, *parts)
        return self._add(Table(header, [], path, self.origins), at)

    def _add(self, table: Table, at: "Node | None") -> Table:
        self._tables.append(table)
        if at is not None:
            self.origins[table.path] = at
        return table

    def free_text(self, room: str, wanted: str) -> str:
        """Return a name that no other [room.NAME] has; any text will do."""
        number, free = 2, wanted
        while (room, free) in self._names:
            free = f"{wanted}-{number}"
            number += 1
        return free

    def has(self, room: str) -> bool:
        """Tell whether there is a section [room.NAME]."""
        return any(header[0] == room for header in self._names)

    def free_name(self, room: str, wanted: str, spare: str) -> str:
        """Return a name that TOML and Holdfast take and that no other [room.NAME] has."""
        name = _NAME.sub("-", wanted).strip("-_") or spare
        if not name[0].isalnum() or not name.isascii():
            name = f"{spare}-{name}"
        name = name[:48]
        number, free = 2, name
        while (room, free) in self._names:
            free = f"{name}-{number}"
            number += 1
        return free

    def write(self, notes: list[str]) -> str:
        """Return the text of the file; the notes stand at its end as comments."""
        out = [comment(line) for line in self.heading]
        for table in self._tables:
            out += ["", *table.write()]
        if notes:
            out += ["", comment("What the import could not carry over:")]
            out += [comment(line) for note in notes for line in note.split("\n")]
        return "\n".join(out) + "\n"


def _line(item: object) -> str:
    if not isinstance(item, Remarked):
        return f"  {_value(item)},\n"
    return f"  {_value(item.value)},{'  ' + comment(item.why) if item.why else ''}\n"


def comment(text: str) -> str:
    """Return a TOML comment; what TOML forbids in one becomes a question mark."""
    line = " ".join(text.splitlines()) if "\n" in text else text
    line = "".join(c if c == "\t" or (ord(c) >= 0x20 and c != "\x7f") else "?" for c in line)
    return f"# {_sound(line)}" if line else "#"


def from_environment(name: str) -> str:
    """Return a stand-in that is written as ``${NAME}``: Holdfast fills it in when it reads the file."""
    return f"{_OPEN}{name}{_CLOSE}"


def literal(text: str) -> str:
    """Return ``text`` so that Holdfast's expansion of ``${NAME}`` gives it back as it is."""
    return _LIVE.sub(r"${\1}", _DOLLAR.sub("$$", text))


def _key(text: str) -> str:
    return text if _BARE.fullmatch(text) else _quoted(text)


def _value(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return _quoted(literal(value))
    if isinstance(value, (int, float)):
        return repr(value)
    if isinstance(value, dict):
        inside = ", ".join(f"{_key(str(key))} = {_value(item)}" for key, item in value.items())
        return f"{{ {inside} }}" if inside else "{}"
    if isinstance(value, Remarked):
        return _value(value.value)
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(_value(item) for item in value)}]"
    message = f"not a TOML value: {value!r}"
    raise TypeError(message)


def _quoted(text: str) -> str:
    out = []
    for char in _sound(text):
        if char in _ESCAPES:
            out.append(_ESCAPES[char])
        elif ord(char) < 0x20 or char == "\x7f":
            out.append(f"\\u{ord(char):04X}")
        else:
            out.append(char)
    return f'"{"".join(out)}"'


def _sound(text: str) -> str:
    """Replace lone surrogates: JSON can spell them, UTF-8 cannot."""
    return text.encode("utf-8", "replace").decode("utf-8")


def portable(value: Any) -> Any:
    """Return ``value`` as TOML and a component's settings can have it.

    Nulls are left out; numbers beyond 64 bits, infinity and NaN become texts.
    """
    if isinstance(value, dict):
        return {key: portable(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [portable(item) for item in value if item is not None]
    if isinstance(value, float) and not isfinite(value):
        return str(value)
    if isinstance(value, int) and abs(value) >= 1 << 63:
        return str(value)
    return value


def exact(value: Any) -> Any:
    """Return ``value`` as JSON can have it: nulls stay, numbers beyond 64 bits become texts."""
    if isinstance(value, dict):
        return {key: exact(item) for key, item in value.items()}
    if isinstance(value, list):
        return [exact(item) for item in value]
    return None if value is None else portable(value)


def is_ours(variable: str) -> bool:
    """Tell an environment variable that Holdfast sets itself, and that no file may set."""
    return variable.startswith(_OURS)
