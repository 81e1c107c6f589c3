"""What may an assistant do where a person allowed it? Orders to workers, looks that disturb them, and saying that somebody is at it.

Every one of these is a command that a person could have typed, with the same checks and the same verification behind it.
"""

import os
import shutil
import tempfile

from holdfast.cli.mcp_asking import ask
from holdfast.cli.mcp_tool import Call, Tool, boolean, integer, text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_TARGET = r"[A-Za-z0-9][A-Za-z0-9+._-]{0,120}(?:/[A-Za-z0-9][A-Za-z0-9_-]{0,60})?"
_WORKER = r"[A-Za-z0-9][A-Za-z0-9+._-]{0,120}"
#: So long an order may take: a stop with its grace, and a start until it is ready.
_ORDER_S = 90.0
_STACKS = 60


def _order(verb: str) -> "Any":
    def run(call: Call) -> "Any":
        return ask(
            call.where,
            [verb, "--timeout=80s", "--", call.given["target"]],
            call.running,
            within_s=_ORDER_S,
        )

    return run


def _profile(call: Call) -> "Any":
    # In the run directory: what is left of a killed server goes with the node.
    folder = tempfile.mkdtemp(prefix="mcp-", dir=call.where.run_dir)
    try:
        seconds = call.given["seconds"]
        words = ["profile", f"--for={seconds}s", f"--output={os.path.join(folder, 'profile.txt')}"]
        words += ["--native"] if call.given["native"] else []
        found = ask(
            call.where, [*words, "--", call.given["worker"]], call.running, within_s=seconds + 30.0
        )
        found.pop("file", None)
        found["functions"] = found["functions"][:50]
        return found
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _stacks(call: Call) -> "Any":
    words = ["stacks", *(["--native"] if call.given["native"] else []), "--", call.given["worker"]]
    found = ask(call.where, words, call.running)
    found["threads"] = len(found["stacks"])
    found["stacks"] = found["stacks"][:_STACKS]
    return found


def _isolate(call: Call) -> "Any":
    words = ["isolate", *(["--undo"] if call.given["undo"] else []), "--", call.given["target"]]
    return ask(call.where, words, call.running, within_s=_ORDER_S)


def _acknowledge(call: Call) -> "Any":
    given = call.given
    if "snooze" in given:
        return ask(
            call.where, ["alerts", "snooze", "--", given["alert"], given["snooze"]], call.running
        )
    return ask(call.where, ["alerts", "ack", "--", given["alert"]], call.running)


_ONE = {"target": text("A worker, or one component of it as WORKER/COMPONENT.", _TARGET)}
_NATIVE = boolean("With the frames of C code; this pauses the program for each sample.")

ACTIONS = (
    Tool("restart_worker", "Restart", "Stop and start a worker or a component, and wait until it serves.", _ONE, _order("restart"),
         required=("target",), is_action=True, is_harsh=True),
    Tool("stop_worker", "Stop", "Stop a worker or a component and leave it down.", _ONE, _order("stop"), required=("target",), is_action=True,
         is_harsh=True),
    Tool("start_worker", "Start", "Start a worker or a component that is down, and wait until it serves.", _ONE, _order("start"),
         required=("target",), is_action=True),
    Tool(
        "profile", "Profile", "Where a worker spends its time: samples of its stacks for some seconds. The program is not changed.",
        {"worker": text("The worker.", _WORKER), "seconds": integer("For so long.", 1, 30, default=5), "native": _NATIVE},
        _profile, required=("worker",), is_action=True,
    ),
    Tool("stacks", "Stacks", "Where each thread of a worker is now; works with a frozen process, too.",
         {"worker": text("The worker.", _WORKER), "native": _NATIVE}, _stacks, required=("worker",), is_action=True),
    Tool(
        "isolate", "Isolate", "Let one component of a worker (WORKER/COMPONENT) run in a process of its own, to see whether it is the culprit; "
        "with undo make the worker whole again.",
        {"target": text("WORKER/COMPONENT; with undo WORKER.", _TARGET), "undo": boolean("Make it whole again.")},
        _isolate, required=("target",), is_action=True, is_harsh=True,
    ),
    Tool(
        "acknowledge", "Acknowledge", "Say that somebody is at an alert: silence until it gets worse or is over; with snooze: for so long.",
        {
            "alert": text("Its id, the beginning of it, or the worker.", r"[A-Za-z0-9@][A-Za-z0-9@+._/-]{0,120}"),
            "snooze": text("For how long: 30m, 2h, 1d.", r"[0-9]{1,5}[smhd]"),
        },
        _acknowledge, required=("alert",), is_action=True,
    ),
)  # fmt: skip
