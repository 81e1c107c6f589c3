"""Words for tests of stores: make a job, take some, end them, and say where everything is."""

from __future__ import annotations

import itertools
import time
from typing import TYPE_CHECKING, Any

from holdfast.model.jobs import ACK, Settle
from holdfast.wire import sidekiq

if TYPE_CHECKING:
    from holdfast.jobs.store import Store
    from holdfast.model.jobs import Lease

_numbers = itertools.count(1)
PLACES = ("schedule", "retry", "dead", "busy", "waiting")


def job(jid: str = "", queue: str = "default", args: tuple[Any, ...] = (), **hf: Any) -> bytes:
    """Return the JSON of a job; what lies under `hf` by keyword (`then_` for `then`)."""
    jid = jid or f"{next(_numbers):024x}"
    hf = {name.rstrip("_"): value for name, value in hf.items()}
    return sidekiq.dumps(
        sidekiq.new("Work", list(args), jid=jid, queue=queue, now_s=time.time(), hf=hf)
    )


def jid_of(raw: bytes) -> str:
    """Return a job's jid."""
    return str(sidekiq.loads(raw)["jid"])


def jids(raws: Any) -> list[str]:
    """Return the jids of jobs, leases or entries."""
    return [jid_of(getattr(one, "raw", one)) for one in raws]


class Hands:
    """One owner: a registered name, and tokens that count up."""

    def __init__(self, store: Store, owner: str = "", lease_s: float = 60.0) -> None:
        self.store = store
        self.owner = owner or f"elsewhere:1:{next(_numbers):012x}"
        self.tokens = 1
        store.register(self.owner, lease_s)

    def take(
        self, limit: int = 100, *queues: str, done: Any = (), settled: Any = ()
    ) -> list[Lease]:
        """Claim, and make sure that the tokens are as they should be."""
        leases, missing = self.store.claim(
            self.owner, queues or ("default",), limit, self.tokens, done, settled
        )
        assert missing == []
        assert [one.token for one in leases] == list(range(self.tokens, self.tokens + len(leases)))
        self.tokens += len(leases)
        return leases

    def take_one(self, queue: str = "default") -> Lease:
        """Claim one, which has to be there."""
        (lease,) = self.take(1, queue)
        return lease

    def end(self, lease: Lease, how: str = ACK, **more: Any) -> None:
        """End one lease."""
        leases, missing = self.store.claim(self.owner, (), 0, 0, (), [Settle(lease.token, how, **more)])  # fmt: skip
        assert (leases, missing) == ([], [])

    def ack(self, *leases: Lease) -> list[int]:
        """End leases the fast way; return tokens that were not held."""
        return self.store.claim(self.owner, (), 0, 0, [one.token for one in leases])[1]


def everywhere(store: Store) -> dict[str, list[str]]:
    """Return by jid all places in which a job is. The law: exactly one for each that has not ended."""
    found: dict[str, list[str]] = {}
    queues = [f"queue:{name}" for name in store.counts().queues]
    for where in (*queues, *PLACES):
        for entry in store.page(where, 0, 1_000_000):
            found.setdefault(jid_of(entry.raw), []).append(where)
    return found
