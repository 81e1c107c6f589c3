"""What would change on a running node if another plan took the place of its own?

Pure: two plans in, a list of changes out. Whether a worker has to be restarted is not decided here but in
:mod:`holdfast.wire.plan`, by which the keeper goes as well: what is announced is what happens.
"""

from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from holdfast.config.compile import with_digest
from holdfast.config.jobs_definitions import without_password
from holdfast.wire.jsonlite import dumps
from holdfast.wire.plan import ADJUSTABLE

if TYPE_CHECKING:
    from holdfast.model.plan import Plan, WorkerPlan

#: Stands for the node itself in a list of changes, as in the flags.
NODE = "@node"
#: These of the node are read when its processes start, not when a plan is applied.
_NODE_FIXED = ("state_dir",)
#: Says nothing that a person changed.
_NODE_SILENT = ("format", "digest", "config", "workers", "groups", "env")
Action = Literal["start", "stop", "restart", "adjust"]
_WORDS = {
    "start": "is new and is started",
    "stop": "is gone and is stopped",
    "restart": "is restarted",
    "adjust": "goes on running, with new settings",
}


class Change(NamedTuple):
    """What happens to one worker (or to ``@node``) and which keys are the reason.

    ``adjust`` takes effect without a restart. ``details`` has a sentence for each key, ``memory_bytes: 1 -> 2``;
    values of environment variables are not shown, they are where secrets live.
    """

    worker: str
    action: Action
    keys: tuple[str, ...] = ()
    details: tuple[str, ...] = ()


def diff_plans(old: "Plan", new: "Plan") -> list[Change]:
    """Return what applying ``new`` to a node that runs ``old`` does: stops first, then in start order."""
    before = {worker["name"]: worker for worker in old["workers"]}
    after = {worker["name"]: worker for worker in new["workers"]}
    changes = [Change(name, "stop") for name in before if name not in after]
    changes += _node_changes(old, new)
    inherited = _paths(old["env"], new["env"], "env", hide=True)
    groups = _group_changes(old, new)
    for name, worker in after.items():
        if name not in before:
            changes.append(_start(worker))
            continue
        reasons = list(inherited)
        must_restart = bool(inherited)
        for key in _different(before[name], worker):
            was, now = before[name].get(key), worker.get(key)
            reasons += _paths(was, now, key, hide=key == "env")
            must_restart = must_restart or _needs_restart(key, was, now)
        reasons += groups.get(name, [])
        if reasons:
            keys = tuple(reason.partition(":")[0] for reason in reasons)
            changes.append(
                Change(name, "restart" if must_restart else "adjust", keys, tuple(reasons))
            )
    return changes


def explain(changes: list[Change]) -> list[str]:
    """Return the changes as lines for a person; none when nothing changes."""
    lines = []
    for change in changes:
        who = "the node" if change.worker == NODE else f'worker "{change.worker}"'
        words = _WORDS[change.action]
        if change.worker == NODE and change.action == "restart":
            words = "has to be stopped and started again:  holdfast down, then holdfast up"
        elif change.action == "start" and "autostart" in change.keys:
            words = "is new and is not started (autostart = false)"
        lines.append(f"{who} {words}")
        lines += [f"  {detail}" for detail in change.details]
    return lines


def keep_environment(new: "Plan", old: "Plan") -> "Plan":
    """Return ``new`` with the inherited environment of ``old``.

    A plan inherits variables from the shell in which it was made. Applying one from another shell must not restart the
    whole node because of that: `holdfast apply` keeps those with which the node was started.
    """
    return with_digest({**new, "env": old["env"]})


def _different(was: "WorkerPlan", now: "WorkerPlan") -> list[str]:
    if dumps(was) == dumps(now):
        return []
    # As JSON, like the keeper: settings in another order, or 1.0 for 1, are a difference to a component.
    keys = sorted({*was, *now} - {"name"})
    return [key for key in keys if dumps(was.get(key)) != dumps(now.get(key))]


def _needs_restart(key: str, was: Any, now: Any) -> bool:
    if key == "log":
        # Only where the output goes matters to the running process.
        return bool((was and was["directory"]) != (now and now["directory"]))
    return key not in ADJUSTABLE


def _start(worker: "WorkerPlan") -> Change:
    return (
        Change(worker["name"], "start")
        if worker["autostart"]
        else Change(worker["name"], "start", ("autostart",))
    )


def _node_changes(old: "Plan", new: "Plan") -> list[Change]:
    reasons: list[str] = []
    must_restart = False
    for key in sorted({*old, *new} - set(_NODE_SILENT)):
        was, now = old.get(key), new.get(key)
        if was != now:
            reasons += _paths(was, now, key)
            must_restart = must_restart or key in _NODE_FIXED
    if not reasons:
        return []
    keys = tuple(reason.partition(":")[0] for reason in reasons)
    return [Change(NODE, "restart" if must_restart else "adjust", keys, tuple(reasons))]


def _group_changes(old: "Plan", new: "Plan") -> dict[str, list[str]]:
    """Return worker -> what is new about the group that it restarts with."""
    sides = []
    for plan in (old, new):
        words = {
            g["name"]: f"{g['name']} ({g['strategy']}: {', '.join(g['workers'])})"
            for g in plan["groups"]
        }
        sides.append({worker: words[g["name"]] for g in plan["groups"] for worker in g["workers"]})
    was, now = sides
    return {
        worker: [f"groups: {was.get(worker, 'none')} -> {now.get(worker, 'none')}"]
        for worker in {**was, **now}
        if was.get(worker) != now.get(worker)
    }


def _paths(was: Any, now: Any, path: str, *, hide: bool = False) -> list[str]:
    """Return one sentence for each leaf that differs."""
    if isinstance(was, dict) and isinstance(now, dict):
        found = []
        for key in sorted({*was, *now}):
            if was.get(key) != now.get(key) or (key in was) != (key in now):
                if hide:
                    words = (
                        "is gone"
                        if key not in now
                        else "is new"
                        if key not in was
                        else "has another value"
                    )
                    found.append(f"{path}.{key}: {words}")
                else:
                    found += _paths(was.get(key), now.get(key), f"{path}.{key}")
        return found
    if path == "jobs.store":
        was, now = without_password(was or ""), without_password(now or "")
    before, after = _value(was), _value(now)
    # What differs inside of settings or of a long command is not for one line.
    return [f"{path}: {before} -> {after}" if before != after else f"{path}: differs inside"]


def _value(value: Any) -> str:
    if isinstance(value, list) and all(isinstance(entry, str) for entry in value):
        words = " ".join(value) or "none"
    elif isinstance(value, list) and all(isinstance(entry, dict) for entry in value):
        words = ", ".join(
            str(entry.get("path") or entry.get("port") or entry.get("name")) for entry in value
        )
    elif isinstance(value, bool):
        words = "true" if value else "false"
    else:
        words = (
            "not set"
            if value is None
            else "false"
            if isinstance(value, dict) and not value
            else str(value)
        )
    return words if len(words) <= 70 else words[:67] + "…"
