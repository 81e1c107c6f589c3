"""What every store of the queue does, whichever it is. See src/holdfast/jobs/store.py: this is its text as claims."""

from __future__ import annotations

import json
import os
import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from holdfast.model.jobs import (
    ACK,
    BACK,
    DEAD,
    DROP,
    RETRY,
    SUSPECT,
    Beat,
    Entry,
    FencedError,
    Lease,
    Settle,
    StoreRefusedError,
)
from holdfast.wire import sidekiq
from jobs.hands import Hands, everywhere, jid_of, jids, job
from node import SLOWNESS, wait_for

if TYPE_CHECKING:
    from collections.abc import Callable

    from holdfast.jobs.store import Store

ENDS = [ACK, RETRY, DEAD, BACK, SUSPECT, DROP]


def in_s(seconds: float) -> float:
    """Return the unix time so many seconds from now."""
    return time.time() + seconds


def take_due(hands: Hands, queue: str = "default") -> list[Lease]:
    """Return the leases of what comes into a queue when its time has come."""

    def take() -> list[Lease]:
        hands.store.move_due(10)
        return hands.take(5, queue)

    found: list[Lease] = wait_for(take, f"something is due in {queue}")
    return found


# -- pushing and taking -------------------------------------------------------------------------------------------


def test_the_oldest_job_of_a_queue_is_taken_first(store: Store) -> None:
    """A queue is a queue, over several pushes and claims."""
    pushed = [job() for _ in range(25)]

    assert store.push(pushed[:20]) == [""] * 20
    for raw in pushed[20:]:
        assert store.push([raw]) == [""]
    hands = Hands(store)

    assert jids(hands.take(7)) + jids(hands.take(100)) == jids(pushed)
    assert hands.take() == []


def test_a_job_gets_its_enqueued_at_and_no_other_byte_changes(store: Store) -> None:
    """Big numbers, odd spacing, a key twice: whoever pushed it finds what was pushed."""
    raw = (
        b'{ "class":"W","args":[123456789012345678901234567890, 1.10, "\\u00e9", {}],"jid":"aaaaaaaaaaaaaaaaaaaaaaaa",'
        b' "queue":"default","created_at":1795310493.033364}'
    )
    before_s = time.time()

    store.push([raw])
    (lease,) = Hands(store).take()

    stamped = sidekiq.loads(lease.raw)
    assert before_s - 1 <= sidekiq.seconds(stamped["enqueued_at"]) <= time.time() + 1
    assert b'"args":[123456789012345678901234567890, 1.10, "\\u00e9", {}]' in lease.raw
    assert {k: v for k, v in stamped.items() if k != "enqueued_at"} == sidekiq.loads(raw)
    assert lease.queue == "default"


def test_a_job_of_a_new_sidekiq_gets_milliseconds(store: Store) -> None:
    """From 8.0 on times are integers; a mixed job would be read as of 1970."""
    store.push([b'{"class":"W","args":[],"jid":"b","queue":"default","created_at":1795310493033}'])

    (lease,) = Hands(store).take()

    assert type(sidekiq.loads(lease.raw)["enqueued_at"]) is int


def test_what_is_no_job_is_refused_and_its_neighbours_are_not_stored(store: Store) -> None:
    """All of a push or nothing: the caller can correct it and push again."""
    with pytest.raises((StoreRefusedError, ValueError)):
        store.push([job(), b'{"class":', job()])

    assert store.counts().queues.get("default", (0, 0.0, False))[0] == 0


def test_queues_are_looked_at_in_the_given_order(store: Store) -> None:
    """Weights are the engine's: it shuffles, the store obeys."""
    low, high = job(queue="low"), job(queue="high")
    store.push([low, high])

    leases = Hands(store).take(5, "high", "nothing", "low")

    assert [(one.queue, jid_of(one.raw)) for one in leases] == [("high", jid_of(high)), ("low", jid_of(low))]  # fmt: skip


def test_a_paused_queue_is_passed_over_until_it_goes_on(store: Store) -> None:
    """Pausing takes effect at the next claim, of every worker."""
    store.push([job(), job(queue="other")])
    hands = Hands(store)
    store.pause("default")

    assert [one.queue for one in hands.take(5, "default", "other")] == ["other"]
    assert store.counts().queues["default"][2] is True
    store.pause("default", False)
    assert [one.queue for one in hands.take(5, "default", "other")] == ["default"]


def test_a_queue_can_be_paused_before_its_first_job(store: Store) -> None:
    """Somebody prepares a deployment."""
    store.pause("later")
    store.push([job(queue="later")])

    assert Hands(store).take(5, "later") == []


def test_a_claim_without_room_only_settles(store: Store) -> None:
    """A worker that stops gives its results and takes nothing."""
    store.push([job(), job()])
    hands = Hands(store)
    first = hands.take_one()

    assert hands.take(0, done=[first.token]) == []
    assert store.counts().queues["default"][0] == 1


# -- ends ---------------------------------------------------------------------------------------------------------


def test_what_was_acked_is_gone_and_counted(store: Store) -> None:
    """The fast way of a hundred jobs at once."""
    store.push([job() for _ in range(100)])
    hands = Hands(store)
    leases = hands.take(100)

    assert hands.ack(*leases[10:], *leases[:10]) == []

    assert everywhere(store) == {}
    counts = store.counts()
    assert (counts.processed, counts.failed, counts.busy) == (100, 0, 0)


def test_a_token_ends_once(store: Store) -> None:
    """The second ack, by whichever way, is reported and does nothing."""
    store.push([job() for _ in range(6)])
    hands = Hands(store)
    leases = hands.take(6)
    tokens = [one.token for one in leases]
    assert hands.ack(*leases[1:3]) == []

    left, missing = store.claim(hands.owner, (), 0, 0, tokens[:4], [Settle(tokens[2], ACK), Settle(tokens[4], RETRY, at_s=in_s(60)), Settle(99, DEAD)])  # fmt: skip

    assert left == []
    assert sorted(missing) == sorted([tokens[1], tokens[2], tokens[2], 99])
    assert sorted(map(tuple, everywhere(store).values())) == [("busy",), ("retry",)]


def test_an_ack_and_the_next_claim_are_one_step(store: Store) -> None:
    """It is where the speed lies."""
    store.push([job() for _ in range(4)])
    hands = Hands(store)
    first = hands.take(2)

    second = hands.take(2, done=[first[0].token], settled=[Settle(first[1].token, DROP)])

    assert jids(store.held(hands.owner)) == jids(second)


def test_a_job_that_failed_waits_for_its_time_and_comes_back_changed(store: Store) -> None:
    """RETRY: what the engine made of the job is kept, byte for byte, and goes to the queue that it names."""
    store.push([job(jid="a" * 24)])
    hands = Hands(store)
    lease = hands.take_one()
    failed = sidekiq.dumps({**sidekiq.fail(sidekiq.loads(lease.raw), "E", "no", None, time.time()), "queue": "again"})  # fmt: skip

    hands.end(lease, RETRY, raw=failed, at_s=in_s(0.2))

    (entry,) = store.page("retry")
    assert entry.raw == failed
    assert entry.at_s == pytest.approx(in_s(0.1), abs=3)
    assert hands.take(5, "default", "again") == []
    (again,) = take_due(hands, "again")
    assert sidekiq.loads(again.raw)["retry_count"] == 0
    counts = store.counts()
    assert (counts.processed, counts.failed, counts.retry) == (1, 1, 0)


def test_a_job_that_is_given_up_is_kept_for_a_person(store: Store) -> None:
    """DEAD: the last death first."""
    store.push([job(jid="a" * 24), job(jid="b" * 24)])
    hands = Hands(store)
    first, second = hands.take(2)

    hands.end(first, DEAD, at_s=in_s(-100))
    hands.end(second, DEAD, at_s=in_s(-50), raw=second.raw[:-1] + b',"error_class":"Boom"}')

    entries = store.page("dead")
    assert jids(entries) == ["b" * 24, "a" * 24]
    assert sidekiq.loads(entries[0].raw)["error_class"] == "Boom"
    assert entries[1].at_s == pytest.approx(in_s(-100), abs=3)
    assert store.notes("a" * 24)["state"] == "dead"
    assert (store.counts().dead, store.counts().failed) == (2, 2)


def test_what_was_given_back_is_next_again(store: Store) -> None:
    """BACK: a worker that stops must not put its jobs at the end of a long queue. Nothing of them is counted."""
    pushed = [job() for _ in range(5)]
    store.push(pushed)
    hands = Hands(store)
    leases = hands.take(3)

    hands.take(0, settled=[Settle(one.token, BACK) for one in reversed(leases)])

    assert jids(hands.take(5)) == jids(pushed)
    assert store.counts().processed == 0


def test_a_suspect_goes_to_the_lane(store: Store) -> None:
    """SUSPECT: it runs alone, from now on with its strike; its lease says where it came from."""
    store.push([job(jid="a" * 24)])
    hands = Hands(store)
    lease = hands.take_one()

    hands.end(lease, SUSPECT, raw=job(jid="a" * 24, strikes=1))

    assert hands.take() == []
    (suspect,) = hands.take(5, "quarantine")
    assert suspect.queue == "quarantine"
    assert sidekiq.hf(sidekiq.loads(suspect.raw))["strikes"] == 1
    assert store.counts().processed == 0


def test_a_suspect_that_is_given_back_stays_a_suspect(store: Store) -> None:
    """The lane itself was stopped by a deployment: that clears nobody."""
    store.push([job()])
    hands = Hands(store)
    hands.end(hands.take_one(), SUSPECT)

    hands.end(hands.take_one("quarantine"), BACK)

    assert len(hands.take(5, "quarantine")) == 1


def test_a_dropped_job_is_gone(store: Store) -> None:
    """DROP: its deadline passed; that is no success and no failure."""
    store.push([job(jid="a" * 24)])
    hands = Hands(store)

    hands.end(hands.take_one(), DROP)

    assert everywhere(store) == {}
    assert store.notes("a" * 24)["state"] == "dropped"
    assert (store.counts().processed, store.counts().failed) == (0, 0)


# -- owners -------------------------------------------------------------------------------------------------------


def test_who_is_not_registered_gets_nothing(store: Store) -> None:
    """The recorder and the steward come first, or nobody would notice the death."""
    store.push([job()])

    with pytest.raises(FencedError):
        store.claim("elsewhere:1:abc", ["default"], 5, 1)

    assert store.counts().queues["default"][0] == 1


def test_the_dead_leave_their_jobs_in_order(store: Store) -> None:
    """Recovery: the settled as settled, all else to the front of its queue, oldest first; once."""
    pushed = [job() for _ in range(8)]
    store.push(pushed)
    store.push([job(jid="e" * 24, queue="other")])
    hands = Hands(store)
    leases = hands.take(6, "default", "other")
    (other,) = hands.take(1, "other")

    held = store.recover(
        hands.owner,
        [Settle(leases[1].token, ACK), Settle(leases[3].token, SUSPECT), Settle(leases[4].token, BACK)],
    )  # fmt: skip

    assert held == 7
    assert store.recover(hands.owner, [Settle(leases[0].token, DEAD)]) == 0
    heir = Hands(store)
    assert jids(heir.take(10)) == jids([pushed[i] for i in (0, 2, 4, 5, 6, 7)])
    assert jids(heir.take(10, "other")) == jids([other])
    assert jids(heir.take(10, "quarantine")) == jids([pushed[3]])
    assert store.counts().processed == 1


def test_whoever_was_declared_dead_stays_dead(store: Store) -> None:
    """A worker that hung behind a dead network wakes up: its acks and claims do nothing, for ever."""
    store.push([job(), job()])
    ghost = Hands(store)
    lease = ghost.take_one()
    store.recover(ghost.owner, [])

    for attempt in (
        lambda: store.claim(ghost.owner, (), 0, 0, [lease.token]),
        lambda: store.claim(ghost.owner, ["default"], 5, 50),
        lambda: store.register(ghost.owner, 60),
    ):
        with pytest.raises(FencedError):
            attempt()
    assert store.held(ghost.owner) == []
    assert store.renew([beat(ghost.owner)], 60) == ([ghost.owner], {})
    assert store.counts().queues["default"][0] == 2


def test_one_can_be_declared_dead_before_it_was_born(store: Store) -> None:
    """Its process died between its recorder and its registration."""
    assert store.recover("elsewhere:1:early", []) == 0

    with pytest.raises(FencedError):
        store.register("elsewhere:1:early", 60)


def test_who_registers_twice_keeps_what_it_holds(store: Store) -> None:
    """The answer to the first registration was lost."""
    store.push([job()])
    hands = Hands(store)
    lease = hands.take_one()

    store.register(hands.owner, 60)

    assert [one.token for one in store.held(hands.owner)] == [lease.token]


def test_held_are_all_that_an_owner_has(store: Store) -> None:
    """After an outage a worker compares: token, queue and bytes."""
    store.push([job() for _ in range(12)])
    hands, other = Hands(store), Hands(store)
    leases = hands.take(11)
    other.take(1)
    hands.ack(leases[0])

    held = sorted(store.held(hands.owner), key=lambda one: one.token)

    assert [(one.token, one.queue, one.raw) for one in held] == [(one.token, one.queue, one.raw) for one in leases[1:]]  # fmt: skip


def beat(owner: str, running: list[tuple[int, float, int]] | None = None) -> Beat:
    info: dict[str, object] = {"hostname": "elsewhere", "pid": 1, "queues": ["default"], "concurrency": 3}  # fmt: skip
    return Beat(owner, info, len(running or []), True, 4096, running or [])


def test_an_owner_that_is_not_renewed_expires(store: Store) -> None:
    """Its whole machine is gone; any steward may take its jobs over then, not before."""
    gone, there = Hands(store, lease_s=0.05), Hands(store, lease_s=0.05)
    assert store.renew([beat(there.owner)], 60) == ([], {})

    wait_for(lambda: store.expired() == [gone.owner], "the lease of one is over")

    store.recover(gone.owner, [])
    assert store.expired() == []


def test_a_beat_shows_its_owner_to_people(store: Store) -> None:
    """What `holdfast jobs top` and Sidekiq's web page show."""
    store.push([job(jid="a" * 24), job()])
    hands = Hands(store)
    first, _ = hands.take(2)

    store.renew([beat(hands.owner, [(first.token, 1795310493.0, 77)])], 60)

    (shown,) = store.owners()
    assert shown["owner"] == hands.owner
    assert shown["info"]["queues"] == ["default"]  # type: ignore[index]
    assert (shown["busy"], shown["quiet"], shown["rss_kb"]) == (1, True, 4096)
    running: Any = shown["running"]
    (runs,) = running
    assert (jid_of(runs["raw"]), int(runs["run_at"])) == ("a" * 24, 1795310493)
    busy = {jid_of(one.raw): one for one in store.page("busy")}
    assert len(busy) == 2
    assert (busy["a" * 24].owner, busy["a" * 24].token) == (hands.owner, first.token)
    assert int(busy["a" * 24].since_s) == 1795310493


def test_a_signal_arrives_once(store: Store) -> None:
    """A person presses "quiet" on the web page."""
    hands, other = Hands(store), Hands(store)
    beats = [beat(hands.owner), beat(other.owner)]
    store.renew(beats, 60)
    store.signal(hands.owner, "TSTP")
    store.signal(hands.owner, "TTIN")

    told: list[str] = []
    while names := store.renew(beats, 60)[1]:
        assert set(names) == {hands.owner}
        told += names[hands.owner]

    assert sorted(told) == ["TSTP", "TTIN"]


def test_what_the_store_forgot_is_taken_back(store: Store) -> None:
    """After a server's crash the jobs lie in their queues again while workers run them: back into the hands of who has them."""
    store.push([job() for _ in range(3)])
    before = Hands(store)
    leases = before.take(3)
    store.recover(before.owner, [])  # the store as it was before the claim
    hands, thief = Hands(store), Hands(store)
    thief.take(1)

    gone = store.readopt(hands.owner, leases)

    assert gone == [leases[0].token]
    assert [one.token for one in sorted(store.held(hands.owner), key=lambda one: one.token)] == [one.token for one in leases[1:]]  # fmt: skip
    assert store.counts().queues["default"][0] == 0
    assert store.readopt(hands.owner, leases[1:]) == []
    assert hands.ack(*leases[1:]) == []


# -- time ---------------------------------------------------------------------------------------------------------


def test_a_job_of_the_future_waits_in_the_schedule(store: Store) -> None:
    """What is due is pushed in the order of its times, stamped when it is."""
    jobs = [job(jid=letter * 24) for letter in "abcd"]

    first_s = in_s(0.4 * SLOWNESS)

    assert store.push(jobs, [first_s + 0.1, 0.0, first_s, in_s(3600)]) == [""] * 4

    hands = Hands(store)
    assert jids(hands.take()) == ["b" * 24]
    assert jids(store.page("schedule")) == [letter * 24 for letter in "cad"]
    assert b"enqueued_at" not in store.page("schedule")[0].raw
    assert store.move_due(10)[1] < 60

    def both_are_due() -> bool:
        store.move_due(10)
        return store.counts().scheduled == 1

    wait_for(both_are_due, "two are due")
    leases = hands.take()
    assert jids(leases) == ["c" * 24, "a" * 24]
    assert all(b"enqueued_at" in one.raw for one in leases)
    assert 3000 < store.move_due(10)[1] <= 3600


def test_what_is_due_moves_in_small_steps(store: Store) -> None:
    """A steward that comes back after a night must not hold the store up."""
    store.push([job() for _ in range(7)])
    hands = Hands(store)
    for lease in hands.take():
        hands.end(lease, RETRY, at_s=in_s(-60))

    assert store.move_due(5) == (5, 0)
    moved, next_s = store.move_due(5)

    assert (moved, next_s) == (2, float("inf"))
    assert store.move_due(5) == (0, float("inf"))


def test_a_periodic_job_fires_once_over_the_fleet(store: Store) -> None:
    """Eight stewards see the same minute begin."""
    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(lambda _: store.fire("nightly", 1795310460.0, job()), range(8)))

    assert sorted(won) == [False] * 7 + [True]
    assert store.fire("nightly", 1795310400.0, job()) is False
    assert store.fire("nightly", 1795310520.0, job()) is True
    assert store.fire("hourly", 1795310400.0, job()) is True
    assert store.counts().queues["default"][0] == 3


def test_a_slot_of_a_clock_that_stood_wrong_does_not_count(store: Store) -> None:
    """A machine came up in 2099, fired, and was set right: the night's job would have been silent until then."""
    assert store.fire("nightly", 4102444800.0, job()) is True

    assert store.fire("nightly", 1795310460.0, job()) is True
    assert store.fire("nightly", 1795310460.0, job()) is False


# -- unique jobs --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", ENDS)
def test_a_lock_lasts_as_long_as_its_job(store: Store, end: str) -> None:
    """Held while it is queued, runs, and waits for another try; free when it is done, given up or dropped."""
    store.push([job(jid="a" * 24, unique="one")])
    hands = Hands(store)
    lease = hands.take_one()
    assert store.push([job(unique="one")]) == ["a" * 24]

    hands.end(lease, end, at_s=in_s(60))

    holder = "" if end in (ACK, DEAD, DROP) else "a" * 24
    assert store.push([job(unique="one")]) == [holder]


def test_a_lock_keeps_out_only_its_own_kind(store: Store) -> None:
    """In one push, too; the neighbours are stored."""
    raws = [job(jid="a" * 24, unique="x"), job(unique="x"), job(unique="y"), job()]

    assert store.push(raws) == ["", "a" * 24, "", ""]

    assert store.counts().queues["default"][0] == 3


def test_a_unique_job_that_is_pushed_again_is_stored_once(store: Store) -> None:
    """The answer to the first push was lost, so the program pushed the very same job again."""
    raw = job(jid="a" * 24, unique="x")

    assert store.push([raw]) == [""]
    assert store.push([raw]) == ["a" * 24]

    assert store.counts().queues["default"][0] == 1


def test_a_lock_until_the_start_lets_the_next_one_in(store: Store) -> None:
    """ "At least one more run after this change": the classic of cache invalidation."""
    store.push([job(jid="a" * 24, unique="x", unique_until="start")])
    assert store.push([job(unique="x", unique_until="start")]) == ["a" * 24]
    hands = Hands(store)

    first = hands.take_one()

    assert store.push([job(jid="b" * 24, unique="x", unique_until="start")]) == [""]
    hands.end(first, ACK)
    assert store.push([job(unique="x", unique_until="start")]) == ["b" * 24]


def test_a_job_that_did_not_start_has_its_lock_again(store: Store) -> None:
    """It was claimed, not started, and given back."""
    store.push([job(jid="a" * 24, unique="x", unique_until="start")])
    hands = Hands(store)

    hands.end(hands.take_one(), BACK)

    assert store.push([job(unique="x", unique_until="start")]) == ["a" * 24]


def test_a_lock_can_have_a_time(store: Store) -> None:
    """`unique_s`: "not more often than each so many seconds, whatever became of it"."""
    store.push([job(unique="x", unique_s=0.1)])

    wait_for(lambda: store.push([job(unique="x", unique_s=0.1)]) == [""], "the lock is over")


def test_a_scheduled_job_has_its_lock(store: Store) -> None:
    """From its push on, and when it is deleted it leaves it."""
    store.push([job(jid="a" * 24, unique="x")], [in_s(60)])
    assert store.push([job(unique="x")]) == ["a" * 24]

    assert store.remove(store.page("schedule")) == 1

    assert store.push([job(unique="x")]) == [""]


def test_a_dead_job_comes_back_only_if_its_lock_is_free(store: Store) -> None:
    """Two of a kind must not run, however they came."""
    store.push([job(jid="a" * 24, unique="x")])
    hands = Hands(store)
    hands.end(hands.take_one(), DEAD)
    store.push([job(jid="b" * 24, unique="x")])

    assert store.move(store.page("dead"), "queue:default") == 0
    hands.end(hands.take_one(), ACK)
    assert store.move(store.page("dead"), "queue:default") == 1

    assert store.push([job(unique="x")]) == ["a" * 24]


# -- limits -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", ENDS)
def test_a_limit_lets_so_many_run_and_the_next_in_when_one_ends(store: Store, end: str) -> None:
    """However it ends; who waits comes in the order of arrival, and others pass them."""
    limited = [job(limit="host", limit_max=2) for _ in range(4)]
    store.push([*limited, job(jid="f" * 24)])
    hands = Hands(store)

    leases = hands.take(5)

    assert jids(leases) == [*jids(limited[:2]), "f" * 24]
    assert store.counts().waiting == 2
    assert jids(store.page("waiting")) == jids(limited[2:])
    assert hands.take(5) == []
    assert jids(hands.take(1, settled=[Settle(leases[1].token, end, at_s=in_s(60))])) == jids([limited[2]])  # fmt: skip
    assert len(store.page("busy")) == 3


def test_the_dead_leave_their_places(store: Store) -> None:
    """A worker that was killed must not shut a limit for ever."""
    limited = [job(limit="host", limit_max=1) for _ in range(2)]
    store.push(limited)
    ghost = Hands(store)
    assert jids(ghost.take(5)) == jids(limited[:1])

    store.recover(ghost.owner, [])
    heir = Hands(store)
    got = heir.take(5)

    assert len(got) == 1
    heir.ack()
    (last,) = heir.take(5, settled=[Settle(got[0].token, ACK)])
    assert sorted(jids([got[0], last])) == sorted(jids(limited))


def test_a_limit_holds_over_many_owners(store: Store) -> None:
    """Six threads take and end; never more than two at a time hold the limit."""
    total = 60
    store.push([job(limit="host", limit_max=2) for _ in range(total)])
    lock, held, most, seen = threading.Lock(), [0], [0], [0]

    def work(_: int) -> None:
        hands = Hands(store)
        until = time.monotonic() + 20 * SLOWNESS
        while seen[0] < total and time.monotonic() < until:
            leases = hands.take(3)
            # Counted from after the claim to before the end: within the time that they are held.
            with lock:
                held[0] += len(leases)
                most[0] = max(most[0], held[0])
            for lease in leases:
                with lock:
                    held[0] -= 1
                    seen[0] += 1
                hands.end(lease)

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(work, range(6)))

    assert seen[0] == total
    assert most[0] <= 2
    assert everywhere(store) == {}


def test_a_rate_lets_so_many_start_in_any_span(store: Store) -> None:
    """The polite crawler: three in 0.3 s, and never four in any 0.3 s; in order; none is lost."""
    jobs = [job(limit="host", rate=[3, 0.3]) for _ in range(8)]
    store.push(jobs)
    hands = Hands(store)
    started: list[tuple[float, str]] = []

    def some() -> bool:
        store.move_due(100)
        for lease in hands.take(100):
            started.append((time.monotonic(), jid_of(lease.raw)))
            hands.end(lease)
        return len(started) == len(jobs)

    some()
    assert len(started) == 3
    wait_for(some, "all have started")

    assert sorted(jid for _, jid in started) == sorted(jids(jobs))
    times = [at for at, _ in started]
    # What is measured here is the claim's return: a little after the start that the store counts.
    assert all(times[i + 3] - times[i] > 0.3 - 0.1 for i in range(len(times) - 3))


def test_limits_of_other_names_do_not_wait(store: Store) -> None:
    """A slow host holds up itself only."""
    store.push([job(limit=f"host{i % 3}", limit_max=1) for i in range(6)])

    assert len(Hands(store).take(10)) == 3


# -- what follows -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", ENDS)
def test_what_follows_a_job_comes_when_it_is_done(store: Store, end: str) -> None:
    """And only then: a step that failed or was dropped is followed by nothing."""
    then = [job(jid="b" * 24, queue="next").decode(), job(jid="c" * 24, queue="next").decode()]
    store.push([job(then_=then)])
    hands = Hands(store)

    hands.end(hands.take_one(), end, at_s=in_s(60))

    followers = hands.take(5, "next")
    assert jids(followers) == (["b" * 24, "c" * 24] if end == ACK else [])
    assert all(b"enqueued_at" in one.raw for one in followers)


def test_a_batch_counts_what_is_pushed_and_how_it_ended(store: Store) -> None:
    """Its callback comes when it is closed and all have ended, in whichever way; once."""
    store.open_batch("b1", job(jid="f" * 24, queue="callback"))
    store.push([job(batch="b1"), job(batch="b1")])
    store.push([job(batch="b1")], [in_s(0.05)])
    hands = Hands(store)
    first, second = hands.take(2)
    hands.end(first, ACK)
    hands.end(second, DEAD)
    assert store.batch("b1") == {"total": 3, "done": 1, "failed": 1, "open": 1}

    store.close_batch("b1")
    assert hands.take(5, "callback") == []
    (third,) = take_due(hands)
    hands.end(third, RETRY, at_s=in_s(0.01))
    assert hands.take(5, "callback") == []
    (third,) = take_due(hands)
    hands.end(third, ACK)

    assert jids(hands.take(5, "callback")) == ["f" * 24]
    assert store.batch("b1") == {"total": 3, "done": 2, "failed": 1, "open": 0}
    store.close_batch("b1")
    assert store.move(store.page("dead"), "queue:default") == 1
    hands.end(hands.take_one(), ACK)
    assert hands.take(5, "callback") == []
    assert store.batch("b1") == {"total": 3, "done": 3, "failed": 0, "open": 0}


def test_an_empty_batch_is_over_when_it_is_closed(store: Store) -> None:
    """Nothing to do is done."""
    store.open_batch("b1", job(jid="f" * 24))
    store.open_batch("b1", job(jid="e" * 24))  # the answer to the first was lost
    store.open_batch("b2", b"")

    store.close_batch("b1")
    store.close_batch("b2")

    assert jids(Hands(store).take()) == ["f" * 24]
    assert store.batch("b2") == {"total": 0, "done": 0, "failed": 0, "open": 0}
    assert store.batch("nobody") is None


def test_a_batch_waits_for_what_follows_within_it(store: Store) -> None:
    """Its last job is followed by one of the same batch: it is not over in between."""
    then = [job(jid="b" * 24, batch="b1").decode()]
    store.open_batch("b1", job(jid="f" * 24, queue="callback"))
    store.push([job(batch="b1", then_=then)])
    store.close_batch("b1")
    hands = Hands(store)

    hands.end(hands.take_one(), ACK)
    assert hands.take(5, "callback") == []
    hands.end(hands.take_one(), ACK)

    assert jids(hands.take(5, "callback")) == ["f" * 24]


def test_what_was_not_stored_does_not_count_in_a_batch(store: Store) -> None:
    """It lost against its lock, so it would never end."""
    store.push([job(jid="a" * 24, unique="x")])
    store.open_batch("b1", b"")

    assert store.push([job(unique="x", batch="b1")]) == ["a" * 24]

    assert store.batch("b1") == {"total": 0, "done": 0, "failed": 0, "open": 1}


def test_a_job_that_a_person_deletes_leaves_its_batch(store: Store) -> None:
    """Or its callback would never come."""
    store.open_batch("b1", job(jid="f" * 24, queue="callback"))
    store.push([job(batch="b1"), job(queue="other", batch="b1")])
    store.close_batch("b1")

    assert store.remove(store.page("queue:default")) == 1
    assert store.wipe("other") == 1

    assert jids(Hands(store).take(5, "callback")) == ["f" * 24]


# -- results and notes --------------------------------------------------------------------------------------------


def test_a_result_is_kept_for_its_time(store: Store) -> None:
    """Together with the state: whoever waits sees both or none."""
    store.push([job(jid="a" * 24, result_s=3600), job(jid="b" * 24, result_s=0.1), job(jid="c" * 24)])  # fmt: skip
    hands = Hands(store)

    for lease in hands.take():
        hands.end(lease, ACK, result=b'{"sum":42}')

    assert store.notes("a" * 24) == {"result": '{"sum":42}', "state": "done"}
    assert store.notes("c" * 24) == {"state": "done"}
    wait_for(lambda: "result" not in store.notes("b" * 24), "the result is forgotten")


def test_notes_are_kept_side_by_side_and_the_last_word_counts(store: Store) -> None:
    """Progress and a checkpoint of one job, written at different times."""
    store.note("a" * 24, {"progress": "1/3", "checkpoint": "[1]"}, 3600)
    store.note("a" * 24, {"progress": "2/3 é"}, 3600)

    assert store.notes("a" * 24) == {"progress": "2/3 é", "checkpoint": "[1]"}
    assert store.notes("b" * 24) == {}


def test_notes_are_forgotten_in_the_end(store: Store) -> None:
    """The store does not grow for ever."""
    store.note("a" * 24, {"progress": "1/3"}, 0.1)

    wait_for(lambda: store.notes("a" * 24) == {}, "the note is forgotten")


def test_a_cancelled_job_is_not_started(store: Store) -> None:
    """It leaves its lock and its batch; those behind it take its turn."""
    store.open_batch("b1", b"")
    store.push([job(jid="a" * 24, unique="x", batch="b1"), job(jid="b" * 24), job(jid="c" * 24)])
    store.push([job(jid="d" * 24)], [in_s(0.05)])
    for letter in "ad":
        store.cancel(letter * 24)
    hands = Hands(store)

    assert jids(hands.take(2)) == ["b" * 24, "c" * 24]

    def dropped() -> bool:
        store.move_due(5)
        assert hands.take() == []
        return store.notes("d" * 24).get("state") == "dropped"

    wait_for(dropped, "the last one was due and is dropped")
    assert store.notes("a" * 24)["state"] == "dropped"
    assert store.batch("b1") == {"total": 1, "done": 0, "failed": 1, "open": 1}
    assert store.push([job(unique="x")]) == [""]


def test_what_waits_for_long_is_cancelled_at_once(store: Store) -> None:
    """A mark for its turn lasted a day, and the reminder of next week was sent; until then its lock refused the one in its place."""
    store.push([job(jid="a" * 24, unique="x")], [in_s(30 * 86400)])
    hands = Hands(store)
    store.push([job(jid="b" * 24)])
    hands.end(hands.take_one(), RETRY, at_s=in_s(86400))
    store.push([job(jid="c" * 24, limit="one", limit_max=1), job(jid="d" * 24, limit="one", limit_max=1)])  # fmt: skip
    hands.take()
    store.push([job(jid="e" * 24, queue="paused", unique="y"), job(jid="f" * 24, queue="paused")])
    store.pause("paused")

    for letter in "abde":
        store.cancel(letter * 24)

    assert [store.notes(letter * 24).get("state") for letter in "abde"] == ["dropped"] * 4
    assert [store.find(letter * 24) for letter in "abde"] == [None] * 4
    assert store.push([job(unique="x"), job(unique="y")]) == ["", ""]
    assert everywhere(store).keys() >= {"c" * 24, "f" * 24}


def test_a_mark_is_gone_with_its_job(store: Store) -> None:
    """While one is left, each job of everybody is looked at for it: half as fast."""
    store.push([job(jid="a" * 24), job(jid="b" * 24)])
    hands = Hands(store)
    runs = hands.take_one()
    store.cancel("a" * 24)
    store.cancel("b" * 24)
    hands.end(runs, DROP)

    assert hands.take() == []
    assert store.cancelled(["a" * 24, "b" * 24]) == []


def test_who_runs_a_cancelled_job_is_told(store: Store) -> None:
    """It looks once a second."""
    store.cancel("a" * 24)

    assert store.cancelled(["b" * 24, "a" * 24]) == ["a" * 24]
    assert store.cancelled([]) == []


# -- people -------------------------------------------------------------------------------------------------------


def test_the_figures_are_right_at_all_times(store: Store) -> None:
    """Also after a person took jobs out of the middle, the front and the end of a queue."""
    store.push([job() for _ in range(20)])
    entries = store.page("queue:default", 0, 100)

    def size() -> int:
        return store.counts().queues["default"][0]

    assert size() == 20
    assert store.remove([entries[i] for i in (3, 4, 10)]) == 3
    assert size() == 17
    assert store.remove([entries[i] for i in (0, 1, 19)]) == 3
    assert size() == 14
    hands = Hands(store)
    taken = hands.take(5)
    assert size() == 9
    hands.take(0, settled=[Settle(one.token, BACK) for one in taken])
    assert size() == 14
    assert store.remove(store.page("queue:default", 12, 5)) == 2
    store.push([job(), job()])
    assert size() == len(store.page("queue:default", 0, 100)) == 14
    assert len(hands.take(100)) == 14
    assert size() == 0
    store.push([job() for _ in range(30)])
    assert size() == 30


def test_latency_is_the_age_of_the_next_job(store: Store) -> None:
    """How long a job waits at present."""
    store.push([job()])

    wait_for(lambda: store.counts().queues["default"][1] >= 0.05, "it has waited for 50 ms")

    assert store.counts().queues["default"][1] < 60 * SLOWNESS


def test_a_page_shows_what_is_next_first(store: Store) -> None:
    """With an offset, as a person turns pages."""
    pushed = [job() for _ in range(7)]
    store.push(pushed)

    assert jids(store.page("queue:default", 0, 3)) == jids(pushed[:3])
    assert jids(store.page("queue:default", 5, 3)) == jids(pushed[5:])
    assert {entry.where for entry in store.page("queue:default")} == {"queue:default"}
    assert store.page("queue:nothing") == []


def test_a_job_is_found_wherever_it_is(store: Store) -> None:
    """By its jid, which may also stand in another job's arguments."""
    names = ["ready", "scheduled", "failed", "died", "held", "waits"]
    marks = {name: f"{i:x}" * 24 for i, name in enumerate(names, 1)}
    store.push([job(jid=marks["scheduled"])], [in_s(60)])
    hands = Hands(store)
    for name in ("failed", "died", "held"):
        store.push([job(jid=marks[name], args=tuple(marks.values()))])
        lease = hands.take_one()
        if name != "held":
            hands.end(lease, RETRY if name == "failed" else DEAD, at_s=in_s(60))
    store.push([job(limit="l", limit_max=1), job(jid=marks["waits"], limit="l", limit_max=1)])
    hands.take(2)
    store.push([job(jid=marks["ready"], queue="q", args=tuple(marks.values()))])

    found = {name: store.find(mark) for name, mark in marks.items()}

    places = {name: entry.where for name, entry in found.items() if entry}
    assert places == {
        "ready": "queue:q", "scheduled": "schedule", "failed": "retry", "died": "dead", "held": "busy", "waits": "waiting",
    }  # fmt: skip
    assert {name: jid_of(entry.raw) for name, entry in found.items() if entry} == marks
    assert store.find("9" * 24) is None


@pytest.mark.parametrize("where", ["queue:default", "schedule", "retry", "dead", "waiting"])
def test_what_was_found_can_be_deleted_once(store: Store, where: str) -> None:
    """Each if it is still there just as it was seen."""
    entry = put(store, where)

    assert store.remove([Entry(entry.where, entry.raw + b" ", entry.at_s, token=entry.token)]) == 0
    assert store.remove([entry, entry]) == 1
    assert store.remove([entry]) == 0

    assert store.page(where) == []


@pytest.mark.parametrize("where", ["queue:default", "schedule", "retry", "dead", "waiting"])
@pytest.mark.parametrize("to", ["queue:other", "dead"])
def test_what_was_found_can_be_moved_and_edited(store: Store, where: str, to: str) -> None:
    """A person corrects an argument and sends it off again: one step, no second copy."""
    entry = put(store, where)
    edited = entry.raw.replace(b'"args":[]', b'"args":["new"]')

    assert store.move([entry], to, {entry.raw: edited}) == 1
    assert store.move([entry], to, {entry.raw: edited}) == 0

    places = everywhere(store)
    assert places[jid_of(entry.raw)] == [to]
    (moved,) = [one for one in store.page(to) if jid_of(one.raw) == jid_of(entry.raw)]
    assert sidekiq.loads(moved.raw)["args"] == ["new"]


def put(store: Store, where: str) -> Entry:
    """Return a job that lies there."""
    hands = Hands(store)
    if where == "schedule":
        store.push([job()], [in_s(60)])
    elif where == "waiting":
        store.push([job(limit="l", limit_max=1), job(limit="l", limit_max=1)])
        hands.take(2)
    else:
        store.push([job()])
        if where in ("retry", "dead"):
            hands.end(hands.take_one(), RETRY if where == "retry" else DEAD, at_s=in_s(60))
    (entry,) = store.page(where)
    return entry


def test_a_person_who_sends_a_cancelled_job_off_again_means_it(store: Store) -> None:
    """The older wish is forgotten."""
    store.push([job(jid="a" * 24)])
    hands = Hands(store)
    hands.end(hands.take_one(), DEAD)
    store.cancel("a" * 24)

    store.move(store.page("dead"), "queue:default")

    assert jids(hands.take()) == ["a" * 24]
    assert store.notes("a" * 24).get("state") is None


def test_a_queue_can_be_emptied(store: Store) -> None:
    """Locks of its jobs are free then."""
    store.push([job(unique="x"), *(job() for _ in range(50))])
    store.push([job(queue="other")])

    assert store.wipe("default") == 51
    assert store.wipe("default") == 0

    assert store.push([job(unique="x")]) == [""]
    assert store.counts().queues["other"][0] == 1


def test_emptying_a_queue_leaves_what_comes_meanwhile(store: Store) -> None:
    """The callback of a batch, which the last of its jobs has just pushed into this very queue."""
    store.open_batch("b1", job(jid="c" * 24))
    store.push([job(batch="b1") for _ in range(50)])
    store.close_batch("b1")

    assert store.wipe("default") == 50

    assert jids(store.page("queue:default")) == ["c" * 24]


# -- waking up ----------------------------------------------------------------------------------------------------


def timed(action: Callable[[], object]) -> float:
    """Return how long something takes, in seconds."""
    before = time.monotonic()
    action()
    return time.monotonic() - before


def test_nobody_waits_for_a_job_that_is_there(store: Store) -> None:
    """It was pushed between the last claim and the wait."""
    store.push([job()])

    assert timed(lambda: store.wait(["other", "default"], 10 * SLOWNESS)) < 5 * SLOWNESS


def test_a_wait_ends_with_its_time_or_a_word(store: Store) -> None:
    """A paused queue, and one that nobody asked for, wake nobody (or only for a moment)."""
    reader, writer = os.pipe()
    try:
        assert timed(lambda: store.wait(["default"], 0.05)) < 5 * SLOWNESS
        threading.Timer(0.05, lambda: os.write(writer, b"x")).start()
        assert timed(lambda: store.wait(["default"], 20 * SLOWNESS, reader)) < 10 * SLOWNESS
    finally:
        os.close(reader)
        os.close(writer)


def test_a_push_wakes_who_waits(store: Store) -> None:
    """Within 20 ms; here of twenty pushes the typical one, on a machine that is busy with other things."""
    hands, late = Hands(store), []
    for _ in range(20):
        pushed: list[float] = []

        def push(pushed: list[float] = pushed) -> None:
            store.push([job()])
            pushed.append(time.monotonic())

        timer = threading.Timer(0.01, push)
        timer.start()
        until = time.monotonic() + 10 * SLOWNESS
        while not (got := hands.take(5)) and time.monotonic() < until:
            store.wait(["default"], 5 * SLOWNESS)
        woken = time.monotonic()
        timer.join()
        assert got
        hands.ack(*got)
        late.append(woken - pushed[0])

    assert sorted(late)[10] < 0.02 * SLOWNESS


# -- sharing ------------------------------------------------------------------------------------------------------


def test_a_child_after_a_fork_uses_the_store_as_its_parent_does(store: Store) -> None:
    """A pre-forking web server opened the store before it forked."""
    store.push([job()])
    child = os.fork()
    if child == 0:
        status = 4
        try:
            store.push([job(queue="child")])
            status = 0 if len(Hands(store).take()) == 1 else 3
        finally:
            os._exit(status)
    store.push([job(queue="parent")])

    _, status = os.waitpid(child, 0)

    assert os.waitstatus_to_exitcode(status) == 0
    sizes = {name: size for name, (size, _, _) in store.counts().queues.items()}
    assert sizes == {"default": 0, "child": 1, "parent": 1}
    assert store.counts().busy == 1


def test_a_closed_store_opens_again(store: Store) -> None:
    """`close` is for tidiness."""
    store.push([job()])
    store.close()
    store.close()

    assert len(Hands(store).take()) == 1


def test_many_threads_lose_and_double_nothing(store: Store) -> None:
    """Four push, four take; each job comes out exactly once."""
    each = 250
    out: list[str] = []
    pushed = [[job() for _ in range(each)] for _ in range(4)]

    def push(mine: list[bytes]) -> None:
        for raw in mine:
            store.push([raw])

    def work(_: list[bytes]) -> None:
        hands, done = Hands(store), []  # type: ignore[var-annotated]
        until = time.monotonic() + 20 * SLOWNESS
        while len(out) < 4 * each and time.monotonic() < until:
            leases = hands.take(7, done=done)
            done = [one.token for one in leases]
            out.extend(jids(leases))
        hands.take(0, done=done)

    with ThreadPoolExecutor(8) as pool:
        doing = [pool.submit(what, mine) for what in (push, work) for mine in pushed]
        for one in doing:
            one.result()

    assert sorted(out) == sorted(jids([raw for mine in pushed for raw in mine]))
    assert everywhere(store) == {}
    assert store.counts().processed == 4 * each


@pytest.mark.parametrize("seed", range(4))
def test_every_job_is_in_exactly_one_place(store: Store, seed: int) -> None:
    """The law of conservation, under whatever anybody does in whichever order."""
    chance = random.Random(seed)
    alive: set[str] = set()
    owners = [Hands(store) for _ in range(3)]
    held: dict[int, list[Lease]] = {0: [], 1: [], 2: []}

    kinds: list[dict[str, Any]] = [
        {},
        {"limit": "l", "limit_max": 2},
        {"unique": "x"},
        {"unique": "y"},
    ]

    def push() -> None:
        raws = [
            job(queue=chance.choice("ab"), **chance.choice(kinds))
            for _ in range(chance.randint(1, 5))
        ]  # fmt: skip
        times = [chance.choice([0.0, in_s(3600)]) for _ in raws]
        alive.update(jid_of(raw) for raw, by in zip(raws, store.push(raws, times), strict=True) if not by)  # fmt: skip

    def work() -> None:
        i = chance.randrange(3)
        chance.shuffle(held[i])
        ending = [held[i].pop() for _ in range(chance.randint(0, len(held[i])))]
        settled = []
        for lease in ending:
            end = chance.choice(ENDS)
            if end in (ACK, DROP):
                alive.discard(jid_of(lease.raw))
            settled.append(Settle(lease.token, end, at_s=in_s(3600)))
        queues = chance.sample(["a", "b", "quarantine"], 3)
        held[i] += owners[i].take(chance.randint(0, 4), *queues, settled=settled)

    def die() -> None:
        i = chance.randrange(3)
        store.recover(owners[i].owner, [])
        owners[i], held[i] = Hands(store), []

    def person() -> None:
        where = chance.choice(["queue:a", "queue:b", "schedule", "retry", "dead", "waiting"])
        entries = store.page(where, 0, 3)
        if chance.random() < 0.5:
            assert store.remove(entries) == len(entries)
            alive.difference_update(jids(entries))
        else:
            store.move(entries, chance.choice(["queue:a", "dead"]))

    for _ in range(60):
        chance.choice([push, push, work, work, work, die, person])()
        places = everywhere(store)
        assert {jid: where for jid, where in places.items() if len(where) > 1} == {}
        assert set(places) == alive
        counts = store.counts()
        assert sum(size for size, _, _ in counts.queues.values()) == sum(where[0].startswith("queue:") for where in places.values())  # fmt: skip
        assert counts.busy == sum(len(leases) for leases in held.values())


def test_the_store_says_what_is_wrong_with_it_in_sentences(store: Store) -> None:
    """An empty list, or words for a person."""
    assert all(len(says) > 10 for says in store.check())
    assert store.url
    assert json.dumps(store.owners()) == "[]"
