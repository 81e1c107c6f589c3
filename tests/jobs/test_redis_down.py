"""A server that goes away, fills up, fails over or answers by half: an enqueue is stored or raises, and nothing that a server confirmed is lost."""

from __future__ import annotations

import contextlib
import random
import shutil
import socket
import subprocess
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from holdfast.jobs.redis.store import RedisStore
from holdfast.model.jobs import (
    ACK,
    BACK,
    Beat,
    FencedError,
    Settle,
    StoreDownError,
    StoreRefusedError,
)
from holdfast.wire import sidekiq
from jobs.hands import Hands, everywhere, jids
from jobs.hands import job as make_job
from jobs.redis_server import Cable, Cluster, Sentinels, Server, free_port, needs_redis
from node import SLOWNESS, wait_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from holdfast.model.jobs import Lease

pytestmark = [needs_redis, pytest.mark.faults]
OWNER = "vm:29758:333fd61d7490"


def job(number: int, queue: str = "default", **hf: Any) -> bytes:
    """Return a job as `enqueue` makes it."""
    made = sidekiq.new(
        "Noop", [number], jid=f"{number:024x}", queue=queue, now_s=time.time(), hf=hf or None
    )
    return sidekiq.dumps(made)


@pytest.fixture
def mortal(quick_dir: Path) -> Iterator[Server]:
    """A durable server that may be killed. On a disk that is slow to sync it would hold back writes that it has confirmed."""
    server = Server(quick_dir, "--appendfsync", "everysec", is_durable=True)
    yield server
    server.kill()


@pytest.fixture
def cable(redis_server: Server) -> Iterator[Cable]:
    """A cable to the server of all."""
    redis_server.do("FLUSHALL")
    laid = Cable(redis_server.port)
    yield laid
    laid.end()


def until_it_works(what: Callable[[], Any], within_s: float = 15.0) -> Any:
    """Do something until the store is there again."""
    until_s = time.monotonic() + within_s * SLOWNESS
    while True:
        try:
            return what()
        except StoreDownError:
            assert time.monotonic() < until_s, "the store did not come back"
            time.sleep(0.01)


def test_a_killed_server_that_comes_back_has_every_job_in_its_place(mortal: Server) -> None:
    """Working lists are data: nothing moves when the server is started again."""
    store = RedisStore(mortal.url)
    store.register(OWNER, 60)
    store.wait(["default"], 0)
    store.push([job(i) for i in range(10)])
    leases, _ = store.claim(OWNER, ["default"], 4, 1)
    store.claim(OWNER, [], 0, 5, [1])

    mortal.kill()
    with pytest.raises(StoreDownError, match=r"127\.0\.0\.1"):
        store.push([job(99)])
    mortal.start()

    held = until_it_works(lambda: store.held(OWNER))
    assert [lease.raw for lease in held] == [lease.raw for lease in leases[1:]]
    # Nobody is told of a trouble that is over.
    store.wait(["default"], 10)
    # A lease ends once, whatever the server went through.
    more, missing = store.claim(OWNER, ["default"], 10, 5, [1, 2])
    assert (len(more), missing) == (6, [1])
    store.close()


def test_pushes_that_returned_survive_a_server_that_is_killed_again_and_again(
    mortal: Server,
) -> None:
    """kill -9 of the server is not a power cut: what it wrote to its file is there. A push that raised may be there, too; not twice."""
    store = RedisStore(mortal.url)
    confirmed: list[int] = []
    tried: list[int] = []
    is_over = threading.Event()

    def push() -> None:
        number = 0
        while not is_over.is_set():
            number += 1
            tried.append(number)
            try:
                store.push([job(number, batch="b")] if number % 2 else [job(number)])
            except StoreDownError:
                time.sleep(0.002)
            else:
                confirmed.append(number)

    store.open_batch("b", b"")
    pushing = threading.Thread(target=push)
    pushing.start()
    for round_ in range(1, 5):
        enough = len(confirmed) + 100

        def go_on(enough: int = enough) -> bool:
            return len(confirmed) > enough

        wait_for(go_on, f"pushes in round {round_}")
        mortal.kill()
        mortal.start()
    is_over.set()
    pushing.join()

    def read_all() -> list[int]:
        there: list[int] = []
        while page := store.page("queue:default", len(there), 1000):
            there += [sidekiq.loads(entry.raw)["args"][0] for entry in page]  # type: ignore[index]
        return there

    there = until_it_works(read_all)
    assert set(confirmed) - set(there) == set()
    assert len(there) == len(set(there))
    assert set(there) <= set(tried)
    batch = store.batch("b")
    assert batch is not None
    assert batch["total"] == sum(number % 2 for number in there)
    store.close()


def test_whatever_a_killed_server_was_doing_each_job_is_in_one_place(mortal: Server) -> None:
    """A script that was cut off in the middle must not have moved half of a job. And what was acked is not seen again."""
    store = RedisStore(mortal.url)
    chance = random.Random(5)
    confirmed: set[str] = set()
    acked: set[str] = set()
    perhaps: set[str] = set()
    is_over = threading.Event()

    def work() -> None:
        token, number, hands = 1, 0, Hands(store)
        held: list[Lease] = []
        while not is_over.is_set():
            number += 1
            raws = [make_job(limit="l", limit_max=3) if i % 2 else make_job() for i in range(4)]
            ends = [Settle(one.token, ACK) for one in held[::2]]
            ends += [Settle(one.token, BACK) for one in held[1::2]]
            ending = set(jids(held[::2]))
            perhaps.update(ending)
            try:
                store.push(raws, [time.time() + 0.01] * 4 if number % 3 == 0 else None)
                confirmed.update(jids(raws))
                leases, missing = store.claim(hands.owner, ["default"], chance.randrange(9), token, [], ends)  # fmt: skip
                assert missing == []
                assert not acked & set(jids(leases))
                acked.update(ending)
                held = leases
                store.move_due(10)
            except StoreDownError:
                held = until_it_works(lambda: store.held(hands.owner))
                perhaps.difference_update(jids(held))
            token += 100

    failed: list[BaseException] = []

    def work_and_tell() -> None:
        try:
            work()
        except BaseException as error:
            failed.append(error)
            raise

    working = threading.Thread(target=work_and_tell)
    working.start()
    for round_ in range(1, 9):
        enough = len(confirmed) + 60

        def go_on(enough: int = enough) -> bool:
            assert not failed
            return len(confirmed) > enough

        wait_for(go_on, f"work in round {round_}")
        mortal.kill()
        mortal.start()
    is_over.set()
    working.join()

    places = until_it_works(lambda: everywhere(store))
    assert failed == []
    assert {jid: where for jid, where in places.items() if len(where) > 1} == {}
    assert confirmed - set(places) - acked - perhaps == set()
    assert acked & set(places) == set()
    store.close()


def test_a_claim_whose_answer_was_cut_is_found_again(cable: Cable, redis_server: Server) -> None:
    """The server has given the jobs away and nobody has heard: `held` says so."""
    direct = RedisStore(redis_server.url)
    direct.register(OWNER, 60)
    direct.push([job(i) for i in range(5)])
    store = RedisStore(f"redis://127.0.0.1:{cable.port}")
    assert store.claim(OWNER, [], 0, 1) == ([], [])
    cable.lets_pass = 40

    with pytest.raises(StoreDownError, match="ended the connection in its answer"):
        store.claim(OWNER, ["default"], 5, 1)
    cable.lets_pass = -1

    assert [lease.token for lease in store.held(OWNER)] == [1, 2, 3, 4, 5]
    assert store.recover(OWNER, []) == 5
    assert [sidekiq.loads(e.raw)["args"] for e in store.page("queue:default")] == [[i] for i in range(5)]  # fmt: skip
    store.close()
    direct.close()


def test_a_push_is_never_sent_twice_by_itself(cable: Cable, redis_server: Server) -> None:
    """Its answer was lost: only who pushed can know whether a second one would do harm."""
    store = RedisStore(f"redis://127.0.0.1:{cable.port}")
    store.push([job(0)])
    cable.lets_pass = 0

    with pytest.raises(StoreDownError):
        store.push([job(1)])
    cable.lets_pass = -1

    assert redis_server.do("LLEN", "queue:default") == 2
    # Reading does no harm: it is simply asked again.
    cable.cut()
    assert store.counts().queues["default"][0] == 2
    store.close()


def test_a_silent_server_holds_nobody_longer_than_the_timeout(cable: Cable) -> None:
    """A network that swallows packets ends no connection."""
    store = RedisStore(f"redis://127.0.0.1:{cable.port}/0?timeout=0.2")
    store.register(OWNER, 60)
    cable.is_silent = True
    started_s = time.monotonic()

    with pytest.raises(StoreDownError, match=r"not answered for 0\.2 s"):
        store.claim(OWNER, ["default"], 1, 1)
    with pytest.raises(StoreDownError):
        store.wait(["default"], 10)

    assert time.monotonic() - started_s < 5 * SLOWNESS
    cable.is_silent = False
    assert store.held(OWNER) == []
    assert store.claim(OWNER, ["default"], 1, 1) == ([], [])
    store.close()


def test_after_a_cut_an_owner_has_to_compare_before_it_claims(mortal: Server) -> None:
    """The server may have forgotten what it gave: taken again without looking, a job would run twice. Others' calls may have met the cut first."""
    store = RedisStore(mortal.url)
    store.register(OWNER, 60)
    store.push([job(1)])
    mortal.kill()
    with pytest.raises(StoreDownError):
        store.counts()
    mortal.start()
    until_it_works(store.counts)

    with pytest.raises(StoreDownError, match="cut since we agreed"):
        store.claim(OWNER, ["default"], 1, 1)

    assert store.held(OWNER) == []
    leases, _ = store.claim(OWNER, ["default"], 1, 1)
    assert len(leases) == 1
    store.close()


def test_who_waits_is_told_that_the_server_is_gone(cable: Cable) -> None:
    store = RedisStore(f"redis://127.0.0.1:{cable.port}")
    store.wait(["default"], 0)
    told: list[BaseException] = []

    def wait() -> None:
        # It comes back, for nothing or with the error; what comes after tells.
        try:
            while True:
                store.wait(["default"], 30)
        except StoreDownError as error:
            told.append(error)

    waiting = threading.Thread(target=wait)
    waiting.start()
    cable.end()
    waiting.join(10 * SLOWNESS)

    assert len(told) == 1
    store.close()


def test_a_full_server_takes_no_push_and_lets_workers_drain_it(tmp_path: Path) -> None:
    """Else it could never be emptied; and leases that cannot be renewed would end all workers."""
    server = Server(tmp_path)
    store = RedisStore(server.url)
    store.register(OWNER, 60)
    store.push([job(i, limit="l", limit_max=100) for i in range(50)])
    server.do("CONFIG", "SET", "maxmemory", 1)
    try:
        with pytest.raises(StoreDownError, match="memory is full"):
            store.push([job(100)])
        with pytest.raises(StoreDownError, match="OOM"):
            store.push([job(101, unique="u")])
        with pytest.raises(StoreDownError, match="OOM"):
            store.push([job(102), job(103, "other")])
        leases, _ = store.claim(OWNER, ["default"], 50, 1)
        assert len(leases) == 50
        store.register("vm:1:new", 60)
        _, missing = store.claim(OWNER, [], 0, 51, [], [Settle(i, ACK) for i in range(1, 51)])
        assert missing == []
        assert store.renew([Beat(OWNER, {"pid": 1}, 0, False, 1, [])], 600) == ([], {})
        assert server.do("ZRANGE", "hf:owners", 0, 0) == [b"vm:1:new"]
    finally:
        server.do("CONFIG", "SET", "maxmemory", 0)
        counts = store.counts()
        assert counts.queues["default"][0] == counts.busy == 0
        store.close()
        server.kill()


def test_a_wrong_password_is_said_at_once(tmp_path: Path) -> None:
    server = Server(tmp_path, "--requirepass", "right")
    try:
        for url in (server.url, server.url.replace("//", "//:wrong@")):
            with contextlib.closing(RedisStore(url)) as store:
                with pytest.raises(StoreRefusedError, match="user or the password") as refused:
                    store.push([job(1)])
                assert "wrong@" not in str(refused.value)
        with contextlib.closing(RedisStore(server.url.replace("//", "//:right@"))) as store:
            store.push([job(1)])
            store.wait(["default"], 10)
    finally:
        server.kill()


def test_a_replica_is_no_place_for_jobs(tmp_path: Path, redis_server: Server) -> None:
    server = Server(tmp_path, "--replicaof", "127.0.0.1", str(redis_server.port))
    try:
        store = RedisStore(server.url)
        with pytest.raises(StoreDownError, match="replica"):
            store.push([job(1)])
        assert any("replica" in line for line in store.check())
        store.close()
    finally:
        server.kill()


def test_a_failover_loses_nothing_that_was_replicated(tmp_path: Path) -> None:
    """The Sentinel names another master; who holds jobs goes on holding them."""
    town = Sentinels(tmp_path)
    store = RedisStore(town.url)
    try:
        store.register(OWNER, 60)
        store.push([job(i) for i in range(10)])
        store.claim(OWNER, ["default"], 3, 1)
        wait_for(lambda: len(town.replica.do("HKEYS", f"hf:lease:{OWNER}")) == 3, "the replica has it")  # fmt: skip

        town.master.kill()

        until_it_works(lambda: store.held(OWNER))
        leases, missing = until_it_works(lambda: store.claim(OWNER, ["default"], 10, 4, [1, 2]))
        assert (len(leases), missing) == (7, [])
        assert town.replica.do("HLEN", f"hf:lease:{OWNER}") == 8
        store.wait(["default"], 0.01)
    finally:
        store.close()
        town.end()


def test_a_master_that_became_a_replica_is_left(tmp_path: Path, redis_server: Server) -> None:
    """A planned failover kills no connection: the old master just does not take writes any more."""
    redis_server.do("FLUSHALL")
    old = Server(tmp_path)
    sentinel = AnySentinel(old.port)
    try:
        with contextlib.closing(RedisStore(f"redis+sentinel://127.0.0.1:{sentinel.port}/holdfast/0")) as store:  # fmt: skip
            store.register(OWNER, 60)
            store.push([job(1)])
            old.do("REPLICAOF", "127.0.0.1", redis_server.port)

            # It still says so: nobody is asked in vain for ever.
            with pytest.raises(StoreDownError, match="not yet the master"):
                store.push([job(2), job(2, "other")])
            sentinel.names = redis_server.port
            store.push([job(3)])

        assert redis_server.do("LLEN", "queue:default") == 1
    finally:
        sentinel.end()
        old.kill()


class AnySentinel:
    """Answers every question with one address; the real one takes ten seconds to change its mind without a death."""

    def __init__(self, names: int) -> None:
        self.names = names
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        self._thread = threading.Thread(target=self._answer, daemon=True)
        self._thread.start()

    def _answer(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                asked, _ = self._listening.accept()
                with asked:
                    asked.recv(4096)
                    port = str(self.names)
                    asked.sendall(f"*2\r\n$9\r\n127.0.0.1\r\n${len(port)}\r\n{port}\r\n".encode())

    def end(self) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self._thread.join()


def test_a_cluster_keeps_the_queue_on_one_node_and_is_found_from_any(tmp_path: Path) -> None:
    town = Cluster(tmp_path)
    stores = [RedisStore(f"redis+cluster://127.0.0.1:{node.port}") for node in town.nodes]
    try:
        stores[0].register(OWNER, 60)
        for i, store in enumerate(stores):
            store.push([job(10 * i), job(10 * i + 1, "other"), job(10 * i + 2, unique=f"u{i}")])
            store.push([job(10 * i + 3), job(10 * i + 4, "other")])
        leases, _ = stores[1].claim(OWNER, ["default", "other"], 20, 1)
        _, missing = stores[2].claim(OWNER, [], 0, 16, [1, 2, 3], [Settle(4, ACK)])
        stores[2].wait(["default"], 0.01)

        assert (len(leases), missing) == (15, [])
        assert sum(node.do("DBSIZE") > 0 for node in town.nodes) == 1
        home = next(node for node in town.nodes if node.do("DBSIZE"))
        away = next(node for node in town.nodes if not node.do("DBSIZE"))
        _move_slot(town, home, away)
        # Half-way and afterwards: what is asked for goes through, or is told to come again.
        until_it_works(lambda: stores[0].push([job(50)]))
        assert [len(store.held(OWNER)) for store in stores] == [11, 11, 11]
        assert home.do("DBSIZE") == 0
    finally:
        for store in stores:
            store.close()
        town.end()


def _move_slot(town: Cluster, home: Server, away: Server) -> None:
    slot = home.do("CLUSTER", "KEYSLOT", "{holdfast}:queues")
    ids = {node: node.do("CLUSTER", "MYID").decode() for node in town.nodes}
    away.do("CLUSTER", "SETSLOT", slot, "IMPORTING", ids[home])
    home.do("CLUSTER", "SETSLOT", slot, "MIGRATING", ids[away])
    keys = home.do("CLUSTER", "GETKEYSINSLOT", slot, 1000)
    home.do("MIGRATE", "127.0.0.1", away.port, "", 0, 5000, "KEYS", *keys)
    store = RedisStore("redis+cluster://127.0.0.1:" + str(home.port))
    store.push([job(40)])
    store.close()
    for node in (away, home):
        node.do("CLUSTER", "SETSLOT", slot, "NODE", ids[away])


def test_an_owner_that_was_given_up_is_told_so(redis_server: Server) -> None:
    """The lease of a machine that was cut off: when it is back, its jobs are others'."""
    redis_server.do("FLUSHALL")
    store = RedisStore(redis_server.url)
    store.register(OWNER, 0.05)
    store.push([job(1)])
    store.claim(OWNER, ["default"], 1, 1)

    expired = wait_for(store.expired, "the lease is over")
    store.recover(OWNER, [])

    assert expired == [OWNER]
    with pytest.raises(FencedError):
        store.claim(OWNER, ["default"], 1, 2, [1])
    assert store.counts().queues["default"][0] == 1
    store.close()


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl")
def test_the_line_may_be_encrypted(tmp_path: Path) -> None:
    key, cert, port = tmp_path / "key.pem", tmp_path / "cert.pem", free_port()
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-keyout", key, "-out", cert, "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"],
        check=True, capture_output=True,
    )  # fmt: skip
    server = Server(
        tmp_path, "--tls-port", str(port), "--tls-cert-file", str(cert), "--tls-key-file", str(key),
        "--tls-ca-cert-file", str(cert), "--tls-auth-clients", "no",
    )  # fmt: skip
    try:
        with contextlib.closing(RedisStore(f"rediss://127.0.0.1:{port}/0?ca={cert}")) as store:
            store.register(OWNER, 60)
            store.push([job(i, padding="x" * 2000) for i in range(100)])
            leases, _ = store.claim(OWNER, ["default"], 100, 1)
            store.wait(["default"], 0.05)
            pushing = threading.Timer(0.1, store.push, [[job(101)]])
            pushing.start()
            store.wait(["default"], 30)
            pushing.join()
            assert len(leases) == 100
            assert store.counts().queues["default"][0] == 1
        with (
            contextlib.closing(RedisStore(f"rediss://127.0.0.1:{port}/0")) as stranger,
            pytest.raises(StoreRefusedError, match="certificate"),
        ):
            stranger.push([job(1)])
    finally:
        server.kill()
