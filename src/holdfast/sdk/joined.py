"""A component's place on the bus: its connection, its procedures and topics there, its calls and publishes.

Each function that is offered gets a wrapper, made once, that checks the arguments, counts the run as in flight and as
work, puts plain functions into the component's thread and turns typed results into plain values. Exceptions stay
the caller's (ERROR) and the log's: one bad request must not take the others along. Left out: connecting, waiting and
registering again, which is :mod:`holdfast.bus.connect`'s.
"""

import asyncio
from functools import partial, wraps
from threading import get_ident
from typing import TYPE_CHECKING, Any

from holdfast.agent.routes import TABLE
from holdfast.bus.declared import Registration, Subscription
from holdfast.bus.errors import BusError, CallTimeout, ConnectionLost, InvalidArgument, WampError
from holdfast.bus.handlers import COROUTINE, GENERATOR, INLINE, Handler
from holdfast.bus.running import CallResult
from holdfast.sdk.lastwords import report
from holdfast.sdk.life import called, is_worth_telling
from holdfast.sdk.logline import write_text
from holdfast.sdk.payload import Mismatch, check_of, plain, plain_all
from holdfast.sdk.recorder import CALL, CURRENT, ON_BUS, RECORDER, Call, Work, progress

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Coroutine

    from holdfast.bus.connect import Connection
    from holdfast.model.bus import BusPlan
    from holdfast.sdk.component import Component, Procedure, Topic
    from holdfast.sdk.life import Life

    Function = Callable[..., Any]
    Declare = Callable[[], Coroutine[Any, Any, Registration | Subscription]]
    Fit = Callable[[Any, dict[str, Any]], tuple[Any, dict[str, Any]]]
    Problem = Callable[[str, BaseException], None]
    Connect = Callable[[Problem], Connection]

#: Keyword arguments that are not the application's.
_CALL_OPTIONS = frozenset({"timeout_s", "on_progress", "disclose_me", "idempotent", "options"})
_PUBLISH_OPTIONS = frozenset({"acknowledge", "options"})

#: Seconds between two attempts to register what the router refuses: first and longest.
_RETRY_S, _RETRY_MAX_S = 0.05, 5.0


def connect_by(plan: "BusPlan", name: str, problem: "Problem") -> "Connection":
    """Return the connection that the configuration describes; it waits for a router as long as it takes."""
    from holdfast.bus.connect import connect

    return connect(
        plan["urls"],
        plan["realm"],
        auth=plan["auth"] or None,
        role=plan["role"],
        authid=name,
        patient=True,
        open_s=None,
        on_problem=problem,
    )


class Joined:
    """The connection of one life of a component; it is opened by the first who needs it."""

    def __init__(self, life: "Life", bus: "BusPlan | Connect") -> None:
        self._life = life
        self._instance = life.instance
        self._loop = life.loop
        self._thread = life.thread
        if callable(bus):
            self.session = bus(self._tell_problem)
        else:
            self.session = connect_by(bus, self._instance.name, self._tell_problem)
        self.session.on_join(self._is_there)
        self.session.on_leave(self._is_away)
        self._context = life.context()
        self._context.run(ON_BUS.set, True)
        self._opening: asyncio.Task[Any] | None = None
        self._offering: asyncio.Task[Any] | None = None
        self._running: set[asyncio.Task[Any]] = set()
        self._offers: list[Registration | Subscription] = []
        self._told: dict[str, int] = {}
        self._is_offered = False
        self._has_left = False
        self._begun = asyncio.Event()
        self._settled = asyncio.Event()
        if get_ident() == self._thread:
            self._open()
        else:
            self._loop.call_soon_threadsafe(self._open)

    def _open(self) -> None:
        if self._opening is None and not self._has_left:
            self._opening = self._spawn(self._open_and_say(), "bus")
            # Some milliseconds are a router's right: waiting is told when it takes longer.
            self._loop.call_later(0.5, self._tell_waiting)

    async def _open_and_say(self) -> None:
        self._begun.set()  # who waits for it runs later than the next line begins
        await self.session.open()

    def _spawn(self, coroutine: "Coroutine[Any, Any, Any]", what: str) -> "asyncio.Task[Any]":
        task = self._loop.create_task(
            coroutine, name=f"{self._instance.name}.{what}", context=self._context.copy()
        )
        task.add_done_callback(self._task_done)
        return task

    def _task_done(self, task: "asyncio.Task[Any]") -> None:
        if not task.cancelled() and (error := task.exception()) is not None and not self._has_left:
            self._life.crash(self._instance.name, error)

    # -- there and away --------------------------------------------------------------------------

    def _is_there(self, _: object) -> None:
        if self._told.pop("away", None):
            self._instance.log.info("joined the realm", realm=self.session.realm)
            progress("joined the realm")

    def _is_away(self, reason: str) -> None:
        if not self._has_left:
            self._loop.call_later(0.5, self._tell_waiting, reason)

    def _tell_waiting(self, reason: str = "") -> None:
        """Say once that there is no router; it is no crash, and whoever is away comes back by itself."""
        if self.session.is_open or self._has_left or "away" in self._told:
            return
        self._told["away"] = 1
        says = self.session.trouble or reason or "no answer"
        self._instance.log.warning("waits for a router", realm=self.session.realm, says=says)
        progress(f"waits for a router: {says}")

    def _tell_problem(self, doing: str, error: BaseException) -> None:
        """Log what failed; the same refusal again only the 10th, 100th, … time."""
        log = self._instance.log
        if isinstance(error, BusError):
            says = f"{doing}: {error}"
            times = self._told[says] = self._told.get(says, 0) + 1
            if len(self._told) > 1000:
                self._told.clear()  # texts with ever new values in them
            if is_worth_telling(times):
                log.error(says, **({"times": times} if times > 1 else {}))
            return
        write_text(2, report(self._instance.name, error, f"could not finish {doing}"))
        progress(f"{doing}: {type(error).__name__}")

    # -- what the host asks ----------------------------------------------------------------------

    def offer(self, app: "Component") -> None:
        """Begin to register and subscribe everything; :meth:`wait` waits for it.

        Raises:
            Unusable: An annotation cannot be checked.
            TypeError: A function cannot be offered.
        """
        declare = [self._procedure(p) for p in app.procedures]
        declare += [self._topic(t) for t in app.topics]
        self._is_offered = True
        self._offering = self._spawn(self._offer_all(declare), "offer")

    async def _offer_all(self, declare: "list[Declare]") -> None:
        await self._begun.wait()
        # All at once: a hundred procedures are one round trip then.
        await asyncio.gather(*(self._insist(one) for one in declare))
        self._settled.set()

    async def _insist(self, declare: "Declare") -> None:
        """Register or subscribe until the router takes it: what it refuses now (another one has it, the role must not) may change."""
        pause_s = _RETRY_S
        while not self._has_left:
            try:
                self._offers.append(await declare())
            except WampError as error:
                self._tell_problem("waiting to be offered", error)
            except ConnectionLost:
                pass  # told already; the next attempt waits for the connection itself
            else:
                return
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, _RETRY_MAX_S)

    async def wait(self, within_s: float | None) -> bool:
        """Wait until everything is offered; False when that took too long, or when it has left."""
        if self._is_offered and not self._settled.is_set():
            try:
                async with asyncio.timeout(within_s):
                    await self._settled.wait()
            except TimeoutError:
                return False
        return not self._has_left

    async def drain(self, until_s: float) -> None:
        """Offer nothing any more, and give what runs for others the time until then; then it is cancelled."""
        self._has_left = True
        self._settled.set()
        if self.session.is_open:
            try:
                async with asyncio.timeout_at(until_s):
                    await asyncio.gather(*(_take_back(offer) for offer in self._offers))
            except (TimeoutError, BusError):
                pass  # the connection's end takes them back as well
        running = {task for task in self._running if not task.done()}
        if running:
            await asyncio.wait(running, timeout=max(0.0, until_s - self._loop.time()))
        for task in running:
            task.cancel()

    async def leave(self) -> None:
        """Say goodbye and close the connection."""
        self._has_left = True
        self._settled.set()
        await self.session.close()

    def describe(self) -> "dict[str, object]":
        """Return what the control socket tells; from any thread."""
        return {
            "realm": self.session.realm,
            "is_joined": self.session.is_open,
            "is_offered": self._settled.is_set() and not self._has_left,
            "session": self.session.id,
            "running": len(self._running),
            "says": "" if self.session.is_open else self.session.trouble,
        }

    # -- what the component asks -----------------------------------------------------------------

    def call(self, uri: str, args: "tuple[Any, ...]", kwargs: "dict[str, Any]") -> "Awaitable[Any]":
        """Call a procedure; on the loop only."""
        if get_ident() != self._thread:
            says = f'call("{uri}") in a plain function: it runs in a thread, use call_sync there'
            raise RuntimeError(says)
        if not kwargs and self.session.is_open:
            return self.session.call_with(uri, plain_all(args))
        return self._call(uri, plain_all(args), _plain_but(kwargs, _CALL_OPTIONS))

    def call_sync(self, uri: str, args: "tuple[Any, ...]", kwargs: "dict[str, Any]") -> Any:
        """Call a procedure and wait; in threads only."""
        if get_ident() == self._thread:
            says = f'call_sync("{uri}") on the serving loop would block it: use `await app.call(…)`'
            raise RuntimeError(says)
        made = _plain_but(kwargs, _CALL_OPTIONS)
        made_args = plain_all(args)
        return asyncio.run_coroutine_threadsafe(self._call(uri, made_args, made), self._loop).result()  # fmt: skip

    async def _call(self, uri: str, args: "list[Any]", kwargs: "dict[str, Any]") -> Any:
        await self._begun.wait()
        return await self.session.call(uri, *args, **kwargs)

    def publish(self, uri: str, args: "tuple[Any, ...]", kwargs: "dict[str, Any]") -> Any:
        """Publish; from any thread."""
        made = _plain_but(kwargs, _PUBLISH_OPTIONS) if kwargs else kwargs
        made_args = plain_all(args)
        is_on_loop = get_ident() == self._thread
        if not made.get("acknowledge"):
            if is_on_loop:
                return self.session.publish(uri, *made_args, **made)
            self._loop.call_soon_threadsafe(self._publish_or_tell, uri, made_args, made)
            return None
        if is_on_loop:
            # Sent now, not when somebody gets round to waiting for it.
            return asyncio.ensure_future(self._acknowledged(uri, made_args, made))
        return asyncio.run_coroutine_threadsafe(self._acknowledged(uri, made_args, made), self._loop).result()  # fmt: skip

    async def _acknowledged(self, uri: str, args: "list[Any]", kwargs: "dict[str, Any]") -> Any:
        await self._begun.wait()
        return await self.session.publish(uri, *args, **kwargs)

    def _publish_or_tell(self, uri: str, args: "list[Any]", kwargs: "dict[str, Any]") -> None:
        try:
            self.session.publish(uri, *args, **kwargs)
        except BusError as error:
            self._tell_problem(f"publishing {uri}", error)

    # -- what is offered -------------------------------------------------------------------------

    def _procedure(self, offer: "Procedure") -> "Declare":
        uri = offer.uri or f"{self._instance.name}.{called(offer.function)}"
        return partial(
            self.session.register, self._wrapped(uri, offer), uri, match=offer.match, invoke=offer.invoke,
            concurrency=offer.concurrency, inline=offer.inline,
        )  # fmt: skip

    def _topic(self, offer: "Topic") -> "Declare":
        return partial(
            self.session.subscribe, self._wrapped(offer.uri, offer), offer.uri, match=offer.match,
            get_retained=offer.get_retained, inline=offer.inline,
        )  # fmt: skip

    def _wrapped(self, uri: str, offer: "Procedure | Topic") -> "Function":
        """Return what the session calls: the author's function with all that belongs around it."""
        function = offer.function
        handler = Handler(function, inline=offer.inline)
        fit = _fit_of(uri, function, handler)
        if handler.kind == INLINE:
            made = self._inline(function, fit, uri)
        elif handler.kind == COROUTINE:
            made = self._coroutine(function, fit, uri, offer.timeout)
        elif handler.kind == GENERATOR:
            made = self._generator(function, fit, uri, offer.timeout)
        else:
            made = self._thread_function(function, fit, uri, offer.timeout)
        # The session looks at the signature for what is to be filled in.
        return wraps(function)(made)

    def _inline(self, function: "Function", fit: "Fit | None", uri: str) -> "Function":
        instance, route = self._instance, TABLE.route(uri)

        def run(*args: Any, **kwargs: Any) -> Any:
            token = CURRENT.set(instance)
            work = Work(route)
            try:
                if fit is not None:
                    args, kwargs = fit(args, kwargs)
                return _plain_result(work.called(_called_with, function, args, kwargs))
            finally:
                CURRENT.reset(token)
                work.done(instance)

        return run

    def _coroutine(
        self, function: "Function", fit: "Fit | None", uri: str, timeout_s: float | None
    ) -> "Function":
        instance, running, route = self._instance, self._running, TABLE.route(uri)

        async def run(*args: Any, **kwargs: Any) -> Any:
            # This context is that of the connection, or in a test without one that of the caller. It is left
            # as it was: the session runs several that do not wait in one task.
            instances, on_bus = CURRENT.set(instance), ON_BUS.set(False)
            try:
                if fit is not None:
                    args, kwargs = fit(args, kwargs)
                # A coroutine function runs nothing yet here: a TypeError is about the arguments.
                made = _called_with(function, args, kwargs)
                task = asyncio.current_task()
                assert task is not None  # noqa: S101 -- the session sees to that
                running.add(task)
                work = Work(route)
                try:
                    with Call(instance, timeout_s) as call:
                        waits = work.awaited(made)
                        if timeout_s is not None:
                            waits = _limited(waits, call, uri, timeout_s)
                        return _plain_result(await waits)
                finally:
                    running.discard(task)
                    work.done(instance)
            finally:
                ON_BUS.reset(on_bus)
                CURRENT.reset(instances)

        return run

    def _generator(
        self, function: "Function", fit: "Fit | None", uri: str, timeout_s: float | None
    ) -> "Function":
        instance, running, route = self._instance, self._running, TABLE.route(uri)

        async def run(*args: Any, **kwargs: Any) -> Any:
            CURRENT.set(instance)
            ON_BUS.set(False)
            if fit is not None:
                args, kwargs = fit(args, kwargs)
            made = _called_with(function, args, kwargs)
            task = asyncio.current_task()
            assert task is not None  # noqa: S101 -- the session makes one for each run
            running.add(task)
            call = Call(instance, timeout_s)
            RECORDER.calls.add(call)
            work = Work(route)
            try:
                async for value in made:
                    yield plain(value)
            finally:
                RECORDER.calls.discard(call)
                running.discard(task)
                work.done(instance)

        return run

    def _thread_function(
        self, function: "Function", fit: "Fit | None", uri: str, timeout_s: float | None
    ) -> "Function":
        instance, running, life = self._instance, self._running, self._life
        name, route = called(function), TABLE.route(uri)

        async def run(*args: Any, **kwargs: Any) -> Any:
            CURRENT.set(instance)
            ON_BUS.set(False)
            if fit is not None:
                args, kwargs = fit(args, kwargs)
            task = asyncio.current_task()
            assert task is not None  # noqa: S101 -- the session makes one for each run
            running.add(task)
            call = Call(instance, timeout_s)
            call.in_thread = True
            CALL.set(call)
            RECORDER.calls.add(call)
            work = Work(route)
            future = life.begin_in_thread(
                life.lane, partial(work.called, _called_with, function, args, kwargs), name
            )
            # Not when the waiting ends: a function that hangs hangs on when its caller has given up.
            future.add_done_callback(lambda _: RECORDER.calls.discard(call))
            try:
                if timeout_s is None:
                    return _plain_result(await asyncio.shield(future))
                return _plain_result(await _limited(asyncio.shield(future), call, uri, timeout_s))
            finally:
                running.discard(task)
                work.done(instance)

        return run


async def _take_back(offer: "Registration | Subscription") -> None:
    if isinstance(offer, Registration):
        await offer.unregister()
    else:
        await offer.unsubscribe()


def _fit_of(uri: str, function: "Function", handler: Handler) -> "Fit | None":
    """Return what checks the arguments; None: nothing in the function says what fits."""
    extras = [
        key
        for key, is_wanted in (
            ("details", handler.wants_details),
            ("progress", handler.wants_progress),
            ("chunks", handler.wants_chunks),
        )
        if is_wanted
    ]
    check = check_of(uri, function, extras)
    if check is None:
        return None

    def fit(args: Any, kwargs: "dict[str, Any]") -> "tuple[Any, dict[str, Any]]":
        # An event has no progress and no chunks: only what came is put back.
        filled = {key: kwargs.pop(key) for key in extras if key in kwargs}
        try:
            args, kwargs = check(args, kwargs)
        except Mismatch as error:
            raise InvalidArgument(str(error)) from None
        kwargs.update(filled)
        return args, kwargs

    return fit


def _called_with(function: "Function", args: Any, kwargs: "dict[str, Any]") -> Any:
    """Call a function; arguments that it does not take are the sender's mistake."""
    try:
        return function(*args, **kwargs)
    except TypeError as error:
        trace = error.__traceback__
        if trace is None or trace.tb_next is not None:
            raise  # it has begun: its own
        _, found, rest = str(error).partition("() ")
        raise InvalidArgument(rest if found else str(error)) from None


async def _limited(made: "Awaitable[Any]", call: Call, uri: str, timeout_s: float) -> Any:
    call.scope = scope = asyncio.timeout(timeout_s)
    try:
        async with scope:
            return await made
    except TimeoutError as error:
        if scope.expired():
            raise CallTimeout(f"{uri} took longer than {timeout_s:g} s") from error
        raise


def _plain_result(value: Any) -> Any:
    if type(value) is not CallResult:
        return plain(value)
    made = CallResult(*plain_all(value.args), **_plain_but(value.kwargs, ()))
    made.details = value.details
    return made


def _plain_but(kwargs: "dict[str, Any]", options: "Collection[str]") -> "dict[str, Any]":
    return {key: value if key in options else plain(value) for key, value in kwargs.items()}
