"""Which lines allocate what stays: recorded in the program by memray or tracemalloc, read outside of it."""

import json
import os
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import pytest

from holdfast.agent import growth, recording
from holdfast.diagnosis import owners
from holdfast.evidence import capture
from holdfast.evidence.collectors import allocations, census
from holdfast.wire import layout

SLOWNESS = float(os.environ.get("HOLDFAST_SLOWNESS", "1"))
SOURCE = str(Path(capture.__file__).parents[2])
needs_memray = pytest.mark.skipif(not recording.is_there(), reason="memray is not installed")

KEEPING = """
import threading, time
from holdfast.agent import asking
asking.listen()
kept = []
def handle():
    kept.append(bytearray(5000))
def serve():
    while True:
        for _ in range(50):
            handle()
            bytes(100_000)
        time.sleep(0.01)
threading.Thread(target=serve, daemon=True).start()
print('there', flush=True)
time.sleep(600)
"""
SITES: list[dict[str, Any]] = [
    {"bytes": 900, "count": 9, "thread": "", "frames": ["/srv/app/run.py:7 in handle", "/srv/app/run.py:20 in <module>"]},
    {"bytes": 100, "count": 1, "thread": "", "frames": ["Objects/listobject.c:9 in list_resize", "/srv/app/run.py:7 in handle"]},
    {"bytes": 50, "count": 2, "thread": "", "frames": ["Objects/obmalloc.c:1 in PyMem_Malloc"]},
]  # fmt: skip


def test_bytes_take_the_place_of_samples_in_every_form() -> None:
    made = allocations.outputs(SITES, "shop")

    assert made[".txt"]().splitlines()[0] == ";/srv/app/run.py:20 in <module>;/srv/app/run.py:7 in handle 900"  # fmt: skip
    assert made[".json"]()["profiles"][0]["unit"] == "bytes"
    text = "".join(ElementTree.fromstring(made[".svg"]()).itertext())
    assert "1050 bytes" in text
    assert "samples" not in text


def test_the_table_leaves_out_the_interpreters_own_c_code_and_tells_alike_ways_once() -> None:
    rows = allocations.by_way(SITES, "/srv/app")

    assert rows[0] == (900, 9, "handle (run.py:7) <- <module> (run.py:20)")
    assert rows[1] == (100, 1, "handle (run.py:7)")
    assert rows[2][2].startswith("PyMem_Malloc")
    assert allocations.by_way([SITES[1], SITES[1]], "/srv/app") == [(200, 2, "handle (run.py:7)")]


def test_the_agent_on_the_stack_of_the_program_does_not_hide_what_the_program_keeps(
    tmp_path: Path,
) -> None:
    """In a container every timer and every request runs below the agent's meter; only our own counting is left out."""
    agent = f"{SOURCE}/holdfast/agent"
    rows = [
        [900, 9, "", ["/srv/app/run.py:7 in handle", f"{agent}/routes.py:238 in measured"]],
        [100, 1, "", ["/srv/app/run.py:7 in handle", f"{agent}/routes.py:238 in measured"]],
        [5000, 1, "", [f"{agent}/growth.py:9 in growth", f"{agent}/asking.py:3 in _serve"]],
    ]
    reader = tmp_path / "python"
    reader.write_text(f"#!/bin/sh\ncat <<'END'\n{json.dumps({'rows': rows})}\nEND\n")
    reader.chmod(0o755)

    sites, why = allocations.read(str(tmp_path / "recorded"), os.getpid(), str(reader))

    assert not why
    assert [(site["bytes"], site["count"]) for site in sites] == [(1000, 10)]


def test_types_made_in_c_may_have_anything_as_their_module() -> None:
    """Cython's enums (memray's own among them) broke every census of a program that had them."""
    odd = type("Odd", (), {"__module__": property(lambda _: "nothing")})
    kept = [odd() for _ in range(10)]

    answer = growth.answer({"window_s": 0.0, "trace": False})

    assert answer["ok"], answer
    assert answer["census"]["by"] == ""
    del kept


def test_without_memray_the_best_is_tracemalloc_and_memray_by_name_is_refused_with_words(
    monkeypatch: Any,
) -> None:
    monkeypatch.setattr(recording, "is_there", lambda: False)
    monkeypatch.setitem(sys.modules, "memray", None)

    assert growth._way("best") == "tracemalloc"
    assert growth._way(None) == "tracemalloc"
    answer = growth.answer({"window_s": 0.0, "by": "memray"})
    assert answer["ok"] is False
    assert answer["error"].startswith("ModuleNotFoundError")
    assert "memray" in answer["error"]


def test_evidence_that_nobody_asked_for_is_never_taken_by_memray() -> None:
    """It hooks into the allocator of a program that may be dying of it; tracemalloc is the interpreter's own."""
    assert "by" not in census._request(0.5, trace=True)
    assert growth._way(census._request(0.5, trace=True).get("by")) == "tracemalloc"


def test_a_recording_that_cannot_be_read_is_said_and_gone(tmp_path: Path) -> None:
    path = tmp_path / ".heap-web"
    path.write_bytes(b"no recording")

    sites, why = allocations.read(str(path), os.getpid(), sys.executable)

    assert sites == []
    assert why
    assert not path.exists()


@pytest.mark.faults
@needs_memray
@pytest.mark.parametrize("native", [False, True])
def test_memray_is_begun_by_the_agent_and_names_the_line_that_keeps(
    node: Any, started: Any, native: bool
) -> None:
    """No debugger, no pause, and the program lives on; what was given back within the window is not told."""
    process: subprocess.Popen[bytes] = started(
        KEEPING, asleep=False, env_more={"PYTHONPATH": SOURCE, "HOLDFAST_RUN": str(node.run_dir)}
    )
    found, why = census.ask(str(node.run_dir), "backend", 0.3, 60.0 * SLOWNESS, by="best", native=native)  # fmt: skip
    assert found, why
    assert found["by"] == "memray"
    path = Path(found["recorded"])
    assert path.parent == node.run_dir

    sites, why = allocations.read(str(path), process.pid, sys.executable)

    assert not why
    largest = sites[0]
    frames = [f for f in largest["frames"] if not owners.is_machinery(f.rpartition(":")[0])]
    mine = [f for f in allocations.telling(frames) if "app.py" in f]
    assert mine[0].endswith("app.py:7 in handle")
    assert largest["bytes"] >= 5000 * largest["count"] > 0
    assert not any(site["bytes"] >= 100_000 * 50 for site in sites[1:])
    assert any(not f.startswith("/") or ".so" in f for f in largest["frames"]) == native
    assert not path.exists()
    assert process.poll() is None
    assert (node.run_dir / layout.CONTROL / "backend.sock").exists()
