"""What is due? Moves jobs whose time has come, fires periodic ones once, and throws away what is too old to matter."""

# ruff: noqa: S608 - the names of tables and columns are our own words, values are bound

from holdfast.jobs.sqlite import limits, queues
from holdfast.jobs.sqlite.head import read
from holdfast.model.jobs import CLOCK_WRONG_S

TYPE_CHECKING = False
if TYPE_CHECKING:
    from holdfast.jobs.sqlite.file import Step

DAY_S = 86400.0
#: As Sidekiq's: so long, and so many, dead jobs are kept.
DEAD_S, DEAD_MAX = 180 * DAY_S, 10_000
#: So long a mark waits for the turn of its job.
CANCELLED_S = 7 * DAY_S
#: A batch after its end; one that never ended.
BATCH_S, BATCH_OPEN_S = 7 * DAY_S, 180 * DAY_S
#: An owner that was declared dead cannot come back for so long; then its process cannot be there any more.
FENCED_S = 90 * DAY_S
#: Rows that one round of tidying deletes of a kind, at most: it has to stay short.
ROUND = 1000


def move_due(step: "Step", limit: int) -> "tuple[int, float]":
    """See :meth:`holdfast.jobs.store.Store.move_due`."""
    execute, now_s = step.execute, step.now_s
    moved = limits.let_in_due(step)
    by_queue: dict[str, list[bytes]] = {}
    next_s = limits.next_due_s(step)
    for table in ("schedule", "retry"):
        room = limit - moved
        rows = execute(f"SELECT id, raw FROM {table} WHERE at_s <= ? ORDER BY at_s, id LIMIT ?", (now_s, max(room, 0))).fetchall()  # fmt: skip
        moved += len(rows)
        for _, raw in rows:
            by_queue.setdefault(read(raw).queue, []).append(queues.stamped_anyhow(raw, now_s))
        if rows:
            step.executemany(f"DELETE FROM {table} WHERE id = ?", [(id_,) for id_, _ in rows])
        row = execute(f"SELECT min(at_s) FROM {table}").fetchone()
        if row[0] is not None:
            next_s = min(next_s, row[0])
    for name, raws in by_queue.items():
        queues.append(step, queues.number(step, name), raws)
    return moved, max(0.0, next_s - now_s)


def fire(step: "Step", name: str, slot_s: float, job: bytes) -> bool:
    """See :meth:`holdfast.jobs.store.Store.fire`."""
    row = step.execute("SELECT slot_s FROM cron WHERE name = ?", (name,)).fetchone()
    # One far in the future was fired by a clock that stood wrong: it must not silence this job until then.
    if row is not None and slot_s <= row[0] <= slot_s + CLOCK_WRONG_S:
        return False
    step.execute("REPLACE INTO cron (name, slot_s) VALUES (?, ?)", (name, slot_s))
    queues.push(step, [job])
    return True


def tidy(step: "Step", after: int) -> int:
    """Throw away what is too old to matter, some of it a call.

    Args:
        step: The transaction.
        after: What the call before returned; at first 0.
    """
    execute, now_s = step.execute, step.now_s
    execute("DELETE FROM note WHERE (jid, name) IN (SELECT jid, name FROM note WHERE until_s < ? LIMIT ?)", (now_s, 5 * ROUND))  # fmt: skip
    execute("DELETE FROM cancelled WHERE at_s < ?", (now_s - CANCELLED_S,))
    execute("DELETE FROM lock WHERE until_s < ? AND until_s < 1e18", (now_s,))
    execute("DELETE FROM fenced WHERE at_s < ?", (now_s - FENCED_S,))
    execute("DELETE FROM batch WHERE ended_s < ? OR made_s < ?", (now_s - BATCH_S, now_s - BATCH_OPEN_S))  # fmt: skip
    execute("DELETE FROM dead WHERE id IN (SELECT id FROM dead WHERE at_s < ? LIMIT ?)", (now_s - DEAD_S, ROUND))  # fmt: skip
    execute("DELETE FROM dead WHERE id IN (SELECT id FROM dead ORDER BY at_s DESC LIMIT ? OFFSET ?)", (ROUND, DEAD_MAX))  # fmt: skip
    return _tidy_limits(step, after)


def _tidy_limits(step: "Step", after: int) -> int:
    """Forget limits that nobody waits for, holds or has used in their span: a crawler has one for each host. Return where to go on."""
    last = step.execute("SELECT max(no) FROM (SELECT no FROM lim WHERE no > ? ORDER BY no LIMIT ?)", (after, ROUND)).fetchone()[0]  # fmt: skip
    if last is None:
        return 0
    idle = step.execute(
        "SELECT no FROM lim WHERE no > ? AND no <= ? AND next_s IS NULL"
        " AND NOT EXISTS (SELECT 1 FROM lease WHERE lease.lim = lim.no)"
        " AND NOT EXISTS (SELECT 1 FROM waiting WHERE waiting.lim = lim.no)"
        " AND NOT EXISTS (SELECT 1 FROM start WHERE start.lim = lim.no AND start.at_s > ? - lim.per_s)",
        (after, last, step.now_s),
    ).fetchall()
    step.executemany("DELETE FROM start WHERE lim = ?", idle)
    step.executemany("DELETE FROM lim WHERE no = ?", idle)
    return int(last)
