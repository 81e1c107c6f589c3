"""The process of the dashboard: a component in an ordinary container, and the same in the foreground.

It listens at a socket that the keeper holds, on the loop that beats, and keeps nothing but sessions, which are files: it may be killed at any instant. Connections
wait in the backlog until the next life takes them. Left out: what it answers (:mod:`holdfast.dashboard.web`).
"""

import asyncio
import contextlib
import os
import socket
import ssl
import sys

from holdfast.cli.place import Place
from holdfast.dashboard import settings
from holdfast.sdk import Component
from holdfast.wire import layout

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from holdfast.dashboard.settings import Settings
    from holdfast.dashboard.site import Site

#: Exit status of a wrong configuration, as a container's.
MISCONFIGURED = 78
#: Beyond so many connections it says 503: a stranger who opens them costs a bounded amount of memory.
MOST_CONNECTIONS = 256
#: A connection that takes nothing for so long is ended by the kernel.
_STUCK_MS = 30_000
#: How often a renewed certificate is looked for.
_RENEW_S = 30.0
_EXTRA = "starlette, uvicorn and argon2-cffi are not installed\n  pip install 'holdfast[dashboard]'"

app = Component("dashboard")


class Missing(Exception):  # noqa: N818 -- reads as what it says
    """The extra is not installed."""


async def serve_on(listener: socket.socket, where: Place, made: "Settings", own: str = "") -> None:
    """Answer at this socket until cancelled.

    Args:
        listener: The socket.
        where: The node.
        made: How.
        own: The worker that this is; "" in the foreground.

    Raises:
        Missing: The extra is not installed.
        OSError: The certificate cannot be used.
    """
    try:
        if made.rules.users:
            import argon2  # noqa: F401 -- found out now, not when somebody signs in
        import uvicorn

        from holdfast.dashboard import web
        from holdfast.dashboard.access.guard import guard
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("holdfast"):
            raise
        raise Missing(f"{error.name}: {_EXTRA}") from None
    from holdfast.dashboard.site import Site

    class Server(uvicorn.Server):
        """Signals are the container's business."""

        @contextlib.contextmanager
        def capture_signals(self) -> "Iterator[None]":
            yield

    from holdfast.dashboard.waiting import Impatient

    site = Site(where)
    config = uvicorn.Config(
        guard(web.application(site, made.rules), made.rules, where.state_dir),
        loop="none", http=Impatient, ws="none", lifespan="off", interface="asgi3", log_config=None, access_log=False,
        proxy_headers=False, server_header=False, limit_concurrency=MOST_CONNECTIONS, timeout_graceful_shutdown=1,
    )  # fmt: skip
    # A page that is gone without a word, or takes nothing, is found out; those that are accepted inherit it.
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _STUCK_MS)
    # asyncio does this only for sockets that say that they are TCP, and those of the keeper do not: each answer that is two writes waited 40 ms for the browser's
    # delayed acknowledgement.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    config.load()
    tasks = [asyncio.ensure_future(site.hub.run())]
    left = asyncio.ensure_future(_close_left(site, own))  # a name, so that it is kept
    if made.certificate_file:
        config.ssl = _context(made)
        tasks.append(asyncio.ensure_future(_renew(config.ssl, made)))
    tasks.append(asyncio.ensure_future(Server(config).serve(sockets=[listener])))
    try:
        # Whichever ends takes the process along: half a dashboard is none.
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in (*tasks, left):
            task.cancel()


async def _close_left(site: "Site", own: str) -> None:
    """Finish what earlier lives wrote down as begun. Beside serving: nobody has to wait for it."""
    try:
        await site.run(site.audit.close_left, own)
    except OSError as error:
        app.log.warning("entries of the audit stay open", why=str(error))


def _context(made: "Settings") -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(made.certificate_file, made.key_file or None)
    return context


async def _renew(context: ssl.SSLContext, made: "Settings") -> None:
    """Take a renewed certificate over; one that cannot be used leaves the old one in place."""
    seen = _stamp(made)
    while True:
        await asyncio.sleep(_RENEW_S)
        now = _stamp(made)
        if now == seen:
            continue
        seen = now
        try:
            _context(made)  # half a pair would spoil the one in use
            context.load_cert_chain(made.certificate_file, made.key_file or None)
        except (OSError, ssl.SSLError) as error:
            app.log.error("the renewed certificate cannot be used", file=made.certificate_file, why=str(error))  # fmt: skip


def _stamp(made: "Settings") -> "list[tuple[int, int]]":
    found = []
    for path in filter(None, (made.certificate_file, made.key_file)):
        try:
            info = os.stat(path)
            found.append((info.st_ino, info.st_mtime_ns))
        except OSError:
            found.append((0, 0))
    return found


def _place() -> Place:
    run_dir = os.environ["HOLDFAST_RUN"]
    where = Place(os.path.realpath(f"{run_dir}/{layout.STATE_LINK}"), "")
    where.run_dir = run_dir
    return where


@app.task
async def serve() -> None:
    """Serve until the end of the process."""
    where = _place()
    sockets = app.listen_fds()
    try:
        made = settings.read(app.settings, os.environ)
        if "dashboard" not in sockets:
            msg = "this worker has no listening socket: [dashboard] makes one"
            raise settings.SettingsError(msg)
        app.log.info("serving", url=made.url())
        await serve_on(sockets["dashboard"], where, made, os.environ["HOLDFAST_WORKER"])
    except (settings.SettingsError, Missing) as error:
        for line in str(error).splitlines():
            app.log.error(line)
        sys.exit(MISCONFIGURED)
    except (OSError, ssl.SSLError) as error:
        app.log.error("the dashboard cannot serve", why=str(error))
        sys.exit(MISCONFIGURED)
