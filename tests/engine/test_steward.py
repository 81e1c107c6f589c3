"""What the steward does about real processes that hold jobs: it sees them born, keeps their leases, and settles what they leave."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from engine.stewarding import Estate, Flaky, job, numbers, parsed, refused
from holdfast.engine import tending
from holdfast.engine.dying import Death
from holdfast.engine.recovery import KILLED
from holdfast.model.jobs import Beat, StoreDownError
from node import SLOWNESS, wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def estate(tmp_path: Path) -> Iterator[Estate]:
    made = Estate(tmp_path)
    try:
        yield made
    finally:
        made.end()


# -- deaths ----------------------------------------------------------------------------------------------


def test_only_what_ran_is_suspected_when_a_worker_is_killed(estate: Estate) -> None:
    """Peers either lose all that a dead worker held or run all of it again; the recorder knows better."""
    estate.push(0, 1, 2, 3, 4)
    worker = estate.puppet()
    ended, ran, also_ran, *_ = worker.do("claim", 5, "default")
    worker.do("begin", 0, ended)
    worker.do("end", 0, ended, 1)
    worker.do("begin", 0, ran)
    worker.do("begin", 1, also_ran)
    estate.push(5)
    estate.start()

    worker.kill()

    estate.wait_settled(worker)
    assert numbers(estate.store, "queue:default") == [3, 4, 5], "those not started: to the front"
    suspects = [parsed(entry.raw) for entry in estate.store.page("queue:quarantine")]
    assert sorted(one["args"][0] for one in suspects) == [1, 2]
    assert [one["hf"]["strikes"] for one in suspects] == [1, 1]
    assert estate.store.counts().busy == 0
    assert estate.wait(lambda: estate.lanes, "the lane to be asked for") == ["crawl.quarantine"]


def test_the_job_that_is_alone_in_a_second_death_is_given_up_with_words(estate: Estate) -> None:
    """Proof by exclusion: a person finds in the dead set who died, how and where, not only that."""
    estate.store.push([job(7, hf={"strikes": 1})])
    lane = estate.puppet("crawl.quarantine")
    (token,) = lane.do("claim", 1, "default")
    lane.do("begin", 0, token)
    estate.causes.deaths[lane.pid] = Death("died", signal.SIGSEGV, unix_s=1_700_000_000.0)
    estate.start()

    lane.kill(signal.SIGSEGV)

    estate.wait_settled(lane)
    (dead,) = [parsed(entry.raw) for entry in estate.store.page("dead")]
    assert dead["error_class"] == KILLED
    for word in ("SIGSEGV", "crawl.quarantine", "box", "2nd", f"process {lane.pid}", "2023-11-14 22:13:20 UTC", "MB"):  # fmt: skip
        assert word in dead["error_message"], word
    assert estate.store.page("queue:quarantine") == []
    notes = estate.wait(lambda: estate.store.notes(f"{7:024x}").get("says"), "the note")
    assert "SIGSEGV" in notes


def test_an_end_that_was_asked_for_blames_nobody(estate: Estate) -> None:
    """A deploy kills what does not end in time; its jobs are no suspects, and in no lane."""
    estate.push(0, 1)
    worker = estate.puppet()
    worker.do("begin", 0, worker.do("claim", 2, "default")[0])
    estate.causes.deaths[worker.pid] = Death("stop", 9)
    estate.start()

    worker.kill()

    estate.wait_settled(worker)
    assert numbers(estate.store, "queue:default") == [0, 1]
    assert "strikes" not in parsed(estate.store.page("queue:default")[0].raw).get("hf", {})
    assert estate.lanes == []


def test_an_end_that_the_worker_meant_blames_nobody(estate: Estate) -> None:
    """Recycling, a timeout, a lost lease: it says so in the recorder before it goes, and nobody has to be asked."""
    estate.push(0)
    estate.causes.knows_all = False
    worker = estate.puppet()
    worker.do("begin", 0, worker.do("claim", 1, "default")[0])
    worker.do("meant")
    estate.start()

    worker.kill()

    estate.wait_settled(worker)
    assert numbers(estate.store, "queue:default") == [0]


def test_the_cause_may_come_a_moment_after_the_death(estate: Estate) -> None:
    """The steward sees a death before the keeper has put it on record; blaming at once would be wrong in every deploy."""
    estate.push(0)
    estate.causes.knows_all = False
    worker = estate.puppet()
    worker.do("begin", 0, worker.do("claim", 1, "default")[0])
    steward = estate.start()
    estate.wait(lambda: worker.owner in steward.wards, "the birth to be noticed")

    worker.kill()
    estate.wait(lambda: not steward.wards[worker.owner].is_alive, "the death to be noticed")
    assert estate.store.counts().busy == 1, "it waits for the cause"
    estate.causes.deaths[worker.pid] = Death("restart", 15)

    estate.wait_settled(worker)
    assert numbers(estate.store, "queue:default") == [0]


def test_without_a_cause_a_death_counts_as_the_workers_own(estate: Estate) -> None:
    """The keeper may have died, too; nobody waits for it for ever."""
    estate.push(0)
    estate.causes.knows_all = False
    worker = estate.puppet()
    worker.do("begin", 0, worker.do("claim", 1, "default")[0])
    estate.start()

    worker.kill()

    estate.wait_settled(worker)
    assert numbers(estate.store, "queue:quarantine") == [0]


def test_owners_that_died_while_there_was_no_steward_are_settled_by_the_next(
    estate: Estate,
) -> None:
    """Everything was killed at once; the recorders lie there, and the first look finds them."""
    estate.push(0, 1)
    worker = estate.puppet()
    worker.do("begin", 0, worker.do("claim", 2, "default")[0])
    worker.kill()

    estate.start()

    estate.wait_settled(worker)
    assert numbers(estate.store, "queue:quarantine") == [0]
    assert numbers(estate.store, "queue:default") == [1]


def test_a_recorder_that_its_worker_spoilt_makes_all_it_held_suspects(estate: Estate) -> None:
    """A wild pointer of an extension that ends in a crash may have hit the recorder first: the jobs must not go round for ever."""
    estate.push(0, 1)
    worker = estate.puppet()
    worker.do("claim", 2, "default")
    steward = estate.start()
    estate.wait(lambda: worker.owner in steward.wards, "the birth to be noticed")

    worker.do("scribble")
    worker.kill()

    estate.wait_settled(worker)
    assert sorted(numbers(estate.store, "queue:quarantine")) == [0, 1]


def test_a_failure_whose_details_died_with_the_worker_still_counts(estate: Estate) -> None:
    """The exception was in the worker's memory; that there was one is in the ring."""
    estate.store.push([job(0), job(1, retry=False)])
    worker = estate.puppet()
    for slot, token in enumerate(worker.do("claim", 2, "default")):
        worker.do("begin", slot, token)
        worker.do("end", slot, token, 2)
    estate.start()

    worker.kill()

    estate.wait_settled(worker)
    (again,) = estate.store.page("retry")
    kept = parsed(again.raw)
    assert (kept["args"], kept["retry_count"], kept["error_class"]) == ([0], 0, "Holdfast::DetailsLost")  # fmt: skip
    assert again.at_s > time.time() + 10
    assert estate.store.counts().dead == 0, "retry = false: it is not kept"


def test_a_death_in_a_storm_is_no_proof(estate: Estate) -> None:
    """Somebody runs `kill -9` over everything: a job that happens to be alone in its lane is not the killer."""
    idle = estate.puppet()
    estate.store.push([job(3, hf={"strikes": 1})])
    lane = estate.puppet("crawl.quarantine")
    lane.do("begin", 0, lane.do("claim", 1, "default")[0])
    estate.start()

    idle.kill()
    estate.wait_settled(idle)
    estate.wait(lambda: estate.storm.over(time.monotonic()), "the storm to be noticed")
    lane.kill()

    estate.wait_settled(lane)
    assert estate.store.page("dead") == []
    (suspect,) = estate.store.page("queue:quarantine")
    assert parsed(suspect.raw)["hf"]["strikes"] == 2


@pytest.mark.parametrize(("number", "is_proof"), [(signal.SIGKILL, False), (signal.SIGSEGV, True)])
def test_the_kill_of_a_neighbour_that_ran_other_jobs_is_weather_for_who_was_shot(
    estate: Estate, number: int, is_proof: bool
) -> None:
    """Kills at random hit the lane, too; but nobody out there makes a process fall over its own pointers."""
    estate.push(1)
    estate.store.push([job(3, "low", hf={"strikes": 1})])
    neighbour, lane = estate.puppet(), estate.puppet("crawl.quarantine")
    neighbour.do("begin", 0, neighbour.do("claim", 1, "default")[0])
    lane.do("begin", 0, lane.do("claim", 1, "low")[0], "suspect")
    estate.causes.deaths[lane.pid] = Death("died", number)
    estate.start()

    neighbour.kill()
    estate.wait_settled(neighbour)
    lane.kill(number)
    estate.wait_settled(lane)

    assert numbers(estate.store, "dead") == ([3] if is_proof else [])
    assert sorted(numbers(estate.store, "queue:quarantine")) == ([1] if is_proof else [1, 3])


def test_the_incident_of_a_death_is_attached_when_it_is_written_up(estate: Estate) -> None:
    """Evidence takes seconds, recovery milliseconds: neither waits for the other, and a new steward goes on."""
    estate.state_dir = "/var/lib/app/.holdfast"
    estate.store.push([job(7, hf={"strikes": 1})])
    lane = estate.puppet("crawl.quarantine")
    lane.do("begin", 0, lane.do("claim", 1, "default")[0])
    estate.causes.deaths[lane.pid] = Death("died", 9, seq=41)
    estate.start()
    lane.kill()
    estate.wait_settled(lane)
    estate.stop()
    assert "incident" not in estate.store.notes(f"{7:024x}")

    orders = Path(estate.run_dir, "orders")
    orders.mkdir()
    (orders / "exit-41.done").write_text('{"incident": "2026-11-22-crawl-1"}')
    estate.start()

    def noted() -> dict[str, str]:
        found = estate.store.notes(f"{7:024x}")
        return found if "incident" in found else {}

    note = estate.wait(noted, "the note")
    assert note["incident"] == "2026-11-22-crawl-1"
    assert note["state_dir"] == "/var/lib/app/.holdfast"
    assert note["worker"] == "crawl.quarantine"


def test_suspects_are_the_business_of_the_family_whose_queue_they_came_from(
    estate: Estate,
) -> None:
    """Only a process that imports a job's module can try it again."""
    estate.plan({"crawl": ["default"], "mail": ["mails"]})
    estate.push(0, queue="mails")
    worker = estate.puppet("mail")
    worker.do("begin", 0, worker.do("claim", 1, "mails")[0])
    estate.start()

    worker.kill()

    assert estate.wait(lambda: estate.lanes, "a lane") == ["mail.quarantine"]


def test_a_suspect_of_a_queue_that_nobody_serves_is_the_first_familys(estate: Estate) -> None:
    """A queue was renamed by a deploy: somebody has to try what is left of it, or it lies there for ever."""
    estate.plan({"crawl": ["default"], "mail": ["mails"]})
    estate.push(0, queue="quarantine")
    entries = estate.store.page("queue:quarantine")
    estate.store.move(entries, "queue:quarantine", {entries[0].raw: job(1, "renamed")})

    estate.start()

    assert estate.wait(lambda: estate.lanes, "a lane") == ["crawl.quarantine"]


def test_a_suspect_of_another_node_is_left_to_it(estate: Estate) -> None:
    """Two machines on one Redis: a process that does not have the job's code can only pass it on."""
    estate.push(0, queue="quarantine")
    entries = estate.store.page("queue:quarantine")
    estate.store.move(entries, "queue:quarantine", {entries[0].raw: job(1, "theirs")})
    elsewhere = "elsewhere:1:0123456789ab"
    estate.store.register(elsewhere, 3600.0)
    estate.store.renew([Beat(elsewhere, {"queues": ["theirs"]}, 0, False, 0, [])], 3600.0)
    flaky = estate.watched = Flaky(estate.store, estate.url)

    estate.start()

    estate.wait(lambda: flaky.calls.count("owners") >= 1, "a look at who else is there")
    estate.wait(lambda: flaky.calls.count("page") >= 2, "another look at the lane")
    assert estate.lanes == []


def test_a_steward_that_is_replaced_adopts_living_workers(estate: Estate) -> None:
    """kill -9 of the steward costs nobody anything: what it knew lies in the recorders."""
    estate.push(0)
    worker = estate.puppet()
    worker.do("begin", 0, worker.do("claim", 1, "default")[0])
    estate.start()
    estate.wait(lambda: worker.flight().lease_until_ns, "the first renewal")
    estate.stop()
    steward = estate.start()

    estate.wait(lambda: worker.owner in steward.wards, "the adoption")
    assert worker.process.poll() is None
    assert estate.store.counts().busy == 1
    worker.kill()
    estate.wait_settled(worker)
    assert numbers(estate.store, "queue:quarantine") == [0]


# -- leases ----------------------------------------------------------------------------------------------


def test_living_owners_are_renewed_and_shown(estate: Estate) -> None:
    """The lease is the house's business: a worker with a held GIL keeps it; and Sidekiq's page shows what runs."""
    estate.push(0)
    worker = estate.puppet()
    worker.do("begin", 0, worker.do("claim", 1, "default")[0])
    before_ns = time.monotonic_ns()

    estate.start()

    until_ns = estate.wait(lambda: worker.flight().lease_until_ns, "the lease in the recorder")
    assert before_ns < until_ns <= time.monotonic_ns() + int(estate.lease_s * 1e9)
    (shown,) = estate.wait(lambda: [one for one in estate.store.owners() if one["info"]], "a beat")
    info = shown["info"]
    assert isinstance(info, dict)
    assert (shown["owner"], shown["busy"], info["pid"]) == (worker.owner, 1, worker.pid)
    assert (info["queues"], info["tag"], info["identity"]) == (["default", "low"], "box", worker.owner)  # fmt: skip


@pytest.mark.parametrize("how", ["running", "running, no answer", "idle"])
def test_a_lease_that_cannot_be_renewed_ends_who_runs_a_job_and_nobody_else(
    estate: Estate, how: str
) -> None:
    """Cut off alone from the store: others will take its jobs, so what runs here has to end before they do."""
    estate.lease_s = 1.5
    estate.push(0)
    flaky = estate.watched = Flaky(estate.store, "redis://elsewhere:6379/0")
    worker = estate.puppet()
    (token,) = worker.do("claim", 1, "default")
    if how != "idle":
        worker.do("begin", 0, token)
    estate.start()
    estate.wait(lambda: worker.flight().lease_until_ns, "the first renewal")

    if how == "running, no answer":
        flaky.answers.clear()
    else:
        flaky.error = StoreDownError("no answer within 2 s")

    if how != "idle":
        assert worker.process.wait(20 * SLOWNESS) == -signal.SIGKILL
        assert worker.flight().is_meant, "nobody is to be blamed for it"
        flaky.error = None
        flaky.answers.set()
        estate.wait_settled(worker)
        assert numbers(estate.store, "queue:default") == [0]
    else:
        over_ns = worker.flight().lease_until_ns
        wait_for(lambda: time.monotonic_ns() > over_ns, "the lease to end")
        assert worker.do("meant") == [], "it lives"


def test_leases_last_while_the_store_is_down_for_all(estate: Estate) -> None:
    """Nothing listens there: nobody can have given the jobs to anybody, and killing would only lose work."""
    estate.lease_s = 1.5
    estate.push(0)
    flaky = estate.watched = Flaky(estate.store, "redis://elsewhere:6379/0")
    worker = estate.puppet()
    worker.do("begin", 0, worker.do("claim", 1, "default")[0])
    estate.start()
    first_ns = estate.wait(lambda: worker.flight().lease_until_ns, "the first renewal")

    flaky.error = refused()

    wait_for(lambda: time.monotonic_ns() > first_ns, "the first lease to end")
    assert worker.process.poll() is None
    assert worker.flight().lease_until_ns > time.monotonic_ns()
    flaky.error = None
    estate.wait(lambda: any("is back" in said for said in estate.said), "the store to be back")


def test_a_worker_whose_jobs_others_have_by_now_is_told_that_its_lease_is_over(
    estate: Estate,
) -> None:
    """Another steward has declared it dead: what it still does would be done twice."""
    estate.lease_s = 1.5
    estate.push(0)
    worker = estate.puppet()
    worker.do("begin", 0, worker.do("claim", 1, "default")[0])
    estate.start()
    estate.wait(lambda: worker.flight().lease_until_ns, "the first renewal")

    estate.store.recover(worker.owner, ())

    assert worker.process.wait(20 * SLOWNESS) == -signal.SIGKILL, "a puppet does not end itself"
    estate.wait_settled(worker)
    assert numbers(estate.store, "queue:default") == [0], "there once"


def test_a_store_that_answers_and_takes_nothing_is_not_back(estate: Estate) -> None:
    """On a full disk it was found to be back and away again 25 times a second, and said so each time: into a log, on that disk."""

    class Full(Flaky):
        is_full = False

        def __getattr__(self, name: str) -> object:
            ask = super().__getattr__(name)

            def write(*args: object) -> object:
                if self.is_full and name not in ("expired", "held", "page", "check"):
                    self.calls.append(name)
                    raise StoreDownError("the disk is full")
                return ask(*args)

            return write

    flaky = estate.watched = Full(estate.store, "redis://elsewhere:6379/0")
    estate.lease_s = 1.5
    worker = estate.puppet()
    estate.start()
    estate.wait(lambda: worker.flight().lease_until_ns, "the first renewal")
    flaky.is_full = True
    asked = flaky.calls.count("renew")
    estate.wait(lambda: flaky.calls.count("renew") > asked + 4, "it to ask again and again")

    assert [said for said in estate.said if "the store is back" in said] == []
    assert sum("cannot be reached" in said for said in estate.said) == 1
    flaky.is_full = False
    estate.wait(lambda: any("the store is back" in said for said in estate.said), "it to be back")


def test_owners_of_a_machine_that_is_gone_are_recovered_without_blame(estate: Estate) -> None:
    """No recorder, no pidfd, only a lease that nobody renews."""
    estate.lease_s = 3.0
    estate.push(0)
    estate.store.register("elsewhere:1:0123456789ab", 0.01)
    estate.store.claim("elsewhere:1:0123456789ab", ["default"], 1, 1)

    estate.start()

    estate.wait(lambda: numbers(estate.store, "queue:default") == [0], "the job to come back")


def test_after_an_outage_nobody_is_swept_before_all_had_time_to_renew(estate: Estate) -> None:
    """The store's clock went on while nobody could reach it: every lease of the fleet looks over at that moment."""
    flaky = estate.watched = Flaky(estate.store, "redis://elsewhere:6379/0")
    flaky.error = refused()
    estate.lease_s = 3.0
    estate.push(0)
    estate.store.register("elsewhere:1:0123456789ab", 0.01)
    estate.store.claim("elsewhere:1:0123456789ab", ["default"], 1, 1)
    estate.start()
    estate.wait(lambda: flaky.calls, "the steward to ask")
    flaky.error = None
    estate.wait(lambda: any("is back" in said for said in estate.said), "the store to be back")
    back_s = time.monotonic()

    estate.wait(lambda: numbers(estate.store, "queue:default") == [0], "the job to come back")
    assert time.monotonic() - back_s > 1.5


def test_who_holds_its_process_past_its_timeout_is_suspected_and_nobody_else(
    estate: Estate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """C code that keeps the interpreter to itself: nothing in there can interrupt it, and all its neighbours stand still for ever."""
    monkeypatch.setattr(tending, "_OVERDUE_S", 0.5)
    estate.push(0, 1, 2)
    worker = estate.puppet()
    tokens = worker.do("claim", 3, "default")
    estate.start()
    worker.do("begin", 0, tokens[0])
    worker.do("late", 1, tokens[1])

    assert worker.process.wait(30 * SLOWNESS) == -signal.SIGABRT, (
        "its fault handler writes down all stacks"
    )
    estate.causes.deaths[worker.pid] = Death("died", signal.SIGABRT)
    estate.wait_settled(worker)

    assert numbers(estate.store, "queue:quarantine") == [1]
    assert numbers(estate.store, "queue:default") == [0, 2]
    assert sum("its process cannot end it" in said for said in estate.said) == 1


def test_who_gives_up_a_late_job_by_itself_is_left_alone(
    estate: Estate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has become quiet and waits for its other jobs; so is one that ends what was late in time, and one that somebody has stopped."""
    monkeypatch.setattr(tending, "_OVERDUE_S", 0.5)
    estate.push(0, 1, 2, 3)
    quiet, quick, stopped, stuck = [estate.puppet(name) for name in ("crawl", "a", "b", "c")]
    held = [puppet.do("claim", 1, "default")[0] for puppet in (quiet, quick, stopped, stuck)]
    estate.start()
    for puppet, token in zip((quiet, quick, stopped, stuck), held, strict=True):
        puppet.do("late", 0, token)
    quiet.do("quiet")
    quick.do("end", 0, held[1], 1)
    stopped.process.send_signal(signal.SIGSTOP)

    assert stuck.process.wait(30 * SLOWNESS) == -signal.SIGABRT
    assert [puppet.process.poll() for puppet in (quiet, quick, stopped)] == [None] * 3


# -- the rest --------------------------------------------------------------------------------------------


def test_a_signal_from_the_web_page_reaches_the_process(estate: Estate) -> None:
    """Sidekiq's Stop button sends TERM. (TSTP, of its Quiet button, stops nobody whose process group has no parent to wake it.)"""
    estate.lease_s = 3.0
    worker = estate.puppet()
    estate.start()
    estate.wait(lambda: worker.flight().lease_until_ns, "the first renewal")

    estate.store.signal(worker.owner, "TERM")

    estate.wait(lambda: worker.process.poll() == -signal.SIGTERM, "the puppet to end by TERM")


def test_due_jobs_are_moved_to_their_queues(estate: Estate) -> None:
    """Scheduled jobs and retries run because somebody looks at the clock: the steward."""
    estate.store.push([job(1), job(2)], [time.time() + 0.5, time.time() + 3600])

    estate.start()

    estate.wait(lambda: numbers(estate.store, "queue:default") == [1], "the due one to move")
    assert numbers(estate.store, "schedule") == [2]


def test_a_file_that_is_no_recorder_is_no_reason_to_fall_over(estate: Estate) -> None:
    """Whatever lies in the directory: the living are looked after."""
    (Path(estate.run_dir) / "jobs" / "box:1:0123456789ab").write_bytes(b"short")
    (Path(estate.run_dir) / "jobs" / "README").write_text("hello")
    child = subprocess.Popen(["true"])
    child.wait()
    leftover = Path(estate.run_dir) / "jobs" / f".box:{child.pid}:0123456789ab"
    leftover.write_bytes(b"")
    estate.start()

    worker = estate.puppet()

    estate.wait(lambda: worker.flight().lease_until_ns, "the renewal")
    estate.wait(lambda: not leftover.exists(), "what was killed in the making to be removed")


def test_what_the_store_refuses_is_said_once_and_leaves_the_rest_alone(estate: Estate) -> None:
    """Wrong rights on one key must not keep anybody from being recovered, nor fill the log."""
    from holdfast.model.jobs import StoreRefusedError

    class NoSchedule(Flaky):
        def __getattr__(self, name: str) -> object:
            if name != "move_due":
                return super().__getattr__(name)

            def refuse(*_: object) -> None:
                self.calls.append(name)
                raise StoreRefusedError("NOPERM move_due")

            return refuse

    flaky = estate.watched = NoSchedule(estate.store, estate.url)
    estate.push(0)
    worker = estate.puppet()
    worker.do("claim", 1, "default")
    estate.start()
    worker.kill()

    estate.wait_settled(worker)
    assert numbers(estate.store, "queue:default") == [0]
    estate.wait(lambda: "move_due" in flaky.calls, "the refusal")
    assert sum("NOPERM" in said for said in estate.said) <= 1
    assert json.dumps(estate.said)
