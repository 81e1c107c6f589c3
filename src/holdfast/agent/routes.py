"""How much was done on each route, how long it took, and how much processor it cost?

Cumulative counts, one row for each route, at most 24: what comes later is counted together. Processor time is taken of about 150 pieces
of work a second, and multiplied: a thread's clock is a system call. Latency is taken of everything, except where there are 500 web
requests a second or more: then of about 250, multiplied, and of every one that takes longer than a beat of the plain thread or two,
by those beats. So no clock is read for most requests, and none that is slow is missed.
"""

import sys
import types
from time import monotonic_ns, perf_counter_ns, thread_time_ns

from holdfast.wire.pulse import MEASURED_PER_S, ROUTE_NAME_BYTES, ROUTES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator
    from typing import Any

#: Where everything is counted that comes when the table is full: requests, and other work.
OTHERS = {True: "(other requests)", False: "(others)"}
#: So many web requests a second have their latency measured to the nanosecond.
_TIMED_PER_S = 250


#: What the slowest was is forgotten within about so long.
_FORGETS_S = 600.0
#: Of those under way so many (and one in so many) have to be old for their route to be.
_THIRD = 3


class Route:
    """One row; whoever finishes a piece of work adds to it."""

    __slots__ = (
        "count",
        "cpu_ns",
        "is_web",
        "is_work",
        "latency_ns",
        "longest_ns",
        "name",
        "written",
    )

    def __init__(self, name: bytes, *, is_work: bool, is_web: bool) -> None:
        self.name = name
        self.is_web = is_web
        self.is_work = is_work  #: counts as work done of the whole process
        self.count = self.latency_ns = self.cpu_ns = 0
        self.longest_ns = 0  #: latency of the slowest of late; of the quick ones nobody knows
        self.written = -1  #: the count that is in the pulse


class RouteTable:
    """The routes of this process; there is one, :data:`TABLE`."""

    __slots__ = (
        "_asked", "_by_name", "_chance", "_gap", "_seen", "beat_before_ns", "beat_ns", "every", "open", "rows", "timed_every", "until", "until_timed",
    )  # fmt: skip

    def __init__(self) -> None:
        self.rows: list[Route] = []  #: in the order of their first use
        #: Web requests under way, by identity: the beat at which each began, what finds its row, and for what. Other work counts its own.
        self.open: dict[int, tuple[int, Callable[[Any], Route | None], Any]] = {}
        self.every = 1  #: of so many that ask, the processor time of one is measured
        self.timed_every = 1  #: of so many web requests one is timed, and may ask
        self._by_name: dict[str, Route] = {}
        self.until = 1  #: so many more ask and one is measured
        self.until_timed = self._gap = 1
        self.beat_ns = self.beat_before_ns = (
            monotonic_ns()
        )  #: of the plain thread: the last, the one before
        self._chance = 0
        self._seen = self._asked = 0

    def route(self, name: str, *, is_work: bool = True, is_web: bool = False) -> Route:
        """Return the row of a route; the common one once the table is full."""
        found = self._by_name.get(name)
        if found is None:
            others = OTHERS[is_web]
            if len(self.rows) >= ROUTES - len(OTHERS) and name != others:
                return self.route(others, is_web=is_web)
            raw = name.encode("utf-8", "replace")[:ROUTE_NAME_BYTES]
            found = self._by_name[name] = Route(raw, is_work=is_work, is_web=is_web)
            self.rows.append(found)
        return found

    @property
    def in_flight(self) -> int:
        """How many web requests are under way."""
        return len(self.open)

    def known(self, name: str) -> "Route | None":
        """Return the row of a route that there is already; asked by the plain thread, which makes none."""
        return self._by_name.get(name)

    def waiting(self, now_ns: int) -> "dict[int, tuple[int, int, int, int]]":
        """Return for each row (by its place) of which requests are under way: how many, how old a third of them and the oldest are, and the slowest of late.

        Nanoseconds; a third of them is three at least. Of routes on which nothing has ended yet nothing is told: they have no past.
        """
        ages: dict[int, list[int]] = {}
        for began_ns, find, what in _copy(self.open):
            try:
                row = find(what)
            except Exception:  # noqa: BLE001 -- a request that ends just now may be half taken apart: it is not one that waits
                row = None
            if row is not None:
                ages.setdefault(id(row), []).append(now_ns - began_ns)
        found = {}
        for at, row in enumerate(self.rows):
            of_row = ages.get(id(row))
            if of_row:
                of_row.sort(reverse=True)
                third = max(_THIRD, -(-len(of_row) // _THIRD))
                third_ns = of_row[third - 1] if len(of_row) >= third else 0
                found[at] = (len(of_row), third_ns, of_row[0], row.longest_ns)
        return found

    def is_measured(self) -> bool:
        """Whether the processor time of the next piece of work is to be measured."""
        self._asked += 1
        if self.until > 1:
            self.until -= 1
            return False
        self.until = self.every
        return True

    def time_later(self) -> int:
        """Choose when a web request is timed again; return how many this one stands for: all since the last one.

        By chance, or two routes that are asked for in turns would always be met at the same one.
        """
        passed = self._gap
        self._chance = chance = (self._chance * 1103515245 + 12345) & 0x7FFFFFFF
        self.until_timed = self._gap = 1 + (chance >> 8) % (2 * self.timed_every - 1)
        return passed

    def beat(self, now_ns: int) -> None:
        """Note that the plain thread has beaten: the clock of all requests that are not timed."""
        self.beat_before_ns, self.beat_ns = self.beat_ns, now_ns

    def adjust(self, passed_s: float) -> None:
        """Choose how many are measured and timed, by how many there were in the last seconds."""
        passed_s = max(passed_s, 0.1)
        self.every = max(1, int(self._asked / passed_s / MEASURED_PER_S))
        self._asked = 0
        for row in self.rows:
            row.longest_ns -= int(row.longest_ns * min(1.0, passed_s / _FORGETS_S))
        done = self.requests()
        self.timed_every = max(1, int((done - self._seen) / passed_s / _TIMED_PER_S))
        self._seen = done
        longest = 2 * self.timed_every - 1
        if self.until_timed > longest:
            # There were many and are few: the next one is not passed over as it would have been.
            self._gap -= self.until_timed - longest
            self.until_timed = longest

    def requests(self) -> int:
        """Return how many requests were answered."""
        return sum(row.count for row in self.rows if row.is_web)

    def latency_ns(self) -> int:
        """Return the sum over all work."""
        return sum(row.latency_ns for row in self.rows if row.is_work)


def _copy(opened: "dict[int, tuple[int, Callable[[Any], Route | None], Any]]") -> "list[tuple[int, Callable[[Any], Route | None], Any]]":  # fmt: skip
    for _ in range(20):
        try:
            return list(opened.values())
        except RuntimeError:  # it changed meanwhile: other threads go on
            continue
    return []


class Timed:
    """A web request whose latency is measured; of some of them the processor time, too."""

    __slots__ = ("_beat_ns", "_began_ns", "_cpu", "_every", "_times")

    def __init__(self) -> None:
        self._times = TABLE.time_later()
        self._cpu = [0]
        self._every = 0
        self._beat_ns = TABLE.beat_ns
        self._began_ns = perf_counter_ns()

    def runs(self, coroutine: "Coroutine[Any, Any, Any]") -> "Any":
        """Return what is to be awaited."""
        if not TABLE.is_measured():
            return coroutine
        self._every = TABLE.every * TABLE.timed_every
        return measured(coroutine, self._cpu)

    def calls(self, function: "Callable[..., Any]", *arguments: "Any") -> "Any":
        """Call a function that answers."""
        if not TABLE.is_measured():
            return function(*arguments)
        self._every = TABLE.every * TABLE.timed_every
        began_ns = thread_time_ns()
        try:
            return function(*arguments)
        finally:
            self._cpu[0] = thread_time_ns() - began_ns

    def ends(self, route: Route) -> None:
        """Add it to its row; for those as well that were not timed since the last one was."""
        # One that has seen two beats stands for itself alone: those like it that are not timed are counted by the beats.
        times = 1 if self._beat_ns < TABLE.beat_before_ns else self._times
        took_ns = perf_counter_ns() - self._began_ns
        route.latency_ns += took_ns * times
        if took_ns > route.longest_ns:
            route.longest_ns = took_ns
        route.cpu_ns += self._cpu[0] * self._every
        route.count += 1  # last: a new count has its latency


TABLE = RouteTable()


@types.coroutine
def measured(coroutine: "Coroutine[Any, Any, Any]", route: "list[int]") -> "Generator[Any, Any, Any]":  # fmt: skip
    """Await a coroutine and put the processor time of its steps into ``route[0]``.

    Step by step: between two of them the loop runs others.
    """
    value: Any = None
    error: BaseException | None = None
    spent = 0
    try:
        while True:
            began = thread_time_ns()
            try:
                asked = coroutine.send(value) if error is None else coroutine.throw(error)
            except StopIteration as stop:
                return stop.value
            finally:
                spent += thread_time_ns() - began
            error = None
            try:
                value = yield asked
            except GeneratorExit:
                coroutine.close()
                raise
            except BaseException as thrown:  # noqa: BLE001 -- it is the coroutine's
                value, error = None, thrown
    finally:
        route[0] = spent


_MEASURED = measured.__code__  # type: ignore[attr-defined,unused-ignore]


def measures(frame: "Any") -> "Any":
    """Return the coroutine that a suspended frame drives step by step, which no chain of awaits leads to; None when it does not."""
    return frame.f_locals.get("coroutine") if frame.f_code is _MEASURED else None


def took_beats(route: Route, took_ns: int) -> None:
    """Add the latency of one that was not timed and has seen two beats."""
    route.latency_ns += took_ns
    if took_ns > route.longest_ns:
        route.longest_ns = took_ns


def name_of(method: str, path: str) -> str:
    """Return a route for a path where the framework names none: numbers and long codes are taken for parameters."""
    parts = path.split("/")
    for at, part in enumerate(parts):
        if part and (part.isdecimal() or len(part) > 24 or _is_code(part)):
            parts[at] = "{}"
    return sys.intern(f"{method} {'/'.join(parts)}")


def _is_code(part: str) -> bool:
    plain = part.replace("-", "")
    digits = sum(character.isdecimal() for character in plain)
    return len(plain) >= 8 and digits > 0 and all(c in "0123456789abcdefABCDEF" for c in plain)


def finish(route: Route, began_ns: int, cpu_ns: int = 0) -> None:
    """Add a finished piece of work to its row (``began_ns``: perf_counter)."""
    route.latency_ns += perf_counter_ns() - began_ns
    if cpu_ns:
        route.cpu_ns += cpu_ns
    route.count += 1  # last: a new count has its latency
