"""How is something asked without waiting for it? Requests to the node's sockets, and programs whose output is wanted.

Both are looked at by the one loop of `holdfast top`, which goes on drawing and hearing keys meanwhile: a keeper that hangs
must not freeze the screen that is to show it. Leaves out what is asked.
"""

import os
import sys
import time
from _socket import AF_UNIX, SOCK_CLOEXEC, SOCK_NONBLOCK, SOCK_STREAM, socket

from holdfast.linux import signals as signal
from holdfast.wire import message

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

#: Output of a program beyond this is not kept.
_MOST_BYTES = 256 * 1024


class Ask:
    """One request to a stream socket, and its reply."""

    __slots__ = ("_out", "_parts", "_sock", "began_s", "deadline_s", "is_over", "reply")

    def __init__(self, path: str, what: "dict[str, Any]", timeout_s: float) -> None:
        self.began_s = time.monotonic()
        self.deadline_s = self.began_s + timeout_s
        self.is_over = False
        #: None: nobody has answered (yet).
        self.reply: dict[str, Any] | None = None
        self._out = message.encode(what)
        self._parts: list[bytes] = []
        self._sock = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK)
        try:
            self._sock.connect(path)  # at once, or refused: there is no network between
        except OSError:
            self.end()
        else:
            self.step()

    def fileno(self) -> int:
        """Return the descriptor to look at."""
        return self._sock.fileno()

    def wants_to_write(self) -> bool:
        """Whether the request has not gone out whole."""
        return bool(self._out)

    def step(self) -> None:
        """Go on as far as that works without waiting."""
        try:
            while self._out:
                self._out = self._out[self._sock.send(self._out) :]
            while part := self._sock.recv(1 << 16):
                self._parts.append(part)
                if part.endswith(b"\n"):
                    self.reply = message.decode(b"".join(self._parts))
                    break
            self.end()
        except BlockingIOError:
            if time.monotonic() >= self.deadline_s:
                self.end()
        except OSError:
            self.end()

    def end(self) -> None:
        """Ask no longer."""
        self.is_over = True
        self._parts.clear()
        self._sock.close()


class Program:
    """A command of ours in a process of its own, for what costs memory or time: stacks, a profile."""

    __slots__ = ("_bytes", "_fd", "_parts", "is_over", "pid", "status", "words")

    def __init__(self, words: "list[str]") -> None:
        self.words = words
        self.is_over = False
        self.status = 0
        self._parts: list[bytes] = []
        self._bytes = 0
        self._fd, theirs = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        try:
            # A group of its own: Ctrl-C on our terminal is for us. Signals that we handle are default there by exec.
            self.pid = os.posix_spawn(
                sys.executable, [sys.executable, "-m", "holdfast", *words], {**os.environ, "COLUMNS": "120"},
                file_actions=[(os.POSIX_SPAWN_DUP2, null, 0), (os.POSIX_SPAWN_DUP2, theirs, 1), (os.POSIX_SPAWN_DUP2, theirs, 2)],
                setpgroup=0,
            )  # fmt: skip
        finally:
            os.close(theirs)
            os.close(null)

    def fileno(self) -> int:
        """Return the descriptor to look at."""
        return self._fd

    def step(self) -> None:
        """Take what it has printed."""
        try:
            while part := os.read(self._fd, 1 << 16):
                if self._bytes < _MOST_BYTES:
                    self._parts.append(part)
                    self._bytes += len(part)
        except BlockingIOError:
            return
        # The end of its output: it ends, or has ended; a moment is all that this can take.
        os.close(self._fd)
        self.is_over = True
        _, status = os.waitpid(self.pid, 0)
        self.status = os.waitstatus_to_exitcode(status)

    def lines(self) -> "list[str]":
        """Return what it printed."""
        return b"".join(self._parts).decode("utf-8", "replace").splitlines()

    def give_up(self) -> None:
        """End it: as Ctrl-C would, so that it takes along what it has started."""
        if not self.is_over:
            self.is_over = True
            os.kill(self.pid, signal.SIGINT)
            os.close(self._fd)
