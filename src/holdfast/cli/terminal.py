"""What may be written to this terminal: colour or not, how wide, how high, and a block that is redrawn in place.

Plain ANSI: it has to work over ssh on a box that is swapping. NO_COLOR (no-color.org) and TERM=dumb are respected.
Leaves out what is shown (:mod:`holdfast.cli.table`).
"""

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace
    from typing import TextIO

#: Width of output that goes to a file or a pipe: nothing is cut there.
UNLIMITED = 100_000

_STYLES = {
    "bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "blue": "34", "magenta": "35",
    "cyan": "36", "bright_red": "91", "bright_green": "92", "bright_blue": "94", "bright_magenta": "95",
    "bright_cyan": "96",
}  # fmt: skip
#: Colours that tell workers apart; red and yellow mean something, so they are not among them.
_WORKER_COLOURS = (
    "cyan",
    "green",
    "blue",
    "magenta",
    "bright_cyan",
    "bright_green",
    "bright_blue",
    "bright_magenta",
)


class Paint:
    """Puts colour on words, or not."""

    __slots__ = ("is_on",)

    def __init__(self, is_on: bool) -> None:
        self.is_on = is_on

    def __call__(self, text: str, style: str) -> str:
        """Return ``text`` in a style; unchanged where there is no colour."""
        if not self.is_on or not style or not text:
            return text
        return f"\x1b[{_STYLES[style]}m{text}\x1b[0m"

    def worker(self, text: str, name: str) -> str:
        """Return ``text`` in the colour of a worker: the same one each time."""
        at = sum(name.encode()) % len(_WORKER_COLOURS)
        return self(text, _WORKER_COLOURS[at])


def paint_for(args: "Namespace", stream: "TextIO | None" = None) -> Paint:
    """Return a painter for a stream: colour on terminals, unless the user said no."""
    stream = sys.stdout if stream is None else stream
    refused = (
        getattr(args, "no_color", False)
        or getattr(args, "json", False)
        or os.environ.get("NO_COLOR", "") != ""
        or os.environ.get("TERM", "") == "dumb"
    )
    return Paint(not refused and stream.isatty())


def size_of(stream: "TextIO | None" = None) -> "tuple[int, int]":
    """Return columns and lines of the terminal behind a stream; a file or a pipe has no limit.

    COLUMNS counts first, as everywhere.
    """
    stream = sys.stdout if stream is None else stream
    wanted = os.environ.get("COLUMNS", "")
    try:
        columns, lines = os.get_terminal_size(stream.fileno())
    except (OSError, ValueError):
        columns, lines = UNLIMITED, UNLIMITED
    if wanted.isdigit() and int(wanted) > 0:
        columns = int(wanted)
    # A terminal that does not know its size says 0 × 0 (serial lines, some container consoles).
    return columns or 80, lines or 24


def clip(text: str, width: int) -> str:
    """Return at most ``width`` columns of a text that may hold colours."""
    if len(text) <= width:
        return text
    shown = 0
    at = 0
    coloured = False
    while at < len(text):
        if text[at] == "\x1b":
            end = text.find("m", at)
            if end < 0:
                break
            at, coloured = end + 1, True
            continue
        if shown == width - 1 and visible(text[at:]) > 1:
            return text[:at] + "…" + ("\x1b[0m" if coloured else "")
        shown += 1
        at += 1
    return text


def visible(text: str) -> int:
    """Return how many columns a text with colours takes."""
    total = 0
    at = 0
    while at < len(text):
        if text[at] == "\x1b":
            end = text.find("m", at)
            at = len(text) if end < 0 else end + 1
        else:
            total += 1
            at += 1
    return total


class Block:
    """Lines at the bottom of the terminal that are drawn again in the same place.

    Each drawing goes out as one write, clears what is left of a longer one before, and never scrolls:
    it is cut to the height of the terminal, so moving up always finds its first line. After a change of width
    the terminal may have wrapped old lines anew, so that their number is no longer known: the screen is cleared then.
    """

    def __init__(self, stream: "TextIO") -> None:
        self._stream = stream
        self._height = 0
        self._columns = 0

    def draw(self, lines: "list[str]") -> None:
        """Show these lines in place of the ones before."""
        columns, height = size_of(self._stream)
        out = []
        if self._height and columns != self._columns:
            out.append("\x1b[H\x1b[2J")
        elif self._height:
            out.append(f"\x1b[{self._height}A\r")
        self._columns = columns
        shown = lines[: max(1, height - 1)]
        out += [clip(line, columns) + "\x1b[K\n" for line in shown]
        out.append("\x1b[J")
        self._height = len(shown)
        self._stream.write("".join(out))
        self._stream.flush()

    def clear(self) -> None:
        """Take the lines away again."""
        if self._height:
            self._stream.write(f"\x1b[{self._height}A\r\x1b[J")
            self._stream.flush()
        self._height = 0


class Progress:
    """One line that says how far something is: redrawn on a terminal, printed when it changes elsewhere."""

    def __init__(self, stream: "TextIO", *, is_quiet: bool = False) -> None:
        self._stream = stream
        self._is_terminal = stream.isatty() and os.environ.get("TERM", "") != "dumb"
        self._is_quiet = is_quiet
        self._last = ""

    def show(self, text: str) -> None:
        """Say how far it is."""
        if self._is_quiet or text == self._last:
            return
        self._last = text
        if self._is_terminal:
            columns, _ = size_of(self._stream)
            self._stream.write(f"\r{clip(text, columns - 1)}\x1b[K")
        else:
            self._stream.write(text + "\n")
        self._stream.flush()

    def end(self) -> None:
        """Leave a terminal's line as if nothing had been there."""
        if self._is_terminal and self._last:
            self._stream.write("\r\x1b[K")
            self._stream.flush()
        self._last = ""
