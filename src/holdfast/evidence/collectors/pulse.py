"""The pulse of the life in question: its last beats, the component that ran, the last events."""

import time

from holdfast.linux import files
from holdfast.model.plan import HOSTED
from holdfast.wire import layout
from holdfast.wire import pulse as format_

TYPE_CHECKING = False
if TYPE_CHECKING:
    from holdfast.evidence.case import Case

_EVENTS = 100


def collect(case: "Case") -> None:
    """Read the pulse file; a new life may have put its own in place of it already."""
    if case.facts.plan.get("kind") not in HOSTED and not case.facts.plan.get("agent"):
        return
    base = f"{case.run_dir}/{layout.pulse(case.worker)}"
    for path in (base, f"{base}.last", f"{case.run_dir}/{layout.pulse(case.worker, 'spare')}"):
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
    facts["events"] = [
        {"ago_s": round((now_ns - at_ns) / 1e9, 3), "says": says}
        for at_ns, says in format_.decode_events(data)[-_EVENTS:]
    ]
    case.facts.pulse = facts
    case.keep_json("pulse.json", facts)
