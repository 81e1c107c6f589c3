"""How often, how much, how long: what a component counts about itself.

Numbers in this process's memory, read through the container's control socket; they begin at zero with each life, and
whoever collects them takes that into account (as Prometheus does with counters). A name is a name and no place for an id: there is a limit to
their number, so that a mistake there cannot eat the memory. Left out: labels, percentiles of a stream, sending them anywhere.
"""

from threading import Lock
from time import monotonic_ns

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Any

#: Different names that one component may use; of more, nothing is kept but the fact.
MOST_NAMES = 500

#: Upper ends of the classes in which times are counted, in seconds: 0.1 ms, doubling, up to 52 s.
BOUNDS_S = tuple(0.0001 * 2**at for at in range(20))


class Metrics:
    """The numbers of one life of a component; from any thread."""

    __slots__ = ("_lock", "_names", "bus", "counts", "gauges", "refused", "timings")

    def __init__(self) -> None:
        self._lock = Lock()
        self._names: set[str] = set()
        self.counts: dict[str, float] = {}
        self.gauges: dict[str, float] = {}
        self.timings: dict[str, list[float]] = {}
        #: Of a router: what went over each of its realms, from any thread.
        self.bus: Callable[[], dict[str, dict[str, int]]] | None = None
        self.refused = 0  #: numbers that came under a name too many

    def count(self, name: str, n: float) -> None:
        """Add to a counter."""
        with self._lock:
            if name in self.counts:
                self.counts[name] += n
            elif self._is_room_for(name):
                self.counts[name] = n

    def gauge(self, name: str, value: float) -> None:
        """Set a gauge."""
        with self._lock:
            if name in self.gauges or self._is_room_for(name):
                self.gauges[name] = value

    def timing(self, name: str, took_s: float) -> None:
        """Count a duration into its class."""
        with self._lock:
            kept = self.timings.get(name)
            if kept is None:
                if not self._is_room_for(name):
                    return
                # number, sum, longest, then the number in each class and beyond the last one
                kept = self.timings[name] = [0, 0.0, 0.0, *([0] * (len(BOUNDS_S) + 1))]
            kept[0] += 1
            kept[1] += took_s
            kept[2] = max(kept[2], took_s)
            at = 0
            for bound_s in BOUNDS_S:
                if took_s <= bound_s:
                    break
                at += 1
            kept[3 + at] += 1

    def read(self) -> "dict[str, Any]":
        """Return all of it as JSON values."""
        with self._lock:
            return {
                "counts": dict(self.counts),
                "gauges": dict(self.gauges),
                "timings": {name: _timing(kept) for name, kept in self.timings.items()},
                "refused": self.refused,
                **({"bus": self.bus()} if self.bus is not None else {}),
            }

    def _is_room_for(self, name: str) -> bool:
        if len(self._names) >= MOST_NAMES and name not in self._names:
            self.refused += 1
            return False
        self._names.add(name)
        return True


class Timing:
    """A block whose duration is counted."""

    __slots__ = ("_began_ns", "_metrics", "_name")

    def __init__(self, metrics: Metrics, name: str) -> None:
        self._metrics = metrics
        self._name = name

    def __enter__(self) -> None:
        self._began_ns = monotonic_ns()

    def __exit__(
        self,
        kind: "type[BaseException] | None",
        error: "BaseException | None",
        trace: "TracebackType | None",
    ) -> None:
        self._metrics.timing(self._name, (monotonic_ns() - self._began_ns) / 1e9)


def _timing(kept: "list[float]") -> "dict[str, Any]":
    classes = [
        [BOUNDS_S[at] if at < len(BOUNDS_S) else None, kept[3 + at]]
        for at in range(len(BOUNDS_S) + 1)
        if kept[3 + at]
    ]
    return {"count": kept[0], "sum_s": kept[1], "max_s": kept[2], "up_to_s": classes}
