"""The bus for plain scripts without a loop of their own: the same connection, in a thread.

::

    with connect_blocking("ws://127.0.0.1:8080/ws", "realm1") as bus:
        print(bus.call("com.app.add", 2, 3))

Plain functions that are registered or subscribed run in other threads, as everywhere; the loop's thread is only the post office.
"""

from __future__ import annotations

import asyncio
import threading
from threading import Thread
from typing import TYPE_CHECKING, Any, TypeVar

from holdfast.bus.connect import connect

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence
    from typing import Self

    from holdfast.bus.connect import Connection
    from holdfast.bus.declared import Registration, Subscription

T = TypeVar("T")


def connect_blocking(urls: str | Sequence[str], realm: str, **options: Any) -> BlockingConnection:
    """Return a connection for use with ``with``; the options are those of :func:`holdfast.bus.connect.connect`."""
    return BlockingConnection(urls, realm, **options)


class BlockingConnection:
    """A connection whose methods wait until it is done."""

    def __init__(self, urls: str | Sequence[str], realm: str, **options: Any) -> None:
        self._make: Callable[[], Connection] = lambda: connect(urls, realm, **options)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: Thread | None = None
        self._connection: Connection | None = None

    def open(self) -> Self:
        """Connect and join; raises what :meth:`Connection.open` raises."""
        if self._loop is not None:
            says = "this connection is open already"
            raise RuntimeError(says)
        loop = self._loop = asyncio.new_event_loop()
        self._thread = Thread(target=loop.run_forever, name="holdfast-bus", daemon=True)
        self._thread.start()
        try:
            self._connection = self._run(self._open())
        except BaseException:
            self._end_loop()
            raise
        return self

    def close(self) -> None:
        """Leave the realm and end the thread."""
        if self._connection is not None:
            self._run(self._connection.close())
            self._connection = None
            self._end_loop()

    def __enter__(self) -> Self:
        return self.open()

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def connection(self) -> Connection:
        """The connection itself, which belongs to the loop's thread."""
        if self._connection is None:
            says = "this connection is not open: use `with connect_blocking(…) as bus:`"
            raise RuntimeError(says)
        return self._connection

    def call(self, procedure: str, /, *args: Any, **kwargs: Any) -> Any:
        """As :meth:`Connection.call`, with its keyword arguments."""
        return self._run(self.connection.call(procedure, *args, **kwargs))

    def publish(self, topic: str, /, *args: Any, acknowledge: bool = False, options: dict[str, Any] | None = None, **kwargs: Any) -> int | None:  # fmt: skip
        """As :meth:`Connection.publish`; the publication id with `acknowledge`."""
        connection = self.connection

        async def publish() -> int | None:
            sent = connection.publish_with(topic, args, kwargs, options, acknowledge)
            return None if sent is None else await sent

        return self._run(publish())

    def register(self, handler: Callable[..., Any], uri: str, **options: Any) -> Registration:
        """As :meth:`Connection.register`."""
        return self._run(self.connection.register(handler, uri, **options))

    def subscribe(self, handler: Callable[..., Any], uri: str, **options: Any) -> Subscription:
        """As :meth:`Connection.subscribe`."""
        return self._run(self.connection.subscribe(handler, uri, **options))

    def unregister(self, registration: Registration) -> None:
        """As :meth:`Connection.unregister`."""
        self._run(self.connection.unregister(registration))

    def unsubscribe(self, subscription: Subscription) -> None:
        """As :meth:`Connection.unsubscribe`."""
        self._run(self.connection.unsubscribe(subscription))

    async def _open(self) -> Connection:
        return await self._make().open()

    def _run(self, what: Coroutine[Any, Any, T]) -> T:
        loop = self._loop
        assert loop is not None  # noqa: S101 -- there is a connection
        if threading.current_thread() is self._thread:
            what.close()
            says = "a coroutine function runs in the loop's thread and must not wait for it: make it a plain function"
            raise RuntimeError(says)
        waiting = asyncio.run_coroutine_threadsafe(what, loop)
        try:
            return waiting.result()
        except KeyboardInterrupt:
            waiting.cancel()  # a call is cancelled at the router, too
            raise

    def _end_loop(self) -> None:
        loop, self._loop = self._loop, None
        thread, self._thread = self._thread, None
        if loop is not None and thread is not None:
            asyncio.run_coroutine_threadsafe(_finish(), loop).result()
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
            loop.close()


async def _finish() -> None:
    """End what still runs: handlers whose session has gone."""
    left = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)
    await asyncio.get_running_loop().shutdown_default_executor()
