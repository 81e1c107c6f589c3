"""What does a worker hold outside its memory: how many open files, and how much log?

Dearer than a look at ``/proc/PID/stat``, so asked for rarely; the logs on the watchdog's second thread, because they are on a disk.
"""

from holdfast.core.detect.chatter import alike
from holdfast.linux import system as os
from holdfast.wire import layout

TYPE_CHECKING = False
if TYPE_CHECKING:
    from holdfast.watchdog.wards import Ward


#: So much of the end of a log is looked at.
_TAIL = 16384


def open_files(pid: int) -> int:
    """Return how many files a process has open; -1 when it cannot be known."""
    path = f"/proc/{pid}/fd"
    try:
        # Since Linux 6.2 the size of the directory says it at once; before it is 0.
        return os.stat(path).st_size or len(os.listdir(path))
    except OSError:
        return -1


def most_files(pid: int) -> int:
    """Return how many files a process may have open; 0 for no limit, and when it is gone."""
    try:
        with open(f"/proc/{pid}/limits", "rb") as file:
            for line in file:
                if line.startswith(b"Max open files"):
                    soft = line.split()[3]
                    return int(soft) if soft.isdigit() else 0
    except OSError:
        pass  # it is gone
    return 0


def logs_of(ward: "Ward", state_dir: str) -> "tuple[str, str]":
    """Return the files that a worker's output goes to; empty for none."""
    own = ward.spec.own_log
    limits = ward.spec.detect
    if not own or not (limits["log_storm"] or limits["log_silence"]):
        return "", ""
    directory = f"{state_dir}/{layout.LOGS}/{ward.name}" if own == "=" else own
    return f"{directory}/out.log", f"{directory}/err.log"


def heard(paths: "tuple[str, str]", is_loud: bool) -> "tuple[int, float]":
    """Return how much was written, and of somebody loud which share of the end is one complaint. On the second thread."""
    return written(paths), max(alike(_tail(path)) for path in paths) if is_loud else 0.0


def _tail(path: str) -> bytes:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        return os.pread(descriptor, _TAIL, max(0, os.fstat(descriptor).st_size - _TAIL))
    except OSError:
        return b""
    finally:
        os.close(descriptor)


def written(paths: "tuple[str, str]") -> int:
    """Return the size of the files; they may not be there yet. On the second thread: they are on a disk."""
    size = 0
    for path in paths:
        try:
            size += os.stat(path).st_size
        except OSError:
            continue  # nothing was written yet, or it is being rotated
    return size
