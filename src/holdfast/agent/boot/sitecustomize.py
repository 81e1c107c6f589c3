"""Brings Holdfast's agent into a Python program that the keeper started with ``agent = true``.

The keeper puts this directory in front of PYTHONPATH, so ``site`` imports this file; the program's own sitecustomize is imported
afterwards, as if nothing had been. Whatever goes wrong here is told on stderr and costs the program nothing.
"""

import sys


class _Finder:
    """Finds Holdfast's own package, and only that, and only where the program has none of its own."""

    @staticmethod
    def find_spec(name: str, _: object = None, target: object = None) -> object:
        if name != "holdfast":
            return None
        for finder in sys.meta_path:
            if getattr(finder, "__name__", "") == "PathFinder":
                return finder.find_spec(name, [_HOME], target)  # type: ignore[arg-type]
        return None


_HERE = __file__.rpartition("/")[0]
_HOME = _HERE.rsplit("/", 3)[0]


def _start() -> None:
    sys.path[:] = [entry for entry in sys.path if entry != _HERE]
    sys.meta_path.append(_Finder)  # type: ignore[arg-type]
    try:
        from holdfast.agent import guest

        guest.start()
    except Exception as error:  # noqa: BLE001 -- the program must run
        print(f"holdfast agent: does not start ({type(error).__name__}: {error})", file=sys.stderr)  # noqa: T201


def _chain() -> None:
    """Import the program's own sitecustomize, if it has one, in our place."""
    ours = sys.modules.pop("sitecustomize")
    try:
        import sitecustomize  # type: ignore[import-not-found]  # noqa: F401
    except ModuleNotFoundError as error:
        if error.name != "sitecustomize":
            raise
    finally:
        sys.modules.setdefault("sitecustomize", ours)


_start()
_chain()
