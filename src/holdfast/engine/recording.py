"""The flight recorder of this process: made whole before the first job, and told of to the steward.

The layout is `wire/flight.py`. A fork of this process writes into a copy of its own: the recorder tells of one process.
"""

import os
from itertools import count
from mmap import mmap

from holdfast.linux import procfs
from holdfast.wire import flight, layout

#: The steward's socket beside the recorders.
STEWARD = "steward.sock"


class Recording:
    """Who this life of a worker is, and its recorder.

    Args:
        run_dir: The node's run directory.
        worker: Name of the worker.
        slots: How many jobs can run at the same time.
        store: URL of the store, without its password.

    Raises:
        OSError: No room, no directory, no permission.
    """

    def __init__(self, run_dir: str, worker: str, slots: int, store: str) -> None:
        pid = os.getpid()
        host = os.uname().nodename.replace(":", "_")[:80]
        self.owner = f"{host}:{pid}:{os.urandom(6).hex()}"
        self.directory = f"{run_dir}/{layout.JOBS}"
        self.is_copy = False  #: whether this process is a fork of the one that owns the recorder
        os.makedirs(self.directory, mode=0o700, exist_ok=True)
        whole = flight.fresh(slots, pid, procfs.start_ticks(pid), self.owner, worker, procfs.boot_id(), store)  # fmt: skip
        path = f"{self.directory}/{self.owner}"
        new = f"{self.directory}/.{self.owner}"
        descriptor = os.open(new, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            # A full tmpfs is an error here; a hole in the file would be a SIGBUS in the middle of a job.
            os.posix_fallocate(descriptor, 0, len(whole))
            memory = mmap(descriptor, len(whole))
        finally:
            os.close(descriptor)
        memory[:] = whole
        # From here on whoever looks sees all of it.
        os.rename(new, path)
        self.recorder = flight.Recorder(memoryview(memory), count())
        os.register_at_fork(after_in_child=self._forked)

    def _forked(self) -> None:
        self.is_copy = True

    def tell(self, words: str) -> None:
        """Send the steward a datagram; without one that listens it looks by itself, a little later."""
        from socket import AF_UNIX, SOCK_CLOEXEC, SOCK_DGRAM, SOCK_NONBLOCK, socket

        teller = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC)
        try:
            teller.sendto(words.encode(), f"{self.directory}/{STEWARD}")
        except OSError:
            return  # none there, or it has a full queue: it looks once a second
        finally:
            teller.close()

    def meant(self) -> None:
        """Write down that this process ends on purpose: nobody is to blame for its end."""
        self.recorder.put(flight.MEANT, 1)
