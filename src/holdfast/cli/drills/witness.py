"""Did anybody else notice? And did a log line get lost?

Compares all processes of the node but the one under drill before and after: pid, number of restarts, readiness, flags. To see
whether the logger loses anything it writes numbered lines into the house's own log while the drill runs, and reads them
back afterwards.
"""

import os
import time

from holdfast.core import tree
from holdfast.records import logs
from holdfast.wire import layout

TYPE_CHECKING = False
if TYPE_CHECKING:
    from holdfast.cli.drills.row import Row
    from holdfast.cli.drills.scene import Scene

#: Lines a second: many where the logger's own death is measured by them.
_HOUSE_PACE_S, _WORKER_PACE_S = 0.01, 0.1
_READ_BACK_S = 10.0
#: Enough of the end of a segment to hold the last few of our lines.
_TAIL_BYTES = 8192


class Witness:
    """Watches one drill."""

    def __init__(self, scene: "Scene", row: "Row") -> None:
        drill = row.drill
        self._scene = scene
        self._row = row
        self._mark = f"{drill.name} {time.time_ns() // 1_000_000:x}"
        self._pace_s = _HOUSE_PACE_S if drill.is_house else _WORKER_PACE_S
        self._next_s = 0.0
        self._began_unix_s = time.time()
        self._directory = scene.plan["house_log"]["directory"]
        self.written = 0
        #: A worker's own death is no collateral, nor is that of those who restart with it by the plan.
        groups = scene.plan["groups"]
        self._apart = {drill.target, *tree.restart_with(groups, drill.target)}
        if drill.is_house:
            self._apart = {drill.target}
        self._workers = scene.status()
        self._house = {role: scene.holder(role) for role in layout.ROLES}
        self._flags = set(scene.flags())

    def excuse(self, worker: str) -> None:
        """A worker is hurt on purpose besides: what becomes of it is told by the drill itself."""
        self._apart = self._apart | {worker}

    # -- log lines ---------------------------------------------------------------------------------

    def turn(self) -> None:
        """Write a line when it is time; a pipe that nobody holds or that is full takes none, and none is counted."""
        now_s = time.monotonic()
        if now_s < self._next_s:
            return
        self._next_s = now_s + self._pace_s
        self.say()

    def say(self) -> int:
        """Write one numbered line; return its number, 0 when it was not taken."""
        line = f"drill: {self._mark} line {self.written + 1:06d}\n".encode()
        if not write_to_house(self._scene.run_dir, "out", line):
            return 0
        self.written += 1
        return self.written

    def has_arrived(self, number: int) -> bool:
        """Whether a line from ``number`` on is in the log file."""
        try:
            with open(f"{self._directory}/out.log", "rb") as file:
                file.seek(max(0, os.fstat(file.fileno()).st_size - _TAIL_BYTES))
                text = file.read()
        except OSError:
            return False
        return any(found >= number for found in self._numbers(text.split(b"\n")[:-1]))

    def _numbers(self, lines: "list[bytes]") -> "list[int]":
        start = f"drill: {self._mark} line ".encode()
        return [
            int(line[len(start) :])
            for line in lines
            if line.startswith(start) and line[len(start) :].isdigit()
        ]

    def _lost(self) -> int:
        """Return how many of our lines are not in the log exactly once and in order; waits until they had the time."""
        wanted = list(range(1, self.written + 1))
        found: list[int] = []

        def are_there() -> bool:
            lines = logs.read(self._directory, layout.HOUSE_LOG, self._began_unix_s - 1.0)
            texts = [line.text.encode("utf-8", "surrogateescape") for line in lines]
            found[:] = self._numbers(texts)
            return found == wanted

        if not self._scene.until(
            are_there, _READ_BACK_S * self._scene.slowness, "reading the log lines back"
        ):
            missing = len(set(wanted) - set(found))
            return missing or abs(len(found) - len(wanted)) or 1
        return 0

    def house_log_says(self, *words: str) -> bool:
        """Whether a line of the house log since the beginning holds all of these words."""
        lines = logs.read(self._directory, layout.HOUSE_LOG, self._began_unix_s - 1.0)
        return any(all(word in line.text for word in words) for line in lines)

    # -- others ------------------------------------------------------------------------------------

    def testify(self) -> None:
        """Write down in the row what was noticed elsewhere."""
        scene, row = self._scene, self._row
        for role, pid in self._house.items():
            now = scene.holder(role)
            if role not in self._apart and now != pid:
                row.collateral.append(f"the {role} was replaced (process {pid}, now {now})")
        after = scene.status()
        for name, before in self._workers.items():
            if name not in self._apart:
                row.collateral += _differences(name, before, after.get(name))
        if not after:
            row.troubles.append("the keeper does not answer")
        targets = {row.drill.target, *self._apart}
        for worker, flag in sorted(set(scene.flags()) - self._flags):
            if worker not in targets and worker in scene.entries:
                row.collateral.append(f"{worker}: flag {flag} was raised")
        row.lines_written, row.lines_lost = self.written, self._lost()


def _differences(
    name: str, before: "dict[str, object]", after: "dict[str, object] | None"
) -> "list[str]":
    if after is None:
        return [f"{name} is gone"]
    if before["pid"] != after["pid"] or before["restarts"] != after["restarts"]:
        return [f"{name} was restarted (process {before['pid']}, now {after['pid']})"]
    if before["ready"] and not after["ready"]:
        return [f"{name} is not ready any more ({after['state']})"]
    return []


def write_to_house(run_dir: str, stream: str, line: bytes) -> bool:
    """Write a line (shorter than PIPE_BUF: all of it or nothing) into the house's own log; False when it is not taken."""
    path = f"{run_dir}/{layout.fifo(layout.HOUSE_LOG, stream)}"
    try:
        # Opened anew each time: held open by us, the pipe would survive what it may not survive.
        descriptor = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        os.write(descriptor, line)
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return True
