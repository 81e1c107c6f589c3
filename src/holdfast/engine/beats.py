"""What is known of one living owner, and what does the store get to hear about it?

The recorder of a worker is mapped for as long as the worker lives and a little longer: its running jobs are read there, and the
end of its lease is written there, without a word between the two processes. Sidekiq's web page shows what a beat says.
"""

import os
import sys
from mmap import mmap
from struct import Struct

from holdfast.linux import pidfd, procfs
from holdfast.model.jobs import Beat
from holdfast.wire import flight as wire

TYPE_CHECKING = False
if TYPE_CHECKING:
    from holdfast.model.jobs import JobsPlan

_NUMBER = Struct("<q")


class Ward:
    """One owner of this machine, from the first sight of its recorder until its jobs are settled.

    Raises:
        OSError: There is no such file any more, or it cannot be mapped.
        ValueError: It is no flight recorder.
    """

    __slots__ = (
        "_memory", "boot", "culprits", "descriptor", "died_s", "found_ns", "is_fenced", "is_renewed", "is_settled", "owner", "path", "pid",
        "rss_bytes", "slots", "started_unix_s", "ticks", "worker",
    )  # fmt: skip

    def __init__(self, path: str, now_ns: int) -> None:
        self.path = path
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            size = os.fstat(descriptor).st_size
            if size < wire.SLOTS_AT:
                raise ValueError("too short for a flight recorder")
            self._memory = mmap(descriptor, size)
            self.started_unix_s = os.fstat(descriptor).st_ctime
        finally:
            os.close(descriptor)
        flight = wire.Flight(bytes(self._memory))
        self.owner = flight.owner
        self.worker = flight.worker
        self.pid, self.ticks, self.boot, self.slots = (
            flight.pid, flight.ticks, flight.boot, flight.slots,
        )  # fmt: skip
        self.found_ns = now_ns
        self.died_s = 0.0  #: monotonic; 0: it lives
        self.rss_bytes = 0
        self.is_renewed = False  #: the store knows it
        self.is_fenced = False
        self.is_settled = False
        #: Tokens of what ran past its deadline when it was killed because of that.
        self.culprits: frozenset[int] = frozenset()
        self.descriptor = self._open()

    def _open(self) -> int:
        if self.boot != procfs.boot_id():
            return -1
        descriptor = pidfd.open_pid(self.pid)
        if descriptor < 0:
            return -1
        reading = procfs.reading(self.pid)
        # Another process may have the number by now. A zombie is dead: what it did is done.
        if reading is None or reading.start_ticks != self.ticks or reading.state in "ZX":
            os.close(descriptor)
            return -1
        self.rss_bytes = reading.rss_bytes
        return descriptor

    @property
    def is_alive(self) -> bool:
        """Whether nobody has seen it die."""
        return self.descriptor >= 0 and not self.died_s

    def flight(self) -> "wire.Flight | None":
        """Return all that the recorder tells at this moment; None: its process has written nonsense over it."""
        try:
            return wire.Flight(bytes(self._memory))
        except ValueError:
            return None

    def is_running(self) -> bool:
        """Whether it runs a job at this moment; a few microseconds."""
        at = wire.SLOTS_AT + wire.SLOT - 8
        memory, read = self._memory, _NUMBER.unpack_from
        return any(read(memory, at + slot * wire.SLOT)[0] for slot in range(self.slots))

    def overdue(self, before_ns: int) -> "frozenset[int]":
        """Return the tokens of what runs though its deadline was before this moment, in a process that does nothing about it.

        One that gives up what it cannot interrupt has become quiet, and waits for its other jobs.
        """
        if self.is_meant or _NUMBER.unpack_from(self._memory, wire.QUIET)[0]:
            return frozenset()
        return frozenset(wire.overdue(self._memory, self.slots, before_ns))

    @property
    def is_meant(self) -> bool:
        """Whether its end is its own doing, or ours: nobody is to blame."""
        return bool(_NUMBER.unpack_from(self._memory, wire.MEANT)[0])

    @property
    def lease_until_ns(self) -> int:
        """The end of its lease as the worker sees it (CLOCK_MONOTONIC); 0: there was none yet."""
        return int(_NUMBER.unpack_from(self._memory, wire.LEASE_UNTIL)[0])

    def set_lease(self, until_ns: int) -> None:
        """Let the worker see the end of its lease."""
        # One store: what packs clears first, and a worker that reads 0 just then would take its lease for over.
        with memoryview(self._memory) as view, view.cast("q") as numbers:
            numbers[wire.LEASE_UNTIL >> 3] = until_ns

    def set_meant(self) -> None:
        """Write down that its end is our doing: whoever reads the recorder blames nobody."""
        _NUMBER.pack_into(self._memory, wire.MEANT, 1)

    def close(self) -> None:
        """Let go of it."""
        pidfd.close(self.descriptor)
        self.descriptor = -1
        self._memory.close()


def beat(ward: Ward, plan: "JobsPlan | None", node: str) -> Beat:
    """Return what the store is told about a living owner.

    Args:
        ward: The owner.
        plan: What its worker does; None: it is in no plan any more.
        node: Name of the node: Sidekiq's "tag".
    """
    flight = ward.flight()
    reading = procfs.reading(ward.pid)
    if reading is not None:
        ward.rss_bytes = reading.rss_bytes
    info = _info(ward, plan, node)
    if flight is None:
        return Beat(ward.owner, info, 0, False, ward.rss_bytes // 1024, [])
    running = [(one.token, one.started_unix_s, one.thread) for one in flight.running]
    return Beat(ward.owner, info, len(running), flight.is_quiet, ward.rss_bytes // 1024, running)


def _info(ward: Ward, plan: "JobsPlan | None", node: str) -> "dict[str, object]":
    """Return Sidekiq's `info` (its launcher.rb, 6.4 to 8.1)."""
    queues: list[tuple[str, int]] = list(plan["queues"]) if plan is not None else []
    size = plan["concurrency"] + plan["async_concurrency"] if plan is not None else ward.slots
    return {
        "hostname": ward.owner.rsplit(":", 2)[0],
        "started_at": ward.started_unix_s,
        "pid": ward.pid,
        "tag": node,
        "concurrency": size,
        "queues": [name for name, _ in queues],
        "weights": [dict(queues)],
        "labels": ["python", ward.worker],
        "identity": ward.owner,
        "version": f"Holdfast on Python {sys.version_info.major}.{sys.version_info.minor}",
        "embedded": False,
    }


def host_and_pid(owner: str) -> "tuple[str, int] | None":
    """Take an owner's name apart; None: this is none."""
    parts = owner.rsplit(":", 2)
    if len(parts) != 3 or not parts[1].isdigit() or len(parts[2]) != 12:
        return None
    return parts[0], int(parts[1])
