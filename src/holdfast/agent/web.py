"""Requests of the web servers and frameworks that people use are counted by themselves: how many, how long, on which route.

Each is told of where it takes the application in, when its module is imported; nothing is imported here. Where there are many, most pass
the short way, without a clock: about a third of a microsecond (bench/agent.py). It is written out in each of them, because a function
of its own would cost as much again. A WSGI answer counts until the application returns, not until its last byte is sent.
"""

import sys
from _operator import attrgetter

from holdfast.agent.imports import after_import
from holdfast.agent.routes import TABLE, Route, Timed, name_of, took_beats

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    Application = Callable[..., Any]

#: Paths whose route is remembered; beyond it, all are forgotten and found again.
_MOST_PATHS = 1024


def install() -> None:
    """Wait for the servers."""
    for name, then in (
        ("uvicorn.config", _uvicorn),
        ("hypercorn.app_wrappers", _hypercorn),
        ("aiohttp.web_app", _aiohttp),
        ("tornado.web", _tornado),
        ("wsgiref.simple_server", _wsgiref),
        ("werkzeug.serving", _werkzeug),
        ("waitress.server", _waitress),
        ("gunicorn.app.base", _gunicorn),
        ("cheroot.wsgi", _cheroot),
    ):
        after_import(name, then)


# -- applications ------------------------------------------------------------------------------------


class Asgi:
    """An ASGI application that is counted; everything else is the application's own."""

    def __init__(self, app: "Application") -> None:
        self.holdfast_app = app
        self._paths: dict[tuple[str, str], Route] = {}
        self._known = self._route_of  # bound once, not by each request

    def __getattr__(self, name: str) -> "Any":
        return getattr(self.holdfast_app, name)

    async def __call__(self, scope: "Any", receive: "Any", send: "Any") -> "Any":
        """Serve one scope."""
        if scope["type"] != "http":
            return await self.holdfast_app(scope, receive, send)
        table, number = TABLE, id(scope)
        began_ns = table.beat_ns
        table.open[number] = (began_ns, self._known, scope)
        if table.until_timed > 1:
            table.until_timed -= 1
            try:
                return await self.holdfast_app(scope, receive, send)
            finally:
                table.open.pop(number, None)
                route = self._paths.get((scope["method"], scope["path"])) or self._found(scope)
                if began_ns < table.beat_before_ns:
                    took_beats(route, table.beat_ns - began_ns)
                route.count += 1
        timed = Timed()
        try:
            return await timed.runs(self.holdfast_app(scope, receive, send))
        finally:
            table.open.pop(number, None)
            timed.ends(self._paths.get((scope["method"], scope["path"])) or self._found(scope))

    def _name(self, scope: "Any") -> str:
        # FastAPI and others leave the route that matched; it knows its pattern.
        pattern = getattr(scope.get("route"), "path", None)
        method, path = scope["method"], scope["path"]
        return f"{method} {pattern}" if isinstance(pattern, str) else name_of(method, path)

    def _route_of(self, scope: "Any") -> "Route | None":
        found = self._paths.get((scope["method"], scope["path"]))
        return found or TABLE.known(self._name(scope))

    def _found(self, scope: "Any") -> Route:
        method, path = scope["method"], scope["path"]
        name = self._name(scope)
        if len(self._paths) >= _MOST_PATHS:
            self._paths.clear()
        route = self._paths[method, path] = TABLE.route(name, is_web=True)
        return route


class Wsgi:
    """A WSGI application that is counted."""

    def __init__(self, app: "Application") -> None:
        self.holdfast_app = app
        self._paths: dict[tuple[str, str], Route] = {}
        self._known = self._route_of  # bound once, not by each request

    def __getattr__(self, name: str) -> "Any":
        return getattr(self.holdfast_app, name)

    def __call__(self, environ: "Any", start_response: "Any") -> "Any":
        """Serve one request."""
        table, number = TABLE, id(environ)
        began_ns = table.beat_ns
        table.open[number] = (began_ns, self._known, environ)
        if table.until_timed > 1:
            table.until_timed -= 1
            try:
                return self.holdfast_app(environ, start_response)
            finally:
                table.open.pop(number, None)
                route = self._route(environ)
                if began_ns < table.beat_before_ns:
                    took_beats(route, table.beat_ns - began_ns)
                route.count += 1
        timed = Timed()
        try:
            return timed.calls(self.holdfast_app, environ, start_response)
        finally:
            table.open.pop(number, None)
            timed.ends(self._route(environ))

    def _route_of(self, environ: "Any") -> "Route | None":
        key = (environ.get("REQUEST_METHOD", "?"), environ.get("PATH_INFO", "?"))
        return self._paths.get(key) or TABLE.known(name_of(*key))

    def _route(self, environ: "Any") -> Route:
        key = (environ.get("REQUEST_METHOD", "?"), environ.get("PATH_INFO", "?"))
        route = self._paths.get(key)
        if route is None:
            if len(self._paths) >= _MOST_PATHS:
                self._paths.clear()
            route = self._paths[key] = TABLE.route(name_of(*key), is_web=True)
        return route


def asgi(app: "Any") -> "Any":
    """Return the application, counted once."""
    return app if isinstance(app, Asgi) or not callable(app) else Asgi(app)


def wsgi(app: "Any") -> "Any":
    """Return the application, counted once."""
    return app if isinstance(app, Wsgi) or not callable(app) else Wsgi(app)


# -- where they are taken in -------------------------------------------------------------------------


def _uvicorn(module: "Any") -> None:
    config = module.Config
    load = config.load

    def load_and_count(self: "Any") -> None:
        load(self)
        self.loaded_app = asgi(self.loaded_app)

    config.load = load_and_count


def _hypercorn(module: "Any") -> None:
    _wrap_argument(module.ASGIWrapper, "app", asgi)
    _wrap_argument(module.WSGIWrapper, "app", wsgi)


def _wsgiref(module: "Any") -> None:
    server = module.WSGIServer
    set_app = server.set_app
    server.set_app = lambda self, application: set_app(self, wsgi(application))


def _werkzeug(module: "Any") -> None:
    _wrap_argument(module.BaseWSGIServer, "app", wsgi)


def _waitress(module: "Any") -> None:
    _wrap_argument(module.BaseWSGIServer, "application", wsgi)


def _cheroot(module: "Any") -> None:
    _wrap_argument(module.Server, "wsgi_app", wsgi)


def _gunicorn(module: "Any") -> None:
    base = module.BaseApplication
    original = base.wsgi

    def counted(self: "Any") -> "Any":
        app = original(self)
        # uvicorn's worker takes the same attribute for an ASGI application and counts by itself.
        return app if "uvicorn" in str(self.cfg.worker_class_str) else wsgi(app)

    base.wsgi = counted


def _wrap_argument(owner: "Any", attribute: str, wrap: "Callable[[Any], Any]") -> None:
    """Have an attribute that ``__init__`` sets wrapped."""
    begin = owner.__init__

    def __init__(self: "Any", *args: "Any", **kwargs: "Any") -> None:  # noqa: N807
        begin(self, *args, **kwargs)
        setattr(self, attribute, wrap(getattr(self, attribute)))

    owner.__init__ = __init__


def _aiohttp(module: "Any") -> None:
    application = module.Application
    handle = application._handle  # noqa: SLF001 -- what every request passes
    match_of = attrgetter("_match_info")  # its property raises while there is none
    dispatching: Any = sys.modules["aiohttp.web_urldispatcher"]
    is_slot = hasattr(dispatching.UrlMappingMatchInfo, "_route")
    route_of = attrgetter("_route" if is_slot else "route")
    by_route: dict[Any, Route] = {}

    def found(request: "Any", match: "Any") -> Route:
        resource = match.route.resource if match is not None else None
        row = TABLE.route(f"{request.method} {_canonical(resource)}", is_web=True)
        if resource is not None and match.route.method == request.method:
            # A route for any method has several rows, and one for an error is made anew each time.
            if len(by_route) >= _MOST_PATHS:
                by_route.clear()
            by_route[route_of(match)] = row
        return row

    def known(request: "Any") -> "Route | None":
        match = match_of(request)
        return by_route.get(route_of(match)) if match is not None else None

    async def counted(self: "Any", request: "Any") -> "Any":
        table, number = TABLE, id(request)
        began_ns = table.beat_ns
        table.open[number] = (began_ns, known, request)
        if table.until_timed > 1:
            table.until_timed -= 1
            try:
                return await handle(self, request)
            finally:
                table.open.pop(number, None)
                match = match_of(request)
                # It is a dictionary, and an empty one for most paths: never asked for its truth.
                row = by_route.get(route_of(match)) if match is not None else None
                if row is None:
                    row = found(request, match)
                if began_ns < table.beat_before_ns:
                    took_beats(row, table.beat_ns - began_ns)
                row.count += 1
        timed = Timed()
        try:
            return await timed.runs(handle(self, request))
        finally:
            table.open.pop(number, None)
            match = match_of(request)
            row = by_route.get(route_of(match)) if match is not None else None
            timed.ends(row or found(request, match))

    application._handle = counted  # noqa: SLF001


def _canonical(resource: "Any") -> str:
    return str(getattr(resource, "canonical", "(no route)"))


def _tornado(module: "Any") -> None:
    handler = module.RequestHandler
    execute = handler._execute  # noqa: SLF001 -- what every request passes

    def known(self: "Any") -> "Route | None":
        return TABLE.known(f"{self.request.method} {type(self).__name__}")

    async def counted(self: "Any", *args: "Any", **kwargs: "Any") -> "Any":
        table, number = TABLE, id(self)
        began_ns = table.beat_ns
        table.open[number] = (began_ns, known, self)
        if table.until_timed > 1:
            table.until_timed -= 1
            try:
                return await execute(self, *args, **kwargs)
            finally:
                table.open.pop(number, None)
                row = TABLE.route(f"{self.request.method} {type(self).__name__}", is_web=True)
                if began_ns < table.beat_before_ns:
                    took_beats(row, table.beat_ns - began_ns)
                row.count += 1
        timed = Timed()
        try:
            return await timed.runs(execute(self, *args, **kwargs))
        finally:
            table.open.pop(number, None)
            timed.ends(TABLE.route(f"{self.request.method} {type(self).__name__}", is_web=True))

    handler._execute = counted  # noqa: SLF001
