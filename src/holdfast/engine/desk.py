"""What does the steward say to the store, when, and what if the store does not answer?

One thread, so that a store that hangs keeps nobody from seeing a process die. In this order: the dead are recovered, leases renewed,
due jobs moved, periodic ones fired, owners of dead machines swept, the lane looked at, notes attached. Each is safe to be done
twice and to be killed in.

*Leases.* A lease that was renewed ends so long after the renewal was *begun*, by this machine's clock: the store's clock started
later. After an outage nobody is swept until every steward has had time to renew: the store's clock went on without them.
"""

import random
import threading
import time
from collections import deque

from holdfast.engine import recovery
from holdfast.engine.attaching import KEEP_DEAD_S, KEEP_SUSPECT_S, Attaching
from holdfast.engine.beats import beat
from holdfast.engine.schedule import Cron
from holdfast.model.jobs import StoreDownError, StoreRefusedError
from holdfast.wire import sidekiq

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from holdfast.engine.beats import Ward
    from holdfast.engine.families import Families
    from holdfast.engine.schedule import Say
    from holdfast.jobs.store import Store

#: Jobs moved out of the schedule at a time.
_MOVE = 500
_LONGEST_SLEEP_S = 1.0
_LANE_S = 2.0
#: Suspects looked at to see whose they are.
_SUSPECTS = 100
#: First and longest pause before the store is asked again.
_PAUSE_S, _LONGEST_PAUSE_S = 0.05, 1.0
#: Something that the store refuses is tried again after this.
_REFUSED_S = 5.0
#: A thread that is in the middle of asking gets so long to end.
_LAST_WORD_S = 1.0
#: What a store that is down for everybody says; for any other silence others may still be served.
_DOWN_FOR_ALL = ("LOADING", "MISCONF", "OOM", "refused")


class Case:
    """A dead owner, to be recovered."""

    __slots__ = ("owner", "scene", "ward")

    def __init__(self, owner: str, ward: "Ward | None", scene: recovery.Scene) -> None:
        self.owner = owner
        self.ward = ward  #: None: nothing is left but its name
        self.scene = scene


class _Step:
    """Something that is done again and again."""

    __slots__ = ("do", "due_s")

    def __init__(self, do: "Callable[[float], float]") -> None:
        self.do = do  #: given the monotonic time; returns in how many seconds it is due again
        self.due_s = 0.0


class Desk:
    """The steward's thread for the store.

    Args:
        store: Which.
        lease_s: An owner that was not renewed for so long is gone.
        run_dir: Run directory.
        state_dir: Where incidents are; "" for none.
        families: The plan.
        wards: Living owners by name; read only.
        tell: Called in this thread with what the steward has to do: ("recovered", CASE, VERDICT), ("signal", OWNER, NAME),
            ("lane", NAME), ("failed", ERROR).
        say: One line for a person.
    """

    def __init__(
        self,
        store: "Store",
        lease_s: float,
        run_dir: str,
        state_dir: str,
        families: "Families",
        wards: "dict[str, Ward]",
        tell: "Callable[..., None]",
        say: "Say",
    ) -> None:
        self._store = store
        self._lease_s = lease_s
        self._families = families
        self._wards = wards
        self._tell = tell
        self._say = say
        self._cases: deque[Case] = deque()
        self._event = threading.Event()
        self._is_over = False
        self._is_local = store.url.startswith("sqlite")
        self._attaching = Attaching(run_dir, state_dir, store)
        self._cron = Cron(run_dir, store, say)
        self._said: set[str] = set()
        self._pause_s = 0.0
        self._down_since_s = 0.0
        self._down_for_all_s = float("-inf")
        #: A living steward that can reach the store renews within a fifth of a lease and the longest pause.
        self._patience_s = 0.0 if self._is_local else 0.4 * lease_s + _LONGEST_PAUSE_S
        self._trust_s = time.monotonic() + self._patience_s
        self._recovering = _Step(self._recover)
        self._renewing = _Step(self._renew)
        self._moving = _Step(self._move_due)
        self._laning = _Step(self._look_at_lane)
        self._attaching_step = _Step(self._attach)
        self._is_woken = False
        self._steps = (
            self._renewing,
            self._moving,
            _Step(self._fire),
            _Step(self._sweep),
            self._laning,
            self._attaching_step,
            _Step(self._check),
        )
        self._thread = threading.Thread(target=self._run, name="holdfast.desk", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def recover(self, case: Case) -> None:
        """Have a dead owner recovered, as soon as the store takes it."""
        self._cases.append(case)
        self._event.set()

    def wake(self) -> None:
        """Look at once: something may be due, or somebody new has to be renewed."""
        self._is_woken = True
        self._event.set()

    def close(self) -> bool:
        """End the thread; False when the store does not let it end."""
        self._is_over = True
        self._event.set()
        self._thread.join(_LAST_WORD_S)
        return not self._thread.is_alive()

    @property
    def is_busy(self) -> bool:
        """Whether somebody is still to be recovered."""
        return bool(self._cases)

    def is_down_for_all(self, now_s: float) -> bool:
        """Whether nobody else can be served by the store at this moment: a lease that ends meanwhile harms nobody."""
        return now_s - self._down_for_all_s <= 2 * _LONGEST_PAUSE_S

    # -- the thread --------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            while not self._is_over:
                self._event.clear()
                wait_s = self._turn()
                self._event.wait(wait_s)
        except BaseException as error:  # noqa: BLE001 -- the steward ends with it
            self._tell("failed", error)

    def _turn(self) -> float:
        """Do what is due; return the seconds until something is."""
        if self._is_woken:
            self._is_woken = False
            self._renewing.due_s = self._moving.due_s = self._laning.due_s = 0.0
        if self._down_since_s:
            now_s = time.monotonic()
            try:
                self._store.expired()
            except StoreDownError as error:
                return self._down(error, now_s)
            # It answers. Whether it also takes something (a full disk does not, nor does a replica) the steps will show.
            self._trust_s = now_s + self._patience_s
            self._renewing.due_s = 0.0
        for step in (self._recovering, *self._steps):
            now_s = time.monotonic()
            if step.due_s > now_s:
                continue
            try:
                step.due_s = now_s + step.do(now_s)
            except StoreDownError as error:
                return self._down(error, now_s)
            except StoreRefusedError as error:
                step.due_s = now_s + _REFUSED_S
                self._complain("the store refuses", str(error))
        if self._down_since_s:
            self._back(time.monotonic())
        due_s = min(step.due_s for step in self._steps)
        if self._cases:
            due_s = min(due_s, self._recovering.due_s)
        return max(0.0, min(_LONGEST_SLEEP_S, due_s - time.monotonic()))

    def _down(self, error: StoreDownError, now_s: float) -> float:
        if not self._down_since_s:
            self._down_since_s = now_s
            self._say("the store cannot be reached; waiting for it", why=str(error))
        if _is_down_for_all(error) or self._is_local:
            self._down_for_all_s = now_s
        self._pause_s = min(_LONGEST_PAUSE_S, self._pause_s * 2 or _PAUSE_S)
        return self._pause_s * random.uniform(0.7, 1.0)  # noqa: S311 -- so that a fleet does not come back in step

    def _back(self, now_s: float) -> None:
        lasted = f"{now_s - self._down_since_s:.1f} s"
        self._pause_s = self._down_since_s = 0.0
        self._say("the store is back", lasted=lasted)

    def _complain(self, what: str, why: str) -> None:
        if why not in self._said:
            self._said.add(why)
            self._say(what, why=why)

    # -- what is done ------------------------------------------------------------------------------------

    def _recover(self, _: float) -> float:
        while self._cases:
            case = self._cases[0]
            try:
                verdict = self._recover_one(case)
            except StoreRefusedError:
                self._cases.rotate(-1)  # nobody waits for the one that is refused
                raise
            self._cases.popleft()
            self._tell("recovered", case, verdict)
            if verdict.suspects or case.scene.is_alone:
                self._laning.due_s = 0.0
        return 0.0  # due whenever there is a case

    def _recover_one(self, case: Case) -> recovery.Verdict:
        held = self._store.held(case.owner)
        flight = case.ward.flight() if case.ward is not None else None
        verdict = recovery.judge(
            held, flight, case.scene, random.random,
            is_scribbled=case.ward is not None and flight is None,
        )  # fmt: skip
        try:
            # Written before, because afterwards nobody would know of it.
            self._prepare_notes(case, verdict)
        except OSError as error:
            self._complain("evidence cannot be attached", f"{error.filename}: {error.strerror}")
        self._store.recover(case.owner, verdict.settled)
        return verdict

    def _prepare_notes(self, case: Case, verdict: recovery.Verdict) -> None:
        scene = case.scene
        seq, incident = scene.death.seq, scene.death.incident
        if verdict.dead:
            said = {jid: why for jid, _, why in verdict.dead}
            self._attaching.add(
                case.owner + ".dead", scene.worker, seq, incident, said, KEEP_DEAD_S
            )
        if verdict.suspects and (seq or incident):
            says = f"its process {scene.death.words()}: {scene.words()}"
            said = {jid: says for jid, _ in verdict.suspects}
            self._attaching.add(case.owner, scene.worker, seq, incident, said, KEEP_SUSPECT_S)
        self._attaching_step.due_s = 0.0

    def _renew(self, _: float) -> float:
        living = [
            ward for ward in list(self._wards.values()) if ward.is_alive and not ward.is_fenced
        ]
        period_s = self._lease_s / 5
        if not living:
            return period_s
        beats = [
            beat(ward, self._families.workers.get(ward.worker), self._families.node)
            for ward in living
        ]
        before_ns = time.monotonic_ns()
        fenced, signals = self._store.renew(beats, self._lease_s)
        until_ns = before_ns + int(self._lease_s * 1e9)
        for ward in living:
            if ward.owner not in fenced:
                ward.is_renewed = True
                ward.set_lease(until_ns)
            elif ward.is_renewed:
                # Somebody has declared it dead, and others have its jobs. To the worker its lease is over.
                ward.is_fenced = True
                ward.set_lease(time.monotonic_ns())
                self._say("declared dead by another steward; it ends", worker=ward.worker, pid=ward.pid)  # fmt: skip
            else:
                period_s = min(period_s, 0.2)  # it is about to register
        for owner, names in signals.items():
            for name in names:
                self._tell("signal", owner, name)
        return period_s

    def _move_due(self, _: float) -> float:
        _, next_s = self._store.move_due(_MOVE)
        return min(_LONGEST_SLEEP_S, max(0.0, next_s))

    def _fire(self, _: float) -> float:
        self._cron.look(self._families.run_jobs())
        unix_s = time.time()
        return min(_LONGEST_SLEEP_S, max(0.0, self._cron.fire_due(unix_s) - unix_s))

    def _sweep(self, now_s: float) -> float:
        period_s = max(1.0, self._lease_s / 5)
        if now_s < self._trust_s:
            return min(period_s, self._trust_s - now_s)
        for owner in self._store.expired():
            # Ours are known by their processes: those that live are renewed, those that died are judged.
            if owner not in self._wards and all(case.owner != owner for case in list(self._cases)):
                held = self._store.recover(owner, ())
                self._say("an owner that nobody renewed any more was recovered", owner=owner, jobs=held)  # fmt: skip
        return period_s

    def _look_at_lane(self, _: float) -> float:
        queues = set()
        for entry in self._store.page("queue:quarantine", 0, _SUSPECTS):
            try:
                queues.add(str(sidekiq.loads(entry.raw).get("queue", "")))
            except ValueError:
                queues.add("")
        families = {self._families.of(queue) for queue in queues}
        if None in families and not self._others_serve(queues):
            families.add(self._families.first())
        for family in families:
            if family is not None:
                self._tell("lane", family.lane)
        return _LANE_S

    def _others_serve(self, queues: "set[str]") -> bool:
        """Whether suspects from queues that nobody serves here are the business of another node, which has code for them."""
        served: set[object] = set()
        for owner in self._store.owners():
            info = owner["info"]
            if owner["owner"] not in self._wards and isinstance(info, dict):
                served.update(info.get("queues") or ())
        return all(self._families.of(queue) or queue in served for queue in queues)

    def _attach(self, _: float) -> float:
        if not self._attaching.is_needed:
            return float("inf")
        self._attaching.turn(time.time())
        return 0.2

    def _check(self, _: float) -> float:
        for says in self._store.check():
            self._complain("the store is not set up for jobs that must not be lost", says)
        return float("inf")


def _is_down_for_all(error: BaseException) -> bool:
    """Tell a server that is not there, or says itself that it cannot, from a network that may be cut for us alone."""
    if any(word in str(error) for word in _DOWN_FOR_ALL):
        return True
    seen = error.__cause__ or error.__context__
    return isinstance(seen, ConnectionRefusedError | FileNotFoundError)
