"""Commands that work on files: init, check, diff, apply, import, schema, incidents, logs."""

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from cli.fake_node import FakeNode, planned, worker
from holdfast.cli import incidents, logs, place
from holdfast.cli.main import main
from holdfast.cli.terminal import Paint
from holdfast.config.load import load
from holdfast.linux import places
from holdfast.records.logs import Line
from holdfast.wire import layout, logindex

CONFIG = """\
[node]
name = "small"

[worker.web]
command = ["sleep", "60"]
"""


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "holdfast.toml").write_text(CONFIG)
    return tmp_path


# -- init --------------------------------------------------------------------------------------------


def test_init_writes_a_node_that_check_accepts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["init", "my site"]) == 0
    out = capsys.readouterr().out
    assert f"wrote {tmp_path}/my site/holdfast.toml" in out
    assert "now:  cd 'my site' && holdfast up" in out

    monkeypatch.chdir(tmp_path / "my site")
    assert main(["check"]) == 0
    assert capsys.readouterr().out == "ok: 2 workers, 1 component\n"


def test_init_overwrites_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "hello.py").write_text("mine")

    assert main(["init"]) == 2
    assert "hello.py: this is there already, nothing was written" in capsys.readouterr().err
    assert os.listdir(tmp_path) == ["hello.py"]
    assert (tmp_path / "hello.py").read_text() == "mine"


# -- check -------------------------------------------------------------------------------------------


def test_check_tells_all_problems_at_once(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (site / "holdfast.toml").write_text(CONFIG + 'comand = "x"\nrestart = { limit = "five" }\n')

    assert main(["check"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "holdfast.toml:6" in err
    assert "holdfast.toml:7" in err
    assert err.endswith("2 problems\n")


def test_check_as_json(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "--json"]) == 0
    good = json.loads(capsys.readouterr().out)
    assert list(good) == [
        "config", "ok", "problems", "node", "workers", "components", "digest", "notes",
    ]  # fmt: skip
    assert (good["ok"], good["workers"], good["node"]) == (True, 1, "small")

    (site / "holdfast.toml").write_text(CONFIG + 'comand = "x"\n')
    assert main(["check", "--json"]) == 2
    bad = json.loads(capsys.readouterr().out)
    assert list(bad) == ["config", "ok", "problems"]
    (problem,) = bad["problems"]
    assert list(problem) == ["file", "line", "column", "key", "says", "hints"]
    assert problem["line"] == 6


def test_check_of_a_file_that_is_not_there(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "nope.toml"]) == 2
    assert capsys.readouterr().err == "nope.toml: there is no such file\n"
    assert main(["-c", "nope.toml", "check"]) == 2
    assert site.is_dir()


# -- diff and apply ----------------------------------------------------------------------------------


class Applied:
    """A node that runs the plan of a real configuration file."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self.node = FakeNode()
        self.config = Path(self.node.config)
        self.config.write_text(CONFIG)
        monkeypatch.chdir(self.config.parent)
        from holdfast.config.load import load_plan

        self.node.plan = dict(load_plan(str(self.config), os.environ))
        self.node.write_plan()
        self.node.workers = {"web": worker("web")}
        self.node.up()
        self.node.on["apply"] = self.apply
        self.capsys = capsys

    def apply(self, request: dict[str, Any]) -> dict[str, Any]:
        """The keeper as far as it matters: it reads the plan that it is handed and says what it touched."""
        new = json.loads(Path(request["plan"]).read_text())
        old = {entry["name"]: entry for entry in self.node.plan["workers"]}
        touched: dict[str, list[str]] = {"start": [], "stop": [], "restart": []}
        for entry in new["workers"]:
            name = entry["name"]
            if name not in old:
                touched["start"].append(name)
                self.node.workers[name] = worker(name)
            elif old[name] != entry:
                touched["restart"].append(name)
                self.node.workers[name] = worker(name, n=2)
        self.node.plan = new
        return touched

    def run(self, *argv: str) -> tuple[int, str, str]:
        status = main(list(argv))
        out, err = self.capsys.readouterr()
        return status, out, err


def test_apply_shows_hands_over_and_waits(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    applied = Applied(monkeypatch, capsys)
    with applied.node as node:
        assert applied.run("diff") == (0, "no difference\n", "")
        assert applied.run("apply") == (0, "no difference; nothing to do\n", "")

        applied.config.write_text(
            CONFIG.replace("60", "61") + '[worker.mail]\ncommand = ["sleep", "62"]\n'
        )
        status, out, _ = applied.run("diff")
        assert status == 0
        assert 'worker "web" is restarted' in out
        assert 'worker "mail" is new and is started' in out
        assert node.plan["workers"][0]["argv"][-1] == "60"

        status, out, err = applied.run("apply")
        assert (status, node.plan["workers"][0]["argv"][-1]) == (2, "60")
        assert "holdfast apply --yes" in err

        status, out, _ = applied.run("apply", "--yes")
        assert status == 0
        assert "applied in " in out
        on_disk = json.loads(Path(node.state_dir, layout.PLAN).read_text())
        assert [entry["argv"][-1] for entry in on_disk["workers"]] == ["61", "62"]


def test_a_mistake_in_the_file_never_reaches_the_node(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    applied = Applied(monkeypatch, capsys)
    with applied.node as node:
        applied.config.write_text(CONFIG + "comand = 1\n")
        assert applied.run("apply", "--yes")[0] == 2
        assert [r for r in node.requests if r["do"] == "apply"] == []


def test_apply_tells_a_worker_that_does_not_serve_afterwards(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    applied = Applied(monkeypatch, capsys)
    with applied.node as node:
        applied.config.write_text(CONFIG + '[worker.mail]\ncommand = ["false"]\n')

        def apply(request: dict[str, Any]) -> dict[str, Any]:
            touched = applied.apply(request)
            node.workers["mail"] = worker(
                "mail", state="backoff", ready=False, pid=None, why="exit status 1"
            )
            return touched

        node.on["apply"] = apply
        status, _, err = applied.run("apply", "--yes")
        as_json = json.loads(applied.run("diff", "--json")[1])

    assert status == 1
    assert "mail is backoff: exit status 1" in err
    assert list(as_json) == ["node", "config", "changes", "says"]


def test_apply_as_json(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    applied = Applied(monkeypatch, capsys)
    with applied.node:
        applied.config.write_text(CONFIG.replace("60", "61"))
        status, out, _ = applied.run("apply", "--yes", "--json")

    found = json.loads(out)
    assert status == 0
    assert found["applied"] is True
    assert found["touched"] == {"start": [], "stop": [], "restart": ["web"]}
    assert found["changes"][0]["worker"] == "web"
    assert list(found["changes"][0]) == ["worker", "action", "keys", "details"]


# -- import and schema -------------------------------------------------------------------------------


def test_a_procfile_becomes_a_configuration_that_check_accepts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "Procfile").write_text("web: sleep 60\nworker: sleep 61\n")

    assert main(["import", "Procfile", "-o", "holdfast.toml"]) == 0
    assert "wrote holdfast.toml" in capsys.readouterr().err
    assert main(["check"]) == 0
    assert main(["import", "Procfile", "-o", "holdfast.toml"]) == 2
    capsys.readouterr()
    assert main(["import", "Procfile", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert list(found) == ["toml", "notes", "written"]
    assert "[worker.web]" in found["toml"]


def test_the_schema_is_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema"]) == 0
    assert json.loads(capsys.readouterr().out)["$schema"].startswith("https://json-schema.org/")


# -- incidents ---------------------------------------------------------------------------------------


def leave_incident(node: FakeNode, name: str, **more: Any) -> dict[str, Any]:
    record = {
        "format": 1, "id": name, "worker": "web", "component": None, "kind": "crash",
        "title": 'worker "web" died of a segmentation fault', "cause": {}, "opened_unix_s": time.time() - 100,
        "start": 3, "pid": 99, "lived_s": 12.5, "status": 11, "status_words": "killed by SIGSEGV", "fatal": None,
        "stacks": [], "extensions": [], "restarts": 2, "remedy": None, "verdict": "open", "changed": [],
        "evidence": {"collected": ["log"], "missed": [], "took_s": 0.1},
    } | more  # fmt: skip
    directory = Path(node.state_dir, layout.INCIDENTS, name)
    directory.mkdir(parents=True)
    (directory / "incident.json").write_text(json.dumps(record))
    (directory / "log.txt").write_text("the last line\n")
    return record


def test_incidents_are_listed_newest_first(capsys: pytest.CaptureFixture[str]) -> None:
    with FakeNode(planned("web")) as node:
        assert main(["incidents", "--state", node.state_dir]) == 0
        assert capsys.readouterr().out == "no incidents\n"
        leave_incident(node, "2024-11-03-web-1", opened_unix_s=time.time() - 9000)
        leave_incident(
            node, "2024-11-03-mail-1", worker="mail", verdict="cured", title="worker mail hung"
        )
        main(["incidents", "--state", node.state_dir])
        lines = capsys.readouterr().out.splitlines()
        main(["incidents", "--state", node.state_dir, "--worker", "web", "--json"])
        rows = json.loads(capsys.readouterr().out)["incidents"]
        main(["incidents", "--state", node.state_dir, "--since", "10m", "--json"])
        recent = json.loads(capsys.readouterr().out)["incidents"]

    assert "2024-11-03-mail-1  cured" in lines[0]
    assert "2024-11-03-web-1   open" in lines[1]
    assert [row["id"] for row in rows] == ["2024-11-03-web-1"]
    assert [row["id"] for row in recent] == ["2024-11-03-mail-1"]


def test_what_comes_back_again_and_again_is_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A crash every twenty seconds: thirty equal lines hid the one other thing that was wrong."""
    monkeypatch.setenv("COLUMNS", "200")
    with FakeNode(planned("web")) as node:
        now_s = time.time()
        for at in range(1, 6):
            verdict = "open" if at == 5 else "came_back"
            leave_incident(node, f"2024-11-03-web-{at}", opened_unix_s=now_s - 100 + at, verdict=verdict)  # fmt: skip
        leave_incident(node, "2024-11-03-web-6", opened_unix_s=now_s - 200, verdict="cured")
        leave_incident(node, "2024-11-03-mail-1", worker="mail", opened_unix_s=now_s - 98)
        for at in range(1, 4):
            leave_incident(node, f"2024-11-03-jobs-{at}", worker="jobs", opened_unix_s=now_s - 300 + at, verdict="gave_up")  # fmt: skip

        main(["incidents", "--state", node.state_dir])
        lines = capsys.readouterr().out.splitlines()
        main(["incidents", "--state", node.state_dir, "--all"])
        every = capsys.readouterr().out.splitlines()

    assert [line.split()[2] for line in lines] == ["2024-11-03-web-5", "2024-11-03-mail-1", "2024-11-03-web-6", "2024-11-03-jobs-3"]  # fmt: skip
    since = time.strftime("%H:%M", time.localtime(now_s - 99))
    assert f"5 times since {since}: worker" in lines[0]
    assert "times since" not in lines[2]  # an older one that was cured stands for itself
    assert "3 times since" in lines[3]
    assert len(every) == 10


@pytest.mark.parametrize("width", [60, 80, 200])
def test_the_list_of_incidents_fits(width: int) -> None:
    row = {
        "id": "2024-11-03-crawler-of-the-forum-2", "opened_unix_s": 0.0, "verdict": "did_not_help",
        "title": 'worker "crawler-of-the-forum" wrote no heartbeat for 12 s while its loop was blocked in recv',
    }  # fmt: skip
    lines = incidents.render([row], width, Paint(False))

    assert max(map(len, lines)) <= width
    assert len(lines) == (2 if width < 200 else 1)


def test_the_story_the_log_and_the_files_of_an_incident(capsys: pytest.CaptureFixture[str]) -> None:
    with FakeNode(planned("web")) as node:
        leave_incident(node, "2024-11-03-web-1")

        def told(*argv: str) -> str:
            assert main(["incident", "--state", node.state_dir, *argv]) == 0
            return capsys.readouterr().out

        assert 'worker "web" died of a segmentation fault' in told("2024-11-03-web-1")
        assert told("2024-11-03-web") == told()
        assert told("--log") == "the last line\n"
        assert "incident.json" in told("--files")
        assert json.loads(told("--json"))["timeline"] == []
        assert json.loads(told("--log", "--json"))["lines"] == ["the last line"]
        assert list(json.loads(told("--files", "--json"))["files"][0]) == ["path", "bytes"]

        assert main(["incident", "--state", node.state_dir, "--stacks"]) == 2
        assert "no stacks were kept" in capsys.readouterr().err
        assert main(["incident", "--state", node.state_dir, "2024-11-04-web-1"]) == 2
        assert 'Did you mean "2024-11-03-web-1"?' in capsys.readouterr().err


# -- logs --------------------------------------------------------------------------------------------


def leave_log(directory: Path, stream: str, lines: list[tuple[float, str]]) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    data, index = b"", b""
    for at, text in lines:
        index += logindex.encode(len(data), int(at * 1e9), 1)
        data += text.encode() + b"\n"
    (directory / f"{stream}.log").write_bytes(data)
    (directory / f".{stream}.log.idx").write_bytes(index)


class Logged:
    """A node with two workers that wrote, and the house."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self.node = FakeNode()
        root = Path(self.node.state_dir, layout.LOGS)
        now = self.now = time.time()
        for name in ("web", "mail"):
            self.node.plan["workers"].append(planned(name, log={"directory": str(root / name)}))
        self.node.plan["workers"].append(planned("bare"))
        self.node.write_plan()
        leave_log(
            root / "web",
            "out",
            [(now - 4000, "web old"), (now - 30, "web one"), (now - 10, "web two")],
        )
        leave_log(root / "web", "err", [(now - 20, "web trouble")])
        leave_log(root / "mail", "out", [(now - 25, "mail one")])
        leave_log(root / "holdfast", "err", [(now - 15, "keeper: web died")])
        self.capsys = capsys

    def texts(self, *argv: str) -> list[str]:
        assert main(["logs", "--state", self.node.state_dir, "--json", *argv]) == 0
        return [json.loads(line)["text"] for line in self.capsys.readouterr().out.splitlines()]


def test_lines_of_all_workers_come_in_the_order_of_time(capsys: pytest.CaptureFixture[str]) -> None:
    logged = Logged(capsys)
    with logged.node as node:
        assert logged.texts() == ["web old", "web one", "mail one", "web trouble", "web two"]
        assert logged.texts("-n", "2") == ["web trouble", "web two"]
        assert logged.texts("--since", "10m") == ["web one", "mail one", "web trouble", "web two"]
        assert logged.texts("--since", "10m", "-n", "1") == ["web two"]
        assert logged.texts("--until", "22s") == ["web old", "web one", "mail one"]
        assert logged.texts("--worker", "mail") == logged.texts("mail") == ["mail one"]
        assert logged.texts("--grep", "o[nl]") == ["web old", "web one", "mail one"]
        assert logged.texts("--house", "-n", "2") == ["keeper: web died", "web two"]
        assert logged.texts("holdfast") == ["keeper: web died"]
        main(["logs", "--state", node.state_dir, "-n", "2"])

    trouble, two = capsys.readouterr().out.splitlines()
    assert trouble[13:] == "web  ! web trouble"
    assert two[13:] == "web  | web two"
    assert trouble[2::3][:2] == "::"


def test_what_cannot_be_shown_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    logged = Logged(capsys)
    with logged.node as node:
        assert main(["logs", "--state", node.state_dir, "meil"]) == 2
        assert main(["logs", "--state", node.state_dir, "bare"]) == 2
        assert main(["logs", "--state", node.state_dir, "--grep", "("]) == 2
        assert main(["logs", "--state", node.state_dir, "../../etc"]) == 2

    err = capsys.readouterr().err
    assert 'Did you mean "mail"?' in err
    assert 'worker "bare" has log = false' in err
    assert '--grep: "(" is not a regular expression' in err
    assert 'there is no worker "../../etc"' in err


def test_a_worker_that_is_no_longer_configured_has_left_its_logs(
    capsys: pytest.CaptureFixture[str],
) -> None:
    logged = Logged(capsys)
    with logged.node as node:
        leave_log(Path(node.state_dir, layout.LOGS, "former"), "out", [(logged.now, "still here")])
        assert logged.texts("former") == ["still here"]


def test_a_log_line_is_dated_when_it_is_not_of_today_and_leaves_no_colour_behind() -> None:
    line = Line(0.0, "out", "web", 1, "\x1b[31mred")

    assert logs.render(line, 5, "2024-11-03", Paint(False)).startswith("19")
    assert logs.render(line, 5, "2024-11-03", Paint(True)).endswith("\x1b[31mred\x1b[0m")
    assert logs.render(Line(0.0, "out", "web", 1, "\udcff"), 3, "", Paint(False)).endswith(
        "| \ufffd"
    )


# -- node configurations of Crossbar.io ----------------------------------------------------------------

CROSSBAR = {
    "version": 2,
    "workers": [
        {
            "type": "router",
            "id": "bus",
            "manhole": {},
            "realms": [{"name": "realm1", "roles": [{"name": "anonymous", "permissions": [{"uri": "*", "call": True}]}]}],
            "transports": [{"type": "rawsocket", "endpoint": {"type": "unix", "path": "sock"}}],
        }
    ],
}  # fmt: skip


@pytest.fixture
def crossbar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / ".crossbar").mkdir()
    path = tmp_path / ".crossbar" / "config.json"
    path.write_text(json.dumps(CROSSBAR, indent=1))
    (tmp_path / "deep").mkdir()
    monkeypatch.chdir(tmp_path / "deep")
    return path


def test_a_crossbar_node_is_found_as_crossbar_finds_it(
    crossbar: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`cd site && holdfast up` is all that changes for whoever typed `crossbar start`."""
    assert main(["check"]) == 0
    told = capsys.readouterr()

    assert told.out == "ok: 1 worker, 1 component\n"
    assert f"note: {crossbar}:7 workers[0].manhole = {{}}: " in told.err
    assert place.find_config(str(crossbar.parent)) == str(crossbar)
    assert place.find_config(str(crossbar.parent.parent)) == str(crossbar)


def test_notes_of_a_crossbar_node_as_json(
    crossbar: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """An editor shows them beside the problems."""
    assert main(["check", "--json", str(crossbar)]) == 0
    found = json.loads(capsys.readouterr().out)

    assert [note.split(" ")[1] for note in found["notes"]] == ["workers[0].manhole"]


def test_a_holdfast_toml_comes_before_a_crossbar_node(
    crossbar: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Who has written one wants it used."""
    (crossbar.parent.parent / "holdfast.toml").write_text(CONFIG)

    assert main(["check", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["config"].endswith("holdfast.toml")


def test_the_bus_of_another_state_directory_is_another_bus(crossbar: Path, tmp_path: Path) -> None:
    """Two nodes of one configuration must not share sockets or cookies."""
    plan = load(str(crossbar), os.environ, str(tmp_path / "other")).plan
    usual = load(str(crossbar), os.environ).plan

    assert plan["state_dir"] == str(tmp_path / "other")
    internal, moved = (
        entry["workers"][0]["listen"][-1]["path"] for entry in (usual, plan)
    )  # fmt: skip
    assert internal != moved
    assert internal.startswith(places.run_dir_for(usual["state_dir"]))
    assert moved.startswith(places.run_dir_for(plan["state_dir"]))
