"""The pulse of the life in question: its last beats, the component that ran, the last events."""

import os
import time

from holdfast.linux import files, procfs
from holdfast.model.plan import HOSTED
from holdfast.wire import layout
from holdfast.wire import pulse as format_
from holdfast.wire.jsonlite import loads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from holdfast.evidence.case import Case

_EVENTS = 100


def collect(case: "Case") -> None:
    """Read the pulse file; a new life may have put its own in place of it already."""
    if case.facts.plan.get("kind") not in HOSTED and not case.facts.plan.get("agent"):
        return
    spare = f"{case.run_dir}/{layout.pulse(case.worker, 'spare')}"
    for path in (*places(case.run_dir, case.worker, case.pid), spare):
        data = files.read(path)
        found = format_.decode(data)
        if found and found.pid == case.pid and (case.start is None or found.start == case.start):
            break
    else:
        case.miss("pulse", "there is none of this life any more: the next one has replaced it")
        return
    now_ns = time.monotonic_ns()
    facts = {name: getattr(found, name) for name in format_.Pulse.__slots__}
    # The creation sites are a file of their own in the bundle.
    facts.pop("sites", None)
    facts["routes"] = [
        {"name": name, "count": count, "latency_sum_ns": latency_ns, "cpu_ns": cpu_ns}
        for name, count, latency_ns, cpu_ns in facts.get("routes") or ()
    ]
    for beat in ("thread_beat", "loop_beat"):
        at_ns = facts[f"{beat}_ns"]
        facts[f"{beat}_age_s"] = round((now_ns - at_ns) / 1e9, 3) if at_ns else None
    if found.oldest_call_ns:
        facts["oldest_call_s"] = round((now_ns - found.oldest_call_ns) / 1e9, 3)
    if found.held_ns:
        facts["held_s"] = round((now_ns - found.held_ns) / 1e9, 3)
    facts["events"] = [
        {"ago_s": round((now_ns - at_ns) / 1e9, 3), "says": says}
        for at_ns, says in format_.decode_events(data)[-_EVENTS:]
    ]
    case.facts.pulse = facts
    case.keep_json("pulse.json", facts)


def places(run_dir: str, worker: str, pid: int) -> "list[str]":
    """Return where the pulse of a process of a worker may be: it may be one that the worker forked."""
    base = f"{run_dir}/{layout.pulse(worker)}"
    return [f"{run_dir}/{layout.forks(worker)}/{pid}", base, f"{base}.last"]


def socket(run_dir: str, worker: str, pid: int) -> str:
    """Return where a process of a worker can be asked: one that it forked has a socket of its own."""
    own = f"{run_dir}/{layout.forks(worker)}/{pid}.sock"
    return own if os.path.exists(own) else f"{run_dir}/{layout.CONTROL}/{worker}.sock"


def forked(run_dir: str, worker: str) -> "list[format_.Pulse]":
    """Return the pulses of the processes that a worker forked and that live."""
    directory = f"{run_dir}/{layout.forks(worker)}"
    try:
        names = [name for name in os.listdir(directory) if name.isdecimal()]
    except OSError:
        return []
    found = []
    for name in sorted(names, key=int):
        beat = format_.decode(files.read(f"{directory}/{name}"))
        if beat is not None and procfs.start_ticks(beat.pid) == beat.ticks:
            found.append(beat)
    return found


def with_forks(run_dir: str, worker: str, own: format_.Pulse) -> format_.Pulse:
    """Return what a worker and all that it forked in this life have done, the dead included; ``own`` where it never forked."""
    directory = f"{run_dir}/{layout.forks(worker)}"
    try:
        names = [name for name in os.listdir(directory) if name.isdecimal()]
    except OSError:
        return own
    beats = [
        beat
        for name in names
        if (beat := format_.decode(files.read(f"{directory}/{name}"))) and beat.start == own.start
    ]
    # After the files: what the watchdog has counted by now is not counted a second time.
    dead: dict[str, Any] = {}
    try:
        found = loads(files.read(f"{directory}/dead").decode() or "{}")
        dead = found if type(found) is dict and found.get("n") == own.start else {}
    except ValueError:
        pass  # as if nobody had died
    taken = dead.get("taken") or ()
    beats = [beat for beat in beats if f"{beat.pid}-{beat.ticks}" not in taken]
    together = format_.together(own, beats, dead.get("counts") or {})
    sums = {name: list(counts) for name, counts in (dead.get("routes") or {}).items()}
    for beat in (own, *beats):
        for name, *counts in beat.routes:
            known = sums.setdefault(name, [0, 0, 0])
            known[:] = [a + b for a, b in zip(known, counts, strict=True)]
    together.routes = [(name, n, late, cpu) for name, (n, late, cpu) in sums.items()]
    return together
