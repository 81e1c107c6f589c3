"""The disk of the state directory is full: is it told, and does a worker that dies just then come back, with its incident?

The room is taken by a file without a name: whatever becomes of this process, it is given back.
"""

import errno
import os
import signal
import time

from holdfast.cli.drills import catalogue, evidence, worker

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from holdfast.cli.drills.row import Row
    from holdfast.cli.drills.scene import Scene
    from holdfast.cli.drills.witness import Witness

_NODE, _FLAG = "@node", "disk_low"
_STEP = 1 << 20


def size_of(path: str) -> int:
    """Return the size of the file system of a directory; 0 when it cannot be known."""
    try:
        found = os.statvfs(path)
    except OSError:
        return 0
    return found.f_blocks * found.f_frsize


def carry_out(scene: "Scene", row: "Row", witness: "Witness") -> None:
    """Fill the disk, kill a worker meanwhile, and fill in the row.

    Raises:
        NodeError: The worker is not there just now.
    """
    row.evidence.expected = catalogue.incident_kinds(row.drill.kind, {})
    victim = next(
        name
        for name, entry in scene.entries.items()
        if entry["autostart"] and entry["restart"]["policy"] != "never"
    )
    witness.excuse(victim)
    row.began_unix_s, at_s = time.time(), time.monotonic()
    descriptor = _fill(scene.state_dir)
    try:
        flag = scene.until(
            lambda: scene.flags().get((_NODE, _FLAG)), worker.patience_s(scene, row), "waiting for the flag disk_low"
        )  # fmt: skip
        if flag is None:
            row.troubles.append("nobody told that the disk is full")
        else:
            row.detection_s = max(0.0, float(flag["since_unix_s"]) - row.began_unix_s)
        n, row.pid, _ = scene.signal_worker(victim, signal.SIGKILL)
        back = scene.until(
            lambda: scene.serving_since(victim, n), worker.patience_s(scene, row), f"waiting for {victim}"
        )  # fmt: skip
        if back is None:
            row.troubles.append(f"{victim}, killed while the disk was full, did not come back")
        else:
            row.recovery_s = max(0.0, back["mono_s"] - at_s)
        death = scene.exit_of(victim, n)
        if death is None or evidence.of_death(scene, death) is None:
            row.troubles.append(f"the death of {victim} left no incident")
        # The disk is looked at every few seconds, and a second look confirms.
        key = scene.until(
            lambda: evidence.flag_order(scene, _NODE, _FLAG, row.began_unix_s),
            worker.patience_s(scene, row), "waiting for the order for evidence",
        )  # fmt: skip
        evidence.judge(scene, row.evidence, evidence.of_order(scene, key) if key else None)
    finally:
        os.close(descriptor)
    row.settle = _over(scene, row)


def _fill(directory: str) -> int:
    """Take all the room there is; return the descriptor that holds it."""
    descriptor = os.open(directory, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
    at, step = 0, _STEP
    while step >= 4096:
        try:
            os.posix_fallocate(descriptor, at, step)
            at += step
        except OSError as error:
            if error.errno != errno.ENOSPC:
                os.close(descriptor)
                raise
            step //= 2
    return descriptor


def _over(scene: "Scene", row: "Row") -> "Any":
    until_s = (
        time.monotonic() + 2.0 * scene.plan["watch"]["verify_s"] + worker.patience_s(scene, row)
    )

    def settle() -> bool:
        if (_NODE, _FLAG) not in scene.flags():
            row.verdict = "cleared"
            return True
        if time.monotonic() > until_s:
            row.troubles.append("the flag disk_low did not go away")
            return True
        return False

    return settle
