"""The coroutines that run as jobs, on the container's own loop.

A thread fetches for them (the *feeder*); what it brings crosses over in one go. Each job is a task with a context of its own,
which is not the component's: the end of the component cancels what is its own, and a job is to be finished.
"""

import asyncio
import os
from _thread import allocate_lock, get_ident
from contextvars import Context, copy_context
from threading import Thread
from time import monotonic_ns

from holdfast.engine import running
from holdfast.engine.threads import UNIX_OF_ZERO_S
from holdfast.model.jobs import BACK, DROP, Settle
from holdfast.sdk.job_context import JobContext, JobTimeout
from holdfast.sdk.recorder import CURRENT, RECORDER, Call
from holdfast.wire.flight import OUTCOME_CODES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType
    from typing import Any

    from holdfast.engine.fetching import Fetcher
    from holdfast.engine.recording import Recording
    from holdfast.engine.running import Item, Known, Telling
    from holdfast.engine.watching import Watch

_ACK, _DROPPED = OUTCOME_CODES["ack"], OUTCOME_CODES["drop"]
#: Why a task was cancelled.
TIMEOUT, CANCELLED = "timeout", "cancelled"


class Place:
    """Where one coroutine runs: its slot in the recorder, and what the watch reads."""

    __slots__ = (
        "context",
        "deadline_ns",
        "is_begun",
        "is_given_up",
        "item",
        "slot",
        "started_ns",
        "task",
        "why",
    )

    def __init__(self, slot: int) -> None:
        self.slot = slot
        self.item: Item | None = None
        self.context: JobContext | None = None
        self.task: asyncio.Task[None] | None = None
        self.started_ns = self.deadline_ns = 0
        self.is_begun = False  #: its first step was made
        self.why = ""  #: it was cancelled by us, because of this
        self.is_given_up = False


class Coroutines:
    """All of them; everything but :meth:`feed` and :meth:`given` runs on the loop."""

    def __init__(
        self, slots: "range", fetcher: "Fetcher", recording: "Recording", telling: "Telling", watch: "Watch",
        loop: asyncio.AbstractEventLoop, crash: "Callable[[BaseException], None]",
    ) -> None:  # fmt: skip
        self.places = [Place(slot) for slot in slots]
        self._free = self.places[::-1]
        self._fetcher = fetcher
        self._recording = recording
        self._telling = telling
        self._watch = watch
        self._loop = loop
        self._crash = crash
        self._is_called = False
        self._contexts: dict[Known, Context] = {}
        self._plain_context = copy_context()
        self.ident = get_ident()
        fetcher.on_coroutines = self.given
        fetcher.coroutines.busy = lambda: len(self.places) - len(self._free)

    def start(self) -> None:
        """Begin to fetch."""
        Thread(target=self._feed, name="holdfast.job.feed", daemon=True).start()

    def _feed(self) -> None:
        bell = allocate_lock()
        bell.acquire()
        try:
            self._fetcher.seek(self._fetcher.feeder, bell)
        except BaseException as error:  # noqa: BLE001 -- the engine's own: the process ends
            self._crash(error)

    def given(self) -> None:
        """Have the loop look at what waits; from any thread."""
        if not self._is_called:
            self._is_called = True
            self._loop.call_soon_threadsafe(self._pump, context=self._plain_context)

    def _pump(self) -> None:
        """Start as many as there is room for."""
        self._is_called = False
        self.ident = get_ident()
        waiting, free = self._fetcher.coroutines.waiting, self._free
        try:
            while free:
                item = waiting.popleft()
                now_ns = monotonic_ns()
                if now_ns >= self._fetcher.lease_until_ns and not self._fetcher.has_lease(now_ns):
                    self._fetcher.unsettled.rich.append((item[0], Settle(item[0].token, BACK)))
                    continue
                self._begin(free.pop(), item, now_ns)
        except IndexError:
            pass
        if len(waiting) <= self._fetcher.coroutines.low:
            self._fetcher.nudge()

    def _begin(self, place: Place, item: "Item", now_ns: int) -> None:
        lease, job, known = item
        deadline_s = known.deadline_s(job) if "hf" in job else known.timeout_s
        place.started_ns = now_ns
        place.deadline_ns = now_ns + int(deadline_s * 1e9) if deadline_s else 0
        place.why = ""
        place.is_begun = False
        place.item = item
        self._recording.recorder.begin(
            place.slot, lease.token, job["jid"].encode(), known.klass, self.ident, place.deadline_ns, now_ns,
            now_ns * 1e-9 + UNIX_OF_ZERO_S,
        )  # fmt: skip
        if self._watch.is_asleep:
            self._watch.wake()
        base = self._contexts.get(known)
        if base is None:
            base = self._contexts[known] = copy_context()
            base.run(CURRENT.set, known.instance)
        place.context = JobContext(job, self._fetcher.store)
        # Not by the loop's factory: what counts tasks and remembers who made them is for those that nobody expects.
        place.task = asyncio.Task(
            self._run(place, item), loop=self._loop, name=job["class"], context=base.copy()
        )

    async def _run(self, place: Place, item: "Item") -> None:
        lease, job, known = item
        place.is_begun = True
        call = Call(known.instance, None)
        RECORDER.calls.add(call)
        timer = None
        if place.deadline_ns:
            seconds = (place.deadline_ns - place.started_ns) / 1e9
            timer = self._loop.call_later(
                seconds, self.cancel, place, lease.token, TIMEOUT, context=self._plain_context
            )
        context = place.context
        assert context is not None  # noqa: S101 -- _begin() has made it
        result, error = None, None
        try:
            result = await running.await_call(known.job, job, context)
        except BaseException as raised:  # noqa: BLE001 -- whatever it is, it is the job's failure
            error = raised
        if timer is not None:
            timer.cancel()
        if self._recording.is_copy:
            os._exit(
                1 if error else 0
            )  # the job has forked, and this is the child: none of it is its business
        try:
            self._end(place, item, result, error)
        except BaseException as trouble:  # noqa: BLE001 -- the engine's own: the process ends
            self._crash(trouble)
        RECORDER.calls.discard(call)

    def _end(
        self, place: Place, item: "Item", result: object, error: "BaseException | None"
    ) -> None:
        lease, job, known = item
        if place.is_given_up:
            return  # too late: it is settled, and the process is about to end
        crew, unsettled = self._fetcher.coroutines, self._fetcher.unsettled
        took_ns = monotonic_ns() - place.started_ns
        recorder = self._recording.recorder
        if error is None and running.is_plain(job, lease):
            recorder.end(place.slot, lease.token, _ACK)
            unsettled.done.append(lease)
        else:
            if place.why == CANCELLED and isinstance(error, asyncio.CancelledError):
                settle = Settle(lease.token, DROP)
            else:
                if place.why == TIMEOUT and isinstance(error, asyncio.CancelledError):
                    error = JobTimeout(f"ran longer than {known.deadline_s(job):g} s").with_traceback(error.__traceback__)  # fmt: skip
                settle = running.settlement(lease, job, known, result, error, self._telling)
            recorder.end(place.slot, lease.token, running.outcome(settle))
            unsettled.rich.append((lease, settle))
        place.item = place.context = place.task = None
        self._free.append(place)
        known.route.latency_ns += took_ns
        known.route.count += 1
        crew.spent_ns += took_ns
        crew.ran += 1
        if crew.waiting:
            self.given()
        else:
            self._fetcher.nudge()

    def cancel(self, place: Place, token: int, why: str) -> None:
        """Cancel what runs in a place, if it is still that one."""
        task = place.task
        if task is None or place.item is None or place.item[0].token != token:
            return
        if not place.is_begun:
            # Cancelled before its first step it would end without a word.
            self._loop.call_soon(self.cancel, place, token, why, context=self._plain_context)
            return
        place.why = why
        task.cancel()

    def is_on_stack(self, place: Place) -> bool:
        """Whether the loop is in the middle of this one's code; from any thread."""
        return place.task is not None and asyncio.current_task(self._loop) is place.task

    def cancel_from_thread(self, place: Place, token: int, why: str) -> None:
        """Do the same, asked by another thread."""
        self._loop.call_soon_threadsafe(self.cancel, place, token, why, context=self._plain_context)


def awaited(task: "asyncio.Task[None] | None") -> "list[FrameType]":
    """Return the frames in which a suspended task waits, innermost first."""
    found: list[FrameType] = []
    coroutine: Any = task.get_coro() if task is not None else None
    while coroutine is not None:
        frame = getattr(coroutine, "cr_frame", None) or getattr(coroutine, "gi_frame", None)
        if frame is not None:
            found.append(frame)
        coroutine = getattr(coroutine, "cr_await", None) or getattr(coroutine, "gi_yieldfrom", None)
    return found[::-1]
