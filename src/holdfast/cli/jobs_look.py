"""`holdfast jobs stats`, `list`, `show`, `workers`: what is in the queue, and who works on it?"""

import sys
import time

from holdfast.cli import jobs_store, jobs_table, output, terminal
from holdfast.cli.words import unknown
from holdfast.model.errors import UsageError
from holdfast.wire import sidekiq

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace
    from typing import Any

    from holdfast.jobs.store import Store
    from holdfast.model.jobs import Counts, Entry

    Row = dict[str, Any]

#: Without a place, so many of each are shown.
_GLANCE = 5


def run(args: "Namespace") -> int:
    """Look, and print what was seen."""
    with jobs_store.opened(args) as store:
        {"stats": _stats, "list": _list, "show": _show, "workers": _workers}[args.verb](args, store)
    return 0


def _print(lines: "list[str]") -> None:
    sys.stdout.write("\n".join(lines) + "\n")


def _stats(args: "Namespace", store: "Store") -> None:
    counts = store.counts()
    for name in args.queue:
        if name not in counts.queues:
            raise unknown("queue", name, sorted(counts.queues))
    if args.queue:
        counts.queues = {name: counts.queues[name] for name in args.queue}
    wrong = store.check()
    if args.json:
        output.document({"store": store.url, **jobs_table.counts_row(counts), "warnings": wrong})
        return
    columns, _ = terminal.size_of()
    paint = terminal.paint_for(args)
    if args.queue:
        _print(jobs_table.queue_table(counts, columns, paint))
        return
    lines = [terminal.clip(paint(store.url, "dim"), columns)]
    lines += jobs_table.stats(counts, columns, paint)
    if wrong:
        lines.append("")
    lines += [f"{paint('!', 'yellow')} {line}" for says in wrong for line in says.splitlines()]
    _print(lines)


def _list(args: "Namespace", store: "Store") -> None:
    for option, given in (("-n", args.lines), ("--offset", args.offset)):
        if given < 0:
            raise UsageError(f"{option} {given}: it is a number of jobs, 0 or more")
    columns, _ = terminal.size_of()
    paint, now_s = terminal.paint_for(args), time.time()
    counts = store.counts()
    if args.where:
        places = [jobs_store.where_of(args.where, store)]
    else:
        places = jobs_store.every_place(store)
    shown: list[tuple[str, list[Row], int]] = []
    for where in places:
        most = args.lines or sys.maxsize
        if not args.where and not args.klass:
            most = min(most, _GLANCE)
        rows = _rows(store, where, args, most)
        shown.append((where, rows, 0 if args.klass else size_of(counts, where)))
    if args.json:
        output.document({"store": store.url, "jobs": [found for _, rows, _ in shown for found in rows]})  # fmt: skip
        return
    lines: list[str] = []
    for where, rows, total in shown:
        if rows:
            if lines:
                lines.append("")
            lines += jobs_table.place_lines(where, rows, total, columns, paint, now_s)
            if where == "dead":
                lines.append(paint("look: holdfast jobs show JID      run again: holdfast jobs retry JID", "dim"))  # fmt: skip
    if not lines:
        of_class = f" of class {args.klass}" if args.klass else ""
        lines = [f"no jobs{of_class} are {jobs_store.words_of(places[0]) if args.where else 'in the queue'}"]  # fmt: skip
    _print(lines)


def _rows(store: "Store", where: str, args: "Namespace", most: int) -> "list[Row]":
    """Return the jobs of a place that are wanted."""
    found: list[Row] = []
    left_out = args.offset
    # Only where every job is wanted does the store know how many to skip.
    skip, wanted = (0, sys.maxsize) if args.klass else (left_out, most)
    offset = skip
    while len(found) < most:
        page = store.page(where, offset, min(jobs_store.PAGE, wanted - (offset - skip)))
        offset += len(page)
        for entry in page:
            row = jobs_table.row(entry)
            if args.klass:
                if row["class"] != args.klass:
                    continue
                if left_out:
                    left_out -= 1
                    continue
            found.append(row)
        if len(page) < jobs_store.PAGE:
            break
    return found[:most]


def size_of(counts: "Counts", where: str) -> int:
    """Return how many jobs a place holds."""
    if where.startswith("queue:"):
        return counts.queues.get(where.removeprefix("queue:"), (0, 0.0, False))[0]
    return int({
        "busy": counts.busy, "waiting": counts.waiting, "retry": counts.retry, "schedule": counts.scheduled,
        "dead": counts.dead,
    }[where])  # fmt: skip


def _show(args: "Namespace", store: "Store") -> None:
    columns, _ = terminal.size_of()
    paint, now_s = terminal.paint_for(args), time.time()
    documents = []
    here = jobs_store.state_dir_here(args)
    for at, jid in enumerate(args.jid):
        entry, notes = _entry_or_end(store, jid)
        if entry is None:
            documents.append({"jid": jid, "where": notes.get("state"), "notes": notes})
            lines = [f"{paint(jid, 'bold')}  {notes['state']}"]
            lines += [f"  {name}  {text}" for name, text in sorted(notes.items()) if name != "state"]  # fmt: skip
        else:
            row = jobs_table.row(entry)
            try:
                job: Row = sidekiq.loads(entry.raw)
            except ValueError:
                job = {}
            trace = sidekiq.backtrace(job)
            documents.append({**row, "job": job, "backtrace": trace, "notes": notes})
            lines = jobs_table.job_lines(row, job, notes, columns, paint, now_s, here)
        if not args.json:
            _print(([""] if at else []) + lines)
    if args.json:
        output.document({"store": store.url, "jobs": documents})


def _entry_or_end(store: "Store", jid: str) -> "tuple[Entry | None, dict[str, str]]":
    """Return a job and its notes; of one that has ended only these."""
    notes = store.notes(jid)
    if notes.get("state") and store.find(jid) is None:
        return None, notes
    entry = jobs_store.find(store, jid)
    found = str(jobs_table.row(entry)["jid"])
    return entry, notes if found == jid else store.notes(found)


def _workers(args: "Namespace", store: "Store") -> None:
    now_s = time.time()
    rows = owners(store, now_s)
    if args.json:
        output.document({"store": store.url, "workers": rows})
        return
    columns, _ = terminal.size_of()
    _print(jobs_table.owners_table(rows, columns, terminal.paint_for(args), now_s))


def owners(store: "Store", now_unix_s: float) -> "list[Row]":
    """Return who works on the queue, in a steady order."""
    rows = [jobs_table.owner_row(owner, now_unix_s) for owner in store.owners()]
    return sorted(rows, key=lambda row: (row["host"], row["worker"], row["owner"]))
