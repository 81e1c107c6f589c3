"""How does a look get to the other side: names, connections, TLS, each in words that a person understands when it fails?

Everything waits on the loop under the deadline of its look, but one thing: the system's own way to look up names cannot be given up. It
runs in a thread of its own, one for each name, so that a name server that hangs holds up nobody but those who ask for that name.
"""

import asyncio
import contextlib
import errno
import os
import socket
import ssl
import threading
from functools import lru_cache
from typing import NamedTuple

#: Name servers that hang leave their threads behind; more of them than this are not started.
_MOST_THREADS = 200
_NOT_FOUND = (socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME))
_CONNECT_WORDS = {
    errno.ECONNREFUSED: "nobody listens there",
    errno.EHOSTUNREACH: "there is no way to this machine",
    errno.ENETUNREACH: "there is no way to this network",
    errno.ETIMEDOUT: "it does not answer",
    errno.ECONNRESET: "the connection was cut",
}


class Failed(Exception):  # noqa: N818 -- reads as what it says
    """A look failed; the text says why, in one line."""


class Look:
    """One look while it goes on: ``doing`` is what it waits for, should its time be over."""

    __slots__ = ("detail", "doing", "timeout_s")

    def __init__(self, timeout_s: float) -> None:
        self.timeout_s = timeout_s
        self.doing = "beginning"
        self.detail = ""  #: what a good look has to tell


class Connected(NamedTuple):
    """A connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter


def shown(host: str, port: int) -> str:
    """Return "host:port" as a person writes it."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


# -- names -----------------------------------------------------------------------------------------

_asked: dict[tuple[asyncio.AbstractEventLoop, str, int], asyncio.Future[list[str]]] = {}


async def addresses(host: str, look: Look, family: int = socket.AF_UNSPEC) -> list[str]:
    """Return the addresses of a name, as this machine looks it up.

    Raises:
        Failed: There are none, or too many questions are open already.
    """
    look.doing = f"looking up {host}"
    loop = asyncio.get_running_loop()
    key = (loop, host, family)
    waiting = _asked.get(key)
    if waiting is None:
        if len(_asked) >= _MOST_THREADS:
            raise Failed(
                f"{len(_asked)} names are being looked up, and none comes back: the name server hangs"
            )
        waiting = _asked[key] = loop.create_future()
        threading.Thread(
            target=_look_up, args=(key, waiting), name=f"holdfast.lookup.{host}", daemon=True
        ).start()
    try:
        # Whoever runs out of time goes away alone: the question belongs to all who ask it.
        found = await asyncio.shield(waiting)
    except OSError as error:
        raise Failed(_lookup_words(host, error)) from None
    if not found:
        raise Failed(f"{host} has no address")
    return found


def _look_up(
    key: tuple[asyncio.AbstractEventLoop, str, int], waiting: asyncio.Future[list[str]]
) -> None:
    loop, host, family = key
    failure: OSError | None = None
    found: list[str] = []
    try:
        rows = socket.getaddrinfo(host, None, socket.AddressFamily(family), socket.SOCK_STREAM)
        found = list(dict.fromkeys(str(row[4][0]) for row in rows))
    except OSError as error:
        failure = error
    except UnicodeError:
        failure = socket.gaierror(socket.EAI_NONAME, "not a name")

    def tell() -> None:
        _asked.pop(key, None)
        if waiting.done():
            return
        if failure is None:
            waiting.set_result(found)
        else:
            waiting.set_exception(failure)
            waiting.exception()  # perhaps nobody waits any more

    with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
        loop.call_soon_threadsafe(tell)


def _lookup_words(host: str, error: OSError) -> str:
    if error.errno in _NOT_FOUND:
        return f"there is no name {host}"
    if error.errno == socket.EAI_AGAIN:
        return f"{host}: the name server does not answer"
    return f"{host} cannot be looked up: {error.strerror or error}"


# -- connections -----------------------------------------------------------------------------------


def context(ca_file: str, verify: bool) -> ssl.SSLContext:
    """Return the TLS settings for a set of authorities.

    Raises:
        Failed: The file is not there, or has no certificates in it.
    """
    try:
        return _context(ca_file, os.stat(ca_file).st_mtime_ns if ca_file else 0, verify)
    except OSError as error:
        raise Failed(f"{ca_file}: {error.strerror or error}") from None


@lru_cache(maxsize=64)
def _context(ca_file: str, changed_ns: int, verify: bool) -> ssl.SSLContext:
    """Return it, made once: 10 ms each, and another one when the file has changed."""
    del changed_ns
    made = ssl.create_default_context(cafile=ca_file or None)
    if not verify:
        made.check_hostname = False
        made.verify_mode = ssl.CERT_NONE
    return made


async def connect(host: str, port: int, look: Look, tls: ssl.SSLContext | None = None, server_name: str = "") -> Connected:  # fmt: skip
    """Return a connection, over the first address that takes one.

    Raises:
        Failed: No address does, or the certificate is not right.
    """
    found = await addresses(host, look)
    # One address that says nothing (IPv6 that leads nowhere) must not use up the time of the next.
    limit_s = look.timeout_s / len(found)
    says = ""
    for address in found:
        look.doing = f"connecting to {shown(address, port)}"
        try:
            async with asyncio.timeout(limit_s if len(found) > 1 else None):
                reader, writer = await asyncio.open_connection(
                    address, port, ssl=tls, server_hostname=(server_name or host) if tls else None
                )
                return Connected(reader, writer)
        except TimeoutError:
            says = f"{shown(address, port)}: it does not answer"
        except ssl.SSLError as error:
            # Another address of the same name has the same certificate, or is the next riddle.
            raise Failed(f"{shown(host, port)}: {tls_words(error, server_name or host)}") from None
        except OSError as error:
            says = f"{shown(address, port)}: {_connect_words(error)}"
    raise Failed(says)


def _connect_words(error: OSError) -> str:
    known = _CONNECT_WORDS.get(error.errno or 0)
    return known or error.strerror or str(error) or type(error).__name__


def tls_words(error: ssl.SSLError, name: str) -> str:
    """Return what is wrong with the TLS of the other side."""
    if isinstance(error, ssl.SSLCertVerificationError):
        if error.verify_code == 10:
            return "its certificate has expired"
        if error.verify_code == 9:
            return "its certificate is not valid yet"
        if error.verify_code in (62, 63, 64):
            return f"its certificate is not for {name}"
        if error.verify_code in (18, 19, 20, 21):
            return f"its certificate comes from nobody who is trusted here ({error.verify_message})"
        return f"its certificate is refused: {error.verify_message}"
    return f"no TLS: {(error.reason or str(error)).replace('_', ' ').lower()}"


async def close(connected: Connected) -> None:
    """Hang up without waiting for the other side."""
    connected.writer.transport.abort()
