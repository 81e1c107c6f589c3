"""Say something to a process of the node over its Unix socket.

Requests to the keeper are repeated while it is being restarted: a keeper that was killed is back within a
quarter of a second, and every request may be carried out twice without harm.
"""

import _socket
import time

from holdfast.linux import system as os
from holdfast.model.errors import NodeError
from holdfast.wire import layout, message

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def request(run_dir: str, what: "dict[str, Any]", timeout_s: float = 5.0) -> "dict[str, Any]":
    """Ask the keeper and return its reply.

    Raises:
        NodeError: No answer within ``timeout_s`` (the keeper is not there, or stuck).
    """
    until = time.monotonic() + timeout_s
    path = f"{run_dir}/{layout.socket('keeper')}"
    while True:
        reply = ask(path, what, max(0.05, until - time.monotonic()))
        if reply is not None:
            return reply
        if time.monotonic() >= until:
            raise NodeError(
                f"the keeper does not answer (waited {timeout_s:g} s at {path})\n"
                "  is the node up?  holdfast status"
            )
        time.sleep(0.01)  # the pause between two attempts to reach a process that is starting


def ask(path: str, what: "dict[str, Any]", timeout_s: float) -> "dict[str, Any] | None":
    """Send one request to a stream socket; None when nobody answers in time."""
    sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
    try:
        sock.settimeout(timeout_s)
        sock.connect(path)
        data = message.encode(what)
        while data:
            data = data[sock.send(data) :]
        parts = []
        while True:
            part = sock.recv(1 << 18)
            if not part:
                return None
            parts.append(part)
            if part.endswith(b"\n"):
                return message.decode(b"".join(parts))
    except OSError:
        return None
    finally:
        sock.close()


def begin(path: str, what: "dict[str, Any]") -> "_socket.socket | None":
    """Send one request whose answer takes a while; :func:`finish` takes it. None when nobody is there."""
    sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
    try:
        sock.settimeout(0.2)
        sock.connect(path)
        data = message.encode(what)
        while data:
            data = data[sock.send(data) :]
    except OSError:
        sock.close()
        return None
    return sock


def finish(sock: "_socket.socket", timeout_s: float) -> "dict[str, Any] | None":
    """Return the answer to a request that was begun; None when it did not come in time."""
    until = time.monotonic() + timeout_s
    data = b""
    try:
        while not data.endswith(b"\n"):
            sock.settimeout(max(0.001, until - time.monotonic()))
            part = sock.recv(1 << 18)
            if not part:
                return None
            data += part
        return message.decode(data)
    except OSError:
        return None
    finally:
        sock.close()


def tell(
    run_dir: str, role: str, what: "dict[str, Any]", descriptors: "tuple[int, ...]" = ()
) -> bool:
    """Send a datagram to a house process; never waits, never raises.

    Args:
        run_dir: The node's run directory.
        role: anchor, watchdog or logger.
        what: The message.
        descriptors: Open files to hand over with it.

    Returns:
        False when it could not be delivered (nobody there, or its queue is full).
    """
    sock = _socket.socket(
        _socket.AF_UNIX, _socket.SOCK_DGRAM | _socket.SOCK_CLOEXEC | _socket.SOCK_NONBLOCK
    )
    try:
        ancillary = []
        if descriptors:
            packed = b"".join(d.to_bytes(4, "little") for d in descriptors)
            ancillary.append((_socket.SOL_SOCKET, _socket.SCM_RIGHTS, packed))
        sock.sendmsg([message.encode(what)], ancillary, 0, f"{run_dir}/{layout.socket(role)}")
    except OSError:
        return False
    finally:
        sock.close()
    return True


def listen_datagram(run_dir: str, role: str) -> "_socket.socket":
    """Return the datagram socket of a house process, in place of one that a dead predecessor left."""
    path = f"{run_dir}/{layout.socket(role)}"
    sock = _socket.socket(
        _socket.AF_UNIX, _socket.SOCK_DGRAM | _socket.SOCK_CLOEXEC | _socket.SOCK_NONBLOCK
    )
    _replace(sock, path)
    return sock


def listen_stream(path: str, backlog: int = 64) -> "_socket.socket":
    """Return a listening stream socket, in place of one that a dead predecessor left."""
    sock = _socket.socket(
        _socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC | _socket.SOCK_NONBLOCK
    )
    # Listening begins before the name appears, so nobody is ever refused in between.
    temporary = f"{path}.{os.getpid()}"
    if os.path.lexists(temporary):
        os.unlink(temporary)
    sock.bind(temporary)
    sock.listen(backlog)
    os.rename(temporary, path)
    return sock


def _replace(sock: "_socket.socket", path: str) -> None:
    temporary = f"{path}.{os.getpid()}"
    if os.path.lexists(temporary):
        os.unlink(temporary)
    sock.bind(temporary)
    os.rename(temporary, path)


def receive(sock: "_socket.socket", size: int = 65536) -> "tuple[dict[str, Any], list[int]] | None":
    """Take one datagram and the descriptors with it; None when there is none, {} when it is not one of ours."""
    try:
        data, ancillary, _, _ = sock.recvmsg(size, 4096, _socket.MSG_CMSG_CLOEXEC)
    except OSError:
        return None
    descriptors = []
    for level, kind, packed in ancillary:
        if level == _socket.SOL_SOCKET and kind == _socket.SCM_RIGHTS:
            descriptors += [
                int.from_bytes(packed[at : at + 4], "little") for at in range(0, len(packed) - 3, 4)
            ]
    return message.decode(data) or {}, descriptors
