"""`holdfast jobs work`, from what was asked for to a running foreman and its end.

The run directory (in memory) has a name that the same command in the same place finds again: there lie the flight recorders of the
foreman before, and what was running when everything was killed is settled within the first moments of the next one. A lock says
whether a foreman is using it; a second one of the same command takes the next directory.
"""

import os
import sys
import time
import warnings

from holdfast.engine.foreman import Foreman
from holdfast.engine.storm import Storm
from holdfast.linux import files, launch, locks, places
from holdfast.linux.house import write_ready
from holdfast.model.errors import NodeError
from holdfast.model.jobs import StoreRefusedError
from holdfast.model.plan import PLAN_FORMAT
from holdfast.wire import jsonlite, layout
from holdfast.wire.plan import encode, stub

TYPE_CHECKING = False
if TYPE_CHECKING:
    from holdfast.engine.tending import Steward
    from holdfast.model.jobs import JobsPlan
    from holdfast.model.plan import Plan, WorkerPlan

#: Who was here last, and until when; removed by a foreman that ends in order.
_SIGN = "foreman"
_LOCK = "foreman.lock"
#: So many foremen of one command in one place.
_MOST = 64
FAMILY = "work"


class Wanted:
    """What was asked for."""

    __slots__ = (
        "async_concurrency", "concurrency", "grace_s", "is_json", "lease_s", "prefix", "processes", "queues", "recycle_bytes",
        "recycle_jobs", "store", "timeout_s", "use",
    )  # fmt: skip

    def __init__(self, use: "list[str]", store: str) -> None:
        self.use = use
        self.store = store
        self.prefix = ""
        self.queues: list[tuple[str, int]] = [("default", 0)]
        self.concurrency = 10
        self.async_concurrency = 100
        self.processes = 1
        self.lease_s = 15.0
        self.timeout_s = 0.0
        self.grace_s = 25.0
        self.recycle_bytes = 0
        self.recycle_jobs = 0
        self.is_json = False


def run(wanted: Wanted) -> int:
    """Be the foreman until told to stop; return the exit status.

    Raises:
        NodeError: The store's URL makes no sense, or there is no place for the run directory.
    """
    # We fork with a second thread beside us, and call nothing in the child but the kernel.
    warnings.filterwarnings("ignore", category=DeprecationWarning, message=".*fork")
    say = _say_json if wanted.is_json else _say
    run_dir, killed_s = _take_place(wanted)
    entries = plan_entries(wanted, os.getcwd())
    files.write_atomic(f"{run_dir}/{layout.PLAN}", encode(_plan(run_dir, entries)), mode=0o600)
    storm = Storm(run_dir)
    if killed_s is not None:
        storm.note(killed_s, "the foreman before")

    def make_steward(foreman: Foreman, storm: Storm) -> "Steward":
        # Only now: while we import all this the children are starting already.
        from holdfast.engine.families import Families
        from holdfast.engine.tending import Steward
        from holdfast.jobs.opening import open_store

        store = open_store(wanted.store, wanted.prefix)
        say("foreman", pid=os.getpid(), store=store.url, use=" ".join(wanted.use), run=run_dir)
        return Steward(
            run_dir, Families(run_dir), store, wanted.lease_s, foreman.deaths, storm, foreman.start_lane, say,
        )  # fmt: skip

    env = {
        "HOLDFAST_NODE": os.path.basename(run_dir),
        "HOLDFAST_JOBS": wanted.store,
        "HOLDFAST_JOBS_PREFIX": wanted.prefix,
    }
    try:
        status = Foreman(
            run_dir, entries, env, wanted.grace_s, storm, make_steward, say,
            f"{run_dir}/{_SIGN}", has_suspects=killed_s is not None and _has_recorders(run_dir),
        ).run()  # fmt: skip
    except StoreRefusedError as error:
        raise NodeError(str(error)) from None
    _leave(run_dir)
    say("ended", status=status)
    return status


# -- the plan --------------------------------------------------------------------------------------------


def plan_entries(wanted: Wanted, directory: str) -> "list[WorkerPlan]":
    """Return the workers: those that run jobs, and the lane for suspects."""
    names = [FAMILY, *(f"{FAMILY}.{number}" for number in range(2, wanted.processes + 1))]
    entries = [_entry(name, directory, _jobs(wanted, "worker"), wanted.grace_s) for name in names]
    return [
        *entries,
        _entry(f"{FAMILY}.quarantine", directory, _jobs(wanted, "quarantine"), wanted.grace_s),
    ]


def _jobs(wanted: Wanted, role: str) -> "JobsPlan":
    is_lane = role == "quarantine"
    return {
        "role": role,
        "family": FAMILY,
        "store": wanted.store,
        "prefix": wanted.prefix,
        "use": wanted.use,
        "queues": [("quarantine", 0)] if is_lane else wanted.queues,
        "concurrency": 1 if is_lane else wanted.concurrency,
        "async_concurrency": 1 if is_lane else wanted.async_concurrency,
        "lease_s": wanted.lease_s,
        "timeout_s": wanted.timeout_s,
        "recycle_bytes": wanted.recycle_bytes,
        "recycle_jobs": wanted.recycle_jobs,
    }


def _entry(name: str, directory: str, jobs: "JobsPlan", grace_s: float) -> "WorkerPlan":
    main = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + "/container/__main__.py"
    entry = stub(name, directory)
    entry["kind"] = "jobs"
    entry["argv"] = [sys.executable, "-P", "-X", "faulthandler", main]
    entry["components"] = [{"name": "jobs", "use": "holdfast.engine:app", "settings": {}}]
    entry["faulthandler"] = True
    entry["jobs"] = jobs
    entry["stop"] = {"signal": 15, "grace_s": grace_s}
    return entry


def _plan(run_dir: str, entries: "list[WorkerPlan]") -> "Plan":
    return {
        "format": PLAN_FORMAT, "node": os.uname().nodename, "config": "", "state_dir": run_dir, "digest": "", "drills": False,
        "env": {}, "workers": entries, "groups": [],
        "watch": {
            "evidence_budget_s": 0.0, "sample_s": 1.0, "disk_min_share": 0.0, "verify_s": 0.0, "house_timeout_s": 0.0,
            "objectives": {},
        },
        "house_log": {"max_bytes": 0, "max_age_s": 0.0, "keep": 0, "compress": False, "directory": run_dir},
    }  # fmt: skip


# -- the place -------------------------------------------------------------------------------------------


def _take_place(wanted: Wanted) -> "tuple[str, float | None]":
    """Return a run directory that is ours alone, and when (monotonic) whoever used it last was killed; None: nobody was."""
    what = "\n".join([wanted.store, wanted.prefix, *wanted.use, os.getcwd()])
    # The last part names the directory, as a node's state directory would.
    whole = places.run_dir_for(f"/jobs/{what}")
    parent = os.path.dirname(whole)
    places.make_private(parent)
    taken = ""
    for number in range(1, _MOST):
        path = whole if number == 1 else f"{whole}.{number}"
        if taken and not os.path.isdir(path):
            continue
        lock = _lock(path)
        if lock is None:
            continue
        if not taken:
            taken = path
        else:
            # Nobody has come back for this one: what lies there is as good here.
            _inherit(path, taken)
            os.close(lock)
            locks.forget(f"{path}/{_LOCK}")
    if not taken:
        msg = f"there are {_MOST} foremen of this command already (run directories: {whole}.*)"
        raise NodeError(msg)
    for name in (layout.JOBS, layout.PULSES, layout.CONTROL):
        os.makedirs(f"{taken}/{name}", mode=0o700, exist_ok=True)
    try:
        # It is touched each second.
        ago_s = max(0.0, time.time() - os.stat(f"{taken}/{_SIGN}").st_mtime)
        killed_s: float | None = time.monotonic() - ago_s
    except FileNotFoundError:
        killed_s = None
    files.write_atomic(f"{taken}/{_SIGN}", str(os.getpid()).encode())
    return taken, killed_s


def _lock(path: str) -> "int | None":
    """Take a directory; None: another foreman has it, or is just clearing it away."""
    try:
        places.make_private(path)
        lock = locks.take(f"{path}/{_LOCK}")
        if lock is None or os.fstat(lock).st_ino == os.stat(f"{path}/{_LOCK}").st_ino:
            return lock
    except FileNotFoundError:
        return None
    os.close(lock)
    locks.forget(f"{path}/{_LOCK}")
    return None


def _inherit(path: str, taken: str) -> None:
    os.makedirs(f"{taken}/{layout.JOBS}", mode=0o700, exist_ok=True)
    try:
        names = os.listdir(f"{path}/{layout.JOBS}")
    except FileNotFoundError:
        names = []
    for name in names:
        if name.count(":") >= 2 and not name.startswith("."):
            os.rename(f"{path}/{layout.JOBS}/{name}", f"{taken}/{layout.JOBS}/{name}")
    launch.remove_tree(path)


def _has_recorders(run_dir: str) -> bool:
    return any(name.count(":") >= 2 for name in os.listdir(f"{run_dir}/{layout.JOBS}"))


def _leave(run_dir: str) -> None:
    """Take the directory away, unless there is something in it for the next foreman to settle."""
    if _has_recorders(run_dir):
        os.unlink(f"{run_dir}/{_SIGN}")
        return
    launch.remove_tree(run_dir)


# -- words -----------------------------------------------------------------------------------------------


# A terminal that was stopped, a pipe that nobody reads: a line is lost then, and no lease.


def _say(event: str, **fields: object) -> None:
    stamp = time.strftime("%H:%M:%S")
    pid = f" (process {fields.pop('pid')})" if "pid" in fields else ""
    worker = fields.pop("worker", "")
    subject = f"{worker}{pid} {event}" if worker else f"{event}{pid}"
    rest = "; ".join(str(value) if key in ("why", "jobs") else f"{key} {value}" for key, value in fields.items())  # fmt: skip
    write_ready(1, f"{stamp} {subject}{': ' if rest else ''}{rest}\n".encode("utf-8", "replace"))


def _say_json(event: str, **fields: object) -> None:
    line = jsonlite.dumps({"unix_s": round(time.time(), 3), "event": event, **fields}) + "\n"
    write_ready(1, line.encode())
