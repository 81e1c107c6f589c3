"""The process that starts, reaps and restarts workers by the compiled plan.

It decides nothing about sickness (the watchdog does) and reads nothing that a user wrote (`config` has compiled it).
What it knows is in the journal before it acts on it, so it can be killed at any instant: the next keeper
replays the journal, adopts what lives, and goes on. On the way from a death to the next exec there is no poll
and no sleep: a pidfd becomes readable, one record is written, the next process is spawned.
"""

import gc
import select
import sys
import time

from holdfast.core import lifecycle
from holdfast.keeper import deaths, ending, orders, planning, starting, takeover
from holdfast.keeper.control import Control
from holdfast.keeper.state import State
from holdfast.linux import locks, revive, talk
from holdfast.linux import signals as signal
from holdfast.linux import system as os
from holdfast.linux.house import raise_open_files
from holdfast.wire import layout

#: No timer.
_NEVER_S = float("inf")
#: A watchdog that has its lock and never beat is still starting for this many timeouts.
_STARTING = 3.0


class Keeper:
    """The loop; see the module."""

    def __init__(self, run_dir: str) -> None:
        self.state = State(run_dir)
        self.anchor = revive.AnchorWatch(run_dir)
        self.next_tick_s = 0.0
        self.next_timer_s = 0.0  #: the first of all workers' timers, as of the last turn in which something happened
        self.told_ready = False
        self.mute = (0, 0.0)  # a watchdog that never beat, and since when we know it
        self.control = Control(self.state)
        takeover.take_sockets(self.state)
        self._watch_anchor()
        adopted = takeover.adopt(self.state, self.state.past)
        self.state.past = {}
        if not self.state.is_second:
            self._tell_unenforced()
        else:
            self.state.house.say(f"back; {adopted} running workers adopted")
        began_s = self.state.node_began_s
        self.state.journal.add(
            {"k": "keeper", "pid": os.getpid(), "adopted": adopted, "began_s": began_s}
        )
        planning.tell_pipes(self.state)

    def run(self) -> None:
        """Run until killed."""
        while True:
            now_s = time.monotonic()
            if now_s >= self.next_tick_s:
                self._tick(now_s)
            self._watch_anchor()
            events = self.state.epoll.poll(self._timeout_s(), 256)
            dead = []
            for descriptor, event in events:
                if descriptor in self.state.lives:
                    dead.append((descriptor, event))
                elif descriptor == self.anchor.descriptor:
                    self._anchor_died()
                else:
                    self.control.serve(descriptor, event)
            if dead:
                deaths.take_deaths(self.state, dead)
            now_s = time.monotonic()
            is_quiet = not (events or self.state.waiting or self.state.is_ending)
            if is_quiet and now_s < self.next_timer_s:
                continue  # only a beat: a thousand workers' timers are where they were
            self._timers(now_s)
            starting.start_waiting(self.state)
            ending.go_down(self.state)
            if self.state.journal.is_new:
                self.state.journal.is_new = False
                talk.tell(self.state.run_dir, "watchdog", {"do": "journal"})
                if any(kept.plan["kind"] == "jobs" for kept in self.state.workers.values()):
                    talk.tell(self.state.run_dir, f"{layout.JOBS}/steward", {"do": "journal"})
            self.next_timer_s = self._first_timer_s()

    def _timeout_s(self) -> float:
        if self.state.waiting and starting.startable(self.state):
            return 0.0
        now_s = time.monotonic()
        due_s = min(self.next_tick_s, self.next_timer_s, now_s + self.anchor.wait_s())
        return max(0.0, due_s - now_s)

    def _first_timer_s(self) -> float:
        due = [
            at
            for kept in self.state.workers.values()
            for at in (kept.due_s, kept.kill_due_s, kept.spare_due_s)
            if at
        ]
        if self.state.owed or self.state.unsure:
            # Somebody else reaps it; there is nothing to wait on but the result.
            due.append(time.monotonic() + 0.01)
        return min(due, default=_NEVER_S)

    def _tell_unenforced(self) -> None:
        """Say which limits the kernel will not hold the workers to on this machine."""
        for key, controller, instead in (
            (
                "memory_bytes",
                "memory",
                "the watchdog looks at their memory instead, four times a second",
            ),
            ("cpu_share", "cpu", "cpu_max has no effect"),
            ("processes", "pids", "processes_max is only a limit for each user"),
        ):
            wanted = [name for name, kept in self.state.workers.items() if kept.plan["limits"][key]]  # type: ignore[literal-required]
            if wanted and not self.state.groups.enforces(controller):
                some = ", ".join(wanted[:5]) + (" …" if len(wanted) > 5 else "")
                self.state.house.say(
                    f"no {controller} cgroup can be written here ({some}): {instead}; see holdfast doctor"
                )

    def _tick(self, now_s: float) -> None:
        late_s = now_s - self.next_tick_s if self.next_tick_s else 0.0
        self.next_tick_s = now_s + 1.0
        self.state.house.beat()
        revive.reap_revived()
        if late_s < 0.5:
            self._look_at_watchdog(now_s)
        if self.state.journal.is_large(len(self.state.workers)):
            self.state.journal.compact(takeover.states(self.state))
        self._tell_ready()

    def _look_at_watchdog(self, now_s: float) -> None:
        """Kill a watchdog that does not beat, the anchor starts it again; it does the same for us."""
        age_s, pid = self.state.house.beat_age_s("watchdog")
        timeout_s = self.state.plan["watch"]["house_timeout_s"]
        if pid and age_s <= timeout_s:
            self.mute = (0, 0.0)
            return
        holder = locks.holder(f"{self.state.run_dir}/{layout.lock('watchdog')}")
        if holder != pid:
            # It has the lock and never beat: still starting, or stopped in its very start.
            if holder != self.mute[0]:
                self.mute = (holder, now_s)
            age_s, timeout_s = now_s - self.mute[1], timeout_s * _STARTING
        if holder and age_s > timeout_s:
            self.state.house.say(
                f"the watchdog (process {holder}) has not beaten for {age_s:.1f} s; killing it"
            )
            os.kill(holder, signal.SIGKILL)

    def _watch_anchor(self) -> None:
        if not self.anchor.tend(time.monotonic()):
            if self.anchor.is_homeless:
                ending.vanish(self.state)
            return
        self.state.epoll.register(self.anchor.descriptor, select.EPOLLIN)
        # A new anchor holds nothing yet.
        for name, descriptor in self.state.sockets.items():
            talk.tell(self.state.run_dir, "anchor", {"do": "hold", "name": name}, (descriptor,))

    def _anchor_died(self) -> None:
        self.state.house.say("the anchor died; starting another")
        self.state.epoll.unregister(self.anchor.descriptor)
        self.anchor.died(time.monotonic())

    def _tell_ready(self) -> None:
        if self.told_ready or self.state.is_ending:
            return
        if all(k.is_ready() or k.is_down_for_good() for k in self.state.workers.values()):
            self.told_ready = talk.tell(self.state.run_dir, "anchor", {"do": "ready"})

    def _timers(self, now_s: float) -> None:
        for kept in list(self.state.workers.values()):
            if kept.due_s and kept.due_s <= now_s:
                kept.due_s = 0.0
                orders.step(self.state, kept, lifecycle.WANT_UP)
            if kept.kill_due_s and kept.kill_due_s <= now_s and kept.life:
                self.state.house.say(
                    f"worker {kept.name} did not end within {kept.plan['stop']['grace_s']:g} s; killing it"
                )
                orders.kill_life(kept, kept.life)
            if kept.spare_due_s and kept.spare_due_s <= now_s:
                starting.start_spare(self.state, kept)
        if self.state.owed or self.state.unsure:
            deaths.settle_owed(self.state, now_s)


def main(argv: "list[str]") -> int:
    """Be the keeper of the node in ``argv[1]``."""
    raise_open_files()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    gc.disable()  # nothing of what is built now is garbage, and looking through it costs a tenth of our start
    keeper = Keeper(argv[1])
    gc.freeze()
    gc.enable()
    keeper.run()
    return 0


if sys.platform != "linux":
    raise SystemExit("Holdfast needs Linux")
