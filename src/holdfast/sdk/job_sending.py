"""How does a call become a job in the queue?

:class:`Sending` is a job's name, arguments and settings on the way to the store: it checks the arguments, writes the JSON and pushes it.
The parts of the JSON that are always the same are written once, so that enqueuing costs the store's time and little more.
"""

import os
import time
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar

import msgspec

from holdfast.jobs import queue
from holdfast.model.jobs import StoreDownError, StoreRefusedError
from holdfast.sdk import job_middleware
from holdfast.sdk.job_args import JobArgumentsError
from holdfast.sdk.job_batch import BATCH, PlannedJob
from holdfast.sdk.job_options import JobSettingError, seconds_of
from holdfast.sdk.job_ref import Ref
from holdfast.wire import sidekiq

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime
    from typing import Unpack

    from holdfast.sdk.job_args import Arguments
    from holdfast.sdk.job_middleware import Before
    from holdfast.sdk.job_options import JobOptions, Settings, Span

P = ParamSpec("P")
R = TypeVar("R")

_encode = msgspec.json.Encoder().encode
_NONE: "dict[str, Any]" = {}
#: A unix time above this is one in milliseconds, or a mistake.
_LATEST_S = 1e11


class PayloadTooLargeError(ValueError):
    """A job's JSON is larger than its `max_payload`."""

    def __init__(self, name: str, size: int, limit: int, is_chain: bool = False) -> None:
        way = (
            "each step of a chain doubles what carries it: let a job enqueue the next one, or use batches"
            if is_chain
            else "keep the data in a file or a database and pass its key; or raise the limit: @job(max_payload=…)"
        )
        super().__init__(
            f"job {name}: its payload is {size:,} bytes, the limit is {limit:,}\n  {way}"
        )


class Sending(Generic[P, R]):
    """A job with the settings for those that are enqueued through it: what `options` and `schedule` return, and every job itself."""

    def __init__(self, name: str, arguments: "Arguments", settings: "Settings", when: "tuple[float, float]" = (0.0, 0.0)) -> None:  # fmt: skip
        self.name = name
        self.arguments = arguments
        self.settings = settings
        self._at_s, self._in_s = when
        self.before: tuple[Before, ...] = ()
        self.warning = ""
        self._write_template()

    # -- enqueuing ---------------------------------------------------------------------------------------

    def enqueue(self, /, *args: P.args, **kwargs: P.kwargs) -> "Ref[R]":
        """Put a job into its queue, with these arguments for the function; when this returns, it is stored.

        Raises:
            JobArgumentsError: They do not fit the function.
            PayloadTooLargeError: They are too much.
            NoStoreError: Nothing says where jobs are kept.
            StoreDownError: The store cannot be reached: the job was not stored, or it is not known whether it was.
            StoreRefusedError: The store will never take it.
        """
        packed, named = self.arguments.pack(args, kwargs)
        now_s = time.time()
        at_s = self.starts_s(now_s) if self._in_s or self._at_s else 0.0
        jid = os.urandom(12).hex()
        stamps = self.stamps(now_s, is_pushed=not at_s)
        raw = self.made(packed, named, args, kwargs, jid.encode(), at_s or now_s, stamps)
        holder = queue.default().store.push((raw,), (at_s,) if at_s else None)[0]
        return Ref(holder, self, False) if holder else Ref(jid, self)

    def enqueue_many(self, /, calls: "Iterable[Sequence[Any]]") -> "list[Ref[R]]":
        """Put many jobs into the queue, each with one tuple of arguments: ``send.enqueue_many([("ann",), ("bob",)])``.

        They go to the store by 1,000, all of them or none; 10 to 20 times as fast as one by one.

        Raises:
            JobArgumentsError: One does not fit; the message says which, and how many before it are enqueued.
        """
        refs: list[Ref[R]] = []
        chunk: list[Sequence[Any]] = []
        for args in calls:
            chunk.append(args)
            if len(chunk) == queue.CHUNK:
                self._enqueue_chunk(chunk, refs)
                chunk = []
        if chunk:
            self._enqueue_chunk(chunk, refs)
        return refs

    async def aenqueue(self, /, *args: P.args, **kwargs: P.kwargs) -> "Ref[R]":
        """As :meth:`enqueue`, for asyncio: the store is waited for in a thread."""
        from asyncio import to_thread

        return await to_thread(self.enqueue, *args, **kwargs)

    async def aenqueue_many(self, /, calls: "Iterable[Sequence[Any]]") -> "list[Ref[R]]":
        """As :meth:`enqueue_many`, for asyncio."""
        from asyncio import to_thread

        return await to_thread(self.enqueue_many, calls)

    def job(self, /, *args: P.args, **kwargs: P.kwargs) -> PlannedJob:
        """Return the job with its arguments, not enqueued: for ``then`` and for the callback of a batch.

        Raises:
            JobArgumentsError: They do not fit the function.
        """
        return PlannedJob(self, args, kwargs)

    # -- with other settings -----------------------------------------------------------------------------

    def options(self, /, **changes: "Unpack[JobOptions]") -> "Sending[P, R]":
        """Return this job with other settings: ``send.options(queue="low", retries=3).enqueue(…)``.

        Raises:
            JobSettingError: One is wrong.
        """
        settings = self.settings.changed(self.name, dict(changes))
        settings.names_timeout = settings.names_timeout or "timeout" in changes
        return self._like(settings, (self._at_s, self._in_s))

    def schedule(
        self, /, *, at: "datetime | float | None" = None, in_: "Span | None" = None
    ) -> "Sending[P, R]":
        """Return this job for a later time: ``send.schedule(in_="10m").enqueue(…)``.

        Args:
            at: A moment: a datetime with a time zone, or unix seconds. In the past: now.
            in_: So long from when it is enqueued: seconds, "10m", or a timedelta.

        Raises:
            JobSettingError: One is wrong, or it is not exactly one of them.
        """
        return self._like(self.settings, when_of(self.name, at, in_))

    # -- what the other parts of this package use --------------------------------------------------------

    def starts_s(self, now_s: float) -> float:
        """Return when a job that is enqueued now is due, in unix seconds; 0: at once."""
        at_s = now_s + self._in_s if self._in_s else self._at_s
        return at_s if at_s > now_s else 0.0

    @staticmethod
    def stamps(now_s: float, *, is_pushed: bool) -> bytes:
        """Return the end of a job's JSON: `created_at`, and `enqueued_at` if it goes to its queue now.

        The last key of all: so a store sees at a glance that there is nothing to add.
        """
        now = b"%r" % now_s
        if is_pushed:
            return b',"created_at":%b,"enqueued_at":%b}' % (now, now)
        return b',"created_at":%b}' % now

    def made(self, packed: bytes, named: "dict[str, Any]", args: "Sequence[Any]", kwargs: "dict[str, Any]", jid: bytes,
             start_s: float, stamps: bytes, more: "dict[str, Any] | None" = None) -> bytes:  # fmt: skip
        """Return the JSON of one job.

        Args:
            packed: Positional arguments, a JSON array.
            named: Arguments that have to be named, plain.
            args: The same as the caller gave them.
            kwargs: The same as the caller gave them.
            jid: Its id.
            start_s: When it is due.
            stamps: As of :meth:`stamps`.
            more: Further keys under `hf`.

        Raises:
            PayloadTooLargeError: It is too large.
        """
        if self.warning:
            self._warn()
        batch = BATCH.get() if more is None or "closes" not in more else ""
        hf = self._hf
        if batch or named or more or self._is_dynamic:
            ours = self.ours(packed, named, args, kwargs, start_s)
            if batch:
                ours["batch"] = batch
            if more:
                ours.update(more)
            hf = b',"hf":%b' % _encode(ours)
        raw = b"".join((self._head, packed, b',"jid":"', jid, self._middle, hf, stamps))
        if self.before or job_middleware.BEFORE:
            raw = self._through(raw)
        if len(raw) > self.settings.max_bytes:
            is_chain = more is not None and "then" in more
            raise PayloadTooLargeError(self.name, len(raw), self.settings.max_bytes, is_chain)
        return raw

    def _enqueue_chunk(self, calls: "list[Sequence[Any]]", refs: "list[Ref[R]]") -> None:
        """Enqueue up to 1,000 jobs in one atomic step."""
        now_s = time.time()
        at_s = self.starts_s(now_s)
        start_s, stamps = at_s or now_s, self.stamps(now_s, is_pushed=not at_s)
        jids = os.urandom(12 * len(calls)).hex()
        jid_bytes = jids.encode()
        pack, made, add = self.arguments.pack, self.made, refs.append
        # Half of the time that a job costs here would go into putting the same bytes together again.
        is_same = not (self.warning or self._is_dynamic or self.before or job_middleware.BEFORE or BATCH.get())  # fmt: skip
        head, rest, most = self._head, self._middle + self._hf + stamps, self.settings.max_bytes
        raws: list[bytes] = []
        first = 0
        try:
            for args in calls:
                if type(args) is not tuple:
                    args = self._tuple(args)
                packed, named = pack(args, _NONE)
                jid = jid_bytes[first : first + 24]
                if is_same and not named:
                    raw = b"".join((head, packed, b',"jid":"', jid, rest))
                    if len(raw) > most:
                        raise PayloadTooLargeError(self.name, len(raw), most)
                else:
                    raw = made(packed, named, args, _NONE, jid, start_s, stamps)
                raws.append(raw)
                first += 24
        except (JobArgumentsError, PayloadTooLargeError) as error:
            error.add_note(
                f"this is job {len(refs) + len(raws)} (from 0) of enqueue_many; {len(refs)} before it are enqueued"
            )
            raise
        try:
            holders = queue.default().store.push(raws, [at_s] * len(raws) if at_s else None)
        except (StoreDownError, StoreRefusedError) as error:
            error.add_note(f"enqueue_many: {len(refs)} jobs before these {len(raws)} are enqueued")
            raise
        first = 0
        for holder in holders:
            add(Ref(holder, self, False) if holder else Ref(jids[first : first + 24], self))
            first += 24

    def _tuple(self, args: object) -> "tuple[Any, ...]":
        if isinstance(args, list):
            return tuple(args)
        says = f"{self.name}: enqueue_many takes a tuple of arguments for each job, not {args!r:.60}; for one argument: (value,)"
        raise JobArgumentsError(says)

    def _like(self, settings: "Settings", when: "tuple[float, float]") -> "Sending[P, R]":
        made: Sending[P, R] = Sending(self.name, self.arguments, settings, when)
        made.before = self.before
        made.warning = self.warning
        return made

    def _write_template(self) -> None:
        """Write down the parts of the JSON that are the same each time: half of what enqueuing one would cost."""
        settings = self.settings
        extra: dict[str, Any] = {"queue": settings.queue, "retry": True if settings.retries == sidekiq.RETRIES else settings.retries}  # fmt: skip
        if settings.backtrace:
            extra["backtrace"] = settings.backtrace
        if settings.tags:
            extra["tags"] = settings.tags
        if not settings.dead:
            extra["dead"] = False
        self.extra = extra
        self._head = b'{"class":%b,"args":' % _encode(self.name)
        self._middle = b'",%b' % _encode(extra)[1:-1]
        fixed: dict[str, Any] = {}
        # Else that of the code which runs it counts, not that of the day on which it was enqueued.
        if settings.names_timeout:
            fixed["timeout"] = settings.timeout_s
        if settings.result_s:
            fixed["result_s"] = settings.result_s
        if settings.backoff:
            fixed["backoff"] = settings.backoff
        limit = settings.limit
        if limit is not None:
            fixed["limit"] = limit.key if isinstance(limit.key, str) else self.name
            fixed["limit_max"] = limit.at_once
            if limit.rate:
                fixed["rate"] = limit.rate
        self.fixed = fixed
        self._hf = b',"hf":%b' % _encode(fixed) if fixed else b""
        #: Whether something under `hf` depends on the arguments or on the time.
        self._is_dynamic = bool(settings.unique or settings.expires_s or (limit is not None and callable(limit.key)))  # fmt: skip

    def ours(self, packed: bytes, named: "dict[str, Any]", args: "Sequence[Any]", kwargs: "dict[str, Any]",
              start_s: float) -> "dict[str, Any]":  # fmt: skip
        """Return what lies under `hf` of one job."""
        settings = self.settings
        ours = dict(self.fixed)
        if named:
            ours["kw"] = named
        if settings.expires_s:
            ours["expires"] = start_s + settings.expires_s
        limit = settings.limit
        if limit is not None and callable(limit.key):
            ours["limit"] = str(limit.key(*args, **kwargs))
        if settings.unique:
            if callable(settings.unique):
                key = str(settings.unique(*args, **kwargs))
            else:
                key = packed.decode() + (_encode(named).decode() if named else "")
            ours["unique"] = f"{self.name}:{_short(key)}"
            if settings.unique_s:
                ours["unique_s"] = settings.unique_s
            if settings.unique_until_start:
                ours["unique_until"] = "start"
        return ours

    def _through(self, raw: bytes) -> bytes:
        """Show a job to the middleware."""
        made = sidekiq.loads(raw)
        for before in (*job_middleware.BEFORE, *self.before):
            before(made)
        raw = sidekiq.dumps(made)
        sidekiq.loads(raw)  # what it left has to be a job still
        return raw

    def _warn(self) -> None:
        import warnings

        warnings.warn(self.warning, stacklevel=4)
        self.warning = ""


def when_of(name: str, at: "datetime | float | None", in_: "Span | None") -> "tuple[float, float]":
    """Read the two ways to say a time: unix seconds, and seconds from now."""
    if (at is None) == (in_ is None):
        says = f"job {name}: schedule() takes either at=… or in_=…"
        raise JobSettingError(says)
    if in_ is not None:
        try:
            return 0.0, seconds_of(in_)
        except JobSettingError as error:
            says = f"job {name}: in_={in_!r} {error}"
            raise JobSettingError(says) from None
    timestamp = getattr(at, "timestamp", None)
    if timestamp is not None:
        if getattr(at, "tzinfo", None) is None:
            says = f"job {name}: at={at!r} has no time zone; say one, as datetime.now(UTC)"
            raise JobSettingError(says)
        return float(timestamp()), 0.0
    if isinstance(at, int | float) and not isinstance(at, bool) and 0 <= at < _LATEST_S:
        return float(at), 0.0
    says = f"job {name}: at={at!r} is no moment; it has to be a datetime with a time zone, or unix seconds"
    raise JobSettingError(says)


def _short(key: str) -> str:
    """Return a key as it is, or a digest of a long one."""
    if len(key) <= 200:
        return key
    from hashlib import sha256

    return sha256(key.encode()).hexdigest()
