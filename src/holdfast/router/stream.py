"""How do bytes get from a plain socket to a protocol and back, at the least cost per connection?

An :class:`asyncio.Transport` of our own for TCP and Unix sockets: slotted, without a selector entry or a handle of its
own. All of them share one epoll of ours, which the event loop watches as a single descriptor; an idle connection
costs 0.6 KB here instead of 3 KB, a chunk half of the calls. TLS goes through asyncio's own transport. Not here: what the
bytes mean, and when a slow reader is cut off (the protocol is told by `pause_writing`, as asyncio does).
"""

import asyncio
import select
import socket

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any, TypeAlias

    Bytes: TypeAlias = bytes | bytearray | memoryview

#: Taken in one go. Not more: what a chunk leads to is work during which nobody else has a turn.
_READ_BYTES = 65_536
_IN = select.EPOLLIN
_OUT = select.EPOLLOUT
#: Connections that get their turn before the event loop gets its.
_TURN = 64
#: Above this much unsent output `pause_writing` is called (asyncio's default); connections set their own.
_HIGH_BYTES = 65_536


class Poller:
    """Watches many descriptors as one. What it watches has `readable()` and `writable()`."""

    __slots__ = ("_epoll", "_failed", "_loop", "_watched")

    def __init__(
        self, loop: asyncio.AbstractEventLoop, failed: "Callable[[Any, Exception], None]"
    ) -> None:
        self._loop = loop
        self._epoll = select.epoll()
        self._watched: dict[int, Any] = {}
        self._failed = failed
        loop.add_reader(self._epoll.fileno(), self._ready)

    def watch(self, descriptor: int, what: "Any") -> None:
        """Begin to watch for input."""
        self._epoll.register(descriptor, _IN)
        self._watched[descriptor] = what

    def change(self, descriptor: int, *, reads: bool, writes: bool) -> None:
        """Watch for input and for room for output, or not."""
        self._epoll.modify(descriptor, (_IN if reads else 0) | (_OUT if writes else 0))

    def forget(self, descriptor: int) -> None:
        """Watch it no longer."""
        del self._watched[descriptor]
        self._epoll.unregister(descriptor)

    def close(self) -> None:
        """End; what is still watched is left alone."""
        self._loop.remove_reader(self._epoll.fileno())
        self._epoll.close()

    def _ready(self) -> None:
        watched = self._watched
        for descriptor, mask in self._epoll.poll(0, _TURN):
            # An earlier one of this turn may have closed it.
            one = watched.get(descriptor)
            if one is None:
                continue
            try:
                if mask & _OUT:
                    one.writable()
                if mask != _OUT:
                    one.readable()
            except Exception as error:  # noqa: BLE001 -- one connection must not take the others along
                self._failed(one, error)


class Tally:
    """How much is unsent on many streams together; `exceeded` is called when that is too much, and has to make it less."""

    __slots__ = ("exceeded", "limit", "unsent_bytes")

    def __init__(self, limit: int, exceeded: "Callable[[], None]") -> None:
        self.limit = limit
        self.exceeded = exceeded
        self.unsent_bytes = 0


class Stream(asyncio.Transport):
    """A connected plain socket."""

    __slots__ = ("_backlog", "_backlog_bytes", "_closing", "_descriptor", "_high", "_is_slow", "_lost", "_poller", "_protocol",
                 "_reads", "_sock", "_tally", "_wants_eof")  # fmt: skip

    def __init__(self, poller: Poller, sock: socket.socket, protocol: asyncio.BaseProtocol) -> None:
        self._poller = poller
        self._sock = sock
        self._descriptor = sock.fileno()
        self._protocol: Any = protocol
        self._backlog: list[Bytes] | None = None  #: None: the socket takes everything
        self._backlog_bytes = 0
        self._high = _HIGH_BYTES
        self._closing = False
        self._is_slow = False
        self._lost = False
        self._reads = True
        self._tally: Tally | None = None
        self._wants_eof = False
        poller.watch(self._descriptor, self)
        self._protocol.connection_made(self)

    # -- input -----------------------------------------------------------------------------------

    def readable(self) -> None:
        """Take what the socket has and hand it on."""
        if not self._reads:
            # Only a hang-up or an error is reported to one who does not read.
            self._fail(ConnectionResetError("the peer is gone"))
            return
        try:
            data = self._sock.recv(_READ_BYTES)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self._fail(error)
            return
        if data:
            self._protocol.data_received(data)
        elif not self._protocol.eof_received():
            self.close()
        elif not self._lost:
            self.pause_reading()

    def pause_reading(self) -> None:
        """Leave input in the kernel from now on."""
        if self._reads and not self._lost:
            self._reads = False
            self._watch()

    def resume_reading(self) -> None:
        """Take input again."""
        if not self._reads and not self._closing:
            self._reads = True
            self._watch()

    def is_reading(self) -> bool:
        """Whether input is taken."""
        return self._reads and not self._closing

    # -- output ----------------------------------------------------------------------------------

    def write(self, data: "Bytes") -> None:
        """Send, or keep what the socket does not take now."""
        if self._backlog is not None:
            if not self._lost:
                self._keep(data)
            return
        try:
            sent = self._sock.send(data)
        except (BlockingIOError, InterruptedError):
            sent = 0
        except OSError as error:
            # Not at once: the caller is in the middle of something.
            self._backlog = []
            asyncio.get_running_loop().call_soon(self._fail, error)
            return
        if sent != len(data):
            self._backlog = []
            self._watch()
            self._keep(memoryview(data)[sent:])

    def writelines(self, list_of_data: "Iterable[Bytes]") -> None:
        """Send several pieces."""
        self.write(b"".join(list_of_data))

    def _keep(self, data: "Bytes") -> None:
        assert self._backlog is not None  # noqa: S101 -- both callers have seen to it
        if not data:
            return
        self._backlog.append(data)
        size = len(data)
        self._backlog_bytes += size
        tally = self._tally
        if tally is not None:
            tally.unsent_bytes += size
        if self._backlog_bytes > self._high and not self._is_slow:
            self._is_slow = True
            self._protocol.pause_writing()
        if tally is not None and tally.unsent_bytes > tally.limit:
            tally.exceeded()

    def writable(self) -> None:
        """Send more of what was kept."""
        backlog = self._backlog
        if backlog is None:
            return
        try:
            # 64 pieces: about what a socket takes in one go, and far from IOV_MAX.
            sent = self._sock.sendmsg(backlog[:64]) if backlog else 0
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self._fail(error)
            return
        self._backlog_bytes -= sent
        if self._tally is not None:
            self._tally.unsent_bytes -= sent
        done = 0
        for piece in backlog:
            if sent < len(piece):
                break
            sent -= len(piece)
            done += 1
        del backlog[:done]
        if sent:
            backlog[0] = memoryview(backlog[0])[sent:]
        if self._is_slow and self._backlog_bytes <= self._high // 4:
            self._is_slow = False
            self._protocol.resume_writing()
        if not backlog and not self._lost:
            self._all_sent()

    def _all_sent(self) -> None:
        self._backlog = None
        if self._closing:
            self._fail(None)
            return
        self._watch()
        if self._wants_eof:
            self._shut()

    def count_in(self, tally: Tally) -> None:
        """Let what is unsent here count there from now on."""
        self._tally = tally
        tally.unsent_bytes += self._backlog_bytes

    def _drop_backlog(self) -> None:
        if self._tally is not None:
            self._tally.unsent_bytes -= self._backlog_bytes
        self._backlog = []
        self._backlog_bytes = 0

    def can_write_eof(self) -> bool:
        """Whether one direction can be closed alone."""
        return True

    def write_eof(self) -> None:
        """Close our direction when everything is sent; input goes on."""
        if not self._wants_eof:
            self._wants_eof = True
            if self._backlog is None:
                self._shut()

    def _shut(self) -> None:
        try:
            self._sock.shutdown(socket.SHUT_WR)
        except OSError:
            return  # gone already; reading will tell

    def get_write_buffer_size(self) -> int:
        """Bytes that the socket has not taken yet."""
        return self._backlog_bytes

    def get_write_buffer_limits(self) -> tuple[int, int]:
        """(low, high) in bytes."""
        return self._high // 4, self._high

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:  # noqa: ARG002 -- a quarter of it
        """Set how much may be kept before `pause_writing` is called."""
        self._high = _HIGH_BYTES if high is None else high

    # -- the end ---------------------------------------------------------------------------------

    def close(self) -> None:
        """Send what is kept, then end; input is ignored from now on."""
        if self._closing:
            return
        self._closing = True
        self._reads = False
        if self._backlog is None:
            self._backlog = []
            asyncio.get_running_loop().call_soon(self._fail, None)
        elif not self._lost:
            self._watch()

    def abort(self) -> None:
        """End now; what is kept is lost."""
        self._closing = True
        self._reads = False
        if not self._lost:
            self._drop_backlog()
            asyncio.get_running_loop().call_soon(self._fail, None)

    def is_closing(self) -> bool:
        """Whether it is closed or about to be."""
        return self._closing

    def _fail(self, error: "Exception | None") -> None:
        if self._lost:
            return
        self._lost = self._closing = True
        self._reads = False
        self._drop_backlog()
        self._tally = None
        self._poller.forget(self._descriptor)
        self._sock.close()
        protocol, self._protocol = self._protocol, None
        protocol.connection_lost(error)

    # -- the rest of what a transport has ----------------------------------------------------------

    def _watch(self) -> None:
        self._poller.change(self._descriptor, reads=self._reads, writes=self._backlog is not None)

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Hand input and news to somebody else."""
        self._protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        """Whom input and news go to."""
        protocol: asyncio.BaseProtocol = self._protocol
        return protocol

    def get_extra_info(self, name: str, default: "Any" = None) -> "Any":
        """`socket`, `peername`, `sockname`, as with asyncio's own."""
        if name == "socket":
            return self._sock
        try:
            if name == "peername":
                return self._sock.getpeername()
            if name == "sockname":
                return self._sock.getsockname()
        except OSError:
            return default
        return default
