"""Samples of a worker: a ring in a file of its own, written by the watchdog, read by anybody.

Fixed-size records in a ring file (``samples/WORKER``): the slot of sample number i is ``i % SLOTS``.
Ten minutes at one a second, more where samples are rarer. Of a run of equal samples there are the first and the last: the last
one's two times are written anew as long as nothing changes.
"""

from struct import Struct

SLOTS = 600
#: number, unix ns, monotonic ns, start n, pid, rss, cpu ns (user+system, whole process), threads, fds (-1:
#: not counted), major faults, run-queue wait ns, loop lag ns, tasks, in flight, work done, state (ord), tasks created,
#: threads created, sum of latency ns, late ticks (all four cumulative), processes below it
RECORD = Struct("<21q")
FIELDS = (
    "number", "unix_ns", "mono_ns", "start", "pid", "rss_bytes", "cpu_ns", "threads", "fds", "major_faults",
    "wait_ns", "lag_ns", "tasks", "in_flight", "work_done", "state", "tasks_created", "threads_created", "latency_sum_ns",
    "late_ticks", "children",
)  # fmt: skip
SIZE = RECORD.size * SLOTS


def decode(data: bytes) -> "list[dict[str, int]]":
    """Return the samples of a ring file, oldest first."""
    found = [
        dict(zip(FIELDS, RECORD.unpack_from(data, at), strict=True))
        for at in range(0, len(data) - RECORD.size + 1, RECORD.size)
    ]
    return sorted((s for s in found if s["unix_ns"]), key=lambda s: s["number"])
