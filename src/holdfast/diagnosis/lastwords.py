"""What did a Python program write as it died: the interpreter's fatal error, or an uncaught exception?

Reads the text of ``faulthandler`` (also the dump that it writes on a signal, which is no death) and of tracebacks,
from lines of output that may have anything else in between. Written by hand, without ``re`` and ``dataclasses``
(30 ms of imports): it runs before a restart. Left out: who is to blame (``findings``). Formats: CPython 3.11 to 3.14, Python/traceback.c.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

_FATAL = "Fatal Python error: "
_FIRST = "(most recent call first):"
_CRASHED = 'holdfast: component "'
_TRACEBACK = "Traceback (most recent call last):"
#: How far an assertion's message may stand above the fatal error it led to.
_PREFACE_LINES = 15


class Report:
    """What faulthandler wrote."""

    __slots__ = ("detail", "extensions", "fatal", "stacks")

    def __init__(self) -> None:
        self.fatal: str | None = None  #: "Fatal Python error: …"; None for a dump on a signal
        self.detail: str | None = (
            None  #: the assertion that failed in C code, where one was printed
        )
        self.stacks: list[dict[str, Any]] = []  #: as in incident.json
        self.extensions: list[str] = []


class Uncaught:
    """An exception that ended up in the output."""

    __slots__ = ("frames", "in_thread", "kind", "message", "source", "trailing")

    def __init__(self, kind: str, message: str, frames: list[str], source: str) -> None:
        self.kind = kind  #: "ValueError", "package.module.Error"
        self.message = message
        self.frames = frames  #: "file:line in function", innermost first
        self.source = source  #: the line of code it came from; "" when not printed
        self.trailing = 0  #: lines of output that follow it: few, if it was the last thing said
        self.in_thread = False  #: of a thread that is not the main one: does not end the program


def fatal_report(lines: "Sequence[str]") -> "Report | None":
    """Return the last report of faulthandler in ``lines``, or None when there is none."""
    begin = _report_begin(lines)
    if begin < 0:
        return None
    report = Report()
    head = lines[begin].strip()
    if _FATAL in head:
        report.fatal = head[head.index(_FATAL) :]
        report.detail = _assertion(lines[max(0, begin - _PREFACE_LINES) : begin])
    elif head.startswith("Timeout ("):
        report.fatal = head
    frames: list[str] | None = None
    for line in lines[begin:]:
        header = _thread_header(line)
        if header is not None:
            thread, current = header
            frames = []
            report.stacks.append({"thread": thread, "frames": frames, "current": current})
        elif line.startswith("Extension modules: "):
            report.extensions = _extensions(line)
            frames = None
        elif frames is not None:
            place = _frame(line)
            if place is not None:
                frames.append(place)
            elif line.strip() in ("Garbage-collecting", "<no Python frame>"):
                frames.append(line.strip())
            elif not line.strip():
                frames = None
    return report


def uncaught(lines: "Sequence[str]") -> "Uncaught | None":
    """Return the exception of the last traceback in ``lines``, or None when there is none."""
    begin = next(
        (at for at in range(len(lines) - 1, -1, -1) if lines[at].strip(" +|") == _TRACEBACK), -1
    )
    if begin < 0:
        return None
    # An exception group prints its members behind a margin; the margin is cut off and the last member read.
    margin = lines[begin].index("Traceback")
    frames: list[str] = []
    source = ""
    for at in range(begin + 1, len(lines)):
        line = lines[at][margin:] if margin else lines[at]
        place = _frame(line)
        if place is not None:
            frames.append(place)
            source = ""
        elif line.startswith("    "):
            if not source and line.strip(" ^~"):
                source = line.strip()
        elif line and not line.startswith(" "):
            kind, _, message = line.partition(":")
            before = lines[begin - 1] if begin else ""
            error = Uncaught(kind.strip(), message.strip(), frames[::-1], source)
            error.trailing = sum(1 for later in lines[at + 1 :] if later.strip())
            error.in_thread = before.startswith("Exception in thread ")
            return error
    return None  # torn off before its last line


def crashed_component(lines: "Sequence[str]") -> tuple[str, str] | None:
    """Return (component, error) from the line that a container writes when a component crashes it."""
    for line in reversed(lines):
        if line.startswith(_CRASHED):
            name, found, error = line[len(_CRASHED) :].partition('" crashed: ')
            if found:
                return name, error.strip()
    return None


def split_frame(frame: str) -> tuple[str, int, str]:
    """Take "file:line in function" apart; the line is 0 where there is none."""
    place, found, function = frame.rpartition(" in ")
    if not found:
        return frame, 0, ""
    path, _, number = place.rpartition(":")
    return (path, int(number), function) if number.isdigit() else (place, 0, function)


def _report_begin(lines: "Sequence[str]") -> int:
    """Return where the last report starts; -1 when there is none.

    A report without a fatal error (the dump on a signal) starts at a header; the next one begins where a
    thread is named again.
    """
    begin, seen = -1, set[str]()
    for at, line in enumerate(lines):
        if _FATAL in line or (line.startswith("Timeout (") and line.rstrip().endswith(")!")):
            begin, seen = at, set()
            continue
        header = _thread_header(line)
        if header is not None:
            if begin < 0 or header[0] in seen:
                begin, seen = at, set()
            seen.add(header[0])
    return begin


def _thread_header(line: str) -> tuple[str, bool] | None:
    """Read "Current thread 0x… [name] (most recent call first):"; None for any other line."""
    line = line.strip()
    if not line.endswith(_FIRST):
        return None
    head = line[: -len(_FIRST)].strip()
    for prefix, current in (("Current thread", True), ("Thread", False), ("Stack", True)):
        if head.startswith(prefix):
            return head[len(prefix) :].strip() or "main", current
    # A container lists equal stacks once ("5000 threads alike: …"), and its tasks.
    return head, False


def _frame(line: str) -> str | None:
    """Read '  File "x.py", line 3 in f' (faulthandler) or '…, line 3, in f' (traceback)."""
    text = line.strip()
    if not text.startswith('File "'):
        return None
    path, found, rest = text[6:].rpartition('", line ')
    if not found:
        return None
    number, _, function = rest.partition(" in ")
    number = number.rstrip(",")
    if not number.isdigit():
        return None
    return f"{path}:{number} in {function.strip() or '<module>'}"


def _assertion(lines: "Sequence[str]") -> str | None:
    for line in reversed(lines):
        _, found, claim = line.partition("Assertion failed: ")
        if found:
            return claim.strip()
        _, found, claim = line.partition("Assertion `")
        if found:
            return "Assertion `" + claim.strip()
    return None


def _extensions(line: str) -> list[str]:
    names = line.removeprefix("Extension modules: ").partition(" (total")[0]
    return [name for name in (part.strip() for part in names.split(",")) if name]
