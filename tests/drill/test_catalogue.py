"""Which drills a node has, and which objective counts: no process needed."""

from __future__ import annotations

from typing import Any

import pytest

from holdfast.cli.drills import catalogue
from holdfast.cli.drills import row as rows
from holdfast.cli.drills.row import Row
from holdfast.cli.drills.scorecard import one_line, render, seconds
from holdfast.cli.terminal import Paint
from holdfast.wire import layout
from holdfast.wire.plan import stub


def worker(name: str, **changes: Any) -> dict[str, Any]:
    entry: dict[str, Any] = dict(stub(name, "/"))
    entry["restart"] = {
        "policy": "always", "limit": 5, "window_s": 60.0, "after_limit": "slow", "delay_s": 0.5,
        "delay_max_s": 30.0, "jitter": 0.2, "healthy_s": 10.0,
    }  # fmt: skip
    for key, value in changes.items():
        entry[key] = {**entry[key], **value} if isinstance(value, dict) else value
    return entry


CONTAINER = {"kind": "container", "heartbeat": {"kind": "pulse", "timeout_s": 5.0}, "faulthandler": True}  # fmt: skip


def drills(
    *workers: dict[str, Any],
    objectives: dict[str, float] | None = None,
    enforces: bool = True,
    slowness: float = 1.0,
) -> dict[str, catalogue.Drill]:
    plan = {
        "workers": list(workers),
        "watch": {"house_timeout_s": 5.0, "objectives": objectives or {}},
    }
    found = catalogue.drills_of(plan, enforces_memory=enforces, slowness=slowness)
    return {drill.name: drill for drill in found}


def test_every_kind_for_a_container_and_only_signals_for_a_guest() -> None:
    found = drills(worker("web", **CONTAINER), worker("cache"))

    assert {d.kind for d in found.values() if d.target == "web"} == set(catalogue.KINDS) - {catalogue.DISK_FULL}  # fmt: skip
    assert [n for n, d in found.items() if d.target == "cache"] == [
        "kill-cache", "stop-cache", "crash-loop-cache",
    ]  # fmt: skip
    assert {n for n, d in found.items() if d.is_house} == {"disk-full-node"} | {
        f"{kind}-{role}" for kind in ("kill", "stop") for role in layout.ROLES
    }


def test_default_objectives() -> None:
    found = drills(worker("web", **CONTAINER, limits={"memory_bytes": 100_000_000}))

    assert found["kill-web"].objective_s == 5.0
    assert found["deadlock-web"].objective_s == 15.0
    assert found["oom-web"].objective_s == 10.0
    assert found["crash-loop-web"].objective_s == 41.0
    assert found["kill-keeper"].objective_s == 0.25
    assert found["stop-keeper"].objective_s == 15.0


def test_slowness_stretches_the_defaults_and_not_what_a_person_asked_for() -> None:
    found = drills(worker("web"), objectives={"kill-web": 2.0}, slowness=4.0)

    assert found["kill-keeper"].objective_s == 1.0
    assert found["kill-web"].objective_s == 2.0


@pytest.mark.parametrize(
    ("objectives", "expected"),
    [
        ({"kill-web": 1.0, "kill-worker": 2.0, "kill": 3.0, "*": 4.0}, 1.0),
        ({"kill-worker": 2.0, "kill": 3.0, "kill-w*": 4.0}, 2.0),
        ({"kill": 3.0, "kill-*": 4.0}, 3.0),
        ({"*": 5.0, "kill-*": 4.0}, 4.0),
        ({"kill-house": 9.0}, 5.0),
    ],
)
def test_the_most_particular_objective_counts(
    objectives: dict[str, float], expected: float
) -> None:
    assert drills(worker("web"), objectives=objectives)["kill-web"].objective_s == expected


def test_an_objective_for_nothing_is_told() -> None:
    found = drills(worker("web"))

    assert catalogue.unused_objectives(found.values(), {"kill-wbe": 1.0, "stop-house": 1.0}) == [
        "kill-wbe"
    ]


@pytest.mark.parametrize(
    ("name", "changes", "enforces", "why"),
    [
        ("stop-web", {"heartbeat": {"kind": "none"}}, True, "no heartbeat"),
        ("deadlock-web", {"heartbeat": {"kind": "tcp"}}, True, "not the pulse"),
        ("oom-web", {}, True, "no memory_max"),
        ("oom-web", {"limits": {"memory_bytes": 1 << 28}}, False, "no memory cgroup"),
        ("kill-web", {"restart": {"policy": "never"}}, True, "not meant to come back"),
        ("crash-loop-web", {"restart": {"limit": 0}}, True, "no limit"),
        ("crash-loop-web", {"essential": True, "restart": {"after_limit": "down"}}, True, "essential"),
        ("crash-loop-web", {"restart": {"limit": 20}}, True, "do not fit into restart.window"),
        ("leak-50-web", {}, True, "the leak would take the machine's"),
        ("leak-500-web", {"limits": {"memory_bytes": 1 << 28}}, True, "less than 800 MB"),
        ("task-bomb-web", {"detect": {"task_bomb": 0.0}}, True, "detect.task_bomb = false"),
        ("culprit-web", {}, True, "one component only"),
        ("culprit-web", {"components": [{"name": "a"}, {"name": "b"}]}, True, "isolate = false"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_skipped_with_the_reason(
    name: str, changes: dict[str, Any], enforces: bool, why: str
) -> None:
    entry = worker("web", **CONTAINER)
    for key, value in changes.items():
        entry[key] = {**(entry.get(key) or {}), **value} if isinstance(value, dict) else value

    assert why in drills(entry, enforces=enforces)[name].skip


@pytest.mark.parametrize(("size", "why"), [(1 << 40, "somebody else's"), (0, "somebody else's"), (64 << 20, "")])  # fmt: skip
def test_only_a_small_disk_that_was_made_for_it_is_filled(size: int, why: str) -> None:
    """A drill that fills the disk of the machine would be the outage."""
    plan = {
        "workers": [worker("web", autostart=True)],
        "watch": {"house_timeout_s": 5.0, "objectives": {}, "disk_min_share": 0.05},
    }
    found = catalogue.drills_of(plan, enforces_memory=True, disk_bytes=size)
    (drill,) = [one for one in found if one.kind == catalogue.DISK_FULL]

    assert (why in drill.skip) if why else not drill.skip


def test_a_word_of_only_means_names_classes_kinds_targets_and_patterns() -> None:
    found = drills(worker("web"))

    def meant(word: str) -> set[str]:
        return {name for name, drill in found.items() if catalogue.fits(drill, word)}

    assert meant("kill-web") == {"kill-web"}
    assert meant("web") == {"kill-web", "stop-web", "crash-loop-web"}
    assert meant("stop-house") == {f"stop-{role}" for role in layout.ROLES}
    assert meant("kill") == {"kill-web"} | {f"kill-{role}" for role in layout.ROLES}
    assert meant("*-keeper") == {"kill-keeper", "stop-keeper"}
    assert meant("kil") == set()


# -- rows ------------------------------------------------------------------------------------------


def row(**changes: Any) -> Row:
    made = Row(drills(worker("web"))["kill-web"])
    made.detection_s, made.recovery_s, made.verdict = 0.002, 0.16, "cured"
    made.evidence.expected, made.evidence.state = ("crash",), rows.COMPLETE
    made.evidence.incident, made.evidence.kind = "2024-11-03-web-1", "crash"
    for key, value in changes.items():
        setattr(made, key, value)
    return made


def test_a_good_row_passes() -> None:
    assert (row().result, row().met, row().failures()) == ("passed", True, [])


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"recovery_s": None}, "did not recover"),
        ({"recovery_s": 5.5}, "recovery took 5.500 s, the objective is 5 s"),
        ({"verdict": "came_back"}, "verdict is came back"),
        ({"collateral": ["cache was restarted"]}, "cache was restarted"),
        ({"lines_written": 10, "lines_lost": 2}, "2 of 10 log lines"),
        ({"troubles": ["nobody noticed"]}, "nobody noticed"),
    ],
)
def test_a_row_fails_for_whatever_a_person_would_not_want(
    changes: dict[str, Any], why: str
) -> None:
    made = row(**changes)

    assert made.result == "failed"
    assert why in "; ".join(made.failures())


@pytest.mark.parametrize(
    ("state", "result"),
    [
        (rows.COMPLETE, "passed"), (rows.PARTIAL, "passed"), (rows.LACKING, "failed"), (rows.WRONG, "failed"),
        (rows.NONE, "failed"),
    ],
)  # fmt: skip
def test_missing_evidence_fails_unless_the_bundle_says_why(state: str, result: str) -> None:
    made = row()
    made.evidence.state = state

    assert made.result == result


def test_the_scorecard_has_a_line_for_each_and_the_reasons_below() -> None:
    skipped = row(skipped="it has no heartbeat")
    skipped.drill = drills(worker("web"))["stop-web"]
    failed = row(recovery_s=7.0)
    failed.drill = drills(worker("web"))["kill-keeper"]

    text = render([row(), failed, skipped], 200, Paint(False), 12.0)

    assert text[1].split() == [
        "kill-web", "ok", "2", "ms", "160", "ms", "5.00", "s", "2024-11-03-web-1", "(crash)", "cured", "untouched",
    ]  # fmt: skip
    assert "    ! recovery took 7.000 s, the objective is 0.25 s" in text
    assert "  stop-web  it has no heartbeat" in text
    assert text[-1] == "2 drills in 12s, 1 failed, 1 skipped"
    assert "back after 160 ms" in one_line(row(), Paint(False))
    assert seconds(0.0001) == "<1 ms"
