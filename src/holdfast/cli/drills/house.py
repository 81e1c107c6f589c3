"""What happens to a process of the house in a drill, and what is measured.

A killed one is back when another holds its lock and does its work: the keeper answers, the logger has moved a new line into
its file, watchdog and anchor beat. A stopped one is noticed when its lock is free or another's.
"""

import signal
import time

from holdfast.cli.drills import catalogue, evidence
from holdfast.cli.drills import row as rows
from holdfast.cli.drills.worker import patience_s
from holdfast.linux import talk
from holdfast.wire import layout

TYPE_CHECKING = False
if TYPE_CHECKING:
    from holdfast.cli.drills.row import Row
    from holdfast.cli.drills.scene import Scene
    from holdfast.cli.drills.witness import Witness

_KEEPER_ANSWER_S = 0.5
_HOUSE_LOG_S = 10.0


def carry_out(scene: "Scene", row: "Row", witness: "Witness") -> None:
    """Do it to the house process, and fill in the row.

    Raises:
        NodeError: It is not there just now.
    """
    role = row.drill.target
    number = signal.SIGKILL if row.drill.kind == catalogue.KILL else signal.SIGSTOP
    row.began_unix_s = time.time()
    row.pid, at_s = scene.signal_house(role, number)
    first_line = witness.written + 1
    is_stop = number == signal.SIGSTOP

    def noticed() -> bool:
        pid = scene.holder(role)
        return pid != row.pid and (is_stop or pid != 0)

    if not scene.until(noticed, patience_s(scene, row), f"waiting for another {role}"):
        row.troubles.append(f"nobody noticed within {time.monotonic() - at_s:.0f} s")
        scene.mend()
        return
    row.detection_s = time.monotonic() - at_s

    def works() -> bool:
        return _works(scene, role, row.pid, witness, first_line)

    if scene.until(works, patience_s(scene, row), f"waiting for the new {role} to work"):
        row.recovery_s = time.monotonic() - at_s
    _take_evidence(scene, row, witness)


def _works(scene: "Scene", role: str, old: int, witness: "Witness", first_line: int) -> bool:
    pid = scene.holder(role)
    if pid in (0, old) or scene.beat_of(role)[1] != pid:
        return False
    if role == "keeper":
        path = f"{scene.run_dir}/{layout.socket('keeper')}"
        reply = talk.ask(path, {"do": "status"}, _KEEPER_ANSWER_S)
        return bool(reply and reply.get("ok") and reply.get("pid") == pid)
    return role != "logger" or witness.has_arrived(first_line)


def _take_evidence(scene: "Scene", row: "Row", witness: "Witness") -> None:
    """A killed one is in the house log; one that hung is an incident, except the watchdog, whom only the keeper saw."""
    role, found = row.drill.target, row.evidence
    if row.drill.kind == catalogue.STOP and role != "watchdog":
        found.expected = ("hang",)
        key = scene.until(
            lambda: evidence.house_incident(scene, role, row.began_unix_s),
            _HOUSE_LOG_S * scene.slowness,
            "waiting for the order for evidence",
        )
        evidence.judge(scene, found, evidence.of_order(scene, key) if key else None)
        return
    found.expected = ("house log",)
    words = ("has not beaten", f"process {row.pid}") if row.drill.kind == catalogue.STOP else (
        ("the anchor died",) if role == "anchor" else ("died", f"process {row.pid})")
    )  # fmt: skip
    if scene.until(
        lambda: witness.house_log_says(role, *words),
        _HOUSE_LOG_S * scene.slowness,
        "waiting for the house log to tell it",
    ):
        found.state, found.kind, found.log = rows.COMPLETE, "house log", True
