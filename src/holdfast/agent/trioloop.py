"""The beat of trio's loop, and where its tasks come from.

Every task of trio, whoever starts it in whichever nursery, is made by one method of its runner; that one is wrapped. The beat is a system task that
begins when the runner has its nursery for those, as trio's own do: it is cancelled with them, after the main task's end. A run on a clock of a test gets
none, because somebody who sleeps there keeps that clock from jumping.
"""

import sys
from _weakref import ref

from holdfast.agent.imports import tell
from holdfast.agent.loopbeat import PERIOD_S
from holdfast.agent.sites import CAUSE, SITES, TASKS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from holdfast.agent.otherloops import OtherBeat

_CLOCK = "SystemClock"


def install(
    beat: "Callable[[int], OtherBeat]", rests: "Callable[[], None]"
) -> "Callable[[Any], None]":
    """Return what counts the tasks and gives the loop a beat, to be called with ``trio._core._run``; ``beat`` makes one."""

    def wrap(module: "Any") -> None:
        runner = module.Runner
        original = runner.spawn_impl
        if hasattr(original, "holdfast_original"):
            return
        beating: set[ref[Any]] = set()  #: runners

        def spawn_impl(self: "Any", async_fn: "Any", *args: "Any", **kwargs: "Any") -> "Any":
            node = SITES.node(TASKS, sys._getframe(1), getattr(async_fn, "__code__", None))  # noqa: SLF001
            token = CAUSE.set(node)  # trio copies the context into the task
            try:
                task = original(self, async_fn, *args, **kwargs)
            finally:
                CAUSE.reset(token)
            node.refs.add(ref(task, node.refs.discard))
            # The first system task that comes when there is a nursery for others is trio's own, that takes what threads hand in.
            if (
                kwargs.get("system_task")
                and getattr(self, "system_nursery", None) is not None
                and ref(self) not in beating
                and type(self.clock).__name__ == _CLOCK
            ):
                beating.add(ref(self, beating.discard))
                original(self, _beat_for_ever, (self, beat(0), rests), self.system_nursery, "holdfast.beat", system_task=True)  # fmt: skip
            return task

        spawn_impl.__doc__ = original.__doc__
        spawn_impl.__qualname__ = "Runner.spawn_impl"
        spawn_impl.holdfast_original = original  # type: ignore[attr-defined]
        runner.spawn_impl = spawn_impl

    return wrap


async def _beat_for_ever(runner: "Any", tick: "OtherBeat", rests: "Callable[[], None]") -> None:
    pause = sys.modules["trio"].sleep
    try:
        while True:
            try:
                tick(len(runner.tasks))
            except Exception as error:  # noqa: BLE001 -- a system task that fails ends the program
                tell(f"no beat in trio ({type(error).__name__}: {error})")
                return
            await pause(PERIOD_S)
    finally:
        if tick.has_served:
            rests()
