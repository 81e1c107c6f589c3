"""Does it write far more into its log than it used to, or has it fallen silent?

Pure. A storm is more than a set rate and many times the usual one; far less of it will do when it is the same complaint all the time (a client that
connects again, without a pause, to what is gone). Silence is told only of a worker that has the habit of
writing, never paused for long, and still works: no traffic, no lines, no sickness.
"""

from holdfast.core.detect.lasting import Lasting
from holdfast.core.detect.sign import Sign, size, span

#: Times the usual rate, for so long; and over after so long.
FACTOR, STORM_S, OFF_S = 30.0, 6.0, 10.0
#: Share of the rate that makes a storm, where so many of the last lines are one complaint.
COMPLAINTS, ALIKE = 0.05, 0.9
#: What such a line has, in small letters; and so many of them are looked at.
WORDS = (b"error", b"exception", b"refused", b"fail", b"warn", b"timeout", b"timed out")
LINES, FEWEST = 200, 20
#: What is usual: a slow mean, learned from this many looks on.
MEMORY_S, KNOWN_S = 300.0, 60.0
#: Silence: so many times the longest pause so far, in a life that was observed for so long.
PAUSES, OBSERVED_S = 10.0, 600.0
#: Who wrote in so many looks, the last of them so long after the first look, has the habit of writing. A banner at the start is none.
SPOKEN, HABIT_S = 5, 120.0
#: "It still works": at least this share of the usual processor time, but for this share of the looks.
WORKS, IDLE = 0.5, 0.2


class Chatter:
    """The log of one worker."""

    __slots__ = (
        "_began_s", "_bytes", "_cpu", "_idle", "_last_s", "_looks", "_pause_s", "_rate", "_spoke_s", "_spoken", "_storm", "is_loud", "is_silent",
    )  # fmt: skip

    def __init__(self) -> None:
        self._began_s = -1.0
        self._bytes = 0
        self._last_s = self._spoke_s = 0.0
        self._rate = 0.0
        self._cpu = 0.0
        self._pause_s = 0.0
        self._looks = self._idle = self._spoken = 0
        self._storm = Lasting()
        self.is_silent = False
        self.is_loud = False  #: enough to look at what it writes

    def add(
        self, now_s: float, written: int, cpu_share: float, storm_per_s: float, silence_s: float, alike: float = 0.0
    ) -> "tuple[Sign | None, Sign | None]":  # fmt: skip
        """Take in one look; return what is to be said about storm and silence.

        Args:
            now_s: Monotonic seconds.
            written: Bytes written so far; less than before after the log was rotated.
            cpu_share: Processor share since the last look: whether it works.
            storm_per_s: Bytes a second below which nothing is a storm; 0: off.
            silence_s: Shorter silence is none; 0: off.
            alike: Share of the last lines that are one and the same complaint; asked for where it is loud.
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
            self._spoken += 1
        was_loud = self.is_loud
        storm = self._stormy(now_s, rate, storm_per_s, alike)
        silence = self._silent(now_s, cpu_share, silence_s)
        # What it complains of is never usual; on the first loud look it is not known yet whether it does.
        complains = self.is_loud and (alike >= ALIKE or not was_loud)
        if not self._storm.is_up and not complains:
            weight = min(1.0, passed_s / max(passed_s, min(MEMORY_S, now_s - self._began_s)))
            bounded = min(rate, 3 * self._rate + 1e4) if now_s - self._began_s > KNOWN_S else rate
            self._rate += weight * (bounded - self._rate)
        if not self.is_silent and grown:
            self._cpu += 0.05 * (cpu_share - self._cpu)
        return storm, silence

    def _stormy(self, now_s: float, rate: float, limit: float, alike: float) -> "Sign | None":
        is_known = now_s - self._began_s > KNOWN_S
        bound = max(limit, FACTOR * self._rate) if is_known else FACTOR * limit
        # Of somebody who complains like this from the start it is not known what is usual, and does not have to be.
        loud = max(COMPLAINTS * limit, FACTOR * self._rate) if is_known else COMPLAINTS * limit
        loud *= 0.3 if self._storm.is_up else 1.0
        self.is_loud = limit > 0 and rate > loud
        if alike >= ALIKE:
            bound = min(bound, loud)
        bound *= 0.3 if self._storm.is_up and alike < ALIKE else 1.0
        if not self._storm.add(now_s, limit > 0 and rate > bound, STORM_S, OFF_S):
            return None
        same = ", the same complaint all the time" if alike >= ALIKE else ""
        return Sign(
            rate, bound, f"it writes {size(rate)} of log a second{same}, usually {size(self._rate)}"
        )

    def _silent(self, now_s: float, cpu_share: float, limit_s: float) -> "Sign | None":
        silent_s = now_s - self._spoke_s
        is_told = now_s - self._began_s > OBSERVED_S and limit_s > 0
        is_told = is_told and self._spoken >= SPOKEN and self._spoke_s - self._began_s >= HABIT_S
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


def alike(tail: bytes) -> float:
    """Return which share of the last lines is one and the same complaint, whatever numbers are in it."""
    lines = tail.split(b"\n")[1:-1][-LINES:]
    if len(lines) < FEWEST:
        return 0.0
    counts: dict[bytes, int] = {}
    for line in lines:
        key = line.translate(None, b"0123456789")
        counts[key] = counts.get(key, 0) + 1
    most = max(counts, key=lambda key: (counts[key], key))
    complains = any(word in most.lower() for word in WORDS)
    return counts[most] / len(lines) if complains else 0.0
