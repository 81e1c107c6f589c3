"""What a worker of kind `jobs` is told, and what the queue's parts hand to each other.

The job itself is a JSON object (see :mod:`holdfast.wire.sidekiq`): its keys are those of Sidekiq where Sidekiq has one, and
what is ours lies under ``hf``. It crosses every store as the same bytes.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NotRequired, TypedDict

    class JobsPlan(TypedDict):
        """What one process of a `jobs` worker does (`jobs` of its entry in the plan)."""

        role: str  #: "worker", "quarantine" or "steward"
        family: str  #: name of the configured worker; of the steward: ""
        store: str  #: URL
        prefix: str  #: before each key of Redis; "" is Sidekiq's own layout
        use: list[str]  #: modules that are imported: they declare the jobs
        queues: list[tuple[str, int]]  #: name and weight; all weights 0: in strict order
        concurrency: int  #: threads for plain functions, one job each
        async_concurrency: int  #: coroutines at a time
        lease_s: float  #: an owner that was not renewed for so long is gone
        timeout_s: float  #: of a job that names none; 0: none
        recycle_bytes: int  #: between jobs: more than this is recycled; 0: never
        recycle_jobs: int  #: after so many jobs; 0: never
        stewarded: NotRequired[list[str]]  #: of the steward: the families that it looks after

    class Hf(TypedDict, total=False):
        """What lies under ``hf`` in a job's JSON: all that Sidekiq has no word for. Absent means no."""

        kw: dict[str, object]  #: keyword arguments
        result_s: float  #: its result is kept for so long
        unique: str  #: it holds this lock
        unique_until: str  #: "done" (the default) or "start"
        unique_s: float  #: the lock ends by itself after so long; 0: long after the last retry
        expires: float  #: unix: not started by then, it is dropped
        timeout: float  #: seconds
        limit: str  #: it counts against this limit
        limit_max: int  #: so many of that limit at a time; 0: any number
        rate: list[float]  #: [n, seconds]: so many starts of that limit in so many seconds
        then: list[str]  #: jobs (JSON) that are pushed when it is done
        batch: str  #: it belongs to this batch
        closes: str  #: it closes this batch
        strikes: int  #: how many processes died while it ran
        cron: float  #: unix: the slot that it was fired for
        backoff: list[float]  #: [base_s, factor, max_s]: instead of Sidekiq's delays


class Lease:
    """One job in the hands of one owner."""

    __slots__ = ("queue", "raw", "token")

    def __init__(self, token: int, queue: str, raw: bytes) -> None:
        self.token = token  #: unique among all that this owner ever held
        self.queue = queue  #: where it was taken from ("quarantine": it is a suspect)
        self.raw = raw  #: its JSON as it lies in the store, byte for byte

    def __repr__(self) -> str:
        return f"Lease({self.token}, {self.queue!r}, {self.raw[:60]!r})"


#: How a lease ends (see :mod:`holdfast.core.lease`).
ACK, RETRY, DEAD, BACK, SUSPECT, DROP = "ack", "retry", "dead", "back", "suspect", "drop"

#: Two clocks of a fleet are not farther apart than this, a time zone taken for another included; a slot that was fired more than
#: this ahead was fired by a clock that stood wrong.
CLOCK_WRONG_S = 26 * 3600.0


class Settle:
    """The end of one lease, and all that has to happen in the same instant.

    A store does what `hf` of the job asks for at this end: release its lock and its place in a limit (and let in who waits
    there), push what follows it, count down its batch and push the batch's callback, keep its result.
    """

    __slots__ = ("at_s", "end", "raw", "result", "token")

    def __init__(
        self, token: int, end: str, raw: bytes = b"", at_s: float = 0.0, result: bytes = b""
    ) -> None:
        self.token = token
        self.end = end
        self.raw = raw  #: RETRY, DEAD, SUSPECT: the job as it is kept from now on; b"": unchanged
        self.at_s = at_s  #: RETRY: unix, when it runs again; DEAD: unix, when it died
        self.result = result  #: ACK: JSON, kept for `result_s`; b"": none

    def __repr__(self) -> str:
        return f"Settle({self.token}, {self.end!r}, at_s={self.at_s})"


class Entry:
    """One job as a person sees it."""

    __slots__ = ("at_s", "owner", "raw", "since_s", "token", "where")

    def __init__(
        self, where: str, raw: bytes, at_s: float = 0.0, owner: str = "", token: int = 0, since_s: float = 0.0
    ) -> None:  # fmt: skip
        self.where = (
            where  #: "queue:NAME", "schedule", "retry", "dead", "busy", "waiting" (for a limit)
        )
        self.raw = raw
        self.at_s = at_s  #: unix: when it is due, or died
        self.owner = owner  #: of a busy one
        self.token = token
        self.since_s = since_s  #: unix: since when it runs


class Beat:
    """One owner, as the steward tells the store about it once in a while."""

    __slots__ = ("busy", "info", "owner", "quiet", "rss_kb", "running")

    def __init__(
        self,
        owner: str,
        info: "dict[str, object]",
        busy: int,
        quiet: bool,
        rss_kb: int,
        running: "list[tuple[int, float, int]]",
    ) -> None:
        self.owner = owner
        self.info = info  #: as in Sidekiq's `info`
        self.busy = busy
        self.quiet = quiet
        self.rss_kb = rss_kb
        self.running = running  #: token, unix of its start, thread id


class Counts:
    """The queue in figures."""

    __slots__ = ("busy", "dead", "failed", "processed", "queues", "retry", "scheduled", "waiting")

    def __init__(self) -> None:
        self.queues: dict[str, tuple[int, float, bool]] = {}  #: size, latency_s, paused
        self.scheduled = self.retry = self.dead = self.busy = self.waiting = 0
        self.processed = self.failed = 0  #: ever


class StoreDownError(Exception):
    """The store cannot be reached, or does not take writes, just now. What was asked for was not done, or it is not known."""


class StoreRefusedError(Exception):
    """The store will never take this as it is: wrong URL, wrong password, a full disk, no such database. Its text is for a person."""


class FencedError(Exception):
    """This owner has been declared dead: its jobs are others' now. It has to end."""
