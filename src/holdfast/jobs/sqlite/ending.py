"""How does a lease end, and what happens in the same instant?

Everything that hangs on a job's end is here, within the transaction of whoever calls: its lock, its place in a limit, what
follows it, its batch, its result, the statistics.
"""

# ruff: noqa: S608 - the names of tables and columns are our own words, values are bound

from holdfast.jobs.sqlite import queues
from holdfast.jobs.sqlite.head import MARK, Head, read
from holdfast.model.jobs import ACK, BACK, DEAD, DROP, RETRY, SUSPECT, Settle

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from holdfast.jobs.sqlite.file import Step

#: The steward's lane (core/lease.py: QUARANTINE).
QUARANTINE = "quarantine"
#: So long `notes` knows how a job ended, at least.
STATE_KEPT_S = 3600.0
TOKEN_BITS = 40


def base_of(no: int) -> int:
    """Return what is added to an owner's tokens to make the ids of its leases."""
    return no << TOKEN_BITS


def ack(step: "Step", base: int, done: "Sequence[int]") -> "list[int]":
    """End leases of jobs that ran to their end and have nothing that matters then; return tokens that are not held."""
    execute = step.execute
    missing: list[int] = []
    keys = sorted(done)
    start = 0
    for i in range(1, len(keys) + 1):
        if i < len(keys) and keys[i] == keys[i - 1] + 1:
            continue
        # A run without gaps goes by one statement.
        low, high, wanted = base + keys[start], base + keys[i - 1], i - start
        cursor = execute("SELECT count(*) FROM lease WHERE id >= ? AND id <= ?", (low, high))
        if cursor.fetchone()[0] != wanted:
            held = {id_ for (id_,) in execute("SELECT id FROM lease WHERE id >= ? AND id <= ?", (low, high))}  # fmt: skip
            missing += [key for key in keys[start:i] if base + key not in held]
            wanted = len(held)
        if wanted:
            execute("DELETE FROM lease WHERE id >= ? AND id <= ?", (low, high))
        step.processed += wanted
        start = i
    return missing


def settle(step: "Step", base: int, wish: Settle) -> bool:
    """End one lease; False: it is not held."""
    execute, id_ = step.execute, base + wish.token
    row = execute("SELECT queue, lim, raw FROM lease WHERE id = ?", (id_,)).fetchone()
    if row is None:
        return False
    execute("DELETE FROM lease WHERE id = ?", (id_,))
    queue, lim, raw = row
    if lim is not None:
        step.freed[lim] = step.freed.get(lim, 0) + 1
    end = wish.end
    kept = wish.raw or raw
    if end == ACK:
        step.processed += 1
        _done(step, raw, wish.result)
    elif end == RETRY:
        step.processed += 1
        step.failed += 1
        execute("INSERT INTO retry (at_s, raw) VALUES (?, ?)", (wish.at_s, kept))
    elif end == BACK:
        queues.prepend(step, queue, [kept])
        _lock_again(step, raw)
    elif end == SUSPECT:
        queues.append(step, queues.number(step, QUARANTINE), [kept])
    elif end == DEAD:
        step.processed += 1
        step.failed += 1
        bury(step, kept, wish.at_s or step.now_s)
    elif end == DROP:
        drop(step, raw)
    else:
        raise ValueError(f"no end of a lease: {end!r}")
    return True


def _done(step: "Step", raw: bytes, result: bytes) -> None:
    head = read(raw)
    keep_s = STATE_KEPT_S
    if MARK in raw and head.hf is not None:
        # What follows is counted in the batch before this one leaves it, or the batch could end in between.
        if head.hf.then:
            queues.follow(step, [job.encode() for job in head.hf.then])
        queues.unlock(step, head)
        _count(step, head, "done")
        if head.hf.result_s > 0:
            keep_s = max(keep_s, head.hf.result_s)
            if result:
                note(step, head.jid, "result", result.decode(), step.now_s + head.hf.result_s)
    note(step, head.jid, "state", "done", step.now_s + keep_s)


def bury(step: "Step", raw: bytes, at_s: float) -> None:
    """Put a job among the dead."""
    step.execute("INSERT INTO dead (at_s, raw) VALUES (?, ?)", (at_s, raw))
    head = read(raw)
    if MARK in raw:
        queues.unlock(step, head)
        _count(step, head, "failed")
    note(step, head.jid, "state", "dead", step.now_s + _kept_s(head))


def drop(step: "Step", raw: bytes) -> None:
    """Let go of a job that was cancelled, deleted or too late."""
    head = read(raw)
    # As long as there is a mark, each job of everybody is looked at for it.
    step.execute("DELETE FROM cancelled WHERE jid = ?", (head.jid,))
    if MARK in raw:
        queues.unlock(step, head)
        _count(step, head, "failed")
    note(step, head.jid, "state", "dropped", step.now_s + _kept_s(head))


def revived(step: "Step", raw: bytes) -> bool:
    """Make ready for a dead job's return: its lock, its place in its batch; False: another job has its lock."""
    if MARK in raw:
        head = read(raw)
        if head.hf is not None:
            if head.hf.unique and queues.lock(step, head) not in ("", head.jid):
                return False
            if head.hf.batch:
                step.execute("UPDATE batch SET failed = failed - 1 WHERE name = ? AND failed > 0", (head.hf.batch,))  # fmt: skip
    return True


def _lock_again(step: "Step", raw: bytes) -> None:
    """Take the lock of a job that lost it at its start and did not start after all; if it is still to be had."""
    if MARK in raw:
        head = read(raw)
        if head.hf is not None and head.hf.unique and head.hf.unique_until == "start":
            queues.lock(step, head)


def _kept_s(head: Head) -> float:
    return max(STATE_KEPT_S, head.hf.result_s) if head.hf is not None else STATE_KEPT_S


def note(step: "Step", jid: str, name: str, value: str, until_s: float) -> None:
    """Keep a short text about a job."""
    if jid:
        step.execute("REPLACE INTO note (jid, name, value, until_s) VALUES (?, ?, ?, ?)", (jid, name, value, until_s))  # fmt: skip


def count_up(step: "Step") -> None:
    """Add to the statistics what this transaction has gathered."""
    if step.processed:
        step.execute("UPDATE stat SET value = value + ? WHERE name = 'processed'", (step.processed,))  # fmt: skip
    if step.failed:
        step.execute("UPDATE stat SET value = value + ? WHERE name = 'failed'", (step.failed,))
    step.processed = step.failed = 0


# -- batches ----------------------------------------------------------------------------------------------------


def _count(step: "Step", head: Head, what: str) -> None:
    if head.hf is not None and head.hf.batch:
        step.execute(f"UPDATE batch SET {what} = {what} + 1 WHERE name = ?", (head.hf.batch,))
        end_batch(step, head.hf.batch)


def end_batch(step: "Step", name: str) -> None:
    """Push a batch's callback if no more jobs come and all have ended; once."""
    row = step.execute(
        "SELECT callback FROM batch WHERE name = ? AND is_open = 0 AND ended_s IS NULL AND done + failed >= total",
        (name,),
    ).fetchone()
    if row is not None:
        step.execute("UPDATE batch SET ended_s = ? WHERE name = ?", (step.now_s, name))
        if row[0]:
            queues.follow(step, [row[0]])
