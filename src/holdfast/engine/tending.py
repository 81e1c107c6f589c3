"""Who looks after the owners of this machine: sees them born, renews their leases, and settles what the dead leave?

A loop that waits for processes (pidfds) and never for a store; what the store has to hear goes through a thread of its own
(:mod:`holdfast.engine.desk`). Used twice: in the component `steward` of a node, and in a foreman (`holdfast jobs work`). It
knows nothing that is not in the recorders, the store, the plan and the journal, so it can be killed at any instant.
"""

import os
import select
import signal
import time
from collections import deque

from holdfast.engine.beats import Ward, host_and_pid
from holdfast.engine.desk import Case, Desk
from holdfast.engine.dying import Death
from holdfast.engine.recovery import Scene
from holdfast.linux import pidfd, procfs, talk
from holdfast.wire import layout, message

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Protocol

    from holdfast.engine.families import Families
    from holdfast.engine.recovery import Verdict
    from holdfast.engine.schedule import Say
    from holdfast.engine.storm import Storm
    from holdfast.jobs.store import Store

    class Causes(Protocol):
        """Whoever knows why processes died."""

        def read(self) -> None:
            """Take notice of what is new."""

        def of(self, worker: str, pid: int) -> Death | None:
            """Return how this process ended; None: that may still come."""

        def likely(self, worker: str) -> Death:
            """Return the best guess, after waiting in vain."""


#: A death whose cause nobody has written down within this time was nobody's order.
_PATIENCE_S = 1.0
#: How often it is asked for meanwhile; the keeper also says when there is something new.
_ASK_S = 0.02
_LOOK_S = 1.0
#: How often leases are looked at.
_TURN_S = 0.25
#: A worker that runs a job is killed so long before its lease ends.
_MARGIN_NS = 1_000_000_000
#: A worker interrupts a job at its deadline and gives up 2 s later. One that has done neither by now, and not in the span after that,
#: cannot: something in it holds the interpreter. Long enough for a machine on which threads wait seconds for their turn.
_OVERDUE_NS, _OVERDUE_S = 5_000_000_000, 5.0
#: A file that is no recorder, of a process that is gone, is taken for one after this.
_BROKEN_S = 5.0
#: A lane that was asked for gets so long to appear.
_LANE_S = 2.0
_SIGNALS = {"TSTP": signal.SIGTSTP, "TERM": signal.SIGTERM, "TTIN": signal.SIGTTIN}


class Steward:
    """The loop; see the module.

    Args:
        run_dir: Where the recorders are.
        families: The plan.
        store: The queue.
        lease_s: For how long an owner may be silent.
        causes: Who knows why processes died.
        storm: What was killed lately.
        start_lane: Called with the name of a lane that is to run; it may run already.
        say: One line for a person.
        state_dir: Where the incidents of this node are; "" for none.
    """

    def __init__(
        self,
        run_dir: str,
        families: "Families",
        store: "Store",
        lease_s: float,
        causes: "Causes",
        storm: "Storm",
        start_lane: "Callable[[str], None]",
        say: "Say",
        state_dir: str = "",
    ) -> None:
        self._directory = f"{run_dir}/{layout.JOBS}"
        os.makedirs(self._directory, mode=0o700, exist_ok=True)
        self._families = families
        self._lease_ns = int(lease_s * 1e9)
        self._causes = causes
        self._storm = storm
        self._start_lane = start_lane
        self._say = say
        self._boot = procfs.boot_id()
        self.wards: dict[
            str, Ward
        ] = {}  #: by owner; those that are dead, too, until they are recovered
        self._dying: list[Ward] = []
        #: Died while it ran nothing: worker, pid, and until when it is asked whether it was killed.
        self._idle: list[tuple[str, int, float]] = []
        #: By owner, what ran past its deadline, and since when that is known.
        self._overdue: dict[str, tuple[frozenset[int], float]] = {}
        self._broken: dict[str, float] = {}
        self._asked_lanes: dict[str, float] = {}
        self._by_descriptor: dict[int, Ward] = {}
        self._look_s = 0.0
        self._told: deque[tuple[Any, ...]] = deque()
        self._bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._socket = talk.listen_datagram(run_dir, f"{layout.JOBS}/steward")
        self.epoll = select.epoll()
        self.epoll.register(self._socket.fileno(), select.EPOLLIN)
        self.epoll.register(self._bell, select.EPOLLIN)
        self.desk = Desk(
            store, lease_s, run_dir, state_dir, families, self.wards, self._from_desk, say
        )
        self._look(time.monotonic())
        self.desk.start()

    # -- the loop ----------------------------------------------------------------------------------------

    def turn(self, timeout_s: float) -> "list[int]":
        """Wait for something to happen, deal with it; return readable descriptors that are not the steward's."""
        now_s = time.monotonic()
        if now_s >= self._look_s:
            self._look(now_s)
        self._check_leases(now_s)
        self._judge(now_s)
        others = []
        for descriptor, _ in self.epoll.poll(self._wait_s(now_s, timeout_s)):
            if descriptor == self._socket.fileno():
                self._hear()
            elif descriptor == self._bell:
                self._take_told()
            elif descriptor in self._by_descriptor:
                self._died(self._by_descriptor[descriptor])
            else:
                others.append(descriptor)
        return others

    @property
    def is_busy(self) -> bool:
        """Whether somebody who died is not recovered yet."""
        return self.desk.is_busy or any(not ward.is_alive for ward in list(self.wards.values()))

    def wake(self) -> None:
        """Make :meth:`turn` return; from any thread, or a signal's handler."""
        os.eventfd_write(self._bell, 1)

    def finish(self, within_s: float) -> None:
        """Settle what died until now, as far as that is possible in so many seconds; then end."""
        until_s = time.monotonic() + within_s
        self._look(time.monotonic())
        while self.is_busy and time.monotonic() < until_s:
            self.turn(_ASK_S)
        if not self.desk.close():
            return  # the store hangs, and its thread has what we would close
        for ward in self.wards.values():
            ward.close()
        self.wards.clear()
        self.epoll.close()
        self._socket.close()
        os.close(self._bell)

    def _wait_s(self, now_s: float, timeout_s: float) -> float:
        wait_s = min(timeout_s, self._look_s - now_s, _TURN_S)
        if self._dying or self._idle:
            wait_s = min(wait_s, _ASK_S)
        return max(0.0, wait_s)

    def _hear(self) -> None:
        while True:
            try:
                received = self._socket.recv(4096)
            except BlockingIOError:
                return
            words = received.decode("utf-8", "replace").strip()
            if words.startswith("{"):
                words = str((message.decode(received) or {}).get("do", ""))
            if words.startswith("born "):
                self._find(words[5:], time.monotonic())
                self.desk.wake()
            elif words == "journal":
                self._causes.read()
            elif words == "wake":
                self._look(time.monotonic())
                self.desk.wake()

    # -- owners ------------------------------------------------------------------------------------------

    def _look(self, now_s: float) -> None:
        """Look at everything that nobody tells: new recorders, the plan, the journal, the house."""
        self._look_s = now_s + _LOOK_S
        self._families.look()
        self._causes.read()
        self._storm.look_at_house(now_s)
        for name in os.listdir(self._directory):
            if name.startswith("."):
                self._clear(name)
            elif name not in self.wards:
                self._find(name, now_s)
        self._check_deadlines(now_s)

    def _clear(self, name: str) -> None:
        """Remove a recorder whose maker was killed before it was whole."""
        named = host_and_pid(name)
        if named is not None and not procfs.start_ticks(named[1]):
            try:
                os.unlink(f"{self._directory}/{name}")
            except FileNotFoundError:
                pass

    def _find(self, owner: str, now_s: float) -> None:
        named = host_and_pid(owner)
        if named is None or owner in self.wards:
            return
        try:
            ward = Ward(f"{self._directory}/{owner}", time.monotonic_ns())
        except FileNotFoundError:
            return  # settled since somebody named it
        except (ValueError, OSError) as error:
            self._find_broken(owner, named[1], now_s, str(error))
            return
        self._broken.pop(owner, None)
        self.wards[owner] = ward
        self._asked_lanes.pop(ward.worker, None)
        if ward.descriptor >= 0:
            self._by_descriptor[ward.descriptor] = ward
            self.epoll.register(ward.descriptor, select.EPOLLIN)
            self._say("runs jobs", worker=ward.worker, pid=ward.pid)
        else:
            ward.died_s = now_s
            self._dying.append(ward)

    def _find_broken(self, owner: str, pid: int, now_s: float, why: str) -> None:
        """Wait until whoever left a file that tells nothing is surely gone; then its jobs go back, and nobody is blamed."""
        since_s = self._broken.setdefault(owner, now_s)
        if now_s - since_s < _BROKEN_S or procfs.start_ticks(pid):
            return
        self._broken[owner] = float("inf")  # once
        self._say("a flight recorder cannot be read; its jobs go back", owner=owner, why=why)
        self.desk.recover(Case(owner, None, self._scene("?", pid, Death(), 0, [])))

    def _died(self, ward: Ward) -> None:
        ward.died_s = time.monotonic()
        self.epoll.unregister(ward.descriptor)
        del self._by_descriptor[ward.descriptor]
        self._dying.append(ward)
        if not ward.is_running():
            self._idle.append((ward.worker, ward.pid, ward.died_s + _PATIENCE_S))

    # -- verdicts ----------------------------------------------------------------------------------------

    def _judge(self, now_s: float) -> None:
        """Hand the dead over to be recovered, as soon as it is known whether their end was meant."""
        if not (self._dying or self._idle):
            return
        self._causes.read()
        for one in self._idle[:]:
            worker, pid, until_s = one
            death = self._causes.of(worker, pid)
            if death is not None and death.is_kill:
                self._storm.note(now_s, worker)
            if death is not None or now_s >= until_s:
                self._idle.remove(one)
        for ward in self._dying[:]:
            death = self._death_of(ward, now_s)
            if death is not None:
                self._dying.remove(ward)
                flight = ward.flight()
                ran = [one.jid for one in flight.running] if flight is not None else []
                scene = self._scene(ward.worker, ward.pid, death, ward.rss_bytes, ran, ward.culprits)  # fmt: skip
                self.desk.recover(Case(ward.owner, ward, scene))
                if death.is_kill and ran and not ward.is_meant:
                    self._storm.note(now_s, ward.worker, ran)

    def _death_of(self, ward: Ward, now_s: float) -> "Death | None":
        """Return how it died; None: that may still be told."""
        if ward.boot != self._boot:
            return Death("boot")
        death = self._causes.of(ward.worker, ward.pid)
        if death is not None:
            return death
        if not ward.is_running() or ward.is_meant:
            return Death()  # it changes nothing
        return self._causes.likely(ward.worker) if now_s - ward.died_s >= _PATIENCE_S else None

    def _scene(
        self, worker: str, pid: int, death: Death, rss_bytes: int, ran: "list[str]",
        culprits: "frozenset[int]" = frozenset(),
    ) -> Scene:  # fmt: skip
        # A process that ends by another signal was not shot from outside.
        is_shot = death.status in (None, signal.SIGKILL)
        return Scene(
            worker, pid, death, node=self._families.node, now_s=time.time(), rss_bytes=rss_bytes,
            is_alone=self._families.is_lane(worker), storm=self._storm.over(time.monotonic(), ran) if is_shot else "",
            culprits=culprits,
        )  # fmt: skip

    # -- leases ------------------------------------------------------------------------------------------

    def _check_leases(self, now_s: float) -> None:
        """End whoever runs a job while its lease runs out: another steward may have given the job to somebody else.

        An idle one starts nothing past its lease and is left alone. While the store is down for all, nobody can have given
        anything to anybody, and leases last.
        """
        now_ns = time.monotonic_ns()
        is_down_for_all = self.desk.is_down_for_all(now_s)
        for ward in self._by_descriptor.values():
            until_ns = ward.lease_until_ns or ward.found_ns + self._lease_ns
            if is_down_for_all and not ward.is_fenced:
                if until_ns - now_ns < self._lease_ns // 2:
                    ward.set_lease(now_ns + self._lease_ns)
                continue
            # A fenced one gets a moment to end itself, and to say why.
            margin_ns = -_MARGIN_NS if ward.is_fenced else _MARGIN_NS
            if until_ns - now_ns < margin_ns and ward.is_running() and not ward.is_meant:
                ward.set_meant()
                self._say("its lease could not be renewed and ends; killing it", worker=ward.worker, pid=ward.pid)  # fmt: skip
                pidfd.send(ward.descriptor, signal.SIGKILL)

    def _check_deadlines(self, now_s: float) -> None:
        """End whoever runs a job past its timeout and cannot end it by itself: C code that holds the interpreter stops all threads in there."""
        before_ns = time.monotonic_ns() - _OVERDUE_NS
        overdue = {}
        for ward in self._by_descriptor.values():
            tokens, since_s = self._overdue.get(ward.owner, (frozenset(), now_s))
            still = ward.overdue(before_ns)
            if not still:
                continue
            # The same as before: after a standstill of the whole machine everybody is late at once, and needs a moment.
            since_s = since_s if tokens & still else now_s
            overdue[ward.owner] = (still, since_s)
            if now_s - since_s >= _OVERDUE_S:
                self._abort(ward, still)
        self._overdue = overdue

    def _abort(self, ward: Ward, tokens: "frozenset[int]") -> None:
        reading = procfs.reading(ward.pid)
        if reading is not None and reading.state in "Tt":
            return  # a person has stopped it, and looks into it
        if ward.culprits:
            pidfd.send(ward.descriptor, signal.SIGKILL)
            return
        ward.culprits = tokens
        flight = ward.flight()
        jobs = [f"{one.klass} {one.jid}" for one in flight.running if one.token in tokens] if flight is not None else []  # fmt: skip
        self._say("a job is past its timeout and its process cannot end it; killing it", worker=ward.worker, pid=ward.pid, why=", ".join(jobs))  # fmt: skip
        # Not KILL: the interpreter's fault handler writes down all stacks, whoever holds the lock.
        pidfd.send(ward.descriptor, signal.SIGABRT)

    # -- what the desk tells -----------------------------------------------------------------------------

    def _from_desk(self, *what: "Any") -> None:
        self._told.append(what)
        self.wake()

    def _take_told(self) -> None:
        os.eventfd_read(self._bell)
        while self._told:
            kind, *more = self._told.popleft()
            if kind == "recovered":
                self._recovered(*more)
            elif kind == "signal":
                self._pass_on(*more)
            elif kind == "lane":
                self._want_lane(*more)
            else:
                raise more[0]

    def _recovered(self, case: Case, verdict: "Verdict") -> None:
        ward, scene = case.ward, case.scene
        try:
            os.unlink(f"{self._directory}/{case.owner}")
        except FileNotFoundError:
            pass  # the run directory is being taken away
        self._broken.pop(case.owner, None)
        how = "is gone"
        if ward is not None:
            del self.wards[case.owner]
            how = "ended on purpose" if ward.is_meant else scene.death.words()
            ward.close()
        done = verdict.words()
        if verdict.suspects and scene.is_alone and scene.storm:
            done += f" still, not guilty: {scene.storm} was killed, too, a moment ago"
        if done or scene.death.is_kill:
            self._say(how, worker=scene.worker, pid=scene.pid, jobs=done or "it held no jobs")
        for jid, klass, why in verdict.dead:
            self._storm.convict(time.monotonic(), jid)
            self._say("a job kills its process and is given up", job=klass, jid=jid, why=why)

    def _pass_on(self, owner: str, name: str) -> None:
        ward, number = self.wards.get(owner), _SIGNALS.get(name)
        if ward is not None and ward.is_alive and number is not None:
            self._say(f"is sent SIG{name}, as somebody wants", worker=ward.worker, pid=ward.pid)
            pidfd.send(ward.descriptor, number)

    def _want_lane(self, name: str) -> None:
        now_s = time.monotonic()
        if any(ward.worker == name and ward.is_alive for ward in self.wards.values()):
            return
        if now_s >= self._asked_lanes.get(name, 0.0):
            self._asked_lanes[name] = now_s + _LANE_S
            self._start_lane(name)
