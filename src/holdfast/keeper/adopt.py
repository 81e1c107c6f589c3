"""Finding again what a dead keeper started: exit statuses that others recorded, processes nobody recorded."""

import time

from holdfast.linux import files, procfs
from holdfast.linux import system as os
from holdfast.wire import journal

_EXEC_PATIENCE_S = 2.0


class ExitBook:
    """The anchor's record of the orphans that it reaped, read as it grows."""

    __slots__ = ("_inode", "_offset", "_path", "_seen")

    def __init__(self, path: str) -> None:
        self._path = path
        self._inode = 0
        self._offset = 0
        self._seen: dict[tuple[int, int], tuple[int, float]] = {}

    def _look(self) -> None:
        try:
            found = os.stat(self._path)
        except OSError:
            return
        if found.st_ino != self._inode:
            self._inode, self._offset = found.st_ino, 0
        if found.st_size <= self._offset:
            return
        data = files.read(self._path)
        records, end = journal.decode(data[self._offset :])
        self._offset += end
        for record in records:
            self._seen[record["pid"], record["ticks"]] = (record["status"], record["mono_s"])

    def status_of(self, pid: int, ticks: int) -> "int | None":
        """Return the wait status of an orphan; None when the anchor has not reaped it."""
        self._look()
        found = self._seen.get((pid, ticks))
        return None if found is None else found[0]

    def strangers(
        self, known: "set[tuple[int, int]]", since_mono_s: float
    ) -> "list[tuple[int, int]]":
        """Return the orphans (pid, ticks) that ended since then and are none of the known."""
        self._look()
        return [
            who
            for who, (_, at_s) in self._seen.items()
            if at_s >= since_mono_s and who not in known
        ]


def find_unrecorded(
    node: str, wanted: "set[tuple[str, int]]", own_pid: int
) -> "dict[tuple[str, int], tuple[int, int]]":
    """Look among all processes for starts that were intended but not recorded.

    Args:
        node: The node's hash, as in HOLDFAST_NODE.
        wanted: Pairs of worker and start number.
        own_pid: The living keeper.

    Returns:
        For each that was found its pid and start time in ticks.
    """
    _wait_for_exec(own_pid)
    found: dict[tuple[str, int], tuple[int, int]] = {}
    for pid in procfs.pids():
        reading = procfs.reading(pid)
        # A worker leads a session of its own; what it started carries the same mark, but does not.
        if reading is None or reading.session != pid or reading.state in "ZX":
            continue
        env = procfs.environ(pid)
        if env.get("HOLDFAST_NODE") != node:
            continue
        key = (env.get("HOLDFAST_WORKER", ""), int(env.get("HOLDFAST_START", "0")))
        # A descendant that made its own session carries the mark, too; the eldest is the worker.
        if key in wanted and (key not in found or reading.start_ticks < found[key][1]):
            found[key] = (pid, reading.start_ticks)
    return found


def _wait_for_exec(own_pid: int) -> None:
    """A process between spawn and exec still looks like the keeper that was killed; let it become itself."""
    own = procfs.command_line(own_pid)
    until_s = time.monotonic() + _EXEC_PATIENCE_S
    while time.monotonic() < until_s:
        if not any(procfs.command_line(pid) == own for pid in procfs.pids() if pid != own_pid):
            return
        time.sleep(0.001)
