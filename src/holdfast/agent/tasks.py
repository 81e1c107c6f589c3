"""Every asyncio task is counted, and the line that created it is looked at as often as that costs next to nothing.

Each task, whoever creates it on whichever loop, is put into one set of asyncio's own (``asyncio.tasks._all_tasks``; 3.12 and 3.13:
``_scheduled_tasks``), by a call of its method ``add`` from C. That method is replaced by one that does the same work and
counts. Together they cost about what the original alone does, because a task that dies takes itself out without running Python.

The creating line is looked at (2 to 3 µs) for every task as long as few are created, and for every one by which there come to be
more than there were in the last seconds: a bomb is counted to the last task, with its line. In a steady storm (a task for each
request) it is one in 16 to 1000, and those in between are counted where the last one was looked at. A task that was passed over has
no node of its own: what it creates has the cause of its creator, and it is not among those that are known to live at its line.

Left out: eager tasks that end without ever waiting. asyncio itself never knows them. Where there is no such set (3.14 keeps
a linked list), ``create_task`` of the loops is wrapped, which costs about 2 µs a task (bench/agent.py).
"""

import sys
from _contextvars import Context
from _weakref import ref
from gc import get_referents

from holdfast.agent.imports import after_import
from holdfast.agent.sites import CAUSE, SITES, TASKS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from holdfast.agent.sites import Node

#: So many looks are allowed in each tenth of a second, whatever comes, and so many can be saved up. Of what is made beyond that,
#: and does not become more, so many are looked at in a tenth of a second: 200 looks a second cost half a thousandth of a core.
_LOOKS_A_BEAT, _LOOKS_SAVED, _SAMPLES_A_BEAT = 10, 30, 10
#: A steady number of tasks goes up and down; so much above what it was is growth. Less than what can be saved up, so that
#: a program that was at rest has every task of a bomb looked at, the first ones as well.
_SLACK, _SLACK_SHARE = 24, 4
_LONGEST_PERIOD, _SHORTEST_PERIOD = 1000, 16
#: Beats for which the greatest number of tasks is kept. Of the last but one such while: a bomb must not raise its own bar.
_WINDOW_BEATS = 10


class _Watch:
    """A set of tasks, made to count what is put into it."""

    __slots__ = (
        "_bar", "_beats", "_before", "_chance", "_data", "_entered", "_last", "_looks", "_made", "_most", "_period", "_usual", "context_of", "left",
    )  # fmt: skip

    def __init__(self, known: "Any", context_of: "Callable[[Any], Any]") -> None:
        self.context_of = context_of
        self._data: set[ref[Any]] = known.data
        self.left = 1  #: until the next look
        self._period = 1  #: what `left` was at the last one
        self._entered = 0  #: of those since then, how many are in SITES
        self._last = SITES.root
        self._chance = 0
        self._looks = _LOOKS_SAVED
        self._usual = (
            _SHORTEST_PERIOD  #: one in so many is looked at when there is no other reason to
        )
        self._made = 0  #: in all, at the last beat
        self._bar = _SLACK  #: with more tasks than this, each is looked at
        self._before = self._most = self._beats = 0  #: greatest numbers of tasks in two windows
        self._make_count(known)

    def _make_count(self, known: "Any") -> None:
        watch, data = self, self._data
        put, gone = data.add, data.discard

        def add(_: "Any", task: "Any") -> None:
            put(ref(task, gone))
            watch.left = left = watch.left - 1
            if left <= 0:
                watch.look(task)

        def __iter__(_: "Any") -> "Iterator[Any]":  # noqa: N807
            # Of a copy: what dies meanwhile takes itself out of the set.
            for one in list(data):
                task = one()
                if task is not None:
                    yield task

        original = type(known)
        methods = {"add": add, "__iter__": __iter__, "__module__": original.__module__}
        known.__class__ = type(original.__name__, (original,), methods)

    def look(self, task: "Any") -> None:
        """Find out who has created a task; called by the creation itself, two frames below."""
        self.settle()
        self.left = self._period = 1  # should anything below fail, the next one is looked at
        self._entered = 0
        try:
            node = self._last = _creator(task)
            refs = node.refs
            refs.add(ref(task, refs.discard))
            context = self.context_of(task)
            if context is not None:
                context.run(CAUSE.set, node)
        except (RecursionError, RuntimeError):
            pass  # no room on the stack, or its context runs just now: its cause stays what it was
        if self._looks > 0:
            self._looks -= 1
        elif len(self._data) <= self._bar:
            # By chance, or a program that creates two kinds in turns would always be met at the same one.
            self._chance = chance = (self._chance * 1103515245 + 12345) & 0x7FFFFFFF
            self.left = self._period = 1 + (chance >> 8) % (2 * self._usual - 1)

    def living(self, most: int) -> "list[Any]":
        """Return the tasks of this set; none when they are more."""
        if len(self._data) > most:
            return []
        return [task for one in list(self._data) if (task := one()) is not None and not task.done()]

    def settle(self) -> None:
        """Enter those that were passed over since the last look: where that one was."""
        # At zero one is being looked at, and is entered by that.
        passed = self._period - max(self.left, 1) - self._entered
        if passed > 0:
            self._entered += passed
            self._last.count += passed
            SITES.created[TASKS] += passed

    def forget(self) -> None:
        """Begin at zero: in a copy of the program."""
        self.left = self._period = 1
        self._last = SITES.root
        self._entered = self._made = 0

    def allow(self) -> None:
        """Allow some looks more, and see how many tasks there are and how many are made."""
        self._looks = min(_LOOKS_SAVED, self._looks + _LOOKS_A_BEAT)
        made = SITES.created[TASKS]
        usual = (made - self._made) // _SAMPLES_A_BEAT
        self._made = made
        self._usual = max(_SHORTEST_PERIOD, min(_LONGEST_PERIOD, usual))
        soon = 1 if len(self._data) > self._bar else 2 * self._usual
        if self.left > soon:
            # A storm is over, or has become a bomb: what comes next is not passed over as it would have been.
            self.settle()
            self.left = self._period = soon
            self._entered = 0
        self._most = max(self._most, len(self._data))
        self._beats += 1
        if self._beats >= _WINDOW_BEATS:
            self._bar = self._before + self._before // _SLACK_SHARE + _SLACK
            self._before, self._most, self._beats = self._most, 0, 0


def _creator(task: "Any") -> "Node":
    # What SITES.node() does for a line that is known: half the price.
    plumbing = SITES.plumbing
    first = frame = sys._getframe(3)  # noqa: SLF001 -- whoever has called the set's add()
    back = frame.f_back
    if back is not None and back.f_code is _create_task[0]:
        first = frame = back  # that was a task factory of the program's
    code = frame.f_code
    while plumbing.get(id(code)) and frame.f_back is not None:
        frame = frame.f_back
        code = frame.f_code
    if plumbing.get(id(code)) is False:
        node = CAUSE.get().children.get(((id(code) << 20) + frame.f_lasti + 1) * 4 + TASKS)
        if node is not None and node.count + 1 < node.look_at:
            node.count += 1
            SITES.created[TASKS] += 1
            return node
    return SITES.node(TASKS, first, getattr(task.get_coro(), "cr_code", None))


_watches: "list[_Watch]" = []
#: The code of asyncio's create_task, which calls a task factory where there is one.
_create_task: "list[Any]" = [None]


def _remember_create_task(events: "Any") -> None:
    _create_task[0] = events.BaseEventLoop.create_task.__code__


def install() -> None:
    """Count the tasks of every loop from now on, as soon as there is asyncio."""
    after_import("asyncio.tasks", _count)


def settle() -> None:
    """Enter what was counted since the last time into :data:`SITES`."""
    for watch in _watches:
        watch.settle()


def forget() -> None:
    """Begin at zero: this process is a copy, and its tasks are its own."""
    for watch in _watches:
        watch.forget()


def allow() -> None:
    """Allow some looks more; called ten times a second, but not while the serving loop is late: it may be making a bomb."""
    for watch in _watches:
        watch.allow()


def living(most: int) -> "list[Any]":
    """Return the tasks that live; none when they are more than ``most``, or where there is no set of them (Python 3.14)."""
    found: list[Any] = []
    for watch in _watches:
        found += watch.living(most)
    return found if len(found) <= most else []


def _count(module: "Any") -> None:
    known = getattr(module, "_all_tasks", None)  # 3.11
    if known is None:
        known = getattr(module, "_scheduled_tasks", None)  # 3.12, 3.13
    data = getattr(known, "data", None)
    if type(known).__name__ == "WeakSet" and type(data) is set and sys.version_info < (3, 14):
        _watches.append(_Watch(known, getattr(module.Task, "get_context", None) or _context_of))
        after_import("asyncio.base_events", _remember_create_task)
        return
    after_import("asyncio.base_events", lambda events: wrap(events.BaseEventLoop))
    after_import("uvloop", lambda uvloop: wrap(uvloop.Loop))


def _context_of(task: "Any") -> "Any":
    """Return the context of a task where it has no method that tells (3.11); None where it cannot be found."""
    for one in get_referents(task):
        if type(one) is Context:
            return one
    return None


def wrap(loop_class: "Any") -> None:
    """Count the tasks that loops of this class create from now on, each at its line."""
    original = loop_class.create_task
    if hasattr(original, "holdfast_original"):
        return
    node_of, set_cause, reset_cause, frame_of = SITES.node, CAUSE.set, CAUSE.reset, sys._getframe  # noqa: SLF001

    def create_task(self: "Any", coro: "Any", **kwargs: "Any") -> "Any":
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
