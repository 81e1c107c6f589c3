"""Has it happened yet? Waiting for the node to become what was asked for, with progress and an end.

Every wait looks at the keeper's own answer again and again until a condition holds or a deadline has passed; what
is then printed is what was seen last, not what was hoped for.
"""

import sys
import time

from holdfast.cli.terminal import Progress
from holdfast.linux import talk
from holdfast.model.errors import NodeError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Callable
    from typing import Any

    Workers = dict[str, dict[str, Any]]

#: Time between two looks: short enough that nobody notices, long enough that a keeper of 1000 workers does not.
LOOK_S = 0.1
#: On top of what the plan allows a worker for its start or its end.
SLACK_S = 10.0


def workers(run_dir: str, timeout_s: float = 5.0) -> "Workers":
    """Return the keeper's view of every worker, by name.

    Raises:
        NodeError: The keeper does not answer, or refuses.
    """
    reply = checked(talk.request(run_dir, {"do": "status"}, timeout_s))
    return {worker["name"]: worker for worker in reply["workers"]}


def checked(reply: "dict[str, Any]") -> "dict[str, Any]":
    """Return a reply that is not a refusal.

    Raises:
        NodeError: It is one; its sentence is the message.
    """
    if not reply.get("ok"):
        raise NodeError(str(reply.get("error") or "the keeper refused, and did not say why"))
    return reply


def progress(args: "Namespace") -> Progress:
    """Return the line on which a command says how far it is: on stderr, and not for programs."""
    return Progress(sys.stderr, is_quiet=args.json or getattr(args, "quiet", False))


def until(look: "Callable[[], tuple[bool, str]]", timeout_s: float, bar: Progress) -> bool:
    """Look until the first part of the answer is true, and show the second.

    Returns:
        False when ``timeout_s`` passed first.
    """
    deadline_s = time.monotonic() + timeout_s
    try:
        while True:
            is_done, text = look()
            if is_done:
                return True
            if time.monotonic() >= deadline_s:
                return False
            bar.show(text)
            time.sleep(LOOK_S)
    finally:
        bar.end()


def is_serving(worker: "dict[str, Any]") -> bool:
    """Whether a worker has arrived where its plan wants it: ready, or done because it was to run once."""
    return worker["state"] in ("running", "done")


def has_failed(worker: "dict[str, Any]", expected_n: int) -> bool:
    """Whether a worker was tried and did not come to serve: given up, waiting for its next life, or in it already.

    Args:
        worker: What the keeper says of it.
        expected_n: The life that was to serve: a later one means that it has died.
    """
    if is_serving(worker):
        return False
    return worker["state"] in ("failed", "backoff") or worker.get("n", 0) > expected_n


def why(worker: "dict[str, Any]") -> str:
    """Return what is known of the reason for a worker's state; maybe nothing."""
    deaths = worker.get("restarts", 0)
    return str(worker.get("why") or "") or (f"restarted {deaths}x" if deaths else "")


def because(worker: "dict[str, Any]") -> str:
    """Return the reason for a worker's state, to be put behind it."""
    reason = why(worker)
    return f": {reason}" if reason else ""


def start_allowance_s(entries: "list[dict[str, Any]]") -> float:
    """Return how long these workers may take to be ready one after another by the plan's own figures."""
    longest = max((entry.get("ready", {}).get("timeout_s", 0.0) for entry in entries), default=0.0)
    return longest * max(1, _depth(entries)) + SLACK_S


def stop_allowance_s(entries: "list[dict[str, Any]]") -> float:
    """Return how long these workers may take to end by the plan's own figures."""
    longest = max((entry.get("stop", {}).get("grace_s", 0.0) for entry in entries), default=0.0)
    return longest * max(1, _depth(entries)) + SLACK_S


def _depth(entries: "list[dict[str, Any]]") -> int:
    """Return the length of the longest chain of workers that wait for each other."""
    depth: dict[str, int] = {}
    for entry in entries:  # in start order: those waited for come first
        before = [*entry.get("after", []), *entry.get("requires", [])]
        depth[entry["name"]] = 1 + max((depth.get(name, 0) for name in before), default=0)
    return max(depth.values(), default=1)
