"""Flags that a worker raises about itself (a router: `slow_session`) pass the watchdog by."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any, cast

import pytest

from holdfast.router.slowflag import NAME, SlowFlag
from holdfast.watchdog.cases import OWN, Cases

if TYPE_CHECKING:
    from pathlib import Path


class _Roll:
    """Two workers, of which nothing is known."""

    def __init__(self) -> None:
        self.by_name: dict[str, Any] = {"bus": None, "web": None}


@pytest.fixture
def cases(tmp_path: Path) -> Cases:
    (tmp_path / "flags").mkdir()
    nothing = cast("Any", None)
    return Cases(nothing, str(tmp_path), nothing, cast("Any", _Roll()))


def flags(tmp_path: Path) -> list[str]:
    return sorted(path.name for path in (tmp_path / "flags").iterdir())


def test_both_sides_mean_the_same_flag() -> None:
    assert NAME in OWN


def test_a_new_watchdog_neither_takes_it_up_nor_away(cases: Cases, tmp_path: Path) -> None:
    """Else a kill of the watchdog would hide a cut-off, or start a remedy for it: a restart of the router."""
    SlowFlag(str(tmp_path), "bus").tell("session 7 does not read", 2.0, 1.0)
    (tmp_path / "flags/bus.slow_session.12.1.tmp").write_text("{")
    (tmp_path / "flags/gone.slow_session").write_text("{}")
    (tmp_path / "flags/bus.nonsense").write_text("{")

    cases.load()

    assert flags(tmp_path) == ["bus.slow_session", "bus.slow_session.12.1.tmp"]
    assert len(cases) == 0
    assert json.loads((tmp_path / "flags/bus.slow_session").read_text())["says"].startswith("cut off: session 7")  # fmt: skip


def test_a_person_who_takes_over_clears_it_but_not_what_came_later(cases: Cases, tmp_path: Path) -> None:  # fmt: skip
    path = tmp_path / "flags/bus.slow_session"
    SlowFlag(str(tmp_path), "bus").tell("it does not read", 2.0, 1.0)
    os.utime(path, (2000.0, 2000.0))

    cases.release("bus", 1999.0)
    cases.release("web")
    assert path.exists()
    cases.release("bus", 2001.0)
    assert not path.exists()
    cases.release("bus")


def test_it_goes_with_its_worker(cases: Cases, tmp_path: Path) -> None:
    """A router that is gone from the plan never starts again to take it back."""
    for worker in ("bus", "old"):
        SlowFlag(str(tmp_path), worker).tell("it does not read", 2.0, 1.0)
    (tmp_path / "flags/old.failed_probe").write_text("{}")

    cases.forget_strangers()

    assert flags(tmp_path) == ["bus.slow_session", "old.failed_probe"]
