"""What is wrong in this node right now, in signs that the rules understand?

A flag says it itself: its phase tells a suspicion from a symptom, and a remedy that is being verified from one that nobody has left. A death
is made of the keeper's records: from the exit on the worker is gone, from the next life that is ready on it is on the mend, and after
``node.verify`` without another death it is well. No files here (:mod:`holdfast.alerts.reading`), no rules about telling
(:mod:`holdfast.core.alerting`).
"""

from holdfast.core import ladder
from holdfast.core.alerting import BAD, DOUBTFUL, HOPELESS, MENDING, NODE, Sign

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    Record = Mapping[str, Any]

#: Flags that mean from their first moment that somebody is not served, or soon will not be.
_HARD = frozenset(
    {
        "crash_loop", "missed_heartbeat", "failed_probe", "start_failed", "memory_over_limit", "disk_low", "inodes_low",
        "memory_pressure",
    }
)  # fmt: skip
_STATES = {
    ladder.RAISED: DOUBTFUL,
    ladder.EVIDENCE: DOUBTFUL,
    ladder.SHOWN: DOUBTFUL,
    ladder.REMEDY: BAD,
    ladder.VERIFY: MENDING,
    ladder.GAVE_UP: HOPELESS,
}
#: The lane in which suspects run is there to die; its dead jobs are the queue's business.
_LANE = ".quarantine"
#: A house process whose beat is older than this was not replaced by anybody.
HOUSE_S = 15.0


class Death:
    """A worker that died and of which it is not certain yet that it is well again."""

    __slots__ = ("back_s", "is_over", "key", "n", "says", "worker")

    def __init__(self, worker: str, n: int, key: str, says: str) -> None:
        self.worker = worker
        self.n = n  #: the life that ended
        self.key = key  #: of its evidence order
        self.says = says
        self.is_over = False  #: nobody starts it again
        self.back_s: float | None = None  #: a later life is ready since

    def to_json(self) -> "dict[str, Any]":
        """Return it as JSON has it."""
        return {name: getattr(self, name) for name in self.__slots__}


class Deaths:
    """The deaths that count, from the keeper's journal; every record once, in order."""

    __slots__ = ("_words", "began_s", "is_ending", "open", "seq")

    def __init__(self, words: "Callable[[Record], str]") -> None:
        self._words = words  #: a journal record of an end, as a sentence
        self.open: dict[str, Death] = {}
        self.began_s = 0.0  #: names the run of the node
        self.seq = 0
        self.is_ending = False

    def to_json(self) -> "dict[str, Any]":
        """Return it as JSON has it."""
        deaths = [death.to_json() for death in self.open.values()]
        return {"began_s": self.began_s, "seq": self.seq, "open": deaths}

    def restore(self, value: "Mapping[str, Any]", now_s: float) -> None:
        """Take up what somebody else knew."""
        self.began_s, self.seq = float(value.get("began_s", 0.0)), int(value.get("seq", 0))
        for found in value.get("open", ()):
            death = Death(found["worker"], int(found["n"]), found["key"], found["says"])
            death.is_over = bool(found["is_over"])
            back_s = found["back_s"]
            death.back_s = None if back_s is None else min(float(back_s), now_s)
            self.open[death.worker] = death

    def note(
        self, record: "Record", now_s: float, plan: "Mapping[str, Record]", is_history: bool = False
    ) -> None:
        """Take note of one record.

        Args:
            record: As in the journal.
            now_s: Monotonic seconds.
            plan: Worker -> its entry.
            is_history: It was written before anybody wanted alerts: what it says is over.
        """
        kind = record.get("k")
        if kind == "keeper":
            self._keeper(record)
        seq = int(record.get("seq", 0))
        if seq <= self.seq:
            return
        self.seq = seq
        worker = str(record.get("worker", ""))
        if kind == "down":
            self.is_ending = True
        elif kind in ("exit", "failed_spawn") and not is_history:
            self._end(record, worker)
        elif kind in ("start", "go", "ready") and worker in self.open:
            death = self.open[worker]
            check = plan.get(worker, {}).get("ready", {}).get("kind")
            is_back = kind != "start" or check == "none"
            is_main = record.get("role", "main") == "main"
            if is_back and is_main and int(record.get("n", 0)) > death.n and death.back_s is None:
                death.back_s = now_s
                death.is_over = False
        elif kind == "want" and record.get("by") == "user":
            self.open.pop(worker, None)  # a person took over

    def _keeper(self, record: "Record") -> None:
        began_s = float(record.get("began_s") or record.get("mono_s") or 0.0)
        if began_s != self.began_s:
            # Another run of the node: its journal counts from the beginning.
            self.began_s, self.seq, self.is_ending = began_s, int(record.get("seq", 1)) - 1, False
            self.open.clear()

    def _end(self, record: "Record", worker: str) -> None:
        if record.get("role", "main") != "main":
            return
        cause, following = record.get("cause", "died"), record.get("next")
        is_failure = record["k"] == "failed_spawn" or (
            cause == "died" and record.get("status") != 0
        )
        if cause in ("stop", "restart", "apply", "down"):
            self.open.pop(worker, None)
        elif is_failure and (not worker.endswith(_LANE) or following == "down"):
            death = Death(worker, int(record.get("n", 0)), f"exit-{record['seq']}", self._words(record))  # fmt: skip
            death.is_over = following in ("down", "none")
            self.open[worker] = death

    def signs(
        self,
        now_s: float,
        verify_s: float,
        plan: "Mapping[str, Record]",
        incident: "Callable[[str], str]",
    ) -> "list[Sign]":
        """Return a sign for each death that is not over; those of workers that are well again, or gone from the plan, are forgotten."""
        for name, death in list(self.open.items()):
            is_well = death.back_s is not None and now_s - death.back_s >= verify_s
            if is_well or (plan and name not in plan):
                del self.open[name]
        found = []
        for death in self.open.values():
            state = HOPELESS if death.is_over else BAD if death.back_s is None else MENDING
            found.append(Sign(death.worker, "death", state, death.says, incident(death.key)))
        return found


def of_flag(flag: "Record") -> "Sign | None":
    """Return the sign that a flag's file is; None when it is none."""
    try:
        name, phase = str(flag["flag"]), str(flag["phase"])
        state = _STATES[phase]
        if state == DOUBTFUL and name in _HARD:
            state = BAD
        return Sign(
            str(flag["worker"]), name, state, str(flag["says"]), str(flag.get("incident") or "")
        )
    except KeyError:
        return None


def of_house(ages_s: "Mapping[str, float]") -> "list[Sign]":
    """Return a sign when processes of Holdfast itself are silent and nobody replaces them."""
    silent = [f"{role} ({age_s:.0f} s)" for role, age_s in ages_s.items() if age_s > HOUSE_S]
    if not silent:
        return []
    says = f"Holdfast itself is in trouble: no beat of {', '.join(silent)}"
    return [Sign(NODE, "house", BAD, says)]
