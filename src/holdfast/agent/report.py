"""What does the plain thread write into the pulse, and when?

Counters with each beat; creation sites at once when many were created since the last time (a loop that is blocked by its own bomb
cannot write them), otherwise once a second, and only when something has changed. While the serving loop is late, its stack is looked at
with each beat: the line that blocks is in the file before anybody asks, and without ptrace.
"""

import sys
from time import monotonic_ns

from holdfast.agent import children, handlers, tasks
from holdfast.agent.locks import Locks
from holdfast.agent.loopbeat import LATE_NS
from holdfast.agent.pulse import SITES_ROOM
from holdfast.agent.routes import TABLE
from holdfast.agent.sites import (
    ASKING,
    GREENLETS,
    SITES,
    TASKS,
    THREADS,
    creators,
    frames,
    label,
    named,
)
from holdfast.agent.spins import Spins
from holdfast.agent.waiting import Waits
from holdfast.wire.jsonlite import dumps

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import CodeType, FrameType
    from typing import Any

    from holdfast.agent.pulse import PulseWriter
    from holdfast.agent.sites import Node

    Stack = tuple[tuple[CodeType, int], ...]

#: So many creations between two beats, and so many times what is usual here, are written at once.
MANY, _TIMES_USUAL = 300, 3.0
_EVERY_NS = 1_000_000_000
_WINDOW_NS = 5_000_000_000
#: With more threads than this, stacks are grouped and written: at once when they have become a tenth more, else rarely (a
#: microsecond a thread, with the interpreter's lock).
_CROWD, _CROWD_EVERY_NS = 100, 20_000_000_000
#: Entries of each kind, and how many are tried next when that does not fit.
_ENTRIES = (16, 10, 6, 3, 1)
_BLOCKED_KEPT = 8
#: More creations between two beats (a tenth of a second) than this: stacks are looked at ten times as often.
_STORM_A_BEAT = 100
_KINDS = (("tasks", TASKS), ("threads", THREADS), ("greenlets", GREENLETS))


class Reporter:
    """Called by the plain thread with each of its beats."""

    __slots__ = (
        "_adjusted_ns", "_are_open", "_blocked", "_crowd", "_crowd_ns", "_crowd_of", "_last", "_locks", "_rotated_ns", "_said", "_spins", "_usual", "_waits", "_was_burst", "_written_ns", "pulse",
        "serving_thread", "uses_greenlets",
    )  # fmt: skip

    def __init__(self, pulse: "PulseWriter") -> None:
        self.pulse = pulse
        self.serving_thread = 0
        self.uses_greenlets = False
        self._last = (0, 0, 0)  #: creations at the last beat
        self._usual = 0.0  #: creations between two beats, lately
        self._was_burst = False
        self._adjusted_ns = 0
        self._said: object = None
        self._locks = Locks()
        self._spins = Spins()
        self._waits = Waits()
        self._written_ns = 0
        self._rotated_ns = monotonic_ns()
        self._blocked: dict[tuple[int, ...], list[Any]] = {}  #: [looks, stack] by key
        self._are_open: set[int] = (
            set()
        )  #: rows of routes whose requests under way are in the pulse
        self._crowd: list[list[Any]] = []
        self._crowd_of = 0  #: how many threads there were at the last look
        self._crowd_ns = 0

    def begin_again(self) -> None:
        """Forget everything: this process is a copy. What hooks know of us stays as it is."""
        kept = self.uses_greenlets, self.serving_thread
        self.__init__(self.pulse)  # type: ignore[misc]
        self.uses_greenlets, self.serving_thread = kept

    def beat(self, now_ns: int, threads: int) -> None:
        """Write what has changed."""
        TABLE.beat(now_ns)
        tasks.settle()
        made = SITES.created
        greenlets = self._greenlets() if self.uses_greenlets else -1
        self.pulse.made(made[TASKS], made[THREADS], greenlets, TABLE.latency_ns())
        for at, row in enumerate(TABLE.rows):
            if row.count != row.written:
                row.written = row.count
                self.pulse.route(at, row.name, row.count, row.latency_ns, row.cpu_ns)
        is_late = self.serving_thread and self.pulse.loop_beat_age_ns(now_ns) > LATE_NS
        if is_late:
            self._look_at_serving()
        else:
            tasks.allow()
        if threads <= _CROWD:
            self._crowd, self._crowd_of = [], 0
        elif threads > self._crowd_of * 1.1 or now_ns - self._crowd_ns > _CROWD_EVERY_NS:
            self._crowd_of = threads
            self._look_at_all(now_ns)
        grown = max(made[kind] - before for before, kind in zip(self._last, (0, 1, 2), strict=True))
        self._last = tuple(made[:3])  # type: ignore[assignment]
        is_burst = grown >= MANY and grown > self._usual * _TIMES_USUAL
        self._usual += (grown - self._usual) / 10
        spins_ns, thread = self._spins.look(now_ns, self.serving_thread)
        self.pulse.spins(spins_ns)
        if spins_ns:
            self.look_at(thread)
        passed_ns = now_ns - self._adjusted_ns
        if passed_ns >= _EVERY_NS:
            self._adjusted_ns = now_ns
            TABLE.adjust(passed_ns / 1e9)
            self._report_open(now_ns)
            self.pulse.waits(*self._waits.look(now_ns))
            self.pulse.stuck(*self._locks.look(now_ns, threads))
            SITES.stack_every = 100 if self._usual > _STORM_A_BEAT else 1000
        is_new = is_late and len(self._blocked) == 1
        # The beat after a burst has the rest of it.
        was_burst, self._was_burst = self._was_burst, is_burst
        if is_burst or was_burst or is_new or now_ns - self._written_ns >= _EVERY_NS:
            self.write(now_ns)

    def write(self, now_ns: int) -> None:
        """Write the creation sites, if there is anything new in them."""
        self._written_ns = now_ns
        if now_ns - self._rotated_ns > _WINDOW_NS:
            self._rotated_ns = now_ns
            for nodes in SITES.nodes:
                for node in nodes:
                    node.older, node.newer = node.newer, node.count
        looks = sum(found[0] for found in self._blocked.values())
        waits = [(count, since_ns) for count, since_ns, _ in self._waits.waiting]
        said = (
            tuple(SITES.created), sum(children.started.values()), max(handlers.numbers.values(), default=0), looks, self._crowd_ns, self._rotated_ns, self._locks.stuck, waits, self._waits.holding,
        )  # fmt: skip
        if said == self._said:
            return
        self._said = said
        for entries in _ENTRIES:
            text = dumps(self._value(now_ns, entries)).encode()
            if len(text) <= SITES_ROOM:
                self.pulse.sites(text)
                return

    def _value(self, now_ns: int, entries: int) -> "dict[str, Any]":
        value: dict[str, Any] = {"at_ns": now_ns}
        recent: dict[str, list[int]] = {}
        stacks: dict[str, list[list[str]]] = {}
        for name, kind in _KINDS:
            ranked = _ranked(SITES.nodes[kind], kind)[:entries]
            value[name] = [
                [count, live, where, creators(node)] for _, count, live, where, node in ranked
            ]
            recent[name] = [late for late, *_ in ranked]
            for _, _, _, where, node in ranked[: max(1, entries // 4)]:
                if where not in stacks:
                    stacks[where] = [named(stack) for stack in node.stacks[-2:]]
        asking: dict[str, int] = {}
        for node in sorted(SITES.nodes[ASKING], key=lambda node: -node.count)[:entries]:
            asking[label(node)] = asking.get(label(node), 0) + node.count
        value["recent"], value["stacks"], value["asking"] = recent, stacks, asking
        value["running"] = self._crowd[:entries]
        value["stuck"] = [named(stack) for stack in self._locks.stuck[:entries]]
        if self._waits.waiting:
            value["waiting"] = self._waits.told(now_ns, entries)
            value["holding"] = [list(one) for one in self._waits.holding[:entries]]
        if children.started:
            value["children"] = children.ranked(entries)
        if logs := handlers.told(entries):
            value["handlers"] = logs
        if children.died:
            value["died"] = children.died[:entries]
        blocked = sorted(self._blocked.values(), key=lambda found: -found[0])
        value["blocked"] = [[n, named(stack)] for n, stack in blocked[: max(1, entries // 4)]]
        return value

    def _report_open(self, now_ns: int) -> None:
        found = TABLE.waiting(now_ns) if TABLE.open or self._are_open else {}
        for row in self._are_open - found.keys():
            self.pulse.open(row, 0, 0, 0, 0)
        for row, (count, third_ns, oldest_ns, slowest_ns) in found.items():
            self.pulse.open(row, count, third_ns, oldest_ns, slowest_ns)
        self._are_open = set(found)

    def _greenlets(self) -> int:
        return sum(len(node.refs) for node in SITES.nodes[GREENLETS])

    def _look_at_serving(self) -> None:
        self.look_at(self.serving_thread)

    def look_at(self, thread: int) -> None:
        """Note where a thread stands that keeps the program from serving."""
        frame = sys._current_frames().get(thread)  # noqa: SLF001 -- the documented way
        if frame is None:
            return
        key = _key(frame, 24)
        found = self._blocked.get(key)
        if found is None:
            if len(self._blocked) >= _BLOCKED_KEPT:
                # The rarest goes: what blocks again and again stays.
                del self._blocked[min(self._blocked, key=lambda other: self._blocked[other][0])]
            found = self._blocked[key] = [0, frames(frame)]
        found[0] += 1

    def _look_at_all(self, now_ns: int) -> None:
        self._crowd_ns = now_ns
        groups: dict[tuple[int, ...], list[Any]] = {}
        for frame in sys._current_frames().values():  # noqa: SLF001 -- the documented way
            key = _key(frame, 12)
            found = groups.get(key)
            if found is None:
                found = groups[key] = [0, frames(frame, 12)]
            found[0] += 1
        largest = sorted(groups.values(), key=lambda found: -found[0])[:5]
        self._crowd = [[count, named(stack)] for count, stack in largest]


def _key(frame: "FrameType | None", deepest: int) -> "tuple[int, ...]":
    """Return what equal stacks have in common; by identity, for the hash of a code object is dear."""
    found: list[int] = []
    while frame is not None and len(found) < deepest:
        found.append((id(frame.f_code) << 20) + frame.f_lasti)
        frame = frame.f_back
    return tuple(found)


def _ranked(nodes: "list[Node]", kind: int) -> "list[tuple[int, int, int, str, Node]]":
    """Return (recent, count, live, place, heaviest node) of each place, the most of late first."""
    places: dict[str, list[Any]] = {}
    for node in tuple(nodes):
        late = node.count - node.older
        live = _living_threads(node) if kind == THREADS else len(node.refs)
        found = places.setdefault(label(node), [0, 0, 0, 0, node])
        found[0] += late
        found[1] += node.count
        found[2] += live
        if late + live >= found[3]:
            found[3], found[4] = late + live, node
    ranked = sorted(places.items(), key=lambda item: (-item[1][0] - item[1][2], -item[1][1]))
    return [(late, count, live, where, node) for where, (late, count, live, _, node) in ranked]


def _living_threads(node: "Node") -> int:
    try:
        known = tuple(node.refs)
    except RuntimeError:  # one of them died while they were listed
        return len(node.refs)
    return sum(1 for one in known if (thread := one()) is not None and thread.is_alive())
