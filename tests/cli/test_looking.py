"""Looking into workers of a real node: stacks, profile, heap, tasks; and what explain says of a failure."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cli.fake_node import SLOWNESS, FakeNode, planned
from holdfast.cli import commands, explain
from holdfast.cli.main import main
from holdfast.core.detect import thresholds
from holdfast.evidence.collectors.stacks import find_pyspy
from holdfast.records import incidents

pytestmark = pytest.mark.faults
SOURCE = str(Path(commands.__file__).parents[2])
needs_pyspy = pytest.mark.skipif(find_pyspy() is None, reason="py-spy is not installed")

APP = """
import asyncio, json
kept = []
class Session:
    pass
def encode(count):
    return json.dumps(list(range(count)))  # far more than all the rest
async def handle():
    encode(4000)
    kept.append(Session())
async def main():
    while True:
        await asyncio.gather(*[asyncio.create_task(handle()) for _ in range(5)])
        await asyncio.sleep(0.002)
asyncio.run(main())
"""
CRASHING = "import time\ntime.sleep(0.2)\nprices = {}\nprices['pen']\n"
CONFIG = f"""
[node]
name = "looking"
state_dir = "state"
[worker.web]
command = [{sys.executable!r}, "app.py"]
agent = true
[worker.till]
command = [{sys.executable!r}, "till.py"]
restart = "never"
[worker.shell]
command = ["sleep", "600"]
"""


class Site:
    """A running node, and a person at its prompt."""

    def __init__(self) -> None:
        self.home = tempfile.mkdtemp(prefix="h", dir="/tmp")
        self.env = {**os.environ, "HOLDFAST_RUNTIME_DIR": self.home, "PYTHONPATH": SOURCE}
        for name, text in (("app.py", APP), ("till.py", CRASHING), ("holdfast.toml", CONFIG)):
            Path(self.home, name).write_text(text)

    def types(self, *argv: str, expect: int = 0) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "holdfast", *argv], cwd=self.home, env=self.env, capture_output=True, text=True,
            timeout=100 * SLOWNESS, check=False,
        )  # fmt: skip
        assert done.returncode == expect, f"{argv}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout if expect == 0 else done.stderr

    def read(self, *argv: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.types(*argv, "--json"))
        return found


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    made = Site()
    try:
        # `till` crashes on purpose, so the node is up before every worker serves.
        subprocess.run(
            [sys.executable, "-m", "holdfast", "up", "--detach"], cwd=made.home, env=made.env, capture_output=True,
            timeout=100 * SLOWNESS, check=False,
        )  # fmt: skip
        yield made
    finally:
        subprocess.run(
            [sys.executable, "-m", "holdfast", "down", "--kill"], cwd=made.home, env=made.env, capture_output=True,
            timeout=100 * SLOWNESS, check=False,
        )  # fmt: skip
        shutil.rmtree(made.home, ignore_errors=True)


def until(look: Callable[[], Any], what: str, seconds: float = 20.0) -> Any:
    deadline_s = time.monotonic() + seconds * SLOWNESS
    while not (found := look()):
        assert time.monotonic() < deadline_s, f"waited in vain for {what}"
        time.sleep(0.05)
    return found


@needs_pyspy
def test_a_profile_is_a_table_and_a_picture(site: Site) -> None:
    text = site.types("profile", "web", "--for", "1s", "-o", "web.svg")
    assert "in encode" in text
    assert "-> web.svg" in text
    assert "encode app.py" in "".join(
        ElementTree.parse(f"{site.home}/web.svg").getroot().itertext()
    )

    found = site.read("profile", "web", "--for", "1s", "-o", "web.json")
    assert "app.py" in found["hot"]["where"]
    assert json.loads(Path(site.home, "web.json").read_text())["exporter"] == "holdfast"


@needs_pyspy
def test_stacks_of_all_threads(site: Site) -> None:
    found = site.read("stacks", "web")

    assert found["stacks"][0]["thread"] == "MainThread"
    assert any("app.py" in frame for frame in found["stacks"][0]["frames"])
    assert "MainThread" in site.types("stacks", "web")


def test_the_heap_by_mapping_and_by_type_and_what_grows(site: Site) -> None:
    found = site.read("heap", "web", "--for", "500ms", "--trace")

    assert found["rss_bytes"] > 1 << 20
    assert any(row["type"] == "__main__.Session" for row in found["census"]["grown"])
    assert "__main__.Session" in site.types("heap", "web", "--for", "500ms")


def test_what_was_allocated_and_stays_is_a_table_and_a_picture(site: Site) -> None:
    text = site.types("heap", "web", "--for", "1s", "--by", "tracemalloc", "-o", "heap.svg")

    assert "handle (app.py:10)" in text
    assert "by tracemalloc -> heap.svg" in text
    drawn = "".join(ElementTree.parse(f"{site.home}/heap.svg").getroot().itertext())
    assert "bytes; the widest boxes are what was allocated and is still there" in drawn


def test_lines_that_nobody_can_tell_are_refused_with_what_to_do(site: Site) -> None:
    """Nothing is injected into a program that runs: a debugger's call has ended some."""
    said = site.types("heap", "shell", "--for", "100ms", "-o", "heap2.svg", expect=1)

    assert "agent = true" in said
    assert "holdfast profile shell" in said
    assert not Path(site.home, "heap2.svg").exists()


def test_a_program_without_the_agent_has_mappings_only(site: Site) -> None:
    text = site.types("heap", "shell", "--for", "100ms")

    assert "no types: nobody answered" in text


def test_tasks_are_told_by_the_line_that_creates_them(site: Site) -> None:
    found = until(
        lambda: site.read("tasks", "web")["sites"]["tasks"], "the agent to write its sites"
    )

    assert found[0]["where"].endswith("app.py:13 in main.<locals>.<listcomp>")
    assert found[0]["created"] > 5
    assert "created at" in site.types("tasks", "web")
    assert "has no agent" in site.types("tasks", "shell", expect=1)


def test_explain_names_what_a_worker_died_of_and_from_where_on_it_is_flagged(site: Site) -> None:
    until(lambda: incidents.list_incidents(f"{site.home}/state", worker="till"), "the incident")

    text = site.types("explain", "till")

    certain = "certain: KeyError: 'pen' was raised in <module> (till.py:4): `prices['pen']`"
    assert certain in " ".join(text.split())  # however wide the terminal is
    assert "worker.till.detect = { NAME = … }" in text
    found = site.read("explain", "till")
    identity = found["incidents"][0]["id"]
    assert found["thresholds"]["freeze"] == 1.0
    assert site.read("explain", identity)["incident"]["findings"][0]["confidence"] == "certain"
    assert f"holdfast incident {identity}" in site.types("explain", identity)


def test_a_dead_worker_cannot_be_looked_into_and_is_told_why(site: Site) -> None:
    until(lambda: not _runs(site, "till"), "till to be down")

    said = site.types("stacks", "till", expect=1)

    assert "has no process to look into" in said
    assert "holdfast explain till" in said


def _runs(site: Site, name: str) -> bool:
    rows = site.read("status")["workers"]
    return bool(next(row for row in rows if row["name"] == name)["pid"])


def test_wrong_words_are_answered_with_the_right_ones(site: Site) -> None:
    assert 'Did you mean "web"?' in site.types("stacks", "wbe", expect=2)
    assert "the ending says what is written" in site.types(
        "profile", "web", "-o", "x.gif", expect=2
    )
    assert "between 0.1s and 1h" in site.types("profile", "web", "--for", "0", expect=2)
    assert 'Did you mean "till"?' in site.types("explain", "til", expect=2)


def test_every_detector_has_its_words() -> None:
    assert explain._WORDS.keys() == thresholds.WORKER.keys() | thresholds.BOX.keys()


def test_explain_shows_a_flag_that_is_up_and_a_detector_that_is_off(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with FakeNode(planned("web", detect={"slow": 0.0})) as node:
        node.up()
        node.raise_flag("web", "missed_heartbeat")

        assert main(["explain", "web", "--state", node.state_dir]) == 0

    said = capsys.readouterr().out
    assert "missed_heartbeat  for" in said
    assert "slow         " in said
    assert "  off" in next(line for line in said.splitlines() if line.strip().startswith("slow"))
