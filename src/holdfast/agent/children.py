"""Which line starts other processes? Did one of them die of a signal, and does somebody wait for what it would have said?

``multiprocessing`` starts another process for a dead one of its pool, and the job that it had is lost: whoever waits for that result waits
for ever, and looks like any program that rests. Only deaths that nobody here asked for count. Costs some microseconds at the start and at the end of a
process, which itself costs hundreds.
"""

import os
import sys
from _weakref import ref

from holdfast.agent.calls import is_own_frame
from holdfast.agent.sites import SITES, place

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import CodeType, FrameType
    from typing import Any

#: Signals of those that died, the first ones.
died: "list[int]" = []
_MOST = 100
#: By the line that started them: how many.
started: "dict[tuple[CodeType, int], int]" = {}
_MOST_PLACES = 200
#: So near to where a thread stands a wait for another process is looked for.
_NEAR = 5


def install(module: "Any") -> None:
    """Note the deaths of processes that ``multiprocessing`` starts from now on (fork, spawn)."""
    popen = module.Popen
    poll, send = popen.poll, getattr(popen, "_send_signal", None)
    if hasattr(poll, "holdfast_original") or send is None:
        return
    meant: set[Any] = set()

    def holdfast_poll(self: "Any", *args: "Any", **kwargs: "Any") -> "Any":
        before = self.returncode
        code = poll(self, *args, **kwargs)
        is_death = before is None and type(code) is int and code < 0
        if is_death and ref(self) not in meant and len(died) < _MOST:
            died.append(-code)
        return code

    def _send_signal(self: "Any", number: "Any") -> "Any":
        meant.add(ref(self, meant.discard))
        return send(self, number)

    holdfast_poll.holdfast_original = poll  # type: ignore[attr-defined]
    holdfast_poll.__name__, holdfast_poll.__qualname__ = "poll", "Popen.poll"
    popen.poll, popen._send_signal = holdfast_poll, _send_signal  # noqa: SLF001


def count_starts(after_import: "Any") -> None:
    """Note who starts processes from now on: by ``subprocess``, by ``posix_spawn`` or as a copy."""
    os.register_at_fork(before=lambda: _note(sys._getframe(1)))  # noqa: SLF001
    for name in ("posix_spawn", "posix_spawnp"):
        _wrap(os, name)
    after_import("_posixsubprocess", lambda module: _wrap(module, "fork_exec"))


def ranked(most: int) -> "list[list[Any]]":
    """Return how many processes were started where, most first."""
    rows = sorted(started.items(), key=lambda row: -row[1])[:most]
    return [[count, 0, place(code, at), []] for (code, at), count in rows]


def _wrap(module: "Any", name: str) -> None:
    original = getattr(module, name, None)
    if original is None or hasattr(original, "holdfast_original"):
        return

    def start(*args: "Any", **kwargs: "Any") -> "Any":
        _note(sys._getframe(1))  # noqa: SLF001
        return original(*args, **kwargs)

    start.__name__ = start.__qualname__ = name
    start.__doc__ = original.__doc__
    start.holdfast_original = original  # type: ignore[attr-defined]
    setattr(module, name, start)


def _note(frame: "FrameType | None") -> None:
    one = frame
    while one is not None and not is_own_frame(one):
        one = one.f_back
    one = one or SITES.outer(frame)
    if one is None:
        return
    key = (one.f_code, one.f_lasti)
    if key in started or len(started) < _MOST_PLACES:
        started[key] = started.get(key, 0) + 1


def is_missed(frame: "FrameType | None") -> bool:
    """Whether a thread waits for another process, after one has died."""
    if not died:
        return False
    for _ in range(_NEAR):
        if frame is None:
            return False
        if "/multiprocessing/" in frame.f_code.co_filename:
            # The threads of a pool rest there, too: they are no one's waiting.
            return not _is_pools_own(frame)
        frame = frame.f_back
    return False


def _is_pools_own(frame: "FrameType | None") -> bool:
    outermost = frame
    while outermost is not None and outermost.f_back is not None:
        outermost = outermost.f_back
        name = outermost.f_code.co_name
        if name in ("_handle_workers", "_handle_tasks", "_handle_results", "_feed", "_serve"):
            return True
    return False
