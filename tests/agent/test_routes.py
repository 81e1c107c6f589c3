"""What is counted of web requests when there are too many to look at each."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from holdfast.agent import routes, web

MS = 1_000_000


class Site:
    """An application with a clock of its own, counted."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, timed_every: int) -> None:
        self.now_ns = 10**12
        monkeypatch.setattr(routes, "perf_counter_ns", lambda: self.now_ns)
        monkeypatch.setattr(routes, "thread_time_ns", lambda: self.now_ns)
        self.table = routes.RouteTable()
        self.table.timed_every, self.table.every = timed_every, 1000
        self.table.beat(self.now_ns)
        self.table.beat(self.now_ns)
        monkeypatch.setattr(routes, "TABLE", self.table)
        monkeypatch.setattr(web, "TABLE", self.table)
        self.takes_ns: dict[str, int] = {}
        self.asgi, self.wsgi = web.Asgi(self._answer), web.Wsgi(self._answer_at_once)

    async def _answer(self, scope: Any, *_: Any) -> None:
        self._work(scope["path"])

    def _answer_at_once(self, environ: Any, *_: Any) -> list[bytes]:
        self._work(environ["PATH_INFO"])
        return [b""]

    def _work(self, path: str) -> None:
        assert self.table.in_flight == 1
        takes_ns = self.takes_ns[path]
        while takes_ns > 100 * MS:
            self.now_ns, takes_ns = self.now_ns + 100 * MS, takes_ns - 100 * MS
            self.table.beat(self.now_ns)
        self.now_ns += takes_ns
        if path == "/fails":
            raise ZeroDivisionError

    def ask(self, path: str, *, by: str) -> None:
        if by == "wsgi":
            self.wsgi({"REQUEST_METHOD": "GET", "PATH_INFO": path}, None)
            return
        try:
            self.asgi({"type": "http", "method": "GET", "path": path}, None, None).send(None)
        except StopIteration:
            pass

    def row(self, path: str) -> routes.Route:
        return self.table.route(f"GET {path}")


@pytest.mark.parametrize("by", ["asgi", "wsgi"])
def test_a_few_timed_requests_stand_for_all(monkeypatch: pytest.MonkeyPatch, by: str) -> None:
    """Two routes in turns: whoever times every fortieth sees one of them only."""
    site = Site(monkeypatch, timed_every=40)
    site.takes_ns = {"/quick": 1 * MS, "/slower": 5 * MS}
    for _ in range(10_000):
        site.ask("/quick", by=by)
        site.ask("/slower", by=by)

    assert (site.row("/quick").count, site.row("/slower").count) == (10_000, 10_000)
    assert site.row("/quick").latency_ns == pytest.approx(10_000 * MS, rel=0.2)
    assert site.row("/slower").latency_ns == pytest.approx(50_000 * MS, rel=0.2)
    assert site.table.in_flight == 0


@pytest.mark.parametrize("by", ["asgi", "wsgi"])
def test_a_slow_request_among_thousands_is_counted_in_full(
    monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    """The one that takes seconds is the one that somebody complains about; nobody may pass it over, or take it for forty."""
    site = Site(monkeypatch, timed_every=40)
    site.takes_ns = {"/slow": 3000 * MS}
    for _ in range(200):
        site.ask("/slow", by=by)

    assert site.row("/slow").latency_ns == pytest.approx(200 * 3000 * MS, rel=0.1)


@pytest.mark.parametrize("by", ["asgi", "wsgi"])
@pytest.mark.parametrize("timed_every", [1, 1000])
def test_a_request_that_fails_is_counted_and_no_longer_in_flight(
    monkeypatch: pytest.MonkeyPatch, by: str, timed_every: int
) -> None:
    site = Site(monkeypatch, timed_every=timed_every)
    site.takes_ns = {"/fails": MS}
    for _ in range(3):
        with pytest.raises(ZeroDivisionError):
            site.ask("/fails", by=by)

    assert site.row("/fails").count == 3
    assert site.table.in_flight == 0


def test_a_request_that_is_given_up_is_no_longer_in_flight(monkeypatch: pytest.MonkeyPatch) -> None:
    site = Site(monkeypatch, timed_every=1)

    async def waits(*_: Any) -> None:
        await asyncio.Event().wait()

    async def main() -> None:
        for every in (1, 1000):
            site.table.timed_every = every
            request = asyncio.ensure_future(web.Asgi(waits)({"type": "http", "method": "GET", "path": "/"}, None, None))  # fmt: skip
            await asyncio.sleep(0)
            assert site.table.in_flight == 1
            request.cancel()
            with pytest.raises(asyncio.CancelledError):
                await request
            assert site.table.in_flight == 0

    asyncio.run(main())
    assert site.row("/").count == 2


def test_how_many_are_timed_follows_the_traffic() -> None:
    """Where there are few, each is timed to the nanosecond; where there are many, as many as before."""
    table = routes.RouteTable()
    row = table.route("GET /", is_web=True)
    row.count += 300
    table.adjust(1.0)
    assert table.timed_every == 1
    row.count += 10_000
    table.adjust(1.0)

    assert table.timed_every == 40
    stands_for, gaps = [], []
    for _ in range(1000):
        stands_for.append(table.time_later())
        gaps.append(table.until_timed)
    assert stands_for == [1, *gaps[:-1]]
    assert sum(gaps) == pytest.approx(40_000, rel=0.1)
    assert min(gaps) >= 1
    row.count += 10
    table.until_timed = table._gap = 79
    table.adjust(1.0)
    # Ten a second are each timed again from the next one on.
    assert (table.until_timed, table.time_later()) == (1, 1)
