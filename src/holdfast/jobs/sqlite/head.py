"""What does a store have to know of a job? Reads just that from its JSON, in under a microsecond."""

import msgspec

from holdfast.model.jobs import StoreRefusedError

#: No job without these bytes has anything under `hf`: inside of a JSON string its quotes would be escaped.
MARK = b'"hf"'


class Hf(msgspec.Struct):
    """What a store has to act on (see :class:`holdfast.model.jobs.Hf`)."""

    unique: str = ""
    unique_until: str = "done"
    unique_s: float = 0.0  #: the lock is over after so long, whatever became of the job; 0: never
    limit: str = ""
    limit_max: int = 0
    rate: "tuple[float, float] | None" = None
    then: "list[str]" = []
    batch: str = ""
    result_s: float = 0.0


class Head(msgspec.Struct):
    """The keys of a job that a store looks at."""

    queue: str = "default"
    jid: str = ""
    hf: "Hf | None" = None
    created_at: "float | int | None" = None
    enqueued_at: "float | int | None" = None


#: Whole numbers up to here are the same in JSON, in Lua and in SQLite.
_MOST = 1 << 53

_decode = msgspec.json.Decoder(Head).decode
NOTHING = Head()


def read(raw: bytes) -> Head:
    """Return what a job's JSON says; of what cannot be read, the defaults (it was accepted once: let it go its way)."""
    try:
        return _decode(raw)
    except (ValueError, RecursionError):
        return NOTHING


def checked(raw: bytes) -> Head:
    """Return what the JSON of a new job says.

    Raises:
        StoreRefusedError: It is none.
    """
    try:
        head = _decode(raw)
    except (ValueError, RecursionError) as error:
        raise StoreRefusedError(f"this is no job: {error}\n  It begins: {raw[:80]!r}") from None
    if not head.jid or not head.queue:
        raise StoreRefusedError(f'this is no job: it needs a "jid" and a "queue"\n  It begins: {raw[:80]!r}')  # fmt: skip
    if head.hf is not None and head.hf.rate is not None and (head.hf.rate[0] < 1 or head.hf.rate[1] <= 0):  # fmt: skip
        raise StoreRefusedError(f"this job can never start: its rate is {list(head.hf.rate)}, which needs at least 1 start in more than 0 seconds")  # fmt: skip
    if head.hf is not None:
        hf = head.hf
        if max(hf.limit_max, hf.unique_s, hf.result_s, *(hf.rate or ())) > _MOST:
            raise StoreRefusedError(f"this job has a number under hf that is larger than any that counts\n  It begins: {raw[:80]!r}")  # fmt: skip
        for job in hf.then:
            checked(job.encode())
    return head
