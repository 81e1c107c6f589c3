"""The agent of an unmodified Python program: two beats and the counts, and the program notices nothing.

A bare thread (``_thread``: it is in no list of the program's threads) beats and writes. The serving loop is the asyncio loop that runs in the main
thread, or else the first one that runs anywhere: it is noticed where asyncio itself notes which loop runs. While there is none, the plain thread
vouches for it: a program without a loop has only one beat. A copy (fork) of the program has the same, in a pulse of its own
(:mod:`holdfast.agent.forks`).
"""

import atexit
import os
import sys
from _thread import get_ident, start_new_thread
from time import monotonic_ns, sleep

from holdfast.agent import asking, forks, hooks, words
from holdfast.agent.calls import Calls
from holdfast.agent.held import Held
from holdfast.agent.imports import after_import, tell
from holdfast.agent.loopbeat import LATE_NS
from holdfast.agent.pulse import PulseWriter, of_guest
from holdfast.agent.report import Reporter
from holdfast.agent.routes import TABLE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from holdfast.agent.loopbeat import LoopBeat

_PERIOD_S = 0.1
#: From when on it is looked where a request is that holds the whole process.
_HELD_NS = 1_000_000_000
#: In the place of asyncio's loop: gevent's hub or Twisted's reactor serves.
_OTHER = object()
#: The outermost functions of a main greenlet; those of the others are gevent's, or what they were made for.
_MAIN = ("<module>", "_run_module_as_main")


class Guest:
    """The agent of this process."""

    def __init__(self, pulse: PulseWriter, path: str) -> None:
        self._pulse = pulse
        self._pid = os.getpid()
        self._parent = 0  #: of a copy: whose
        self._place = forks.Place(path)  #: where copies show their pulses
        self._reporter = Reporter(pulse)
        self._main = get_ident()
        self._beat: LoopBeat | None = None
        self._loop: Any = None
        self._loop_thread = 0
        self._is_hub = False  #: the loop that is not asyncio's is gevent's hub

    def start(self) -> None:
        """Begin to beat and to count."""
        self._pulse.expect_fork()
        # The first to be registered is the last to be called: what follows is the interpreter's own end, in which nothing beats. With much to free
        # it takes seconds, and is no hang.
        atexit.register(self._pulse.set_stopping)
        os.register_at_fork(before=self._place.open, after_in_child=self._is_a_copy)
        after_import("asyncio.base_events", self._hook_loops)
        self._hook_other_loops()
        hooks.install(self._reporter)
        start_new_thread(self._beat_for_ever, ())

    def start_beside(self) -> None:
        """Begin as one of the worker's other processes: it has its own pulse already."""
        self._place.open()
        self._parent = os.getppid()
        self.start()

    def _is_a_copy(self) -> None:
        """Begin anew in a copy of the program, before anything of the program runs in it; all that can wait waits until it has lived for a moment."""
        try:
            self._parent, self._pid = self._pid, os.getpid()
            self._pulse.go_private()
            forks.forget()
            self._reporter.serving_thread = 0
            self._main = get_ident()
            self._beat = self._loop = None
            self._loop_thread = 0
            start_new_thread(self._beat_for_ever, ())
        except (OSError, RuntimeError, MemoryError) as error:
            tell(f"process {os.getpid()} goes on unseen: {error}")

    # -- the loop ----------------------------------------------------------------------------------

    def _hook_loops(self, _: "Any") -> None:
        events = sys.modules["asyncio.events"]
        original: Any = events._set_running_loop  # type: ignore[attr-defined,unused-ignore]  # noqa: SLF001 -- every loop calls it, uvloop as well

        def _set_running_loop(loop: "Any") -> None:
            original(loop)
            if loop is not None:
                self._runs(loop)
            elif get_ident() == self._loop_thread:
                self._rests()

        events._set_running_loop = _set_running_loop  # type: ignore[attr-defined,unused-ignore]  # noqa: SLF001
        package: Any = sys.modules.get("asyncio")
        if package is not None and hasattr(package, "_set_running_loop"):
            package._set_running_loop = _set_running_loop  # noqa: SLF001
        after_import(
            "asyncio", lambda module: setattr(module, "_set_running_loop", _set_running_loop)
        )

    def _hook_other_loops(self) -> None:
        def beat(known: int) -> "Any":
            from holdfast.agent.otherloops import OtherBeat

            return OtherBeat(self._pulse, self._serves_elsewhere, known)

        def gevent(module: "Any") -> None:
            from holdfast.agent.otherloops import install_gevent

            self._is_hub = True
            install_gevent(beat)(module)

        def twisted(module: "Any") -> None:
            from holdfast.agent.otherloops import install_twisted

            install_twisted(beat, self._rests_elsewhere)(module)

        def trio(module: "Any") -> None:
            from holdfast.agent.trioloop import install

            install(beat, self._rests_elsewhere)(module)

        after_import("gevent.hub", gevent)
        after_import("trio._core._run", trio)
        after_import("twisted.internet.base", twisted)

    def _vouch_for_hub(self, now_ns: int) -> None:
        """A hub that does not beat because the program's main greenlet has its turn is not blocked: that is how scripts are."""
        if self._pulse.loop_beat_age_ns(now_ns) < LATE_NS:
            return
        frame = sys._current_frames().get(self._loop_thread)  # noqa: SLF001 -- the documented way
        while frame is not None and frame.f_back is not None:
            frame = frame.f_back
        if frame is not None and frame.f_code.co_name in _MAIN:
            self._pulse.vouch_for_loop(now_ns)

    def _serves_elsewhere(self, thread: int) -> bool:
        """Whether a loop that is not asyncio's, in this thread, is the one that serves."""
        if self._loop is None and thread == self._main:
            self._loop, self._loop_thread = _OTHER, thread
            self._reporter.serving_thread = thread
        return self._loop is _OTHER and thread == self._loop_thread

    def _rests_elsewhere(self) -> None:
        if self._loop is _OTHER:
            self._loop, self._loop_thread = None, 0
            self._reporter.serving_thread = 0

    def _runs(self, loop: "Any") -> None:
        thread = get_ident()
        is_taken = self._loop is not None and self._loop is not _OTHER
        if is_taken and (thread != self._main or self._loop_thread == self._main):
            return  # another one serves
        from holdfast.agent.loopbeat import LoopBeat

        if self._beat is None:
            self._beat = LoopBeat(self._pulse)
        self._beat.rest()
        self._loop, self._loop_thread = loop, thread
        self._pulse.vouch_for_loop(monotonic_ns())
        self._reporter.serving_thread = thread
        try:
            self._beat.begin(loop)
        except Exception as error:  # noqa: BLE001 -- a loop of another make: the plain thread vouches for it
            tell(f"cannot beat in {type(loop).__name__} ({error})")
            self._rests()

    def _rests(self) -> None:
        self._loop, self._loop_thread = None, 0
        self._reporter.serving_thread = 0
        if self._beat is not None:
            self._beat.rest()

    # -- the plain thread --------------------------------------------------------------------------

    def _show(self, wait: "Callable[[float], None]") -> None:
        """Show the pulse of a copy that lives for long enough."""
        wait(forks.LEAST_S)
        self._reporter.begin_again()
        while not (socket := self._place.show(self._pulse, self._pid, self._parent)):
            wait(forks.AGAIN_S)
        asking.listen_at(socket)
        self._pulse.expect_fork()

    def _beat_for_ever(self) -> None:
        # What the modules of the program have replaced by then (gevent does) is not called here.
        wait, now, count, table = sleep, monotonic_ns, self._threads, TABLE
        if self._parent:
            self._show(wait)
        calls, held = Calls(self._main), Held(self._main)
        done_before = 0
        while True:
            try:
                now_ns = now()
                threads = count()
                in_flight = table.in_flight
                if self._loop is _OTHER and self._is_hub:
                    self._vouch_for_hub(now_ns)
                if self._loop is None:
                    self._pulse.vouch_for_loop(now_ns)
                    in_flight = in_flight or calls.under_way()
                done = table.requests()
                since_ns, longest_ns, is_whole = held.look(now_ns)
                self._pulse.held(since_ns, longest_ns, is_whole)
                if since_ns and now_ns - since_ns > _HELD_NS:
                    self._reporter.look_at(held.thread)
                self._reporter.beat(now_ns, threads)
                self._pulse.thread_beat(now_ns, threads, in_flight, done, 0)
            except Exception as error:  # noqa: BLE001 -- said once; a beat that stops would look like a hang
                if not done_before:
                    done_before = 1
                    tell(f"cannot report ({type(error).__name__}: {error})")
            wait(_PERIOD_S)

    @staticmethod
    def _threads() -> int:
        threading = sys.modules.get("threading")
        active = getattr(threading, "_active", None)
        return len(active) if active is not None else 1


def start() -> None:
    """Start the agent that the environment asks for; a program is never kept from running."""
    path = os.environ.get("HOLDFAST_PULSE", "")
    number = os.environ.get("HOLDFAST_START", "0")
    if not path or os.environ.get("HOLDFAST_AGENT") == "0" or not number.isdecimal():
        return
    try:
        pulse = of_guest(path, os.getpid(), int(number))
    except OSError as error:
        tell(f"no pulse at {path}: {error.strerror}")
        return
    if pulse is None:
        if forks.is_spawned():
            Guest(PulseWriter.private(int(number)), path).start_beside()
        return
    Guest(pulse, path).start()
    asking.listen()
    run_dir, worker = os.environ.get("HOLDFAST_RUN", ""), os.environ.get("HOLDFAST_WORKER", "")
    has_name = bool(run_dir and worker and os.environ.get("PYTHONFAULTHANDLER"))
    if has_name and not words.is_captured(run_dir, worker):
        try:
            words.keep(run_dir, worker, int(number))
        except OSError as error:
            tell(f"no file for last words: {error}")
