"""The two beats: one of a plain thread, one of the loop that serves.

Ten times a second each. Together they tell a blocked loop (only the thread beats) from a held interpreter lock or a
stopped process (neither does). The thread also reads the control socket, and vouches for a loop that is
blocked by something its component declared long.
"""

import threading
from time import monotonic_ns

from holdfast.agent.loopbeat import PERIOD_S, LoopBeat
from holdfast.agent.report import Reporter
from holdfast.agent.routes import TABLE
from holdfast.sdk.recorder import RECORDER

TYPE_CHECKING = False
if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from holdfast.agent.pulse import PulseWriter
    from holdfast.container.control import Control
    from holdfast.container.noting import Noting

_PERIOD_NS = int(PERIOD_S * 1e9)


class Beats:
    """Both beats of this process."""

    def __init__(self, pulse: "PulseWriter", noting: "Noting", control: "Control") -> None:
        self._pulse = pulse
        self._noting = noting
        self._control = control
        self._loop_beat = LoopBeat(pulse)
        self.reporter = Reporter(pulse)

    def start_thread(self, crash: "Callable[[BaseException], None]") -> None:
        """Start the plain thread; should it ever fail, ``crash`` ends the process: a beat that nobody beats lies."""

        def run() -> None:
            try:
                self._beat_for_ever()
            except BaseException as error:  # noqa: BLE001 -- ends the process
                crash(error)

        threading.Thread(target=run, name="holdfast.beat", daemon=True).start()

    def start_loop(self, loop: "asyncio.AbstractEventLoop") -> None:
        """Begin the loop's beat with its next turn; called in the thread that serves."""
        self.reporter.serving_thread = threading.get_ident()
        self._loop_beat.begin(loop)

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
        threads, done = threading.active_count(), RECORDER.work_done + TABLE.requests()
        self.reporter.beat(now_ns, threads)
        self._pulse.thread_beat(
            now_ns,
            threads,
            len(calls) + TABLE.in_flight,
            done,
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
