"""May this job start now, by its limit? Who is let in when a place becomes free?

A limit has places (`limit_max` jobs at a time: counted among the leases themselves, so a count cannot go wrong) or a rate (n starts
in any span of so many seconds: the last n starts are kept) or both. Whoever has to wait is put aside in the order of arrival and comes
back to the front of its queue. Letting in one too many does no harm: what finds its limit reached is put aside again.
"""

from holdfast.jobs.sqlite import queues

TYPE_CHECKING = False
if TYPE_CHECKING:
    from holdfast.jobs.sqlite.file import Step
    from holdfast.jobs.sqlite.head import Hf

#: So many are let in at one time.
CROWD = 100


class Gate:
    """Admits jobs during one claim; counts each limit's leases once."""

    __slots__ = ("_busy", "_limits", "_step")

    def __init__(self, step: "Step") -> None:
        self._step = step
        self._limits: dict[str, tuple[int, int, float]] = {}
        self._busy: dict[int, int] = {}

    def admit(self, hf: "Hf") -> "tuple[bool, int]":
        """Say whether a job may start, and the number of its limit; if it may, it counts as started."""
        per, per_s = (int(hf.rate[0]), hf.rate[1]) if hf.rate else (0, 0.0)
        no = self._number(hf.limit, hf.limit_max, per, per_s)
        busy = 0
        if hf.limit_max > 0:
            busy = self._busy.get(no, -1)
            if busy < 0:
                busy = self._busy[no] = busy_of(self._step, no)
            if busy >= hf.limit_max:
                return False, no
        if per and not self._start(no, per, per_s):
            return False, no
        if hf.limit_max > 0:
            self._busy[no] = busy + 1
        return True, no

    def _number(self, key: str, most: int, per: int, per_s: float) -> int:
        execute = self._step.execute
        row = execute("SELECT no, most, per, per_s FROM lim WHERE key = ?", (key,)).fetchone()
        if row is None:
            execute("INSERT INTO lim (key, most, per, per_s) VALUES (?, ?, ?, ?)", (key, most, per, per_s))  # fmt: skip
            return self._number(key, most, per, per_s)
        no = int(row[0])
        if row[1:] != (most, per, per_s):
            if row[2] != per:
                # The ring of starts has another length now. The starts before it are forgotten.
                execute("DELETE FROM start WHERE lim = ?", (no,))
            execute("UPDATE lim SET most = ?, per = ?, per_s = ? WHERE no = ?", (most, per, per_s, no))  # fmt: skip
        return no

    def _start(self, no: int, per: int, per_s: float) -> bool:
        execute, now_s = self._step.execute, self._step.now_s
        slot = execute("SELECT starts FROM lim WHERE no = ?", (no,)).fetchone()[0] % per
        row = execute("SELECT at_s FROM start WHERE lim = ? AND slot = ?", (no, slot)).fetchone()
        # A start in the future: somebody has set the clock back. Better one too many than a limit that is shut for a year.
        if row is not None and now_s - per_s < row[0] <= now_s:
            execute("UPDATE lim SET next_s = ? WHERE no = ?", (row[0] + per_s, no))
            return False
        execute("REPLACE INTO start (lim, slot, at_s) VALUES (?, ?, ?)", (no, slot, now_s))
        execute("UPDATE lim SET starts = starts + 1 WHERE no = ?", (no,))
        return True


def busy_of(step: "Step", no: int) -> int:
    """Return how many leases count against a limit."""
    return int(step.execute("SELECT count(*) FROM lease WHERE lim = ?", (no,)).fetchone()[0])


def put_aside(step: "Step", no: int, queue: int, raw: bytes) -> None:
    """Let a job wait for its limit."""
    step.execute("INSERT INTO waiting (lim, queue, raw) VALUES (?, ?, ?)", (no, queue, raw))


def let_in_freed(step: "Step") -> None:
    """Let in as many as places became free in this transaction."""
    freed = dict(step.freed)
    step.freed.clear()
    for no, places in freed.items():
        let_in(step, no, places)


def let_in_due(step: "Step") -> int:
    """Let in those whose rate allows it by now; return how many."""
    rows = step.execute("SELECT no FROM lim WHERE next_s <= ? ORDER BY next_s LIMIT 50", (step.now_s,)).fetchall()  # fmt: skip
    return sum(let_in(step, no, CROWD) for (no,) in rows)


def let_in(step: "Step", no: int, places: int) -> int:
    """Put up to ``places`` jobs that wait for a limit back to the front of their queues, as far as it has room; return how many."""
    execute, now_s = step.execute, step.now_s
    row = execute("SELECT most, per, per_s, next_s FROM lim WHERE no = ?", (no,)).fetchone()
    if row is None:
        return 0
    most, per, per_s, next_s = row
    room = min(places, CROWD)
    if most > 0:
        room = min(room, most - busy_of(step, no))
    if per > 0:
        recent = execute("SELECT count(*), min(at_s) FROM start WHERE lim = ? AND at_s > ? AND at_s <= ?", (no, now_s - per_s, now_s)).fetchone()  # fmt: skip
        room = min(room, per - recent[0])
    chosen = []
    if room > 0:
        chosen = execute("SELECT id, queue, raw FROM waiting WHERE lim = ? ORDER BY id LIMIT ?", (no, room)).fetchall()  # fmt: skip
        by_queue: dict[int, list[bytes]] = {}
        for _, queue, raw in chosen:
            by_queue.setdefault(queue, []).append(raw)
        for queue, raws in by_queue.items():
            queues.prepend(step, queue, raws)
        step.executemany("DELETE FROM waiting WHERE id = ?", [(id_,) for id_, _, _ in chosen])
    _plan(step, no, next_s, per, per_s)
    return len(chosen)


def _plan(step: "Step", no: int, next_s: "float | None", per: int, per_s: float) -> None:
    """Write down when those who still wait for a rate are looked at again."""
    wanted = None
    if per > 0 and step.execute("SELECT 1 FROM waiting WHERE lim = ? LIMIT 1", (no,)).fetchone():
        oldest = step.execute("SELECT min(at_s) FROM start WHERE lim = ? AND at_s > ? AND at_s <= ?", (no, step.now_s - per_s, step.now_s)).fetchone()[0]  # fmt: skip
        wanted = (step.now_s if oldest is None else oldest) + per_s
    if wanted != next_s:
        step.execute("UPDATE lim SET next_s = ? WHERE no = ?", (wanted, no))


def sweep(step: "Step", after: int) -> int:
    """Let in where room is and nobody noticed (the one that was let in was deleted, say); return where to go on, 0 at the end.

    Looks at some limits a call.
    """
    for _ in range(CROWD):
        row = step.execute("SELECT lim FROM waiting WHERE lim > ? ORDER BY lim LIMIT 1", (after,)).fetchone()  # fmt: skip
        if row is None:
            return 0
        after = row[0]
        let_in(step, after, CROWD)
    return after


def next_due_s(step: "Step") -> float:
    """Return when (unix) the next job may be let in by its rate; infinity: none waits for one."""
    row = step.execute("SELECT min(next_s) FROM lim WHERE next_s IS NOT NULL").fetchone()
    return float("inf") if row[0] is None else float(row[0])
