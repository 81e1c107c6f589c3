"""`holdfast status` on a node whose keeper says what the test wants."""

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from cli.fake_node import FakeNode, planned, worker
from holdfast.cli.main import main
from holdfast.cli.snapshot import last_two
from holdfast.linux import procfs
from holdfast.wire import journal, layout, sample


def status(node: FakeNode, capsys: pytest.CaptureFixture[str], *argv: str) -> dict[str, Any]:
    assert main(["status", "--state", node.state_dir, "--json", *argv]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_the_shape_is_the_documented_one(capsys: pytest.CaptureFixture[str]) -> None:
    with FakeNode(planned("web")) as node:
        node.up()
        found = status(node, capsys)

    assert next(iter(found)) == "node"
    assert found["node"] == "fake"
    assert list(found["workers"][0])[:11] == [
        "name", "kind", "state", "ready", "pid", "started_at_unix_s", "restarts", "rss_bytes", "cpu_share",
        "components", "flags",
    ]  # fmt: skip
    assert [process["name"] for process in found["house"]] == [
        "anchor",
        "keeper",
        "watchdog",
        "logger",
    ]
    assert all(process["pid"] == os.getpid() for process in found["house"])
    assert found["house"][0]["rss_bytes"] > 1 << 20
    assert found["workers"][0]["rss_bytes"] > 1 << 20
    assert found["keeper_answers"] is True


def test_nobody_runs(capsys: pytest.CaptureFixture[str]) -> None:
    with FakeNode() as node:
        assert main(["status", "--state", node.state_dir]) == 3
        assert (
            capsys.readouterr().err
            == f"no node is running on {node.state_dir}\n  start it:  holdfast up\n"
        )


def test_one_survivor_of_the_house_makes_it_a_running_node(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The anchor was killed a moment ago: the others bring it back, so the node is not down."""
    with FakeNode(planned("web")) as node:
        node.up(roles=("keeper",))
        found = status(node, capsys)

    assert [p["name"] for p in found["house"] if p["pid"] is None] == [
        "anchor",
        "watchdog",
        "logger",
    ]


def test_cpu_share_is_that_of_the_last_two_samples(capsys: pytest.CaptureFixture[str]) -> None:
    with FakeNode(planned("web"), planned("old"), planned("none")) as node:
        node.up()
        node.write_samples("web", 700, 0.25)
        node.write_samples("old", 5, 0.25)
        node.workers["old"]["pid"] = 1  # the samples are of another life
        shares = {w["name"]: w["cpu_share"] for w in status(node, capsys)["workers"]}

    assert shares == {"web": pytest.approx(0.25, abs=0.001), "old": None, "none": None}


@pytest.mark.parametrize(
    ("count", "first"),
    [(0, 1), (1, 1), (2, 1), (2, 0), (599, 1), (600, 1), (601, 1), (1199, 1), (1200, 0), (1201, 7)],
)
def test_the_last_two_samples_are_found_wherever_the_ring_stands(
    tmp_path: Path, count: int, first: int
) -> None:
    """Halving, instead of reading 600 records for each of a thousand workers: it has to be right at every seam."""
    data = bytearray(sample.SIZE)
    for number in range(first, first + count):
        record = sample.RECORD.pack(
            number, 10**18 + number, number, *[0] * (len(sample.FIELDS) - 3)
        )
        at = number % sample.SLOTS * sample.RECORD.size
        data[at : at + len(record)] = record
    file = tmp_path / "ring"
    file.write_bytes(data)
    descriptor = os.open(file, os.O_RDONLY)
    pair = last_two(descriptor)
    os.close(descriptor)

    if count < 2:
        assert pair is None
    else:
        assert pair is not None
        assert [one["number"] for one in pair] == [first + count - 2, first + count - 1]


def test_a_flag_is_with_its_worker_and_the_box_has_its_own(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with FakeNode(planned("web")) as node:
        node.up()
        node.raise_flag("web", "missed_heartbeat")
        node.raise_flag("@node", "disk_low", says="2 % free")
        Path(node.run_dir, layout.FLAGS, "web.x.123.tmp").write_text("half")
        Path(node.run_dir, layout.FLAGS, "web.junk").write_text("{")
        found = status(node, capsys)
        main(["status", "--state", node.state_dir])

    assert [flag["flag"] for flag in found["workers"][0]["flags"]] == ["missed_heartbeat"]
    assert [flag["flag"] for flag in found["flags"]] == ["disk_low"]
    out = capsys.readouterr().out
    assert "! web: missed_heartbeat for 1" in out
    assert "! this machine: disk_low" in out


def test_components_are_told_by_their_container(capsys: pytest.CaptureFixture[str]) -> None:
    plan = planned(
        "backend", kind="container", components=[{"name": "board"}, {"name": "presence"}]
    )
    with FakeNode(plan) as node:
        node.up()
        node.serve(
            f"{node.run_dir}/{layout.CONTROL}/backend.sock",
            lambda _: {"ok": True, "components": [{"name": "board", "state": "running"}]},
        )
        found = status(node, capsys)

    assert found["workers"][0]["components"] == [
        {"name": "board", "state": "running"}, {"name": "presence", "state": None},
    ]  # fmt: skip


def test_a_keeper_that_does_not_answer_is_told_and_its_journal_read(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """SIGSTOP of the keeper: for some seconds nobody answers, and just then somebody looks."""
    with FakeNode(planned("web"), planned("gone")) as node:
        node.up(roles=("anchor", "watchdog", "logger"))
        life = {"n": 4, "role": "main", "mono_s": 1.0, "unix_s": time.time() - 60}
        records = [
            {"seq": 1, "k": "intent", "worker": "web", **life},
            {"seq": 2, "k": "start", "worker": "web", "pid": os.getpid(), "entry": 0,
             "ticks": procfs.start_ticks(os.getpid()), **life},
            {"seq": 3, "k": "ready", "worker": "web", **life},
            {"seq": 4, "k": "start", "worker": "gone", "pid": os.getpid(), "entry": 0, "ticks": 1, **life},
        ]  # fmt: skip
        Path(node.run_dir, layout.JOURNAL).write_bytes(journal.encode_all(records))
        found = status(node, capsys, "--timeout", "0.1s")

    assert found["keeper_answers"] is False
    assert "the keeper does not answer" in found["trouble"]
    web, gone = found["workers"]
    assert (web["state"], web["ready"], web["pid"], web["n"]) == ("running", True, os.getpid(), 4)
    assert (gone["state"], gone["pid"]) == ("down", None)


def test_only_some_workers(capsys: pytest.CaptureFixture[str]) -> None:
    with FakeNode(planned("web"), planned("mail")) as node:
        node.up()
        assert [w["name"] for w in status(node, capsys, "mail")["workers"]] == ["mail"]
        assert main(["status", "--state", node.state_dir, "meil"]) == 2

    assert 'Did you mean "mail"?' in capsys.readouterr().err


def test_the_node_is_found_from_a_directory_below_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with FakeNode(planned("web")) as node:
        node.up()
        below = Path(node.config).parent / "deep" / "down"
        below.mkdir(parents=True)
        monkeypatch.chdir(below)
        assert main(["status"]) == 0
        monkeypatch.chdir("/")

    assert capsys.readouterr().out.startswith("fake  1 worker")


def test_a_configuration_that_is_broken_at_the_moment_still_leads_to_its_node() -> None:
    with FakeNode(planned("web")) as node:
        node.up()
        Path(node.config).write_text("[node\nstate_dir = ")
        assert main(["-c", node.config, "status"]) == 0


def test_another_state_directory_in_the_configuration_is_followed(
    tmp_path: Path,
) -> None:
    with FakeNode(planned("web")) as node:
        node.up()
        config = tmp_path / "holdfast.toml"
        config.write_text(f'[node]\nstate_dir = "{node.state_dir}"\n')
        assert main(["-c", str(tmp_path), "status"]) == 0


def test_a_damaged_plan_is_status_5(capsys: pytest.CaptureFixture[str]) -> None:
    with FakeNode(planned("web")) as node:
        node.up()
        Path(node.run_dir, layout.PLAN).write_text('{"workers": [')
        assert main(["status", "--state", node.state_dir]) == 5
        path = f"{node.run_dir}/{layout.PLAN}"

    assert f"{path}: not a plan" in capsys.readouterr().err


def test_a_worker_that_waits_says_for_what(capsys: pytest.CaptureFixture[str]) -> None:
    with FakeNode(planned("web")) as node:
        node.up()
        node.workers["web"] = worker(
            "web", state="waiting", ready=False, pid=None, why="db is not ready"
        )
        main(["status", "--state", node.state_dir])

    assert "  web: waiting: db is not ready" in capsys.readouterr().out
