"""One connection that speaks RESP, the protocol of Redis: commands out, replies in, everything with a deadline.

Own code instead of redis-py: that costs each worker 21 MB and 0.23 s at each start, and a round trip 75 µs of processor time
against 28. RESP2, and of RESP3 what the doorbell needs (pushes). From the protocol's specification at redis.io.
Left out: who is asked, and what an error means (:mod:`holdfast.jobs.redis.link`).
"""

import socket
from struct import Struct
from time import monotonic

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from holdfast.wire.redisurl import Address

    #: What a command is made of.
    Word = bytes | str | int | float

#: A text longer than this is no answer to anything we ask.
LONGEST = 1 << 30
_TIMEVAL = Struct("@ll")


class CutError(OSError):
    """The connection ended, or nothing came in time: whether the command was carried out is not known."""


class ReplyError(Exception):
    """The server answered with an error."""

    @property
    def code(self) -> str:
        """Its first word, which says of what kind it is."""
        return str(self.args[0]).partition(" ")[0]


class Push(list):  # type: ignore[type-arg]
    """A message that is no reply (RESP3)."""


def pack(command: "Sequence[Word]") -> bytes:
    """Return one command as it goes over the wire."""
    parts = [b"*%d\r\n" % len(command)]
    add = parts.append
    for word in command:
        if word.__class__ is not bytes:
            # repr of a float is the shortest text that is exactly this number.
            word = (word if word.__class__ is str else repr(word)).encode()
        add(b"$%d\r\n%b\r\n" % (len(word), word))
    return b"".join(parts)


class Connection:
    """A connection to one server; one thread at a time.

    Raises:
        OSError: It cannot be reached.
        ReplyError: It does not let us in.
    """

    __slots__ = ("_reader", "_timeout_s", "fd", "socket", "used_s", "where")

    def __init__(self, address: "Address", where: "tuple[str, int] | str", is_sentinel: bool = False) -> None:  # fmt: skip
        self.where = where
        self._timeout_s = address.timeout_s
        if isinstance(where, str):
            self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self.socket.settimeout(self._timeout_s)
            try:
                self.socket.connect(where)
            except BaseException:
                self.socket.close()
                raise
        else:
            self.socket = socket.create_connection(where, min(self._timeout_s, 3.0))
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            self._begin(address, is_sentinel)
        except BaseException:
            self.socket.close()
            raise
        self.used_s = monotonic()

    def _begin(self, address: "Address", is_sentinel: bool) -> None:
        """Set the deadlines, encrypt, log in, choose the database."""
        self._reader: (
            Any  # a buffered reader whose `read` returns None where the time limit was first
        )
        if address.is_tls:
            self.socket.settimeout(self._timeout_s)
            self.socket = _encrypted(self.socket, address, self.where)
            self._reader = self.socket.makefile("rb", 65536)
        else:
            # The kernel's own time limits: Python's would cost a poll() before each read and write.
            self.socket.settimeout(None)
            limit = _TIMEVAL.pack(int(self._timeout_s), int(self._timeout_s % 1 * 1e6))
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
            self._reader = open(self.socket.fileno(), "rb", 65536, closefd=False)
        self.fd = self.socket.fileno()
        first: list[list[Word]] = []
        if is_sentinel and address.options.get("sentinel_password"):
            first.append(["AUTH", address.options["sentinel_password"]])
        if address.password and not is_sentinel:
            login = [address.user, address.password] if address.user else [address.password]
            first.append(["AUTH", *login])
        if address.db and not is_sentinel:
            first.append(["SELECT", address.db])
        if first:
            self.send(b"".join(map(pack, first)))
            for reply in [self.read() for _ in first]:
                if isinstance(reply, ReplyError):
                    raise reply

    def send(self, data: bytes) -> None:
        """Send packed commands."""
        try:
            self.socket.sendall(data)
        except BlockingIOError:
            raise CutError(f"{self.name} took nothing for {self._timeout_s:g} s") from None

    def read(self) -> "Any":
        """Return the next reply: bytes, str (a status), int, None, a list, a `ReplyError`, or a `Push`."""
        line = self._reader.readline()
        if line[-2:] != b"\r\n":
            raise self._cut(line)
        kind = line[0]
        if kind == 36:  # $ text of a known length
            size = int(line[1:-2])
            if size < 0:
                return None
            return self._text(size)
        if kind == 58:  # : number
            return int(line[1:-2])
        if kind == 43:  # + status
            return line[1:-2].decode()
        if kind == 42:  # * array
            size = int(line[1:-2])
            if size < 0:
                return None
            read = self.read
            return [read() for _ in range(size)]
        if kind == 45:  # - error
            return ReplyError(line[1:-2].decode("utf-8", "replace"))
        return self._third(kind, line[1:-2])

    def _text(self, size: int) -> bytes:
        if size > LONGEST:
            raise CutError(f"{self.name} announces an answer of {size} bytes")
        data: bytes | None = self._reader.read(size + 2)
        if data is None or len(data) != size + 2:
            # A short read is the end, or the time limit in the middle of it.
            raise self._cut(data or b"")
        return data[:-2]

    def _third(self, kind: int, rest: bytes) -> "Any":
        """Read what only RESP3 has."""
        if kind == 62:  # > push
            return Push([self.read() for _ in range(int(rest))])
        if kind == 37:  # % map
            return [self.read() for _ in range(2 * int(rest))]
        if kind == 126:  # ~ set
            return [self.read() for _ in range(int(rest))]
        if kind == 95:  # _ null
            return None
        if kind == 35:  # # truth
            return int(rest == b"t")
        if kind == 44:  # , number
            return float(rest)
        raise CutError(f"{self.name} does not speak the protocol of Redis: {bytes((kind,)) + rest[:40]!r}")  # fmt: skip

    def call(self, *command: "Word") -> "Any":
        """Send one command and return its reply; an error is raised."""
        self.send(pack(command))
        reply = self.read()
        while reply.__class__ is Push:
            reply = self.read()
        if reply.__class__ is ReplyError:
            raise reply
        return reply

    def has_more(self) -> bool:
        """Say whether something has come that was not read, without waiting."""
        limit_s = self.socket.gettimeout()
        self.socket.settimeout(0)
        try:
            return bool(self._reader.peek(1))
        except OSError:
            return False  # TLS says "not yet" by an error; a real one shows at the next use
        finally:
            self.socket.settimeout(limit_s)

    def is_over(self) -> bool:
        """Say whether the other side has closed it while nobody looked; costs one system call."""
        try:
            # What comes without having been asked for is an error (or the rest of something): of no use, either.
            self.socket.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        except ValueError:
            return False  # TLS allows no flags: a cut is noticed at the first use then
        except OSError:
            return True
        return True

    def close(self) -> None:
        """End it."""
        self.fd = -1
        self._reader.close()
        self.socket.close()

    @property
    def name(self) -> str:
        """Host and port, or the path, for a message."""
        return self.where if isinstance(self.where, str) else f"{self.where[0]}:{self.where[1]}"

    def _cut(self, had: bytes) -> CutError:
        if not self.is_over():
            return CutError(f"{self.name} has not answered for {self._timeout_s:g} s")
        return CutError(f"{self.name} ended the connection{' in its answer' if had else ''}")


def _encrypted(
    plain: "socket.socket", address: "Address", where: "tuple[str, int] | str"
) -> "socket.socket":
    """Begin TLS; `ssl` is imported only here: it costs 3 MB."""
    import ssl

    options = address.options
    context = ssl.create_default_context(cafile=options.get("ca") or None)
    if options.get("verify") == "no":
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if options.get("cert"):
        context.load_cert_chain(options["cert"], options.get("key") or None)
    return context.wrap_socket(plain, server_hostname=where[0])
