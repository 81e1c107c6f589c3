"""A thread that looks at what runs: deadlines, the lease, ends that nobody fetched, jobs that wait behind a long one, memory.

It never calls the store, which may hang: that is the chores' thread. Both sleep while nothing is held here.
"""

import os
import sys
from _thread import allocate_lock
from threading import Thread
from time import monotonic_ns

from holdfast.core.fetch import STALE_S
from holdfast.engine import running
from holdfast.engine.coroutines import CANCELLED, Coroutines, Place, awaited
from holdfast.model.jobs import StoreDownError, StoreRefusedError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from holdfast.engine.fetching import Fetcher
    from holdfast.engine.threads import Executor
    from holdfast.model.jobs import JobsPlan
    from holdfast.sdk.logline import Log

#: Ends are settled this soon when nobody fetches.
_FLUSH_S = 0.005
#: Between two looks while something runs.
_LOOK_S = 0.1
#: It goes on looking for so long after something ran: to be woken costs whoever begins the next job.
_LINGER_NS = 200_000_000
#: A job that was told that its time is over gets so long to end.
PATIENCE_NS = 2_000_000_000
#: Between two questions to the store whether something that runs was cancelled, and two looks at the memory.
_CANCEL_NS, _MEMORY_NS = 1_000_000_000, 250_000_000
#: The quarantine lane ends itself after so long without a job.
LANE_IDLE_NS = 10_000_000_000
_PAGE = os.sysconf("SC_PAGE_SIZE")

STOPPED, TIMED_OUT, FENCED = 0, 71, 75


class Watch:
    """Looks while there is anything to look at."""

    def __init__(
        self, plan: "JobsPlan", grace_s: float, fetcher: "Fetcher", log: "Log",
        leave: "Callable[[int, str], None]", crash: "Callable[[BaseException], None]",
    ) -> None:  # fmt: skip
        self.is_asleep = False
        self.executors: list[Executor] = []
        self.coroutines: Coroutines | None = None
        self._grace_ns = int(grace_s * 1e9)
        self._fetcher = fetcher
        self._log = log
        self._leave = leave
        self._crash = crash
        self._recycle_bytes, self._recycle_jobs = plan["recycle_bytes"], plan["recycle_jobs"]
        self._ends_idle = plan["role"] == "quarantine"
        self._bell = allocate_lock()
        self._bell.acquire()
        self._chores = Chores(fetcher, crash)
        self._turns = -1
        self._head: object = None
        self._head_ns = self._cancel_ns = self._memory_ns = 0
        self._busy_ns = monotonic_ns()
        self._ending: tuple[int, str, int] | None = None
        self._statm = os.open("/proc/self/statm", os.O_RDONLY | os.O_CLOEXEC)
        self._interrupted: dict[int, int] = {}  #: token -> since when

    def start(self) -> None:
        """Begin to look."""
        self._fetcher.on_waiting = self.wake_if_asleep
        self._chores.start()
        Thread(target=self._run, name="holdfast.job.watch", daemon=True).start()

    def wake_if_asleep(self) -> None:
        """There may be something to look at; from any thread."""
        if self.is_asleep:
            self.wake()

    def wake(self) -> None:
        """There is something to look at; from any thread."""
        self.is_asleep = False
        try:
            self._bell.release()
        except RuntimeError:
            return  # somebody else just has

    def running(self) -> "list[Executor | Place]":
        """Return who runs something just now."""
        places = self.coroutines.places if self.coroutines is not None else ()
        return [one for one in (*self.executors, *places) if one.item is not None]

    def _run(self) -> None:
        try:
            while True:
                pause_s = self._look(monotonic_ns())
                if pause_s:
                    self._bell.acquire(True, pause_s)
                    continue
                self.is_asleep = True
                fetcher = self._fetcher
                if fetcher.unsettled or fetcher.threads.waiting or fetcher.coroutines.waiting or self.running():  # fmt: skip
                    self.is_asleep = False
                else:
                    self._bell.acquire()
        except BaseException as error:  # noqa: BLE001 -- the engine's own: the process ends
            self._crash(error)

    def _look(self, now_ns: int) -> float:
        """Look at everything; return when to look again, 0: when something is started."""
        fetcher = self._fetcher
        running_now = self.running()
        if running_now:
            self._busy_ns = now_ns
            self._check_lease(now_ns)
        soonest_ns = self._check_deadlines(running_now, now_ns)
        self._check_waiting(now_ns)
        self._ask_for_cancelled(running_now, now_ns)
        self._check_recycling(now_ns)
        if self._ending is not None:
            self._end_when_idle(running_now, now_ns)
            return _FLUSH_S
        if self._ends_idle and now_ns - self._busy_ns > LANE_IDLE_NS:
            self.retire(STOPPED, "no more suspects: the quarantine lane ends")
        if fetcher.unsettled:
            if self._turns == fetcher.turns:
                self._chores.flush()
            self._turns = fetcher.turns
            return _FLUSH_S
        self._turns = -1
        if fetcher.threads.waiting or fetcher.coroutines.waiting:
            return STALE_S / 2
        if running_now:
            return max(0.001, min(_LOOK_S, (soonest_ns - now_ns) / 1e9))
        if now_ns - self._busy_ns < _LINGER_NS:
            return _LOOK_S / 2
        return 1.0 if self._ends_idle else 0.0

    def _check_lease(self, now_ns: int) -> None:
        fetcher = self._fetcher
        if now_ns >= fetcher.lease_until_ns and not fetcher.has_lease(now_ns):
            self._leave(FENCED, "its lease was not renewed in time: others may run its jobs now, so this process ends")  # fmt: skip

    # -- deadlines -------------------------------------------------------------------------------

    def _check_deadlines(self, running_now: "list[Executor | Place]", now_ns: int) -> int:
        """Interrupt what is past its deadline; return when the next one is."""
        soonest_ns = now_ns + 1_000_000_000
        tokens = set()
        for one in running_now:
            item, deadline_ns = one.item, one.deadline_ns
            if item is None or not deadline_ns or one.is_given_up:
                continue
            token = item[0].token
            tokens.add(token)
            if now_ns < deadline_ns:
                soonest_ns = min(soonest_ns, deadline_ns)
            elif token not in self._interrupted:
                self._interrupted[token] = now_ns
                if not isinstance(one, Place):  # a coroutine has its timer on the loop
                    one.interrupt(token)
            elif now_ns - deadline_ns > PATIENCE_NS:
                self._give_up(one, token)
            if now_ns >= deadline_ns:
                soonest_ns = min(soonest_ns, max(now_ns, deadline_ns + PATIENCE_NS))
        self._interrupted = {
            token: since for token, since in self._interrupted.items() if token in tokens
        }
        return soonest_ns

    def _give_up(self, one: "Executor | Place", token: int) -> None:
        """End this process because of a job that does not end; it is settled as failed, with the stack where it hangs."""
        item = one.item
        if item is None or item[0].token != token:
            return
        one.is_given_up = True
        lease, job, known = item
        says = f"ran longer than {known.deadline_s(job):g} s and could not be interrupted"
        stack = self._stack_of(one)
        settle = running.failed(lease, {**job, "backtrace": True}, "JobTimeout", says, stack)
        self._fetcher.unsettled.rich.append((lease, settle))
        what = f"job {job['class']} (jid {job['jid']}) {says}; it hangs at {stack[0] if stack else '?'}"
        self._log.error(what)
        sys.stderr.flush()
        import faulthandler

        faulthandler.dump_traceback(all_threads=True)
        self.retire(TIMED_OUT, what, self._grace_ns)

    def _stack_of(self, one: "Executor | Place") -> "list[str]":
        if not isinstance(one, Place):
            ident = one.ident
        elif self.coroutines is not None and self.coroutines.is_on_stack(one):
            ident = self.coroutines.ident
        else:
            return running.lines_of_frames(awaited(one.task))
        frame = sys._current_frames().get(ident)  # noqa: SLF001 -- the documented way
        found = []
        while frame is not None:
            found.append(frame)
            frame = frame.f_back
        return running.lines_of_frames(found)

    # -- the end on purpose ----------------------------------------------------------------------

    def retire(self, status: int, says: str, within_ns: int = 0) -> None:
        """Take no more jobs and end when the last has ended, or in so long."""
        if self._ending is None:
            self._ending = (status, says, monotonic_ns() + within_ns if within_ns else 0)
            self._fetcher.quiet()
            self._chores.flush()

    def _end_when_idle(self, running_now: "list[Executor | Place]", now_ns: int) -> None:
        ending = self._ending
        assert ending is not None  # noqa: S101 -- the caller has looked
        status, says, until_ns = ending
        fetcher = self._fetcher
        fetcher.give_back()
        at_work = [one for one in running_now if not one.is_given_up]
        is_late = until_ns and now_ns > until_ns
        # What is being told to the store at this moment is held until it has answered.
        if (at_work or fetcher.unsettled.held) and not is_late:
            self._chores.flush()
            return
        self._leave(status, says)

    def _check_recycling(self, now_ns: int) -> None:
        if self._ending is not None:
            return
        if self._recycle_jobs and self._fetcher.ended >= self._recycle_jobs:
            self.retire(STOPPED, f"recycled after {self._fetcher.ended} jobs")
        elif self._recycle_bytes and now_ns - self._memory_ns > _MEMORY_NS:
            self._memory_ns = now_ns
            rss = int(os.pread(self._statm, 128, 0).split()[1]) * _PAGE
            if rss > self._recycle_bytes:
                self.retire(STOPPED, f"recycled: it uses {rss >> 20} MiB, and {self._recycle_bytes >> 20} are allowed")  # fmt: skip

    # -- what waits and what was cancelled -------------------------------------------------------

    def _check_waiting(self, now_ns: int) -> None:
        """Give back what waits behind a job that has turned out to be long."""
        fetcher = self._fetcher
        heads = []
        for crew in (fetcher.threads, fetcher.coroutines):
            try:
                heads.append(id(crew.waiting[0][0]))
            except IndexError:
                continue
        if not heads or heads != self._head:
            self._head, self._head_ns = heads, now_ns
        elif now_ns - self._head_ns > STALE_S * 1e9:
            fetcher.threads.pace.stalled()
            fetcher.coroutines.pace.stalled()
            if fetcher.give_back():
                self._chores.flush()

    def _ask_for_cancelled(self, running_now: "list[Executor | Place]", now_ns: int) -> None:
        if now_ns - self._cancel_ns < _CANCEL_NS:
            return
        self._cancel_ns = now_ns
        long = [one for one in running_now if now_ns - one.started_ns > _CANCEL_NS // 2]
        if long:
            self._chores.cancelled(long, self.coroutines)


class Chores:
    """A thread that does for the watch what may take long: talking to the store."""

    def __init__(self, fetcher: "Fetcher", crash: "Callable[[BaseException], None]") -> None:
        self._fetcher = fetcher
        self._crash = crash
        self._bell = allocate_lock()
        self._bell.acquire()
        self._flush = False
        self._running: list[Executor | Place] = []
        self._coroutines: Coroutines | None = None

    def start(self) -> None:
        """Begin."""
        Thread(target=self._run, name="holdfast.job.chores", daemon=True).start()

    def flush(self) -> None:
        """Settle what has ended."""
        self._flush = True
        self._ring()

    def cancelled(
        self, running_now: "list[Executor | Place]", coroutines: "Coroutines | None"
    ) -> None:
        """Tell those of these jobs that were cancelled."""
        self._running, self._coroutines = running_now, coroutines
        self._ring()

    def _ring(self) -> None:
        try:
            self._bell.release()
        except RuntimeError:
            return  # it is at it already, or about to be

    def _run(self) -> None:
        try:
            while True:
                self._bell.acquire()
                if self._flush:
                    self._flush = False
                    self._fetcher.flush()
                running_now, self._running = self._running, []
                if running_now:
                    self._tell(running_now)
        except BaseException as error:  # noqa: BLE001 -- the engine's own: the process ends
            self._crash(error)

    def _tell(self, running_now: "list[Executor | Place]") -> None:
        by_jid = {}
        for one in running_now:
            item, context = one.item, one.context
            if item is not None and context is not None and not context.is_cancelled:
                by_jid[str(item[1]["jid"])] = (one, item[0].token, context)
        if not by_jid:
            return
        try:
            cancelled = self._fetcher.store.cancelled(list(by_jid))
        except (StoreDownError, StoreRefusedError):
            return  # asked again in a second
        for jid in cancelled:
            one, token, context = by_jid[jid]
            context.is_cancelled = True
            if isinstance(one, Place) and self._coroutines is not None:
                self._coroutines.cancel_from_thread(one, token, CANCELLED)
