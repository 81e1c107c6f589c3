"""What was found the last time when the same happened to this worker?

A profile of a quiet second says little, and a process that is about to run out of memory is not asked much: but the failure before this one may have
been seen well. Its finding is worth more than a guess, and is told as what it is. Cost: the end of the index and a record or two, a millisecond.
"""

import os

from holdfast.diagnosis.findings import is_weak
from holdfast.records import incidents
from holdfast.wire import layout
from holdfast.wire.jsonlite import loads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

#: Kinds that have the same cause: what slows a worker down makes its loop late, what leaks runs out of memory.
_FAMILIES = (
    ("memory", "memory_leak", "oom"),
    ("slow", "loop_lag", "odd_one_out", "pegged"),
)
#: Not older than this, not further back in the index, and so many records at most.
_WITHIN_S, _TAIL_BYTES, _MOST = 86400.0, 1 << 16, 4


def finding(state_dir: str, worker: str, kind: str, now_unix_s: float) -> "dict[str, Any] | None":
    """Return the finding of the last incident of this worker that had a good one about the same; None: there is none."""
    kinds = next((family for family in _FAMILIES if kind in family), (kind,))
    looked_at = 0
    for row in _newest(f"{state_dir}/{layout.INCIDENT_INDEX}"):
        if row.get("worker") != worker or row.get("kind") not in kinds:
            continue
        opened = row.get("opened_unix_s")
        is_recent = isinstance(opened, int | float) and now_unix_s - opened < _WITHIN_S
        if not is_recent or looked_at >= _MOST:
            return None
        looked_at += 1
        record = incidents.read_record(f"{state_dir}/{layout.INCIDENTS}/{row['id']}") or {}
        for one in record.get("findings") or ():
            # What was repeated there is found where it came from.
            if type(one) is dict and not is_weak([one]) and not one.get("from"):
                says = f"Here there is little to go by; {row['id']} found: {one.get('says')}"
                return {**one, "confidence": "likely", "says": says, "rests_on": [str(row["id"])], "from": row["id"]}  # fmt: skip
    return None


def _newest(path: str) -> "list[dict[str, Any]]":
    try:
        with open(path, "rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - _TAIL_BYTES))
            lines = file.read().split(b"\n")
    except OSError:
        return []
    found = []
    for line in reversed(lines):
        try:
            row = loads(line.decode())
        except ValueError:
            continue  # torn, or the middle of a line
        if type(row) is dict and type(row.get("id")) is str:
            found.append(row)
    return found
