"""Which task waits for which? Asked of the process itself: a thread of the agent answers, beside a loop that is blocked.

Cost to the target: about 10 µs a task, with the interpreter's lock. A process that holds that lock for ever does not answer.
"""

from holdfast.evidence.collectors.pulse import socket
from holdfast.linux import talk

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from holdfast.evidence.case import Case

_KINDS = frozenset({"hang", "probe", "start", "slow", "stalled", "loop_lag", "pegged", "deadlock", "task_bomb", "odd_one_out"})  # fmt: skip
_ANSWER_S = 0.3
#: A thread whose beat is so much older than this does not answer either.
_FROZEN_S = 1.0


def collect(case: "Case") -> None:
    """Ask for the tree, where there are tasks and somebody who can answer."""
    pulse = case.facts.pulse
    if str(case.order.get("kind")) not in _KINDS or not pulse.get("tasks"):
        return
    if float(pulse.get("thread_beat_age_s") or 0.0) > _FROZEN_S or not case.alive():
        return
    found, why = ask(case.run_dir, case.worker, case.deadline.scaled(_ANSWER_S), case.pid)
    if not found:
        case.miss("tree of tasks", why)
        return
    case.files["tasks.txt"] = as_text(found).encode("utf-8", "replace")


def ask(run_dir: str, worker: str, timeout_s: float, pid: int = 0) -> "tuple[dict[str, Any], str]":
    """Return (the tree, why there is none); ``pid`` is one that the worker forked."""
    answer = talk.ask(socket(run_dir, worker, pid), {"do": "tasks"}, timeout_s)
    if answer is None:
        return {}, "nobody answered in time at its control socket"
    if not answer.get("ok") or type(answer.get("tree")) is not dict:
        return {}, str(answer.get("error") or "its answer is no tree")
    return answer["tree"], ""


def as_text(tree: "dict[str, Any]") -> str:
    """Write a tree for people: who waits stands above and to the left of whom it waits for."""
    total, looked_at = int(tree.get("total") or 0), int(tree.get("looked_at") or 0)
    some = f", {looked_at} of them looked at" if looked_at < total else ""
    lines = [f"{total} tasks{some}; below each the tasks that it waits for"]
    for entry in tree.get("tasks") or ():
        _write(entry, 0, lines)
    return "\n".join(lines) + "\n"


def _write(entry: "dict[str, Any]", depth: int, lines: "list[str]") -> None:
    indent = "  " * depth
    many = f"{entry['count']} tasks alike: {entry['name']}, …" if entry["count"] > 1 else str(entry["name"])  # fmt: skip
    lines.append(f"{indent}{many}  ({entry['waits_for'] or 'waits'})")
    lines += [f"{indent}    {frame}" for frame in entry["frames"]]
    for child in entry.get("tasks") or ():
        _write(child, depth + 1, lines)
