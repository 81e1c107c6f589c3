"""Who waits for something that others hold (a connection of a pool, a semaphore, room in a queue), where, and for how long?

Called by the plain thread once a second. A task that waits for the same future as a second ago, or a thread that stands at the same
instruction, has its stack looked at once: from the innermost frame outwards, is there a pool (or a connector, a semaphore, a full queue) that is asked
for something, before the first line that is the program's own? A worker that rests at its queue asks nobody for what others hold, and is left alone; so
is a semaphore that is taken without ``with``, for that is how signals are made of one.
Requests that wait for anything are remembered with their line as well: it is they who are missed first. So are jobs whose executor has no thread left
(:mod:`holdfast.agent.executors`).

Left out: whether that is too long (:mod:`holdfast.core.detect.stalled`), who has it (:mod:`holdfast.agent.holding`).
Cost: one to two microseconds for each task and look (once a second), some thirty for each that has come to a new place and stays.
"""

import sys
from _weakref import ref
from opcode import opname

from holdfast.agent import holding, tasks
from holdfast.agent.calls import is_own_frame
from holdfast.agent.executors import THREADS, Executors, site_of
from holdfast.agent.sites import named, place

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import CodeType, FrameType
    from typing import Any

    Stack = tuple[tuple[CodeType, int], ...]

#: More tasks, or threads, than this are not looked at: that is a bomb, and told by others.
_MOST_TASKS, _MOST_THREADS = 2000, 200
#: So many tasks that are new to it have their stacks looked at in one look; the others in the next ones.
_MOST_ASKED = 200
#: At what waits longer than this it is looked.
_LEAST_NS = 900_000_000
#: Groups that are told, and so many of their frames.
_SHOWN, _FRAMES, _DEEPEST = 4, 10, 60
#: From this many that wait for so long on, it is asked who has it, and again after a while.
_MANY, _LONG_NS, _AGAIN_NS = 3, 2_000_000_000, 5_000_000_000
#: What is asked for something (part of the name of its type), and how (part of the name of a function).
_KEEPERS = ("Pool", "Connector", "Semaphore", "Limiter", "Lock")
_TAKES = ("acquire", "getconn", "get_conn", "checkout", "do_get", "connect", "borrow", "lease", "request", "__aenter__", "__enter__")  # fmt: skip
#: Names of functions further in that only wait; anything else (it resolves a name, it connects) is at work.
_WAITS = (*_TAKES, "wait", "get", "put", "take", "sleep")
_COUNTS = ("Semaphore", "Limiter", "Lock")
_OURS = __file__.rpartition("/")[0] + "/web.py"
#: What is told of jobs that wait for a thread.
EXECUTOR = "concurrent.futures.ThreadPoolExecutor"


class Wait:
    """Where somebody waits, and for what; equal ones are one."""

    __slots__ = ("at", "code", "is_pool", "is_request", "keeper", "stack", "what")

    def __init__(
        self, stack: "Stack", site: "tuple[CodeType, int]", keeper: "Any", *, is_request: bool
    ) -> None:
        self.stack = stack
        self.code, self.at = site
        self.keeper: Any = None
        self.what = ""  #: what is asked for it; empty: nothing that others hold, as far as is known
        self.is_pool = False
        self.is_request = is_request
        if keeper is not None:
            self.keeper = keeper
            self.what = holding.described(keeper)
            self.is_pool = any(word in type(keeper).__name__ for word in ("Pool", "Connector"))

    def key(self) -> "tuple[int, int, int]":
        """Return what those that wait alike have in common."""
        return (id(self.code), self.at, id(self.keeper))


class Turns:
    """Whose turn came at one keeper: at a pool, at a semaphore."""

    __slots__ = ("before_ns", "ended", "keeper", "since_ns", "waiters")

    def __init__(self, keeper: "Any", since_ns: int) -> None:
        self.keeper = _ref(keeper)
        self.since_ns = since_ns  #: nobody's turn has come since
        self.before_ns = 0  #: the longest such time that ended
        self.ended = 0
        self.waiters: set[int] = set()


class Waits:
    """What was seen of each task and each thread; one a process."""

    __slots__ = ("_asked_ns", "_executors", "_tasks", "_threads", "_turns", "holding", "waiting")

    def __init__(self) -> None:
        #: By identity: what it waits for, since when, whether its stack was looked at, and what came of it.
        self._tasks: dict[int, tuple[Any, int, bool, Wait | None]] = {}
        self._threads: dict[int, tuple[tuple[int, int], int, bool, Wait | None]] = {}
        self._turns: dict[int, Turns] = {}
        self._executors = Executors()
        self._asked_ns = 0
        self.waiting: list[tuple[int, int, Wait]] = []  #: how many, since when (ns), how
        self.holding: list[tuple[int, str, str]] = []  #: how many, where, what

    def look(self, now_ns: int) -> "tuple[int, int, int, int, int]":
        """Return of the worst keeper: how many wait, since when nobody's turn came (ns), the longest such time before, turns so far, whether it is a pool."""
        found = [*self._look_at_tasks(now_ns), *self._look_at_threads(now_ns)]
        found += self._look_at_executors(now_ns, found)
        groups: dict[tuple[int, int, int], list[Any]] = {}
        at_keeper: dict[int, tuple[Any, set[int], int]] = {}
        for who, since_ns, wait in found:
            group = groups.setdefault(wait.key(), [0, since_ns, wait])
            group[0] += 1
            group[1] = min(group[1], since_ns)
            if wait.keeper is not None:
                _, waiters, first_ns = at_keeper.get(id(wait.keeper), (None, set(), since_ns))
                waiters.add(who)
                at_keeper[id(wait.keeper)] = (wait, waiters, min(first_ns, since_ns))
        self._follow(at_keeper, now_ns)
        ranked = sorted(groups.values(), key=lambda group: (group[2].keeper is None, -group[0]))
        self.waiting = [(count, since_ns, wait) for count, since_ns, wait in ranked[:_SHOWN]]
        worst = max(self._turns.values(), key=lambda t: (len(t.waiters), -t.since_ns), default=None)
        if worst is None or not worst.waiters:
            self.holding = []
            return 0, 0, 0, 0, 0
        if len(worst.waiters) >= _MANY and now_ns - worst.since_ns >= _LONG_NS:
            if now_ns - self._asked_ns >= _AGAIN_NS:
                self._asked_ns = now_ns
                keeper = at_keeper[id(worst.keeper())][0].keeper
                # Of executors the waiting row says it all: where their threads are kept.
                self.holding = [] if keeper is THREADS else holding.who_has(keeper, worst.waiters)
        else:
            self.holding, self._asked_ns = [], 0
        is_pool = int(at_keeper[id(worst.keeper())][0].is_pool)
        return len(worst.waiters), now_ns - worst.since_ns, worst.before_ns, worst.ended, is_pool

    def told(self, now_ns: int, entries: int) -> "list[list[Any]]":
        """Return the groups as they are written into the pulse."""
        return [
            [count, round((now_ns - since_ns) / 1e9, 1), place(wait.code, wait.at), wait.what, named(wait.stack)]
            for count, since_ns, wait in self.waiting[:entries]
        ]  # fmt: skip

    # -- whose turn it is --------------------------------------------------------------------------

    def _follow(self, at_keeper: "dict[int, tuple[Any, set[int], int]]", now_ns: int) -> None:
        for key, (wait, _, first_ns) in at_keeper.items():
            turns = self._turns.get(key)
            if turns is None or turns.keeper() is not wait.keeper:
                turns = self._turns[key] = Turns(wait.keeper, first_ns)
            if not turns.waiters:
                turns.since_ns = first_ns
        for key, turns in list(self._turns.items()):
            now = at_keeper[key][1] if key in at_keeper else set()
            gone = len(turns.waiters - now)
            if gone:
                turns.ended += gone
                turns.before_ns = max(turns.before_ns, now_ns - turns.since_ns)
                turns.since_ns = now_ns
            turns.waiters = now
            if not now and len(self._turns) > 64:
                del self._turns[key]

    # -- tasks -------------------------------------------------------------------------------------

    def _look_at_tasks(self, now_ns: int) -> "list[tuple[int, int, Wait]]":
        known = tasks.living(_MOST_TASKS)
        before = self._tasks
        seen: dict[int, tuple[Any, int, bool, Wait | None]] = {}
        found: list[tuple[int, int, Wait]] = []
        fresh: list[Any] = []
        for task in known:
            waiter = getattr(task, "_fut_waiter", None)
            if waiter is None:
                continue
            key = id(task)
            last = before.get(key)
            if last is None or last[0]() is not waiter:
                seen[key] = (_ref(waiter), now_ns, False, None)
                continue
            seen[key] = last
            if not last[2] and now_ns - last[1] >= _LEAST_NS:
                fresh.append(task)
            elif last[3] is not None:
                found.append((key, last[1], last[3]))
        if fresh:
            by_waiter = {id(w): t for t in known if (w := getattr(t, "_fut_waiter", None)) is not None}  # fmt: skip
            for task in fresh[:_MOST_ASKED]:
                waits_for, since_ns, *_ = seen[id(task)]
                wait = _wait_of(holding.frames_of_task(task, by_waiter))
                seen[id(task)] = (waits_for, since_ns, True, wait)
                if wait is not None:
                    found.append((id(task), since_ns, wait))
        self._tasks = seen
        return found

    # -- threads -----------------------------------------------------------------------------------

    def _look_at_threads(self, now_ns: int) -> "list[tuple[int, int, Wait]]":
        frames = sys._current_frames()  # noqa: SLF001 -- the documented way
        if len(frames) > _MOST_THREADS:
            self._threads = {}
            return []
        before = self._threads
        seen: dict[int, tuple[tuple[int, int], int, bool, Wait | None]] = {}
        found = []
        for thread, frame in frames.items():
            at = (id(frame), frame.f_lasti)
            last = before.get(thread)
            if last is None or last[0] != at:
                seen[thread] = (at, now_ns, False, None)
                continue
            _, since_ns, is_known, wait = last
            if not is_known and now_ns - since_ns >= _LEAST_NS:
                is_known, wait = True, _wait_of(holding.frames_of(frame, _DEEPEST))
            seen[thread] = (at, since_ns, is_known, wait)
            if wait is not None:
                found.append((thread, since_ns, wait))
        self._threads = seen
        return found

    # -- executors ---------------------------------------------------------------------------------

    def _look_at_executors(
        self, now_ns: int, found: "list[tuple[int, int, Wait]]"
    ) -> "list[tuple[int, int, Wait]]":
        known = {who for who, _, wait in found if wait.keeper is not None}
        waits: dict[int, Wait] = {}
        jobs = []
        for job, since_ns, stack in self._executors.look(now_ns, known):
            if id(stack) not in waits:
                site = site_of(stack)
                code = tuple((f.f_code, f.f_lasti) for f in stack[:_FRAMES])
                waits[id(stack)] = wait = Wait(code, (site.f_code, site.f_lasti), None, is_request=False)  # fmt: skip
                wait.keeper, wait.what, wait.is_pool = THREADS, EXECUTOR, True
            jobs.append((job, since_ns, waits[id(stack)]))
        return jobs


def _ref(waiter: "Any") -> "Any":
    try:
        return ref(waiter)
    except TypeError:  # a future of another make: it is held until the next look
        return lambda: waiter


def _wait_of(frames: "list[FrameType]") -> "Wait | None":
    """Return for what the stack waits (innermost frame first), when that is of interest."""
    own = next((at for at, frame in enumerate(frames) if is_own_frame(frame)), -1)
    if own < 0:
        return None
    is_request = any(frame.f_code.co_filename == _OURS for frame in frames[own:])
    keeper = None
    for at, frame in enumerate(frames[:own]):
        found = _keeper(frame, frames[own] if at == own - 1 else None)
        keeper = found if found is not None else keeper
        if not any(word in frame.f_code.co_name for word in _WAITS):
            break
    if keeper is None and not is_request:
        return None
    stack = tuple((f.f_code, f.f_lasti) for f in frames[:_FRAMES])
    return Wait(stack, (frames[own].f_code, frames[own].f_lasti), keeper, is_request=is_request)


def _keeper(frame: "FrameType", caller: "FrameType | None") -> "Any":
    """Return what is asked for something in this frame; None when it is not."""
    code = frame.f_code
    if not code.co_argcount:
        return None
    one = frame.f_locals.get(code.co_varnames[0])
    kind, name = type(one).__name__, code.co_name
    if name in ("put", "_put") and "Queue" in kind:
        return one
    if not any(word in kind for word in _KEEPERS) or not any(word in name for word in _TAKES):
        return None
    if not any(word in kind for word in _COUNTS) or name.endswith("enter__"):
        return one
    # A semaphore or a lock: taken by `with` it is given back by whoever took it; otherwise it may be somebody's signal.
    return one if caller is not None and _is_with(caller) else None


def _is_with(frame: "FrameType") -> bool:
    raw, at = frame.f_code.co_code, frame.f_lasti
    return 0 <= at < len(raw) and opname[raw[at]] == "BEFORE_WITH"
