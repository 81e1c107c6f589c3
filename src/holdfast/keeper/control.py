"""The keeper's ear: a stream socket, one JSON object a line in, one a line out."""

import select
import time

from holdfast.keeper import isolating, orders, planning, starting
from holdfast.linux import system as os
from holdfast.linux import talk
from holdfast.model.errors import HoldfastError
from holdfast.wire import layout, message

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket
    from typing import Any

    from holdfast.keeper.state import State

_MAX_REQUEST = 1 << 20
_MAX_CLIENTS = 64


class _Client:
    __slots__ = ("outgoing", "received", "sock")

    def __init__(self, sock: "_socket.socket") -> None:
        self.sock = sock
        self.received = b""
        self.outgoing = b""


class Control:
    """Serves the socket within the keeper's own loop; never waits for a client."""

    def __init__(self, state: "State") -> None:
        self._state = state
        self._epoll = state.epoll
        self._listener = talk.listen_stream(f"{state.run_dir}/{layout.socket('keeper')}")
        self._clients: dict[int, _Client] = {}
        self._epoll.register(self._listener.fileno(), select.EPOLLIN)

    def serve(self, descriptor: int, event: int) -> None:
        """Handle an event on one of our descriptors; others are ignored."""
        if descriptor == self._listener.fileno():
            self._accept()
            return
        client = self._clients.get(descriptor)
        if client is None:
            return
        try:
            if event & (select.EPOLLIN | select.EPOLLHUP):
                self._receive(client)
            if client.outgoing:
                self._send(client)
        except OSError:
            self._drop(descriptor)

    def _accept(self) -> None:
        import _socket

        try:
            # What socket.accept() of the socket module calls.
            descriptor, _ = self._listener._accept()  # type: ignore[attr-defined]  # noqa: SLF001
        except OSError:
            return
        if len(self._clients) >= _MAX_CLIENTS:
            os.close(descriptor)
            return
        sock = _socket.socket(fileno=descriptor)
        sock.setblocking(False)
        self._clients[descriptor] = _Client(sock)
        self._epoll.register(descriptor, select.EPOLLIN)

    def _receive(self, client: _Client) -> None:
        data = client.sock.recv(65536)
        if not data or len(client.received) > _MAX_REQUEST:
            self._drop(client.sock.fileno())
            return
        client.received += data
        while b"\n" in client.received:
            line, _, client.received = client.received.partition(b"\n")
            client.outgoing += message.encode(self._answer(message.decode(line)))

    def _send(self, client: _Client) -> None:
        try:
            sent = client.sock.send(client.outgoing)
        except BlockingIOError:
            sent = 0
        client.outgoing = client.outgoing[sent:]
        mask = select.EPOLLIN | (select.EPOLLOUT if client.outgoing else 0)
        self._epoll.modify(client.sock.fileno(), mask)

    def _drop(self, descriptor: int) -> None:
        client = self._clients.pop(descriptor, None)
        if client is not None:
            self._epoll.unregister(descriptor)
            client.sock.close()

    def _answer(self, request: "dict[str, Any] | None") -> "dict[str, Any]":
        if request is None:
            return {"ok": False, "error": "this is not a request (one JSON object a line)"}
        try:
            return {"ok": True, **self._do(request)}
        except (HoldfastError, OSError, KeyError, ValueError) as error:
            return {"ok": False, "error": str(error)}

    def _do(self, request: "dict[str, Any]") -> "dict[str, Any]":
        state, action = self._state, request.get("do")
        if action == "status":
            now_s = time.monotonic()
            return {
                "pid": os.getpid(),
                "uptime_s": round(now_s - state.node_began_s, 3),
                "node": state.plan["node"],
                "digest": state.plan["digest"],
                "ending": state.is_ending,
                "workers": [kept.status(now_s) for kept in state.workers.values()],
            }
        if action == "down":
            orders.down(state, by=str(request.get("by", "user")), force=bool(request.get("force")))
            return {}
        if state.is_ending:
            raise ValueError("the node is going down")
        if action in ("apply", "isolate", "rejoin"):
            return _change_plan(state, request)
        if action not in ("start", "stop", "restart", "ready", "spare", "end"):
            raise ValueError(f"there is no request {action!r}")
        kept = state.workers.get(str(request.get("worker")))
        if kept is None:
            raise ValueError(f'there is no worker "{request.get("worker")}"')
        by = str(request.get("by", "user"))
        if action in ("start", "stop"):
            orders.want(state, kept, up=action == "start", by=by)
        elif action == "restart":
            if kept.life is not None and request.get("n") not in (None, kept.life.n):
                return {"state": kept.state, "note": "that life is over"}
            orders.restart(state,
                kept, by=by, how=str(request.get("how", "term")), flag=str(request.get("flag") or ""),
                incident=str(request.get("incident") or ""),
            )  # fmt: skip
        elif action == "spare":
            orders.restart(state, kept, by=by, how="kill")
        elif action == "end":
            return orders.end_fork(state, kept, request)
        else:
            starting.ready(state, kept, int(request["n"]))
        return {"state": kept.state}


def _change_plan(state: "State", request: "dict[str, Any]") -> "dict[str, Any]":
    if request["do"] == "apply":
        return planning.apply(state, str(request["plan"]))
    return (isolating.isolate if request["do"] == "isolate" else isolating.rejoin)(state, request)
