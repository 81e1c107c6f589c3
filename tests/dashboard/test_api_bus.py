"""The bus in the browser: what a router says of itself, and rates from the pulses of those that offer something."""

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("starlette", reason="needs holdfast[dashboard]")

from cli.fake_node import FakeNode, planned
from dashboard.seen import asked, place
from holdfast.bus.inmemory import InMemoryRouter
from holdfast.dashboard.api import bus
from holdfast.dashboard.site import Site
from holdfast.wire import layout, pulse
from node import SLOWNESS


def test_a_realm_tells_who_is_there_what_is_offered_and_what_is_listened_to() -> None:
    async def story() -> dict[str, Any]:
        router = InMemoryRouter()
        async with (
            asyncio.timeout(20 * SLOWNESS),
            router.connect() as shop,
            router.connect() as screen,
            router.connect() as link,
        ):
            await shop.register(lambda: 1, "com.shop.list")
            await screen.subscribe(lambda: None, "com.shop.on_add")
            await shop.subscribe(lambda: None, "com.shop.on_add")
            return await bus._realm(link, {"com.shop.list": 2.5}, {})  # type: ignore[arg-type]

    found = asyncio.run(story())

    assert (found["session_count"], found["subscription_count"], found["registration_count"]) == (
        2,
        1,
        1,
    )
    assert len(found["sessions"]) == 2
    (offered,) = found["registrations"]
    assert (offered["uri"], offered["callees"], offered["rate"]) == ("com.shop.list", 1, 2.5)
    (heard,) = found["subscriptions"]
    assert (heard["uri"], heard["subscribers"], len(heard["sessions"])) == ("com.shop.on_add", 2, 2)


def test_a_session_of_this_node_bears_the_name_of_its_worker() -> None:
    ours = {"session": 1, "transport": {"type": "rawsocket", "peer": "unix:pid=4711,uid=0"}}
    theirs = {"session": 2, "transport": {"type": "websocket", "peer": "tcp4:10.0.0.1:5000"}}
    odd = {"session": 3, "transport": None}

    assert [bus._session(one, {4711: "board"})["worker"] for one in (ours, theirs, odd)] == [
        "board",
        None,
        None,
    ]


def test_a_router_that_is_down_is_told_and_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bus, "_OPEN_S", 0.1)
    entry = planned("router", kind="router", router={"realms": [{"name": "realm1"}]}, listen=[])
    with FakeNode(entry) as node:
        node.up()

        async def story() -> Any:
            site = Site(place(node))
            try:
                return await bus.bus(site, None)  # type: ignore[arg-type]
            finally:
                for threads in (site._looker, site._threads, site._hands):
                    threads.shutdown(wait=True)

        (router,) = asyncio.run(story())["routers"]

    assert router["worker"] == "router"
    assert "cannot be asked" in router["realms"][0]["trouble"]


def write_pulse(node: FakeNode, worker: str, count: int) -> None:
    data = bytearray(pulse.HEAD_AND_ROUTES)
    data[:8] = pulse.MAGIC
    pulse.ROUTE.pack_into(data, pulse.ROUTES_OFFSET, b"com.shop.list", count, 0, 0)
    path = Path(node.run_dir, layout.pulse(worker))
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(data)


def test_a_rate_is_what_was_called_between_two_visits(monkeypatch: pytest.MonkeyPatch) -> None:
    with FakeNode(planned("board", kind="container")) as node:
        node.up()

        def twice(site: Site, _: Any) -> "list[dict[str, float]]":
            now_s = 100.0
            monkeypatch.setattr("holdfast.dashboard.api.bus.time.monotonic", lambda: now_s)
            write_pulse(node, "board", 10)
            first = site.rates.look()
            now_s += 4.0
            write_pulse(node, "board", 20)
            second = site.rates.look()
            now_s += 600.0
            third = site.rates.look()
            monkeypatch.setattr("holdfast.dashboard.api.bus.time.monotonic", real)
            return [first, second, third]

        real = time.monotonic
        found = asked(node, twice)

    assert found == [{}, {"com.shop.list": 2.5}, {}]
