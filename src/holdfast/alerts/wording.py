"""What does a person read who is told of an alert?

A notice in, a message out: one dict that every channel makes its own of. The first line says what is wrong with whom, the rest since when, what
follows from it, and what to type. Pure, and no word of it comes from a secret.
"""

import re

from holdfast.core import alerting
from holdfast.core.alerting import NODE, STORM

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any, Protocol

    from holdfast.core.alerting import Alert, Notice

    class Voice(Protocol):
        """Who tells of something else than the workers of a node."""

        def subject(self, alert: Alert) -> str:
            """Return whom an alert is about."""

        def look(self, alert: Alert) -> list[str]:
            """Return what to type."""


_HEADS = {
    alerting.TOLD_FIRING: "",
    alerting.TOLD_WORSE: "worse: ",
    alerting.TOLD_AGAIN: "still: ",
    alerting.TOLD_RESOLVED: "resolved: ",
    alerting.TOLD_ACK: "acknowledged: ",
    alerting.TOLD_SNOOZE: "snoozed: ",
}
_LINES = 12
_TITLE = 300
#: A title begins with whom it is about, as the first line of a message does.
_WHOM = re.compile(r'worker "[^"]*"(?: \(component "[^"]*"\))?:? ')
_RANKS = {alerting.HOPELESS: 0, alerting.BAD: 1, alerting.MENDING: 2, alerting.DOUBTFUL: 3}


def message(
    notice: "Notice",
    node: str,
    titles: "Mapping[str, str]",
    clock: "Callable[[float], str]",
    voice: "Voice | None" = None,
) -> "dict[str, Any]":
    """Return a notice as channels get it.

    Args:
        notice: What has to be told.
        node: Name of the node.
        titles: Incident -> its headline.
        clock: Unix time -> what a person reads.
        voice: What its causes are called and where to look; None: they are the workers of a node.
    """
    if notice.change == alerting.TOLD_DIGEST:
        return _digest(notice, node, titles, clock)
    alert = notice.alert
    assert alert is not None  # noqa: S101 -- every other notice has one
    worst = _worst(alert)
    incident = alert.incidents[-1] if alert.incidents else ""
    subject = voice.subject(alert) if voice else _subject(alert)
    says = _says(alert, worst, titles, is_over=notice.change == alerting.TOLD_RESOLVED)
    title = f"{_HEADS[notice.change]}{node}: {subject}: {says}"[:_TITLE]
    lines = [title, "", f"since      {clock(alert.since_unix_s)}"]
    if notice.change == alerting.TOLD_RESOLVED:
        lines.append(f"well since {clock(notice.at_unix_s)}")
    lines.append(f"severity   {notice.severity}")
    others = [sign for sign in alert.signs if sign is not worst and sign["says"] != says]
    lines += _listed("also seen", [f"{sign['worker']}: {sign['says']}" for sign in others])
    also = [
        {"cause": other.cause, "says": _says(other, _worst(other), titles)} for other in notice.also
    ]
    lines += _listed("follows from it", [f"{one['cause']}: {one['says']}" for one in also])
    if alert.incidents:
        lines += _listed("incidents", [f"{name}  {titles.get(name, '')}".rstrip() for name in alert.incidents[-5:]])  # fmt: skip
    look = voice.look(alert) if voice else _look(alert, incident)
    lines += ["", *look]
    return {
        "id": notice.id, "alert": alert.id, "change": notice.change, "severity": notice.severity, "node": node,
        "worker": worst.get("worker", alert.cause), "cause": alert.cause, "kind": worst.get("kind", ""), "title": title, "says": says,
        "since_unix_s": alert.since_unix_s, "at_unix_s": notice.at_unix_s, "incident": incident or None,
        "incidents": list(alert.incidents), "consequences": also, "members": list(alert.members), "look": look,
        "text": "\n".join(lines) + "\n",
    }  # fmt: skip


def plain(change: str, name: str, node: str, says: str, at_unix_s: float, text: str = "", severity: str = "") -> "dict[str, Any]":  # fmt: skip
    """Return a message about the alerts themselves: a test, a channel that takes nothing."""
    title = f"{node}: {says}"[:_TITLE]
    return {
        "id": name, "alert": name, "change": change, "severity": severity, "node": node, "worker": NODE, "cause": "@alerts",
        "kind": change, "title": title, "says": says, "since_unix_s": at_unix_s, "at_unix_s": at_unix_s, "incident": None,
        "incidents": [], "consequences": [], "members": [], "look": [], "text": f"{title}\n{text}",
    }  # fmt: skip


def _worst(alert: "Alert") -> "dict[str, str]":
    return min(alert.signs, key=lambda sign: _RANKS.get(sign["state"], 9), default={})


def _subject(alert: "Alert") -> str:
    if alert.cause == STORM:
        more = "worker" if len(alert.members) == 1 else "workers"
        return f"{len(alert.members)} more {more} at once"
    return "the machine" if alert.cause.startswith(NODE) else f"worker {alert.cause}"


def _says(
    alert: "Alert",
    worst: "Mapping[str, str]",
    titles: "Mapping[str, str]",
    *,
    is_over: bool = False,
) -> str:
    if alert.cause == STORM:
        names = ", ".join(alert.members[:_LINES])
        more = f" and {len(alert.members) - _LINES} more" if len(alert.members) > _LINES else ""
        return f"{names}{more}; others may follow without a word"
    says = worst.get("says") or worst.get("kind") or "in trouble"
    if worst.get("kind") == "death" and worst.get("incident") in titles:
        # The keeper knows a status only; the evidence knows the exception, or the function that broke.
        says = _WHOM.sub("", titles[worst["incident"]], count=1)
    if is_over:
        return says  # what it needed, or came to, is over as well
    if worst.get("state") == alerting.HOPELESS:
        return f"{says}; nothing more is tried, a person is needed"
    if alert.came_back:
        return f"{says}; it came back after a restart"
    return says


def _look(alert: "Alert", incident: str) -> "list[str]":
    if incident:
        first = f"look:  holdfast incident {incident}"
    elif alert.cause.startswith("@"):
        first = "look:  holdfast status"
    else:
        first = f"look:  holdfast explain {alert.cause}"
    return [first, f"quiet: holdfast alerts ack {alert.id}"]


def _listed(head: str, lines: "list[str]") -> "list[str]":
    if not lines:
        return []
    more = [f"  … {len(lines) - _LINES} more"] if len(lines) > _LINES else []
    return [f"{head}:", *(f"  {line}" for line in lines[:_LINES]), *more]


def _digest(
    notice: "Notice", node: str, titles: "Mapping[str, str]", clock: "Callable[[float], str]"
) -> "dict[str, Any]":
    helped = sum(1 for entry in notice.entries if entry["helped"])
    gone = len(notice.entries) - helped
    parts = []
    if helped:
        parts.append("1 restart helped" if helped == 1 else f"{helped} restarts helped")
    if gone:
        parts.append(f"{gone} went away without one")
    says = f"nothing to do: {', '.join(parts)}"
    lines = []
    for entry in notice.entries:
        name = entry["incidents"][-1] if entry["incidents"] else ""
        what = titles.get(name) or entry["says"]
        lines.append(
            f"{clock(entry['since_unix_s'])}  {entry['cause']}: {what}  {name}".rstrip() + "\n"
        )
    made = plain(notice.change, notice.id, node, says, notice.at_unix_s, "\n" + "".join(lines))
    made["incidents"] = [name for entry in notice.entries for name in entry["incidents"]]
    made["entries"] = notice.entries
    return made
