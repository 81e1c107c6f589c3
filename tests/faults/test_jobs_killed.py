"""Workers, the quarantine lane, the foreman and the store are killed with SIGKILL at random instants: nothing is lost, nothing doubled without cause.

HOLDFAST_KILLING_S says for how many seconds each store is under fire (default 4); HOLDFAST_SEED repeats a run's choices.
"""

from __future__ import annotations

import os
import random
import shutil
import time
from typing import TYPE_CHECKING

import pytest

from faults.jobs_town import RedisServer, Town
from node import SLOWNESS, wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.faults

KILLING_S = float(os.environ.get("HOLDFAST_KILLING_S", "4"))
SEED = int(os.environ.get("HOLDFAST_SEED", "0")) or random.SystemRandom().randrange(1, 10**6)


@pytest.fixture(params=["sqlite", "redis"])
def town(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Town]:
    """A town over each store; its foreman is not started yet."""
    server = None
    if request.param == "redis":
        if not shutil.which("redis-server"):
            pytest.skip("needs redis-server")
        server = RedisServer(tmp_path, aof=False)
    made = Town(tmp_path, server.url if server else f"sqlite:///{tmp_path}/jobs.db")
    yield made
    made.end()
    if server:
        server.kill()


def judged(town: Town, within_s: float = 30) -> dict[str, object]:
    """Wait for the end of all jobs, and judge."""
    try:
        wait_for(town.is_over, "every job to have its effect", within_s)
    except AssertionError:
        raise AssertionError(f"seed {SEED}: {town.left()}") from None
    verdict = town.judge()
    print(f"seed {SEED}: {verdict}")
    return verdict


def test_under_fire_nothing_is_lost_and_nothing_is_doubled_without_cause(town: Town) -> None:
    """Story 4: crawlers that are killed for hours. A double is excused only by a death seen between effect and ring."""
    chance = random.Random(SEED)
    town.start()
    until = time.monotonic() + KILLING_S
    rounds = 0
    # On a crowded machine a round takes long, and a few blows may all hit somebody who rests.
    while time.monotonic() < until or rounds < 8:
        rounds += 1
        town.push(60, "town.plain", f"plain-{rounds}")
        town.push(60, "town.coroutine", f"coroutine-{rounds}")
        town.push(5, "town.second", f"second-{rounds}")
        follower, _ = town.made(f"follower-{rounds}", "town.plain", {})
        town.push(1, "town.plain", f"leader-{rounds}", then=[follower.decode()])
        town.blow(chance.choice(["worker", "worker", "quarantine", "foreman", "all"]), chance)

    verdict = judged(town)
    assert verdict["lost"] == []
    assert verdict["doubled without cause"] == {}
    assert verdict["dead without proof"] == {}
    assert verdict["running at a death"], "the killer did hit somebody who worked"


def test_a_pill_runs_twice_and_takes_nobody_along(town: Town) -> None:
    """Celery ran one 48 times in 90 s. In company, then alone; then it is in the dead set, and the rest is done."""
    town.push(60, "town.plain", "before")
    (pill,) = town.push(1, "town.pill", "pill")
    town.push(60, "town.coroutine", "after")
    town.start()

    verdict = judged(town)
    wait_for(lambda: town.dead(), "the pill to be judged")
    assert [name for name, _ in town.lines()].count("pill-0") == 2
    dead = town.dead()
    assert list(dead) == [pill]
    assert dead[pill]["error_class"] == "Holdfast::ProcessKilled"
    assert "SIGKILL" in dead[pill]["error_message"]
    assert verdict["lost"] == []


def test_after_sigterm_nothing_is_held_and_the_next_start_does_the_rest(town: Town) -> None:
    """A deploy in the middle of the work."""
    town.push(400, "town.plain")
    town.start()
    wait_for(lambda: len(town.lines()) > 40, "the work to be under way")

    assert town.stop() == 0
    done = len(town.lines())
    assert town.store.counts().busy == 0
    town.start()

    verdict = judged(town)
    assert done < 400, "it was stopped in the middle"
    assert verdict["lost"] == []
    assert verdict["doubled"] == 0, "a stop doubles nothing"
    assert verdict["dead"] == 0


@pytest.mark.skipif(not shutil.which("redis-server"), reason="needs redis-server")
def test_a_redis_that_is_killed_and_comes_back_strands_nothing(tmp_path: Path) -> None:
    """Celery strands 1, taskiq 7 to 9, saq and streaq 10. With an append-only file, a second after the pushes."""
    server = RedisServer(tmp_path, aof=True)
    town = Town(tmp_path, server.url)
    try:
        town.push(300, "town.plain")
        town.push(300, "town.coroutine")
        # The append-only file is synced once a second: what is younger than that may be gone by anybody's rules.
        pushed_s = time.monotonic()
        wait_for(lambda: time.monotonic() - pushed_s > 1.5, "the pushes to be on disk")
        town.start()
        wait_for(lambda: len(town.lines()) > 60, "the work to be under way")
        for _ in range(2):
            done = len(town.lines())
            server.kill()
            server.start()
            _goes_on(town, done)

        verdict = judged(town)
        assert verdict["lost"] == []
        assert verdict["dead"] == 0
        wait_for(lambda: town.store.counts().busy == 0, "no job to be held for ever", 10 * SLOWNESS)
        assert not town.store.counts().retry
    finally:
        town.end()
        server.kill()


def _goes_on(town: Town, done: int) -> None:
    wait_for(lambda: len(town.lines()) > done or town.is_over(), "work to go on")
