"""What is wanted of a worker, and the first step towards it: start, stop, restart, the end of the node."""

import time

from holdfast.core import lifecycle, parts
from holdfast.core.restart import History
from holdfast.linux import pidfd, procfs, talk
from holdfast.linux import signals as signal
from holdfast.linux import system as os
from holdfast.wire import layout

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from holdfast.keeper.journal import Open
    from holdfast.keeper.kept import Kept, Life
    from holdfast.keeper.state import State


def want(
    state: "State", kept: "Kept", *, up: bool, by: str, cause: str = "stop", kill: bool = False
) -> None:
    """Note whether a worker is wanted, and begin to make it so."""
    kept.by = by
    if kept.up != up or by != "plan":
        kept.up = up
        state.journal.add({"k": "want", "worker": kept.name, "up": up, "by": by})
    kept.due_s = 0.0
    if up:
        # Whoever starts it by hand has done something about it, or wants to see: it begins with a clean slate.
        kept.history = History()
        if kept.state == lifecycle.STOPPING:
            kept.after_stop = "restart"
        elif kept.life is None:
            step(state, kept, lifecycle.WANT_UP)
    else:
        end_spare(kept)
        if kept.life is None:
            step(state, kept, lifecycle.WANT_DOWN)
            forget_if_unplanned(state, kept)
        else:
            stop(state, kept, cause, "down", kill=kill)


def restart(
    state: "State", kept: "Kept", *, by: str, how: str = "term", flag: str = "", incident: str = ""
) -> None:
    """Restart a worker on order."""
    state.journal.add({
        "k": "order", "do": "restart", "worker": kept.name, "by": by, "how": how, "flag": flag,
        "incident": incident,
    })  # fmt: skip
    if kept.life is None:
        want(state, kept, up=True, by=by)
        return
    if not kept.up:
        kept.up, kept.by = True, by
        state.journal.add({"k": "want", "worker": kept.name, "up": True, "by": by})
    is_remedy = by == "watchdog"
    kept.flag, kept.incident = flag, incident
    stop(state, kept, "remedy" if is_remedy else "restart", "restart", kill=how == "kill")


def end_fork(state: "State", kept: "Kept", request: "dict[str, Any]") -> "dict[str, Any]":
    """End one process that a worker forked, and nothing else; its parent is to start another one.

    Raises:
        ValueError: The process is none of this worker's.
    """
    life, pid = kept.life, int(request["pid"])
    if life is None or request.get("n") not in (None, life.n):
        return {"state": kept.state, "note": "that life is over"}
    descriptor = pidfd.open_pid(pid)
    try:
        found = procfs.reading(pid)
        if descriptor < 0 or found is None or found.start_ticks != int(request["ticks"]):
            return {"state": kept.state, "note": "that process is gone"}
        if pid == life.pid or not _is_below(found, life.pid):
            raise ValueError(f'process {pid} is not one that worker "{kept.name}" forked')
        state.journal.add({
            "k": "order", "do": "end", "worker": kept.name, "by": str(request.get("by", "user")), "pid": pid,
            "flag": str(request.get("flag") or ""), "incident": str(request.get("incident") or ""),
        })  # fmt: skip
        pidfd.send(descriptor, signal.SIGKILL)
    finally:
        pidfd.close(descriptor)
    return {"state": kept.state}


def _is_below(found: "procfs.Reading", worker_pid: int) -> bool:
    """Whether a process belongs to a worker: it is in its session, or below it."""
    above = found
    for _ in range(16):
        if worker_pid in (above.session, above.ppid):
            return True
        if above.ppid <= 1 or (parent := procfs.reading(above.ppid)) is None:
            return False
        above = parent
    return False


def step(state: "State", kept: "Kept", event: str) -> None:
    """Take one step of the table; keeps the list of those that wait to start."""
    kept.state = lifecycle.step(kept.state, event)
    if kept.state == lifecycle.WAITING:
        state.waiting[kept.name] = None
    else:
        state.waiting.pop(kept.name, None)


def stop(state: "State", kept: "Kept", cause: str, after: str, *, kill: bool = False) -> None:
    """Ask a worker to end (or kill it), for ``cause``; ``after`` is down or restart."""
    life = kept.life
    if life is None:
        return
    kept.cause, kept.after_stop = cause, after
    step(state, kept, lifecycle.ASK_STOP)
    if kill or kept.plan["crash_only"]:
        kill_life(kept, life)
        return
    stop = kept.plan["stop"]
    pidfd.send(life.descriptor, stop["signal"])
    # A stopped process cannot react to a signal that asks; SIGCONT lets it.
    pidfd.send(life.descriptor, signal.SIGCONT)
    kept.kill_due_s = time.monotonic() + stop["grace_s"]


def kill_life(kept: "Kept", life: "Life") -> None:
    """Kill a process."""
    pidfd.send(life.descriptor, signal.SIGKILL)
    kept.kill_due_s = 0.0


def after_unasked(state: "State", kept: "Kept", action: str, delay_s: float, now_s: float) -> None:
    """Bring the state in line with what was decided about a death nobody asked for."""
    if action == "restart":
        step(state, kept, lifecycle.DIED_RESTART)
        kept.why = ""
    elif action in ("delay", "slow"):
        step(state, kept, lifecycle.DIED_DELAY)
        kept.due_s = now_s + delay_s
        kept.why = (
            "dies at once, again and again"
            if action == "delay"
            else "restart limit reached, trying slowly"
        )
    elif action == "down":
        step(state, kept, lifecycle.DIED_DOWN)
        kept.why = "restart limit reached, left down"
    else:
        step(state, kept, lifecycle.DIED_NONE)
        kept.why = "ended by itself"
    if action in ("down", "none") and kept.plan["essential"] and not state.is_ending:
        state.house.say(f"worker {kept.name} is essential and will not come back: the node ends")
        down(state, by="essential", status=1)


def end_spare(kept: "Kept") -> None:
    """Let go of the spare: it ends."""
    kept.spare_due_s = 0.0
    if kept.spare is not None and kept.spare.descriptor >= 0:
        if kept.spare.go >= 0:
            os.close(kept.spare.go)
            kept.spare.go = -1
        pidfd.send(kept.spare.descriptor, signal.SIGKILL)


def socket_key(worker: str, listener: str) -> str:
    """Return the name of a listening socket. The parts of a split worker share those of the whole."""
    return f"listen.{parts.family(worker)}.{listener}"


def drop_sockets(state: "State", kept: "Kept") -> None:
    """Close the listening sockets of a worker, here and in the anchor."""
    for key in [k for k in state.sockets if k.startswith(socket_key(kept.name, ""))]:
        os.close(state.sockets.pop(key))
        talk.tell(state.run_dir, "anchor", {"do": "drop", "name": key})


def forget_if_unplanned(state: "State", kept: "Kept") -> None:
    """A worker that is not in the plan any more goes once its processes are gone."""
    if kept.life is None and kept.spare is None and not is_planned(state, kept.name):
        state.workers.pop(kept.name, None)
        for stream in ("out", "err"):
            pidfd.close(state.pipes.pop(f"{state.run_dir}/{layout.fifo(kept.name, stream)}", -1))
        state.waiting.pop(kept.name, None)
        whole = parts.family(kept.name)
        if not any(parts.family(entry["name"]) == whole for entry in state.plan["workers"]):
            drop_sockets(state, kept)
        state.groups.remove(kept.name)


def is_planned(state: "State", name: str) -> bool:
    """Whether the plan that runs has this worker."""
    return any(entry["name"] == name for entry in state.plan["workers"])


def down(state: "State", *, by: str, status: int = 0, force: bool = False) -> None:
    """Stop everything, then let the anchor end the node."""
    if not state.is_ending:
        state.is_ending = True
        state.end_status = status
        state.journal.add({"k": "down", "by": by})
        state.house.say(f"the node goes down ({by})")
    if force:
        for kept in state.workers.values():
            end_spare(kept)
            if kept.life is not None:
                stop(state, kept, "down", "down", kill=True)


def start_record(name: str, life: "Life | Open") -> "dict[str, Any]":
    """Return the journal record of a start."""
    return {
        "k": "start", "worker": name, "n": life.n, "pid": life.pid, "ticks": life.ticks, "role": life.role,
        "entry": life.entry, "mono_s": life.started_mono_s,
    }  # fmt: skip
