"""What has changed, told to every page that is open: one look for all of them, and server-sent events.

Nobody connected: no looks. A page begins with the whole state, then gets what is new; each piece is encoded once, for all. A page that does not read is dropped
before it costs memory; its browser comes back by itself and begins anew. Left out: who may connect (:mod:`holdfast.dashboard.access`).
"""

import asyncio
import time
from collections import deque

import msgspec

from holdfast.dashboard import state as states

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, MutableMapping
    from concurrent.futures import Executor
    from typing import Any

    Message = MutableMapping[str, Any]
    Receive = Callable[[], Awaitable[Message]]
    Send = Callable[[Message], Awaitable[None]]
    Scope = MutableMapping[str, Any]

#: Between two looks: as a rule, and while something is going on.
LOOK_S, HOT_S = 1.0, 0.25
#: What a look may take of a processor: the pause after it is so many times what it cost.
_PAUSES = 4.0
#: A comment goes out when nothing else did for so long: proxies end what is silent.
QUIET_S = 15.0
#: More than this for a page that does not read, and it is dropped.
MOST_BYTES = 8 << 20
#: Pages at a time.
MOST_PAGES = 64
_HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),  # nginx would keep events back until a buffer is full
]
_RETRY = b"retry: 1000\n\n"
_STILL = b": still here\n\n"

encode = msgspec.json.Encoder().encode


def event(name: str, data: bytes, number: "int | None" = None) -> bytes:
    """Return one server-sent event; JSON has no line ends of its own."""
    head = f"event: {name}\n".encode() + (f"id: {number}\n".encode() if number is not None else b"")
    return head + b"data: " + data + b"\n\n"


class Page:
    """One open page: what it has still to be sent."""

    __slots__ = ("_news", "bytes", "ended", "has_state", "waiting")

    def __init__(self) -> None:
        self.waiting: deque[bytes] = deque()
        self.bytes = 0
        self.has_state = False
        #: Nothing more comes: it did not read.
        self.ended = asyncio.Event()
        self._news = asyncio.Event()

    def put(self, data: bytes) -> None:
        """Send this after all before it."""
        if self.ended.is_set():
            return
        if self.bytes + len(data) > MOST_BYTES:
            self.waiting.clear()
            self.ended.set()
        else:
            self.waiting.append(data)
            self.bytes += len(data)
        self._news.set()

    async def next(self, within_s: float) -> bytes:
        """Return what is there; empty when nothing came in time."""
        if not self.waiting and not self.ended.is_set():
            self._news.clear()
            try:
                await asyncio.wait_for(self._news.wait(), within_s)
            except TimeoutError:
                return b""
        if not self.waiting:
            return b""
        self.bytes -= len(self.waiting[0])
        return self.waiting.popleft()


class Hub:
    """The one who looks, and all who want to know."""

    def __init__(self, view: states.View, looker: "Executor") -> None:
        """Be ready.

        Args:
            view: The node; used in one thread only.
            looker: That thread.
        """
        self._view = view
        self._looker = looker
        self._pages: set[Page] = set()
        self._wake = asyncio.Event()
        self._turn = asyncio.Lock()
        self._at_s = -1e9
        self._cost_s = 0.0
        self._encoded = b""
        #: The last state, with its ``seq``.
        self.state: "states.State" = {}
        self.seq = 0
        #: Orders that are under way.
        self.under_way = 0

    @property
    def pages(self) -> int:
        """How many are connected."""
        return len(self._pages)

    async def run(self) -> None:
        """Look as long as somebody wants to know; for ever."""
        while True:
            if not self._pages:
                self._wake.clear()
                await self._wake.wait()
            await self._look()
            self._wake.clear()
            is_hot = self.under_way or self.state["flags"] or self.state["now"]["broken"]
            pause_s = max(HOT_S if is_hot else LOOK_S, _PAUSES * self._cost_s)
            try:
                await asyncio.wait_for(self._wake.wait(), pause_s)
            except TimeoutError:
                continue

    def hurry(self) -> None:
        """Look at once: somebody has just done something."""
        self._wake.set()

    async def whole(self, no_older_s: float = LOOK_S) -> bytes:
        """Return the whole state as JSON."""
        if not self._is_fresh(no_older_s):
            await self._look(no_older_s)
        return self._whole()

    def _is_fresh(self, no_older_s: float) -> bool:
        return time.monotonic() - self._at_s < no_older_s

    def _whole(self) -> bytes:
        if not self._encoded:
            self._encoded = encode(self.state)
        return self._encoded

    async def _look(self, no_older_s: float = 0.0) -> None:
        async with self._turn:
            if self._is_fresh(no_older_s):
                return  # somebody looked while we waited for our turn
            began_s = time.monotonic()
            loop = asyncio.get_running_loop()
            before = self.state
            state, news, cost_s = await loop.run_in_executor(self._looker, self._blocking, before)
            self._at_s, self._cost_s = began_s, cost_s
            self._accept(state, news)

    def _blocking(self, before: "states.State") -> "tuple[states.State, dict[str, Any], float]":
        began_s = time.thread_time()
        state = self._view.look(is_urgent=bool(self.under_way))
        news = states.delta(before, state)
        return state, news, time.thread_time() - began_s

    def _accept(self, state: "states.State", news: "dict[str, Any]") -> None:
        if news:
            self.seq += 1
        self.state = {"seq": self.seq, **state}
        self._encoded = b""
        data = b""
        for page in self._pages:
            if not page.has_state:
                page.has_state = True
                page.put(event("state", self._whole(), self.seq))
            elif news:
                if not data:
                    told = {"seq": self.seq, "at_unix_s": state["at_unix_s"], **news}
                    data = event("delta", encode(told), self.seq)
                page.put(data)

    def tell(self, name: str, value: "Any") -> None:
        """Send an event of another kind to every page."""
        data = event(name, encode(value))
        for page in self._pages:
            page.put(data)

    def open(self) -> "Page | None":
        """Return a new page, to be fed; None when there are too many."""
        if len(self._pages) >= MOST_PAGES:
            return None
        page = Page()
        page.put(_RETRY)
        if self._is_fresh(LOOK_S):
            page.has_state = True
            page.put(event("state", self._whole(), self.seq))
        self._pages.add(page)
        self._wake.set()
        return page

    def close(self, page: Page) -> None:
        """Forget a page."""
        self._pages.discard(page)


class Stream:
    """The answer that a page is fed by: an ASGI application for one request.

    Args:
        page: What is to be sent.
        close: Called at the end, however it comes.
    """

    def __init__(self, page: Page, close: "Callable[[], None]") -> None:
        self._page = page
        self._close = close

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        """Feed it until one side ends it."""
        if scope.get("method") == "HEAD":
            self._close()
            await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
            await send({"type": "http.response.body", "body": b""})
            return
        loop = asyncio.get_running_loop()
        tasks = [
            loop.create_task(self._feed(send)),
            loop.create_task(_gone(receive)),
            loop.create_task(self._page.ended.wait()),
        ]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._close()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _feed(self, send: "Send") -> None:
        await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
        while not self._page.ended.is_set():
            # The door looks at each piece whether the session is still there.
            data = await self._page.next(QUIET_S)
            await send({"type": "http.response.body", "body": data or _STILL, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _gone(receive: "Receive") -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
