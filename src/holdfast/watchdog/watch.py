"""The watchdog's day: what it does at a tick, at a look, and when somebody says something.

It senses, raises flags, asks for evidence, orders remedies and verifies them; each is a module of its own, and this one
only puts them together. It kills nothing but house processes that do not beat: workers are the keeper's.
"""

import sys
import time

from holdfast.core.detect import starvation
from holdfast.core.ladder import WELL
from holdfast.linux import cgroup, files, places, procfs, talk
from holdfast.linux import system as os
from holdfast.linux.house import House, inherited, raise_open_files
from holdfast.linux.revive import AnchorWatch, reap_revived
from holdfast.model.errors import StateError
from holdfast.watchdog import digest, holdings, vitals
from holdfast.watchdog.box import Box
from holdfast.watchdog.cases import NODE, Cases
from holdfast.watchdog.deaths import Deaths
from holdfast.watchdog.engine import READ, Engine
from holdfast.watchdog.good import Good
from holdfast.watchdog.house_watch import HouseWatch
from holdfast.watchdog.hunger import Quotas
from holdfast.watchdog.isolating import Isolating
from holdfast.watchdog.keeper_line import KeeperLine
from holdfast.watchdog.notify import NotifySocket, worker_of
from holdfast.watchdog.orders import Orders
from holdfast.watchdog.peers import Peers
from holdfast.watchdog.readiness import Readiness
from holdfast.watchdog.samples import Sampler
from holdfast.watchdog.senses import Look, Senses
from holdfast.watchdog.tail import Tail
from holdfast.watchdog.wards import Roll
from holdfast.watchdog.witness import Witness
from holdfast.wire import layout

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection
    from typing import Any

    from holdfast.model.plan import WatchPlan
    from holdfast.watchdog.wards import Ward

_TICK_S = 1.0
#: Looks at workers with a heartbeat, a memory limit or a flag.
_LOOK_S, _LONGEST_LOOK_S = 0.25, 1.0
#: Looks may cost this share of a processor; beyond that they become rarer.
_LOOK_SHARE = 0.01
_DISK_S = 5.0
#: Memory that climbs is looked at this closely, of so many workers at once.
_CLOSE_S, _CLOSE = 0.05, 8
_LOGS_S = 2.0
#: Looks at everybody at once: on a box where processes come and go all the time, no more than this of a processor.
_SWEEP_SHARE = 0.001
#: What evidence has slowed down is as quick again after this.
_DISTURBED_S = 1.0
_ORDERS_S = 5.0
#: Notifications of processes that are not (yet) known to be workers: a spare, or a start that is not journalled yet.
_EARLY = 1000
_NOTIFIED = "watchdog.notified"  # worker and life of each READY=1


class Watchdog:
    """Everything, put together."""

    def __init__(self, run_dir: str) -> None:
        self.run_dir = run_dir
        self.house = House(run_dir, "watchdog")
        self.engine = Engine(self.house.say)
        kept = inherited()
        self.notify = NotifySocket(run_dir, kept.pop(layout.NOTIFY, -1))
        for descriptor in kept.values():
            os.close(descriptor)
        state_dir = os.path.realpath(f"{run_dir}/{layout.STATE_LINK}")
        node = places.node_hash(state_dir)
        self.keeper = KeeperLine(self.engine, run_dir)
        self.witness = Witness(self.engine, run_dir)
        self.roll = Roll(self._life_begins)
        self.readiness = Readiness(self.engine, run_dir, self.keeper)
        self.senses = Senses(self.engine, run_dir, node)
        self.feeler = vitals.Feeler()
        self.feeler.quotas = Quotas(node)
        self.peers = Peers()
        self.sampler = Sampler(run_dir, self.feeler)
        self.cases = Cases(self.engine, run_dir, self.keeper, self.roll)
        self.box = Box(self.engine, self.roll, self.cases, self.feeler, self._sweep)
        self.orders = Orders(self.engine, run_dir, evidence_command(), self._evidence_done)
        self.good = Good(self.roll, self.orders)
        self.isolating = Isolating(self.engine, self.keeper, self.orders)
        self.deaths = Deaths(run_dir, node, self.roll, self.orders, self.cases)
        self.tail = Tail(run_dir)
        self.anchor = AnchorWatch(run_dir)
        self.mates = HouseWatch(run_dir, self.house, self._mate_hangs, self.senses.processors)
        self.socket = talk.listen_datagram(run_dir, "watchdog")
        self.early: dict[int, dict[str, str]] = {}
        self.notified: set[tuple[str, int]] = set()
        self.is_ending = self.is_held = self.seeks_anchor = False
        self.next_tick_s = self.next_look_s = time.monotonic()
        self.disk_at_s = self.orders_at_s = self.logs_at_s = self.sweep_at_s = 0.0
        self.has_cared = self.logs_asked = False
        self.close: list[Ward] = []  #: whose memory climbs
        self.last_look_s = self.next_tick_s
        self.watch: WatchPlan
        self._load()

    def _load(self) -> None:
        self._load_notified()
        self._read_plan()
        self.cases.load()
        self.deaths.load()
        self._read_journal()
        self.deaths.resume()
        self.orders.find()
        self.orders.adopt()
        self.orders.start_due()
        self._look_at_anchor()
        self.engine.watch(self.notify.fileno(), READ, lambda _: self.notify.read(self._notified))
        self.engine.watch(self.socket.fileno(), READ, lambda _: self._told())
        self.engine.at(self.next_tick_s, self._tick)
        self.engine.at(self.next_look_s, self._look)

    def run(self) -> None:
        """Watch until killed."""
        self.engine.run()

    # -- time --------------------------------------------------------------------------------------

    def _tick(self) -> None:
        now_s = time.monotonic()
        lag_s = starvation.own_lag_s(self.next_tick_s, now_s)
        self.next_tick_s = max(self.next_tick_s + _TICK_S, now_s + _TICK_S / 2)
        self.engine.at(self.next_tick_s, self._tick)
        self.house.next_beat_ns = 0
        self.house.beat()
        if lag_s:
            self.senses.lost(list(self.roll.by_name.values()), lag_s)
        self._look_at_anchor()
        self.mates.tick(now_s, lag_s, self.watch["house_timeout_s"])
        self._read_journal()
        self.keeper.tick(now_s)
        self.deaths.tick(now_s)
        if not self.is_ending:
            self.good.tick(now_s)
            self.box.tick(now_s)
        if now_s >= self.orders_at_s:
            self.orders_at_s = now_s + _ORDERS_S
            self.orders.find()
            self.orders.start_due()
            self._tidy()
        if now_s >= self.disk_at_s:
            self.disk_at_s = now_s + _DISK_S
            if not self.is_ending:
                self.box.look_at_disk()

    def _look(self) -> None:
        began_s = time.monotonic()
        cpu_s = time.thread_time()
        passed_s, self.last_look_s = began_s - self.last_look_s, began_s
        cared = self._feel_cared(began_s, passed_s) if self.has_cared else []
        self.sampler.tick(self.roll.by_name, min(passed_s, 2.0), self.watch["sample_s"])
        if not self.is_ending:
            for ward in cared:
                self._look_at(ward, began_s)
            for ward in self.sampler.felt:
                if ward.care is None:
                    self._look_at(ward, began_s)
            for name in self.cases.workers():
                found = self.roll.by_name.get(name)
                if found is not None and found.care is None:
                    vitals.feel_now(self.feeler, found, began_s)
                    self._look_at(found, began_s)
            for name, ward in list(self.deaths.looping.items()):
                if ward.looping and self.roll.by_name.get(name) is ward:
                    self.cases.look(name, "crash_loop", self.senses.loop(ward, began_s), ward.n)
                else:
                    del self.deaths.looping[name]
        cost_s = time.thread_time() - cpu_s
        self._look_closely_at(cared or self.sampler.felt)
        busy = bool(cared) or len(self.cases) > 0 or self.sampler.is_quick
        if busy:
            pause_s = min(_LONGEST_LOOK_S, max(_LOOK_S, cost_s / _LOOK_SHARE))
            self.next_look_s = time.monotonic() + pause_s
        else:
            self.next_look_s = self.next_tick_s  # waking once is cheaper than twice
        self.engine.at(self.next_look_s, self._look)

    def _feel_cared(self, now_s: float, passed_s: float) -> "list[Ward]":
        """Take in what those say who are asked for signs of life; return them.

        Whose evidence is being taken is stopped for that, and on a crowded box for seconds: that silence is ours.
        """
        cared = [ward for ward in self.roll.by_name.values() if ward.care is not None]
        self.senses.gather(cared, now_s)
        for name in self.orders.live():
            disturbed = self.roll.by_name.get(name)
            if disturbed is not None:
                self.feeler.disturb(disturbed, now_s + _DISTURBED_S)
                for fork in disturbed.forks.living.values() if disturbed.forks is not None else ():
                    self.feeler.disturb(fork, now_s + _DISTURBED_S)
                self.senses.lost([disturbed], passed_s)
        for ward in cared:
            vitals.feel_now(self.feeler, ward, now_s)
        self.peers.tick(cared, now_s)
        self._ask_logs(cared, now_s)
        return cared

    def _look_at(self, ward: "Ward", now_s: float) -> None:
        seen = self.senses.looks(ward, now_s)
        for flag, look in seen:
            self.cases.look(ward.name, flag, look, ward.n if ward.pid else 0)
        signs: Collection[str] | None = ward.vitals.signs if ward.vitals is not None else None
        if ward.forks is not None:
            signs = ward.forks.signs(ward)
        for flag in list(signs) if signs else ():
            look = self._felt(ward, flag, now_s)
            self.cases.look(ward.name, flag, look, ward.n if ward.pid else 0)
        for case in self.cases.of(ward.name):
            if case.flag in vitals.FLAGS:
                if not signs or case.flag not in signs:
                    look = self._felt(ward, case.flag, now_s)
                    self.cases.look(ward.name, case.flag, look, ward.n if ward.pid else 0)
            elif case.flag == "crash_loop":
                self.cases.look(ward.name, case.flag, self.senses.loop(ward, now_s), ward.n)
            elif all(flag != case.flag for flag, _ in seen):
                # The plan does not ask for this any more.
                self.cases.look(ward.name, case.flag, Look(WELL), ward.n)

    def _felt(self, ward: "Ward", flag: str, now_s: float) -> Look:
        if ward.forks is not None:
            return ward.forks.felt(self.feeler, ward, flag, now_s)
        return self.feeler.look(ward, flag, now_s)

    def _look_closely_at(self, wards: "list[Ward]") -> None:
        """Go on looking at workers whose memory climbs, many times a second."""
        was_idle = not self.close
        known = {ward.name for ward in self.close}
        for ward in wards:
            found = ward.vitals
            if found is not None and ward.name not in known and 0 < found.growth.pace_s() < _LOOK_S:
                self.close.append(ward)
        del self.close[_CLOSE:]
        if was_idle and self.close:
            self.engine.at(time.monotonic() + _CLOSE_S, self._look_closely)

    def _look_closely(self) -> None:
        now_s = time.monotonic()
        still = []
        for ward in self.close:
            # Its number of calls under way may be a quarter of a second old, which is young enough.
            if vitals.feel_now(self.feeler, ward, now_s) and ward.vitals is not None:
                if ward.vitals.signs and not self.is_ending:
                    self._look_at(ward, now_s)
                if 0 < ward.vitals.growth.pace_s() < _LOOK_S:
                    still.append(ward)
        self.close = still
        if still:
            self.engine.at(time.monotonic() + _CLOSE_S, self._look_closely)

    def _sweep(self) -> None:
        """Look at every worker now: something happens on this box."""
        now_s = time.monotonic()
        if now_s < self.sweep_at_s or self.is_ending:
            return
        cpu_s = time.thread_time()
        wards = [ward for ward in self.roll.by_pid.values() if ward.care is None]
        for ward in wards:
            self.sampler.glance(ward)
            if ward.vitals is not None and ward.vitals.signs:
                self._look_at(ward, now_s)
        self._look_closely_at(wards)
        self.sweep_at_s = now_s + (time.thread_time() - cpu_s) / _SWEEP_SHARE

    def _ask_logs(self, cared: "list[Ward]", now_s: float) -> None:
        """Ask how long the logs are, on the second thread: they are on a disk, and a disk may hang."""
        if now_s < self.logs_at_s or self.logs_asked:
            return
        self.logs_at_s, self.logs_asked = now_s + _LOGS_S, True
        asked = [
            (ward, paths, self.feeler.is_loud(ward))
            for ward in cared
            if (paths := holdings.logs_of(ward, self.cases.state_dir))[0]
        ]

        def answered(found: object) -> None:
            self.logs_asked = False
            if isinstance(found, list):
                at_s = time.monotonic()
                for (ward, *_), (written, alike) in zip(asked, found, strict=True):
                    self.feeler.log(ward, written, at_s, alike)

        self.engine.aside(
            lambda: [holdings.heard(paths, is_loud) for _, paths, is_loud in asked], answered
        )

    # -- the journal and the plan ------------------------------------------------------------------

    def _read_plan(self) -> None:
        try:
            plan = digest.read(f"{self.run_dir}/{layout.PLAN}")
        except StateError as error:
            self.engine.say(str(error))
            if not hasattr(self, "watch"):
                raise
            return  # a plan that cannot be read never replaces one that can
        self.watch = plan.watch
        for name in self.roll.by_name.keys() - set(plan.names):
            self.deaths.close(self.roll.by_name[name])
        self.roll.adopt_plan(plan)
        self.deaths.verify_s = self.watch["verify_s"]
        self.cases.go_by(self.orders, self.watch, plan.state_dir)
        self.box.go_by(self.watch)
        self.isolating.adopt_plan(plan)
        self.has_cared = any(ward.spec.needs_care() for ward in self.roll.by_name.values())
        self.box.has_cared = self.has_cared
        for name in self.cases.workers() - self.roll.by_name.keys() - {NODE}:
            self.cases.release(name)
        self.cases.forget_strangers()

    def _read_journal(self) -> None:
        for record in self.tail.read():
            ward = self.roll.record(record)
            self._witness(record)
            self._follow(record, ward)
            self.deaths.note(ward, record)
            self.isolating.record(record)
        self.deaths.settle()
        if not self.is_ending:
            self.isolating.tick(time.monotonic())
        if self.deaths.lately:
            self.orders.start_due(self.deaths.lately)

    def _witness(self, record: "dict[str, Any]") -> None:
        if record.get("k") == "start":
            self.witness.hold(record["worker"], record["n"], record["pid"], record["ticks"])
        elif record.get("k") == "exit":
            self.witness.release(record["worker"], record["n"])

    def _follow(self, record: "dict[str, Any]", ward: "Ward | None") -> None:
        """What a record means for flags."""
        kind = record.get("k")
        if kind == "down":
            self.is_ending = True
            for name in self.cases.workers():
                self.cases.release(name)
        elif ward is None or record["seq"] <= self.deaths.seen:
            return
        elif kind == "order" and record.get("by") == "watchdog":
            self.cases.accepted(ward.name, record.get("flag", ""), record["unix_s"])
        elif kind == "want" and record.get("by") != "watchdog":
            ward.looping = ""
            self.cases.release(ward.name, record["unix_s"])
        elif (kind == "order" and record.get("by") == "user") or (
            kind == "exit"
            and record.get("role") == "main"
            and record.get("cause") in ("stop", "restart", "apply")
        ):
            self.cases.release(ward.name, record["unix_s"])

    def _life_begins(self, ward: "Ward") -> None:
        self.good.begins(ward)
        if ward.spec.memory_bytes and ward.oom_kills is None:
            ward.oom_kills = cgroup.oom_kills(self.senses.node, ward.name)
        if ward.care is None:
            return
        if (ward.name, ward.n) in self.notified:
            ward.care.notified = True
        fields = self.early.pop(ward.pid, None)
        if fields is not None:
            self._take_notification(ward, fields)
        self.readiness.begin(ward)

    # -- what others say ---------------------------------------------------------------------------

    def _told(self) -> None:
        wants_journal = wants_plan = False
        while (received := talk.receive(self.socket)) is not None:
            what, descriptors = received
            for descriptor in descriptors:
                os.close(descriptor)
            wants_journal = wants_journal or what.get("do") == "journal"
            wants_plan = wants_plan or what.get("do") == "plan"
        if wants_plan:
            self._read_plan()
        if wants_plan or wants_journal:
            self._read_journal()

    def _notified(self, pid: int, fields: "dict[str, str]") -> None:
        ward = self._ward_of(pid)
        if ward is None:
            # Its start may be in the journal by now.
            self._read_journal()
            ward = self._ward_of(pid)
        if ward is not None:
            self._take_notification(ward, fields)
        elif len(self.early) < _EARLY:
            self.early.setdefault(pid, {}).update(fields)

    def _ward_of(self, pid: int) -> "Ward | None":
        ward = self.roll.by_pid.get(pid)
        if ward is not None:
            return ward
        session, name = worker_of(pid, self.run_dir)
        return self.roll.by_pid.get(session) or self.roll.by_name.get(name)

    def _take_notification(self, ward: "Ward", fields: "dict[str, str]") -> None:
        care = ward.care
        if care is None:
            return
        now_s = time.monotonic()
        if fields.get("READY") == "1" and not care.notified:
            # On record before the datagram is taken off the queue: it is said only once.
            try:
                files.append(f"{self.run_dir}/{_NOTIFIED}", f"{ward.name} {ward.n}\n".encode())
            except OSError as error:
                self.engine.say(f"cannot note that {ward.name} is ready: {error.strerror}")
            care.notified = True
            if ward.spec.ready["kind"] == "notify" and not care.told_s:
                self.readiness.tell(ward, care)
        if fields.get("STOPPING") == "1":
            care.stopping_s = now_s
        if ward.spec.beat["kind"] == "notify":
            beat = fields.get("WATCHDOG")
            if beat == "trigger":
                care.trigger = True
            elif beat == "1" or "READY" in fields:
                care.silence.sign(now_s)

    def _load_notified(self) -> None:
        try:
            lines = files.read(f"{self.run_dir}/{_NOTIFIED}").decode("utf-8", "replace").split("\n")
        except OSError:
            return
        for line in lines:
            name, _, n = line.rpartition(" ")
            if n.isdigit():
                self.notified.add((name, int(n)))

    def _evidence_done(self, key: str, incident: "str | None") -> None:
        worker = self.cases.evidence_done(key, incident)
        self.isolating.evidence(key, incident)
        ward = self.roll.by_name.get(worker) if worker else None
        if ward is not None and not self.is_ending:
            self._look_at(ward, time.monotonic())  # the remedy does not wait for the next look

    # -- the house and the box ---------------------------------------------------------------------

    def _look_at_anchor(self) -> None:
        reap_revived()
        now_s = time.monotonic()
        if self.anchor.tend(now_s):
            self.engine.watch(self.anchor.descriptor, READ, lambda _: self._anchor_died())
            self.is_held = False  # a new anchor holds nothing yet
        if self.anchor.is_homeless:
            os.exit_now(0)
        if self.anchor.descriptor < 0:
            if not self.seeks_anchor:
                self.seeks_anchor = True
                self.engine.at(now_s + self.anchor.wait_s(), self._seek_anchor)
        elif not self.is_held:
            # False while it has its lock and not yet its socket; tried again at the next tick.
            self.is_held = self.notify.hold()

    def _seek_anchor(self) -> None:
        self.seeks_anchor = False
        self._look_at_anchor()

    def _anchor_died(self) -> None:
        self.engine.say("the anchor died; starting another")
        self.engine.unwatch(self.anchor.descriptor)
        self.anchor.died(time.monotonic())
        self._look_at_anchor()

    def _mate_hangs(self, role: str, pid: int, silent_s: float) -> None:
        says = f"the {role} (process {pid}) has not beaten for {silent_s:.1f} s"
        self.engine.say(f"{says}; killing it")
        unix_s = time.time()
        limit_s = self.watch["house_timeout_s"]
        worker = f"@{role}"
        key = f"flag-{worker}-missed_heartbeat-{int(unix_s * 1000)}"
        self.orders.place({
            "key": key, "kind": "hang", "worker": worker, "n": 0, "pid": pid, "status": None, "lived_s": None,
            "seq": None, "unix_s": unix_s, "deadline_s": 20.0, "live": False,
            "flag": {
                "worker": worker, "flag": "missed_heartbeat", "since_unix_s": unix_s - silent_s, "value": silent_s,
                "limit": limit_s, "says": says, "incident": None, "rung": 0, "phase": "remedy",
            },
        })  # fmt: skip
        self.orders.start_due()

    def _tidy(self) -> None:
        """Forget notifications of processes that are gone, and lives that are over."""
        self.early = {pid: fields for pid, fields in self.early.items() if procfs.start_ticks(pid)}
        path = f"{self.run_dir}/{_NOTIFIED}"
        try:
            if os.stat(path).st_size < 1 << 16:
                return
            lines = {
                f"{ward.name} {ward.n}\n"
                for ward in self.roll.by_name.values()
                if ward.care is not None and ward.care.notified
            }
            files.write_atomic(path, "".join(sorted(lines)).encode())
        except OSError:
            return  # it is not there: nobody has said anything yet


def evidence_command() -> "list[str]":
    """Return how an evidence process is started; the run directory and the key follow."""
    room = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    # Without site: it needs nothing installed, and the start of an interpreter is most of what a bundle takes.
    return [sys.executable, "-P", "-S", f"{room}/evidence/__main__.py"]


def main(argv: "list[str]") -> int:
    """Be the watchdog of the node in ``argv[1]``."""
    raise_open_files()
    Watchdog(argv[1]).run()
    return 0
