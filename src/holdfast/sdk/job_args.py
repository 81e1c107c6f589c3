"""Do the arguments fit the job's function, and how do they travel?

They are checked where the job is enqueued, by the very steps that a worker takes when it unpacks them (JSON, then the annotations:
:mod:`holdfast.sdk.payload`): what was accepted here is accepted there. Annotated parameters may be whatever msgspec turns into JSON and
back: datetime, UUID, Decimal, bytes, dataclass, Struct, enums. One without an annotation takes plain JSON values only, because nothing would turn
them back.
"""

from inspect import Parameter, signature
from math import isfinite
from typing import TYPE_CHECKING, Any, get_type_hints

import msgspec

from holdfast.sdk.payload import Mismatch, Unusable, check_of, plain

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from holdfast.sdk.payload import Check

#: What JSON carries as it is, whatever its value.
_ATOMS = frozenset({str, int, bool, type(None)})
_SHOWN = 80

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode


class JobArgumentsError(ValueError):
    """Arguments do not fit a job's function; the message names job, parameter, type and value."""


class Arguments:
    """The parameters of one job's function. The annotations are looked at when they are first needed: they may name what is defined further down."""

    __slots__ = ("_accepts", "_all_of_them", "_check", "_function", "_is_ready", "_keywords", "_least", "_most", "_name", "_names", "_quick", "_quick_decode", "_returns",
                 "_takes_any_keyword", "_takes_more", "_typed")  # fmt: skip

    def __init__(self, name: str, function: "Callable[..., Any]") -> None:
        self._name = name
        self._function = function
        parameters = list(signature(function).parameters.values())
        by_position = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]  # fmt: skip
        self._all_of_them = parameters
        self._names = tuple(p.name for p in by_position)
        self._accepts = {p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}  # fmt: skip
        self._keywords = {p.name for p in parameters if p.kind == p.KEYWORD_ONLY}
        self._takes_more = any(p.kind == p.VAR_POSITIONAL for p in parameters)
        self._takes_any_keyword = any(p.kind == p.VAR_KEYWORD for p in parameters)
        needed = [p.name for p in by_position if p.default is Parameter.empty]
        must_name = any(p.kind == p.KEYWORD_ONLY and p.default is Parameter.empty for p in parameters)  # fmt: skip
        #: With so many positional arguments, and no others, the call is complete.
        self._least = 1 << 62 if must_name else len(needed)
        self._most = 1 << 62 if self._takes_more else len(self._names)
        self._check: Check | None = None
        self._typed: frozenset[str] = frozenset()
        self._quick: Any = None
        self._quick_decode: Callable[[bytes], Any]
        self._returns: Any = None
        self._is_ready = False

    @property
    def is_callable_without(self) -> bool:
        """Whether it can be called without any argument."""
        return self._least == 0

    def prepare(self) -> None:
        """Compile the check of the annotations; does nothing the second time.

        Raises:
            Unusable: An annotation cannot be resolved or checked.
        """
        if self._is_ready:
            return
        self._check = check_of(self._name, self._function)
        try:
            hints = get_type_hints(self._function, include_extras=True)
        except (NameError, TypeError):
            hints = {}  # only that of the result is wrong: `check_of` would have said so
        self._typed = frozenset(
            name for name, hint in hints.items() if hint not in (Any, object)
        )  # fmt: skip
        self._returns = hints.get("return", Any)
        if self._check is not None:
            kinds = {name: Any if hint is object else hint for name, hint in hints.items()}
            self._quick = _quick(self._name, self._all_of_them, kinds)
            self._quick_decode = msgspec.json.Decoder(self._quick).decode
        self._is_ready = True

    def pack(
        self, args: "tuple[Any, ...]", kwargs: "dict[str, Any]"
    ) -> "tuple[bytes, dict[str, Any]]":
        """Return the positional arguments as a JSON array, and those that have to be named as plain values.

        Raises:
            JobArgumentsError: They do not fit.
            Unusable: An annotation cannot be resolved or checked.
        """
        if not self._is_ready:
            self.prepare()
        try:
            if kwargs or not self._least <= len(args) <= self._most:
                args, kwargs = self._sorted(args, kwargs)
                kwargs = {name: self._plain(name, value) for name, value in kwargs.items()}
            for value in args:
                if type(value) not in _ATOMS:
                    args = self._plain_all(args)
                    break
            packed = _encode(args)
            if b"null" in packed:
                self._check_finite(zip(self._names, args, strict=False))
            named = {}
            if kwargs:
                self._check_finite(kwargs.items())
                named = _decode(_encode(kwargs))
            if self._check is not None and (kwargs or not self._fits(packed)):
                self._check(_decode(packed), named)
        except Mismatch as error:
            raise JobArgumentsError(self._with_value(str(error), args, kwargs)) from None
        except UnicodeEncodeError:
            raise self._wrong("a text has half a surrogate pair in it, which JSON cannot carry") from None  # fmt: skip
        except RecursionError:
            raise self._wrong("an argument is nested too deeply, or contains itself") from None
        return packed, kwargs

    def bind(
        self, args: "list[Any]", kwargs: "dict[str, Any]"
    ) -> "tuple[list[Any] | tuple[Any, ...], dict[str, Any]]":
        """Return what the function is called with, of what came with a job.

        Raises:
            JobArgumentsError: It does not fit (it was enqueued by a program of another version, or by a stranger).
            Unusable: An annotation cannot be resolved or checked.
        """
        if not self._is_ready:
            self.prepare()
        if self._check is None:
            if kwargs or not self._least <= len(args) <= self._most:
                self._sorted(tuple(args), kwargs)
            return args, kwargs
        if not kwargs and self._least <= len(args) <= len(self._names):
            try:
                return msgspec.structs.astuple(msgspec.convert(args, self._quick)), kwargs
            except (ValueError, TypeError, NotImplementedError):
                pass  # the check below knows more types, and says what is wrong
        try:
            fitted, named = self._check(args, kwargs)
        except Mismatch as error:
            raise JobArgumentsError(self._with_value(str(error), args, kwargs)) from None
        return tuple(fitted), named

    def result(self, value: "Any") -> "Any":
        """Return a result as the function returned it, as far as its annotation tells: a dataclass is one again."""
        self.prepare()
        if self._returns in (Any, None):
            return value
        try:
            return msgspec.convert(value, self._returns, str_keys=True)
        except (msgspec.ValidationError, TypeError, NotImplementedError):
            return value  # annotated as what it is not, or as what cannot be made: as it came

    def pack_result(self, value: "Any") -> bytes:
        """Return a result as JSON.

        Raises:
            JobArgumentsError: It cannot be kept.
        """
        packed = b""
        try:
            made = plain(value)
            packed = _encode(made)
            trouble = not_finite(made) if b"null" in packed else None
        except (TypeError, UnicodeEncodeError) as error:
            trouble = str(error)
        except RecursionError:
            trouble = "it is nested too deeply, or contains itself"
        if trouble is not None:
            says = f"{self._name}: its result ({_shown(value)}) cannot be kept: {trouble}"
            raise JobArgumentsError(says)
        return packed

    def _check_finite(self, given: "Iterable[tuple[str, Any]]") -> None:
        for name, value in given:
            trouble = not_finite(value)
            if trouble is not None:
                raise self._wrong(f'argument "{name}": {trouble} (value: {_shown(value)})')

    def _fits(self, packed: bytes) -> bool:
        """Say whether these are certainly right: a look of half a microsecond, which is enough nearly always."""
        try:
            self._quick_decode(packed)
        except (ValueError, TypeError, NotImplementedError):
            return False
        return True

    def _sorted(
        self, args: "tuple[Any, ...]", kwargs: "dict[str, Any]"
    ) -> "tuple[tuple[Any, ...], dict[str, Any]]":
        """Move named arguments into their positions, as far as there is no gap; refuse what does not fit."""
        names = self._names
        if len(args) > self._most:
            raise self._wrong(f"takes {self._so_many()}, got {len(args)}")
        for name in kwargs:
            if name in names[: len(args)] and name in self._accepts:
                raise self._wrong(f'argument "{name}" came twice, by position and by name')
            if name not in self._accepts and not self._takes_any_keyword:
                known = ", ".join(p.name for p in self._all_of_them) or "none"
                raise self._wrong(f'there is no argument "{name}"; known: {known}')
        left = dict(kwargs)
        moved = list(args)
        while len(moved) < len(names) and names[len(moved)] in left:
            if names[len(moved)] not in self._accepts:
                break
            moved.append(left.pop(names[len(moved)]))
        for at, parameter in enumerate(self._all_of_them):
            is_there = parameter.name in left or (parameter.name in names and at < len(moved))
            if parameter.default is Parameter.empty and not is_there and parameter.name in (*names, *self._keywords):  # fmt: skip
                raise self._wrong(f'argument "{parameter.name}" is missing')
        return tuple(moved), left

    def _plain_all(self, args: "tuple[Any, ...]") -> "tuple[Any, ...]":
        names = self._names
        return tuple(
            value
            if type(value) in _ATOMS
            else self._plain(names[at] if at < len(names) else at + 1, value)
            for at, value in enumerate(args)
        )

    def _plain(self, name: "str | int", value: "Any") -> "Any":
        """Return one argument, by its name or its number, in the types of JSON."""
        where = f'argument "{name}"' if isinstance(name, str) else f"argument {name}"
        if name not in self._typed:
            trouble = _foreign(value)
            if trouble is not None:
                way = (
                    "annotate the parameter with its type and it is turned back, or pass a text"
                    if name in self._accepts and "type" in trouble
                    else "pass a text, or other values of JSON: numbers, lists, dicts with texts as keys, True, False, None"
                )
                raise self._wrong(
                    f"{where}: {trouble}, which JSON does not have (value: {_shown(value)})\n  {way}"
                )
            return value
        try:
            return plain(value)
        except TypeError as error:
            raise self._wrong(f"{where}: {error}") from None

    def _wrong(self, says: str) -> JobArgumentsError:
        return JobArgumentsError(f"{self._name}: {says}")

    def _so_many(self) -> str:
        most = len(self._names)
        least = sum(1 for p in self._all_of_them if p.name in self._names and p.default is Parameter.empty)  # fmt: skip
        shown = f"{least} to {most}" if least != most else f"{most}"
        return f"{shown} argument{'s' if most != 1 else ''} by position"

    def _with_value(self, says: str, args: "Any", kwargs: "Mapping[str, Any]") -> str:
        """Add the value to a message about an argument."""
        _, found, rest = says.partition('argument "')
        name = rest.partition('"')[0].partition(".")[0].partition("[")[0]
        given = {**dict(zip(self._names, args, strict=False)), **kwargs}
        if not found or name not in given:
            return says
        return f"{says} (value: {_shown(given[name])})"


def _quick(name: str, parameters: "list[Parameter]", hints: "dict[str, Any]") -> "Any":
    """Return the positional parameters as a type that msgspec fits a whole array to."""
    fields = [
        (f"p{at}", hints.get(p.name, Any)) if p.default is Parameter.empty
        else (f"p{at}", hints.get(p.name, Any), msgspec.field(default_factory=_always(p.default)))
        for at, p in enumerate(parameters)
        if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
    ]  # fmt: skip
    return msgspec.defstruct(f"arguments of {name}", fields, array_like=True, gc=False)


def _always(value: "Any") -> "Callable[[], Any]":
    return lambda: value


def _foreign(value: "Any") -> "str | None":
    """Say what in a value JSON does not have; None: it has all of it."""
    kind = type(value)
    if kind in _ATOMS:
        return None
    if kind is float:
        return None if isfinite(value) else f"it is {value}"
    if kind in (list, tuple):
        return next((trouble for item in value if (trouble := _foreign(item))), None)
    if kind is dict:
        if not all(type(key) is str for key in value):
            return "it is a dict with keys that are no text"
        return next((trouble for item in value.values() if (trouble := _foreign(item))), None)
    return f"it is, or contains, a value of the type {kind.__qualname__}"


def not_finite(value: "Any") -> "str | None":
    """Say what number in a plain value JSON would turn into null; None: there is none."""
    kind = type(value)
    if kind is float:
        return None if isfinite(value) else f"JSON has no {value}; pass None, or a text"
    if kind in (list, tuple):
        return next((trouble for item in value if (trouble := not_finite(item))), None)
    if kind is dict:
        return next((trouble for item in value.values() if (trouble := not_finite(item))), None)
    return None


def _shown(value: "Any") -> str:
    try:
        text = repr(value)
    except Exception as error:  # noqa: BLE001 -- code of the application, in the middle of an error message
        text = f"a {type(value).__name__} whose repr raises {type(error).__name__}"
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"


__all__ = ["Arguments", "JobArgumentsError", "Unusable", "not_finite"]
