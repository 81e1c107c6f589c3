"""When has somebody guessed often enough, and has to wait?

A sliding count for each peer (the host, without its port): after `limit` failures within the window nobody from there is
listened to until the oldest of them is out of it. Lenient by default, for many honest people share an address. Only
wrong proofs count, not mistakes in the protocol. Pure: time comes in.
"""

from collections import deque

LIMIT, WINDOW_S = 100, 60.0
#: Peers that are remembered; beyond, the one that failed longest ago is forgotten.
_PEERS = 10_000


class Attempts:
    """The failures of the last minute, by peer."""

    __slots__ = ("_failures", "limit", "window_s")

    def __init__(self, limit: int = LIMIT, window_s: float = WINDOW_S) -> None:
        self.limit = limit
        self.window_s = window_s
        self._failures: dict[str, deque[float]] = {}

    def note_failure(self, peer: str, now_s: float) -> None:
        """Somebody from there gave a wrong proof."""
        # Taken out and put in again: the dict stays in the order of the last failure.
        times = self._failures.pop(peer, None) or deque(maxlen=self.limit)
        times.append(now_s)
        self._failures[peer] = times
        if len(self._failures) > _PEERS:
            del self._failures[next(iter(self._failures))]

    def wait_s(self, peer: str, now_s: float) -> float:
        """Tell how long nobody from there is listened to; 0.0: speak."""
        times = self._failures.get(peer)
        if times is None:
            return 0.0
        while times and times[0] <= now_s - self.window_s:
            times.popleft()
        if not times:
            del self._failures[peer]
            return 0.0
        if len(times) < self.limit:
            return 0.0
        return times[0] + self.window_s - now_s
