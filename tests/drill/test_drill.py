"""A drill on a real node: every fault is injected, and the scorecard says what came of it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from holdfast.cli import commands
from holdfast.linux import cgroup, procfs
from holdfast.wire import layout, pulse
from node import SLOWNESS, Node, wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.faults

SOURCE = str(Path(commands.__file__).parents[2])
HEARTBEAT_S = 1.0 * SLOWNESS

BOARD = """
from holdfast.sdk import Component
app = Component()

@app.on_start
async def begin():
    app.log.info("here I am")

@app.every(0.2)
async def tick():
    app.work()
"""
#: A guest that says what the watchdog asks of it, without an import that costs anything.
TICKER = """
import os, time
while True:
    os.utime(os.environ["BEAT"])
    os.write(1, b"tick\\n")
    time.sleep(0.1)
"""


#: Kinds that are over soon, and every one of them in this place.
QUICK = [
    f"{kind}-*" for kind in (
        "kill", "stop", "segfault", "exception", "deadlock", "busy-loop", "blocked-loop", "oom", "crash-loop",
    )
]  # fmt: skip


class Site(Node):
    """A container with two components, a guest with a heartbeat and one without."""

    def __init__(self, tmp: Path) -> None:
        super().__init__(tmp)
        self.env["PYTHONPATH"] = SOURCE
        self.drills = True
        self.begun: list[subprocess.Popen[str]] = []
        self.objectives: dict[str, float] = {"*": 60.0 * SLOWNESS}
        (tmp / "board.py").write_text(BOARD)
        restart = {"limit": 6, "window_s": 20.0, "after_limit": "slow", "delay_max_s": 1.0}
        container = [sys.executable, "-P", "-X", "faulthandler", f"{SOURCE}/holdfast/container/__main__.py"]  # fmt: skip
        heartbeat = {"kind": "pulse", "timeout_s": HEARTBEAT_S}
        memory = {"memory_bytes": 120_000_000}
        ready = {"kind": "pulse", "timeout_s": 60.0 * SLOWNESS}
        self.add(
            "backend", container, kind="container", faulthandler=True, heartbeat=heartbeat, restart=restart,
            limits=memory, ready=ready, components=[
                {"name": name, "use": "board:app", "settings": {}} for name in ("board", "chat")
            ],
        )  # fmt: skip
        beat = tmp / "beat"
        beat.touch()
        (tmp / "ticker.py").write_text(TICKER)
        self.add(
            "ticker", [sys.executable, "-I", "-S", str(tmp / "ticker.py")], env={"BEAT": str(beat)},
            heartbeat={"kind": "file", "target": str(beat), "timeout_s": HEARTBEAT_S},
        )  # fmt: skip
        self.add("sleeper", ["/bin/sleep", "100000"])

    def plan(self) -> Any:
        plan = super().plan()
        plan["drills"] = self.drills
        plan["watch"] |= {"verify_s": 1.0, "objectives": self.objectives}
        plan["watch"]["house_timeout_s"] = 2.0 * SLOWNESS
        return plan

    def start_ready(self, heartbeat_s: float = HEARTBEAT_S) -> None:
        for worker in self.workers:
            worker["heartbeat"] = {**worker["heartbeat"], "timeout_s": heartbeat_s}
        self.start()
        for name in ("backend", "ticker", "sleeper"):
            self.wait_state(name, "running", 60)

    def command(self, *argv: str) -> list[str]:
        return [sys.executable, "-m", "holdfast", "drill", "--state", self.state_dir, *argv]

    def is_hung(self) -> bool:
        """Whether the container's loop has not beaten for a while, though its other thread does."""
        beat = pulse.decode(Path(self.run_dir, layout.pulse("backend")).read_bytes())
        assert beat is not None
        return beat.thread_beat_ns - beat.loop_beat_ns > 1_000_000_000 * SLOWNESS

    def begin(self, *argv: str) -> subprocess.Popen[str]:
        """Start a drill and leave it running."""
        env = {**os.environ, "PYTHONPATH": SOURCE}
        begun = subprocess.Popen(
            self.command(*argv), env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        self.begun.append(begun)
        return begun

    def drill(self, *argv: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*argv), env={**os.environ, "PYTHONPATH": SOURCE}, capture_output=True, text=True,
            timeout=300 * SLOWNESS, check=False,
        )  # fmt: skip

    def score(self, *argv: str, expect: int = 0) -> dict[str, Any]:
        done = self.drill("--json", *argv)
        assert done.returncode == expect, f"{done.returncode}\n{done.stdout}\n{done.stderr}"
        found: dict[str, Any] = json.loads(done.stdout)
        return found


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path)
    yield made
    for drill in made.begun:
        with drill:
            drill.kill()
    made.end()


def test_every_drill_passes_and_its_row_says_what_happened(site: Site) -> None:
    site.start_ready()

    # The leaks and the slow list take their time to show: they are for a person (docs/how-to/drills.md).
    found = site.score("--only", *QUICK, "gil-backend", "task-bomb-backend")

    rows = {row["name"]: row for row in found["drills"]}
    skipped = {name for name, row in rows.items() if row["skipped"]}
    can_kill = cgroup.capabilities()["memory"] != ""
    assert skipped == {"stop-sleeper", "crash-loop-ticker", "crash-loop-sleeper"} | (
        set() if can_kill else {"oom-backend"}
    )
    done = {name: row for name, row in rows.items() if name not in skipped}
    assert set(done) >= {f"{kind}-{role}" for kind in ("kill", "stop") for role in layout.ROLES}
    assert found["passed"] is True
    for row in done.values():
        assert (row["result"], row["failures"], row["collateral"]) == ("passed", [], [])
        assert row["detection_s"] is not None
        assert 0 < row["recovery_s"] <= row["objective_s"]
        assert row["lines"]["written"] > 0
        assert row["lines"]["lost"] == 0
    kinds = {row["kind"]: row["evidence"]["kind"] for row in done.values() if row["target"] == "backend"}  # fmt: skip
    expected = {
        "kill": "crash", "stop": "hang", "segfault": "crash", "exception": "crash", "deadlock": "hang",
        "busy-loop": "hang", "blocked-loop": "hang", "gil": "hang", "crash-loop": "crash",
        "task-bomb": "task_bomb",
    } | ({"oom": "oom"} if can_kill else {})  # fmt: skip
    assert kinds == expected
    for kind in ("segfault", "deadlock", "busy-loop", "blocked-loop", "gil"):
        evidence = done[f"{kind}-backend"]["evidence"]
        assert evidence["stacks"] > 0, kind
        assert evidence["component"] == "board", kind
    for kind in ("stop", "deadlock", "busy-loop", "blocked-loop", "gil"):
        row = done[f"{kind}-backend"]
        assert HEARTBEAT_S * 0.8 <= row["detection_s"] <= row["recovery_s"]
        assert row["verdict"] == "cured"
    assert done["crash-loop-backend"]["verdict"] == "cleared"
    assert done["stop-ticker"]["evidence"]["kind"] == "hang"
    assert done["stop-keeper"]["evidence"]["incident"].startswith("20")
    assert {name: w["state"] for name, w in site.status().items()} == dict.fromkeys(
        ("backend", "ticker", "sleeper"), "running"
    )


def test_a_node_that_is_not_marked_is_left_alone(site: Site) -> None:
    site.drills = False
    site.start_ready()
    before = site.status()

    done = site.drill()

    assert done.returncode == 2
    assert "[node] drills = true" in done.stderr
    assert str(site.tmp / "holdfast.toml") in done.stderr
    assert site.status() == before
    listed = json.loads(site.drill("--list", "--json").stdout)["drills"]
    assert "kill-backend" in {drill["name"] for drill in listed}


def test_no_node_is_no_drill(site: Site) -> None:
    Path(site.state_dir).mkdir()

    assert site.drill().returncode == 3


def test_an_objective_that_nobody_can_meet_fails_its_drill_and_no_other(site: Site) -> None:
    site.objectives = {"kill-*": 60.0 * SLOWNESS, "kill-ticker": 0.000001, "kil-ticker": 1.0}
    site.start_ready()

    found = site.score("--only", "kill-worker", "--only", "kill-logger", expect=1)

    rows = {row["name"]: row for row in found["drills"]}
    assert set(rows) == {"kill-backend", "kill-ticker", "kill-sleeper", "kill-logger"}
    assert {name for name, row in rows.items() if row["result"] == "failed"} == {"kill-ticker"}
    assert rows["kill-ticker"]["met"] is False
    assert "the objective is 1e-06 s" in rows["kill-ticker"]["failures"][0]
    assert found["passed"] is False
    text = site.drill("--only", "kill-tickr")
    assert text.returncode == 2
    assert 'Did you mean "kill-ticker"?' in text.stderr
    assert 'there is no drill "kil-ticker", so this is not tested' in text.stderr


def test_another_worker_that_dies_meanwhile_is_collateral(site: Site) -> None:
    """The keeper is stopped for seconds; meanwhile somebody else's process dies."""
    site.start_ready()
    sleeper = site.status()["sleeper"]["pid"]
    keeper = site.holder("keeper")
    drill = site.begin("--only", "stop-keeper", "--json")
    wait_for(
        lambda: (r := procfs.reading(keeper)) and r.state == "T", "the keeper to be stopped", 30
    )

    os.kill(sleeper, signal.SIGKILL)

    out, err = drill.communicate(timeout=120 * SLOWNESS)
    assert drill.returncode == 1, err
    (row,) = json.loads(out)["drills"]
    assert len(row["collateral"]) == 1
    assert row["collateral"][0].startswith("sleeper was restarted")
    assert row["result"] == "failed"


def test_what_a_person_has_stopped_is_left_alone(site: Site) -> None:
    site.start_ready()
    site.ask(do="stop", worker="ticker", by="user")
    site.wait_state("ticker", "down")

    found = site.score("--only", "kill-ticker", "--only", "kill-sleeper")

    rows = {row["name"]: row for row in found["drills"]}
    assert rows["kill-ticker"]["skipped"] == "it is down: stopped by a person or by the plan"
    assert rows["kill-sleeper"]["result"] == "passed"
    assert site.status()["ticker"]["state"] == "down"


@pytest.mark.parametrize("name", ["stop-backend", "deadlock-backend", "stop-watchdog"])
def test_an_interrupted_drill_leaves_nothing_stopped_behind(site: Site, name: str) -> None:
    """Ctrl-C while nobody has noticed anything yet: with these timeouts nobody would for minutes."""
    site.start_ready(heartbeat_s=600.0)
    hurt = "watchdog" if name == "stop-watchdog" else "backend"
    victim = site.holder(hurt) if hurt == "watchdog" else site.status()[hurt]["pid"]
    drill = site.begin("--only", name)
    if name == "deadlock-backend":
        wait_for(site.is_hung, "the deadlock", 30)
    else:
        wait_for(lambda: (r := procfs.reading(victim)) and r.state == "T", "the fault", 30)

    second = site.drill("--only", "kill-sleeper")
    drill.send_signal(signal.SIGINT)

    _, err = drill.communicate(timeout=120 * SLOWNESS)
    assert drill.returncode == 130, err
    assert second.returncode == 1
    assert "another drill is under way" in second.stderr
    if hurt == "watchdog":
        pid = wait_for(lambda: site.holder(hurt), "a watchdog")
    else:
        pid = site.wait_state("backend", "running")["pid"]
    reading = procfs.reading(pid)
    assert reading is not None
    assert reading.state in "SRD"
    site.ask(
        do="stop", worker="backend"
    )  # it listens: a hung one would have to be killed after its grace
    site.wait_state("backend", "down")
    (exit_record, *_) = [r for r in reversed(site.journal("exit")) if r["worker"] == "backend"]
    assert exit_record["status"] == 0
