"""A worker of kind `jobs` as a process: what it runs, how its jobs end, and how it ends itself."""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING, Any

import pytest

from engine.working import Worker
from holdfast.core.lease import QUARANTINE
from holdfast.model.jobs import SUSPECT, Settle
from holdfast.wire import flight, sidekiq
from holdfast.wire import pulse as pulses
from node import SLOWNESS, wait_for

if TYPE_CHECKING:
    from collections.abc import Callable

#: Two seconds are for the real thing.
IMPATIENT = "from holdfast.engine import watching\nwatching.PATIENCE_NS = 300_000_000\n"


def test_jobs_of_both_kinds_are_run_and_gone(worker: Worker) -> None:
    """Threads and coroutines, from one queue in one worker; nobody waits for the other kind (a worker once stood still here)."""
    worker.plan["concurrency"] = worker.plan["async_concurrency"] = 4
    for i in range(5):
        worker.push_many("write", [f"w{i}.{n}" for n in range(40)])
        worker.push_many("awrite", [f"a{i}.{n}" for n in range(40)])

    worker.start_ready()

    worker.wait_drained()
    assert sorted(worker.effects()) == sorted(f"{k}{i}.{n}" for k in "wa" for i in range(5) for n in range(40))  # fmt: skip
    wait_for(lambda: worker.store.counts().processed == 400, "400 to be counted")


def test_a_failure_is_tried_again_as_sidekiq_does(worker: Worker) -> None:
    worker.tasks("""
@job(name="fail")
def fail(): raise KeyError("no such card")
@job(name="afail")
async def afail(): raise KeyError("no such card")
""")
    worker.push("fail", backtrace=True)
    worker.push("afail", backtrace=2)

    worker.start_ready()

    wait_for(lambda: len(worker.retries()) == 2, "two retries")
    for kept in worker.retries():
        assert kept["error_class"] == "KeyError"
        assert kept["error_message"] == "'no such card'"
        assert kept["retry_count"] == 0
        assert any("tasks.py" in line and "fail" in line for line in sidekiq.backtrace(kept))
        assert not any("holdfast/engine" in line for line in sidekiq.backtrace(kept))
    due = [entry.at_s - time.time() for entry in worker.store.page("retry")]
    assert all(0 < seconds < 26 for seconds in due), due
    assert "no such card" in worker.stderr()


def test_a_job_chooses_its_own_delays(worker: Worker) -> None:
    worker.tasks("""
@job(name="fail", backoff=(1000, 1, 1000))
def fail(): 1 / 0
""")
    worker.push("fail", hf={"backoff": [1000.0, 1.0, 1000.0]})

    worker.start_ready()

    wait_for(worker.retries, "a retry")
    assert 490 < worker.store.page("retry")[0].at_s - time.time() <= 1000


def test_what_is_given_up_is_dead_and_what_is_not_wanted_dead_is_gone(worker: Worker) -> None:
    worker.tasks('@job(name="fail")\ndef fail(): 1 / 0\n')
    kept = worker.push("fail", retry=0)
    worker.push("fail", retry=False)
    worker.push("fail", retry=0, dead=False)

    worker.start_ready()

    worker.wait_drained()
    assert [job["jid"] for job in worker.dead()] == [kept]
    assert worker.retries() == []


def test_no_exception_of_a_job_ends_the_worker(worker: Worker) -> None:
    """Whatever a job raises is the job's failure: its neighbours run on."""
    endings = ("sys.exit(3)", "raise KeyboardInterrupt", "raise BaseException('x')", "raise GeneratorExit",
               "raise asyncio.CancelledError", "raise StopIteration", "raise type('Mute', (Exception,), {'__str__': None})()")  # fmt: skip
    worker.tasks("".join(
        f'@job(name="{kind}{number}")\n{kind and "async "}def bad{kind}{number}(): {ending}\n'
        for kind in ("", "async") for number, ending in enumerate(endings)
    ))  # fmt: skip
    for number in range(len(endings)):
        worker.push(f"{number}")
        worker.push(f"async{number}")
    worker.push("write", "after")

    worker.start_ready()

    worker.wait_effect("after")
    wait_for(lambda: len(worker.retries()) == 2 * len(endings), "all to be tried again")
    assert worker.process.poll() is None


def test_nothing_that_a_stranger_says_of_a_job_ends_the_worker(worker: Worker) -> None:
    """Anybody can push into a queue. One job with a timeout that no clock can count ended each worker that took it, before it was begun."""
    said: list[dict[str, Any]] = [
        {"hf": {"timeout": 1e300}}, {"hf": {"timeout": 10**400}}, {"hf": {"timeout": -1}}, {"hf": {"timeout": "1"}},
        {"hf": {"backoff": ["a", "b", "c"]}}, {"hf": {"backoff": [1, 1.0000001, 1e9]}, "retry": 10**300, "retry_count": 10**200},
        {"retry": 10**300, "retry_count": 10**200}, {"hf": {"strikes": "x"}}, {"hf": {"expires": 10**400}}, {"retry_for": 1e308},
    ]  # fmt: skip
    worker.tasks('@job(name="fail")\ndef fail(): 1 / 0\n')
    for more in said:
        worker.push("fail", **more)
    worker.push("write", "after")

    worker.start_ready()

    worker.wait_effect("after")
    wait_for(lambda: len(worker.retries()) == len(said), "all to be tried again")
    assert worker.process.poll() is None


def test_a_fork_inside_of_a_job_settles_nothing(worker: Worker) -> None:
    """A child that returns from the job's function would run on as a second worker with the same leases."""
    worker.tasks("""
@job(name="fork")
def fork():
    if os.fork():
        effect("parent")
    else:
        effect("child")
""")
    worker.push("fork")

    worker.start_ready()

    worker.wait_effect("parent")
    worker.wait_effect("child")
    worker.wait_drained()
    worker.push("write", "next")
    worker.wait_effect("next")
    assert worker.effects().count("next") == 1


def test_an_unknown_class_waits_for_the_next_deploy_and_nonsense_is_dead(worker: Worker) -> None:
    worker.push("Not::Here")
    worker.store.push([b'{"class":"write","args":{},"jid":"a1","queue":"default"}'])

    worker.start_ready()

    wait_for(worker.retries, "a retry")
    assert "Not::Here" in str(worker.retries()[0]["error_message"])
    wait_for(lambda: worker.store.counts().dead == 1, "the dead one")


def test_what_has_expired_is_not_run(worker: Worker) -> None:
    worker.push("write", "late", hf={"expires": time.time() - 1})
    worker.push("write", "in time", hf={"expires": time.time() + 3600})

    worker.start_ready()

    worker.wait_effect("in time")
    worker.wait_drained()
    assert worker.effects() == ["in time"]


def test_a_result_is_kept_and_what_follows_is_pushed(worker: Worker) -> None:
    worker.tasks('@job(name="add", result_for="1h")\ndef add(a, b): return a + b\n')
    after = sidekiq.dumps(
        sidekiq.new("write", ["then"], jid="f" * 24, queue="default", now_s=time.time())
    )
    jid = worker.push("add", 2, 3, hf={"result_s": 60.0, "then": [after.decode()]})

    worker.start_ready()

    worker.wait_effect("then")
    assert worker.store.notes(jid)["result"] == "5"


def test_the_context_and_the_middleware_are_there(worker: Worker) -> None:
    worker.tasks("""
from holdfast.sdk.job_middleware import around_job
@around_job
def told(context):
    effect(f"before {context.name}")
    yield
    effect(f"after {context.name}")
@job(name="who")
def who(): effect(current().jid)
@job(name="awho")
async def awho(): effect(current().jid)
""")
    jids = [worker.push("who"), worker.push("awho")]

    worker.start_ready()

    worker.wait_drained()
    assert set(worker.effects()) == {*jids, "before who", "after who", "before awho", "after awho"}


# -- time ------------------------------------------------------------------------------------------


def test_a_job_past_its_timeout_is_interrupted_and_the_worker_lives(worker: Worker) -> None:
    worker.push("sleep", 600, "thread", hf={"timeout": 0.3})
    worker.push("asleep", 600, "coroutine", hf={"timeout": 0.3})

    worker.start_ready()

    wait_for(lambda: len(worker.retries()) == 2, "both to be tried again")
    assert {job["error_class"].rpartition(".")[2] for job in worker.retries()} == {"JobTimeout"}
    worker.push("write", "on")
    worker.wait_effect("on")
    assert worker.process.poll() is None


def test_a_job_that_cannot_be_interrupted_costs_the_worker_but_not_its_neighbours(
    worker: Worker,
) -> None:
    """A thread in a C call hears nothing. The process goes, on purpose, with the stack where it hangs; who runs beside it may finish."""
    worker.plan["concurrency"] = 2
    worker.tasks(IMPATIENT + '@job(name="stuck")\ndef stuck(): time.sleep(600)\n')
    worker.push("stuck", hf={"timeout": 0.2}, backtrace=True)
    worker.push("sleep", 2.0, "neighbour")

    worker.start_ready()

    assert worker.wait_exit() == 71
    assert "end neighbour" in worker.effects()
    kept = worker.retries()
    assert [job["class"] for job in kept] == ["stuck"]
    assert "could not be interrupted" in str(kept[0]["error_message"])
    assert any("in stuck" in line for line in sidekiq.backtrace(kept[0]))
    assert worker.flight().is_meant
    assert "in stuck" in worker.stderr(), "all stacks are there"
    assert worker.store.counts().busy == 0


def test_a_coroutine_that_blocks_the_loop_past_its_timeout_costs_the_worker(
    worker: Worker,
) -> None:
    worker.tasks(IMPATIENT + '@job(name="blocks")\nasync def blocks(): time.sleep(600)\n')
    worker.start_ready()

    worker.push("blocks", hf={"timeout": 0.2}, backtrace=True)

    assert worker.wait_exit() == 71
    assert [job["class"] for job in worker.retries()] == ["blocks"]
    assert "in blocks" in sidekiq.backtrace(worker.retries()[0])[0]


def test_a_short_timeout_never_hits_the_next_job(worker: Worker) -> None:
    """The interruption may come when its job has just ended: it must not be the next one's."""
    worker.tasks("""
@job(name="close")
def close(seconds):
    end = time.monotonic() + seconds
    while time.monotonic() < end: pass
""")
    for i in range(60):
        worker.push("close", 0.02 + (i % 5 - 2) * 0.0005, hf={"timeout": 0.02}, retry=0)
        worker.push("write", str(i))

    worker.start_ready()

    worker.wait_drained()
    assert sorted(map(int, worker.effects())) == list(range(60))
    assert {job["class"] for job in worker.dead()} <= {"close"}


def test_a_cancelled_job_learns_of_it(worker: Worker) -> None:
    worker.tasks("""
@job(name="patient")
def patient():
    effect("begun")
    while not current().is_cancelled: time.sleep(0.01)
    effect("cancelled")
    current().raise_if_cancelled()
""")
    jids = [worker.push("patient"), worker.push("asleep", 600, "a")]
    worker.start_ready()
    worker.wait_effect("begun")
    worker.wait_effect("begin a")

    for jid in jids:
        worker.store.cancel(jid)

    worker.wait_effect("cancelled")
    worker.wait_drained()
    assert "end a" not in worker.effects()
    assert worker.retries() == []


def test_nobody_waits_behind_a_long_job_while_another_worker_idles(worker: Worker) -> None:
    """Short jobs are taken by the hundred; the one among them that is long must not keep the rest."""
    worker.push_many("noop", [str(i) for i in range(2000)])
    worker.start_ready()
    worker.wait_drained()
    now_s = time.time()
    calls: list[tuple[str, list[object]]] = [("sleep", [600, "long"])]
    calls += [("write", [str(i)]) for i in range(20)]
    raws = [
        sidekiq.dumps(
            sidekiq.new(klass, args, jid=os.urandom(12).hex(), queue="default", now_s=now_s)
        )
        for klass, args in calls
    ]

    worker.store.push(raws)

    worker.wait_effect("begin long")
    wait_for(lambda: worker.store.counts().queues["default"][0] == 20, "the rest to be given back")
    first = sidekiq.loads(worker.store.page("queue:default", 0, 1)[0].raw)
    assert first["args"] == ["0"], "in their order"


# -- the end ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["sleep", "asleep"])
def test_a_stop_finishes_what_runs_and_gives_back_the_rest(worker: Worker, kind: str) -> None:
    worker.plan["async_concurrency"] = 1
    for text in ("one", "two", "three"):
        worker.push(kind, 0.5, text)
    worker.start_ready()
    worker.wait_effect("begin one")

    assert worker.stop() == 0

    assert worker.effects() == ["begin one", "end one"]
    assert worker.store.counts().queues["default"][0] == 2
    assert worker.store.counts().busy == 0
    assert worker.flight().is_meant


def test_a_stop_does_not_wait_longer_than_its_grace(worker: Worker) -> None:
    """What still runs is the steward's then: its death was asked for, so nobody is a suspect."""
    worker.grace_s = 0.5
    worker.push("sleep", 600, "long")
    worker.start_ready()
    worker.wait_effect("begin long")

    worker.stop()

    assert worker.flight().is_meant
    assert worker.store.counts().busy == 1


def test_quiet_takes_nothing_new(worker: Worker) -> None:
    worker.push("sleep", 0.5, "one")
    worker.start_ready()
    worker.wait_effect("begin one")

    worker.process.send_signal(signal.SIGTSTP)
    wait_for(lambda: worker.flight().is_quiet, "the recorder to say so")
    worker.push("write", "new")

    worker.wait_effect("end one")
    wait_for(lambda: worker.store.counts().busy == 0, "the last one to be settled")
    assert "new" not in worker.effects()
    assert worker.process.poll() is None


def test_a_person_can_have_the_stacks(worker: Worker) -> None:
    worker.push("sleep", 600, "long")
    worker.start_ready()
    worker.wait_effect("begin long")

    worker.process.send_signal(signal.SIGTTIN)

    wait_for(lambda: "in sleep" in worker.stderr(), "the stacks on stderr")


def test_it_is_recycled_between_jobs(worker: Worker) -> None:
    worker.plan["recycle_jobs"] = 10
    worker.push_many("write", [str(i) for i in range(500)])

    worker.start_ready()

    assert worker.wait_exit() == 0
    done = len(worker.effects())
    assert done >= 10
    assert worker.store.counts().queues["default"][0] == 500 - done
    assert worker.flight().is_meant


def test_a_leaking_job_is_finished_and_then_its_worker_is_recycled(worker: Worker) -> None:
    worker.plan["recycle_bytes"] = 120 << 20
    worker.tasks("""
LEAK = []
@job(name="leak")
def leak():
    LEAK.append(b"x" * (150 << 20))
    time.sleep(1)
    effect("finished")
""")
    worker.push("leak")
    worker.push("write", "next")

    worker.start_ready()

    assert worker.wait_exit() == 0
    assert worker.effects() == ["finished"]
    assert worker.store.counts().queues["default"][0] == 1


def test_without_a_lease_nothing_is_run(worker: Worker) -> None:
    """Others may run its jobs by then. The steward renews; here nobody does."""
    worker.plan["lease_s"] = 1.0 * SLOWNESS
    worker.push("sleep", 600, "long")

    worker.start_ready()

    assert worker.wait_exit() == 75
    assert "begin long" in worker.effects()
    assert worker.flight().is_meant


def test_a_lease_that_is_renewed_in_the_recorder_is_one(worker: Worker) -> None:
    worker.plan["lease_s"] = 1.0 * SLOWNESS
    worker.push("sleep", 2.5 * SLOWNESS, "long")
    worker.start_ready()
    path = worker.run_dir / "jobs" / worker.flight().owner
    until_ns = time.monotonic_ns() + int(60e9 * SLOWNESS)

    with path.open("r+b") as file:
        file.seek(flight.LEASE_UNTIL)
        file.write(until_ns.to_bytes(8, "little"))

    worker.wait_effect("end long")


def test_a_worker_that_was_declared_dead_ends(worker: Worker) -> None:
    worker.start_ready()
    worker.store.recover(worker.flight().owner, [])
    worker.push("write", "mine no more")

    assert worker.wait_exit() == 75
    assert worker.effects() == []


def fill_the_lane(worker: Worker, jobs: list[tuple[str, list[object]]]) -> None:
    """Have a worker die while it ran these; make this one the lane, and an impatient one."""
    worker.plan.update(role="quarantine", queues=[[QUARANTINE, 0]], concurrency=8)
    worker.tasks("from holdfast.engine import watching\nwatching.LANE_IDLE_NS = 1_000_000_000\n")
    worker.store.register("h:1:aaaaaaaaaaaa", 60.0)
    for klass, args in jobs:
        worker.push(klass, *args)
    leases, _ = worker.store.claim("h:1:aaaaaaaaaaaa", ["default"], len(jobs), 1)
    raws = [sidekiq.dumps({**sidekiq.loads(lease.raw), "hf": {"strikes": 1}}) for lease in leases]
    settled = [Settle(lease.token, SUSPECT, raw) for lease, raw in zip(leases, raws, strict=True)]
    worker.store.recover("h:1:aaaaaaaaaaaa", settled)


def test_the_lane_runs_suspects_one_by_one_and_then_ends(worker: Worker) -> None:
    fill_the_lane(worker, [("sleep", [0.2, text]) for text in ("one", "two", "three")])

    worker.start_ready()

    worker.wait_effect("end three")
    assert worker.effects() == [f"{what} {text}" for text in ("one", "two", "three") for what in ("begin", "end")]  # fmt: skip
    assert worker.wait_exit() == 0, "it ends itself when there is nothing left"
    assert worker.store.counts().busy == 0


def test_a_suspect_of_another_family_stays_in_the_lane(worker: Worker) -> None:
    """All families share the lane: one that does not know a suspect must not let it out as a retry (it killed eight workers that way)."""
    fill_the_lane(worker, [("Of::Another", []), ("write", ["mine"])])

    worker.start_ready()

    worker.wait_effect("mine")
    assert worker.wait_exit() == 0, "strangers do not keep it alive"
    assert worker.retries() == []
    left = worker.store.page(f"queue:{QUARANTINE}")
    assert [sidekiq.loads(entry.raw)["class"] for entry in left] == ["Of::Another"]
    assert sidekiq.hf(sidekiq.loads(left[0].raw)) == {"strikes": 1}


# -- mistakes of a person --------------------------------------------------------------------------


def _no_module(worker: Worker) -> None:
    worker.plan["use"] = ["task"]


def _broken_module(worker: Worker) -> None:
    worker.tasks("1 / 0\n")


def _no_store(worker: Worker) -> None:
    worker.plan["store"] = "mysql://localhost/jobs"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (_no_module, "there is no module"),
        (_broken_module, "ZeroDivisionError"),
        (_no_store, "mysql"),
    ],
)
def test_a_mistake_is_told_in_words(
    worker: Worker, change: Callable[[Worker], None], says: str
) -> None:
    change(worker)

    worker.start()

    assert worker.wait_exit() == 78
    assert says in worker.stderr()
    assert "Traceback" not in worker.stderr()


def test_the_recorder_says_who_it_is_and_no_job_is_taken_before(worker: Worker) -> None:
    worker.start_ready()

    told = worker.flight()
    host, pid, nonce = told.owner.rsplit(":", 2)
    assert host
    assert int(pid) == worker.process.pid == told.pid
    assert len(nonce) == 12
    assert told.worker == "work"
    assert told.store == worker.store.url
    assert not told.is_meant
    assert [one["owner"] for one in worker.store.owners()] == [told.owner]


def test_the_pulse_names_what_runs_and_counts_what_was_done(worker: Worker) -> None:
    """Whoever finds it hung or dead by a signal can say which job it was."""
    worker.push_many("noop", [str(i) for i in range(30)])
    worker.start_ready()
    worker.wait_drained()
    worker.push("sleep", 600, "long")
    worker.wait_effect("begin long")

    def look() -> pulses.Pulse | None:
        return pulses.decode((worker.run_dir / "pulse/work").read_bytes())

    found: pulses.Pulse = wait_for(
        lambda: (p := look()) and "job=sleep" in p.note and p.work_done == 30 and p,
        f"the pulse to say so ({look()})",
    )
    assert "component=jobs" in found.note.split()
    assert found.in_flight == 1
    assert [one.klass for one in worker.flight().running] == ["sleep"]
