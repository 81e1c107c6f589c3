"""What does a person read at 3 am: what broke, since when, why, what was done, did it help, where to look?

Pure: an incident (``incident.json``) and its timeline in, text out. At most 40 lines, because the answer has to
fit on one screen; everything else is in the bundle, and the last lines say where.
"""

from holdfast.diagnosis.words import clock, duration, one_line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

LONGEST = 40
#: Where the text of a line begins, and the longest line that is read with ease.
_MARGIN, _WIDEST = 13, 120

_VERDICTS = {
    "open": "not known yet: the watchdog is still looking whether it comes back",
    "cured": "cured: the symptom stayed away",
    "came_back": "came back: the symptom returned",
    "did_not_help": "the remedy did not help",
    "closed": "nobody can tell: a person took over, or the worker was gone, before it was known",
    "gave_up": "Holdfast gave up: no remedy is left, a person is needed",
}


def headline(incident: "dict[str, Any]") -> str:
    """Return one line for lists, alerts and subjects."""
    return one_line(str(incident.get("title") or f"incident {incident.get('id', '?')}"), 200)


def story(
    incident: "dict[str, Any]",
    timeline: "list[dict[str, Any]]",
    utc_offset_s: int = 0,
    width: int = 0,
) -> str:
    """Tell an incident, in at most 40 lines.

    Args:
        incident: As in incident.json; missing fields are left out of the story.
        timeline: Rows of timeline.jsonl, oldest first.
        utc_offset_s: What the reader's time zone adds to UTC.
        width: Columns of the reader's terminal: longer lines are broken, and go on below where they began (more than 40, where it is narrow).
            0: it has no end.
    """
    lines = [headline(incident), ""]
    lines += _what(incident)
    lines += _since(incident, utc_offset_s)
    lines += _family(incident)
    lines += _findings(incident, min(width or _WIDEST, _WIDEST))
    lines += _why(incident)
    lines += _where(incident)
    lines += _changed(incident)
    done = _done(incident, timeline, utc_offset_s)
    look = _look(incident, utc_offset_s)
    room = LONGEST - len(lines) - len(look)
    if len(done) > room:
        # The newest rows tell whether it helped.
        keep = max(1, room - 2)
        done = [done[0], f"  … {len(done) - 1 - keep} more rows in timeline.jsonl", *done[-keep:]]
    told = [_plain(line) for line in [*lines, *done, *look][:LONGEST]]
    if width:
        told = [part for at, line in enumerate(told) for part in _hung(line, width, _MARGIN if at else 2)]  # fmt: skip
    return "".join(f"{line}\n" for line in told)


def _hung(line: str, width: int, margin: int) -> list[str]:
    # What is to be copied stays in one piece.
    if line[margin:].lstrip().startswith(("/", "in /", "holdfast ")):
        return [line]
    return hang(line, width, margin)


def _plain(line: str) -> str:
    """Return a line without control characters: names and messages come from programs that went wrong."""
    return line if line.isprintable() else "".join(c if c.isprintable() else " " for c in line)


def _what(incident: "dict[str, Any]") -> list[str]:
    cause = incident.get("cause") or {}
    component = f', component "{incident["component"]}"' if incident.get("component") else ""
    whom = f'worker "{incident.get("worker", "?")}"{component}'
    if incident.get("worker") == "@node":
        whom = "this machine"
    lines = [f"What broke   {whom}: {cause.get('says') or headline(incident)}"]
    words = incident.get("status_words")
    if words and words not in lines[0]:
        lines.append(f"             {words}")
    return lines


def _since(incident: "dict[str, Any]", offset_s: int) -> list[str]:
    opened = incident.get("opened_unix_s")
    if opened is None:
        return []
    parts = [clock(float(opened), offset_s)]
    if incident.get("start"):
        parts.append(f"life {incident['start']} (pid {incident.get('pid', '?')})")
    if incident.get("lived_s") is not None:
        parts.append(f"it had run for {duration(float(incident['lived_s']))}")
    restarts = incident.get("restarts")
    if restarts:
        parts.append(f"{restarts} restart{'s' if restarts != 1 else ''} before this")
    lines = [f"Since        {', '.join(parts)}"]
    seen = (incident.get("cause") or {}).get("seen_before") or {}
    if seen.get("count"):
        times = "once" if seen["count"] == 1 else f"{seen['count']} times"
        lines.append(
            f"             the same fault was seen {times} before, last in {seen.get('last', '?')}"
        )
    return lines


def _family(incident: "dict[str, Any]") -> list[str]:
    """Tell what it follows from, and what followed from it: one cause is one story."""
    lines = []
    cause = incident.get("because")
    if cause:
        where = f": {cause['incident']}" if cause.get("incident") else ""
        lines.append(f'Because of   worker "{cause.get("worker")}"{where}')
    followed = [str(one) for one in incident.get("consequences") or ()]
    if followed:
        more = f" and {len(followed) - 4} more" if len(followed) > 4 else ""
        lines.append(f"Led to       {', '.join(followed[:4])}{more}")
    return lines


def _findings(incident: "dict[str, Any]", width: int) -> list[str]:
    """Tell who is to blame: a paragraph for each of the two surest findings."""
    lines = []
    for at, finding in enumerate((incident.get("findings") or [])[:2]):
        says = f"{finding.get('confidence', 'possible')}: {finding.get('says', '')}"
        wrapped = wrap(one_line(says, 700), max(20, width - _MARGIN))
        lines += [f"{'Finding' if at == 0 and n == 0 else '':<13}{line}" for n, line in enumerate(wrapped)]  # fmt: skip
        rests = ", ".join(str(name) for name in finding.get("rests_on") or ())
        if rests:
            lines.append(f"{'':<13}(rests on {rests})")
    return lines


def wrap(text: str, width: int) -> list[str]:
    """Break text into lines at blanks; a word that is longer than a line stays whole."""
    lines = [""]
    for word in text.split(" "):
        if lines[-1] and len(lines[-1]) + 1 + len(word) > width:
            lines.append("")
        lines[-1] += f" {word}" if lines[-1] else word
    return lines


def hang(line: str, width: int, margin: int) -> list[str]:
    """Break a line that is longer than ``width``; what follows begins ``margin`` columns in."""
    if len(line) <= width:
        return [line]
    # The head, with all its blanks, stays as it is; where it has the whole line for itself, nothing would be left for the text.
    head, text = line[:margin], line[margin:]
    parts = wrap(text, max(20, width - margin))
    return [f"{head}{parts[0]}", *(" " * margin + part for part in parts[1:])]


def _why(incident: "dict[str, Any]") -> list[str]:
    reasons = (incident.get("cause") or {}).get("why") or []
    lines = [
        f"{'Why' if at == 0 else '':<13}{reason.get('confidence', 'possible')}: {one_line(str(reason.get('says', '')), 240)}"
        for at, reason in enumerate(reasons[: 4 if incident.get("findings") else 6])
    ]
    if not lines and not incident.get("findings"):
        return ["Why          not known: nothing in the evidence points to a cause"]
    return lines


def _where(incident: "dict[str, Any]") -> list[str]:
    cause = incident.get("cause") or {}
    if not cause.get("where"):
        return []
    source = f":  {one_line(str(cause['source']), 100)}" if cause.get("source") else ""
    lines = [f"Where        {cause['where']}{source}"]
    frames = [frame for frame in cause.get("frames") or [] if frame != cause["where"]]
    lines += [f"             {frame}" for frame in frames[:4]]
    if len(frames) > 4:
        lines.append(f"             … {len(frames) - 4} more in stacks.txt")
    return lines


def _changed(incident: "dict[str, Any]") -> list[str]:
    changed = incident.get("changed") or []
    lines = [
        f"{'Changed' if at == 0 else '':<13}{one_line(str(says), 200)}"
        for at, says in enumerate(changed[:6])
    ]
    if len(changed) > 6:
        lines.append(f"             … {len(changed) - 6} more in incident.json")
    return lines


def _done(incident: "dict[str, Any]", timeline: "list[dict[str, Any]]", offset_s: int) -> list[str]:
    cause = incident.get("cause") or {}
    evidence = incident.get("evidence") or {}
    rows = []
    rows.append(
        f"evidence taken in {duration(float(evidence.get('took_s') or 0))}{missed(evidence)}"
    )
    rows += _next(cause)
    remedy = incident.get("remedy")
    if remedy:
        rows.append(
            f"remedy: {remedy.get('says') or remedy.get('do') or remedy.get('how') or 'restart'}"
        )
    for row in timeline:
        told = str(row.get("verdict") or "")
        words = told.replace("_", " ") + returned(told, [row])
        says = row.get("says") or words or row.get("what") or row.get("do") or "?"
        at = f"{clock(float(row['unix_s']), offset_s, date=False)} " if row.get("unix_s") else ""
        rows.append(f"{at}{one_line(str(says), 200)}")
    lines = [f"{'Done' if at == 0 else '':<13}{row}" for at, row in enumerate(rows)]
    verdict = verdict_of(incident, timeline)
    if is_untreated(incident, timeline):
        lines.append(f"Did it help  {UNTREATED}")
    elif verdict:
        lines.append(f"Did it help  {_VERDICTS.get(verdict, verdict)}{returned(verdict, timeline)}")
    return lines


#: Instead of a verdict on what nobody has done.
UNTREATED = "nothing was done that could; here it is told when it is over"


def is_untreated(incident: "Mapping[str, Any]", timeline: "Sequence[Mapping[str, Any]]") -> bool:
    """Whether it is about a flag that was shown and not remedied so far."""
    cause = incident.get("cause")
    if not isinstance(cause, dict) or not cause.get("flag") or incident.get("remedy"):
        return False
    verdict = verdict_of(dict(incident), [dict(row) for row in timeline])
    return verdict == "open" and all(row.get("what") != "remedy" for row in timeline)


def missed(evidence: "Mapping[str, Any]") -> str:
    """Return the end of a sentence about the evidence: what is not there, and why; each thing once."""
    rows = [one for one in evidence.get("missed") or () if isinstance(one, dict)]
    why = {str(one.get("what")): str(one.get("why") or "") for one in rows}
    told = [f"{what} ({one_line(reason, 90)})" if reason else what for what, reason in why.items()]
    return f"; not there: {', '.join(told)}" if told else ""


def _next(cause: "dict[str, Any]") -> list[str]:
    after = cause.get("next")
    delay = duration(float(cause.get("delay_s") or 0))
    said = {
        "restart": "the keeper started it again at once",
        "delay": f"the keeper starts it again after {delay}",
        "slow": f"too many deaths: the keeper tries again only every {delay}",
        "down": "too many deaths: the keeper leaves it down",
        "none": "it stays down: nobody wants it up",
    }
    lines = [said[after]] if after in said else []
    start = cause.get("next_start") or {}
    if start.get("n") is not None:
        lines.append(f"life {start['n']} runs as pid {start.get('pid', '?')}")
    return lines


def verdict_of(incident: "dict[str, Any]", timeline: "list[dict[str, Any]]") -> "str | None":
    """Return the last verdict: of the timeline, else the one in the incident itself."""
    for row in reversed(timeline):
        if row.get("verdict"):
            return str(row["verdict"])
    verdict = incident.get("verdict")
    return str(verdict) if verdict else None


def returned(verdict: "str | None", timeline: "Sequence[Mapping[str, Any]]") -> str:
    """Return after how long the symptom was back, and as which incident, to be added to what a verdict says; empty where nobody knows."""
    last = next((row for row in reversed(timeline) if row.get("verdict")), None)
    if verdict != "came_back" or last is None:
        return ""
    after_s, again = last.get("after_s"), last.get("again")
    after = f" after {duration(float(after_s))}" if isinstance(after_s, int | float) else ""
    return after + (f" ({again})" if again else "")


def _look(incident: "dict[str, Any]", offset_s: int) -> list[str]:
    names = (incident.get("evidence") or {}).get("files") or []
    lines = ["", f"Look         {', '.join(names) or 'the files of the bundle'}"]
    if incident.get("path"):
        lines.append(f"             in {incident['path']}")
    worker = incident.get("worker")
    if worker and worker != "@node":
        opened = float(incident.get("opened_unix_s") or 0)
        lines.append(
            f"             holdfast logs --worker {worker}"
            + (f"   (it happened at {clock(opened, offset_s)})" if opened else "")
        )
    return lines
