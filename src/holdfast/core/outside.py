"""When does somebody outside believe that a thing is down, and when is it looked at again?

One failure is a suspicion: it is looked at again soon. So many failures among the last few looks mean "down", and only so many good looks
in a row mean "up" again, so that one lost packet wakes nobody and one lucky answer ends no alert.

What hangs is not waited for: while a look has no answer the next one begins, so that a thing that answers nothing is down almost as soon as
one that refuses. The longest time from a fault to the belief is therefore a sum of what was configured: :func:`longest_s`.

Pure: monotonic seconds and chance come in. Left out: looking (:mod:`holdfast.cli.probes`), telling people (:mod:`holdfast.core.alerting`).
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

# -- states ----------------------------------------------------------------------------------------
UNKNOWN, UP, DOUBT, DOWN = "unknown", "up", "doubt", "down"
STATES = (UNKNOWN, UP, DOUBT, DOWN)

# -- what a look was -------------------------------------------------------------------------------
GOOD = "good"  # it answered as it should, but not often enough to believe it
CLEAN = "clean"  # so many good looks in a row that it is believed
BAD = "bad"  # it did not, once or twice
WORST = "worst"  # so many times among the last looks that it is believed

#: The whole life of a belief. A pair that is missing here cannot happen.
NEXT = {
    (UNKNOWN, GOOD): UP,
    (UNKNOWN, CLEAN): UP,
    (UNKNOWN, BAD): DOUBT,
    (UNKNOWN, WORST): DOWN,
    (UP, GOOD): UP,
    (UP, CLEAN): UP,
    (UP, BAD): DOUBT,
    (UP, WORST): DOWN,
    (DOUBT, GOOD): DOUBT,
    (DOUBT, CLEAN): UP,
    (DOUBT, BAD): DOUBT,
    (DOUBT, WORST): DOWN,
    (DOWN, GOOD): DOWN,
    (DOWN, CLEAN): UP,
    (DOWN, BAD): DOWN,
    (DOWN, WORST): DOWN,
}
#: A pause is shorter by up to this share than what was asked for, so that many probes do not march in step, and never longer.
_JITTER = 0.2
#: A look that takes this much longer than the last good one is suspected to hang.
_SLOWER = 2.0


class Rule:
    """From when on it is believed."""

    __slots__ = ("fails", "good", "of")

    def __init__(self, fails: int = 3, of: int = 3, good: int = 2) -> None:
        self.fails = fails  #: so many failures
        self.of = of  #: among so many looks: it is down
        self.good = good  #: so many good looks in a row: it is up


class Belief:
    """What is believed of one thing."""

    __slots__ = (
        "bad_s",
        "failing_since_s",
        "looked_s",
        "looks",
        "row",
        "since_s",
        "since_unix_s",
        "state",
    )

    def __init__(self) -> None:
        self.state = UNKNOWN
        self.since_unix_s = 0.0
        self.since_s = 0.0
        self.looked_s = 0.0  #: when the last look began,
        self.bad_s = 0.0  #: the last one that failed,
        self.failing_since_s = 0.0  #: and the first one that failed since it was up
        self.looks: list[bool] = []  #: the last ones
        self.row = 0  #: good ones in a row, as far as they count

    def to_json(self) -> "dict[str, Any]":
        """Return it as JSON has it: the same as long as all is well, so that nobody has to write it down again and again."""
        return {name: getattr(self, name) for name in self.__slots__ if name != "looked_s"}


def restore(value: "Mapping[str, Any]", now_s: float) -> Belief:
    """Take up what somebody else believed; monotonic times of another boot become now.

    Raises:
        ValueError: It is no belief.
        KeyError: A part of it is missing.
    """
    belief = Belief()
    if value["state"] not in STATES:
        says = f"{value['state']!r} is no state"
        raise ValueError(says)
    belief.state = value["state"]
    belief.since_unix_s = float(value["since_unix_s"])
    belief.looks = [bool(look) for look in value["looks"]]
    belief.row = int(value["row"])
    for name in ("since_s", "bad_s", "failing_since_s"):
        setattr(belief, name, min(float(value[name]), now_s))
    return belief


def note(belief: Belief, rule: Rule, is_good: bool, began_s: float, now_s: float, now_unix_s: float) -> bool:  # fmt: skip
    """Take note of a look that began at ``began_s``; return whether another thing is believed now."""
    # Looks overlap, so a later one may be done earlier.
    belief.looked_s = max(belief.looked_s, began_s)
    if not is_good:
        belief.bad_s = max(belief.bad_s, began_s)
        if belief.state in (UNKNOWN, UP):
            belief.failing_since_s = began_s
    belief.looks = [*belief.looks, is_good][-max(rule.of, 1) :]
    belief.row = min(belief.row + 1, rule.good) if is_good else 0
    if is_good:
        event = CLEAN if belief.row >= rule.good else GOOD
    else:
        event = WORST if belief.looks.count(False) >= rule.fails else BAD
    before = belief.state
    belief.state = NEXT[before, event]
    if belief.state == before:
        return False
    belief.since_s, belief.since_unix_s = now_s, now_unix_s
    if before == DOWN:
        belief.looks.clear()  # the next failure is the first one again
    return True


def is_riddle(child: Belief, cause: Belief, wait_s: float, now_s: float) -> bool:
    """Whether it is still open if a thing that fails follows from another one.

    The consequence is often seen before the cause is believed, and is up again a moment after it: whoever told people at once would tell
    them twice of one outage.

    Args:
        child: What fails.
        cause: What it depends on.
        wait_s: So long it takes to believe that the cause is down; longer nobody waits.
        now_s: Monotonic seconds.
    """
    if cause.state == UP and child.bad_s < cause.since_s:
        return True  # it has not been looked at since the cause is well again
    if now_s - child.failing_since_s >= wait_s:
        return False
    return cause.state in (UNKNOWN, DOUBT) or cause.looked_s < child.failing_since_s


def first_s(now_s: float, every_s: float, chance: float) -> float:
    """Return when a thing is looked at for the first time: soon, but not all of them at once."""
    return now_s + min(every_s, 5.0) * chance


def next_s(planned_s: float, now_s: float, every_s: float, again_s: float, state: str, chance: float) -> float:  # fmt: skip
    """Return when a thing is looked at next.

    Args:
        planned_s: When it was due this time: pauses are counted from there, or each look would push all later ones.
        now_s: Now, after the look.
        every_s: How often.
        again_s: How soon in doubt.
        state: What is believed now.
        chance: From 0 to 1.
    """
    pause_s = min(again_s, every_s) if state == DOUBT else every_s
    # In doubt nobody marches in step, and each part of it would be added to the longest time.
    due_s = planned_s + (pause_s if state == DOUBT else pause_s * (1 - _JITTER * chance))
    if due_s > now_s:
        return due_s
    # Late by more than a pause (the machine slept, or there were too many): what was missed is not made up for.
    return now_s + pause_s * _JITTER * chance


def beside_s(began_s: float, again_s: float, usual_s: float, state: str) -> float:
    """Return when a look begins beside one that has no answer yet; what is known to be down is not asked any faster.

    Args:
        began_s: When the last look began.
        again_s: How soon in doubt.
        usual_s: How long the last good look took; a page that is slow every day is not asked twice for it.
        state: What is believed.
    """
    if state == DOWN:
        return float("inf")
    return began_s + max(again_s, usual_s * _SLOWER)


def longest_s(rule: Rule, every_s: float, again_s: float, timeout_s: float, *, hangs: bool) -> float:  # fmt: skip
    """Return the longest time from a fault to the belief that the thing is down, if each look from then on fails.

    The fault comes just after the answer of a look: a whole ``every`` passes, then so many looks begin ``again`` apart, and the last one takes its time.
    """
    return every_s + (rule.fails - 1) * min(again_s, every_s) + (timeout_s if hangs else 0.0)
