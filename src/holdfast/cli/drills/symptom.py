"""A fault that a detector has to tell while the process goes on: what is measured, and how it ends.

The flag has to be up in time and its incident has to be of its kind. What is then done is the watchdog's if it acts by itself (memory close to
its limit); most symptoms are only shown, and then the drill restarts the worker, as a person would, once the evidence is there. "Back" is
therefore the time until it serves again with all of that.
"""

import time

from holdfast.cli.drills import catalogue, evidence, worker

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from holdfast.cli.drills.row import Row
    from holdfast.cli.drills.scene import Scene


def carry_out(scene: "Scene", row: "Row") -> None:
    """Do it to the worker, and fill in the row.

    Raises:
        NodeError: The fault could not be injected.
    """
    name, (flag, _) = row.drill.target, catalogue.SYMPTOMS[row.drill.kind]
    row.evidence.expected = catalogue.incident_kinds(row.drill.kind, scene.entries[name])
    row.began_unix_s = time.time()
    n, row.pid, at_s = scene.inject(name, catalogue.FAULTS[row.drill.kind])
    key = _told(scene, row, flag, n)
    incident = evidence.of_order(scene, key) if key else None
    if scene.exit_of(name, n) is None:
        # Nobody has to wait until it is bad enough: what was to be seen was seen.
        scene.mend()
    if not key:
        words = "it died before it was told" if scene.exit_of(name, n) else "nobody told it"
        row.troubles.append(f"{words} ({flag}, within {time.monotonic() - at_s:.0f} s)")
    worker.wait_recovery(scene, row, n, at_s)
    worker.take_evidence(scene, row, incident)
    row.settle = _over(scene, row, flag)


def _told(scene: "Scene", row: "Row", flag: str, n: int) -> str:
    """Wait for the flag; return the key of its order for evidence, "" when it is not raised."""
    name = row.drill.target

    def look() -> str:
        raised = scene.flags().get((name, flag))
        if raised is not None and row.detection_s is None:
            row.detection_s = max(0.0, float(raised["since_unix_s"]) - row.began_unix_s)
        return evidence.flag_order(scene, name, flag, row.began_unix_s)

    def ended() -> bool:
        return bool(look()) or scene.exit_of(name, n) is not None

    longest_s = catalogue.SYMPTOMS[row.drill.kind][1] * scene.slowness
    scene.until(ended, longest_s, f"waiting for the flag {flag}")
    key = look()
    if key and row.detection_s is None:
        # It came and went between two looks; the order for evidence has the time in its name.
        row.detection_s = int(key.rpartition("-")[2]) / 1000 - row.began_unix_s
    return key


def _over(scene: "Scene", row: "Row", flag: str) -> "Any":
    """The flag has to go: the fault is over with the life that had it."""
    name = row.drill.target
    until_s = (
        time.monotonic() + 2.0 * scene.plan["watch"]["verify_s"] + worker.patience_s(scene, row)
    )

    def settle() -> bool:
        if (name, flag) not in scene.flags():
            row.verdict = "cleared"
            return True
        if time.monotonic() > until_s:
            row.troubles.append(f"the flag {flag} did not go away")
            return True
        return False

    return settle
