"""What every house process does alike: be the only one of its role, beat, say things, keep descriptors."""

import fcntl
import mmap
import select
import sys
import time

from holdfast.linux import files, locks, procfs
from holdfast.linux import system as os
from holdfast.wire import beats, layout

#: Exit status of a process that found its role taken.
TAKEN = 75


class House:
    """The house side of this process."""

    __slots__ = ("_beats", "_lock", "next_beat_ns", "role", "run_dir")

    def __init__(self, run_dir: str, role: str) -> None:
        self.run_dir = run_dir
        self.role = role
        procfs.name_self(f"hf-{role}")
        lock = locks.take(f"{run_dir}/{layout.lock(role)}")
        if lock is None:
            sys.exit(TAKEN)
        self._lock = lock
        descriptor = os.open(f"{run_dir}/{layout.BEATS}", os.O_RDWR | os.O_CLOEXEC)
        self._beats = memoryview(mmap.mmap(descriptor, beats.SIZE))
        os.close(descriptor)
        self.next_beat_ns = 0
        self.beat()

    def beat(self) -> float:
        """Beat if it is time; return the seconds until the next beat is due."""
        now_ns = time.monotonic_ns()
        if now_ns >= self.next_beat_ns:
            beats.write(self._beats, self.role, now_ns, os.getpid())
            self.next_beat_ns = now_ns + beats.PERIOD_NS
        return (self.next_beat_ns - now_ns) / 1e9

    def beat_age_s(self, role: str) -> "tuple[float, int]":
        """Return how old another role's last beat is, in seconds, and whose it was."""
        at_ns, pid = beats.read(self._beats, role)
        return (time.monotonic_ns() - at_ns) / 1e9, pid

    def say(self, text: str) -> None:
        """Write one line to the house log, and to the node's own output if that takes it without waiting.

        Not there while somebody makes JSON of all that is written there, our log included (``[forward]``).
        """
        stamp = time.strftime("%H:%M:%S", time.localtime())
        line = f"{stamp} {self.role}: {text}\n".encode("utf-8", "replace")
        write_ready(2, line)
        # A terminal that was stopped with Ctrl-S must not stop the node.
        if not locks.holder(f"{self.run_dir}/{layout.lock('stdout')}"):
            write_ready(1, line)


def write_ready(descriptor: int, line: bytes) -> None:
    """Write a line if that is possible without waiting; what cannot be written is not missed by anybody."""
    poll = select.poll()
    poll.register(descriptor, select.POLLOUT)
    try:
        ready = poll.poll(0)
        if ready and ready[0][1] & select.POLLOUT:
            os.write(descriptor, line)
    except OSError:
        pass  # nobody reads the node's output any more


def inherited() -> "dict[str, int]":
    """Return the descriptors that the anchor kept for us, by name; they are not handed on to children."""
    found = {}
    for item in os.environ.pop("HOLDFAST_FDS", "").split(","):
        name, sign, number = item.rpartition("=")
        if sign and number.isdigit():
            descriptor = int(number)
            try:
                fcntl.fcntl(descriptor, fcntl.F_SETFD, fcntl.FD_CLOEXEC)
            except OSError:
                continue
            found[name] = descriptor
    return found


def raise_open_files() -> None:
    """Allow as many open files as the hard limit does; whom we start inherits that."""
    _, _, found = files.read("/proc/self/limits").partition(b"Max open files")
    words = found.split(None, 2)
    if len(words) > 1 and words[0] == words[1]:
        return  # the module that could do it is a shared object more in each of us
    import resource

    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
