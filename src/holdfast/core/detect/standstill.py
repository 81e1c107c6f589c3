"""Is the whole process kept from running: stopped, or stuck inside the kernel?

Pure. Asked of programs without any heartbeat, from what the kernel says of every process: state T at each look (SIGSTOP, a debugger), or
state D at each look without one tick of processor time in between (a dead network file system, a broken disk). A program that reads a
disk for hours is in state D most of the time, too, but it uses the processor now and then. That a program merely waits is no standstill.
"""

from holdfast.core.detect.sign import Sign, span

#: So many times ``detect.freeze``.
STOPPED, IN_KERNEL = 5.0, 10.0
#: Looks that it takes at least, where they are rare.
LOOKS = 4

_STOPPED = "stopped for {}: somebody sent SIGSTOP, or a debugger holds it"
_WAITS = (
    "it has waited inside the kernel for {} (a disk or a network file system) and used no processor"
)


class Standstill:
    """The state of one process, as long as it stands; whoever runs needs none."""

    __slots__ = ("_cpu_ns", "_looks", "_since_s", "_state")

    def __init__(self) -> None:
        self._state = ""
        self._since_s = 0.0
        self._cpu_ns = 0
        self._looks = 0

    def add(self, now_s: float, state: str, cpu_ns: int, freeze_s: float) -> "Sign | None":
        """Take in one look.

        Args:
            now_s: Monotonic seconds.
            state: As in ``/proc/PID/stat``: T, t, D, or anything else.
            cpu_ns: Processor time used so far.
            freeze_s: The threshold ``freeze``.
        """
        kind = "T" if state in ("T", "t") else state
        if kind != self._state or (kind == "D" and cpu_ns != self._cpu_ns):
            self._state, self._since_s, self._looks = kind, now_s, 0
        self._cpu_ns = cpu_ns
        self._looks += 1
        if kind not in ("T", "D"):
            return None
        for_s, limit_s = now_s - self._since_s, freeze_s * (STOPPED if kind == "T" else IN_KERNEL)
        if for_s < limit_s or self._looks < LOOKS:
            return None
        says = (_STOPPED if kind == "T" else _WAITS).format(span(for_s))
        return Sign(for_s, limit_s, says)
