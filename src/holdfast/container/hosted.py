"""One component in this process: imported, started, stopped, started anew, without its neighbours noticing.

An exception in a start, a timer or a task is a crash of the whole process (make your programs crash): what the component
shares with others may be damaged, and a restart is cheap. What runs, and how it ends, is :mod:`holdfast.sdk.life`.
"""

import asyncio
import gc
import time

from holdfast.container import fit, load
from holdfast.sdk.instance import Instance
from holdfast.sdk.lane import Lane
from holdfast.sdk.lastwords import one_line
from holdfast.sdk.life import Life
from holdfast.sdk.recorder import RECORDER

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from holdfast.model.plan import ComponentPlan
    from holdfast.sdk.component import Component
    from holdfast.sdk.life import Crash


class Hosted:
    """A component, from its import to its end. States: new, imported, starting, running, stopping, stopped."""

    def __init__(
        self, plan: "ComponentPlan", loop: asyncio.AbstractEventLoop, crash: "Crash"
    ) -> None:
        self.name = plan["name"]
        self.use = plan["use"]
        self.restarts = 0
        self._settings = plan["settings"]
        self._bus = plan.get("bus")
        self._loop = loop
        self._crash = crash
        self._app: Component | None = None
        self._imported_ns = 0
        self._turn = asyncio.Lock()
        self._life = self._new_life()

    def _new_life(self) -> Life:
        return Life(Instance(self.name, self._settings, self._bus), self._loop, self._crash)

    @property
    def instance(self) -> Instance:
        """The life that is running, or the last one."""
        return self._life.instance

    @property
    def state(self) -> str:
        """What the control socket tells."""
        return (
            "imported" if self._life.state == "new" and self._app is not None else self._life.state
        )

    # -- importing -------------------------------------------------------------------------------

    def load(self) -> None:
        """Import the code; raises what :func:`holdfast.container.load.load` raises."""
        self._imported_ns = time.time_ns()
        app = self._life.context().run(load.load, self.name, self.use)
        fit.check(app, self.instance)
        fit.import_bus(app, self.instance)
        app.bind(self.instance)
        self._app = app

    # -- orders ----------------------------------------------------------------------------------

    async def start(self) -> str:
        """Run the start functions, then let timers, tasks and checks go; "" or why that cannot be."""
        async with self._turn:
            if self.state == "stopping":
                return (
                    f'component "{self.name}" has not ended yet; restart the whole worker instead'
                )
            if self.state in ("starting", "running"):
                return ""
            app = self._app
            assert app is not None  # noqa: S101 -- load() comes first
            if self.state == "stopped":
                self._life = self._new_life()
                fit.check(app, self.instance)
            await self._life.start(app)
            return ""

    async def joined(self, within_s: float | None) -> bool:
        """Wait until it is on the bus with everything that it offers; at once where it has no bus."""
        while True:
            instance = self.instance
            if instance.joined is None or await instance.joined.wait(within_s):
                return True
            if instance is self.instance:
                return False  # else: restarted meanwhile

    async def stop(self, patience_s: float) -> str:
        """End everything of this component; "" or what has not ended within ``patience_s``."""
        async with self._turn:
            return await self._stop(patience_s)

    async def _stop(self, patience_s: float) -> str:
        app = self._app
        assert app is not None  # noqa: S101 -- load() comes first
        left = await self._life.stop(app, patience_s)
        if not left:
            return ""
        return (
            f'component "{self.name}" did not end within {patience_s:g} s ({left} still '
            f"runs); restart the whole worker instead"
        )

    async def restart(self, patience_s: float, others: "list[str]") -> "tuple[list[str], str]":
        """Import its code anew, stop it, start the new one: (modules imported anew, what went wrong).

        The import comes first and in a thread: when it fails the component runs on as it was.
        """
        async with self._turn:
            started_ns = time.time_ns()
            life = self._new_life()
            reloaded = life.context().run(
                Lane(f"{self.name}.import", self._loop).call,
                lambda: load.reload(self.name, self.use, others, self._imported_ns),
            )
            try:
                app, modules = await reloaded
                fit.check(app, life.instance)
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
            gc.unfreeze()  # the old modules were to live for ever, and now they are not
            self._app = app
            self._life = life
            await life.start(app)
            return modules, ""

    def describe(self) -> "dict[str, object]":
        """Return what the control socket tells; from any thread."""
        instance = self.instance
        mine = [call for call in tuple(RECORDER.calls) if call.instance is instance]
        return {
            "name": self.name,
            "use": self.use,
            "state": self.state,
            "restarts": self.restarts,
            "healthy": self._life.healthy,
            "says": self._life.says,
            "work_done": instance.work_done,
            "in_flight": len(mine),
            "bus": instance.joined.describe() if instance.joined is not None else None,
        }

    def run_here(self, function: "Callable[[], None]") -> None:
        """Call a function on the loop as if it were the component's own; raising is a crash."""
        self._life.run_here(function)
