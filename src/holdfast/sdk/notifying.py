"""How does a guest written in Python say that it is ready, and that it still lives?

The sd_notify protocol: datagrams with ``KEY=value`` lines to the socket named by ``NOTIFY_SOCKET``. Nothing here
blocks or raises: a host that does not listen at the moment is no reason for its guest to stop. Call
:func:`heartbeat` from the very loop that does the work; from a thread beside it, it proves nothing.
"""

import os
from _socket import AF_UNIX, MSG_DONTWAIT, SOCK_CLOEXEC, SOCK_DGRAM, socket

_sender: "socket | None" = None


def notify(state: str) -> bool:
    r"""Send a state, for example ``"STATUS=42 users"`` or ``"READY=1\nSTATUS=up"``.

    Returns:
        Whether somebody took it; False as well where nobody has asked for it (no ``NOTIFY_SOCKET``).
    """
    global _sender
    address = os.environ.get("NOTIFY_SOCKET", "")
    if address[:1] not in ("/", "@"):
        return False
    if address[0] == "@":
        address = "\0" + address[1:]
    try:
        if _sender is None:
            _sender = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC)
        _sender.sendto(state.encode(), MSG_DONTWAIT, address)
    except OSError:
        return False
    return True


def notify_ready(status: str = "") -> bool:
    """Say that the service can serve now (``ready = "notify"`` in the configuration)."""
    return notify(f"READY=1\nSTATUS={status}" if status else "READY=1")


def heartbeat(path: "str | os.PathLike[str] | None" = None) -> bool:
    """Say that the service still serves: touch ``path``, or without one send ``WATCHDOG=1``.

    Returns:
        Whether the sign of life got out.
    """
    if path is None:
        return notify("WATCHDOG=1")
    try:
        # Opening first: utime alone would not make the file, and the first beat has to.
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            os.utime(descriptor)
        finally:
            os.close(descriptor)
    except OSError:
        return False
    return True
