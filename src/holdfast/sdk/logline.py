"""One event, one line: ``level=info component=board moved card=3``.

No time stamp: the logger keeps the time beside the bytes. Each line is a single ``write`` to the descriptor, so lines of
several threads do not mix, and nothing waits in a buffer when the process is killed. Left out: levels that
can be switched off, handlers, formats. The standard ``logging`` works in components as anywhere.
"""

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from io import TextIOBase

_STDOUT, _STDERR = 1, 2
_ESCAPES = {ord(c): repr(c)[1:-1] for c in map(chr, range(32))} | {127: "\\x7f", 0x85: "\\x85"}


class Log:
    """The log of one component."""

    __slots__ = ("_component",)

    def __init__(self, component: str) -> None:
        self._component = component

    def debug(self, event: str, /, **fields: object) -> None:
        """Write a line that only the author of the component wants to read."""
        self._line(_STDOUT, "debug", event, fields)

    def info(self, event: str, /, **fields: object) -> None:
        """Write a line about something that is as it should be."""
        self._line(_STDOUT, "info", event, fields)

    def warning(self, event: str, /, **fields: object) -> None:
        """Write a line about something that somebody should look at some day."""
        self._line(_STDOUT, "warning", event, fields)

    def error(self, event: str, /, **fields: object) -> None:
        """Write a line about something that failed, to stderr."""
        self._line(_STDERR, "error", event, fields)

    def exception(self, event: str, /, **fields: object) -> None:
        """Write an error line and, below it, the traceback of the exception being handled."""
        from traceback import format_exc

        self._line(_STDERR, "error", event, fields, format_exc())

    def _line(
        self, to: int, level: str, event: str, fields: "dict[str, object]", below: str = ""
    ) -> None:
        words = [f"level={level}", f"component={self._component}", event.translate(_ESCAPES)]
        words += [f"{key}={quoted(value)}" for key, value in fields.items()]
        write_text(to, " ".join(words) + "\n" + below)


def quoted(value: object) -> str:
    """Return the value as one word: bare where that is unmistakable, else in double quotes."""
    text = "true" if value is True else "false" if value is False else str(value)
    if text and not any(c <= " " or c in '"=\\\x7f\x85' for c in text):
        return text
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').translate(_ESCAPES) + '"'


def write_text(to: int, text: str) -> None:
    """Write to stdout (1) or stderr (2) at once, after whatever ``print`` has left in the buffer."""
    stream: TextIOBase | None = sys.stdout if to == _STDOUT else sys.stderr  # type: ignore[assignment]
    if stream is not None and not stream.closed:
        stream.flush()
    data = text.encode("utf-8", "backslashreplace")
    while data:
        data = data[os.write(to, data) :]
