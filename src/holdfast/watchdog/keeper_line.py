"""Requests to the keeper, without ever waiting for it.

A request is written, and its reply comes to a callback; ``None`` when there was none in time (the keeper is being
restarted). Nothing is repeated here: whoever asks knows whether it still matters.
"""

import _socket
import time

from holdfast.watchdog.engine import READ, WRITE
from holdfast.wire import layout, message

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from holdfast.watchdog.engine import Engine

    Reply = Callable[[dict[str, Any] | None], None]

_TIMEOUT_S = 2.0


class KeeperLine:
    """One kept connection to ``keeper.sock``."""

    __slots__ = ("_engine", "_in", "_out", "_path", "_sock", "_waiting")

    def __init__(self, engine: "Engine", run_dir: str) -> None:
        self._engine = engine
        self._path = f"{run_dir}/{layout.socket('keeper')}"
        self._sock: _socket.socket | None = None
        self._waiting: list[tuple[float, Reply]] = []
        self._out = b""
        self._in = b""

    def ask(self, what: "dict[str, Any]", reply: "Reply") -> None:
        """Send a request; ``reply`` is called exactly once."""
        if self._sock is None and not self._connect():
            reply(None)
            return
        self._waiting.append((time.monotonic() + _TIMEOUT_S, reply))
        self._out += message.encode(what)
        self._write()

    def tick(self, now_s: float) -> None:
        """Give up on a keeper that does not answer."""
        if self._waiting and self._waiting[0][0] < now_s:
            self._drop()

    def _connect(self) -> bool:
        sock = _socket.socket(
            _socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC | _socket.SOCK_NONBLOCK
        )
        try:
            sock.connect(self._path)
        except OSError:
            sock.close()
            return False
        self._sock = sock
        self._engine.watch(sock.fileno(), READ, self._ready)
        return True

    def _ready(self, events: int) -> None:
        if events & WRITE:
            self._write()
        if events & ~WRITE:
            self._read()

    def _write(self) -> None:
        sock = self._sock
        if sock is None:
            return
        try:
            while self._out:
                self._out = self._out[sock.send(self._out) :]
        except BlockingIOError:
            pass  # epoll tells when there is room
        except OSError:
            self._drop()
            return
        self._engine.watch(sock.fileno(), READ | WRITE if self._out else READ, self._ready)

    def _read(self) -> None:
        sock = self._sock
        if sock is None:
            return
        try:
            part = sock.recv(1 << 18)
        except BlockingIOError:
            return
        except OSError:
            part = b""
        if not part:
            self._drop()
            return
        *lines, self._in = (self._in + part).split(b"\n")
        for line in lines:
            if self._waiting:
                self._waiting.pop(0)[1](message.decode(line))

    def _drop(self) -> None:
        sock, self._sock = self._sock, None
        if sock is not None:
            self._engine.unwatch(sock.fileno())
            sock.close()
        self._in = self._out = b""
        waiting, self._waiting = self._waiting, []
        for _, reply in waiting:
            reply(None)
