"""The threads that run plain functions, one job each.

The loop of :meth:`Executor.work` is what a job costs: between two jobs there is no other thread, no queue, no closure. The recorder is
complete before a job's first instruction and after its last.

A job that exceeds its timeout gets `JobTimeout` raised at whatever it does (PyThreadState_SetAsyncExc). That can come too late, when the
job has just ended: each side writes before it reads (Dekker's way), so either the job is spared or it waits for the exception where that
does no harm (:meth:`Executor._quiesce`).
"""

import os
import time
from _thread import allocate_lock, get_ident
from contextvars import copy_context
from threading import Thread
from time import monotonic_ns

from holdfast.engine import running
from holdfast.model.jobs import BACK, Settle
from holdfast.sdk.job_context import JobContext, JobTimeout
from holdfast.sdk.recorder import CURRENT, RECORDER, Call
from holdfast.wire.flight import OUTCOME_CODES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from holdfast.engine.fetching import Fetcher
    from holdfast.engine.recording import Recording
    from holdfast.engine.running import Item, Telling
    from holdfast.engine.watching import Watch
    from holdfast.sdk.instance import Instance

_ACK = OUTCOME_CODES["ack"]
#: Unix time of CLOCK_MONOTONIC's zero, as far as the wall clock does not jump.
UNIX_OF_ZERO_S = time.time() - monotonic_ns() * 1e-9
#: A late exception is thrown within microseconds of its announcement; this is for a machine that stands still.
_QUIESCE_S = 0.0005


class Executor:
    """One thread; what the watch reads of it are plain attributes."""

    __slots__ = (
        "_bell", "_crash", "_fetcher", "_instance", "_recording", "_telling", "_watch", "context", "deadline_ns", "ended",
        "ident", "is_given_up", "is_interrupted", "is_thrown", "item", "slot", "started_ns",
    )  # fmt: skip

    def __init__(
        self, slot: int, fetcher: "Fetcher", recording: "Recording", telling: "Telling", watch: "Watch",
        instance: "Instance", crash: "Callable[[BaseException], None]",
    ) -> None:  # fmt: skip
        self.slot = slot
        self.ident = 0
        self.item: Item | None = None  #: what runs
        self.context: JobContext | None = None  #: that of what runs
        self.started_ns = self.deadline_ns = 0
        self.ended = 0  #: token of the job that has ended last
        self.is_interrupted = False  #: the watch is about to throw
        self.is_thrown = False  #: it has, or it has seen that there is no need
        self.is_given_up = (
            False  #: it did not end: settled by the watch, the process is about to go
        )
        self._fetcher = fetcher
        self._recording = recording
        self._telling = telling
        self._watch = watch
        self._instance = instance
        self._crash = crash
        self._bell = allocate_lock()
        self._bell.acquire()

    def start(self) -> None:
        """Begin to take jobs and run them."""
        Thread(target=self._run, name=f"holdfast.job.{self.slot}", daemon=True).start()

    def _run(self) -> None:
        CURRENT.set(self._instance)
        try:
            self._work()
        except BaseException as error:  # noqa: BLE001 -- the engine's own: the process ends
            self._crash(error)

    def _work(self) -> None:  # noqa: C901, PLR0912, PLR0915 -- each call costs a job 50 ns and more
        fetcher, watch, crew = self._fetcher, self._watch, self._fetcher.threads
        recorder, store = self._recording.recorder, fetcher.store
        begin, end, slot = recorder.begin, recorder.end, self.slot
        waiting, take, done = crew.waiting, crew.waiting.popleft, fetcher.unsettled.done.append
        call = Call(None, None)
        call.in_thread = True
        in_flight, not_in_flight = RECORDER.calls.add, RECORDER.calls.discard
        fresh = copy_context().copy
        self.ident = ident = get_ident()
        while True:
            if len(waiting) < crew.low:
                fetcher.top_up(crew)
            try:
                item = take()
            except IndexError:
                # What the last job had is not kept alive while there is no next one.
                item = lease = job = known = result = context = self.context = None  # type: ignore[assignment]
                if not fetcher.seek(crew, self._bell):
                    return
                continue
            lease, job, known = item
            token = lease.token
            now_ns = monotonic_ns()
            if now_ns >= fetcher.lease_until_ns and not fetcher.has_lease(now_ns):
                fetcher.unsettled.rich.append((lease, Settle(token, BACK)))
                continue
            deadline_s = known.deadline_s(job) if "hf" in job else known.timeout_s
            self.deadline_ns = now_ns + int(deadline_s * 1e9) if deadline_s else 0
            self.started_ns = now_ns
            self.item = item
            begin(
                slot, token, job["jid"].encode(), known.klass, ident, self.deadline_ns, now_ns,
                now_ns * 1e-9 + UNIX_OF_ZERO_S,
            )  # fmt: skip
            call.instance, call.started_ns = known.instance, now_ns
            in_flight(call)
            if watch.is_asleep:
                watch.wake()
            self.context = context = JobContext(job, store)
            result = error = None
            try:
                try:
                    result = fresh().run(running.call, known.job, job, context)
                except BaseException as raised:  # noqa: BLE001 -- whatever it is, it is the job's failure
                    error = raised
                self.ended = token
                if self.is_interrupted:
                    self._quiesce()
            except JobTimeout as late:
                if self.ended != token:
                    error = late
            if self._recording.is_copy:
                os._exit(
                    1 if error else 0
                )  # the job has forked, and this is the child: none of it is its business
            if self.is_interrupted:
                self.is_interrupted = self.is_thrown = False
            if self.is_given_up:
                return  # too late: it is settled, and the process is about to end
            took_ns = monotonic_ns() - now_ns
            if error is None and running.is_plain(job, lease):
                end(slot, token, _ACK)
                done(lease)
            else:
                self._end_otherwise(item, result, error)
                result = error = None
            self.item = None
            not_in_flight(call)
            known.route.latency_ns += took_ns
            known.route.count += 1
            crew.spent_ns += took_ns
            crew.ran += 1

    def _end_otherwise(self, item: "Item", result: object, error: "BaseException | None") -> None:
        """End a job that failed, or at whose end more has to happen."""
        lease, job, known = item
        settle = running.settlement(lease, job, known, result, error, self._telling)
        self._recording.recorder.end(self.slot, lease.token, running.outcome(settle))
        self._fetcher.unsettled.rich.append((lease, settle))

    def _quiesce(self) -> None:
        """Wait until nothing can be thrown at this thread any more; the exception itself may be raised here, and ends this."""
        while not self.is_thrown:
            time.sleep(_QUIESCE_S)
        # What is pending is raised by the interpreter before it begins another loop.
        for _ in range(100):
            pass

    def interrupt(self, token: int) -> None:
        """Throw `JobTimeout` at what runs, if it still does; called by the watch."""
        from ctypes import c_ulong, py_object, pythonapi

        self.is_interrupted = True
        # From here on the thread waits for us at the job's end.
        if self.ended != token and self.item is not None and self.item[0].token == token:
            pythonapi.PyThreadState_SetAsyncExc(c_ulong(self.ident), py_object(JobTimeout))
        self.is_thrown = True
