"""Requests that have not ended: from the application that is counted, through the pulse file, to what the watchdog reads."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from holdfast.agent import report, routes, web
from holdfast.agent.pulse import PulseWriter
from holdfast.agent.report import Reporter
from holdfast.wire import pulse

SECOND = 1_000_000_000


class Site:
    """An application whose requests end when a test says so."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, path: Path) -> None:
        self.path = path
        self.table = routes.RouteTable()
        for module in (routes, web, report):
            monkeypatch.setattr(module, "TABLE", self.table)
        self.writer = PulseWriter(str(path), 77, 1)
        self.reporter = Reporter(self.writer)
        self.now_ns = 10**12
        self.ends = asyncio.Event()
        self.app = web.Asgi(self._serve)

    async def _serve(self, scope: Any, *_: Any) -> None:
        if scope["path"] != "/quick":
            await self.ends.wait()

    def ask(self, path: str) -> asyncio.Task[None]:
        return asyncio.ensure_future(
            self.app({"type": "http", "method": "GET", "path": path}, None, None)
        )

    async def passes(self, seconds: int) -> None:
        for _ in range(seconds * 10):
            self.now_ns += SECOND // 10
            self.reporter.beat(self.now_ns, 3)
        await asyncio.sleep(0)

    def read(self) -> dict[str, tuple[int, float, float]]:
        found = pulse.decode_open(self.path.read_bytes()[: pulse.HEAD_AND_WAITS])
        return {
            name: (count, round(third_s, 1), round(oldest_s, 1))
            for name, count, third_s, oldest_s, _ in found
        }


@pytest.mark.parametrize("timed_every", [1, 1000])
def test_what_is_under_way_is_told_by_route_with_its_age(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, timed_every: int
) -> None:
    """For half a minute after a pool is exhausted, this is the only number that moves."""

    async def story() -> None:
        site = Site(monkeypatch, tmp_path / "web")
        site.table.timed_every = timed_every
        await site.ask("/quick")
        site.ends.set()
        await site.ask("/user")  # one has ended: from now on the route has a past
        site.ends.clear()
        await site.passes(1)
        waiting = [site.ask("/user") for _ in range(5)]
        await asyncio.sleep(0)
        await site.passes(4)
        fresh = site.ask("/user")
        await asyncio.sleep(0)
        await site.passes(2)

        count, third_s, oldest_s = site.read()["GET /user"]
        assert count == 6
        assert 4.5 <= third_s <= oldest_s <= 6.5  # written once a second
        assert "GET /quick" not in site.read()

        site.ends.set()
        await asyncio.gather(*waiting, fresh)
        await site.passes(1)

        assert site.read() == {}
        assert site.table.in_flight == 0

    asyncio.run(story())


def test_a_request_that_is_given_to_the_same_application_twice_breaks_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A dispatcher may hand a request on to an application that is counted as well: it must not notice that."""
    table = routes.RouteTable()
    monkeypatch.setattr(routes, "TABLE", table)
    monkeypatch.setattr(web, "TABLE", table)
    outer = web.Wsgi(web.Wsgi(lambda environ, _: [environ["PATH_INFO"].encode()]))

    assert outer({"REQUEST_METHOD": "GET", "PATH_INFO": "/x"}, None) == [b"/x"]
    assert table.in_flight == 0
