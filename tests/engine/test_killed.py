"""A worker that is killed with SIGKILL at any instant, and a store that goes away: what was done is done once, what was not is done."""

from __future__ import annotations

import random
import signal
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from engine.working import Worker
from holdfast.core.lease import fates
from holdfast.jobs.opening import open_store
from holdfast.model.jobs import ACK, BACK, RETRY, Settle
from holdfast.wire import sidekiq
from jobs.redis_server import Cable, Server, needs_redis
from node import SLOWNESS, wait_for

if TYPE_CHECKING:
    from holdfast.wire.flight import Flight


def settle_for_the_dead(worker: Worker, told: Flight) -> set[str]:
    """Do what the steward does after a death (here: nobody's fault); return what was cut off in the middle."""
    leases = worker.store.held(told.owner)
    held = {lease.token: 0 for lease in leases}
    verdict = fates(
        held,
        {one.token for one in told.running},
        told.finished,
        ours=True,
        alone=False,
        storm=False,
    )
    ends = [Settle(token, end) for token, end in verdict.items() if end != BACK]
    assert all(one.end in (ACK, RETRY) for one in ends)
    worker.store.recover(told.owner, ends)
    running = {one.token for one in told.running} - told.finished.keys()
    return {str(sidekiq.loads(one.raw)["args"][0]) for one in leases if one.token in running}  # type: ignore[index]


@pytest.mark.parametrize(("kind", "concurrency"), [("write", 1), ("write", 8), ("awrite", 8)])
def test_a_kill_at_any_instant_loses_nothing_and_doubles_only_what_it_cut_off(
    worker: Worker, kind: str, concurrency: int
) -> None:
    """Thousands of short jobs, hundreds of them taken ahead and ended but not settled at the moment of each kill."""
    worker.plan["concurrency"] = worker.plan["async_concurrency"] = concurrency
    jobs = 4000
    worker.push_many(kind, [str(i) for i in range(jobs)])
    rng = random.Random(concurrency)
    cut_off: set[str] = set()
    for life in range(1, 4):
        worker.start_ready(life)
        # A quick machine may be through with all of it before we look.
        enough = min(len(worker.effects()) + rng.randrange(900), jobs)
        wait_for(lambda: len(worker.effects()) >= enough, "some more work")  # noqa: B023
        worker.process.kill()
        worker.process.wait()
        cut_off |= settle_for_the_dead(worker, worker.flight())

    worker.start_ready(9)
    worker.wait_drained(40)

    ran = Counter(worker.effects())
    assert len(ran) == jobs, "nothing is lost"
    # Only what was between its effect and the recorder's ring: that it ran is written, that it ended is not.
    assert {text for text, times in ran.items() if times > 1} <= cut_off
    assert len(cut_off) <= 3 * concurrency
    assert worker.store.counts().busy == 0


@needs_redis
@pytest.mark.parametrize("kind", ["write", "awrite"])
def test_a_redis_that_is_killed_and_comes_back_costs_nothing(tmp_path: Path, kind: str) -> None:
    """kill -9 of the broker in the middle of the work, twice: 0 lost, 0 stranded, 0 doubled (peers strand up to 10)."""
    server = Server(tmp_path, is_durable=True)
    with tempfile.TemporaryDirectory(prefix="hf-") as root:
        worker = Worker(Path(root), server.url)
        worker.plan["concurrency"] = worker.plan["async_concurrency"] = 4
        try:
            jobs = 5000
            worker.push_many(kind, [str(i) for i in range(jobs)])
            worker.start_ready()
            for share in (0.2, 0.5):
                wait_for(lambda: len(worker.effects()) > jobs * share, "a part of the work")  # noqa: B023
                server.kill()
                time.sleep(0.2)  # it is away for a while
                server.start()

            wait_for(lambda: len(worker.effects()) >= jobs, "all of it", 30)
            worker.wait_drained()
            ran = Counter(worker.effects())
            assert len(ran) == jobs
            assert [text for text, times in ran.items() if times > 1] == []
            assert worker.process.poll() is None, "and the worker lives on"
            assert "the store is away" in worker.stdout()
        finally:
            worker.end()
            server.kill()


@needs_redis
def test_an_answer_that_is_lost_strands_nothing(tmp_path: Path) -> None:
    """The claim was done, the wire was cut before the reply: these leases are known to the store only."""
    server = Server(tmp_path)
    cable = Cable(server.port)
    with tempfile.TemporaryDirectory(prefix="hf-") as root:
        worker = Worker(Path(root), server.url)
        worker.plan["store"] = f"redis://127.0.0.1:{cable.port}/0"
        try:
            worker.push_many("write", [str(i) for i in range(3000)])
            worker.start_ready()
            seen = 0
            for _ in range(15):
                # A cut in the middle of the work, whatever is on the wire just then.
                wait_for(lambda: len(worker.effects()) > seen, "work after the cut", 30)  # noqa: B023
                cable.cut()
                seen = len(worker.effects())

            worker.wait_drained(30)
            assert max(Counter(worker.effects()).values()) == 1
            assert len(worker.effects()) == 3000
        finally:
            worker.end()
            cable.end()
            server.kill()


@needs_redis
def test_a_store_that_is_down_at_the_start_is_waited_for(tmp_path: Path) -> None:
    server = Server(tmp_path)
    url = server.url
    server.kill()
    with tempfile.TemporaryDirectory(prefix="hf-") as root:
        worker = Worker(Path(root), url)
        try:
            worker.start()
            wait_for(lambda: "the store is away" in worker.stdout(), "word of it")
            time.sleep(0.3)
            assert worker.stdout().count("the store is away") == 1, "said once"

            server.start()
            worker.store = open_store(url)
            worker.push("write", "at last")

            worker.wait_effect("at last")
            assert worker.process.poll() is None
        finally:
            worker.end()
            server.kill()


def test_a_worker_that_waits_for_its_store_can_be_stopped(worker: Worker) -> None:
    worker.plan["store"] = "redis://127.0.0.1:1/0"
    worker.start()
    wait_for(lambda: "the store is away" in worker.stdout(), "word of it")

    began_s = time.monotonic()
    worker.process.send_signal(signal.SIGTERM)

    assert worker.wait_exit() == 0
    assert time.monotonic() - began_s < worker.grace_s + 2 * SLOWNESS
