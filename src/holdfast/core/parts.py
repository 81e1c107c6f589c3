"""The plan of a node with some of its workers split: made from the written plan, and back.

A worker of several components that dies again and again is run as several workers, its *parts*, until the culprit
stands alone (:mod:`holdfast.core.isolate` decides which). The configuration that a person wrote is not touched: the plan that
runs is the written plan with the splits laid over it, and holds under ``split`` what is needed to take them off again
(:func:`written` is exactly the inverse of :func:`divide`). One document, so one rename is the whole step: whoever is
killed before it has changed nothing, whoever comes after it finds everything.

Names: a component that stands alone is the worker ``WORKER+COMPONENT``; several that stay together keep the name ``WORKER``, or
get ``WORKER+partN``. No configured name has a ``+`` in it, so a name always tells the worker that it is a part of.

Pure. Left out: stopping and starting (the keeper), and that no component runs twice meanwhile (``keeper/starting.py``).
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Any

    from holdfast.model.plan import Plan, WorkerPlan

    Partition = dict[str, list[str]]

#: Between the worker's name and the component's.
JOINT = "+"
#: A part has a pulse whatever it is a part of; probes of the whole worker would ask most parts for what is not in them.
_PULSE_TIMEOUT_S = 5.0


def family(name: str) -> str:
    """Return the configured worker that a worker of the running plan is (a part of)."""
    return name.partition(JOINT)[0]


def components(entry: "Mapping[str, Any]") -> "list[str]":
    """Return the names of the components of a plan's entry."""
    return [component["name"] for component in entry["components"]]


def may_split(entry: "Mapping[str, Any]") -> int:
    """Return into how many parts at once a worker may be split; 0: not at all."""
    if entry["kind"] != "container" or len(entry["components"]) < 2:
        return 0
    return int(entry.get("isolate", 0))


def partition(plan: "Plan", worker: str) -> "Partition":
    """Return the parts of a configured worker as they run: name -> components; empty when there is no such worker."""
    return {
        entry["name"]: components(entry)
        for entry in plan["workers"]
        if family(entry["name"]) == worker
    }


def divide(
    plan: "Plan", worker: str, groups: "Sequence[Sequence[str]]", *, why: str, unix_s: float
) -> "Plan":
    """Return the plan with one worker (or part) divided.

    Args:
        plan: The one that runs; not changed.
        worker: A container in it, perhaps a part already.
        groups: Its components, divided; each exactly once.
        why: A sentence for people.
        unix_s: The time, for people as well.

    Raises:
        ValueError: That is no division of this worker; the message says why.
    """
    entry = next((one for one in plan["workers"] if one["name"] == worker), None)
    if entry is None or entry["kind"] != "container":
        raise ValueError(f'there is no container "{worker}" that could be split')
    has = components(entry)
    if sorted(name for group in groups for name in group) != sorted(has) or not all(groups):
        raise ValueError(
            f'worker "{worker}" has the components {", ".join(has)}: each has to be in exactly one part'
        )
    if len(groups) < 2:
        raise ValueError(f'worker "{worker}": one part is no split')
    whole = family(worker)
    now = partition(plan, whole)
    parts: Partition = {}
    for name, members in now.items():
        if name != worker:
            parts[name] = members
            continue
        taken = {*now, *parts} - {worker}
        # The largest keeps the name: whoever looks for the worker finds most of it.
        largest = max(groups, key=len)
        for group in groups:
            own = [one for one in has if one in group]
            named = _name(whole, own, taken, keeps=worker if group is largest else "")
            taken.add(named)
            parts[named] = own
    splits = dict(plan.get("split") or {})
    steps = list(splits[whole]["steps"]) if whole in splits else []
    splits[whole] = {
        "parts": parts,
        "since_unix_s": unix_s,
        "steps": [
            *steps,
            {"unix_s": unix_s, "worker": worker, "parts": [list(g) for g in groups], "why": why},
        ],
    }
    return _laid_over(written(plan), splits)


def rejoin(plan: "Plan", worker: str) -> "Plan":
    """Return the plan with a worker in one piece again, as the configuration has it.

    Raises:
        ValueError: It is not split.
    """
    whole = family(worker)
    splits = dict(plan.get("split") or {})
    if splits.pop(whole, None) is None:
        raise ValueError(f'worker "{whole}" is not split')
    return _laid_over(written(plan), splits)


def carry_over(new: "Plan", running: "Plan") -> "Plan":
    """Return a new written plan with the splits of the running one, where they still make sense.

    A worker that has other components now, or may not be split any more, begins in one piece.
    """
    entries = {entry["name"]: entry for entry in new["workers"]}
    kept = {}
    for whole, split in (running.get("split") or {}).items():
        entry = entries.get(whole)
        known = sorted(name for members in split["parts"].values() for name in members)
        if entry is not None and may_split(entry) and sorted(components(entry)) == known:
            kept[whole] = split
    return _laid_over(new, kept)


def written(plan: "Plan") -> "Plan":
    """Return the plan as the configuration has it: nothing is split."""
    splits = plan.get("split")
    if not splits:
        return plan
    workers: list[WorkerPlan] = []
    done: set[str] = set()
    for entry in plan["workers"]:
        whole = family(entry["name"])
        if whole not in splits:
            workers.append(entry)
        elif whole not in done:
            done.add(whole)
            workers.append(splits[whole]["written"])
    result: Plan = {**plan, "workers": [_refer(entry, _whole_of) for entry in workers]}
    result["groups"] = [
        {**group, "workers": _replaced(group["workers"], _whole_of)} for group in plan["groups"]
    ]
    del result["split"]
    return result


def entry_at(
    plan: "Mapping[str, Any]", worker: str, had: "Sequence[str]" = ()
) -> "dict[str, Any] | None":
    """Return the entry of a worker as it was when it had the components ``had``.

    A death is written up when its worker may be split already: what is left under its name, if anything, is not what died.
    """
    found = next((one for one in plan.get("workers") or () if one["name"] == worker), None)
    split = (plan.get("split") or {}).get(family(worker))
    if split is None or (found is not None and (not had or components(found) == list(had))):
        return found
    whole = split["written"]
    if not had:
        had = components(whole) if worker == whole["name"] else [worker.partition(JOINT)[2]]
    there = [one for one in whole["components"] if one["name"] in had]
    return {**(found or whole), "name": worker, "components": there}


# -- private ----------------------------------------------------------------------------------------


def _name(whole: str, members: "Sequence[str]", taken: "set[str]", *, keeps: str) -> str:
    if len(members) == 1:
        return f"{whole}{JOINT}{members[0]}"
    if keeps:
        return keeps
    number = 1
    while f"{whole}{JOINT}part{number}" in taken:
        number += 1
    return f"{whole}{JOINT}part{number}"


def _laid_over(plan: "Plan", splits: "dict[str, Any]") -> "Plan":
    """Return a written plan with the splits laid over it."""
    if not splits:
        return plan
    names: dict[str, list[str]] = {whole: list(split["parts"]) for whole, split in splits.items()}
    workers: list[WorkerPlan] = []
    full: dict[str, Any] = {}
    for entry in plan["workers"]:
        split = splits.get(entry["name"])
        if split is None:
            workers.append(entry)
            continue
        full[entry["name"]] = {**split, "written": entry}
        workers += [_part(entry, name, members) for name, members in split["parts"].items()]

    def parts_of(name: str) -> "list[str]":
        return names.get(name) or [name]

    result: Plan = {**plan, "workers": [_refer(entry, parts_of) for entry in workers]}
    result["groups"] = [
        {**group, "workers": _replaced(group["workers"], parts_of)} for group in plan["groups"]
    ]
    result["split"] = full
    return result


def _part(entry: "WorkerPlan", name: str, members: "Sequence[str]") -> "WorkerPlan":
    part: WorkerPlan = {
        **entry,
        "name": name,
        "components": [one for one in entry["components"] if one["name"] in members],
        # Somebody started it, or it could not have died.
        "autostart": True,
    }
    log = entry["log"]
    if log is not None and name != entry["name"]:
        parent, _, last = log["directory"].rpartition("/")
        own = f"{parent}/{name}" if last == entry["name"] else f"{log['directory']}/{name}"
        part["log"] = {**log, "directory": own}
    if entry["ready"]["kind"] not in ("none", "pulse"):
        part["ready"] = {**entry["ready"], "kind": "pulse", "target": "", "argv": []}
    if entry["heartbeat"]["kind"] not in ("none", "pulse"):
        beat = entry["heartbeat"]
        part["heartbeat"] = {
            **beat, "kind": "pulse", "target": "", "argv": [],
            "timeout_s": min(beat["timeout_s"], _PULSE_TIMEOUT_S),
        }  # fmt: skip
    return part


def _whole_of(name: str) -> "list[str]":
    return [family(name)]


def _refer(entry: "WorkerPlan", names: "Any") -> "WorkerPlan":
    """Return an entry that refers to other workers by their new names; the same object where nothing changes."""
    after, requires = _replaced(entry["after"], names), _replaced(entry["requires"], names)
    if after == entry["after"] and requires == entry["requires"]:
        return entry
    return {**entry, "after": after, "requires": requires}


def _replaced(old: "Iterable[str]", names: "Any") -> "list[str]":
    return list(dict.fromkeys(new for name in old for new in names(name)))
