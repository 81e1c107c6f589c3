"""The culprit is found from crashes alone: how many does it take, and what is left in peace?"""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.core import parts
from holdfast.core.isolate import (
    APART,
    AT_ONCE,
    COMMON,
    CULPRIT,
    HALVES,
    REPEAT,
    Death,
    death_of,
    decide,
    find,
    is_mended,
    noted,
)
from holdfast.core.suspicion import Lived, ochiai, suspects
from holdfast.wire.plan import env_sum, fingerprint, stub

SIX = ["board", "chat", "fetch", "mail", "search", "stats"]


def container(name: str, components: list[str], **more: Any) -> Any:
    entry: Any = stub(name, "/srv/app")
    entry.update(
        kind="container",
        autostart=True,
        isolate=AT_ONCE,
        components=[{"name": one, "use": f"{one}:app", "settings": {}} for one in components],
        log={"directory": f"/state/logs/{name}", "keep": 1},
    )
    entry.update(more)
    return entry


def plan_of(*workers: Any, groups: list[Any] | None = None) -> Any:
    return {"format": 1, "env": {}, "digest": "d", "workers": list(workers), "groups": groups or []}


class World:
    """A node in which some components crash: as the keeper, the watchdog and the crashes would have it."""

    def __init__(self, components: list[str], fan: int) -> None:
        self.plan = plan_of(container("all", components))
        self.fan = fan
        self.deaths: list[Death] = []
        self.now_s = 1000.0
        self.touched: set[str] = set()

    @property
    def parts(self) -> dict[str, list[str]]:
        return parts.partition(self.plan, "all")

    def crash(self, worker: str, blamed: str = "") -> None:
        self.now_s += 1.0
        self.deaths.append(Death(worker, self.parts[worker], self.now_s, blamed=blamed))
        while True:
            due = decide(self.parts, self.deaths, fan=self.fan, window_s=60.0)
            if due is None:
                return
            self.touched.add(due.worker)
            self.plan = parts.divide(self.plan, due.worker, due.groups, why=due.why, unix_s=0.0)

    def home(self, component: str) -> str:
        return next(name for name, members in self.parts.items() if component in members)

    def found(self, quiet_s: float = 0.0) -> Any:
        now_s = self.now_s + quiet_s
        return find(self.parts, self.deaths, since_s=self.now_s, now_s=now_s)


names = st.lists(st.text("abcdefgh", min_size=1, max_size=4), min_size=2, max_size=40, unique=True)
fans = st.sampled_from([HALVES, 3, AT_ONCE])


@given(names, fans, st.data())
def test_the_culprit_stands_alone_after_few_crashes(
    components: list[str], fan: int, data: st.DataObject
) -> None:
    """Whoever it is, and whatever the evidence says about its first crash."""
    culprit = data.draw(st.sampled_from(components))
    first_hint = data.draw(st.sampled_from(["", culprit, *components]))
    world = World(components, fan)
    crashes = 0
    while not world.found().culprits:
        world.crash(world.home(culprit), blamed=first_hint if crashes < REPEAT else "")
        crashes += 1
        assert crashes <= REPEAT + math.ceil(math.log2(len(components))) + 2

    assert world.found().kind == CULPRIT
    assert [name for name, _ in world.found().culprits] == [culprit]
    assert world.parts[f"all+{culprit}"] == [culprit]


@given(names, fans, st.data())
def test_two_culprits_are_both_found(components: list[str], fan: int, data: st.DataObject) -> None:
    pair = data.draw(st.lists(st.sampled_from(components), min_size=2, max_size=2, unique=True))
    world = World(components, fan)
    crashes = 0
    while len(world.found().culprits) < 2:
        alone = {name for name, _ in world.found().culprits}
        left = [name for name in pair if name not in alone]
        # The one that was found goes on crashing in its corner, and tells nothing new.
        who = data.draw(st.sampled_from(pair)) if crashes % 3 else left[0]
        world.crash(world.home(who), blamed=data.draw(st.sampled_from(["", who])))
        crashes += 1
        assert crashes < 12 * math.ceil(math.log2(len(components)) + 2)

    assert {name for name, _ in world.found().culprits} == set(pair)


@given(names, fans, st.data())
def test_whoever_did_not_crash_is_never_split(
    components: list[str], fan: int, data: st.DataObject
) -> None:
    """A part that goes on serving is left alone: only the dead are touched."""
    world = World(components, fan)
    culprits = data.draw(st.lists(st.sampled_from(components), min_size=1, max_size=3))
    for who in culprits * 4:
        before, died = world.parts, world.home(who)
        world.crash(died)
        others = {name: members for name, members in before.items() if name != died}
        assert others.items() <= world.parts.items()


def test_one_crash_alone_splits_nothing() -> None:
    world = World(SIX, AT_ONCE)

    world.crash("all", blamed="board")

    assert world.parts == {"all": SIX}


def test_crashes_far_apart_are_not_the_same_trouble() -> None:
    world = World(SIX, AT_ONCE)

    world.crash("all")
    world.now_s += 3600.0
    world.crash("all")
    assert world.parts == {"all": SIX}

    world.now_s += 3600.0
    world.crash("all")
    assert len(world.parts) == 6  # three on one day are


def test_of_six_components_the_culprit_is_known_after_three_crashes() -> None:
    """The issue's table allows four, and an evening elsewhere."""
    for hint in ("", "mail"):
        world = World(SIX, AT_ONCE)
        for _ in range(3):
            world.crash(world.home("mail"), blamed=hint)
        assert world.found().culprits == [("mail", 1)]
        assert world.parts["all+mail"] == ["mail"]
        # With direct evidence the other five stay one process.
        assert len(world.parts) == (2 if hint else 6)


def test_a_false_accusation_costs_one_crash() -> None:
    """Memory broken by one component is found broken by another."""
    world = World(SIX, AT_ONCE)
    for _ in range(4):
        world.crash(world.home("mail"), blamed="board")

    assert world.found().culprits == [("mail", 1)]


def test_what_only_dies_together_is_left_apart_with_words() -> None:
    world = World(["a", "b", "c", "d"], HALVES)
    world.crash("all")
    world.crash("all")
    world.crash(world.home("a"))  # a and b are still together
    assert sorted(world.parts) == ["all+a", "all+b", "all+part1"]

    assert world.found(quiet_s=30.0).kind == "searching"
    found = world.found(quiet_s=90.0)

    assert found.kind == APART
    assert found.together == ["a", "b"]
    assert "a, b died 3 times" in found.says
    assert "stay apart" in found.says
    assert not is_mended(world.deaths, since_s=0.0, now_s=world.now_s + 1e6)


def test_when_each_one_dies_alone_it_is_none_of_them() -> None:
    world = World(["a", "b", "c"], AT_ONCE)
    for _ in range(REPEAT):
        world.crash("all")
    for name in list(world.parts):
        world.crash(name)

    assert world.found().kind == COMMON


def test_a_culprit_that_was_mended_goes_home_after_a_day() -> None:
    world = World(SIX, AT_ONCE)
    for _ in range(4):
        world.crash(world.home("mail"))

    assert not is_mended(world.deaths, since_s=0.0, now_s=world.now_s + 86000)
    assert is_mended(world.deaths, since_s=0.0, now_s=world.now_s + 86500)
    assert not is_mended(world.deaths, since_s=world.now_s + 80000, now_s=world.now_s + 86500)


def test_a_worker_that_may_not_be_split_is_not() -> None:
    deaths = [Death("all", SIX, at_s) for at_s in (1.0, 2.0, 3.0)]

    assert decide({"all": SIX}, deaths, fan=0, window_s=60.0) is None


# -- what counts -------------------------------------------------------------------------------------


def exit_record(**more: Any) -> dict[str, Any]:
    return {
        "k": "exit", "role": "main", "worker": "all", "n": 3, "seq": 9, "status": 11, "cause": "died",
        "mono_s": 5.0, "components": SIX, **more,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("more", "counts"),
    [
        ({}, True),
        ({"status": 70 << 8}, True),
        ({"status": 78 << 8}, True),
        ({"status": 6 | 0x80}, True),
        ({"status": 9, "cause": "remedy", "flag": "missed_heartbeat"}, True),
        ({"status": 0}, False),
        ({"status": None}, False),
        ({"status": 9}, False),
        ({"status": 15}, False),
        ({"status": 74 << 8}, False),
        ({"cause": "stop"}, False),
        ({"cause": "group"}, False),
        ({"role": "spare"}, False),
        ({"components": None}, False),
        ({"k": "start"}, False),
    ],
)
def test_which_ends_say_something_about_components(more: dict[str, Any], counts: bool) -> None:
    """kill -9 by a person, or a full memory disk, is nobody's fault in there."""
    assert (death_of(exit_record(**more)) is not None) == counts


def test_a_note_accuses_only_where_it_can_know() -> None:
    note = {"note": "crash component=mail ValueError: component=board"}

    def blamed(**more: Any) -> str:
        death = death_of(exit_record(**note, **more), is_oom=more.get("status") == 9)
        assert death is not None
        return death.blamed

    assert blamed() == "mail"
    assert blamed(cause="remedy", flag="missed_heartbeat") == "mail"
    assert blamed(cause="remedy", flag="memory_over_limit") == ""
    assert blamed(status=9) == ""
    assert noted("spare") == noted("") == noted("crash of nobody in component=board") == ""


# -- the plan ----------------------------------------------------------------------------------------


@given(names, fans, st.data())
def test_taking_a_split_off_gives_the_written_plan_back(
    components: list[str], fan: int, data: st.DataObject
) -> None:
    world = World(components, fan)
    web = container("web", ["page"], after=["all"], requires=["all"])
    group = {"name": "g", "strategy": "rest_for_one", "workers": ["web", "all"]}
    before = plan_of(web, *world.plan["workers"], groups=[group])
    world.plan = before
    for who in data.draw(st.lists(st.sampled_from(components), max_size=5)):
        world.crash(world.home(who))

    assert parts.written(world.plan) == before
    everybody = [one for members in world.parts.values() for one in members]
    assert sorted(everybody) == sorted(components)
    if len(world.parts) > 1:
        assert parts.rejoin(world.plan, "all") == before
        assert parts.carry_over(before, world.plan) == world.plan
        web_now = world.plan["workers"][0]
        assert web_now["after"] == web_now["requires"] == list(world.parts)
        assert world.plan["groups"][0]["workers"] == ["web", *world.parts]


def test_only_what_changed_is_restarted() -> None:
    """The keeper goes by fingerprints: a part that stays as it is keeps its process."""
    before = plan_of(container("all", SIX))
    once = parts.divide(before, "all", [SIX[:4], SIX[4:]], why="", unix_s=1.0)
    twice = parts.divide(once, "all+part1", [SIX[4:5], SIX[5:]], why="", unix_s=2.0)

    def prints(plan: Any) -> dict[str, int]:
        return {entry["name"]: fingerprint(entry, env_sum(plan)) for entry in plan["workers"]}

    assert list(prints(twice)) == ["all", "all+search", "all+stats"]
    assert prints(once)["all"] == prints(twice)["all"] != prints(before)["all"]
    assert prints(parts.written(twice)) == prints(before)
    loose: Any = twice["workers"]
    logs = [entry["log"]["directory"] for entry in loose]
    assert logs == ["/state/logs/all", "/state/logs/all+search", "/state/logs/all+stats"]


def test_a_configuration_with_other_components_begins_in_one_piece() -> None:
    split = parts.divide(
        plan_of(container("all", SIX)), "all", [SIX[1:], SIX[:1]], why="", unix_s=1
    )
    grown = plan_of(container("all", [*SIX, "new"]))
    forbidden = plan_of(container("all", SIX, isolate=0))

    assert parts.carry_over(grown, split) == grown
    assert parts.carry_over(forbidden, split) == forbidden
    changed = parts.carry_over(plan_of(container("all", SIX, umask=7)), split)
    assert [entry["umask"] for entry in changed["workers"]] == [7, 7]


@pytest.mark.parametrize(
    ("worker", "groups", "says"),
    [
        ("nobody", [["a"], ["b"]], "no container"),
        ("all", [["a"], ["b"]], "exactly one part"),
        ("all", [["a", "b"], ["b", "c"]], "exactly one part"),
        ("all", [["a", "b", "c"], []], "exactly one part"),
        ("all", [["a", "b", "c"]], "no split"),
    ],
)
def test_what_is_no_division_is_refused(worker: str, groups: list[list[str]], says: str) -> None:
    plan = plan_of(container("all", ["a", "b", "c"]))

    with pytest.raises(ValueError, match=says):
        parts.divide(plan, worker, groups, why="", unix_s=0.0)


def test_a_probe_of_the_whole_worker_is_not_asked_of_its_parts() -> None:
    entry = container("all", ["a", "b"])
    entry["ready"] = {"kind": "tcp", "target": "127.0.0.1:80", "argv": [], "timeout_s": 30.0}
    entry["heartbeat"] = {
        "kind": "http", "target": "http://x/", "argv": [], "period_s": 1.0, "timeout_s": 30.0,
    }  # fmt: skip
    split = parts.divide(plan_of(entry), "all", [["a"], ["b"]], why="", unix_s=0.0)

    for part in split["workers"]:
        assert (part["ready"]["kind"], part["heartbeat"]["kind"]) == ("pulse", "pulse")
        assert (part["ready"]["timeout_s"], part["heartbeat"]["timeout_s"]) == (30.0, 5.0)


def test_a_death_is_written_up_with_the_components_it_had() -> None:
    """The split is quicker than the evidence process."""
    split = parts.divide(
        plan_of(container("all", SIX)), "all", [SIX[1:], SIX[:1]], why="", unix_s=1
    )

    def names_at(worker: str, had: list[str] | tuple[()] = ()) -> list[str]:
        entry = parts.entry_at(split, worker, had)
        assert entry is not None
        return [one["name"] for one in entry["components"]]

    assert names_at("all", SIX) == SIX
    assert names_at("all") == SIX[1:]
    assert names_at("all+board", ["board"]) == ["board"]
    assert parts.entry_at(split, "stranger") is None
    gone = parts.divide(split, "all", [[one] for one in SIX[1:]], why="", unix_s=2)
    whole = parts.entry_at(gone, "all", SIX)
    assert whole is not None
    assert parts.components(whole) == SIX


# -- suspicion ---------------------------------------------------------------------------------------


def test_an_extension_that_was_in_every_crash_and_nowhere_else_comes_first() -> None:
    lives = [
        Lived(["board", "orjson 3.9", "numpy 2.0"], crashed=True),
        Lived(["mail", "orjson 3.9"], crashed=True),
        Lived(["board", "orjson 3.8", "numpy 2.0"], crashed=False),
        Lived(["stats", "numpy 2.0"], crashed=False),
    ]

    first, *others = suspects(lives)

    assert (first.name, first.score, first.crashed, first.well) == ("orjson 3.9", 1.0, 2, 0)
    assert [one.name for one in others] == ["mail", "board", "numpy 2.0"]


@given(st.integers(0, 50), st.integers(0, 50), st.integers(0, 50))
def test_ochiai_is_a_share(with_it: int, without: int, well: int) -> None:
    score = ochiai(with_it, with_it + without, well)

    assert 0.0 <= score <= 1.0
    assert (score == 1.0) == (with_it > 0 and without == 0 and well == 0)
