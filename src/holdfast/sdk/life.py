"""One life of a component: from its start functions to its end, with everything that belongs to it.

It owns every task, thread and server that runs in its context, also those that its author made
without telling us. What happens at an exception is the host's business: the container ends the process, a test fails.
Left out: importing code (the container), the protocol of the bus (:mod:`holdfast.sdk.joined`).
"""

import asyncio
import sys
from contextvars import copy_context
from inspect import iscoroutinefunction
from threading import get_ident

from holdfast.agent.routes import TABLE
from holdfast.sdk.lane import Lane
from holdfast.sdk.lastwords import one_line
from holdfast.sdk.recorder import CURRENT, ON_BUS, Call, Work, progress

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine
    from contextvars import Context
    from typing import Any, Protocol

    from holdfast.sdk.component import Component, Timer
    from holdfast.sdk.instance import Instance

    Crash = Callable[[str, BaseException], None]

    class OnBus(Protocol):
        """What a component on the bus has: ours, or a session of a foreign library."""

        @property
        def session(self) -> Any:
            """The session."""

        def offer(self, app: Component) -> None:
            """Begin to register and subscribe."""

        async def wait(self, within_s: float | None) -> bool:
            """Wait until everything is offered."""

        async def drain(self, until_s: float) -> None:
            """Offer nothing any more and finish what runs."""

        async def leave(self) -> None:
            """End the session."""

        def describe(self) -> dict[str, object]:
            """Tell what there is to tell."""

        def call(self, uri: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Awaitable[Any]:
            """Call a procedure."""

        def call_sync(self, uri: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            """Call a procedure from a thread."""

        def publish(self, uri: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            """Publish."""


class Life:
    """States: new, starting, running, stopping, stopped. There is no way back: a new start is a new life."""

    def __init__(
        self,
        instance: "Instance",
        loop: asyncio.AbstractEventLoop,
        crash: "Crash",
        *,
        has_timers: bool = True,
    ) -> None:
        self.instance = instance
        self.state = "new"
        self.healthy: bool | None = None
        self.says = ""
        self.lane = Lane(instance.name, loop)
        self.loop = loop
        self.thread = get_ident()  #: the loop's: lives are made there
        self._name = instance.name
        self.crash = crash
        self._has_timers = has_timers
        instance.life = self
        self._context = copy_context()
        self._context.run(CURRENT.set, instance)
        self._tasks: set[asyncio.Task[Any]] = set()
        self._in_threads: dict[asyncio.Future[Any], str] = {}
        self._failed_runs: dict[str, int] = {}

    def context(self) -> "Context":
        """Return a context in which code is this component's."""
        return self._context.copy()

    def run_here(self, function: "Callable[[], None]") -> None:
        """Call a function on the loop as if it were the component's own; raising is a crash."""
        self.loop.call_soon(self._call_or_crash, function, context=self.context())

    def _call_or_crash(self, function: "Callable[[], None]") -> None:
        try:
            function()
        except Exception as error:  # noqa: BLE001 -- told and ended by the host
            self.crash(self._name, error)

    # -- start -----------------------------------------------------------------------------------

    async def start(self, app: "Component") -> None:
        """Run the start functions, then let timers, tasks and checks go; on the bus it is a little later."""
        self.state = "starting"
        app.bind(self.instance)
        start = self.spawn(self._run_starters(app), "start")
        await asyncio.wait([start])
        if start.cancelled() or start.exception() is not None:
            return
        if self._has_timers:
            self._tasks |= {self.spawn(self._run_timer(t), called(t.function)) for t in app.timers}
            self._tasks |= {self.spawn(self._run_check(c), called(c.function)) for c in app.checks}
        self._tasks |= {self.spawn(self._run_task(t), called(t)) for t in app.tasks}
        if app.procedures or app.topics:
            self.instance.on_bus().offer(app)
        self.state = "running"

    async def _run_starters(self, app: "Component") -> None:
        for starter in app.starters:
            await self.call(starter)
        progress("started")

    def spawn(self, coroutine: "Coroutine[Any, Any, Any]", what: str) -> "asyncio.Task[Any]":
        """Run a coroutine as a task of this component; raising is a crash."""
        task = self.loop.create_task(coroutine, name=f"{self._name}.{what}", context=self.context())
        self._tasks.add(task)
        task.add_done_callback(self._task_done)
        return task

    def _task_done(self, task: "asyncio.Task[Any]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.crash(self._name, error)

    # -- what runs -------------------------------------------------------------------------------

    async def _run_timer(self, timer: "Timer") -> None:
        route = TABLE.route(f"timer {self._name}.{called(timer.function)}", is_work=False)
        due_s = self.loop.time()
        while True:
            # Missed turns are not made up for: a burst after a hang helps nobody.
            due_s = max(due_s + timer.seconds, self.loop.time())
            await asyncio.sleep(due_s - self.loop.time())
            work = Work(route)
            try:
                await work.awaited(self.call(timer.function, timer.timeout))
            except Exception as error:
                # A router or another component that is away is nobody's damage here, and the next run is the next attempt.
                if not _is_of_the_bus(error):
                    raise
                self._tell_failed_run(called(timer.function), error)
            finally:
                work.done_unasked()

    def _tell_failed_run(self, name: str, error: Exception) -> None:
        """Log it; the same again only the 10th, 100th, … time."""
        says = f"{name}: {error}"
        times = self._failed_runs[says] = self._failed_runs.get(says, 0) + 1
        if len(self._failed_runs) > 1000:
            self._failed_runs.clear()  # texts with ever new values in them
        if is_worth_telling(times):
            self.instance.log.warning("a run failed", timer=name, says=str(error), times=times)

    async def _run_check(self, check: "Timer") -> None:
        while True:
            try:
                answer = await self.call(check.function, check.timeout)
                healthy, says = answer is None or bool(answer), ""
                if not healthy:
                    says = f"{called(check.function)} returned {answer!r}"
            except Exception as error:  # noqa: BLE001 -- raising is how a check says no
                healthy, says = False, one_line(error)
            if healthy is not self.healthy and not (healthy and self.healthy is None):
                self._tell_health(healthy, says)
            self.healthy, self.says = healthy, says
            await asyncio.sleep(check.seconds)

    def _tell_health(self, healthy: bool, says: str) -> None:
        if healthy:
            self.instance.log.info("healthy again")
        else:
            self.instance.log.warning("unhealthy", says=says)
        progress("healthy again" if healthy else f"unhealthy: {says}")

    async def _run_task(self, function: "Callable[[], Any]") -> None:
        if iscoroutinefunction(function):
            await function()
        else:
            # A thread of its own: it may take for ever, and the timers' lane is not for that.
            lane = Lane(f"{self._name}.{called(function)}", self.loop)
            try:
                result = await self.in_thread(lane, function, called(function))
            finally:
                lane.close()
            if asyncio.iscoroutine(result):
                await result

    async def call(self, function: "Callable[[], Any]", timeout_s: "float | None" = None) -> "Any":
        """Run a function of the author's: a coroutine function on the loop, a plain one in the lane."""
        with Call(self.instance, timeout_s) as call:
            if not iscoroutinefunction(function):
                call.in_thread = True
                return await self.in_thread(self.lane, function, called(function))
            if timeout_s is None:
                return await function()
            call.scope = scope = asyncio.timeout(timeout_s)
            try:
                async with scope:
                    return await function()
            except TimeoutError as error:
                if scope.expired():
                    says = f"{called(function)} took longer than {timeout_s:g} s"
                    raise TimeoutError(says) from error
                raise

    async def in_thread(self, lane: Lane, function: "Callable[[], Any]", name: str) -> "Any":
        """Run a plain function in a lane; what is cancelled is the waiting for it."""
        future = self.begin_in_thread(lane, function, name)
        future.add_done_callback(self._thread_done)
        return await asyncio.shield(future)  # a thread cannot be cancelled, only waited for

    def begin_in_thread(
        self, lane: Lane, function: "Callable[[], Any]", name: str
    ) -> "asyncio.Future[Any]":
        """Queue a plain function; the component does not end before it has."""
        future = lane.call(function)
        self._in_threads[future] = name
        future.add_done_callback(self._forget_thread)
        return future

    def _forget_thread(self, future: "asyncio.Future[Any]") -> None:
        self._in_threads.pop(future, None)
        if not future.cancelled():
            future.exception()  # whoever waited for it has it, or is gone: nobody else wants to know

    def _thread_done(self, future: "asyncio.Future[Any]") -> None:
        if self.state == "stopping" and not future.cancelled():
            error = future.exception()
            if error is not None:
                self.crash(self._name, error)

    # -- stop ------------------------------------------------------------------------------------

    async def stop(self, app: "Component", patience_s: float) -> str:
        """End everything of this component; "" or the names of what has not ended in time."""
        if self.state in ("new", "stopped"):
            self.state = "stopped"
            return ""
        self.state = "stopping"
        self.instance.stopping.set()
        until_s = self.loop.time() + patience_s
        for server in self.instance.servers:
            server.close()
        joined = self.instance.joined
        if joined is not None:
            # Nobody may be sent here any more, and what has begun gets half of the time to answer.
            await joined.drain(until_s - patience_s / 2)
        me = asyncio.current_task()
        owned = {task for task in self._everything() if task is not me}
        for task in owned:
            task.cancel()
        left = await self._wait(owned, until_s)
        if not left:
            stopper = self.spawn(self._run_stoppers(app), "stop")
            left = await self._wait({stopper}, until_s)
        if left:
            return ", ".join(left)
        if joined is not None:
            await joined.leave()
        self.lane.close()
        self.state = "stopped"
        return ""

    async def _run_stoppers(self, app: "Component") -> None:
        for stopper in app.stoppers:
            await self.call(stopper)
        progress("stopped")

    def _everything(self) -> "set[asyncio.Task[Any]]":
        """Return our tasks and those that the component's code made itself."""
        found = set(self._tasks)
        for task in asyncio.all_tasks(self.loop):
            context = _context_of(task)
            if context is None or context.get(CURRENT) is not self.instance:
                continue
            if not context.get(ON_BUS):  # the stop functions may still want to publish something
                found.add(task)
        return found

    async def _wait(self, tasks: "set[asyncio.Task[Any]]", until_s: float) -> "list[str]":
        """Wait for tasks and for functions in threads; returns the names of what has not ended."""
        pending: set[asyncio.Future[Any]] = {*tasks, *self._in_threads}
        if pending:
            timeout_s = max(0.0, until_s - self.loop.time())
            await asyncio.wait(pending, timeout=timeout_s)
        names = [
            task.get_name().removeprefix(self._name + ".") for task in tasks if not task.done()
        ]
        return names + [name for name in self._in_threads.values() if name not in names]


def _is_of_the_bus(error: Exception) -> bool:
    """Tell whether something on the bus failed, without importing it for those who have none."""
    errors = sys.modules.get("holdfast.bus.errors")
    return errors is not None and isinstance(error, errors.BusError)


def is_worth_telling(times: int) -> bool:
    """Tell the first, the 10th, the 100th … of many equal events from the others."""
    return str(times).strip("0") == "1"


def called(function: object) -> str:
    """Return a function's name for people."""
    return str(getattr(function, "__name__", type(function).__name__))


if hasattr(asyncio.Task, "get_context"):

    def _context_of(task: "asyncio.Task[Any]") -> "Context | None":
        context: Context = task.get_context()  # type: ignore[attr-defined,unused-ignore]
        return context

    def remember_tasks(loop: asyncio.AbstractEventLoop) -> None:
        """Do nothing: from Python 3.12 on a task knows its context."""

else:
    from weakref import WeakKeyDictionary

    _contexts: "WeakKeyDictionary[asyncio.Task[Any], Context]" = WeakKeyDictionary()

    def _context_of(task: "asyncio.Task[Any]") -> "Context | None":
        return _contexts.get(task)

    def remember_tasks(loop: asyncio.AbstractEventLoop) -> None:
        """Keep the context of each task of a component beside it: Python 3.11 does not tell (1 µs a task)."""

        def factory(
            loop: asyncio.AbstractEventLoop,
            coroutine: "Coroutine[Any, Any, Any]",
            *,
            context: "Context | None" = None,
        ) -> "asyncio.Task[Any]":
            if context is None:
                context = copy_context()
            task = asyncio.Task(coroutine, loop=loop, context=context)
            if context.get(CURRENT) is not None:
                _contexts[task] = context
            return task

        loop.set_task_factory(factory)  # type: ignore[arg-type,unused-ignore]
