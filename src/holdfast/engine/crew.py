"""The executors of one kind, as whoever fetches for them sees them."""

from collections import deque

from holdfast.core.fetch import Pace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Container
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

    # Of a copy, made in one go: executors take from it meanwhile, and a deque that changes ends whoever goes through it.

    def see_queues(self, now_ns: int) -> None:
        """Note from which queues the jobs are that wait here."""
        for _, job, _ in self.waiting.copy():
            self.seen[str(job.get("queue"))] = now_ns

    def forget(self, tokens: "Container[int]") -> None:
        """Take out those of these jobs that nobody has started."""
        for item in self.waiting.copy():
            if item[0].token in tokens:
                try:
                    self.waiting.remove(item)
                except ValueError:
                    continue  # somebody just has
