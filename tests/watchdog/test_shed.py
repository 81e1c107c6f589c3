"""What was stopped to save the machine comes back when the machine is well: once, and not over a person's head."""

from __future__ import annotations

import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from holdfast.core.detect import thresholds
from holdfast.watchdog.box import Box
from holdfast.watchdog.cases import NODE, Cases
from holdfast.watchdog.wards import Roll, Ward


class Desk:
    """A keeper that writes down what it is asked for, and an engine that only listens."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []

    def ask(self, request: dict[str, Any], reply: Any) -> None:
        self.asked.append(request)
        reply({"ok": True})

    def say(self, text: str) -> None:
        pass


def spec() -> Any:
    care = {"kind": "none"}
    return SimpleNamespace(
        ready=care, beat=care, memory_bytes=0, has_pulse=False, needs_care=lambda: False,
        detect=thresholds.WORKER, is_python=False,
    )  # fmt: skip


def node(tmp_path: Path) -> tuple[Desk, Roll, Cases, Box]:
    (tmp_path / "flags").mkdir()
    desk, roll = Desk(), Roll(lambda _: None)
    engine: Any = desk
    roll.by_name = {name: Ward(name, spec()) for name in ("api", "reports", "mail")}
    cases = Cases(engine, str(tmp_path), engine, roll)
    feeler: Any = SimpleNamespace()
    return desk, roll, cases, Box(engine, roll, cases, feeler, lambda: None)


def stop(roll: Roll, worker: str, by: str) -> None:
    roll.record({"k": "want", "worker": worker, "up": False, "by": by})


def test_after_half_a_minute_of_health_what_was_shed_is_started_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sooner, the two would swing: stopped, started, stopped."""
    desk, roll, cases, box = node(tmp_path)
    stop(roll, "reports", "watchdog")
    is_up = True
    monkeypatch.setattr(Cases, "has", lambda _self, worker, flag: is_up and (worker, flag) == (NODE, "memory_pressure"))  # fmt: skip
    at_s = time.monotonic()
    for second in range(60):
        box._take_back(at_s + second)
    assert not desk.asked

    is_up = False
    for second in range(60, 90):
        box._take_back(at_s + second)
    assert not desk.asked
    box._take_back(at_s + 91)
    assert desk.asked == [{"do": "start", "worker": "reports", "by": "watchdog"}]
    roll.record({"k": "want", "worker": "reports", "up": True, "by": "watchdog"})
    for second in range(92, 300):
        box._take_back(at_s + second)
    assert len(desk.asked) == 1
    assert cases.workers() == set()


def test_what_a_person_stopped_stays_stopped(tmp_path: Path) -> None:
    """Also when the watchdog had stopped it before: whoever spoke last decides."""
    desk, roll, cases, _ = node(tmp_path)
    stop(roll, "reports", "watchdog")
    stop(roll, "mail", "user")
    stop(roll, "reports", "user")

    cases.take_back()
    assert not desk.asked


def test_a_watchdog_that_was_killed_meanwhile_takes_back_what_the_one_before_it_shed(
    tmp_path: Path,
) -> None:
    """What was shed is in the keeper's journal, not in the memory of a process that may be killed."""
    desk, roll, cases, _ = node(tmp_path)
    roll.record({"k": "state", "worker": "reports", "up": False, "by": "watchdog"})

    cases.take_back()
    assert [request["worker"] for request in desk.asked] == ["reports"]


def test_a_keeper_that_does_not_answer_is_asked_again(tmp_path: Path) -> None:
    desk, roll, _, box = node(tmp_path)
    stop(roll, "reports", "watchdog")
    at_s = time.monotonic()
    for second in range(100):
        box._take_back(at_s + second)

    assert [request["do"] for request in desk.asked] == ["start"] * 3
