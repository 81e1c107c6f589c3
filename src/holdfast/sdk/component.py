"""What does a component consist of, in the words of its author?

A definition: which functions run at the start, at the end, every few seconds, all the time, for a call, for an event. It starts
nothing itself; the container reads it. Plain functions run in a thread of the component (one after the
other, never two at once), coroutine functions on the serving loop.
"""

from holdfast.sdk.instance import Instance
from holdfast.sdk.metrics import Timing
from holdfast.sdk.recorder import CURRENT, RECORDER, Call, ExpectLong
from holdfast.sdk.serving import listen_fds

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from collections.abc import Awaitable, Callable
    from threading import Event
    from typing import Any, Literal, TypeVar

    from holdfast.bus.connect import Connection
    from holdfast.sdk.logline import Log

    Function = Callable[[], Any]
    F = TypeVar("F", bound=Function)
    H = TypeVar("H", bound=Callable[..., Any])
    Match = Literal["exact", "prefix", "wildcard"]
    Invoke = Literal["single", "first", "last", "random", "roundrobin", "all"]

#: Seconds between two questions to a health check.
HEALTH_S = 5.0


class Timer:
    """A function that runs every ``seconds``, each run at most ``timeout`` seconds long."""

    __slots__ = ("function", "seconds", "timeout")

    def __init__(self, function: "Function", seconds: float, timeout: "float | None") -> None:
        self.function = function
        self.seconds = seconds
        self.timeout = timeout


class Procedure:
    """A function that is called over the bus."""

    __slots__ = ("concurrency", "function", "inline", "invoke", "match", "timeout", "uri")

    def __init__(self, function: "Callable[..., Any]", uri: "str | None", match: "Match", invoke: "Invoke",
                 concurrency: "int | None", timeout: "float | None", inline: bool) -> None:  # fmt: skip
        self.function = function
        self.uri = uri
        self.match = match
        self.invoke = invoke
        self.concurrency = concurrency
        self.timeout = timeout
        self.inline = inline


class Topic:
    """A function that gets the events of a topic."""

    __slots__ = ("function", "get_retained", "inline", "match", "timeout", "uri")

    def __init__(self, function: "Callable[..., Any]", uri: str, match: "Match", get_retained: bool,
                 timeout: "float | None", inline: bool) -> None:  # fmt: skip
        self.function = function
        self.uri = uri
        self.match = match
        self.get_retained = get_retained
        self.timeout = timeout
        self.inline = inline


class Component:
    """A part of an application that a container hosts.

    Args:
        name: Used where no container gives it one (the configuration's name wins).
        settings: Type of `[component.NAME.settings]` (a dataclass, msgspec.Struct, TypedDict or pydantic model): checked at
            the start, and what :attr:`settings` returns.
    """

    def __init__(self, name: "str | None" = None, *, settings: "Any" = None) -> None:
        self.starters: list[Function] = []
        self.stoppers: list[Function] = []
        self.timers: list[Timer] = []
        self.tasks: list[Function] = []
        self.checks: list[Timer] = []
        self.procedures: list[Procedure] = []
        self.topics: list[Topic] = []
        self.settings_type = settings
        self.needs_bus = ""  #: for whom, where it is no procedure or topic of ours
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

        A run that is late is not made up for. One that the bus lets down (no router, no such procedure, an ERROR) is logged,
        and the next one is the next attempt; any other exception is a crash. A coroutine that takes longer than ``timeout`` is
        cancelled, and that is a crash; a plain function that does is reported as a hang to the watchdog.
        """
        _check_seconds(f"every({seconds!r})", seconds)
        if timeout is not None:
            _check_seconds(f"every({seconds!r}, timeout={timeout!r})", timeout)

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

    def procedure(
        self,
        uri: "str | None" = None,
        *,
        match: "Match" = "exact",
        invoke: "Invoke" = "single",
        concurrency: "int | None" = None,
        timeout: "float | None" = None,
        inline: bool = False,
    ) -> "Callable[[H], H]":
        """Offer a function on the bus, under ``uri`` or else under the component's name, a dot and the function's.

        Its annotations are checked: arguments that do not fit are answered with `wamp.error.invalid_argument`. Its result is the
        caller's. Raising is an ERROR for the caller and a traceback in the log, no crash. The keyword-only parameters ``details``,
        ``progress`` and ``chunks`` get who calls, a function that sends progressive results, and the payloads of a
        progressive call. Every value that an async generator yields is a progressive result.

        Args:
            uri: The procedure.
            match: How ``uri`` is to be read.
            invoke: Who is called where several components offer the same.
            concurrency: So many calls at once at most; the router refuses or goes on to the next callee.
            timeout: Seconds after which a coroutine is cancelled and the caller told so; a plain function that
                takes longer is reported as a hang to the watchdog, too.
            inline: Run this plain function on the loop: for what never waits and takes less than a millisecond.
        """
        _check_offer("procedure", uri, timeout)

        def register(function: "H") -> "H":
            self.procedures.append(
                Procedure(function, uri, match, invoke, concurrency, timeout, inline)
            )
            return function

        return register

    def topic(
        self,
        uri: str,
        *,
        match: "Match" = "exact",
        get_retained: bool = False,
        timeout: "float | None" = None,
        inline: bool = False,
    ) -> "Callable[[H], H]":
        """Run a function for each event of a topic (keyword-only parameter ``details``: of which, by whom).

        Events that do not fit its annotations are logged and left out. Raising is a traceback in the log.

        Args:
            uri: The topic.
            match: How ``uri`` is to be read.
            get_retained: Begin with the event that the router keeps for the topic.
            timeout: As for :meth:`procedure`.
            inline: As for :meth:`procedure`.
        """
        _check_offer("topic", uri, timeout)

        def register(function: "H") -> "H":
            self.topics.append(Topic(function, uri, match, get_retained, timeout, inline))
            return function

        return register

    # -- what the running component uses on the bus ----------------------------------------------

    def call(self, uri: str, /, *args: "Any", **kwargs: "Any") -> "Awaitable[Any]":
        """Call a procedure: ``card = await app.call("com.app.card", 7, timeout_s=2)``.

        Inside of a procedure the call has no more time than the caller of that procedure gives. While there is
        no router it waits for one. Options: those of :meth:`holdfast.bus.session.ClientSession.call`.
        In a plain function use :meth:`call_sync`.
        """
        return self._now().on_bus().call(uri, args, kwargs)

    def call_sync(self, uri: str, /, *args: "Any", **kwargs: "Any") -> "Any":
        """Call a procedure from a plain function, which waits for the result in its thread."""
        return self._now().on_bus().call_sync(uri, args, kwargs)

    def publish(self, uri: str, /, *args: "Any", **kwargs: "Any") -> "Any":
        """Publish an event; from any thread. Options: those of :meth:`holdfast.bus.session.ClientSession.publish`.

        With ``acknowledge=True`` it returns something to await; in a plain function it waits itself.
        """
        return self._now().on_bus().publish(uri, args, kwargs)

    @property
    def session(self) -> "Connection":
        """The connection to the bus, for what is not here: subscribing later, who we are there."""
        connection: Connection = self._now().on_bus().session
        return connection

    # -- what the running component uses ---------------------------------------------------------

    @property
    def name(self) -> str:
        """The name in the configuration."""
        return self._now().name

    @property
    def settings(self) -> "Any":
        """``[component.NAME.settings]`` of the configuration: a dict, or of the type that the component asked for."""
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

    def count(self, name: str, n: float = 1) -> None:
        """Add to a counter of this component; about 0.3 µs."""
        self._now().metrics.count(name, n)

    def gauge(self, name: str, value: float) -> None:
        """Say how much there is of something now."""
        self._now().metrics.gauge(name, value)

    def timing(self, name: str, took_s: "float | None" = None) -> Timing:
        """Count a duration: ``app.timing("query", 0.02)``, or ``with app.timing("query"): …``."""
        metrics = self._now().metrics
        if took_s is not None:
            metrics.timing(name, took_s)
        return Timing(metrics, name)

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

    @property
    def bound(self) -> Instance:
        """The instance for code without a context."""
        return self._instance

    def _now(self) -> Instance:
        return CURRENT.get() or self._instance


def _check_offer(what: str, uri: object, timeout: "float | None") -> None:
    """Find the decorator without its parentheses, which would swallow the function."""
    if uri is not None and not isinstance(uri, str):
        says = f"{what}({uri!r}): the URI has to be a text; write @app.{what}(…) with parentheses"
        raise TypeError(says)
    if timeout is not None:
        _check_seconds(f"{what}({uri!r}, timeout={timeout!r})", timeout)


def _check_seconds(call: str, seconds: object) -> None:
    """Find what the configuration would take and Python does not (``"1s"``), and a decorator without its parentheses."""
    if not isinstance(seconds, int | float):
        says = f"{call}: seconds are a number here, as in 1.5"
        raise TypeError(says)
    if not seconds > 0:
        says = f"{call}: it has to be above 0 seconds"
        raise ValueError(says)
