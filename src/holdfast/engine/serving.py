"""How does a worker begin to run jobs, and how does it end?

The component `app` finds its plan in its worker's entry of `RUN/plan.json`. In this order: the modules that declare jobs are imported, the
flight recorder is made, the steward is told, the store knows the owner, and only then is a job taken; then the worker is ready. Killed
between any two of these steps nothing is held by anybody.
Left out: what a job does to the queue when it ends (`settling.py`), who runs it (`threads.py`, `coroutines.py`).
"""

import asyncio
import os
import sys
import time
from time import monotonic_ns

from holdfast.sdk import Component
from holdfast.wire import jsonlite, layout

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn, Self

    from holdfast.engine.fetching import Fetcher
    from holdfast.engine.recording import Recording
    from holdfast.engine.watching import Watch
    from holdfast.jobs.store import Store
    from holdfast.model.jobs import JobsPlan

#: Exit status of a wrong configuration, as a container's.
MISCONFIGURED = 78
#: How long a stop waits between two looks whether all jobs have ended.
_LOOK_S = 0.005

app = Component("jobs")


class _Refused(Exception):  # noqa: N818 -- reads as what it says
    """This worker cannot start as it is configured; the text is for a person."""


def read_plan(run_dir: str, worker: str) -> "tuple[JobsPlan, float]":
    """Return what this worker does, and the seconds that it has for its end.

    Raises:
        LookupError: The node has no such worker of kind `jobs`.
    """
    with open(f"{run_dir}/{layout.PLAN}", encoding="utf-8") as file:
        plan = jsonlite.loads(file.read())
    entry = next((entry for entry in plan["workers"] if entry["name"] == worker), None)
    if entry is None or not entry.get("jobs"):
        says = f'worker "{worker}" runs no jobs, says the plan'
        raise LookupError(says)
    return entry["jobs"], float(entry["stop"]["grace_s"])


def import_jobs() -> None:
    """Import the modules that declare jobs, when this is a worker; ends the process if that cannot be."""
    run_dir, worker = os.environ.get("HOLDFAST_RUN", ""), os.environ.get("HOLDFAST_WORKER", "")
    if not run_dir or not worker:
        return
    try:
        plan, _ = read_plan(run_dir, worker)
    except (OSError, ValueError, LookupError) as error:
        _refuse(str(error))
    # What the jobs of this process enqueue goes where they came from.
    os.environ.setdefault("HOLDFAST_JOBS", plan["store"])
    os.environ.setdefault("HOLDFAST_JOBS_PREFIX", plan["prefix"])
    for module in plan["use"]:
        _import(module)


def _import(module: str) -> None:
    from importlib import import_module

    try:
        import_module(module)
    except ModuleNotFoundError as error:
        missing = error.name or ""
        if module == missing or module.startswith(missing + "."):
            _refuse(
                f'there is no module "{missing}" (use = ["{module}"]); looked in {sys.path[0]} first'
            )
        _refuse_import(module, error)
    except Exception as error:  # noqa: BLE001 -- the author's code; told with the place
        _refuse_import(module, error)


def _refuse_import(module: str, error: Exception) -> "NoReturn":
    trace = error.__traceback__
    where = ""
    while trace is not None:
        code = trace.tb_frame.f_code
        if "importlib" not in code.co_filename and code.co_filename != __file__:
            where = f" at {code.co_filename}:{trace.tb_lineno}"
        trace = trace.tb_next
    _refuse(f'module "{module}" cannot be imported: {type(error).__name__}: {error}{where}')


def _refuse(says: str) -> "NoReturn":
    app.log.error("this worker cannot run jobs", says=says)
    sys.exit(MISCONFIGURED)


class _Engine:
    """The engine of this process."""

    def __init__(self) -> None:
        self.run_dir, self.worker = os.environ["HOLDFAST_RUN"], os.environ["HOLDFAST_WORKER"]
        self.plan, self.grace_s = read_plan(self.run_dir, self.worker)
        self.instance = app.bound
        self.loop = asyncio.get_running_loop()
        self.recording: Recording | None = None
        self.fetcher: Fetcher | None = None
        self.watch: Watch | None = None
        self.store: Store | None = None
        self.is_told_away = False

    def crash(self, error: BaseException) -> None:
        """End the process; from any thread."""
        life = self.instance.life
        assert life is not None  # noqa: S101 -- it runs in one
        life.crash(self.instance.name, error)

    def leave(self, status: int, says: str) -> None:
        """End the process on purpose; from any thread."""
        from holdfast.sdk.recorder import RECORDER

        if self.recording is not None:
            # First of all: nobody is to be blamed for this death.
            self.recording.meant()
        (self.instance.log.info if status == 0 else self.instance.log.error)(says)
        if RECORDER.sink is not None:
            RECORDER.sink(f"{self.instance.name}: ends: {says}")
        self.crash(SystemExit(_Status(status, says)))

    def prepare(self) -> None:
        """Make everything, and take no job yet; in the component's thread."""
        from holdfast.engine.coroutines import Coroutines
        from holdfast.engine.fetching import Fetcher
        from holdfast.engine.recording import Recording
        from holdfast.engine.running import Classes, Telling
        from holdfast.engine.threads import Executor
        from holdfast.engine.watching import Watch
        from holdfast.jobs.opening import open_store
        from holdfast.model.jobs import StoreRefusedError
        from holdfast.sdk.recorder import RECORDER

        plan, log = self.plan, self.instance.log
        try:
            self.store = store = open_store(plan["store"], plan["prefix"])
        except StoreRefusedError as error:
            raise _Refused(str(error)) from None
        self._publish()
        classes = Classes(self.instance.name, plan["timeout_s"])
        has_plain, has_async = classes.kinds
        is_lane = plan["role"] == "quarantine"
        threads = (1 if is_lane else plan["concurrency"]) if has_plain else 0
        tasks = (1 if is_lane else plan["async_concurrency"]) if has_async else 0
        self.recording = recording = Recording(
            self.run_dir, self.worker, max(1, threads + tasks), store.url
        )
        recording.tell(f"born {recording.owner}")
        self.fetcher = fetcher = Fetcher(store, recording, plan, classes, log, self.leave)
        self.watch = watch = Watch(plan, self.grace_s, fetcher, log, self.leave, self.crash)
        fetcher.on_ended = lambda jobs: RECORDER.work(self.instance, jobs)
        telling = Telling(log, recording.recorder)
        watch.executors = [
            Executor(slot, fetcher, recording, telling, watch, self.instance, self.crash)
            for slot in range(threads)
        ]
        fetcher.threads.size, fetcher.coroutines.size = threads, tasks
        fetcher.threads.busy = lambda: sum([one.item is not None for one in watch.executors])
        if tasks or not threads:
            watch.coroutines = Coroutines(
                range(threads, threads + tasks), fetcher, recording, telling, watch, self.loop, self.crash
            )  # fmt: skip
        self._register(fetcher)

    def _publish(self) -> None:
        """Tell the steward which periodic jobs there are."""
        from holdfast.engine.schedule import publish
        from holdfast.sdk.job_cron import entries
        from holdfast.sdk.job_registry import REGISTRY

        if self.plan["role"] == "worker":
            publish(self.run_dir, self.worker, entries(REGISTRY.values()))

    def _register(self, fetcher: "Fetcher") -> None:
        from holdfast.model.jobs import StoreRefusedError

        try:
            while not fetcher.register():
                fetcher.pause()
                if self.instance.stopping.is_set():
                    return
        except StoreRefusedError as error:
            raise _Refused(str(error)) from None

    def begin(self) -> None:
        """Take jobs from now on."""
        fetcher, watch = self.fetcher, self.watch
        assert fetcher is not None  # noqa: S101 -- prepare() comes first
        assert watch is not None  # noqa: S101
        watch.start()
        for executor in watch.executors:
            executor.start()
        if watch.coroutines is not None:
            watch.coroutines.start()

    def quiet(self) -> None:
        """Take nothing new, and finish what runs; the signal TSTP."""
        if self.fetcher is not None and not self.fetcher.is_quiet:
            self.instance.log.info("quiet: it takes no more jobs")
            self.fetcher.quiet()

    def stop(self) -> None:
        """Give back what was not started and wait for what runs; in the component's thread."""
        fetcher, watch, recording = self.fetcher, self.watch, self.recording
        if fetcher is None or watch is None or recording is None:
            return
        recording.meant()
        fetcher.quiet()
        until_ns = monotonic_ns() + int(self.grace_s * 1e9)
        while watch.running() and monotonic_ns() < until_ns:
            fetcher.give_back()
            fetcher.flush()
            time.sleep(_LOOK_S)
        fetcher.give_back()
        fetcher.settle_all(until_ns)
        fetcher.end()


class _Status(int):
    """An exit status that says why, where the container writes it down."""

    says: str

    def __new__(cls, status: int, says: str) -> "Self":
        made = super().__new__(cls, status)
        made.says = says
        return made

    def __repr__(self) -> str:
        return f"{int(self)}: {self.says}"


class _Hosted:
    engine: _Engine | None = None


@app.on_start
async def _prepare() -> None:
    """Read the plan and take over the signals of a job worker."""
    import faulthandler
    import signal

    try:
        engine = _Hosted.engine = _Engine()
    except (OSError, ValueError, LookupError) as error:
        _refuse(str(error))
    faulthandler.register(signal.SIGTTIN, all_threads=True, chain=False)
    engine.loop.add_signal_handler(signal.SIGTSTP, engine.quiet)


@app.on_start
def _start() -> None:
    """Make everything, and begin."""
    engine = _Hosted.engine
    assert engine is not None  # noqa: S101 -- it is made just above
    try:
        engine.prepare()
    except _Refused as error:
        _refuse(str(error))
    engine.begin()


@app.on_stop
def _stop() -> None:
    """Finish what runs and give back the rest."""
    engine, _Hosted.engine = _Hosted.engine, None
    if engine is not None:
        engine.stop()
