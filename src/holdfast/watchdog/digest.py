"""What of the plan the watchdog goes by, read without becoming as large as the plan.

A plan of a thousand workers is 3 MB of Python objects, of which a hundredth is needed here, and an interpreter does
not give such memory back. So a forked child reads it, says in a few kilobytes what is in it, and takes the memory with
it when it ends. Should the child be killed, we go on with the plan we have.
"""

from binascii import crc32

from holdfast.core import parts
from holdfast.core.detect import thresholds
from holdfast.linux import files
from holdfast.linux import system as os
from holdfast.model.errors import StateError
from holdfast.model.plan import HOSTED
from holdfast.wire import layout
from holdfast.wire import plan as plan_format
from holdfast.wire.jsonlite import dumps, loads

_NO_DIGITS = str.maketrans("", "", "0123456789")

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TypedDict

    from holdfast.model.plan import Heartbeat, Plan, ReadyCheck, WatchPlan, WorkerPlan

    class Family(TypedDict):
        """A worker of several components."""

        fan: int  #: into so many parts at once; 0: never
        window_s: float
        parts: dict[str, list[str]]  #: as it runs
        since_unix_s: float  #: of the last split; 0: it is in one piece


class Spec:
    """What the plan says about a worker; shared by workers that are alike."""

    __slots__ = (
        "beat", "detect", "directory", "env", "has_forks", "has_pulse", "healthy_s", "is_python", "log_directory", "memory_bytes", "needs",
        "own_log", "peers", "ready", "slow_s", "stop_s",
    )  # fmt: skip

    def __init__(self, fields: "dict[str, Any]") -> None:
        self.ready: ReadyCheck = fields["ready"]
        self.beat: Heartbeat = fields["beat"]
        self.memory_bytes: int = fields["memory_bytes"]
        self.healthy_s: float = fields["healthy_s"]
        self.slow_s: float = fields["slow_s"]  #: the longest delay before a restart
        self.stop_s: float = fields["stop_s"]
        self.log_directory: str = fields["log_directory"]  #: "": no log is looked into
        self.directory: str = fields["directory"]  #: for exec; else ""
        self.env: dict[str, str] | None = fields["env"]
        self.is_python: bool = fields[
            "is_python"
        ]  #: its environment is worth remembering when it is well

        self.detect = thresholds.filled(fields["detect"], thresholds.WORKER)
        self.has_pulse: bool = fields["has_pulse"]
        self.has_forks: bool = fields["has_forks"]  #: it may fork, and its forks tell
        self.needs: list[str] = fields["needs"]  #: workers without which it cannot run
        self.own_log: str = fields[
            "own_log"
        ]  #: its log directory; "": none, "=": where all have theirs
        self.peers: int = fields["peers"]  #: the same number: they do the same; 0: nobody asks

    def needs_care(self) -> bool:
        """Whether there is more to do than taking samples."""
        return (
            self.ready["kind"] != "none"
            or self.beat["kind"] != "none"
            or bool(self.memory_bytes)
            or self.has_pulse
        )


class Digest:
    """The whole of it."""

    __slots__ = ("families", "groups", "names", "numbers", "specs", "state_dir", "watch")

    def __init__(self, value: "dict[str, Any]") -> None:
        self.watch: WatchPlan = value["watch"]
        self.state_dir: str = value["state_dir"]
        self.groups: dict[str, list[str]] = value[
            "groups"
        ]  #: worker -> all of its group, in start order
        self.families: dict[str, Family] = value[
            "families"
        ]  #: configured worker -> how it may be, or is, split
        self.specs = [Spec(fields) for fields in value["specs"]]
        self.names: list[str] = value["names"]
        self.numbers: list[int] = value["numbers"]  #: of each name's spec


def read(path: str) -> Digest:
    """Return the digest of a plan file.

    Raises:
        StateError: It cannot be read, or is no plan.
    """
    read_end, write_end = os.pipe2(os.O_CLOEXEC)
    pid = os.fork()
    if not pid:
        _child(path, write_end)
    os.close(write_end)
    parts = []
    while part := os.read(read_end, 1 << 16):
        parts.append(part)
    os.close(read_end)
    try:
        os.waitpid(pid, 0)
    except ChildProcessError:
        pass  # reaped by somebody else
    try:
        value = loads(b"".join(parts).decode())
    except ValueError:
        raise StateError(f"{path}: the process that reads it was killed") from None
    if "error" in value:
        raise StateError(value["error"])
    return Digest(value)


def _child(path: str, write_end: int) -> None:
    try:
        try:
            answer = digest(plan_format.decode(files.read(path), path))
        except (OSError, StateError, KeyError, TypeError, SystemError) as error:
            answer = {
                "error": str(error) if isinstance(error, StateError) else f"{path}: {error!r}"
            }
        data = memoryview(dumps(answer).encode())
        while data:
            data = data[os.write(write_end, data) :]
    finally:
        # A forked child must never return into the watchdog.
        os.exit_now(0)


def digest(plan: "Plan") -> "dict[str, Any]":
    """Return what is needed of a plan."""
    shared: dict[str, int] = {}
    specs: list[dict[str, Any]] = []
    numbers = []
    for worker in plan["workers"]:
        fields = _fields(worker, plan["env"], plan["state_dir"])
        number = shared.setdefault(dumps(fields), len(specs))
        if number == len(specs):
            specs.append(fields)
        numbers.append(number)
    return {
        "watch": plan["watch"],
        "state_dir": plan["state_dir"],
        "families": families(plan),
        "groups": {name: group["workers"] for group in plan["groups"] for name in group["workers"]},
        "specs": specs,
        "names": [worker["name"] for worker in plan["workers"]],
        "numbers": numbers,
    }


def families(plan: "Plan") -> "dict[str, Family]":
    """Return the workers that may be split, and those that are."""
    splits = plan.get("split") or {}
    found: dict[str, Family] = {}
    for worker in plan["workers"]:
        whole = parts.family(worker["name"])
        if whole in found or not (whole in splits or parts.may_split(worker)):
            continue
        found[whole] = {
            "fan": int(worker.get("isolate", 0)),
            "window_s": worker["restart"]["window_s"],
            "parts": parts.partition(plan, whole),
            "since_unix_s": splits[whole]["since_unix_s"] if whole in splits else 0.0,
        }
    return found


def _fields(worker: "WorkerPlan", env: "dict[str, str]", state_dir: str) -> "dict[str, Any]":
    log = worker["log"]
    runs = "exec" in (worker["ready"]["kind"], worker["heartbeat"]["kind"])
    return {
        "ready": worker["ready"],
        "beat": worker["heartbeat"],
        "memory_bytes": worker["limits"]["memory_bytes"] or 0,
        "healthy_s": worker["restart"]["healthy_s"],
        "slow_s": worker["restart"]["delay_max_s"],
        "stop_s": worker["stop"]["grace_s"],
        "log_directory": log["directory"] if log and worker["ready"]["kind"] == "log" else "",
        "directory": worker["directory"] if runs else "",
        "env": {**env, **worker["env"]} if runs else None,
        "is_python": worker["faulthandler"],
        "detect": worker.get("detect"),
        "has_pulse": worker["kind"] in HOSTED or bool(worker.get("agent")),
        "has_forks": worker["kind"] not in HOSTED and bool(worker.get("agent")),
        "needs": sorted({*worker["after"], *worker["requires"]}),
        "own_log": _own_log(worker, state_dir),
        "peers": _peers(worker),
    }


def _own_log(worker: "WorkerPlan", state_dir: str) -> str:
    log = worker["log"]
    if not log:
        return ""
    usual = f"{state_dir}/{layout.LOGS}/{worker['name']}"
    return "=" if log["directory"] == usual else log["directory"]


def _peers(worker: "WorkerPlan") -> int:
    """Return a number that workers share which do the same: their command but for ports and other numbers."""
    if worker["kind"] == "guest":
        if not worker.get("agent"):
            return 0  # nothing is known about it that could be compared
        what = [argument.translate(_NO_DIGITS) for argument in worker["argv"]]
    else:
        what = sorted(component["use"] for component in worker["components"])
    return crc32("\0".join([worker["kind"], *what]).encode()) or 1
