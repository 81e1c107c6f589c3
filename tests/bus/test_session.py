"""Sessions, on the router's own rules and without a socket."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from bus.fake_router import SLOWNESS, soon
from holdfast.bus.errors import (
    CallTimeout,
    Canceled,
    ConnectionLost,
    FeatureNotSupported,
    InvalidArgument,
    InvalidPayload,
    JoinRefused,
    NoSuchProcedure,
    NotAuthorized,
    ProcedureExists,
    RemoteError,
    Unavailable,
    WampError,
    error,
)
from holdfast.bus.inmemory import InMemoryRouter, permission, role
from holdfast.bus.running import CallResult, Chunk, Event, Invocation, remaining_s
from holdfast.bus.session import ClientSession

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine

    Story = Callable[[InMemoryRouter, ClientSession, ClientSession], Coroutine[Any, Any, None]]


@pytest.fixture(params=["msgpack", "json", "cbor"])
def play(request: pytest.FixtureRequest) -> Callable[[Story], None]:
    """Run a story with a callee (or publisher) and a caller (or subscriber)."""

    def run(story: Story) -> None:
        async def play() -> None:
            router = InMemoryRouter(serializer=request.param)
            async with asyncio.timeout(20 * SLOWNESS), router.connect() as one, router.connect() as other:  # fmt: skip
                await story(router, one, other)

        asyncio.run(play())

    return run


@error("com.test.session_full")
class Full(Exception):  # noqa: N818
    """An application's own."""


# -- calls -----------------------------------------------------------------------------------------


def test_a_single_value_comes_back_as_it_is_and_more_as_a_result(play: Any) -> None:
    """As Autobahn does it: components move over without changes."""

    async def story(_: InMemoryRouter, callee: ClientSession, caller: ClientSession) -> None:
        returned: list[Any] = [5, None, [1, 2], {"a": b"\x00\xff"}, CallResult(1, 2), CallResult(a=1), CallResult()]  # fmt: skip

        async def give(i: int) -> Any:
            return returned[i]

        await callee.register(give, "com.test.give")
        got = [await caller.call("com.test.give", i) for i in range(len(returned))]

        assert got[:4] == returned[:4]
        assert got[4] == CallResult(1, 2)
        assert got[5] == CallResult(a=1)
        assert got[6] is None

    play(story)


def test_arguments_of_both_kinds_arrive(play: Any) -> None:
    """Also binary ones, in every serializer, and a name that `call` has itself goes through `call_with`."""

    async def story(_: InMemoryRouter, callee: ClientSession, caller: ClientSession) -> None:
        async def show(*args: Any, **kwargs: Any) -> Any:
            return [list(args), kwargs]

        await callee.register(show, "com.test.show")

        assert await caller.call("com.test.show") == [[], {}]
        assert await caller.call("com.test.show", 1, b"\x01", x="ü") == [[1, b"\x01"], {"x": "ü"}]
        assert await caller.call("com.test.show", y=[]) == [[], {"y": []}]
        assert await caller.call_with("com.test.show", [1], {"timeout_s": 2}) == [[1], {"timeout_s": 2}]  # fmt: skip

    play(story)


def test_every_kind_of_function_can_be_a_procedure(play: Any) -> None:
    """Coroutine functions on the loop, plain ones in a thread, inline ones on the loop."""

    async def story(_: InMemoryRouter, callee: ClientSession, caller: ClientSession) -> None:
        loop_thread = threading.get_ident()

        async def on_loop() -> bool:
            assert asyncio.current_task() is not None
            async with asyncio.timeout(10):  # needs a current task, from the first step on
                await asyncio.sleep(0)
                return threading.get_ident() == loop_thread

        def in_thread() -> bool:
            return threading.get_ident() != loop_thread

        def inline() -> bool:
            return threading.get_ident() == loop_thread

        class Adder:
            async def __call__(self, a: int) -> int:
                return a + 1

        await callee.register(on_loop, "com.test.a")
        await callee.register(in_thread, "com.test.b")
        await callee.register(inline, "com.test.c", inline=True)
        await callee.register(Adder(), "com.test.d")

        assert await asyncio.gather(*(caller.call(f"com.test.{x}") for x in "abc")) == [True] * 3
        assert await caller.call("com.test.d", 1) == 2

    play(story)


def test_a_hook_decides_where_plain_functions_run() -> None:
    """The SDK has a thread for each component, so what its functions share needs no lock."""

    async def story() -> None:
        ran: list[str] = []

        def run_sync(function: Callable[[], Any]) -> Awaitable[Any]:
            ran.append("hook")
            done = asyncio.get_running_loop().create_future()
            done.set_result(function())
            return done

        router = InMemoryRouter()
        async with router.connect(run_sync=run_sync) as callee, router.connect() as caller:
            await callee.register(lambda x: x, "com.test.echo")
            await callee.subscribe(lambda x: ran.append(x), "com.test.topic")

            assert await caller.call("com.test.echo", 3) == 3
            await caller.publish("com.test.topic", "event", acknowledge=True)
            await soon(lambda: ran == ["hook", "hook", "event"], "the event")

    asyncio.run(story())


def test_errors_of_a_procedure_say_what_they_are(play: Any) -> None:
    """Application errors by URI, anything else by type and text, wrong arguments as such; never a traceback."""

    async def story(_: InMemoryRouter, callee: ClientSession, caller: ClientSession) -> None:
        raised: list[BaseException] = [
            Full("kitchen"), WampError("com.test.odd", 1, why="x"), ZeroDivisionError("by 0"), Unavailable(), TypeError("mine"),
        ]  # fmt: skip

        async def fail(i: int) -> None:
            raise raised[i]

        def fail_in_thread(i: int) -> None:
            raise raised[i]

        callee._on_problem = lambda *_: None
        for uri, function in (("com.test.f", fail), ("com.test.g", fail_in_thread)):
            await callee.register(function, uri)
            with pytest.raises(Full, match="kitchen"):
                await caller.call(uri, 0)
            with pytest.raises(WampError) as odd:
                await caller.call(uri, 1)
            assert (odd.value.uri, odd.value.args, odd.value.kwargs) == ("com.test.odd", (1,), {"why": "x"})  # fmt: skip
            with pytest.raises(
                RemoteError, match=r"calling com\.test\..: ZeroDivisionError: by 0"
            ) as e:
                await caller.call(uri, 2)
            assert e.value.kwargs == {"type": "ZeroDivisionError"}
            with pytest.raises(WampError):
                await caller.call(uri, 3)
            with pytest.raises(RemoteError, match="TypeError: mine"):
                await caller.call(uri, 4)
            with pytest.raises(InvalidArgument, match="missing a required argument: 'i'"):
                await caller.call(uri)
            with pytest.raises(InvalidArgument, match="unexpected keyword argument 'k'"):
                await caller.call(uri, 1, k=2)
        with pytest.raises(NoSuchProcedure, match=r"calling com\.test\.nobody"):
            await caller.call("com.test.nobody")

    play(story)


def test_what_went_wrong_in_a_handler_is_told_where_it_runs() -> None:
    """The caller gets one line; the author needs the exception itself."""

    async def story() -> None:
        told: list[tuple[str, BaseException]] = []
        router = InMemoryRouter()
        async with router.connect(on_problem=lambda *what: told.append(what)) as one, router.connect() as other:  # fmt: skip

            async def fail() -> None:
                raise LookupError("here")

            await one.register(fail, "com.test.fail")
            await one.subscribe(fail, "com.test.topic")
            with pytest.raises(RemoteError):
                await other.call("com.test.fail")
            other.publish("com.test.topic")
            await soon(lambda: len(told) == 2, "both told")

        assert [(doing, type(e)) for doing, e in told] == [
            ("procedure com.test.fail", LookupError),
            ("event of com.test.topic", LookupError),
        ]

    asyncio.run(story())


def test_what_cannot_be_encoded_is_refused_on_the_spot(play: Any) -> None:
    """The caller's own mistake is the caller's own exception; a callee's is an ERROR for its caller. Nothing hangs."""

    async def story(_: InMemoryRouter, callee: ClientSession, caller: ClientSession) -> None:
        async def bad() -> Any:
            return object()

        async def echo(x: Any) -> Any:
            return x

        await callee.register(bad, "com.test.bad")
        await callee.register(echo, "com.test.echo")

        with pytest.raises(InvalidPayload, match="object"):
            await caller.call("com.test.echo", object())
        with pytest.raises(InvalidPayload, match="object"):
            caller.publish("com.test.topic", object())
        with pytest.raises(InvalidPayload, match="object"):
            await caller.call("com.test.bad")
        assert await caller.call("com.test.echo", 1) == 1

    play(story)


# -- cancelling and time ---------------------------------------------------------------------------


def test_cancelling_the_waiting_task_cancels_the_procedure() -> None:
    """Nobody works for somebody who has gone."""

    async def story() -> None:
        router = InMemoryRouter()
        async with router.connect() as callee, router.connect() as caller:
            state: list[str] = []

            async def work() -> None:
                state.append("started")
                try:
                    await asyncio.Event().wait()
                except asyncio.CancelledError:
                    state.append("cancelled")
                    raise

            await callee.register(work, "com.test.work")
            waiting = asyncio.create_task(caller.call("com.test.work"))
            await soon(lambda: state == ["started"], "start")
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            await soon(lambda: state == ["started", "cancelled"], "the callee's cancellation")
            assert not callee._running
            assert not caller._waiting

    asyncio.run(story())


def test_mode_kill_is_answered_when_the_procedure_has_really_ended() -> None:
    """That is the difference to killnowait: who gets the answer may start again."""

    async def story() -> None:
        router = InMemoryRouter()
        async with router.connect() as callee, router.connect() as caller:
            state: list[str] = []
            may_end = asyncio.Event()

            async def work() -> None:
                state.append("started")
                try:
                    await asyncio.Event().wait()
                finally:
                    await may_end.wait()
                    state.append("ended")

            await callee.register(work, "com.test.work")
            waiting = asyncio.create_task(caller.call("com.test.work"))
            await soon(lambda: state == ["started"], "start")
            request = next(iter(caller._waiting))
            caller._send(caller._encode([49, request, {"mode": "kill"}], None))
            await caller.publish("com.test.x", acknowledge=True)
            assert not waiting.done()
            may_end.set()
            with pytest.raises(Canceled):
                await waiting
            assert state == ["started", "ended"]

    asyncio.run(story())


def test_interrupt_before_the_first_step_still_answers() -> None:
    """The task is cancelled before its code has run: the answer must not depend on that code."""

    async def story() -> None:
        router = InMemoryRouter()
        async with router.connect() as callee, router.connect() as caller:
            ran: list[int] = []

            async def work() -> None:
                ran.append(1)

            registration = await callee.register(work, "com.test.work")
            said: list[Any] = []
            encode = callee._encode

            def note(head: list[Any], payload: Any) -> bytes:
                said.append(head)
                return encode(head, payload)

            callee._encode = note
            callee._create_task = lambda coroutine: asyncio.Task(coroutine)
            callee._on_invocation([68, 77, registration.id, {}])
            callee._on_interrupt([69, 77, {"mode": "kill"}])
            await caller.publish("com.test.x", acknowledge=True)
            assert not callee._running
            assert said == [[8, 68, 77, {}, "wamp.error.canceled"]]
            assert ran == []

    asyncio.run(story())


def test_a_call_ends_in_time_and_the_callee_hears_of_it() -> None:
    """In milliseconds on the wire, as the specification has it, and answered with wamp.error.timeout."""

    async def story() -> None:
        router = InMemoryRouter()
        async with router.connect() as callee, router.connect() as caller:
            cancelled = asyncio.Event()

            async def work() -> None:
                left = remaining_s()
                assert left is not None
                assert 0 < left <= 0.05
                try:
                    await asyncio.Event().wait()
                except asyncio.CancelledError:
                    cancelled.set()
                    raise

            await callee.register(work, "com.test.work")
            began = time.monotonic()
            with pytest.raises(CallTimeout, match=r"calling com\.test\.work"):
                await caller.call("com.test.work", timeout_s=0.05)
            assert 0.05 <= time.monotonic() - began < 5 * SLOWNESS
            await cancelled.wait()

    asyncio.run(story())


def test_a_deadline_travels_with_the_calls_that_a_procedure_makes() -> None:
    """The caller's patience is all the time that anybody behind it has."""

    async def story() -> None:
        router = InMemoryRouter()
        async with router.connect() as back, router.connect() as middle, router.connect() as front:
            seen: list[float | None] = []

            async def last() -> None:
                seen.append(remaining_s())

            async def between(timeout_s: float | None = None) -> None:
                seen.append(remaining_s())
                await middle.call("com.test.last", timeout_s=timeout_s)

            def between_in_thread() -> float | None:
                return remaining_s()

            await back.register(last, "com.test.last")
            await middle.register(between, "com.test.between")
            await middle.register(between_in_thread, "com.test.thread")

            await front.call("com.test.between", timeout_s=30)
            assert seen[0] is not None
            assert seen[1] is not None
            assert 0 < seen[1] <= seen[0] <= 30
            seen.clear()
            await front.call_with("com.test.between", (), {"timeout_s": 5}, timeout_s=30)
            assert seen[1] is not None
            assert seen[1] <= 5
            seen.clear()
            await front.call("com.test.between")
            assert seen == [None, None]
            left = await front.call("com.test.thread", timeout_s=30)
            assert 0 < left <= 30

    asyncio.run(story())


def test_a_task_that_a_procedure_leaves_behind_is_not_in_a_hurry() -> None:
    """The deadline is the caller's, and the caller has the answer."""

    async def story() -> None:
        router = InMemoryRouter()
        async with router.connect() as callee, router.connect() as caller:
            answered = asyncio.Event()
            tasks: list[asyncio.Task[float | None]] = []

            async def later() -> float | None:
                await answered.wait()
                return remaining_s()

            async def work() -> bool:
                tasks.append(asyncio.create_task(later()))
                return remaining_s() is not None

            await callee.register(work, "com.test.work")
            assert await caller.call("com.test.work", timeout_s=30) is True
            answered.set()
            assert await tasks[0] is None

    asyncio.run(story())


def test_a_router_without_a_clock_does_not_keep_a_caller_waiting() -> None:
    """The client has a timer of its own: the router may hang, or not know the feature."""

    async def story() -> None:
        router = InMemoryRouter()
        async with router.connect() as caller:
            caller._send = lambda _: None  # type: ignore[assignment]
            with pytest.raises(CallTimeout, match=r"no result within 0\.02 s"):
                await caller.call("com.test.void", timeout_s=0.02)
            caller.lost("done")

    asyncio.run(story())


# -- progress --------------------------------------------------------------------------------------


def test_progressive_results_arrive_in_order_and_before_the_result(play: Any) -> None:
    """By a keyword-only parameter, by an async generator, and from a thread."""

    async def story(_: InMemoryRouter, callee: ClientSession, caller: ClientSession) -> None:
        async def by_parameter(n: int, *, progress: Any) -> str:
            for i in range(n):
                progress(i, twice=2 * i)
            return "end"

        async def by_generator(n: int) -> AsyncIterator[int]:
            for i in range(n):
                yield i
                await asyncio.sleep(0)

        def from_thread(n: int, *, progress: Any) -> str:
            for i in range(n):
                progress(i)
            return "end"

        await callee.register(by_parameter, "com.test.p")
        await callee.register(by_generator, "com.test.g")
        await callee.register(from_thread, "com.test.t")
        got: list[Any] = []

        def note(*args: Any, **kwargs: Any) -> None:
            got.append((*args, kwargs) if kwargs else args[0])

        assert await caller.call("com.test.p", 3, on_progress=note) == "end"
        assert got == [(0, {"twice": 0}), (1, {"twice": 2}), (2, {"twice": 4})]
        got.clear()
        assert await caller.call("com.test.g", 5, on_progress=note) is None
        assert got == [0, 1, 2, 3, 4]
        got.clear()
        assert await caller.call("com.test.t", 5, on_progress=note) == "end"
        assert got == [0, 1, 2, 3, 4]

    play(story)


def test_who_does_not_want_progress_gets_all_at_the_end() -> None:
    """A generator's values as a list; `progress` is None and the procedure can spare itself the work."""

    async def story() -> None:
        router = InMemoryRouter()
        async with router.connect() as callee, router.connect() as caller:

            async def count() -> AsyncIterator[int]:
                yield 1
                yield 2

            async def knows(*, progress: Any) -> bool:
                return progress is None

            await callee.register(count, "com.test.count")
            await callee.register(knows, "com.test.knows")
            assert await caller.call("com.test.count") == [1, 2]
            assert await caller.call("com.test.knows") is True

    asyncio.run(story())


def test_an_error_in_the_callers_progress_function_ends_the_call() -> None:
    """It is the caller's bug: the caller gets it, and the callee stops."""

    async def story() -> None:
        router = InMemoryRouter()
        async with router.connect() as callee, router.connect() as caller:

            async def forever() -> AsyncIterator[int]:
                while True:
                    yield 1
                    await asyncio.sleep(0)

            def broken(_: int) -> None:
                raise ArithmeticError("mine")

            await callee.register(forever, "com.test.forever")
            with pytest.raises(ArithmeticError, match="mine"):
                await caller.call("com.test.forever", on_progress=broken)
            await soon(lambda: not callee._running, "the callee's end")

    asyncio.run(story())


def test_a_progressive_call_streams_its_arguments(play: Any) -> None:
    """Upload in pieces: the callee begins before the caller has ended, and may answer in pieces, too."""

    async def story(_: InMemoryRouter, callee: ClientSession, caller: ClientSession) -> None:
        async def upload(name: str, *, chunks: AsyncIterator[Chunk], progress: Any) -> Any:
            parts = []
            async for chunk in chunks:
                parts += chunk.args
                if progress is not None:
                    progress(len(parts))
            return [name, *parts]

        async def plain(name: str) -> str:
            return name

        await callee.register(upload, "com.test.upload")
        await callee.register(plain, "com.test.plain")
        got: list[int] = []
        async with caller.progressive_call("com.test.upload", on_progress=got.append) as call:
            call.send("file")
            call.send(b"one")
            await soon(lambda: got == [1], "progress before the end")
            assert await call.finish(b"two") == ["file", b"one", b"two"]
        assert got == [1, 2]
        async with caller.progressive_call("com.test.upload") as call:
            assert await call.finish("in one piece") == ["in one piece"]
        async with caller.progressive_call("com.test.plain") as call:
            call.send("a")
            with pytest.raises(FeatureNotSupported, match="in one piece only"):
                await call.finish("b")

    play(story)


def test_leaving_a_progressive_call_unfinished_cancels_it() -> None:
    """An exception in the middle of an upload must not leave half of it waiting for ever."""

    async def story() -> None:
        router = InMemoryRouter()
        async with router.connect() as callee, router.connect() as caller:
            started = asyncio.Event()

            async def upload(*, chunks: AsyncIterator[Chunk]) -> None:
                started.set()
                async for _ in chunks:
                    pass

            await callee.register(upload, "com.test.upload")

            async def half_an_upload() -> None:
                async with caller.progressive_call("com.test.upload") as call:
                    call.send()
                    await started.wait()
                    raise LookupError("the disk is gone")

            with pytest.raises(LookupError):
                await half_an_upload()
            await soon(lambda: not callee._running, "the callee's end")
            assert not caller._waiting
            assert not caller._extras

    asyncio.run(story())


# -- events ----------------------------------------------------------------------------------------


def test_events_reach_every_kind_of_handler_in_order(play: Any) -> None:
    """Also plain functions in a thread: one after the other, never overtaking."""

    async def story(_: InMemoryRouter, publisher: ClientSession, subscriber: ClientSession) -> None:
        n = 200
        seen: dict[str, list[int]] = {"async": [], "inline": [], "thread": []}

        async def handler(i: int) -> None:
            seen["async"].append(i)

        await subscriber.subscribe(handler, "com.test.topic")
        await subscriber.subscribe(lambda i: seen["inline"].append(i), "com.test.topic", inline=True)  # fmt: skip
        await subscriber.subscribe(lambda i: seen["thread"].append(i), "com.test.topic")
        for i in range(n):
            publisher.publish("com.test.topic", i)
        await soon(lambda: all(len(s) == n for s in seen.values()), "all events")
        assert list(seen.values()) == [list(range(n))] * 3

    play(story)


def test_an_event_tells_who_published_it_and_where() -> None:
    """A keyword-only `details`; with a pattern it has the real topic."""

    async def story() -> None:
        router = InMemoryRouter()
        async with router.connect(authid="ann") as publisher, router.connect() as subscriber:
            got: list[Any] = []

            async def handler(x: int, *, details: Event) -> None:
                got.append((x, details.topic, details.publisher_authid, details.is_retained))

            await subscriber.subscribe(handler, "com.test.", match="prefix")
            await publisher.publish("com.test.a", 1, acknowledge=True, options={"disclose_me": True, "retain": True})  # fmt: skip
            await soon(lambda: len(got) == 1, "the event")
            await subscriber.subscribe(handler, "com.test.a", get_retained=True)
            await soon(lambda: len(got) == 2, "the retained event")

        assert got[0] == (1, "com.test.a", "ann", False)
        assert got[1][1:] == ("com.test.a", "ann", True)

    asyncio.run(story())


def test_one_handler_of_a_topic_can_go_and_the_other_stays() -> None:
    """Both share the router's subscription; the router is told when the last one goes."""

    async def story() -> None:
        router = InMemoryRouter()
        async with router.connect() as publisher, router.connect() as subscriber:
            seen: list[str] = []
            one = await subscriber.subscribe(lambda: seen.append("one"), "com.t", inline=True)
            two = await subscriber.subscribe(lambda: seen.append("two"), "com.t", inline=True)
            assert one.id == two.id

            async def publish() -> list[str]:
                seen.clear()
                await publisher.publish("com.t", acknowledge=True)
                await subscriber.publish("com.other", acknowledge=True)
                return list(seen)

            assert await publish() == ["one", "two"]
            await one.unsubscribe()
            assert await publish() == ["two"]
            again = asyncio.create_task(subscriber.subscribe(lambda: seen.append("three"), "com.t", inline=True))  # fmt: skip
            await asyncio.sleep(0)
            await two.unsubscribe()
            three = await again
            assert await publish() == ["three"]
            await three.unsubscribe()
            assert await publish() == []
            assert await publisher.call("wamp.subscription.lookup", "com.t") is None

    asyncio.run(story())


# -- registrations ---------------------------------------------------------------------------------


def test_registering_and_unregistering() -> None:
    """What the router says about names that are taken and names that are gone."""

    async def story() -> None:
        router = InMemoryRouter()
        async with router.connect() as callee, router.connect() as caller:

            async def f() -> int:
                return 1

            registration = await callee.register(f, "com.test.f")
            with pytest.raises(ProcedureExists, match=r"registering com\.test\.f"):
                await caller.register(f, "com.test.f")
            await registration.unregister()
            assert registration.id is None
            with pytest.raises(NoSuchProcedure):
                await caller.call("com.test.f")
            await registration.unregister()  # twice does no harm

    asyncio.run(story())


def test_patterns_policies_and_details_of_an_invocation() -> None:
    """The procedure that was called, and by whom where the realm discloses it."""

    async def story() -> None:
        router = InMemoryRouter()
        async with router.connect() as one, router.connect() as two, router.connect(authid="ann") as caller:  # fmt: skip

            async def who(*, details: Invocation) -> Any:
                return [details.procedure, details.caller_authid]

            await one.register(who, "com.test.", match="prefix")
            assert await caller.call("com.test.some.thing", disclose_me=True) == ["com.test.some.thing", "ann"]  # fmt: skip
            for i, session in enumerate((one, two)):

                async def number(i: int = i) -> int:
                    return i

                await session.register(number, "com.shared", invoke="roundrobin")
            assert sorted([await caller.call("com.shared") for _ in range(4)]) == [0, 0, 1, 1]

    asyncio.run(story())


def test_wrong_handlers_are_refused_where_they_are_written() -> None:
    """The order of arguments is the commonest mistake."""

    async def story() -> None:
        router = InMemoryRouter()
        async with router.connect() as session:
            with pytest.raises(TypeError, match=r"register\(handler, uri\)"):
                await session.register("com.test.f", lambda: 1)  # type: ignore[arg-type]

            def generator() -> Any:
                yield 1

            with pytest.raises(TypeError, match="async generators"):
                await session.register(generator, "com.test.g")

    asyncio.run(story())


def test_a_withdrawn_permission_is_told() -> None:
    """The router takes the registration away at once; the component hears why."""

    async def story() -> None:
        told: list[str] = []
        router = InMemoryRouter(roles=[role("backend"), role("guest")])
        async with router.connect("backend", on_problem=lambda doing, _: told.append(doing)) as callee, router.connect("guest") as guest:  # fmt: skip

            async def f() -> int:
                return 1

            await callee.register(f, "com.test.f")
            await callee.subscribe(f, "com.test.topic")
            assert await guest.call("com.test.f") == 1
            router.reconfigure([role("backend", permission("com.other", "call")), role("guest")])
            await soon(lambda: len(told) == 2, "both revocations")
            assert set(told) == {"registration of com.test.f", "subscription to com.test.topic"}
            with pytest.raises(NoSuchProcedure):
                await guest.call("com.test.f")
            with pytest.raises(NotAuthorized):
                await callee.register(f, "com.test.f")

    asyncio.run(story())


def test_a_role_that_does_not_exist_cannot_join() -> None:
    """As at a real router."""

    async def story() -> None:
        with pytest.raises(JoinRefused, match='no role "nobody"'):
            InMemoryRouter().connect("nobody")

    asyncio.run(story())


# -- the end ---------------------------------------------------------------------------------------


def test_when_the_connection_is_lost_everyone_who_waits_is_told() -> None:
    """By name: which call it was is the first question."""

    async def story() -> None:
        router = InMemoryRouter()
        async with router.connect() as callee, router.connect() as caller:
            reasons: list[str] = []
            caller.on_leave(reasons.append)
            callee.on_leave(lambda _: bytes(-1))  # type: ignore[arg-type]
            callee._on_problem = lambda *_: None
            started = asyncio.Event()
            ended = asyncio.Event()

            async def work() -> None:
                started.set()
                try:
                    await asyncio.Event().wait()
                finally:
                    ended.set()

            await callee.register(work, "com.test.work")
            call = asyncio.create_task(caller.call("com.test.work"))
            await started.wait()
            router.cut(caller)
            with pytest.raises(
                ConnectionLost, match=r"calling com\.test\.work: the connection was cut"
            ):
                await call
            assert reasons == ["the connection was cut"]
            with pytest.raises(ConnectionLost):
                await caller.call("com.test.work")
            with pytest.raises(ConnectionLost):
                caller.publish("com.test.topic")
            await ended.wait()  # the router tells the callee that nobody waits any more
            router.cut(callee)
            assert not callee.is_open

    asyncio.run(story())


def test_a_callee_that_loses_its_connection_stops_working_for_it() -> None:
    """The result could not be delivered, and the caller has been told to try again."""

    async def story() -> None:
        router = InMemoryRouter()
        async with router.connect() as callee, router.connect() as caller:
            started, ended = asyncio.Event(), asyncio.Event()

            async def work() -> None:
                started.set()
                try:
                    await asyncio.Event().wait()
                finally:
                    ended.set()

            await callee.register(work, "com.test.work")
            call = asyncio.create_task(caller.call("com.test.work"))
            await started.wait()
            router.cut(callee)
            await ended.wait()
            with pytest.raises(Canceled):
                await call

    asyncio.run(story())


def test_being_killed_by_the_router_has_a_reason() -> None:
    """wamp.session.kill, with the words of whoever did it."""

    async def story() -> None:
        router = InMemoryRouter()
        async with router.connect() as victim, router.connect() as killer:
            reasons: list[str] = []
            victim.on_leave(reasons.append)
            await killer.call("wamp.session.kill", victim.id, reason="com.test.why", message="so")
            await soon(lambda: reasons, "the end")
            assert "com.test.why" in reasons[0]

    asyncio.run(story())


@pytest.mark.parametrize(
    "data",
    [b"", b"[", b"[]", b"{}", b'["x"]', b"[999]", b"[50]", b"[68,1]", b"[65,7,8]", b"[69,1,1]"],
)  # fmt: skip
def test_a_router_that_talks_nonsense_costs_the_session_and_nothing_else(data: bytes) -> None:
    """One clear reason, no exception out of the link's callback, and whoever waits is told."""

    async def story() -> None:
        router = InMemoryRouter(serializer="json")
        session = router.connect()
        sub = await session.subscribe(lambda: None, "com.t", inline=True)
        session._subscriptions[1] = (sub,)
        session._running[1] = Invocation(session, 1, session, {})  # type: ignore[arg-type]
        waiting = asyncio.create_task(session.call("com.test.f"))
        session._send = lambda _: None  # type: ignore[assignment]
        await asyncio.sleep(0)
        request = max(session._waiting)
        session.receive(data.replace(b",1,{}", b",%d,{}" % request))
        if session.is_open:  # `[36,1,1]` and the like are short, but say enough to be ignored
            session.lost("the test is over")
        with pytest.raises(ConnectionLost):
            await waiting
        assert session.ended

    asyncio.run(story())
