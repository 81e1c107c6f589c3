"""What the watchdog knows about each worker: its part of the plan, and the life that is lived now.

Fed by the plan and by the records of the keeper's journal; looks at nothing itself. A thousand idle workers have to
cost next to nothing, so specs are shared between workers that are alike, and all that only a
watched worker needs is in a :class:`Care`, which the others do not have.
"""

import time

from holdfast.core.detect.silence import Silence
from holdfast.core.detect.streak import Streak
from holdfast.linux import procfs
from holdfast.linux import system as os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from holdfast.core.detect.starvation import Turn
    from holdfast.core.detect.storm import Storm
    from holdfast.watchdog.digest import Digest, Spec
    from holdfast.watchdog.forks import Forks
    from holdfast.watchdog.remembered import Vitals
    from holdfast.wire.pulse import Pulse

PROBED = ("http", "exec", "tcp")  # heartbeats that we ask for; the others come by themselves


class Care:
    """The present life of a worker that is asked for signs of life."""

    __slots__ = (
        "beat", "beat_probe", "call", "call_ns", "file_ns", "is_over", "log_at", "log_seen", "next_beat_s", "notified",
        "pause_s", "polled", "pulse", "ready_probe", "silence", "stopping_s", "streak", "thread", "told_s",
        "trigger", "turns", "turns_at_s",
    )  # fmt: skip

    def __init__(self, now_s: float) -> None:
        self.silence = Silence(now_s)
        self.thread = Silence(now_s)
        self.call = Silence(now_s)
        self.call_ns = 0  #: start of the oldest call that runs
        self.streak = Streak()
        self.pulse = -1  #: descriptor of the pulse file
        self.beat: Pulse | None = None  #: what it said at the last look
        self.ready_probe: Any = None
        self.beat_probe: Any = None
        self.next_beat_s = 0.0
        self.pause_s = 0.0
        self.told_s = 0.0  #: when the keeper was told that it is ready
        self.notified = False  #: READY=1 came
        self.trigger = False  #: WATCHDOG=trigger came
        self.stopping_s = 0.0  #: when STOPPING=1 came
        self.file_ns = 0
        self.turns: dict[int, Turn] = {}
        self.turns_at_s = 0.0
        self.is_over = False
        self.polled: bool | None = None  #: memory is read from /proc: no cgroup does it
        self.log_at: dict[str, int] = {}
        self.log_seen = False

    def close(self) -> None:
        """Give back all descriptors and end probes."""
        if self.pulse >= 0:
            os.close(self.pulse)
            self.pulse = -1
        for probe in (self.ready_probe, self.beat_probe):
            if probe is not None:
                probe.abandon()
        self.ready_probe = self.beat_probe = None


class Ward:
    """One worker."""

    __slots__ = (
        "care", "forks", "is_fork", "is_ready", "is_run", "is_shed", "looping", "n", "name", "next_sample", "oom_kills", "open_key", "pid", "proc", "ready_s",
        "ring", "spare", "spec", "started_s", "storm", "ticks", "up", "vitals",
    )  # fmt: skip

    def __init__(self, name: str, spec: "Spec") -> None:
        self.name = name
        self.spec = spec
        self.up = True
        self.n = 0  #: number of the life; stays after its death
        self.pid = 0  #: 0: no life
        self.ticks = 0
        self.started_s = 0.0
        self.is_ready = False
        self.spare: tuple[int, int, int] | None = None  #: n, pid, ticks
        self.proc: procfs.Proc | None = None
        self.ring = -1  #: descriptor of the samples file
        self.next_sample = -1
        self.is_run = (
            False  #: its last sample says the same as the one before and was dated anew since
        )
        self.care: Care | None = None
        self.storm: Storm | None = None
        self.is_shed = False  #: stopped by us, until the box is well
        self.looping = ""  #: what the last exit said about a crash loop: slow, down or nothing
        self.open_key = ""  #: the evidence of its last death, as long as that has no verdict
        self.oom_kills: int | None = None
        self.ready_s = 0.0  #: since when it is ready
        self.forks: Forks | None = None  #: None: it has none with a pulse of their own
        self.is_fork = False  #: not the worker, but one process that it forked
        self.vitals: Vitals | None = (
            None  #: None: it has not moved since we saw it first, or for long
        )

    def begin(self, n: int, pid: int, ticks: int, started_s: float) -> None:
        """A life begins (or a spare is promoted)."""
        self.end()
        self.n, self.pid, self.ticks, self.started_s = n, pid, ticks, started_s
        self.is_ready = self.spec.ready["kind"] == "none"
        self.ready_s = started_s
        if self.spec.needs_care():
            self.care = Care(started_s)

    def end(self) -> None:
        """The life is over."""
        if self.proc is not None:
            self.proc.close()
            self.proc = None
        if self.care is not None:
            self.care.close()
            self.care = None
        if self.forks is not None:
            self.forks.close()
            self.forks = None
        self.pid = self.ticks = 0
        self.is_ready = self.is_run = False

    def process(self) -> "procfs.Proc | None":
        """Return the kept view of the process; None when there is none, or it is not the one we mean."""
        if self.proc is None and self.pid:
            proc = procfs.Proc(self.pid)
            found = proc.read()
            if found is None or (self.ticks and found.start_ticks != self.ticks):
                proc.close()
                return None
            self.proc = proc
        return self.proc

    def past(self) -> "tuple[int, float, float]":
        """Return how many units of work have ended, and the longest time that one held a thread, and what they took on average (seconds)."""
        beat = self.care.beat if self.care is not None else None
        if beat is None:
            return 0, 0.0, 0.0
        mean_s = beat.latency_sum_ns / 1e9 / max(1, beat.work_done)
        return beat.work_done, beat.longest_held_ns / 1e9, mean_s

    def close(self) -> None:
        """The worker is gone from the plan."""
        self.end()
        if self.ring >= 0:
            os.close(self.ring)
            self.ring = -1


class Roll:
    """All workers of the plan, by name and by process."""

    __slots__ = ("by_name", "by_pid", "groups", "on_begin")

    def __init__(self, on_begin: "Callable[[Ward], None]") -> None:
        self.by_name: dict[str, Ward] = {}
        self.by_pid: dict[int, Ward] = {}
        self.groups: dict[
            str, list[str]
        ] = {}  #: worker -> the workers of its group, in start order
        self.on_begin = on_begin

    def adopt_plan(self, plan: "Digest") -> None:
        """Take up a plan: new workers appear, others go, the rest keep their life."""
        self.groups = plan.groups
        for name, number in zip(plan.names, plan.numbers, strict=True):
            ward = self.by_name.get(name)
            if ward is None:
                self.by_name[name] = Ward(name, plan.specs[number])
            else:
                self._respec(ward, plan.specs[number])
        for name in self.by_name.keys() - set(plan.names):
            gone = self.by_name.pop(name)
            self.by_pid.pop(gone.pid, None)
            gone.close()

    def _respec(self, ward: Ward, spec: "Spec") -> None:
        changed = ward.spec.ready != spec.ready or ward.spec.beat != spec.beat
        ward.spec = spec
        if ward.pid and (changed or (ward.care is None) == spec.needs_care()):
            was_ready = ward.is_ready
            ward.begin(ward.n, ward.pid, ward.ticks, ward.started_s)
            ward.is_ready = ward.is_ready or was_ready
            self.on_begin(ward)

    def record(self, record: "dict[str, Any]") -> "Ward | None":
        """Follow one record of the keeper's journal; return the worker it is about."""
        ward = self.by_name.get(record.get("worker", ""))
        if ward is None:
            return None
        kind = record.get("k")
        if kind == "start":
            self._start(ward, record)
        elif kind == "go" and ward.spare and ward.spare[0] == record.get("n"):
            n, pid, ticks = ward.spare
            ward.spare = None
            self._begin(ward, n, pid, ticks, float(record.get("mono_s", 0.0)))
        elif kind == "ready" and record.get("n") == ward.n and ward.pid:
            self._ready(ward)
        elif kind == "exit":
            self._exit(ward, record)
        elif kind in ("want", "state"):
            ward.up = bool(record.get("up"))
            # The watchdog stops workers only to shed them; whoever else says something takes over.
            ward.is_shed = not ward.up and record.get("by") == "watchdog"
        return ward

    def _ready(self, ward: Ward) -> None:
        ward.is_ready = True
        ward.ready_s = time.monotonic()
        if ward.care is None:
            return
        now_s = time.monotonic()
        # The time until it was ready was not silence.
        ward.care.silence.sign(now_s)
        ward.care.thread.sign(now_s)
        if (
            ward.spec.beat["kind"] == "none"
            and not ward.spec.memory_bytes
            and not ward.spec.has_pulse
        ):
            ward.care.close()
            ward.care = None

    def _start(self, ward: Ward, record: "dict[str, Any]") -> None:
        n, pid, ticks = int(record["n"]), int(record["pid"]), int(record.get("ticks", 0))
        if record.get("role", "main") == "spare":
            ward.spare = (n, pid, ticks)
        elif not (ward.n == n and ward.pid == pid):
            self._begin(
                ward, n, pid, ticks, float(record.get("started_s", record.get("mono_s", 0.0)))
            )

    def _begin(self, ward: Ward, n: int, pid: int, ticks: int, started_s: float) -> None:
        self.by_pid.pop(ward.pid, None)
        ward.begin(n, pid, ticks, started_s)
        self.by_pid[pid] = ward
        self.on_begin(ward)

    def _exit(self, ward: Ward, record: "dict[str, Any]") -> None:
        if ward.spare and ward.spare[0] == record.get("n"):
            ward.spare = None
        elif ward.n == record.get("n"):
            self.by_pid.pop(ward.pid, None)
            ward.end()
