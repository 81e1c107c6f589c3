"""`holdfast jobs`: what a person sees of the queue."""

import json
import os
import re
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from cli.fake_node import SLOWNESS, FakeNode, planned
from cli.queue_hands import OWNER, Told, Types, die, fail, push, take
from holdfast.cli import jobs_table, jobs_top
from holdfast.cli.terminal import Paint
from holdfast.model.jobs import DEAD, Beat, Settle, StoreDownError
from holdfast.wire import sidekiq

if TYPE_CHECKING:
    from holdfast.jobs.store import Store

# -- which queue ------------------------------------------------------------------------------------------


def test_the_queue_of_the_node_here_comes_before_that_of_the_environment(
    place: Path, types: Types, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who stands in the directory of a node means that node."""
    (place / "site").mkdir()
    (place / "site/holdfast.toml").write_text('[worker.crawl]\nkind = "jobs"\nuse = ["m"]\n')
    monkeypatch.chdir(place / "site")
    (place / "site/.holdfast").mkdir()

    assert types("push", "a.b")[0] == 0
    assert (place / "site/.holdfast/jobs.db").exists()
    assert not (place / "jobs.db").exists()
    assert types("push", "a.b", "--store", f"sqlite://{place}/named.db")[0] == 0
    assert (place / "named.db").exists()


def test_the_queue_of_a_running_node_is_the_one_it_runs_with(
    place: Path, told: Told, store: "Store"
) -> None:
    """The file may have been edited since; what runs counts."""
    url = f"sqlite://{place}/jobs.db"
    jid = push(store)
    with FakeNode(planned("crawl", jobs={"store": url, "prefix": "", "role": "worker"})) as node:
        found = told("list", "--state", node.state_dir)
    assert [job["jid"] for job in found["jobs"]] == [jid]


@pytest.mark.parametrize(("config", "says"), [
    (None, "which queue? there is no node here, and HOLDFAST_JOBS is not set"),
    ('[worker.w]\ncommand = ["sleep", "9"]\n', "which queue? the node here has none"),
])  # fmt: skip
def test_no_queue_is_told_with_what_to_do(
    place: Path, types: Types, monkeypatch: pytest.MonkeyPatch, config: str | None, says: str
) -> None:
    monkeypatch.delenv("HOLDFAST_JOBS")
    if config is not None:
        (place / "holdfast.toml").write_text(config)
    status, _, err = types("stats")

    assert status == 2
    assert says in err
    assert "--store sqlite:///path/to/jobs.db" in err


def test_a_named_node_without_a_queue_is_not_another_queue(place: Path, types: Types) -> None:
    """`-c other.toml` must not silently show what HOLDFAST_JOBS names."""
    (place / "other.toml").write_text('[worker.w]\ncommand = ["sleep", "9"]\n')
    status, _, err = types("stats", "-c", "other.toml")

    assert status == 2
    assert 'has no queue\n  give it one:  [worker.NAME]  kind = "jobs"' in err


def test_a_store_that_is_away_is_told_in_words_and_without_its_password(types: Types) -> None:
    """At 3 am nobody wants a traceback, and what is on a screen is soon in a chat."""
    url = "redis://:hush@127.0.0.1:1/0"
    status, out, err = types("stats", "--store", url, "--json")

    assert status == 1
    assert "the store cannot be reached" in err
    assert "the address is from --store" in err
    assert "hush" not in err + out
    assert "Traceback" not in err
    assert json.loads(out)["error"]["exit_status"] == 1


def test_a_wrong_address_is_told_in_words(types: Types) -> None:
    for url in ("reddis://h", "sqlite:///nowhere/at/all.db", "jobs.db"):
        status, _, err = types("stats", "--store", url)
        assert status == 1, url
        assert "Traceback" not in err
        assert "--store" in err


# -- looking ------------------------------------------------------------------------------------------------


def test_the_figures_are_those_of_the_store(store: "Store", types: Types, told: Told) -> None:
    push(store)
    push(store, queue="mail")
    push(store, at_s=time.time() + 600)
    die(store, queue="low")
    fail(store)
    store.pause("mail")

    found = told("stats")
    assert (found["scheduled"], found["retry"], found["dead"], found["busy"]) == (1, 1, 1, 0)
    sizes = {q["queue"]: (q["size"], q["paused"]) for q in found["queues"]}
    assert (sizes["default"], sizes["mail"]) == ((1, False), (1, True))
    status, out, _ = types()
    assert status == 0
    assert "2 in queues" in out
    assert "1 dead" in out
    assert re.search(r"mail +1 .*paused", out)
    assert "low" not in types("stats", "mail")[1]


@pytest.mark.parametrize("words", [("-n", "-5"), ("--offset", "-1")])
def test_a_list_of_less_than_nothing_is_refused(words: tuple[str, str], types: Types) -> None:
    """It said that there were no jobs."""
    status, out, err = types("list", *words)

    assert (status, out) == (2, "")
    assert "0 or more" in err


def test_a_dead_job_is_listed_with_when_and_why(store: "Store", types: Types, told: Told) -> None:
    jid = die(store, "shop.send", 5, "joe")
    status, out, _ = types("list", "dead")

    assert status == 0
    assert out.startswith("dead: 1 job\n")
    assert re.search(rf"{jid}  shop\.send +1m30s ago +4  ValueError: no such page at all", out)
    assert "holdfast jobs retry JID" in out
    (job,) = told("list", "dead")["jobs"]
    assert (job["where"], job["args"], job["failures"]) == ("dead", [5, "joe"], 4)
    assert job["died_at_unix_s"] == pytest.approx(time.time() - 90, abs=30)


def test_every_place_is_shown_at_a_glance(store: "Store", types: Types) -> None:
    push(store, "in.time", at_s=time.time() + 600)
    fail(store, "in.retry")
    die(store, "in.dead")
    push(store, "in.hands", queue="hands")
    take(store, "hands")
    push(store, "in.queue", 1)

    status, out, _ = types("list")
    assert status == 0
    for klass in ("in.time", "in.retry", "in.dead", "in.hands", "in.queue"):
        assert klass in out
    assert re.search(r"in\.time +in (9m|10m)", out)
    headings = [line for line in out.splitlines() if re.match(r"[a-z ]+: \d+ job", line)]
    assert headings == [
        "running: 1 job", "in queue default: 1 job", "waiting for a retry: 1 job", "scheduled: 1 job", "dead: 1 job",
    ]  # fmt: skip


def test_a_list_can_be_cut_skipped_and_sieved(store: "Store", told: Told) -> None:
    jids = [push(store, f"a.k{n % 2}") for n in range(10)]

    def listed(*argv: str) -> list[str]:
        return [job["jid"] for job in told("list", "default", *argv)["jobs"]]

    assert listed() == jids
    assert listed("-n", "3") == jids[:3]
    assert listed("-n", "3", "--offset", "2") == jids[2:5]
    assert listed("-n", "0") == jids
    assert listed("--class", "a.k1") == jids[1::2]
    assert listed("--class", "a.k1", "-n", "2", "--offset", "1") == [jids[3], jids[5]]


def test_many_pages_are_walked_through(store: "Store", told: Told) -> None:
    """A list of all must not end at the first five hundred."""
    raws = [
        sidekiq.dumps(sidekiq.new("a.b", [n], jid=f"{n:024x}", queue="big", now_s=time.time()))
        for n in range(1203)
    ]
    store.push(raws)

    assert [job["args"] for job in told("list", "big", "-n", "0")["jobs"]] == [[n] for n in range(1203)]  # fmt: skip
    assert len(told("list", "big", "-n", "0", "--offset", "1200")["jobs"]) == 3
    assert told("delete", "--all", "--where", "big", "--yes")["jobs"] == 1203


def test_an_unknown_place_is_told_from_a_right_one(store: "Store", types: Types) -> None:
    push(store, queue="mail")
    status, _, err = types("list", "mial")

    assert status == 2
    assert err == 'there is no queue or place "mial"\n  Did you mean "mail"?\n'


def test_one_job_in_full_leads_to_its_evidence(store: "Store", types: Types, told: Told) -> None:
    """The way from a dead job to the story of what killed it has to be one line to copy."""
    jid = die(
        store, "shop.send", 1,
        error_backtrace=sidekiq.pack_backtrace(["shop/tasks.py:7 in send"]), hf={"strikes": 2, "timeout": 30.0},
    )  # fmt: skip
    store.note(jid, {"incident": "2024-11-03-crawl-2", "says": "killed by SIGSEGV", "state_dir": "/srv/x"}, 60.0)  # fmt: skip
    status, out, _ = types("show", jid)

    assert status == 0
    assert "2 processes died while it ran" in out
    assert "look: holdfast incident 2024-11-03-crawl-2 --state /srv/x" in out
    assert "killed by SIGSEGV" in out
    assert "shop/tasks.py:7 in send" in out
    assert re.search(r"error +builtins\.ValueError: no such page\n +at all", out)
    (job,) = told("show", jid)["jobs"]
    assert job["notes"]["incident"] == "2024-11-03-crawl-2"
    assert job["backtrace"] == ["shop/tasks.py:7 in send"]
    assert job["job"]["hf"]["strikes"] == 2


def test_the_first_letters_of_an_id_are_enough(store: "Store", types: Types) -> None:
    made = {**sidekiq.new("a.b", [], jid="f00d" + "0" * 20, queue="default", now_s=time.time())}
    store.push([sidekiq.dumps(made), sidekiq.dumps({**made, "jid": "f00e" + "0" * 20})])

    assert "f00d0000" in types("show", "f00d")[1]
    status, _, err = types("show", "f00")
    assert status == 2
    assert "is the beginning of 2 jobs" in err
    status, _, err = types("show", "beef")
    assert status == 2
    assert "one that is done is not kept" in err


def test_what_is_no_job_is_shown_all_the_same(store: "Store", types: Types) -> None:
    """A malformed one comes from somewhere: a person has to see it to find out."""
    jid = push(store)
    token, _ = take(store)
    store.claim(OWNER, [], 0, 0, settled=[Settle(token, DEAD, b'{"jid": 5', time.time())])
    status, out, _ = types("list", "dead")

    assert status == 0
    assert "(no job)" in out
    assert jid not in out
    assert types("delete", "--all", "--where", "dead", "--yes")[1] == "1 job deleted\n"


def test_who_works_is_listed_with_what_runs(store: "Store", types: Types, told: Told) -> None:
    push(store, "slow.job")
    token, job = take(store)
    info = {
        "hostname": "vm", "pid": 4711, "tag": "crawl", "concurrency": 10, "queues": ["default", "mail"],
        "started_at": time.time() - 125,
    }  # fmt: skip
    store.renew([Beat(OWNER, info, 1, False, 40_000, [(token, time.time() - 5, 1)])], 60.0)

    (found,) = told("workers")["workers"]
    assert (found["owner"], found["worker"], found["busy"]) == (OWNER, "crawl", 1)
    assert [one["jid"] for one in found["running"]] == [job["jid"]]
    out = types("workers")[1]
    assert re.search(rf"{OWNER}  crawl +1/10 +39M +2m05s", out)
    picture = types("top", "--once")[1]
    assert re.search(rf"5\.\ds +{job['jid']}  slow\.job  crawl", picture)
    assert told("top")["busy"] == 1


# -- a screen -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [30, 45, 60, 80, 100, 200])
def test_every_table_fits_every_width(store: "Store", width: int) -> None:
    """Ids are there to be copied: whatever gives way, they do not, wherever they fit at all."""
    jids = [
        die(store, "a_package.with_a_long_name.and_modules.function_" + "x" * n) for n in (1, 40)
    ]
    rows = [jobs_table.row(entry) for entry in store.page("dead")]
    paint, now_s = Paint(False), time.time()
    lines = jobs_table.place_lines("dead", rows, 1000, width, paint, now_s)
    lines += jobs_table.stats(store.counts(), width, paint)
    owner = {"owner": OWNER, "info": {"queues": ["a" * 30, "b" * 30]}, "busy": 3, "beat": now_s - 2}
    lines += jobs_table.owners_table([jobs_table.owner_row(owner, now_s)], width, paint, now_s)
    lines += jobs_table.job_lines(rows[0], sidekiq.loads(store.page("dead")[0].raw), {"progress": "x" * 500}, width, paint, now_s)  # fmt: skip

    assert max(map(len, lines)) <= width
    assert all(any(jid in line for line in lines) for jid in jids)


def test_a_text_from_outside_cannot_paint_the_screen(store: "Store", types: Types) -> None:
    """Arguments and errors are strangers' words: escape codes in them are not obeyed."""
    jid = die(store, "a.b", "\x1b[2Jgone\r\n")
    for argv in (["list"], ["show", jid]):
        out = types(*argv)[1]
        assert "\x1b" not in out
        assert "\r" not in out


# -- watching -------------------------------------------------------------------------------------------------------


def test_top_goes_on_until_ctrl_c(store: "Store", place: Path) -> None:
    """On a terminal, drawn in place; the usual way out is no error."""
    push(store, "a.b")
    main_side, terminal_side = os.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "holdfast", "jobs", "top", "--every", "0.1"], cwd=place, stdin=terminal_side,
        stdout=terminal_side, stderr=terminal_side, start_new_session=True,
        env={**os.environ, "PYTHONPATH": str(Path(jobs_table.__file__).parents[2]), "TERM": "xterm"},
    )  # fmt: skip
    os.close(terminal_side)
    seen = b""
    try:
        while seen.count(b"1 in queues") < 3:
            assert select.select([main_side], [], [], 30 * SLOWNESS)[0], seen
            seen += os.read(main_side, 65536)
        process.send_signal(signal.SIGINT)
        assert process.wait(30 * SLOWNESS) == 0
        assert b"jobs/s" in seen
        assert b"Traceback" not in seen
    finally:
        process.kill()
        process.wait()
        os.close(main_side)


def test_top_waits_for_a_store_that_is_away(
    store: "Store", capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The moment in which it comes back is what somebody who watches wants to see."""
    push(store, "a.b")
    looks: list[Exception | None] = [StoreDownError("no route to host"), None, KeyboardInterrupt()]  # type: ignore[list-item]
    counts = store.counts

    def look() -> Any:
        error = looks.pop(0)
        if error is not None:
            raise error
        return counts()

    monkeypatch.setattr(store, "counts", look)
    jobs_top._watch(jobs_top.Top(store, Paint(False)), 0.0)

    out = capsys.readouterr().out
    assert out.index("the store is away: no route to host") < out.index("1 in queues")
    assert out.endswith("\x1b[?25h\n")


# -- programs -----------------------------------------------------------------------------------------------------


def test_every_key_that_is_printed_is_explained(store: "Store", types: Types) -> None:
    """Each verb is run, and its keys are looked for in docs/reference/json.md."""
    page = (Path(__file__).parents[2] / "docs/reference/json.md").read_text()
    explained = set(re.findall(r"\w+", page.split("## holdfast jobs")[1].split("\n## ")[0]))
    jid, waits = die(store), push(store)
    store.renew([Beat(OWNER, {"queues": ["default"]}, 0, False, 0, [])], 60.0)
    for argv in (
        ["stats"], ["list"], ["workers"], ["top"], ["push", "a.b"], ["cancel", waits], ["retry", jid], ["kill", jid],
        ["delete", jid], ["pause", "default"], ["resume", "default"], ["wipe", "default", "--yes"], ["drain", "default"],
        ["quiet", OWNER],
    ):  # fmt: skip
        status, out, err = types(*argv, "--json")
        assert status == 0, (argv, err)
        assert _keys(json.loads(out), argv[0]) <= explained, argv


def _keys(value: Any, verb: str) -> set[str]:
    if isinstance(value, list):
        return {key for entry in value for key in _keys(entry, verb)}
    if isinstance(value, dict):
        inner = [] if verb == "drain" else value.values()
        return set(value) | {key for entry in inner for key in _keys(entry, verb)}
    return set()


def test_options_of_every_command_may_stand_before_or_after_the_verb(
    place: Path, types: Types, store: "Store"
) -> None:
    jid = push(store)
    url = f"sqlite://{place}/jobs.db"
    for argv in (("--json", "--store", url, "list"), ("list", "--json", "--store", url)):
        assert jid in types(*argv)[1]
