"""When does a person have to hear of what is wrong, and of how much of it?

Signs of trouble in, notices out. Signs are grouped by *cause*: all processes and parts of one worker are one cause, whoever needs a
cause that was sick first is a consequence of it, and so is everybody while the machine itself is out of memory. A cause is told once it is
hopeless, or has lasted, or came back after a restart; when a restart has verifiably helped nobody is woken, a line in the digest says so.

Pure: monotonic seconds (``now_s``) measure how long something lasts, Unix time is for what people read and for what has to survive a
reboot. The whole memory is a :class:`Desk`, which goes into JSON and back at any moment: whoever writes it down together with the notices
may be killed between any two steps. Left out: reading signs from a node (:mod:`holdfast.alerts.signs`), delivering (:mod:`holdfast.alerts`).
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

# -- what a sign says ------------------------------------------------------------------------------
DOUBTFUL = "doubtful"  # a suspicion: it is looked into, and may be nothing
MENDING = "mending"  # the remedy is done; does the symptom stay away?
BAD = "bad"  # somebody is not served
HOPELESS = "hopeless"  # nothing more will be tried: a person is needed

# -- severities ------------------------------------------------------------------------------------
WARNING, ERROR, CRITICAL = "warning", "error", "critical"
SEVERITIES = ("", WARNING, ERROR, CRITICAL)

# -- states of an alert ----------------------------------------------------------------------------
PENDING, FIRING, ACKED, SNOOZED, CLOSED = "pending", "firing", "acknowledged", "snoozed", "closed"

# -- events ----------------------------------------------------------------------------------------
DUE = "due"  # it is time to tell somebody
WORSE = "worse"  # more severe than what was told
CALM = "calm"  # no sign for long enough
ACK = "ack"  # a person is at it
SNOOZE = "snooze"  # a person wants to hear of it later
WOKE = "woke"  # later is now

#: The whole life of an alert. A pair that is missing here cannot happen.
NEXT = {
    (PENDING, DUE): FIRING,
    (PENDING, CALM): CLOSED,
    (FIRING, WORSE): FIRING,
    (FIRING, ACK): ACKED,
    (FIRING, SNOOZE): SNOOZED,
    (FIRING, CALM): CLOSED,
    (ACKED, WORSE): FIRING,
    (ACKED, SNOOZE): SNOOZED,
    (ACKED, CALM): CLOSED,
    (SNOOZED, WORSE): FIRING,
    (SNOOZED, WOKE): FIRING,
    (SNOOZED, ACK): ACKED,
    (SNOOZED, CALM): CLOSED,
}

# -- what a notice tells ---------------------------------------------------------------------------
TOLD_FIRING, TOLD_WORSE, TOLD_AGAIN, TOLD_RESOLVED = "firing", "worse", "still", "resolved"
TOLD_ACK, TOLD_SNOOZE, TOLD_DIGEST, TOLD_TEST = "acknowledged", "snoozed", "digest", "test"
TOLD_TROUBLE = "undelivered"  # of a channel that takes nothing
TOLD_INCIDENT = "incident"  # for trackers of errors alone
#: What a notice tells after an event; a pair that is not here is told to nobody.
_TELLS = {
    (PENDING, DUE): TOLD_FIRING, (FIRING, WORSE): TOLD_WORSE, (ACKED, WORSE): TOLD_WORSE, (SNOOZED, WORSE): TOLD_WORSE,
    (FIRING, ACK): TOLD_ACK, (SNOOZED, ACK): TOLD_ACK, (FIRING, SNOOZE): TOLD_SNOOZE, (ACKED, SNOOZE): TOLD_SNOOZE,
    (SNOOZED, WOKE): TOLD_AGAIN, (FIRING, CALM): TOLD_RESOLVED, (ACKED, CALM): TOLD_RESOLVED, (SNOOZED, CALM): TOLD_RESOLVED,
}  # fmt: skip

NODE = "@node"
#: The cause that stands for many causes at once.
STORM = "@many"
#: States of the machine that make its workers sick.
_BOX = frozenset({f"{NODE}/memory_pressure", f"{NODE}/disk", f"{NODE}/inodes_low"})
#: Signs of the machine that are one cause: a disk that fills is soon one that is full.
_SAME = {"disk_filling": "disk", "disk_low": "disk"}
_MEMORY = f"{NODE}/memory_pressure"
#: What makes a worker the reason for the machine's lack of memory.
_EATERS = frozenset({"memory_leak", "memory_over_limit", "oom"})
#: A symptom that came and went so often is told although it never lasted.
_FLAPS = 3
_OFTEN_S = 3600.0
_DIGEST_LINES = 200


class Settings:
    """What the rules go by; seconds."""

    __slots__ = ("calm_s", "digest_s", "doubt_s", "hold_s", "needs", "often", "storm", "storm_s")

    def __init__(
        self,
        *,
        hold_s: float = 3.0,
        doubt_s: float = 30.0,
        calm_s: float = 10.0,
        digest_s: float = 86400.0,
        often: int = 5,
        storm: int = 3,
        storm_s: float = 60.0,
        needs: "Mapping[str, Iterable[str]] | None" = None,
    ) -> None:
        self.hold_s = hold_s  #: so long a remedy may take before a person hears of it
        self.doubt_s = doubt_s  #: so long a suspicion has to last
        self.calm_s = calm_s  #: so long all signs have to be away
        self.digest_s = digest_s
        self.often = often  #: helped so many times within an hour, it is told all the same
        self.storm, self.storm_s = (
            storm,
            storm_s,
        )  #: so many alerts within so long; the others become one
        self.needs = needs or {}  #: cause -> causes that it needs to run


class Sign:
    """One symptom as it is now."""

    __slots__ = ("incident", "kind", "says", "state", "worker")

    def __init__(self, worker: str, kind: str, state: str, says: str, incident: str = "") -> None:
        self.worker = worker
        self.kind = kind  #: "crash", "exit", …, or the name of a flag
        self.state = state
        self.says = says
        self.incident = incident

    def to_json(self) -> "dict[str, str]":
        """Return it as JSON has it."""
        return {name: getattr(self, name) for name in ("worker", "kind", "state", "says", "incident")}  # fmt: skip


class Alert:
    """One cause, from its first sign until it is closed."""

    __slots__ = (
        "bad_since_s",
        "began_s",
        "blamed",
        "calm_since_s",
        "came_back",
        "cause",
        "doubt_since_s",
        "fails",
        "id",
        "incidents",
        "members",
        "mended",
        "seq",
        "severity",
        "signs",
        "since_unix_s",
        "snoozed_until_unix_s",
        "state",
    )  # fmt: skip

    def __init__(self, cause: str, now_s: float, now_unix_s: float) -> None:
        self.cause = cause
        self.id = f"{_slug(cause)}-{int(now_unix_s * 1000):x}"
        self.state = PENDING
        self.severity = ""  #: what was told
        self.seq = 0  #: notices so far
        self.began_s = now_s
        self.since_unix_s = now_unix_s
        self.bad_since_s: float | None = None
        self.doubt_since_s: float | None = None
        self.calm_since_s: float | None = None
        self.fails = 0  #: times that it turned bad
        self.mended = False  #: a remedy was done since
        self.came_back = False  #: and did not help
        self.blamed = ""  #: the cause that it follows from
        self.members: list[str] = []  #: of a storm
        self.signs: list[dict[str, str]] = []  #: the last that were seen
        self.incidents: list[str] = []
        self.snoozed_until_unix_s = 0.0

    def to_json(self) -> "dict[str, Any]":
        """Return it as JSON has it."""
        return {name: getattr(self, name) for name in self.__slots__}


class Notice:
    """Something that a person has to be told."""

    __slots__ = ("alert", "also", "at_unix_s", "change", "entries", "id", "severity")

    def __init__(
        self, name: str, change: str, severity: str, at_unix_s: float, alert: "Alert | None" = None
    ) -> None:
        self.id = name  #: the same however often it is sent; no dot in it
        self.change = change
        self.severity = severity
        self.at_unix_s = at_unix_s
        self.alert = alert
        self.also: list[Alert] = []  #: what follows from it
        self.entries: list[dict[str, Any]] = []  #: of a digest


class Desk:
    """All that the rules remember."""

    __slots__ = ("alerts", "digest", "digest_due_unix_s", "digest_more", "fired_s", "helped")

    def __init__(self) -> None:
        self.alerts: dict[str, Alert] = {}
        self.fired_s: list[float] = []  #: when alerts were told
        self.helped: dict[
            str, list[float]
        ] = {}  #: cause -> Unix times at which a remedy had helped
        self.digest: list[dict[str, Any]] = []
        self.digest_more = 0  #: lines that had no room
        self.digest_due_unix_s = 0.0

    def to_json(self) -> "dict[str, Any]":
        """Return it as JSON has it."""
        return {
            "alerts": [alert.to_json() for alert in self.alerts.values()], "fired_s": self.fired_s, "helped": self.helped,
            "digest": self.digest, "digest_more": self.digest_more, "digest_due_unix_s": self.digest_due_unix_s,
        }  # fmt: skip


def restore(value: "Mapping[str, Any]", now_s: float) -> Desk:
    """Take up a desk that somebody else left.

    Monotonic times of another boot may lie in the future: they become now.
    """
    desk = Desk()
    for found in value.get("alerts", ()):
        alert = Alert(str(found["cause"]), now_s, 0.0)
        for name in Alert.__slots__:
            setattr(alert, name, found.get(name, getattr(alert, name)))
        for name in ("began_s", "bad_since_s", "doubt_since_s", "calm_since_s"):
            at_s = getattr(alert, name)
            if at_s is not None:
                setattr(alert, name, min(at_s, now_s))
        desk.alerts[alert.cause] = alert
    desk.fired_s = [at_s for at_s in value.get("fired_s", ()) if at_s <= now_s]
    desk.helped = {str(name): list(times) for name, times in value.get("helped", {}).items()}
    desk.digest = list(value.get("digest", ()))
    desk.digest_more = int(value.get("digest_more", 0))
    desk.digest_due_unix_s = float(value.get("digest_due_unix_s", 0.0))
    return desk


def family(worker: str) -> str:
    """Return the configured worker that a kept process belongs to: parts are WORKER+PART, processes of a queue WORKER.2."""
    return worker.partition("+")[0].partition(".")[0]


def cause_of(sign: Sign) -> str:
    """Return the cause that a sign counts for."""
    if sign.worker == NODE:
        return f"{NODE}/{_SAME.get(sign.kind, sign.kind)}"
    return family(sign.worker)


def step(
    desk: Desk, signs: "Iterable[Sign]", settings: Settings, now_s: float, now_unix_s: float
) -> "list[Notice]":
    """Go on after a look at the node; the same look at the same time again changes nothing.

    Args:
        desk: Changed in place.
        signs: All there are now.
        settings: The rules' measures.
        now_s: Monotonic seconds.
        now_unix_s: For people, snoozes and digests.
    """
    seen = _by_cause(signs)
    for cause in seen:
        if cause not in desk.alerts:
            desk.alerts[cause] = Alert(cause, now_s, now_unix_s)
    storm = desk.alerts.get(STORM)
    if storm is not None:
        seen[STORM] = [sign for name in storm.members for sign in seen.get(name, ())]
    for alert in desk.alerts.values():
        _look(alert, seen.get(alert.cause, []), now_s)
    notices: list[Notice] = []
    for alert in list(desk.alerts.values()):
        calm_since_s = alert.calm_since_s
        if calm_since_s is not None and now_s - calm_since_s >= settings.calm_s:
            notices += _close(desk, alert, settings, now_unix_s)
    _blame(desk, settings)
    desk.fired_s = [at_s for at_s in desk.fired_s if now_s - at_s < settings.storm_s]
    gathered = len(storm.members) if storm is not None else 0
    for alert in list(desk.alerts.values()):
        if alert.calm_since_s is not None:
            continue
        if alert.blamed:
            # Whoever outlives its cause counts from then on.
            alert.bad_since_s = now_s if alert.bad_since_s is not None else None
            alert.doubt_since_s = now_s if alert.doubt_since_s is not None else None
        else:
            notices += _go_on(desk, alert, settings, now_s, now_unix_s)
    storm = desk.alerts.get(STORM)
    if storm is not None and len(storm.members) != gathered:
        _blame(
            desk, settings
        )  # who followed from those that were gathered follows from the storm now
        if storm.state == PENDING:
            notices += _enter(desk, storm, DUE, now_unix_s)
    notices += _digest(desk, now_unix_s)
    return notices


def find(desk: Desk, name: str) -> "Alert | None":
    """Return the open alert that a person means: its id or cause, or an unmistakable beginning of the id."""
    told = [alert for alert in desk.alerts.values() if alert.state != PENDING]
    for alert in told:
        if name in (alert.id, alert.cause):
            return alert
    fits = [alert for alert in told if name and alert.id.startswith(name)]
    return fits[0] if len(fits) == 1 else None


def order(
    desk: Desk, alert: Alert, event: str, now_unix_s: float, until_unix_s: float = 0.0
) -> "list[Notice]":
    """Carry out what a person wants (``ACK``, ``SNOOZE``); what changes nothing is told to nobody."""
    if (alert.state, event) not in NEXT:
        if event == SNOOZE and alert.state == SNOOZED:
            alert.snoozed_until_unix_s = until_unix_s
        return []
    alert.snoozed_until_unix_s = until_unix_s if event == SNOOZE else 0.0
    return _enter(desk, alert, event, now_unix_s)


# -- private ---------------------------------------------------------------------------------------


def _slug(cause: str) -> str:
    return "".join(c if c.isalnum() or c in "-_" else "-" for c in cause).strip("-") or "node"


def _by_cause(signs: "Iterable[Sign]") -> "dict[str, list[Sign]]":
    found: dict[str, list[Sign]] = {}
    for sign in signs:
        found.setdefault(cause_of(sign), []).append(sign)
    return found


def _blame(desk: Desk, settings: Settings) -> None:
    """Find for each alert that nobody was told of the farthest cause that it follows from."""
    parents = {alert.cause: _parent(desk, alert, settings) for alert in desk.alerts.values()}
    for circle in _circles(parents):
        # Somebody in it has to be the one who is told: whoever was sick first.
        first = min(circle, key=lambda cause: (desk.alerts[cause].began_s, cause))
        parents[first] = ""
    for alert in desk.alerts.values():
        alert.blamed, at = "", alert.cause
        while parents[at]:
            alert.blamed = at = parents[at]


def _circles(parents: "dict[str, str]") -> "list[list[str]]":
    found: list[list[str]] = []
    done: set[str] = set()
    for first in parents:
        path: list[str] = []
        at = first
        while at and at not in done:
            done.add(at)
            path.append(at)
            at = parents[at]
        if at in path:
            found.append(path[path.index(at) :])
    return found


def _parent(desk: Desk, alert: Alert, settings: Settings) -> str:
    """Return what an alert follows from, one step back; nothing for one that was told for itself."""
    storm = desk.alerts.get(STORM)
    if alert.state != PENDING:
        return ""
    if storm is not None and alert.cause in storm.members:
        return STORM
    found = [one for one in _parents(desk, alert, settings) if _is_sick(one)]
    return min(found, key=lambda one: (one.began_s, one.cause)).cause if found else ""


def _parents(desk: Desk, alert: Alert, settings: Settings) -> "list[Alert]":
    if alert.cause == _MEMORY:
        return [
            other
            for other in desk.alerts.values()
            if other.began_s < alert.began_s
            and any(sign["kind"] in _EATERS for sign in other.signs)
        ]
    if alert.cause.startswith("@"):
        return []
    needed = _closure(alert.cause, settings.needs)
    # The consequence may be seen a moment before the cause is.
    latest_s = alert.began_s + settings.hold_s
    found = [
        desk.alerts[name]
        for name in needed
        if name in desk.alerts and desk.alerts[name].began_s <= latest_s
    ]
    box = [desk.alerts[name] for name in sorted(_BOX) if name in desk.alerts]
    return found + [other for other in box if other.began_s <= alert.began_s]


def _is_sick(alert: Alert) -> bool:
    """Whether it can be the reason for anything: a suspicion about one worker excuses nobody else."""
    return any(sign["state"] != DOUBTFUL for sign in alert.signs)


def _closure(cause: str, needs: "Mapping[str, Iterable[str]]") -> "list[str]":
    found: list[str] = []
    waiting = list(needs.get(cause, ()))
    while waiting:
        name = waiting.pop()
        if name not in found and name != cause:
            found.append(name)
            waiting += needs.get(name, ())
    return found


def _look(alert: Alert, signs: "list[Sign]", now_s: float) -> None:
    """Take note of the signs of one cause."""
    states = {sign.state for sign in signs}
    is_bad = bool(states & {BAD, HOPELESS})
    if is_bad and alert.bad_since_s is None:
        alert.bad_since_s = now_s
        alert.fails += 1
        alert.came_back = alert.came_back or alert.mended
    elif not is_bad:
        alert.bad_since_s = None
    if MENDING in states and not is_bad:
        alert.mended = True
    if DOUBTFUL not in states:
        alert.doubt_since_s = None
    elif alert.doubt_since_s is None:
        alert.doubt_since_s = now_s
    if signs:
        alert.calm_since_s = None
        alert.signs = [sign.to_json() for sign in signs]
        for sign in signs:
            if sign.incident and sign.incident not in alert.incidents:
                alert.incidents = [*alert.incidents[-19:], sign.incident]
    elif alert.calm_since_s is None:
        alert.calm_since_s = now_s


def _go_on(
    desk: Desk, alert: Alert, settings: Settings, now_s: float, now_unix_s: float
) -> "list[Notice]":
    rank = _rank(desk, alert, settings, now_s, now_unix_s)
    if alert.state == PENDING:
        if not rank:
            return []
        if len(desk.fired_s) >= settings.storm and alert.cause != STORM:
            _gather(desk, alert, rank, now_s, now_unix_s)
            return []
        desk.fired_s.append(now_s)
        desk.helped.pop(alert.cause, None)
        alert.severity = SEVERITIES[rank]
        return _enter(desk, alert, DUE, now_unix_s)
    if rank > SEVERITIES.index(alert.severity):
        alert.severity = SEVERITIES[rank]
        alert.snoozed_until_unix_s = 0.0
        return _enter(desk, alert, WORSE, now_unix_s)
    if alert.state == SNOOZED and now_unix_s >= alert.snoozed_until_unix_s:
        return _enter(desk, alert, WOKE, now_unix_s)
    return []


def _rank(desk: Desk, alert: Alert, settings: Settings, now_s: float, now_unix_s: float) -> int:
    """Return how severe it is (an index of SEVERITIES); 0: nobody has to hear of it yet."""
    if any(sign["state"] == HOPELESS for sign in alert.signs):
        return 3
    if alert.bad_since_s is not None:
        has_lasted = now_s - alert.bad_since_s >= settings.hold_s
        if has_lasted or alert.came_back or alert.fails >= _FLAPS:
            return 2
        if len(_lately(desk, alert.cause, now_unix_s)) + 1 >= settings.often:
            return 1
    if alert.doubt_since_s is not None and now_s - alert.doubt_since_s >= settings.doubt_s:
        return 1
    return 0


def _lately(desk: Desk, cause: str, now_unix_s: float) -> "list[float]":
    return [at for at in desk.helped.get(cause, ()) if now_unix_s - at < _OFTEN_S]


def _gather(desk: Desk, alert: Alert, rank: int, now_s: float, now_unix_s: float) -> None:
    """Too many alerts at once: this one and all that follow become one."""
    storm = desk.alerts.get(STORM)
    if storm is None:
        storm = desk.alerts[STORM] = Alert(STORM, now_s, now_unix_s)
    storm.members.append(alert.cause)
    storm.signs = [*storm.signs, *alert.signs]
    storm.calm_since_s = None
    alert.blamed = STORM
    if storm.state == PENDING:
        storm.severity = SEVERITIES[max(rank, SEVERITIES.index(storm.severity))]


def _close(desk: Desk, alert: Alert, settings: Settings, now_unix_s: float) -> "list[Notice]":
    del desk.alerts[alert.cause]
    if alert.state != PENDING:
        return _enter(desk, alert, CALM, now_unix_s)
    if alert.blamed:
        return []  # told, or counted, with its cause
    if alert.mended:
        desk.helped[alert.cause] = [*_lately(desk, alert.cause, now_unix_s), now_unix_s]
    if not desk.digest:
        desk.digest_due_unix_s = now_unix_s + settings.digest_s
    if len(desk.digest) >= _DIGEST_LINES:
        desk.digest_more += 1
    else:
        desk.digest.append(
            {
                "cause": alert.cause, "since_unix_s": alert.since_unix_s, "helped": alert.mended, "incidents": alert.incidents,
                "says": alert.signs[0]["says"] if alert.signs else "",
            }
        )  # fmt: skip
    return []


def _enter(desk: Desk, alert: Alert, event: str, now_unix_s: float) -> "list[Notice]":
    before = alert.state
    alert.state = NEXT[before, event]
    change = _TELLS.get((before, event))
    if change is None:
        return []
    alert.seq += 1
    notice = Notice(f"{alert.id}-{alert.seq}", change, alert.severity, now_unix_s, alert)
    notice.also = [other for other in desk.alerts.values() if other.blamed == alert.cause]
    return [notice]


def _digest(desk: Desk, now_unix_s: float) -> "list[Notice]":
    if not desk.digest or now_unix_s < desk.digest_due_unix_s:
        return []
    notice = Notice(f"digest-{int(now_unix_s * 1000):x}", TOLD_DIGEST, "", now_unix_s)
    notice.entries = desk.digest
    if desk.digest_more:
        notice.entries.append({"cause": "", "says": f"and {desk.digest_more} more", "helped": True, "incidents": [],
                               "since_unix_s": now_unix_s})  # fmt: skip
    desk.digest, desk.digest_more, desk.digest_due_unix_s = [], 0, 0.0
    return [notice]
