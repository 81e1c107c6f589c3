"""How do jobs belong together: one after the other, or many and then one?

A chain (`first.job(1).then(second.job(2)).enqueue()`) is one job that carries those that follow it: the store pushes them in the step in
which it ends, so each follows exactly once. A batch counts the jobs that are enqueued inside of its ``with`` block, and when the
last of them has ended its callback is pushed, in the same step. Left out: passing results on; a follower asks for what it needs.
"""

import os
import time
from contextvars import ContextVar

from holdfast.jobs import queue
from holdfast.model.jobs import StoreDownError
from holdfast.sdk.job_options import seconds_of
from holdfast.sdk.job_ref import Ref

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextvars import Token
    from typing import Any, Self

    from holdfast.sdk.job_options import Span
    from holdfast.sdk.job_sending import Sending

#: The batch that counts what is enqueued here.
BATCH: "ContextVar[str]" = ContextVar("holdfast_batch", default="")


class PlannedJob:
    """A job with its arguments, checked, but not enqueued: for :meth:`then` and for the callback of a batch."""

    __slots__ = ("_args", "_kwargs", "_named", "_nexts", "_packed", "_sending")

    def __init__(
        self, sending: "Sending[Any, Any]", args: "tuple[Any, ...]", kwargs: "dict[str, Any]"
    ) -> None:
        self._sending = sending
        self._args = args
        self._kwargs = kwargs
        self._packed, self._named = sending.arguments.pack(args, kwargs)
        self._nexts: tuple[PlannedJob, ...] = ()

    def then(self, *others: "PlannedJob") -> "PlannedJob":
        """Return a plan in which the others are enqueued when this one (and all that follows it already) is done.

        ``a.then(b).then(c)``: a, then b, then c. ``a.then(b, c)``: a, then b and c at once; nothing can follow such
        a fork, that is what a batch is for. If one fails for good, what follows it is not run.

        Raises:
            TypeError: Something else than planned jobs; or it would follow a fork.
        """
        for other in others:
            _check_planned(other, f"then({other!r})", "then(send.job(…))")
        if len(self._nexts) > 1:
            raise TypeError(
                "then(): several jobs run at once before; to run one when all of them are done, use a batch:\n"
                "  with batch(then=last.job(…)): …"
            )
        return self._followed_by((self._nexts[0].then(*others),) if self._nexts else others)

    def enqueue(self) -> "Ref[Any]":
        """Enqueue it; the references of what follows are in `followers`."""
        sending = self._sending
        now_s = time.time()
        at_s = sending.starts_s(now_s)
        raw, ref = self.made(now_s, at_s, is_pushed=True)
        holder = queue.default().store.push((raw,), (at_s,) if at_s else None)[0]
        return ref if not holder else Ref(holder, sending, is_new=False)

    async def aenqueue(self) -> "Ref[Any]":
        """As :meth:`enqueue`, for asyncio."""
        from asyncio import to_thread

        return await to_thread(self.enqueue)

    def made(
        self, now_s: float, at_s: float = 0.0, *, is_pushed: bool = False, closes: str = ""
    ) -> "tuple[bytes, Ref[Any]]":
        """Return its JSON, with those that follow inside, and its reference."""
        jid = os.urandom(12).hex()
        ref = Ref(jid, self._sending)
        more: dict[str, Any] = {}
        if self._nexts:
            following = [planned.made(now_s) for planned in self._nexts]
            more["then"] = [raw.decode() for raw, _ in following]
            ref.followers = tuple(follower for _, follower in following)
        if closes:
            more["closes"] = closes
        # Inside of another job it waits for that one's end: the store stamps it then.
        stamps = self._sending.stamps(now_s, is_pushed=is_pushed and not at_s)
        raw = self._sending.made(
            self._packed, self._named, self._args, self._kwargs, jid.encode(),
            at_s or now_s, stamps, more or None,
        )  # fmt: skip
        return raw, ref

    def _followed_by(self, nexts: "tuple[PlannedJob, ...]") -> "PlannedJob":
        made = PlannedJob.__new__(PlannedJob)
        for slot in PlannedJob.__slots__:
            setattr(made, slot, nexts if slot == "_nexts" else getattr(self, slot))
        return made


class Batch:
    """Jobs that are counted together.

        with batch(then=report.job("2026")) as b:
            for url in urls:
                fetch.enqueue(url)

    The callback is enqueued once, when the block was left and all jobs have ended: done, given up or dropped (it finds
    how many in ``current().batch``). They run while the block is still adding. If the block raises, what was enqueued runs,
    but the batch stays open and its callback is never run; the same when the program dies in it.
    In asyncio: ``async with batch() as b``, inside of it `aenqueue`.
    """

    __slots__ = ("_is_new", "_then", "_tokens", "id")

    def __init__(
        self, id: str, then: "PlannedJob | None" = None, *, is_new: bool = False  # noqa: A002 -- what it is
    ) -> None:  # fmt: skip
        self.id = id
        self._then = then
        self._is_new = is_new
        self._tokens: list[Token[str]] = []

    def counts(self) -> "dict[str, int]":
        """Return `total`, `done`, `failed` (given up or dropped) and `open` (1 while jobs may still be added).

        Raises:
            LookupError: There is no such batch (they are kept for a week after their end).
        """
        found = queue.default().store.batch(self.id)
        if found is None:
            says = f"batch {self.id} is unknown: it never was, or ended more than a week ago"
            raise LookupError(says)
        return found

    @property
    def is_over(self) -> bool:
        """Whether all its jobs have ended, and no more can come."""
        counts = self.counts()
        return not counts["open"] and counts["done"] + counts["failed"] >= counts["total"]

    def wait(self, timeout: "Span | None" = None) -> "dict[str, int]":
        """Wait until all jobs have ended, and return :meth:`counts`; while the store is down it waits on.

        Raises:
            TimeoutError: They have not.
        """
        for pause_s in self._pauses(timeout):
            time.sleep(pause_s)
        return self.counts()

    async def await_(self, timeout: "Span | None" = None) -> "dict[str, int]":  # noqa: ASYNC109 -- the same as of its twin
        """As :meth:`wait`, for asyncio."""
        from asyncio import sleep, to_thread

        pauses = self._pauses(timeout)
        # What is waited for happens in another process.
        while (pause_s := await to_thread(next, pauses, None)) is not None:  # noqa: ASYNC110
            await sleep(pause_s)
        return await to_thread(self.counts)

    def _pauses(self, timeout: "Span | None") -> "Iterator[float]":
        """Yield how long to sleep until the next look; end when all jobs have."""
        until_s = float("inf") if timeout is None else time.monotonic() + seconds_of(timeout)
        pause_s = 0.002
        while True:
            try:
                if self.is_over:
                    return
                trouble = ""
            except StoreDownError as error:
                trouble = f": {error}"
            left_s = until_s - time.monotonic()
            if left_s <= 0:
                says = f"batch {self.id} has not ended in time{trouble}"
                raise TimeoutError(says)
            yield min(pause_s, left_s)
            pause_s = min(0.05, pause_s * 1.5)

    def __enter__(self) -> "Self":
        if self._is_new:
            callback = self._then.made(time.time(), closes=self.id)[0] if self._then else b""
            queue.default().store.open_batch(self.id, callback)
        self._tokens.append(BATCH.set(self.id))
        return self

    def __exit__(self, kind: "type[BaseException] | None", *_: object) -> None:
        BATCH.reset(self._tokens.pop())
        if self._is_new and kind is None:
            queue.default().store.close_batch(self.id)
            self._is_new = False

    async def __aenter__(self) -> "Self":
        if self._is_new:
            from asyncio import to_thread

            callback = self._then.made(time.time(), closes=self.id)[0] if self._then else b""
            await to_thread(lambda: queue.default().store.open_batch(self.id, callback))
        self._tokens.append(BATCH.set(self.id))
        return self

    async def __aexit__(self, kind: "type[BaseException] | None", *_: object) -> None:
        BATCH.reset(self._tokens.pop())
        if self._is_new and kind is None:
            from asyncio import to_thread

            await to_thread(lambda: queue.default().store.close_batch(self.id))
            self._is_new = False

    def __repr__(self) -> str:
        return f"Batch({self.id!r})"


def batch(*, then: "PlannedJob | None" = None) -> Batch:
    """Return a new batch, to be used with ``with``: see :class:`Batch`.

    Args:
        then: What is enqueued when all its jobs have ended: ``report.job(…)``.

    Raises:
        TypeError: It is no planned job.
    """
    if then is not None:
        _check_planned(then, f"batch(then={then!r})", "batch(then=report.job(…))")
    return Batch(os.urandom(12).hex(), then, is_new=True)


def _check_planned(value: object, said: str, right: str) -> None:
    if not isinstance(value, PlannedJob):
        says = f"{said}: it takes planned jobs: {right}"
        raise TypeError(says)
