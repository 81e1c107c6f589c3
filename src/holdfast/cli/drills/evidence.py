"""Which incident did a drill lead to, is it of the right kind, and is in it what a person needs?"""

import os

from holdfast.cli.drills import row as rows
from holdfast.model.errors import StateError
from holdfast.records import incidents

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from holdfast.cli.drills.row import Evidence
    from holdfast.cli.drills.scene import Scene

#: The evidence process has a deadline of 20 s after a death; two at once, and deaths may be folded together.
WAIT_S = 45.0


def of_death(scene: "Scene", record: "dict[str, Any]") -> "str | None":
    """Wait for the incident of a death on record; None when there is none in time."""
    if record.get("incident"):
        return str(record["incident"])  # taken before the remedy
    return of_order(scene, f"exit-{record['seq']}")


def of_order(scene: "Scene", key: str) -> "str | None":
    """Wait until an order for evidence is done, and return its incident."""
    done = scene.until(
        lambda: (found := scene.order_done(key))[0] and found,
        WAIT_S * scene.slowness,
        "waiting for the evidence",
    )
    return done[1] if done else None


def judge(
    scene: "Scene",
    found: "Evidence",
    incident: "str | None",
    *,
    stacks: bool = False,
    log_directory: str = "",
) -> None:
    """Fill in what an incident holds.

    Args:
        scene: The node.
        found: With ``expected``; the rest is filled in.
        incident: Its id; None: there is none.
        stacks: Stacks have to be there, or the bundle has to say why not.
        log_directory: Of the worker; what it wrote has to be in the bundle.
    """
    record = _load(scene.state_dir, incident)
    if record is None:
        found.state = rows.NONE
        return
    told = record.get("evidence") or {}
    found.incident = str(record["id"])
    found.kind, found.component = record.get("kind"), record.get("component")
    found.stacks = len(record.get("stacks") or ())
    found.log = "log.txt" in (told.get("files") or ())
    found.missed = list(told.get("missed") or ())
    gaps = []
    if stacks and not found.stacks:
        gaps.append("stacks")
    if log_directory and not found.log and _has_written(log_directory):
        gaps.append("log")
    explained = " ".join(f"{gap.get('what')} {gap.get('why')}" for gap in found.missed)
    if found.kind not in found.expected:
        found.state = rows.WRONG
    elif not gaps:
        found.state = rows.COMPLETE
    else:
        is_told = all(gap in explained for gap in gaps)
        found.state = rows.PARTIAL if is_told else rows.LACKING


def verdict(scene: "Scene", incident: str) -> "str | None":
    """Return the watchdog's last word on an incident; None while it has not spoken."""
    record = _load(scene.state_dir, incident)
    said = record.get("verdict") if record else None
    return said if said and said != "open" else None


def _load(state_dir: str, incident: "str | None") -> "dict[str, Any] | None":
    if not incident:
        return None
    try:
        return incidents.load(state_dir, incident)
    except StateError:
        return None  # not moved into place yet, or removed by somebody


def _has_written(directory: str) -> bool:
    for stream in ("out", "err"):
        try:
            if os.stat(f"{directory}/{stream}.log").st_size:
                return True
        except OSError:
            continue
    return False


def flag_order(scene: "Scene", worker: str, flag: str, since_unix_s: float) -> str:
    """Return the key of the newest order for a flag that was raised since then; empty when there is none."""
    prefix = f"flag-{worker}-{flag}-"
    keys = [
        key
        for key in scene.orders(prefix)
        if key[len(prefix) :].isdigit() and int(key[len(prefix) :]) >= since_unix_s * 1000 - 50
    ]
    return keys[-1] if keys else ""


def house_incident(scene: "Scene", role: str, since_unix_s: float) -> str:
    """Return the key of the order that followed the silence of a house process."""
    return flag_order(scene, f"@{role}", "missed_heartbeat", since_unix_s)
