"""Is the program inside one single call that computes and does not end?

A program without an event loop and without requests has no unit of work that anybody could count. One call into a package (or into the
standard library) is one: while it lasts, it is work under way. Asked with each beat of the plain thread, and answered from the stack of
the main thread only while that thread burns a processor, so a program that waits costs one reading of a clock.

The call is the outermost frame of the code that is not the program's own, counted from the innermost frame: it has to be the very same
frame, look after look, with nothing of the program's own below it. A server's main loop is not taken for one: below it run handlers.
Imports compute, too, and are meant to.
"""

import os
import sys
from time import clock_gettime_ns, monotonic_ns

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import CodeType, FrameType

#: Share of a processor that the main thread has to use: little, for on a busy machine nobody gets more.
_BUSY = 0.2
#: The call is looked for so near to where the thread is: what is further out is how the program runs.
_DEEPEST = 12
#: So long it has to last to be one.
_LEAST_NS = 1_000_000_000
_PACKAGES = ("/site-packages/", "/dist-packages/")
_LIBRARY = f"{os.path.dirname(os.__file__)}/"
_known: "dict[str, bool]" = {}  #: by file: whether it is the program's own
_OURS = f"{os.path.dirname(os.path.dirname(__file__))}/"


class Calls:
    """The call that the main thread is in; one a process."""

    __slots__ = ("_at_ns", "_clock", "_cpu_ns", "_frame", "_main", "_since_ns")

    def __init__(self, main: int) -> None:
        self._main = main
        self._clock = _clock_of(main)
        self._at_ns = self._cpu_ns = self._since_ns = 0
        self._frame = 0  #: identity of the outermost frame of the call

    def under_way(self) -> int:
        """Return 1 while the main thread is in a call that computes for long, else 0."""
        if self._clock is None:
            return 0
        now_ns = monotonic_ns()
        cpu_ns = clock_gettime_ns(self._clock)
        passed_ns, spent_ns = now_ns - self._at_ns, cpu_ns - self._cpu_ns
        self._at_ns, self._cpu_ns = now_ns, cpu_ns
        if spent_ns < _BUSY * passed_ns:
            self._frame = 0
            return 0
        self._look(now_ns)
        return int(self._frame != 0 and now_ns - self._since_ns >= _LEAST_NS)

    def _look(self, now_ns: int) -> None:
        innermost: FrameType | None = sys._current_frames().get(self._main)  # noqa: SLF001 -- the documented way
        call, near = 0, 0
        frame = innermost
        while frame is not None and near < _DEEPEST:
            if frame.f_code.co_filename.startswith("<frozen importlib"):
                self._frame = 0
                return
            if is_own(frame.f_code):
                break
            call, near = id(frame), near + 1
            if call == self._frame:
                return  # the same call as before
            frame = frame.f_back
        self._frame, self._since_ns = call, now_ns


def is_own(code: "CodeType") -> bool:
    """Whether code is the program's own: neither the interpreter's library, nor a package's, nor ours."""
    found = _known.get(code.co_filename)
    if found is None:
        path = code.co_filename
        found = not (
            path.startswith((_LIBRARY, _OURS, "<frozen")) or any(p in path for p in _PACKAGES)
        )
        if len(_known) > 5000:
            _known.clear()
        _known[path] = found
    return found


def is_own_frame(frame: "FrameType") -> bool:
    """Whether a frame is the program's own; what a package has made of a text (a decorator, a template) is not."""
    code = frame.f_code
    if code.co_filename.startswith("<") and frame.f_globals.get("__name__") != "__main__":
        return False
    return is_own(code)


def _clock_of(thread: int) -> "int | None":
    """Return the clock of a thread's processor time (a negative number); None where there is none."""
    try:
        from time import pthread_getcpuclockid

        return pthread_getcpuclockid(thread)
    except (ImportError, OSError):
        return None
