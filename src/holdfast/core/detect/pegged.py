"""Does it burn a processor and get nothing done?

Pure. A busy processor alone is no sickness: that is what processors are for. So this speaks only where work is counted: calls
wait and none ends, or nothing is asked of a loop that runs without a pause (``sleep(0)`` for ever, a cancel that is
retried). A call is a request, or where nobody counts those one call into a package (:mod:`holdfast.agent.calls`). A night job that
computes on the loop shows as lag, in a thread it does not show at all: both are left alone. A thread that asks for events and never waits for any
is told by the agent (:mod:`holdfast.agent.spins`): it is shown, for whatever the program is for goes on beside it.
"""

from holdfast.core.detect.lasting import Lasting
from holdfast.core.detect.sign import Sign, span

#: Share of one processor that counts as pegged.
BUSY = 0.85
#: A loop that spins idly is told after this many times the limit, one that nobody ever gave work a little later.
IDLE, NEVER = 3.0, 4.0
#: A loop that is later than this does not spin, it computes.
BLOCKED_S = 0.25
#: Grave after so long.
GRAVE_S = 60.0
OFF_S = 3.0


class Pegged:
    """One worker's processor and work."""

    __slots__ = ("_spins", "_stuck")

    def __init__(self) -> None:
        self._stuck = Lasting()
        self._spins = Lasting()

    def add(
        self,
        now_s: float,
        share: float,
        finished: int,
        in_flight: int,
        *,
        lag_s: float,
        has_worked: bool,
        limit_s: float,
        thread_s: float = 0.0,
    ) -> "Sign | None":
        """Take in one look.

        Args:
            now_s: Monotonic seconds.
            share: Processor time of the serving thread since the last look, 1.0 is one core.
            finished: Units of work that ended since then.
            in_flight: Units of work under way.
            lag_s: How late the loop comes.
            has_worked: Whether work was ever counted.
            limit_s: How long it may go on.
            thread_s: How long a thread beside the serving one has turned without a pause.
        """
        is_busy = share >= BUSY and not finished
        spin_s = limit_s * (IDLE if has_worked else NEVER)
        stuck = self._stuck.add(now_s, is_busy and in_flight > 0, limit_s, OFF_S)
        spins = self._spins.add(
            now_s, is_busy and not in_flight and lag_s < BLOCKED_S, spin_s, OFF_S
        )
        if stuck:
            for_s = self._stuck.for_s(now_s)
            calls = "a call" if in_flight == 1 else f"{in_flight} calls"
            says = f"{share:.0%} of a processor for {span(for_s)}, {calls} under way and none ended"
        elif spins:
            for_s = self._spins.for_s(now_s)
            says = (
                f"{share:.0%} of a processor for {span(for_s)} with nothing to do: the loop spins"
            )
        elif thread_s >= limit_s * IDLE:
            says = f"a thread has turned without a pause for {span(thread_s)}: it asks for events and never waits for any"
            return Sign(thread_s, limit_s, says)
        else:
            return None
        # Of a program that never counted any work it may be what it is for: a night job.
        return Sign(for_s, limit_s, says, is_grave=stuck and has_worked and for_s > GRAVE_S)
