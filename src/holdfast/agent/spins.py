"""Does a thread ask for events again and again, without ever waiting for any?

A thread that turns without a pause (a client whose broker is gone, a loop over a queue that nobody fills) burns a processor as one that
computes does. The difference is where it comes by: again and again it is found where threads wait (``select``, a queue, an event), and each time it
has given no time to wait. Serving loops are not meant (:mod:`holdfast.core.detect.pegged`), nor is a thread that does what the program is for:
its own code is found in it, or others work with it. Only one that does little else but ask is told in any case.

Called by the plain thread with each beat. Cost: a reading of the process's clock once a second, until a fair share of a processor is used; then 10 µs a
thread and second to find the one that uses it, and a microsecond with each beat to look where it is. The thread's time is read from ``/proc``:
a clock by the thread's handle (``pthread_getcpuclockid``) would kill the process, were the thread to end meanwhile.
"""

import os
import sys
from time import process_time_ns

from holdfast.agent.calls import is_own_frame

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType

_EVERY_NS = 1_000_000_000
#: Share of a processor below which nobody is looked for; on a busy machine nobody gets more.
_WORTH = 0.2
#: Share of the time in which it did not wait for a processor that one thread has to use, and of that the others together may.
_BUSY, _OTHERS = 0.6, 0.2
#: With more threads nobody is looked for.
_MOST_THREADS = 64
#: So many looks until anything is said; share of them at which it asks, of a package's own thread and of any.
_LOOKS, _ASKS, _MOSTLY = 20, 0.02, 0.4
_DEEPEST = 40
_FEW = 3
#: Where threads wait: end of the file, function, local variable with the time that it gives.
_WAITS = (
    ("/selectors.py", "select", "timeout"),
    ("/queue.py", "get", "timeout"),
    ("/threading.py", "wait", "timeout"),
    ("/multiprocessing/connection.py", "wait", "timeout"),
)


class Spins:
    """The thread that turns; one a process."""

    __slots__ = ("_asks", "_at_ns", "_cpu_ns", "_is_own", "_looks", "_rests", "_since_ns", "_spent", "_thread")  # fmt: skip

    def __init__(self) -> None:
        self._at_ns = self._cpu_ns = 0
        #: By a thread's number in the kernel: processor time, and how long it waited for a processor.
        self._spent: dict[int, tuple[int, int]] = {}
        self._thread = 0  #: that may turn
        self._since_ns = self._looks = self._asks = self._rests = 0
        self._is_own = False  #: it runs code of the program

    def look(self, now_ns: int, serving: int) -> "tuple[int, int]":
        """Return since when a thread turns without a pause (monotonic ns; 0: none does), and which."""
        if now_ns - self._at_ns >= _EVERY_NS:
            self._find(now_ns, serving)
        if not self._thread:
            return 0, 0
        frame = sys._current_frames().get(self._thread)  # noqa: SLF001 -- the documented way
        if frame is None:
            self._thread = 0
            return 0, 0
        self._looks += 1
        given = _given(frame)
        if given == 0:
            self._asks += 1
        elif given is not None:
            self._rests += 1
        self._is_own = self._is_own or _has_own(frame)
        least = max(2, self._looks * (_MOSTLY if self._is_own else _ASKS))
        if self._looks < _LOOKS or self._asks < least or self._rests * 2 > self._asks:
            return 0, 0
        return self._since_ns, self._thread

    def _find(self, now_ns: int, serving: int) -> None:
        cpu_ns = process_time_ns()
        passed_ns, spent_ns = now_ns - self._at_ns, cpu_ns - self._cpu_ns
        self._at_ns, self._cpu_ns = now_ns, cpu_ns
        known = sys.modules.get("threading")
        active = getattr(known, "_active", None)
        if spent_ns < _WORTH * passed_ns or not active or len(active) > _MOST_THREADS:
            self._spent, self._thread = {}, 0
            return
        before, busiest, most_ns, had_ns = self._spent, 0, 0, 0
        self._spent = {}
        for ident, thread in list(active.items()):
            number = getattr(thread, "native_id", None)
            if number is None or (now := _times(number)) is None:
                continue
            self._spent[number] = now
            last = before.get(number)
            if last is not None and now[0] - last[0] > most_ns:
                busiest, most_ns = ident, now[0] - last[0]
                had_ns = passed_ns - (now[1] - last[1])
        if busiest == serving or most_ns < _BUSY * had_ns or spent_ns - most_ns > _OTHERS * most_ns:
            busiest = 0
        if busiest != self._thread:
            self._thread, self._since_ns = busiest, now_ns
            self._looks = self._asks = self._rests = 0
            self._is_own = False


def _times(thread: int) -> "tuple[int, int] | None":
    try:
        descriptor = os.open(f"/proc/self/task/{thread}/schedstat", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:  # it has ended, or this kernel does not tell
        return None
    try:
        used_ns, waited_ns = os.read(descriptor, 64).split()[:2]
        return int(used_ns), int(waited_ns)
    except (OSError, ValueError):
        return None
    finally:
        os.close(descriptor)


def _given(frame: "FrameType") -> "float | None":
    """Return the time that whoever stands here gives to wait, 0 for none, 1 for some; None: it does not ask for anything."""
    one: FrameType | None = frame
    for _ in range(_FEW):
        if one is None:
            return None
        code = one.f_code
        for path, name, variable in _WAITS:
            if code.co_name == name and code.co_filename.endswith(path):
                local = one.f_locals
                given = local.get(variable)
                if local.get("block") is False or (type(given) in (int, float) and given == 0):
                    return 0
                return 1
        one = one.f_back
    return None


def _has_own(frame: "FrameType | None") -> bool:
    for _ in range(_DEEPEST):
        if frame is None:
            return False
        if is_own_frame(frame):
            return True
        frame = frame.f_back
    return False
