"""A component on the bus, in memory: what its author writes, and what the others see."""

import asyncio
import dataclasses
import datetime
import enum
import os
import threading
import uuid
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, NamedTuple, TypedDict

import msgspec
import pytest

from holdfast.bus.errors import (
    CallTimeout,
    InvalidArgument,
    NoSuchProcedure,
    RemoteError,
    WampError,
)
from holdfast.bus.running import Event, Invocation
from holdfast.bus.session import ClientSession
from holdfast.sdk import Component
from holdfast.sdk.payload import Mismatch, Unusable, check_of, plain, settings_of
from holdfast.sdk.recorder import RECORDER
from holdfast.sdk.testing import InMemoryRouter, running

WITHIN_S = 30 * float(os.environ.get("HOLDFAST_SLOWNESS", "1"))
Use = Callable[[ClientSession], Awaitable[Any]]


def try_out(app: Component, use: Use, **how: Any) -> Any:
    """Run ``use(session)`` while the component runs."""

    async def test() -> Any:
        async with asyncio.timeout(WITHIN_S), running(app, **how) as session:
            return await use(session)

    return asyncio.run(test())


class Suit(enum.Enum):
    HEARTS = "hearts"


@dataclasses.dataclass
class Card:
    title: str
    suit: Suit = Suit.HEARTS
    at: datetime.datetime | None = None


class Point(NamedTuple):
    x: int
    y: int


class Move(TypedDict):
    card: int
    to: str


class Size(msgspec.Struct):
    width: Annotated[int, msgspec.Meta(ge=0)]


# -- procedures ------------------------------------------------------------------------------------


def test_typed_arguments_arrive_as_objects_and_results_leave_as_plain_values() -> None:
    """Every serializer and every other language has to understand them."""
    app = Component("board")
    seen = []

    @app.procedure()
    async def take(card: Card, point: Point, move: Move, size: Size, number: uuid.UUID) -> Card:
        seen.append((card, point, move, size, number))
        return dataclasses.replace(card, at=datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC))

    number = uuid.uuid4()
    result = try_out(
        app,
        lambda s: s.call(
            "board.take", {"title": "a", "suit": "hearts"}, [1, 2], {"card": 1, "to": "x"},
            size={"width": 3}, number=str(number),
        ),
    )  # fmt: skip

    assert seen == [(Card("a"), Point(1, 2), {"card": 1, "to": "x"}, Size(3), number)]
    assert result == {"title": "a", "suit": "hearts", "at": "2024-01-01T00:00:00Z"}


@pytest.mark.parametrize("serializer", ["json", "msgpack", "cbor"])
def test_a_value_is_the_same_whatever_carries_it(serializer: str) -> None:
    """MessagePack has a type for points in time and JSON has not: nobody may notice which one it was."""
    app = Component("clock")

    @app.procedure()
    async def echo(at: datetime.datetime, raw: bytes, table: dict[int, str]) -> list[Any]:
        return [at, raw, table]

    at = datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC)
    result = try_out(
        app,
        lambda s: s.call("clock.echo", plain(at), b"\x00\xff", {"1": "one"}),
        router=InMemoryRouter(serializer=serializer),
    )

    assert result == ["2024-01-01T00:00:00Z", b"\x00\xff", {"1": "one"}]


@pytest.mark.parametrize(
    ("args", "kwargs", "says"),
    [
        ([{"title": 3}], {}, 'board.add: argument "card.title": expected str, got int'),
        ([{}], {}, 'board.add: argument "card.title": is missing'),
        ([], {}, 'board.add: argument "card": is missing'),
        ([{"title": "a"}, "5"], {}, 'board.add: argument "n": expected int, got str'),
        ([{"title": "a"}, 1, 2], {}, "board.add takes at most 2 arguments by position, got 3"),
        ([{"title": "a"}], {"m": 1}, 'board.add: there is no argument "m"; known: card, n'),
        ([{"title": "a"}], {"card": 1}, 'board.add: argument "card" came twice'),
        ([{"title": "a", "suit": "swords"}], {}, 'argument "card.suit": invalid enum value'),
    ],
)
def test_a_mismatch_is_an_error_that_names_procedure_argument_and_trouble(
    args: list[Any], kwargs: dict[str, Any], says: str
) -> None:
    app = Component("board")

    @app.procedure()
    async def add(card: Card, n: int = 1) -> None:
        raise AssertionError(f"it was called with {card} {n}")

    with pytest.raises(InvalidArgument) as caught:
        try_out(app, lambda s: s.call_with("board.add", args, kwargs))

    assert caught.value.uri == "wamp.error.invalid_argument"
    assert says in str(caught.value)


def test_a_function_without_annotations_has_no_check_and_says_what_is_missing() -> None:
    app = Component("board")

    @app.procedure("board.add")
    async def add(a, b):  # type: ignore[no-untyped-def]
        return a + b

    assert check_of("board.add", add) is None
    with pytest.raises(InvalidArgument, match="missing 1 required positional argument: 'b'"):
        try_out(app, lambda s: s.call("board.add", 1))


def test_a_type_error_of_the_procedure_itself_is_not_blamed_on_the_caller() -> None:
    app = Component("board")

    @app.procedure("board.sync")
    def sync(a):  # type: ignore[no-untyped-def]
        return a + 1

    with pytest.raises(RemoteError, match="TypeError"):
        try_out(app, lambda s: s.call("board.sync", "x"))


def test_pydantic_models_are_checked_by_themselves() -> None:
    pydantic = pytest.importorskip("pydantic")
    person = pydantic.create_model("Person", name=(str, ...), age=(int, ...))
    app = Component("people")

    async def older(person: Any) -> Any:
        return person.model_copy(update={"age": person.age + 1})

    older.__annotations__["person"] = person
    app.procedure()(older)

    assert try_out(app, lambda s: s.call("people.older", {"name": "Ann", "age": 3})) == {
        "name": "Ann",
        "age": 4,
    }
    with pytest.raises(InvalidArgument, match="age"):
        try_out(app, lambda s: s.call("people.older", {"name": "Ann", "age": "old"}))


def test_an_annotation_that_cannot_be_checked_is_said_at_the_start() -> None:
    """Found when the component starts, not when the first caller comes."""

    async def lost(card: "Missing") -> None:  # type: ignore[name-defined]  # noqa: F821
        ...

    with pytest.raises(Unusable, match="names 'Missing', which its module does not have"):
        check_of("board.lost", lost)


def test_plain_functions_call_and_publish_from_their_thread() -> None:
    app = Component("board")
    events: list[Any] = []

    @app.procedure()
    def total(n: int) -> int:
        app.publish("board.asked", n)
        assert threading.current_thread().name == "board"
        return sum(app.call_sync("board.one", i) for i in range(n))

    @app.procedure()
    async def one(i: int) -> int:
        return i

    async def use(session: ClientSession) -> Any:
        await session.subscribe(events.append, "board.asked", inline=True)
        return await session.call("board.total", 4)

    assert try_out(app, use) == 6
    assert events == [4]


def test_the_wrong_kind_of_call_says_which_one_is_right() -> None:
    """One would block the loop, the other would return something that nobody can await."""
    app = Component("board")

    @app.procedure()
    async def blocks() -> None:
        app.call_sync("board.other")

    @app.procedure()
    def awaits() -> None:
        _ = app.call("board.other")

    with pytest.raises(RemoteError, match=r"use `await app\.call"):
        try_out(app, lambda s: s.call("board.blocks"))
    with pytest.raises(RemoteError, match="use call_sync"):
        try_out(app, lambda s: s.call("board.awaits"))


def test_details_and_progress_come_by_keyword_and_are_not_checked() -> None:
    app = Component("board")

    @app.procedure()
    async def count(n: int, *, progress: Any, details: Invocation) -> str:
        for i in range(n):
            progress(i)
        return details.procedure

    @app.procedure()
    async def tell(n: int) -> Any:
        for i in range(n):
            yield Card(str(i))

    async def use(session: ClientSession) -> None:
        got: list[Any] = []
        assert await session.call("board.count", 3, on_progress=got.append) == "board.count"
        assert got == [0, 1, 2]
        assert [c["title"] for c in await session.call("board.tell", 2)] == ["0", "1"]

    try_out(app, use)


def test_an_exception_is_the_callers_error_and_the_logs_traceback(
    capfd: pytest.CaptureFixture[str],
) -> None:
    """One bad request must not end the process that serves the others."""
    app = Component("board")

    @app.procedure()
    async def fails() -> None:
        raise LookupError("no such card")

    @app.procedure()
    async def refuses() -> None:
        raise WampError("com.app.full", "no room")

    async def use(session: ClientSession) -> None:
        with pytest.raises(RemoteError, match="LookupError: no such card"):
            await session.call("board.fails")
        with pytest.raises(WampError, match="no room"):
            await session.call("board.refuses")

    try_out(app, use)
    err = capfd.readouterr().err
    assert 'component "board" could not finish procedure board.fails: LookupError' in err
    assert "test_bus.py" in err
    assert "no room" not in err


# -- time ------------------------------------------------------------------------------------------


def test_a_coroutine_past_its_timeout_is_cancelled_and_the_caller_told() -> None:
    app = Component("board")
    ended = []

    @app.procedure(timeout=0.02)
    async def slow() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            ended.append("cancelled")

    with pytest.raises(CallTimeout, match=r"board\.slow took longer than 0\.02 s"):
        try_out(app, lambda s: s.call("board.slow"))
    assert ended == ["cancelled"]


def test_a_plain_function_past_its_timeout_counts_as_hanging_until_it_ends() -> None:
    """Its caller is told in time; that its thread still hangs is the watchdog's business."""
    app = Component("board")
    go = threading.Event()

    @app.procedure(timeout=0.02)
    def stuck() -> None:
        assert go.wait(30)

    async def use(session: ClientSession) -> None:
        with pytest.raises(CallTimeout):
            await session.call("board.stuck")
        (call,) = RECORDER.calls
        assert call.in_thread
        assert RECORDER.overdue_since_ns(call.deadline_ns) == call.started_ns
        go.set()

    try_out(app, use)
    assert not RECORDER.calls


def test_a_callers_deadline_travels_through_the_component() -> None:
    """Whoever gives up after a second must not keep three components busy for a minute."""
    app = Component("board")
    seen: list[float | None] = []

    @app.procedure()
    async def outer() -> Any:
        return await app.call("board.inner")

    @app.procedure()
    def inner(*, details: Invocation) -> None:
        seen.append(details.timeout_s)

    try_out(app, lambda s: s.call("board.outer", timeout_s=20))

    assert seen[0] is not None
    assert 15 < seen[0] <= 20


def test_a_stop_lets_what_runs_finish_and_takes_nothing_new() -> None:
    """A planned restart is no reason for anybody to see an error."""
    app = Component("board")
    begun: list[asyncio.Event] = []

    @app.procedure()
    async def slow() -> str:
        begun[0].set()
        await asyncio.sleep(0.05)
        return "done"

    @app.on_stop
    def goodbye() -> None:
        app.publish("board.closed")

    async def test() -> None:
        begun.append(asyncio.Event())
        router = InMemoryRouter()
        closed: list[str] = []
        other = router.connect("trusted")
        await other.subscribe(lambda: closed.append("closed"), "board.closed", inline=True)
        async with asyncio.timeout(WITHIN_S), running(app, router=router):
            call = asyncio.ensure_future(other.call("board.slow"))
            await begun[0].wait()
        # The block was left while the call ran.
        assert await call == "done"
        assert closed == ["closed"]
        with pytest.raises(NoSuchProcedure):
            await other.call("board.slow")
        await other.leave()

    asyncio.run(test())


# -- topics ----------------------------------------------------------------------------------------


def test_events_are_checked_and_one_that_does_not_fit_is_logged_and_left_out(
    capfd: pytest.CaptureFixture[str],
) -> None:
    app = Component("audit")
    seen: list[tuple[str, Any]] = []
    arrived = asyncio.Event()

    @app.topic("board.", match="prefix")
    async def moved(move: Move, *, details: Event) -> None:
        seen.append((details.topic, move))
        arrived.set()

    async def use(session: ClientSession) -> None:
        for _ in range(12):
            session.publish("board.moved", {"card": "one", "to": "x"})
        session.publish("board.moved", {"card": 1, "to": "x"})
        await arrived.wait()

    try_out(app, use)
    assert seen == [("board.moved", {"card": 1, "to": "x"})]
    lines = [
        line for line in capfd.readouterr().err.splitlines() if "expected int, got str" in line
    ]
    assert len(lines) == 2  # the first and the tenth
    assert lines[1].endswith("times=10")


def test_two_components_meet_on_one_router_and_keep_their_names() -> None:
    """In memory the code of one runs in the call of the other: each is still itself."""
    shop, bank = Component("shop"), Component("bank")

    @bank.procedure()
    async def pay(n: int) -> str:
        return f"{bank.name} {n} {bank.settings['currency']}"

    @shop.procedure()
    async def buy() -> Any:
        return [await shop.call("bank.pay", 3), shop.name]

    async def test() -> Any:
        router = InMemoryRouter()
        async with (
            asyncio.timeout(WITHIN_S),
            running(bank, router=router, settings={"currency": "EUR"}),
            running(shop, router=router) as session,
        ):
            return await session.call("shop.buy")

    assert asyncio.run(test()) == ["bank 3 EUR", "shop"]


# -- the test harness itself -----------------------------------------------------------------------


def test_a_crash_of_the_component_ends_the_test_with_its_exception() -> None:
    app = Component("board")

    @app.task
    async def fails() -> None:
        raise LookupError("no table")

    with pytest.raises(LookupError, match="no table"):
        try_out(app, lambda _: asyncio.sleep(WITHIN_S))


def test_a_component_that_runs_nowhere_says_where_it_could() -> None:
    app = Component("board")

    with pytest.raises(RuntimeError, match=r"holdfast\.sdk\.testing\.running"):
        app.publish("board.moved")


# -- settings and metrics --------------------------------------------------------------------------


class Settings(msgspec.Struct):
    limit: Annotated[int, msgspec.Meta(ge=1)]
    name: str = "x"


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({}, "component.desk.settings.limit: is missing"),
        ({"limit": "3"}, "component.desk.settings.limit: expected int, got str"),
        ({"limit": 0}, "component.desk.settings.limit: expected int >= 1"),
        ({"limit": 1, "nam": "y"}, "component.desk.settings.nam: there is no such setting; known: limit, name"),
    ],
)  # fmt: skip
def test_settings_that_do_not_fit_name_their_key(given: dict[str, object], says: str) -> None:
    with pytest.raises(Mismatch) as caught:
        settings_of(given, Settings, "component.desk.settings")

    assert str(caught.value) == says


def test_typed_settings_are_objects() -> None:
    app = Component("desk", settings=Settings)

    @app.procedure()
    async def limit() -> int:
        found: Settings = app.settings
        return found.limit

    assert try_out(app, lambda s: s.call("desk.limit"), settings={"limit": 7}) == 7


def test_metrics_are_counted_and_a_name_too_many_is_refused() -> None:
    """A metric named after each user would eat the memory in a week."""
    app = Component("desk")
    app.count("orders")
    app.count("orders", 2)
    app.gauge("queue", 7)
    app.timing("query", 0.0003)
    with app.timing("query"):
        pass
    for i in range(600):
        app.count(f"user.{i}")

    read = app.bound.metrics.read()
    assert read["counts"]["orders"] == 3
    assert read["gauges"] == {"queue": 7}
    assert read["timings"]["query"]["count"] == 2
    assert sum(n for _, n in read["timings"]["query"]["up_to_s"]) == 2
    assert read["refused"] == 103
    assert len(read["counts"]) == 498


@pytest.mark.parametrize("wrong", [lambda app: app.procedure(print), lambda app: app.topic(print)])
def test_a_decorator_without_its_parentheses_is_found(wrong: Callable[[Any], Any]) -> None:
    with pytest.raises(TypeError, match="with parentheses"):
        wrong(Component())


def test_a_timer_that_the_bus_lets_down_is_told_and_runs_again(
    capfd: pytest.CaptureFixture[str],
) -> None:
    """The crash of one component must not be that of all who happened to call it."""
    app = Component("till")
    runs: list[int] = []
    enough = asyncio.Event()

    @app.every(0.001)
    async def look() -> None:
        runs.append(1)
        if len(runs) > 11:
            enough.set()
        await app.call("shop.nobody")

    try_out(app, lambda _: enough.wait(), timers=True)

    lines = [line for line in capfd.readouterr().out.splitlines() if "a run failed" in line]
    assert "wamp.error.no_such_procedure" in lines[0]
    assert [line.rpartition(" ")[2] for line in lines] == ["times=1", "times=10"]
