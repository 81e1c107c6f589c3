"""What are the five answers of an incident: what broke, since when, why, what was done, did it help?

Each is one or two sentences, for the first screenful of a page, a message or another program; :mod:`holdfast.diagnosis.story` is the longer tale. Pure: the
record (``incident.json``) and its timeline in, five texts out.
"""

from holdfast.diagnosis.story import headline, verdict_of
from holdfast.diagnosis.words import clock, duration, one_line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_LONGEST = 700
_HELPED = {
    "open": "Not known yet: the watchdog is looking whether it comes back.",
    "cured": "Yes: the symptom stayed away.",
    "came_back": "No: the symptom came back after the remedy.",
    "did_not_help": "No: the remedy did not help.",
    "gave_up": "No: every remedy was tried. This needs a person.",
}


def brief(
    incident: "dict[str, Any]", timeline: "list[dict[str, Any]]", utc_offset_s: int = 0
) -> "dict[str, str]":
    """Return ``what``, ``since``, ``why``, ``done`` and ``helped``; none is ever empty.

    Args:
        incident: As in incident.json; missing fields are left out.
        timeline: Rows of timeline.jsonl, oldest first.
        utc_offset_s: What the reader's time zone adds to UTC.
    """
    return {
        "what": _what(incident),
        "since": _since(incident, timeline, utc_offset_s),
        "why": _why(incident),
        "done": _done(incident, timeline),
        "helped": _helped(incident, timeline),
    }


def _what(incident: "dict[str, Any]") -> str:
    cause = incident.get("cause") or {}
    says = one_line(str(cause.get("says") or headline(incident)), _LONGEST)
    component = f', component "{incident["component"]}"' if incident.get("component") else ""
    worker = incident.get("worker", "?")
    who = "the machine" if worker == "@node" else f'worker "{worker}"'
    return f"{who[0].upper()}{who[1:]}{component}: {says}"


def _since(incident: "dict[str, Any]", timeline: "list[dict[str, Any]]", offset_s: int) -> str:
    opened = incident.get("opened_unix_s")
    if opened is None:
        return "Not known."
    parts = [clock(float(opened), offset_s)]
    ended = next(
        (
            float(row["unix_s"])
            for row in reversed(timeline)
            if row.get("verdict") == "cured" and row.get("unix_s")
        ),
        None,
    )
    if ended is not None and ended >= float(opened):
        parts.append(f"over and verified {duration(ended - float(opened))} later")
    if incident.get("lived_s") is not None:
        parts.append(f"it had run for {duration(float(incident['lived_s']))}")
    seen = (incident.get("cause") or {}).get("seen_before") or {}
    if seen.get("count"):
        parts.append(
            "seen once before" if seen["count"] == 1 else f"seen {seen['count']} times before"
        )
    return "; ".join(parts) + "."


def _why(incident: "dict[str, Any]") -> str:
    cause = incident.get("cause") or {}
    reasons = [*(incident.get("findings") or []), *(cause.get("why") or [])]
    if reasons:
        first = reasons[0]
        says = one_line(str(first.get("says", "")), _LONGEST)
        return f"{str(first.get('confidence', 'possible')).capitalize()}: {says}"
    if cause.get("where"):
        return f"Not known; it stood at {one_line(str(cause['where']), 200)}."
    return "Not known: nothing in the evidence points to a cause."


def _done(incident: "dict[str, Any]", timeline: "list[dict[str, Any]]") -> str:
    remedies = [
        one_line(str(row.get("says", "")), 200) for row in timeline if row.get("what") == "remedy"
    ]
    if remedies:
        more = f" The {len(remedies)} remedies are in the timeline." if len(remedies) > 1 else ""
        return f"{_sentence(remedies[-1])}{more}"
    remedy = incident.get("remedy") or {}
    if remedy:
        says = str(remedy.get("says") or remedy.get("do") or remedy.get("how") or "restart")
        return _sentence(one_line(says, 200))
    cause = incident.get("cause") or {}
    delay = duration(float(cause.get("delay_s") or 0))
    return {
        "restart": "The keeper started it again at once.",
        "delay": f"The keeper starts it again after {delay}.",
        "slow": f"Too many deaths: the keeper tries again only every {delay}.",
        "down": "Too many deaths: the keeper leaves it down.",
        "none": "Nothing: nobody wants it up.",
    }.get(str(cause.get("next")), "Evidence was taken; nothing was changed.")


def _helped(incident: "dict[str, Any]", timeline: "list[dict[str, Any]]") -> str:
    verdict = verdict_of(incident, timeline)
    if verdict is None:
        return "There was nothing to verify."
    return _HELPED.get(verdict, verdict.replace("_", " "))


def _sentence(text: str) -> str:
    text = text[:1].upper() + text[1:]
    return text if text.endswith((".", "!", "?", "…")) else f"{text}."
