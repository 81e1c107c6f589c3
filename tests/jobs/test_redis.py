"""What lies in Redis is what Sidekiq would have put there, byte for byte; and what only Redis does."""

from __future__ import annotations

import json
import os
import select
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from holdfast.jobs.redis.bell import Bell
from holdfast.jobs.redis.resp import ReplyError
from holdfast.jobs.redis.store import RedisStore
from holdfast.model.jobs import (
    ACK,
    DEAD,
    RETRY,
    Beat,
    FencedError,
    Lease,
    Settle,
    StoreRefusedError,
)
from holdfast.wire import sidekiq
from jobs.redis_server import needs_redis
from node import SLOWNESS, wait_for

if TYPE_CHECKING:
    from jobs.redis_server import Server

pytestmark = needs_redis
OWNER = "vm:29758:333fd61d7490"


def job(number: int, queue: str = "default", **hf: Any) -> bytes:
    """Return a job as `enqueue` makes it."""
    made = sidekiq.new(
        "Noop", [number], jid=f"{number:024x}", queue=queue, now_s=time.time(), hf=hf or None
    )
    return sidekiq.dumps(made)


def test_a_pushed_job_lies_where_sidekiq_looks_for_it(
    redis_store: RedisStore, redis_server: Server
) -> None:
    redis_store.push([job(1), job(2, "low")])

    assert set(redis_server.do("SMEMBERS", "queues")) == {b"default", b"low"}
    lying = json.loads(redis_server.do("LRANGE", "queue:default", 0, -1)[0])
    assert lying["args"] == [1]
    assert lying["enqueued_at"] == pytest.approx(time.time(), abs=60)


def test_numbers_that_lua_cannot_hold_cross_it_unharmed(redis_store: RedisStore) -> None:
    """cjson has doubles only: a job that it encoded again would come out with another invoice number."""
    big = b'{"class":"N","args":[12345678901234567890, 1.10, 1e400, []],"jid":"a1","queue":"q","retry":true,"created_at":1.5, "hf":{"unique":"u","batch":"b","limit":"l","limit_max":1}}'
    redis_store.open_batch("b", b"")
    redis_store.register(OWNER, 15)
    redis_store.push([big], [time.time() + 0.001])
    redis_store.push([job(2, "q", limit="l", limit_max=1)])

    while redis_store.move_due(10)[0] == 0:
        assert redis_store.counts().scheduled == 1
    first, _ = redis_store.claim(OWNER, ["q"], 10, 1)
    redis_store.claim(OWNER, ["q"], 0, 2, (), [Settle(1, ACK)])
    second, _ = redis_store.claim(OWNER, ["q"], 10, 2)

    raws = {lease.raw for lease in first + second}
    assert any(raw.startswith(big[:-1]) and b',"enqueued_at":' in raw for raw in raws), raws


def test_what_follows_a_job_is_pushed_as_the_text_that_it_was(
    redis_store: RedisStore,
) -> None:
    follower = '{"class":"N","args":[12345678901234567890,{"é":"\\u0000 \\" \\\\"}],"jid":"b2","queue":"next","created_at":1795310493123}'
    redis_store.register(OWNER, 15)
    redis_store.push([job(1, then=[follower])])
    redis_store.claim(OWNER, ["default"], 1, 1)

    redis_store.claim(OWNER, [], 0, 2, (), [Settle(1, ACK)])

    (entry,) = redis_store.page("queue:next")
    assert entry.raw.endswith(follower[1:].encode())
    # Milliseconds, as its own created_at.
    assert isinstance(sidekiq.loads(entry.raw)["enqueued_at"], int)


def test_retries_the_dead_and_the_figures_are_sidekiqs(
    redis_store: RedisStore, redis_server: Server
) -> None:
    redis_store.register(OWNER, 15)
    redis_store.push([job(1), job(2), job(3)])
    leases, _ = redis_store.claim(OWNER, ["default"], 3, 1)
    failed = sidekiq.dumps(sidekiq.fail(sidekiq.loads(leases[1].raw), "E", "m", None, 5.0))

    redis_store.claim(
        OWNER, [], 0, 4, [1], [Settle(2, RETRY, failed, 2e9), Settle(3, DEAD, b"", 1e9)]
    )

    assert redis_server.do("ZRANGE", "retry", 0, -1, "WITHSCORES") == [failed, b"2000000000"]
    # Longer than 180 days ago: Sidekiq forgets it, too.
    assert redis_server.do("ZCARD", "dead") == 0
    today = time.strftime("%Y-%m-%d", time.gmtime())
    assert redis_server.do("GET", "stat:processed") == b"3"
    assert redis_server.do("GET", f"stat:failed:{today}") == b"2"
    assert redis_server.do("TTL", f"stat:failed:{today}") > 4 * 365 * 86400


def test_a_living_owner_is_shown_as_a_process_of_sidekiqs(
    redis_store: RedisStore, redis_server: Server
) -> None:
    redis_store.register(OWNER, 15)
    redis_store.push([job(1), job(2)])
    leases, _ = redis_store.claim(OWNER, ["default"], 2, 1)
    redis_server.do("LPUSH", f"{OWNER}-signals", "TSTP")

    said = redis_store.renew(
        [Beat(OWNER, {"hostname": "vm", "queues": ["default"]}, 1, False, 30452, [(2, 1795310516.7, 77)])], 15,
    )  # fmt: skip

    assert said == ([], {OWNER: ["TSTP"]})
    assert redis_server.do("SMEMBERS", "processes") == [OWNER.encode()]
    assert redis_server.do("HMGET", OWNER, "busy", "quiet", "rss") == [b"1", b"false", b"30452"]
    for name in ("work", "workers"):
        field, text = redis_server.do("HGETALL", f"{OWNER}:{name}")
        assert json.loads(text) == {
            "queue": "default", "payload": leases[1].raw.decode(), "run_at": 1795310516,
        }  # fmt: skip
        assert field == b"4d-2"
        assert 0 < redis_server.do("TTL", f"{OWNER}:{name}") <= 60
    (shown,) = redis_store.owners()
    assert shown["running"] == [{"token": 2, "raw": leases[1].raw, "run_at": 1795310516}]
    # A signal is delivered once, and what ended is not shown any more.
    assert redis_store.renew([Beat(OWNER, {}, 0, True, 1, [])], 15) == ([], {})
    assert redis_server.do("EXISTS", f"{OWNER}:work") == 0


def test_a_dead_owner_leaves_nothing_behind(redis_store: RedisStore, redis_server: Server) -> None:
    redis_store.register(OWNER, 15)
    redis_store.push([job(1, limit="l", limit_max=1)])
    redis_store.claim(OWNER, ["default"], 2, 1)
    redis_store.renew([Beat(OWNER, {}, 0, False, 1, [(1, 1.0, 1)])], 15)

    redis_store.recover(OWNER, [])

    assert [key for key in redis_server.do("KEYS", "*") if OWNER.encode() in key] == []
    assert redis_server.do("EXISTS", "hf:limit:l") == 0
    with pytest.raises(FencedError):
        redis_store.register(OWNER, 15)


def test_a_prefix_stands_before_every_key(redis_server: Server) -> None:
    redis_server.do("FLUSHALL")
    store = RedisStore(redis_server.url, "mine:")
    store.register(OWNER, 15)
    store.open_batch("b", job(9))
    store.push([job(i, unique=f"u{i}", batch="b", limit="l", limit_max=2, rate=[9, 60.0], result_s=9.0) for i in range(5)])  # fmt: skip
    store.push([job(7)], [time.time() + 99])
    store.claim(OWNER, ["default"], 5, 1)
    store.renew([Beat(OWNER, {}, 0, False, 1, [(1, 1.0, 1)])], 15)
    store.claim(OWNER, [], 0, 6, [], [Settle(1, ACK, b"", 0, b"1"), Settle(2, RETRY, b"", 1.0)])
    store.cancel("x")
    store.pause("low")
    store.signal(OWNER, "TERM")
    store.fire("cron", 60.0, job(8))
    store.close_batch("b")
    store.move_due(10)
    store.recover(OWNER, [])

    assert {key[:5] for key in redis_server.do("KEYS", "*")} == {b"mine:"}
    store.close()


def test_a_job_that_is_no_json_is_buried_instead_of_stopping_the_schedule(
    redis_store: RedisStore, redis_server: Server
) -> None:
    """Sidekiq's poller dies of it, and with it every later job."""
    redis_server.do("ZADD", "schedule", 1.0, b"{broken")
    redis_server.do("ZADD", "retry", 2.0, job(1))

    moved, _ = redis_store.move_due(10)

    assert moved == 2
    assert redis_server.do("ZRANGE", "dead", 0, -1) == [b"{broken"]
    assert redis_store.counts().queues["default"][0] == 1


def test_a_place_that_nobody_holds_any_more_is_given_to_who_waits(
    redis_store: RedisStore, redis_server: Server
) -> None:
    """A server that came back without its last second knows the place and not the lease, or the other way round."""
    redis_store.register(OWNER, 15)
    redis_store.push([job(i, limit="l", limit_max=1) for i in range(2)])
    assert len(redis_store.claim(OWNER, ["default"], 5, 1)[0]) == 1
    assert redis_store.counts().waiting == 1
    redis_server.do("DEL", f"hf:lease:{OWNER}")

    wait_for(lambda: redis_store.move_due(10)[0], "the sweep")

    assert len(redis_store.claim(OWNER, ["default"], 5, 2)[0]) == 1


def test_nothing_that_a_stranger_writes_stops_a_claim(
    redis_store: RedisStore, redis_server: Server
) -> None:
    """An error in the middle of a script would leave half of it done: every job behind it would be stuck, or lost."""
    strange = [
        {"rate": [None, {}], "limit": "l"}, {"rate": "10/s", "limit": "l"}, {"rate": [1.5, 1e300], "limit": "a"},
        {"rate": [1e300, 1e-300], "limit": "b"}, {"limit": 7}, {"limit": "m", "limit_max": "many"}, {"limit": "n", "limit_max": 1e300},
        {"unique": [], "unique_until": "start"}, {"unique": "u", "unique_s": 1e300}, {"result_s": 1e300}, {"result_s": "x", "then": 5},
        {"then": ["{", 7, "[]", "{}", None]}, {"batch": {}}, {"batch": "none"}, [], None, "hf", 5,
    ]  # fmt: skip
    for i, hf in enumerate(strange):
        raw = json.dumps({"class": "N", "args": [], "jid": f"{i:024x}", "queue": "default", "created_at": None, "hf": hf})  # fmt: skip
        redis_server.do("LPUSH", "queue:default", raw)
    for raw in ("", "hf", '"hf"', '{"hf":', '["hf"]', '{"hf":{"limit":"l"},"jid":7}', '{"jid":"x","hf":{"unique":"y"}} '):  # fmt: skip
        redis_server.do("LPUSH", "queue:default", raw)
    redis_store.register(OWNER, 60)
    redis_store.cancel("x")

    leases, _ = redis_store.claim(OWNER, ["default"], 100, 1)
    ends = [Settle(lease.token, ACK, b"", 0.0, b"1") for lease in leases]
    _, missing = redis_store.claim(OWNER, [], 0, 100, [], ends)

    assert len(leases) == len(strange) + 7 - 1
    assert missing == []
    assert redis_store.counts().busy == 0


def test_a_rate_is_kept_in_any_span_of_time(redis_store: RedisStore) -> None:
    """A site that allows ten requests a second counts any second, not those of our clock."""
    redis_store.register(OWNER, 60)
    redis_store.push([job(i, limit="l", rate=[5, 0.1]) for i in range(23)])
    starts: list[tuple[float, float]] = []
    order: list[Any] = []
    token = 1
    until_s = time.monotonic() + 20 * SLOWNESS
    while len(starts) < 23:
        assert time.monotonic() < until_s
        before_s = time.monotonic()
        leases, _ = redis_store.claim(OWNER, ["default"], 100, token)
        starts += [(before_s, time.monotonic())] * len(leases)
        order += [sidekiq.loads(lease.raw)["args"][0] for lease in leases]  # type: ignore[index]
        token += len(leases)
        _, next_s = redis_store.move_due(100)
        time.sleep(min(next_s, 0.05))

    # Each start was somewhere between its two times.
    assert all(starts[i + 5][1] - starts[i][0] >= 0.1 for i in range(18)), starts
    assert order == list(range(23))


def test_jobs_that_a_server_forgot_it_gave_away_are_taken_back(
    redis_store: RedisStore, redis_server: Server
) -> None:
    """With appendfsync everysec a killed server comes back as it was a second ago: the jobs in hand lie in its queues again."""
    redis_store.register(OWNER, 15)
    redis_store.push([job(i) for i in range(1, 5)])
    late = job(5)
    leases, _ = redis_store.claim(OWNER, ["default"], 4, 1)
    # The second before: 1 and 2 in the queue, 3 is gone, 4 still held; 5 was in the schedule, other bytes than what was claimed.
    redis_server.do("HDEL", f"hf:lease:{OWNER}", 1, 2, 3)
    for lease in leases[:2]:
        redis_server.do("RPUSH", "queue:default", lease.raw)
    redis_server.do("ZADD", "schedule", 1.0, late)
    leases.append(Lease(5, "default", sidekiq.stamp(late, 7.0)))

    lost = redis_store.readopt(OWNER, leases)

    assert lost == [3]
    assert [lease.token for lease in redis_store.held(OWNER)] == [1, 2, 4, 5]
    counts = redis_store.counts()
    assert (counts.queues["default"][0], counts.scheduled) == (0, 0)


def test_looking_for_what_is_gone_holds_nobody_up(redis_store: RedisStore) -> None:
    """After each hiccup a worker asks for thousands that it settled lately, whatever waits in the queue."""
    redis_store.register(OWNER, 15)
    for start in range(0, 30_000, 5000):
        redis_store.push([job(start + i) for i in range(5000)])
    leases, _ = redis_store.claim(OWNER, ["default"], 1000, 1)
    redis_store.claim(OWNER, [], 0, 1001, [lease.token for lease in leases])
    started_s = time.monotonic()

    lost = redis_store.readopt(OWNER, leases)

    assert lost == list(range(1, 1001))
    assert time.monotonic() - started_s < 1 * SLOWNESS


def test_scripts_that_a_server_does_not_know_any_more_are_sent_again(
    redis_store: RedisStore, redis_server: Server
) -> None:
    redis_store.register(OWNER, 15)
    redis_server.do("SCRIPT", "FLUSH")
    redis_store.push([job(1)])

    leases, _ = redis_store.claim(OWNER, ["default"], 1, 1)

    assert len(leases) == 1


def test_a_wrong_kind_of_key_is_said_and_not_tried_for_ever(
    redis_store: RedisStore, redis_server: Server
) -> None:
    redis_server.do("SET", "queue:default", "somebody else's")

    with pytest.raises(StoreRefusedError, match="WRONGTYPE"):
        redis_store.push([job(1)])


@pytest.mark.parametrize("is_deaf", [False, True], ids=["told", "asking"])
def test_who_waits_hears_of_a_push_to_any_of_its_queues(
    redis_store: RedisStore, redis_server: Server, is_deaf: bool
) -> None:
    """BRPOP would hear, too, but takes the job with it to its grave. And where nobody tells, asking must be quick enough."""
    redis_store._bell._is_deaf = is_deaf
    pushing = RedisStore(redis_server.url)
    delays = []
    for i in range(20):
        pushed_s: list[float] = []

        def push(number: int, when: list[float]) -> None:
            time.sleep(0.005)
            pushing.push([job(number, "bc"[number % 2])])
            when.append(time.monotonic())

        thread = threading.Thread(target=push, args=(i, pushed_s))
        thread.start()
        redis_store.wait(["a", "b", "c"], 10)
        woke_s = time.monotonic()
        thread.join()
        delays.append(woke_s - pushed_s[0])
        assert redis_store.wipe("bc"[i % 2]) == 1
    pushing.close()

    assert sorted(delays)[len(delays) // 2] < 0.02 * SLOWNESS


def test_waiting_ends_by_a_descriptor_or_by_the_time(redis_store: RedisStore) -> None:
    read, write = os.pipe()
    started_s = time.monotonic()
    redis_store.wait(["a"], 0.05)
    waited_s = time.monotonic() - started_s
    os.write(write, b"x")

    redis_store.wait(["a"], 60, read)

    assert 0.05 <= waited_s < 60
    assert select.select([read], [], [], 0)[0]
    os.close(read)
    os.close(write)


def test_a_paused_queue_wakes_nobody(redis_store: RedisStore) -> None:
    """It would be looked at again and again: a whole core for nothing."""
    redis_store.pause("a")
    redis_store.push([job(1, "a")])
    started_s = time.monotonic()

    redis_store.wait(["a"], 0.05)

    assert time.monotonic() - started_s >= 0.05


def test_a_push_between_asking_and_sleeping_is_not_slept_through(
    redis_store: RedisStore, redis_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message may come in one piece with the answers, and then the socket stays silent."""
    pushing = RedisStore(redis_server.url)
    arm = Bell._arm

    def arm_and_push(bell: Bell, connection: Any, queues: Any) -> bool:
        has_more = connection.has_more

        class Late:
            """The connection, with a push at the worst moment."""

            def __getattr__(self, name: str) -> Any:
                return getattr(connection, name)

            def has_more(self) -> bool:
                pushing.push([job(1, "a")])
                select.select([connection.fd], [], [], 10)
                return bool(has_more())

        return arm(bell, Late(), queues)  # type: ignore[arg-type]

    monkeypatch.setattr(Bell, "_arm", arm_and_push)
    started_s = time.monotonic()

    redis_store.wait(["a"], 30)

    assert time.monotonic() - started_s < 10
    pushing.close()


def test_threads_share_a_store_without_mixing_answers(redis_store: RedisStore) -> None:
    redis_store.push([job(i) for i in range(2000)])
    seen: list[int] = []
    wrong: list[object] = []

    def work(name: str) -> None:
        redis_store.register(name, 15)
        token = 1
        while True:
            leases, missing = redis_store.claim(name, ["default"], 7, token)
            if not leases:
                return
            token += len(leases)
            wrong.extend(missing)
            seen.extend(sidekiq.loads(lease.raw)["args"][0] for lease in leases)  # type: ignore[index]

    threads = [threading.Thread(target=work, args=(f"vm:1:{i}",)) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(seen) == list(range(2000))
    assert wrong == []


def test_a_child_after_a_fork_has_connections_of_its_own(redis_store: RedisStore) -> None:
    """Two processes on one connection read each other's answers."""
    redis_store.push([job(1)])
    child = os.fork()
    if child == 0:
        status = 1
        try:
            for i in range(200):
                redis_store.push([job(1000 + i, "child")])
                assert redis_store.counts().queues["default"][0] == 1
            status = 0
        finally:
            os._exit(status)
    for _ in range(200):
        assert len(redis_store.page("queue:default")) == 1
    _, status = os.waitpid(child, 0)

    assert status == 0
    assert redis_store.counts().queues["child"][0] == 200


def test_a_job_is_found_among_many_and_not_by_a_mention(redis_store: RedisStore) -> None:
    many = [job(i) for i in range(3000)]
    mention = sidekiq.dumps(sidekiq.new("N", [f"{7:024x}"], jid="ff", queue="a", now_s=1.0))
    redis_store.push([mention, *many])

    found = redis_store.find(f"{7:024x}")

    assert found is not None
    assert found.where == "queue:default"
    assert sidekiq.loads(found.raw)["args"] == [7]
    assert redis_store.find("0" * 24 + "1") is None


def test_settings_that_lose_jobs_are_named(redis_store: RedisStore, redis_server: Server) -> None:
    redis_server.do("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
    try:
        wrong = redis_store.check()
    finally:
        redis_server.do("CONFIG", "SET", "maxmemory-policy", "noeviction")

    assert [line.split(" ")[0] for line in wrong] == ["maxmemory-policy", "appendonly"]


def test_a_million_jobs_that_wait_cost_nobody_time(
    redis_store: RedisStore, redis_server: Server
) -> None:
    """50,000 stand for them here: whatever grows with the queue would already show."""

    def cost_s() -> float:
        best = 1e9
        for i in range(30):
            started_s = time.perf_counter()
            redis_store.push([job(i)])
            redis_store.counts()
            leases, _ = redis_store.claim(OWNER, ["default"], 1, 10**6 + i, [10**6 + i - 1])
            best = min(best, time.perf_counter() - started_s)
            assert leases
        return best

    redis_store.register(OWNER, 15)
    redis_store.push([job(i) for i in range(100)])
    few_s = cost_s()
    for start in range(0, 50_000, 5000):
        redis_store.push([job(start + i) for i in range(5000)])

    assert cost_s() < few_s * 1.5 + 0.0005 * SLOWNESS
    with pytest.raises(ReplyError):
        redis_server.do("NONSENSE")
