"""How is a connection to a router opened, once? From a URL to a session that has joined, or a reason why not.

Who comes back after a failure is :mod:`holdfast.bus.connect`; HELLO and what follows it is :mod:`holdfast.bus.joining`.
"""

from __future__ import annotations

import asyncio
import os
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

from holdfast.bus.errors import CannotConnect
from holdfast.bus.joining import hello_details, join
from holdfast.bus.link import MESSAGE_BYTES, Connected, RawSocketLink
from holdfast.bus.session import ClientSession

if TYPE_CHECKING:
    import ssl as ssl_

    from holdfast.bus.asking import OnProblem, RunSync
    from holdfast.bus.urls import Url

#: Offered to the router; over WebSocket it chooses, over RawSocket the first one that it takes is used.
SERIALIZERS = ("msgpack", "json", "cbor")
#: Seconds between two questions whether the router is there.
PING_S = 10.0
#: A router that says nothing more does not keep a closed TLS connection for longer than this; asyncio would wait 30 s.
TLS_END_S = 1.0


class Joined(NamedTuple):
    """A connection that a router has let in."""

    link: Connected
    session_id: int
    realm: str
    details: dict[str, Any]  #: of WELCOME
    rest: list[bytes]  #: messages that came right after it


async def open_session(
    url: Url,
    realm: str,
    *,
    run_sync: RunSync | None = None,
    on_problem: OnProblem | None = None,
    **how: Any,
) -> ClientSession:
    """Connect once, join, and return the session; `how` as for :func:`dial`, which says what it raises."""
    joined = await dial(url, realm, **how)
    link = joined.link
    session = ClientSession(link, joined.session_id, joined.realm, joined.details, run_sync=run_sync, on_problem=on_problem)  # fmt: skip
    for message in joined.rest:
        session.receive(message)
    if link.gone:
        session.lost(link.gone)
    return session


async def dial(
    url: Url,
    realm: str,
    *,
    auth: dict[str, Any] | None = None,
    role: str | None = None,
    authid: str | None = None,
    serializers: tuple[str, ...] = SERIALIZERS,
    ping_s: float = PING_S,
    message_bytes: int = MESSAGE_BYTES,
    ssl: ssl_.SSLContext | None = None,
    headers: tuple[tuple[str, str], ...] = (),
    roles: dict[str, Any] | None = None,
) -> Joined:
    """Connect once and join; CannotConnect or JoinRefused otherwise.

    `roles` takes the place of what this client can do. Whoever gets the result takes `receive` and `lost` of the link over
    before anything else is awaited.
    """
    signer = None
    if auth:
        # A new one each time: nonces are used once.
        from holdfast.bus.signing import make_signer

        signer = make_signer(auth)
        headers = (*headers, *signer.headers)
    choices = [serializers] if url.is_websocket else [(name,) for name in serializers]
    refused = CannotConnect("no serializer was offered that a RawSocket can speak")
    for offered in choices:
        try:
            link = await _open_link(url, offered, message_bytes, ping_s, ssl, headers)
        except CannotConnect as error:
            refused = error
            if not _is_serializer_refused(error):
                raise
        else:
            break
    else:
        raise refused
    try:
        extra = None
        if signer is not None:
            signer.channel_id = link.channel_id()
            extra = signer.hello()
        details = hello_details(authid, role, extra)
        if roles is not None:
            details["roles"] = roles
        session_id, welcome, rest = await join(link, realm, details, signer)
    except BaseException:
        link.close()
        raise
    return Joined(link, session_id, welcome.get("realm", realm), welcome, rest)


async def _open_link(
    url: Url,
    serializers: tuple[str, ...],
    message_bytes: int,
    ping_s: float,
    ssl: ssl_.SSLContext | None,
    headers: tuple[tuple[str, str], ...],
) -> Connected:
    loop = asyncio.get_running_loop()
    link: Connected
    if url.is_websocket:
        from holdfast.bus.weblink import WebSocketLink

        link = WebSocketLink(
            url.host_header, url.http_path, serializers, message_bytes, ping_s, headers
        )
    else:
        link = RawSocketLink(serializers[0], message_bytes, ping_s)
    try:
        if url.socket_path:
            await loop.create_unix_connection(lambda: link, url.socket_path)
        elif url.is_tls:
            await loop.create_connection(
                lambda: link, url.host, url.port, ssl=ssl or _default_ssl(), server_hostname=url.host,
                ssl_shutdown_timeout=TLS_END_S,
            )  # fmt: skip
        else:
            await loop.create_connection(lambda: link, url.host, url.port)
        await link.opened
    except OSError as error:
        link.opened.cancel()
        raise CannotConnect(_reason(error)) from error
    except BaseException:
        link.opened.cancel()
        link.abort("given up")
        raise
    return link


def _reason(error: OSError) -> str:
    """The system's words; asyncio puts its own in their place, with the address that is in our text anyway."""
    if isinstance(error, ConnectionError) and error.errno:
        return os.strerror(error.errno)
    return error.strerror or str(error)


@cache
def _default_ssl() -> ssl_.SSLContext:
    """Once a process: reading the system's authorities takes some tens of milliseconds, in which the loop stands."""
    import ssl

    return ssl.create_default_context()


def _is_serializer_refused(error: CannotConnect) -> bool:
    return "serializer" in str(error)
