"""Who starts processes, and who adds handler after handler to a logger: noted by the agent as it happens."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from holdfast.diagnosis import culprit
from holdfast.diagnosis.findings import Facts

PROGRAM = """
import json
from holdfast.agent import children, handlers
from holdfast.agent.imports import after_import
children.count_starts(after_import)
after_import("logging", handlers.install)
import asyncio, logging, multiprocessing, os, subprocess

def runs():
    subprocess.run(["true"])
def spawns():
    os.waitpid(os.posix_spawn("/bin/true", ["true"], os.environ), 0)
def copies():
    child = multiprocessing.get_context("fork").Process(target=int)
    child.start()
    child.join()
def logger():
    found = logging.getLogger("orders")
    found.addHandler(logging.NullHandler())
    return found
for one in (runs, spawns, copies):
    one()
logging.getLogger("calm").addHandler(logging.NullHandler())
for _ in range(30):
    logger()
print(json.dumps([children.ranked(9), handlers.told(9)]))
"""


@pytest.fixture(scope="module")
def noted() -> Any:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout)


def test_every_way_to_start_a_process_is_counted_at_the_line_of_the_program(noted: Any) -> None:
    assert sorted((row[2].rpartition(" ")[2], row[0]) for row in noted[0]) == [
        ("copies", 1), ("runs", 1), ("spawns", 1),
    ]  # fmt: skip


def test_only_a_logger_with_far_too_many_handlers_is_told(noted: Any) -> None:
    ((number, count, name, site),) = noted[1]

    assert (number, count, name) == (30, 30, "orders")
    assert site.endswith(" in logger")


def found(kind: str, **facts: Any) -> list[dict[str, Any]]:
    bundle = Facts({"kind": kind, "live": True}, {"directory": "/srv/shop"})
    for name, value in facts.items():
        setattr(bundle, name, value)
    return culprit.findings(bundle, kind, [], None)


def test_children_that_nobody_waits_for_are_told_with_who_starts_them() -> None:
    children = [{"pid": 9 + n, "command": "convert", "has_ended": n < 90} for n in range(100)]
    (one,) = found(
        "child_bomb",
        process={"children": children},
        sites={"children": [[120, 0, "/srv/shop/run.py:8 in thumbnail", []]]},
    )

    assert one["function"] == "thumbnail"
    assert "90 of them have ended, and nobody has asked how" in one["says"]


def test_handlers_that_pile_up_are_the_answer_where_everything_becomes_slow() -> None:
    rows = [[612, 611, "orders", "/srv/shop/run.py:23 in get_logger"]]
    for kind in ("slow", "log_storm", "loop_lag"):
        one = found(kind, sites={"handlers": rows})[0]
        assert (one["function"], one["confidence"]) == ("get_logger", "certain")
        assert "each line is written 612 times" in one["says"]
