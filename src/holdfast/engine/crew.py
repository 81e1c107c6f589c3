"""The executors of one kind, as whoever fetches for them sees them."""

from collections import deque

from holdfast.core.fetch import Pace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Protocol

    from holdfast.engine.running import Item

    class Lock(Protocol):
        """A bare lock."""

        def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
            """Take it."""

        def release(self) -> None:
            """Give it back."""

        def locked(self) -> bool:
            """Whether it is taken."""


class Crew:
    """The executors of one kind (threads or coroutines) and the jobs that wait for them."""

    __slots__ = ("busy", "idle", "low", "pace", "ran", "seen", "size", "spent_ns", "waiting")

    def __init__(self, size: int) -> None:
        self.size = size
        self.waiting: deque[Item] = deque()
        self.idle: deque[Lock] = deque()  #: of those who sleep: to be released once each
        self.pace = Pace()
        self.low = 0  #: with fewer waiting than this, more are fetched while others still run
        self.ran = self.spent_ns = 0  #: since the last fetch
        self.busy: Callable[[], int] = lambda: 0
        self.seen: dict[str, int] = {}  #: by queue, when a job of this kind was there last
