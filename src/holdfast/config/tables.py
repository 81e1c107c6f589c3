"""How do single values make up lists and tables?

The kinds that hold others: a table with known keys (each one a :class:`Key`, with all that is known about it), lists,
tables of free names, and the short forms of tables. Only the keys that were given come out: unset is not the same
as default.
"""

import re
from collections.abc import Mapping
from math import isfinite
from typing import Any

from holdfast.config.kinds import BAD, NAME, NAME_WORDS, Duration, Kind, Lost, Wrong, alternatives
from holdfast.config.problems import Problems, Where, listed, quoted, shown

_ENV_NAME = re.compile(r"[^=\0]+")


class Settings(Kind):
    """A table of which Holdfast knows nothing: it is handed to the component."""

    is_scalar = False

    words = "a table of settings"
    takes: tuple[type, ...] = (dict,)

    def check(self, value: object, where: Where, problems: Problems) -> Any:
        """Return a copy that JSON can carry."""
        if not isinstance(value, dict):
            return super().check(value, where, problems)
        return {
            str(key): self._inner(inner, where.at(key), problems) for key, inner in value.items()
        }

    def parse(self, value: object) -> Any:
        """Refuse what is not a table."""
        raise self.refuse(value)

    def schema(self) -> dict[str, Any]:
        """Return a schema of any table."""
        return {"type": "object"}

    def _inner(self, value: object, where: Where, problems: Problems) -> Any:
        if isinstance(value, str):
            return str(value)
        if isinstance(value, dict):
            return {
                str(key): self._inner(inner, where.at(key), problems)
                for key, inner in value.items()
            }
        if isinstance(value, list):
            return [self._inner(inner, where.at(at), problems) for at, inner in enumerate(value)]
        if isinstance(value, float) and not isfinite(value):
            problems.add(
                where, f"{value!r} cannot be handed to a component", "write it as a text, in quotes"
            )
            return BAD
        if isinstance(value, int) and abs(value) >= 1 << 63:
            problems.add(
                where, f"{shown(value)} does not fit into 64 bits", "write it as a text, in quotes"
            )
            return BAD
        if value is None or isinstance(value, bool | int | float):
            return value  # TOML has no null, but the configurations of others do
        problems.add(
            where,
            f"{shown(value)} cannot be handed to a component",
            "write it as a text, in quotes",
        )
        return BAD


class Anything(Settings):
    """A value of which Holdfast knows nothing: it is passed on."""

    brief = "any value"
    words = "any value"
    takes: tuple[type, ...] = (dict, list, str, bool, int, float, type(None))

    def check(self, value: object, where: Where, problems: Problems) -> Any:
        """Return a copy that JSON can carry."""
        return self._inner(value, where, problems)

    def schema(self) -> dict[str, Any]:
        """Return a schema of anything."""
        return {}


class ListOf(Kind):
    """Several values of one kind."""

    is_scalar = False

    takes: tuple[type, ...] = (list,)

    def __init__(self, kind: Kind, words: str, *, least: int = 0) -> None:
        self._kind = kind
        self._least = least
        self.words = words

    def check(self, value: object, where: Where, problems: Problems) -> Any:
        """Return the values; refused ones are noted one by one."""
        if not isinstance(value, list):
            hint = [f"[{shown(value)}]"] if isinstance(value, str) else []
            problems.add(
                where, f"{shown(value)} is not {self.words}", *(f"write a list: {h}" for h in hint)
            )
            return BAD
        if len(value) < self._least:
            problems.add(where, f"is empty; it has to be {self.words}")
            return BAD
        found = [
            BAD if isinstance(entry, Lost) else self._kind.check(entry, where.at(at), problems)
            for at, entry in enumerate(value)
        ]
        seen: set[str] = set()
        for at, entry in enumerate(found):
            if isinstance(entry, str) and entry in seen:
                problems.add(where.at(at), f"{quoted(entry)} stands here twice")
            elif isinstance(entry, str):
                seen.add(entry)
        return BAD if any(entry is BAD for entry in found) else found

    def schema(self) -> dict[str, Any]:
        """Return an array schema."""
        schema: dict[str, Any] = {"type": "array", "items": self._kind.schema()}
        if self._least:
            schema["minItems"] = self._least
        return schema


class Environment(Kind):
    """Names of environment variables and their values."""

    is_scalar = False

    brief = "table of variables"
    words = 'a table of variables, as { TZ = "UTC", WORKERS = 4 }'
    takes: tuple[type, ...] = (dict,)
    _OURS: tuple[str, ...] = (
        "HOLDFAST_",
        "LISTEN_FDS",
        "LISTEN_PID",
        "LISTEN_FDNAMES",
        "NOTIFY_SOCKET",
    )

    def check(self, value: object, where: Where, problems: Problems) -> Any:
        """Return name -> text."""
        if not isinstance(value, dict):
            return super().check(value, where, problems)
        found = {}
        for name, inner in value.items():
            at = where.at(name)
            if not _ENV_NAME.fullmatch(name):
                problems.add(at, f"{quoted(name)} cannot be the name of a variable", of_key=True)
            elif name.startswith(self._OURS):
                problems.add(at, f"{name} is set by Holdfast itself", of_key=True)
            elif (
                isinstance(inner, bool)
                or not isinstance(inner, str | int | float)
                or _is_huge(inner)
            ):
                problems.add(at, f"{shown(inner)} is not a text or a number", "put it in quotes")
            else:
                found[str(name)] = str(inner)
        return found

    def parse(self, value: object) -> Any:
        """Refuse what is not a table."""
        raise self.refuse(value)

    def schema(self) -> dict[str, Any]:
        """Return a schema of texts and numbers."""
        ours = "|".join(self._OURS)
        return {
            "type": "object",
            "propertyNames": {"pattern": f"^(?!{ours})[^=]+$"},
            "additionalProperties": {"type": ["string", "number"]},
        }


#: A drill's name, or a pattern of names.
_PATTERN = re.compile(r"[A-Za-z0-9*?_-]{1,80}")


class DurationsByName(Kind):
    """Names with a time each."""

    is_scalar = False

    brief = "table of times"
    words = 'a table of names and times, as { kill-worker = "250ms" }'
    takes: tuple[type, ...] = (dict,)
    _duration = Duration()

    def check(self, value: object, where: Where, problems: Problems) -> Any:
        """Return name -> seconds."""
        if not isinstance(value, dict):
            return super().check(value, where, problems)
        found = {}
        for name, inner in value.items():
            seconds = (
                BAD
                if isinstance(inner, Lost)
                else self._duration.check(inner, where.at(name), problems)
            )
            if not _PATTERN.fullmatch(name):
                says = f"{quoted(name)} is not a name of drills (letters, digits, - and _; * stands for any)"
                problems.add(where.at(name), says, of_key=True)
            elif seconds is not BAD:
                found[str(name)] = seconds
        return found

    def parse(self, value: object) -> Any:
        """Refuse what is not a table."""
        raise self.refuse(value)

    def schema(self) -> dict[str, Any]:
        """Return a schema of times."""
        return {
            "type": "object",
            "propertyNames": {"pattern": f"^{_PATTERN.pattern}$"},
            "additionalProperties": self._duration.schema(),
        }


class Short(Kind):
    """A short form of a table: one value, standing for a table with one key."""

    is_scalar = False

    def __init__(self, kind: Kind, key: str = "") -> None:
        self._kind = kind
        self._key = key
        self.words = kind.words
        self.takes = kind.takes

    def check(self, value: object, where: Where, problems: Problems) -> Any:
        """Return the table; without a key the value itself is the key (``ready = "notify"``)."""
        found = self._kind.check(value, where, problems)
        if found is BAD:
            return BAD
        return {self._key: found} if self._key else {str(found): True}

    def schema(self) -> dict[str, Any]:
        """Return the schema of the value."""
        return self._kind.schema()


class Either(Kind):
    """Two or three notations of one thing, told apart by their TOML types."""

    is_scalar = False

    def __init__(self, *kinds: Kind) -> None:
        self._kinds = kinds
        self.words = alternatives([kind.words for kind in kinds])
        self.takes = tuple(taken for kind in kinds for taken in kind.takes)

    def check(self, value: object, where: Where, problems: Problems) -> Any:
        """Return what the fitting notation makes of it."""
        for kind in self._kinds:
            if kind.fits(value):
                return kind.check(value, where, problems)
        problems.add(where, f"{shown(value)} is not {self.words}")
        return BAD

    def parse(self, value: object) -> Any:
        """Return what the fitting notation makes of it."""
        for kind in self._kinds:
            if kind.fits(value):
                return kind.parse(value)
        raise self.refuse(value)

    def schema(self) -> dict[str, Any]:
        """Return the alternatives."""
        return {"anyOf": [kind.schema() for kind in self._kinds]}


class Key:
    """One key of a table: everything that is known about it.

    Args:
        name: As it stands in the file and in the plan.
        kind: What it may be.
        doc: One or two sentences.
        default: As a person would write it in TOML, parsed by ``kind``; None when there is none.
        default_words: Where the default depends on something: says on what.
        only: The worker kind that it has a meaning for; empty for both.
        required: The table is of no use without it.
        also: What other tools call it: leads a newcomer to the right name.
        example: A value, in TOML.
    """

    __slots__ = (
        "also",
        "default",
        "default_words",
        "doc",
        "example",
        "kind",
        "name",
        "only",
        "required",
    )

    def __init__(
        self,
        name: str,
        kind: Kind,
        doc: str,
        *,
        default: object = None,
        default_words: str = "",
        only: str = "",
        required: bool = False,
        also: tuple[str, ...] = (),
        example: str = "",
    ) -> None:
        self.name = name
        self.kind = kind
        self.doc = doc
        self.default = default
        self.default_words = default_words
        self.only = only
        self.required = required
        self.also = also
        self.example = example


class Table(Kind):
    """A table with known keys.

    ``choose`` names keys of which exactly one has to be there (what a probe looks at).
    """

    is_scalar = False

    takes: tuple[type, ...] = (dict,)

    def __init__(
        self,
        title: str,
        doc: str,
        *keys: Key,
        choose: tuple[str, ...] = (),
        choose_words: str = "does not say what to look at",
        is_shared: bool = False,
    ) -> None:
        self.title = title
        self.doc = doc
        self.keys = {key.name: key for key in keys}
        self.choose = choose
        self._choose_words = choose_words
        #: The schema describes it once, under its title.
        self.is_shared = is_shared
        self.words = "a table"
        self._also = {other: key.name for key in keys for other in key.also}
        #: Keys that stand in another table, for those who put them here.
        self.elsewhere: dict[str, str] = {}
        self._defaults: dict[str, Any] | None = None

    @property
    def defaults(self) -> Mapping[str, Any]:
        """The defaults of all keys that have one, as the plan sees them. Do not change what is inside."""
        if self._defaults is None:
            self._defaults = {
                key.name: key.kind.parse(key.default)
                for key in self.keys.values()
                if key.default is not None
            }
        return self._defaults

    def filled(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return what was given, completed by the defaults."""
        return {**self.defaults, **given}

    def check(self, value: object, where: Where, problems: Problems) -> Any:
        """Return only the keys that were given and are right: unset is not the same as default."""
        if not isinstance(value, dict):
            problems.add(where, f"{shown(value)} is not a table", self._example())
            return BAD
        found: dict[str, Any] = {}
        for name, inner in value.items():
            key = self.keys.get(name)
            if key is None:
                self._unknown(name, where.at(name), problems, str(value.get("kind", "")))
                continue
            if isinstance(inner, Lost):
                continue
            kind = key.kind
            if kind.is_scalar:
                try:
                    found[name] = kind.parse(inner)
                except Wrong:
                    kind.check(inner, where.at(name), problems)  # says it
                continue
            checked = kind.check(inner, where.at(name), problems)
            if checked is not BAD:
                found[name] = checked
        for key in self.keys.values():
            if key.required and key.name not in value:
                problems.add(where, f'there is no "{key.name}" here: {key.kind.words}', _line(key))
        if self.choose:
            self._one_of(value, where, problems)
        return found

    def parse(self, value: object) -> Any:
        """Refuse: a table is checked in its place."""
        raise self.refuse(value)

    def schema(self) -> dict[str, Any]:
        """Return an object schema without room for unknown keys, or where it stands."""
        return {"$ref": f"#/$defs/{self.title}"} if self.is_shared else self.definition()

    def definition(self) -> dict[str, Any]:
        """Return the whole schema."""
        schema: dict[str, Any] = {"type": "object", "title": self.title, "description": self.doc}
        schema["properties"] = {key.name: key_schema(key) for key in self.keys.values()}
        schema["additionalProperties"] = False
        required = [key.name for key in self.keys.values() if key.required]
        if required:
            schema["required"] = required
        if self.choose:
            schema["oneOf"] = [{"required": [name]} for name in self.choose]
        return schema

    def unknown_hints(self, name: str, problems: Problems, sort: str = "") -> list[str]:
        """Return what to do about a key that does not exist; ``sort`` is the kind of worker that has it."""
        meant = self._also.get(name.lower().replace("-", "_"))
        if meant:
            guess = f'Did you mean "{meant}"?'
        elif name in self.elsewhere:
            guess = f"it belongs into {self.elsewhere[name]}"
        else:
            guess = problems.similar(name, list(self.keys))
        # What only a router has is of no use to the others, and there are many such keys.
        valid = sorted(
            key.name for key in self.keys.values() if key.only in ("", "container", "guest", sort)
        )
        return ([guess] if guess else []) + [listed("valid here:", valid)]

    def _unknown(self, name: str, where: Where, problems: Problems, sort: str) -> None:
        hints = self.unknown_hints(name, problems, sort)
        problems.add(where, "there is no such key", *hints, of_key=True)

    def _one_of(self, value: dict[str, object], where: Where, problems: Problems) -> None:
        chosen = [name for name in self.choose if name in value]
        if not chosen:
            problems.add(where, self._choose_words, listed("one of:", list(self.choose)))
        for name in chosen[1:]:
            problems.add(
                where.at(name), f'there can be only one of "{chosen[0]}" and "{name}"', of_key=True
            )

    def _example(self) -> str:
        key = next(iter(self.keys.values()))
        return f"write a table: {{ {_line(key)} }}"


class Named(Kind):
    """Tables of one sort by name: ``[worker.NAME]``.

    ``names`` is what a name may be; the names of realms, roles, paths and people are freer than those of workers. A table
    that the schema describes once, by ``ref``, is only named where it is used.
    """

    is_scalar = False

    takes: tuple[type, ...] = (dict,)

    def __init__(
        self,
        table: "Table | OneOf",
        *,
        names: re.Pattern[str] = NAME,
        names_words: str = NAME_WORDS,
        ref: bool = True,
    ) -> None:
        self.table = table
        self._names = names
        self._names_words = names_words
        self._ref = ref
        self.words = f"tables by name: [{table.title}.NAME]"
        self.brief = "tables by name"

    def check(self, value: object, where: Where, problems: Problems) -> Any:
        """Return name -> what was given; BAD for a table that is none."""
        title = self.table.title
        if not isinstance(value, dict):
            problems.add(
                where,
                f"{shown(value)} is not a table",
                f"write [{title}.NAME] above the keys of a {title}",
            )
            return BAD
        found: dict[str, Any] = {}
        for name, inner in value.items():
            at = where.at(name)
            if not self._names.fullmatch(name):
                says = f"{quoted(name)} is not a name: {self._names_words}"
                problems.add(at, says, of_key=True)
            elif (
                not isinstance(inner, dict)
                and name in self.table.keys
                and not isinstance(inner, Lost)
            ):
                says = f"there is no name in the header of this {title}"
                problems.add(at, says, f"write [{title}.NAME] above its keys", of_key=True)
            else:
                found[name] = (
                    BAD if isinstance(inner, Lost) else self.table.check(inner, at, problems)
                )
        return found

    def schema(self) -> dict[str, Any]:
        """Return a schema of named tables."""
        inner = {"$ref": f"#/$defs/{self.table.title}"} if self._ref else self.table.schema()
        return {
            "type": "object",
            "description": self.table.doc,
            "propertyNames": {
                "pattern": f"^(?:{self._names.pattern})$",
                "description": self._names_words,
            },
            "additionalProperties": inner,
        }


class OneOf(Kind):
    """A table with a key, ``kind`` or another one (``by``), that says which others it has."""

    is_scalar = False

    takes: tuple[type, ...] = (dict,)

    def __init__(
        self, title: str, doc: str, tables: "dict[str, Table]", *, by: str = "kind"
    ) -> None:
        self.title = title
        self.doc = doc
        self.tables = tables
        self.by = by
        self.keys = {by: next(iter(tables.values())).keys[by]}
        self.words = f"a table with a {by}"

    def check(self, value: object, where: Where, problems: Problems) -> Any:
        """Return what the table of this kind makes of it; BAD when the kind is not known."""
        if not isinstance(value, dict):
            hint = f'as {{ {self.by} = "{next(iter(self.tables))}", … }}'
            problems.add(where, f"{shown(value)} is not a table", hint)
            return BAD
        kind = value.get(self.by)
        if self.by not in value:
            problems.add(
                where,
                f'there is no "{self.by}" here',
                listed("one of:", [f'"{k}"' for k in self.tables]),
            )
            return BAD
        if isinstance(kind, Lost):
            return BAD
        if not isinstance(kind, str) or kind not in self.tables:
            guess = problems.similar(kind, list(self.tables)) if isinstance(kind, str) else ""
            hints = [guess] if guess else []
            hints.append(listed("one of:", [f'"{k}"' for k in self.tables]))
            problems.add(where.at(self.by), f"there is no {self.by} {shown(kind)}", *hints)
            return BAD
        return self.tables[kind].check(value, where, problems)

    def parse(self, value: object) -> Any:
        """Refuse: a table is checked in its place."""
        raise self.refuse(value)

    def schema(self) -> dict[str, Any]:
        """Return the alternatives."""
        return {"oneOf": [table.schema() for table in self.tables.values()]}


def key_schema(key: Key) -> dict[str, Any]:
    """Return the schema of a key with what a person wants to know of it."""
    schema = dict(key.kind.schema())
    description = key.doc + (f" Default: {key.default_words}." if key.default_words else "")
    schema["description"] = description
    if key.default is not None:
        schema["default"] = key.default
    return schema


def _is_huge(value: str | float) -> bool:
    # Python refuses to write a number of more than 4300 digits.
    return isinstance(value, int) and abs(value) >= 10**100


def _line(key: Key) -> str:
    return f"{key.name} = {key.example}" if key.example else f"{key.name} = …"
