"""Which executors have jobs waiting for a thread, while all their threads wait for something that is never done?

A job that waits for another job of the same pool of threads keeps the thread that the other one needs: when all threads are taken by such jobs, none
of them ever ends. Told are executors (``concurrent.futures.ThreadPoolExecutor``) with jobs in their queue, each of whose threads has stood at the same
instruction since the last look and waits there for another thread without a time limit: for a result, a condition, a queue, a thread's end. Threads that
compute, read or sleep are at work, however long that takes; and with processes of ``multiprocessing`` beside them, it may be those that work.

Called by :mod:`holdfast.agent.waiting` once a second. Cost: some microseconds; the threads of an executor are looked at only while it has a queue.
"""

import sys

from holdfast.agent.calls import is_own_frame

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType
    from typing import Any

    #: The job's number, since when (ns), the frames of a thread that keeps it waiting (innermost first).
    Found = tuple[int, int, list[FrameType]]

#: More executors, or threads of one, are not looked at; so many jobs of one are counted.
_MOST, _MOST_THREADS, _MOST_JOBS = 100, 100, 1000
_DEEPEST = 60
#: Functions of `threading.py` that wait, and what their time limit is when there is none.
_WAITS = {"wait": ("timeout", None), "_wait_for_tstate_lock": ("timeout", -1)}


class Threads:
    """What is lent by executors: their threads. One for all of them, for there may be one executor for each request."""


THREADS = Threads()


class Executors:
    """What was seen of each thread of an executor with a queue; one a process."""

    __slots__ = ("_seen",)

    def __init__(self) -> None:
        #: By thread: frame, instruction, since when.
        self._seen: dict[int, tuple[int, int, int]] = {}

    def look(self, now_ns: int, known: "set[int]") -> "list[Found]":
        """Return the jobs that wait for a thread that does not come back, as far as can be told from outside.

        Args:
            now_ns: Monotonic nanoseconds.
            known: Threads of which it is known what they wait for (a pool of connections): it is not for want of a thread.
        """
        module = sys.modules.get("concurrent.futures.thread")
        queues = getattr(module, "_threads_queues", None)
        processes = sys.modules.get("multiprocessing.process")
        if not queues or getattr(processes, "_children", None):
            self._seen = {}
            return []
        pools: dict[int, tuple[Any, list[int]]] = {}
        for thread, queue in list(queues.items()):
            if queue is not None and thread.ident is not None and queue.qsize():
                pools.setdefault(id(queue), (queue, []))[1].append(thread.ident)
        if not pools or len(pools) > _MOST:
            self._seen = {}
            return []
        frames = sys._current_frames()  # noqa: SLF001 -- the documented way
        before, self._seen = self._seen, {}
        found: list[Found] = []
        for key, (queue, idents) in pools.items():
            if len(idents) > _MOST_THREADS or not known.isdisjoint(idents):
                continue
            since_ns = [self._stands(frames.get(ident), ident, before, now_ns) for ident in idents]
            if all(since_ns):
                kept = _frames_of(frames[idents[0]])
                # The last of them to stop is when the executor stood still.
                last_ns = max(since_ns)
                # Each thread waits as well, for what is in the queue: the executor with one thread counts two.
                jobs = min(queue.qsize(), _MOST_JOBS) + len(idents)
                found.extend((key + number, last_ns, kept) for number in range(jobs))
        return found

    def _stands(
        self, frame: "FrameType | None", ident: int, before: "dict[int, tuple[int, int, int]]", now_ns: int
    ) -> int:  # fmt: skip
        """Return since when a thread waits at this very instruction for another one; 0: it does not, or only since now."""
        if frame is None or not _waits(frame):
            return 0
        last = before.get(ident)
        if last is None or last[0] != id(frame) or last[1] != frame.f_lasti:
            self._seen[ident] = (id(frame), frame.f_lasti, now_ns)
            return 0
        self._seen[ident] = last
        return last[2]


def site_of(stack: "list[FrameType]") -> "FrameType":
    """Return where a thread is kept: the program's own frame, or else the innermost of a package, or else the innermost."""
    own = (frame for frame in stack if is_own_frame(frame))
    other = (frame for frame in stack if "-packages/" in frame.f_code.co_filename)
    return next(own, None) or next(other, None) or stack[0]


def _waits(frame: "FrameType") -> bool:
    code = frame.f_code
    limit = _WAITS.get(code.co_name)
    if limit is None or not code.co_filename.endswith("/threading.py"):
        return False
    name, endless = limit
    return bool(frame.f_locals.get(name, 0) == endless)


def _frames_of(frame: "FrameType | None") -> "list[FrameType]":
    found: list[FrameType] = []
    while frame is not None and len(found) < _DEEPEST:
        found.append(frame)
        frame = frame.f_back
    return found
