"""How long does a connection get for the head of its request?

uvicorn waits for ever for one that has begun: a stranger who opens as many connections as there may be, and says nothing, would keep everybody else out. Bodies are
bounded at the door (:mod:`holdfast.dashboard.access.guard`), answers that nobody takes by the kernel (:mod:`holdfast.dashboard.serving`).
"""

from uvicorn.protocols.http.h11_impl import H11Protocol

TYPE_CHECKING = False
if TYPE_CHECKING:
    import asyncio
    from typing import Any

HEAD_S = 10.0


class Impatient(H11Protocol):
    """Ends a connection on which no whole head comes in time; between two requests uvicorn's own patience ends sooner."""

    _head_timer: "asyncio.TimerHandle | None" = None

    def connection_made(self, transport: "asyncio.Transport") -> None:  # type: ignore[override]
        """Begin to wait."""
        super().connection_made(transport)
        self._mind()

    def data_received(self, data: bytes) -> None:
        """Go on waiting, or no more."""
        super().data_received(data)
        self._mind()

    def connection_lost(self, exc: "Exception | None") -> None:
        """Wait no more."""
        super().connection_lost(exc)
        self._forget()

    def _mind(self) -> None:
        if not self._is_waiting():
            self._forget()
        elif self._head_timer is None and not self.transport.is_closing():
            self._head_timer = self.loop.call_later(HEAD_S, self._give_up)

    def _forget(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _give_up(self) -> None:
        self._head_timer = None
        if self._is_waiting():
            self.transport.abort()

    def _is_waiting(self) -> bool:
        cycle: Any = self.cycle  # None before the first request, whatever its annotation says
        return cycle is None or bool(cycle.response_complete)
