"""A terminal for tests: what does a person see after these bytes? And a program on a pty that is driven by keys.

Understands exactly the sequences that `holdfast top` may send; any other one fails the test, since a plain console would show it as rubbish.
"""

import codecs
import fcntl
import os
import pty
import re
import select
import signal
import struct
import sys
import termios
import time
from collections.abc import Callable
from typing import Any, Self

SLOWNESS = float(os.environ.get("HOLDFAST_SLOWNESS", "1"))
_SEQUENCE = re.compile(r"\x1b\[(\??)([\d;]*)([A-Za-z])")


class Screen:
    """The grid of characters; those that are shown reversed are known, too."""

    def __init__(self, columns: int, rows: int) -> None:
        self.columns, self.rows = columns, rows
        self.modes: dict[str, bool] = {}
        self.styles: set[str] = set()
        self._rest = ""
        self.clear()

    def clear(self) -> None:
        self.cells = [[" "] * self.columns for _ in range(self.rows)]
        self.row = self.column = 0

    def feed(self, text: str) -> None:
        text = self._rest + text
        self._rest = ""
        at = 0
        while at < len(text):
            sign = text[at]
            if sign == "\x1b":
                found = _SEQUENCE.match(text, at)
                if found is None:
                    if len(text) - at < 12:
                        self._rest = text[at:]
                        return
                    raise AssertionError(f"not plain ANSI: {text[at : at + 12]!r}")
                self._obey(*found.groups())
                at = found.end()
                continue
            at += 1
            if sign == "\r":
                self.column = 0
            elif sign == "\n":
                self._next_row()
            elif sign != "\x07":
                assert sign.isprintable(), f"a control character on the screen: {sign!r}"
                if self.column == self.columns:
                    assert self.modes.get("7", True), "something was written beyond the right edge"
                    self.column = 0
                    self._next_row()
                self.cells[self.row][self.column] = sign
                self.column += 1

    def _next_row(self) -> None:
        if self.row == self.rows - 1:
            self.cells = [*self.cells[1:], [" "] * self.columns]
        else:
            self.row += 1

    def _obey(self, private: str, numbers: str, kind: str) -> None:
        if private:
            self.modes[numbers] = kind == "h"
        elif kind == "H":
            row, _, column = (numbers or "1;1").partition(";")
            self.row, self.column = min(self.rows, int(row)) - 1, int(column or 1) - 1
        elif kind == "J" and numbers == "2":
            self.cells = [[" "] * self.columns for _ in range(self.rows)]
        elif kind == "K" and not numbers:
            self.cells[self.row][self.column :] = [" "] * (self.columns - self.column)
        elif kind == "m":
            self.styles.add(numbers)
        else:
            raise AssertionError(f"not plain ANSI: {numbers}{kind}")

    def lines(self) -> list[str]:
        return ["".join(line).rstrip() for line in self.cells]


class OnTerminal:
    """A program on a terminal of its own. Use as a context manager."""

    def __init__(self, argv: list[str], env: dict[str, str], columns: int = 100, rows: int = 30) -> None:  # fmt: skip
        self.screen = Screen(columns, rows)
        self.written = 0
        self._decode = codecs.getincrementaldecoder("utf-8")("replace").decode
        self.status: int | None = None
        pid, self.master = pty.fork()
        if pid == 0:
            try:
                fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
                os.execvpe(argv[0], argv, env)
            finally:
                os._exit(127)
        self.pid = pid

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.status is None:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        os.close(self.master)

    def press(self, keys: str) -> None:
        os.write(self.master, keys.encode())

    def resize(self, columns: int, rows: int) -> None:
        """As a terminal emulator does it: the kernel tells the program."""
        self.screen = Screen(columns, rows)
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def attributes(self) -> list[Any]:
        return termios.tcgetattr(self.master)

    def unread(self) -> int:
        """How many bytes the program has written that nobody has read."""
        return int.from_bytes(fcntl.ioctl(self.master, termios.FIONREAD, b"\0" * 4), sys.byteorder)

    def read(self, for_s: float = 0.05) -> bool:
        """Take what has come; False when nothing has, or will."""
        ready, _, _ = select.select([self.master], [], [], for_s)
        if not ready:
            return False
        try:
            data = os.read(self.master, 65536)
        except OSError:
            return False  # it has ended
        self.written += len(data)
        self.screen.feed(self._decode(data))
        return True

    def see(self, seen: Callable[[list[str]], Any] | str, within_s: float = 10.0) -> list[str]:
        """Wait until the screen shows something, and return its lines."""
        until_s = time.monotonic() + within_s * SLOWNESS
        while True:
            lines = self.screen.lines()
            if (seen in "\n".join(lines)) if isinstance(seen, str) else seen(lines):
                return lines
            shown = "\n".join(lines)
            assert time.monotonic() < until_s, f"in vain waited for {seen!r}; there is:\n{shown}"
            self.read()

    def end(self, within_s: float = 10.0) -> int:
        """Wait until it has ended, and return its wait status."""
        until_s = time.monotonic() + within_s * SLOWNESS
        while True:
            self.read(0.02)
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.status = status
                while self.read(0.02):
                    pass
                return status
            assert time.monotonic() < until_s, "it does not end"
