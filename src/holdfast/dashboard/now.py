"""Is anything wrong, what is broken for users, what did Holdfast do about it and did it help? The first screen, in one dict.

Pure: the state of the node in, sentences out. What a flag means is said in one place, the signs of the alerts: somebody who is woken and somebody who looks
see the same. Leaves out collecting the state (:mod:`holdfast.dashboard.state`).
"""

from holdfast.alerts import signs
from holdfast.core.alerting import BAD, CRITICAL, ERROR, FIRING, HOPELESS, MENDING
from holdfast.diagnosis.words import duration
from holdfast.records.incidents import IN_VAIN

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Any

    Row = dict[str, Any]

WELL, CARE, TROUBLE, LOST = "well", "care", "trouble", "lost"
#: What Holdfast did is shown for so long after it.
DONE_S = 24 * 3600.0
_DONE = 8
#: Alerts that are about somebody who is not served.
_GRAVE = (CRITICAL, ERROR)
#: What is broken began with an incident at most so long before it was noticed.
_BEFORE_S = 600.0
#: Incidents of one worker that are no further apart are one trouble. From so many on, of so many of which it is known that no remedy lasted,
#: it keeps failing, whatever is true of it between two of them.
_APART_S, _TIMES, _IN_VAIN = 600.0, 3, 2
#: States in which nobody is served, and what a person reads.
_DOWN = {
    "failed": "is left down: it died too often",
    "backoff": "is down, and waits for its next start",
    "waiting": "waits for a worker that it needs",
    "starting": "is starting again",
    "stopping": "is being stopped",
    "down": "is down",
}
#: Verdict -> whether it helped, as a person reads it.
VERDICTS = {
    "open": "Holdfast looks whether it comes back",
    "cured": "it helped: the symptom stayed away",
    "came_back": "it did not last: the symptom came back",
    "did_not_help": "it did not help",
    "closed": "nobody can tell: a person took over, or the worker was gone, before it was known",
    "gave_up": "no remedy is left: a person is needed",
}


def now(
    state: "Mapping[str, Any]", now_unix_s: float, history: "Sequence[Row] | None" = None
) -> "Row":
    """Return level, sentence, what is broken, and what was done.

    Args:
        state: As of :mod:`holdfast.dashboard.state`, without ``now``.
        now_unix_s: The time.
        history: Incidents, newest first, where more are known than the state shows.
    """
    node, workers = state["node"], state["workers"]
    broken, doubtful = _symptoms(state)
    if history is None:
        history = state["incidents"]
    _take_again(broken, doubtful, _failing(history, workers, now_unix_s))
    done = _done(state["incidents"], now_unix_s)
    says, level = "", WELL
    if not node["is_up"]:
        level, says = (
            LOST,
            f"The node {node['name']} does not run: nobody watches its workers or starts them again. In a terminal: holdfast up",
        )
        broken = []
    elif broken:
        level, says = TROUBLE, _broken_words(broken)
    elif node["trouble"]:
        level, says = CARE, _sentence(node["trouble"][:1].upper() + node["trouble"][1:])
    elif doubtful:
        level, says = CARE, _doubtful_words(doubtful)
    elif firing := [alert for alert in state.get("alerts") or () if alert["state"] == FIRING]:
        # Somebody was woken by it, and it is not over yet: not the moment to say that all is well.
        level, says = CARE, _alert_words(firing)
    else:
        serving = sum(worker["state"] in ("running", "done") for worker in workers.values())
        asleep = len(workers) - serving
        rest = f", {asleep} {'is' if asleep == 1 else 'are'} not wanted up" if asleep else ""
        says = f"All is well: {_count(serving, 'worker')} {'serves' if serving == 1 else 'serve'}{rest}."  # fmt: skip
    return {"level": level, "says": says, "broken": broken, "doubtful": doubtful, "done": done}


def _symptoms(state: "Mapping[str, Any]") -> "tuple[list[Row], list[Row]]":
    """Return what is broken for somebody, and what may be."""
    broken: dict[str, Row] = {}
    doubtful: list[Row] = []
    for name, worker in state["workers"].items():
        if _is_missing(worker):
            why = f": {worker['why']}" if worker["why"] else ""
            broken[name] = _row(name, f"{name} {_DOWN.get(worker['state'], worker['state'])}{why}", None)  # fmt: skip
    for flag in _flags(state):
        sign = signs.of_flag(flag)
        if sign is None:
            continue
        row = _row(sign.worker, sign.says, flag.get("since_unix_s"))
        row["incident"] = sign.incident or None
        if sign.state in (BAD, HOPELESS):
            if sign.state == HOPELESS:
                row["says"] += "; Holdfast gave up, a person is needed"
            before = broken.get(sign.worker)
            if before is None or before["since_unix_s"] is None:
                broken[sign.worker] = row
        else:
            row["says"] += "; remedied, and being watched" if sign.state == MENDING else ""
            doubtful.append(row)
    for alert in state.get("alerts") or ():
        # Who dies every few seconds serves between two deaths; who looks at such a moment must not read that everything does.
        worker, found = alert["cause"], alert.get("signs")
        if worker not in broken and found and alert.get("severity") in _GRAVE:
            broken[worker] = _row(worker, found[0]["says"], alert["since_unix_s"])
    told = [*broken.values(), *(row for row in doubtful if row["worker"] not in broken)]
    for row in told:
        _add_history(row, state)
    return told[: len(broken)], told[len(broken) :]


def _failing(
    incidents: "Iterable[Row]", workers: "Mapping[str, Row]", now_unix_s: float
) -> "dict[str, list[Row]]":
    """Return the incidents, newest first, of each worker that fails again and again: a verdict is given after seconds, and some faults return later."""
    chains: dict[str, list[Row]] = {}
    ended: set[str] = set()
    for row in incidents:
        worker = row["worker"]
        if worker not in workers or worker in ended:
            continue
        chain = chains.setdefault(worker, [])
        after = chain[-1]["opened_unix_s"] if chain else now_unix_s
        if after - row["opened_unix_s"] > _APART_S:
            ended.add(worker)
        else:
            chain.append(row)
    return {
        worker: chain
        for worker, chain in chains.items()
        if len(chain) >= _TIMES and sum(row["verdict"] in IN_VAIN for row in chain) >= _IN_VAIN
    }


def _take_again(
    broken: "list[Row]", doubtful: "list[Row]", failing: "dict[str, list[Row]]"
) -> None:
    """Put those that keep failing among what is broken, with the time of the first."""
    for worker, chain in failing.items():
        first_unix_s, last_unix_s = chain[-1]["opened_unix_s"], chain[0]["opened_unix_s"]
        how_often = f"{len(chain)} times in {duration(last_unix_s - first_unix_s)}, and restarts do not help"  # fmt: skip
        row = next((one for one in broken if one["worker"] == worker), None)
        if row is None:
            row = _row(worker, f"{worker} keeps failing: {how_often}", None)
            row["incident"], row["because"] = chain[0]["id"], chain[0]["title"]
            broken.append(row)
        else:
            row["says"] += f" ({how_often})"
        row["since_unix_s"] = min(first_unix_s, row["since_unix_s"] or first_unix_s)
    doubtful[:] = [row for row in doubtful if row["worker"] not in failing]


def _add_history(row: "Row", state: "Mapping[str, Any]") -> None:
    """Say since when, and what was seen last: flags come and go while somebody has no service all the time."""
    worker, since = row["worker"], row["since_unix_s"]
    alert = next((one for one in state.get("alerts") or () if one["cause"] == worker), None)
    if alert is not None and (since is None or alert["since_unix_s"] < since):
        row["since_unix_s"] = alert["since_unix_s"]
    newest = next((one for one in state["incidents"] if one["worker"] == worker), None)
    began = row["since_unix_s"] or 0.0
    if newest is not None and newest["opened_unix_s"] >= began - _BEFORE_S:
        row["incident"] = row["incident"] or newest["id"]
        row["because"] = newest["title"]


def _is_missing(worker: "Mapping[str, Any]") -> bool:
    """Whether somebody who needs this worker is not served at the moment."""
    state = worker["state"]
    if not worker["up"] or state in ("running", "done"):
        return False
    # The first start of all is no outage.
    return bool(state in ("failed", "backoff") or worker["restarts"] or worker["n"] > 1)


def _flags(state: "Mapping[str, Any]") -> "Iterable[Row]":
    for worker in state["workers"].values():
        yield from worker["flags"]
    yield from state["flags"]


def _done(incidents: "Iterable[Row]", now_unix_s: float) -> "list[Row]":
    recent = [row for row in incidents if now_unix_s - row["opened_unix_s"] < DONE_S][:_DONE]
    return [
        {"incident": row["id"], "worker": row["worker"], "says": row["title"], "helped": row["says"], "verdict": row["verdict"],
         "at_unix_s": row["opened_unix_s"]}
        for row in recent
    ]  # fmt: skip


def _row(worker: str, says: str, since: "float | None") -> "Row":
    return {"worker": worker, "says": says, "since_unix_s": since, "incident": None, "because": ""}


def _broken_words(broken: "list[Row]") -> str:
    if len(broken) == 1:
        return f"{_sentence(broken[0]['says'])}"
    names = ", ".join(row["worker"] for row in broken[:4])
    names += ", …" if len(broken) > 4 else ""
    if all(" keeps failing: " in row["says"] for row in broken):
        return f"{len(broken)} workers keep failing, and restarts do not help: {names}."
    return f"{len(broken)} things are broken: {names}."


def _doubtful_words(doubtful: "list[Row]") -> str:
    first = doubtful[0]
    rest = f" And {_count(len(doubtful) - 1, 'more suspicion')}." if len(doubtful) > 1 else ""
    return f"Everything serves, but {first['worker']} is being looked at: {_sentence(first['says'])}{rest}"  # fmt: skip


def _alert_words(firing: "list[Row]") -> str:
    first = firing[0]
    why = (
        f": {first['signs'][0]['says']}"
        if first.get("signs")
        else ", and its signs are away for now"
    )
    rest = f" And {_count(len(firing) - 1, 'more alert')}." if len(firing) > 1 else ""
    return f"Everything serves, but an alert about {first['cause']} is open{_sentence(why)}{rest}"


def _sentence(says: str) -> str:
    return says if says.endswith((".", "!", "?")) else f"{says}."


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number:,} {noun}s"
