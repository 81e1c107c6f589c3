"""What was told cured and comes back was not cured: the incident that said so says now after how long."""

import time
from pathlib import Path
from typing import Any

import pytest

from holdfast.diagnosis.story import story
from holdfast.diagnosis.words import duration
from holdfast.linux import files
from holdfast.records import incidents
from holdfast.wire.jsonlite import dumps

pytestmark = pytest.mark.faults
CRASH = "import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)\n"


def tell(incident: dict[str, Any], unix_s: float, **row: Any) -> None:
    files.append(
        f"{incident['path']}/{incidents.TIMELINE}",
        dumps({"unix_s": unix_s, **row}).encode() + b"\n",
    )


def verdicts(node: Any, incident: dict[str, Any]) -> list[str]:
    rows = incidents.timeline(str(node.state_dir), str(incident["id"]))
    return [str(row["verdict"]) for row in rows if row.get("verdict")]


def test_a_crash_that_comes_back_after_its_verdict_revises_it(node: Any) -> None:
    """Seen: a worker that crashed every twenty seconds had a row of incidents, each of them "cured"."""
    first = node.die(CRASH, key="exit-1")
    opened_unix_s = float(first["opened_unix_s"])
    tell(first, opened_unix_s + 10, what="verdict", verdict="cured")

    again = node.die(CRASH, key="exit-2", n=4)

    assert verdicts(node, first) == ["cured", "came_back"]
    timeline = incidents.timeline(str(node.state_dir), str(first["id"]))
    assert timeline[-1]["again"] == again["id"]
    after_s = float(again["opened_unix_s"]) - opened_unix_s
    assert timeline[-1]["after_s"] == pytest.approx(after_s, abs=0.01)
    loaded = incidents.load(str(node.state_dir), str(first["id"]))
    assert loaded["verdict"] == "came_back"
    assert f"came back: the symptom returned after {duration(timeline[-1]['after_s'])} ({again['id']})" in story(loaded, timeline)  # fmt: skip
    assert incidents.load(str(node.state_dir), str(again["id"]))["verdict"] == "open"


def test_carried_out_again_it_is_said_once(node: Any) -> None:
    """Killed between the revision and the end of the order, the order is carried out again."""
    first = node.die(CRASH, key="exit-1")
    tell(first, time.time(), what="verdict", verdict="cured")
    again = node.die(CRASH, key="exit-2", n=4)
    done = Path(node.run_dir, "orders/exit-2.done")
    done.unlink()

    repeated = node.die(CRASH, key="exit-2", n=4)

    assert repeated["id"] == again["id"]
    assert verdicts(node, first) == ["cured", "came_back"]


@pytest.mark.parametrize(
    "other",
    [
        "another signal",
        "an hour later",
        "not judged yet",
        "follows from another worker",
    ],
)
def test_what_is_another_story_leaves_the_verdict_alone(node: Any, other: str) -> None:
    first = node.die(CRASH, key="exit-1")
    if other != "not judged yet":
        told_unix_s = time.time() - (3600 if other == "an hour later" else 0)
        tell(first, told_unix_s, what="verdict", verdict="cured")
    before = verdicts(node, first)

    because = {"because": {"worker": "database", "key": ""}} if "follows" in other else {}
    text = CRASH.replace("SIGSEGV", "SIGABRT") if other == "another signal" else CRASH
    node.die(text, key="exit-2", n=4, **because)

    assert verdicts(node, first) == before


def test_a_hang_that_comes_back_counts_from_its_remedy(node: Any, started: Any) -> None:
    process = started("import time\nprint('there', flush=True)\ntime.sleep(600)\n")
    first = node.incident(node.hang_order(process, key="flag-backend-1"))
    now_s = time.time()
    tell(first, now_s - 100, what="remedy", rung=0, says="the watchdog had it killed and started again")  # fmt: skip
    tell(first, now_s - 90, what="verdict", verdict="cured")

    node.incident(node.hang_order(process, key="flag-backend-2"))

    timeline = incidents.timeline(str(node.state_dir), str(first["id"]))
    assert timeline[-1]["verdict"] == "came_back"
    assert 99 < timeline[-1]["after_s"] < 200
