"""What broke, since when, why, what was done, did it help? The five answers about an incident, and its steps in order. Pure.

The record (``incident.json``) and its timeline in. Leaves out the whole story as text (:mod:`holdfast.diagnosis.story`).
"""

from holdfast.dashboard.now import VERDICTS
from holdfast.diagnosis.story import UNTREATED, headline, is_untreated, missed, returned, verdict_of
from holdfast.diagnosis.words import duration

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    Record = Mapping[str, Any]
    Timeline = Sequence[Mapping[str, Any]]

#: What the keeper did after a death.
_NEXT = {
    "restart": "the keeper started it again at once", "delay": "the keeper started it again after {delay}",
    "slow": "it died too often: the keeper tries again only every {delay}", "down": "it died too often: the keeper left it down",
    "none": "it stayed down: nobody wants it up",
}  # fmt: skip


def answers(record: "Record", timeline: "Timeline") -> "dict[str, Any]":
    """Return the five answers, a sentence each."""
    cause = _table(record.get("cause"))
    verdict = verdict_of(dict(record), [dict(row) for row in timeline])
    component = f', component "{record["component"]}"' if record.get("component") else ""
    what = (
        f'worker "{record.get("worker")}"{component}: {cause.get("says") or headline(dict(record))}'
    )
    if record.get("worker") == "@node":
        what = f"the machine: {cause.get('says') or headline(dict(record))}"
    done = [step["says"] for step in steps(record, timeline) if step["step"] == "remedy"]
    none = "nothing was done"
    if record.get("worker") == "@node" and verdict not in ("cured", "closed"):
        none = "nothing: a person has to"  # docs/reference/flags.md: no remedy of ours makes room
    helped = VERDICTS.get(verdict or "", verdict or "nobody looked whether it came back")
    helped += returned(verdict, timeline)
    if is_untreated(record, timeline):
        helped = UNTREATED
        if record.get("worker") != "@node":
            none = "nothing so far: it was written up, and is not bad enough for a remedy"
    return {
        "what": what,
        "since_unix_s": record.get("opened_unix_s"),
        "why": finding(record)["text"] or "not known: nothing in the evidence points to a cause",
        "done": "; ".join(dict.fromkeys(done)) or none,
        "helped": helped,
        "verdict": verdict,
    }


def finding(record: "Record") -> "dict[str, Any]":
    """Return the surest finding, and what speaks for it."""
    findings = [_table(one) for one in record.get("findings") or ()]
    reasons = [_table(one) for one in _table(record.get("cause")).get("why") or ()]
    chosen = next(iter(findings), None) or next(iter(reasons), {})
    return {
        "text": str(chosen.get("says") or ""),
        "confidence": chosen.get("confidence"),
        "where": chosen.get("where") or _table(record.get("cause")).get("where"),
        "rests_on": list(chosen.get("rests_on") or ()),
        "because": [
            {"says": str(one.get("says")), "confidence": one.get("confidence"), "rests_on": list(one.get("rests_on") or ())}
            for one in [*findings[1:], *reasons]
            if one is not chosen
        ],
    }  # fmt: skip


def steps(record: "Record", timeline: "Timeline") -> "list[dict[str, Any]]":
    """Return what happened, in order: symptom, evidence, remedies, verdicts."""
    cause, evidence = _table(record.get("cause")), _table(record.get("evidence"))
    opened = float(record.get("opened_unix_s") or 0.0)
    took_s = float(evidence.get("took_s") or 0.0)
    found = [_step(opened, "symptom", str(cause.get("says") or headline(dict(record))))]
    says = f"evidence was taken, in {duration(took_s)}{missed(evidence)}"
    found.append(_step(opened + took_s, "evidence", says))
    following = str(cause.get("next") or "")
    if following in _NEXT:
        delay_s = float(cause.get("delay_s") or 0.0)
        at_unix_s = opened + (delay_s if following == "delay" else 0.0)
        step = "remedy" if following in ("restart", "delay", "slow") else "note"
        found.append(_step(at_unix_s, step, _NEXT[following].format(delay=duration(delay_s))))
    remedy = record.get("remedy")
    if isinstance(remedy, dict):
        words = remedy.get("says") or remedy.get("do") or remedy.get("how") or "restart"
        found.append(_step(float(remedy.get("unix_s") or opened + took_s), "remedy", str(words)))
    found += [_of_row(row) for row in timeline]
    return sorted(found, key=lambda step: float(step["at_unix_s"]))


def _of_row(row: "Mapping[str, Any]") -> "dict[str, Any]":
    what = str(row.get("what") or "note")
    verdict = str(row.get("verdict") or "")
    words = VERDICTS.get(verdict, verdict) + returned(verdict, [row])
    says = str(row.get("says") or words or row.get("do") or what)
    step = what if what in ("symptom", "evidence", "remedy", "verdict") else "note"
    if what == "isolation" and " was split: " in says:
        step = "remedy"  # who dies again and again was put into a process of its own
    return {**_step(float(row.get("unix_s") or 0.0), "verdict" if verdict else step, says), "verdict": verdict or None}  # fmt: skip


def _step(at_unix_s: float, step: str, says: str) -> "dict[str, Any]":
    return {"at_unix_s": round(at_unix_s, 3), "step": step, "says": says, "verdict": None}


def _table(value: "Any") -> "dict[str, Any]":
    return value if isinstance(value, dict) else {}
