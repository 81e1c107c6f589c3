"""What does one process of the dashboard have: the node it shows, who looks, and the threads that may block?

Leaves out what is done with it (:mod:`holdfast.dashboard.api`) and HTTP (:mod:`holdfast.dashboard.web`).
"""

import asyncio
from concurrent.futures import ThreadPoolExecutor

from holdfast.cli import place
from holdfast.dashboard.access.audit import Audit
from holdfast.dashboard.api.orders import Orders
from holdfast.dashboard.flows import Flows
from holdfast.dashboard.live import Hub
from holdfast.dashboard.state import View

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeVar

    T = TypeVar("T")

#: Requests that block at the same time; the others wait for their turn.
_THREADS = 4


class Site:
    """One node, shown; to be made on the running loop."""

    def __init__(self, where: place.Place) -> None:
        self.where = where
        self.view = View(where)
        self.audit = Audit(where.state_dir)
        self._looker = ThreadPoolExecutor(1, "look")
        self._threads = ThreadPoolExecutor(_THREADS, "ask")
        self.hub = Hub(self.view, self._looker)
        self.followers = 0  #: pages that follow a log
        self.orders = Orders()
        self.flows = Flows()
        self._hands = ThreadPoolExecutor(_THREADS, "order")
        self.loop = asyncio.get_running_loop()

    async def run(self, function: "Callable[..., T]", *args: "Any") -> "T":
        """Call a function that may block, in a thread."""
        return await self.loop.run_in_executor(self._threads, function, *args)

    def tell(self, name: str, value: "Any") -> None:
        """Send an event to every page; from any thread."""
        self.loop.call_soon_threadsafe(self.hub.tell, name, value)

    def hurry(self) -> None:
        """Look at once; from any thread."""
        self.loop.call_soon_threadsafe(self.hub.hurry)

    def busy(self, change: int) -> None:
        """Count an order that begins (1) or ends (-1); from any thread. While there is one, looks are more frequent."""
        self.loop.call_soon_threadsafe(self._busy, change)

    def _busy(self, change: int) -> None:
        self.hub.under_way += change
        self.hub.hurry()

    def carry_out(self, function: "Callable[..., None]", *args: "Any") -> None:
        """Call a function that takes long, in a thread."""
        self._hands.submit(function, *args)
