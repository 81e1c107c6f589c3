"""What does a component consist of, in the words of its author?

A definition: which functions run at the start, at the end, every few seconds, all the time. It starts
nothing itself; the container reads it. Plain functions run in a thread of the component (one after the
other, never two at once), coroutine functions on the serving loop.
"""

from holdfast.sdk.instance import Instance
from holdfast.sdk.recorder import CURRENT, RECORDER, Call, ExpectLong
from holdfast.sdk.serving import listen_fds

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from collections.abc import Callable
    from threading import Event
    from typing import Any, TypeVar

    from holdfast.sdk.logline import Log

    Function = Callable[[], Any]
    F = TypeVar("F", bound=Function)

#: Seconds between two questions to a health check.
HEALTH_S = 5.0


class Timer:
    """A function that runs every ``seconds``, each run at most ``timeout`` seconds long."""

    __slots__ = ("function", "seconds", "timeout")

    def __init__(self, function: "Function", seconds: float, timeout: "float | None") -> None:
        self.function = function
        self.seconds = seconds
        self.timeout = timeout


class Component:
    """A part of an application that a container hosts.

    Args:
        name: Used where no container gives it one (the configuration's name wins).
    """

    def __init__(self, name: "str | None" = None) -> None:
        self.starters: list[Function] = []
        self.stoppers: list[Function] = []
        self.timers: list[Timer] = []
        self.tasks: list[Function] = []
        self.checks: list[Timer] = []
        self._instance = Instance(name or "component", {})

    # -- what the author registers ---------------------------------------------------------------

    def on_start(self, function: "F") -> "F":
        """Run at the start; the component is ready when it has returned. Raising is a crash."""
        self.starters.append(function)
        return function

    def on_stop(self, function: "F") -> "F":
        """Run when the component is asked to stop. Do not rely on it: a crash does not ask."""
        self.stoppers.append(function)
        return function

    def every(self, seconds: float, timeout: "float | None" = None) -> "Callable[[F], F]":
        """Run every ``seconds``, first one period after the start; runs never overlap.

        A run that is late is not made up for. A coroutine that takes longer than ``timeout`` is
        cancelled, and that is a crash; a plain function that does is reported as a hang to the watchdog.
        """
        if not seconds > 0 or (timeout is not None and not timeout > 0):
            says = f"every({seconds!r}, timeout={timeout!r}): both have to be above 0 seconds"
            raise ValueError(says)

        def register(function: "F") -> "F":
            self.timers.append(Timer(function, seconds, timeout))
            return function

        return register

    def task(self, function: "F") -> "F":
        """Run from the start on, for as long as it likes. Ending is fine, raising is a crash.

        A plain function gets a thread of its own and should return soon after :attr:`stopping` is set.
        """
        self.tasks.append(function)
        return function

    def health(self, function: "F") -> "F":
        """Ask this function every few seconds whether the component can serve.

        Raising or a false value (None is fine) is reported: in the log when it changes, and in the
        pulse's ring. It does not end anything: health is an opinion, a beat a fact.
        """
        self.checks.append(Timer(function, HEALTH_S, None))
        return function

    # -- what the running component uses ---------------------------------------------------------

    @property
    def name(self) -> str:
        """The name in the configuration."""
        return self._now().name

    @property
    def settings(self) -> "dict[str, Any]":
        """``[component.NAME.settings]`` of the configuration."""
        return self._now().settings

    @property
    def log(self) -> "Log":
        """Structured log: ``app.log.info("moved", card=3)``."""
        return self._now().log

    @property
    def stopping(self) -> "Event":
        """Set when the component is asked to stop: ``while not app.stopping.wait(1): …``."""
        return self._now().stopping

    def work(self, n: int = 1) -> None:
        """Count work done: what the process gets done per CPU second shows whether it is sick."""
        RECORDER.work(self._now(), n)

    def handling(self, timeout: "float | None" = None) -> Call:
        """Count a request as in flight inside ``with``; past its ``timeout`` it counts as hanging."""
        return Call(self._now(), timeout)

    def expect_long(self, at_most: float = 600.0) -> ExpectLong:
        """Declare that what runs inside ``with`` may take long, at most ``at_most`` seconds.

        Neither the run's timeout nor a loop blocked by this component counts as a hang then. A C call
        that keeps the interpreter's lock (GIL) still does: nobody inside can vouch for it.
        """
        return ExpectLong(self._now(), at_most)

    def listen_fds(self) -> "dict[str, socket.socket]":
        """Return the inherited listening sockets by name (:func:`holdfast.sdk.listen_fds`)."""
        return listen_fds()

    # -- what the container uses -----------------------------------------------------------------

    def bind(self, instance: Instance) -> None:
        """Make ``instance`` the one for code without a context (threads that the author started)."""
        self._instance = instance

    def _now(self) -> Instance:
        return CURRENT.get() or self._instance
