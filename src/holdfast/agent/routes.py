"""How much was done on each route, how long it took, and how much processor it cost?

Cumulative counts, one row for each route, at most 24: what comes later is counted together. Latency is taken of everything; processor time
of about 50 pieces of work a second, and multiplied: a thread's clock is a system call.
"""

import sys
import types
from time import perf_counter_ns, thread_time_ns

from holdfast.wire.pulse import ROUTE_NAME_BYTES, ROUTES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Coroutine, Generator
    from typing import Any

#: Where everything is counted that comes when the table is full: requests, and other work.
OTHERS = {True: "(other requests)", False: "(others)"}
#: So many pieces of work a second have their processor time measured.
_MEASURED_PER_S = 50


class Route:
    """One row; whoever finishes a piece of work adds to it."""

    __slots__ = ("count", "cpu_ns", "is_web", "is_work", "latency_ns", "name", "written")

    def __init__(self, name: bytes, *, is_work: bool, is_web: bool) -> None:
        self.name = name
        self.is_web = is_web
        self.is_work = is_work  #: counts as work done of the whole process
        self.count = self.latency_ns = self.cpu_ns = 0
        self.written = -1  #: the count that is in the pulse


class RouteTable:
    """The routes of this process; there is one, :data:`TABLE`."""

    __slots__ = ("_by_name", "_seen", "every", "in_flight", "rows", "until")

    def __init__(self) -> None:
        self.rows: list[Route] = []  #: in the order of their first use
        self.in_flight = 0  #: web requests; other work counts its own
        self.every = 1  #: of so many pieces of work the processor time of one is measured
        self._by_name: dict[str, Route] = {}
        self.until = 1  #: so many more and one is measured
        self._seen = 0

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

    def is_measured(self) -> bool:
        """Whether the processor time of the next piece of work is to be measured."""
        if self.until > 1:
            self.until -= 1
            return False
        self.until = self.every
        return True

    def adjust(self, passed_s: float) -> None:
        """Choose how many are measured, by how many there were in the last seconds."""
        done = sum(row.count for row in self.rows)
        self.every = max(1, int((done - self._seen) / max(passed_s, 0.1) / _MEASURED_PER_S))
        self._seen = done

    def requests(self) -> int:
        """Return how many requests were answered."""
        return sum(row.count for row in self.rows if row.is_web)

    def latency_ns(self) -> int:
        """Return the sum over all work."""
        return sum(row.latency_ns for row in self.rows if row.is_work)


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
