"""Run a component in a test: no process, no socket, no configuration file.

    async with running(app, settings={"limit": 3}) as session:
        assert await session.call("board.add", "a card") == 1

The component lives as it does in a container (start functions, tasks, its thread, its procedures and topics), on a router that
is nothing but its rules (:class:`holdfast.bus.inmemory.InMemoryRouter`). Timers and health checks do not run by themselves, so that nothing
depends on how fast the machine is: call their functions. A crash of the component ends the test with its exception.
Jobs are run or written down by :func:`jobs_inline` and :func:`jobs_recorded` (`job_testing.py`).
"""

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from holdfast.bus.inmemory import InMemoryRouter
from holdfast.sdk.instance import Instance
from holdfast.sdk.job_testing import jobs_inline, jobs_recorded
from holdfast.sdk.life import Life, remember_tasks
from holdfast.sdk.payload import settings_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from holdfast.bus.session import ClientSession
    from holdfast.sdk.component import Component
    from holdfast.sdk.joined import Problem

__all__ = ["InMemoryRouter", "jobs_inline", "jobs_recorded", "running"]

#: How long a component may take to end before the test fails.
PATIENCE_S = 10.0


@asynccontextmanager
async def running(
    app: "Component",
    *,
    name: str | None = None,
    settings: "Mapping[str, object] | None" = None,
    router: InMemoryRouter | None = None,
    role: str | None = None,
    timers: bool = False,
) -> "AsyncIterator[ClientSession]":
    """Run a component for the time of the block, and give a session of its realm to test it with.

    Args:
        app: The component.
        name: What the configuration would call it (default: its own name).
        settings: What `[component.NAME.settings]` would say.
        router: The router; with one of your own several components meet on it.
        role: Role of the component in its realm (default: may do everything).
        timers: Whether timers and health checks run, by the clock.

    Raises:
        Exception: Whatever made the component crash.
        AssertionError: It did not end.
    """
    loop = asyncio.get_running_loop()
    router = router or InMemoryRouter()
    name = name or app.name
    given: Any = dict(settings or {})
    if app.settings_type is not None:
        given = settings_of(given, app.settings_type, f"component.{name}.settings")
    crashes: list[BaseException] = []
    test = asyncio.current_task()
    assert test is not None  # noqa: S101 -- a context manager is entered by a task

    def crash(_: str, error: BaseException) -> None:
        if not crashes:
            loop.call_soon_threadsafe(test.cancel)
        crashes.append(error)

    def join(problem: "Problem") -> Any:
        return _Steady(router.connect(role or "trusted", name, on_problem=problem))

    factory = loop.get_task_factory()
    remember_tasks(loop)
    before = app.bound
    life = Life(Instance(name, given, join), loop, crash, has_timers=timers)
    session = router.connect("trusted", "test")
    try:
        await life.start(app)
        if life.instance.joined is not None:
            await life.instance.joined.wait(None)
        yield session
    except asyncio.CancelledError:
        if not crashes:
            raise
        test.uncancel()
    finally:
        left = await life.stop(app, PATIENCE_S)
        await session.leave()
        app.bind(before)
        loop.set_task_factory(factory)
    if crashes:
        raise crashes[0]
    assert not left, f"the component did not end: {left}"  # noqa: S101 -- it is for tests


class _Steady:
    """A session that needs no opening, with the face of a connection that comes back."""

    trouble = ""

    def __init__(self, session: "ClientSession") -> None:
        self._session = session

    async def open(self) -> None:
        """Do nothing: it is open."""

    async def close(self) -> None:
        """Leave the realm."""
        await self._session.leave()

    def on_join(self, function: object) -> None:
        """Do nothing: it has joined already, and will not again."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)
