"""A router without a node, for tests and measurements: one realm, `realm1`, where everybody may do everything.

    python -m holdfast.router.alone --listen ws://127.0.0.1:8080/ --listen rs://127.0.0.1:8081 --listen unix:/tmp/bus.sock

It prints one line for each address when it serves (port 0: which one it got) and lives until it is killed. Everything
speaks everything: RawSocket is told from WebSocket by its first octet. Not for production: nobody signs in, nobody restarts it.
"""

import argparse
import asyncio
import os
import socket
import sys
from urllib.parse import urlsplit

from holdfast.router.serving import serve

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Literal

    from holdfast.model.bus import RawSocketPlan, RouterPlan, TransportPlan, WebSocketPlan

_SERIALIZERS = ["json", "msgpack", "cbor", "json.batched", "msgpack.batched", "cbor.batched"]


def open_plan(transports: "list[TransportPlan]", realm: str = "realm1") -> "RouterPlan":
    """Return a plan with one realm where everybody who joins as `anonymous` may do everything."""
    return {
        "realms": [{
            "name": realm,
            "roles": [{
                "name": "anonymous",
                "permissions": [{
                    "uri": "", "match": "prefix", "allow": ["call", "register", "publish", "subscribe"], "deny": [],
                    "disclose_caller": False, "disclose_publisher": False,
                }],
                "authorizer": None,
            }],
            "meta_api": True, "history": [], "uri_check": "loose",
        }],
        "transports": transports,
        "limits": {
            "sessions": 100_000, "connections_unauthenticated": 1000, "handshake_s": 10.0, "subscriptions_per_session": 10_000,
            "registrations_per_session": 10_000, "calls_per_session": 10_000, "connections_http": 1024, "queue_bytes_total": 256 << 20,
        },
        "links": [],
        "identity": None,
    }  # fmt: skip


def transport(
    listener: str, kind: "Literal['tcp', 'unix']" = "tcp", **changes: "Any"
) -> "TransportPlan":
    """Return a plan of a transport that speaks WebSocket and RawSocket; `changes` go into both services."""
    rawsocket: RawSocketPlan = {
        "auth": {}, "serializers": _SERIALIZERS[:3], "message_bytes": 1 << 20, "ping_s": 0.0, "ping_timeout_s": 10.0,
        "queue_bytes": 8 << 20,
    }  # fmt: skip
    rawsocket.update(changes)  # type: ignore[typeddict-item]
    websocket: WebSocketPlan = {
        "kind": "websocket", **rawsocket, "serializers": changes.get("serializers", _SERIALIZERS), "compression": True, "origins": ["*"],
    }  # fmt: skip
    return {
        "name": listener,
        "endpoint": {
            "kind": kind, "listener": listener, "host": "127.0.0.1", "port": 0, "path": "", "tls": None,
        },
        "rawsocket": rawsocket,
        "websocket": websocket,
        "paths": {},
        "internal": False,
    }  # fmt: skip


def listen(url: str) -> socket.socket:
    """Open a listening socket for ws://, rs:// or unix: (an old socket file is replaced)."""
    if url.startswith("unix:"):
        path = url.removeprefix("unix:").removeprefix("//")
        if os.path.exists(path):
            os.unlink(path)
        opened = socket.socket(socket.AF_UNIX)
        opened.bind(path)
    else:
        parts = urlsplit(url)
        opened = socket.socket()
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        opened.bind((parts.hostname or "127.0.0.1", parts.port or 0))
    opened.listen(1024)
    return opened


async def _run(urls: list[str]) -> None:
    sockets = {f"t{at}": listen(url) for at, url in enumerate(urls)}
    plans = [
        transport(name, "unix" if s.family == socket.AF_UNIX else "tcp")
        for name, s in sockets.items()
    ]
    await serve(open_plan(plans), sockets)
    for url, opened in zip(urls, sockets.values(), strict=True):
        at = (
            url
            if url.startswith("unix:")
            else f"{url.split(':')[0]}://127.0.0.1:{opened.getsockname()[1]}"
        )
        sys.stdout.write(f"listening {at}\n")
    sys.stdout.flush()
    await asyncio.Event().wait()


def main() -> None:
    """Serve until death."""
    reading = argparse.ArgumentParser(
        prog="python -m holdfast.router.alone", description=__doc__.split("\n")[0]
    )
    reading.add_argument(
        "--listen", action="append", required=True, metavar="URL", help="ws://, rs:// or unix:"
    )
    reading.add_argument(
        "--profile", metavar="FILE", help="write a cProfile of everything at SIGTERM"
    )
    asked = reading.parse_args()
    if asked.profile:
        _profiled(asked)
    else:
        asyncio.run(_run(asked.listen))


def _profiled(asked: "Any") -> None:
    import cProfile
    import signal

    profile = cProfile.Profile()

    def ended(*_: object) -> None:
        profile.disable()
        profile.dump_stats(asked.profile)
        os._exit(0)

    signal.signal(signal.SIGTERM, ended)
    profile.enable()
    asyncio.run(_run(asked.listen))


if __name__ == "__main__":
    main()
