"""Carry out an order: which evidence is taken, in which order, and how it ends in exactly one incident.

The gentle and perishable comes first (stacks of a process that is about to be killed), the slow and durable last (files,
packages). Every collector has an alarm; one that fails or runs late costs its own part, and the incident says
which part is missing and why. Carried out again after a kill at any instant, the order finds the incident it
already led to by its key.
"""

import os
import sys
import time

from holdfast.diagnosis import findings
from holdfast.diagnosis import stacks as form
from holdfast.diagnosis.story import story
from holdfast.evidence import bundle
from holdfast.evidence.case import Case, read_json
from holdfast.evidence.deadline import BUDGET_S, Deadline, alarm
from holdfast.linux import files, locks
from holdfast.model.errors import StateError
from holdfast.records import incidents
from holdfast.wire import layout
from holdfast.wire.jsonlite import dumps

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    Collector = Callable[[Case], None]
    Step = tuple[str, str, float]

#: Bundles kept on the disk; 20 to 100 KB each.
KEPT = 2000
#: As long as the watchdog waits before it has a life put on record (``watchdog/good.py``).
_GOOD_S = 60.0
#: Kept back from the collectors for writing the bundle; of a short budget only a fifth.
_WRITING_S = 0.2
#: With less than this (memory is about to run out) only what is in memory already is taken: no tool is started.
_HURRY_S = 0.25
_POLL_S = 0.01
#: So long a consequence waits for the incident of its cause.
_CAUSE_S = 2.0

#: Name, collector (module and function in `collectors/`), most seconds with the usual budget. Imported when it is its turn: before
#: a memory kill half of the time would go into importing what is not asked for. For a process that is still there, and for one that is not.
_LIVE: "tuple[Step, ...]" = (
    ("pulse", "pulse.collect", 0.1),
    ("creation sites", "sites.collect", 0.1),
    ("looks of the agent", "profile.seen_by_agent", 0.1),
    ("stacks", "stacks.collect", 1.5),
    ("tree of tasks", "tasks.collect", 0.4),
    # These three only begin here, and take what they found after the others have done their work.
    ("question for a census", "census.begin", 0.3),
    ("profiler", "profile.begin", 0.3),
    ("first look at memory", "memory.begin", 0.3),
    ("process", "process.collect", 0.3),
    ("log", "output.collect", 0.6),
    ("samples", "samples.collect", 0.1),
    ("environment", "environment.collect", 1.0),
    ("profile", "profile.collect", 1.6),
    ("census", "census.collect", 1.5),
    ("memory", "memory.collect", 0.3),
)
_HURRIED: "tuple[Step, ...]" = (
    ("pulse", "pulse.collect", 0.1),
    ("creation sites", "sites.collect", 0.1),
    ("samples", "samples.collect", 0.1),
    ("process", "process.collect", 0.1),
)
_DEAD: "tuple[Step, ...]" = (
    ("journal", "journal.collect", 0.2),
    ("pulse", "pulse.collect", 0.1),
    ("log", "output.collect", 0.8),
    ("creation sites", "sites.collect", 0.1),
    ("looks of the agent", "profile.seen_by_agent", 0.1),
    ("kernel log", "kernel.collect", 0.3),
    ("core", "cores.collect", 3.5),
    ("samples", "samples.collect", 0.1),
    ("environment", "environment.collect", 1.0),
)
_NODE: "tuple[Step, ...]" = (
    ("disk", "disk.collect", 0.5),
    ("writers", "writers.collect", 1.5),
    ("machine", "box.collect", 0.5),
)
#: Collectors that have nothing to say in most cases: what they did not find is not worth a word.
_SILENT = frozenset(
    {
        "profiler",
        "writers",
        "first look at memory",
        "question for a census",
        "creation sites",
        "tree of tasks",
        "census",
        "profile",
        "memory",
        "core",
    }
)
#: Looking up who owns the files on the stacks; what it cannot finish in time is left out of the findings.
_NAMING_S = 0.5


def carry_out(
    run_dir: str, key: str, let_go: "Callable[[], None]" = lambda: None
) -> str | None:  # fmt: skip
    """Carry out the order ``KEY.json`` and return the incident's id; None when the order makes none.

    Args:
        run_dir: Of the node.
        key: Of the order.
        let_go: Called for a process that lives, when the incident is there and only what nobody waits for is left.

    Raises:
        StateError: There is no such order, or it or the plan cannot be read.
        OSError: The bundle could be written nowhere.
    """
    base = f"{run_dir}/{layout.ORDERS}/{key}"
    began_s = time.monotonic()
    held = locks.take(f"{base}.lock")
    while held is None:
        # Somebody is at it already. Should it die, the lock is ours and the work, too.
        if os.path.exists(f"{base}.done"):
            return _finished(base)
        if time.monotonic() - began_s > 10 * BUDGET_S:
            raise StateError(f"order {key}: another process has been at it for {10 * BUDGET_S:g} s")
        time.sleep(_POLL_S)
        held = locks.take(f"{base}.lock")
    if os.path.exists(f"{base}.done"):
        return _finished(base)
    case = _open_case(run_dir, key)
    if case.order.get("kind") == "good":
        identity = None
        environment_of_a_good_life(case)
    else:
        identity = _incident(case)
        _put_core_away(case, identity)
        if not _is_hurried(case):
            _note_relapse(case, identity)
    files.write_atomic(f"{base}.done", dumps({"key": key, "incident": identity}).encode())
    _finished(base)
    if case.order.get("live"):
        let_go()
    if identity is not None and _is_hurried(case):
        _note_relapse(case, identity)
    _afterwards(case, identity)
    return identity


def _put_core_away(case: Case, identity: str) -> None:
    """Delete the core dump that the bundle has the stacks of. Before the order is done: killed here, it is carried out again."""
    if case.order.get("live") or not int(case.order.get("status") or 0) & 0x80:
        return
    from holdfast.evidence.collectors import cores

    try:
        cores.put_away(case, f"{case.state_dir}/{layout.INCIDENTS}/{identity}")
    except OSError as error:
        sys.stderr.write(f"evidence: the core dump of pid {case.pid} stays: {error}\n")


def _note_relapse(case: Case, identity: str) -> None:
    """Say so in the incident before, if this is the same again. Before the order is done: killed here, it is carried out again."""
    from holdfast.evidence import relapse

    try:
        relapse.note(case.state_dir, identity)
    except OSError as error:
        sys.stderr.write(f"evidence: {identity}: the verdict before stays as it is: {error}\n")


def environment_of_a_good_life(case: Case) -> None:
    """Take the fingerprint of a worker that is well, as what later failures are compared with."""
    from holdfast.evidence.collectors import environment, healthy, profile

    case.fingerprint = environment.fingerprint(case)
    try:
        environment.keep(case, good=True)
        healthy.take(case, profile.start)
    except OSError:
        # A full disk is no failure of the worker. What is older stays, and is still good.
        return


def _open_case(run_dir: str, key: str) -> Case:
    path = f"{run_dir}/{layout.ORDERS}/{key}.json"
    order = read_json(path)
    if type(order.get("worker")) is not str:
        raise StateError(f"{path}: there is no such order, or it cannot be read")
    plan = read_json(f"{run_dir}/{layout.PLAN}")
    if type(plan.get("state_dir")) is not str:
        raise StateError(
            f"{run_dir}/{layout.PLAN}: the plan cannot be read, so there is no place for incidents"
        )
    seconds = order.get("deadline_s")
    budget_s = BUDGET_S if seconds is None else float(seconds)
    return Case(run_dir, key, order, plan, Deadline(budget_s))


def _incident(case: Case) -> str:
    """Find or make the incident of this order and return its id."""
    homes = [f"{case.state_dir}/{layout.INCIDENTS}", f"{case.run_dir}/{layout.INCIDENTS}"]
    start = bundle.prefix(case.worker, float(case.order.get("unix_s") or time.time()))
    before = bundle.find_key(homes, start, case.key)
    if before is not None:
        return before
    # What an earlier attempt for this order left behind; processes that live keep theirs.
    for home in homes:
        bundle.sweep(home)
    _collect(case)
    record = _record(case)
    return _publish(case, homes, start, record)


def _collect(case: Case) -> None:
    writing_s = min(_WRITING_S, case.deadline.left_s() / 5)
    for name, collector, most_s in _collectors(case):
        left_s = case.deadline.left_s() - writing_s
        if left_s <= 0:
            case.miss(name, "no time was left")
            continue
        missed = len(case.missed)
        try:
            with alarm(min(case.deadline.scaled(most_s), left_s)):
                _collector(collector)(case)
        except Exception as error:  # noqa: BLE001 -- the outermost loop: one part of the evidence must not cost the rest
            case.miss(name, f"{type(error).__name__}: {error}")
            continue
        said_nothing = name in _SILENT and not _has_something(case, name)
        if not said_nothing and (len(case.missed) == missed or _has_something(case, name)):
            case.collected.append(name)
    if case.asked is not None:
        case.asked.close()
        case.asked = None
    if case.profiler is not None:
        case.profiler.abandon()  # no time was left to wait for it
        case.profiler = None


def _collector(path: str) -> "Collector":
    module, _, function = path.partition(".")
    home = __import__(f"holdfast.evidence.collectors.{module}", fromlist=[function])
    found: Collector = getattr(home, function)
    return found


def _has_something(case: Case, name: str) -> bool:
    kept = {
        "log": "log.txt", "kernel log": "kernel.txt", "creation sites": "sites.json", "profile": "profile.txt",
        "memory": "memory.json", "census": "census.json", "core": "core.txt", "tree of tasks": "tasks.txt",
        "writers": "writers.txt",
    }  # fmt: skip
    return kept.get(name, "") in case.files or (name == "stacks" and bool(case.facts.live_stacks))


def _collectors(case: Case) -> "tuple[Step, ...]":
    if case.worker == "@node":
        return _NODE
    if case.order.get("live"):
        return _HURRIED if _is_hurried(case) else _LIVE
    return _DEAD


def _is_hurried(case: Case) -> bool:
    return bool(case.order.get("live")) and case.deadline.seconds <= _HURRY_S


def _record(case: Case) -> "dict[str, Any]":
    """Return incident.json, without its id."""
    facts, order = case.facts, case.order
    _name_owners(case)
    assessed = findings.assess(facts)
    if findings.is_weak(assessed["findings"]):
        from holdfast.evidence import earlier

        facts.earlier = earlier.finding(case.state_dir, case.worker, assessed["kind"], time.time())
        if facts.earlier is not None:
            assessed = findings.assess(facts)
    if assessed["stacks"]:
        case.files["stacks.txt"] = form.as_text(assessed["stacks"]).encode("utf-8", "replace")
    cause = assessed["cause"]
    cause["seen_before"] = _seen_before(case, cause.get("signature"))
    if facts.pulse.get("note"):
        cause["note"] = facts.pulse["note"]
    start = order.get("n")
    record: dict[str, Any] = {
        "format": 1,
        "id": None,
        "key": case.key,
        "worker": case.worker,
        **assessed,
        "opened_unix_s": float(facts.exit.get("unix_s") or order.get("unix_s") or time.time()),
        "start": start,
        "pid": order.get("pid"),
        "lived_s": order.get("lived_s"),
        "status": order.get("status"),
        "restarts": _restarts(order, start),
        "remedy": None,
        "verdict": "open",
        "because": _because(case),
        "changed": facts.changed,
    }
    record["evidence"] = {
        "files": sorted([*case.files, incidents.RECORD, "story.txt"]),
        "collected": case.collected,
        "missed": case.missed,
        "took_s": round(case.deadline.took_s(), 3),
    }
    return record


def _because(case: Case) -> "dict[str, Any] | None":
    """Return the worker and the incident that this death follows from; None where it stands for itself.

    Both died within seconds, so the other's evidence may just be being taken: nobody waits for this one.
    """
    cause = case.order.get("because")
    if type(cause) is not dict or type(cause.get("worker")) is not str:
        return None
    path = f"{case.run_dir}/{layout.ORDERS}/{cause.get('key')}.done"
    until_s = time.monotonic() + (0.0 if case.order.get("live") else _CAUSE_S)
    while cause.get("key") and not os.path.exists(path) and time.monotonic() < until_s:
        time.sleep(_POLL_S)
    incident = read_json(path).get("incident") if cause.get("key") else None
    return {"worker": cause["worker"], "incident": incident if type(incident) is str else None}


def _name_owners(case: Case) -> None:
    """Look up whose code is on the stacks, and the lines that the findings may want to quote."""
    if findings.blames_nobody(case.facts):
        return
    left_s = case.deadline.left_s() if case.order.get("live") else _NAMING_S
    if left_s <= 0:
        case.miss("names of packages", "no time was left")
        return
    from holdfast.evidence.collectors import owners

    try:
        with alarm(max(0.02, min(_NAMING_S, left_s))):
            owners.collect(case)
    except Exception as error:  # noqa: BLE001 -- as with every collector: names are worth less than the bundle
        case.miss("names of packages", f"{type(error).__name__}: {error}")


def _seen_before(case: Case, signature: object) -> "dict[str, Any]":
    if not signature:
        return {}
    rows, _ = incidents.read_index(case.state_dir)
    same = [r for r in rows if r.get("signature") == signature and r.get("worker") == case.worker]
    if not same:
        return {}
    return {"count": len(same), "first_unix_s": same[0]["opened_unix_s"], "last": same[-1]["id"]}


def _publish(case: Case, homes: list[str], start: str, record: "dict[str, Any]") -> str:
    """Put the bundle on the disk, or into memory when the disk takes nothing."""
    disk_home, memory_home = homes
    try:
        case.files["story.txt"] = story(record, []).encode("utf-8", "replace")
        identity = bundle.publish(
            disk_home, start, record, case.files, incidents.names(memory_home)
        )
        bundle.add_row(case.state_dir, record)
    except OSError as error:
        case.miss(
            "bundle", f"{disk_home}: {error.strerror}; the smallest useful part is kept in memory"
        )
        content = bundle.smallest(case.files)
        content["story.txt"] = story(record, []).encode("utf-8", "replace")
        return bundle.publish(memory_home, start, record, content, incidents.names(disk_home))
    return identity


def _finished(base: str) -> str | None:
    """Tidy up beside ``KEY.done`` and return the incident it names."""
    for ending in (".json", ".lock"):
        try:
            os.unlink(base + ending)
        except FileNotFoundError:
            continue
    identity = read_json(f"{base}.done").get("incident")
    return identity if type(identity) is str else None


def _afterwards(case: Case, identity: str | None) -> None:
    """Do what nobody waits for; whatever fails here, the order is done."""
    try:
        if identity is not None:
            if case.fingerprint:
                from holdfast.evidence.collectors import environment

                environment.keep(case, good=_was_good(case))
            bundle.settle(f"{case.state_dir}/{layout.INCIDENTS}/{identity}")
            bundle.prune(f"{case.state_dir}/{layout.INCIDENTS}", KEPT)
        bundle.bring_home(
            f"{case.state_dir}/{layout.INCIDENTS}",
            f"{case.run_dir}/{layout.INCIDENTS}",
            case.state_dir,
        )
    except OSError:
        return  # the disk is still full: the next one tries again


def _was_good(case: Case) -> bool:
    """Tell whether the life that ended ran well, and with what we see now.

    An edit during a life is loaded by the next one only: then this life says nothing about what is there now.
    """
    healthy_s = float((case.facts.plan.get("restart") or {}).get("healthy_s") or 0.0)
    # A life that failed: only one that was long enough to be put on record while it ran. A worker that dies every quarter of a
    # minute since a package was changed must not make that package its baseline.
    lived_s = float(case.order.get("lived_s") or 0.0)
    if case.order.get("live") or not healthy_s or lived_s < max(healthy_s, _GOOD_S):
        return False
    return case.unchanged or not os.path.exists(case.good_path())


def _restarts(order: "dict[str, Any]", start: object) -> int:
    """Return how often the worker was restarted before this life."""
    if type(order.get("restarts")) is int:
        return int(order["restarts"])
    return start - 1 if type(start) is int and start > 0 else 0
