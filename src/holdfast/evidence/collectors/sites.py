"""Who created all these tasks and threads? The agent has counted; this reads it from the pulse file.

Cost: one read of 32 KiB. Works with a blocked loop, a held GIL and a dead process: the file is the house's.
"""

from holdfast.evidence.collectors.pulse import places
from holdfast.linux import files
from holdfast.model.plan import HOSTED
from holdfast.wire import pulse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from holdfast.evidence.case import Case

_LISTED = 40


def collect(case: "Case") -> None:
    """Read the creation sites of the life in question."""
    found = read(case.run_dir, case.worker, case.pid)
    if not found:
        if case.facts.plan.get("kind") in HOSTED or case.facts.plan.get("agent"):
            case.miss("creation sites", "the agent has written none in this life")
        return
    case.facts.sites = found
    case.keep_json(
        "sites.json",
        {k: v[:_LISTED] if type(v) is list else v for k, v in found.items()},
    )


def read(run_dir: str, worker: str, pid: int = 0) -> "dict[str, Any]":
    """Return ``{"tasks": [[count, live, site, [creators]], …], "threads": […]}``; empty when there are none."""
    for path in places(run_dir, worker, pid):
        try:
            data = files.read(path)
        except OSError:
            continue
        found = pulse.decode(data)
        if found is not None and (not pid or found.pid == pid):
            return found.sites
    return {}
