"""Did a process that this program started die of a signal, and does somebody wait for what it would have said?

``multiprocessing`` starts another process for a dead one of its pool, and the job that it had is lost: whoever waits for that result waits
for ever, and looks like any program that rests. Only deaths that nobody here asked for count. Costs nothing but at the end of a process.
"""

from _weakref import ref

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType
    from typing import Any

#: Signals of those that died, the first ones.
died: "list[int]" = []
_MOST = 100
#: So near to where a thread stands a wait for another process is looked for.
_NEAR = 5


def install(module: "Any") -> None:
    """Note the deaths of processes that ``multiprocessing`` starts from now on (fork, spawn)."""
    popen = module.Popen
    poll, send = popen.poll, getattr(popen, "_send_signal", None)
    if hasattr(poll, "holdfast_original") or send is None:
        return
    meant: set[Any] = set()

    def holdfast_poll(self: "Any", *args: "Any", **kwargs: "Any") -> "Any":
        before = self.returncode
        code = poll(self, *args, **kwargs)
        is_death = before is None and type(code) is int and code < 0
        if is_death and ref(self) not in meant and len(died) < _MOST:
            died.append(-code)
        return code

    def _send_signal(self: "Any", number: "Any") -> "Any":
        meant.add(ref(self, meant.discard))
        return send(self, number)

    holdfast_poll.holdfast_original = poll  # type: ignore[attr-defined]
    holdfast_poll.__name__, holdfast_poll.__qualname__ = "poll", "Popen.poll"
    popen.poll, popen._send_signal = holdfast_poll, _send_signal  # noqa: SLF001


def is_missed(frame: "FrameType | None") -> bool:
    """Whether a thread waits for another process, after one has died."""
    if not died:
        return False
    for _ in range(_NEAR):
        if frame is None:
            return False
        if "/multiprocessing/" in frame.f_code.co_filename:
            # The threads of a pool rest there, too: they are no one's waiting.
            return not _is_pools_own(frame)
        frame = frame.f_back
    return False


def _is_pools_own(frame: "FrameType | None") -> bool:
    outermost = frame
    while outermost is not None and outermost.f_back is not None:
        outermost = outermost.f_back
        name = outermost.f_code.co_name
        if name in ("_handle_workers", "_handle_tasks", "_handle_results", "_feed", "_serve"):
            return True
    return False
