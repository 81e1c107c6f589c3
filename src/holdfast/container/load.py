"""From ``use = "package.module:attribute"`` to something that can be hosted.

A mistake in the configuration gets one line with the nearest name that exists, never a traceback. An exception that
the imported module raises itself is not ours to explain: it is passed on. Re-importing for a micro-reboot lives here as well.
"""

import importlib
import os
import sys
from types import FunctionType, MethodType, ModuleType

from holdfast.container import foreign
from holdfast.sdk.component import Component

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any


class Refused(Exception):  # noqa: N818 -- reads as what it says
    """The configuration names something that cannot be hosted; the message is for its author."""


def load(name: str, use: str) -> Component:
    """Import what ``use`` names and make a component of it.

    Raises:
        Refused: There is no such module or attribute, or it is of the wrong type.
        BaseException: Whatever the module raises while it is imported.
    """
    module_name, colon, path = use.partition(":")
    if not colon or not path or not all(module_name.split(".")):
        raise _refused(name, f'use = "{use}" has to look like "package.module:attribute"')
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        missing = error.name or ""
        if module_name == missing or module_name.startswith(missing + "."):
            says = f'there is no module "{missing}" (use = "{use}"). {_nearest_module(missing)}'
            raise _refused(name, says) from None
        raise
    found: object = module
    for at, part in enumerate(path.split(".")):
        try:
            found = getattr(found, part)
        except AttributeError:
            where = ".".join([module_name, *path.split(".")[:at]])
            nearest = _nearest(part, _usable(found) or dir(found))
            hint = f'Did you mean "{nearest}"?' if nearest else _usable_hint(found)
            says = f'there is no "{part}" in {where} (use = "{use}"). {hint}'
            raise _refused(name, says) from None
    return _adapt(name, use, found, module)


def _refused(name: str, says: str) -> Refused:
    return Refused(f'component "{name}": {says.rstrip()}')


def _adapt(name: str, use: str, found: object, module: ModuleType) -> Component:
    if isinstance(found, Component):
        return found
    kind = foreign.kind_of(found)
    if kind:
        from holdfast.container.autobahn import component_of

        return component_of(name, found, kind)
    wanted = "a Component, a function, or a class with a run method"
    run = getattr(found, "run", None)
    if isinstance(found, type):
        if not callable(run):
            raise _refused(name, f'"{use}" is a class without a run method; it has to be {wanted}')
        _check_needs_nothing(name, use, found, "is a class whose constructor needs arguments")
        return _task_of(name, use, found().run)
    if callable(run) and not isinstance(found, FunctionType | MethodType | ModuleType):
        return _task_of(name, use, run)
    if callable(found):
        return _task_of(name, use, found)
    called = type(found).__name__
    an = "an" if called[:1] in "aeiou" else "a"
    hint = _usable_hint(found if isinstance(found, ModuleType) else module)
    raise _refused(name, f'"{use}" is {an} {called}; it has to be {wanted}. {hint}')


def _task_of(name: str, use: str, function: "Any") -> Component:
    _check_needs_nothing(name, use, function, "needs arguments")
    app = Component(name)
    app.task(function)
    return app


def _check_needs_nothing(name: str, use: str, function: "Any", trouble: str) -> None:
    from inspect import signature

    try:
        signature(function).bind()
    except TypeError as error:
        says = f'"{use}" {trouble} ({error}); it is called without any'
        raise _refused(name, says) from None
    except ValueError:
        return  # a builtin without a signature: calling it will tell


def _usable(where: object) -> "list[str]":
    """Names in a module that could be hosted: what somebody who mistyped one most likely meant."""
    public = [(key, value) for key, value in vars(where).items() if not key.startswith("_")]
    home = getattr(where, "__name__", None)
    apps = [key for key, value in public if isinstance(value, Component)]
    return apps + [
        key
        for key, value in public
        if callable(value) and getattr(value, "__module__", None) == home and key not in apps
    ]


def _usable_hint(where: object) -> str:
    apps = [key for key in _usable(where) if isinstance(getattr(where, key), Component)]
    if not apps:
        return ""
    return f'Did you mean "{getattr(where, "__name__", "")}:{apps[0]}"?'


def _nearest_module(missing: str) -> str:
    package, _, last = missing.rpartition(".")
    places = list(getattr(sys.modules.get(package), "__path__", [])) if package else sys.path
    names: set[str] = set()
    for place in places:
        try:
            entries = os.listdir(place or ".")
        except OSError:
            continue
        names.update(entry.removesuffix(".py") for entry in entries if "." not in entry.removesuffix(".py"))  # fmt: skip
    nearest = _nearest(last, names)
    if nearest:
        return f'Did you mean "{package + "." if package else ""}{nearest}"?'
    return f"Looked in {places[0]} first." if places else ""


def _nearest(word: str, names: "Iterable[str]") -> str:
    from difflib import get_close_matches

    found = get_close_matches(word, list(names), n=1, cutoff=0.5)
    return found[0] if found else ""


# -- micro-reboot ----------------------------------------------------------------------------------


def reload(
    name: str, use: str, others: "list[str]", imported_ns: int
) -> "tuple[Component, list[str]]":
    """Import the component's code anew and return the component with the names of the modules.

    Anew: its own module with its submodules, and those modules of its package whose file has changed since
    ``imported_ns``, except the modules of other components. When the new code cannot be
    imported, the old modules are put back and the exception is passed on: the component that runs is untouched.

    Args:
        name: The component.
        use: What the plan says.
        others: The ``use`` of each other component in this process.
        imported_ns: Wall clock of the last import, in nanoseconds.
    """
    own = use.partition(":")[0]
    other_modules = {other.partition(":")[0] for other in others}
    old = {
        key: module
        for key, module in sys.modules.items()
        if _belongs(key, own, other_modules)
        and (_inside(key, own) or _changed(module, imported_ns))
    }
    if own in other_modules and own in sys.modules:
        # Two components of one module: taking it away from the other is not our right, so this one gets
        # a copy of its own and the other keeps the old one in sys.modules.
        old[own] = sys.modules[own]
    for key, module in old.items():
        if _changed(module, imported_ns):
            _forget_bytecode(module)
        _take_away(key)
    importlib.invalidate_caches()
    try:
        app = load(name, use)
    except BaseException:
        new = [
            key for key in sys.modules if _inside(key, own) and _belongs(key, own, other_modules)
        ]
        for key in {*new, *old} & sys.modules.keys():
            _take_away(key)
        _put_back(old)
        raise
    if own in other_modules:
        _put_back({own: old[own]})
    return app, sorted(old)


def _inside(module: str, package: str) -> bool:
    return module == package or module.startswith(package + ".")


def _belongs(key: str, own: str, others: "set[str]") -> bool:
    """Tell whether the module is the component's to replace: in its package, and nobody else's."""
    if any(_inside(key, other) and not _inside(own, other) for other in others) or key in others:
        return False
    package = own.rpartition(".")[0]
    return _inside(key, own) or (package != "" and key.startswith(package + "."))


def _changed(module: ModuleType, since_ns: int) -> bool:
    """Compare the file's change time: unlike the modification time no tool sets it back."""
    try:
        return os.stat(module.__file__ or "").st_ctime_ns >= since_ns
    except (AttributeError, OSError):
        return False


def _forget_bytecode(module: ModuleType) -> None:
    """Remove the cached bytecode: it is checked by seconds and size, too coarse for edit and restart."""
    cached = getattr(module.__spec__, "cached", None)
    if cached:
        try:
            os.unlink(cached)
        except OSError:
            return


def _take_away(key: str) -> None:
    """Forget a module, and its package's attribute: `from package import module` looks there first."""
    module = sys.modules.pop(key)
    package, _, last = key.rpartition(".")
    if package in sys.modules and getattr(sys.modules[package], last, None) is module:
        delattr(sys.modules[package], last)


def _put_back(modules: "dict[str, ModuleType]") -> None:
    for key, module in modules.items():
        sys.modules[key] = module
        package, _, last = key.rpartition(".")
        if package in sys.modules:
            setattr(sys.modules[package], last, module)
