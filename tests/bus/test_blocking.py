"""The bus without a loop of one's own."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

import pytest

from bus.fake_router import FakeRouter
from holdfast.bus.blocking import connect_blocking
from holdfast.bus.errors import CannotConnect, NoSuchProcedure

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def url() -> Iterator[str]:
    """A router in a thread of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    router = FakeRouter()
    asyncio.run_coroutine_threadsafe(router.start(), loop).result()
    yield router.rs
    asyncio.run_coroutine_threadsafe(router.__aexit__(), loop).result()
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


def test_a_script_can_call_register_publish_and_subscribe(url: str) -> None:
    """Ten lines of a cron job should not need to know what a coroutine is."""
    with connect_blocking(url, "realm1") as bus:
        seen: list[Any] = []
        arrived = threading.Event()

        def on_event(x: int) -> None:
            seen.append(x)
            arrived.set()

        def add(a: int, b: int) -> int:
            # A plain function runs in a thread, so it may use the bus itself.
            if a == 0:
                return b
            return int(bus.call("com.test.add", a - 1, b + 1))

        subscription = bus.subscribe(on_event, "com.test.topic")
        registration = bus.register(add, "com.test.add")
        assert bus.call("com.test.add", 2, 3) == 5
        assert bus.publish("com.test.topic", 7) is None
        assert bus.publish("com.test.topic", 8, acknowledge=True)
        assert arrived.wait(10)
        bus.unsubscribe(subscription)
        bus.unregister(registration)
        with pytest.raises(NoSuchProcedure):
            bus.call("com.test.add", 1, 1)
    assert seen[0] == 7
    assert not [t for t in threading.enumerate() if t.name == "holdfast-bus"]
    with pytest.raises(RuntimeError, match="not open"):
        bus.call("com.test.add", 1, 1)


def test_waiting_in_the_loops_own_thread_is_refused(url: str) -> None:
    """It would wait for itself for ever."""
    with connect_blocking(url, "realm1") as bus:

        async def wrong() -> None:
            bus.call("com.test.other")

        bus.register(wrong, "com.test.wrong")
        with pytest.raises(Exception, match="make it a plain function"):
            bus.call("com.test.wrong")


def test_no_router_leaves_no_thread_behind(unused_port: int) -> None:
    """The error is that of `connect`."""
    with pytest.raises(CannotConnect):
        connect_blocking(f"rs://127.0.0.1:{unused_port}", "realm1", open_s=0.05).open()

    assert not [t for t in threading.enumerate() if t.name == "holdfast-bus"]


@pytest.fixture
def unused_port() -> int:
    """A port that nobody listens on."""
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
