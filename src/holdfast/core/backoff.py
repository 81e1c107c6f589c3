"""How long does a client wait before it tries to connect again?

Not at all the first time: most losses are a router that is being restarted, and its sockets wait for us. Then 50 ms,
doubling to 5 s, each delay shortened by chance (between half and all of it), so that a hundred clients that lost the same
router do not come back in the same millisecond. Pure: chance is an argument, and so is how long the session lived.
The idea is the usual exponential backoff with "equal jitter".
"""

FIRST_S = 0.05
LIMIT_S = 5.0


class Backoff:
    """The attempts of one client, in a row.

    Args:
        first_s: The delay before the second attempt (the first one has none).
        limit_s: No delay is longer; and a session that lived as long starts the row anew.
    """

    __slots__ = ("attempt", "first_s", "limit_s")

    def __init__(self, first_s: float = FIRST_S, limit_s: float = LIMIT_S) -> None:
        self.first_s = first_s
        self.limit_s = limit_s
        self.attempt = 0

    def next_s(self, chance: float) -> float:
        """Return the delay before the next attempt; `chance` is from 0 to 1."""
        n = self.attempt
        self.attempt = n + 1
        if n == 0:
            return 0.0
        # From here on 2 ** n would only grow a number that min() throws away.
        longest_s = min(self.limit_s, self.first_s * 2.0 ** min(n - 1, 60))
        return longest_s * (0.5 + chance / 2)

    def lived(self, lived_s: float) -> None:
        """Take note that a session was open this long.

        A router that lets us in and throws us out at once is as good as none: only a session that
        lived for a while makes the next attempt a first one.
        """
        if lived_s >= self.limit_s:
            self.attempt = 0
