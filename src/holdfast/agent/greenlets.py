"""Every greenlet is counted where it was spawned, in programs that use gevent or eventlet.

gevent tells of each spawn by a callback of its own; eventlet's class is wrapped. Bare greenlets are not counted: ``greenlet.settrace`` costs
every switch, and looking through all objects for them costs a pause of the program.
"""

import sys
from _weakref import ref

from holdfast.agent.sites import GREENLETS, SITES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def install_gevent(module: "Any") -> None:
    """Count what gevent spawns (``gevent.greenlet``)."""
    module.Greenlet.add_spawn_callback(_spawned)


def install_eventlet(module: "Any") -> None:
    """Count what eventlet spawns (``eventlet.greenthread``)."""
    original = module.GreenThread.__init__
    if hasattr(original, "holdfast_original"):
        return

    def __init__(self: "Any", *args: "Any", **kwargs: "Any") -> None:  # noqa: N807
        original(self, *args, **kwargs)
        _spawned(self)

    __init__.holdfast_original = original  # type: ignore[attr-defined]
    module.GreenThread.__init__ = __init__


def _spawned(greenlet: "Any") -> None:
    run = getattr(greenlet, "_run", None)
    node = SITES.node(GREENLETS, sys._getframe(1), getattr(run, "__code__", None))  # noqa: SLF001
    node.refs.add(ref(greenlet, node.refs.discard))
