"""Each collector, on a process that has what it looks for."""

import json
import os
import re
import time
from pathlib import Path
from typing import Any

import pytest

from holdfast.evidence import capture
from holdfast.evidence.collectors import (
    census,
    environment,
    kernel,
    memory,
    owners,
    process,
    sites,
)
from holdfast.evidence.collectors import profile as sampling
from holdfast.evidence.collectors.stacks import find_pyspy
from holdfast.linux import procfs
from holdfast.wire import layout, pulse
from holdfast.wire.jsonlite import dumps

pytestmark = pytest.mark.faults
SLOWNESS = float(os.environ.get("HOLDFAST_SLOWNESS", "1"))
SOURCE = str(Path(capture.__file__).parents[2])
needs_pyspy = pytest.mark.skipif(find_pyspy() is None, reason="py-spy is not installed")

BUSY = "def spin():\n    print('there', flush=True)\n    while True:\n        sum(range(100))\nspin()\n"
LEAKING = """
import threading, time
from holdfast.agent import asking
asking.listen()
kept = []
class Session:
    pass
def handle():
    one = Session()
    one.buffer = [0] * 100
    kept.append(one)
print('there', flush=True)
while True:
    for _ in range(200):
        handle()
    time.sleep(0.01)
"""


def flagged(node: Any, process: Any, flag: str, **more: Any) -> str:
    belief = {
        "worker": "backend",
        "flag": flag,
        "since_unix_s": time.time() - 2.0,
        "says": "it is so",
    }
    return str(node.order(process, key=f"flag-{flag}", live=True, flag=belief, kind=flag, **more))


def case_of(node: Any, process: Any, flag: str = "slow", **more: Any) -> Any:
    return capture._open_case(str(node.run_dir), flagged(node, process, flag, **more))


@needs_pyspy
def test_a_profile_is_taken_while_the_others_work_and_names_the_function(
    node: Any, started: Any
) -> None:
    process = started(BUSY, asleep=False)

    found = node.incident(flagged(node, process, "pegged", profile_s=0.6))

    assert process.poll() is None
    assert found["kind"] == "pegged"
    assert found["findings"][0]["function"] == "spin"
    assert f"thread {process.pid};" in node.file(found, "profile.txt")
    assert "profile" in found["evidence"]["collected"]
    assert not [name for name in os.listdir(node.run_dir) if name.startswith(".profile")]


@needs_pyspy
def test_a_program_that_works_little_is_looked_at_for_longer_where_nothing_waits(
    node: Any, started: Any
) -> None:
    """At a tenth of a processor a profile of one second had three samples, and the finding was a guess."""
    program = (
        "import time\ndef price():\n    until = time.thread_time() + 0.01\n    while time.thread_time() < until:\n"
        "        sum(range(100))\nprint('there', flush=True)\nwhile True:\n    price()\n    time.sleep(0.08)\n"
    )
    process = started(program, asleep=False)

    found = node.incident(flagged(node, process, "slow", patient=True, deadline_s=10.0 * SLOWNESS))

    assert found["findings"][0]["function"] == "price"
    assert found["findings"][0]["confidence"] == "likely"
    (seconds,) = re.findall(r"samples in (\d\.\d) s", found["findings"][0]["says"])
    assert float(seconds) > 1.1


@needs_pyspy
def test_no_sampler_is_left_behind_when_there_is_no_time_for_its_result(
    node: Any, started: Any
) -> None:
    process = started(BUSY, asleep=False)
    case = case_of(node, process, profile_s=5.0)
    sampling.begin(case)
    assert case.profiler is not None
    pid = case.profiler.process.pid

    case.profiler.abandon()

    assert procfs.start_ticks(pid) == 0


@needs_pyspy
def test_a_program_that_only_waited_has_a_profile_without_rows_and_not_an_error(
    node: Any, started: Any
) -> None:
    """py-spy writes nothing at all then, which was told as "exited with status 0"."""
    process = started("import time\nprint('there', flush=True)\ntime.sleep(600)\n")
    running = sampling.start(process.pid, 0.4, str(node.run_dir))
    assert not isinstance(running, str), running

    found, why = running.finish(30.0 * SLOWNESS)

    assert found is not None, why
    assert found.rows == []


def test_a_program_that_is_no_python_is_not_given_to_py_spy(node: Any, monkeypatch: Any) -> None:
    monkeypatch.setenv("PATH", "/nowhere")

    found = sampling.start(os.getpid(), 1.0, str(node.run_dir), is_python=False)

    assert found == "perf is not installed, and this is not a Python program"


def test_a_leak_is_told_by_the_process_itself(node: Any, started: Any, monkeypatch: Any) -> None:
    """A guest with the agent: the type, the line and the holder, from inside."""
    process = started(LEAKING, asleep=False, env_more={"PYTHONPATH": SOURCE, "HOLDFAST_RUN": str(node.run_dir)})  # fmt: skip
    case = case_of(node, process, "memory_leak")
    monkeypatch.setattr(census, "WINDOW_S", 0.5 * SLOWNESS)

    census.begin(case)
    census.collect(case)

    assert case.missed == []
    found = case.facts.census
    assert any(row["type"] == "__main__.Session" and row["more"] > 20 for row in found["grown"])
    assert any(
        frame.endswith("in handle") for site in found["allocated"] for frame in site["frames"]
    )
    assert found["held_by"][0]["says"].startswith("a list of ")
    owners.collect(case)
    assert json.loads(case.files["census.json"])["objects"] > 0


def test_where_nobody_answers_the_census_is_a_named_gap(node: Any, started: Any) -> None:
    process = started("import time\nprint('there', flush=True)\ntime.sleep(600)\n")
    case = case_of(node, process, "memory_leak")

    census.begin(case)
    census.collect(case)

    assert [gap["what"] for gap in case.missed] == ["census"]


def test_the_growing_mapping_is_told_against_the_last_good_look_at_the_same_life(
    node: Any, started: Any
) -> None:
    process = started("import time\nprint('there', flush=True)\ntime.sleep(600)\n")
    case = case_of(node, process, "memory_leak")
    held = memory.by_name(process.pid)
    kept = {
        "start": 3,
        "pid": process.pid,
        "unix_s": time.time() - 60,
        "mappings": {**held, "[heap]": 0},
    }
    Path(case.good_path()).parent.mkdir(exist_ok=True)
    Path(case.good_path()).write_text(dumps({"memory": kept}))

    memory.begin(case)
    memory.collect(case)

    assert held["[heap]"] > 0
    assert case.facts.mappings[0]["name"] == "[heap]"
    assert case.facts.mappings_s == pytest.approx(60, abs=20 * SLOWNESS)


def test_the_good_fingerprint_holds_the_memory_of_the_life_it_was_taken_of(
    node: Any, started: Any
) -> None:
    process = started("import time\nprint('there', flush=True)\ntime.sleep(600)\n")
    case = case_of(node, process)
    case.order["kind"] = "good"

    found = environment.fingerprint(case)

    assert found["memory"]["pid"] == process.pid
    assert found["memory"]["mappings"]["[heap]"] > 0
    assert found["limits"]["Max open files"].isdigit()
    assert found["neighbours"] == []


def test_descriptors_are_counted_by_what_they_have_in_common(
    node: Any, started: Any, tmp_path: Path
) -> None:
    program = (
        f"import time\nkept = [open({str(tmp_path)!r} + f'/part-{{n}}.tmp', 'w') for n in range(40)]\n"
        "print('there', flush=True)\ntime.sleep(600)\n"
    )
    case = case_of(node, started(program), "fd_leak")

    process.collect(case)

    fds = case.facts.process["fds"]
    shape = next(iter(fds["targets"]))
    assert (fds["targets"][shape], shape.endswith("/part-#.tmp")) == (40, True)
    assert fds["limit"] > 40


def test_children_are_listed_with_their_programs(node: Any, started: Any) -> None:
    program = (
        "import subprocess, time\nkept = [subprocess.Popen(['sleep', '600']) for _ in range(3)]\n"
        "print('there', flush=True)\ntry:\n    time.sleep(600)\nfinally:\n    [k.kill() for k in kept]\n"
    )
    running = started(program)
    case = case_of(node, running, "child_bomb")

    process.collect(case)
    children = case.facts.process["children"]
    for child in children:
        os.kill(child["pid"], 9)

    assert [child["command"] for child in children] == ["sleep 600"] * 3


def test_creation_sites_are_read_from_the_pulse_of_this_life_only(node: Any, started: Any) -> None:
    running = started("import time\nprint('there', flush=True)\ntime.sleep(600)\n")
    said = {"tasks": [[7, 7, "/srv/a.py:1 in f", []]], "threads": []}
    write_pulse(node, running.pid, said)

    assert sites.read(str(node.run_dir), "backend", running.pid) == said
    assert sites.read(str(node.run_dir), "backend", running.pid + 1) == {}


def write_pulse(node: Any, pid: int, said: dict[str, Any]) -> None:
    data = bytearray(pulse.SIZE)
    data[:8] = pulse.MAGIC
    pulse.I64.pack_into(data, pulse.PID, pid)
    pulse.I64.pack_into(data, pulse.START, 3)
    text = dumps(said).encode()
    pulse.SITES_HEAD.pack_into(data, pulse.SITES_OFFSET, 1, len(text))
    at = pulse.SITES_OFFSET + pulse.SITES_HEAD.size
    data[at : at + len(text)] = text
    (node.run_dir / layout.PULSES / "backend").write_bytes(data)


# -- whose file it is ------------------------------------------------------------------------------


@pytest.fixture
def library(tmp_path: Path) -> owners.Library:
    """Two distributions: one with the name of its module, one with another."""
    site = tmp_path / "lib" / "python3.11" / "site-packages"
    for name, files in {
        "python_socketio-5.11.4": ["socketio/__init__.py", "socketio/manager.py"],
        "ujson-5.10.0": ["ujson.cpython-311-x86_64-linux-gnu.so"],
        "other-1.0": ["other/__init__.py", "other/_fast.cpython-311-x86_64-linux-gnu.so"],
    }.items():
        info = site / f"{name}.dist-info"
        info.mkdir(parents=True)
        (info / "RECORD").write_text("".join(f"{file},sha256=x,1\n" for file in files))
        for file in files:
            (site / file).parent.mkdir(exist_ok=True)
            (site / file).write_text("")
    return owners.Library([str(site)])


def test_a_file_belongs_to_the_distribution_that_recorded_it(
    library: owners.Library, tmp_path: Path
) -> None:
    site = f"{tmp_path}/lib/python3.11/site-packages"

    assert library.owner(f"{site}/socketio/manager.py") == ("python-socketio", "5.11.4")
    assert library.owner("/srv/app/run.py") is None
    assert library.module("ujson") == ("ujson", "5.10.0", True)
    assert library.module("socketio.manager") == ("python-socketio", "5.11.4", False)
    assert library.module("other") == ("other", "1.0", True)
    assert library.module("nothing") is None
    assert library.of_library("_fast.cpython-311-x86_64-linux-gnu.so") == ("other", "1.0")


def test_the_kernels_three_ways_to_name_a_library() -> None:
    for text, name in (
        ("python[17]: segfault at 8 ip 0 sp 0 error 4 in libfast.so.1[1bd940,7fe0+23c000] likely on CPU 1", "libfast.so.1"),
        ("traps: python[17] general protection fault ip:0 sp:0 error:0 in _x.so[7f00+1000]", "_x.so"),
        ("python[17]: segfault at 0 ip 0 sp 0 error 14", ""),
    ):  # fmt: skip
        assert kernel.fault_library(text) == name


@needs_pyspy
def test_a_bundle_without_a_profile_is_small_and_quick(node: Any, started: Any) -> None:
    """The promise is 150 ms and 20 KB; here it is only kept from growing by a factor (bench/evidence.py measures)."""
    process = started("import time\nprint('there', flush=True)\ntime.sleep(600)\n")

    found = node.incident(node.hang_order(process))

    total = sum(entry.stat().st_size for entry in os.scandir(found["path"]))
    assert total < 20_000
    assert found["evidence"]["took_s"] < 1.0 * SLOWNESS


def test_an_allocating_line_gets_the_name_of_its_function(tmp_path: Path) -> None:
    """Tracemalloc knows lines only; a signature may go over several."""
    path = tmp_path / "a.py"
    path.write_text("X = [1]\n\nclass A:\n    async def handle(\n        self,\n    ) -> None:\n        if X:\n            self.y = 1\n")  # fmt: skip

    assert census.named(f"{path}:8 in ?") == f"{path}:8 in handle"
    assert census.named(f"{path}:1 in ?") == f"{path}:1 in <module>"
    assert census.named("/nowhere/a.py:3 in ?") == "/nowhere/a.py:3 in ?"


def test_a_file_of_proc_is_read_to_its_end() -> None:
    """The kernel gives the map of a process a page at a time: of forty libraries two were seen, and whose C code was loaded was not known."""
    from holdfast.evidence.case import read_text

    libraries = {line.split()[-1] for line in Path("/proc/self/maps").read_text().splitlines() if ".so" in line}  # fmt: skip
    text = read_text("/proc/self/maps", 4 << 20)

    assert len(text) > 8192
    assert all(library in text for library in libraries)
    assert len(read_text("/proc/self/maps", 100)) == 100
