"""Is what the configuration names written for Autobahn|Python, and not for us?

Told by the names of classes, so that nothing is imported for those who have no such components. What is one gets the
room next door, :mod:`holdfast.container.autobahn`, which does import it.
"""

import sys
from importlib.machinery import ModuleSpec

TYPE_CHECKING = False
if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from collections.abc import Sequence
    from types import ModuleType
    from typing import Any

#: Kinds of components: a class of sessions, a component object, a function that gets the session.
SESSION, COMPONENT, FUNCTION = "session", "component", "function"

_REACTOR = "twisted.internet.reactor"


def kind_of(found: object) -> str:
    """Return what it is to Autobahn, or ""."""
    cls = found if isinstance(found, type) else type(found)
    for base in cls.__mro__:
        home, name = base.__module__, base.__name__
        if not home.startswith("autobahn."):
            continue
        if isinstance(found, type) and name == "ApplicationSession":
            return SESSION
        if not isinstance(found, type) and name == "Component" and home.endswith(".component"):
            return COMPONENT
    return FUNCTION if _takes_a_session(found) else ""


def is_twisted(found: object) -> bool:
    """Tell whether it is made for Twisted: its classes, or else what its module has imported."""
    cls = found if isinstance(found, type) else type(found)
    homes = {base.__module__ for base in cls.__mro__}
    if any(home.startswith("autobahn.asyncio") for home in homes):
        return False
    if any(home.startswith("autobahn.twisted") for home in homes):
        return True
    return "autobahn.twisted.wamp" in sys.modules and "autobahn.asyncio.wamp" not in sys.modules


def _takes_a_session(found: object) -> bool:
    """Tell `def main(reactor, session)` and Crossbar.io's `def joined(session, details)` by their parameters."""
    from types import FunctionType

    if not isinstance(found, FunctionType):
        return False
    code = found.__code__
    names = code.co_varnames[: code.co_argcount]
    needed = len(names) - len(found.__defaults__ or ())
    return needed == 2 and names[:2] in (("reactor", "session"), ("session", "details"))


class _AsyncioReactor:
    """Makes Twisted's reactor one that runs on the container's loop, at the moment somebody imports it."""

    def __init__(self, loop: "AbstractEventLoop") -> None:
        self._loop = loop

    def find_spec(
        self,
        name: str,
        path: "Sequence[str] | None",  # noqa: ARG002 -- the finder's protocol
        target: "ModuleType | None" = None,  # noqa: ARG002 -- likewise
    ) -> ModuleSpec | None:
        loader: Any = self  # what typing wants of a loader costs an import
        return ModuleSpec(name, loader) if name == _REACTOR else None

    def create_module(self, spec: ModuleSpec) -> None:
        """Take Python's own empty module."""

    def exec_module(self, module: "ModuleType") -> None:
        """Put the reactor into the module's place: installing one means being in `sys.modules`."""
        from twisted.internet import asyncioreactor

        del sys.modules[module.__name__]
        asyncioreactor.install(self._loop)  # type: ignore[no-untyped-call,unused-ignore]
        # It has no loop of its own to run: what it wants to know is that it has started.
        reactor: Any = sys.modules[module.__name__]
        reactor.startRunning(installSignalHandlers=False)


def prepare_reactor(loop: "AbstractEventLoop") -> None:
    """See to it that Twisted, if anybody imports it, runs on ``loop``."""
    finder: Any = _AsyncioReactor(loop)
    sys.meta_path.insert(0, finder)
