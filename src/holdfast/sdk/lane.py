"""A thread in which plain functions run one after the other.

A component's plain functions share one, so what they share (an sqlite3 connection, a dict) needs no lock. Not an executor of the
standard library: those are joined at exit, shared by strangers, and stop at 32 threads.
"""

import asyncio
from contextvars import copy_context
from queue import SimpleQueue
from threading import Thread

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    Job = tuple[asyncio.Future[Any], Callable[[], Any]]


class Lane:
    """One thread, started with the first function."""

    __slots__ = ("_jobs", "_loop", "_name", "_started")

    def __init__(self, name: str, loop: asyncio.AbstractEventLoop) -> None:
        self._name = name
        self._loop = loop
        self._jobs: SimpleQueue[Job | None] = SimpleQueue()
        self._started = False

    def call(self, function: "Callable[[], Any]") -> "asyncio.Future[Any]":
        """Queue a function with a copy of the caller's context; the future gets what comes of it."""
        future = self._loop.create_future()
        context = copy_context()
        self._jobs.put((future, lambda: context.run(function)))
        if not self._started:
            self._started = True
            Thread(target=self._run, name=self._name, daemon=True).start()
        return future

    def close(self) -> None:
        """Let the thread end when it has done what is queued."""
        self._jobs.put(None)

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            future, function = job
            try:
                result = function()
            except StopIteration as error:
                stopped = RuntimeError("a plain function raised StopIteration")
                stopped.__cause__ = error
                self._tell(future, stopped)
            except BaseException as error:  # noqa: BLE001 -- it is the caller's, like a result
                self._tell(future, error)
            else:
                self._loop.call_soon_threadsafe(_succeed, future, result)

    def _tell(self, future: "asyncio.Future[Any]", error: BaseException) -> None:
        self._loop.call_soon_threadsafe(_fail, future, error)


def _succeed(future: "asyncio.Future[Any]", result: object) -> None:
    if not future.done():
        future.set_result(result)


def _fail(future: "asyncio.Future[Any]", error: BaseException) -> None:
    if not future.done():
        future.set_exception(error)
