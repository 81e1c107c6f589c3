"""Rates of the bus are the differences of two looks, and nothing is guessed."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("starlette", reason="needs holdfast[dashboard]")

from holdfast.dashboard.flows import Flow, Flows, calls, named, summed


def realm(**changes: Any) -> dict[str, Any]:
    told = {
        "is_whole": True, "sessions": 3, "calls": 0, "calls_failed": 0, "published": 0, "events": 0, "other_calls": 0,
        "registrations": [], "subscriptions": [], "by_session": [], "pairs": [], "who": {},
    }  # fmt: skip
    return {**told, **changes}


def look(at_s: float, began_s: float = 1.0, **changes: Any) -> dict[str, Any]:
    return {"at_s": at_s, "began_s": began_s, "realms": {"realm1": realm(**changes)}}


def flow_of(*looks: dict[str, Any]) -> Flow:
    flows = Flows()
    return [flows.look("router", one)["realm1"] for one in looks][-1]


def test_two_looks_make_rates() -> None:
    """The reason for the page: what is busy now, not since the router began."""
    flow = flow_of(
        look(10.0, calls=100, published=5, events=50, registrations=[["com.list", "exact", 100]]),
        look(12.0, calls=110, published=6, events=60, registrations=[["com.list", "exact", 108], ["com.new", "exact", 2]],
             subscriptions=[["com.on", "prefix", 4]], by_session=[[7, 10, 0, 1]]),
    )  # fmt: skip

    assert flow.rates == {"sessions": 3, "calls_per_s": 5.0, "publications_per_s": 0.5, "events_per_s": 5.0}  # fmt: skip
    assert flow.registration("com.list", "exact") == 4.0
    assert flow.registration("com.new", "exact") == 1.0
    assert flow.registration("com.never_called", "exact") == 0.0
    assert flow.subscription("com.on", "prefix") == 2.0
    assert flow.session(7) == {"calls_per_s": 5.0, "publications_per_s": 0.5}
    assert flow.session(8) == {"calls_per_s": 0.0, "publications_per_s": 0.0}


def test_one_look_makes_no_rate() -> None:
    """Whoever opens the page sees a dash for two seconds, not a figure of the last week."""
    flow = flow_of(look(10.0, calls=100, registrations=[["com.list", "exact", 100]]))

    assert flow.rates["calls_per_s"] is None
    assert (flow.registration("com.list", "exact"), flow.registration("com.x", "exact")) == (None, None)  # fmt: skip
    assert summed([flow]) == {"sessions": 3}


def test_a_router_that_began_anew_is_not_compared_with_the_one_before() -> None:
    """After a SIGKILL the counters begin at nothing; the difference would be nonsense."""
    anew = flow_of(look(10.0, calls=50), look(12.0, began_s=11.0, calls=60))
    long_ago = flow_of(look(10.0, calls=50), look(1000.0, calls=60))

    assert (anew.rates["calls_per_s"], long_ago.rates["calls_per_s"]) == (None, None)


def test_a_topic_that_went_and_came_counts_from_nothing() -> None:
    """The counter is smaller than it was, and no rate is negative."""
    flow = flow_of(
        look(10.0, subscriptions=[["com.on", "exact", 500]]),
        look(12.0, subscriptions=[["com.on", "exact", 6]]),
    )

    assert flow.subscription("com.on", "exact") == 3.0


def test_pages_that_look_at_the_same_time_do_not_spoil_each_others_rates() -> None:
    """Two people at 3 am: the second one's look comes milliseconds after the first one's."""
    flow = flow_of(look(10.0, calls=0), look(12.0, calls=20), look(12.001, calls=21))

    assert flow.rates["calls_per_s"] == pytest.approx(10.49, abs=0.01)


def test_a_rate_is_over_some_seconds_and_does_not_jump_with_each_event() -> None:
    """One event every three seconds, looked at every two: over one look each it would be 0, 0.5, 0.5, 0, 0.5 …"""
    flows = Flows()
    rates = []
    for at in range(0, 40, 2):
        told = look(10.0 + at, events=at // 3)
        rates.append(flows.look("router", told)["realm1"].rates["events_per_s"])

    settled = [rate for rate in rates[6:] if rate is not None]
    assert len(settled) == len(rates) - 6
    assert round(max(settled) - min(settled), 2) <= 0.1


def test_after_a_pause_the_rate_is_of_now_again() -> None:
    """A page that nobody saw for half a minute asks again: what went on before is out of the window with the second look."""
    flow = flow_of(look(10.0, calls=0), look(40.0, calls=300), look(42.0, calls=300))

    assert flow.rates["calls_per_s"] == 0.0


def test_what_was_not_told_whole_has_no_rate_rather_than_none() -> None:
    """A realm of 100,000 topics tells the busiest."""
    flow = flow_of(look(10.0, is_whole=False), look(12.0, is_whole=False))

    assert flow.subscription("com.quiet", "exact") is None


def test_a_router_that_does_not_answer_has_no_rates() -> None:
    flows = Flows()
    flows.look("router", look(10.0))

    assert flows.look("router", None) == {}
    assert flows.look("router", look(12.0))["realm1"].rates["calls_per_s"] is None


def test_who_calls_whom_is_told_by_name_the_busiest_first() -> None:
    """Components by their names, people by theirs and the number of their session."""
    who = {
        "0": {"authid": "router", "peer": None},
        "1": {"authid": "board", "peer": "unix:pid=4711,uid=0"},
        "2": {"authid": "board", "peer": "unix:pid=4711,uid=0"},
        "3": {"authid": "ann", "peer": "tcp4:10.0.0.1:5000"},
    }
    before = [[1, 1, "com.b", "exact", 0], [3, 1, "com.b", "exact", 0]]
    now = [[1, 1, "com.b", "exact", 2], [2, 1, "com.b", "exact", 4], [3, 1, "com.b", "exact", 20], [0, 1, "com.auth", "exact", 2]]  # fmt: skip
    flow = flow_of(
        look(10.0, pairs=before, who=who), look(12.0, calls=40, pairs=now, who=who, other_calls=900)
    )

    assert calls(flow, {4711: "board-worker"}) == [
        {"caller": "ann (3)", "callee": "board", "uri": "com.b", "rate": 10.0, "count": 20},
        {"caller": "others", "callee": None, "uri": None, "rate": 6.0, "count": 900},
        {"caller": "board", "callee": "board", "uri": "com.b", "rate": 3.0, "count": 6},
        {"caller": "router", "callee": "board", "uri": "com.auth", "rate": 1.0, "count": 2},
    ]


def test_a_session_that_lies_about_where_it_is_does_not_get_a_components_name() -> None:
    """Names come from whoever signs in; only the router's word for a process of this node makes one a component."""
    who = {"5": {"authid": "board", "peer": "unix:pid=1,uid=0"}, "6": {"authid": "", "peer": None}}

    assert named(5, who, {4711: "board"}) == "board (5)"
    assert named(6, who, {}) == "6"
