"""Which path is answered by what? The page and its files, and the modules of :mod:`holdfast.dashboard.api`.

The page is the same for every path that is not a file: it routes itself. Left out: which file that is (:mod:`holdfast.dashboard.page`), who may ask
(:mod:`holdfast.dashboard.access`, which every request has passed), the answers.
"""

from asyncio import to_thread
from inspect import iscoroutinefunction

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from holdfast.dashboard.access.entering import Entrance
from holdfast.dashboard.api import ROUTES
from holdfast.dashboard.asking import Accepted, Ask, Plain, Refused, refused
from holdfast.dashboard.live import Stream, encode
from holdfast.dashboard.page import PageFiles
from holdfast.dashboard.site import Site
from holdfast.model.errors import HoldfastError
from holdfast.wire.jsonlite import loads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from starlette.types import Receive, Scope, Send

    from holdfast.dashboard.access.rules import Rules

_PAGE = PageFiles()


def application(site: Site, rules: "Rules") -> Starlette:
    """Return everything behind the door."""
    entrance = Entrance(rules, site.where.state_dir, site.audit)
    routes = [
        *entrance.routes(),
        Route("/api/state", _state(site), methods=["GET"]),
        Route("/api/live", _live(site), methods=["GET"]),
    ]
    for method, path, function in ROUTES:
        routes.append(Route(path, _answered(site, function), methods=[method]))
    routes += [
        Route("/api/{rest:path}", _nothing, methods=["GET", "POST"]),
        Route("/livez", _alive, methods=["GET"]),
        Route("/{path:path}", _file, methods=["GET"]),
    ]
    return Starlette(routes=routes, exception_handlers={Exception: _broke})


def _state(site: Site) -> "Callable[[Request], Any]":
    async def state(request: Request) -> Response:
        del request
        return Response(await site.hub.whole(), media_type="application/json")

    return state


def _live(site: Site) -> "Callable[[Request], Any]":
    async def live(request: Request) -> "Response | _Streamed":
        del request
        page = site.hub.open()
        if page is None:
            busy = Refused(503, "too many pages are open", "close one of them")
            return JSONResponse(busy.to_json(), 503, {"retry-after": "5"})
        return _Streamed(Stream(page, lambda: site.hub.close(page)))

    return live


class _Streamed(Response):
    """A response that is an application of its own."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        await self._stream(scope, receive, send)


def _answered(site: Site, function: "Callable[[Site, Ask], Any]") -> "Callable[[Request], Any]":
    async def endpoint(request: Request) -> Response:
        try:
            ask = await _ask(request)
            if not site.hub.state:
                await site.hub.whole()  # nobody has looked in this life
            if iscoroutinefunction(function):
                found = await function(site, ask)
            else:
                found = await site.run(function, site, ask)
        except Refused as error:
            return JSONResponse(error.to_json(), error.status)
        except HoldfastError as error:
            told = refused(error)
            return JSONResponse(told.to_json(), told.status)
        except OSError as error:
            # A full disk, a directory of somebody else: the node's trouble, to be read like all of it.
            where = f"{error.filename}: " if error.filename else ""
            told = Refused(503, f"{where}{error.strerror or error}")
            return JSONResponse(told.to_json(), told.status)
        if isinstance(found, Accepted):
            site.hub.hurry()
            return Response(encode(found.body), 202, media_type="application/json")
        if isinstance(found, Stream):
            return _Streamed(found)
        if isinstance(found, Plain):
            headers = dict(found.headers)
            if isinstance(found.body, bytes):
                return Response(found.body, headers=headers, media_type=found.kind)
            return StreamingResponse(found.body, headers=headers, media_type=found.kind)
        return Response(encode(found), media_type="application/json")

    return endpoint


async def _ask(request: Request) -> Ask:
    body: Any = {}
    if request.method == "POST":
        try:
            body = loads((await request.body()).decode())
        except ValueError:
            body = None
        if type(body) is not dict:
            raise Refused(400, "the body has to be one JSON object")
    return Ask(request.path_params, request.query_params, body, request.scope["holdfast.who"])


async def _nothing(request: Request) -> Response:
    told = Refused(404, f"there is nothing at {request.url.path[:200]}")
    return JSONResponse(told.to_json(), 404)


async def _broke(request: Request, error: Exception) -> Response:
    """Answer where we made a mistake; the traceback is in the log of this worker."""
    del request
    told = Refused(
        500,
        f"this is a mistake of the dashboard: {type(error).__name__}",
        "holdfast logs dashboard",
    )
    return JSONResponse(told.to_json(), told.status)


async def _alive(request: Request) -> Response:
    del request
    return Response(b"ok\n", media_type="text/plain")


# -- files -----------------------------------------------------------------------------------------


async def _file(request: Request) -> Response:
    """Answer with a file of the page; with the page itself for every other path that a person may have before them."""
    heads = request.headers
    takes_gzip = "gzip" in heads.get("accept-encoding", "")
    found = await to_thread(_PAGE.get, request.url.path, heads.get("if-none-match"), takes_gzip=takes_gzip)  # fmt: skip
    return Response(found.data, found.status, found.headers, found.kind)
