"""The terminal while `holdfast top` has it: taken, drawn on, and given back whatever happens.

A frame goes out as one write that holds the lines that changed and nothing else: over a slow line that is what there
is. The alternate screen keeps what was there before; where a console has none, the last frame stays. The terminal is given back on
a normal end, an exception, Ctrl-C, SIGTERM, SIGHUP, SIGQUIT, and before Ctrl-Z stops us; after SIGKILL ``reset`` is the person's.
Leaves out what is drawn, and what keys mean.
"""

import os
import termios

from holdfast.cli.terminal import clip, visible

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from types import FrameType
    from typing import Any, Self
else:
    import _signal as signal  # without the enumerations (see holdfast.linux.signals)

# Alternate screen, no wrapping at the right edge, no cursor.
_ENTER = b"\x1b[?1049h\x1b[?7l\x1b[?25l\x1b[0m\x1b[2J"
_LEAVE = b"\x1b[0m\x1b[?7h\x1b[?25h\x1b[?1049l"


class Ended(BaseException):
    """A signal asked us to end; nothing but the giving back of the terminal stands between."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class Screen:
    """Use as a context manager: the terminal is ours inside."""

    def __init__(self, encoding: str) -> None:
        self.input = _input()
        self._output = 1
        self._encoding = encoding
        self._is_unicode = encoding.lower().startswith("utf")
        self._before: list[Any] | None = None
        self._shown: list[str] = []
        self._size = (0, 0)
        self._handlers: dict[int, Any] = {}
        self._stop = self._quit = False
        self.wake, self._wake_write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)

    def __enter__(self) -> "Self":
        """Take the terminal."""
        # Whoever is told to end while a write to a stuck line blocks has to get out of that write: so these raise.
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
            self._handlers[number] = signal.signal(number, self._end)
        self._handlers[signal.SIGINT] = signal.signal(signal.SIGINT, self._interrupt)
        self._handlers[signal.SIGTSTP] = signal.signal(signal.SIGTSTP, self._ask_to_stop)
        self._handlers[signal.SIGCONT] = signal.signal(signal.SIGCONT, self._resume)
        self._handlers[signal.SIGWINCH] = signal.signal(signal.SIGWINCH, self._note)
        signal.set_wakeup_fd(self._wake_write, warn_on_full_buffer=False)
        try:
            self._take()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """Give it back."""
        # Nothing may come between now: a second signal finds us ending already.
        for number in self._handlers:
            signal.signal(number, signal.SIG_IGN)
        self._give_back()
        signal.set_wakeup_fd(-1)
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers.clear()

    # -- signals -----------------------------------------------------------------------------------

    def _end(self, number: int, frame: "FrameType | None") -> None:
        del frame
        raise Ended(number)

    def _interrupt(self, number: int, frame: "FrameType | None") -> None:
        del number, frame
        if self._quit:  # the first one was not obeyed: we hang somewhere
            raise KeyboardInterrupt
        self._quit = True

    def _ask_to_stop(self, number: int, frame: "FrameType | None") -> None:
        del number, frame
        self._stop = True

    def _resume(self, number: int, frame: "FrameType | None") -> None:
        # After a SIGSTOP, which nobody can prepare for: a shell has used the terminal meanwhile.
        del number, frame
        if self._before is not None:
            self._take()

    def _note(self, number: int, frame: "FrameType | None") -> None:
        del number, frame  # the byte in the pipe wakes us; the size is looked at for each frame

    def obey(self) -> bool:
        """Do what signals have asked for since the last call; return whether to quit."""
        try:
            os.read(self.wake, 512)
        except BlockingIOError:
            pass  # no signal came
        if self._stop:
            self._stop = False
            self._give_back()
            handler = signal.signal(signal.SIGTSTP, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGTSTP)  # we stand still inside this call, until `fg`
            signal.signal(signal.SIGTSTP, handler)
            self._take()
        return self._quit

    # -- the terminal ------------------------------------------------------------------------------

    def _take(self) -> None:
        found = termios.tcgetattr(self.input)
        if self._before is None:
            self._before = [*found[:6], list(found[6])]
        # A key at a time, unseen; Ctrl-C and Ctrl-Z stay signals; Ctrl-S must not freeze us.
        found[0] &= ~termios.IXON
        found[3] &= ~(termios.ICANON | termios.ECHO)
        found[6][termios.VMIN], found[6][termios.VTIME] = 1, 0
        termios.tcsetattr(self.input, termios.TCSANOW, found)
        self._write(_ENTER)
        self.redraw()

    def _give_back(self) -> None:
        if self._before is None:
            return
        before, self._before = self._before, None
        # From the background setting a terminal stops the process, which has to end instead.
        old = signal.signal(signal.SIGTTOU, signal.SIG_IGN)
        try:
            # What a stuck line has not taken yet would only stand between us and these bytes.
            termios.tcflush(self._output, termios.TCOFLUSH)
            self._write(b"\x1b[%d;1H" % max(1, self._size[1]) + _LEAVE + b"\r\n"[: 2 * _is_plain()])
            termios.tcsetattr(self.input, termios.TCSANOW, before)
        except (OSError, termios.error):
            pass  # the terminal itself has gone (a closed window, a lost connection)
        finally:
            signal.signal(signal.SIGTTOU, old)

    def size(self) -> "tuple[int, int]":
        """Return columns and rows as they are now."""
        try:
            columns, rows = os.get_terminal_size(self._output)
        except OSError:
            columns, rows = 80, 24
        return columns or 80, rows or 24  # a serial line says 0 × 0

    def redraw(self) -> None:
        """Draw every line at the next frame, whatever is there now."""
        self._size = (0, 0)

    def draw(self, lines: "list[str]") -> int:
        """Show these lines from the top; return how many bytes that took."""
        columns, rows = size = self.size()
        parts = []
        if size != self._size:
            self._size, self._shown = size, [""] * rows
            parts.append("\x1b[0m\x1b[2J")
        lines = [clip(line, columns) for line in lines[:rows]]
        lines += [""] * (rows - len(lines))
        for at, (line, shown) in enumerate(zip(lines, self._shown, strict=True)):
            if line != shown:
                # Erasing behind a line that fills the row would take its last character away.
                rest = "\x1b[K" if visible(line) < columns else ""
                parts.append(f"\x1b[{at + 1};1H{line}{rest}")
        self._shown = lines
        text = "".join(parts)
        if not self._is_unicode:
            text = text.replace("…", "~")
        data = text.encode(self._encoding, "replace")
        self._write(data)
        return len(data)

    def _write(self, data: bytes) -> None:
        while data:
            data = data[os.write(self._output, data) :]


def _is_plain() -> bool:
    """Whether the terminal has no alternate screen: the prompt has to come below our last frame."""
    return os.environ.get("TERM", "") in ("linux", "vt100", "vt102")


def _input() -> int:
    """Return where keys come from.

    Raises:
        OSError: Nowhere: there is no terminal.
    """
    if os.isatty(0):
        return 0
    return os.open("/dev/tty", os.O_RDONLY | os.O_CLOEXEC)
