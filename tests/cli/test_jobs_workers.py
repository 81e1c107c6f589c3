"""The other commands, where a worker of kind `jobs` is several processes: status, restart, drills, completion."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from cli.fake_node import SLOWNESS, FakeNode, planned, shown, snapshot, worker
from holdfast.cli import commands, completion, reference, table
from holdfast.cli.drills import catalogue
from holdfast.cli.main import main
from holdfast.cli.terminal import Paint
from holdfast.jobs.opening import open_store
from holdfast.wire import sidekiq

SOURCE = str(Path(commands.__file__).parents[2])


def part(name: str, role: str, family: str = "crawl") -> dict[str, Any]:
    return planned(name, kind="jobs", jobs={"role": role, "family": family, "store": "", "prefix": ""})  # fmt: skip


FAMILY = (
    part("steward", "steward", ""), part("crawl", "worker"), part("crawl.2", "worker"),
    part("crawl.quarantine", "quarantine"), part("mail", "worker", "mail"),
)  # fmt: skip


# -- status ------------------------------------------------------------------------------------------------


def test_a_lane_without_suspects_is_idle_and_no_trouble(capsys: pytest.CaptureFixture[str]) -> None:
    """Down is a word that makes people look; that a lane is down means that all is well."""
    with FakeNode(*FAMILY) as node:
        node.workers["crawl.quarantine"] = worker(
            "crawl.quarantine", kind="jobs", state="done", ready=False, pid=0, up=False, why="ended by itself"
        )  # fmt: skip
        node.up()
        assert main(["status", "--state", node.state_dir, "--json"]) == 0
        found = {one["name"]: one for one in json.loads(capsys.readouterr().out)["workers"]}
        main(["status", "--state", node.state_dir])
        text = capsys.readouterr().out

    assert (found["crawl.quarantine"]["state"], found["crawl.quarantine"]["jobs"]) == ("done", "quarantine")  # fmt: skip
    assert (found["steward"]["jobs"], found["crawl.2"]["jobs"]) == ("steward", "worker")
    assert "4 running, 1 idle" in text
    assert "crawl.quarantine  idle" in text
    assert "ended by itself" not in text


def test_a_lane_that_works_or_fails_is_shown_as_it_is() -> None:
    for state in ("running", "backoff", "failed"):
        lane = shown("crawl.quarantine", state=state, jobs="quarantine")
        lines = table.status(snapshot(lane), 80, Paint(False), 1_000_000.0)
        assert any(line.startswith("crawl.quarantine") and state in line for line in lines)


# -- orders ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("word", "meant"), [
    ("crawl", ["crawl", "crawl.2"]), ("crawl.2", ["crawl.2"]), ("mail", ["mail"]), ("steward", ["steward"]),
    ("crawl.quarantine", ["crawl.quarantine"]),
])  # fmt: skip
def test_the_name_of_a_jobs_worker_means_all_its_processes(
    capsys: pytest.CaptureFixture[str], word: str, meant: list[str]
) -> None:
    """Who wrote `processes = 2` has one worker in mind; its lane is the steward's business."""
    with FakeNode(*FAMILY) as node:
        node.up()
        assert main(["restart", "--state", node.state_dir, "--no-wait", "--json", word]) == 0
        orders = json.loads(capsys.readouterr().out)["orders"]

    assert [order["worker"] for order in orders] == meant
    assert [r["worker"] for r in node.requests if r["do"] == "restart"] == meant


# -- drills ------------------------------------------------------------------------------------------------


def test_no_drill_waits_for_a_lane_that_nobody_needs() -> None:
    """It is not there to be killed, and would not come back if it were."""
    limits = {"memory_bytes": None}
    restart = {"policy": "on-failure", "limit": 0, "after_limit": "slow", "delay_max_s": 1.0, "jitter": 0.0}  # fmt: skip
    beat = {"kind": "pulse", "timeout_s": 5.0}
    plan = {
        "watch": {"objectives": {}, "house_timeout_s": 5.0},
        "workers": [
            {**entry, "limits": limits, "restart": restart, "heartbeat": beat, "essential": False}
            for entry in FAMILY
        ],
    }
    drills = catalogue.drills_of(plan, enforces_memory=True)

    of_lane = [drill for drill in drills if drill.target == "crawl.quarantine"]
    assert of_lane
    assert all("only while there are suspects" in drill.skip for drill in of_lane)
    killed = [
        d.target for d in drills if d.kind == catalogue.KILL and not d.is_house and not d.skip
    ]
    assert killed == ["steward", "crawl", "crawl.2", "mail"]


# -- the page and the shells ---------------------------------------------------------------------------------


def test_every_verb_is_on_the_page_of_commands() -> None:
    page = reference.page()
    verbs = commands.verbs(commands.parser_for("jobs"))

    assert len(verbs) >= 15
    for name, says, _ in verbs:
        assert f"#### holdfast jobs {name}\n" in page
        assert f"{says[:1].upper()}{says[1:]}." in page


@pytest.fixture
def on_path(tmp_path: Path) -> Path:
    """A directory with a `holdfast` in it, as a shell finds it."""
    script = tmp_path / "holdfast"
    script.write_text(f'#!/bin/sh\nPYTHONPATH={SOURCE} exec "{sys.executable}" -m holdfast "$@"\n')
    script.chmod(0o755)
    (tmp_path / "completion.bash").write_text(completion.bash(completion.describe()))
    return tmp_path


def complete(on_path: Path, *words: str) -> list[str]:
    """Return what bash offers for the last word."""
    quoted = " ".join(f"'{word}'" for word in words)
    script = (
        f"source {on_path}/completion.bash\nCOMP_WORDS=({quoted}); COMP_CWORD={len(words) - 1}\n"
        '_holdfast; printf "%s\\n" "${COMPREPLY[@]}"\n'
    )
    env = {**os.environ, "PATH": f"{on_path}:{os.environ['PATH']}", "HOLDFAST_JOBS": f"sqlite://{on_path}/jobs.db"}  # fmt: skip
    done = subprocess.run(
        ["bash", "--norc", "-c", script], capture_output=True, text=True, cwd=on_path, check=True,
        timeout=60 * SLOWNESS, env=env,
    )  # fmt: skip
    assert done.stderr == ""
    return [word for word in done.stdout.splitlines() if word]


def test_bash_completes_verbs_their_options_and_what_is_in_the_queue(on_path: Path) -> None:
    store = open_store(f"sqlite://{on_path}/jobs.db")
    job = sidekiq.new("a.b", [], jid="f00d" + "0" * 20, queue="mail", now_s=1e9)
    store.push([sidekiq.dumps(job)])
    store.close()

    assert complete(on_path, "holdfast", "jobs", "re") == ["retry", "resume"]
    assert complete(on_path, "holdfast", "jobs", "list", "--cl") == ["--class"]
    assert complete(on_path, "holdfast", "jobs", "--store", "x", "list", "--off") == ["--offset"]
    assert complete(on_path, "holdfast", "jobs", "pause", "") == ["mail"]
    assert "mail" in complete(on_path, "holdfast", "jobs", "list", "")
    assert complete(on_path, "holdfast", "jobs", "show", "f0") == ["f00d" + "0" * 20]
    assert complete(on_path, "holdfast", "jobs", "drain", "--timeout", "") == []
