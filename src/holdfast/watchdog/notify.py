"""What workers say about themselves by the sd_notify protocol: READY, WATCHDOG, STOPPING, STATUS.

The socket must not be lost when the watchdog dies: a READY that was sent in between would never be said again. So the
anchor holds it too, and hands it to the next watchdog with everything that is still queued in it. The sender is known by
the credentials that the kernel attaches, never by what the message says.
"""

import _socket
from struct import Struct

from holdfast.linux import procfs, talk
from holdfast.linux import system as os
from holdfast.wire import layout

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_CREDENTIALS = Struct("3i")  # struct ucred: pid, uid, gid
_BATCH = 256
_PEEK = _socket.MSG_CMSG_CLOEXEC | _socket.MSG_PEEK


class NotifySocket:
    """``notify.sock``: taken over from a predecessor, or made anew."""

    __slots__ = ("_run_dir", "path", "sock")

    def __init__(self, run_dir: str, inherited: int = -1) -> None:
        self._run_dir = run_dir
        self.path = f"{run_dir}/{layout.NOTIFY}"
        sock = _take_over(inherited, self.path) if inherited >= 0 else None
        self.sock = sock if sock is not None else _bind(self.path)

    def fileno(self) -> int:
        """Return the descriptor to watch."""
        return self.sock.fileno()

    def hold(self) -> bool:
        """Give the socket to the anchor to keep; False when there is no anchor to take it."""
        return talk.tell(
            self._run_dir, "anchor", {"do": "hold", "name": layout.NOTIFY}, (self.sock.fileno(),)
        )

    def read(self, call: "Callable[[int, dict[str, str]], None]") -> None:
        """Call ``call(sender's pid, fields)`` for what has come; at most a batch, so a flood cannot hold us."""
        for _ in range(_BATCH):
            try:
                # Taken off the queue only when it has been dealt with: killed in between, the next
                # watchdog finds it again, and the same twice is harmless.
                data, ancillary, _, _ = self.sock.recvmsg(4096, 256, _PEEK)
            except OSError:
                return
            pid = 0
            for level, kind, packed in ancillary:
                if level == _socket.SOL_SOCKET and kind == _socket.SCM_CREDENTIALS:
                    pid = _CREDENTIALS.unpack(packed[: _CREDENTIALS.size])[0]
                elif level == _socket.SOL_SOCKET and kind == _socket.SCM_RIGHTS:
                    # sd_notify's BARRIER waits for exactly this; FDSTORE is not kept here.
                    for at in range(0, len(packed) - 3, 4):
                        os.close(int.from_bytes(packed[at : at + 4], "little"))
            if pid:
                call(pid, _fields(data))
            # No room for ancillary data: descriptors in it are closed by the kernel.
            self.sock.recv(1)


def _fields(data: bytes) -> "dict[str, str]":
    pairs = (line.partition("=") for line in data.decode("utf-8", "replace").split("\n"))
    return {name: value for name, sign, value in pairs if sign}


def _take_over(descriptor: int, path: str) -> "_socket.socket | None":
    """Use an inherited socket if what is sent to ``path`` arrives in it.

    It need not: a predecessor may have been killed after it had bound a new one and before the anchor had that.
    Nobody else can be holding the new one then, so sending to it is refused.
    """
    try:
        sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_DGRAM, 0, descriptor)
    except OSError:
        return None
    probe = _socket.socket(
        _socket.AF_UNIX, _socket.SOCK_DGRAM | _socket.SOCK_CLOEXEC | _socket.SOCK_NONBLOCK
    )
    try:
        probe.connect(path)
    except OSError:
        sock.close()
        return None
    finally:
        probe.close()
    _prepare(sock)
    return sock


def _bind(path: str) -> "_socket.socket":
    sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_DGRAM | _socket.SOCK_CLOEXEC)
    temporary = f"{path}.{os.getpid()}"
    if os.path.lexists(temporary):
        os.unlink(temporary)
    sock.bind(temporary)
    _prepare(sock)
    # Workers may run as other users; who may talk is decided by the credentials.
    os.chmod(temporary, 0o666)
    os.rename(temporary, path)
    return sock


def _prepare(sock: "_socket.socket") -> None:
    sock.setblocking(False)
    sock.setsockopt(_socket.SOL_SOCKET, _socket.SO_PASSCRED, 1)


def worker_of(pid: int, node_run_dir: str) -> "tuple[int, str]":
    """Return what tells the worker of a process that is not one itself: (session, name in its environment)."""
    found = procfs.reading(pid)
    if found is None:
        return 0, ""
    env = procfs.environ(pid)
    mine = env.get("HOLDFAST_RUN") == node_run_dir
    return found.session, env.get("HOLDFAST_WORKER", "") if mine else ""
