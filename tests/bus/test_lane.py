"""Coroutine functions that share a task: nobody may notice."""

from __future__ import annotations

import asyncio
import sys
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import pytest

from bus.fake_router import SLOWNESS, soon
from holdfast.bus.errors import Canceled, RemoteError
from holdfast.bus.inmemory import InMemoryRouter

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from holdfast.bus.session import ClientSession

    Story = Callable[[ClientSession, ClientSession], Coroutine[Any, Any, None]]

#: From 3.12 on a task takes its first step at once, so a procedure that does not wait never stands behind another.
shares = pytest.mark.skipif(sys.version_info >= (3, 12), reason="tasks begin at once")
SEEN: ContextVar[str] = ContextVar("seen", default="nothing")


def play(story: Story) -> None:
    async def run() -> None:
        router = InMemoryRouter()
        async with asyncio.timeout(20 * SLOWNESS), router.connect() as callee, router.connect() as caller:  # fmt: skip
            await story(callee, caller)

    asyncio.run(run())


@shares
def test_procedures_that_do_not_wait_share_a_task() -> None:
    """A task for each would cost more than most of them do."""

    async def story(callee: ClientSession, caller: ClientSession) -> None:
        tasks = set()

        async def work(n: int) -> int:
            tasks.add(id(asyncio.current_task()))
            return n

        await callee.register(work, "com.test.work")
        many = await asyncio.gather(*(caller.call("com.test.work", n) for n in range(50)))
        assert many == list(range(50))
        assert len(tasks) == 1

    play(story)


def test_one_that_waits_holds_nobody_up() -> None:
    """The others are done before it goes on, whether they wait or not, now and every time after."""

    async def story(callee: ClientSession, caller: ClientSession) -> None:
        gate = asyncio.Event()
        order: list[int] = []

        async def work(n: int) -> int:
            order.append(n)
            if n % 10 == 3:
                await gate.wait()
            return n

        await callee.register(work, "com.test.work")
        waits: list[asyncio.Future[int]] = []
        for _ in range(2):
            gate.clear()
            order.clear()
            waits[:] = [asyncio.ensure_future(caller.call("com.test.work", n)) for n in range(30)]
            await soon(lambda: sum(w.done() for w in waits) == 27, "those that do not wait")
            assert order == list(range(30)), "they begin in the order of the calls"
            gate.set()
            assert await asyncio.gather(*waits) == list(range(30))

    play(story)


def test_what_one_leaves_in_its_context_is_not_the_next_ones() -> None:
    """A log line with another caller's request id in it has cost people days."""

    async def story(callee: ClientSession, caller: ClientSession) -> None:
        async def work(name: str) -> str:
            found = SEEN.get()
            if name != "reader":
                SEEN.set(name)
            return found

        await callee.register(work, "com.test.work")
        names = ["reader", "a", "b", "reader", "reader", "c", "reader"]
        found = await asyncio.gather(*(caller.call("com.test.work", name) for name in names))
        assert found == ["nothing"] * len(names)

    play(story)


def test_who_cancels_its_own_task_cancels_nobody_else() -> None:
    """A cancellation that is delivered to whoever stands next would be a bug that nobody finds."""

    async def story(callee: ClientSession, caller: ClientSession) -> None:
        async def work(n: int) -> int:
            if n == 1:
                task = asyncio.current_task()
                assert task is not None
                task.cancel()
            elif n:
                await asyncio.sleep(0)
            return n

        await callee.register(work, "com.test.work")
        calls = (caller.call("com.test.work", n) for n in (0, 1, 2, 3))
        assert await asyncio.gather(*calls) == [0, 1, 2, 3]

    play(story)


def test_an_error_is_the_callers_and_the_next_one_runs() -> None:
    async def story(callee: ClientSession, caller: ClientSession) -> None:
        async def work(n: int) -> int:
            if n == 1:
                raise LookupError("one")
            if n == 2:
                raise asyncio.CancelledError
            return n

        callee._on_problem = lambda _doing, _error: None
        await callee.register(work, "com.test.work")
        calls = (caller.call("com.test.work", n) for n in (0, 1, 2, 3))
        zero, one, two, three = await asyncio.gather(*calls, return_exceptions=True)
        assert (zero, three) == (0, 3)
        assert isinstance(one, RemoteError)
        assert isinstance(two, Canceled)

    play(story)


@shares
def test_an_interrupt_reaches_one_that_has_not_begun() -> None:
    """It is answered, its function is never called, and those around it are served."""

    async def story(callee: ClientSession, caller: ClientSession) -> None:
        ran: list[int] = []
        said: list[list[Any]] = []

        async def work(n: int) -> int:
            ran.append(n)
            return n

        registration = await callee.register(work, "com.test.work")
        send = callee._send
        callee._send = lambda message: said.append(callee._decode(message))
        for n in (1, 2, 3):
            callee._on_invocation([68, 70 + n, registration.id, {}, [n]])
        callee._on_interrupt([69, 72, {"mode": "kill"}])
        await soon(lambda: not callee._running, "the end of all three")
        assert ran == [1, 3]
        callee._send = send
        assert [message[:3] for message in said] == [[8, 68, 72], [70, 71, {}], [70, 73, {}]]
        assert await caller.call("com.test.work", 4) == 4

    play(story)


def test_the_end_of_the_session_ends_those_that_wait_in_line() -> None:
    """Nobody could get their results."""

    async def story(callee: ClientSession, caller: ClientSession) -> None:
        ran: list[int] = []

        async def work(n: int) -> int:
            ran.append(n)
            if n == 0:
                callee.lost("the plug was pulled")
            return n

        registration = await callee.register(work, "com.test.work")
        for n in range(3):
            callee._on_invocation([68, 70 + n, registration.id, {}, [n]])
        await soon(lambda: not callee._queue and ran, "the first to run")
        await caller.publish("com.test.x", acknowledge=True)
        assert ran == [0]
        assert not callee._running

    play(story)
