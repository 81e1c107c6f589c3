"""Every asyncio task is counted where it was created.

``BaseEventLoop.create_task`` is wrapped, not the task factory: a program may set a factory of its own, and ask which one is set.
``asyncio.create_task``, task groups, ``gather`` and ``ensure_future`` all pass there; uvloop's loop is wrapped when it is imported.
Costs about 2 µs a task (bench/agent.py).
"""

import sys
from _weakref import ref

from holdfast.agent.sites import CAUSE, SITES, TASKS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def install(loop_class: "Any") -> None:
    """Count the tasks that loops of this class create from now on."""
    original = loop_class.create_task
    if hasattr(original, "holdfast_original"):
        return
    node_of, set_cause, reset_cause, frame_of = SITES.node, CAUSE.set, CAUSE.reset, sys._getframe  # noqa: SLF001
    get_cause, plumbing, created = CAUSE.get, SITES.plumbing, SITES.created

    def create_task(self: "Any", coro: "Any", **kwargs: "Any") -> "Any":
        # What SITES.node() does for a line that is known and directly above, or above asyncio.create_task: half the price.
        frame = frame_of(1)
        code = frame.f_code
        if plumbing.get(id(code)) and frame.f_back is not None:
            frame = frame.f_back
            code = frame.f_code
        node = None
        if plumbing.get(id(code)) is False:
            node = get_cause().children.get(((id(code) << 20) + frame.f_lasti + 1) * 4 + TASKS)
        if node is not None and node.count + 1 < node.look_at:
            node.count += 1
            created[TASKS] += 1
        else:
            node = node_of(TASKS, frame_of(1), getattr(coro, "cr_code", None))
        context = kwargs.get("context") if kwargs else None
        if context is None:
            token = set_cause(node)
            try:
                task = original(self, coro, **kwargs)
            finally:
                reset_cause(token)
        else:
            try:
                context.run(set_cause, node)
            except RuntimeError:
                pass  # it runs just now, in this very thread perhaps: its cause stays what it was
            task = original(self, coro, **kwargs)
        refs = node.refs
        refs.add(ref(task, refs.discard))
        return task

    create_task.__doc__ = original.__doc__
    create_task.__qualname__ = getattr(original, "__qualname__", "create_task")
    create_task.holdfast_original = original  # type: ignore[attr-defined]
    loop_class.create_task = create_task
