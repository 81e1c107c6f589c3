"""One component in this process: started, stopped, started anew, without its neighbours noticing.

It owns every task, thread and server that runs in its context, also those that its author made
without telling us. An exception in a start, a timer or a task is a crash of the whole process (make your programs
crash): what the component shares with others may be damaged, and a restart is cheap.
"""

import asyncio
import time
from contextvars import copy_context
from inspect import iscoroutinefunction

from holdfast.container import load
from holdfast.container.lane import Lane
from holdfast.container.lastwords import one_line
from holdfast.sdk.instance import Instance
from holdfast.sdk.recorder import CURRENT, RECORDER, Call, progress

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from contextvars import Context
    from typing import Any

    from holdfast.model.plan import ComponentPlan
    from holdfast.sdk.component import Component, Timer

    Crash = Callable[[str, BaseException], None]


class Hosted:
    """A component, from its import to its end. States: imported, starting, running, stopping, stopped."""

    def __init__(
        self, plan: "ComponentPlan", loop: asyncio.AbstractEventLoop, crash: "Crash"
    ) -> None:
        self.name = plan["name"]
        self.use = plan["use"]
        self.state = "new"
        self.restarts = 0
        self.healthy: bool | None = None
        self.says = ""
        self._settings = plan["settings"]
        self._loop = loop
        self._crash = crash
        self._app: Component | None = None
        self._imported_ns = 0
        self._turn = asyncio.Lock()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._in_threads: dict[asyncio.Future[Any], str] = {}
        self._begin_life()

    def _begin_life(self) -> None:
        self.instance = Instance(self.name, self._settings)
        self._context = copy_context()
        self._context.run(CURRENT.set, self.instance)
        self._lane = Lane(self.name, self._loop)
        self.healthy = None
        self.says = ""

    # -- importing -------------------------------------------------------------------------------

    def load(self) -> None:
        """Import the code; raises what :func:`holdfast.container.load.load` raises."""
        self._imported_ns = time.time_ns()
        app = self._context.copy().run(load.load, self.name, self.use)
        self._take(app)

    def _take(self, app: "Component") -> None:
        self._app = app
        app.bind(self.instance)
        self.state = "imported"

    # -- orders ----------------------------------------------------------------------------------

    async def start(self) -> str:
        """Run the start functions, then let timers, tasks and checks go; "" or why that cannot be."""
        async with self._turn:
            if self.state == "stopping":
                return (
                    f'component "{self.name}" has not ended yet; restart the whole worker instead'
                )
            await self._start()
            return ""

    async def stop(self, patience_s: float) -> str:
        """End everything of this component; "" or what has not ended within ``patience_s``."""
        async with self._turn:
            return await self._stop(patience_s)

    async def restart(self, patience_s: float, others: "list[str]") -> "tuple[list[str], str]":
        """Import its code anew, stop it, start the new one: (modules imported anew, what went wrong).

        The import comes first and in a thread: when it fails the component runs on as it was.
        """
        async with self._turn:
            started_ns = time.time_ns()
            reloaded = self._context.copy().run(
                Lane(f"{self.name}.import", self._loop).call,
                lambda: load.reload(self.name, self.use, others, self._imported_ns),
            )
            try:
                app, modules = await reloaded
            except load.Refused as error:
                return [], str(error)
            except Exception as error:  # noqa: BLE001 -- the author's new code; the old one goes on
                return (
                    [],
                    f'component "{self.name}": the new code cannot be imported: {one_line(error)}',
                )
            trouble = await self._stop(patience_s)
            if trouble:
                return [], trouble
            self._imported_ns = started_ns
            self.restarts += 1
            self._begin_life()
            self._take(app)
            await self._start()
            return modules, ""

    def describe(self) -> "dict[str, object]":
        """Return what the control socket tells; from any thread."""
        mine = [call for call in tuple(RECORDER.calls) if call.instance is self.instance]
        return {
            "name": self.name,
            "use": self.use,
            "state": self.state,
            "restarts": self.restarts,
            "healthy": self.healthy,
            "says": self.says,
            "work_done": self.instance.work_done,
            "in_flight": len(mine),
        }

    def run_here(self, function: "Callable[[], None]") -> None:
        """Call a function on the loop as if it were the component's own; raising is a crash."""
        self._loop.call_soon(self._call_or_crash, function, context=self._context.copy())

    def _call_or_crash(self, function: "Callable[[], None]") -> None:
        try:
            function()
        except Exception as error:  # noqa: BLE001 -- told and ended by the host
            self._crash(self.name, error)

    # -- start -----------------------------------------------------------------------------------

    async def _start(self) -> None:
        if self.state in ("starting", "running"):
            return
        app = self._app
        assert app is not None  # noqa: S101 -- load() comes first
        if self.state == "stopped":
            self._begin_life()
            app.bind(self.instance)
        self.state = "starting"
        start = self._spawn(self._run_starters(app), "start")
        await asyncio.wait([start])
        if start.cancelled():
            return
        self._tasks |= {self._spawn(self._run_timer(t), _called(t.function)) for t in app.timers}
        self._tasks |= {self._spawn(self._run_check(c), _called(c.function)) for c in app.checks}
        self._tasks |= {self._spawn(self._run_task(t), _called(t)) for t in app.tasks}
        self.state = "running"

    async def _run_starters(self, app: "Component") -> None:
        for starter in app.starters:
            await self._call(starter)
        progress("started")

    def _spawn(self, coroutine: "Coroutine[Any, Any, Any]", what: str) -> "asyncio.Task[Any]":
        task = self._loop.create_task(
            coroutine, name=f"{self.name}.{what}", context=self._context.copy()
        )
        self._tasks.add(task)
        task.add_done_callback(self._task_done)
        return task

    def _task_done(self, task: "asyncio.Task[Any]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._crash(self.name, error)

    # -- what runs -------------------------------------------------------------------------------

    async def _run_timer(self, timer: "Timer") -> None:
        due_s = self._loop.time()
        while True:
            # Missed turns are not made up for: a burst after a hang helps nobody.
            due_s = max(due_s + timer.seconds, self._loop.time())
            await asyncio.sleep(due_s - self._loop.time())
            await self._call(timer.function, timer.timeout)

    async def _run_check(self, check: "Timer") -> None:
        while True:
            try:
                answer = await self._call(check.function, check.timeout)
                healthy, says = answer is None or bool(answer), ""
                if not healthy:
                    says = f"{_called(check.function)} returned {answer!r}"
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
            lane = Lane(f"{self.name}.{_called(function)}", self._loop)
            try:
                result = await self._in_thread(lane, function)
            finally:
                lane.close()
            if asyncio.iscoroutine(result):
                await result

    async def _call(self, function: "Callable[[], Any]", timeout_s: "float | None" = None) -> "Any":
        with Call(self.instance, timeout_s) as call:
            if not iscoroutinefunction(function):
                call.in_thread = True
                return await self._in_thread(self._lane, function)
            if timeout_s is None:
                return await function()
            call.scope = scope = asyncio.timeout(timeout_s)
            try:
                async with scope:
                    return await function()
            except TimeoutError as error:
                if scope.expired():
                    says = f"{_called(function)} took longer than {timeout_s:g} s"
                    raise TimeoutError(says) from error
                raise

    async def _in_thread(self, lane: Lane, function: "Callable[[], Any]") -> "Any":
        future = lane.call(function)
        self._in_threads[future] = _called(function)
        future.add_done_callback(self._thread_done)
        return await asyncio.shield(future)  # a thread cannot be cancelled, only waited for

    def _thread_done(self, future: "asyncio.Future[Any]") -> None:
        self._in_threads.pop(future, None)
        if self.state == "stopping" and not future.cancelled():
            error = future.exception()
            if error is not None:
                self._crash(self.name, error)

    # -- stop ------------------------------------------------------------------------------------

    async def _stop(self, patience_s: float) -> str:
        if self.state in ("new", "imported", "stopped"):
            self.state = "stopped"
            return ""
        self.state = "stopping"
        self.instance.stopping.set()
        until_s = self._loop.time() + patience_s
        for server in self.instance.servers:
            server.close()
        me = asyncio.current_task()
        owned = {task for task in self._everything() if task is not me}
        for task in owned:
            task.cancel()
        left = await self._wait(owned, until_s)
        if not left and self._app is not None:
            stopper = self._spawn(self._run_stoppers(self._app), "stop")
            left = await self._wait({stopper}, until_s)
        if left:
            return (
                f'component "{self.name}" did not end within {patience_s:g} s ({", ".join(left)} still '
                f"runs); restart the whole worker instead"
            )
        self._lane.close()
        self.state = "stopped"
        return ""

    async def _run_stoppers(self, app: "Component") -> None:
        for stopper in app.stoppers:
            await self._call(stopper)
        progress("stopped")

    def _everything(self) -> "set[asyncio.Task[Any]]":
        """Return our tasks and those that the component's code made itself."""
        found = set(self._tasks)
        for task in asyncio.all_tasks(self._loop):
            context = _context_of(task)
            if context is not None and context.get(CURRENT) is self.instance:
                found.add(task)
        return found

    async def _wait(self, tasks: "set[asyncio.Task[Any]]", until_s: float) -> "list[str]":
        """Wait for tasks and for functions in threads; returns the names of what has not ended."""
        pending: set[asyncio.Future[Any]] = {*tasks, *self._in_threads}
        if pending:
            timeout_s = max(0.0, until_s - self._loop.time())
            await asyncio.wait(pending, timeout=timeout_s)
        names = [task.get_name().removeprefix(self.name + ".") for task in tasks if not task.done()]
        return names + [name for name in self._in_threads.values() if name not in names]


def _called(function: object) -> str:
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
