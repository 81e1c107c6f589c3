"""How often may somebody try to sign in? A bucket for each address, and one for all of them together.

Pure: the clock is the caller's. Left out: what is counted; a try that succeeded gives its place back.
"""

#: So many tries at once, and one more after so many seconds: for one address, and for all.
PER_ADDRESS = (5, 15.0)
FOR_ALL = (30, 2.0)
#: More addresses than these are not told apart: the oldest is forgotten, and the bucket for all still holds.
MOST_ADDRESSES = 4096


class Bucket:
    """Holds tries; one comes back every ``every_s`` seconds."""

    __slots__ = ("_at_s", "_every_s", "_left", "_most")

    def __init__(self, most: int, every_s: float, now_s: float) -> None:
        self._most, self._every_s = most, every_s
        self._left, self._at_s = float(most), now_s

    def wait_s(self, now_s: float) -> float:
        """Return how long it takes until there is a try; 0 when there is one."""
        self._fill(now_s)
        return 0.0 if self._left >= 1.0 else (1.0 - self._left) * self._every_s

    def take(self, now_s: float) -> None:
        """Use one."""
        self._fill(now_s)
        self._left -= 1.0

    def give_back(self) -> None:
        """It was no guess."""
        self._left = min(float(self._most), self._left + 1.0)

    def _fill(self, now_s: float) -> None:
        self._left = min(
            float(self._most), self._left + max(0.0, now_s - self._at_s) / self._every_s
        )
        self._at_s = max(self._at_s, now_s)


class Tries:
    """The tries of everybody."""

    def __init__(self, now_s: float) -> None:
        self._all = Bucket(*FOR_ALL, now_s)
        self._of: dict[str, Bucket] = {}

    def take(self, address: str, now_s: float) -> float:
        """Use a try of this address; return 0.0, or how many seconds it has to wait instead."""
        own = self._of.pop(address, None) or Bucket(*PER_ADDRESS, now_s)
        self._of[address] = own  # the newest last
        if len(self._of) > MOST_ADDRESSES:
            del self._of[next(iter(self._of))]
        wait_s = max(own.wait_s(now_s), self._all.wait_s(now_s))
        if wait_s <= 0.0:
            own.take(now_s)
            self._all.take(now_s)
        return wait_s

    def succeeded(self, address: str) -> None:
        """The last try of this address was right."""
        self._all.give_back()
        if address in self._of:
            self._of[address].give_back()
