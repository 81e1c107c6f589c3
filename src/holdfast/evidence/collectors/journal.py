"""What the keeper wrote down about this death: who caused it, what comes next."""

import os

from holdfast.linux import files
from holdfast.wire import journal, layout

TYPE_CHECKING = False
if TYPE_CHECKING:
    from holdfast.evidence.case import Case


def collect(case: "Case") -> None:
    """Find the exit record of the order, and the start that followed it."""
    records, _ = journal.decode(files.read(os.path.join(case.run_dir, layout.JOURNAL)))
    own = [r for r in records if r.get("worker") == case.worker]
    seq = case.order.get("seq")
    exits = [
        r
        for r in own
        if r.get("k") in ("exit", "failed_spawn") and (seq is None or r.get("seq") == seq)
    ]
    if case.order.get("live") or not exits:
        return
    record = exits[-1]
    case.facts.exit = record
    for name in ("n", "pid", "status", "lived_s"):
        # An order for a flag (crash loop) need not say which life it was: the last one.
        if case.order.get(name) is None and name in record:
            case.order[name] = record[name]
    case.start = case.order.get("n")
    case.pid = int(case.order.get("pid") or 0)
    case.facts.next_start = next(
        (
            r
            for r in own
            if r.get("k") in ("start", "go") and r.get("seq", 0) > record.get("seq", 0)
        ),
        {},
    )
