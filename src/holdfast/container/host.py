"""A process that hosts components: from its start to its death.

Crash-only: whatever a component raises and does not catch ends the process with status 70 and words that
say who and why; the keeper starts it again. There is no other way out but SIGTERM's, and that one only gives components
the chance to say goodbye. Left out: deciding when to restart (keeper), judging the beats (watchdog).
"""

import asyncio
import faulthandler
import gc
import os
import signal
import sys
import threading
import time

from holdfast.agent import hooks, words
from holdfast.agent.pulse import PulseWriter
from holdfast.container import faults, foreign, stacks, turn
from holdfast.container.beat import Beats
from holdfast.container.control import Control
from holdfast.container.hosted import Hosted
from holdfast.container.load import Refused
from holdfast.container.noting import Noting
from holdfast.sdk.lastwords import one_line, report
from holdfast.sdk.life import remember_tasks
from holdfast.sdk.logline import write_text
from holdfast.sdk.recorder import RECORDER
from holdfast.sdk.serving import keep_listen_fds
from holdfast.wire import jsonlite, layout

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from typing import Any, NoReturn

    from holdfast.container.control import Answer, Reply
    from holdfast.model.plan import Plan, WorkerPlan

#: Exit statuses, as in sysexits.h: software error, input/output error, configuration error.
CRASHED, NO_ROOM, MISCONFIGURED = 70, 74, 78

#: How long a single component may take to end before a micro-reboot gives up on it.
PATIENCE_S = 5.0

#: What the control socket answers, whatever the components are.
_KNOWN = ("components", "metrics", "start", "stop", "restart", "stacks", "tasks", "census", "fault")


def main(collect_at: "tuple[int, int, int]", taken: int) -> "NoReturn":
    """Run the worker that the environment names, until death.

    Args:
        collect_at: The garbage collector's thresholds once the imports are done.
        taken: Its turn to import (:mod:`holdfast.container.turn`).
    """
    gc_imports = gc.get_threshold()[0]
    faulthandler.enable()
    faulthandler.register(signal.SIGUSR1, all_threads=True, chain=False)
    for stream in (sys.stdout, sys.stderr):
        # A pipe gets whole buffers by default, and SIGKILL then takes the last lines along.
        stream.reconfigure(line_buffering=True, errors="backslashreplace")  # type: ignore[union-attr]
    try:
        run_dir = os.environ["HOLDFAST_RUN"]
        worker = os.environ["HOLDFAST_WORKER"]
        pulse_path = os.environ["HOLDFAST_PULSE"]
    except KeyError as missing:
        _refuse(f"{missing.args[0]} is not set: this program is started by the keeper, not by hand")
    plan = _worker_plan(run_dir, worker)
    if plan.get("log", {}) is None:
        try:
            words.keep(run_dir, worker, int(os.environ.get("HOLDFAST_START", "0")))
        except OSError as error:
            # Less evidence of a crash, should there be one; that is no reason not to serve.
            write_text(2, f"holdfast: no file for last words: {error}\n")
    keep_listen_fds()
    _set_name(worker)
    go = os.environ.get("HOLDFAST_GO", "")
    main_path = f"{os.path.dirname(pulse_path)}/{worker}"
    try:
        pulse = PulseWriter(
            main_path + ".spare" if go else main_path,
            os.getpid(),
            int(os.environ.get("HOLDFAST_START", "0")),
        )
    except OSError as error:
        _leave(NO_ROOM, f"cannot make the pulse file {main_path}: {error.strerror}")
    host = Host(run_dir, plan, pulse)
    host.import_components()
    turn.give_back(taken)
    if go:
        gc.collect()  # there is time for it here
    # What the imports made lives for ever: out of the collector's sight, no pass over it later.
    gc.freeze()
    if gc.get_threshold()[0] == gc_imports:  # else: a component has chosen its own
        gc.set_threshold(*collect_at)
    if go:
        _wait_for_go(int(go), pulse)
        pulse.rename(main_path)
        os.environ["HOLDFAST_ROLE"] = "main"
    host.run()


def _worker_plan(run_dir: str, worker: str) -> "WorkerPlan":
    path = f"{run_dir}/{layout.PLAN}"
    try:
        plan: Plan = _read_plan(run_dir)
    except (OSError, ValueError) as error:
        _refuse(f"cannot read the plan {path}: {error}")
    entry = next((entry for entry in plan["workers"] if entry["name"] == worker), None)
    if entry is None:
        _refuse(f'there is no worker "{worker}" in the plan {path}')
    mine = os.environ.get("HOLDFAST_COMPONENTS")
    if mine is not None:
        # The worker was split, or made whole, since we were started: what is not ours runs elsewhere.
        names = mine.split()
        entry["components"] = [one for one in entry["components"] if one["name"] in names]
    return entry


def _read_plan(run_dir: str) -> "Plan":
    with open(f"{run_dir}/{layout.PLAN}", encoding="utf-8") as file:
        plan: Plan = jsonlite.loads(file.read())
    return plan


def _set_name(worker: str) -> None:
    """Make ``ps`` and ``top`` show which worker this is."""
    try:
        with open("/proc/self/comm", "wb", buffering=0) as file:
            file.write(f"hf-{worker}".encode()[:15])
    except OSError:
        return  # a sandbox without /proc: a name is not worth a failed start


def _wait_for_go(go: int, pulse: PulseWriter) -> None:
    """Stand by as a spare: everything imported, nothing started."""
    os.set_inheritable(go, False)
    pulse.note(b"spare")
    if os.read(go, 1) == b"":
        os._exit(0)  # the other end is gone: not needed any more
    os.close(go)
    pulse.note(b"")


def _tell(do: str, tell: "Callable[[], Any]", reply: "Reply") -> None:
    try:
        answer: Answer = {"ok": True, do: tell()}
    except Exception as error:  # noqa: BLE001 -- a fault in telling is no reason to end what works; who asks is told
        answer = {"ok": False, "error": f"{type(error).__name__}: {error}"}
    reply(answer)


def _take_census(request: "Answer", reply: "Reply") -> None:
    from holdfast.agent.growth import answer

    reply(answer(request))


def _refuse(says: str) -> "NoReturn":
    _leave(MISCONFIGURED, says)


def _leave(status: int, says: str = "") -> "NoReturn":
    try:
        write_text(1, "")
        write_text(2, f"holdfast: {says}\n" if says else "")
    finally:
        # No interpreter shutdown: it would wait for threads, and nothing here depends on it.
        os._exit(status)


class Host:
    """This process: its components, its loop, its beats."""

    def __init__(self, run_dir: str, plan: "WorkerPlan", pulse: PulseWriter) -> None:
        self._run_dir = run_dir
        self._plan = plan
        self._pulse = pulse
        self._noting = Noting(pulse)
        self._noting.install()
        self._loop = asyncio.new_event_loop()
        self._loop.set_exception_handler(self._loop_error)
        remember_tasks(self._loop)
        self._control = Control(self._answer)
        self._beats = Beats(pulse, self._noting, self._control)
        os.register_at_fork(after_in_child=pulse.go_private)
        if plan.get("agent", True) and os.environ.get("HOLDFAST_AGENT") != "0":
            hooks.install(self._beats.reporter)
        self._dying = threading.Lock()
        self._orders: set[asyncio.Task[None]] = set()
        self._components = {
            entry["name"]: Hosted(entry, self._loop, self.crash) for entry in plan["components"]
        }
        RECORDER.sink = lambda text: pulse.event(time.monotonic_ns(), text)
        self._beats.start_thread(lambda error: self.crash("holdfast", error))

    # -- life ------------------------------------------------------------------------------------

    def import_components(self) -> None:
        """Import every component; one that cannot be ends the process."""
        directory = self._plan["directory"]
        if directory in sys.path:
            sys.path.remove(directory)
        sys.path.insert(0, directory)
        foreign.prepare_reactor(self._loop)
        for hosted in self._components.values():
            self._pulse.note(hosted.instance.note)
            try:
                hosted.load()
            except Refused as error:
                self._pulse.last_words(f"refused {error}")
                _refuse(str(error))
            except SystemExit as error:
                self._exited(hosted.name, error)
            except BaseException as error:  # noqa: BLE001 -- told and ended
                self.crash(hosted.name, error)
        self._pulse.note(b"")

    def run(self) -> "NoReturn":
        """Start the components and serve until death."""
        loop = self._loop
        asyncio.set_event_loop(loop)
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._asked_to_end)
        self._beats.start_loop(loop)
        self._order(self._start_all())
        try:
            self._control.open(f"{self._run_dir}/{layout.CONTROL}/{self._plan['name']}.sock")
        except OSError as error:
            # Serving matters more than being asked.
            write_text(2, f"holdfast: no control socket: {error}\n")
        try:
            loop.run_forever()
        except SystemExit as error:
            self._exited(self._running_name(), error)
        except BaseException as error:  # noqa: BLE001 -- told and ended
            self.crash(self._running_name(), error)
        _leave(CRASHED, "the event loop was stopped by a component")

    async def _start_all(self) -> None:
        for hosted in self._components.values():
            await hosted.start()
        # Only now: a component that waits for its router must not keep the next one from starting.
        for hosted in self._components.values():
            await hosted.joined(None)
        self._pulse.set_ready()

    def _asked_to_end(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            self._loop.add_signal_handler(number, lambda: None)  # once is enough
        self._pulse.set_stopping()
        for order in self._orders:
            order.cancel()  # a start that is under way holds its component's turn
        self._order(self._end())

    async def _end(self) -> None:
        for hosted in reversed(self._components.values()):
            says = await hosted.stop(self._plan["stop"]["grace_s"])
            if says:
                write_text(2, f"holdfast: {says}\n")
        _leave(0)

    # -- death -----------------------------------------------------------------------------------

    def crash(self, name: str, error: BaseException) -> None:
        """End the process and say why; from any thread. The first one to crash gets the word."""
        if isinstance(error, SystemExit):
            self._exited(name, error)
        self._dying.acquire()  # for ever: a second one waits here for the end
        try:
            self._pulse.last_words(f"crash component={name} {one_line(error)}")
            self._pulse.event(time.monotonic_ns(), f"{name}: crashed {one_line(error)}")
            write_text(2, report(name, error))
        finally:
            _leave(CRASHED)

    def _exited(self, name: str, error: SystemExit) -> "NoReturn":
        """A component has called sys.exit: that is what it gets, with the status that it asked for."""
        code = error.code
        status = code & 0xFF if isinstance(code, int) else 0 if code is None else 1
        self._pulse.last_words(f"exit component={name} sys.exit({code!r})")
        _leave(status, f'component "{name}" ended the process: sys.exit({code!r})')

    def _loop_error(self, _: asyncio.AbstractEventLoop, context: "dict[str, Any]") -> None:
        """A task that nobody waits for has failed, or a callback: told, but nobody's crash."""
        name = self._running_name()
        error = context.get("exception")
        if error is None:
            write_text(2, f"level=error component={name} {context.get('message', '')}\n")
        else:
            write_text(2, report(name, error, "has an error that nobody handled"))
            self._pulse.event(time.monotonic_ns(), f"{name}: unhandled {one_line(error)}")

    def _running_name(self) -> str:
        running = self._noting.running
        return running.name if running is not None else "?"

    # -- control socket --------------------------------------------------------------------------

    def _answer(self, request: "Answer", reply: "Reply") -> None:
        """Deal with a request, in the plain thread."""
        do = request.get("do")
        if do == "components":
            reply({"ok": True, "components": [h.describe() for h in self._components.values()]})
        elif do == "metrics":
            read = {name: h.instance.metrics.read() for name, h in self._components.items()}
            reply({"ok": True, "metrics": read})
        elif do == "stacks":
            reply({"ok": True, "stacks": stacks.text(self._loop)})
        elif do == "tasks":
            from holdfast.agent.tasktree import tree

            reply({"ok": True, "tree": tree()})
        elif do == "census":
            # It takes a while, and the beat must not wait for it.
            threading.Thread(target=_take_census, args=(request, reply), daemon=True).start()
        elif do in ("start", "stop", "restart"):
            hosted = self._named(request, reply)
            if hosted is not None:
                self._loop.call_soon_threadsafe(self._order, self._carry_out(do, hosted, reply))
        elif do == "fault":
            self._inject(request, reply)
        else:
            self._answer_of_component(do, reply)

    def _answer_of_component(self, do: object, reply: "Reply") -> None:
        """Let the component tell that knows; in the loop, where what it tells of changes."""
        answers = {
            name: tell
            for h in self._components.values()
            for name, tell in h.instance.answers.items()
        }
        if isinstance(do, str) and do in answers:
            self._loop.call_soon_threadsafe(_tell, do, answers[do], reply)
            return
        known = ", ".join((*_KNOWN, *answers))
        reply({"ok": False, "error": f"unknown request {do!r}; known: {known}"})

    def _named(self, request: "Answer", reply: "Reply") -> "Hosted | None":
        name = request.get("component")
        hosted = self._components.get(name) if isinstance(name, str) else None
        if hosted is None:
            has = ", ".join(self._components)
            says = f'worker "{self._plan["name"]}" has no component {name!r}; it has: {has}'
            reply({"ok": False, "error": says})
        return hosted

    def _order(self, coroutine: "Coroutine[Any, Any, None]") -> None:
        task = self._loop.create_task(coroutine)
        self._orders.add(task)
        task.add_done_callback(self._order_done)

    def _order_done(self, task: "asyncio.Task[None]") -> None:
        self._orders.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.crash("holdfast", error)

    async def _carry_out(self, do: str, hosted: Hosted, reply: "Reply") -> None:
        began_s = self._loop.time()
        modules: list[str] = []
        trouble = ""
        if do == "start":
            trouble = await hosted.start()
        elif do == "stop":
            trouble = await hosted.stop(PATIENCE_S)
        else:
            others = [h.use for h in self._components.values() if h is not hosted]
            modules, trouble = await hosted.restart(PATIENCE_S, others)
        if trouble:
            reply({"ok": False, "error": trouble})
            return
        if do != "stop":
            await hosted.joined(PATIENCE_S)  # where there is no router it goes on waiting by itself
        took_ms = (self._loop.time() - began_s) * 1e3
        reply({
            "ok": True, "component": hosted.name, "state": hosted.state, "took_ms": took_ms,
            "reimported": modules,
        })  # fmt: skip

    def _inject(self, request: "Answer", reply: "Reply") -> None:
        name = request.get("name")
        fault = faults.FAULTS.get(name) if isinstance(name, str) else None
        if not _read_plan(self._run_dir).get("drills"):
            reply({"ok": False, "error": "this node is not marked drills = true: no faults here"})
        elif fault is None:
            says = f"unknown fault {name!r}; known: {', '.join(faults.FAULTS)}"
            reply({"ok": False, "error": says})
        else:
            request.setdefault("component", next(iter(self._components), ""))
            hosted = self._named(request, reply)
            if hosted is not None:
                # Answered first: the fault may be the end of everything.
                reply(
                    {"ok": True, "component": hosted.name, "fault": name},
                    lambda: self._loop.call_soon_threadsafe(hosted.run_here, fault),
                )
