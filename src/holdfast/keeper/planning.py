"""The plan as the keeper uses it, and how a new one replaces it while everything runs."""

from holdfast.core import lifecycle, parts
from holdfast.keeper import orders
from holdfast.keeper.kept import Kept
from holdfast.linux import files, launch, talk
from holdfast.linux import system as os
from holdfast.wire import layout
from holdfast.wire import plan as plan_format

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection
    from typing import Any

    from holdfast.keeper.state import State
    from holdfast.model.plan import Plan


def fit(state: "State", kept: Kept) -> None:
    """Work out what depends on the plan alone."""
    plan = kept.plan
    kept.entry = plan_format.fingerprint(plan, state.env_sum)
    if plan["log"]:
        for stream in ("out", "err"):
            path = f"{state.run_dir}/{layout.fifo(plan['name'], stream)}"
            launch.make_pipe(path)
            # Anchor and logger hold it as well: any two of us may be killed while the worker dies,
            # and its last words are still in the pipe.
            if path not in state.pipes:
                state.pipes[path] = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)


def tell_pipes(state: "State") -> None:
    """Anchor and logger look at the pipes again."""
    for role in ("anchor", "logger"):
        talk.tell(state.run_dir, role, {"do": "fifos"})


def apply(state: "State", path: str) -> "dict[str, Any]":
    """Make a new plan the running one; only workers that it changes are touched. What is split stays split."""
    new = plan_format.decode(files.read(path), path)
    touched = take_effect(state, parts.carry_over(new, state.plan))
    state.house.say(f"plan {new['digest'][:12]} applied")
    return touched


def take_effect(state: "State", new: "Plan", *, kill: "Collection[str]" = ()) -> "dict[str, Any]":
    """Make a plan the running one. The rename is the step: a keeper that is killed after it finds the rest to do.

    Args:
        state: Of the keeper.
        new: The plan.
        kill: Workers that are killed rather than asked, where the plan changes them.
    """
    path = f"{state.run_dir}/{layout.PLAN}"
    files.write_atomic(path, plan_format.encode(new), mode=plan_format.mode(new))
    planned = {entry["name"] for entry in state.plan["workers"]}
    state.plan = new
    state.env_sum = plan_format.env_sum(new)
    state.journal.add({"k": "plan", "digest": new["digest"]})
    touched: dict[str, list[str]] = {"start": [], "stop": [], "restart": []}
    wanted = {entry["name"]: entry for entry in new["workers"]}
    for name, kept in list(state.workers.items()):
        if name not in wanted:
            touched["stop"].append(name)
            orders.want(state, kept, up=False, by="plan", cause="apply", kill=name in kill)
    for name, entry in wanted.items():
        kept_before = state.workers.get(name)
        if kept_before is None:
            kept = state.workers[name] = Kept(entry)
            fit(state, kept)
            if entry["autostart"]:
                touched["start"].append(name)
                orders.want(state, kept, up=True, by="plan")
            continue
        old_entry, old_listen = kept_before.entry, kept_before.plan["listen"]
        kept_before.plan = entry
        fit(state, kept_before)
        if kept_before.entry != old_entry and kept_before.up:
            touched["restart"].append(name)
            if entry["listen"] != old_listen:
                orders.drop_sockets(state, kept_before)
            orders.end_spare(kept_before)
            if kept_before.life:
                orders.stop(state, kept_before, "apply", "restart", kill=name in kill)
            else:
                kept_before.due_s = 0.0
                orders.step(state, kept_before, lifecycle.WANT_UP)
        elif name not in planned and entry["autostart"]:
            # It had been taken out and has not ended yet.
            touched["start"].append(name)
            orders.want(state, kept_before, up=True, by="plan")
    order = [entry["name"] for entry in new["workers"]]
    state.workers = {
        n: state.workers[n] for n in [*order, *(n for n in state.workers if n not in wanted)]
    }
    tell_pipes(state)
    for role in ("watchdog", "logger"):
        talk.tell(state.run_dir, role, {"do": "plan"})
    return touched
