"""Which service answers a path of a port, and what do the services know of the node?

The longest path of the configuration that the request's path begins with wins ("/", "ws", "api/call"), as in Crossbar.io.
A service that cannot be made (a module that does not import) answers 503 and says so once in the log: one wrong path
must not keep the router from routing.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Protocol

from holdfast.router.web.failures import SiteError, WampFailure
from holdfast.router.web.head import Refused, RequestHead
from holdfast.sdk.logline import Log

if TYPE_CHECKING:
    from holdfast.model.bus import PathPlan, WebSocketPlan
    from holdfast.router.web.request import Request, Service

    OnWebSocket = Callable[[asyncio.Transport, RequestHead, WebSocketPlan, bytes], asyncio.Protocol]


__all__ = ["Bridge", "Site", "SiteError", "WampFailure"]


class Bridge(Protocol):
    """The realms, for the services that publish and call. The sessions are those of `role` (authmethod "http")."""

    def call(
        self,
        realm: str,
        role: str,
        procedure: str,
        args: list[Any],
        kwargs: dict[str, Any],
        options: dict[str, Any],
    ) -> Awaitable[tuple[list[Any], dict[str, Any]]]:
        """Call, and return args and kwargs of the result; cancelling the waiting task cancels the call.

        `options` are those of CALL (`timeout` in ms, `disclose_me`).

        Raises:
            WampFailure: The callee or the router said ERROR.
        """

    def publish(
        self,
        realm: str,
        role: str,
        topic: str,
        args: list[Any],
        kwargs: dict[str, Any],
        options: dict[str, Any],
    ) -> Awaitable[int]:
        """Publish, and return the id of the publication. `options` are those of PUBLISH.

        Raises:
            WampFailure: The router said ERROR.
        """


def _no_facts() -> dict[str, Any]:
    return {}


def _always_ready() -> str | None:
    return None


class Site:
    """What is served on one port.

    Args:
        paths: By path: "/" and names without slashes at the ends.
        websocket: WAMP over WebSocket at every path that `paths` does not have.
        on_websocket: Takes a connection over: `(transport, head, plan, leftover) -> protocol`. May raise `Refused`.
        bridge: The realms.
        facts: For the page of kind nodeinfo: names and values, plain data.
        unready: What keeps this router from serving, None when nothing does (`/readyz`).
        set_cookie: The Set-Cookie value for a request that brings none, or None.
        head_s: A request's head comes within this time, a body with no pause of `body_s`; a client that reads nothing for
            `write_s` is cut off; a kept connection is closed after `idle_s`.
        body_limit: Bytes of a body that a service holds in memory.
        spool_limit: Bytes of a body for an application that reads it from a file.
        clock: Monotonic seconds, the same as those given to `sweep`.
    """

    def __init__(
        self,
        paths: "dict[str, PathPlan]",
        websocket: "WebSocketPlan | None" = None,
        *,
        on_websocket: "OnWebSocket | None" = None,
        bridge: Bridge | None = None,
        facts: Callable[[], dict[str, Any]] = _no_facts,
        unready: Callable[[], str | None] = _always_ready,
        set_cookie: Callable[[RequestHead], str | None] | None = None,
        head_s: float = 10.0,
        body_s: float = 30.0,
        write_s: float = 60.0,
        idle_s: float = 75.0,
        body_limit: int = 16 << 20,
        spool_limit: int = 1 << 30,
        clock: Callable[[], float] = time.monotonic,
        unix_clock: Callable[[], float] = time.time,
        log: Log | None = None,
    ) -> None:
        self.websocket = websocket
        self.on_websocket = on_websocket
        self.bridge = bridge
        self.facts = facts
        self.unready = unready
        self.set_cookie = set_cookie
        self.head_s, self.body_s, self.write_s, self.idle_s = head_s, body_s, write_s, idle_s
        self.body_limit, self.spool_limit = body_limit, spool_limit
        self.clock, self.unix_clock = clock, unix_clock
        self.log = log or Log("web")
        #: Why services are not there, a sentence each.
        self.problems: list[str] = []
        self._plans = {path.strip("/"): plan for path, plan in paths.items()}
        self._depth = max((path.count("/") + 1 for path in self._plans if path), default=0)
        self._services = {path: self._make(path, plan) for path, plan in self._plans.items()}

    def kind_at(self, path: str) -> str:
        """The kind of the service that answers a path; "" where none does."""
        found = self._match(path)
        return self._plans[found]["kind"] if found is not None else ""

    def find(self, request: "Request") -> "Service":
        """The service of a request, whose `mount` and `rest` are set.

        Raises:
            Refused: There is none.
        """
        path = request.head.path
        if path == "*":
            raise Refused(404, "OPTIONS is understood at the address of a service, not for *.")
        found = self._match(path)
        if found is None:
            if self.websocket is not None and self.on_websocket is not None:
                raise _only_websocket()
            raise Refused(404, "There is nothing at this address.")
        service = self._services[found]
        if service is None:
            raise _only_websocket()
        if found:
            request.mount = "/" + found
            request.rest = path[len(found) + 1 :]
        return service

    def websocket_for(self, head: RequestHead) -> "WebSocketPlan | None":
        """The WebSocket service for an upgrade; None: the service at that path answers it as a plain request."""
        if self.on_websocket is None:
            return None
        found = self._match(head.path)
        if found is not None and self._plans[found]["kind"] == "websocket":
            return self._plans[found]["websocket"]
        if found:
            return None
        return self.websocket

    def _match(self, path: str) -> str | None:
        if self._depth:
            # At most as many parts as the deepest path of the configuration has.
            parts = path[1:].split("/", self._depth)[: self._depth]
            while parts:
                name = "/".join(parts)
                if name in self._plans and name:
                    return name
                parts.pop()
        return "" if "" in self._plans else None

    def _make(self, path: str, plan: "PathPlan") -> "Service | None":
        from holdfast.router.web.services import make

        if plan["kind"] == "websocket":
            return None
        try:
            return make(plan["kind"], plan["options"], self)
        except (SiteError, OSError) as error:
            says = f"The {plan['kind']} service at /{path} is not there: {error}"
            self.problems.append(says)
            self.log.error("web service not started", path=f"/{path}", why=str(error))
            return _Missing()


class _Missing:
    """A service that could not be made."""

    async def serve(self, request: "Request") -> None:
        """Answer it."""
        request.say(
            503, "What is served here could not be started; the log of the router says why."
        )


def _only_websocket() -> Refused:
    return Refused(
        426,
        "This address speaks WAMP over WebSocket; open it with a WAMP client.",
        (("Upgrade", "websocket"), ("Connection", "Upgrade")),
    )
