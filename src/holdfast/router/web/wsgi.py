"""How does a WSGI application run beside a router?

PEP 3333, in a pool of threads of its own: a request takes one from the call of the application to the last octet of its answer,
never while the client sends (the body is read first, into a file when it is large). Options as Crossbar.io's: module,
object, maxthreads.
"""

import asyncio
import sys
from collections.abc import Awaitable, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeVar

from holdfast.router.web.failures import SiteError
from holdfast.router.web.gateway import HOP_BY_HOP, variables
from holdfast.router.web.loading import find
from holdfast.router.web.threads import spool

if TYPE_CHECKING:
    from holdfast.router.web.request import Request
    from holdfast.router.web.site import Site

Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]
Result = TypeVar("Result")


def load(options: dict[str, Any]) -> Application:
    """The application that the options name.

    Raises:
        SiteError: It cannot be had.
    """
    for name in ("module", "object"):
        if not options.get(name):
            raise SiteError(f"it names no {name}")
    app: Application = find(str(options["module"]), str(options["object"]))
    if not callable(app):
        raise SiteError(
            f"{options['module']}:{options['object']} cannot be called; is it the application?"
        )
    return app


class Wsgi:
    """A WSGI application."""

    def __init__(self, app: Application, options: dict[str, Any], site: "Site") -> None:
        self._app = app
        self._site = site
        self._pool = ThreadPoolExecutor(int(options.get("maxthreads") or 20), "web-wsgi")

    async def serve(self, request: "Request") -> None:
        """Answer it."""
        body, size = await spool(request, self._site.spool_limit)
        loop = asyncio.get_running_loop()
        environ: dict[str, Any] = {
            **variables(request, size),
            "wsgi.version": (1, 0), "wsgi.url_scheme": request.scheme, "wsgi.input": body,
            "wsgi.errors": sys.stderr, "wsgi.multithread": True, "wsgi.multiprocess": False, "wsgi.run_once": False,
            "wsgi.input_terminated": True,
        }  # fmt: skip
        answer = _Answer(request, loop)

        def run() -> None:
            try:
                answer.run(self._app, environ)
            finally:
                body.close()

        await loop.run_in_executor(self._pool, run)


class _Answer:
    """The answer to one request, as its thread makes it."""

    def __init__(self, request: "Request", loop: asyncio.AbstractEventLoop) -> None:
        self._request, self._loop = request, loop
        self._status = 0
        self._headers: list[tuple[str, str]] = []
        self._is_sent = False

    def run(self, app: Application, environ: dict[str, Any]) -> None:
        """Call the application and send what it gives."""
        result = app(environ, self._start)
        try:
            if isinstance(result, list | tuple) and len(result) <= 1 and not self._is_sent:
                self._whole(bytes(result[0]) if result else b"")
                return
            for data in result:
                if data:
                    self._write(data)
            self._end()
        finally:
            close = getattr(result, "close", None)
            if close is not None:
                close()

    def _start(
        self, status: str, headers: list[tuple[str, str]], exc_info: Any = None
    ) -> Callable[[bytes], None]:
        if exc_info is not None:
            try:
                if self._is_sent:
                    raise exc_info[1].with_traceback(exc_info[2])
            finally:
                exc_info = None
        elif self._status:
            raise AssertionError("start_response was called twice without exc_info")
        self._status = int(status[:3])
        self._headers = [(k, v) for k, v in headers if k.lower() not in HOP_BY_HOP]
        return self._write

    def _write(self, data: bytes) -> None:
        async def write() -> None:
            self._begin()
            await self._request.write(data)

        self._on_loop(write())

    def _whole(self, data: bytes) -> None:
        async def whole() -> None:
            self._check()
            told = [(k, v) for k, v in self._headers if k.lower() != "content-length"]
            if data or len(told) == len(self._headers):
                self._request.respond(self._status, told, data)
            else:
                # The length of what a HEAD or a 304 leaves out.
                self._begin()
                self._request.end()

        self._on_loop(whole())

    def _end(self) -> None:
        async def end() -> None:
            self._begin()
            self._request.end()

        self._on_loop(end())

    def _begin(self) -> None:
        if not self._is_sent:
            self._check()
            self._is_sent = True
            self._request.start(self._status, self._headers)

    def _check(self) -> None:
        if not self._status:
            raise RuntimeError("the application did not call start_response")

    def _on_loop(self, work: "Awaitable[Result]") -> "Result":
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()  # type: ignore[arg-type]
