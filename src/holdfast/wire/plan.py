"""The compiled plan as bytes, and what of it a running process depends on."""

from binascii import crc32

from holdfast.model.errors import StateError
from holdfast.model.plan import PLAN_FORMAT
from holdfast.wire.jsonlite import dumps, loads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from holdfast.model.plan import Plan, WorkerPlan

#: The keys of a worker's plan that take effect without a restart; the keeper and the watchdog
#: read them anew when a plan is applied.
ADJUSTABLE = frozenset({
    "after", "autostart", "crash_only", "essential", "heartbeat", "ready", "requires", "restart", "stop",
})  # fmt: skip
#: Of a log policy only where it goes matters to the running process.
_LOG_FIXED = "directory"


def env_sum(plan: "Plan") -> int:
    """Return a number that changes with the environment that all workers share."""
    return crc32(dumps(sorted(plan["env"].items())).encode())


def fingerprint(worker: "WorkerPlan", shared_env: int) -> int:
    """Return a number that changes exactly when the worker has to be restarted for the new plan.

    Args:
        worker: Its entry in the plan.
        shared_env: What :func:`env_sum` says of the plan.
    """
    fixed: dict[str, object] = {
        k: v for k, v in worker.items() if k not in ADJUSTABLE and k != "log"
    }
    log = worker["log"]
    fixed["log"] = log and log["directory"]
    return crc32(dumps(sorted(fixed.items())).encode(), shared_env)


def encode(plan: "Plan") -> bytes:
    """Return the plan as one line of JSON."""
    return dumps(plan).encode() + b"\n"


def decode(data: bytes, path: str) -> "Plan":
    """Return the plan in ``data``.

    Raises:
        StateError: It is damaged, or of a format that this version does not know; ``path`` names it.
    """
    try:
        plan = loads(data.decode())
    except ValueError as error:
        raise StateError(
            f"{path}: this is not a plan ({error})\n  holdfast up writes a new one"
        ) from None
    found = plan.get("format") if type(plan) is dict else None
    if found != PLAN_FORMAT:
        raise StateError(
            f"{path}: plan format {found}, this version of Holdfast knows {PLAN_FORMAT}\n"
            "  holdfast up writes a new one"
        )
    checked: Plan = plan
    _share(checked)
    return checked


def _share(plan: "Plan") -> None:
    """Let workers with equal settings hold the same object: a thousand workers are mostly alike."""
    seen: dict[str, object] = {}
    for worker in plan["workers"]:
        entry: dict[str, object] = worker  # type: ignore[assignment]
        for key in ("limits", "restart", "ready", "heartbeat", "stop", "env", "user"):
            entry[key] = seen.setdefault(dumps(entry[key]), entry[key])


def stub(name: str, directory: str) -> "WorkerPlan":
    """Return an entry for a worker that still runs but is in no plan any more: only good for ending it."""
    return {
        "name": name, "kind": "guest", "argv": ["/bin/false"], "env": {}, "directory": directory, "user": None,
        "umask": None,
        "limits": {"memory_bytes": None, "cpu_share": None, "processes": None, "files": None, "core_bytes": None},
        "restart": {"policy": "never", "limit": 1, "window_s": 1.0, "after_limit": "down", "delay_s": 1.0,
                    "delay_max_s": 1.0, "jitter": 0.0, "healthy_s": 1.0},
        "after": [], "requires": [],
        "ready": {"kind": "none", "target": "", "argv": [], "timeout_s": 60.0},
        "heartbeat": {"kind": "none", "target": "", "argv": [], "period_s": 1.0, "timeout_s": 60.0},
        "stop": {"signal": 15, "grace_s": 10.0}, "crash_only": False, "spare": 0, "autostart": False,
        "essential": False, "log": None, "listen": [], "components": [], "faulthandler": False,
    }  # fmt: skip
