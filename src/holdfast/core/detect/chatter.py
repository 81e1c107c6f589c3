"""Does it write far more into its log than it used to, or has it fallen silent?

Pure. A storm is more than a set rate and many times the usual one. Silence is told only of a worker that never paused for long,
and that still works: no traffic, no lines, no sickness.
"""

from holdfast.core.detect.lasting import Lasting
from holdfast.core.detect.sign import Sign, size, span

#: Times the usual rate, for so long; and over after so long.
FACTOR, STORM_S, OFF_S = 30.0, 6.0, 10.0
#: What is usual: a slow mean, learned from this many looks on.
MEMORY_S, KNOWN_S = 300.0, 60.0
#: Silence: so many times the longest pause so far, in a life that was observed for so long.
PAUSES, OBSERVED_S = 10.0, 600.0
#: "It still works": at least this share of the usual processor time, but for this share of the looks.
WORKS, IDLE = 0.5, 0.2


class Chatter:
    """The log of one worker."""

    __slots__ = (
        "_began_s", "_bytes", "_cpu", "_idle", "_last_s", "_looks", "_pause_s", "_rate", "_spoke_s", "_storm", "is_silent",
    )  # fmt: skip

    def __init__(self) -> None:
        self._began_s = -1.0
        self._bytes = 0
        self._last_s = self._spoke_s = 0.0
        self._rate = 0.0
        self._cpu = 0.0
        self._pause_s = 0.0
        self._looks = self._idle = 0
        self._storm = Lasting()
        self.is_silent = False

    def add(
        self, now_s: float, written: int, cpu_share: float, storm_per_s: float, silence_s: float
    ) -> "tuple[Sign | None, Sign | None]":
        """Take in one look; return what is to be said about storm and silence.

        Args:
            now_s: Monotonic seconds.
            written: Bytes written so far; less than before after the log was rotated.
            cpu_share: Processor share since the last look: whether it works.
            storm_per_s: Bytes a second below which nothing is a storm; 0: off.
            silence_s: Shorter silence is none; 0: off.
        """
        if self._began_s < 0:
            self._began_s = self._last_s = self._spoke_s = now_s
            self._bytes = written
            return None, None
        passed_s = now_s - self._last_s
        if passed_s <= 0:
            return None, None
        grown = written - self._bytes if written >= self._bytes else written
        self._bytes, self._last_s = written, now_s
        rate = grown / passed_s
        if grown:
            self._pause_s = max(self._pause_s, now_s - self._spoke_s)
            self._spoke_s = now_s
        storm = self._stormy(now_s, rate, storm_per_s)
        silence = self._silent(now_s, cpu_share, silence_s)
        if not self._storm.is_up:
            weight = min(1.0, passed_s / max(passed_s, min(MEMORY_S, now_s - self._began_s)))
            bounded = min(rate, 3 * self._rate + 1e4) if now_s - self._began_s > KNOWN_S else rate
            self._rate += weight * (bounded - self._rate)
        if not self.is_silent and grown:
            self._cpu += 0.05 * (cpu_share - self._cpu)
        return storm, silence

    def _stormy(self, now_s: float, rate: float, limit: float) -> "Sign | None":
        is_known = now_s - self._began_s > KNOWN_S
        bound = max(limit, FACTOR * self._rate) if is_known else FACTOR * limit
        bound *= 0.3 if self._storm.is_up else 1.0
        if not self._storm.add(now_s, limit > 0 and rate > bound, STORM_S, OFF_S):
            return None
        return Sign(
            rate, bound, f"it writes {size(rate)} of log a second, usually {size(self._rate)}"
        )

    def _silent(self, now_s: float, cpu_share: float, limit_s: float) -> "Sign | None":
        silent_s = now_s - self._spoke_s
        is_told = now_s - self._began_s > OBSERVED_S and limit_s > 0
        works = cpu_share > 0.01 and cpu_share > WORKS * self._cpu
        # All of the time, not just for a job of its own at midnight.
        self._looks, self._idle = (
            (self._looks + 1, self._idle + int(not works)) if silent_s else (0, 0)
        )
        works = works and self._idle <= IDLE * self._looks
        bound_s = max(limit_s, PAUSES * self._pause_s)
        self.is_silent = is_told and silent_s > bound_s and (works or self.is_silent)
        if not self.is_silent:
            return None
        says = f"no line of log for {span(silent_s)}, though it works as before; it never paused longer than {span(self._pause_s)}"
        return Sign(silent_s, bound_s, says)
