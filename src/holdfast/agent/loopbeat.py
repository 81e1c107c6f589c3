"""The beat of the loop that serves: ten times a second, how late it came, what the loop has to carry."""

import sys
from time import monotonic_ns, thread_time_ns

TYPE_CHECKING = False
if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from holdfast.agent.pulse import PulseWriter

PERIOD_S = 0.1
#: A turn that comes this much too late is counted.
LATE_NS = 250_000_000
#: What is left of the greatest lag after one period: half of it after a second.
_LAG_DECAY = 0.933


class LoopBeat:
    """Beats in one loop until it is told to rest."""

    __slots__ = ("_count_tasks", "_due_s", "_handle", "_lag_ns", "_late", "_loop", "_pulse")

    def __init__(self, pulse: "PulseWriter") -> None:
        self._pulse = pulse
        self._lag_ns = 0
        self._late = 0
        self._due_s = 0.0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._handle: asyncio.Handle | None = None
        self._count_tasks: Callable[[], int] = lambda: 0

    def begin(self, loop: "asyncio.AbstractEventLoop") -> None:
        """Begin with the loop's next turn."""
        if self._loop is not loop:
            self._loop = loop
            self._count_tasks = task_counter(loop)
        self._due_s = loop.time()
        self._handle = loop.call_soon(self._beat)

    def rest(self) -> None:
        """Beat no more: the loop has stopped, or another one serves."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _beat(self) -> None:
        loop = self._loop
        assert loop is not None  # noqa: S101 -- begin() has set it
        now_s = loop.time()
        late_ns = int((now_s - self._due_s) * 1e9)
        if late_ns > LATE_NS:
            self._late += 1
        self._lag_ns = max(late_ns, int(self._lag_ns * _LAG_DECAY))
        self._pulse.loop_beat(
            monotonic_ns(), self._lag_ns, self._count_tasks(), self._late, thread_time_ns()
        )
        self._due_s = now_s + PERIOD_S
        self._handle = loop.call_at(self._due_s, self._beat)


def task_counter(loop: "asyncio.AbstractEventLoop") -> "Callable[[], int]":
    """Return the cheapest way that this Python has to count the tasks of a loop.

    ``asyncio.all_tasks`` builds a list of all of them: right everywhere, but slow just when there is a bomb. The
    private sets it reads have a length.
    """
    tasks = sys.modules["asyncio.tasks"]
    known = getattr(tasks, "_all_tasks", None)  # 3.11
    if known is not None:
        return known.__len__  # type: ignore[no-any-return]
    scheduled, eager = (
        getattr(tasks, "_scheduled_tasks", None),
        getattr(tasks, "_eager_tasks", None),
    )
    # 3.14 keeps the tasks of its C implementation in a linked list that has no length.
    if sys.version_info < (3, 14) and scheduled is not None and eager is not None:
        return lambda: len(scheduled) + len(eager)
    return lambda: len(sys.modules["asyncio"].all_tasks(loop))
