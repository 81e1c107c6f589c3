"""What is in the queue, and how does a person change it? Figures, pages, finding, deleting, moving.

A job is changed only if it still lies where the person saw it, byte for byte.
"""

# ruff: noqa: S608 - the names of tables and columns are our own words, values are bound

import json

from holdfast.jobs.sqlite import ending, queues
from holdfast.jobs.sqlite.head import MARK, checked, read
from holdfast.model.jobs import Counts, Entry, StoreRefusedError
from holdfast.wire import sidekiq

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from holdfast.jobs.sqlite.file import Step

#: Places with a time, and how they are ordered for a person.
TIMED = {"schedule": "at_s, id", "retry": "at_s, id", "dead": "at_s DESC, id DESC"}


def counts(step: "Step") -> Counts:
    """See :meth:`holdfast.jobs.store.Store.counts`."""
    found, execute = Counts(), step.execute
    for no, name, is_paused in execute("SELECT no, name, is_paused FROM queue ORDER BY name").fetchall():  # fmt: skip
        low, high = queues.bounds(no)
        row = execute("SELECT raw FROM ready WHERE id >= ? AND id < ? ORDER BY id LIMIT 1", (low, high)).fetchone()  # fmt: skip
        latency_s = max(0.0, step.now_s - _enqueued_s(row[0], step.now_s)) if row else 0.0
        found.queues[name] = (queues.size(step, no), latency_s, bool(is_paused))
    found.scheduled, found.retry, found.dead, found.busy, found.waiting = (
        execute(f"SELECT count(*) FROM {table}").fetchone()[0]
        for table in ("schedule", "retry", "dead", "lease", "waiting")
    )
    stats = dict(execute("SELECT name, value FROM stat").fetchall())
    found.processed, found.failed = stats["processed"], stats["failed"]
    return found


def _enqueued_s(raw: bytes, default_s: float) -> float:
    try:
        return sidekiq.seconds(sidekiq.loads(raw).get("enqueued_at")) or default_s
    except ValueError:
        return default_s


def page(step: "Step", where: str, offset: int, limit: int) -> "list[Entry]":
    """See :meth:`holdfast.jobs.store.Store.page`. `token` of what nobody holds is its row, for finding it again."""
    execute = step.execute
    if where.startswith("queue:"):
        low, high = queues.bounds(queues.known(step, where[6:]))
        rows = execute("SELECT id, raw FROM ready WHERE id >= ? AND id < ? ORDER BY id LIMIT ? OFFSET ?", (low, high, limit, offset))  # fmt: skip
        return [Entry(where, raw, token=id_) for id_, raw in rows.fetchall()]
    if where in TIMED:
        rows = execute(f"SELECT id, at_s, raw FROM {where} ORDER BY {TIMED[where]} LIMIT ? OFFSET ?", (limit, offset))  # fmt: skip
        return [Entry(where, raw, at_s, token=id_) for id_, at_s, raw in rows.fetchall()]
    if where == "waiting":
        rows = execute(
            "SELECT waiting.id, raw, next_s FROM waiting JOIN lim ON lim.no = waiting.lim ORDER BY waiting.id LIMIT ? OFFSET ?",
            (limit, offset),
        )
        return [Entry(where, raw, next_s or 0.0, token=id_) for id_, raw, next_s in rows.fetchall()]
    if where == "busy":
        since = _since(step)
        rows = execute("SELECT id, raw FROM lease ORDER BY id LIMIT ? OFFSET ?", (limit, offset))
        return [_busy(since, id_, raw) for id_, raw in rows.fetchall()]
    raise StoreRefusedError(f'there is no place "{where}"\n  There are: queue:NAME, schedule, retry, dead, busy, waiting')  # fmt: skip


def _since(step: "Step") -> "dict[int, tuple[str, dict[int, float]]]":
    """Return by number each owner's name, and since when which token runs."""
    rows = step.execute("SELECT no, name, running FROM owner").fetchall()
    return {no: (name, {one[0]: one[1] for one in json.loads(running)}) for no, name, running in rows}  # fmt: skip


def _busy(since: "dict[int, tuple[str, dict[int, float]]]", id_: int, raw: bytes) -> Entry:
    no = id_ >> ending.TOKEN_BITS
    token = id_ - ending.base_of(no)
    owner, running = since.get(no, ("", {}))
    return Entry("busy", raw, 0.0, owner, token, running.get(token, 0.0))


def find(step: "Step", jid: str) -> "Entry | None":
    """See :meth:`holdfast.jobs.store.Store.find`. Reads everything: half a second for a million jobs."""
    for table in ("lease", "ready", "schedule", "retry", "waiting", "dead"):
        found = _among(step, jid, table)
        if found is not None:
            return found
    return None


def find_resting(step: "Step", jid: str) -> "Entry | None":
    """Look for a job where nobody may come by for a long time: it has a time, waits for a limit, or its queue is paused."""
    for table in ("schedule", "retry", "waiting"):
        found = _among(step, jid, table)
        if found is not None:
            return found
    for (no,) in step.execute("SELECT no FROM queue WHERE is_paused = 1").fetchall():
        found = _among(step, jid, "ready", queues.bounds(no))
        if found is not None:
            return found
    return None


def _among(
    step: "Step", jid: str, table: str, bounds: "tuple[int, int]" = (0, (1 << 63) - 1)
) -> "Entry | None":
    for id_, raw in step.execute(
        f"SELECT id, raw FROM {table} WHERE id >= ? AND id < ? AND instr(raw, ?)",
        (*bounds, jid.encode()),
    ):
        if read(raw).jid == jid:
            return _entry(step, table, id_, raw)
    return None


def _entry(step: "Step", table: str, id_: int, raw: bytes) -> Entry:
    if table == "lease":
        return _busy(_since(step), id_, raw)
    if table == "ready":
        return Entry(f"queue:{queues.name_of(step, id_ >> queues.PLACE_BITS)}", raw, token=id_)
    if table == "waiting":
        return Entry(table, raw, token=id_)
    at_s = step.execute(f"SELECT at_s FROM {table} WHERE id = ?", (id_,)).fetchone()[0]
    return Entry(table, raw, at_s, token=id_)


def remove(step: "Step", entries: "Iterable[Entry]") -> int:
    """See :meth:`holdfast.jobs.store.Store.remove`."""
    count = 0
    for entry in entries:
        if _pull(step, entry):
            count += 1
            if entry.where != "dead":
                ending.drop(step, entry.raw)
    return count


def move(step: "Step", entries: "Iterable[Entry]", to: str, raws: "Mapping[bytes, bytes] | None") -> int:  # fmt: skip
    """See :meth:`holdfast.jobs.store.Store.move`. A dead job whose lock another one has by now stays where it is."""
    if to != "dead" and not (to.startswith("queue:") and len(to) > 6):
        raise StoreRefusedError(f'a job cannot be moved to "{to}"\n  It can be moved to: queue:NAME, dead')  # fmt: skip
    count = 0
    for entry in entries:
        raw = raws.get(entry.raw, entry.raw) if raws else entry.raw
        if raw is not entry.raw:
            checked(raw)
        if not _id_of(step, entry):
            continue
        if entry.where == "dead" and to != "dead" and not ending.revived(step, entry.raw):
            continue
        if not _pull(step, entry):
            continue
        count += 1
        if to != "dead":
            # Who wants it to run wants it more than who has cancelled it.
            step.execute("DELETE FROM cancelled WHERE jid = ?", (read(raw).jid,))
            step.execute("DELETE FROM note WHERE jid = ? AND name = 'state'", (read(raw).jid,))
            queues.append(step, queues.number(step, to[6:]), [queues.stamped_anyhow(raw, step.now_s)])  # fmt: skip
        elif entry.where == "dead":
            step.execute("INSERT INTO dead (at_s, raw) VALUES (?, ?)", (entry.at_s, raw))
        else:
            ending.bury(step, raw, step.now_s)
    return count


def _pull(step: "Step", entry: Entry) -> bool:
    """Take a job from where it was seen; False: it is not there any more."""
    id_ = _id_of(step, entry)
    if not id_:
        return False
    if entry.where.startswith("queue:"):
        queues.remove(step, id_ >> queues.PLACE_BITS, [id_])
    else:
        step.execute(f"DELETE FROM {entry.where} WHERE id = ?", (id_,))
    return True


def _id_of(step: "Step", entry: Entry) -> int:
    """Return the row of a job that a person saw; 0: it is not there any more, or not as it was."""
    execute, where = step.execute, entry.where
    if where.startswith("queue:"):
        no = queues.known(step, where[6:])
        row = execute("SELECT raw FROM ready WHERE id = ?", (entry.token,)).fetchone()
        if row is not None and row[0] == entry.raw and entry.token >> queues.PLACE_BITS == no:
            return entry.token
        row = execute("SELECT id FROM ready WHERE id >= ? AND id < ? AND raw = ? LIMIT 1", (*queues.bounds(no), entry.raw)).fetchone()  # fmt: skip
    elif where in TIMED:
        row = execute(f"SELECT id FROM {where} WHERE at_s = ? AND raw = ? LIMIT 1", (entry.at_s, entry.raw)).fetchone()  # fmt: skip
    elif where == "waiting":
        row = execute("SELECT id FROM waiting WHERE raw = ? LIMIT 1", (entry.raw,)).fetchone()
    else:
        raise StoreRefusedError(f'a job that is in "{where}" cannot be deleted or moved\n  Jobs can be that wait: in queue:NAME, schedule, retry, waiting, dead')  # fmt: skip
    return int(row[0]) if row is not None else 0


def size(step: "Step", name: str) -> int:
    """Return how many jobs lie in a queue."""
    no = queues.known(step, name)
    return queues.size(step, no) if no else 0


def wipe(step: "Step", name: str, limit: int) -> int:
    """Delete up to ``limit`` jobs at the front of a queue; return how many."""
    low, high = queues.bounds(queues.known(step, name))
    rows = step.execute("SELECT id, raw FROM ready WHERE id >= ? AND id < ? ORDER BY id LIMIT ?", (low, high, limit)).fetchall()  # fmt: skip
    if not rows:
        return 0
    step.execute("DELETE FROM ready WHERE id >= ? AND id <= ?", (low, rows[-1][0]))
    step.execute("DELETE FROM hole WHERE id >= ? AND id <= ?", (low, rows[-1][0]))
    for _, raw in rows:
        if MARK in raw:  # for a million jobs without anything, nothing is written
            ending.drop(step, raw)
    return len(rows)


def pause(step: "Step", queue: str, is_paused: bool) -> None:
    """See :meth:`holdfast.jobs.store.Store.pause`."""
    step.execute("UPDATE queue SET is_paused = ? WHERE no = ?", (is_paused, queues.number(step, queue)))  # fmt: skip


def owners(step: "Step") -> "list[dict[str, object]]":
    """See :meth:`holdfast.jobs.store.Store.owners`."""
    rows = step.execute("SELECT no, name, info, busy, beat_s, is_quiet, rss_kb, running FROM owner ORDER BY name")  # fmt: skip
    found: list[dict[str, object]] = []
    for no, name, info, busy, beat_s, is_quiet, rss_kb, running in rows.fetchall():
        runs = []
        for token, run_at, *_ in json.loads(running):
            row = step.execute("SELECT raw FROM lease WHERE id = ?", (ending.base_of(no) + token,)).fetchone()  # fmt: skip
            if row is not None:
                runs.append({"token": token, "raw": row[0], "run_at": run_at})
        found.append({
            "owner": name, "info": json.loads(info), "busy": busy, "beat": beat_s, "quiet": bool(is_quiet),
            "rss_kb": rss_kb, "running": runs,
        })  # fmt: skip
    return found


def signal(step: "Step", owner: str, name: str) -> None:
    """See :meth:`holdfast.jobs.store.Store.signal`."""
    step.execute("INSERT INTO signal (owner, name) SELECT name, ? FROM owner WHERE name = ?", (name, owner))  # fmt: skip
