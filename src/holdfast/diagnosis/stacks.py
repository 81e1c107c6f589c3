"""Which place in the code is to blame, and what is a thread doing there?

Pure: stacks come in as text or values that somebody else took. The frame to show is the innermost one of the
user's own code: the standard library and installed packages are where a program waits, seldom where it
is wrong. Left out: taking stacks (the evidence process does).
"""

from holdfast.diagnosis.lastwords import split_frame
from holdfast.diagnosis.owners import is_machinery
from holdfast.diagnosis.words import one_line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any

#: Where a thread waits in the kernel (a part of /proc/PID/task/TID/wchan) and what that means.
_WAITS = (
    ("futex", "waits for a lock"),
    ("hrtimer_nanosleep", "sleeps"),
    ("ep_poll", "waits for events (epoll)"),
    ("epoll_wait", "waits for events (epoll)"),
    ("do_sys_poll", "waits for events (poll)"),
    ("poll_schedule", "waits for events (poll)"),
    ("do_select", "waits for events (select)"),
    ("pipe_", "waits at a pipe"),
    ("wait_for_more_packets", "waits for the network"),
    ("sk_wait", "waits for the network"),
    ("inet_csk_accept", "waits for a connection"),
    ("unix_stream", "waits at a Unix socket"),
    ("unix_dgram", "waits at a Unix socket"),
    ("do_wait", "waits for a child process"),
    ("flock", "waits for a file lock"),
    ("locks_", "waits for a file lock"),
    ("io_schedule", "waits for the disk"),
    ("folio_wait", "waits for the disk"),
    ("nfs_", "waits for a network file system"),
    ("rpc_", "waits for a network file system"),
    ("do_signal_stop", "is stopped"),
    ("ptrace_stop", "is stopped by a debugger"),
)


def from_pyspy(threads: "Sequence[dict[str, Any]]") -> "list[dict[str, Any]]":
    """Turn the answer of ``py-spy dump --json`` into stacks as in incident.json, the main thread first."""
    stacks = []
    for thread in threads:
        frames = [
            f"{frame.get('filename') or '?'}:{frame.get('line') or 0} in {frame.get('name') or '?'}"
            for frame in thread.get("frames") or ()
        ]
        tid = thread.get("os_thread_id") or 0
        # A program that never imported threading has no names for its threads.
        unnamed = "MainThread" if tid == thread.get("pid") else f"{thread.get('thread_id') or 0:#x}"
        stacks.append(
            {
                "thread": thread.get("thread_name") or unnamed,
                "frames": frames,
                "current": bool(thread.get("owns_gil")),
                "tid": tid,
                "active": bool(thread.get("active")),
            }
        )
    stacks.sort(key=lambda s: (s["tid"] != (threads[0].get("pid") if threads else 0), s["tid"]))
    return stacks


def locals_as_text(threads: "Sequence[dict[str, Any]]") -> str:
    """Return what the variables of the innermost frames held, from ``py-spy dump --json --locals``; "" when nothing is known.

    The interpreter's own frames are left out, and whatever is called like a secret is not shown.
    """
    lines: list[str] = []
    for thread in [t for t in threads if t.get("frames")][:_LOCALS_THREADS]:
        shown: list[tuple[str, list[str]]] = []
        for frame in thread["frames"]:
            path = str(frame.get("filename") or "?")
            if is_machinery(path) or not frame.get("locals") or len(shown) >= _LOCALS_FRAMES:
                continue
            held = [
                local_as_text(str(one.get("name") or "?"), str(one.get("repr")))
                for one in frame["locals"][:_LOCALS_EACH]
            ]
            shown.append((f"{path}:{frame.get('line') or 0} in {frame.get('name') or '?'}", held))
        if shown:
            lines.append(f"Thread {thread.get('thread_name') or thread.get('os_thread_id')}")
        for where, held in shown:
            lines += [f"  {where}", *(f"    {one}" for one in held)]
    return "\n".join(lines) + "\n" if lines else ""


def local_as_text(name: str, said: str) -> str:
    """Return "name = value" of a variable in one line; the value of whatever is called like a secret is not shown."""
    if any(part in name.lower() for part in _SECRET):
        said = "(not shown)"
    return f"{name} = {one_line(said, _LOCALS_LONGEST)}"


#: Locals: so many threads, frames of each, variables of each, and characters.
_LOCALS_THREADS, _LOCALS_FRAMES, _LOCALS_EACH, _LOCALS_LONGEST = 6, 5, 12, 120
_SECRET = ("pass", "secret", "token", "key", "auth", "cookie", "credential", "session")


def grouped(stacks: "Iterable[dict[str, Any]]") -> "list[dict[str, Any]]":
    """Return stacks with those that are alike told once; ``alike`` is how many threads one stands for.

    A pool of fifty idle threads would be most of a bundle otherwise. The first stack, and those that run, stay by themselves.
    """
    found: list[dict[str, Any]] = []
    known: dict[tuple[Any, ...], dict[str, Any]] = {}
    for at, stack in enumerate(stacks):
        key = (tuple(stack["frames"]), stack.get("doing"))
        first = known.get(key)
        if first is None or stack["current"] or not stack["frames"]:
            first = dict(stack)
            found.append(first)
            if at and not stack["current"]:
                known[key] = first
            continue
        first["alike"] = int(first.get("alike") or 1) + int(stack.get("alike") or 1)
    return found


def as_text(stacks: "Iterable[dict[str, Any]]") -> str:
    """Return stacks in the form that faulthandler prints, for a person."""
    lines: list[str] = []
    for stack in stacks:
        marks = [f"thread {stack['tid']}"] if stack.get("tid") else []
        if stack.get("doing"):
            marks.append(str(stack["doing"]))
        if stack.get("current"):
            marks.append("current")
        if int(stack.get("alike") or 1) > 1 and "alike" not in str(stack["thread"]):
            marks.append(f"and {int(stack['alike']) - 1} more alike")
        lines.append(
            f"{stack['thread']}{' (' + ', '.join(marks) + ')' if marks else ''}, innermost first:"
        )
        for frame in stack["frames"]:
            path, number, function = split_frame(frame)
            lines.append(
                f'  File "{path}", line {number} in {function}' if number else f"  {frame}"
            )
        lines.append("")
    return "\n".join(lines)


def doing(state: str, wchan: str) -> str:
    """Put what the kernel says of a thread into words.

    Args:
        state: The letter of /proc/PID/stat.
        wchan: The kernel function it waits in; "" or "0" when it runs or when nobody may know.
    """
    if state in "Tt":
        return "is stopped"
    if state == "R":
        return "runs on the CPU"
    if state == "Z":
        return "has ended"
    for part, words in _WAITS:
        if part in wchan:
            return words
    if state == "D":
        return "waits for the disk or a driver, and cannot be interrupted"
    return f"waits in {wchan}" if wchan not in ("", "0") else "waits"


def is_library(path: str) -> bool:
    """Tell whether a file belongs to the interpreter or to an installed package."""
    if path.startswith("<frozen"):
        return True
    return (
        "/site-packages/" in path
        or "/dist-packages/" in path
        or "/lib/python" in path
        # Not the faults that a drill injects: they stand for the component's own code.
        or ("/holdfast/container/" in path and not path.endswith("/faults.py"))
        or "/holdfast/sdk/" in path
        or "/holdfast/engine/" in path
        or "/holdfast/jobs/" in path
        or "/holdfast/agent/" in path
    )


def is_ours(stack: "dict[str, Any]") -> bool:
    """Tell whether a stack is that of a thread of Holdfast's own, which beats or answers inside the process."""
    frames = [split_frame(frame)[0] for frame in stack.get("frames") or ()]
    return bool(frames) and "/holdfast/agent/" in frames[-1] and "/holdfast/agent/" in frames[0]


def guilty_frame(frames: "Sequence[str]") -> str | None:
    """Return the innermost frame of the user's own code, else the innermost of all; None without frames."""
    real = [frame for frame in frames if split_frame(frame)[1]]
    for frame in real:
        path = split_frame(frame)[0]
        if not is_library(path) and not path.startswith("<"):
            return frame
    return real[0] if real else None


def library_of(frames: "Sequence[str]") -> str | None:
    """Return the installed package or standard module of the innermost frame; None when it is the user's own."""
    real = [split_frame(frame)[0] for frame in frames if split_frame(frame)[1]]
    if not real or not is_library(real[0]):
        return None
    path = real[0]
    if path.startswith("<frozen "):
        return path[8:].rstrip(">")
    for marker in ("/site-packages/", "/dist-packages/"):
        if marker in path:
            return path.rpartition(marker)[2].split("/")[0].removesuffix(".py")
    tail = path.rpartition("/lib/python")[2].partition("/")[2]
    return tail.split("/")[0].removesuffix(".py") or None


def shown(frame: str, directory: str = "") -> str:
    """Return a frame for a title: the path relative to the worker's directory, or its last part."""
    path, number, function = split_frame(frame)
    if directory and path.startswith(directory.rstrip("/") + "/"):
        path = path[len(directory.rstrip("/")) + 1 :]
    else:
        parts = path.rsplit("/", 2)
        path = "/".join(parts[-2:]) if parts[-1] == "__init__.py" else parts[-1]
    return f"{path}:{number} in {function}" if number else frame


def component_of(frames: "Sequence[str]", components: "Sequence[dict[str, Any]]") -> str | None:
    """Return the component whose module the innermost matching frame belongs to; None when none matches.

    Two components of one module cannot be told apart this way: then none is named.
    """
    for frame in frames:
        path = split_frame(frame)[0]
        if is_library(path) and "/holdfast/" in path:
            continue
        names = {c["name"] for c in components if _is_of(path, str(c.get("use", "")))}
        if len(names) == 1:
            return str(names.pop())
        if names:
            return None
    return None


def _is_of(path: str, use: str) -> bool:
    module = use.partition(":")[0].replace(".", "/")
    return bool(module) and (
        path.endswith((f"/{module}.py", f"/{module}/__init__.py")) or path == f"{module}.py"
    )
