"""What becomes more in this process, which lines allocate it, and who holds it?

Counts the objects that the garbage collector knows twice, with ``tracemalloc`` (or memray) on in between, and follows the references of one
object of the type that grew most. Expensive (the interpreter is held for about 0.1 s a million objects, and allocations are several times
slower while it watches), so it is done only when asked for: by a person, or as evidence about a leak. What C code takes with malloc
is seen by memray only.
"""

import gc
import os
import sys
from collections import Counter
from time import monotonic, sleep

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import FrameType
    from typing import Any

#: Frames that tracemalloc keeps of an allocation.
_DEPTH = 8
_TYPES, _SITES, _OWN = 15, 6, 25
_NOT_THE_PROGRAM = (
    os.path.dirname(__file__),
    f"{os.path.dirname(os.__file__)}/tracemalloc.py",
    "<frozen importlib",
)
#: Steps that are followed from an object to whoever holds it; each looks at all objects.
_STEPS = 14
_SAMPLED = 40
#: With more objects than this, following references would hold the interpreter for seconds.
_FOLLOWED_UP_TO = 3_000_000
#: Modules whose types say nothing about who made so many of them.
_PLAIN = frozenset({"builtins", "weakref", "functools", "collections", "types"})
_PASSING = frozenset(
    {
        "frame",
        "traceback",
        "list_iterator",
        "tuple_iterator",
        "generator",
        "coroutine",
        "async_generator",
    }
)
_LARGE, _BREADTH, _HOLDERS = 300, 8, 3
#: Following references is given up after this long: the program waits meanwhile.
_FOLLOWED_S = 0.3


def answer(request: "dict[str, Any]") -> "dict[str, Any]":
    """Answer a request for a census: ``{"window_s", "trace", "by", "native", "sites", "depth"}``, each of them optional."""
    window_s, sites, depth = request.get("window_s"), request.get("sites"), request.get("depth")
    by = request.get("by") if request.get("trace", True) else ""
    try:
        return {"ok": True, "census": growth(
            float(window_s) if isinstance(window_s, (int, float)) else 1.0,
            by=_way(by), native=bool(request.get("native")),
            sites=sites if type(sites) is int else _SITES, depth=depth if type(depth) is int else _DEPTH,
        )}  # fmt: skip
    except (ImportError, OSError, RuntimeError, ValueError) as error:
        # memray's: not for this interpreter; the file cannot be written; it records already.
        return {"ok": False, "error": f"{type(error).__name__}: {error}"}


def _way(by: object) -> str:
    """Return how allocations are watched. Unasked never by memray: evidence is taken of programs that nobody looks after."""
    if by in ("", "memray"):
        return str(by)
    if by == "best":
        from holdfast.agent import recording

        return "memray" if recording.is_there() else "tracemalloc"
    return "tracemalloc"


def growth(
    window_s: float, *, by: str = "tracemalloc", native: bool = False, sites: int = _SITES, depth: int = _DEPTH
) -> "dict[str, Any]":  # fmt: skip
    """Return what became more within a while: types, lines that allocated it, and who holds it.

    Args:
        window_s: How long to look; at most 10 s.
        by: "tracemalloc" or "memray" watches the allocations, too, and slows the program down meanwhile; "" does not.
        native: With the frames of C code (memray only).
        sites: Allocating stacks to return, the largest first.
        depth: Frames of each (tracemalloc; memray keeps all).

    Raises:
        ImportError: memray is not installed here, or not for this interpreter.
        RuntimeError: It is recording already, for somebody else.
        OSError: It cannot write its file.
    """
    window_s = max(0.0, min(10.0, window_s))
    if by == "tracemalloc":
        import tracemalloc  # noqa: F401 -- what the import makes is no growth of the program
    elif by == "memray":
        import memray  # noqa: F401
    before = Counter(map(type, gc.get_objects()))
    recorded = ""
    allocated: list[dict[str, Any]] = []
    if by == "memray":
        recorded = _record(window_s, native=native)
    elif by:
        allocated = _watch(window_s, sites, depth)
    else:
        sleep(window_s)
    objects = gc.get_objects()
    after = Counter(map(type, objects))
    more = [(count - before[kind], kind) for kind, count in after.items() if count > before[kind]]
    more.sort(key=lambda pair: -pair[0])
    held: list[dict[str, str]] = []
    own = next((kind for _, kind in more[:8] if _module(kind) not in _PLAIN), None)
    kind = own or (more[0][1] if more else None)
    if kind is not None and len(objects) <= _FOLLOWED_UP_TO:
        # In the middle of the newest: old ones may be there for good, the very newest are in use.
        alike = [one for one in objects if type(one) is kind][-_SAMPLED:]
        del objects
        if alike:
            held = _holders(alike[len(alike) // 2], [alike])
    else:
        del objects
    return {
        "window_s": window_s,
        "objects": sum(after.values()),
        "blocks": sys.getallocatedblocks(),
        "types": [{"type": _name(kind), "count": count} for kind, count in after.most_common(_TYPES)],
        "own": _own(after, before),
        "grown": [{"type": _name(kind), "more": count, "count": after[kind]} for count, kind in more[:_TYPES]],
        "by": by,
        "allocated": allocated,
        "held_by": held,
        **({"recorded": recorded} if recorded else {}),
    }  # fmt: skip


def _own(after: "Counter[type]", before: "Counter[type]") -> "list[dict[str, Any]]":
    """Return the types that are neither the interpreter's nor its library's, the most objects first."""
    known = sys.stdlib_module_names
    own = [
        (count, kind) for kind, count in after.items()
        if (module := _module(kind)).partition(".")[0] not in known and not module.startswith("holdfast.")
    ]  # fmt: skip
    own.sort(key=lambda pair: -pair[0])
    return [
        {"type": _name(kind), "count": count, "more": count - before[kind]}
        for count, kind in own[:_OWN]
    ]


def _record(window_s: float, *, native: bool) -> str:
    """Have memray record what is allocated and stays; return the file."""
    from holdfast.agent import recording

    path = recording.path_for(os.environ.get("HOLDFAST_RUN", ""), os.environ.get("HOLDFAST_WORKER", ""))  # fmt: skip
    with recording.recording(path, native=native):
        sleep(window_s)
        gc.collect(1)  # what is garbage already is no leak
    return path


def _watch(window_s: float, sites: int, depth: int) -> "list[dict[str, Any]]":
    """Return the lines that allocated what is still there, the most bytes first."""
    import tracemalloc

    ours = not tracemalloc.is_tracing()
    if ours:
        tracemalloc.start(max(1, min(64, depth)))
    try:
        sleep(window_s)
        gc.collect(1)  # what is garbage already is no leak
        # The list behind take_snapshot(): a tenth of its time, and the program is slow meanwhile.
        from _tracemalloc import _get_traces

        traces = _get_traces()
    finally:
        if ours:
            tracemalloc.stop()
    return _by_stack(traces, sites)


def _by_stack(traces: "Sequence[Any]", sites: int) -> "list[dict[str, Any]]":
    totals: dict[int, list[Any]] = {}
    for trace in traces:
        # Equal stacks are one and the same tuple, so its id is enough, and far cheaper than its hash.
        entry = totals.get(id(trace[2]))
        if entry is None:
            entry = totals[id(trace[2])] = [0, 0, trace[2]]
        entry[0] += trace[1]
        entry[1] += 1
    ordered = sorted(totals.values(), key=lambda entry: -int(entry[0]))
    found = []
    for size, count, stack in ordered:
        # _get_traces() gives the innermost frame first.
        if stack and not stack[0][0].startswith(_NOT_THE_PROGRAM):
            frames = [f"{name}:{line} in ?" for name, line in stack]
            found.append({"bytes": size, "count": count, "frames": frames})
        if len(found) >= sites:
            break
    return found


def _holders(one: object, mine: "list[Any]") -> "list[dict[str, str]]":
    """Follow the references from an object outwards, level by level, to a collection that is large, and to who has it."""
    found: list[dict[str, str]] = []
    seen = {id(one), id(mine), *(id(m) for m in mine), *_running_frames()}
    level: list[Any] = [one]
    until_s = monotonic() + _FOLLOWED_S
    for _ in range(_STEPS):
        if monotonic() > until_s:
            break
        referrers = gc.get_referrers(
            *level
        )  # one pass over all objects, however many are asked about
        seen.update((id(level), id(referrers), id(sys._getframe())))  # noqa: SLF001 -- what is ours is no answer
        fresh = [r for r in referrers if id(r) not in seen and type(r).__name__ not in _PASSING]
        seen.update(id(r) for r in fresh)
        del referrers
        told = [(named, r) for r in fresh if (named := _named(r)) is not None]
        large = next((pair for pair in told if "where" in pair[0] or "large" in pair[0]), None)
        if large is not None:
            found = [large[0]]
            if "where" in large[0]:
                break
            level = [large[1]]
            continue
        if found and told:
            # Whoever has the large collection: the first one with a name.
            found.append(told[0][0])
            if len(found) > _HOLDERS or "end" in told[0][0]:
                break
            level = [told[0][1]]
            continue
        if not fresh:
            break
        level = fresh[:_BREADTH]
    return found


def _running_frames() -> "set[int]":
    """Return the ids of the frames that run now: what they hold is in use, and no leak."""
    found: set[int] = set()
    for top in sys._current_frames().values():  # noqa: SLF001 -- the documented way
        frame: FrameType | None = top
        while frame is not None:
            found.add(id(frame))
            frame = frame.f_back
    return found


def _named(one: "Any") -> "dict[str, str] | None":
    """Say what a holder is, where that means something to a person."""
    kind = type(one)
    wrapped = getattr(one, "__wrapped__", None) if kind.__name__ == "_lru_cache_wrapper" else None
    if wrapped is not None:
        return {"says": f"the cache of {_name(wrapped)} (functools.lru_cache)", "where": _where(wrapped)}  # fmt: skip
    if kind is dict:
        if "__builtins__" in one and isinstance(one.get("__name__"), str):
            return {"says": f"the module {one['__name__']}", "end": "yes"}
        return (
            {"says": f"a dictionary of {len(one)}", "large": "yes"} if len(one) > _LARGE else None
        )
    if kind in (list, set):
        return (
            {"says": f"a {kind.__name__} of {len(one)}", "large": "yes"}
            if len(one) > _LARGE
            else None
        )
    if isinstance(one, type):
        return {"says": f"the class {_name(one)}", "end": "yes"}
    if _module(kind) == "builtins":
        return None
    return {"says": f"an object of {_name(kind)}"}


def _module(kind: type) -> str:
    """Return where a type was defined; types made in C may have anything in that place."""
    found: object = getattr(kind, "__module__", None)
    return found if isinstance(found, str) and found else "builtins"


def _name(one: "Any") -> str:
    module = getattr(one, "__module__", None)
    return f"{module if isinstance(module, str) and module else '?'}.{getattr(one, '__qualname__', None) or type(one).__name__}"  # fmt: skip


def _where(function: "Any") -> str:
    code = getattr(function, "__code__", None)
    return f"{code.co_filename}:{code.co_firstlineno} in {code.co_qualname}" if code else ""
