"""Who asks the store, when, and for how much?

Executors take jobs from a shared deque themselves; whoever finds it empty (or low, where jobs are short) takes the fetch lock and tells the
store what has ended and asks for more, in one call. There is no dispatcher and no switch of threads for a job. At most one thread waits at the
store's door; the others sleep on a lock of their own until there is something for them.

Killed right here? A claimed job is in no slot of the recorder: it goes back. An ended one is in the ring: it is settled.
"""

import os
import random
import select
import time
from _thread import allocate_lock
from time import monotonic_ns

from holdfast.core.fetch import how_many
from holdfast.core.lease import QUARANTINE, order
from holdfast.engine import running
from holdfast.engine.crew import Crew
from holdfast.engine.settling import Unsettled
from holdfast.model.jobs import (
    BACK,
    DROP,
    RETRY,
    SUSPECT,
    FencedError,
    Settle,
    StoreDownError,
    StoreRefusedError,
)
from holdfast.wire import flight, sidekiq

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from holdfast.engine.crew import Lock
    from holdfast.engine.recording import Recording
    from holdfast.engine.running import Classes
    from holdfast.jobs.store import Store
    from holdfast.model.jobs import JobsPlan, Lease
    from holdfast.sdk.logline import Log

#: Longest stay at the store's door without looking up.
_WAIT_S = 5.0
#: Delays between two attempts at a store that is away.
_BACKOFF_S, _BACKOFF_MAX_S = 0.05, 0.5
#: Between two attempts at one that takes nothing.
_REFUSED_NS = 2_000_000_000
#: A retry that is due this soon is told to the steward, once in a while: it looks each second.
_SOON_S, _WAKE_NS = 1.5, 100_000_000
#: How often a worker whose lease is over looks whether it has one again.
_LEASE_LOOK_S = 0.1
#: So long the lane leaves a suspect of another family to that one's lane before it looks at the next.
_STRANGER_NS = 200_000_000
#: Longest pause after the store said there was something, and there was not (a paused queue with jobs in it).
_NOTHING_MAX_S = 0.02
#: A queue that held jobs of one kind is not asked for so long while the executors of that kind are all busy.
_KIND_NS = 1_000_000_000


class Fetcher:
    """The one place where this process talks to the store about leases."""

    def __init__(
        self, store: "Store", recording: "Recording", plan: "JobsPlan", classes: "Classes", log: "Log",
        leave: "Callable[[int, str], None]",
    ) -> None:  # fmt: skip
        self.store = store
        self.owner = recording.owner
        self.unsettled = Unsettled()
        self.is_over = False  #: nobody is to wait for jobs any more
        self.is_quiet = False  #: nothing new is started
        self.lease_until_ns = 0  #: as it was when somebody last looked
        self.ended = 0  #: jobs of this life
        self.turns = 0  #: calls of the store that settled what there was
        self.threads = Crew(0)
        self.coroutines = Crew(0)
        self.feeder = Crew(0)  #: the thread that fetches for coroutines; nothing ever waits for it
        self.is_exclusive = plan["role"] == "quarantine"
        self.on_coroutines: Callable[[], None] = lambda: None
        self.on_waiting: Callable[[], None] = lambda: None
        self.on_ended: Callable[[int], None] = lambda _: None
        self._recording = recording
        self._recorder = recording.recorder
        self._classes = classes
        self._log = log
        self._leave = leave
        self._queues = [(name, weight) for name, weight in plan["queues"]]
        self._strict = [name for name, _ in self._queues] if not any(w for _, w in self._queues) else []  # fmt: skip
        self._lease_s = plan["lease_s"]
        self._registered_ns = 0
        self._token = 1
        self._lock: Lock = allocate_lock()
        self._door: Lock = allocate_lock()  #: held by the one who waits for the store
        self._wakeup = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._is_asleep = False
        self._is_in_doubt = False
        self._down_until_ns = 0
        self._backoff_s = 0.0
        self._nothing_s = 0.0
        self._has_refused = False
        self._woken_ns = self._pause_until_ns = 0

    # -- the owner's life ------------------------------------------------------------------------

    def register(self) -> bool:
        """Begin the life of the owner; False: the store is away just now.

        Raises:
            StoreRefusedError: It will never take us.
        """
        now_ns = monotonic_ns()
        try:
            self.store.register(self.owner, self._lease_s)
        except StoreDownError as error:
            self._went_away(error)
            return False
        self._registered_ns = now_ns
        self._is_back()
        return True

    def pause(self) -> None:
        """Sleep until the next attempt at a store that is away, or until the end."""
        self._sleep((self._down_until_ns - monotonic_ns()) / 1e9)

    def has_lease(self, now_ns: int) -> bool:
        """Whether our lease holds at this moment; looks at what the steward wrote."""
        renewed_ns = self._recorder.get(flight.LEASE_UNTIL)
        self.lease_until_ns = max(renewed_ns, self._registered_ns + int(self._lease_s * 1e9))
        return now_ns < self.lease_until_ns

    def quiet(self) -> None:
        """Take nothing new from now on, and give back what has not been started."""
        self.is_quiet = True
        self._recorder.put(flight.QUIET, 1)
        self.give_back()
        self.nudge()

    def end(self) -> None:
        """Let everybody who waits for a job go."""
        self.is_quiet = self.is_over = True
        self.nudge()
        for crew in (self.threads, self.feeder):
            while self._ring(crew):
                pass

    # -- for executors ---------------------------------------------------------------------------

    def seek(self, crew: Crew, bell: "Lock") -> bool:
        """Return True when a job may be waiting for this crew; False: there will be no more.

        Args:
            crew: The caller's.
            bell: A lock of the caller's own, taken.
        """
        while not self.is_over:
            if crew.waiting:
                self._pass_on()
                return True
            if self._lock.acquire(False):
                try:
                    got = self._turn()
                finally:
                    self._lock.release()
                if got:
                    # It may have been for the other kind of executors.
                    self._pass_on()
                if got or self.unsettled:
                    continue
            if self._door.acquire(False):
                try:
                    self._wait()
                finally:
                    self._door.release()
                continue
            crew.idle.append(bell)
            # Between our look and our lying down it may all have changed: then nobody would ring.
            if self._is_different(crew):
                try:
                    crew.idle.remove(bell)
                except ValueError:
                    bell.acquire()  # somebody is ringing already
                continue
            bell.acquire()
        return False

    def _is_different(self, crew: Crew) -> bool:
        """Whether there is something to do for one who is about to lie down."""
        return bool(crew.waiting) or self.is_over or not self._door.locked()

    def top_up(self, crew: Crew) -> None:
        """Fetch more while others run what is left; at once back if somebody does that already."""
        if not self._lock.acquire(False):
            return
        try:
            if crew.idle and crew.waiting:
                self._ring(crew)
            self._turn()
        finally:
            self._lock.release()
        self._pass_on()

    def flush(self) -> None:
        """Settle what has ended, if nobody is about to."""
        if self._lock.acquire(False):
            try:
                self._turn(is_settling=True)
            finally:
                self._lock.release()
            self._pass_on()

    def settle_all(self, until_ns: int) -> None:
        """Settle everything that has ended; gives up at a moment."""
        while self.unsettled.held and monotonic_ns() < until_ns:
            if self._lock.acquire(True, 0.05):
                try:
                    self._turn(is_settling=True)
                finally:
                    self._lock.release()
            if self.unsettled.held:
                self._sleep(max(0.002, (self._down_until_ns - monotonic_ns()) / 1e9))

    def give_back(self) -> int:
        """Give back what was taken and not started; return how many."""
        back = 0
        for crew in (self.threads, self.coroutines):
            pop = crew.waiting.pop
            try:
                while True:
                    # The newest first: each goes to the front of its queue.
                    lease = pop()[0]
                    self.unsettled.rich.append((lease, Settle(lease.token, BACK)))
                    back += 1
            except IndexError:
                continue
        return back

    def nudge(self) -> None:
        """Have whoever waits for the store look up."""
        if self._is_asleep:
            os.eventfd_write(self._wakeup, 1)

    # -- one call of the store, under the lock ---------------------------------------------------

    def _turn(self, is_settling: bool = False) -> int:
        """Settle what has ended and take what there is room for; return how many jobs that was."""
        now_ns = monotonic_ns()
        if now_ns < self._down_until_ns:
            return 0
        self._learn()
        try:
            return self._exchange(now_ns, is_settling=is_settling)
        except FencedError:
            self._leave(75, "this worker was declared dead and its jobs are others' now: it ends")
            return 0

    def _exchange(self, now_ns: int, *, is_settling: bool) -> int:
        try:
            if self._is_in_doubt:
                self._reconcile()
            queues, limit = ([], 0) if is_settling else self._wanted(now_ns)
            done, rich = self.unsettled.take()
            if not limit and not done and not rich:
                return 0
            first, self._token = self._token, self._token + limit
            try:
                leases, missing = self.store.claim(
                    self.owner, queues, limit, first, [lease.token for lease in done], [one for _, one in rich]
                )  # fmt: skip
            except (StoreDownError, StoreRefusedError):
                self.unsettled.put_back(done, rich)
                raise
        except StoreDownError as error:
            self._is_in_doubt = True
            self._went_away(error)
            return 0
        except StoreRefusedError as error:
            self._refused(error)
            return 0
        self._is_back()
        self.turns += 1
        self.unsettled.settled(done, rich)
        if rich and now_ns - self._woken_ns > _WAKE_NS and _has_soon([one for _, one in rich]):
            self._woken_ns = now_ns
            self._recording.tell("wake")
        if missing:
            self._log.warning("ended, but no longer ours", jobs=len(missing))
        if limit:
            put = self._recorder.put
            put(flight.LAST_CLAIM, now_ns)
            put(flight.FINISHED, self.ended)
            put(flight.STARTED, self.ended + self.threads.busy() + self.coroutines.busy())
        if leases:
            self._nothing_s = 0.0
            self._hand_over(leases, now_ns)
            self.threads.low = self._low(len(leases) == limit)
            self.coroutines.low = len(self.coroutines.waiting) // 2
        return len(leases)

    def _low(self, is_more: bool) -> int:
        threads = self.threads
        # The others are there to run what is left meanwhile; alone, one asks when there is nothing left.
        return len(threads.waiting) // 2 if is_more and threads.size > 1 and not self.is_exclusive else 0  # fmt: skip

    def _learn(self) -> None:
        """Take over what the executors have counted."""
        for crew in (self.threads, self.coroutines):
            ran, crew.ran = crew.ran, 0
            if ran:
                spent_ns, crew.spent_ns = crew.spent_ns, 0
                crew.pace.ran(ran, spent_ns / 1e9)
                self.ended += ran
                self.on_ended(ran)

    def _wanted(self, now_ns: int) -> "tuple[list[str], int]":
        """Return which queues to ask, and for how much."""
        if self.is_quiet or (now_ns >= self.lease_until_ns and not self.has_lease(now_ns)):
            return [], 0
        threads, coroutines = self.threads, self.coroutines
        queues = self._strict or order(self._queues, [random.random() for _ in self._queues])  # noqa: S311 -- by weight
        if self.is_exclusive:
            if now_ns < self._pause_until_ns:
                return queues, 0
            at_work = threads.busy() + coroutines.busy() + len(threads.waiting) + len(coroutines.waiting)  # fmt: skip
            return queues, 0 if at_work else 1
        room = [
            how_many(crew.size - crew.busy(), len(crew.waiting), crew.pace.ahead(crew.size)) if crew.size else 0
            for crew in (threads, coroutines)
        ]  # fmt: skip
        if not (threads.size and coroutines.size):
            return queues, max(room)
        # What one kind has no room for is not taken from where it was seen lately; and what is to be expected limits the number.
        expected = []
        for crew, mine in ((threads, room[0]), (coroutines, room[1])):
            seen = {q for q in queues if now_ns - crew.seen.get(q, -_KIND_NS) < _KIND_NS}
            if seen and not mine:
                queues = [q for q in queues if q not in seen]
            elif seen:
                expected.append(mine)
        return queues, min(expected or [one for one in room if one] or [0]) if queues else 0

    def _hand_over(self, leases: "list[Lease]", now_ns: int) -> None:
        """Put jobs where they wait for an executor; what is not to be run is settled."""
        ends = self.unsettled.rich
        loads = sidekiq.loads
        get = self._classes.get
        threads, coroutines = self.threads, self.coroutines
        add_plain, add_async = threads.waiting.append, coroutines.waiting.append
        has_coroutines = False
        hold = self.unsettled.held
        for lease in leases:
            hold[lease.token] = lease
            try:
                job = loads(lease.raw)
            except ValueError:
                ends.append((lease, running.malformed(lease)))
                continue
            known = get(job["class"])  # type: ignore[arg-type]
            if known is None:
                ends.append((lease, self._stranger(lease, job, now_ns)))
                continue
            if "hf" in job and _is_expired(job):
                ends.append((lease, Settle(lease.token, DROP)))
            elif known.is_async:
                coroutines.seen[_queue(job, lease)] = now_ns
                add_async((lease, job, known))
                has_coroutines = True
            else:
                add_plain((lease, job, known))
        if coroutines.size:
            threads.see_queues(now_ns)
        if has_coroutines:
            self.on_coroutines()
        self.on_waiting()
        self._recorder.put(flight.BUFFERED, len(threads.waiting) + len(coroutines.waiting))

    def _stranger(self, lease: "Lease", job: "dict[str, Any]", now_ns: int) -> Settle:
        """Settle a job whose class was not imported here."""
        if not self.is_exclusive:
            return running.unknown(lease, job)
        # The lane is one for all families: this suspect is another one's. As a retry it would be out among the innocent again.
        self._pause_until_ns = now_ns + _STRANGER_NS
        return Settle(lease.token, SUSPECT)

    # -- a store that is away --------------------------------------------------------------------

    def _reconcile(self) -> None:
        gone = self.unsettled.reconcile(self.store, self.owner)
        for crew in (self.threads, self.coroutines):
            crew.forget(gone)
        if gone:
            self._log.warning("the store came back without jobs that we hold", jobs=len(gone))
        self._is_in_doubt = False

    def _went_away(self, error: Exception) -> None:
        if not self._backoff_s:
            self._log.warning("the store is away; waiting for it", store=self.store.url, says=str(error))  # fmt: skip
        self._backoff_s = min(_BACKOFF_MAX_S, max(_BACKOFF_S, self._backoff_s * 2))
        delay_s = self._backoff_s * (0.5 + random.random() / 2)  # noqa: S311 -- jitter
        self._down_until_ns = monotonic_ns() + int(delay_s * 1e9)

    def _refused(self, error: StoreRefusedError) -> None:
        """Find out what it is that the store refuses; if it is everything, wait until a person has helped. Under the lock."""
        if not self._has_refused:
            self._has_refused = True
            try:
                for lease in self.unsettled.settle_singly(self.store, self.owner):
                    self._log.error("the store refused how a job has ended; less was kept", says=str(error), job=lease.raw[:200])  # fmt: skip
            except StoreDownError as trouble:
                self._is_in_doubt = True
                self._went_away(trouble)
            except StoreRefusedError as trouble:
                self._stand_off(trouble)
            return
        self._stand_off(error)

    def _stand_off(self, error: StoreRefusedError) -> None:
        if not self._backoff_s:
            self._log.error("the store refuses", store=self.store.url, says=str(error))
        self._backoff_s = _BACKOFF_MAX_S
        self._down_until_ns = monotonic_ns() + _REFUSED_NS

    def _is_back(self) -> None:
        self._has_refused = False
        if self._backoff_s:
            self._log.info("the store is back", store=self.store.url)
            self._backoff_s = 0.0

    # -- waiting ---------------------------------------------------------------------------------

    def _wait(self) -> None:
        """Wait until there may be jobs; held by the one at the door."""
        now_ns = monotonic_ns()
        if now_ns < self._down_until_ns:
            self.pause()
            return
        queues, limit = self._wanted(now_ns)
        if not limit:
            # No room, or no lease, or no more: until somebody ends, or some time later.
            self._sleep(_WAIT_S if self.is_quiet else _LEASE_LOOK_S, until_one_ends=True)
            return
        if self._nothing_s:
            self._sleep(self._nothing_s)
        began_ns = monotonic_ns()
        self._is_asleep = True
        try:
            if not self.unsettled and not self.is_quiet:
                self.store.wait(queues, _WAIT_S, self._wakeup)
        except StoreDownError as error:
            self._is_in_doubt = True
            self._went_away(error)
        except StoreRefusedError as error:
            self._stand_off(error)
        finally:
            self._is_asleep = False
            self._drain()
        # A door that opens at once, again and again, and nothing behind it: not to be run against.
        at_once = monotonic_ns() - began_ns < 2_000_000
        self._nothing_s = min(_NOTHING_MAX_S, max(0.001, self._nothing_s * 2)) if at_once else 0.0

    def _sleep(self, seconds: float, *, until_one_ends: bool = False) -> None:
        """Sleep, unless nudged."""
        if seconds <= 0:
            return
        self._is_asleep = True
        try:
            if not (self.is_over or (until_one_ends and self.unsettled)):
                select.select([self._wakeup], [], [], seconds)
        finally:
            self._is_asleep = False
            self._drain()

    def _drain(self) -> None:
        try:
            os.eventfd_read(self._wakeup)
        except BlockingIOError:
            return

    def _pass_on(self) -> None:
        """Wake one more where there is something to do: a job, or the store's door to wait at."""
        threads = self.threads
        if threads.waiting:
            if not self._ring(threads):
                self.nudge()
        elif not self._door.locked() and not self._ring(threads):
            self._ring(self.feeder)

    @staticmethod
    def _ring(crew: Crew) -> bool:
        try:
            crew.idle.pop().release()
        except IndexError:
            return False
        return True


def _has_soon(ends: "list[Settle]") -> bool:
    until_s = time.time() + _SOON_S
    return any(one.end == RETRY and one.at_s < until_s for one in ends)


def _is_expired(job: "dict[str, object]") -> bool:
    expires = sidekiq.hf(job).get("expires")
    return isinstance(expires, int | float) and expires < time.time()


def _queue(job: "dict[str, object]", lease: "Lease") -> str:
    found = job.get("queue")
    return found if isinstance(found, str) else lease.queue or QUARANTINE
