"""The two beats: one of a plain thread, one of the loop that serves.

Ten times a second each. Together they tell a blocked loop (only the thread beats) from a held interpreter lock or a
stopped process (neither does). The thread also reads the control socket, and vouches for a loop that is
blocked by something its component declared long.
"""

import asyncio
import sys
import threading
from time import monotonic_ns

from holdfast.sdk.recorder import RECORDER

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from holdfast.container.control import Control
    from holdfast.container.noting import Noting
    from holdfast.container.pulse import PulseWriter

PERIOD_S = 0.1
_PERIOD_NS = 100_000_000
#: What is left of the greatest lag after one period: half of it after a second.
_LAG_DECAY = 0.933


class Beats:
    """Both beats of this process."""

    def __init__(self, pulse: "PulseWriter", noting: "Noting", control: "Control") -> None:
        self._pulse = pulse
        self._noting = noting
        self._control = control
        self._lag_ns = 0
        self._due_s = 0.0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._count_tasks: Callable[[], int] = lambda: 0

    def start_thread(self, crash: "Callable[[BaseException], None]") -> None:
        """Start the plain thread; should it ever fail, ``crash`` ends the process: a beat that nobody beats lies."""

        def run() -> None:
            try:
                self._beat_for_ever()
            except BaseException as error:  # noqa: BLE001 -- ends the process
                crash(error)

        threading.Thread(target=run, name="holdfast.beat", daemon=True).start()

    def start_loop(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin the loop's beat with its next turn."""
        self._loop = loop
        self._count_tasks = task_counter(loop)
        self._due_s = loop.time()
        loop.call_soon(self._loop_beat)

    def _loop_beat(self) -> None:
        loop = self._loop
        assert loop is not None  # noqa: S101 -- start_loop has set it
        now_s = loop.time()
        late_ns = int((now_s - self._due_s) * 1e9)
        self._lag_ns = max(late_ns, int(self._lag_ns * _LAG_DECAY))
        self._pulse.loop_beat(monotonic_ns(), self._lag_ns, self._count_tasks())
        self._due_s = now_s + PERIOD_S
        loop.call_at(self._due_s, self._loop_beat)

    def _beat_for_ever(self) -> None:
        due_ns = monotonic_ns()
        while True:
            now_ns = monotonic_ns()
            if now_ns >= due_ns:
                self._thread_beat(now_ns)
                due_ns = now_ns + _PERIOD_NS
            self._control.turn((due_ns - monotonic_ns()) / 1e9 if due_ns > now_ns else 0.0)

    def _thread_beat(self, now_ns: int) -> None:
        calls = tuple(RECORDER.calls)
        self._pulse.thread_beat(
            now_ns,
            threading.active_count(),
            len(calls),
            RECORDER.work_done,
            RECORDER.overdue_since_ns(now_ns),
        )
        running = self._noting.running
        if running is None:
            # Nobody's code on the loop: whoever has been busy longest, in a thread, is named.
            busy = [call for call in calls if call.in_thread]
            oldest = min(busy, key=lambda call: call.started_ns, default=None)
            self._noting.thread_runs(oldest.instance if oldest is not None else None)
        elif now_ns < running.long_until_ns:
            self._pulse.vouch_for_loop(now_ns)


def task_counter(loop: asyncio.AbstractEventLoop) -> "Callable[[], int]":
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
    return lambda: len(asyncio.all_tasks(loop))
