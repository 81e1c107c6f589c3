"""Which one request is a thread in, or which job a process of a pool, and since when? For what serves one at a time in a process, or in each thread.

A process of gunicorn's sync kind has no loop that could be late: a request that never ends holds it all the same. Asked with each beat of the plain
thread; costs a look at the stacks only while a request is older than some beats. Requests of event loops are not meant: they wait as they like.
"""

import sys

from holdfast.agent.pools import JOB
from holdfast.agent.routes import TABLE
from holdfast.agent.web import Wsgi
from holdfast.wire.pulse import JOB as JOB_HELD

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType

_SERVES = Wsgi.__call__.__code__
#: Younger requests are nobody's business.
_LEAST_NS = 300_000_000
_DEEPEST = 200
#: With more threads than this, none is looked at.
_MOST_THREADS = 200


class Held:
    """The request that has held a thread for longest; one a process."""

    __slots__ = ("_is_job", "_main", "longest_ns", "since_ns", "thread")

    def __init__(self, main: int) -> None:
        self._main = main
        self.since_ns = self.longest_ns = 0
        self._is_job = False
        self.thread = 0  #: that is in it

    def look(self, now_ns: int) -> "tuple[int, int, int]":
        """Return since when one is in one request (0: none is, or not for long), the longest that has ended, and what that means (``is_held`` of wire/pulse.py)."""
        since_ns = self._since(now_ns)
        if self.since_ns and since_ns != self.since_ns:
            self.longest_ns = max(self.longest_ns, now_ns - self.since_ns)
        self.since_ns = since_ns
        if self._is_job:
            return since_ns, self.longest_ns, JOB_HELD
        return since_ns, self.longest_ns, int(since_ns > 0 and self.thread == self._main)

    def _since(self, now_ns: int) -> int:
        self._is_job = False
        if not TABLE.open:
            return 0
        try:
            opened = tuple(TABLE.open.values())
        except RuntimeError:
            return self.since_ns  # it changed meanwhile: other threads go on
        old = [
            (getattr(find, "__self__", None), began_ns)
            for began_ns, find, _ in opened
            if now_ns - began_ns >= _LEAST_NS
        ]
        for whose, began_ns in old:
            if whose is JOB:
                # Jobs may take hours: one is told of, but nobody is ended for it.
                self._is_job, self.thread = True, self._main
                return began_ns
        if not any(isinstance(whose, Wsgi) for whose, _ in old):
            return 0
        tops = sys._current_frames()  # noqa: SLF001 -- the documented way
        if len(tops) > _MOST_THREADS:
            return 0
        oldest_ns = 0
        for thread, top in tops.items():
            since_ns = _served_since(top)
            if not since_ns or now_ns - since_ns < _LEAST_NS:
                continue
            if thread == self._main:
                self.thread = thread
                return since_ns
            if not oldest_ns or since_ns < oldest_ns:
                oldest_ns, self.thread = since_ns, thread
        return oldest_ns


def _served_since(top: "FrameType") -> int:
    frame: FrameType | None = top
    for _ in range(_DEEPEST):
        if frame is None:
            return 0
        if frame.f_code is _SERVES:
            return int(frame.f_locals.get("began_ns") or 0)
        frame = frame.f_back
    return 0
