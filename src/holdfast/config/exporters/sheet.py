"""What does a worker ask of whatever runs it, and which of these wishes has a target fulfilled?

The counterpart of the importers' ledger: every wish of a worker that is not Holdfast's default stands on its sheet. An
exporter *takes* a wish (it shaped what is written) or *notes* it (a sentence says what to do instead). What it did not
touch is noted by :meth:`Sheet.close`, so nothing can be dropped in silence. Secrets are found here, too: a value that
looks like one is never written. Leaves out the words of any target.
"""

import re
from collections.abc import Mapping
from signal import Signals
from typing import TYPE_CHECKING, Any, NamedTuple

from holdfast.config import definitions as d
from holdfast.model.plan import HOSTED

if TYPE_CHECKING:
    from holdfast.model.plan import Plan, WorkerPlan

#: Stands where a secret stood that no variable can carry (an argument of a command).
PLACEHOLDER = "CHANGE_ME"

_SECRET_NAME = re.compile(
    r"(^|_)pass(_|$)|password|passwd|passphrase|secret|token|credential|ticket|salt|(^|_)(pwd|dsn|auth)($|_)"
    r"|(api|access|private|priv|signing|encryption|account|master)[_-]?key|_key$",
    re.IGNORECASE,
)
#: user:password@ inside of a URL.
IN_URL = re.compile(r"(?<=://)([^/\s:@]*):([^/\s@]+)(?=@)")
#: An option of a command: its name, and what stands behind `=`.
OPTION = re.compile(r"--?([A-Za-z][\w-]*)(=(.*))?", re.DOTALL)
_LIMITS = {
    "memory_bytes": "memory_max",
    "cpu_share": "cpu_max",
    "processes": "processes_max",
    "files": "files_max",
    "core_bytes": "core_max",
}
#: Shorter values of the environment are found everywhere by chance.
SHORTEST_SECRET = 6


class Node(NamedTuple):
    """What is exported, and what the person said about it."""

    plan: "Plan"
    directory: str  #: of the configuration file, absolute
    config: str  #: the configuration file, absolute
    program: str  #: the holdfast command on this machine, absolute
    user: str  #: whom the node runs as; "" for root
    variables: tuple[str, ...]  #: the configuration needs these from the environment
    environ: Mapping[str, str]  #: of whoever exports; its secrets are looked for in what is written
    is_watched: bool = False  #: systemd watches the node itself (Type=notify)

    @property
    def name(self) -> str:
        """The name of the node, as a unit, an image and a service may be called."""
        return re.sub(r"[^A-Za-z0-9_-]+", "-", self.plan["node"]).strip("-_") or "node"


def is_secret(name: str) -> bool:
    """Tell whether a variable or an option of this name carries a secret, as far as names can tell."""
    return _SECRET_NAME.search(name) is not None


class Sheet:
    """The wishes of one worker, and the notes about those that were not fulfilled."""

    def __init__(self, node: Node, worker: "WorkerPlan") -> None:
        self.node = node
        self.worker = worker
        self._notes: list[str] = []
        self.env, self.secrets = self._environment()
        #: Without the secrets in its commands and addresses.
        self.worker = self._clean()
        self._wishes = _wishes(node.plan, self.worker)

    def take(self, *keys: str) -> None:
        """Mark wishes that shape what is written."""
        for key in keys:
            self._wishes.pop(key, None)

    def wants(self, key: str) -> bool:
        """Tell whether there is such a wish, beyond what is default."""
        return key in self._wishes

    def note(self, key: str, advice: str) -> None:
        """Say what to do about a wish that cannot be fulfilled; nothing where there is no such wish."""
        says = self._wishes.pop(key, None)
        if says is not None:
            self._notes.append(f"worker.{self.worker['name']}.{key} = {says}: {advice}")

    def remark(self, key: str, says: str) -> None:
        """Add a note about a key without settling its wish."""
        note = f"worker.{self.worker['name']}.{key}: {says}"
        if note not in self._notes:
            self._notes.append(note)

    def advise(self, advice: Mapping[str, str]) -> None:
        """Note every wish that has advice."""
        for key, says in advice.items():
            self.note(key, says)

    def close(self) -> list[str]:
        """Note every wish that nobody has dealt with; return all notes."""
        for key in list(self._wishes):
            self.note(key, "has no counterpart there and was left out")
        return self._notes

    # -- what may not be written -----------------------------------------------------------------------

    def _environment(self) -> tuple[dict[str, str], list[str]]:
        """Return the variables to write, and the names of those that must not be."""
        worker = self.worker
        env = dict(worker["env"])
        if worker.get("agent") and worker["kind"] not in HOSTED:
            # The agent's directory is of Holdfast's own; what stands behind it came from the environment.
            rest = env.pop("PYTHONPATH", "").partition(":")[2]
            if rest:
                env["PYTHONPATH"] = rest
        if worker["faulthandler"]:
            env.setdefault("PYTHONFAULTHANDLER", "1")
            env.setdefault("PYTHONUNBUFFERED", "1")
        secrets = [name for name, value in env.items() if self._hides(name, value)]
        return {name: value for name, value in env.items() if name not in secrets}, secrets

    def _hides(self, name: str, value: str) -> bool:
        return bool(value) and (is_secret(name) or self._scrub(value) != value)

    def _clean(self) -> "WorkerPlan":
        worker = self.worker
        ready, beat = worker["ready"], worker["heartbeat"]
        return {
            **worker,
            "argv": self._words("command", worker["argv"]),
            "ready": {
                **ready,
                "argv": self._words("ready", ready["argv"]),
                "target": self._told("ready", ready["target"], self._scrub(ready["target"])),
            },
            "heartbeat": {
                **beat,
                "argv": self._words("heartbeat", beat["argv"]),
                "target": self._told("heartbeat", beat["target"], self._scrub(beat["target"])),
            },
        }

    def _words(self, key: str, argv: list[str]) -> list[str]:
        written, is_next = [], False
        for word in argv:
            option = OPTION.fullmatch(word)
            safe = self._scrub(word)
            if option is not None and is_secret(option[1].replace("-", "_")):
                is_next = option[2] is None
                safe = f"{word.partition('=')[0]}={PLACEHOLDER}" if option[3] else word
            elif is_next:
                safe, is_next = PLACEHOLDER, False
            written.append(self._told(key, word, safe))
        return written

    def _told(self, key: str, given: str, safe: str) -> str:
        if safe != given:
            self.remark(key, f"a secret stood in it; {PLACEHOLDER} was written in its place")
        return safe

    def _scrub(self, text: str) -> str:
        text = IN_URL.sub(rf"\1:{PLACEHOLDER}", text)
        for name, value in self.node.environ.items():
            if len(value) >= SHORTEST_SECRET and is_secret(name) and value in text:
                text = text.replace(value, PLACEHOLDER)
        return text


def _wishes(plan: "Plan", worker: "WorkerPlan") -> dict[str, str]:
    """Return what the worker asks for beyond the defaults: key of the configuration -> the value in words."""
    found = _of_process(worker) | _restart(worker) | _of_life(worker)
    if worker["log"] is None:
        found["log"] = "false"
    elif _is_own_log(plan, worker):
        found["log"] = f"{worker['log']['keep']} segments of {worker['log']['max_bytes']} bytes"
    for at, listener in enumerate(worker["listen"]):
        found[f"listen[{at}]"] = address(listener)
    for group in plan["groups"]:
        if worker["name"] in group["workers"]:
            found["group"] = f"{group['name']} ({group['strategy']})"
    if worker["name"] in plan["watch"].get("shed", []):
        found["shed"] = "true"
    return found


def _of_process(worker: "WorkerPlan") -> dict[str, str]:
    found: dict[str, str] = {}
    if worker["user"] is not None:
        found["user"] = worker["user"]["name"] or str(worker["user"]["uid"])
    if worker["umask"] is not None:
        found["umask"] = f"{worker['umask']:03o}"
    limits: Any = worker["limits"]
    for key, words in _LIMITS.items():
        if limits[key] is not None:
            found[words] = str(limits[key])
    return found


def _of_life(worker: "WorkerPlan") -> dict[str, str]:
    """Return what is asked for when it starts, while it runs, and when it ends."""
    found: dict[str, str] = {}
    every: Any = worker
    for key in ("after", "requires"):
        if every[key]:
            found[key] = ", ".join(every[key])
    for key in ("ready", "heartbeat"):
        check = every[key]
        if check["kind"] not in ("none", "pulse"):
            found[key] = f"{check['kind']} {' '.join(check['argv']) or check['target']}".strip()
    if worker["stop"]["signal"] != int(Signals.SIGTERM):
        found["stop.signal"] = signal_name(worker["stop"]["signal"])
    found["stop.grace"] = span(worker["stop"]["grace_s"])
    found |= {key: "true" for key in ("crash_only", "essential") if every[key]}
    if not worker["autostart"]:
        found["autostart"] = "false"
    if worker["spare"]:
        found["spare"] = str(worker["spare"])
    if worker.get("agent") and worker["kind"] not in HOSTED:
        found["agent"] = "true"
    return found


def _restart(worker: "WorkerPlan") -> dict[str, str]:
    usual, given = d.RESTART.filled({}), worker["restart"]
    found: dict[str, str] = {"restart.policy": given["policy"]}
    if given["policy"] == "never":
        return found
    found["restart.limit"] = f"{given['limit']} in {span(given['window_s'])}"
    if given["after_limit"] != usual["after_limit"]:
        found["restart.after_limit"] = given["after_limit"]
    for key in ("delay", "delay_max", "healthy"):
        value: float = given[f"{key}_s"]  # type: ignore[literal-required]
        if value != usual[key]:
            found[f"restart.{key}"] = span(value)
    if given["jitter"] != usual["jitter"]:
        found["restart.jitter"] = str(given["jitter"])
    return found


def _is_own_log(plan: "Plan", worker: "WorkerPlan") -> bool:
    usual, given = d.LOG.filled({}), worker["log"]
    if given is None:
        return False
    same = (given["max_bytes"], given["max_age_s"], given["keep"], given["compress"]) == (
        usual["max_size"], usual["max_age"], usual["keep"], usual["compress"],
    )  # fmt: skip
    return not same or not given["directory"].startswith(f"{plan['state_dir']}/")


def address(listener: Mapping[str, Any]) -> str:
    """Return a listening socket as the configuration spells it."""
    if listener["kind"] == "unix":
        return f"unix:{listener['path']}"
    host = listener["host"]
    return (
        f"tcp://[{host}]:{listener['port']}" if ":" in host else f"tcp://{host}:{listener['port']}"
    )


def signal_name(number: int) -> str:
    """Return ``SIGINT`` of 2."""
    try:
        return Signals(number).name
    except ValueError:  # a real-time signal has no name of its own
        return f"SIGRTMIN+{number - int(Signals.SIGRTMIN)}"


def span(seconds: float) -> str:
    """Return a time as systemd, Docker and Holdfast spell it: ``90s``, ``250ms``."""
    if seconds == int(seconds):
        return f"{int(seconds)}s"
    return f"{round(seconds * 1000)}ms"


def longest_stop_s(plan: "Plan") -> float:
    """Return how long the whole node may take to stop: workers stop in reverse order, each within its grace."""
    known: dict[str, float] = {}
    for worker in plan["workers"]:  # in start order: what it waits for has been seen
        before = [known.get(name, 0.0) for name in (*worker["after"], *worker["requires"])]
        known[worker["name"]] = max(before, default=0.0) + worker["stop"]["grace_s"]
    return max(known.values(), default=0.0)
