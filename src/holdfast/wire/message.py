"""What the processes of a node say to each other over their Unix sockets: one JSON object a line.

The keeper listens on ``keeper.sock`` (stream): a request line in, a reply line out, the connection may be
kept for more. The anchor, the watchdog and the logger listen on datagram sockets and do not answer.

Requests to the keeper (``do``):

    status                                  -> {"ok": true, "pid", "uptime_s", "digest", "ending", "workers": [...]}
    start | stop | restart  worker, by      by: "user" | "watchdog" | "drill"
        restart by the watchdog has also    how: "kill" | "term", flag: NAME, incident: ID, n: the life it is about
                                            (a life that is over is not restarted: the reply has a "note")
    spare  worker                           end the active one and promote the spare (drills)
    apply  plan                             path of a checked plan; only changed workers are touched
    ready  worker, n                        the watchdog saw it ready
    down   by, force                        stop everything (force: kill it), then the anchor ends

Every reply has "ok"; a refused one has "error": a sentence for a person.

Datagrams to the anchor: {"do": "fifos"} (look at the pipes again), {"do": "hold", "name": N} with one
descriptor attached (keep it for whoever comes after me), {"do": "drop", "name": N}, {"do": "end", "status": S}.
Datagrams to the watchdog: {"do": "journal"} (there is something new to read), {"do": "plan"}.
Datagrams to the logger: {"do": "fifos"}, {"do": "plan"}, {"do": "start", "worker": W, "n": N} (a new life began).
"""

from holdfast.wire.jsonlite import dumps, loads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def encode(message: "dict[str, Any]") -> bytes:
    """Return one line."""
    return dumps(message).encode() + b"\n"


def decode(line: bytes) -> "dict[str, Any] | None":
    """Return the message in a line, or None when it is not one."""
    try:
        value = loads(line.decode())
    except ValueError:
        return None
    return value if type(value) is dict else None
