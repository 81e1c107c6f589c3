"""Two lists that have to agree after a store was away: what it says we hold, and what we know to have held."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import pytest

from holdfast.engine.settling import KEPT, Unsettled
from holdfast.model.jobs import ACK, BACK, DEAD, RETRY, Lease, Settle, StoreRefusedError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from holdfast.jobs.store import Store


class Books:
    """What a store knows of one owner: what it holds, and what lies in the queue."""

    def __init__(self, held: Iterable[Lease] = (), queued: Iterable[Lease] = ()) -> None:
        self.leases = {lease.token: lease for lease in held}
        self.queued = {lease.raw: lease for lease in queued}
        self.refuses: list[bytes] = []
        self.ends: list[tuple[int, str]] = []

    def held(self, _: str) -> list[Lease]:
        return list(self.leases.values())

    def readopt(self, _: str, leases: Sequence[Lease]) -> list[int]:
        lost = []
        for lease in leases:
            if self.queued.pop(lease.raw, None) is None:
                lost.append(lease.token)
            else:
                self.leases[lease.token] = lease
        return lost

    def claim(self, _: str, queues: Any, limit: int, first: int, done: Any, settled: Sequence[Settle]) -> Any:  # fmt: skip
        assert not queues
        assert not done
        assert limit == first == 0
        for one in settled:
            if one.raw in self.refuses or one.result in self.refuses:
                raise StoreRefusedError("too large")
            self.ends.append((one.token, one.end))
        return [], []


def lease(token: int) -> Lease:
    return Lease(token, "default", b'{"jid":"%d"}' % token)


def holding(*tokens: int) -> Unsettled:
    """The leases that were claimed and are not settled."""
    unsettled = Unsettled()
    unsettled.held = {token: lease(token) for token in tokens}
    return unsettled


def reconcile(unsettled: Unsettled, books: Books) -> set[int]:
    return unsettled.reconcile(cast("Store", books), "h:1:aaaaaaaaaaaa")


def test_a_store_that_lost_nothing_changes_nothing() -> None:
    unsettled = holding(1, 2)

    assert reconcile(unsettled, Books([lease(1), lease(2)])) == set()
    assert len(unsettled) == 0
    assert sorted(unsettled.held) == [1, 2]


def test_a_lease_that_never_arrived_here_is_given_back() -> None:
    """The claim was done, its answer was lost: nobody but us could ever give it back while we live."""
    unsettled = holding(1)

    reconcile(unsettled, Books([lease(1), lease(7)]))

    assert [(one.token, settle.end) for one, settle in unsettled.rich] == [(7, BACK)]


def test_what_was_settled_and_forgotten_is_settled_again() -> None:
    """A Redis that lost its last second holds a job for us that has run: it is not run again."""
    unsettled = holding(1, 2)
    failed = (lease(2), Settle(2, RETRY, b"{}", 5.0))
    unsettled.settled([lease(1)], [failed])
    assert not unsettled.held

    reconcile(unsettled, Books([lease(1), lease(2)]))

    assert [one.token for one in unsettled.done] == [1]
    assert list(unsettled.rich) == [failed]


def test_what_lies_in_the_queue_again_is_taken_out_of_it() -> None:
    """The claim was forgotten, too: somebody would run a second time what runs or has run here."""
    unsettled = holding(1, 2)
    unsettled.settled([lease(1)], [])
    books = Books(queued=[lease(1), lease(2)])

    assert reconcile(unsettled, books) == set()

    assert sorted(books.leases) == [1, 2]
    assert [one.token for one in unsettled.done] == [1], "this one has run"
    assert sorted(unsettled.held) == [1, 2]


def test_what_somebody_else_has_is_ours_no_more() -> None:
    unsettled = holding(1, 2, 3)
    unsettled.done.append(lease(2))
    unsettled.rich.append((lease(3), Settle(3, RETRY, b"{}")))

    assert reconcile(unsettled, Books()) == {1, 2, 3}

    assert len(unsettled) == 0
    assert not unsettled.held


def test_only_so_much_is_remembered() -> None:
    unsettled = Unsettled()
    for token in range(3 * KEPT):
        unsettled.settled([lease(token)], [])

    reconcile(unsettled, books := Books([lease(token) for token in range(3 * KEPT)]))

    assert len(unsettled.done) == KEPT
    assert len(unsettled.rich) == 2 * KEPT
    assert len(books.leases) == 3 * KEPT


def test_an_end_that_the_store_refuses_does_not_hold_up_the_others() -> None:
    """One result of a gigabyte must not keep a thousand acks from being written."""
    unsettled = holding(1, 2, 3)
    huge = b"x" * 100
    unsettled.rich.extend([
        (lease(1), Settle(1, ACK, result=huge)),
        (lease(2), Settle(2, RETRY, huge, 5.0)),
        (lease(3), Settle(3, ACK)),
    ])  # fmt: skip
    books = Books()
    books.refuses = [huge]

    less = unsettled.settle_singly(cast("Store", books), "h:1:aaaaaaaaaaaa")

    assert [one.token for one in less] == [1, 2]
    assert books.ends == [(1, ACK), (2, DEAD), (3, ACK)]
    assert not unsettled.held


def test_a_store_that_takes_nothing_loses_nothing() -> None:
    unsettled = holding(1, 2)
    unsettled.rich.extend([(lease(1), Settle(1, ACK)), (lease(2), Settle(2, ACK))])
    books = Books()
    books.refuses = [b""]

    with pytest.raises(StoreRefusedError):
        unsettled.settle_singly(cast("Store", books), "h:1:aaaaaaaaaaaa")

    assert [one.token for one, _ in unsettled.rich] == [1, 2]
    assert sorted(unsettled.held) == [1, 2]
