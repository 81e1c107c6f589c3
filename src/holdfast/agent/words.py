"""The interpreter's dying words, kept where nobody captures what the program writes.

faulthandler has one place to write to. With a captured log that is stderr: a pipe of the house, which outlives the process, and people read it
there. Without one (``log = false``) it is the file ``RUN/pulse/WORKER.words``, in memory: it is there after SIGSEGV, also with a full disk.
The words of the life before are kept as ``WORKER.words.last``.
"""

import os
import sys

from holdfast.wire import layout

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import IO

#: Open for as long as the process lives: faulthandler writes to the descriptor.
_kept: "list[IO[bytes]]" = []


def is_captured(run_dir: str, worker: str) -> bool:
    """Whether what this process writes to stderr goes into a pipe of the house."""
    try:
        return os.readlink("/proc/self/fd/2") == f"{run_dir}/{layout.fifo(worker, 'err')}"
    except OSError:
        return False


def keep(run_dir: str, worker: str, start: int) -> None:
    """Have faulthandler write into the file of this life; for processes whose stderr nobody captures.

    Raises:
        OSError: The file cannot be made.
    """
    import faulthandler

    path = f"{run_dir}/{layout.words(worker)}"
    new = path + ".new"
    file = open(new, "wb", buffering=0)
    file.write(f"life {start} pid {os.getpid()}\n".encode())
    try:
        os.rename(path, path + ".last")
    except FileNotFoundError:
        pass  # the first life
    os.rename(new, path)
    _tell_last(path + ".last")
    faulthandler.enable(file)
    _kept[:] = [file]
    os.register_at_fork(after_in_child=_back_to_stderr)


def _tell_last(path: str) -> None:
    """Whoever reads stderr by other means (docker logs) sees how the life before has ended."""
    try:
        with open(path, "rb") as file:
            head, _, rest = file.read(1 << 20).partition(b"\n")
    except FileNotFoundError:
        return
    if rest:
        os.write(2, b"holdfast: the last words of " + head + b":\n" + rest)


def _back_to_stderr() -> None:
    """In a copy of the program: the file is its parent's."""
    import faulthandler

    if sys.stderr is not None and faulthandler.is_enabled():
        faulthandler.enable()


def read(run_dir: str, worker: str, start: int) -> "list[str]":
    """Return the lines that a life left in its file; empty when there are none."""
    path = f"{run_dir}/{layout.words(worker)}"
    for name in (path, path + ".last"):
        try:
            with open(name, "rb") as file:
                head, _, rest = file.read(1 << 20).decode("utf-8", "replace").partition("\n")
        except OSError:
            continue
        if head.startswith(f"life {start} "):
            return rest.splitlines()
    return []
