"""One question to a worker, answered within a deadline or not at all: tcp, unix, http, exec.

Nothing here waits: a connection that is being made and a child that runs are descriptors of the engine. Host names are
not resolved, since a resolver may hang for half a minute; ``localhost`` and numeric addresses are what a probe of one's own
box needs. TLS is left to ``exec`` for the same reason that the house processes have no ssl module.
"""

import _socket
import errno
import time

from holdfast.linux import pidfd
from holdfast.linux import system as os
from holdfast.watchdog.engine import READ, WRITE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from holdfast.watchdog.engine import Engine

    Answer = Callable[[bool, str], None]

_HEAD_BYTES = 64
_SIGKILL, _SIGPIPE = 9, 13  # `import signal` brings enum with it


class Probe:
    """One probe that runs; ``answer(ok, why)`` is called once, unless it is abandoned."""

    __slots__ = (
        "_answer",
        "_deadline_s",
        "_engine",
        "_in",
        "_out",
        "_pid",
        "_pidfd",
        "_sock",
        "began_s",
    )

    def __init__(self, engine: "Engine", deadline_s: float, answer: "Answer") -> None:
        self._engine = engine
        self._answer: Answer | None = answer
        self._deadline_s = deadline_s
        self._sock: _socket.socket | None = None
        self._pid = 0
        self._pidfd = -1
        self._out = b""
        self._in = b""
        self.began_s = time.monotonic()

    def ask(
        self,
        kind: str,
        target: str,
        argv: "list[str]",
        directory: str,
        env: "Mapping[str, str] | None",
    ) -> None:
        """Begin; the answer may come before this returns."""
        self._engine.at(self.began_s + self._deadline_s, self._too_late)
        try:
            if kind == "exec":
                self._exec(argv, directory, env)
            elif kind == "unix":
                self._connect(_socket.AF_UNIX, target, target)
            elif kind == "tcp":
                family, address = parse_address(target)
                self._connect(family, address, target)
            else:
                family, address, self._out = parse_url(target)
                self._connect(family, address, target)
        except (OSError, ValueError) as error:
            self._end(False, f"{target or argv[0]}: {getattr(error, 'strerror', None) or error}")

    def abandon(self) -> None:
        """Nobody wants the answer any more."""
        self._answer = None
        self._close()

    def _exec(self, argv: "list[str]", directory: str, env: "Mapping[str, str] | None") -> None:
        if directory:
            # posix_spawn knows no directory, and fork from a process with a thread is not safe.
            argv = ["/bin/sh", "-c", 'cd "$0" && exec "$@"', directory, *argv]
        null = [
            (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, "/dev/null", os.O_WRONLY, 0),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ]
        path = {} if env is None else dict(env)
        path.setdefault("PATH", os.environ.get("PATH", os.defpath))
        self._pid = os.posix_spawn(
            argv[0], argv, path, file_actions=null, setsid=True, setsigdef=(_SIGPIPE,)
        )
        self._pidfd = pidfd.open_pid(self._pid)
        self._engine.watch(self._pidfd, READ, self._child_ended)

    def _child_ended(self, _events: int) -> None:
        _, status = os.waitpid(self._pid, 0)
        self._pid = 0
        self._end(status == 0, "" if status == 0 else f"it ended with {_status_words(status)}")

    def _connect(self, family: int, address: "str | tuple[str, int]", target: str) -> None:
        sock = _socket.socket(
            family, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC | _socket.SOCK_NONBLOCK
        )
        self._sock = sock
        found = sock.connect_ex(address)
        if found not in (0, errno.EINPROGRESS):
            self._end(False, f"{target}: {os.strerror(found)}")
            return
        self._engine.watch(sock.fileno(), WRITE, self._connected)

    def _connected(self, _events: int) -> None:
        sock = self._sock
        if sock is None:
            return
        found = sock.getsockopt(_socket.SOL_SOCKET, _socket.SO_ERROR)
        if found:
            self._end(False, f"cannot connect: {os.strerror(found)}")
        elif not self._out:
            self._end(True, "")
        else:
            try:
                self._out = self._out[sock.send(self._out) :]
            except OSError as error:
                self._end(False, f"cannot ask: {error.strerror}")
                return
            if not self._out:
                self._engine.watch(sock.fileno(), READ, self._answered)

    def _answered(self, _events: int) -> None:
        sock = self._sock
        if sock is None:
            return
        try:
            part = sock.recv(_HEAD_BYTES - len(self._in))
        except OSError as error:
            self._end(False, f"no answer: {error.strerror}")
            return
        self._in += part
        if b"\n" not in self._in and part and len(self._in) < _HEAD_BYTES:
            return
        words = self._in.split(b"\n")[0].split()
        if len(words) >= 2 and words[0].startswith(b"HTTP/") and words[1].isdigit():
            code = int(words[1])
            self._end(200 <= code < 400, f"HTTP status {code}")
        else:
            self._end(False, "the answer is not HTTP")

    def _too_late(self) -> None:
        self._end(False, f"no answer within {self._deadline_s:g} s")

    def _end(self, ok: bool, why: str) -> None:
        self._close()
        answer, self._answer = self._answer, None
        if answer is not None:
            answer(ok, "" if ok else why)

    def _close(self) -> None:
        if self._sock is not None:
            self._engine.unwatch(self._sock.fileno())
            self._sock.close()
            self._sock = None
        if self._pidfd >= 0:
            self._engine.unwatch(self._pidfd)
            if self._pid:
                try:
                    os.killpg(self._pid, _SIGKILL)
                except OSError:
                    pass  # it is ending just now
                Reaper.later(self._engine, self._pid, self._pidfd)
            else:
                os.close(self._pidfd)
            self._pidfd = -1


class Reaper:
    """Takes the status of killed children once they are dead; one in D state must not hold us."""

    @staticmethod
    def later(engine: "Engine", pid: int, descriptor: int) -> None:
        """Reap ``pid`` when its pidfd says so."""

        def gone(_events: int) -> None:
            engine.unwatch(descriptor)
            os.close(descriptor)
            try:
                os.waitpid(pid, 0)
            except ChildProcessError:
                pass  # reaped by somebody else

        engine.watch(descriptor, READ, gone)


def parse_address(target: str) -> "tuple[int, tuple[str, int]]":
    """Return (family, address) for ``host:port``, ``[v6]:port``, ``:port`` or a bare port.

    Raises:
        ValueError: The host is a name, or there is no port.
    """
    host, _, port = target.rpartition(":")
    host = host.strip("[]")
    if host in ("", "localhost", "*"):
        host = "127.0.0.1"
    family = _socket.AF_INET6 if ":" in host else _socket.AF_INET
    try:
        _socket.inet_pton(family, host)
    except OSError:
        raise ValueError(
            f"{host!r} is not a numeric address (names are not resolved here)"
        ) from None
    return family, (host, int(port))


def parse_url(url: str) -> "tuple[int, tuple[str, int], bytes]":
    """Return (family, address, request) for an http URL.

    Raises:
        ValueError: Another scheme, or an address that would have to be looked up.
    """
    scheme, sign, rest = url.partition("://")
    if not sign or scheme != "http":
        raise ValueError("only http:// can be probed; use exec for everything else")
    host, slash, path = rest.partition("/")
    if ":" not in host.rpartition("]")[2]:
        host += ":80"
    family, address = parse_address(host)
    head = f"GET {slash or '/'}{path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: holdfast\r\nConnection: close\r\n\r\n"
    return family, address, head.encode("latin-1", "replace")


def _status_words(status: int) -> str:
    if os.WIFSIGNALED(status):
        return f"signal {os.WTERMSIG(status)}"
    return f"status {os.WEXITSTATUS(status)}"
