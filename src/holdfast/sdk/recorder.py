"""What is this process doing right now, and how much has it done?

Counts and marks only, kept in plain memory: the container copies them into the worker's pulse ten times a
second. Outside a container everything here works and goes nowhere, so that components can be tested
without one. That a call may declare itself long is Chromium's HangWatcher.
"""

from contextvars import ContextVar
from threading import Lock
from time import monotonic_ns, perf_counter_ns, thread_time_ns

from holdfast.agent.routes import TABLE, Route, finish, measured

TYPE_CHECKING = False
if TYPE_CHECKING:
    from asyncio import Timeout
    from collections.abc import Awaitable, Callable
    from types import TracebackType
    from typing import Any, Self

    from holdfast.sdk.instance import Instance

#: The component whose code runs in this context; tasks, callbacks and threads of a component inherit it.
CURRENT: "ContextVar[Instance | None]" = ContextVar("holdfast_component", default=None)

#: The timer run or request that runs in this context.
CALL: "ContextVar[Call | None]" = ContextVar("holdfast_call", default=None)

#: Whether this context is the bus's own (its connection, not the functions that it calls).
ON_BUS: "ContextVar[bool]" = ContextVar("holdfast_on_bus", default=False)


class Call:
    """One run of a timer or one request: since when, until when, for whom.

    As a context manager it is counted as in flight for the time of the block.
    """

    __slots__ = ("_token", "deadline_ns", "declared_long", "in_thread", "instance", "scope", "started_ns", "timeout_s")  # fmt: skip

    def __init__(self, instance: "Instance | None", timeout_s: "float | None") -> None:
        self.instance = instance
        self.timeout_s = timeout_s
        self.declared_long = 0
        self.in_thread = False
        self.started_ns = monotonic_ns()
        self.deadline_ns = self.started_ns + int(timeout_s * 1e9) if timeout_s else 0
        self.scope: Timeout | None = None

    def __enter__(self) -> "Self":
        self._token = CALL.set(self)
        RECORDER.calls.add(self)
        return self

    def __exit__(
        self,
        kind: "type[BaseException] | None",
        error: "BaseException | None",
        trace: "TracebackType | None",
    ) -> None:
        RECORDER.calls.discard(self)
        CALL.reset(self._token)


class ExpectLong:
    """A block that is allowed to take long: it is no hang until ``at_most_s`` have passed."""

    __slots__ = ("_at_most_s", "_call", "_instance", "_outer_ns")

    def __init__(self, instance: "Instance | None", at_most_s: float) -> None:
        self._instance = instance
        self._at_most_s = at_most_s
        self._call = CALL.get()
        self._outer_ns = 0

    def __enter__(self) -> None:
        until_ns = monotonic_ns() + int(self._at_most_s * 1e9)
        if self._instance is not None:
            self._outer_ns = self._instance.long_until_ns
            self._instance.long_until_ns = max(until_ns, self._outer_ns)
        call = self._call
        if call is not None:
            call.declared_long += 1
            if call.scope is not None:
                call.scope.reschedule(None)

    def __exit__(
        self,
        kind: "type[BaseException] | None",
        error: "BaseException | None",
        trace: "TracebackType | None",
    ) -> None:
        if self._instance is not None:
            self._instance.long_until_ns = self._outer_ns
        call = self._call
        if call is None:
            return
        call.declared_long -= 1
        if not call.declared_long and call.timeout_s:
            # What was declared does not count: the deadline starts again.
            now_ns = monotonic_ns()
            call.deadline_ns = now_ns + int(call.timeout_s * 1e9)
            if call.scope is not None:
                call.scope.reschedule(now_ns / 1e9 + call.timeout_s)


class Recorder:
    """The counts of this process; there is one, :data:`RECORDER`."""

    __slots__ = ("_lock", "calls", "sink", "work_done")

    def __init__(self) -> None:
        self.calls: set[Call] = set()
        self.work_done = 0
        self.sink: Callable[[str], None] | None = None  # the container's ring of events
        self._lock = Lock()

    def work(self, instance: "Instance | None", n: int) -> None:
        """Count ``n`` pieces of finished work; from any thread."""
        with self._lock:
            self.work_done += n
            if instance is not None:
                instance.work_done += n

    def finished(
        self, instance: "Instance | None", route: Route, began_ns: int, cpu_ns: int = 0
    ) -> None:
        """Count one piece of finished work on its route, with its latency (``began_ns``: perf_counter)."""
        with self._lock:
            self.work_done += 1
            if instance is not None:
                instance.work_done += 1
            finish(route, began_ns, cpu_ns)

    def overdue_since_ns(self, now_ns: int) -> int:
        """Return when the oldest call began that is past its deadline and not declared long, or 0.

        Only calls past their own deadline: a reader that knows nothing of deadlines may then take any
        value as a hang as soon as it is older than its own patience.
        """
        oldest = 0
        for call in tuple(self.calls):
            late = 0 < call.deadline_ns <= now_ns and not call.declared_long
            if late and (not oldest or call.started_ns < oldest):
                oldest = call.started_ns
        return oldest


RECORDER = Recorder()


class Work:
    """One piece of work on a route: how long it takes, and of some what processor time they cost."""

    __slots__ = ("_began_ns", "_cpu", "_every", "_route")

    def __init__(self, route: Route) -> None:
        self._route = route
        self._every = TABLE.every if TABLE.is_measured() else 0
        self._cpu = [0]
        self._began_ns = perf_counter_ns()

    def awaited(self, made: "Awaitable[Any]") -> "Awaitable[Any]":
        """Return what is to be awaited instead: the same, measured where it is this one's turn."""
        send = getattr(made, "send", None)  # a coroutine; other awaitables are not measured
        return measured(made, self._cpu) if self._every and send is not None else made  # type: ignore[arg-type]

    def called(self, function: "Callable[..., Any]", *args: "Any") -> "Any":
        """Call a plain function, in whatever thread."""
        if not self._every:
            return function(*args)
        began_ns = thread_time_ns()
        try:
            return function(*args)
        finally:
            self._cpu[0] += thread_time_ns() - began_ns

    def done(self, instance: "Instance | None") -> None:
        """Count it."""
        RECORDER.finished(instance, self._route, self._began_ns, self._cpu[0] * self._every)

    def done_unasked(self) -> None:
        """Count it on its route only: a timer's run is nobody's request."""
        finish(self._route, self._began_ns, self._cpu[0] * self._every)


def progress(text: str) -> None:
    """Leave a mark in the worker's pulse: the last 512 are still there after SIGKILL.

    Costs about a microsecond. The component's name is put in front; text beyond 110 bytes is cut.
    """
    sink = RECORDER.sink
    if sink is not None:
        instance = CURRENT.get()
        sink(text if instance is None else f"{instance.name}: {text}")
