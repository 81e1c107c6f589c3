"""Where is every thread, and where does every task wait?

Text for people, made inside the process: equal stacks are written once with their number, so a bomb of 5,000
threads is two stacks and not 5,000 (faulthandler stops at 100, py-spy gives up above 4,096). The form is
faulthandler's, with the name of the thread; numbers keep two headers from being equal. Costs about
10 µs a thread. Cannot work while something holds the GIL; the signal of faulthandler is for that.
"""

import asyncio
import sys
import threading
from linecache import getline

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType
    from typing import Any

_DEEPEST = 100


def text(loop: asyncio.AbstractEventLoop) -> str:
    """Return the stacks of all threads and of all tasks of ``loop``, innermost frame first."""
    return _threads() + _tasks(loop)


def _threads() -> str:
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    groups: dict[tuple[str, ...], list[str]] = {}
    for ident, frame in sys._current_frames().items():  # noqa: SLF001 -- the documented way
        groups.setdefault(_walk(frame), []).append(f"{names.get(ident, '?')} 0x{ident:x}")
    return "".join(_group("Thread", who, frames) for frames, who in groups.items())


def _tasks(loop: asyncio.AbstractEventLoop) -> str:
    try:
        tasks = asyncio.all_tasks(loop)
    except RuntimeError:
        return "Tasks: they change too fast to be listed\n"
    groups: dict[tuple[str, ...], list[str]] = {}
    for task in tasks:
        groups.setdefault(_chain(task.get_coro()), []).append(f"{task.get_name()} 0x{id(task):x}")
    return "".join(_group("Task", who, frames) for frames, who in groups.items())


def _group(kind: str, who: "list[str]", frames: "tuple[str, ...]") -> str:
    head = f"{kind} {who[0]}"
    if len(who) > 1:
        head = f"{len(who)} {kind.lower()}s alike: {', '.join(sorted(who)[:3])}{', …' if len(who) > 3 else ''}"  # fmt: skip
    return f"{head} (most recent call first):\n" + "".join(frames) + "\n"


def _walk(frame: "FrameType | None") -> "tuple[str, ...]":
    found: list[str] = []
    while frame is not None and len(found) < _DEEPEST:
        found.append(_line(frame))
        frame = frame.f_back
    return tuple(found)


def _chain(coroutine: "Any") -> "tuple[str, ...]":
    """Follow what a suspended coroutine awaits, down to the future at the end."""
    found: list[str] = []
    while coroutine is not None and len(found) < _DEEPEST:
        frame = None
        awaited = None
        for prefix in ("cr", "gi", "ag"):
            frame = frame or getattr(coroutine, f"{prefix}_frame", None)
            awaited = awaited or getattr(coroutine, f"{prefix}_{'yieldfrom' if prefix == 'gi' else 'await'}", None)  # fmt: skip
        if frame is not None:
            found.append(_line(frame))
        coroutine = awaited
    return tuple(reversed(found))


def _line(frame: "FrameType") -> str:
    code = frame.f_code
    number = frame.f_lineno or 0
    source = getline(code.co_filename, number).strip()
    place = f'  File "{code.co_filename}", line {number}, in {code.co_name}\n'
    return place + (f"    {source}\n" if source else "")
