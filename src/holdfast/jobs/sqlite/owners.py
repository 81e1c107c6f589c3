"""Who holds jobs, and is it still there? Leases of owners, their end, and what they leave.

An owner's lease counts on the clock of this boot, which nobody sets. Everybody who shares the file is on this machine, so two things are
known for sure: an owner of another boot is gone, and one whose process is there (same pid, same start) is not, however late its renewal.
"""

# ruff: noqa: S608 - the names of tables and columns are our own words, values are bound

import json
import os
import time

from holdfast.jobs.sqlite import ending, limits, queues
from holdfast.jobs.sqlite.head import read
from holdfast.linux import procfs
from holdfast.model.jobs import BACK, FencedError, Lease, Settle

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from holdfast.jobs.sqlite.file import Step
    from holdfast.model.jobs import Beat

_TOKENS = 1 << ending.TOKEN_BITS


def _now_s() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def number(step: "Step", owner: str) -> int:
    """Return the number of a living owner.

    Raises:
        FencedError: There is no living owner of this name.
    """
    row = step.execute("SELECT no FROM owner WHERE name = ?", (owner,)).fetchone()
    if row is None:
        raise FencedError(f"{owner} has been declared dead, or was never registered: its jobs are others' now")  # fmt: skip
    return int(row[0])


def register(step: "Step", owner: str, lease_s: float) -> None:
    """See :meth:`holdfast.jobs.store.Store.register`."""
    if step.execute("SELECT 1 FROM fenced WHERE name = ?", (owner,)).fetchone():
        raise FencedError(f"{owner} has been declared dead before: it cannot come back")
    pid, ticks = _process(owner)
    # The smallest number that is free: it has 23 bits, and workers may be replaced every second for years.
    no = step.execute(
        "SELECT coalesce(min(no), 0) + 1 FROM (SELECT 0 AS no UNION ALL SELECT no FROM owner)"
        " WHERE no + 1 NOT IN (SELECT no FROM owner)"
    ).fetchone()[0]
    step.execute(
        "INSERT INTO owner (no, name, boot, pid, ticks, until_s, beat_s) VALUES (?, ?, ?, ?, ?, ?, ?)"
        " ON CONFLICT (name) DO UPDATE SET until_s = excluded.until_s",
        (no, owner, procfs.boot_id(), pid, ticks, _now_s() + lease_s, step.now_s),
    )


def _process(owner: str) -> "tuple[int, int]":
    """Return pid and start of the process that an owner's name HOST:PID:NONCE speaks of; zeros: none of this machine."""
    parts = owner.rsplit(":", 2)
    if len(parts) != 3 or parts[0] != os.uname().nodename or not parts[1].isdecimal():
        return 0, 0
    pid = int(parts[1])
    return pid, procfs.start_ticks(pid)


def renew(
    step: "Step", beats: "Sequence[Beat]", lease_s: float
) -> "tuple[list[str], dict[str, list[str]]]":
    """See :meth:`holdfast.jobs.store.Store.renew`."""
    execute, until_s = step.execute, _now_s() + lease_s
    fenced, signals = [], {}
    for beat in beats:
        cursor = execute(
            "UPDATE owner SET until_s = ?, beat_s = ?, info = ?, busy = ?, is_quiet = ?, rss_kb = ?, running = ? WHERE name = ?",
            (until_s, step.now_s, json.dumps(beat.info), beat.busy, beat.quiet, beat.rss_kb, json.dumps(beat.running), beat.owner),
        )  # fmt: skip
        if cursor.rowcount == 0:
            fenced.append(beat.owner)
        names = [name for (name,) in execute("SELECT name FROM signal WHERE owner = ? ORDER BY id", (beat.owner,))]  # fmt: skip
        if names:
            signals[beat.owner] = names
            execute("DELETE FROM signal WHERE owner = ?", (beat.owner,))
    return fenced, signals


def held(step: "Step", owner: str) -> "list[Lease]":
    """See :meth:`holdfast.jobs.store.Store.held`."""
    row = step.execute("SELECT no FROM owner WHERE name = ?", (owner,)).fetchone()
    if row is None:
        return []
    base = ending.base_of(row[0])
    rows = step.execute("SELECT id, queue, raw FROM lease WHERE id >= ? AND id < ? ORDER BY id", (base, base + _TOKENS))  # fmt: skip
    return [Lease(id_ - base, queues.name_of(step, queue), raw) for id_, queue, raw in rows.fetchall()]  # fmt: skip


def recover(step: "Step", owner: str, settled: "Sequence[Settle]") -> int:
    """See :meth:`holdfast.jobs.store.Store.recover`."""
    execute = step.execute
    execute("INSERT OR IGNORE INTO fenced (name, at_s) VALUES (?, ?)", (owner, step.now_s))
    row = execute("SELECT no FROM owner WHERE name = ?", (owner,)).fetchone()
    if row is None:
        return 0
    base = ending.base_of(row[0])
    count = execute("SELECT count(*) FROM lease WHERE id >= ? AND id < ?", (base, base + _TOKENS)).fetchone()[0]  # fmt: skip
    back = [wish for wish in settled if wish.end == BACK]
    for wish in settled:
        if wish.end != BACK:
            ending.settle(step, base, wish)
    # The rest to the front, the last one first, so that the oldest ends up foremost.
    raws = {wish.token: wish.raw for wish in back}
    rest = execute("SELECT id FROM lease WHERE id >= ? AND id < ? ORDER BY id DESC", (base, base + _TOKENS)).fetchall()  # fmt: skip
    for (id_,) in rest:
        ending.settle(step, base, Settle(id_ - base, BACK, raws.get(id_ - base, b"")))
    execute("DELETE FROM owner WHERE name = ?", (owner,))
    execute("DELETE FROM signal WHERE owner = ?", (owner,))
    limits.let_in_freed(step)
    ending.count_up(step)
    return int(count)


def expired(step: "Step") -> "list[str]":
    """See :meth:`holdfast.jobs.store.Store.expired`."""
    boot, now_s = procfs.boot_id(), _now_s()
    rows = step.execute("SELECT name, boot, pid, ticks FROM owner WHERE boot <> ? OR until_s < ?", (boot, now_s)).fetchall()  # fmt: skip
    return [name for name, its, pid, ticks in rows if its != boot or not _lives(pid, ticks)]


def _lives(pid: int, ticks: int) -> bool:
    return ticks > 0 and procfs.start_ticks(pid) == ticks


def readopt(step: "Step", owner: str, leases: "Sequence[Lease]") -> "list[int]":
    """See :meth:`holdfast.jobs.store.Store.readopt`. Looks a job up by its jid: it may have been stamped anew meanwhile."""
    base = ending.base_of(number(step, owner))
    execute = step.execute
    gone = []
    for lease in leases:
        id_ = base + lease.token
        jid = read(lease.raw).jid.encode()
        there = execute("SELECT raw FROM lease WHERE id = ?", (id_,)).fetchone()
        if there is not None:
            if not jid or read(there[0]).jid.encode() != jid:
                gone.append(lease.token)
            continue
        if not jid or not _pull(step, lease, jid):
            gone.append(lease.token)
            continue
        no = queues.number(step, lease.queue)
        execute("INSERT INTO lease (id, queue, raw) VALUES (?, ?, ?)", (id_, no, lease.raw))
    return gone


def _pull(step: "Step", lease: Lease, jid: bytes) -> bool:
    """Take a job out of its queue, the schedule or the retries."""
    no = queues.known(step, lease.queue)
    low, high = queues.bounds(no)
    for (id_, raw) in step.execute("SELECT id, raw FROM ready WHERE id >= ? AND id < ? AND instr(raw, ?) ORDER BY id", (low, high, jid)).fetchall():  # fmt: skip
        if read(raw).jid.encode() == jid:
            queues.remove(step, no, [id_])
            return True
    for table in ("schedule", "retry"):
        for (id_, raw) in step.execute(f"SELECT id, raw FROM {table} WHERE instr(raw, ?)", (jid,)).fetchall():  # fmt: skip
            if read(raw).jid.encode() == jid:
                step.execute(f"DELETE FROM {table} WHERE id = ?", (id_,))
                return True
    return False
