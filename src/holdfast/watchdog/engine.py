"""The one place where the watchdog waits: descriptors and moments, nothing else.

Everything else is called from here and has to return at once. What may wait (a disk that has stopped answering, a
network file system) is handed to a second thread; if that one hangs, the watchdog goes on without its answers.
"""

import _queue
import _thread
import select
import time
from _heapq import heappop, heappush

from holdfast.linux import system as os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

READ, WRITE = select.EPOLLIN, select.EPOLLOUT
#: No wait is longer than this, so that a fault in a timer cannot silence the beat.
_LONGEST_S = 1.0


class Engine:
    """Calls back when a descriptor is ready or a moment has come."""

    __slots__ = ("_aside", "_done", "_number", "_poll", "_timers", "_wake", "_watched", "say")

    def __init__(self, say: "Callable[[str], None]") -> None:
        self.say = say
        self._poll = select.epoll()
        self._watched: dict[int, Callable[[int], None]] = {}
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._number = 0
        self._aside: (
            _queue.SimpleQueue[tuple[Callable[[], object], Callable[[object], None]]] | None
        ) = None
        self._done: _queue.SimpleQueue[tuple[Callable[[object], None], object]] = (
            _queue.SimpleQueue()
        )
        self._wake = -1

    def watch(self, descriptor: int, mask: int, call: "Callable[[int], None]") -> None:
        """Call ``call(events)`` whenever ``descriptor`` is ready for ``mask``."""
        if descriptor in self._watched:
            self._poll.modify(descriptor, mask)
        else:
            self._poll.register(descriptor, mask)
        self._watched[descriptor] = call

    def unwatch(self, descriptor: int) -> None:
        """Forget a descriptor; call before closing it."""
        if self._watched.pop(descriptor, None) is not None:
            try:
                self._poll.unregister(descriptor)
            except OSError:
                pass  # somebody closed it first, and the kernel has forgotten it already

    def at(self, due_s: float, call: "Callable[[], None]") -> None:
        """Call once, at a moment of the monotonic clock."""
        self._number += 1
        heappush(self._timers, (due_s, self._number, call))

    def aside(self, work: "Callable[[], object]", then: "Callable[[object], None]") -> None:
        """Run ``work`` on the other thread and ``then(result)`` here; an OSError comes as the result."""
        if self._aside is None:
            self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
            self.watch(self._wake, READ, self._woken)
            self._aside = _queue.SimpleQueue()
            _thread.start_new_thread(self._work, (self._aside,))
        self._aside.put((work, then))

    def _work(
        self, jobs: "_queue.SimpleQueue[tuple[Callable[[], object], Callable[[object], None]]]"
    ) -> None:
        while True:
            work, then = jobs.get()
            try:
                result = work()
            except OSError as error:
                result = error
            self._done.put((then, result))
            os.eventfd_write(self._wake, 1)

    def _woken(self, _events: int) -> None:
        os.eventfd_read(self._wake)
        while not self._done.empty():
            then, result = self._done.get()
            then(result)

    def run(self) -> None:
        """Serve for ever."""
        while True:
            self.once()

    def once(self) -> None:
        """Wait for the next thing and do it."""
        timers = self._timers
        pause_s = min(_LONGEST_S, timers[0][0] - time.monotonic()) if timers else _LONGEST_S
        # epoll_wait is given whole milliseconds: rounded down, it would spin through the last one.
        for descriptor, events in self._poll.poll(max(0.0, pause_s)):
            call = self._watched.get(descriptor)
            if call is not None:
                call(events)
        now_s = time.monotonic()
        while timers and timers[0][0] <= now_s:
            heappop(timers)[2]()
