"""Did a worker of this node die by itself, or did somebody ask for it?

The keeper knows, and its journal says so: an exit record that names the cause, or, where a keeper was killed before it could
write one, the order that it had accepted. Read from where the last look ended; a journal that was replaced is read anew.
"""

import os

from holdfast.engine.dying import Death
from holdfast.wire import journal, layout

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

#: So many exits are remembered; a steward asks within a second.
_KEPT = 2000


class JournalCauses:
    """The keeper's journal, as far as deaths are concerned.

    Args:
        run_dir: Of the node.
        killed: Called with a monotonic time and a name for each worker that was killed with SIGKILL by nobody of ours.
    """

    __slots__ = ("_at", "_exits", "_inode", "_is_ending", "_killed", "_path", "_wanted_away")

    def __init__(self, run_dir: str, killed: "Callable[[float, str], None]") -> None:
        self._path = f"{run_dir}/{layout.JOURNAL}"
        self._killed = killed
        self._inode = 0
        self._at = 0
        self._exits: dict[tuple[str, int], Death] = {}
        self._wanted_away: dict[str, str] = {}  #: worker -> why its life is to end
        self._is_ending = False

    def read(self) -> None:
        """Read what is new; cheap when nothing is."""
        try:
            descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return
        try:
            info = os.fstat(descriptor)
            if info.st_ino != self._inode or info.st_size < self._at:
                self._inode, self._at = info.st_ino, 0
            if info.st_size == self._at:
                return
            data = os.pread(descriptor, info.st_size - self._at, self._at)
        finally:
            os.close(descriptor)
        self._at += journal.whole(data)
        for record in journal.each(data):
            self._take(record)
        while len(self._exits) > _KEPT:
            del self._exits[next(iter(self._exits))]

    def of(self, worker: str, pid: int) -> "Death | None":
        """Return how this life ended; None: nobody has written it down yet."""
        return self._exits.get((worker, pid))

    def likely(self, worker: str) -> Death:
        """Return the best guess of how a worker ended of whose end there is no record."""
        return Death(self._wanted_away.get(worker, "down" if self._is_ending else "died"))

    def _take(self, record: "dict[str, Any]") -> None:
        kind, worker = record.get("k"), str(record.get("worker", ""))
        if kind == "exit":
            key = (worker, int(record.get("pid") or 0))
            if key in self._exits:
                return  # read before, in the journal that this one has replaced
            death = self._exits[key] = Death(
                str(record.get("cause", "died")), record.get("status"), float(record.get("unix_s", 0.0)),
                int(record.get("seq", 0)), str(record.get("incident") or ""),
            )  # fmt: skip
            if record.get("role", "main") == "main":
                self._wanted_away.pop(worker, None)
                if death.is_kill:
                    self._killed(float(record.get("mono_s") or 0.0), worker)
        elif kind == "down":
            self._is_ending = True
        elif kind == "want":
            if record.get("up"):
                self._wanted_away.pop(worker, None)
            else:
                self._wanted_away[worker] = "stop"
        elif kind == "order" and record.get("do") == "restart":
            self._wanted_away[worker] = "remedy" if record.get("by") == "watchdog" else "restart"
        elif kind == "start":
            self._wanted_away.pop(worker, None)
