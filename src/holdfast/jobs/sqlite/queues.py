"""How do jobs lie in their queues? Puts them at the end or at the front, into the schedule, and counts them.

A queue is a range of keys of the table `ready`, see schema.sql.
"""

# ruff: noqa: S608 - the names of tables and columns are our own words, values are bound

from holdfast.jobs.sqlite.head import MARK, Head, checked, read
from holdfast.wire.sidekiq import stamp

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from holdfast.jobs.sqlite.file import Step

#: Bits of a place within a queue.
PLACE_BITS = 48
MIDDLE = 1 << (PLACE_BITS - 1)

#: So many jobs go into the table by one statement: half the price of as many statements.
CHUNK = 25
_PUSH_CHUNK = "INSERT INTO ready (id, raw) VALUES " + ", ".join(
    f"(?1 + {i}, ?{i + 2})" for i in range(CHUNK)
)
_PUSH_ONE = "INSERT INTO ready (id, raw) VALUES ((SELECT coalesce(max(id), ?) + 1 FROM ready WHERE id >= ? AND id < ?), ?)"


def bounds(no: int) -> "tuple[int, int]":
    """Return the lowest id of a queue, and the lowest of the next one."""
    return no << PLACE_BITS, (no + 1) << PLACE_BITS


def known(step: "Step", name: str) -> int:
    """Return the number of a queue; 0: there is none of this name."""
    no = step.queues.get(name, 0)
    if not no:
        row = step.execute("SELECT no FROM queue WHERE name = ?", (name,)).fetchone()
        if row is None:
            return 0
        no = step.queues[name] = row[0]
    return no


def number(step: "Step", name: str) -> int:
    """Return the number of a queue, a new one if there was none."""
    no = known(step, name)
    if not no:
        step.execute("INSERT INTO queue (name) VALUES (?)", (name,))
        no = known(step, name)
    return no


def name_of(step: "Step", no: int) -> str:
    """Return the name of a queue."""
    name = step.names.get(no)
    if name is None:
        name = step.names[no] = step.execute(
            "SELECT name FROM queue WHERE no = ?", (no,)
        ).fetchone()[0]
    return name


def append(step: "Step", no: int, raws: "Sequence[bytes]") -> None:
    """Put jobs at the end of a queue."""
    low, high = bounds(no)
    top = step.execute("SELECT max(id) FROM ready WHERE id >= ? AND id < ?", (low, high)).fetchone()[0]  # fmt: skip
    first = (low + MIDDLE if top is None else top) + 1
    rest = len(raws) % CHUNK
    for i in range(0, len(raws) - rest, CHUNK):
        step.execute(_PUSH_CHUNK, (first + i, *raws[i : i + CHUNK]))
    if rest:
        at = len(raws) - rest
        step.executemany("INSERT INTO ready (id, raw) VALUES (?, ?)", list(enumerate(raws[at:], first + at)))  # fmt: skip


def append_one(step: "Step", name: str, raw: bytes) -> bool:
    """Put one job at the end of a queue by a single statement; False: the queue was not met before, nothing was done."""
    no = step.queues.get(name)
    if no is None:
        return False
    low = no << PLACE_BITS
    step.execute(_PUSH_ONE, (low + MIDDLE, low, low + (1 << PLACE_BITS), raw))
    return True


def prepend(step: "Step", no: int, raws: "Sequence[bytes]") -> None:
    """Put jobs at the front of a queue, the first of them foremost."""
    low, high = bounds(no)
    bottom = step.execute("SELECT min(id) FROM ready WHERE id >= ? AND id < ?", (low, high)).fetchone()[0]  # fmt: skip
    first = (low + MIDDLE + 1 if bottom is None else bottom) - len(raws)
    step.executemany("INSERT INTO ready (id, raw) VALUES (?, ?)", list(enumerate(raws, first)))


def size(step: "Step", no: int) -> int:
    """Return how many jobs are in a queue, whatever their number in a few µs."""
    low, high = bounds(no)
    bottom = step.execute("SELECT min(id) FROM ready WHERE id >= ? AND id < ?", (low, high)).fetchone()[0]  # fmt: skip
    if bottom is None:
        return 0
    top = step.execute("SELECT max(id) FROM ready WHERE id >= ? AND id < ?", (low, high)).fetchone()[0]  # fmt: skip
    holes = step.execute("SELECT count(*) FROM hole WHERE id > ? AND id < ?", (bottom, top)).fetchone()[0]  # fmt: skip
    return int(top - bottom + 1 - holes)


def remove(step: "Step", no: int, ids: "Sequence[int]") -> None:
    """Take jobs out of the middle of a queue."""
    pairs = [(one,) for one in ids]
    step.executemany("DELETE FROM ready WHERE id = ?", pairs)
    step.executemany("INSERT OR IGNORE INTO hole (id) VALUES (?)", pairs)
    tidy(step, no)


def tidy(step: "Step", no: int) -> None:
    """Forget holes that are not between two jobs any more."""
    low, high = bounds(no)
    bottom, top = (
        step.execute(f"SELECT {end}(id) FROM ready WHERE id >= ? AND id < ?", (low, high)).fetchone()[0]
        for end in ("min", "max")
    )  # fmt: skip
    if bottom is None:
        step.execute("DELETE FROM hole WHERE id >= ? AND id < ?", (low, high))
    else:
        step.execute("DELETE FROM hole WHERE id >= ? AND id < ?", (low, bottom))
        step.execute("DELETE FROM hole WHERE id > ? AND id < ?", (top, high))


def push(step: "Step", jobs: "Sequence[bytes]", at_s: "Sequence[float] | None" = None) -> "list[str]":  # fmt: skip
    """Put new jobs where they belong, all that a push means: locks, batches, the schedule.

    Returns:
        For each "" or the jid that holds its lock.
    """
    return push_checked(step, jobs, [checked(raw) for raw in jobs], at_s)


def push_checked(
    step: "Step", jobs: "Sequence[bytes]", heads: "Sequence[Head]", at_s: "Sequence[float] | None" = None
) -> "list[str]":  # fmt: skip
    """As :func:`push`, of jobs that were read already."""
    now_s = step.now_s
    taken = [""] * len(jobs)
    by_queue: dict[str, list[bytes]] = {}
    later = []
    for i, (raw, head) in enumerate(zip(jobs, heads, strict=True)):
        if MARK in raw and head.hf is not None:
            if head.hf.unique and (holder := lock(step, head)):
                taken[i] = holder
                continue
            if head.hf.batch:
                step.execute("UPDATE batch SET total = total + 1 WHERE name = ?", (head.hf.batch,))
        if at_s is not None and at_s[i] > now_s:
            later.append((at_s[i], raw))
        else:
            ready = stamped(raw, head, now_s)
            same = by_queue.get(head.queue)
            if same is None:
                by_queue[head.queue] = [ready]
            else:
                same.append(ready)
    for name, raws in by_queue.items():
        append(step, number(step, name), raws)
    if later:
        step.executemany("INSERT INTO schedule (at_s, raw) VALUES (?, ?)", later)
    return taken


def follow(step: "Step", jobs: "Sequence[bytes]") -> None:
    """Put the jobs that follow from another one where they belong.

    They were checked when that one was pushed. What is no job nevertheless (somebody edited it) goes the way of all malformed
    ones, to a worker and to the dead: an exception here would keep its forerunner from ending for ever.
    """
    push_checked(step, jobs, [read(raw) for raw in jobs])


def stamped(raw: bytes, head: Head, now_s: float) -> bytes:
    """Return a new job with its `enqueued_at`, which it may have already; quickly, as its head was read."""
    if head.enqueued_at is not None:
        return raw
    if raw[-1:] != b"}" or not head.jid:
        return stamped_anyhow(raw, now_s)
    if type(head.created_at) is int:
        return b'%b,"enqueued_at":%d}' % (raw[:-1], now_s * 1000)
    return b'%b,"enqueued_at":%.6f}' % (raw[:-1], now_s)


def stamped_anyhow(raw: bytes, now_s: float) -> bytes:
    """Return the job with its `enqueued_at`; as it is if it is no JSON."""
    try:
        return stamp(raw, now_s)
    except ValueError:
        return raw


def lock(step: "Step", head: Head) -> str:
    """Take the lock of a unique job; return "" or the jid of its holder, which may be the job itself: then it is stored already."""
    assert head.hf is not None  # noqa: S101 - for the type checker
    until_s = step.now_s + head.hf.unique_s if head.hf.unique_s > 0 else 1e18
    row = step.execute("SELECT jid, until_s FROM lock WHERE key = ?", (head.hf.unique,)).fetchone()
    if row is not None and row[1] > step.now_s:
        return str(row[0])
    step.execute("REPLACE INTO lock (key, jid, until_s) VALUES (?, ?, ?)", (head.hf.unique, head.jid, until_s))  # fmt: skip
    return ""


def unlock(step: "Step", head: Head) -> None:
    """Release the lock of a unique job, if it is (still) its own."""
    if head.hf is not None and head.hf.unique:
        step.execute("DELETE FROM lock WHERE key = ? AND jid = ?", (head.hf.unique, head.jid))
