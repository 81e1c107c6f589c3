"""The jobs of process pools are counted: how many, how long, and which one a process is in.

``multiprocessing.Pool`` gives each process a queue to take jobs from and one to put results into: a job lasts from one to the other. Celery tells by
signals of its own. Each is told of when its module is imported; nothing is imported here. Jobs in threads are not meant.
"""

import sys
from _thread import get_ident
from time import perf_counter_ns

from holdfast.agent.imports import after_import
from holdfast.agent.routes import TABLE, finish

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from holdfast.agent.routes import Route


class Job:
    """The job that this process is in; there is one, :data:`JOB`: a process of a pool does one after the other."""

    __slots__ = ("_began_ns", "_name")

    def __init__(self) -> None:
        self._name = ""
        self._began_ns = 0

    def begins(self, name: str) -> None:
        """A job begins; in the main thread only."""
        threading = sys.modules.get("threading")
        if threading is None or threading.main_thread().ident != get_ident():
            return
        self._name, self._began_ns = name, perf_counter_ns()
        TABLE.open[id(self)] = (TABLE.beat_ns, self.row, name)

    def ends(self) -> None:
        """It has ended."""
        if TABLE.open.pop(id(self), None) is not None:
            finish(TABLE.route(self._name, is_web=True), self._began_ns)

    def row(self, name: str) -> "Route | None":
        """Return the row that it will be counted in, where there is one already."""
        return TABLE.known(name)


JOB = Job()


def install() -> None:
    """Wait for the pools."""
    after_import("multiprocessing.pool", _multiprocessing)
    after_import("celery.signals", _celery)


class _Queue:
    """A queue of a pool: a job begins when it is taken, and ends when its result is put."""

    def __init__(self, queue: "Any") -> None:
        self.holdfast_queue = queue

    def __getattr__(self, name: str) -> "Any":
        return getattr(self.holdfast_queue, name)

    def get(self) -> "Any":
        """Take a job."""
        job = self.holdfast_queue.get()
        if job is not None:  # that is the end of the pool
            JOB.begins(_name_of(job))
        return job

    def put(self, result: "Any") -> None:
        """Give a result; also that of a job whose result cannot be given, which is put a second time."""
        JOB.ends()
        self.holdfast_queue.put(result)


def _multiprocessing(module: "Any") -> None:
    original = module.worker
    if hasattr(original, "holdfast_original"):
        return

    def worker(inqueue: "Any", outqueue: "Any", *args: "Any", **kwargs: "Any") -> "Any":
        return original(_Queue(inqueue), _Queue(outqueue), *args, **kwargs)

    # By its name a process that is spawned finds it.
    worker.__module__, worker.__qualname__ = original.__module__, original.__qualname__
    worker.holdfast_original = original  # type: ignore[attr-defined]
    module.worker = worker


def _name_of(job: "Any") -> str:
    try:
        function = job[2]
        if function.__name__ in ("mapstar", "starmapstar"):
            function = job[3][0][0]
        return f"{function.__module__}.{function.__qualname__}"
    except (AttributeError, TypeError, IndexError):
        return "(job of a pool)"


def _celery(module: "Any") -> None:
    def begins(**told: "Any") -> None:
        JOB.begins(str(getattr(told.get("task"), "name", "(task)")))

    def ends(**_: "Any") -> None:
        JOB.ends()

    module.task_prerun.connect(begins, weak=False)
    module.task_postrun.connect(ends, weak=False)
