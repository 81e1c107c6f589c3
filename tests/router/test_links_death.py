"""Two linked routers in real processes, twenty components, fifty callers, and SIGKILL for one of the routers."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import time
from collections import Counter
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import holdfast
from holdfast.bus.connect import Connection, connect
from holdfast.bus.errors import BusError, ConnectionLost, WampError
from holdfast.core.wamp.awaited import GRACE_S
from holdfast.router import alone
from node import SLOWNESS

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from holdfast.model.bus import LinkPlan
    from node import Node

_CONTAINER = str(Path(holdfast.__file__).parent / "container/__main__.py")
COMPONENTS, CALLERS = 20, 50
#: What a caller may be told of a call whose component takes too long to move.
CLEAR = {"wamp.error.canceled", "wamp.error.no_such_procedure"}
#: Calls of one caller a second, about: the routers' death is the point here, not their speed.
PAUSE_S = 0.02


def add_router(node: Node, name: str, *links: str) -> str:
    """Put a router into the plan and return its URL."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    listener = {"name": "t0", "kind": "tcp", "host": "127.0.0.1", "port": port, "path": "", "backlog": 512}  # fmt: skip
    transport = alone.transport("t0")
    transport["internal"] = True
    plan = alone.open_plan([transport])
    wanted: list[LinkPlan] = [{"realm": "realm1", "url": url, "auth": {}} for url in links]
    plan["links"] = wanted
    node.add(
        name, [sys.executable, "-P", "-X", "faulthandler", _CONTAINER], kind="container", faulthandler=True,
        listen=[listener], router=plan, components=[{"name": "router", "use": "holdfast.router:app", "settings": {}}],
        ready={"kind": "pulse", "target": "", "argv": [], "timeout_s": 20.0},
    )  # fmt: skip
    return f"rs://127.0.0.1:{port}"


async def until(
    condition: Callable[[], Awaitable[bool]], what: str, within_s: float = 15.0
) -> None:
    """Wait for a condition."""
    ends_s = time.monotonic() + within_s * SLOWNESS
    while not await condition():
        assert time.monotonic() < ends_s, f"waited {within_s * SLOWNESS:g} s in vain for: {what}"
        await asyncio.sleep(0.005)


class Town:
    """Components that offer a service each, and callers that use all of them."""

    def __init__(self, doomed: str, safe: str) -> None:
        self.doomed, self.safe = doomed, safe
        self.failed: list[tuple[float, int, int, str]] = []
        self.answered: Counter[int] = Counter()
        #: When the router was killed; when each service gave its first answer to a call made after that; when components had moved.
        self.killed_s = float("inf")
        self.back_s: dict[int, float] = {}
        self.moved_s: list[float] = []

    async def component(self, stack: AsyncExitStack, n: int) -> Connection:
        """Even ones live at the router that is going to die."""
        urls = [self.doomed, self.safe] if n % 2 == 0 else [self.safe, self.doomed]
        bus = await stack.enter_async_context(connect(urls, "realm1", patient=True, open_s=None))

        async def serve(x: int) -> int:
            return x + n

        await bus.register(serve, f"com.service.x{n}")
        bus.on_join(lambda _: self.moved_s.append(time.monotonic()))
        return bus

    async def caller(self, stack: AsyncExitStack, n: int) -> None:
        """Call one service after the other, for ever; every call is of the kind that may be repeated."""
        urls = [self.doomed, self.safe] if n % 2 == 0 else [self.safe, self.doomed]
        bus = await stack.enter_async_context(connect(urls, "realm1", patient=True, open_s=None))
        at = n
        while True:
            at += 1
            service = at % COMPONENTS
            began_s = time.monotonic()
            try:
                got = await bus.call(f"com.service.x{service}", at, idempotent=True)
            except WampError as error:
                self.failed.append((time.monotonic(), n, service, error.uri))
            except (ConnectionLost, BusError) as error:
                self.failed.append((time.monotonic(), n, service, type(error).__name__))
            else:
                assert got == at + service
                self.answered[service] += 1
                if began_s > self.killed_s:
                    self.back_s.setdefault(service, time.monotonic())
            await asyncio.sleep(PAUSE_S)


async def tell(node: Node, doomed: str, safe: str) -> None:
    """The story."""
    town = Town(doomed, safe)
    loop = asyncio.get_running_loop()
    async with AsyncExitStack() as stack:
        components = [await town.component(stack, n) for n in range(COMPONENTS)]
        watchers = [
            await stack.enter_async_context(connect(url, "realm1")) for url in (doomed, safe)
        ]

        async def all_known() -> bool:
            ids = [
                await w.call("wamp.registration.match", f"com.service.x{n}")
                for w in watchers
                for n in range(COMPONENTS)
            ]
            return all(ids)

        await until(all_known, "every service at both routers")
        tasks = [loop.create_task(town.caller(stack, n)) for n in range(CALLERS)]
        try:

            async def all_served() -> bool:
                return len(town.answered) == COMPONENTS and min(town.answered.values()) > 5

            await until(all_served, "answers of all services")
            assert town.failed == []

            pid = node.status()["east"]["pid"]
            town.killed_s = time.monotonic()
            os.kill(pid, signal.SIGKILL)

            async def all_back() -> bool:
                return len(town.back_s) == COMPONENTS

            await until(all_back, "answers of all services after the kill")
            before = Counter(town.answered)

            async def goes_on() -> bool:
                return all(town.answered[n] > before[n] + 5 for n in range(COMPONENTS))

            await until(goes_on, "more answers")
            _judge(town)

            async def linked_again() -> bool:
                return node.status()["east"]["pid"] not in (None, pid) and await all_known()

            await until(linked_again, "the killed router with every service, over its link")
            assert all(task.get_coro() is not None and not task.done() for task in tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        assert all(component.is_open for component in components)


def _judge(town: Town) -> None:
    """Nobody was told of an error, and everything was back within a second."""
    took_s = max(town.back_s.values()) - town.killed_s
    assert took_s <= 1.0 * SLOWNESS, f"all services were back {took_s:.2f} s after the kill"
    assert len(town.moved_s) == COMPONENTS // 2
    if max(town.moved_s) - town.killed_s < GRACE_S / 2:
        assert town.failed == []
    else:
        # Components that take longer are waited for no longer: then there are errors, and clear ones.
        assert {f[3] for f in town.failed} <= CLEAR, town.failed
        assert [f for f in town.failed if f[2] % 2] == []


def test_death_of_one_router_loses_no_service(node: Node) -> None:
    """The promise: with two linked routers, all is back within a second of the SIGKILL of one."""
    east = add_router(node, "east")
    west = add_router(node, "west", east)
    node.start()
    asyncio.run(tell(node, east, west))
