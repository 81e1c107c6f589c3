"""A process is dead: put its end on record, decide what follows, clean up after it."""

import time

from holdfast.core import lifecycle, tree
from holdfast.core.restart import after_death
from holdfast.keeper import isolating, orders, starting
from holdfast.keeper.journal import RESTARTS
from holdfast.keeper.kept import Kept, Life
from holdfast.keeper.state import Owed
from holdfast.linux import pidfd, procfs
from holdfast.linux import signals as signal
from holdfast.linux import system as os

#: How long an exit without a known status is kept open for somebody to tell.
_STATUS_PATIENCE_S = 3.0
_SPARE_DELAY_S = 0.5
_SPARE_DELAY_MAX_S = 30.0

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from holdfast.keeper.state import State


def take_deaths(state: "State", events: "list[tuple[int, int]]") -> None:
    """Look at the processes whose pidfd is readable: put their end on record, then act on it."""
    ours = []
    for descriptor, _ in events:
        kept, life = state.lives[descriptor]
        if life.is_ours:
            try:
                found = os.waitid(os.P_PIDFD, descriptor, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                found = None
                life.is_ours = False
            if found is None and life.is_ours:
                continue
        state.epoll.unregister(descriptor)
        del state.lives[descriptor]
        if life.role == "main":
            main_died(state, kept, life)
        else:
            _spare_died(state, kept, life)
        if life.is_ours:
            ours.append(life)
    for life in ours:
        # What it left running in its session would hold its ports and files against the next life.
        try:
            os.killpg(life.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            pass
        os.waitpid(life.pid, 0)
        life.close()


def _status_of(state: "State", life: Life) -> "int | None":
    if life.is_ours:
        found = os.waitid(os.P_PIDFD, life.descriptor, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        return None if found is None else pidfd.wait_status(found)
    status = state.exits.status_of(life.pid, life.ticks)
    if status is None and life.descriptor >= 0:
        # Dead, and not reaped yet; or reaped, and the descriptor still knows.
        reading = procfs.reading(life.pid)
        if reading is not None and reading.start_ticks == life.ticks:
            status = reading.exit_status
        if status is None:
            status = pidfd.exit_status(life.descriptor)
    return status


def main_died(state: "State", kept: Kept, life: Life, *, is_final: bool = False) -> None:
    """Act on the death of the life that served.

    An adopted life is reaped by somebody else, who may tell its status a moment later. A restart does not wait for that,
    unless it depends on it; ``is_final`` says that there is nothing more to wait for.
    """
    now_s = time.monotonic()
    status = _status_of(state, life)
    is_unknown = status is None and not life.is_ours
    if is_unknown and not is_final and kept.plan["restart"]["policy"] == "on-failure":
        state.unsure.append((kept, life, now_s + _STATUS_PATIENCE_S))
        return
    cause = kept.cause if kept.state == lifecycle.STOPPING else "died"
    lived_s = max(0.0, now_s - life.started_mono_s)
    kept.kill_due_s = 0.0
    kept.life = None
    record: dict[str, Any] = {
        "k": "exit", "worker": kept.name, "n": life.n, "role": "main", "pid": life.pid, "status": status,
        "lived_s": round(lived_s, 4), "cause": cause, "mono_s": now_s,
    }  # fmt: skip
    if cause == "remedy":
        record["flag"], record["incident"] = kept.flag, kept.incident
    isolating.testify(state, kept, life, record)
    if cause in ("died", "remedy"):
        decision = after_death(
            kept.plan["restart"],
            kept.history,
            now_s=now_s,
            lived_s=lived_s,
            clean=status == 0,
            chance=state.chance(),
        )
        action, delay_s = decision.action, decision.delay_s
        if cause == "remedy" and action == "none":
            action = "restart"
        kept.history = decision.history
        orders.after_unasked(state, kept, action, delay_s, now_s)
        record["next"], record["delay_s"] = action, round(delay_s, 3)
    else:
        goes_on = kept.after_stop == "restart" and kept.up
        orders.step(state, kept, lifecycle.STOPPED_RESTART if goes_on else lifecycle.STOPPED)
        record["next"], record["delay_s"] = ("restart" if goes_on else "none"), 0.0
        kept.why = "" if goes_on else f"stopped by the {kept.by}"
    record["restarts"] = kept.restarts
    if record["next"] in RESTARTS:
        kept.restarts += 1
    record["deaths"] = len(kept.history.deaths)
    record["history"], record["short"] = kept.history.deaths, kept.history.short_lives
    if is_unknown and not is_final:
        state.owed.append(Owed(kept, life, record, now_s + _STATUS_PATIENCE_S))
        starting.promote(state, kept)
    else:
        _close_record(state, kept, life, record)
    _restart_group(state, kept, cause, str(record["next"]))
    if starting.is_grouped(kept):
        state.groups.kill(kept.name)
    if not state.is_ending and (cause != "died" or not life.is_ours):
        _sweep(state, kept, life)
    orders.forget_if_unplanned(state, kept)


def _close_record(state: "State", kept: Kept, life: Life, record: "dict[str, Any]") -> None:
    records = [record]
    spare = kept.spare
    if spare is not None and kept.state == lifecycle.WAITING and spare.go >= 0:
        records.append({"k": "go", "worker": kept.name, "n": spare.n})
        starting.promote(state, kept, is_recorded=True)
    state.journal.add(*records)
    if not life.is_ours:
        life.close()
    words = _status_words(record["status"])
    if record["cause"] == "died":
        after = {
            "restart": "restarting",
            "none": "done",
            "down": "leaving it down (restart.limit)",
        }.get(record["next"], f"again in {record['delay_s']:.1f} s")
        state.house.say(
            f"worker {kept.name} (process {life.pid}) died: {words} after {record['lived_s']:.1f} s; {after}"
        )
    else:
        state.house.say(
            f"worker {kept.name} (process {life.pid}) ended: {words} ({record['cause']})"
        )


def _restart_group(state: "State", dead: Kept, cause: str, following: str) -> None:
    if cause not in ("died", "remedy") or following == "none" or state.is_ending:
        return
    for name in tree.restart_with(state.plan["groups"], dead.name):
        mate = state.workers.get(name)
        if mate is not None and mate.state in (lifecycle.STARTING, lifecycle.RUNNING):
            orders.stop(state, mate, "group", "restart")


def _sweep(state: "State", kept: Kept, life: Life) -> None:
    """Kill what the worker left behind in other sessions: whoever carries its mark."""
    held = {x.pid for x in (kept.life, kept.spare, life) if x}
    for pid, env in procfs.marked("HOLDFAST_NODE", state.node):
        is_its = env.get("HOLDFAST_WORKER") == kept.name and env.get("HOLDFAST_START") == str(
            life.n
        )
        if is_its and pid not in held:
            pidfd.kill_quietly(pid)


def earlier_died(state: "State", kept: Kept, life: Life) -> None:
    """Put on record that a life before the last one ended: the keeper that saw it was killed before it could."""
    record = {
        "k": "exit", "worker": kept.name, "n": life.n, "role": "main", "pid": life.pid, "status": None,
        "lived_s": round(max(0.0, time.monotonic() - life.started_mono_s), 4), "cause": "died", "next": "restart",
        "delay_s": 0.0, "deaths": len(kept.history.deaths), "restarts": kept.restarts,
    }  # fmt: skip
    isolating.testify(state, kept, life, record)
    state.owed.append(Owed(kept, life, record, time.monotonic() + _STATUS_PATIENCE_S))


def settle_owed(state: "State", now_s: float) -> None:
    """Close the records of lives whose status was still to come."""
    for entry in state.unsure[:]:
        kept, life, until_s = entry
        if _status_of(state, life) is not None or now_s >= until_s:
            state.unsure.remove(entry)
            main_died(state, kept, life, is_final=True)
    for owed in state.owed[:]:
        status = _status_of(state, owed.life)
        if status is not None or now_s >= owed.until_s:
            state.owed.remove(owed)
            owed.record["status"] = status
            _close_record(state, owed.kept, owed.life, owed.record)


def _spare_died(state: "State", kept: Kept, life: Life) -> None:
    record_spare_death(state, kept, life, _status_of(state, life))
    if not life.is_ours:
        life.close()


def record_spare_death(state: "State", kept: Kept, life: Life, status: "int | None") -> None:
    """Put the end of a spare on record, and see to the next one."""
    asked = life.go < 0
    state.journal.add({
        "k": "exit", "worker": kept.name, "n": life.n, "role": "spare", "pid": life.pid, "status": status,
        "lived_s": round(max(0.0, time.monotonic() - life.started_mono_s), 4),
        "cause": "stop" if asked or not life.is_ours else "died", "deaths": 0, "next": "none", "delay_s": 0.0,
    })  # fmt: skip
    if kept.spare is life:
        kept.spare = None
    if kept.up and kept.plan["spare"]:
        kept.spare_deaths += 1
        delay_s = min(_SPARE_DELAY_MAX_S, _SPARE_DELAY_S * 2.0 ** min(kept.spare_deaths - 1, 10))
        kept.spare_due_s = time.monotonic() + delay_s
    orders.forget_if_unplanned(state, kept)


def _status_words(status: "int | None") -> str:
    if status is None:
        return "status unknown"
    if os.WIFSIGNALED(status):
        return f"killed by {signal.name(os.WTERMSIG(status))}"
    return f"exit status {os.WEXITSTATUS(status)}"
