"""The process that starts, reaps and restarts workers by the compiled plan.

It decides nothing about sickness (the watchdog does) and reads nothing that a user wrote (`config` has compiled it).
What it knows is in the journal before it acts on it, so it can be killed at any instant: the next keeper
replays the journal, adopts what lives, and goes on. On the way from a death to the next exec there is no poll
and no sleep: a pidfd becomes readable, one record is written, the next process is spawned.
"""

import os
import select
import sys
import time
from _random import Random

from holdfast.core import lifecycle, tree
from holdfast.core.restart import after_death
from holdfast.keeper.adopt import ExitBook, find_unrecorded
from holdfast.keeper.control import Control
from holdfast.keeper.journal import Journal, Open, Past, replay
from holdfast.keeper.kept import Kept, Life
from holdfast.linux import cgroup, files, launch, locks, pidfd, places, procfs, revive, talk
from holdfast.linux import signals as signal
from holdfast.linux.house import House, inherited, raise_open_files
from holdfast.linux.listen import listen
from holdfast.linux.spawn import FIRST_LISTEN_FD, Request, spawn
from holdfast.wire import layout
from holdfast.wire import plan as plan_format

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from holdfast.model.plan import Plan

#: Spawns in one turn of the loop: deaths and requests are looked at in between.
_SPAWNS_A_TURN = 32
#: How long an exit without a known status is kept open for somebody to tell.
_STATUS_PATIENCE_S = 3.0
_SPARE_DELAY_S = 0.5
_SPARE_DELAY_MAX_S = 30.0


class Owed:
    """A dead life whose exit status is not known yet."""

    __slots__ = ("kept", "life", "record", "until_s")

    def __init__(self, kept: Kept, life: Life, record: "dict[str, Any]", until_s: float) -> None:
        self.kept = kept
        self.life = life
        self.record = record
        self.until_s = until_s


class Keeper:
    """The state of the keeper; see the module."""

    def __init__(self, run_dir: str) -> None:
        self.house = House(run_dir, "keeper")
        self.run_dir = run_dir
        self.node = places.node_hash(os.readlink(f"{run_dir}/{layout.STATE_LINK}"))
        path = f"{run_dir}/{layout.PLAN}"
        self.plan: Plan = plan_format.decode(files.read(path), path)
        self.env_sum = plan_format.env_sum(self.plan)
        self.workers: dict[str, Kept] = {}
        self.waiting: dict[str, None] = {}  # names that may be due to start, in order
        self.lives: dict[int, tuple[Kept, Life]] = {}  # by pidfd
        self.owed: list[Owed] = []
        self.sockets: dict[str, int] = {}  # listening sockets, by "listen.WORKER.NAME"
        self.exits = ExitBook(f"{run_dir}/{layout.EXITS}")
        self.groups = cgroup.Groups(self.node)
        self.chance = Random().random
        self.is_ending = False
        self.end_status = 0
        self.end_told = False
        self.told_ready = False
        self.resets_oom = files.read("/proc/self/oom_score_adj").strip() not in (b"0", b"")
        self.epoll = select.epoll()
        self.anchor = revive.AnchorWatch(run_dir)
        self.next_tick_s = 0.0
        data = files.read(f"{run_dir}/{layout.JOURNAL}")
        past, seq, self.is_ending = replay(data)
        self.journal = Journal(f"{run_dir}/{layout.JOURNAL}", seq)
        self.control = Control(self, run_dir, self.epoll)
        self._take_sockets()
        self._watch_anchor()
        adopted = self._adopt(past)
        self.journal.add({"k": "keeper", "pid": os.getpid(), "adopted": adopted})
        if data:
            self.journal.compact(self._states())
            self.house.say(f"back; {adopted} running workers adopted")

    # -- the loop ----------------------------------------------------------------------------------

    def run(self) -> None:
        """Run until killed."""
        while True:
            now_s = time.monotonic()
            if now_s >= self.next_tick_s:
                self._tick(now_s)
            self._watch_anchor()
            events = self.epoll.poll(self._timeout_s(), 256)
            dead = []
            for descriptor, event in events:
                if descriptor in self.lives:
                    dead.append((descriptor, event))
                elif descriptor == self.anchor.descriptor:
                    self._anchor_died()
                else:
                    self.control.serve(descriptor, event)
            if dead:
                self._take_deaths(dead)
            self._timers(time.monotonic())
            self._start_waiting()
            self._go_down()
            if self.journal.is_new:
                self.journal.is_new = False
                talk.tell(self.run_dir, "watchdog", {"do": "journal"})

    def _timeout_s(self) -> float:
        if self.waiting and self._startable():
            return 0.0
        now_s = time.monotonic()
        due = [self.next_tick_s, now_s + self.anchor.wait_s()]
        due += [
            at
            for kept in self.workers.values()
            for at in (kept.due_s, kept.kill_due_s, kept.spare_due_s)
            if at
        ]
        if self.owed:
            due.append(
                now_s + 0.01
            )  # somebody else reaps it; there is nothing to wait on but the result
        return max(0.0, min(due) - now_s)

    def _tick(self, now_s: float) -> None:
        late_s = now_s - self.next_tick_s if self.next_tick_s else 0.0
        self.next_tick_s = now_s + 1.0
        self.house.beat()
        revive.reap_revived()
        if late_s < 0.5:
            self._look_at_watchdog()
        if self.journal.is_large():
            self.journal.compact(self._states())
        self._tell_ready()

    def _look_at_watchdog(self) -> None:
        """Kill a watchdog that does not beat, the anchor starts it again; it does the same for us."""
        age_s, pid = self.house.beat_age_s("watchdog")
        if pid and age_s > self.plan["watch"]["house_timeout_s"]:
            holder = locks.holder(f"{self.run_dir}/{layout.lock('watchdog')}")
            if holder == pid:
                self.house.say(
                    f"the watchdog (process {pid}) has not beaten for {age_s:.1f} s; killing it"
                )
                os.kill(pid, signal.SIGKILL)

    def _watch_anchor(self) -> None:
        if not self.anchor.tend(time.monotonic()):
            return
        self.epoll.register(self.anchor.descriptor, select.EPOLLIN)
        # A new anchor holds nothing yet.
        for name, descriptor in self.sockets.items():
            talk.tell(self.run_dir, "anchor", {"do": "hold", "name": name}, (descriptor,))

    def _anchor_died(self) -> None:
        self.house.say("the anchor died; starting another")
        self.epoll.unregister(self.anchor.descriptor)
        self.anchor.died(time.monotonic())

    def _tell_ready(self) -> None:
        if self.told_ready or self.is_ending:
            return
        if all(k.is_ready() or k.is_down_for_good() for k in self.workers.values()):
            self.told_ready = talk.tell(self.run_dir, "anchor", {"do": "ready"})

    # -- taking over -------------------------------------------------------------------------------

    def _adopt(self, past: "dict[str, Past]") -> int:
        """Build the workers from plan and journal; return how many living processes were found."""
        for entry in self.plan["workers"]:
            kept = self.workers[entry["name"]] = Kept(entry)
            self._fit(kept)
        unresolved = []
        adopted = 0
        for name, known in past.items():
            found_here = self.workers.get(name)
            if found_here is None:
                if not known.lives:
                    continue
                # Not in the plan any more: it is stopped as soon as it is adopted.
                found_here = self._orphan(name)
            kept = found_here
            kept.n, kept.restarts, kept.history = known.last_n, known.restarts, known.history
            if known.up is not None:
                kept.up, kept.by = known.up, known.by
            for life in known.lives.values():
                if life.pid:
                    adopted += self._adopt_life(kept, life)
                else:
                    unresolved.append((kept, life))
        if unresolved:
            adopted += self._adopt_unrecorded(unresolved)
        for kept in self.workers.values():
            known_up = past.get(kept.name)
            if known_up is None or known_up.up is None:
                kept.up, kept.by = kept.plan["autostart"], "plan"
            self._rescue_sockets(kept)
            self._settle(kept)
        return adopted

    def _rescue_sockets(self, kept: Kept) -> None:
        """Keeper and anchor died together: the worker itself is the last that holds its listening sockets."""
        life = kept.life
        for index, wanted in enumerate(kept.plan["listen"]):
            key = f"listen.{kept.name}.{wanted['name']}"
            if life is not None and life.descriptor >= 0 and key not in self.sockets:
                descriptor = pidfd.copy_descriptor(life.descriptor, FIRST_LISTEN_FD + index)
                if descriptor >= 0:
                    self.sockets[key] = descriptor
                    talk.tell(self.run_dir, "anchor", {"do": "hold", "name": key}, (descriptor,))

    def _settle(self, kept: Kept) -> None:
        """After adoption: start what is wanted and not there, stop what is there and not wanted, or outdated."""
        if self.is_ending:
            kept.up = False
        if kept.life is None:
            if kept.up:
                self._step(kept, lifecycle.WANT_UP)
        elif not kept.up:
            self._stop(kept, "down" if self.is_ending else "stop", "down")
        elif kept.life.entry != kept.entry:
            self._stop(kept, "apply", "restart")

    def _orphan(self, name: str) -> Kept:
        plan = plan_format.stub(name, "/")
        kept = self.workers[name] = Kept(plan)
        kept.up = False
        return kept

    def _adopt_life(self, kept: Kept, found: Open) -> int:
        life = Life(found.n, found.role)
        life.pid, life.ticks, life.entry, life.is_ready = (
            found.pid,
            found.ticks,
            found.entry,
            found.ready,
        )
        life.started_mono_s, life.started_unix_s = found.started_mono_s, found.started_unix_s
        life.is_ours = False
        descriptor = pidfd.open_pid(found.pid)
        reading = procfs.reading(found.pid) if descriptor >= 0 else None
        if reading is None or reading.start_ticks != found.ticks:
            pidfd.close(descriptor)
            descriptor = -1
        life.descriptor = descriptor
        if found.role == "main":
            kept.life = life
            kept.state = (
                lifecycle.RUNNING if self._counts_as_ready(kept, life) else lifecycle.STARTING
            )
        elif descriptor < 0:
            self._record_spare_death(kept, life, self.exits.status_of(life.pid, life.ticks))
            return 0
        else:
            # It reads end-of-file where its go would have come from (the dead keeper held the other end)
            # and ends; a fresh one is started below.
            kept.spare = life
        if descriptor >= 0:
            self.lives[descriptor] = (kept, life)
            self.epoll.register(descriptor, select.EPOLLIN)
            return int(reading is not None and reading.state not in "ZX")
        self._main_died(kept, life)
        return 0

    def _adopt_unrecorded(self, unresolved: "list[tuple[Kept, Open]]") -> int:
        """Starts that were intended: did the dead keeper get as far as spawning them?"""
        me = locks.holder(f"{self.run_dir}/{layout.lock('keeper')}")
        found = find_unrecorded(self.node, {(kept.name, life.n) for kept, life in unresolved}, me)
        adopted = 0
        for kept, life in unresolved:
            pid, ticks = found.get((kept.name, life.n), (0, 0))
            if not pid:
                known = {
                    (held.pid, held.ticks)
                    for k in self.workers.values()
                    for held in (k.life, k.spare)
                    if held
                }
                strangers = self.exits.strangers(known, life.intent_mono_s)
                if len(unresolved) == 1 and len(strangers) == 1:
                    pid, ticks = strangers[0]  # it was spawned, and is dead already
                else:
                    self.journal.add({"k": "void", "worker": kept.name, "n": life.n})
                    continue
            life.pid, life.ticks = pid, ticks
            life.started_unix_s = time.time()
            life.entry = kept.entry
            self.journal.add(self._start_record(kept.name, life))
            adopted += self._adopt_life(kept, life)
        return adopted

    def _take_sockets(self) -> None:
        for name, descriptor in inherited().items():
            if name.startswith("listen."):
                self.sockets[name] = descriptor
            else:
                os.close(descriptor)

    def _start_record(self, name: str, life: "Life | Open") -> "dict[str, Any]":
        return {
            "k": "start", "worker": name, "n": life.n, "pid": life.pid, "ticks": life.ticks, "role": life.role,
            "entry": life.entry, "mono_s": life.started_mono_s,
        }  # fmt: skip

    def _states(self) -> "list[dict[str, Any]]":
        """What a fresh journal has to say."""
        records: list[dict[str, Any]] = []
        for kept in self.workers.values():
            records.append({
                "k": "state", "worker": kept.name, "n": kept.n, "up": kept.up, "by": kept.by,
                "restarts": kept.restarts, "history": kept.history.deaths, "short": kept.history.short_lives,
            })  # fmt: skip
            for life in (kept.life, kept.spare):
                if life is not None:
                    start = self._start_record(kept.name, life)
                    start["unix_s"] = life.started_unix_s
                    records.append(start)
                    if life.is_ready:
                        records.append({"k": "ready", "worker": kept.name, "n": life.n})
        for owed in self.owed:
            start = self._start_record(owed.kept.name, owed.life)
            start["unix_s"] = owed.life.started_unix_s
            records.append(start)
        if self.is_ending:
            records.append({"k": "down"})
        return records

    # -- plan --------------------------------------------------------------------------------------

    def _fit(self, kept: Kept) -> None:
        """Work out what depends on the plan alone."""
        plan = kept.plan
        kept.entry = plan_format.fingerprint(plan, self.env_sum)
        if plan["log"]:
            for stream in ("out", "err"):
                launch.make_pipe(f"{self.run_dir}/{layout.fifo(plan['name'], stream)}")

    def tell_pipes(self) -> None:
        """Anchor and logger look at the pipes again."""
        for role in ("anchor", "logger"):
            talk.tell(self.run_dir, role, {"do": "fifos"})

    def apply(self, path: str) -> "dict[str, Any]":
        """Make a new plan the running one; only workers that it changes are touched."""
        new = plan_format.decode(files.read(path), path)
        files.write_atomic(f"{self.run_dir}/{layout.PLAN}", plan_format.encode(new))
        self.plan = new
        self.env_sum = plan_format.env_sum(new)
        self.journal.add({"k": "plan", "digest": new["digest"]})
        touched: dict[str, list[str]] = {"start": [], "stop": [], "restart": []}
        wanted = {entry["name"]: entry for entry in new["workers"]}
        for name, kept in list(self.workers.items()):
            if name not in wanted:
                touched["stop"].append(name)
                self.want(kept, up=False, by="plan", cause="apply")
        for name, entry in wanted.items():
            kept_before = self.workers.get(name)
            if kept_before is None:
                kept = self.workers[name] = Kept(entry)
                self._fit(kept)
                if entry["autostart"]:
                    touched["start"].append(name)
                    self.want(kept, up=True, by="plan")
                continue
            old_entry = kept_before.entry
            kept_before.plan = entry
            self._fit(kept_before)
            if kept_before.entry != old_entry and kept_before.up:
                touched["restart"].append(name)
                self._drop_sockets(kept_before)
                self._end_spare(kept_before)
                if kept_before.life:
                    self._stop(kept_before, "apply", "restart")
                else:
                    self._step(kept_before, lifecycle.WANT_UP)
        order = [entry["name"] for entry in new["workers"]]
        self.workers = {
            n: self.workers[n] for n in [*order, *(n for n in self.workers if n not in wanted)]
        }
        self.tell_pipes()
        for role in ("watchdog", "logger"):
            talk.tell(self.run_dir, role, {"do": "plan"})
        self.house.say(f"plan {new['digest'][:12]} applied")
        return touched

    # -- what is wanted ----------------------------------------------------------------------------

    def want(self, kept: Kept, *, up: bool, by: str, cause: str = "stop") -> None:
        """Note whether a worker is wanted, and begin to make it so."""
        kept.by = by
        if kept.up != up or by != "plan":
            kept.up = up
            self.journal.add({"k": "want", "worker": kept.name, "up": up, "by": by})
        kept.due_s = 0.0
        if up:
            kept.history.short_lives = 0
            if kept.state == lifecycle.STOPPING:
                kept.after_stop = "restart"
            elif kept.life is None:
                self._step(kept, lifecycle.WANT_UP)
        else:
            self._end_spare(kept)
            if kept.life is None:
                self._step(kept, lifecycle.WANT_DOWN)
                self._forget_if_unplanned(kept)
            else:
                self._stop(kept, cause, "down")

    def restart(
        self, kept: Kept, *, by: str, how: str = "term", flag: str = "", incident: str = ""
    ) -> None:
        """Restart a worker on order."""
        self.journal.add({
            "k": "order", "do": "restart", "worker": kept.name, "by": by, "how": how, "flag": flag,
            "incident": incident,
        })  # fmt: skip
        if kept.life is None:
            self.want(kept, up=True, by=by)
            return
        if not kept.up:
            kept.up, kept.by = True, by
            self.journal.add({"k": "want", "worker": kept.name, "up": True, "by": by})
        is_remedy = by == "watchdog"
        kept.flag, kept.incident = flag, incident
        self._stop(kept, "remedy" if is_remedy else "restart", "restart", kill=how == "kill")

    def _step(self, kept: Kept, event: str) -> None:
        kept.state = lifecycle.step(kept.state, event)
        if kept.state == lifecycle.WAITING:
            self.waiting[kept.name] = None
        else:
            self.waiting.pop(kept.name, None)

    def _stop(self, kept: Kept, cause: str, after: str, *, kill: bool = False) -> None:
        life = kept.life
        if life is None:
            return
        kept.cause, kept.after_stop = cause, after
        self._step(kept, lifecycle.ASK_STOP)
        if kill or kept.plan["crash_only"]:
            self._kill_life(kept, life)
            return
        stop = kept.plan["stop"]
        pidfd.send(life.descriptor, stop["signal"])
        # A stopped process cannot react to a signal that asks; SIGCONT lets it.
        pidfd.send(life.descriptor, signal.SIGCONT)
        kept.kill_due_s = time.monotonic() + stop["grace_s"]

    def _kill_life(self, kept: Kept, life: Life) -> None:
        pidfd.send(life.descriptor, signal.SIGKILL)
        kept.kill_due_s = 0.0

    # -- deaths ------------------------------------------------------------------------------------

    def _take_deaths(self, events: "list[tuple[int, int]]") -> None:
        """Look at the processes whose pidfd is readable: put their end on record, then act on it."""
        ours = []
        for descriptor, _ in events:
            kept, life = self.lives[descriptor]
            if life.is_ours:
                try:
                    found = os.waitid(os.P_PIDFD, descriptor, os.WEXITED | os.WNOHANG | os.WNOWAIT)
                except ChildProcessError:
                    found = None
                    life.is_ours = False
                if found is None and life.is_ours:
                    continue
            self.epoll.unregister(descriptor)
            del self.lives[descriptor]
            if life.role == "main":
                self._main_died(kept, life)
            else:
                self._spare_died(kept, life)
            if life.is_ours:
                ours.append(life)
        for life in ours:
            # What it left running in its session would hold its ports and files against the next life.
            try:
                os.killpg(life.pid, signal.SIGKILL)
            except (ProcessLookupError, PermissionError):
                pass
            os.waitpid(life.pid, 0)
            life.close()

    def _status_of(self, life: Life) -> "int | None":
        if life.is_ours:
            found = os.waitid(os.P_PIDFD, life.descriptor, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            if found is None:
                return None
            if found.si_code == os.CLD_EXITED:
                return found.si_status << 8
            return found.si_status | (0x80 if found.si_code == os.CLD_DUMPED else 0)
        status = self.exits.status_of(life.pid, life.ticks)
        if status is None and life.descriptor >= 0:
            status = pidfd.exit_status(life.descriptor)
        return status

    def _main_died(self, kept: Kept, life: Life) -> None:
        now_s = time.monotonic()
        status = self._status_of(life)
        cause = kept.cause if kept.state == lifecycle.STOPPING else "died"
        lived_s = max(0.0, now_s - life.started_mono_s)
        kept.kill_due_s = 0.0
        kept.life = None
        record: dict[str, Any] = {
            "k": "exit", "worker": kept.name, "n": life.n, "role": "main", "pid": life.pid, "status": status,
            "lived_s": round(lived_s, 4), "cause": cause,
        }  # fmt: skip
        if cause == "remedy":
            record["flag"], record["incident"] = kept.flag, kept.incident
        if cause in ("died", "remedy"):
            decision = after_death(
                kept.plan["restart"],
                kept.history,
                now_s=now_s,
                lived_s=lived_s,
                clean=status == 0,
                chance=self.chance(),
            )
            action, delay_s = decision.action, decision.delay_s
            if cause == "remedy" and action == "none":
                action = "restart"
            kept.history = decision.history
            self._after_unasked(kept, action, delay_s, now_s)
            record["next"], record["delay_s"] = action, round(delay_s, 3)
        else:
            goes_on = kept.after_stop == "restart" and kept.up
            self._step(kept, lifecycle.STOPPED_RESTART if goes_on else lifecycle.STOPPED)
            record["next"], record["delay_s"] = ("restart" if goes_on else "none"), 0.0
            kept.why = "" if goes_on else f"stopped by the {kept.by}"
        if record["next"] in ("restart", "delay", "slow"):
            kept.restarts += 1
        record["deaths"] = len(kept.history.deaths)
        record["history"], record["short"] = kept.history.deaths, kept.history.short_lives
        record["restarts"] = kept.restarts
        if status is None and not life.is_ours and life.descriptor >= 0:
            # Somebody else reaps it and will tell in a moment; the restart does not wait for that.
            self.owed.append(Owed(kept, life, record, now_s + _STATUS_PATIENCE_S))
            self._promote(kept)
        else:
            self._close_record(kept, life, record)
        self._restart_group(kept, cause, str(record["next"]))
        self.groups.kill(kept.name) if self._is_grouped(kept) else None
        if cause != "died":
            self._sweep(kept, life)
        self._forget_if_unplanned(kept)

    def _close_record(self, kept: Kept, life: Life, record: "dict[str, Any]") -> None:
        records = [record]
        spare = kept.spare
        if spare is not None and kept.state == lifecycle.WAITING and spare.go >= 0:
            records.append({"k": "go", "worker": kept.name, "n": spare.n})
            self._promote(kept, is_recorded=True)
        self.journal.add(*records)
        if not life.is_ours:
            life.close()
        words = _status_words(record["status"])
        if record["cause"] == "died":
            after = {
                "restart": "restarting",
                "none": "done",
                "down": "leaving it down (restart.limit)",
            }.get(record["next"], f"again in {record['delay_s']:.1f} s")
            self.house.say(
                f"worker {kept.name} (process {life.pid}) died: {words} after {record['lived_s']:.1f} s; {after}"
            )
        else:
            self.house.say(
                f"worker {kept.name} (process {life.pid}) ended: {words} ({record['cause']})"
            )

    def _after_unasked(self, kept: Kept, action: str, delay_s: float, now_s: float) -> None:
        if action == "restart":
            self._step(kept, lifecycle.DIED_RESTART)
            kept.why = ""
        elif action in ("delay", "slow"):
            self._step(kept, lifecycle.DIED_DELAY)
            kept.due_s = now_s + delay_s
            kept.why = (
                "dies at once, again and again"
                if action == "delay"
                else "restart limit reached, trying slowly"
            )
        elif action == "down":
            self._step(kept, lifecycle.DIED_DOWN)
            kept.why = "restart limit reached, left down"
        else:
            self._step(kept, lifecycle.DIED_NONE)
            kept.why = "ended by itself"
        if action in ("down", "none") and kept.plan["essential"] and not self.is_ending:
            self.house.say(f"worker {kept.name} is essential and will not come back: the node ends")
            self.down(by="essential", status=1)

    def _restart_group(self, dead: Kept, cause: str, following: str) -> None:
        if cause not in ("died", "remedy") or following == "none" or self.is_ending:
            return
        for name in tree.restart_with(self.plan["groups"], dead.name):
            mate = self.workers.get(name)
            if mate is not None and mate.state in (lifecycle.STARTING, lifecycle.RUNNING):
                self._stop(mate, "group", "restart")

    def _sweep(self, kept: Kept, life: Life) -> None:
        """Kill what the worker left behind in other sessions: whoever carries its mark."""
        if kept.plan["kind"] == "container" and kept.after_stop == "restart" and not self.is_ending:
            return
        for pid in procfs.pids():
            env = procfs.environ(pid) if pid != life.pid else {}
            if env.get("HOLDFAST_NODE") == self.node and env.get("HOLDFAST_WORKER") == kept.name:
                held = {x.pid for x in (kept.life, kept.spare) if x}
                if pid not in held and env.get("HOLDFAST_START") == str(life.n):
                    try:
                        os.kill(pid, signal.SIGKILL)
                    except ProcessLookupError:
                        pass

    def _forget_if_unplanned(self, kept: Kept) -> None:
        """A worker that is not in the plan any more goes once its processes are gone."""
        if kept.life is None and kept.spare is None and not self._is_planned(kept.name):
            self.workers.pop(kept.name, None)
            self.waiting.pop(kept.name, None)
            self._drop_sockets(kept)
            self.groups.remove(kept.name)

    def _is_planned(self, name: str) -> bool:
        return any(entry["name"] == name for entry in self.plan["workers"])

    def _settle_owed(self, now_s: float) -> None:
        for owed in self.owed[:]:
            status = self._status_of(owed.life)
            if status is not None or now_s >= owed.until_s:
                self.owed.remove(owed)
                owed.record["status"] = status
                self._close_record(owed.kept, owed.life, owed.record)

    # -- spares ------------------------------------------------------------------------------------

    def _promote(self, kept: Kept, *, is_recorded: bool = False) -> None:
        """Let the spare serve."""
        spare = kept.spare
        if spare is None or spare.go < 0 or kept.state != lifecycle.WAITING:
            return
        if not is_recorded:
            self.journal.add({"k": "go", "worker": kept.name, "n": spare.n})
        try:
            os.write(spare.go, b"g")
        except OSError:
            return  # it is dead; its own death event starts a cold one
        os.close(spare.go)
        spare.go = -1
        spare.role = "main"
        spare.is_ready = False
        kept.life, kept.spare = spare, None
        self._step(kept, lifecycle.SPAWNED)
        kept.spare_due_s = 0.0
        self._begin_readiness(kept, spare)

    def _spare_died(self, kept: Kept, life: Life) -> None:
        self._record_spare_death(kept, life, self._status_of(life))
        if not life.is_ours:
            life.close()

    def _record_spare_death(self, kept: Kept, life: Life, status: "int | None") -> None:
        asked = life.go < 0
        self.journal.add({
            "k": "exit", "worker": kept.name, "n": life.n, "role": "spare", "pid": life.pid, "status": status,
            "lived_s": round(max(0.0, time.monotonic() - life.started_mono_s), 4),
            "cause": "stop" if asked or not life.is_ours else "died", "deaths": 0, "next": "none", "delay_s": 0.0,
        })  # fmt: skip
        if kept.spare is life:
            kept.spare = None
        if kept.up and kept.plan["spare"]:
            kept.spare_deaths += 1
            delay_s = min(
                _SPARE_DELAY_MAX_S, _SPARE_DELAY_S * 2.0 ** min(kept.spare_deaths - 1, 10)
            )
            kept.spare_due_s = time.monotonic() + delay_s
        self._forget_if_unplanned(kept)

    def _end_spare(self, kept: Kept) -> None:
        kept.spare_due_s = 0.0
        if kept.spare is not None and kept.spare.descriptor >= 0:
            if kept.spare.go >= 0:
                os.close(kept.spare.go)
                kept.spare.go = -1
            pidfd.send(kept.spare.descriptor, signal.SIGKILL)

    def _start_spare(self, kept: Kept) -> None:
        kept.spare_due_s = 0.0
        if kept.spare is not None or not kept.up or self.is_ending or not kept.is_ready():
            return
        kept.n += 1
        life = Life(kept.n, "spare")
        self.journal.add({"k": "intent", "worker": kept.name, "n": life.n, "role": "spare"})
        if self._spawn(kept, life):
            kept.spare = life
            self.journal.add(self._start_record(kept.name, life))

    # -- starting ----------------------------------------------------------------------------------

    def _startable(self) -> "list[Kept]":
        """The workers that may start now, in order, at most one turn's worth."""
        found = []
        ready: dict[str, bool] = {}
        gone: dict[str, bool] = {}
        for name in self.waiting:
            kept = self.workers[name]
            plan = kept.plan
            if self.is_ending or not kept.up:
                continue
            if plan["after"] or plan["requires"]:
                if not ready:
                    ready = {n: k.is_ready() for n, k in self.workers.items()}
                    gone = {n: k.is_down_for_good() for n, k in self.workers.items()}
                may, blocker = tree.may_start(plan, ready, gone)
                if not may:
                    kept.why = f"waits for {blocker}"
                    continue
            mates = tree.restart_with(self.plan["groups"], name) if self.plan["groups"] else []
            if any(
                m in self.workers and self.workers[m].state == lifecycle.STOPPING for m in mates
            ):
                kept.why = "waits for its group to stop"
                continue
            found.append(kept)
            if len(found) >= _SPAWNS_A_TURN:
                break
        return found

    def _start_waiting(self) -> None:
        if not self.waiting:
            return
        batch = self._startable()
        if not batch:
            return
        begun = []
        for kept in batch:
            if kept.spare is not None and kept.spare.go >= 0:
                self._promote(kept)
                continue
            kept.n += 1
            begun.append((kept, Life(kept.n, "main")))
        self.journal.add(
            *({"k": "intent", "worker": k.name, "n": life.n, "role": "main"} for k, life in begun)
        )
        started = []
        for kept, life in begun:
            if self._spawn(kept, life):
                kept.life = life
                self._step(kept, lifecycle.SPAWNED)
                started.append((kept, life))
        self.journal.add(*(self._start_record(kept.name, life) for kept, life in started))
        for kept, life in started:
            self._begin_readiness(kept, life)

    def _begin_readiness(self, kept: Kept, life: Life) -> None:
        kept.why = ""
        if self._counts_as_ready(kept, life):
            self.ready(kept, life.n, is_plain=True)

    def _counts_as_ready(self, kept: Kept, life: Life) -> bool:
        return life.is_ready or kept.plan["ready"]["kind"] == "none"

    def ready(self, kept: Kept, n: int, *, is_plain: bool = False) -> None:
        """A worker can serve (``is_plain``: nobody checks, having a process is enough)."""
        life = kept.life
        if life is None or life.n != n or kept.state not in (lifecycle.STARTING, lifecycle.RUNNING):
            return
        self._step(kept, lifecycle.READY)
        if not is_plain and not life.is_ready:
            self.journal.add({"k": "ready", "worker": kept.name, "n": n})
        life.is_ready = True
        if kept.plan["spare"] and kept.spare is None and not kept.spare_due_s:
            kept.spare_due_s = time.monotonic() + 0.05

    def _is_grouped(self, kept: Kept) -> bool:
        limits = kept.plan["limits"]
        return bool(limits["memory_bytes"] or limits["cpu_share"] or limits["processes"])

    def _spawn(self, kept: Kept, life: Life) -> bool:
        """Start one process; False when that is impossible (it then counts as a death)."""
        plan = kept.plan
        env = {
            **self.plan["env"],
            **plan["env"],
            "HOLDFAST_NODE": self.node,
            "HOLDFAST_RUN": self.run_dir,
            "HOLDFAST_WORKER": plan["name"],
            "HOLDFAST_START": str(life.n),
            "HOLDFAST_ROLE": life.role,
            "NOTIFY_SOCKET": f"{self.run_dir}/{layout.NOTIFY}",
        }
        if plan["faulthandler"]:
            env["PYTHONFAULTHANDLER"] = "1"
        if plan["kind"] == "container":
            env["HOLDFAST_PULSE"] = f"{self.run_dir}/{layout.pulse(plan['name'], life.role)}"
        request = Request(plan["argv"], env, plan["directory"])
        go_read = -1
        try:
            if plan["log"]:
                request.stdout = f"{self.run_dir}/{layout.fifo(plan['name'], 'out')}"
                request.stderr = f"{self.run_dir}/{layout.fifo(plan['name'], 'err')}"
                if life.role == "main":
                    talk.tell(
                        self.run_dir, "logger", {"do": "start", "worker": plan["name"], "n": life.n}
                    )
            request.user, request.umask, request.limits = (
                plan["user"],
                plan["umask"],
                plan["limits"],
            )
            if self._is_grouped(kept):
                request.cgroups = self.groups.prepare(plan["name"], plan["limits"])
            request.listeners = self._listeners(kept)
            if life.role == "spare":
                go_read, life.go = os.pipe2(os.O_CLOEXEC)
                request.go = go_read
            life.pid = spawn(request)
        except OSError as error:
            self._spawn_failed(kept, life, _spawn_words(plan["argv"], error))
            return False
        finally:
            if go_read >= 0:
                os.close(go_read)
        life.descriptor = os.pidfd_open(
            life.pid
        )  # our own child: it cannot be gone before we wait for it
        life.started_mono_s, life.started_unix_s = time.monotonic(), time.time()
        life.entry = kept.entry
        reading = procfs.reading(life.pid)
        life.ticks = reading.start_ticks if reading else 0
        if self.resets_oom:
            _write_quietly(f"/proc/{life.pid}/oom_score_adj", b"0")
        self.lives[life.descriptor] = (kept, life)
        self.epoll.register(life.descriptor, select.EPOLLIN)
        return True

    def _spawn_failed(self, kept: Kept, life: Life, words: str) -> None:
        life.close()
        self.house.say(f"worker {kept.name} cannot be started: {words}")
        if life.role == "spare":
            self.journal.add({"k": "void", "worker": kept.name, "n": life.n})
            kept.spare_due_s = time.monotonic() + _SPARE_DELAY_MAX_S
            return
        now_s = time.monotonic()
        decision = after_death(
            kept.plan["restart"], kept.history, now_s=now_s, lived_s=0.0, clean=False,
            chance=self.chance(),
        )  # fmt: skip
        kept.history = decision.history
        # At once makes no sense for what the kernel has just refused.
        action = "delay" if decision.action == "restart" else decision.action
        delay_s = max(decision.delay_s, kept.plan["restart"]["delay_s"])
        self._after_unasked(kept, action, delay_s, now_s)
        kept.why = words
        self.journal.add({
            "k": "failed_spawn", "worker": kept.name, "n": life.n, "error": words, "next": action,
            "delay_s": round(delay_s, 3), "deaths": len(kept.history.deaths), "history": kept.history.deaths,
            "short": kept.history.short_lives, "restarts": kept.restarts,
        })  # fmt: skip

    def _listeners(self, kept: Kept) -> "list[tuple[str, int]]":
        found = []
        for wanted in kept.plan["listen"]:
            key = f"listen.{kept.name}.{wanted['name']}"
            if key not in self.sockets:
                self.sockets[key] = listen(wanted)
                talk.tell(self.run_dir, "anchor", {"do": "hold", "name": key}, (self.sockets[key],))
            found.append((wanted["name"], self.sockets[key]))
        return found

    def _drop_sockets(self, kept: Kept) -> None:
        for key in [k for k in self.sockets if k.startswith(f"listen.{kept.name}.")]:
            os.close(self.sockets.pop(key))
            talk.tell(self.run_dir, "anchor", {"do": "drop", "name": key})

    # -- time --------------------------------------------------------------------------------------

    def _timers(self, now_s: float) -> None:
        for kept in list(self.workers.values()):
            if kept.due_s and kept.due_s <= now_s:
                kept.due_s = 0.0
                self._step(kept, lifecycle.WANT_UP)
            if kept.kill_due_s and kept.kill_due_s <= now_s and kept.life:
                self.house.say(
                    f"worker {kept.name} did not end within {kept.plan['stop']['grace_s']:g} s; killing it"
                )
                self._kill_life(kept, kept.life)
            if kept.spare_due_s and kept.spare_due_s <= now_s:
                self._start_spare(kept)
        if self.owed:
            self._settle_owed(now_s)

    # -- the end -----------------------------------------------------------------------------------

    def down(self, *, by: str, status: int = 0, force: bool = False) -> None:
        """Stop everything, then let the anchor end the node."""
        if not self.is_ending:
            self.is_ending = True
            self.end_status = status
            self.journal.add({"k": "down", "by": by})
            self.house.say(f"the node goes down ({by})")
        if force:
            for kept in self.workers.values():
                self._end_spare(kept)
                if kept.life is not None:
                    self._stop(kept, "down", "down", kill=True)

    def _go_down(self) -> None:
        """Stop the next wave; when nobody is left, tell the anchor."""
        if not self.is_ending or self.end_told:
            return
        alive = [kept for kept in self.workers.values() if kept.life or kept.spare]
        for wave in tree.stop_order([kept.plan for kept in self.workers.values()]):
            members = [self.workers[name] for name in wave]
            for kept in members:
                kept.up = False
                kept.due_s = 0.0
                self._end_spare(kept)
                if kept.life is None and kept.state in (lifecycle.WAITING, lifecycle.BACKOFF):
                    self._step(kept, lifecycle.WANT_DOWN)
                elif kept.state in (lifecycle.STARTING, lifecycle.RUNNING):
                    self._stop(kept, "down", "down")
                elif kept.life is not None:
                    kept.after_stop = "down"
            if any(kept.life or kept.spare for kept in members):
                return
        if not alive and not self.owed:
            self._sweep_node()
            self.end_told = talk.tell(
                self.run_dir, "anchor", {"do": "end", "status": self.end_status}
            )

    def _sweep_node(self) -> None:
        """Nothing that carries the node's mark may outlive it."""
        for pid in procfs.pids():
            if procfs.environ(pid).get("HOLDFAST_NODE") == self.node and pid != os.getpid():
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
        for kept in self.workers.values():
            self.groups.remove(kept.name)


def _status_words(status: "int | None") -> str:
    if status is None:
        return "status unknown"
    if os.WIFSIGNALED(status):
        return f"killed by {signal.name(os.WTERMSIG(status))}"
    return f"exit status {os.WEXITSTATUS(status)}"


def _spawn_words(argv: "list[str]", error: OSError) -> str:
    return f"{error.filename or argv[0]}: {error.strerror}"


def _write_quietly(path: str, data: bytes) -> None:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        os.write(descriptor, data)
        os.close(descriptor)
    except OSError:
        pass  # it is dead already, or belongs to another user


def main(argv: "list[str]") -> int:
    """Be the keeper of the node in ``argv[1]``."""
    raise_open_files()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    keeper = Keeper(argv[1])
    keeper.tell_pipes()
    keeper.run()
    return 0


if sys.platform != "linux":
    raise SystemExit("Holdfast needs Linux")
