"""Which jobs does an owner get? The queue's hot path: ends leases and takes new ones in one transaction.

A batch without anything under `hf` moves from its queue into the owner's hands by three statements, whatever its size; any
other is sifted job by job: cancelled ones are dropped, those whose limit is reached are put aside.
"""

from itertools import repeat

from holdfast.jobs.sqlite import ending, limits, owners, queues
from holdfast.jobs.sqlite.head import MARK, read
from holdfast.model.jobs import Lease

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from holdfast.jobs.sqlite.file import Step
    from holdfast.model.jobs import Settle

#: So many jobs are put aside by one claim; more wait for the next one, so that a claim stays short.
ASIDE_MAX = 500

#: A run without holes moves within the file: a fifth of what it costs to bind each job once more.
_LEASE_ALL = (
    "INSERT INTO lease (id, queue, raw) SELECT id + ?, ?, raw FROM ready WHERE id >= ? AND id <= ?"
)
_LEASE = "INSERT INTO lease (id, queue, lim, raw) VALUES (?, ?, ?, ?)"
_FRONT = "SELECT id, raw FROM ready WHERE id >= ? AND id < ? ORDER BY id LIMIT ?"


def claim(
    step: "Step",
    owner: str,
    names: "Sequence[str]",
    limit: int,
    first_token: int,
    done: "Sequence[int]",
    settled: "Sequence[Settle]",
) -> "tuple[list[Lease], list[int]]":
    """See :meth:`holdfast.jobs.store.Store.claim`."""
    base = ending.base_of(owners.number(step, owner))
    missing = ending.ack(step, base, done) if done else []
    for wish in settled:
        if not ending.settle(step, base, wish):
            missing.append(wish.token)
    if step.freed:
        limits.let_in_freed(step)
    leases: list[Lease] = []
    if limit > 0:
        limits.let_in_due(step)
        _take(step, base, names, limit, first_token, leases)
        if step.freed:
            limits.let_in_freed(step)
    ending.count_up(step)
    return leases, missing


def _take(
    step: "Step", base: int, names: "Sequence[str]", limit: int, token: int, leases: "list[Lease]"
) -> None:
    execute = step.execute
    paused = {no for (no,) in execute("SELECT no FROM queue WHERE is_paused = 1")}
    has_cancelled = execute("SELECT 1 FROM cancelled LIMIT 1").fetchone() is not None
    gate = None
    aside = 0
    for name in names:
        no = step.queues.get(name) or queues.known(step, name)
        if not no or no in paused:
            continue
        low, high = queues.bounds(no)
        while (room := limit - len(leases)) > 0 and aside < ASIDE_MAX:
            rows = execute(_FRONT, (low, high, room)).fetchall()
            if not rows:
                break
            last, first = rows[-1][0], token + len(leases)
            raws = [raw for _, raw in rows]
            if has_cancelled or MARK in b"".join(raws):
                gate = gate or limits.Gate(step)
                taken, put = _sift(step, gate, no, raws)
                aside += put
                raws = [raw for _, raw in taken]
                step.executemany(_LEASE, [(id_, no, lim, raw) for id_, (lim, raw) in enumerate(taken, base + first)])  # fmt: skip
            elif last - rows[0][0] + 1 == len(rows):
                execute(_LEASE_ALL, (base + first - rows[0][0], no, rows[0][0], last))
            else:
                step.executemany(_LEASE, [(id_, no, None, raw) for id_, raw in enumerate(raws, base + first)])  # fmt: skip
            leases += map(Lease, range(first, first + len(raws)), repeat(name), raws)
            execute("DELETE FROM ready WHERE id >= ? AND id <= ?", (low, last))
            execute("DELETE FROM hole WHERE id >= ? AND id <= ?", (low, last))
            if len(rows) < room:
                break


def _sift(
    step: "Step", gate: limits.Gate, no: int, raws: "list[bytes]"
) -> "tuple[list[tuple[int | None, bytes]], int]":
    """Return those that may start, each with its limit, and how many may not."""
    taken: list[tuple[int | None, bytes]] = []
    aside = 0
    for raw in raws:
        head = read(raw)
        if step.execute("SELECT 1 FROM cancelled WHERE jid = ?", (head.jid,)).fetchone():
            ending.drop(step, raw)
            aside += 1
            if head.hf is not None and head.hf.limit:
                # It may have been let in for a place: that is the next one's now.
                _free(step, head.hf.limit)
            continue
        hf = head.hf
        lim = None
        if hf is not None:
            if hf.limit and (hf.limit_max > 0 or hf.rate):
                may, lim = gate.admit(hf)
                if not may:
                    limits.put_aside(step, lim, no, raw)
                    aside += 1
                    continue
                if hf.limit_max <= 0:
                    lim = None
            if hf.unique_until == "start":
                queues.unlock(step, head)
        taken.append((lim, raw))
    return taken, aside


def _free(step: "Step", key: str) -> None:
    row = step.execute("SELECT no FROM lim WHERE key = ?", (key,)).fetchone()
    if row is not None:
        step.freed[row[0]] = step.freed.get(row[0], 0) + 1
