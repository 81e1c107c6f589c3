"""The subscriber in a session: how are the handlers of events run?"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from holdfast.bus.asking import Asking
from holdfast.bus.callee import task_factory
from holdfast.bus.handlers import COROUTINE, GENERATOR, INLINE
from holdfast.bus.running import CURRENT, Event

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Awaitable, Callable

    from holdfast.bus.asking import Link, Message, OnProblem, RunSync
    from holdfast.bus.declared import Subscription


class Subscriber(Asking):
    """Handlers of events."""

    def __init__(
        self, link: Link, run_sync: RunSync | None = None, on_problem: OnProblem | None = None
    ) -> None:
        super().__init__(link, run_sync, on_problem)
        self._subscriptions: dict[int, tuple[Subscription, ...]] = {}
        self._event_tasks: set[asyncio.Task[Any]] = set()
        self._create_event_task = task_factory(self.loop)
        self._thread_of_events: Any = None

    def _on_event(self, message: Message) -> None:
        subscriptions = self._subscriptions.get(message[1])
        if subscriptions is None:
            return  # unsubscribed in the meantime
        n = len(message)
        args = message[4] if n > 4 else ()
        if args.__class__ is bytes:
            args = (args,)  # a transparent payload: one binary in the place of the arguments
        kwargs = message[5] if n > 5 else {}
        for subscription in subscriptions:
            handler = subscription.handler
            given = kwargs
            if handler.wants_details:
                given = {**kwargs, "details": Event(subscription.uri, message[2], message[3])}
            if handler.kind == INLINE:
                try:
                    handler.function(*args, **given)
                except Exception as error:  # noqa: BLE001 -- the application's
                    self._on_problem(f"event of {subscription.uri}", error)
            else:
                self._start_event(subscription, args, given)

    def _start_event(
        self, subscription: Subscription, args: tuple[Any, ...] | list[Any], kwargs: dict[str, Any]
    ) -> None:
        task = self._create_event_task(self._run_event(subscription, args, kwargs))
        if not task.done():
            self._event_tasks.add(task)
            task.add_done_callback(self._event_tasks.discard)

    async def _run_event(
        self, subscription: Subscription, args: tuple[Any, ...] | list[Any], kwargs: dict[str, Any]
    ) -> None:
        # Made by a publish inside a procedure's context or not: an event has no deadline.
        CURRENT.set(None)
        handler = subscription.handler
        try:
            if handler.kind == COROUTINE:
                await handler.function(*args, **kwargs)
            elif handler.kind == GENERATOR:
                async for _ in handler.function(*args, **kwargs):
                    pass
            elif self._run_sync is not None:
                await self._run_sync(partial(handler.function, *args, **kwargs))
            else:
                await self._in_thread(partial(handler.function, *args, **kwargs))
        except Exception as error:  # noqa: BLE001 -- the application's
            self._on_problem(f"event of {subscription.uri}", error)

    def _in_thread(self, function: Callable[[], Any]) -> Awaitable[Any]:
        """One thread for all, so that they keep their order."""
        if self._thread_of_events is None:
            from concurrent.futures import ThreadPoolExecutor

            self._thread_of_events = ThreadPoolExecutor(1, thread_name_prefix="bus-events")
        return self.loop.run_in_executor(self._thread_of_events, function)

    def _drop_subscriptions(self) -> None:
        """The session is over; what runs may end."""
        for subscriptions in self._subscriptions.values():
            for subscription in subscriptions:
                subscription.id = None
        self._subscriptions = {}
        if self._thread_of_events is not None:
            self._thread_of_events.shutdown(wait=False)
