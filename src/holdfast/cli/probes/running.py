"""Who looks when: every probe at its own pace, none held up by another.

A task for each probe. Each look has a deadline of its own, and one that has no answer holds up no other one of the same thing; so many may run at a time, and
the file was checked for room even if all of them hang (:mod:`holdfast.cli.probes.load`). Times are monotonic. What was believed survives a kill; when the next look is due does not have to.
"""

import asyncio
import random
import time
from typing import TYPE_CHECKING, Any

from holdfast.cli.probes.looks import Result, look
from holdfast.core import outside
from holdfast.core.outside import Belief

if TYPE_CHECKING:
    from collections.abc import Callable

    from holdfast.cli.probes.load import Probe, Probes

    Told = Callable[[Probe, Belief, Result, bool], None]

#: A probe that was not looked at for its pace and this long is overdue: then nobody may be told that all is well.
_OVERDUE_S = 30.0
#: How often the loop is seen to go round. What it comes late by is time that every look has lost.
_ROUND_S = 0.05
#: A failure of a look that lost this share of its time may be ours; so many of them in a row count all the same.
_LOST_SHARE, _EXCUSES = 0.25, 3


class Watch:
    """All probes of a file while they run."""

    def __init__(self, probes: "Probes", tell: "Told") -> None:
        """Take it up.

        Args:
            probes: What is looked at.
            tell: Is told of each look: probe, belief, result, and whether another thing is believed now.
        """
        self.probes = {probe.name: probe for probe in probes.probes}
        self.beliefs = {name: Belief() for name in self.probes}
        self.results: dict[str, Result] = {}
        self.due_s: dict[str, float] = {}
        self._tell = tell
        self._room = asyncio.Semaphore(probes.parallel)
        self._lost_s = 0.0
        self._usual_s: dict[str, float] = {}  #: how long the last good look took
        self._wanted = {name: asyncio.Event() for name in self.probes}
        self._below = {
            name: [p.name for p in probes.probes if name in p.after] for name in self.probes
        }

    def restore(self, left: "dict[str, Any]", now_s: float) -> None:
        """Take up what the life before believed; of probes that are gone nothing is kept."""
        for name in self.probes:
            if name in left:
                self.beliefs[name] = outside.restore(left[name], now_s)

    def to_json(self) -> "dict[str, Any]":
        """Return what is believed as JSON has it."""
        return {name: belief.to_json() for name, belief in self.beliefs.items()}

    def is_timely(self, now_s: float) -> bool:
        """Whether every probe is looked at as often as it should be."""
        return all(
            now_s - due_s < self.probes[name].timeout_s + _OVERDUE_S
            for name, due_s in self.due_s.items()
        )

    async def run(self) -> None:
        """Look until the end."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._go_round(), name="round")
            for probe in self.probes.values():
                group.create_task(self._keep(probe), name=probe.name)

    async def once(self) -> "list[tuple[Probe, Result]]":
        """Look at everything once and return what was seen, in the order of the file."""

        async def one(probe: "Probe") -> Result:
            async with self._room:
                return await look(probe)

        found = await asyncio.gather(*(one(probe) for probe in self.probes.values()))
        return list(zip(self.probes.values(), found, strict=True))

    async def _go_round(self) -> None:
        """Count the time in which nothing here could run: this machine was too busy, or slept."""
        while True:
            began_s = time.monotonic()
            await asyncio.sleep(_ROUND_S)
            late_s = time.monotonic() - began_s - _ROUND_S
            if late_s > _ROUND_S:
                self._lost_s += late_s

    async def _look(self, probe: "Probe") -> "tuple[float, Result]":
        """Return when a look began that counts, and what it saw."""
        async with self._room:
            for excuses_left in range(_EXCUSES - 1, -1, -1):
                lost_s, began_s = self._lost_s, time.monotonic()
                result = await look(probe)
                await asyncio.sleep(0)  # a round that is late is counted first
                is_ours = self._lost_s - lost_s > probe.timeout_s * _LOST_SHARE
                if result.is_good or not is_ours or not excuses_left:
                    return began_s, result
        raise AssertionError("unreachable")

    async def _keep(self, probe: "Probe") -> None:
        """Look at one thing again and again; while it has no answer, beside that."""
        flying: set[asyncio.Task[tuple[float, Result]]] = set()
        began_s = planned_s = lost_s = 0.0
        due_s = outside.first_s(time.monotonic(), probe.every_s, random.random())  # noqa: S311 -- no secret
        async with asyncio.TaskGroup() as group:
            while True:
                is_wanted = await self._wait(probe.name, due_s, flying)
                now_s = time.monotonic()
                done = {task for task in flying if task.done()}
                flying -= done
                for task in sorted(done, key=lambda one: one.result()[0]):
                    self._note(probe, *task.result(), now_s)
                if done:
                    due_s = self._due_s(probe, flying, began_s, planned_s, now_s)
                if (
                    flying
                    and now_s >= due_s
                    and self._lost_s - lost_s > probe.again_s * _LOST_SHARE
                ):
                    # It has no answer because nothing here could run.
                    lost_s, due_s = self._lost_s, now_s + probe.again_s
                if (is_wanted and len(flying) < probe.rule.fails) or now_s >= due_s:
                    lost_s = self._lost_s
                    planned_s = now_s if is_wanted or flying else due_s
                    began_s = now_s
                    flying.add(group.create_task(self._look(probe)))
                    due_s = self._due_s(probe, flying, began_s, planned_s, now_s)
                self.due_s[probe.name] = min(due_s, began_s + probe.timeout_s + probe.every_s)

    def _note(self, probe: "Probe", began_s: float, result: Result, now_s: float) -> None:
        belief = self.beliefs[probe.name]
        has_changed = outside.note(belief, probe.rule, result.is_good, began_s, now_s, time.time())
        self.results[probe.name] = result
        if result.is_good:
            self._usual_s[probe.name] = result.took_s
        self._hurry(probe, has_changed)
        self._tell(probe, belief, result, has_changed)

    def _due_s(self, probe: "Probe", flying: "set[Any]", began_s: float, planned_s: float, now_s: float) -> float:  # fmt: skip
        """Return when the next look begins."""
        state = self.beliefs[probe.name].state
        if flying:
            if len(flying) >= probe.rule.fails:
                return float("inf")
            usual_s = self._usual_s.get(probe.name, 0.0) if state == outside.UP else 0.0
            return outside.beside_s(began_s, min(probe.again_s, probe.every_s), usual_s, state)
        chance = random.random()  # noqa: S311 -- no secret
        return outside.next_s(planned_s, now_s, probe.every_s, probe.again_s, state, chance)

    def _hurry(self, probe: "Probe", has_changed: bool) -> None:
        """Have those looked at at once from which it may follow, or which may be well again with it."""
        belief = self.beliefs[probe.name]
        if has_changed and belief.state in (outside.DOUBT, outside.DOWN):
            for name in probe.after:
                if self.beliefs[name].looked_s < belief.failing_since_s:
                    self._wanted[name].set()
        if has_changed and belief.state == outside.UP:
            for name in self._below[probe.name]:
                if self.beliefs[name].state in (outside.DOUBT, outside.DOWN):
                    self._wanted[name].set()

    async def _wait(self, name: str, due_s: float, flying: "set[asyncio.Task[Any]]") -> bool:
        """Wait until a look is due or done; true when somebody wants one earlier."""
        wanted = self._wanted[name]
        waiting = asyncio.ensure_future(wanted.wait())
        try:
            left_s = None if due_s == float("inf") else max(0.0, due_s - time.monotonic())
            await asyncio.wait({*flying, waiting}, timeout=left_s, return_when=asyncio.FIRST_COMPLETED)  # fmt: skip
        finally:
            waiting.cancel()
        is_wanted = wanted.is_set()
        wanted.clear()
        return is_wanted
