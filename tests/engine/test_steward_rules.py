"""What the steward goes by: causes in the journal, the weather, tables of periodic jobs."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from holdfast.engine import schedule
from holdfast.engine.attaching import Attaching
from holdfast.engine.causes import JournalCauses
from holdfast.engine.dying import Death
from holdfast.engine.recovery import Scene, judge
from holdfast.engine.storm import WINDOW_S, Storm
from holdfast.jobs.opening import open_store
from holdfast.model.jobs import Lease
from holdfast.wire import beats, journal, sidekiq

if TYPE_CHECKING:
    from collections.abc import Iterator

    from holdfast.jobs.store import Store

NOON = 1_700_049_600.0  # 2023-11-15 12:00:00 UTC


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    made = open_store(f"sqlite://{tmp_path}/jobs.db")
    yield made
    made.close()


# -- why a process died ----------------------------------------------------------------------------------


def _exit(seq: int, worker: str, pid: int, **more: Any) -> dict[str, Any]:
    return {"k": "exit", "seq": seq, "worker": worker, "pid": pid, "role": "main", "status": 9, "cause": "died", "mono_s": 5.0, "unix_s": 7.0, **more}  # fmt: skip


def test_the_keepers_journal_says_why_a_worker_died(tmp_path: Path) -> None:
    """Two lives of one worker are told apart by their pid."""
    path = tmp_path / "journal"
    path.write_bytes(journal.encode_all([_exit(1, "crawl", 10), _exit(2, "crawl", 11, cause="apply")]))  # fmt: skip
    killed: list[tuple[float, str]] = []
    causes = JournalCauses(str(tmp_path), lambda at, worker: killed.append((at, worker)))

    causes.read()

    first, second = causes.of("crawl", 10), causes.of("crawl", 11)
    assert first is not None
    assert second is not None
    assert (first.cause, first.seq, first.is_ours) == ("died", 1, False)
    assert (second.cause, second.is_ours) == ("apply", True)
    assert causes.of("crawl", 12) is None
    assert killed == [(5.0, "crawl")]


def test_a_journal_is_read_on_from_where_it_ended_also_when_it_was_replaced(tmp_path: Path) -> None:
    """The keeper compacts it while it runs; a line that is half written is read when it is whole."""
    path = tmp_path / "journal"
    killed: list[str] = []
    causes = JournalCauses(str(tmp_path), lambda _, worker: killed.append(worker))
    causes.read()
    line = journal.encode(_exit(1, "a", 1))
    path.write_bytes(line[:20])
    causes.read()
    path.write_bytes(line)
    causes.read()
    assert causes.of("a", 1) is not None

    new = tmp_path / "journal.new"
    new.write_bytes(line + journal.encode(_exit(2, "b", 2)))
    new.rename(path)
    causes.read()

    assert causes.of("b", 2) is not None
    assert killed == ["a", "b"], "nobody is told of twice"


@pytest.mark.parametrize(
    ("records", "cause"),
    [
        ([{"k": "want", "worker": "w", "up": False, "by": "user"}], "stop"),
        ([{"k": "order", "do": "restart", "worker": "w", "by": "user"}], "restart"),
        ([{"k": "order", "do": "restart", "worker": "w", "by": "watchdog"}], "remedy"),
        ([{"k": "want", "worker": "w", "up": False}, {"k": "want", "worker": "w", "up": True}], "died"),
        ([{"k": "order", "do": "restart", "worker": "w"}, {"k": "start", "worker": "w"}], "died"),
        ([{"k": "down", "by": "user"}], "down"),
        ([], "died"),
    ],
)  # fmt: skip
def test_an_order_tells_why_where_the_keeper_was_killed_before_the_exit_was_on_record(
    tmp_path: Path, records: list[dict[str, Any]], cause: str
) -> None:
    """Somebody stops a worker, and the keeper is shot in that moment: the jobs are still nobody's fault."""
    (tmp_path / "journal").write_bytes(journal.encode_all({"seq": n, **one} for n, one in enumerate(records)))  # fmt: skip
    causes = JournalCauses(str(tmp_path), lambda *_: None)

    causes.read()

    assert causes.likely("w").cause == cause


# -- the weather -----------------------------------------------------------------------------------------


def test_a_storm_lasts_a_moment_after_the_last_kill(tmp_path: Path) -> None:
    """Kills of the last ten seconds say something about this one, those of yesterday do not."""
    storm = Storm(str(tmp_path))
    assert storm.over(100.0) == ""

    storm.note(50.0, "old news from the journal")
    storm.note(100.0, "web")

    assert storm.over(100.0 + WINDOW_S) == "web"
    assert storm.over(100.1 + WINDOW_S) == ""


def test_a_kill_is_weather_only_for_jobs_that_it_cannot_be_the_work_of(tmp_path: Path) -> None:
    """Two processes die: the job that ran in both may be the killer, the one that ran in the second alone is likely not."""
    storm = Storm(str(tmp_path))
    storm.note(100.0, "crawl", ["pill", "innocent"])

    assert storm.over(101.0, ["pill"]) == ""
    assert storm.over(101.0, ["stranger"]) == "crawl"

    storm.convict(101.0, "pill")

    assert storm.over(102.0, ["stranger"]) == "", "that death is explained"


def test_a_house_process_that_was_replaced_is_weather(tmp_path: Path) -> None:
    """kill -9 over everything hits the house, too; its pids are in the beats."""
    data = bytearray(beats.SIZE)
    beats.write(memoryview(data), "keeper", 1, 41)
    (tmp_path / "beats").write_bytes(data)
    storm = Storm(str(tmp_path))
    storm.look_at_house(10.0)
    assert storm.over(10.0) == ""

    beats.write(memoryview(data), "keeper", 2, 42)
    (tmp_path / "beats").write_bytes(data)
    storm.look_at_house(11.0)

    assert storm.over(11.0) == "keeper"


# -- verdicts --------------------------------------------------------------------------------------------


def _lease(token: int, **more: Any) -> Lease:
    made = sidekiq.new("Klass", [], jid=f"{token:024x}", queue="default", now_s=1.5, extra=more)
    return Lease(token, "default", sidekiq.dumps(made))


def test_what_cannot_be_read_goes_back_and_blames_nobody() -> None:
    """Malformed JSON never ran; the engine moves it to the dead set when it meets it."""
    scene = Scene("w", 1, Death("died", 9), node="box", now_s=NOON)

    verdict = judge([Lease(1, "default", b"{oops")], None, scene, lambda: 0.5)

    assert (verdict.back, verdict.settled) == (1, [])


@pytest.mark.parametrize(("dead", "end"), [(True, "dead"), (False, "drop")])
def test_a_proven_killer_is_kept_unless_its_author_wanted_no_dead_set(dead: bool, end: str) -> None:
    """Also one with retry = false: a person should see what kills processes."""
    scene = Scene("w.quarantine", 1, Death("died", 9), node="box", now_s=NOON, is_alone=True)
    lease = _lease(1, hf={"strikes": 1}, dead=dead, retry=False)

    verdict = judge([lease], None, scene, lambda: 0.5, is_scribbled=True)

    assert [one.end for one in verdict.settled] == [end]
    assert len(verdict.dead) == 1


def test_what_was_done_is_said_in_a_sentence() -> None:
    """At 3 am somebody reads this line first."""
    scene = Scene("w", 1, Death("died", 11), node="box", now_s=NOON)

    verdict = judge([_lease(1), _lease(2)], None, scene, lambda: 0.5, is_scribbled=True)

    assert verdict.words().startswith("2 jobs were running (Klass ")
    assert scene.death.words() == "was killed by SIGSEGV"
    assert Death("died", 70 << 8).words() == "ended with status 70"
    assert Death("remedy", 9).words() == "was killed by the watchdog by SIGKILL"


def test_evidence_that_never_comes_is_not_waited_for_for_ever(tmp_path: Path, store: Store) -> None:
    """A death that was folded into another incident has none of its own."""
    attaching = Attaching(str(tmp_path), "/state", store)
    attaching.add("owner", "crawl", 9, "", {"a" * 24: "it died"}, 60.0)

    attaching.turn(NOON)
    assert store.notes("a" * 24) == {}
    attaching.turn(NOON + 121)

    assert store.notes("a" * 24) == {"worker": "crawl", "says": "it died"}
    assert not Attaching(str(tmp_path), "/state", store).is_needed


# -- periodic jobs ---------------------------------------------------------------------------------------


def _cron(run_dir: Path, store: Store, said: list[str] | None = None) -> schedule.Cron:
    def say(event: str, **fields: object) -> None:
        if said is not None:
            said.append(f"{event} {fields}")

    return schedule.Cron(str(run_dir), store, say)


def _publish(run_dir: Path, cron: str = "0 * * * *", tz: str = "", worker: str = "crawl") -> None:
    payload = {"class": "Tidy", "args": [1], "queue": "low", "retry": True, "hf": {"timeout": 5.0}}  # fmt: skip
    schedule.publish(
        str(run_dir),
        worker,
        [{"name": "tidy", "cron": cron, "tz": tz, "queue": "low", "payload": payload}],
    )


def _fired(store: Store) -> list[dict[str, Any]]:
    return [sidekiq.loads(entry.raw) for entry in store.page("queue:low", 0, 100)]


def test_a_periodic_job_fires_at_its_time_and_once_in_the_whole_fleet(
    tmp_path: Path, store: Store
) -> None:
    """Two nodes, one clock tick: one job."""
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    nodes = []
    for name in ("a", "b"):
        _publish(tmp_path / name)
        nodes.append(_cron(tmp_path / name, store))
        nodes[-1].look(["crawl"])
        assert nodes[-1].fire_due(NOON + 60) == NOON + 3600, "it was declared after this hour's slot"  # fmt: skip
    assert _fired(store) == []

    for cron in nodes:
        cron.fire_due(NOON + 3601)

    (fired,) = _fired(store)
    assert fired["hf"] == {"timeout": 5.0, "cron": NOON + 3600}
    assert (fired["class"], fired["queue"], len(fired["jid"])) == ("Tidy", "low", 24)


def test_a_slot_that_was_missed_fires_once_if_it_is_not_too_old(
    tmp_path: Path, store: Store
) -> None:
    """The node was down at three o'clock; the night's job runs a little later, not twenty times and not next week."""
    _publish(tmp_path, "0,10,20 * * * *")
    cron = _cron(tmp_path, store)
    cron.look(["crawl"])
    cron.fire_due(NOON - 60)

    late = _cron(tmp_path, store)
    late.look(["crawl"])
    late.fire_due(NOON + 50 * 60)
    late.fire_due(NOON + 50 * 60)
    assert [one["hf"]["cron"] for one in _fired(store)] == [NOON + 20 * 60], "the last of them"


def test_a_slot_that_is_more_than_an_hour_old_is_over(tmp_path: Path, store: Store) -> None:
    """Who was down all afternoon does not want the noon report at six."""
    _publish(tmp_path, "0 12 * * *")
    cron = _cron(tmp_path, store)
    cron.look(["crawl"])
    cron.fire_due(NOON - 60)

    late = _cron(tmp_path, store)
    late.look(["crawl"])

    assert late.fire_due(NOON + 3601) == NOON + 86400
    assert _fired(store) == []


def test_a_changed_time_does_not_fire_for_the_past(tmp_path: Path, store: Store) -> None:
    """A deploy at 12:30 that moves a job from midnight to noon must not run it at once."""
    _publish(tmp_path, "0 0 * * *")
    cron = _cron(tmp_path, store)
    cron.look(["crawl"])
    cron.fire_due(NOON - 3600)
    _publish(tmp_path, "0 12 * * *")

    cron.look(["crawl"])
    cron.fire_due(NOON + 1800)

    assert _fired(store) == []


def test_a_clock_that_is_set_back_does_not_silence_a_periodic_job(
    tmp_path: Path, store: Store
) -> None:
    """The next slot was planned by the wrong clock: a year from now, and that it was declared a year from now, too."""
    _publish(tmp_path)
    cron = _cron(tmp_path, store)
    cron.look(["crawl"])
    year_s = 365 * 86400.0
    cron.fire_due(NOON + year_s + 60)
    cron.fire_due(NOON + year_s + 3601)

    assert cron.fire_due(NOON + 60) == NOON + 3600
    cron.fire_due(NOON + 3601)

    assert [job["hf"]["cron"] - NOON for job in _fired(store)] == [year_s + 3600, 3600]


def test_the_time_zone_of_a_job_counts(tmp_path: Path, store: Store) -> None:
    """Noon in Berlin is eleven o'clock UTC in winter."""
    _publish(tmp_path, "0 12 * * *", "Europe/Berlin")
    cron = _cron(tmp_path, store)
    cron.look(["crawl"])
    cron.fire_due(NOON - 7200)

    cron.fire_due(NOON - 3600)

    assert [one["hf"]["cron"] for one in _fired(store)] == [NOON - 3600]


def test_a_pattern_that_nobody_understands_is_said_once_and_stops_nobody(
    tmp_path: Path, store: Store
) -> None:
    """A newer worker's table in the hands of an older steward."""
    said: list[str] = []
    _publish(tmp_path)
    entry = {"name": "odd", "cron": "every now and then", "payload": {"class": "Odd", "args": []}}
    schedule.publish(str(tmp_path), "other", [entry, {"name": "none"}])
    cron = _cron(tmp_path, store, said)
    cron.look(["crawl", "other"])
    _publish(tmp_path)
    cron.look(["crawl", "other"])

    assert cron.fire_due(NOON + 60) == NOON + 3600
    assert len(said) == 2, said


def test_a_worker_that_is_in_the_plan_no_more_fires_nothing(tmp_path: Path, store: Store) -> None:
    """Its table lies on in the run directory, which outlives an `apply`."""
    _publish(tmp_path)
    cron = _cron(tmp_path, store)
    cron.look(["crawl"])
    cron.look([])

    assert cron.fire_due(NOON) == float("inf")


def test_the_30th_of_february_never_comes(tmp_path: Path, store: Store) -> None:
    """And asking for it does not end the steward."""
    _publish(tmp_path, "0 0 30 2 *")
    cron = _cron(tmp_path, store)
    cron.look(["crawl"])

    assert cron.fire_due(time.time()) == float("inf")
