"""Which task of asyncio waits for which, and where does each of them stand?

Made on request, by a thread beside the loop, of all loops of the process. A task that awaits another is its parent here; so is one that gathers it,
waits for a set of it, or holds it in a task group: told by the future that the one waits for and the callbacks of the other. Tasks that
stand alike under the same parent are one entry with their number. Costs about 10 µs a task, and the interpreter's lock meanwhile.
"""

import sys

from holdfast.agent.routes import measures

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType
    from typing import Any

#: More tasks are not looked at, and nothing is told from deeper.
_MOST, _DEEPEST, _FRAMES = 3000, 24, 12
#: Entries of the answer in all.
_ENTRIES = 400


def tree() -> "dict[str, Any]":
    """Return ``{"total": how many tasks, "looked_at": of how many, "tasks": [entry, …]}``, the largest groups first.

    An entry: ``{"name", "count", "frames" (innermost first), "waits_for" (a word for what ends the chain), "tasks": [entries that it waits for]}``.
    """
    asyncio = sys.modules.get("asyncio")
    if asyncio is None:
        return {"total": 0, "looked_at": 0, "tasks": []}
    tasks = _all(asyncio)
    looked_at = tasks[:_MOST]
    children, parented = _edges(looked_at)
    room = [_ENTRIES]
    roots = [task for task in looked_at if id(task) not in parented]
    # A circle has no root: whoever is in one is begun with as well.
    seen: set[int] = set()
    entries = _entries(roots, children, seen, 0, room)
    circle = [task for task in looked_at if id(task) not in seen]
    if circle:
        entries += _entries(circle[:20], children, seen, 0, room)
    return {"total": len(tasks), "looked_at": len(looked_at), "tasks": entries}


def _all(asyncio: "Any") -> "list[Any]":
    module = sys.modules["asyncio.tasks"]
    found: dict[int, Any] = {}
    for name in ("_all_tasks", "_scheduled_tasks", "_eager_tasks"):
        known: list[Any] = []
        for _ in range(20):
            try:
                known = list(getattr(module, name, ()))
                break
            except RuntimeError:  # it changed while it was listed: the loop goes on
                continue
        found.update((id(task), task) for task in known if not task.done())
    if not found and sys.version_info >= (3, 14):  # they are in a list of the interpreter's own
        for loop in _loops():
            found.update((id(task), task) for task in asyncio.all_tasks(loop))
    return list(found.values())


def _loops() -> "list[Any]":
    import gc

    base = sys.modules["asyncio.events"].AbstractEventLoop
    return [one for one in gc.get_objects() if isinstance(one, base)]


def _edges(tasks: "list[Any]") -> "tuple[dict[int, list[Any]], set[int]]":
    """Return the tasks that each waits for, and who is waited for by anybody."""
    by_id = {id(task): task for task in tasks}
    by_waiter = {id(w): task for task in tasks if (w := getattr(task, "_fut_waiter", None)) is not None}  # fmt: skip
    children: dict[int, list[Any]] = {}
    parented: set[int] = set()

    def add(parent: "Any", child: "Any") -> None:
        if parent is not child and id(child) not in parented:
            parented.add(id(child))
            children.setdefault(id(parent), []).append(child)

    for task in tasks:
        waiter = getattr(task, "_fut_waiter", None)
        if id(waiter) in by_id:
            add(task, waiter)
        for one in getattr(waiter, "_children", None) or ():  # gather()
            if id(one) in by_id:
                add(task, one)
    for task in tasks:
        if id(task) in parented:
            continue
        for callback in callbacks(task):
            parent = getattr(getattr(callback, "__self__", None), "_parent_task", None)  # TaskGroup
            parent = parent or next(
                (by_waiter[id(held)] for held in held_by(callback) if id(held) in by_waiter), None
            )
            if parent is not None and id(parent) in by_id:
                add(parent, task)
                break
    return children, parented


def callbacks(task: "Any") -> "list[Any]":
    """Return what is called when a task has ended."""
    return [pair[0] for pair in getattr(task, "_callbacks", None) or () if type(pair) is tuple]


def held_by(callback: "Any") -> "list[Any]":
    """Return what a callback has at hand: arguments of a partial, and what its function closes over."""
    held = list(getattr(callback, "args", ()))
    function = getattr(callback, "func", callback)
    for cell in getattr(function, "__closure__", None) or ():
        try:
            held.append(cell.cell_contents)
        except ValueError:  # nothing is in it yet
            continue
    return held


def _entries(
    tasks: "list[Any]",
    children: "dict[int, list[Any]]",
    seen: "set[int]",
    depth: int,
    room: "list[int]",
) -> "list[dict[str, Any]]":
    groups: dict[tuple[Any, ...], list[Any]] = {}
    chains: dict[tuple[Any, ...], tuple[list[str], str]] = {}
    for task in tasks:
        if id(task) in seen:
            continue
        seen.add(id(task))
        frames, end = _chain(task)
        below = tuple(sorted(_key(child) for child in children.get(id(task), ())[:3]))
        key = (*frames, end, below)
        chains[key] = (frames, end)
        groups.setdefault(key, []).append(task)
    found = []
    for key, alike in sorted(groups.items(), key=lambda item: -len(item[1])):
        if room[0] <= 0:
            break
        room[0] -= 1
        frames, end = chains[key]
        entry: dict[str, Any] = {
            "name": alike[0].get_name(), "count": len(alike), "frames": frames[:_FRAMES], "waits_for": end,
        }  # fmt: skip
        awaited = [child for task in alike for child in children.get(id(task), ())]
        if awaited and depth < _DEEPEST:
            entry["tasks"] = _entries(awaited, children, seen, depth + 1, room)
        else:
            seen.update(id(child) for child in awaited)
        found.append(entry)
    return found


def _key(task: "Any") -> str:
    code = getattr(task.get_coro(), "cr_code", None)
    return str(getattr(code, "co_qualname", ""))


def awaits(one: "Any") -> "tuple[FrameType | None, Any]":
    """Return the frame of a suspended coroutine or generator, and what it awaits; None for each that is not there."""
    frame = awaited = None
    for prefix, then in (("cr", "cr_await"), ("gi", "gi_yieldfrom"), ("ag", "ag_await")):
        frame = frame or getattr(one, f"{prefix}_frame", None)
        awaited = awaited if awaited is not None else getattr(one, then, None)
    if frame is not None and awaited is None:
        awaited = measures(frame)
    return frame, awaited


def _chain(task: "Any") -> "tuple[list[str], str]":
    """Follow what a suspended coroutine awaits; return its frames, innermost first, and what is at the end."""
    found: list[str] = []
    end, one = "", task.get_coro()
    while one is not None and len(found) < 100:
        frame, awaited = awaits(one)
        if frame is not None:
            code = frame.f_code
            found.append(f"{code.co_filename}:{frame.f_lineno or 0} in {code.co_qualname}")
        elif awaited is None:
            end = type(one).__name__
        one = awaited
    if getattr(task, "_fut_waiter", None) is None and not end:
        end = "runs"
    elif end in ("FutureIter", "_GatheringFuture", ""):
        end = type(getattr(task, "_fut_waiter", None)).__name__
    return found[::-1], end
