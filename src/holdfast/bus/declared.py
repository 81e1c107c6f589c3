"""What was offered or subscribed to, and with which options?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from holdfast.bus.handlers import INLINE, Handler

if TYPE_CHECKING:
    Match = Literal["exact", "prefix", "wildcard"]
    Invoke = Literal["single", "first", "last", "random", "roundrobin", "all"]


class _Declared:
    """What both have."""

    __slots__ = ("handler", "id", "options", "owner", "uri")

    def __init__(self, owner: Any, uri: str, handler: Handler, options: dict[str, Any]) -> None:
        self.owner = owner
        self.uri = uri
        self.handler = handler
        self.options = options
        self.id: int | None = None

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.uri!r} id={self.id}>"


class Registration(_Declared):
    """A procedure that is offered here; `id` is None while it is not registered at a router."""

    __slots__ = ()

    async def unregister(self) -> None:
        """Do not offer it any more."""
        await self.owner.unregister(self)


class Subscription(_Declared):
    """A handler of events; `id` is None while it is not subscribed at a router."""

    __slots__ = ()

    async def unsubscribe(self) -> None:
        """Get no more events."""
        await self.owner.unsubscribe(self)


def register_options(
    handler: Handler,
    match: str,
    invoke: str,
    concurrency: int | None,
    options: dict[str, Any] | None,
) -> dict[str, Any]:
    """Return REGISTER.Options; what is the default is left out."""
    made: dict[str, Any] = {} if match == "exact" else {"match": match}
    if invoke != "single":
        made["invoke"] = invoke
    if concurrency is not None:
        made["concurrency"] = concurrency
    if handler.kind != INLINE:
        # The router tells us the caller's timeout, so that it travels on with the calls that the procedure makes.
        made["forward_timeout"] = True
    if options:
        made.update(options)
    return made


def subscribe_options(
    match: str, get_retained: bool, options: dict[str, Any] | None
) -> dict[str, Any]:
    """Return SUBSCRIBE.Options; what is the default is left out."""
    made: dict[str, Any] = {} if match == "exact" else {"match": match}
    if get_retained:
        made["get_retained"] = True
    if options:
        made.update(options)
    return made
