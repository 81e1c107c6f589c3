"""How does the queue look on a screen: figures of queues, jobs of a place, workers, one job in full?

Pure: what the store said, a width, a painter and the time in, lines out. Fits any width: what cannot be read elsewhere stays (ids
are never cut), then what a job is about gives way, then its class loses its middle. Left out: asking (`jobs_look`).
"""

from holdfast.cli import words
from holdfast.cli.jobs_store import words_of
from holdfast.cli.table import Column, shorten
from holdfast.cli.terminal import Paint, clip
from holdfast.core.lease import QUARANTINE
from holdfast.wire import sidekiq

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from holdfast.model.jobs import Counts, Entry

    Row = dict[str, Any]

#: Longest text of a job that a line shows, on a screen without an edge.
_MOST_LETTERS = 200
_NAME_MIN = 12
_WHAT_MIN = 10
_GAP = 2


# -- what is shown ---------------------------------------------------------------------------------------


def row(entry: "Entry") -> "Row":
    """Return one job as `--json` prints it."""
    found: Row = {
        "where": entry.where, "jid": "", "class": "", "queue": "", "args": [], "kwargs": {}, "created_at_unix_s": 0.0,
        "enqueued_at_unix_s": 0.0, "due_at_unix_s": None, "died_at_unix_s": None, "running_since_unix_s": None, "owner": entry.owner,
        "failures": 0, "strikes": 0, "error_class": "", "error_message": "",
    }  # fmt: skip
    key = {"schedule": "due_at_unix_s", "retry": "due_at_unix_s", "waiting": "due_at_unix_s", "dead": "died_at_unix_s"}.get(entry.where)  # fmt: skip
    if key is not None and entry.at_s:
        found[key] = entry.at_s
    if entry.where == "busy":
        found["running_since_unix_s"] = entry.since_s or None
    try:
        job: Row = sidekiq.loads(entry.raw)
    except ValueError as error:
        return {**found, "class": "(no job)", "error_message": str(error)}
    ours: Row = sidekiq.hf(job)
    count = job.get("retry_count")
    return {
        **found, "jid": job["jid"], "class": str(job.get("display_class") or job["class"]), "queue": str(job.get("queue") or ""),
        "args": job["args"], "kwargs": ours.get("kw") or {}, "created_at_unix_s": sidekiq.seconds(job.get("created_at")),
        "enqueued_at_unix_s": sidekiq.seconds(job.get("enqueued_at")), "failures": count + 1 if isinstance(count, int) else 0,
        "strikes": ours.get("strikes") or 0, "error_class": str(job.get("error_class") or ""),
        "error_message": str(job.get("error_message") or ""),
    }  # fmt: skip


def counts_row(counts: "Counts") -> "Row":
    """Return the figures of a queue as `--json` prints them."""
    return {
        "queues": [
            {"queue": name, "size": size, "latency_s": round(latency_s, 3), "paused": paused}
            for name, (size, latency_s, paused) in sorted(counts.queues.items())
        ],
        "busy": counts.busy, "waiting": counts.waiting, "scheduled": counts.scheduled, "retry": counts.retry,
        "dead": counts.dead, "processed": counts.processed, "failed": counts.failed,
    }  # fmt: skip


def owner_row(owner: "Mapping[str, Any]", now_unix_s: float) -> "Row":
    """Return one process that works on the queue as `--json` prints it."""
    info = owner.get("info") or {}
    running = []
    for one in owner.get("running") or ():
        try:
            job: Row = sidekiq.loads(one["raw"])
        except (ValueError, TypeError):
            job = {}
        running.append({"jid": job.get("jid", ""), "class": job.get("class", ""), "running_since_unix_s": one.get("run_at")})  # fmt: skip
    return {
        "owner": owner["owner"], "worker": _worker(info),
        "host": str(info.get("hostname") or str(owner["owner"]).partition(":")[0]), "pid": info.get("pid"),
        "queues": list(info.get("queues") or ()), "concurrency": info.get("concurrency"), "busy": owner.get("busy", 0),
        "quiet": bool(owner.get("quiet")), "rss_bytes": int(owner.get("rss_kb") or 0) << 10,
        "started_at_unix_s": info.get("started_at"), "beat_s": round(max(0.0, now_unix_s - float(owner.get("beat") or 0)), 1),
        "running": running,
    }  # fmt: skip


def _worker(info: "Mapping[str, Any]") -> str:
    """Return the name of a worker of ours; of any other process (a Ruby one) its tag."""
    labels = info.get("labels") or []
    is_ours = str(info.get("version", "")).startswith("Holdfast") and len(labels) > 1
    return str(labels[1] if is_ours else info.get("tag") or "")


def about(found: "Row") -> str:
    """Return the arguments of a job, as its function gets them."""
    from json import dumps

    parts = [dumps(value, ensure_ascii=False) for value in found["args"]]
    parts += [f"{key}={dumps(value, ensure_ascii=False)}" for key, value in found["kwargs"].items()]
    return _line(", ".join(parts))


def trouble(found: "Row") -> str:
    """Return why a job failed, in one line."""
    if not found["error_class"]:
        return _line(found["error_message"])
    return _line(f"{found['error_class'].rpartition('.')[2]}: {found['error_message']}")


def when(found: "Row", now_unix_s: float) -> str:
    """Return the time of a job that matters, in words."""
    if found["died_at_unix_s"]:
        return f"{words.span(now_unix_s - found['died_at_unix_s'])} ago"
    if found["due_at_unix_s"]:
        left_s = found["due_at_unix_s"] - now_unix_s
        return f"in {words.span(left_s)}" if left_s > 0 else "now"
    if found["running_since_unix_s"]:
        return f"for {words.span(now_unix_s - found['running_since_unix_s'])}"
    put_s = found["enqueued_at_unix_s"] or found["created_at_unix_s"]
    return f"for {words.span(now_unix_s - put_s)}" if put_s else "-"


# -- figures -----------------------------------------------------------------------------------------------


def stats(counts: "Counts", width: int, paint: Paint) -> "list[str]":
    """Return the figures of the whole queue, then a table of its queues."""
    done = f"{counts.processed:,} done"
    if counts.failed:
        done += f", {counts.failed:,} failures on the way"
    parts = [
        (counts.busy, "running", "green"),
        (sum(size for size, _, _ in counts.queues.values()), "in queues", ""),
        (counts.waiting, "waiting for a limit", "yellow"),
        (counts.scheduled, "scheduled", ""),
        (counts.retry, "waiting for a retry", "yellow"),
        (counts.dead, "dead", "red"),
    ]
    said = [
        paint(f"{number:,} {what}", style if number else "dim") for number, what, style in parts
    ]
    lines = _wrapped(said, width)
    lines += [clip(paint(done, "dim"), width), ""]
    return [*lines, *queue_table(counts, width, paint)]


def queue_table(counts: "Counts", width: int, paint: Paint) -> "list[str]":
    """Return a line for each queue."""
    if not counts.queues:
        return [paint("there is no queue yet: one appears with its first job", "dim")]
    name, size = Column("QUEUE", "QUEUE"), Column("JOBS", "JOBS", is_right=True)
    latency, state = Column("OLDEST", "AGE", is_right=True), Column("STATE", "STATE")
    for queue, (number, latency_s, is_paused) in sorted(counts.queues.items()):
        name.add(queue, "yellow" if queue == QUARANTINE else "")
        size.add(f"{number:,}")
        latency.add(words.span(latency_s) if number else "-")
        state.add("paused" if is_paused else "", "yellow")
    columns = [name, size, latency]
    if any(state.cells):
        columns.append(state)
    return layout(columns, width, paint, name=name)


# -- jobs of a place -----------------------------------------------------------------------------------------


def place_lines(
    where: str, rows: "Sequence[Row]", total: int, width: int, paint: Paint, now_unix_s: float
) -> "list[str]":
    """Return a heading and a line for each job of one place."""
    many = f"{len(rows):,} of {total:,}" if total > len(rows) else f"{len(rows):,}"
    lines = [f"{paint(words_of(where), 'bold')}: {words.count(len(rows), 'job') if total <= len(rows) else many + ' jobs'}"]  # fmt: skip
    jid, klass = Column("JID", "JID"), Column("CLASS", "CLASS")
    time = Column({"dead": "DIED", "busy": "RUNS", "schedule": "DUE", "retry": "DUE"}.get(where, "WAITS"), "WHEN", is_right=True)  # fmt: skip
    tries = Column("FAILED", "F", is_right=True)
    is_failed = where in ("dead", "retry")
    what = Column("WHY", "WHY") if is_failed else Column("ARGUMENTS", "ARGS")
    for found in rows:
        # One that anybody pushed with a name of a megabyte must not blow up the lines of all others.
        jid.add(clip(found["jid"], 40) or "-")
        klass.add(clip(found["class"], 100))
        time.add(when(found, now_unix_s))
        tries.add(str(found["failures"]) if found["failures"] else "-")
        what.add(trouble(found) if is_failed else about(found), "red" if is_failed else "dim")
    columns = [jid, klass, time, tries, what]
    if not any(found["failures"] for found in rows):
        columns.remove(tries)
    return [clip(lines[0], width), *layout(columns, width, paint, name=klass, what=what)]


def owners_table(rows: "Sequence[Row]", width: int, paint: Paint, now_unix_s: float) -> "list[str]":
    """Return a line for each process that works on the queue."""
    if not rows:
        return [paint("no process works on the queue", "yellow")]
    owner, worker = Column("OWNER", "OWNER"), Column("WORKER", "WORKER")
    busy, memory = Column("BUSY", "BUSY", is_right=True), Column("MEMORY", "MEM", is_right=True)
    uptime, beat = Column("UPTIME", "UP", is_right=True), Column("SEEN", "SEEN", is_right=True)
    state, queues = Column("STATE", "STATE"), Column("QUEUES", "QUEUES")
    for found in rows:
        owner.add(found["owner"])
        worker.add(found["worker"] or "-")
        most = f"/{found['concurrency']}" if found["concurrency"] else ""
        busy.add(f"{found['busy']}{most}")
        memory.add(words.size(found["rss_bytes"] or None))
        started = found["started_at_unix_s"]
        uptime.add(words.span(now_unix_s - started) if started else "-")
        beat.add(f"{words.span(found['beat_s'])} ago")
        state.add("quiet" if found["quiet"] else "", "yellow")
        queues.add(",".join(dict.fromkeys(map(str, found["queues"]))), "dim")
    columns = [owner, worker, busy, memory, uptime, beat]
    if any(state.cells):
        columns.append(state)
    columns.append(queues)
    return layout(columns, width, paint, name=worker, what=queues, drop=(beat, uptime))


# -- one job in full ---------------------------------------------------------------------------------------------


def job_lines(
    found: "Row", job: "Row", notes: "Mapping[str, str]", width: int, paint: Paint, now_unix_s: float, here: str = ""
) -> "list[str]":  # fmt: skip
    """Return all that is known of a job; ``here`` is the state directory whose incidents need not be told where they are."""
    lines = [f"{paint(found['jid'], 'bold')}  {found['class']}({about(found)})"]
    state = words_of(found["where"])
    style = {"dead": "red", "busy": "green", "retry": "yellow"}.get(found["where"], "")
    facts = [("state", f"{paint(state, style)}  {when(found, now_unix_s)}")]
    facts.append(("queue", found["queue"]))
    if found["owner"]:
        facts.append(("runs in", found["owner"]))
    if found["created_at_unix_s"]:
        facts.append(("made", f"{words.span(now_unix_s - found['created_at_unix_s'])} ago"))
    if found["failures"]:
        facts.append(("failed", words.count(found["failures"], "time")))
    if found["strikes"]:
        died = "a process" if found["strikes"] == 1 else f"{found['strikes']} processes"
        facts.append(("strikes", paint(f"{died} died while it ran", "red")))
    if found["error_message"] or found["error_class"]:
        facts.append(("error", paint(found["error_class"], "red") + (": " if found["error_class"] else "") + found["error_message"]))  # fmt: skip
    facts += _settings(job)
    facts += [
        (name, _line(text)) for name, text in sorted(notes.items())
        if name not in ("incident", "says", "state_dir", "worker", "state")
    ]  # fmt: skip
    room = max(len(name) for name, _ in facts)
    for name, text in facts:
        first, *rest = text.splitlines() or [""]
        lines.append(f"  {name.ljust(room)}  {first}")
        lines += [f"  {' ' * room}  {line}" for line in rest[:20]]
    lines += _evidence(notes, here, paint)
    trace = sidekiq.backtrace(job)
    if trace:
        lines += ["", "  where it failed, the innermost call first:"]
        lines += [paint(f"    {_line(line)}", "dim") for line in trace[:40]]
    return [clip(line, width) for line in lines]


def _settings(job: "Row") -> "list[tuple[str, str]]":
    """Return what was asked for when it was put into the queue."""
    ours: Row = sidekiq.hf(job)
    retry = job.get("retry", True)
    facts = [("retries", "none" if retry is False else str(sidekiq.RETRIES if retry is True else retry))]  # fmt: skip
    for name, key in (
        ("tags", "tags"),
        ("batch", "batch"),
        ("unique", "unique"),
        ("limit", "limit"),
    ):
        value = job.get(key) or ours.get(key)
        if value:
            facts.append((name, ", ".join(map(str, value)) if isinstance(value, list) else str(value)))  # fmt: skip
    if ours.get("timeout"):
        facts.append(("timeout", words.span(float(ours["timeout"]))))
    if ours.get("then"):
        facts.append(("then", words.count(len(ours["then"]), "job")))
    return facts


def _evidence(notes: "Mapping[str, str]", here: str, paint: Paint) -> "list[str]":
    if not (notes.get("incident") or notes.get("says")):
        return []
    lines = ["", f"  {paint('evidence', 'bold')}  {notes.get('says', 'the death of its process is on record')}"]  # fmt: skip
    if notes.get("incident"):
        elsewhere = notes.get("state_dir") not in (None, "", here)
        where = f" --state {notes['state_dir']}" if elsewhere else ""
        lines.append(f"    look: holdfast incident {notes['incident']}{where}")
    return lines


# -- layout --------------------------------------------------------------------------------------------------------


def layout(
    columns: "Sequence[Column]",
    width: int,
    paint: Paint,
    *,
    name: Column,
    what: "Column | None" = None,
    drop: "Sequence[Column]" = (),
) -> "list[str]":
    """Return a heading and the rows, made to fit.

    Args:
        columns: From left to right.
        width: Of the screen.
        paint: For styles.
        name: Loses its middle when nothing else helps.
        what: Takes what room is left, and goes when that is too little.
        drop: Go in this order before ``what`` does.
    """
    shown = [(column, column.title, column.width(column.title)) for column in columns]
    if _total(shown) > width:
        shown = [(column, column.short, column.width(column.short)) for column in columns]
    if what is not None:
        others = [one for one in shown if one[0] is not what]
        for gone in (None, *drop):
            others = [one for one in others if one[0] is not gone]
            room = width - _total(others) - _GAP
            if room >= _WHAT_MIN:
                kept = {id(one[0]) for one in others} | {id(what)}
                shown = [
                    (column, title, min(room, size) if column is what else size)
                    for column, title, size in shown
                    if id(column) in kept
                ]
                break
        else:
            shown = others
    else:
        for gone in drop:
            if _total(shown) > width:
                shown = [one for one in shown if one[0] is not gone]
    too_much = _total(shown) - width
    if too_much > 0:
        shown = [(c, t, max(_NAME_MIN, size - too_much) if c is name else size) for c, t, size in shown]  # fmt: skip
    lines = [paint("  ".join(_cell(c, t, size, is_right=c.is_right) for c, t, size in shown).rstrip(), "bold")]  # fmt: skip
    for at in range(len(columns[0].cells)):
        cells = []
        for column, _, size in shown:
            text = column.cells[at]
            cut = text if column is not what or len(text) <= size else text[: size - 1] + "…"
            plain = _cell(column, cut, size, is_right=column.is_right)
            word = plain.strip()
            cells.append(plain.replace(word, paint(word, column.styles[at]), 1) if word and column.styles[at] else plain)  # fmt: skip
        lines.append("  ".join(cells).rstrip())
    return [clip(line, width) for line in lines]


def _cell(column: Column, text: str, size: int, *, is_right: bool) -> str:
    del column
    text = shorten(text, size)
    return text.rjust(size) if is_right else text.ljust(size)


def _total(shown: "Sequence[tuple[Column, str, int]]") -> int:
    return sum(size for _, _, size in shown) + _GAP * (len(shown) - 1)


def _wrapped(parts: "Sequence[str]", width: int) -> "list[str]":
    """Return words with dots between them, in as many lines as they need."""
    from holdfast.cli.terminal import visible

    lines = [""]
    for part in parts:
        joined = f"{lines[-1]} · {part}" if lines[-1] else part
        if lines[-1] and visible(joined) > width:
            lines.append(part)
        else:
            lines[-1] = joined
    return [clip(line, width) for line in lines]


def _line(text: str) -> str:
    """Return a text as one printable line of bearable length."""
    plain = "".join(c if c.isprintable() else " " for c in text[: _MOST_LETTERS * 2])
    plain = " ".join(plain.split())
    return plain if len(plain) <= _MOST_LETTERS else plain[: _MOST_LETTERS - 1] + "…"
