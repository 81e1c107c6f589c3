"""What is done about a flag, in which order, and when is it over?

One ladder for each pair of worker and flag: the symptom is seen (raised), evidence is taken, a remedy is ordered, and then
it is *verified*: the symptom has to stay away. Where it does not, the next rung is tried, with more patience each
time, and where there is no further rung the ladder gives up and leaves the flag standing for a person.
(The rungs are microreboot's recursive recovery; the verify step is the repair-maximum of watchdog(8).)

Pure. Time is an argument (monotonic seconds), effects are values that the watchdog carries out. A case can be written into
the flag's file and taken up again from there by another watchdog, in any phase: that is what happens when the
watchdog itself is killed. What the ladder leaves out: seeing symptoms (:mod:`holdfast.core.detect`) and doing anything.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

# -- phases: what the flag's file says -------------------------------------------------------------
CLEAR, RAISED, EVIDENCE, SHOWN, REMEDY, VERIFY, GAVE_UP = (
    "clear",
    "raised",
    "evidence",
    "shown",  # evidence is taken, and it is not (yet) bad enough for a remedy
    "remedy",
    "verify",
    "gave_up",
)

# -- what one look at the worker says --------------------------------------------------------------
SICK, WELL = "sick", "well"
SUSPECT = "suspect"  # the symptom is there: to be written up and shown, but not acted upon
UNKNOWN = "unknown"  # nothing can be said: not started yet, just restarted, being stopped

# -- events ----------------------------------------------------------------------------------------
SEEN = "seen"  # the symptom is there
PERSISTS = "persists"  # it has lasted as long as this rung is patient
CAPTURED_SICK = "captured_sick"  # evidence is taken (or out of time) and the symptom is still there
CAPTURED_GONE = "captured_gone"  # … and it went away meanwhile: nobody is shot
CAPTURED_LAST = "captured_last"  # … and there is no remedy for this flag
CAPTURED_SUSPECT = "captured_suspect"  # … and it is no reason to act yet
WORSE = "worse"  # what was shown has become a reason to act
ANEW = "anew"  # what was shown is there in another life, too: that needs evidence of its own
ACCEPTED = "accepted"  # the keeper took the order, or the life that was sick is over
WENT = "went"  # the symptom went away before the keeper took the order
NOT_TAKEN = "not_taken"  # the keeper did not take the order, time after time
STAYED_AWAY = "stayed_away"
CAME_BACK = "came_back"  # it had gone, and returned before it was believed
DID_NOT_HELP = "did_not_help"  # it never went
EXHAUSTED = "exhausted"  # came back or never went, on the last rung
RELEASED = "released"  # a person took over (stop, restart), or the worker left the plan

#: A verdict: a person took over, or the worker was gone, before anybody could tell.
CLOSED = "closed"

#: The whole life of a flag. A pair that is missing here cannot happen.
NEXT = {
    (CLEAR, SEEN): RAISED,
    (RAISED, PERSISTS): EVIDENCE,
    (RAISED, STAYED_AWAY): CLEAR,
    (EVIDENCE, CAPTURED_SICK): REMEDY,
    (EVIDENCE, CAPTURED_GONE): RAISED,
    (EVIDENCE, CAPTURED_LAST): GAVE_UP,
    (EVIDENCE, CAPTURED_SUSPECT): SHOWN,
    (SHOWN, WORSE): REMEDY,
    (SHOWN, ANEW): RAISED,
    (SHOWN, STAYED_AWAY): CLEAR,
    (REMEDY, ACCEPTED): VERIFY,
    (REMEDY, WENT): RAISED,
    (REMEDY, NOT_TAKEN): GAVE_UP,
    (VERIFY, STAYED_AWAY): CLEAR,
    (VERIFY, CAME_BACK): RAISED,
    (VERIFY, DID_NOT_HELP): RAISED,
    (VERIFY, EXHAUSTED): GAVE_UP,
    (GAVE_UP, STAYED_AWAY): CLEAR,
    **{(phase, RELEASED): CLEAR for phase in (RAISED, EVIDENCE, SHOWN, REMEDY, VERIFY, GAVE_UP)},
}

# -- remedies --------------------------------------------------------------------------------------
RESTART, RESTART_GROUP = "restart", "group"
END_FORK = "fork"  # end the one process that is sick, of those that the worker forked: its parent starts another
SHED = "shed"  # stop what the plan names as dispensable, until the box is well again

#: Remedies of a flag, first rung first. A flag that is not here is only ever written up and shown.
RUNGS = {
    "missed_heartbeat": (RESTART, RESTART, RESTART_GROUP),
    "failed_probe": (RESTART, RESTART, RESTART_GROUP),
    "start_failed": (RESTART, RESTART, RESTART_GROUP),
    "memory_over_limit": (RESTART, RESTART),
    "memory_leak": (RESTART, RESTART),
    "fd_leak": (RESTART, RESTART),
    "slow": (RESTART, RESTART),
    "stalled": (RESTART, RESTART),
    "pegged": (RESTART, RESTART),
    "task_bomb": (RESTART, RESTART),
    "thread_bomb": (RESTART, RESTART),
    "deadlock": (RESTART, RESTART),
    "child_bomb": (RESTART,),
    "memory_pressure": (SHED,),
}
#: What comes back slowly has to stay away for longer: as long as it took to show, but not for ever.
SLOW_TO_SHOW = ("memory_leak", "fd_leak")
LONGEST_VERIFY_S = 60.0

#: Deaths no further apart than this are one story, and what has come back once has to stay away for so many times the life before it.
AGAIN_S, LONGER = 600.0, 1.5

#: A restart that was accepted has to show (another life) within this, or it did not help.
ACT_S = 5.0
#: Between two tries to place an order, and how many there are.
RETRY_S, TRIES = 1.0, 30


# -- effects ---------------------------------------------------------------------------------------
class CaptureEvidence:
    """Take evidence, for at most ``deadline_s``."""

    __slots__ = ("deadline_s", "key")

    def __init__(self, key: str, deadline_s: float) -> None:
        self.key = key
        self.deadline_s = deadline_s


class OrderRemedy:
    """Ask the keeper to restart life ``n`` (``group``: and the group it belongs to; ``fork``: only to end what is sick in it)."""

    __slots__ = ("n", "remedy")

    def __init__(self, remedy: str, n: int) -> None:
        self.remedy = remedy
        self.n = n


class WriteFlag:
    """The flag's file has to say what the case says now."""

    __slots__ = ()


class ClearFlag:
    """The flag's file has to go."""

    __slots__ = ()


class Verdict:
    """Write into the incident with this evidence key what became of the remedy; ``after_s``: how long the symptom had stayed away."""

    __slots__ = ("after_s", "key", "verdict")

    def __init__(self, key: str, verdict: str, after_s: float | None = None) -> None:
        self.key = key
        self.verdict = verdict
        self.after_s = after_s


class Settings:
    """What one ladder goes by; seconds."""

    __slots__ = ("evidence_s", "patience_s", "rungs", "start_s", "verify_s")

    def __init__(
        self, rungs: "tuple[str, ...]", *, evidence_s: float, verify_s: float, start_s: float
    ) -> None:
        self.rungs = rungs
        self.evidence_s = evidence_s
        self.verify_s = verify_s
        self.start_s = start_s  #: a restarted worker that cannot be judged for this long (and verify_s) was not helped
        #: How long the symptom has to last before each rung.
        self.patience_s = tuple(verify_s * rung / 2 for rung in range(len(rungs))) or (0.0,)


class Case:
    """One flag of one worker on its way up the ladder."""

    __slots__ = (
        "accepted", "at_s", "captured", "flag", "given_key", "incident", "is_forks", "is_grave", "judged", "key", "last_try_s", "limit", "n",
        "phase", "pid", "rung", "says", "sick_since_s", "since_unix_s", "took_s", "tries", "value", "well_since_s", "went", "worker",
    )  # fmt: skip

    def __init__(self, worker: str, flag: str, now_s: float) -> None:
        self.worker = worker
        self.flag = flag
        self.phase = CLEAR
        self.rung = 0
        self.at_s = now_s  #: when the phase began
        self.since_unix_s = 0.0
        self.value = 0.0
        self.limit = 0.0
        self.says = ""
        self.incident: str | None = None
        self.key = ""  #: names the evidence order of this rung
        self.given_key = (
            ""  #: evidence that is being taken anyway (a death's), instead of an order of our own
        )
        self.judged = True  #: the evidence of ``key`` has its verdict (or there is none yet)
        self.n = 0  #: the life that was sick when evidence was taken
        self.pid = (
            0  #: the process that is sick, of those that the worker forked; 0: the worker itself
        )
        self.is_forks = False  #: it began with one of those: there is a rung for it
        self.captured = False
        self.accepted = False
        self.tries = 0
        self.last_try_s = -1e9
        self.is_grave = False  #: at the last look it was a reason to act
        self.took_s = 0.0  #: age of the life at which the symptom showed
        self.sick_since_s: float | None = None
        self.well_since_s: float | None = None
        self.went = False  #: the symptom went away at least once since the remedy

    def to_flag(self) -> "dict[str, Any]":
        """Return the content of the flag's file."""
        return {
            "worker": self.worker, "flag": self.flag, "since_unix_s": self.since_unix_s, "value": self.value,
            "limit": self.limit, "says": self.says, "incident": self.incident, "rung": self.rung,
            "phase": self.phase, "n": self.n, "key": self.key, "took_s": round(self.took_s, 1),
            **({"pid": self.pid, "is_forks": True} if self.is_forks else {}),
        }  # fmt: skip


def from_flag(flag: "dict[str, Any]", now_s: float) -> "Case | None":
    """Take up a case from its flag's file; None when the file is not one.

    Clocks of the phase begin anew: the watchdog that wrote it may have been dead for a while, and judging
    too late is better than judging on time that nobody watched.
    """
    try:
        case = Case(str(flag["worker"]), str(flag["flag"]), now_s)
        case.phase = str(flag["phase"])
        case.rung = max(0, int(flag["rung"]))
        case.since_unix_s = float(flag["since_unix_s"])
        case.value = float(flag["value"])
        case.limit = float(flag["limit"])
        case.says = str(flag["says"])
        case.incident = None if flag["incident"] is None else str(flag["incident"])
        case.n = int(flag.get("n", 0))
        case.key = str(flag.get("key", ""))
        case.took_s = float(flag.get("took_s", 0.0))
        case.pid, case.is_forks = int(flag.get("pid", 0)), bool(flag.get("is_forks"))
        case.judged = (
            not case.key or case.phase == GAVE_UP or (case.phase == RAISED and case.rung > 0)
        )
    except (KeyError, TypeError, ValueError):
        return None
    known = (RAISED, EVIDENCE, SHOWN, REMEDY, VERIFY, GAVE_UP)
    return case if case.phase in known else None


def may_act(case: Case, cases: "Iterable[Case]") -> bool:
    """Whether this case may go on from raised: only one case of a worker is treated at a time."""
    return not any(
        other is not case
        and other.worker == case.worker
        and other.phase in (EVIDENCE, REMEDY, VERIFY)
        for other in cases
    )


def step(
    case: Case,
    settings: Settings,
    look: str,
    *,
    n: int,
    now_s: float,
    now_unix_s: float,
    allowed: bool = True,
) -> "list[object]":
    """Go on with a case after a look at the worker.

    Args:
        case: Changed in place.
        settings: Of this worker and flag.
        look: ``SICK``, ``SUSPECT``, ``WELL`` or ``UNKNOWN``.
        n: The life that was looked at; 0 when there is none.
        now_s: Monotonic seconds.
        now_unix_s: For the flag's file and the evidence key.
        allowed: No other case of this worker is being treated (:func:`may_act`).

    Returns:
        Effects, in the order in which they have to be carried out.
    """
    rung = settings.rungs[min(case.rung, len(settings.rungs) - 1)] if settings.rungs else ""
    if (
        case.phase == VERIFY
        and n == case.n
        and n
        and now_s - case.at_s < ACT_S
        and rung != END_FORK
    ):
        # The old life, accepted for killing and not dead yet, says nothing about the new one.
        look = UNKNOWN
    _remember(case, look, now_s)
    event = _event(case, settings, look, n, now_s, allowed)
    effects: list[object] = []
    if event:
        effects += _enter(case, settings, event, n, now_s, now_unix_s)
    if case.phase == REMEDY and now_s - case.last_try_s >= RETRY_S:
        case.last_try_s = now_s
        case.tries += 1
        effects.append(OrderRemedy(settings.rungs[min(case.rung, len(settings.rungs) - 1)], case.n))
    return effects


def release(case: Case, now_s: float) -> "list[object]":
    """A person took over, or the worker is gone from the plan: let go."""
    if case.phase == CLEAR:
        return []
    case.phase = NEXT[case.phase, RELEASED]
    case.at_s = now_s
    return [*([] if case.judged else _verdicts(case, CLOSED)), ClearFlag()]


def captured(case: Case, key: str, incident: "str | None") -> None:
    """Evidence for ``key`` is complete (or failed: no incident); the next step goes on from there."""
    if key == case.key:
        case.captured = True
        case.incident = incident or case.incident


def _remember(case: Case, look: str, now_s: float) -> None:
    case.is_grave = look == SICK
    if look in (SICK, SUSPECT):
        case.well_since_s = None
        if case.sick_since_s is None:
            case.sick_since_s = now_s
    elif look == WELL:
        case.sick_since_s = None
        if case.well_since_s is None:
            case.well_since_s = now_s
        if case.phase == VERIFY:
            case.went = True
    else:
        # What cannot be judged ends a time of wellness, but it is no proof of sickness either.
        case.well_since_s = None


def _event(case: Case, settings: Settings, look: str, n: int, now_s: float, allowed: bool) -> str:
    """Return the event that this look amounts to; empty for none."""
    in_phase_s = now_s - case.at_s
    if case.phase == CLEAR:
        return SEEN if look in (SICK, SUSPECT) else ""
    well_s = now_s - case.well_since_s if case.well_since_s is not None else -1.0
    if case.phase == RAISED:
        if look in (SICK, SUSPECT) and case.sick_since_s is not None and allowed:
            patience_s = settings.patience_s[min(case.rung, len(settings.patience_s) - 1)]
            return PERSISTS if now_s - case.sick_since_s >= patience_s else ""
        return STAYED_AWAY if well_s >= settings.verify_s else ""
    if case.phase == EVIDENCE:
        return _captured(case, settings, look, n, in_phase_s)
    if case.phase == SHOWN:
        return _shown(case, settings, look, n, well_s, allowed=allowed)
    if case.phase == REMEDY:
        if case.accepted or (n != case.n and n):
            return ACCEPTED
        if look == WELL:
            return WENT
        return NOT_TAKEN if case.tries >= TRIES and now_s - case.last_try_s >= RETRY_S else ""
    if case.phase == VERIFY:
        return _verified(case, settings, look, well_s, in_phase_s)
    return STAYED_AWAY if well_s >= settings.verify_s else ""


def _captured(case: Case, settings: Settings, look: str, n: int, in_phase_s: float) -> str:
    if not case.captured and in_phase_s < settings.evidence_s:
        return ""
    if n != case.n and settings.rungs:
        return CAPTURED_GONE  # another life: it died meanwhile
    if look == UNKNOWN and in_phase_s < settings.evidence_s + ACT_S:
        return ""  # a watchdog that has just come back has not looked yet
    if look == SUSPECT:
        return CAPTURED_SUSPECT
    if look != SICK:
        return CAPTURED_GONE
    return CAPTURED_SICK if settings.rungs else CAPTURED_LAST


def _shown(
    case: Case, settings: Settings, look: str, n: int, well_s: float, *, allowed: bool
) -> str:
    if look in (SICK, SUSPECT) and n != case.n:
        return ANEW
    # The evidence is there already: what gets worse is acted upon at once.
    if look == SICK and settings.rungs and allowed:
        return WORSE
    return STAYED_AWAY if well_s >= settings.verify_s else ""


def _verified(case: Case, settings: Settings, look: str, well_s: float, in_phase_s: float) -> str:
    if well_s >= settings.verify_s:
        return STAYED_AWAY
    # Neither well nor sick for long after a restart (it does not come up, or not as far as that
    # it could be judged): that is not a cure.
    if look == SICK or (
        look in (UNKNOWN, SUSPECT) and in_phase_s >= ACT_S + settings.start_s + settings.verify_s
    ):
        if case.rung + 1 >= len(settings.rungs):
            return EXHAUSTED
        return CAME_BACK if case.went else DID_NOT_HELP
    return ""


def _enter(
    case: Case, settings: Settings, event: str, n: int, now_s: float, now_unix_s: float
) -> "list[object]":
    before, lasted_s = case.phase, now_s - case.at_s
    case.phase = NEXT[before, event]
    case.at_s = now_s
    effects: list[object] = []
    if event == SEEN:
        case.since_unix_s = now_unix_s
    elif event == PERSISTS:
        if not case.judged:
            # It was gone when its evidence had been taken, and is back: that incident is over, this is another one.
            effects += _verdicts(case, CAME_BACK)
        case.captured = False
        case.incident = None
        case.n = n
        case.key = case.given_key or f"flag-{case.worker}-{case.flag}-{int(now_unix_s * 1000)}"
        case.judged = False
    elif case.phase == REMEDY:
        case.accepted = False
        case.tries = 0
        case.last_try_s = -1e9
    elif case.phase == VERIFY:
        case.went = False
        case.well_since_s = None
    if before == VERIFY:
        effects += _judge(case, event, lasted_s)
    elif event in (NOT_TAKEN, CAPTURED_LAST):
        effects += _verdicts(case, GAVE_UP)
    elif event == STAYED_AWAY and not case.judged:
        # It went away by itself, after it had been written up.
        effects += _verdicts(case, "cured")
    if case.phase == CLEAR:
        effects.append(ClearFlag())
        return effects
    effects.append(WriteFlag())
    if case.phase == EVIDENCE:
        effects.append(CaptureEvidence(case.key, settings.evidence_s))
    return effects


def _judge(case: Case, event: str, lasted_s: float) -> "list[object]":
    if event == STAYED_AWAY:
        return _verdicts(case, "cured")
    found = _verdicts(case, CAME_BACK, lasted_s) if case.went else _verdicts(case, DID_NOT_HELP)
    if event == EXHAUSTED:
        found += _verdicts(case, GAVE_UP)
    else:
        case.rung += 1
        case.sick_since_s = None
    return found


def believed_after_s(least_s: float, lived_s: float, since_last_s: float | None) -> float:
    """Return for how long a worker that has died has to live until the restart is called a cure.

    Args:
        least_s: The first time.
        lived_s: Of the life that ended.
        since_last_s: Since the death before this one; None: there was none.
    """
    if since_last_s is None or since_last_s > AGAIN_S:
        return least_s
    return max(least_s, min(AGAIN_S, LONGER * lived_s))


def _verdicts(case: Case, verdict: str, after_s: float | None = None) -> "list[object]":
    case.judged = True
    return [Verdict(case.key, verdict, after_s)]
