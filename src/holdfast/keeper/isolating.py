"""A worker is split into parts, or made whole again, on order; and what a death tells about its components.

Whether and how is decided elsewhere (the watchdog, a person). The plan that runs is the only record of a split: it is replaced by one
rename, and everything after that is what a keeper does anyway when its plan has changed. Killed before the rename
nothing has happened, killed after it the next keeper finds outdated processes, ends them, and starts the parts.
"""

import time

from holdfast.core import parts
from holdfast.keeper import planning
from holdfast.linux import system as os
from holdfast.wire import layout
from holdfast.wire import pulse as pulse_format

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from holdfast.keeper.kept import Kept, Life
    from holdfast.keeper.state import State

_PULSE_HEAD = pulse_format.NOTE + pulse_format.NOTE_BYTES


def isolate(state: "State", request: "dict[str, Any]") -> "dict[str, Any]":
    """Split a worker: ``worker``, ``parts`` (lists of component names), ``by``, ``why``.

    Raises:
        ValueError: There is no such worker, or that is no division of it.
    """
    worker, why, by = str(request["worker"]), str(request.get("why", "")), str(request.get("by"))
    wanted = [[str(name) for name in group] for group in request["parts"]]
    whole = parts.family(worker)
    if _is_so(state, whole, wanted):
        return {"parts": parts.partition(state.plan, whole), "note": "it is split like that"}
    new = parts.divide(state.plan, worker, wanted, why=why, unix_s=time.time())
    # They have just been started after a crash, and some of them are not to start at all: no time is given to say goodbye.
    planning.take_effect(state, new, kill=(worker,))
    now = parts.partition(new, whole)
    state.journal.add({
        "k": "order", "do": "isolate", "worker": worker, "by": by, "parts": now, "why": why,
    })  # fmt: skip
    shown = "; ".join(f"{name} ({', '.join(members)})" for name, members in now.items())
    state.house.say(f"worker {worker} is split, by the {by}: {shown}. {why}".rstrip())
    state.house.say(
        f"  the configuration is unchanged; look: holdfast isolate; undo: holdfast isolate {whole} --undo"
    )
    return {"parts": now}


def rejoin(state: "State", request: "dict[str, Any]") -> "dict[str, Any]":
    """Make a worker whole again: ``worker``, ``by``, ``why``.

    Raises:
        ValueError: It is not split.
    """
    whole, by = parts.family(str(request["worker"])), str(request.get("by"))
    planning.take_effect(state, parts.rejoin(state.plan, whole))
    state.journal.add(
        {
            "k": "order",
            "do": "rejoin",
            "worker": whole,
            "by": by,
            "why": str(request.get("why", "")),
        }
    )
    state.house.say(f"worker {whole} runs in one piece again, by the {by}")
    return {"worker": whole}


def testify(state: "State", kept: "Kept", life: "Life", record: "dict[str, Any]") -> None:
    """Add to an exit record which components were in the process, and what its pulse says ran last.

    Now, because the next life may have put its own pulse there within milliseconds. One read in memory, about 20 µs.
    """
    if kept.plan["kind"] != "container":
        return
    record["components"] = parts.components(kept.plan)
    path = f"{state.run_dir}/{layout.pulse(kept.name)}"
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return  # it died before it had one
    try:
        found = pulse_format.decode(os.pread(descriptor, _PULSE_HEAD, 0))
    except OSError:
        found = None
    finally:
        os.close(descriptor)
    if found is not None and found.pid == life.pid and found.note:
        record["note"] = found.note


def _is_so(state: "State", whole: str, wanted: "list[list[str]]") -> bool:
    has = [sorted(members) for members in parts.partition(state.plan, whole).values()]
    return len(wanted) > 1 and all(sorted(group) in has for group in wanted)
