"""Have something done when a module is imported, without importing it.

A finder in front of all others lets them find the module, and wraps the loader of the few that we wait for. Nothing is kept of it in
the module: its ``__loader__`` and its spec are the real ones again once it is there.
"""

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    Then = Callable[[Any], None]

_waiting: "dict[str, list[Then]]" = {}


class _Loader:
    """Runs the real loader, then what was asked for."""

    def __init__(self, real: "Any", name: str) -> None:
        self._real = real
        self._name = name

    def __getattr__(self, name: str) -> "Any":
        return getattr(self._real, name)

    def create_module(self, spec: "Any") -> "Any":
        return self._real.create_module(spec)

    def exec_module(self, module: "Any") -> None:
        spec = getattr(module, "__spec__", None)
        module.__loader__ = self._real
        if spec is not None:
            spec.loader = self._real
        self._real.exec_module(module)
        _call(self._name, module)


class _Finder:
    """Finds nothing itself."""

    @staticmethod
    def find_spec(name: str, path: "Any" = None, target: "Any" = None) -> "Any":
        if name not in _waiting:
            return None
        for finder in sys.meta_path:
            if finder is _Finder or (find := getattr(finder, "find_spec", None)) is None:
                continue
            spec = find(name, path, target)
            if spec is not None:
                if hasattr(spec.loader, "exec_module"):
                    spec.loader = _Loader(spec.loader, name)
                return spec
        return None


def after_import(name: str, then: "Then") -> None:
    """Call ``then(module)`` when the module is there; at once when it is already."""
    module = sys.modules.get(name)
    if module is not None and not getattr(
        getattr(module, "__spec__", None), "_initializing", False
    ):
        _try(name, then, module)
        return
    if _Finder not in sys.meta_path:
        sys.meta_path.insert(0, _Finder)
    _waiting.setdefault(name, []).append(then)


def _call(name: str, module: "Any") -> None:
    for then in _waiting.pop(name, ()):
        _try(name, then, module)


def _try(name: str, then: "Then", module: "Any") -> None:
    try:
        then(module)
    except Exception as error:  # noqa: BLE001 -- another version of that module: less detail, and the program runs on
        tell(
            f"does not know this version of {name} ({type(error).__name__}: {error}); goes on with less detail"
        )


def tell(says: str) -> None:
    """Say something in the program's log, once for each occasion."""
    import os

    try:
        os.write(2, f"holdfast agent: {says}\n".encode())
    except OSError:
        return  # it has no stderr: nobody could read it
