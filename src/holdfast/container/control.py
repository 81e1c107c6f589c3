"""What may others ask of this process, and who answers when its loop is blocked?

The socket ``RUN/ctl/WORKER.sock``, one JSON object a line. The plain thread reads and writes it, so what only
looks (components, stacks) is answered in any state of the loop; what changes something is handed to the
loop and answered when it is done. Nobody who connects can hold the beat up: all sockets are non-blocking.
"""

import os
import select
import socket
from collections import deque

from holdfast.wire import message

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Protocol

    Answer = dict[str, Any]
    Handler = Callable[[Answer, "Reply"], None]

    class Reply(Protocol):
        """How a request is answered."""

        def __call__(self, answer: Answer, then: Callable[[], object] | None = None) -> None:
            """Answer, from any thread; ``then`` is called in the plain thread once that is out."""


_LONGEST_LINE = 65_536
_MOST_CONNECTIONS = 32


class _Connection:
    __slots__ = ("has_ended", "inward", "outward", "socket", "waiting")

    def __init__(self, connected: socket.socket) -> None:
        self.socket = connected
        self.inward = b""
        self.outward = bytearray()
        self.has_ended = False
        self.waiting = 0  # requests without a reply yet


class Control:
    """The control socket; everything but :meth:`open` and the replies happens in the plain thread."""

    def __init__(self, handler: "Handler") -> None:
        self._handler = handler
        self._poll = select.epoll()
        self._listener: socket.socket | None = None
        self._connections: dict[int, _Connection] = {}
        self._done: deque[tuple[_Connection, Answer, Callable[[], object] | None]] = deque()
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._poll.register(self._wake, select.EPOLLIN)

    def open(self, path: str) -> None:
        """Listen at ``path``, in the place of the life before; from any thread.

        Raises:
            OSError: It cannot be made there.
        """
        directory, _, name = path.rpartition("/")
        os.makedirs(directory, mode=0o700, exist_ok=True)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        # A short name first: the final one may be as long as a socket address can be. The rename makes
        # the change of owner one step: no instant without a socket.
        new = f"{directory}/.{os.getpid() % 1_000_000}"
        try:
            os.unlink(new)
        except FileNotFoundError:
            pass
        listener.bind(new)
        os.chmod(new, 0o600)
        listener.listen(8)
        os.rename(new, f"{directory}/{name}")
        self._listener = listener
        self._poll.register(listener.fileno(), select.EPOLLIN)

    def turn(self, timeout_s: float) -> None:
        """Wait for requests at most ``timeout_s`` and deal with what is there."""
        for descriptor, events in self._poll.poll(timeout_s):
            if descriptor == self._wake:
                os.eventfd_read(self._wake)
            elif self._listener is not None and descriptor == self._listener.fileno():
                self._accept(self._listener)
            elif (connection := self._connections.get(descriptor)) is not None:
                if events & select.EPOLLOUT:
                    self._send(connection)
                if events & select.EPOLLIN:
                    self._receive(connection)
                elif events & (select.EPOLLHUP | select.EPOLLERR):
                    self._close(connection)
        while self._done:
            connection, answer, then = self._done.popleft()
            connection.waiting -= 1
            connection.outward += message.encode(answer)
            self._send(connection)
            if then is not None:
                then()

    def _accept(self, listener: socket.socket) -> None:
        try:
            connected, _ = listener.accept()
        except OSError:
            return  # gone again, or out of descriptors: the component's affair, the beat goes on
        if len(self._connections) >= _MOST_CONNECTIONS:
            connected.close()
            return
        connected.setblocking(False)
        self._connections[connected.fileno()] = _Connection(connected)
        self._poll.register(connected.fileno(), select.EPOLLIN)

    def _receive(self, connection: _Connection) -> None:
        try:
            data = connection.socket.recv(_LONGEST_LINE)
        except BlockingIOError:
            return
        except OSError:
            self._close(connection)
            return
        if not data:
            # No more requests; the answers to earlier ones are still wanted (`… | nc -U …`).
            connection.has_ended = True
            self._send(connection)
            return
        if len(connection.inward) + len(data) > _LONGEST_LINE:
            self._close(connection)
            return
        *lines, connection.inward = (connection.inward + data).split(b"\n")
        for line in lines:
            self._request(connection, line)

    def _request(self, connection: _Connection, line: bytes) -> None:
        def reply(answer: "Answer", then: "Callable[[], object] | None" = None) -> None:
            self._done.append((connection, answer, then))
            os.eventfd_write(self._wake, 1)

        connection.waiting += 1
        request = message.decode(line)
        if request is None:
            reply({"ok": False, "error": "a request is one JSON object on one line"})
            return
        try:
            self._handler(request, reply)
        except Exception as error:  # noqa: BLE001 -- a bad request must not take the beat along
            reply({"ok": False, "error": f"{type(error).__name__}: {error}"})

    def _send(self, connection: _Connection) -> None:
        descriptor = connection.socket.fileno()
        if descriptor < 0:
            return  # hung up before the answer was ready
        try:
            sent = connection.socket.send(connection.outward) if connection.outward else 0
        except BlockingIOError:
            sent = 0
        except OSError:
            self._close(connection)
            return
        del connection.outward[:sent]
        if connection.has_ended and not connection.outward and not connection.waiting:
            self._close(connection)
            return
        wanted = 0 if connection.has_ended else select.EPOLLIN
        if connection.outward:
            wanted |= select.EPOLLOUT
        self._poll.modify(descriptor, wanted)

    def _close(self, connection: _Connection) -> None:
        descriptor = connection.socket.fileno()
        self._connections.pop(descriptor, None)
        self._poll.unregister(descriptor)
        connection.socket.close()
