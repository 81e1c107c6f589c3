"""What is special about the queue in a file: it is torn, filled, deleted, shared and killed at, and keeps its word."""

from __future__ import annotations

import json
import os
import random
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import holdfast
from holdfast.jobs.opening import open_store
from holdfast.jobs.sqlite import schema, timing
from holdfast.jobs.sqlite.store import SqliteStore
from holdfast.model.jobs import (
    ACK,
    BACK,
    DEAD,
    DROP,
    RETRY,
    SUSPECT,
    FencedError,
    Settle,
    StoreDownError,
    StoreRefusedError,
)
from jobs.hands import Hands, everywhere, jid_of, jids, job
from node import SLOWNESS, wait_for

if TYPE_CHECKING:
    from collections.abc import Callable

SOURCE = Path(holdfast.__file__).parent.parent


@pytest.fixture
def path(quick_dir: Path) -> Path:
    """Where a file may be."""
    return quick_dir / "jobs.db"


def store_at(path: Path, options: str = "") -> SqliteStore:
    made = open_store(f"sqlite://{path}{options}")
    assert isinstance(made, SqliteStore)
    return made


def by_hand(path: Path, sql: str) -> list[Any]:
    """Run a statement as a stranger to the store would."""
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        return connection.execute(sql).fetchall()
    finally:
        connection.close()


# -- killed in the middle -----------------------------------------------------------------------------------------


def snapshot(store: SqliteStore) -> Any:
    """Return all that can be seen of a store, but for its times."""
    counts = store.counts()
    places = everywhere(store)
    return json.loads(json.dumps([
        places,
        {name: figures[0] for name, figures in counts.queues.items()},
        [counts.scheduled, counts.retry, counts.dead, counts.busy, counts.waiting, counts.processed, counts.failed],
        [store.batch("b1"), {f"{i:024x}": store.notes(f"{i:024x}") for i in range(20)}],
        [[(one.token, one.queue, jid_of(one.raw)) for one in store.held(owner)] for owner in ("elsewhere:1:a", "elsewhere:1:b")],
    ], sort_keys=True))  # fmt: skip


def steps(store: SqliteStore) -> list[Callable[[], object]]:
    """Return a story in which every kind of transaction occurs, each a step; the jids are 0, 1, 2 … in hex."""
    one, other = "elsewhere:1:a", "elsewhere:1:b"
    now_s = time.time()

    def named(i: int, **hf: Any) -> bytes:
        return job(jid=f"{i:024x}", **hf)

    follower = named(9, batch="b1").decode()
    return [
        lambda: store.register(one, 60),
        lambda: store.push([named(0)]),
        lambda: store.push([named(1)]),
        lambda: store.push([named(i) for i in (2, 3, 4)]),
        lambda: store.open_batch("b1", named(10)),
        lambda: store.push([named(5, batch="b1", unique="u", limit="l", limit_max=1, then_=[follower], result_s=3600),
                            named(6, limit="l", limit_max=1, batch="b1"), named(7)], [0.0, 0.0, now_s + 3600]),
        lambda: store.close_batch("b1"),
        lambda: store.claim(one, ["default"], 3, 1),
        lambda: store.claim(one, ["default"], 5, 4, [1, 2], [Settle(3, RETRY, at_s=now_s - 5)]),
        lambda: store.claim(one, ["default"], 5, 10, (), [Settle(6, ACK, result=b"42")]),
        lambda: store.note(f"{4:024x}", {"progress": "half", "checkpoint": "[1]"}, 3600),
        lambda: store.move_due(10),
        lambda: store.register(other, 60),
        lambda: store.claim(other, ["default"], 5, 1, (), ()),
        lambda: store.recover(one, [Settle(4, SUSPECT), Settle(10, DEAD, at_s=now_s)]),
        lambda: store.move(store.page("dead"), "queue:again"),
        lambda: store.cancel(f"{8:024x}"),
        lambda: store.push([named(8), named(11)]),
        lambda: store.claim(other, ["default", "again", "quarantine"], 10, 20, [1], ()),
        lambda: store.fire("nightly", 100.0, named(12, queue="cron")),
        lambda: store.remove(store.page("schedule")),
        lambda: store.wipe("cron"),
        lambda: store.recover(other, []),
    ]  # fmt: skip


def child_of(work: Callable[[int], None]) -> tuple[int, int]:
    """Fork a child that does ``work`` with the writing end of a pipe; return its pid and the reading end."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            os.close(reader)
            work(writer)
            status = 0
        finally:
            os._exit(status)
    os.close(writer)
    return pid, reader


def _wait(reader: int) -> None:
    assert os.read(reader, 1) == b"x"


def push_one(path: Path, _writer: int) -> None:
    """For a child: open the store and put one job in."""
    store_at(path).push([job()])


def told(reader: int) -> bytes:
    """Return all that a child wrote until its end."""
    with os.fdopen(reader, "rb") as file:
        return file.read()


def test_a_write_that_is_torn_at_any_byte_leaves_a_step_whole_or_undone(quick_dir: Path) -> None:
    """The kernel ends the process in the middle of its n-th write to the log, for every n and at several bytes within it.

    Whoever opens the file next sees each step entirely or not at all, all that were told to be done among them.
    """
    empty = quick_dir / "empty.db"
    store = store_at(empty)
    store.counts()
    store.close()

    whole = quick_dir / "whole.db"
    shutil.copy(empty, whole)
    store = store_at(whole)
    expected = [snapshot(store)]
    for step in steps(store):
        step()
        expected.append(snapshot(store))
    log_size = (quick_dir / "whole.db-wal").stat().st_size
    store.close()
    frames = (log_size - 32) // 4120
    assert frames > 60

    path, seen = quick_dir / "torn.db", set()
    # A frame is a head of 24 bytes and a page, two writes; the cut goes before, between and into them by turns.
    for limit in [32 + 4120 * frame + (0, 24, 1999)[frame % 3] for frame in range(frames)]:
        for old in quick_dir.glob("torn.db*"):
            old.unlink()
        shutil.copy(empty, path)

        def work(writer: int, limit: int = limit) -> None:
            mine = store_at(path)
            todo = steps(mine)
            mine.counts()
            # The write that crosses the limit is cut there, the next one ends the process (Python ignores the signal by default).
            signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
            for step in todo:
                step()
                os.write(writer, b".")

        pid, reader = child_of(work)
        done = len(told(reader))
        _, status = os.waitpid(pid, 0)
        # By the signal; or by an error, where SQLite noticed the short write itself.
        assert status != 0

        store = store_at(path)
        state = snapshot(store)
        store.close()
        assert state in (expected[done], expected[done + 1]), (
            f"log cut at {limit}, {done} steps done"
        )
        assert by_hand(path, "PRAGMA integrity_check") == [("ok",)]
        seen.add(done)

    assert len(seen) >= 20


def test_kill_9_at_any_instant_keeps_the_laws(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A child that pushes, takes and ends is killed 150 times at random instants.

    What it was told to be stored is stored or was acked; what it was told to be acked is never seen again; nothing is in two places;
    nothing is there that nobody pushed.
    """
    # So that many are killed while they move the log to the file.
    monkeypatch.setattr("holdfast.jobs.sqlite.file.CHECKPOINT_PAGES", 40)
    store = store_at(path)
    chance = random.Random(5)
    promised: set[str] = set()
    wanted: set[str] = set()
    acked: set[str] = set()
    acking: set[str] = set()
    claims = 0

    for round_ in range(150):

        def work(writer: int, round_: int = round_) -> None:
            mine, luck = store_at(path), random.Random(round_)
            kinds: list[dict[str, Any]] = [{}, {}, {"limit": "l", "limit_max": 3}]
            hands = Hands(mine, f"elsewhere:1:{round_}")
            os.write(writer, b"\n")
            done: list[Any] = []
            for i in range(100_000):
                if luck.random() < 0.5:
                    raws = [job(jid=f"{round_:08x}{i:08x}{k:08x}", **luck.choice(kinds)) for k in range(luck.choice([1, 1, 30]))]  # fmt: skip
                    names = " ".join(jids(raws))
                    os.write(writer, f"p {names}\n".encode())
                    mine.push(raws)
                    os.write(writer, f"P {names}\n".encode())
                else:
                    names = " ".join(jids(done))
                    os.write(writer, f"a {names}\n".encode())
                    rich, poor = done[: len(done) // 2], done[len(done) // 2 :]
                    got = hands.take(luck.choice([1, 10, 40]), done=[one.token for one in poor if b'"hf"' not in one.raw],
                                     settled=[Settle(one.token, ACK) for one in [*rich, *(o for o in poor if b'"hf"' in o.raw)]])  # fmt: skip
                    os.write(writer, f"A {names}\nC {' '.join(jids(got))}\n".encode())
                    done = got

        pid, reader = child_of(work)
        assert os.read(reader, 1) == b"\n"
        time.sleep(chance.random() * 0.015)
        os.kill(pid, signal.SIGKILL)
        lines = told(reader).decode().split("\n")
        os.waitpid(pid, 0)
        for line in lines[:-1]:
            what, _, rest = line.partition(" ")
            names = set(rest.split())
            if what == "C":
                assert not names & acked
                claims += len(names)
            {"p": wanted, "P": promised, "a": acking, "A": acked, "C": set()}[what].update(names)

        store.recover(f"elsewhere:1:{round_}", [])
        if round_ % 10 == 9:
            places = everywhere(store)
            assert [jid for jid, where in places.items() if len(where) != 1] == []
            assert not set(places) & acked
            assert promised - acking <= set(places) | acked
            assert set(places) <= wanted
            assert store.counts().busy == 0

    assert len(promised) > 500
    assert claims > 500
    assert by_hand(path, "PRAGMA integrity_check") == [("ok",)]
    heir = Hands(store)
    left: set[str] = set()
    while leases := heir.take(500):
        assert not set(jids(leases)) & (left | acked)
        left |= set(jids(leases))
        heir.take(0, settled=[Settle(one.token, ACK) for one in leases])
    assert promised - acking <= left | acked
    assert everywhere(store) == {}
    store.close()


def test_a_child_killed_while_it_makes_the_file_leaves_one_that_can_be_made(
    quick_dir: Path,
) -> None:
    """Half a schema would be found by everybody who comes later."""
    chance = random.Random(7)
    for round_ in range(25):
        path = quick_dir / f"{round_}.db"
        pid, reader = child_of(partial(push_one, path))
        time.sleep(chance.random() * 0.015)
        os.kill(pid, signal.SIGKILL)
        told(reader)
        os.waitpid(pid, 0)

        store = store_at(path)
        store.push([job()])
        assert store.counts().queues["default"][0] in (1, 2)
        store.close()


# -- one file, many processes -------------------------------------------------------------------------------------


def test_many_processes_that_make_the_file_at_once_make_one(quick_dir: Path) -> None:
    """A pre-forking server starts its workers, and nobody made the file before. (One in seven times, one took the half-made file for
    another program's.)
    """
    for round_ in range(8):
        path = quick_dir / f"{round_}.db"
        children = [child_of(partial(push_one, path)) for _ in range(12)]
        for pid, reader in children:
            told(reader)
            assert os.waitpid(pid, 0)[1] == 0

        assert store_at(path).counts().queues["default"][0] == 12


def test_many_processes_share_the_work_and_nobody_starves(path: Path) -> None:
    """Four take from one file as fast as they can: each job once, and each process gets its part."""
    total = 6000
    store = store_at(path)
    store.push([job() for _ in range(total)])
    store.close()
    gate, opener = os.pipe()

    def work(writer: int) -> None:
        hands = Hands(store_at(path))
        hands.owner = f"elsewhere:1:{os.getpid()}"
        hands.store.register(hands.owner, 60)
        done: list[int] = []
        os.close(opener)
        os.read(gate, 1)  # the first one would be through before the last one was forked
        while leases := hands.take(5, done=done):
            done = [one.token for one in leases]
            os.write(writer, (" ".join(jids(leases)) + "\n").encode())

    children = [child_of(work) for _ in range(4)]
    os.close(gate)
    os.close(opener)
    got = [told(reader).decode().split() for _, reader in children]

    assert [os.waitpid(pid, 0)[1] for pid, _ in children] == [0] * 4
    assert len({jid for part in got for jid in part}) == sum(map(len, got)) == total
    # How much each gets is the scheduler's; that nobody is kept out is ours.
    assert min(map(len, got)) > 0


def wakes(path: Path, options: str = "") -> list[float]:
    """Return how late (in s) a waiting process was for each of ten pushes of another one."""
    store = store_at(path, options)
    hands = Hands(store)

    def push(writer: int) -> None:
        other = store_at(path, options)
        other.counts()
        for _ in range(10):
            time.sleep(0.02)
            other.push([job()])
            os.write(writer, f"{time.monotonic()}\n".encode())

    pid, reader = child_of(push)
    woken: list[float] = []
    until = time.monotonic() + 20 * SLOWNESS
    while len(woken) < 10 and time.monotonic() < until:
        store.wait(["default"], 5)
        leases = hands.take(5)
        woken += [time.monotonic()] * len(leases)
        hands.ack(*leases)
    pushed = [float(line) for line in told(reader).split()]
    assert os.waitpid(pid, 0)[1] == 0
    return [w - p for w, p in zip(woken, pushed, strict=True)]


@pytest.mark.parametrize("options", ["", "?durable=power"])
def test_a_push_of_another_process_wakes_who_waits(path: Path, options: str) -> None:
    """The kernel rings; with an fsync between the sign and the commit, too."""
    assert sorted(wakes(path, options))[5] < 0.02 * SLOWNESS


def test_without_a_bell_the_file_is_looked_at_again_and_again(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    """The user's inotify instances are used up: 128 are allowed by default."""
    monkeypatch.setattr("holdfast.jobs.sqlite.store.hang", lambda _: None)

    assert sorted(wakes(path))[5] < 0.02 * SLOWNESS


def test_each_thread_that_waits_has_a_bell_of_its_own(path: Path) -> None:
    """One that shared it would read the other's sign away, and the other sleep through the push."""
    store = store_at(path)
    store.push([job(queue="other")])
    with ThreadPoolExecutor(3) as pool:
        begun = time.monotonic()
        waiting = [pool.submit(store.wait, ["default"], 30 * SLOWNESS) for _ in range(3)]
        wait_for(lambda: not store._bells, "all wait")
        store_at(path).push([job()])
        for one in waiting:
            one.result()

    assert time.monotonic() - begun < 15 * SLOWNESS
    assert len(store._bells) == 3
    store.close()


def test_waiting_costs_next_to_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hundred idle workers on a small box."""
    monkeypatch.setattr("holdfast.jobs.sqlite.bell.ECHO_S", 0.0)
    store = store_at(path)
    store.push([job(queue="other")])
    looks: list[int] = []
    version = store._bell.version

    def look() -> int:
        looks.append(1)
        return version()

    monkeypatch.setattr(store._bell, "version", look)

    store.wait(["default"], 0.6)

    assert len(looks) < 6


FORKS = """
import os, sys, threading, warnings
warnings.simplefilter("ignore")
sys.path[:0] = sys.argv[2:]
from holdfast.jobs.opening import open_store
from jobs.hands import job
store = open_store(sys.argv[1])
store.push([job()])
is_over = False
def keep_busy():
    while not is_over:
        store.push([job(), job()])
        store.counts()
threads = [threading.Thread(target=keep_busy) for _ in range(3)]
for thread in threads:
    thread.start()
bad = 0
for i in range(40):
    child = os.fork()
    if not child:
        status = 1
        try:
            assert all(file._step is None for file in (store._file, store._view, store._bell))
            store.push([job(queue="children")])
            status = 0
        finally:
            os._exit(status)
    bad += os.waitpid(child, 0)[1] != 0
is_over = True
for thread in threads:
    thread.join()
store.push([job()])
print(bad, store.counts().queues["children"][0])
"""


def test_a_fork_while_other_threads_write_leaves_both_sides_whole(path: Path) -> None:
    """SQLite must not cross a fork: its locks belong to the parent, and its mutexes may be held by a thread that the child lacks."""
    run = subprocess.run(
        [sys.executable, "-c", FORKS, f"sqlite://{path}", str(SOURCE), str(Path(__file__).parent.parent)],
        capture_output=True, text=True, timeout=60 * SLOWNESS, check=True,
    )  # fmt: skip

    assert run.stdout.split() == ["0", "40"]
    assert by_hand(path, "PRAGMA integrity_check") == [("ok",)]


def test_whoever_writes_for_too_long_is_named(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody has the file open in the sqlite3 shell, with BEGIN IMMEDIATE, and went to lunch."""
    monkeypatch.setattr("holdfast.jobs.sqlite.file.PATIENCE_S", 0.1)
    store = store_at(path)
    store.push([job()])
    shell = sqlite3.connect(path, isolation_level=None)
    shell.execute("BEGIN IMMEDIATE")

    with pytest.raises(
        StoreDownError, match=r"another process has been writing for more than 0\.1 s"
    ):
        store.push([job()])
    with pytest.raises(StoreDownError):
        Hands(store)
    assert store.counts().queues["default"][0] == 1
    threading.Timer(0.05, lambda: None).start()
    shell.execute("ROLLBACK")
    shell.close()

    store.push([job()])
    assert store.counts().queues["default"][0] == 2


def test_an_exception_from_outside_undoes_the_step(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C, or the timeout of a job that just enqueues something, hits the thread in the middle of a step."""
    store = store_at(path)
    store.push([job()])

    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("holdfast.jobs.sqlite.queues.number", interrupted)
        with pytest.raises(KeyboardInterrupt):
            store.push([job(), job()])

    assert store.push([job(queue="new")]) == [""]
    assert {name: figures[0] for name, figures in store.counts().queues.items()} == {"default": 1, "new": 1}  # fmt: skip


def test_a_step_that_was_left_open_takes_no_later_job_with_it(path: Path) -> None:
    """The exception hit the thread right behind BEGIN: the next push must not become a part of what is never committed."""
    store = store_at(path)
    store.push([job()])
    for later in ([job()], [job(), job()]):
        assert store._file._step is not None
        store._file._step.execute("BEGIN IMMEDIATE")
        store._file._step.execute("DELETE FROM ready")

        store.push(later)

    assert by_hand(path, "SELECT count(*) FROM ready") == [(4,)]


def test_threads_that_push_with_power_safety_share_their_fsyncs(path: Path) -> None:
    """Sixteen threads of a web server: one transaction for all that wait, each told its own result."""
    store = store_at(path, "?durable=power")
    store.push([job(jid="a" * 24, unique="u")])
    begun: list[str] = []
    with store._file.lock:
        store._file._step.connection.set_trace_callback(lambda sql: begun.append(sql) if sql.startswith("BEGIN") else None)  # type: ignore[union-attr]  # fmt: skip
        with ThreadPoolExecutor(16) as pool:
            raws = [job(unique="u") if i % 4 == 0 else job() for i in range(16)]
            doing = [pool.submit(store.push, [raw]) for raw in raws]
            wait_for(lambda: len(store._pushes._waiting) >= 15, "all but the first wait behind it")  # type: ignore[union-attr]  # fmt: skip
            store._file.lock.release()
            answers = [one.result() for one in doing]
            store._file.lock.acquire()

    assert answers == [["a" * 24] if i % 4 == 0 else [""] for i in range(16)]
    assert len(begun) <= 3
    assert by_hand(path, "SELECT count(*) FROM ready") == [(13,)]


@pytest.mark.parametrize(("options", "level"), [("", 1), ("?durable=process", 1), ("?durable=power", 2)])  # fmt: skip
def test_durability_is_as_the_url_says(path: Path, options: str, level: int) -> None:
    """1 is NORMAL, 2 is FULL."""
    store = store_at(path, options)
    store.push([job()])

    assert store._file._step is not None
    assert store._file._step.execute("PRAGMA synchronous").fetchone() == (level,)
    assert store._file._step.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert open_store(store.url).url == store.url


# -- hurt files ---------------------------------------------------------------------------------------------------


def test_a_full_disk_refuses_pushes_and_loses_nothing(path: Path) -> None:
    """A push says that it was not stored; a worker is told to wait; both go on when there is room."""
    store = store_at(path)
    store.push([job() for _ in range(50)])
    hands = Hands(store)
    leases = hands.take(20)
    step = store._file._step
    assert step is not None
    pages = step.execute("PRAGMA page_count").fetchone()[0]
    step.execute(f"PRAGMA max_page_count={pages}")
    big = [job(args=("x" * 3000,)) for _ in range(50)]

    with pytest.raises(StoreRefusedError, match="the disk is full; nothing was stored"):
        store.push(big)
    with pytest.raises(StoreDownError, match="the disk is full"):
        store.claim(hands.owner, ["default"], 0, 0, (), [Settle(leases[0].token, RETRY, raw=job(args=("x" * 400_000,)), at_s=1.0)])  # fmt: skip
    assert store.counts().queues["default"][0] == 30
    assert len(store.held(hands.owner)) == 20

    step.execute("PRAGMA max_page_count=1000000")
    store.push(big)
    assert hands.ack(*leases) == []
    assert store.counts().queues["default"][0] == 80


@pytest.mark.parametrize("how", ["deleted", "replaced"])
def test_a_file_that_is_taken_away_is_noticed(path: Path, how: str) -> None:
    """What goes into a deleted file is lost without a word otherwise. Afterwards work goes on in the new one."""
    store = store_at(path)
    store.push([job()])
    hands = Hands(store)
    for old in path.parent.glob("jobs.db*"):
        old.unlink()
    if how == "replaced":
        other = store_at(path)
        other.push([job(), job()])
        other.close()
    time.sleep(0.003)  # a look at the name each 2 ms: see File._check_place

    with pytest.raises(StoreDownError, match="deleted or replaced"):
        store.push([job()])

    store.push([job()])
    with pytest.raises(FencedError):
        hands.take()
    assert store.counts().queues["default"][0] == (1 if how == "deleted" else 3)


def test_a_damaged_file_says_so(path: Path) -> None:
    """And what to do. It is not made anew: somebody may want to save what is in it."""
    path.write_bytes(b"this is a text, and a long one, " * 500)
    before = path.read_bytes()

    with pytest.raises(StoreRefusedError, match=r"is no SQLite file.*\n.*\.recover"):
        store_at(path).push([job()])
    assert path.read_bytes() == before

    path.unlink()
    store = store_at(path)
    store.push([job() for _ in range(2000)])
    store.close()
    with path.open("r+b") as file:
        file.seek(4096 * 60)
        file.write(b"\xff" * 4096 * 40)
    hands = Hands(store_at(path))

    def drain() -> None:
        while leases := hands.take(100):
            hands.ack(*leases)

    with pytest.raises(StoreRefusedError, match="is damaged"):
        drain()


def test_a_database_of_somebody_else_is_left_alone(path: Path) -> None:
    """The path in the URL was a mistake."""
    by_hand(path, "CREATE TABLE customer (name TEXT)")

    with pytest.raises(StoreRefusedError, match="database of another program"):
        store_at(path).push([job()])

    assert by_hand(path, "SELECT name FROM sqlite_master") == [("customer",)]


def test_a_file_of_a_newer_holdfast_is_left_alone(path: Path) -> None:
    """After a downgrade."""
    store_at(path).push([job()])
    by_hand(path, f"PRAGMA user_version={schema.VERSION + 1}")

    with pytest.raises(StoreRefusedError, match="written by a newer Holdfast"):
        store_at(path).push([job()])


def test_a_file_of_an_older_holdfast_is_brought_up_to_date(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    """Its jobs stay; a migration that fails leaves it as it was."""
    store = store_at(path)
    store.push([job()])
    store.close()
    monkeypatch.setattr(schema, "VERSION", schema.VERSION + 1)
    monkeypatch.setitem(schema.MIGRATIONS, schema.VERSION - 1, "ALTER TABLE queue ADD COLUMN note TEXT;\nSELECT nonsense;\n")  # fmt: skip
    with pytest.raises(StoreRefusedError, match="nonsense"):
        store_at(path).counts()
    assert "note" not in str(by_hand(path, "SELECT sql FROM sqlite_master WHERE name = 'queue'"))

    monkeypatch.setitem(schema.MIGRATIONS, schema.VERSION - 1, "ALTER TABLE queue ADD COLUMN note TEXT;\n")  # fmt: skip
    assert store_at(path).counts().queues["default"][0] == 1
    assert by_hand(path, "PRAGMA user_version") == [(schema.VERSION,)]
    assert by_hand(path, "SELECT note FROM queue") == [(None,)]


def test_a_file_that_may_not_be_written_is_refused(path: Path) -> None:
    """With what its user needs. (By a switch of SQLite's: the one who runs this may be root, who may write everything.)"""
    store = store_at(path)
    store.push([job()])
    assert store._file._step is not None
    store._file._step.execute("PRAGMA query_only=1")

    with pytest.raises(StoreRefusedError, match="cannot be written"):
        store.push([job(), job()])
    with pytest.raises(StoreRefusedError, match="cannot be written"):
        store.push([job()])


def test_a_missing_directory_is_not_made(tmp_path: Path) -> None:
    """A slip in a path would put the jobs where nobody looks."""
    with pytest.raises(StoreRefusedError, match="there is no directory"):
        store_at(tmp_path / "nowhere" / "jobs.db").push([job()])
    with pytest.raises(StoreRefusedError, match="this is a directory"):
        store_at(tmp_path).push([job()])


# -- owners of this machine ---------------------------------------------------------------------------------------


def test_an_owner_whose_process_is_there_never_expires(path: Path) -> None:
    """Its steward is late (a swapping box, a long stop): on one machine that is no reason to run jobs twice."""
    store = store_at(path)
    begun, go = os.pipe()
    pid, reader = child_of(lambda _: _wait(begun))
    owner = f"{os.uname().nodename}:{pid}:abc"
    store.register(owner, 0.0)
    other = Hands(store, lease_s=0.0)
    wait_for(lambda: store.expired() == [other.owner], "the lease of whoever is not here is over")

    os.write(go, b"x")
    told(reader)
    os.waitpid(pid, 0)
    os.close(go)
    os.close(begun)

    assert sorted(store.expired()) == sorted([owner, other.owner])


def test_an_owner_of_another_boot_is_gone(path: Path) -> None:
    """After a power cut nobody has to wait for its lease; the pid may be somebody else's now."""
    store = store_at(path)
    owner = f"{os.uname().nodename}:{os.getpid()}:abc"
    store.register(owner, 3600)
    assert store.expired() == []

    by_hand(path, "UPDATE owner SET boot = 'the one before'")

    assert store.expired() == [owner]


def test_numbers_of_owners_are_used_again(path: Path) -> None:
    """They have 23 bits; a worker that is recycled each second would use them up in three months."""
    store = store_at(path)
    lives = [Hands(store) for _ in range(5)]
    store.recover(lives[1].owner, [])
    store.recover(lives[3].owner, [])

    for _ in range(3):
        Hands(store)

    assert by_hand(path, "SELECT no FROM owner ORDER BY no") == [(i,) for i in range(1, 7)]


# -- speed --------------------------------------------------------------------------------------------------------


def test_no_hot_statement_reads_a_whole_table(path: Path) -> None:
    """A million jobs waiting must cost nobody anything: every statement of the daily work finds its rows by a key."""
    store = store_at(path)
    said: set[str] = set()
    for file in (store._file, store._view):
        with file.lock:
            (file._step or file._open()).connection.set_trace_callback(said.add)

    hands = Hands(store)
    store.push([job()])
    store.push(
        [
            job(queue="q", unique="u", unique_until="start", limit="l", limit_max=1, rate=[5, 1.0])
            for _ in range(60)
        ]
    )
    store.push([job(), job()], [0.0, time.time() + 3600])
    leases = hands.take(40, "q", "default")
    store.cancel("c" * 24)
    hands.take(30, "q", "default", done=[leases[0].token])
    hands.take(3, settled=[Settle(leases[1].token, how, at_s=1.0) for how in (RETRY,)])
    for how in (DEAD, BACK, SUSPECT, DROP, ACK):
        hands.end(hands.take_one() if hands.store.push([job()]) else leases[0], how)
    store.move_due(10)
    store.wait(["default", "q"], 0.01)
    store.recover(hands.owner, [])

    plans = {}
    connection = sqlite3.connect(path)
    for sql in said:
        if sql.split()[0] in ("SELECT", "INSERT", "DELETE", "UPDATE", "REPLACE"):
            plans[sql] = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {sql}")]
    connection.close()
    assert len(plans) > 30
    big = ("ready", "schedule", "retry", "dead", "waiting", "lease", "note", "start")
    slow = {
        sql[:100]: plan
        for sql, plan in plans.items()
        for line in plan
        if line.startswith("SCAN") and line.split()[1] in big and "LIMIT 1" not in sql
    }
    assert slow == {}


def test_figures_of_a_long_queue_come_at_once(path: Path) -> None:
    """No count reads the jobs: 50,000 and three cost the same to a few ms. (A million: bench/jobs.py.)"""
    store = store_at(path)
    raws = [job() for _ in range(1000)]
    for _ in range(50):
        store.push(raws)
    store.push(raws, [time.time() + 3600] * 1000)

    before = time.thread_time()
    counts = store.counts()
    took_s = time.thread_time() - before

    assert (counts.queues["default"][0], counts.scheduled) == (50_000, 1000)
    assert took_s < 0.01 * SLOWNESS


def test_a_worker_imports_little_for_this_store(path: Path) -> None:
    """Each module is memory in every worker, and time at each of its restarts."""
    code = (
        "import sys\nfrom holdfast.jobs.opening import open_store\n"
        f"open_store('sqlite://{path}').counts()\nprint(*sys.modules)"
    )

    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={**os.environ, "PYTHONPATH": str(SOURCE)}
    ).stdout.split()  # fmt: skip

    assert {"asyncio", "ssl", "urllib", "email", "http", "logging", "subprocess", "random", "holdfast.config", "holdfast.jobs.redis"} & set(loaded) == set()  # fmt: skip


# -- keeping tidy -------------------------------------------------------------------------------------------------


def test_who_waits_for_a_place_that_a_deleted_job_had_is_let_in(path: Path) -> None:
    """The one that was let in was deleted before it started: nobody would ever end and let the next one in."""
    store = store_at(path)
    raws = [job(limit="l", limit_max=1) for _ in range(3)]
    store.push(raws)
    hands = Hands(store)
    hands.end(hands.take(3)[0])
    assert store.remove(store.page("queue:default")) == 1
    assert hands.take() == []

    store._swept_s -= 60

    store.move_due(10)
    assert jids(hands.take()) == jids(raws[2:])


def test_what_is_too_old_to_matter_is_thrown_away(path: Path) -> None:
    """The file does not grow for ever. Dead jobs are kept as Sidekiq does: half a year, ten thousand."""
    store = store_at(path)
    hands = Hands(store)
    now_s = time.time()
    store.push([job(limit=f"host{i}", limit_max=1, rate=[1, 0.001]) for i in range(20)])
    hands.take(0, settled=[Settle(one.token, ACK) for one in hands.take(20)])
    store.push([job() for _ in range(3)])
    for lease, at_s in zip(hands.take(3), (now_s, now_s - 181 * 86400, now_s - 179 * 86400), strict=True):  # fmt: skip
        hands.end(lease, DEAD, at_s=at_s)
    store.note("a" * 24, {"progress": "1"}, -1)
    store.note("b" * 24, {"progress": "1"}, 60)
    store.cancel("c" * 24)
    by_hand(path, f"UPDATE cancelled SET at_s = {now_s - 7 * 86400 - 1}")
    store._tidied_s -= 3600

    store.move_due(10)

    assert store.counts().dead == 2
    assert by_hand(path, "SELECT count(*) FROM lim") == [(0,)]
    assert by_hand(path, "SELECT count(*) FROM start") == [(0,)]
    assert by_hand(path, "SELECT jid FROM note WHERE name = 'progress'") == [("b" * 24,)]
    assert by_hand(path, "SELECT count(*) FROM cancelled") == [(0,)]
    assert timing.DEAD_MAX == 10_000


# -- URLs ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("", "is no URL"),
        ("/var/lib/jobs.db", "A file is written as: sqlite:///var/lib/jobs.db"),
        ("sqlite3:///a.db", 'Did you mean "sqlite:"'),
        ("postgres://x/y", "no store of ours"),
        ("sqlite://jobs.db", "from the current directory: sqlite:jobs.db"),
        ("sqlite:", "names no file"),
        ("sqlite:///dir/", "names no file"),
        ("sqlite::memory:", "names no file"),
        ("sqlite:///a.db?durable=yes", "durable=power"),
        ("sqlite:///a.db?fast=1", 'there is no option "fast"'),
    ],
)
def test_a_wrong_url_is_explained(url: str, says: str) -> None:
    """With one that would be right."""
    with pytest.raises(StoreRefusedError) as caught:
        open_store(url)

    assert says in str(caught.value)


def test_urls_name_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Relative ones from where the program was started, whatever directory it goes to later."""
    monkeypatch.chdir(tmp_path)
    relative = open_store("sqlite:jobs.db")
    odd = open_store(f"sqlite://{tmp_path}/a%20b.db")
    monkeypatch.chdir("/")

    relative.push([job()])
    odd.push([job()])

    assert (tmp_path / "jobs.db").exists()
    assert (tmp_path / "a b.db").exists()
    assert relative.url == f"sqlite://{tmp_path}/jobs.db"
    with pytest.raises(StoreRefusedError, match="needs no prefix"):
        open_store("sqlite:jobs.db", "mine:")


@pytest.mark.parametrize(
    "hf", [{"limit": "x", "limit_max": 1 << 63}, {"unique": "x", "unique_s": 1e300}, {"result_s": 1e300}, {"limit": "x", "rate": [1e300, 1.0]}]
)  # fmt: skip
def test_a_number_that_is_too_large_for_the_file_is_refused_where_it_comes_in(sqlite_store: Any, hf: dict[str, Any]) -> None:  # fmt: skip
    """It was taken, and ended each worker that met it."""
    with pytest.raises(StoreRefusedError, match="larger than any that counts"):
        sqlite_store.push([job(**hf)])
