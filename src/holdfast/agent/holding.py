"""Who has what others wait for: which line of the program took a connection, or entered a semaphore, and has not given it back?

Asked by the plain thread when several have waited for a while (:mod:`holdfast.agent.waiting`), and answered from what is there anyway: the frames
of all tasks and threads that do not wait themselves. Whoever has a connection of that pool among its local variables, or stands inside ``async with`` of
that very semaphore, has it. What was taken and is in no frame any more (kept in a list, forgotten) was taken where
:data:`TAKEN` says: the calls by which the usual pools give and take back are noted, a microsecond each.
"""

import sys
from gc import get_referents
from types import MethodType

from holdfast.agent import tasks, tasktree
from holdfast.agent.calls import is_own_frame
from holdfast.agent.imports import after_import
from holdfast.agent.sites import place

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import CodeType, FrameType
    from typing import Any

#: More tasks are not asked, nothing deeper is looked into, and so many places are told.
_MOST_TASKS, _DEEPEST, _SHOWN = 500, 60, 4
#: Types of a pool's own package that stand for what it lends.
_LENT = ("Connection", "Session", "Transaction", "Cursor", "Client", "Fairy", "Lease")
_LENDERS = ("Pool", "Connector")  # … but for the pool itself
#: Where sizes stand; attributes only, nothing of the program is called.
_SIZES = ("max_size", "_max_size", "_maxsize", "maxsize", "max_connections", "_limit", "_bound_value", "_max_keepalive_connections")  # fmt: skip
#: By pool and what it lent: the line that took it.
TAKEN: "dict[tuple[int, int], tuple[CodeType, int]]" = {}
_MOST_TAKEN = 5000


def who_has(keeper: "Any", waiters: "set[int]") -> "list[tuple[int, str, str]]":
    """Return (how many, line of the program, what) of those that have something of this keeper, most first.

    Args:
        keeper: A pool, a semaphore, a queue.
        waiters: Tasks (by identity) and threads (by their number) that wait for it: they have nothing.
    """
    found: dict[tuple[str, str], int] = {}
    for chain in _all(waiters):
        # What a suspended coroutine has on its stack (the end of a `with`) is told by the collector's walk of the coroutine, not of its frame.
        what = next((one for frame, owner in chain if (one := _held_in(frame, owner, keeper))), "")
        own = next((frame for frame, _ in chain if is_own_frame(frame)), None)
        if what and own is not None:
            key = (place(own.f_code, own.f_lasti), what)
            found[key] = found.get(key, 0) + 1
    if not found:
        for (pool, _), (code, at) in list(TAKEN.items()):
            if pool == id(keeper):
                key = (place(code, at), "taken there, and not given back")
                found[key] = found.get(key, 0) + 1
    ranked = sorted(found.items(), key=lambda item: -item[1])
    return [(count, where, what) for (where, what), count in ranked[:_SHOWN]]


def described(keeper: "Any") -> str:
    """Return what a person calls it: its type, and how much it has where that can be seen."""
    kind = type(keeper)
    name = f"{kind.__module__}.{kind.__qualname__}"
    size = _size(keeper)
    return f"{name}, size {size}" if size else name


def _size(keeper: "Any") -> int:
    values = _attributes(keeper)
    for name in _SIZES:
        if type(found := values.get(name)) is int and found > 0:
            return found
    inner = _attributes(values.get("_pool"))
    size = inner.get("maxsize")
    more = values.get("_max_overflow")
    if type(size) is int and size > 0:
        return size + (more if type(more) is int and more > 0 else 0)
    return 0


def _attributes(one: "Any") -> "dict[str, Any]":
    try:
        found = object.__getattribute__(one, "__dict__")
    except AttributeError:
        return {}
    return found if type(found) is dict else {}


# -- frames ------------------------------------------------------------------------------------------


def frames_of(frame: "FrameType | None", deepest: int = _DEEPEST) -> "list[FrameType]":
    """Return the frames of a thread, innermost first."""
    found: list[FrameType] = []
    while frame is not None and len(found) < deepest:
        found.append(frame)
        frame = frame.f_back
    return found


def frames_of_task(task: "Any", by_waiter: "dict[int, Any]") -> "list[FrameType]":
    """Return the frames of a suspended task, innermost first; then those of the task that waits for it, where it has none of the program's own.

    Args:
        task: Any task.
        by_waiter: Tasks by the identity of what they wait for.
    """
    return [frame for frame, _ in _chain_of_task(task, by_waiter)]


def _chain_of_task(task: "Any", by_waiter: "dict[int, Any]") -> "list[tuple[FrameType, Any]]":
    """Return the same, each frame with the coroutine that it is of."""
    found = _chain(task.get_coro())
    for _ in range(3):
        if any(is_own_frame(frame) for frame, _ in found):
            break
        # wait_for() of Python 3.11 runs what it waits for as a task of its own.
        above = by_waiter.get(id(task)) or next(
            (
                by_waiter[id(held)]
                for callback in tasktree.callbacks(task)
                for held in tasktree.held_by(callback)
                if id(held) in by_waiter
            ),
            None,
        )
        if above is None or above is task:
            break
        task = above
        found += _chain(task.get_coro())
    return found


def _chain(one: "Any") -> "list[tuple[FrameType, Any]]":
    found: list[tuple[FrameType, Any]] = []
    while one is not None and len(found) < _DEEPEST:
        frame, awaited = tasktree.awaits(one)
        if frame is not None:
            found.append((frame, one))
        one = awaited
    return found[::-1]


def _all(waiters: "set[int]") -> "list[list[tuple[FrameType, Any]]]":
    known = tasks.living(_MOST_TASKS)
    by_waiter = {id(w): t for t in known if (w := getattr(t, "_fut_waiter", None)) is not None}
    found = [_chain_of_task(task, by_waiter) for task in known if id(task) not in waiters]
    for thread, frame in sys._current_frames().items():  # noqa: SLF001 -- the documented way
        if thread not in waiters:
            found.append([(one, None) for one in frames_of(frame)])
    return found


def _is_lent(kind: type) -> bool:
    name = kind.__name__
    return any(word in name for word in _LENT) and not any(word in name for word in _LENDERS)


def _package(kind: type) -> str:
    return str(kind.__module__).partition(".")[0]


def _held_in(frame: "FrameType", owner: "Any", keeper: "Any") -> str:
    """Return what this frame has of the keeper; empty for nothing."""
    package = _package(type(keeper))
    if not is_own_frame(frame):
        return ""
    for one in (*frame.f_locals.values(), *(get_referents(owner) if owner is not None else ())):
        kind = type(one)
        if kind is MethodType:
            if one.__self__ is keeper and one.__name__.endswith("exit__"):
                return "inside its `with`"
        elif _package(kind) == package and _is_lent(kind):
            return kind.__name__
    return ""


# -- taking and giving back --------------------------------------------------------------------------


def install() -> None:
    """Note what the pools take out and get back, of those packages that the program imports."""
    for module, owner, take, give in (
        ("sqlalchemy.pool.impl", "QueuePool", "_do_get", "_do_return_conn"),
        ("psycopg_pool.pool", "ConnectionPool", "getconn", "putconn"),
        ("psycopg2.pool", "AbstractConnectionPool", "_getconn", "_putconn"),
        ("urllib3.connectionpool", "HTTPConnectionPool", "_get_conn", "_put_conn"),
        ("redis.connection", "BlockingConnectionPool", "get_connection", "release"),
        ("redis.connection", "ConnectionPool", "get_connection", "release"),
    ):
        after_import(module, lambda found, owner=owner, take=take, give=give: _note(getattr(found, owner, None), take, give))  # type: ignore[misc]  # fmt: skip


def _note(owner: "Any", take: str, give: str) -> None:
    taken, given = vars(owner or object).get(take), vars(owner or object).get(give)
    if taken is None or given is None or hasattr(taken, "holdfast_original"):
        return

    def took(self: "Any", *args: "Any", **kwargs: "Any") -> "Any":
        one = taken(self, *args, **kwargs)
        frame: FrameType | None = sys._getframe(1)  # noqa: SLF001
        while frame is not None and not is_own_frame(frame):
            frame = frame.f_back
        if frame is not None and len(TAKEN) < _MOST_TAKEN:
            TAKEN[id(self), id(one)] = (frame.f_code, frame.f_lasti)
        return one

    def gave(self: "Any", one: "Any", *args: "Any", **kwargs: "Any") -> "Any":
        TAKEN.pop((id(self), id(one)), None)
        return given(self, one, *args, **kwargs)

    for new, old, name in ((took, taken, take), (gave, given, give)):
        new.__name__, new.__qualname__, new.__doc__ = old.__name__, old.__qualname__, old.__doc__
        new.holdfast_original = old  # type: ignore[attr-defined]
        setattr(owner, name, new)
