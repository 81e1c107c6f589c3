"""How much time is left, and how is a collector stopped that takes too long?

A remedy waits for the evidence, so every collector runs under an alarm: a signal that raises in the middle of
whatever it does. What not even a signal can interrupt (a read from a dead network file system) holds up this
process only; the watchdog stops waiting for it at the same deadline.
"""

import time

from holdfast.linux import signals as signal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType


#: The usual evidence budget (``evidence_budget_s``); limits of single collectors are meant for it.
BUDGET_S = 2.0


class OutOfTime(Exception):  # noqa: N818 -- reads as what it says
    """The time given to a collector is over."""


class Deadline:
    """The time that a whole capture may take, from its making on."""

    __slots__ = ("began_s", "seconds", "until_s")

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.began_s = time.monotonic()
        self.until_s = self.began_s + seconds

    def left_s(self) -> float:
        """Return the seconds that are left; never below zero."""
        return max(0.0, self.until_s - time.monotonic())

    def scaled(self, seconds: float) -> float:
        """Return a limit that is meant for the usual budget, longer where more time was given, and never beyond the end."""
        return min(self.left_s(), seconds * max(1.0, self.seconds / BUDGET_S))

    def took_s(self) -> float:
        """Return the seconds since the beginning."""
        return time.monotonic() - self.began_s


class alarm:  # noqa: N801 -- used as a statement: with alarm(0.3)
    """Raise :class:`OutOfTime` in the block after this many seconds. Not to be nested."""

    __slots__ = ("seconds",)

    def __init__(self, seconds: float) -> None:
        # Zero would switch the timer off instead of letting it go off at once.
        self.seconds = max(0.001, seconds)

    def __enter__(self) -> None:
        signal.signal(signal.SIGALRM, self._ring)
        signal.setitimer(signal.ITIMER_REAL, self.seconds)

    def __exit__(self, *_: object) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0.0)

    def _ring(self, _number: int, _frame: "FrameType | None") -> None:
        raise OutOfTime(f"took longer than {self.seconds:.2g} s")
