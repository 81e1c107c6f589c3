"""`holdfast jobs`: what a person can do about jobs, queues and those who work on them."""

import io
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from cli.queue_hands import FAILED, OWNER, Told, Types, at, die, push, take, tokens
from holdfast.model.jobs import DEAD, SUSPECT, Beat, Settle
from holdfast.wire import sidekiq

if TYPE_CHECKING:
    from holdfast.jobs.store import Store

# -- changing -------------------------------------------------------------------------------------------------


def test_push_takes_json_or_else_text(store: "Store", told: Told) -> None:
    jid = told("push", "shop.send", "5", "true", '{"a": [1]}', "joe@example.com", "-q", "mail")[
        "jid"
    ]

    entry = at(store, jid)
    job = sidekiq.loads(entry.raw)
    assert entry.where == "queue:mail"
    assert job["args"] == [5, True, {"a": [1]}, "joe@example.com"]
    assert job["retry"] is True
    late = told("push", "a.b", "--in", "10m", "--retries", "0")
    assert at(store, late["jid"]).at_s == pytest.approx(time.time() + 600, abs=30)
    retry = sidekiq.loads(at(store, late["jid"]).raw)["retry"]
    assert (retry, type(retry)) == (0, int)  # with `false` it would not be kept when it fails


def test_push_refuses_a_time_that_has_passed(types: Types) -> None:
    for at_time in ("2020-01-01", "10m"):
        status, _, err = types("push", "a.b", "--at", at_time)
        assert status == 2
        assert "this is no moment to come" in err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("a.b", "-q", "a b"), "cannot be the name of a queue"), (("a.b", "-q", "quarantine"), "run alone"),
        (("",), "is no name of a job"), (("a.b", "\udcff"), "is not UTF-8"),
    ],
)  # fmt: skip
def test_push_refuses_what_the_sdk_would_refuse(words: tuple[str, ...], says: str, store: "Store", types: Types) -> None:  # fmt: skip
    """It was said to be stored, in a queue that no worker can be told to serve."""
    status, _, err = types("push", *words)

    assert (status, store.counts().queues) == (2, {})
    assert says in err


def test_push_makes_no_null_of_a_number_that_json_does_not_have(store: "Store", told: Told) -> None:
    jid = told("push", "a.b", "NaN", "1e999", '{"a": NaN}')["jid"]

    assert sidekiq.loads(at(store, jid).raw)["args"] == ["NaN", "1e999", '{"a": NaN}']


def test_a_dead_job_that_is_retried_starts_with_a_clean_slate(store: "Store", types: Types) -> None:
    """The strikes of a cause that was mended would turn its next mishap into a verdict."""
    jid = die(store, "a.b", hf={"strikes": 2, "limit": "x", "limit_max": 3})

    assert types("retry", jid) == (0, "1 job retried\n", "")
    entry = at(store, jid)
    job = sidekiq.loads(entry.raw)
    assert entry.where == "queue:default"
    assert job["hf"] == {"limit": "x", "limit_max": 3}
    assert job["retry_count"] == 2
    assert job["error_message"] == FAILED["error_message"]


def test_a_suspect_that_died_for_good_comes_back_to_its_own_queue(
    store: "Store", types: Types
) -> None:
    jid = push(store, queue="mail")
    token, job = take(store, "mail")
    store.claim(OWNER, [], 0, 0, settled=[Settle(token, SUSPECT, sidekiq.dumps({**job, "hf": {"strikes": 1}}))])  # fmt: skip
    assert at(store, jid).where == "queue:quarantine"
    assert types("kill", jid)[0] == 0

    assert types("retry", jid)[0] == 0
    assert at(store, jid).where == "queue:mail"


def test_all_of_a_place_are_retried_after_a_yes(
    store: "Store", types: Types, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    jids = [die(store, f"a.k{n % 2}") for n in range(6)]
    status, _, err = types("retry", "--all")
    assert status == 2
    assert "nobody is here to be asked (retry 6 jobs that are dead?)" in err
    assert store.counts().dead == 6

    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    for answer, left in (("n\n", 6), ("\n", 6), ("y\n", 3)):
        monkeypatch.setattr(sys.stdin, "readline", lambda answer=answer: answer, raising=False)
        types("retry", "--all", "--class", "a.k1")
        assert store.counts().dead == left
    assert {at(store, jid).where for jid in jids[1::2]} == {"queue:default"}
    assert told("retry", "--all", "--yes") == {"did": "retry", "jobs": 3, "left": 0}


def test_a_job_that_dies_again_at_once_is_not_retried_for_ever(
    store: "Store", told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last death comes first among the dead: a loop until none is left would never end."""
    jids = [die(store) for _ in range(5)]
    from holdfast.jobs.sqlite.store import SqliteStore

    move = SqliteStore.move

    def move_and_die(self: Any, entries: Any, to: str, raws: Any = None) -> int:
        moved = move(self, entries, to, raws)
        while True:
            leases, _ = self.claim(OWNER, ["default"], 1, next(tokens))
            if not leases:
                return moved
            self.claim(OWNER, [], 0, 0, settled=[Settle(leases[0].token, DEAD, leases[0].raw, time.time())])  # fmt: skip

    monkeypatch.setattr(SqliteStore, "move", move_and_die)
    found = told("retry", "--all", "--yes")

    assert found["jobs"] == 5
    assert store.counts().dead == len(jids)


def test_what_waits_can_be_killed_and_what_is_dead_deleted(store: "Store", types: Types) -> None:
    soon, later = push(store), push(store, at_s=time.time() + 600)

    assert types("kill", soon, later)[:2] == (0, "2 jobs moved to the dead\n")
    assert {entry.where for entry in (at(store, soon), at(store, later))} == {"dead"}
    assert types("delete", soon, later)[:2] == (0, "2 jobs deleted\n")
    assert store.find(soon) is None


@pytest.mark.parametrize(("argv", "says"), [
    (("retry",), "which jobs?"),
    (("retry", "--all", "JID"), "which jobs?"),
    (("kill", "--all"), "of which place?"),
    (("retry", "--class", "a.b", "JID"), "--class chooses among all jobs of a place"),
    (("retry", "QUEUED"), "it is in queue default already"),
    (("kill", "JID"), "it is dead already"),
    (("kill", "BUSY"), "it is running"),
    (("delete", "BUSY"), "holdfast jobs cancel"),
    (("retry", "JID", "ffffffffffffffffffffffff"), "there is no job ffffffffffffffffffffffff"),
    (("cancel", "JID"), "is dead"),
    (("pase", "default"), 'Did you mean "holdfast jobs pause"?'),
])  # fmt: skip
def test_what_makes_no_sense_is_refused_and_nothing_is_done(
    store: "Store", types: Types, argv: tuple[str, ...], says: str
) -> None:
    jids = {"JID": die(store), "BUSY": push(store)}
    take(store)
    jids["QUEUED"] = push(store)
    before = store.counts()
    status, _, err = types(*(jids.get(word, word) for word in argv))

    assert status == 2
    assert says in err
    after = store.counts()
    assert (after.dead, after.busy, after.queues["default"][0]) == (before.dead, before.busy, before.queues["default"][0])  # fmt: skip


def test_a_job_that_was_pushed_wrong_is_edited_and_run(
    store: "Store", types: Types, place: Path
) -> None:
    """Its big number must not become another one on the way through an editor."""
    jid = die(store, "a.b", 12345678901234567890123, "wrong")
    status, out, _ = types("edit", jid)
    assert status == 0
    (place / "job.json").write_text(out.replace("wrong", "right"))

    assert types("edit", jid, "--from", "job.json")[1] == f"{jid}  dead\n"
    assert types("edit", jid, "--from", "job.json", "--retry")[1] == f"{jid}  in queue default\n"
    assert sidekiq.loads(at(store, jid).raw)["args"] == [12345678901234567890123, "right"]


def test_an_edited_job_may_come_from_a_pipe(
    store: "Store", types: Types, monkeypatch: pytest.MonkeyPatch
) -> None:
    jid = push(store, "a.b", at_s=time.time() + 600)
    job = {**sidekiq.loads(at(store, jid).raw), "args": [2]}
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(sidekiq.dumps(job))))

    assert types("edit", jid, "--from", "-")[1] == f"{jid}  in queue default\n"
    assert sidekiq.loads(at(store, jid).raw)["args"] == [2]


@pytest.mark.parametrize(("text", "says"), [
    ("{", "this is no job"),
    ("[]", "this is no job"),
    ('{"class": "a", "args": [], "jid": "f"}', 'a job keeps its "jid"'),
])  # fmt: skip
def test_what_is_no_job_any_more_changes_nothing(
    store: "Store", types: Types, place: Path, text: str, says: str
) -> None:
    jid = die(store)
    before = at(store, jid).raw
    (place / "job.json").write_text(text)
    status, _, err = types("edit", jid, "--from", "job.json")

    assert status == 2
    assert says in err
    assert at(store, jid).raw == before


def test_cancelling_tells_those_that_run(store: "Store", types: Types) -> None:
    waits, runs = push(store), push(store)
    take(store)

    status, out, _ = types("cancel", waits, runs)
    assert (status, out) == (0, "2 jobs cancelled; 1 of them is running and told so\n")
    assert set(store.cancelled([waits, runs])) == {waits, runs}


# -- queues and workers -----------------------------------------------------------------------------------------


def test_a_paused_queue_gives_no_jobs_until_it_is_resumed(store: "Store", types: Types) -> None:
    push(store)
    assert types("pause", "default")[0] == 0
    assert store.claim(OWNER, ["default"], 1, next(tokens))[0] == []

    assert types("resume", "default")[0] == 0
    assert len(store.claim(OWNER, ["default"], 1, next(tokens))[0]) == 1
    assert 'Did you mean "default"' in types("resume", "defualt")[2]


def test_pausing_a_queue_before_its_first_job_is_possible_and_noted(types: Types) -> None:
    status, _, err = types("pause", "new")

    assert status == 0
    assert "there is no queue new yet" in err


def test_draining_ends_when_nothing_waits_or_runs(store: "Store", types: Types, told: Told) -> None:
    push(store)
    status, _, err = types("drain", "default")
    assert status == 1
    assert "nobody works on queue default" in err
    store.renew([Beat(OWNER, {"queues": ["default"]}, 0, False, 0, [])], 60.0)
    token, _ = take(store)
    status, _, err = types("drain", "default", "--timeout", "0.3")
    assert status == 1
    assert "1 job left" in err
    job = sidekiq.loads(store.held(OWNER)[0].raw)
    store.claim(OWNER, [], 0, 0, settled=[Settle(token, SUSPECT, sidekiq.dumps(job))])
    assert "1 job left" in types("drain", "default", "--timeout", "0.3")[2]
    token, _ = take(store, "quarantine")
    store.claim(OWNER, [], 0, 0, done=[token])

    assert told("drain", "default") == {"did": "drain", "queues": {"default": 0}, "empty": True}
    store.pause("default")
    assert "is paused: it would never be empty" in types("drain", "default")[2]


def test_a_queue_is_wiped_only_after_a_yes(store: "Store", types: Types) -> None:
    push(store)
    push(store, queue="mail")
    status, _, err = types("wipe", "default")
    assert status == 2
    assert "delete 1 job of default for good?" in err

    assert types("wipe", "default", "--yes")[:2] == (0, "1 job deleted\n")
    assert sum(size for size, _, _ in store.counts().queues.values()) == 1


def test_a_process_is_told_to_be_quiet_by_any_of_its_names(store: "Store", types: Types) -> None:
    def beat() -> Any:
        info = {"hostname": "vm", "pid": 4711, "tag": "crawl"}
        return store.renew([Beat(OWNER, info, 0, False, 0, [])], 60.0)[1]

    beat()
    for word in (OWNER, "4711", "crawl", "vm:4711"):
        assert types("quiet", word)[0] == 0
        assert beat() == {OWNER: ["TSTP"]}
    assert types("stop", "--all", "--yes")[0] == 0
    assert beat() == {OWNER: ["TERM"]}
    assert types("stop", "crwal")[0] == 2
    assert types("stop")[0] == 2
