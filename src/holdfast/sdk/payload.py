"""Does a payload fit the function that takes it, and how does a typed value travel?

The annotations of a procedure's or a topic handler's parameters say what fits: dataclasses, msgspec.Struct, TypedDict, NamedTuple,
enums, datetime, UUID, containers of these, and classes with pydantic's `model_validate`. The check is compiled once, when the
component starts; a function without annotations has none and pays nothing. A value is never bent to fit: `"5"` is no int.
Left out: checking results (the author's own code makes them).
"""

from inspect import Parameter, signature
from typing import TYPE_CHECKING, Any, get_type_hints

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

#: What every serializer carries as it is; containers are looked into.
_ATOMS = frozenset({str, int, float, bool, type(None), bytes})
_BYTES = (bytes, bytearray, memoryview)


class Mismatch(ValueError):  # noqa: N818 -- reads as what it says
    """What came does not fit; the message names function, argument and trouble."""


class Unusable(TypeError):  # noqa: N818 -- reads as what it says
    """An annotation cannot be used for checking; the message is for the author of the function."""


def plain(value: object) -> Any:
    """Return the value in the types that every serializer knows: a dataclass as a dict, a UUID as text.

    Raises:
        TypeError: It is, or contains, something that has no such form.
    """
    if type(value) in _ATOMS:
        return value
    return msgspec.to_builtins(value, builtin_types=_BYTES, str_keys=True, enc_hook=_encode)


def plain_all(args: "Sequence[object]") -> "list[Any]":
    """Return :func:`plain` of each value."""
    return [value if type(value) in _ATOMS else plain(value) for value in args]


def settings_of(given: "Mapping[str, object]", wanted: Any, key: str) -> Any:
    """Return the settings as an object of the type ``wanted``.

    Args:
        given: What the configuration says.
        wanted: A dataclass, msgspec.Struct, TypedDict or a class with `model_validate`.
        key: Where these settings stand in the configuration, `component.NAME.settings`.

    Raises:
        Mismatch: They do not fit; the message names the key.
        Unusable: The type cannot be used for this.
    """
    says = f"{key}: Component(settings={getattr(wanted, '__name__', wanted)})"
    try:
        value = msgspec.convert(dict(given), wanted, str_keys=True, dec_hook=_decode)
    except msgspec.ValidationError as error:
        where, what = _explain(error)
        raise Mismatch(f"{key}{'.' + where if where else ''}: {what}") from None
    except TypeError as error:
        raise Unusable(f"{says}: {error}") from None
    unknown = [name for name in given if name not in _fields(wanted, given)]
    if unknown:
        has = ", ".join(sorted(_fields(wanted, given))) or "none"
        raise Mismatch(f"{key}.{unknown[0]}: there is no such setting; known: {has}")
    return value


def _fields(wanted: Any, given: "Mapping[str, object]") -> "set[str]":
    """Return the names that ``wanted`` knows; a type that keeps its fields to itself knows all of them."""
    for holder in ("__struct_encode_fields__", "__dataclass_fields__", "model_fields"):
        names = getattr(wanted, holder, None)
        if names is not None:
            return set(names)
    annotations = getattr(wanted, "__annotations__", None)
    return set(annotations) if annotations is not None else set(given)


class Check:
    """Fits the arguments of a message to the parameters of one function."""

    __slots__ = ("_keywords", "_model", "_name", "_names", "_takes_any_keyword", "_takes_more")

    def __init__(
        self, name: str, parameters: "Sequence[Parameter]", hints: "dict[str, Any]"
    ) -> None:
        self._name = name
        self._names = tuple(p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD))  # fmt: skip
        self._keywords = tuple(p.name for p in parameters if p.kind == p.KEYWORD_ONLY)
        self._takes_more = any(p.kind == p.VAR_POSITIONAL for p in parameters)
        self._takes_any_keyword = any(p.kind == p.VAR_KEYWORD for p in parameters)
        by_name = {p.name: p for p in parameters}
        # p0, p1, …: a parameter may have a name that a struct's own attributes have.
        fields = [
            (f"p{at}", hints.get(key, Any), _field(key, by_name[key].default))
            for at, key in enumerate(self._names + self._keywords)
        ]
        self._model = msgspec.defstruct(f"arguments of {name}", fields, kw_only=True, gc=False)
        try:
            # msgspec compiles at the first use: an annotation that it cannot check is found out now.
            msgspec.convert({}, self._model, str_keys=True, dec_hook=_decode)
        except msgspec.ValidationError:
            pass  # parameters without defaults are missing, of course
        except (TypeError, RuntimeError) as error:
            raise Unusable(f"{name}: an annotation cannot be checked: {error}") from None

    def __call__(
        self, args: "Sequence[Any]", kwargs: "dict[str, Any]"
    ) -> "tuple[Sequence[Any], dict[str, Any]]":
        """Return positional and keyword arguments for the function.

        Raises:
            Mismatch: They do not fit.
        """
        names = self._names
        more: Sequence[Any] = ()
        if len(args) > len(names):
            if not self._takes_more:
                most = f"{len(names)} argument{'s' if len(names) != 1 else ''}"
                raise Mismatch(f"{self._name} takes at most {most} by position, got {len(args)}")
            more = args[len(names) :]
        given = dict(zip(names, args, strict=False))
        rest: dict[str, Any] = {}
        if kwargs:
            rest = self._by_name(given, kwargs)
        try:
            fitted = msgspec.convert(given, self._model, str_keys=True, dec_hook=_decode)
        except msgspec.ValidationError as error:
            where, what = _explain(error)
            says = f'argument "{where}": {what}' if where else what
            raise Mismatch(f"{self._name}: {says}") from None
        values = msgspec.structs.astuple(fitted)
        if self._keywords:
            rest.update(zip(self._keywords, values[len(names) :], strict=True))
            values = values[: len(names)]
        return (*values, *more) if more else values, rest

    def _by_name(self, given: "dict[str, Any]", kwargs: "dict[str, Any]") -> "dict[str, Any]":
        """Sort keyword arguments into ``given``; those of a ``**parameter`` are returned."""
        rest = {}
        for key, value in kwargs.items():
            if key in given:
                raise Mismatch(
                    f'{self._name}: argument "{key}" came twice, by position and by name'
                )
            if key in self._names or key in self._keywords:
                given[key] = value
            elif self._takes_any_keyword:
                rest[key] = value
            else:
                known = ", ".join(self._names + self._keywords) or "none"
                raise Mismatch(f'{self._name}: there is no argument "{key}"; known: {known}')
        return rest


def check_of(
    name: str, function: "Callable[..., Any]", without: "Collection[str]" = ()
) -> Check | None:
    """Compile the check of a function's parameters; None: nothing in it says what fits.

    Args:
        name: What the function is called in errors.
        function: The procedure or handler.
        without: Parameters that no sender fills in.

    Raises:
        Unusable: An annotation cannot be resolved or checked.
    """
    try:
        parameters = [p for p in signature(function).parameters.values() if p.name not in without]
    except ValueError:
        return None  # made in C: it checks by itself
    annotated = [p for p in parameters if p.annotation is not Parameter.empty]
    if not any(p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD) for p in annotated):
        return None
    try:
        hints = get_type_hints(_home(function), include_extras=True)
    except NameError as error:
        says = (
            f"{name}: an annotation of {getattr(function, '__qualname__', function)} names {error.name!r}, which its "
            f"module does not have at run time; import it outside `if TYPE_CHECKING`"
        )
        raise Unusable(says) from None
    hints = {key: hint for key, hint in hints.items() if hint is not object}
    return Check(name, parameters, hints)


def _home(function: "Callable[..., Any]") -> "Callable[..., Any]":
    """Return what carries the annotations: of an object that can be called, its method."""
    if hasattr(function, "__annotations__"):
        return function
    return type(function).__call__


def _field(name: str, default: Any) -> Any:
    if default is Parameter.empty:
        return msgspec.field(name=name)
    return msgspec.field(name=name, default_factory=lambda: default)


def _decode(wanted: Any, value: object) -> object:
    """Make a value of a type that msgspec does not know."""
    validate = getattr(wanted, "model_validate", None)
    if validate is not None:
        return validate(value)
    if isinstance(wanted, type) and isinstance(value, wanted):
        return value
    name = getattr(wanted, "__qualname__", wanted)
    # A TypeError would read as the sender's mistake.
    raise NotImplementedError(f"nothing is known about how {name} travels")


def _encode(value: object) -> object:
    dump = getattr(value, "model_dump", None)
    if dump is not None:
        return dump(mode="json")
    says = f"a value of the type {type(value).__qualname__} cannot travel: make it a dataclass, a dict or text"
    raise TypeError(says)


def _explain(error: msgspec.ValidationError) -> tuple[str, str]:
    """Take a message of msgspec apart: (where, as `card.tags[2]`; what is wrong)."""
    what, _, path = str(error).partition(" - at `$")
    where = path.removesuffix("`").lstrip(".")
    missing = what.removeprefix("Object missing required field `")
    if missing != what:
        name = missing.removesuffix("`")
        return (f"{where}.{name}" if where else name), "is missing"
    return where, what[:1].lower() + what[1:].replace("`", "")
