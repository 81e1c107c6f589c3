"""The compiled plan as bytes, and what of it a running process depends on."""

from binascii import crc32

from holdfast.model.errors import StateError
from holdfast.model.plan import PLAN_FORMAT
from holdfast.wire.jsonlite import dumps, loads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from holdfast.model.plan import Plan, WorkerPlan

#: The keys of a worker's plan that take effect without a restart; the keeper and the watchdog
#: read them anew when a plan is applied.
ADJUSTABLE = frozenset({
    "after", "autostart", "crash_only", "detect", "essential", "heartbeat", "isolate", "ready", "requires", "restart", "router", "stop",
})  # fmt: skip


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


#: How the first line of a plan ends; what follows is one worker a line, so that nobody has to hold it all at once.
_WORKERS = ',"workers":['


def encode(plan: "Plan") -> bytes:
    """Return the plan as one JSON document, with a line for the node and a line for each worker."""
    header = dumps({key: value for key, value in plan.items() if key != "workers"})
    lines = ",\n".join(map(dumps, plan["workers"]))
    return f"{header[:-1]}{_WORKERS}\n{lines}\n]}}\n".encode()


def mode(plan: "Plan") -> int:
    """Return the permissions of a plan's file: there are secrets in it (``env``, stores), so nobody but the owner reads it.

    But for a worker under another user, which finds its own entry there.
    """
    return 0o644 if any(worker["user"] for worker in plan["workers"]) else 0o600


def decode(data: bytes, path: str) -> "Plan":
    """Return the plan in ``data``; workers with equal settings hold the same objects.

    Raises:
        StateError: It is damaged, or of a format that this version does not know; ``path`` names it.
    """
    try:
        plan, workers = split(data)
        seen: dict[str, object] = {}
        plan["workers"] = [_shared(worker, seen) for worker in workers]
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise StateError(
            f"{path}: this is not a plan ({error})\n  holdfast up writes a new one"
        ) from None
    if plan.get("format") != PLAN_FORMAT:
        raise StateError(
            f"{path}: plan format {plan.get('format')}, this version of Holdfast knows {PLAN_FORMAT}\n"
            "  holdfast up writes a new one"
        )
    checked: Plan = plan  # type: ignore[assignment]
    return checked


def split(data: bytes, without: bytes = b"") -> "tuple[dict[str, Any], Iterator[dict[str, Any]]]":
    """Return the node's part of a plan and its workers, one after another.

    Workers whose line has ``without`` in it may be left out: decoding a thousand that nobody asks about is 30 ms.

    A thousand workers are 4 MB as objects; a process that needs little of each never holds more than one.

    Raises:
        ValueError: It is not JSON (for a worker: when its turn comes).
    """
    end = data.find(b"\n")
    head = data[:end].decode() if end >= 0 else ""
    if head.endswith(_WORKERS):
        return loads(head[: -len(_WORKERS)] + "}"), _lines(data, end + 1, without)
    plan = loads(data.decode())
    if type(plan) is not dict:
        raise ValueError("it is no object")
    return plan, iter(plan.get("workers", ()))


def _lines(data: bytes, at: int, without: bytes) -> "Iterator[dict[str, Any]]":
    while (end := data.find(b"\n", at)) >= 0:
        line = data[at:end]
        at = end + 1
        if line == b"]}":
            return
        if line and not (without and without in line):
            yield loads(line.removesuffix(b",").decode())
    raise ValueError("its end is missing")


class _Entry:
    """Whose attribute dictionaries are the workers' entries, and the entries' ``log``.

    The dictionaries of one class's instances hold their values only and share one table of keys: 350 bytes for a
    worker's entry instead of 850. They are ordinary dicts for whoever reads, changes or compares them.
    """


class _Log(_Entry):
    """The same, with keys of its own."""


def _lean(kind: "type[_Entry]", fields: "dict[str, Any]") -> "dict[str, Any]":
    entry = kind()
    for key, value in fields.items():
        setattr(entry, key, value)
    return entry.__dict__


def _shared(worker: "dict[str, Any]", seen: "dict[str, object]") -> "WorkerPlan":
    """Let workers with equal settings hold the same object: a thousand workers are mostly alike.

    Their keys, too: each line is decoded by itself, and its keys are strings of its own, 2 KB a worker.
    """
    found: dict[str, Any] = {}
    for key, value in worker.items():
        kind = type(value)
        if kind is str:
            value = seen.setdefault(value, value)
        elif key == "log" and kind is dict:
            value = _lean(_Log, value)
        elif key == "argv" and kind is list:
            # In place: a list that is built anew has room to grow.
            for at, argument in enumerate(value):
                value[at] = seen.setdefault(argument, argument)
        elif kind is dict or kind is list:
            value = seen.setdefault(dumps(value), value)
        found[key] = value
    entry: WorkerPlan = _lean(_Entry, found)  # type: ignore[assignment]
    return entry


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
