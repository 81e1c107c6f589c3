"""Listening sockets that outlive the worker that serves them (systemd's LISTEN_FDS protocol).

The keeper opens them and hands them down; it never accepts, reads or writes. While a worker is being restarted the
kernel queues connections, so that nobody is refused.
"""

import _socket

from holdfast.linux import system as os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from holdfast.model.plan import Listener


def listen(wanted: "Listener") -> int:
    """Open a listening socket and return its descriptor.

    Raises:
        OSError: The address is in use, not ours, or not allowed; ``filename`` names it.
    """
    if wanted["kind"] == "unix":
        path = wanted["path"]
        temporary = f"{path}.{os.getpid()}"
        sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
        try:
            if os.path.lexists(temporary):
                os.unlink(temporary)
            sock.bind(temporary)
            sock.listen(wanted["backlog"])
            os.rename(temporary, path)
        except OSError as error:
            sock.close()
            raise OSError(error.errno, error.strerror, f"unix:{path}") from None
        return sock.detach()
    family = _socket.AF_INET6 if ":" in wanted["host"] else _socket.AF_INET
    sock = _socket.socket(family, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
    try:
        sock.setsockopt(_socket.SOL_SOCKET, _socket.SO_REUSEADDR, 1)
        if wanted.get("shared"):
            sock.setsockopt(_socket.SOL_SOCKET, _socket.SO_REUSEPORT, 1)
        if family == _socket.AF_INET6:
            sock.setsockopt(_socket.IPPROTO_IPV6, _socket.IPV6_V6ONLY, 1)
        sock.bind((wanted["host"], wanted["port"]))
        sock.listen(wanted["backlog"])
    except OSError as error:
        sock.close()
        raise OSError(
            error.errno, error.strerror, f"tcp://{wanted['host']}:{wanted['port']}"
        ) from None
    return sock.detach()
