"""The ladder of remedies, told as stories and held to what must never happen."""

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.core import ladder
from holdfast.core.ladder import (
    SICK,
    SUSPECT,
    UNKNOWN,
    WELL,
    CaptureEvidence,
    Case,
    ClearFlag,
    OrderRemedy,
    Settings,
    Verdict,
    WriteFlag,
)

RUNGS = (ladder.RESTART, ladder.RESTART, ladder.RESTART_GROUP)


class Story:
    """A clock, a case, and what the ladder asked for: (second, what)."""

    def __init__(self, rungs: tuple[str, ...] = RUNGS, flag: str = "missed_heartbeat") -> None:
        self.now_s = 0.0
        self.n = 1
        self.settings = Settings(rungs, evidence_s=2.0, verify_s=10.0, start_s=30.0)
        self.case = Case("node", flag, 0.0)
        self.told: list[tuple[float, str]] = []

    def look(self, what: str, for_s: float = 0.0, allowed: bool = True) -> "Story":
        until = self.now_s + for_s
        while True:
            effects = ladder.step(
                self.case, self.settings, what, n=self.n, now_s=self.now_s,
                now_unix_s=1000.0 + self.now_s, allowed=allowed,
            )  # fmt: skip
            self._tell(effects)
            if self.now_s >= until:
                return self
            self.now_s = round(self.now_s + 0.25, 6)

    def _tell(self, effects: list[object]) -> None:
        for effect in effects:
            if isinstance(effect, OrderRemedy):
                self.told.append((self.now_s, effect.remedy))
            elif isinstance(effect, CaptureEvidence):
                self.told.append((self.now_s, "evidence"))
            elif isinstance(effect, Verdict):
                self.told.append((self.now_s, effect.verdict))
            elif isinstance(effect, ClearFlag):
                self.told.append((self.now_s, "clear"))
            else:
                assert isinstance(effect, WriteFlag)

    def bundle_arrives(self) -> "Story":
        ladder.captured(self.case, self.case.key, "incident-1")
        return self

    def keeper_accepts(self) -> "Story":
        self.case.accepted = True
        return self

    def restarted(self) -> "Story":
        self.n += 1
        return self

    def tick(self, by_s: float = 0.25) -> "Story":
        self.now_s += by_s
        return self

    def watchdog_is_killed(self) -> "Story":
        again = ladder.from_flag(self.case.to_flag(), self.now_s)
        assert again is not None
        self.case = again
        return self

    def words(self) -> list[str]:
        return [what for _, what in self.told]


def test_a_hang_is_written_up_before_it_is_shot_and_the_cure_is_verified() -> None:
    """Laws 5 and 6: evidence, remedy, verify, in this order."""
    story = Story().look(SICK, for_s=0.5).bundle_arrives().tick().look(SICK)
    story.keeper_accepts().tick().look(UNKNOWN).restarted().look(UNKNOWN, for_s=3).look(
        WELL, for_s=12
    )

    assert story.words() == ["evidence", "restart", "cured", "clear"]
    assert story.case.phase == ladder.CLEAR
    assert story.told[-1][0] - 10.0 >= 3.0  # only time in which it was seen well counts


def test_evidence_that_takes_too_long_does_not_hold_up_the_restart() -> None:
    """A capture stuck in D state must not make the watchdog part of the outage."""
    story = Story().look(SICK, for_s=5)

    assert story.told[:2] == [(0.25, "evidence"), (2.25, "restart")]


def test_nobody_is_shot_who_recovered_while_evidence_was_taken() -> None:
    story = (
        Story().look(SICK, for_s=0.5).tick().look(WELL).bundle_arrives().tick().look(WELL, for_s=11)
    )

    assert story.words() == ["evidence", "cured", "clear"]


def test_one_that_came_back_is_restarted_again_with_more_patience() -> None:
    story = (
        Story()
        .look(SICK, for_s=0.5)
        .bundle_arrives()
        .look(SICK)
        .keeper_accepts()
        .tick()
        .look(UNKNOWN)
    )
    story.restarted().look(WELL, for_s=3).look(SICK, for_s=20)

    assert story.words()[:4] == ["evidence", "restart", "came_back", "evidence"]
    came_back_s, again_s = story.told[2][0], story.told[3][0]
    assert again_s - came_back_s >= 5.0


def test_three_rungs_that_do_not_help_end_with_a_shout_and_a_standing_flag() -> None:
    story = Story()
    for _ in range(3):
        story.look(SICK, for_s=15).bundle_arrives().tick().look(SICK).keeper_accepts().tick().look(
            UNKNOWN
        )
        story.restarted().tick().look(SICK).tick()
    story.look(SICK, for_s=600)

    assert [w for w in story.words() if w != "evidence"][:1] == ["restart"]
    assert story.words().count("evidence") == 3
    assert story.words()[-2:] == ["did_not_help", "gave_up"]
    assert story.words()[-3] == "group"
    assert story.case.phase == ladder.GAVE_UP


def test_a_given_up_flag_goes_when_a_person_has_mended_it() -> None:
    story = Story(rungs=(), flag="disk_low").look(SICK, for_s=60).look(WELL, for_s=11)

    assert story.words() == ["evidence", "gave_up", "clear"]


def test_the_old_life_that_is_not_dead_yet_says_nothing_about_the_remedy() -> None:
    story = Story().look(SICK, for_s=0.5).bundle_arrives().look(SICK).keeper_accepts().tick()
    story.look(SICK, for_s=3)

    assert story.case.phase == ladder.VERIFY
    assert story.words() == ["evidence", "restart"]


def test_an_order_that_is_not_taken_is_repeated_each_second_and_not_for_ever() -> None:
    story = Story().look(SICK, for_s=60)

    orders = [at for at, what in story.told if what == "restart"]
    assert len(orders) == ladder.TRIES
    assert all(0.9 < b - a < 1.3 for a, b in pairwise(orders))
    assert story.words()[-1] == "gave_up"


def test_an_order_whose_reply_was_lost_is_not_carried_out_twice() -> None:
    """Another life than the sick one is there: whatever the reply was, the remedy has happened."""
    story = (
        Story()
        .look(SICK, for_s=0.5)
        .bundle_arrives()
        .look(SICK)
        .restarted()
        .tick()
        .look(UNKNOWN, for_s=5)
    )

    assert story.words() == ["evidence", "restart"]
    assert story.case.phase == ladder.VERIFY


def test_one_that_does_not_come_up_again_was_not_helped() -> None:
    story = (
        Story()
        .look(SICK, for_s=0.5)
        .bundle_arrives()
        .look(SICK)
        .keeper_accepts()
        .tick()
        .look(UNKNOWN)
    )
    story.restarted().look(UNKNOWN, for_s=50)

    assert story.words() == ["evidence", "restart", "did_not_help"]


def test_a_flapping_symptom_does_not_flap_the_flag() -> None:
    story = Story()
    story.look(SICK, allowed=False)
    for _ in range(20):
        story.look(WELL, for_s=5, allowed=False).look(SICK, for_s=1, allowed=False)

    assert story.told == []
    assert story.case.phase == ladder.RAISED


def test_a_person_who_takes_over_ends_it_in_every_phase() -> None:
    for phase in (ladder.RAISED, ladder.EVIDENCE, ladder.REMEDY, ladder.VERIFY, ladder.GAVE_UP):
        case = Case("node", "missed_heartbeat", 0.0)
        case.phase = phase
        effects = ladder.release(case, 1.0)

        assert [type(e) for e in effects] == [ClearFlag]
        assert case.phase == ladder.CLEAR
        assert ladder.release(case, 2.0) == []


def test_only_one_flag_of_a_worker_is_treated_at_a_time() -> None:
    acting, other, foreign = (Case(w, f, 0.0) for w, f in (("a", "x"), ("a", "y"), ("b", "x")))
    acting.phase = ladder.VERIFY
    other.phase = foreign.phase = ladder.RAISED

    cases = [acting, other, foreign]
    assert ladder.may_act(acting, cases)
    assert not ladder.may_act(other, cases)
    assert ladder.may_act(foreign, cases)
    held = Story().look(SICK, for_s=60, allowed=False)
    assert held.told == []


@pytest.mark.parametrize("kill_at", range(8))
def test_a_watchdog_killed_at_any_step_leaves_enough_for_the_next(kill_at: int) -> None:
    story = Story()
    steps: list[Any] = [
        lambda: story.look(SICK),
        lambda: story.tick().look(SICK),
        lambda: story.bundle_arrives().tick().look(SICK),
        lambda: story.tick().look(SICK),
        lambda: story.keeper_accepts().tick().look(UNKNOWN),
        lambda: story.restarted().tick().look(UNKNOWN),
        lambda: story.look(WELL, for_s=5),
        lambda: story.look(WELL, for_s=12),
    ]
    for index, do in enumerate(steps):
        do()
        if index == kill_at and story.case.phase != ladder.CLEAR:
            story.watchdog_is_killed()
    if kill_at == 4:
        story.look(WELL, for_s=12)

    assert story.case.phase == ladder.CLEAR
    assert story.words()[-2:] == ["cured", "clear"]
    assert story.words().count("restart") <= 2  # the same order again while it was not accepted


@pytest.mark.parametrize(
    "flag",
    [
        {},
        {"worker": "a"},
        {"worker": "a", "flag": "x", "phase": "bogus", "rung": 0, "since_unix_s": 1, "value": 0, "limit": 0,
         "says": "", "incident": None},
        {"worker": "a", "flag": "x", "phase": "raised", "rung": "many", "since_unix_s": 1, "value": 0, "limit": 0,
         "says": "", "incident": None},
    ],
)  # fmt: skip
def test_a_flag_file_that_is_none_is_not_taken_up(flag: dict[str, Any]) -> None:
    assert ladder.from_flag(flag, 0.0) is None


# -- what must never happen ------------------------------------------------------------------------

ACTIONS = st.lists(
    st.sampled_from(["sick", "well", "unknown", "bundle", "accept", "restart", "kill", "held"]),
    max_size=400,
)


def _play(
    actions: list[str], rungs: tuple[str, ...]
) -> tuple[Story, list[tuple[float, str, str, int]]]:
    """Return the story and (second, phase before, word, life) of each effect."""
    story = Story(rungs)
    log = []
    for action in actions:
        before, told = story.case.phase, len(story.told)
        if action in ("sick", "well", "unknown", "held"):
            story.tick(0.5).look({"held": SICK}.get(action, action), allowed=action != "held")
        elif action == "bundle":
            story.bundle_arrives()
        elif action == "accept" and story.case.phase == ladder.REMEDY:
            story.keeper_accepts()
        elif action == "restart":
            story.restarted()
        elif action == "kill" and story.case.phase != ladder.CLEAR:
            story.watchdog_is_killed()
        log += [(at, before, word, story.n) for at, word in story.told[told:]]
    return story, log


@given(ACTIONS, st.sampled_from([(), RUNGS[:1], RUNGS[:2], RUNGS]))
def test_no_remedy_without_evidence_before_it(actions: list[str], rungs: tuple[str, ...]) -> None:
    story, log = _play(actions, rungs)

    evidence = 0
    for _, _, word, _ in log:
        if word == "evidence":
            evidence += 1
        elif word in RUNGS:
            assert evidence
        elif word in ("cured", "came_back", "did_not_help", "gave_up") and word != "gave_up":
            evidence = 0  # each rung takes its own
    assert rungs or not any(word in RUNGS for word in story.words())


@given(ACTIONS)
def test_no_second_remedy_while_the_first_is_being_verified(actions: list[str]) -> None:
    _, log = _play(actions, RUNGS)

    assert not any(before == ladder.VERIFY and word in RUNGS for _, before, word, _ in log)


@given(ACTIONS)
def test_every_transition_is_in_the_table(actions: list[str]) -> None:
    """``step`` looks each one up, so a pair that is missing would raise."""
    story, _ = _play(actions, RUNGS)

    assert story.case.phase in {phase for phase, _ in ladder.NEXT} | set(ladder.NEXT.values())


@given(ACTIONS, st.booleans(), st.booleans())
def test_it_always_ends_in_cleared_or_given_up(
    actions: list[str], heals: bool, obeys: bool
) -> None:
    """From wherever chance has led: a world that stays as it is leads to an end."""
    story, _ = _play(actions, RUNGS)
    for _ in range(2000):
        if story.case.phase in (ladder.CLEAR, ladder.GAVE_UP) and (
            heals or story.case.phase == ladder.GAVE_UP
        ):
            break
        if obeys and story.case.phase == ladder.REMEDY:
            story.tick(0.5).look(SICK).keeper_accepts().restarted()
        story.tick(0.5).look(WELL if heals else SICK)

    assert story.case.phase in (ladder.CLEAR, ladder.GAVE_UP)


@given(ACTIONS)
def test_a_flag_survives_its_file(actions: list[str]) -> None:
    story, _ = _play(actions, RUNGS)
    if story.case.phase == ladder.CLEAR:
        return
    again = ladder.from_flag(story.case.to_flag(), story.now_s)

    assert again is not None
    assert again.to_flag() == story.case.to_flag()


def test_a_suspicion_is_written_up_and_shown_and_nobody_is_shot() -> None:
    """Most of what looks odd is no reason to restart anything, but the evidence is freshest now."""
    story = Story().look(SUSPECT, for_s=0.5).bundle_arrives().tick().look(SUSPECT, for_s=600)

    assert story.words() == ["evidence"]
    assert story.case.phase == ladder.SHOWN
    story.look(WELL, for_s=12)
    assert story.words() == ["evidence", "cured", "clear"]


def test_a_suspicion_that_gets_worse_is_acted_upon_with_the_evidence_there_is() -> None:
    """A frozen worker: stacks after a second, the restart after its timeout, and no time lost in between."""
    story = Story().look(SUSPECT, for_s=0.5).bundle_arrives().tick().look(SUSPECT, for_s=3)
    worse_s = story.now_s
    story.look(SICK).keeper_accepts().tick().look(UNKNOWN).restarted().look(WELL, for_s=12)

    assert story.words() == ["evidence", "restart", "cured", "clear"]
    assert story.told[1] == (worse_s, "restart")


def test_what_is_shown_is_acted_upon_only_where_there_is_a_remedy() -> None:
    story = Story(rungs=(), flag="loop_lag").look(SUSPECT, for_s=1).bundle_arrives()
    story.tick().look(SUSPECT).tick().look(SICK, for_s=60)

    assert story.words() == ["evidence"]
    assert story.case.phase == ladder.SHOWN


def test_a_suspicion_in_another_life_gets_evidence_of_its_own() -> None:
    story = Story().look(SUSPECT, for_s=0.5).bundle_arrives().tick().look(SUSPECT)
    story.restarted().tick().look(SUSPECT, for_s=1)

    assert story.words() == ["evidence", "came_back", "evidence"]


def test_a_suspicion_does_not_hold_up_the_treatment_of_another_flag() -> None:
    story = Story().look(SUSPECT, for_s=0.5).bundle_arrives().tick().look(SUSPECT)
    other = Case("node", "missed_heartbeat", 0.0)
    other.phase = ladder.RAISED

    assert story.case.phase == ladder.SHOWN
    assert ladder.may_act(other, [story.case, other])


def test_a_watchdog_killed_while_something_is_shown_goes_on_showing_it() -> None:
    story = Story().look(SUSPECT, for_s=0.5).bundle_arrives().tick().look(SUSPECT)
    story.watchdog_is_killed().tick().look(SUSPECT, for_s=5)

    assert story.words() == ["evidence"]
    assert story.look(SICK).words() == ["evidence", "restart"]


def test_who_takes_over_closes_the_incident_that_nobody_can_judge_any_more() -> None:
    """A suspicion was written up, and a person restarted the worker: "open" for ever would be a lie."""
    story = Story().look(SUSPECT, 1.0)
    story.bundle_arrives().look(SUSPECT, 1.0)
    assert story.case.phase == ladder.SHOWN
    effects = ladder.release(story.case, story.now_s)
    assert [type(effect) for effect in effects] == [Verdict, ClearFlag]
    assert isinstance(effects[0], Verdict)
    assert effects[0].verdict == ladder.CLOSED


def test_what_was_judged_is_not_closed_again() -> None:
    story = Story().look(SICK, 1.0).bundle_arrives()
    story.look(SICK, 0.5)
    story.case.judged = True
    assert [type(effect) for effect in ladder.release(story.case, story.now_s)] == [ClearFlag]


def test_evidence_that_was_taken_too_late_is_judged_when_the_symptom_is_back() -> None:
    story = Story().look(SICK, 0.5).bundle_arrives()
    story.look(WELL, 0.5)
    assert story.case.phase == ladder.RAISED
    first = story.case.key
    story.look(SICK, 0.5)
    assert story.case.key != first
    assert "came_back" in [what for _, what in story.told]
