"""What was asked of the router, and who waits for the answer?

The part of a session that all roles share: request ids, one future for each question, encoding and sending. The way of a message
out is hot: one encoding, nothing copied. What the answers mean is each role's: :mod:`caller`, :mod:`callee`, :mod:`subscriber`.
"""

from __future__ import annotations

import asyncio
from threading import get_ident
from typing import TYPE_CHECKING, Any, Protocol

from holdfast.bus.coding import encoder
from holdfast.bus.errors import (
    BusError,
    ConnectionLost,
    InvalidPayload,
    PayloadTooLarge,
    from_wire,
)
from holdfast.wire.wamp import EncodeError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from holdfast.bus.declared import Registration, Subscription
    from holdfast.wire.wamp.codec import Codec

    Message = list[Any]
    #: Runs a plain function somewhere else and gives its result.
    RunSync = Callable[[Callable[[], Any]], Awaitable[Any]]
    #: Is told about an exception of a handler: what it was doing, the exception.
    OnProblem = Callable[[str, BaseException], None]

NO_OPTIONS: dict[str, Any] = {}


class Link(Protocol):
    """A connection that messages go through, one by one and in order."""

    codec: Codec
    #: The other side takes no larger messages (bytes); settled by the handshake.
    limit: int
    #: Gets each message that comes.
    receive: Callable[[bytes], None]
    #: Called once, with the reason, when the link is gone.
    lost: Callable[[str], None]

    def send(self, message: bytes) -> None:
        """Queue a message; all of one turn of the loop are written together."""

    def close(self) -> None:
        """Write what is queued and end."""

    def abort(self, reason: str) -> None:
        """End at once."""

    async def drain(self) -> None:
        """Wait until what is queued has been taken by the system."""


class Asking:
    """What every role needs; :class:`holdfast.bus.session.ClientSession` is all of them."""

    def __init__(
        self, link: Link, run_sync: RunSync | None = None, on_problem: OnProblem | None = None
    ) -> None:
        self.loop = asyncio.get_running_loop()
        #: The thread of the loop.
        self.thread = get_ident()
        #: Why it ended; None while it is open.
        self.ended: str | None = None
        self._link = link
        self._limit = link.limit
        self._send = link.send
        self._encode = link.codec.encode
        self._say = encoder(link.codec)
        self._run_sync = run_sync
        self._on_problem = on_problem or log_problem
        self._request = 0
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._declaring: dict[int, Registration | Subscription] = {}

    def _emit(
        self, head: list[Any], args: tuple[Any, ...] | list[Any], kwargs: dict[str, Any] | None
    ) -> None:
        if self.ended is not None:
            raise ConnectionLost(self.ended)
        try:
            data = self._say(head, args, kwargs)
        except (EncodeError, TypeError, ValueError, OverflowError) as error:
            says = f"{head[-1]}: {error}" if isinstance(head[-1], str) else str(error)
            raise InvalidPayload(says) from error
        if len(data) > self._limit:
            raise PayloadTooLarge(f"{len(data)} bytes, and the other side takes {self._limit}")
        self._send(data)

    def _check_open(self) -> None:
        if self.ended is not None:
            raise ConnectionLost(self.ended)

    def _acknowledged(self, request: int, doing: str) -> Awaitable[Any]:
        future = self._waiting[request] = self.loop.create_future()
        return named(future, doing)

    def _on_acknowledged(self, message: Message) -> None:
        future = self._waiting.pop(message[1], None)
        if future is not None and not future.done():
            future.set_result(message[2])

    def _on_error(self, message: Message) -> None:
        request = message[2]
        future = self._waiting.pop(request, None)
        self._declaring.pop(request, None)
        if future is not None and not future.done():
            args, kwargs = payload(message, 5)
            future.set_exception(from_wire(message[4], args, kwargs))


def payload(message: Message, at: int) -> tuple[list[Any], dict[str, Any]]:
    """Return the arguments of a message, which begin at this element where there are any."""
    n = len(message)
    return (message[at] if n > at else []), (message[at + 1] if n > at + 1 else {})


def name(error: BaseException, doing: str) -> None:
    """Let an error say what was tried."""
    if isinstance(error, BusError) and not error.doing:
        error.doing = doing


async def named(future: asyncio.Future[Any], doing: str) -> Any:
    """Wait; errors say what was tried."""
    try:
        return await future
    except BusError as error:
        name(error, doing)
        raise


def log_problem(doing: str, error: BaseException) -> None:
    """Tell the log of an exception that nobody else gets."""
    import logging

    logging.getLogger("holdfast.bus").error("%s: %r", doing, error, exc_info=error)
