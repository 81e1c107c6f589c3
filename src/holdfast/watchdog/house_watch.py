"""Do the other house processes still beat?

One that does not is killed, and the anchor (or whoever sees the anchor die) starts it again: recovering is the same as
starting. A house process that waits for a processor, and time in which we did not run ourselves, are excused.
"""

import time

from holdfast.core.detect import starvation
from holdfast.core.detect.silence import Silence
from holdfast.linux import locks, pidfd
from holdfast.watchdog.senses import turns
from holdfast.wire import layout

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from holdfast.linux.house import House
    from holdfast.watchdog.processors import Processors

WATCHED = ("keeper", "logger", "anchor")
#: A process that has the lock and never beat is still starting for this many timeouts.
_STARTING = 3.0


class _Mate:
    __slots__ = ("beat_pid", "over", "pid", "silence", "turns")

    def __init__(self, pid: int, now_s: float) -> None:
        self.pid = pid
        self.silence = Silence(now_s)
        self.over = 0  # ticks in a row that it was too silent
        self.turns: dict[int, starvation.Turn] = {}
        self.beat_pid = 0


class HouseWatch:
    """Looks at the beats once a second."""

    __slots__ = ("_house", "_killed", "_last_s", "_mates", "_processors", "_run_dir")

    def __init__(
        self,
        run_dir: str,
        house: "House",
        killed: "Callable[[str, int, float], None]",
        processors: "Processors",
    ) -> None:
        self._processors = processors
        self._run_dir = run_dir
        self._house = house
        self._killed = killed  #: told before the kill
        self._mates: dict[str, _Mate] = {}
        self._last_s = time.monotonic()

    def tick(self, now_s: float, own_lag_s: float, timeout_s: float) -> None:
        """Look at all of them."""
        between_s, self._last_s = now_s - self._last_s, now_s
        for role in WATCHED:
            age_s, pid = self._house.beat_age_s(role)
            mate = self._mates.get(role)
            if (
                mate is None
                or (pid != mate.pid and pid != mate.beat_pid)
                or now_s - mate.silence.last_s > timeout_s / 2
            ):
                mate = self._holder(role, mate, now_s)
            if mate is None:
                continue
            mate.beat_pid = pid
            if pid == mate.pid:
                mate.silence.sign(now_s - age_s)
            # A beat of the last second needs no excuse, and reading the turns is not for nothing.
            before, mate.turns = mate.turns, turns(mate.pid) if age_s > timeout_s / 4 else {}
            now = mate.turns.get(mate.pid)
            if now is not None and mate.pid in before:
                excused_s = starvation.waited_s(before[mate.pid], now, between_s)
                if now.processor in self._processors.mute(now_s):
                    excused_s = max(excused_s, between_s)
                self._processors.ask((now.processor,), now_s)
                mate.silence.excuse(excused_s)
            mate.silence.excuse(own_lag_s)
            allowed_s = timeout_s if pid == mate.pid else timeout_s * _STARTING
            silent_s = mate.silence.lasting_s(now_s)
            mate.over = mate.over + 1 if silent_s > allowed_s else 0
            if mate.over >= 2:
                self._kill(role, mate, silent_s)

    def _holder(self, role: str, mate: "_Mate | None", now_s: float) -> "_Mate | None":
        pid = locks.holder(f"{self._run_dir}/{layout.lock(role)}")
        if mate is not None and pid == mate.pid:
            return mate
        if mate is not None:
            del self._mates[role]
        if not pid:
            return None  # it is dead: the anchor's business
        mate = self._mates[role] = _Mate(pid, now_s)
        return mate

    def _kill(self, role: str, mate: _Mate, silent_s: float) -> None:
        descriptor = pidfd.open_pid(mate.pid)
        # Asked again after the pid is pinned: only whoever holds the lock now is shot.
        if descriptor >= 0 and locks.holder(f"{self._run_dir}/{layout.lock(role)}") == mate.pid:
            self._killed(role, mate.pid, silent_s)
            pidfd.send(descriptor, 9)
        pidfd.close(descriptor)
        del self._mates[role]
