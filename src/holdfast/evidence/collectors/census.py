"""Which types of Python objects become more, and which lines allocate what stays?

Asked of the process itself, over its control socket: a thread of the agent answers. Cost *to the target*: about 100 ms with
the interpreter's lock for a million objects, twice, and allocations several times slower in between (tracemalloc): so only
where memory is the matter, and never where it is about to run out.
"""

from holdfast.diagnosis.lastwords import split_frame
from holdfast.evidence.collectors.pulse import socket
from holdfast.linux import files, talk

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from holdfast.evidence.case import Case

_KINDS = frozenset({"memory_leak", "memory", "fd_leak"})
#: How long the target watches its own allocations.
WINDOW_S = 0.5
_SLACK_S = 0.8
#: What is left for those who come after.
_AFTER_S = 0.3
NOBODY = (
    "nobody answered in time at its control socket (only Python programs with the agent have one)"
)


def begin(case: "Case") -> None:
    """Ask for a census, where there is somebody to answer; :func:`collect` takes the answer later."""
    kind = str(case.order.get("kind"))
    flag = (case.order.get("flag") or {}).get("flag")
    if kind not in _KINDS and flag not in _KINDS and not case.order.get("census"):
        return
    window_s = min(WINDOW_S, case.deadline.left_s() - _SLACK_S)
    if window_s < 0.1 or not case.alive():
        return
    case.asked = talk.begin(
        socket(case.run_dir, case.worker, case.pid), _request(window_s, trace=True)
    )
    if case.asked is None:
        case.miss("census", NOBODY)


def collect(case: "Case") -> None:
    """Wait for the answer and keep it."""
    asked, case.asked = case.asked, None
    if asked is None:
        return
    found, why = _read(talk.finish(asked, max(0.05, case.deadline.left_s() - _AFTER_S)))
    if not found:
        case.miss("census", why)
        return
    for site in found.get("allocated") or ():
        site["frames"] = [named(frame) for frame in site["frames"]]
    case.facts.census = found
    case.keep_json("census.json", found)


def _request(window_s: float, *, trace: bool) -> "dict[str, Any]":
    return {"do": "census", "window_s": window_s, "trace": trace}


def ask(
    run_dir: str, worker: str, window_s: float, timeout_s: float, *, trace: bool = True, pid: int = 0, **more: "Any"
) -> "tuple[dict[str, Any], str]":  # fmt: skip
    """Return (the census, why there is none); ``pid`` is one that the worker forked, ``more`` is what else :func:`holdfast.agent.growth.answer` knows."""
    path = socket(run_dir, worker, pid)
    return _read(talk.ask(path, {**_request(window_s, trace=trace), **more}, timeout_s))


def _read(answer: "dict[str, Any] | None") -> "tuple[dict[str, Any], str]":
    if answer is None:
        return {}, NOBODY
    if not answer.get("ok") or type(answer.get("census")) is not dict:
        return {}, str(answer.get("error") or "its answer is no census")
    return answer["census"], ""


def named(frame: str) -> str:
    """Return "file:line in function" for a frame of tracemalloc, which knows no functions: the ``def`` it stands under."""
    path, number, function = split_frame(frame)
    if function != "?" or not number or not path.endswith(".py"):
        return frame
    try:
        lines = files.read(path).decode("utf-8", "replace").split("\n")[:number]
    except OSError:
        return frame
    if len(lines) < number:
        return frame  # gone, or another version of the file
    room = _indent(lines[-1]) + (0 if lines[-1].strip() else 1)
    for line in reversed(lines):
        text = line.strip()
        # The end of a signature of several lines stands as far out as its def, which is above it.
        if not text or text.startswith(")") or (_indent(line) >= room and line is not lines[-1]):
            continue
        room = min(room, _indent(line))
        head = text.removeprefix("async ")
        if head.startswith("def "):
            return f"{path}:{number} in {head[4:].partition('(')[0].strip()}"
    return f"{path}:{number} in <module>"


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())
