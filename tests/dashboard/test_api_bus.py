"""The bus in the browser: what a router says of itself, and how much goes over it."""

import asyncio
import socket
import threading
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("starlette", reason="needs holdfast[dashboard]")

from cli.fake_node import FakeNode, planned
from dashboard.seen import place
from holdfast.bus.inmemory import InMemoryRouter
from holdfast.dashboard.api import bus
from holdfast.dashboard.flows import NOTHING_KNOWN
from holdfast.dashboard.site import Site
from holdfast.wire import layout, message
from node import SLOWNESS


def test_a_realm_tells_who_is_there_what_is_offered_and_what_is_listened_to() -> None:
    flow = NOTHING_KNOWN._replace(
        registrations={("com.shop.list", "exact"): 2.5}, subscriptions={("com.shop.on_add", "exact"): 0.5}
    )  # fmt: skip

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
            return await bus._realm(link, flow, {})  # type: ignore[arg-type]

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
    assert (heard["uri"], heard["subscribers"], heard["rate"], len(heard["sessions"])) == ("com.shop.on_add", 2, 0.5, 2)  # fmt: skip


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


class Counting:
    """The control socket of a router: each answer is two seconds and four calls later than the one before."""

    def __init__(self, node: FakeNode) -> None:
        path = Path(node.run_dir, layout.CONTROL, "router.sock")
        path.parent.mkdir(exist_ok=True)
        self.asked: list[dict[str, Any]] = []
        self.listening = socket.socket(socket.AF_UNIX)
        self.listening.bind(str(path))
        self.listening.listen()
        self.thread = threading.Thread(target=self._answer)
        self.thread.start()

    def _answer(self) -> None:
        for turn in (1, 2):
            connected, _ = self.listening.accept()
            with connected, connected.makefile("rb") as lines:
                self.asked.append(message.decode(lines.readline()) or {})
                connected.sendall(message.encode({"ok": True, "traffic": self._told(turn)}))

    def _told(self, turn: int) -> dict[str, Any]:
        calls = 4 * turn
        realm = {
            "is_whole": True, "sessions": 2, "calls": calls, "calls_failed": 0, "published": 0, "events": 0, "other_calls": 0,
            "registrations": [["com.shop.list", "exact", calls]], "subscriptions": [], "by_session": [[1, calls, 0, 0]],
            "pairs": [[1, 2, "com.shop.list", "exact", calls]], "who": {"1": {"authid": "ann"}, "2": {"authid": "shop"}},
        }  # fmt: skip
        return {"at_s": 100.0 + 2 * turn, "began_s": 1.0, "realms": {"realm1": realm}}

    def end(self) -> None:
        self.thread.join(20 * SLOWNESS)
        self.listening.close()


def test_a_router_that_takes_no_session_still_tells_how_much_goes_over_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A router with as many sessions as it bears is the one that people look at."""
    monkeypatch.setattr(bus, "_OPEN_S", 0.1)
    entry = planned("router", kind="router", router={"realms": [{"name": "realm1"}]}, listen=[])
    with FakeNode(entry) as node:
        node.up()
        router = Counting(node)

        async def story() -> list[Any]:
            site = Site(place(node))
            try:
                return [await bus.bus(site, None) for _ in range(2)]  # type: ignore[arg-type]
            finally:
                for threads in (site._looker, site._threads, site._hands):
                    threads.shutdown(wait=True)

        first, second = (found["routers"][0] for found in asyncio.run(story()))
        router.end()

    assert router.asked == [{"do": "traffic"}] * 2
    assert first["rates"] == {"sessions": 2}
    assert second["rates"] == {"sessions": 2, "calls_per_s": 2.0, "publications_per_s": 0.0, "events_per_s": 0.0}  # fmt: skip
    (realm,) = second["realms"]
    assert "cannot be asked" in realm["trouble"]
    assert realm["calls"] == [
        {"caller": "ann (1)", "callee": "shop (2)", "uri": "com.shop.list", "rate": 2.0, "count": 8}
    ]
