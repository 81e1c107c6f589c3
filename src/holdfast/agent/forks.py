"""What becomes of the agent in a copy of the program (fork): a pulse of its own, if the copy lives for long enough to have one.

The workers of a prefork server (gunicorn, celery, a pool) are such copies. Threads do not survive a fork, so the plain thread is started anew; what
was counted is the parent's and begins at zero. A copy that execs or ends within a moment (``subprocess``, a short job) has no file.

Nothing is taken over that could be held at the moment of the fork: the agent has no locks, and what a thread of the parent was writing is made anew.
The files are removed by whoever reads them (the watchdog), once the process is gone.
"""

import os
import sys
from time import monotonic_ns

from holdfast.agent import children, tasks
from holdfast.agent.imports import tell
from holdfast.agent.routes import TABLE
from holdfast.agent.sites import SITES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from holdfast.agent.pulse import PulseWriter

#: A copy that is younger has no pulse.
LEAST_S = 0.3
#: So many copies of a worker have one; whoever comes later looks again now and then whether there is room.
MOST, AGAIN_S = 256, 30.0
#: Who starts another process like this starts a worker, though it is no copy.
_SPAWNED = ("from multiprocessing.spawn import", "from multiprocessing.forkserver import")
#: Kept on purpose: to take it apart would touch, and so copy, memory that is shared with the parent.
_inherited: "list[object]" = []


class Place:
    """Where the copies of a program show their pulses."""

    __slots__ = ("_descriptor", "_has_said", "_inode", "_is_open", "_path")

    def __init__(self, main: str) -> None:
        self._path = f"{main}.forks"
        self._descriptor, self._inode = -1, 0
        self._is_open = self._has_said = False

    def open(self) -> None:
        """Get ready before the first fork, while this process is who it is: a copy may become another user in a moment (gunicorn's ``user``).

        That one may not enter the run directory. What it has from its parent, an open directory, lets it write all the same.
        """
        if self._is_open:
            return
        self._is_open = True
        if os.geteuid():
            return
        try:
            self._make()
            flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW
            self._descriptor = os.open(self._path, flags)
            self._inode = os.fstat(self._descriptor).st_ino
        except OSError:
            return  # said when a file cannot be made either

    def show(self, pulse: "PulseWriter", pid: int, parent: int) -> str:
        """Show a pulse; return what the socket beside it is called, or "" where there was no room or no right."""
        directory = self._directory()
        try:
            if directory is None:
                self._make()
            names = os.listdir(directory if directory is not None else self._path)
            if sum(1 for name in names if name.isdecimal()) >= MOST:
                return ""
            path = str(pid) if directory is not None else f"{self._path}/{pid}"
            pulse.show(directory, path, pid, _ticks(), parent)
        except OSError as error:
            if not self._has_said:
                self._has_said = True
                tell(f"process {pid} has no pulse in {self._path}: {error.strerror}")
            return ""
        if directory is None:
            return f"{self._path}/{pid}.sock"
        return f"/proc/self/fd/{directory}/{pid}.sock"

    def _directory(self) -> int | None:
        """Return the open directory, unless the program has closed it (daemons close all there is)."""
        try:
            is_ours = self._descriptor >= 0 and os.fstat(self._descriptor).st_ino == self._inode
        except OSError:
            is_ours = False
        return self._descriptor if is_ours else None

    def _make(self) -> None:
        try:
            os.mkdir(self._path, 0o700)
        except FileExistsError:
            return
        if os.geteuid() == 0:
            # The run directory is closed to others, so nobody gets here but through a descriptor.
            os.chmod(self._path, 0o1777)  # noqa: S103


def forget() -> None:
    """Begin at zero: what was counted is the parent's."""
    _inherited.append(SITES.forget())
    tasks.forget()
    children.died.clear()
    children.started.clear()
    TABLE.open.clear()
    TABLE.beat_before_ns = TABLE.beat_ns = monotonic_ns()
    for row in TABLE.rows:
        row.count = row.latency_ns = row.cpu_ns = 0
        row.written = -1


def is_spawned() -> bool:
    """Whether this program was started by ``multiprocessing`` as one more worker: not a copy, but it does what copies do."""
    return any(word.startswith(_SPAWNED) for word in sys.orig_argv[1:4])


def _ticks() -> int:
    with open("/proc/self/stat", "rb") as file:
        return int(file.read().rpartition(b") ")[2].split()[19])
