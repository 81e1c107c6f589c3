"""Which types of Python objects become more, and which lines allocate what stays?

Asked of the process itself, over its control socket: a thread of the agent answers. Cost *to the target*: about 100 ms with
the interpreter's lock for a million objects, twice, and allocations several times slower in between (tracemalloc): so only
where memory is the matter, and never where it is about to run out.
"""

from holdfast.linux import talk
from holdfast.wire import layout

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from holdfast.evidence.case import Case

_KINDS = frozenset({"memory_leak", "memory"})
#: How long the target watches its own allocations.
WINDOW_S = 0.6
_SLACK_S = 0.8


def collect(case: "Case") -> None:
    """Ask for a census, where there is somebody to answer."""
    kind = str(case.order.get("kind"))
    flag = (case.order.get("flag") or {}).get("flag")
    if kind not in _KINDS and flag not in _KINDS and not case.order.get("census"):
        return
    left_s = case.deadline.left_s() - _SLACK_S
    window_s = min(WINDOW_S, left_s)
    if window_s < 0.1 or not case.alive():
        return
    found, why = ask(case.run_dir, case.worker, window_s, case.deadline.scaled(window_s + _SLACK_S))
    if not found:
        case.miss("census", why)
        return
    case.facts.census = found
    case.keep_json("census.json", found)


def ask(
    run_dir: str, worker: str, window_s: float, timeout_s: float, *, trace: bool = True
) -> "tuple[dict[str, Any], str]":
    """Return (the census, why there is none)."""
    path = f"{run_dir}/{layout.CONTROL}/{worker}.sock"
    answer = talk.ask(path, {"do": "census", "window_s": window_s, "trace": trace}, timeout_s)
    if answer is None:
        return {}, "nobody answers at its control socket (only Python programs with the agent have one)"  # fmt: skip
    if not answer.get("ok") or type(answer.get("census")) is not dict:
        return {}, str(answer.get("error") or "its answer is no census")
    return answer["census"], ""
