"""From where on is something wrong? The defaults of every detector, in one place.

Measured on a few real programs and their faults, and checked on an hour of bursty load (tests/core/detect). What a
person writes as ``detect = { … }`` replaces single ones; 0 switches a detector off.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

#: Of a worker.
WORKER = {
    "freeze": 1.0,  # seconds of silence from which a pulse is looked into; the remedy has heartbeat.timeout
    "loop_lag": 0.25,  # seconds; three times within three seconds
    "slow": 2.0,  # processor time of a unit of work, times its own past
    "stalled": 5.0,  # age of requests that do not end, times their own past
    "starved": 0.5,  # share of the time that it waits for a processor
    "pegged": 5.0,  # seconds of a busy processor without any work done
    "deadlock": 10.0,  # seconds that a thread waits for one lock
    "task_bomb": 1000.0,  # tasks, and ten times what is usual
    "thread_bomb": 200.0,  # threads, and three times what is usual
    "child_bomb": 100.0,  # processes below it, and five times what is usual
    "fd_leak": 0.8,  # share of the limit; steady growth is told far below it
    "memory_leak": 30.0,  # seconds to the limit; steady growth is told long before
    "odd_one_out": 4.0,  # robust z-score among its peers
    "log_storm": 1e6,  # bytes a second, and thirty times what is usual
    "log_silence": 120.0,  # seconds, while it works as before
    "warm_up": 30.0,  # seconds after it is ready in which steady growth is no leak
}
#: Of the box.
BOX = {
    "disk_filling": 600.0,  # seconds until the disk is full
    "inodes_low": 0.05,  # free share
    "memory_pressure": 0.05,  # available share
    "clock_jump": 1.0,  # seconds
}


def filled(given: "Mapping[str, float] | None", defaults: "dict[str, float]") -> "dict[str, float]":
    """Return the thresholds that apply; names that nobody knows are left out."""
    if not given:
        return defaults
    return {name: float(given.get(name, default)) for name, default in defaults.items()}
