"""A queue in Redis or Valkey: each operation of `jobs/store.py` is one script or one pipeline.

A job lies where Sidekiq puts it, as the bytes that were pushed (`enqueued_at` is written into the text). What an owner holds lies in a hash
`hf:lease:OWNER`, token to queue and job: an ack is an HDEL that says by itself whether the owner still held it. The names: `keys.py`.
Here is what producers, workers and the steward use; what people use is in :mod:`holdfast.jobs.redis.looking`.
"""

from time import gmtime, time

from holdfast.jobs.redis.heads import head, jid_of, queue_of, stamped
from holdfast.jobs.redis.looking import Looking
from holdfast.model.jobs import (
    ACK,
    BACK,
    CLOCK_WRONG_S,
    DEAD,
    DROP,
    RETRY,
    SUSPECT,
    FencedError,
    Lease,
)
from holdfast.wire.sidekiq import dumps, stamp

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from holdfast.jobs.redis.resp import Word
    from holdfast.model.jobs import Beat, Settle

#: So long a mark waits for the turn of its job.
_CANCELLED_S = 7 * 86400
#: After a server came back: so far into a queue it is looked for what it had given away, …
_DEPTH = 20_000
#: … and for so many jobs in one step.
_STEP = 1000
_ENDS = frozenset((ACK, RETRY, DEAD, BACK, SUSPECT, DROP))


class RedisStore(Looking):
    """A store in a Redis or Valkey server, from 6.2 on.

    Raises:
        StoreRefusedError: The URL is wrong. The server is asked only when something is done.
    """

    # -- producers ---------------------------------------------------------------------------------------

    def push(self, jobs: "Sequence[bytes]", at_s: "Sequence[float] | None" = None) -> "list[str]":
        """Put jobs into their queues, or into the schedule; all of them or none."""
        now_s = time()
        by_queue: dict[str, list[Word]] = {}
        later: list[Word] = []
        all_of_them: list[Word] = []
        is_plain = True
        for i, raw in enumerate(jobs):
            queue, is_special = head(raw)
            at = at_s[i] if at_s is not None else 0.0
            if at > now_s:
                later += (at, raw)
                all_of_them += (at, raw)
            else:
                ready = stamped(raw, now_s)
                if queue in by_queue:
                    by_queue[queue].append(ready)
                else:
                    by_queue[queue] = [ready]
                all_of_them += (b"", ready)
            if is_special:
                is_plain = False
        if not all_of_them:
            return []
        if is_plain:
            self._push_plain(by_queue, later)
            return [""] * len(jobs)
        held = self._link.script("push", self._keys.queues, *all_of_them)
        return [jid.decode() for jid in held]

    def _push_plain(self, by_queue: "dict[str, list[Word]]", later: "list[Word]") -> None:
        """Push jobs without locks and batches: no script is needed."""
        keys = self._keys
        commands: list[Sequence[Word]] = [
            ("LPUSH", keys.queue(queue), *raws) for queue, raws in by_queue.items()
        ]
        if later:
            commands.append(("ZADD", keys.schedule, *later))
        if len(commands) > 1:
            commands = [("MULTI",), *commands, ("EXEC",)]
        if by_queue:
            # Before, and outside: a queue that is known and empty does no harm.
            commands.insert(0, ("SADD", keys.queues, *by_queue))
        self._checked(self._link.many(commands))

    def open_batch(self, batch: str, callback: bytes) -> None:
        """Begin a batch."""
        self._link.script("open_batch", self._keys.queues, batch, callback)

    def close_batch(self, batch: str) -> None:
        """No more jobs come."""
        self._link.script("close_batch", self._keys.queues, batch)

    # -- owners ------------------------------------------------------------------------------------------

    def register(self, owner: str, lease_s: float) -> None:
        """Begin the life of an owner."""
        if not self._link.script("register", self._keys.queues, owner, lease_s):
            raise FencedError(f"{owner} was declared dead")

    def claim(
        self,
        owner: str,
        queues: "Sequence[str]",
        limit: int,
        first_token: int,
        done: "Sequence[int]" = (),
        settled: "Sequence[Settle]" = (),
    ) -> "tuple[list[Lease], list[int]]":
        """End leases and take new ones, in one round trip and one atomic step."""
        words: list[Word] = [
            self._keys.queues, owner, limit, first_token, self._date(), len(queues), len(done), *queues, *done,
        ]  # fmt: skip
        words += _ends(settled)
        # A server that died may have come back with less than we were told: what it gave us before lies in its queues again.
        reply = self._link.script("claim", *words, agreed=self._agreed)
        if reply is None:
            raise FencedError(f"{owner} is not registered, or was declared dead")
        leases: list[Lease] = []
        token = first_token
        for got in reply[1:]:
            queue = got[0].decode()
            leases += [Lease(token + i, queue, got[i + 1]) for i in range(len(got) - 1)]
            token += len(got) - 1
        return leases, [int(missing) for missing in reply[0]]

    def wait(self, queues: "Sequence[str]", timeout_s: float, wakeup: int = -1) -> None:
        """Return when one of the queues may have a job, `wakeup` is readable, or the time is over."""
        self._bell.wait(queues, timeout_s, wakeup)

    # -- the steward -------------------------------------------------------------------------------------

    def renew(
        self, beats: "Sequence[Beat]", lease_s: float
    ) -> "tuple[list[str], dict[str, list[str]]]":
        """Keep the leases of living owners, and show them to whoever looks."""
        if not beats:
            return [], {}
        words: list[Word] = [self._keys.queues, lease_s]
        now_s = time()
        rtt_us = int(self._link.rtt_s * 1e6)
        for beat in beats:
            quiet = "true" if beat.quiet else "false"
            words += (beat.owner, dumps(beat.info), beat.busy, now_s, quiet, beat.rss_kb, rtt_us, len(beat.running))  # fmt: skip
            for token, since_s, thread in beat.running:
                # Coroutines share a thread, so that this alone is no name.
                words += (f"{thread:x}-{token}", token, int(since_s))
        fenced, *signals = self._link.script("renew", *words)
        return [owner.decode() for owner in fenced], {
            owner.decode(): [name.decode() for name in names] for owner, *names in signals
        }

    def held(self, owner: str) -> "list[Lease]":
        """Return all that an owner holds; from here on its claims are answered again after a connection was cut."""
        agreed = self._link.breaks
        flat = self._link.call("HGETALL", self._keys.lease(owner), again=True)
        leases = []
        for i in range(0, len(flat), 2):
            queue, _, raw = flat[i + 1].partition(b"\n")
            leases.append(Lease(int(flat[i]), queue.decode(), raw))
        leases.sort(key=lambda lease: lease.token)
        self._agreed = agreed
        return leases

    def readopt(self, owner: str, leases: "Sequence[Lease]") -> "list[int]":
        """After the store came back with less than it had: put these back into the owner's hands, out of their queues."""
        lost = self._readopt(owner, leases, [b""] * len(leases))
        if not lost:
            return []
        # What the server forgot may be the whole way from the schedule to the owner; there the job has other bytes.
        again = [lease for lease in leases if lease.token in lost]
        elsewhere = self._due_by_jid({jid_of(lease.raw) for lease in again})
        found = [lease for lease in again if jid_of(lease.raw) in elsewhere]
        others = [elsewhere[jid_of(lease.raw)] for lease in found]
        still = self._readopt(owner, found, others) if found else set()
        return sorted(still | (lost - {lease.token for lease in found}))

    def _readopt(
        self, owner: str, leases: "Sequence[Lease]", others: "Sequence[bytes]"
    ) -> "set[int]":
        lost: set[int] = set()
        for start in range(0, len(leases), _STEP):
            words: list[Word] = [self._keys.queues, owner, _DEPTH]
            for i in range(start, min(start + _STEP, len(leases))):
                lease = leases[i]
                words += (lease.token, lease.queue, lease.raw, others[i])
            reply = self._link.script("readopt", *words)
            if reply is None:
                raise FencedError(f"{owner} is not registered, or was declared dead")
            lost.update(map(int, reply))
        return lost

    def _due_by_jid(self, jids: "set[str]") -> "dict[str, bytes]":
        """Return the bytes of those of these jobs that lie among the retries or in the schedule and are due."""
        found: dict[str, bytes] = {}
        now_s = time()
        for key in (self._keys.retry, self._keys.schedule):
            for at in range(0, _DEPTH, _STEP):
                raws = self._link.call("ZRANGEBYSCORE", key, "-inf", now_s, "LIMIT", at, _STEP, again=True)  # fmt: skip
                for raw in raws:
                    jid = jid_of(raw)
                    if jid in jids:
                        found[jid] = raw
                if len(raws) < _STEP:
                    break
        return found

    def recover(self, owner: str, settled: "Sequence[Settle]") -> int:
        """Declare an owner dead: settle these, put all else that it holds back to the front of its queue, fence it for ever."""
        words: list[Word] = [self._keys.queues, owner, self._date()]
        words += _ends(settled)
        held: int = self._link.script("recover", *words)
        return held

    def expired(self) -> "list[str]":
        """Return owners whose lease is over by the store's own clock."""
        now, _ = self._link.call("TIME", again=True)
        found = self._link.call("ZRANGEBYSCORE", self._keys.owners, "-inf", now, again=True)
        return [owner.decode() for owner in found]

    def move_due(self, limit: int) -> "tuple[int, float]":
        """Push what is due of the schedule and the retries, each job by one atomic step."""
        now, next_one, let_in, *due = self._link.script("due", self._keys.queues, limit)
        now_s = float(now)
        words: list[Word] = []
        for name, raws in zip(("retry", "schedule"), due, strict=True):
            for raw in raws:
                words += (name, raw, *_due(raw, now_s))
        moved: int = let_in
        if words:
            moved += self._link.script("take_due", self._keys.queues, *words)
        if len(words) // 4 >= limit:
            return moved, 0.0
        return moved, max(0.0, float(next_one) - now_s) if next_one else float("inf")

    def fire(self, name: str, slot_s: float, job: bytes) -> bool:
        """Push the job of a periodic one for a time slot, unless somebody has for this slot or a later one."""
        head(job)
        return bool(
            self._link.script(
                "fire", self._keys.queues, name, slot_s, stamp(job, time()), CLOCK_WRONG_S
            )
        )

    # -- jobs that run -----------------------------------------------------------------------------------

    def note(self, jid: str, fields: "Mapping[str, str]", keep_s: float) -> None:
        """Keep short texts about a job."""
        if fields:
            words = [word for pair in fields.items() for word in pair]
            self._link.script("note", self._keys.queues, jid, keep_s, *words)

    def cancel(self, jid: str) -> None:
        """See the contract: first the mark, so that whoever is just taking the job sees it."""
        key, now_s = self._keys.cancelled, time()
        self._checked(
            self._link.many(
                [
                    ("ZADD", key, now_s, jid),
                    ("ZREMRANGEBYSCORE", key, "-inf", now_s - _CANCELLED_S),
                    ("EXPIRE", key, _CANCELLED_S),
                ]
            )
        )
        found = self._find(jid, ("retry", "schedule"), self._keys.paused)
        if found is not None:
            self.remove([found])

    def cancelled(self, jids: "Sequence[str]") -> "list[str]":
        """Return which of these are cancelled."""
        if not jids:
            return []
        marks = self._link.call("ZMSCORE", self._keys.cancelled, *jids, again=True)
        return [jid for jid, mark in zip(jids, marks, strict=True) if mark is not None]

    def _date(self) -> str:
        """Return the day as Sidekiq counts it (UTC)."""
        day = int(time() // 86400)
        if day != self._day[0]:
            at = gmtime(day * 86400)
            self._day = (day, f"{at.tm_year}-{at.tm_mon:02}-{at.tm_mday:02}")
        return self._day[1]


def _ends(settled: "Sequence[Settle]") -> "list[Word]":
    """Return ends as the scripts read them."""
    words: list[Word] = []
    for one in settled:
        # An error in the middle of a script would leave half of it done, so that nothing may be wrong with them.
        if one.end not in _ENDS or one.at_s != one.at_s:
            raise ValueError(f"no end of a lease: {one!r}")
        words += (one.token, one.end, one.raw, one.at_s, one.result)
    return words


def _due(raw: bytes, now_s: float) -> "tuple[str, bytes]":
    """Return the queue of a job and what is pushed; ("", b"") for what is no job."""
    try:
        return queue_of(raw), stamp(raw, now_s)
    except ValueError:
        return "", b""
