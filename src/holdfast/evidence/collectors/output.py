"""The last lines that the worker wrote, and what faulthandler or a traceback says in them."""

import fcntl
import os
import termios
import time

from holdfast.agent import words
from holdfast.diagnosis import lastwords
from holdfast.diagnosis.words import clock
from holdfast.wire import layout

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from holdfast.evidence.case import Case
    from holdfast.records.logs import Line

KEPT_LINES = 200
#: faulthandler writes at most 100 threads of 100 frames; this is all of it for nearly every program.
_READ_LINES = 4000
#: How long the logger may take to move the last output from the pipe to the file.
DRAIN_S = 0.3
_DRAIN_STEP_S = 0.005


def collect(case: "Case") -> None:
    """Read the end of the log of this life."""
    policy = case.facts.plan.get("log")
    if not policy:
        case.miss("log", "the output of this worker is not captured (log is off)")
        if case.start is not None:
            left = words.read(case.run_dir, case.worker, case.start)
            case.facts.report = lastwords.fatal_report([_clean(line) for line in left])
        return
    # A process that lives goes on writing: there is no last line to wait for.
    if not case.order.get("live") and not drained(case):
        case.miss(
            "log",
            f"the logger had not written everything within {DRAIN_S:g} s: the end may be missing",
        )
    lines = tail(case)
    mine = (
        [line for line in lines if line.start == case.start]
        if case.start is not None
        else list(lines)
    )
    _read(case, mine)
    if case.facts.report is None and case.facts.uncaught is None and not case.order.get("live"):
        # The new life may have begun before the logger took the last words of the old one, which then
        # carry the new number: look at everything written up to the death.
        ended_s = float(case.facts.exit.get("unix_s") or case.order.get("unix_s") or time.time())
        began_s = ended_s - float(case.order.get("lived_s") or 0.0)
        late = [line for line in lines if _may_be_of(line, case.start, began_s)]
        _read(case, [line for line in late if line.unix_s <= ended_s + 2 * DRAIN_S])
        mine = mine or late
    if not mine:
        case.miss("log", "this life wrote nothing")
        return
    case.files["log.txt"] = as_text(mine[-KEPT_LINES:]).encode()
    if case.order.get("kind") == "log_storm":
        case.facts.log_patterns = patterns([line.text for line in mine])


def patterns(lines: "Sequence[str]", most: int = 5) -> list[tuple[int, str]]:
    """Return how many lines are alike but for their numbers, the most frequent first, each with an example."""
    counts: dict[str, list[object]] = {}
    for line in lines:
        shape = "".join("#" if c.isdigit() else c for c in line[:200])
        entry = counts.setdefault(shape, [0, line])
        entry[0] = int(str(entry[0])) + 1
    found = [(int(str(count)), str(example)) for count, example in counts.values()]
    found.sort(key=lambda pair: (-pair[0], pair[1]))
    return found[:most]


def _may_be_of(line: "Line", start: int | None, began_s: float) -> bool:
    """Tell whether a line can be of this life although it is not filed under it."""
    if start is None or line.start in (start, start + 1):
        return True
    return line.start == 0 and line.unix_s >= began_s - DRAIN_S  # its index is lost


def _read(case: "Case", lines: "Sequence[Line]") -> None:
    errors = [_clean(line.text) for line in lines if line.stream == "err"]
    case.facts.report = lastwords.fatal_report(errors)
    case.facts.uncaught = lastwords.uncaught(errors)
    case.facts.blamed = lastwords.crashed_component(errors)
    case.facts.last_line = next((text for text in reversed(errors) if text.strip()), "")


def tail(case: "Case") -> "list[Line]":
    """Return the last lines of the worker, of all its lives."""
    from holdfast.records import logs

    return logs.tail(str(case.facts.plan["log"]["directory"]), case.worker, lines=_READ_LINES)


def as_text(lines: "Sequence[Line]") -> str:
    """Return log lines as a person reads them: time, stream, text."""
    return "".join(
        f"{clock(line.unix_s, date=False)}.{int(line.unix_s * 1000) % 1000:03} {line.stream} {_clean(line.text)}\n"
        for line in lines
    )


def _clean(text: str) -> str:
    """Return text that can be written anywhere: bytes that are not UTF-8 come as lone surrogates."""
    return (
        text
        if text.isascii()
        else text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    )


def drained(case: "Case") -> bool:
    """Wait until the pipes of the worker are empty: what was in them is in the files then."""
    until_s = time.monotonic() + min(DRAIN_S, case.deadline.left_s())
    waiting = []
    for stream in ("err", "out"):
        try:
            path = f"{case.run_dir}/{layout.fifo(case.worker, stream)}"
            waiting.append(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC))
        except OSError:
            continue  # no pipe: the log is not captured, or a test has none
    try:
        while any(_pending(descriptor) for descriptor in waiting):
            if time.monotonic() >= until_s:
                return False
            time.sleep(_DRAIN_STEP_S)
        return True
    finally:
        for descriptor in waiting:
            os.close(descriptor)


def _pending(descriptor: int) -> int:
    return int.from_bytes(fcntl.ioctl(descriptor, termios.FIONREAD, b"\0\0\0\0"), "little")
