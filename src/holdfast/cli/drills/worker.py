"""What happens to a worker in a drill, and what is measured.

Times come from the keeper's journal and the flag's own file, both on the clock on which the fault was injected: how
often we looked makes no difference to them.
"""

import signal
import time

from holdfast.cli.drills import catalogue, evidence
from holdfast.model.errors import NodeError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from holdfast.cli.drills.row import Row
    from holdfast.cli.drills.scene import Scene

#: The watchdog's verdict comes this long after ``node.verify``, at the latest.
_VERDICT_SLACK_S = 15.0
_TCP_HINT = (
    " (a tcp heartbeat only connects, and the kernel accepts connections for a process that is stopped:"
    " heartbeat.http or .exec would notice)"
)


def patience_s(scene: "Scene", row: "Row") -> float:
    """Return how long something is waited for before the drill is called a failure."""
    return 2.0 * max(row.drill.default_s, row.drill.objective_s) + 20.0 * scene.slowness


def carry_out(scene: "Scene", row: "Row") -> None:
    """Do it to the worker, and fill in the row.

    Raises:
        NodeError: The fault could not be injected.
    """
    entry = scene.entries[row.drill.target]
    row.evidence.expected = catalogue.incident_kinds(row.drill.kind, entry)
    if row.drill.kind == catalogue.CRASH_LOOP:
        _crash_loop(scene, row)
    else:
        _one_death(scene, row)


# -- one death -------------------------------------------------------------------------------------


def _one_death(scene: "Scene", row: "Row") -> None:
    kind, name = row.drill.kind, row.drill.target
    # Several drills of one worker in a row are no crash loop: without this the keeper would make it wait,
    # as it does with a worker whose lives are short.
    _checked(scene.order("start", name))
    row.began_unix_s = time.time()
    if kind in (catalogue.KILL, catalogue.STOP):
        number = signal.SIGKILL if kind == catalogue.KILL else signal.SIGSTOP
        n, row.pid, at_s = scene.signal_worker(name, number)
    else:
        n, row.pid, at_s = scene.inject(name, catalogue.FAULTS[kind])
    measure(scene, row, n, at_s)


def measure(scene: "Scene", row: "Row", n: int, at_s: float) -> None:
    """Follow life ``n``, hurt at ``at_s`` (monotonic), to its end and to the next one, and fill in the row."""
    kind, name = row.drill.kind, row.drill.target
    death = _wait_death(scene, row, n)
    if death is None:
        hint = _TCP_HINT if scene.entries[name]["heartbeat"]["kind"] == "tcp" else ""
        row.troubles.append(f"nobody noticed within {time.monotonic() - at_s:.0f} s{hint}")
        scene.mend()
        _wait_running(scene, row)
        return
    scene.is_healed(name)
    if kind not in catalogue.HANGS:
        row.detection_s = max(0.0, scene.noticed_s(name, n, death) - at_s)
    wait_recovery(scene, row, n, at_s)
    take_evidence(scene, row, evidence.of_death(scene, death))
    row.settle = _settled(scene, row)


def _wait_death(scene: "Scene", row: "Row", n: int) -> "dict[str, Any] | None":
    """Wait until the life is over; where it has to be noticed first, note when it was."""
    name, is_hang = row.drill.target, row.drill.kind in catalogue.HANGS
    heartbeat = scene.entries[name]["heartbeat"]["kind"]
    flag = "failed_probe" if heartbeat in ("http", "exec", "tcp") else "missed_heartbeat"

    def look() -> "dict[str, Any] | None":
        if is_hang and row.detection_s is None:
            raised = scene.flags().get((name, flag))
            if raised is not None:
                row.detection_s = max(0.0, float(raised["since_unix_s"]) - row.began_unix_s)
        return scene.exit_of(name, n)

    words = "waiting for it to be noticed" if is_hang else "waiting for its death"
    death = scene.until(look, patience_s(scene, row), words)
    if death is not None and is_hang and row.detection_s is None:
        # The flag came and went between two looks; the order for evidence has the time in its name.
        key = evidence.flag_order(scene, name, flag, row.began_unix_s)
        if key:
            row.detection_s = int(key.rpartition("-")[2]) / 1000 - row.began_unix_s
    return death


def wait_recovery(scene: "Scene", row: "Row", after_n: int, at_s: float) -> None:
    """Wait until a later life than ``after_n`` serves; what was hurt was hurt at ``at_s`` (monotonic)."""
    name = row.drill.target
    serving = scene.until(
        lambda: scene.serving_since(name, after_n),
        patience_s(scene, row),
        "waiting for its next life",
    )
    if serving is not None:
        row.recovery_s = max(0.0, serving["mono_s"] - at_s)
        _wait_running(scene, row)


def _wait_running(scene: "Scene", row: "Row") -> None:
    """Wait until the keeper, too, says that the worker serves."""
    name = row.drill.target

    def serves() -> bool:
        found = scene.recent_status().get(name)
        return found is not None and found["state"] == "running" and found["pid"] is not None

    if not scene.until(serves, patience_s(scene, row), "waiting for it to serve"):
        row.troubles.append("the keeper does not call it running")


def take_evidence(scene: "Scene", row: "Row", incident: "str | None") -> None:
    """Judge what an incident holds."""
    entry = scene.entries[row.drill.target]
    evidence.judge(
        scene, row.evidence, incident, stacks=catalogue.wants_stacks(row.drill.kind, entry),
        log_directory=entry["log"]["directory"] if entry["log"] else "",
    )  # fmt: skip


def _settled(scene: "Scene", row: "Row") -> "Any":
    name, incident = row.drill.target, row.evidence.incident
    slack_s = _VERDICT_SLACK_S * scene.slowness
    until_s = time.monotonic() + scene.plan["watch"]["verify_s"] + slack_s

    def settle() -> bool:
        row.verdict = evidence.verdict(scene, incident) if incident else None
        is_flagged = any(worker == name for worker, _ in scene.flags())
        return (row.verdict is not None and not is_flagged) or time.monotonic() > until_s

    return settle


# -- many deaths -----------------------------------------------------------------------------------


def _crash_loop(scene: "Scene", row: "Row") -> None:
    """Kill it at each of its starts until the keeper stops hurrying, then see it come back and the flag go."""
    name, restart = row.drill.target, scene.entries[row.drill.target]["restart"]
    row.began_unix_s = time.time()
    last_n, at_s, at_unix_s = 0, 0.0, 0.0
    death: dict[str, Any] | None = None
    for kill in range(restart["limit"] + 2):
        if not _wait_alive(scene, row, last_n):
            row.troubles.append(f"it was not started again after death {kill}")
            return
        last_n, row.pid, at_s = scene.signal_worker(name, signal.SIGKILL)
        at_unix_s = time.time()
        n = last_n
        death = scene.until(
            lambda n=n: scene.exit_of(name, n),  # type: ignore[misc]
            patience_s(scene, row),
            f"death {kill + 1}",
        )
        if death is None or death["next"] in ("slow", "down"):
            break
    if death is None or death["next"] not in ("slow", "down"):
        row.troubles.append(f"restart.limit = {restart['limit']} did not act")
        return
    flag = scene.until(
        lambda: scene.flags().get((name, "crash_loop")),
        patience_s(scene, row),
        "waiting for the flag crash_loop",
    )
    if flag is None:
        row.troubles.append("the flag crash_loop was not raised")
    else:
        row.detection_s = max(0.0, float(flag["since_unix_s"]) - at_unix_s)
    if death["next"] == "down":
        # Left down until a person comes: that is us, and what is measured is from then on.
        at_s = time.monotonic()
        _checked(scene.order("start", name))
    wait_recovery(scene, row, last_n, at_s)
    take_evidence(scene, row, evidence.of_death(scene, death))
    row.settle = _cleared(scene, row)


def _wait_alive(scene: "Scene", row: "Row", after_n: int) -> bool:
    restart = scene.entries[row.drill.target]["restart"]

    def lives() -> bool:
        found = scene.status().get(row.drill.target) or {}
        return found.get("pid") is not None and found["n"] > after_n

    longest_s = restart["delay_max_s"] * (1.0 + restart["jitter"]) + 10.0 * scene.slowness
    return bool(scene.until(lives, longest_s, "waiting for its next life"))


def _cleared(scene: "Scene", row: "Row") -> "Any":
    """The flag has to go once a life has lasted; what the watchdog thinks of the kills before does not matter."""
    name = row.drill.target
    healthy_s = max(1.0, scene.entries[name]["restart"]["healthy_s"])
    slack_s = _VERDICT_SLACK_S * scene.slowness
    until_s = time.monotonic() + healthy_s + 2.0 * scene.plan["watch"]["verify_s"] + slack_s

    def settle() -> bool:
        if (name, "crash_loop") not in scene.flags():
            row.verdict = "cleared"
            return True
        if time.monotonic() > until_s:
            row.troubles.append("the flag crash_loop did not go away")
            return True
        return False

    return settle


def _checked(reply: "dict[str, Any]") -> None:
    if not reply.get("ok"):
        raise NodeError(str(reply.get("error") or "the keeper refused"))
