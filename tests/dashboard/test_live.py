"""What has changed, told to every open page; and a page that does not read costs nothing."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

pytest.importorskip("starlette", reason="needs holdfast[dashboard]")

from holdfast.dashboard import live
from holdfast.dashboard.live import Hub, Page, Stream
from node import SLOWNESS

PATIENCE_S = 20.0 * SLOWNESS


class Told:
    """In the place of a view: says what a test wants, and counts the looks."""

    def __init__(self) -> None:
        self.looks = 0
        self.urgent = False
        self.workers: dict[str, Any] = {"web": {"pid": 1}}
        self.flags: list[dict[str, Any]] = []

    def look(self, *, is_urgent: bool = False) -> dict[str, Any]:
        self.looks += 1
        self.urgent = is_urgent
        return {
            "at_unix_s": float(self.looks),
            "workers": dict(self.workers),
            "flags": list(self.flags),
            "now": {"broken": []},
        }


@pytest.fixture
def looker() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as made:
        yield made


def run(story: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(PATIENCE_S):
            await story()

    asyncio.run(bounded())


async def until(condition: Callable[[], bool]) -> None:
    """Wait; `run` has the deadline."""
    while not condition():  # noqa: ASYNC110 -- what is waited for is seen, not told
        await asyncio.sleep(0.005)


async def read(page: Page) -> tuple[str, Any]:
    """Return the next event of a page: its name and what it says."""
    while True:
        data = await page.next(PATIENCE_S)
        name, _, rest = data.decode().partition("\n")
        if name.startswith("event: "):
            return name.removeprefix("event: "), json.loads(rest.partition("data: ")[2])


def test_a_page_begins_with_the_whole_state_and_then_hears_what_is_new(
    looker: ThreadPoolExecutor,
) -> None:
    view = Told()

    async def story() -> None:
        hub = Hub(view, looker)  # type: ignore[arg-type]
        looking = asyncio.ensure_future(hub.run())
        page = hub.open()
        assert page is not None
        name, first = await read(page)
        assert (name, first["workers"]) == ("state", {"web": {"pid": 1}})

        view.workers = {"web": {"pid": 2}, "mail": {"pid": 3}}
        hub.hurry()
        name, then = await read(page)

        assert (name, then["workers"]) == ("delta", {"web": {"pid": 2}, "mail": {"pid": 3}})
        assert then["seq"] == first["seq"] + 1
        assert "flags" not in then
        looking.cancel()

    run(story)


def test_a_page_that_comes_later_is_not_told_what_it_already_has(
    looker: ThreadPoolExecutor,
) -> None:
    """The whole state of now and a delta from before it would undo each other."""
    view = Told()

    async def story() -> None:
        hub = Hub(view, looker)  # type: ignore[arg-type]
        looking = asyncio.ensure_future(hub.run())
        early = hub.open()
        assert early is not None
        await read(early)
        view.workers = {"web": {"pid": 2}}
        hub.hurry()
        await read(early)

        late = hub.open()
        assert late is not None
        name, first = await read(late)
        assert (name, first["workers"], first["seq"]) == ("state", {"web": {"pid": 2}}, hub.seq)
        view.workers = {"web": {"pid": 5}}
        hub.hurry()

        assert (await read(late))[1] == (await read(early))[1]
        looking.cancel()

    run(story)


def test_nobody_there_nobody_looks(
    looker: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A dashboard that nobody has open must cost a node nothing."""
    monkeypatch.setattr(live, "LOOK_S", 0.01)
    view = Told()

    async def story() -> None:
        hub = Hub(view, looker)  # type: ignore[arg-type]
        looking = asyncio.ensure_future(hub.run())
        page = hub.open()
        assert page is not None
        await until(lambda: view.looks >= 3)
        hub.close(page)
        hub.hurry()
        # It waits for a page, and not for a time, as soon as it has seen that there is none.
        await until(lambda: not hub._wake.is_set())
        async with hub._turn:
            before = view.looks
        await asyncio.sleep(20 * live.LOOK_S)

        assert view.looks == before
        looking.cancel()

    run(story)


def test_many_who_ask_at_once_are_answered_by_one_look(looker: ThreadPoolExecutor) -> None:
    view = Told()

    async def story() -> None:
        hub = Hub(view, looker)  # type: ignore[arg-type]

        answers = await asyncio.gather(*(hub.whole() for _ in range(20)))

        assert view.looks == 1
        assert len(set(answers)) == 1

    run(story)


def test_while_an_order_is_under_way_the_keeper_is_asked_each_time(
    looker: ThreadPoolExecutor,
) -> None:
    view = Told()

    async def story() -> None:
        hub = Hub(view, looker)  # type: ignore[arg-type]
        hub.under_way = 1
        await hub.whole()
        assert view.urgent

    run(story)


def test_a_page_that_does_not_read_is_dropped_before_it_costs_memory(
    looker: ThreadPoolExecutor,
) -> None:
    async def story() -> None:
        hub = Hub(Told(), looker)  # type: ignore[arg-type]
        page, reader = hub.open(), hub.open()
        assert page is not None
        assert reader is not None
        piece = "x" * (live.MOST_BYTES // 8)
        for _ in range(9):
            hub.tell("order", piece)
            while reader.waiting:
                await reader.next(1.0)

        assert page.ended.is_set()
        assert page.bytes <= live.MOST_BYTES
        assert not page.waiting
        assert not reader.ended.is_set()

    run(story)


def test_there_is_a_bound_on_open_pages(looker: ThreadPoolExecutor) -> None:
    async def story() -> None:
        hub = Hub(Told(), looker)  # type: ignore[arg-type]
        pages = [hub.open() for _ in range(live.MOST_PAGES)]
        assert all(pages)
        assert hub.open() is None
        assert pages[0] is not None
        hub.close(pages[0])
        assert hub.open() is not None

    run(story)


class Wire:
    """The server's side of one connection."""

    def __init__(self, *, is_stuck: bool = False) -> None:
        self.sent: list[dict[str, Any]] = []
        self.gone = asyncio.Event()
        self._is_stuck = is_stuck

    async def receive(self) -> dict[str, Any]:
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        self.sent.append(message)
        if self._is_stuck and message["type"] == "http.response.body":
            await asyncio.Event().wait()  # its buffer is full, and nobody empties it


def test_a_stream_ends_when_its_page_is_gone_and_is_forgotten() -> None:
    async def story() -> None:
        page, wire, closed = Page(), Wire(), []
        page.put(b"event: x\n\n")
        task = asyncio.ensure_future(
            Stream(page, lambda: closed.append(1))({}, wire.receive, wire.send)
        )
        await until(lambda: len(wire.sent) >= 2)
        wire.gone.set()
        await task

        assert closed == [1]
        heads = dict(wire.sent[0]["headers"])
        assert heads[b"content-type"].startswith(b"text/event-stream")
        assert heads[b"cache-control"] == b"no-store"
        assert wire.sent[1]["body"] == b"event: x\n\n"

    run(story)


def test_a_stream_that_is_stuck_in_a_full_buffer_ends_when_its_page_is_dropped() -> None:
    """The kernel's buffer is full, so nothing that is sent ever returns: only from outside can it be ended."""

    async def story() -> None:
        page, wire, closed = Page(), Wire(is_stuck=True), []
        page.put(b"event: x\n\n")
        task = asyncio.ensure_future(
            Stream(page, lambda: closed.append(1))({}, wire.receive, wire.send)
        )
        await until(lambda: len(wire.sent) >= 2)
        page.put(b"y" * (live.MOST_BYTES + 1))
        await task

        assert closed == [1]

    run(story)


def test_silence_is_broken_by_a_comment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Proxies end a connection on which nothing comes."""
    monkeypatch.setattr(live, "QUIET_S", 0.01)

    async def story() -> None:
        page, wire = Page(), Wire()
        task = asyncio.ensure_future(Stream(page, lambda: None)({}, wire.receive, wire.send))
        await until(lambda: len(wire.sent) >= 3)
        wire.gone.set()
        await task

        assert {one["body"] for one in wire.sent[1:3]} == {b": still here\n\n"}

    run(story)
