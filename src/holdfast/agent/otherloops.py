"""The beat of loops that are not asyncio's: gevent's hub, and Twisted's reactors (trio's: :mod:`holdfast.agent.trioloop`).

Each gets a timer of its own, ten times a second, that keeps nothing alive. A hub is no loop that runs: it gets its turn whenever nothing
else does, and a script that computes in its main greenlet is no server. So a hub's beat counts only after it has come in time for a while.
"""

from _thread import get_ident
from time import monotonic, monotonic_ns, thread_time_ns

from holdfast.agent.loopbeat import LATE_NS, PERIOD_S

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from holdfast.agent.pulse import PulseWriter

#: Beats in time before a hub is taken for a loop that serves: a second.
_KNOWN = 10
_LAG_DECAY = 0.933


class OtherBeat:
    """What the beat of such a loop writes; called by its timer."""

    __slots__ = ("_due_s", "_known", "_lag_ns", "_late", "_pulse", "_serves", "has_served")

    def __init__(self, pulse: "PulseWriter", serves: "Callable[[int], bool]", known: int) -> None:
        self._pulse = pulse
        self._serves = serves  #: told the thread; whether this is the loop that serves
        self._known = known
        self._due_s = 0.0
        self._lag_ns = self._late = 0
        self.has_served = False

    def __call__(self, tasks: int = 0) -> None:
        """Beat; ``tasks``: how many the loop has."""
        now_s = monotonic()
        late_ns = int((now_s - self._due_s) * 1e9) if self._due_s else 0
        self._due_s = now_s + PERIOD_S
        if self._known > 0:
            self._known = self._known - 1 if late_ns < LATE_NS else _KNOWN
            return
        if not self._serves(get_ident()):
            return
        self.has_served = True
        if late_ns > LATE_NS:
            self._late += 1
        self._lag_ns = max(late_ns, int(self._lag_ns * _LAG_DECAY))
        self._pulse.loop_beat(monotonic_ns(), self._lag_ns, tasks, self._late, thread_time_ns())


def install_gevent(beat: "Callable[[int], OtherBeat]") -> "Callable[[Any], None]":
    """Return what gives the hub of each thread a beat, to be called with ``gevent.hub``; ``beat`` makes one."""

    def install(module: "Any") -> None:
        hub_class = module.Hub
        begin = hub_class.__init__
        if hasattr(begin, "holdfast_original"):
            return

        def __init__(self: "Any", *args: "Any", **kwargs: "Any") -> None:  # noqa: N807
            begin(self, *args, **kwargs)
            timer = self.loop.timer(PERIOD_S, repeat=PERIOD_S, ref=False)
            timer.start(beat(_KNOWN))
            self.holdfast_timer = timer  # it lives as long as the hub

        __init__.holdfast_original = begin  # type: ignore[attr-defined]
        hub_class.__init__ = __init__

    return install


def install_twisted(
    beat: "Callable[[int], OtherBeat]", rests: "Callable[[], None]"
) -> "Callable[[Any], None]":
    """Return what gives a reactor a beat while it runs, to be called with ``twisted.internet.base``."""

    def install(module: "Any") -> None:
        reactor_class = module.ReactorBase
        begin = reactor_class.startRunning
        if hasattr(begin, "holdfast_original"):
            return

        def startRunning(self: "Any", *args: "Any", **kwargs: "Any") -> "Any":  # noqa: N802
            found = begin(self, *args, **kwargs)
            if not hasattr(self, "_asyncioEventloop"):  # that one's loop beats by itself
                tick = beat(0)

                def again() -> None:
                    tick()
                    if self.running:
                        self.callLater(PERIOD_S, again)

                again()
                self.addSystemEventTrigger("after", "shutdown", rests)
            return found

        startRunning.holdfast_original = begin  # type: ignore[attr-defined]
        reactor_class.startRunning = startRunning

    return install
