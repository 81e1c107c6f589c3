"""What every store of the queue can do: a few atomic operations, and looking.

Two keep it: `jobs/sqlite/` (a file) and `jobs/redis/` (Redis or Valkey, in Sidekiq's own layout). One contract test suite holds for
both. A store object may be used from any thread, and from a child after a fork (it opens its connection again). Nothing here waits
longer than a round trip, but :meth:`Store.wait`.

Every method may raise :class:`~holdfast.model.jobs.StoreDownError` (try again) or :class:`~holdfast.model.jobs.StoreRefusedError` (do not).
A push that returns is stored; a push that raises `StoreDownError` may be.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Protocol

    from holdfast.model.jobs import Beat, Counts, Entry, Lease, Settle

    class Store(Protocol):
        """A place where jobs are kept."""

        url: str  #: without its password

        # -- producers -----------------------------------------------------------------------------------

        def push(
            self, jobs: "Sequence[bytes]", at_s: "Sequence[float] | None" = None
        ) -> "list[str]":
            """Put jobs into their queues, or into the schedule; all of them or none.

            Args:
                jobs: JSON. `queue`, `jid`, and `hf.unique` and `hf.limit` where there are any, are read from it.
                at_s: Unix time for each; 0 or in the past: now.

            Returns:
                For each "" if it was stored, or the jid of the job that holds its `unique` lock: then it was not.
            """

        def open_batch(self, batch: str, callback: bytes) -> None:
            """Begin a batch (it counts what is pushed into it); `callback` is the JSON of a job, or b""."""

        def close_batch(self, batch: str) -> None:
            """No more jobs come: its callback is pushed when all have ended (at once if they have)."""

        def batch(self, batch: str) -> "dict[str, int] | None":
            """Return `total`, `done`, `failed`, `open` (0/1) of a batch; None: unknown (they are kept for a week after their end)."""

        # -- owners --------------------------------------------------------------------------------------

        def register(self, owner: str, lease_s: float) -> None:
            """Begin the life of an owner. Without it, and after :meth:`recover`, its claims raise `FencedError`."""

        def claim(
            self,
            owner: str,
            queues: "Sequence[str]",
            limit: int,
            first_token: int,
            done: "Sequence[int]" = (),
            settled: "Sequence[Settle]" = (),
        ) -> "tuple[list[Lease], list[int]]":
            """End leases and take new ones, in one round trip and one atomic step.

            Queues are looked at in the given order; paused ones are passed over; in a queue the oldest first. A job whose limit is
            reached is put aside (`waiting`, or for its time with a rate) and does not count. One that was cancelled is dropped.

            Args:
                owner: Who asks.
                queues: Names.
                limit: At most so many; 0: only settle.
                first_token: Tokens of the new leases count up from here. Never used before by this owner.
                done: Tokens of jobs that ran to their end and have nothing under `hf` that matters at their end: the fast way.
                settled: All the others.

            Returns:
                The leases, and those tokens of `done` and `settled` that this owner does not hold (any more): nothing was done for them.

            Raises:
                FencedError: The owner is not registered, or was declared dead. Nothing was done.
                StoreDownError: Also when the store was away since the owner last asked :meth:`held`: it may have forgotten claims and ends, so
                    the two have to be compared first.
            """

        def wait(self, queues: "Sequence[str]", timeout_s: float, wakeup: int = -1) -> None:
            """Return when one of the queues may have a job, `wakeup` (a descriptor) is readable, or the time is over.

            Coming back for nothing is allowed, sleeping through a push is not (by more than 20 ms).
            """

        # -- the steward ---------------------------------------------------------------------------------

        def renew(
            self, beats: "Sequence[Beat]", lease_s: float
        ) -> "tuple[list[str], dict[str, list[str]]]":
            """Keep the leases of living owners, and show them to whoever looks (Sidekiq's `processes` and `work`).

            Returns:
                Owners that are fenced (somebody has declared them dead), and signals for owners that a person left there
                ("TSTP" quiet, "TERM" stop, "TTIN" stacks), each delivered once.
            """

        def held(self, owner: str) -> "list[Lease]":
            """Return all that an owner holds."""

        def readopt(self, owner: str, leases: "Sequence[Lease]") -> "list[int]":
            """After the store came back with less than it had: put these back into the owner's hands, out of their queues.

            Returns:
                Tokens that could not be: somebody else has the job, or it is gone.
            """

        def recover(self, owner: str, settled: "Sequence[Settle]") -> int:
            """Declare an owner dead: settle these, put all else that it holds back to the front of its queue, fence it for ever.

            A second call does nothing. Returns how many jobs it held.
            """

        def expired(self) -> "list[str]":
            """Return owners whose lease is over by the store's own clock."""

        def move_due(self, limit: int) -> "tuple[int, float]":
            """Push what is due of the schedule and the retries, each job by one atomic step.

            Returns:
                How many, and in how many seconds the next one is due (0: there are more; infinity: none).
            """

        def fire(self, name: str, slot_s: float, job: bytes) -> bool:
            """Push the job of a periodic one for a time slot, unless somebody has for this slot or a later one.

            One that is more than `CLOCK_WRONG_S` later was fired by a clock that stood wrong, and does not count.
            """

        # -- jobs that run -------------------------------------------------------------------------------

        def note(self, jid: str, fields: "Mapping[str, str]", keep_s: float) -> None:
            """Keep short texts about a job (`progress`, `checkpoint`, …), for so long after the last note."""

        def notes(self, jid: str) -> "dict[str, str]":
            """Return the notes of a job, and under `result` its result (JSON), where one is kept; under `state`: "done", "dead" or "dropped" once it ended (kept as long as a result would be, at least an hour)."""

        def cancel(self, jid: str) -> None:
            """See to it that a job is not started any more, and that whoever runs it is told.

            What waits for its time or its limit, or lies in a paused queue, is dropped at once; what lies in another queue when its turn
            comes, within a week.
            """

        def cancelled(self, jids: "Sequence[str]") -> "list[str]":
            """Return which of these are cancelled."""

        # -- people --------------------------------------------------------------------------------------

        def counts(self) -> "Counts":
            """Return the figures of the whole queue."""

        def page(self, where: str, offset: int = 0, limit: int = 50) -> "list[Entry]":
            """Return jobs of one place (see `Entry.where`), in the order in which they are next; the dead: the last death first."""

        def find(self, jid: str) -> "Entry | None":
            """Look for a job everywhere."""

        def remove(self, entries: "Iterable[Entry]") -> int:
            """Delete jobs that wait somewhere (not busy ones), each if it is still there just as it was; return how many."""

        def move(
            self, entries: "Iterable[Entry]", to: str, raws: "Mapping[bytes, bytes] | None" = None
        ) -> int:
            """Move jobs to "queue:NAME" or "dead", each atomically and if it is still there; `raws`: as what (an edited job)."""

        def pause(self, queue: str, is_paused: bool = True) -> None:
            """Stop (or go on) taking jobs from a queue; it takes effect at the next claim."""

        def owners(self) -> "list[dict[str, object]]":
            """Return the living owners: `owner`, `info`, `busy`, `beat` (unix), `quiet`, `rss_kb`, `running` (`token`, `raw`, `run_at`)."""

        def signal(self, owner: str, name: str) -> None:
            """Leave a signal ("TSTP", "TERM", "TTIN") for an owner; its steward passes it on."""

        def wipe(self, queue: str) -> int:
            """Delete all jobs of one queue; return how many."""

        def check(self) -> "list[str]":
            """Return what is wrong with this store's settings for a queue that loses nothing, in words for a person."""

        def close(self) -> None:
            """Close connections; the next call opens them again."""
