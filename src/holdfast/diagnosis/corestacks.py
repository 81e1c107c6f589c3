"""What does a core dump say about each thread: C frames, Python frames and what the variables held?

Pure: reads the text that ``pystack core --native-all --locals`` prints (1.3 to 1.7; it has no other form) and writes the stacks
for a person, the thread that took the signal first. What the handler of the signal did after the fault (faulthandler's own last
words, and the second signal that ended the process) is cut off: the innermost frame is the one that failed. Left out: finding and
reading the file (the evidence process does).
"""

from holdfast.diagnosis.lastwords import split_frame
from holdfast.diagnosis.owners import is_machinery
from holdfast.diagnosis.stacks import local_as_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any

_HEAD = "Traceback for thread "
#: Where the kernel lets a signal handler begin: what is above ran after the fault (glibc, musl, arm64).
_HANDLERS = ("__restore_rt", "__restore", "__kernel_rt_sigreturn", "<signal handler called>")
#: Frames of a thread that are kept; a recursion that ran out of stack has thousands.
_MOST_FRAMES = 60
_THREADS, _WITH_LOCALS, _LOCALS_EACH = 40, 12, 16


def parse(text: str, pid: int = 0, crashed_tid: int = 0) -> "list[dict[str, Any]]":
    """Return stacks as in incident.json, each with ``native`` (C and Python frames, innermost first) and ``locals`` beside ``frames``.

    Args:
        text: What pystack printed.
        pid: Of the process, which is the number of its main thread.
        crashed_tid: The thread that took the signal; 0 when that is not known (then the one that holds the GIL).
    """
    stacks: list[dict[str, Any]] = []
    merged: list[tuple[str, list[str]]] = []
    in_values = (
        False  # a line of source stands between a frame and its variables, and may look like one
    )
    for line in text.splitlines():
        if line.startswith(_HEAD):
            merged = []
            tid, _, rest = line[len(_HEAD) :].partition(" ")
            name = rest.partition(")")[0][1:] if rest.startswith("(") and not rest.startswith("(most") else ""  # fmt: skip
            stacks.append({
                "thread": name, "tid": int(tid) if tid.isdigit() else 0, "current": "Has the GIL" in rest, "merged": merged,
            })  # fmt: skip
        elif line.startswith(("    (C) File ", "    (Python) File ")):
            frame, in_values = _frame(line), False
            if frame and not (merged and merged[-1][0] == frame and not _is_python(frame)):
                merged.append((frame, []))
        elif line in ("      Arguments:", "      Locals:"):
            in_values = True
        elif in_values and line.startswith("        ") and merged:
            name, found, held = line.strip().partition(": ")
            if found:
                merged[-1][1].append(local_as_text(name, held))
    if crashed_tid and any(one["tid"] == crashed_tid for one in stacks):
        for one in stacks:
            one["current"] = one["tid"] == crashed_tid
    stacks.sort(key=lambda one: not one["current"])
    for one in stacks:
        _finish(one, pid)
    return stacks


def failed_in(native: "Sequence[str]") -> "list[tuple[str, str]]":
    """Return (function, library) of the C frames inside the innermost Python frame, the one that failed first."""
    found = []
    for frame in native:
        if _is_python(frame):
            break
        library, _, function = split_frame(frame)
        found.append((function, library))
    return found


def culprit_library(native: "Sequence[str]") -> str:
    """Return the file name of the library to blame: the innermost that is neither the C library's nor the interpreter's; "" for none."""
    for _, library in failed_in(native):
        if not is_machinery(library) and not library.startswith("python") and library != "???":
            return library
    return ""


def as_text(stacks: "Iterable[dict[str, Any]]") -> str:
    """Return the stacks for a person: C and Python frames, innermost first, with the variables of the application's frames."""
    lines: list[str] = []
    for stack in list(stacks)[:_THREADS]:
        said = ", the signal came here" if stack["current"] else ""
        lines.append(f"{stack['thread']} (thread {stack['tid']}{said}), innermost first:")
        shown = 0
        for frame, held in zip(stack["native"], stack["locals"], strict=True):
            path, number, function = split_frame(frame)
            lines.append(f'  File "{path}", line {number} in {function}' if number else f"  {frame}")  # fmt: skip
            if held and shown < _WITH_LOCALS and not is_machinery(path):
                shown += 1
                lines += [f"      {one}" for one in held[:_LOCALS_EACH]]
        lines.append("")
    return "\n".join(lines)


def _frame(line: str) -> str:
    """Return "path:line in function" of a Python frame, "LIBRARY in FUNCTION" of a C frame; "" for what is neither."""
    kind, _, rest = line.strip().partition(" File ")
    # A path may have quotes and commas in it, what comes after it never has.
    path, found, place = rest.lstrip('"').rpartition('", line ')
    number, comma, function = place.partition(", in ")
    if not found or not comma:
        return ""
    if kind == "(Python)":
        return f"{path}:{number} in {function}"
    name, _, library = function.rpartition(" (")
    return f"{library.rstrip(')')} in {name.removesuffix(' (inlined)')}"


def _is_python(frame: str) -> bool:
    return split_frame(frame)[1] > 0


def _finish(stack: "dict[str, Any]", pid: int) -> None:
    """Turn the frames of a thread as pystack prints them into those that mean something."""
    merged: list[tuple[str, list[str]]] = stack.pop("merged")[::-1]
    at = next((at for at, (frame, _) in enumerate(merged) if _is_python(frame)), len(merged))
    handler = max((n for n, (frame, _) in enumerate(merged[:at]) if split_frame(frame)[2] in _HANDLERS), default=-1)  # fmt: skip
    merged = merged[handler + 1 :]
    # Whoever called the outermost Python function: the start of the interpreter or of a thread, the same each time.
    last = max((n for n, (frame, _) in enumerate(merged) if _is_python(frame)), default=len(merged) - 1)  # fmt: skip
    merged = merged[: last + 1]
    if len(merged) > _MOST_FRAMES:
        merged = [*merged[: _MOST_FRAMES - 10], *merged[-10:]]
    stack["thread"] = stack["thread"] or ("MainThread" if stack["tid"] == pid else "Thread")
    stack["frames"] = [frame for frame, _ in merged if _is_python(frame)]
    stack["native"] = [frame for frame, _ in merged]
    stack["locals"] = [held for _, held in merged]
