"""Who starts after whom, who restarts with whom, in what order all stop."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from holdfast.core import lifecycle, tree
from holdfast.wire.plan import env_sum, fingerprint, stub

if TYPE_CHECKING:
    from holdfast.model.plan import GroupPlan, WorkerPlan


def worker(
    name: str, after: list[str] | None = None, requires: list[str] | None = None
) -> WorkerPlan:
    made = stub(name, "/")
    made["after"], made["requires"] = after or [], requires or []
    return made


def test_after_waits_for_ready_but_not_for_what_is_down_for_good() -> None:
    """A stopped cache must not keep the site down when only the order was asked for."""
    site = worker("site", after=["cache"])

    assert tree.may_start(site, {"cache": False}, {"cache": False}) == (False, "cache")
    assert tree.may_start(site, {"cache": True}, {"cache": False}) == (True, "")
    assert tree.may_start(site, {"cache": False}, {"cache": True}) == (True, "")


def test_requires_waits_in_any_case() -> None:
    site = worker("site", requires=["db"])

    assert tree.may_start(site, {"db": False}, {"db": True}) == (False, "db")


def test_the_strategies_of_otp() -> None:
    def group(strategy: str) -> list[GroupPlan]:
        return [{"name": "g", "strategy": strategy, "workers": ["a", "b", "c"]}]  # type: ignore[typeddict-item]

    assert tree.restart_with(group("one_for_one"), "b") == []
    assert tree.restart_with(group("one_for_all"), "b") == ["a", "c"]
    assert tree.restart_with(group("rest_for_one"), "b") == ["c"]
    assert tree.restart_with(group("one_for_all"), "stranger") == []


def test_nobody_is_stopped_before_those_that_rely_on_it() -> None:
    plan = [
        worker("db"),
        worker("api", requires=["db"]),
        worker("site", after=["api"]),
        worker("cron"),
    ]

    assert tree.stop_order(plan) == [["site", "cron"], ["api"], ["db"]]


@given(st.lists(st.tuples(st.integers(0, 11), st.integers(0, 11)), max_size=40))
def test_the_stop_order_names_each_worker_once_even_in_a_circle(
    edges: list[tuple[int, int]],
) -> None:
    needs: dict[int, list[str]] = {}
    for user, used in edges:
        needs.setdefault(user, []).append(f"w{used}")
    waves = tree.stop_order([worker(f"w{i}", after=needs.get(i)) for i in range(12)])

    assert sorted(name for wave in waves for name in wave) == sorted(f"w{i}" for i in range(12))


def test_a_worker_is_restarted_for_what_its_process_depends_on_and_for_nothing_else() -> None:
    """supervisor #1637: changing autorestart restarts the program."""
    before, after = worker("a"), worker("a")
    after["stop"] = {"signal": 2, "grace_s": 1.0}
    after["restart"] = {**after["restart"], "limit": 9}
    assert fingerprint(before, 1) == fingerprint(after, 1)

    after["argv"] = ["/bin/true"]
    assert fingerprint(before, 1) != fingerprint(after, 1)
    assert fingerprint(before, 1) != fingerprint(before, 2)
    assert env_sum({"env": {"A": "1"}}) != env_sum({"env": {"A": "2"}})  # type: ignore[typeddict-item]


def test_every_state_of_a_worker_can_be_left_and_reached() -> None:
    states = {state for state, _ in lifecycle.NEXT} | set(lifecycle.NEXT.values())
    reached = {lifecycle.DOWN}
    while (
        grown := {after for (state, _), after in lifecycle.NEXT.items() if state in reached}
        - reached
    ):
        reached |= grown

    assert reached == states
    assert {state for state, _ in lifecycle.NEXT} == states
