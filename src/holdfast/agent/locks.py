"""Which threads have waited for a lock far too long?

Called by the plain thread once a second. A lock is meant to be held for moments; a thread that was found at the very same instruction,
look after look, and that instruction takes a lock (``with lock:``, ``lock.acquire()``), waits for somebody who does not give it back.
A thread that waits on a condition, an event, a queue or for another thread's end is at other instructions, in the library: that is
how healthy threads rest. Unless it waits for a process that has died (:mod:`holdfast.agent.children`).

Cost: about a microsecond a thread and look; which instruction it is is found out once, for the few that stand still.
"""

import os
import sys
from opcode import opname

from holdfast.agent import children
from holdfast.agent.sites import frames

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import CodeType, FrameType

    Stack = tuple[tuple[CodeType, int], ...]

#: More threads than this are not looked at.
_MOST_THREADS = 200
#: So many looks at the same place, and it is asked what the instruction is.
_LOOKS = 3
#: So many are told with their stacks.
_SHOWN = 8
#: Where threads rest, and where a lock around a read is how workers take turns.
_RESTS = (
    "/multiprocessing/", "/concurrent/futures/", "/queue.py", os.path.dirname(os.path.dirname(__file__)) + "/",
)  # fmt: skip
#: Since 3.12 the lowest bit of LOAD_ATTR's argument says that a method is looked up to be called.
_IS_METHOD_A_BIT = sys.version_info >= (3, 12)


class Locks:
    """What was seen of each thread; one a process."""

    __slots__ = ("_kinds", "_seen", "stuck")

    def __init__(self) -> None:
        #: By thread: frame, instruction, looks, since when (ns).
        self._seen: dict[int, tuple[int, int, int, int]] = {}
        #: By code and instruction: whether a lock is taken there.
        self._kinds: dict[tuple[int, int], bool] = {}
        self.stuck: list[Stack] = []  #: of some of those that stand

    def look(self, now_ns: int, threads: int) -> "tuple[int, int]":
        """Return how many threads stand at a lock, and for how long the first of them has (nanoseconds)."""
        if threads > _MOST_THREADS:
            self._seen.clear()
            self.stuck = []
            return 0, 0
        seen, before = {}, self._seen
        found, first_ns = 0, now_ns
        stuck: list[Stack] = []
        for thread, frame in sys._current_frames().items():  # noqa: SLF001 -- the documented way
            at, instruction = id(frame), frame.f_lasti
            last = before.get(thread)
            if last is None or last[0] != at or last[1] != instruction:
                seen[thread] = (at, instruction, 1, now_ns)
                continue
            looks = last[2] + 1
            seen[thread] = (at, instruction, looks, last[3])
            if looks >= _LOOKS and (self._takes_lock(frame) or children.is_missed(frame)):
                found += 1
                first_ns = min(first_ns, last[3])
                if found <= _SHOWN:
                    stuck.append(frames(frame, 12))
        self._seen, self.stuck = seen, stuck
        return found, now_ns - first_ns

    def _takes_lock(self, frame: "FrameType") -> bool:
        code = frame.f_code
        key = (id(code), frame.f_lasti)
        known = self._kinds.get(key)
        if known is None:
            if len(self._kinds) > 1000:
                self._kinds.clear()
            known = self._kinds[key] = takes_lock(code, frame.f_lasti)
        return known


def takes_lock(code: "CodeType", at: int) -> bool:
    """Whether the instruction at this offset takes a lock: the entry of a ``with``, or ``acquire()`` without a time limit.

    In `threading.py` only what stands for the lock itself: its conditions and events wait there, too.
    """
    path, raw = code.co_filename, code.co_code
    if any(part in path for part in _RESTS) or not 0 <= at < len(raw):
        return False
    name = opname[raw[at]]
    if path.endswith("/threading.py"):
        return name == "CALL" and code.co_name == "__enter__"
    if name == "BEFORE_WITH":
        return True
    if name != "CALL" or raw[at + 1]:
        return False
    # What is called is what was looked up last: there are no arguments in between.
    for position in range(at - 2, -1, -2):
        before, index = opname[raw[position]], raw[position + 1]
        if before == "LOAD_SPECIAL":  # 3.14: the entry of a with
            return True
        if before == "LOAD_ATTR" and _IS_METHOD_A_BIT:
            if not index & 1:
                return False
            index >>= 1
        elif before != "LOAD_METHOD":
            continue
        if position >= 2 and opname[raw[position - 2]] == "EXTENDED_ARG":
            index += raw[position - 1] << (7 if _IS_METHOD_A_BIT else 8)
        return index < len(code.co_names) and code.co_names[index] == "acquire"
    return False
