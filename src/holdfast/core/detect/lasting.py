"""Has something been so for long enough to be believed, and been away for long enough to be over?

Pure. The hysteresis of every flag that is not counted in events.
"""


class Lasting:
    """Up after ``on_s`` of yes without a no, down after ``off_s`` of no without a yes."""

    __slots__ = ("_other_s", "is_up", "since_s")

    def __init__(self) -> None:
        self.is_up = False
        self.since_s = (
            -1.0
        )  #: since when it has been yes (of an up one: when it went up); -1: it is not
        self._other_s = -1.0

    def add(self, now_s: float, is_so: bool, on_s: float, off_s: float) -> bool:
        """Take in one look; return whether it is up."""
        if is_so:
            self._other_s = -1.0
            if self.since_s < 0:
                self.since_s = now_s
            self.is_up = self.is_up or now_s - self.since_s >= on_s
        elif self.is_up:
            if self._other_s < 0:
                self._other_s = now_s
            if now_s - self._other_s >= off_s:
                self.is_up, self.since_s = False, -1.0
        else:
            self.since_s = -1.0
        return self.is_up

    def for_s(self, now_s: float) -> float:
        """Return for how long it has been yes; 0 when it is not."""
        return now_s - self.since_s if self.since_s >= 0 else 0.0
