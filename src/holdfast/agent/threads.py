"""Every thread is counted where it was started, and what is handed to an executor remembers who did it.

``Thread.start`` is wrapped. The new thread finds its cause in its own context: ``_set_ident`` is the first thing that it runs, and
leaves no frame of ours in its stack. Costs some microseconds a thread, which itself costs fifty.
"""

import sys
from _weakref import ref

from holdfast.agent.sites import ASKING, CAUSE, SITES, THREADS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def install(threading: "Any") -> None:
    """Count the threads that the module ``threading`` starts from now on."""
    thread_class = threading.Thread
    original, set_ident = thread_class.start, getattr(thread_class, "_set_ident", None)
    if hasattr(original, "holdfast_original"):
        return
    causes: dict[int, Any] = {}

    def start(self: "Any") -> None:
        node = SITES.node(THREADS, sys._getframe(1), _code_of(self))  # noqa: SLF001
        node.refs.add(ref(self, node.refs.discard))
        causes[id(self)] = node
        try:
            original(self)
        finally:
            causes.pop(id(self), None)

    start.__doc__ = original.__doc__
    start.__qualname__ = "Thread.start"
    start.holdfast_original = original  # type: ignore[attr-defined]
    thread_class.start = start

    if set_ident is None:
        return  # another implementation: the chain ends at the thread, everything else works

    def _set_ident(self: "Any") -> None:
        set_ident(self)
        # start() waits until the thread says that it runs, and that is later: the entry is still there.
        node = causes.get(id(self))
        if node is not None:
            CAUSE.set(node)

    thread_class._set_ident = _set_ident  # noqa: SLF001


def _code_of(thread: "Any") -> "Any":
    target = getattr(thread, "_target", None)
    return getattr(target, "__code__", None)


def install_executor(module: "Any") -> None:
    """What is submitted to a ``ThreadPoolExecutor`` runs with the cause of whoever submitted it.

    The work item is wrapped, not ``submit``: so no frame of ours is in the traceback of a failed call.
    """
    item = getattr(module, "_WorkItem", None)
    if item is None or hasattr(item.__init__, "holdfast_original"):
        return
    begin, original = item.__init__, item.run

    def __init__(self: "Any", *args: "Any", **kwargs: "Any") -> None:  # noqa: N807
        begin(self, *args, **kwargs)
        self.holdfast_cause = SITES.node(ASKING, sys._getframe(1))  # noqa: SLF001

    def run(self: "Any", *args: "Any", **kwargs: "Any") -> "Any":
        token = CAUSE.set(self.holdfast_cause)
        try:
            return original(self, *args, **kwargs)
        finally:
            CAUSE.reset(token)

    __init__.holdfast_original = begin  # type: ignore[attr-defined]
    item.__init__, item.run = __init__, run
