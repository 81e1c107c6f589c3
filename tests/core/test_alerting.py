"""When a person hears of trouble, on a simulated clock."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.core import alerting
from holdfast.core.alerting import (
    ACK,
    BAD,
    DOUBTFUL,
    HOPELESS,
    MENDING,
    SNOOZE,
    Desk,
    Settings,
    Sign,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

START_UNIX_S = 1_700_000_000.0


class Watch:
    """A person at the end of the wire, and a node whose signs a test sets."""

    def __init__(self, **measures: Any) -> None:
        self.settings = Settings(**measures)
        self.desk = Desk()
        self.now_s = 1000.0
        self.told: list[tuple[float, str, str, str]] = []
        self.notices: list[alerting.Notice] = []

    def see(self, *signs: Sign, for_s: float = 0.0, every_s: float = 0.25) -> Watch:
        """Look at the same signs again and again."""
        until_s = self.now_s + for_s
        while True:
            unix_s = START_UNIX_S + self.now_s
            self.note(alerting.step(self.desk, signs, self.settings, self.now_s, unix_s))
            if self.now_s >= until_s:
                return self
            self.now_s += every_s

    def note(self, notices: Iterable[alerting.Notice]) -> None:
        for notice in notices:
            cause = notice.alert.cause if notice.alert is not None else ""
            self.told.append((self.now_s - 1000.0, notice.change, cause, notice.severity))
            self.notices.append(notice)

    def order(self, cause: str, event: str, for_s: float = 0.0) -> Watch:
        alert = alerting.find(self.desk, cause)
        assert alert is not None
        unix_s = START_UNIX_S + self.now_s
        self.note(alerting.order(self.desk, alert, event, unix_s, unix_s + for_s))
        return self

    def killed(self) -> Watch:
        """The process dies and another one takes up what was written down."""
        self.desk = alerting.restore(json.loads(json.dumps(self.desk.to_json())), self.now_s)
        return self

    @property
    def changes(self) -> list[tuple[str, str]]:
        return [(change, cause) for _, change, cause, _ in self.told]


def sick(worker: str, state: str = BAD, kind: str = "death", incident: str = "") -> Sign:
    return Sign(worker, kind, state, f"{kind} of {worker}", incident)


def test_a_restart_that_helped_wakes_nobody_and_stands_in_the_digest() -> None:
    """Holdfast is there so that people can sleep; in the morning they read what it did."""
    watch = Watch(digest_s=3600.0)

    watch.see(sick("web", incident="i-1"), for_s=1).see(sick("web", MENDING), for_s=10).see(for_s=20)  # fmt: skip
    assert watch.told == []
    watch.see(for_s=3600, every_s=5)

    assert watch.changes == [("digest", "")]
    (entry,) = watch.notices[0].entries
    assert (entry["cause"], entry["helped"], entry["incidents"]) == ("web", True, ["i-1"])


def test_what_lasts_is_told_once_and_its_end_once() -> None:
    watch = Watch().see(sick("web"), for_s=60).see(for_s=60)

    assert watch.told == [(3.0, "firing", "web", "error"), (70.0, "resolved", "web", "error")]


def test_what_is_hopeless_is_told_at_once() -> None:
    """The worker is down for good: no remedy is left to wait for."""
    assert Watch().see(sick("web", HOPELESS)).told == [(0.0, "firing", "web", "critical")]


def test_a_restart_that_did_not_help_is_told_at_the_second_death() -> None:
    """It came back within the time in which the cure was being verified: that is no cure."""
    watch = Watch().see(sick("web"), for_s=1).see(sick("web", MENDING), for_s=5)

    watch.see(sick("web"))

    assert watch.changes == [("firing", "web")]


def test_a_suspicion_has_to_last() -> None:
    watch = Watch(digest_s=1e6)
    watch.see(sick("web", DOUBTFUL, "loop_lag"), for_s=20).see(for_s=20)
    assert watch.told == []

    watch.see(sick("web", DOUBTFUL, "loop_lag"), for_s=60)

    assert [(change, severity) for _, change, _, severity in watch.told] == [("firing", "warning")]


def test_flapping_is_told_although_it_never_lasts() -> None:
    """Two seconds sick, two seconds well, for ever: each time too short for an alert."""
    watch = Watch()
    for _ in range(20):
        watch.see(sick("web", kind="failed_probe"), for_s=1.5).see(for_s=1.5)

    assert watch.changes == [("firing", "web")]


def test_a_remedy_that_helps_again_and_again_is_told_too() -> None:
    """Killed every five minutes and well in between: nobody should learn of that from a digest."""
    watch = Watch(digest_s=1e6)
    for _ in range(6):
        watch.see(sick("web"), for_s=1).see(sick("web", MENDING), for_s=10).see(
            for_s=289, every_s=1
        )

    assert watch.changes == [("firing", "web"), ("resolved", "web")]
    assert watch.told[0][3] == "warning"


def test_one_cause_with_thirty_consequences_is_one_alert() -> None:
    """The database dies; thirty workers that need it follow, and thirty pages would hide the one that matters."""
    names = [f"w{n}" for n in range(30)]
    watch = Watch(needs={name: ["cache" if n % 2 else "db"] for n, name in enumerate(names)} | {"cache": ["db"]})  # fmt: skip
    watch.see(sick("w3"), for_s=1)  # a consequence may be seen first
    everyone = [sick("db"), sick("cache"), *map(sick, names)]

    watch.see(*everyone, for_s=120)
    assert watch.changes == [("firing", "db")]
    watch.see(for_s=120)

    assert watch.changes == [("firing", "db"), ("resolved", "db")]
    assert len(watch.notices[0].also) == 31


def test_a_consequence_that_outlives_its_cause_is_told() -> None:
    """Otherwise a worker that never came back would be excused for ever."""
    watch = Watch(needs={"web": ["db"]}).see(sick("db"), sick("web"), for_s=10)

    watch.see(sick("web"), for_s=30)

    assert watch.changes == [("firing", "db"), ("resolved", "db"), ("firing", "web")]


def test_a_suspicion_about_what_it_needs_excuses_nobody() -> None:
    """The database logs a lot; that is not why web is down."""
    watch = Watch(needs={"web": ["db"]})

    watch.see(sick("db", DOUBTFUL, "log_storm"), sick("web"), for_s=5)

    assert watch.changes == [("firing", "web")]


def test_parts_and_processes_of_a_worker_are_one_cause() -> None:
    watch = Watch().see(sick("web+board"), sick("web"), sick("web.2"), for_s=30)

    assert watch.changes == [("firing", "web")]


def test_a_machine_out_of_memory_is_the_cause_and_its_eater_the_cause_of_that() -> None:
    """Every worker that the kernel shoots then is a consequence; the one that leaked is who to talk about."""
    pressure = sick("@node", BAD, "memory_pressure")
    plain = Watch().see(pressure, for_s=1).see(pressure, *map(sick, "abcdef"), for_s=30)
    leak = sick("crawler", BAD, "memory_leak")

    traced = Watch().see(leak, for_s=1).see(leak, pressure, for_s=1).see(leak, pressure, sick("web"), for_s=30)  # fmt: skip

    assert plain.changes == [("firing", "@node/memory_pressure")]
    assert traced.changes == [("firing", "crawler")]


def test_a_disk_that_fills_and_then_is_full_is_one_cause() -> None:
    """Whoever was woken for the first knows of the second; it is only worse now, and who dies of it follows from it."""
    filling = sick("@node", DOUBTFUL, "disk_filling")
    full = sick("@node", HOPELESS, "disk_low")
    watch = Watch().see(filling, for_s=31).see(filling, full, for_s=1)
    watch.see(filling, full, sick("web"), for_s=20).see(for_s=11)

    assert watch.changes == [("firing", "@node/disk"), ("worse", "@node/disk"), ("resolved", "@node/disk")]  # fmt: skip


def test_circles_of_blame_end() -> None:
    """A needs what runs on the machine that it starves itself: found by hand, would loop for ever."""
    watch = Watch(needs={"eater": ["x"]})
    eater, pressure = sick("eater", BAD, "memory_leak"), sick("@node", BAD, "memory_pressure")

    watch.see(eater, for_s=0.25).see(eater, pressure, for_s=0.25)
    watch.see(eater, pressure, sick("x"), for_s=30)

    assert [change for change, _ in watch.changes] == ["firing"]


def test_many_at_once_without_a_known_reason_become_one_after_three() -> None:
    """Something outside of the node broke all of them; nobody reads the thirtieth page."""
    watch = Watch()

    watch.see(*(sick(f"w{n}") for n in range(30)), for_s=60).see(for_s=60)

    fired = [cause for change, cause in watch.changes if change == "firing"]
    assert fired == ["w0", "w1", "w2", alerting.STORM]
    assert watch.notices[3].alert is not None
    assert len(watch.notices[3].alert.members) == 27
    assert sorted(cause for change, cause in watch.changes if change == "resolved") == sorted(fired)


def test_acknowledged_it_is_quiet_until_it_is_worse() -> None:
    watch = Watch().see(sick("web"), for_s=5).order("web", ACK)
    watch.see(sick("web"), for_s=3600, every_s=5)
    assert watch.changes == [("firing", "web"), ("acknowledged", "web")]

    watch.see(sick("web", HOPELESS))

    assert watch.told[-1][1:] == ("worse", "web", "critical")


def test_snoozed_it_comes_back_if_it_is_still_there() -> None:
    watch = Watch().see(sick("web"), for_s=5).order("web", SNOOZE, for_s=600.0)

    watch.see(sick("web"), for_s=590, every_s=5)
    assert watch.changes == [("firing", "web"), ("snoozed", "web")]
    watch.see(sick("web"), for_s=20)

    assert watch.changes[-1] == ("still", "web")


def test_snoozed_and_well_again_ends_without_waking() -> None:
    watch = (
        Watch()
        .see(sick("web"), for_s=5)
        .order("web", SNOOZE, for_s=600.0)
        .see(for_s=700, every_s=5)
    )

    assert watch.changes == [("firing", "web"), ("snoozed", "web"), ("resolved", "web")]


def test_a_second_order_of_the_same_kind_is_told_to_nobody() -> None:
    watch = Watch().see(sick("web"), for_s=5).order("web", ACK).order("web", ACK)

    assert watch.changes == [("firing", "web"), ("acknowledged", "web")]


def test_times_of_another_boot_do_not_hold_an_alert_back() -> None:
    """Monotonic clocks begin anew: an alert of before the reboot must not look as if it began in the future."""
    watch = Watch().see(sick("web"), for_s=1)
    watch.now_s = 5.0

    watch.killed().see(sick("web"), for_s=4)

    assert watch.changes == [("firing", "web")]


# -- whatever happens ------------------------------------------------------------------------------

NEEDS = {"b": ["a"], "c": ["b"], "d": ["c", "a"]}
_SIGNS = st.lists(
    st.builds(
        Sign,
        st.sampled_from(["a", "b", "c", "d", "e", "e+x", "e.2", "@node"]),
        st.sampled_from(["death", "memory_leak", "memory_pressure", "disk_low", "slow"]),
        st.sampled_from([DOUBTFUL, MENDING, BAD, HOPELESS]),
        st.just("says"),
    ),
    max_size=6,
)
_STEPS = st.lists(
    st.tuples(_SIGNS, st.sampled_from([0.0, 0.25, 1.0, 3.0, 12.0, 40.0, 4000.0]), st.sampled_from(["", ACK, SNOOZE])),
    max_size=15,
)  # fmt: skip


def _lived(steps: Any, *, is_killed: bool = False) -> Watch:
    watch = Watch(needs=NEEDS, digest_s=600.0)
    for signs, pause_s, event in steps:
        watch.see(*signs)
        told = [alert for alert in watch.desk.alerts.values() if alert.state != alerting.PENDING]
        if event and told:
            watch.order(told[0].cause, event, for_s=30.0)
        if is_killed:
            watch.killed()
        watch.now_s += pause_s
    return watch


@settings(max_examples=25)
@given(_STEPS)
def test_every_alert_is_told_in_order_and_nothing_after_its_end(steps: Any) -> None:
    """No resolved without a firing, no second firing, no word after the end, and no message id twice."""
    told: dict[str, list[str]] = {}
    ids = []
    for notice in _lived(steps).notices:
        ids.append(notice.id)
        if notice.alert is not None:
            told.setdefault(notice.alert.id, []).append(notice.change)

    assert len(ids) == len(set(ids))
    assert all("." not in one for one in ids)  # the Standard Webhooks specification forbids it
    for changes in told.values():
        assert changes[0] == "firing"
        assert changes.count("firing") == 1
        assert "resolved" not in changes[:-1]


@settings(max_examples=25)
@given(_STEPS)
def test_killed_after_every_step_it_tells_exactly_the_same(steps: Any) -> None:
    """The memory is complete: nothing that matters is only in the process."""
    assert _lived(steps, is_killed=True).told == _lived(steps).told


@settings(max_examples=25)
@given(_STEPS)
def test_the_same_look_again_changes_nothing(steps: Any) -> None:
    watch = _lived(steps)
    signs = [sick("a"), sick("e", HOPELESS)]
    watch.see(*signs)
    told = list(watch.told)
    # An alert of many takes in how its members are with the next look; nobody is told of it.
    watch.see(*signs)
    before = json.dumps(watch.desk.to_json())

    watch.see(*signs)

    assert watch.told == told
    assert json.dumps(watch.desk.to_json()) == before


@settings(max_examples=25)
@given(_STEPS, _SIGNS)
def test_what_stays_bad_is_told_by_somebody(steps: Any, signs: Any) -> None:
    """However an alert is grouped, blamed or gathered: a worker that stays down is never kept from people."""
    watch = _lived(steps)

    watch.see(*signs, for_s=15, every_s=1)

    told = {alert.cause: alert for alert in watch.desk.alerts.values() if alert.state != alerting.PENDING}  # fmt: skip
    for sign in signs:
        if sign.state in (BAD, HOPELESS):
            alert = watch.desk.alerts[alerting.cause_of(sign)]
            is_covered = alert.cause in told or alert.blamed in told
            # Or what it follows from is being mended at this moment.
            root = watch.desk.alerts.get(alert.blamed)
            is_mending = root is not None and any(one["state"] == MENDING for one in root.signs)
            is_going = root is not None and root.calm_since_s is not None
            assert is_covered or is_mending or is_going


@settings(max_examples=25)
@given(_STEPS)
def test_when_all_is_well_nothing_is_left(steps: Any) -> None:
    """Else a phantom would wake people for ever."""
    watch = _lived(steps)

    watch.see(for_s=30, every_s=1)

    assert watch.desk.alerts == {}
