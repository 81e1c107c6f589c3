"""How does a component serve TCP (or a Unix socket), so that a restart loses no connection attempt?

With a ``[worker.NAME.listen]`` entry the keeper holds the listening socket and each life of the worker inherits it
(systemd's socket activation protocol). Clients that connect between a death and the next life wait in the
backlog. Left out: TLS, HTTP; hand the socket to the server of your choice for those.
"""

import os
import socket

from holdfast.sdk.logline import write_text
from holdfast.sdk.recorder import CURRENT, RECORDER, Call

TYPE_CHECKING = False
if TYPE_CHECKING:
    import asyncio
    from collections.abc import Awaitable, Callable

_FIRST = 3
#: Whose they are and their names, once they were kept. Asking the environment each time is not enough: Twisted takes
#: LISTEN_FDS out of it when it is imported, and a router with a component of Twisted beside it would have no sockets.
_kept: "tuple[int, list[str]] | None" = None


def listen_fds() -> "dict[str, socket.socket]":
    """Return the listening sockets that this process was started with, by name.

    Each call duplicates the descriptors: closing a returned socket leaves the inherited one for the next
    start of the component. Sockets without a name are called by their descriptor number.
    """
    return {
        name: socket.socket(fileno=os.dup(_FIRST + at))
        for at, name in enumerate(_inherited_names())
    }


def keep_listen_fds() -> None:
    """Remember the listening sockets, whatever becomes of the environment, and keep them from programs started here.

    Those would hold them open after our end.
    """
    global _kept
    names = _inherited_names()
    for at in range(len(names)):
        os.set_inheritable(_FIRST + at, False)
    _kept = os.getpid(), names


async def serve(
    handler: "Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[object]]",
    where: "socket.socket | str",
) -> "asyncio.Server":
    """Serve connections with ``await handler(reader, writer)`` until the component stops.

    The connection is closed when the handler ends. A handler that raises costs its own connection and an
    error with a traceback in the log; the server goes on. Running handlers count as in flight.

    Args:
        handler: Coroutine function with a stream reader and a stream writer.
        where: A listening or bound socket, or the name of an inherited one (:func:`listen_fds`).

    Raises:
        LookupError: This process has inherited no socket of that name.
    """
    import asyncio

    instance = CURRENT.get()
    listening = _inherited(where) if isinstance(where, str) else where

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with Call(instance, None):
                await handler(reader, writer)
        except ConnectionError:
            pass  # the other side went away: its business
        except Exception as error:  # noqa: BLE001 -- one connection must not take the others along
            _tell(instance.name if instance else "?", error)
        finally:
            writer.close()

    server = await asyncio.start_server(connected, sock=listening)
    if instance is not None:
        instance.servers.append(server)
    return server


def _inherited_names() -> "list[str]":
    if _kept is not None:
        return _kept[1] if _kept[0] == os.getpid() else []
    for_pid = os.environ.get("LISTEN_PID", "")
    count = os.environ.get("LISTEN_FDS", "")
    if not count.isdigit() or for_pid not in ("", str(os.getpid())):
        return []
    names = os.environ.get("LISTEN_FDNAMES", "").split(":")
    return [
        names[at] if at < len(names) and names[at] else str(_FIRST + at) for at in range(int(count))
    ]


def _inherited(name: str) -> socket.socket:
    sockets = listen_fds()
    wanted = sockets.pop(name, None)
    for other in sockets.values():
        other.close()
    if wanted is None:
        has = ", ".join(f'"{other}"' for other in sockets) or "none"
        says = f'this worker has no listening socket "{name}" (it has {has}): see its listen entry'
        raise LookupError(says)
    return wanted


def _tell(component: str, error: Exception) -> None:
    from traceback import format_exception

    head = f"level=error component={component} a connection handler failed\n"
    write_text(2, head + "".join(format_exception(error)))
    if RECORDER.sink is not None:
        RECORDER.sink(f"{component}: handler failed {type(error).__name__}: {error}")
