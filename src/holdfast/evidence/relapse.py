"""Was the incident before this one told cured, and is this the same again?

A verdict is given after some seconds: that is as long as anybody waits. What comes back after half a minute, or after five, was not cured; the
incident that said so is told now, with the time that it stayed away and the name of the one that shows it. Leaves out what comes back while it is
still being looked at: that is the watchdog's (:mod:`holdfast.core.ladder`).
"""

import time

from holdfast.linux import files
from holdfast.records import incidents
from holdfast.wire import layout
from holdfast.wire.jsonlite import dumps

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

#: What comes back later than this after its verdict is another story.
WITHIN_S = 600.0
#: How far back in the index it is looked: many workers may fail at once.
_ROWS = 500


def note(state_dir: str, identity: str) -> None:
    """Revise the verdict of the incident that this one repeats, if there is one; done twice it changes nothing.

    The same: of the same worker, of the same kind, with the same end (a signal, an exit status). What follows from another worker's failure
    says nothing about the remedy before.

    Raises:
        OSError: The timeline cannot be written.
    """
    home = f"{state_dir}/{layout.INCIDENTS}"
    record = incidents.read_record(f"{home}/{identity}")
    if record is None or record.get("because"):
        return
    before = _before(state_dir, record)
    if before is None:
        return
    path = f"{home}/{before['id']}"
    timeline = incidents.timeline_of(path)
    told = [row for row in timeline if row.get("verdict")]
    if not told or told[-1]["verdict"] != "cured":
        return
    again_unix_s = float(record["opened_unix_s"])
    # It may have been said a moment after it came back: then nobody had seen that yet.
    if again_unix_s - float(told[-1].get("unix_s") or 0.0) > WITHIN_S:
        return
    # Since it was begun to be looked whether it stays away: the remedy, or the last that was seen of it.
    row = {
        "unix_s": time.time(), "what": "verdict", "verdict": "came_back",
        "after_s": round(again_unix_s - _mended_unix_s(before, timeline), 3), "again": identity,
    }  # fmt: skip
    files.append(f"{path}/{incidents.TIMELINE}", dumps(row).encode() + b"\n")


def _before(state_dir: str, record: "dict[str, Any]") -> "dict[str, Any] | None":
    rows, _ = incidents.read_index(state_dir)
    alike = [
        row
        for row in rows[-_ROWS:]
        if row["id"] != record["id"]
        and row["opened_unix_s"] <= record["opened_unix_s"]
        and all(row.get(key) == record.get(key) for key in incidents.SAME)
    ]
    return max(alike, key=lambda row: float(row["opened_unix_s"]), default=None)


def _mended_unix_s(before: "dict[str, Any]", timeline: "list[dict[str, Any]]") -> float:
    """Return when the remedy was carried out; where there was none, when it opened (a death is followed by the next start at once)."""
    remedies = [row for row in timeline if row.get("what") == "remedy"]
    at = remedies[-1].get("unix_s") if remedies else None
    return float(at or before["opened_unix_s"])
