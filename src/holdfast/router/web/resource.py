"""What can stand behind a path of kind `resource`?

Crossbar.io puts a Twisted Web resource there. Here it is an ASGI application (a component may have one), a WSGI application, or a function
of the request; told apart by what it takes. A class is called with `extra` first, as in Crossbar.io. A Twisted resource
is refused by name: it needs Twisted's server.
"""

import inspect
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import parse_qsl

import msgspec

from holdfast.router.web.failures import SiteError
from holdfast.router.web.loading import find
from holdfast.router.web.pages import JSON, NOSNIFF
from holdfast.router.web.threads import spool

if TYPE_CHECKING:
    from holdfast.router.web.request import Request, Service
    from holdfast.router.web.site import Site

_ASGI, _WSGI, _PLAIN = 3, 2, 1


def make_resource(options: dict[str, Any], site: "Site") -> "Service":
    """The service that the options name.

    Raises:
        SiteError: It cannot be had, or is nothing that can be served.
    """
    name = str(options.get("classname") or "")
    module, _, attribute = name.partition(":") if ":" in name else name.rpartition(".")
    if not module or not attribute:
        raise SiteError("classname has to be package.module:name (or package.module.Name)")
    found = find(module, attribute)
    if inspect.isclass(found):
        _refuse_twisted(found, name)
        try:
            made: Any = found
            found = made(options.get("extra") or {})
        except Exception as error:
            raise SiteError(f"{name}(extra) failed ({type(error).__name__}: {error})") from error
    _refuse_twisted(found, name)
    takes = _takes(found)
    if takes == _ASGI:
        from holdfast.router.web.asgi import Asgi

        return Asgi(found, site, on_loop=bool(options.get("on_loop", False)))
    if takes == _WSGI:
        from holdfast.router.web.wsgi import Wsgi

        return Wsgi(found, options, site)
    if takes == _PLAIN:
        return Plain(found, options, site)
    raise SiteError(
        f"{name} is nothing that can be served: it has to be an ASGI application (scope, receive, send), a WSGI "
        "application (environ, start_response), or a function of one argument, the request"
    )


class Asked(NamedTuple):
    """What a plain function gets."""

    method: str
    path: str  #: below the path of the service; "" or "/…"
    query: dict[str, str]
    headers: dict[str, str]  #: names in small letters
    body: bytes
    peer: str


class Plain:
    """A function of an `Asked` that returns text (HTML), bytes, JSON-able data, or (status, headers, body)."""

    def __init__(self, function: Any, options: dict[str, Any], site: "Site") -> None:
        self._function = function
        self._site = site
        self._pool = ThreadPoolExecutor(int(options.get("maxthreads") or 20), "web-resource")

    async def serve(self, request: "Request") -> None:
        """Answer it."""
        import asyncio

        body, _ = await spool(request, self._site.body_limit)
        with body:
            data = body.read()
        head = request.head
        asked = Asked(
            head.method, request.rest, dict(reversed(parse_qsl(head.query, keep_blank_values=True))),
            {k.decode("latin-1"): v.decode("latin-1") for k, v in reversed(head.headers)}, data, request.peer[0],
        )  # fmt: skip
        if inspect.iscoroutinefunction(self._function):
            # Awaited where the router runs: whoever writes a coroutine has promised not to block.
            answer = await self._function(asked)
        else:
            loop = asyncio.get_running_loop()
            answer = await loop.run_in_executor(self._pool, self._function, asked)
        status, headers = 200, []
        if isinstance(answer, tuple):
            status, given, answer = answer
            headers = [*(given.items() if isinstance(given, dict) else given)]
        if isinstance(answer, str):
            default, content = ("Content-Type", "text/html; charset=utf-8"), answer.encode()
        elif isinstance(answer, bytes | bytearray):
            default, content = ("Content-Type", "application/octet-stream"), bytes(answer)
        else:
            default, content = JSON, msgspec.json.encode(answer)
        if not any(name.lower() == "content-type" for name, _ in headers):
            headers += [default, NOSNIFF]
        request.respond(status, headers, content)


def _refuse_twisted(found: Any, name: str) -> None:
    if hasattr(found, "putChild") and hasattr(found, "render"):
        raise SiteError(
            f"{name} is a Twisted Web resource, which only Twisted's own server can run; "
            "name an ASGI or WSGI application instead, or serve it from a guest worker on a port of its own"
        )


def _takes(found: Any) -> int:
    """How many arguments it wants, the receiver of a method not counted; 0 when nobody can tell."""
    if not callable(found):
        return 0
    try:
        parameters = inspect.signature(found).parameters.values()
    except (TypeError, ValueError):
        return 0
    wanted = [
        p for p in parameters
        if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) and p.default is p.empty
    ]  # fmt: skip
    if len(wanted) == _ASGI:
        call = found if inspect.isfunction(found) or inspect.ismethod(found) else found.__call__
        return _ASGI if inspect.iscoroutinefunction(call) else 0
    return len(wanted) if len(wanted) in (_WSGI, _PLAIN) else 0
