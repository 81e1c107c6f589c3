"""One look at the node as one dict, the first screen's sentence, and what is different from the look before."""

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("starlette", reason="needs holdfast[dashboard]")

from cli.fake_node import FakeNode, planned
from dashboard.seen import break_something, place
from holdfast.dashboard import figures, now, state
from holdfast.dashboard.state import View, compact, delta
from holdfast.wire import beats, layout, sample


@pytest.fixture
def node() -> Iterator[FakeNode]:
    with FakeNode(
        planned("web"),
        planned("mail", kind="container", components=[{"name": "post", "use": "a:b"}]),
    ) as made:
        yield made.up()


def row(**more: Any) -> dict[str, Any]:
    """A worker as a look finds it."""
    return {"state": "running", "up": True, "why": "", "flags": [], "restarts": 0, "n": 1} | more


def seen(workers: "dict[str, dict[str, Any]]", **more: Any) -> dict[str, Any]:
    node = {"name": "box", "is_up": True, "trouble": ""} | more.pop("node", {})
    return {"node": node, "workers": workers, "flags": [], "incidents": []} | more


def flag(worker: str, name: str, phase: str, **more: Any) -> dict[str, Any]:
    return {
        "worker": worker,
        "flag": name,
        "phase": phase,
        "says": f"{name} it is",
        "since_unix_s": 5.0,
        "incident": None,
    } | more


# -- a look ----------------------------------------------------------------------------------------


def test_a_look_has_what_status_says_and_what_the_samples_know(node: FakeNode) -> None:
    node.write_samples("web", 5, 0.25)
    node.raise_flag("mail", "slow", phase="shown")

    found = View(place(node)).look()

    assert found["node"]["name"] == "fake"
    assert found["node"]["keeper_answers"]
    assert list(found["workers"]) == ["web", "mail"]
    assert found["workers"]["web"]["pid"] == os.getpid()
    assert found["workers"]["web"]["cpu_share"] == 0.25
    assert found["workers"]["web"]["cpu_line"][-1] == 0.25
    assert found["workers"]["mail"]["components"] == [{"name": "post", "state": None}]
    assert [one["flag"] for one in found["workers"]["mail"]["flags"]] == ["slow"]
    assert {one["name"] for one in found["house"]} == {"anchor", "keeper", "watchdog", "logger"}
    assert found["machine"]["memory"]["total_bytes"] > 0


def test_nothing_of_the_environment_is_in_the_state(node: FakeNode) -> None:
    """The plan holds the environment of every worker, and passwords stand in it."""
    node.plan["env"] = {"DATABASE_PASSWORD": "topsecret"}
    node.plan["workers"][0]["env"] = {"API_KEY": "topsecret"}
    node.write_plan()

    assert "topsecret" not in repr(View(place(node)).look())


def test_a_worker_that_is_as_it_was_keeps_its_object(node: FakeNode) -> None:
    """A thousand quiet workers have to cost a thousand comparisons of objects, not of their keys."""
    view = View(place(node))
    view.look()
    before = view.look()
    after = view.look()

    assert after["workers"]["mail"] is before["workers"]["mail"]


def test_a_keeper_that_does_not_answer_is_said_and_the_workers_stay(node: FakeNode) -> None:
    view = View(place(node))
    view.look()
    node.on["status"] = lambda _: {"ok": False, "workers": []}
    view.node.silent_since_s = time.monotonic() - 60.0

    found = view.look(is_urgent=True)

    assert not found["node"]["keeper_answers"]
    assert list(found["workers"]) == ["web", "mail"]
    assert (found["now"]["level"], "keeper" in found["now"]["says"]) == ("care", True)


def test_a_keeper_that_beats_no_more_is_asked_although_nothing_happens(node: FakeNode) -> None:
    """Where no worker dies nobody needs a keeper, until one does: then it is too late to hear of it."""
    asked: list[Any] = []
    slots = bytearray(beats.SIZE)
    view = View(place(node))
    view.look()

    def status(request: dict[str, Any]) -> dict[str, Any]:
        asked.append(request)
        return {"workers": []}

    node.on["status"] = status

    for age_s in (0.5, 60.0):
        beats.write(memoryview(slots), "keeper", int((time.monotonic() - age_s) * 1e9), 1)
        Path(node.run_dir, layout.BEATS).write_bytes(slots)
        view.look()
        assert bool(asked) == (age_s > 1.0)


def test_a_node_that_is_down_is_lost_and_its_last_plan_is_shown(node: FakeNode) -> None:
    """After the machine died somebody reads what it left."""
    node.release()

    found = View(place(node)).look()

    assert found["now"]["level"] == "lost"
    assert found["now"]["broken"] == []


def test_incidents_come_with_their_last_verdict_newest_first(node: FakeNode) -> None:
    old = break_something(node, "2026-11-01", verdict="cured", at_s=time.time() - 500)
    new = break_something(node, "2026-11-02", component="post", at_s=time.time() - 50)

    rows = View(place(node)).look()["incidents"]

    assert [(one["id"], one["status"]) for one in rows] == [(new, "open"), (old, "over")]
    assert (rows[0]["component"], rows[1]["says"]) == ("post", now.VERDICTS["cured"])


# -- the first screen ------------------------------------------------------------------------------


def test_all_well_is_one_sentence_and_nothing_else() -> None:
    found = now.now(seen({"web": row(), "once": row(state="done")}), 100.0)

    assert (found["level"], found["says"]) == ("well", "All is well: 2 workers serve.")
    assert (found["broken"], found["doubtful"], found["done"]) == ([], [], [])


def test_a_worker_that_somebody_stopped_is_not_broken() -> None:
    found = now.now(seen({"web": row(), "old": row(state="down", up=False)}), 100.0)

    assert (found["level"], found["says"]) == (
        "well",
        "All is well: 1 worker serves, 1 is not wanted up.",
    )


def test_the_first_start_of_all_is_no_outage() -> None:
    assert now.now(seen({"web": row(state="starting")}), 100.0)["level"] == "well"


@pytest.mark.parametrize("worker", [row(state="failed"), row(state="backoff"), row(state="starting", n=3), row(state="waiting", restarts=1)])  # fmt: skip
def test_a_wanted_worker_that_does_not_serve_is_trouble(worker: dict[str, Any]) -> None:
    found = now.now(seen({"web": worker, "mail": row()}), 100.0)

    assert found["level"] == "trouble"
    assert [one["worker"] for one in found["broken"]] == ["web"]
    assert found["says"].startswith("web ")


def test_a_suspicion_is_care_and_a_symptom_is_trouble() -> None:
    """Somebody who looks has to see what somebody who is woken was told: a suspicion wakes nobody."""
    doubt = now.now(seen({"web": row(flags=[flag("web", "slow", "shown")])}), 100.0)
    sick = now.now(seen({"web": row(flags=[flag("web", "missed_heartbeat", "raised")])}), 100.0)

    assert (doubt["level"], [one["worker"] for one in doubt["doubtful"]]) == ("care", ["web"])
    assert (sick["level"], [one["since_unix_s"] for one in sick["broken"]]) == ("trouble", [5.0])


def test_while_an_alert_is_open_not_all_is_well() -> None:
    """Somebody who was woken opens the page: it must not say that there was nothing."""
    alert = {"state": "firing", "cause": "web", "signs": [{"says": "it does not beat"}]}

    open_one = now.now(seen({"web": row()}, alerts=[alert]), 100.0)
    ending = now.now(seen({"web": row()}, alerts=[{**alert, "signs": []}, alert]), 100.0)
    seen_to = now.now(seen({"web": row()}, alerts=[{**alert, "state": "acknowledged"}]), 100.0)

    assert (open_one["level"], "it does not beat" in open_one["says"]) == ("care", True)
    assert ending["says"].endswith("its signs are away for now. And 1 more alert.")
    assert seen_to["level"] == "well"


def test_a_worker_that_died_for_a_reason_is_told_once_with_the_moment_it_began() -> None:
    worker = row(state="backoff", flags=[flag("web", "crash_loop", "gave_up")])

    (one,) = now.now(seen({"web": worker}), 100.0)["broken"]

    assert (one["since_unix_s"], "a person is needed" in one["says"]) == (5.0, True)


def test_a_flag_of_the_machine_counts_as_well() -> None:
    found = now.now(seen({"web": row()}, flags=[flag("@node", "disk_low", "raised")]), 100.0)

    assert (found["level"], found["broken"][0]["worker"]) == ("trouble", "@node")


def crashes(worker: str, *verdicts: str, every_s: float = 20.0) -> list[dict[str, Any]]:
    """Incidents, newest first; the newest at 10,000."""
    return [
        {"id": f"{worker}-{len(verdicts) - at}", "worker": worker, "title": f"{worker} crashed", "says": "", "verdict": verdict,
         "opened_unix_s": 10_000.0 - at * every_s}
        for at, verdict in enumerate(verdicts)
    ]  # fmt: skip


def test_who_fails_again_and_again_is_broken_between_two_failures_too() -> None:
    """A worker that crashed every twenty seconds was "cured" in between, and the page said that everything serves."""
    workers = {"thumbs": row(n=34), "mail": row(flags=[flag("mail", "deadlock", "shown")])}
    again = crashes("thumbs", "cured", "came_back", "came_back", "came_back")

    found = now.now(seen(workers, incidents=again), 10_015.0)

    assert (found["level"], found["says"]) == ("trouble", "thumbs keeps failing: 4 times in 60 s, and restarts do not help.")  # fmt: skip
    assert found["broken"] == [
        {"worker": "thumbs", "says": found["says"][:-1], "since_unix_s": 9_940.0, "incident": "thumbs-4", "because": "thumbs crashed"}
    ]  # fmt: skip
    assert [one["worker"] for one in found["doubtful"]] == ["mail"]

    both = now.now(seen(workers, incidents=[*again, *crashes("mail", "open", "came_back", "came_back")]), 10_015.0)  # fmt: skip
    assert both["says"] == "2 workers keep failing, and restarts do not help: thumbs, mail."
    assert both["doubtful"] == []

    down = now.now(seen({"thumbs": row(state="failed")}, incidents=again), 10_015.0)
    assert down["says"] == "thumbs is left down: it died too often (4 times in 60 s, and restarts do not help)."  # fmt: skip


@pytest.mark.parametrize(
    ("rows", "at_unix_s"),
    [
        (crashes("thumbs", "cured", "came_back"), 10_015.0),
        (crashes("thumbs", "cured", "cured", "cured", "cured"), 10_015.0),
        (crashes("thumbs", "cured", "came_back", "came_back", every_s=3600.0), 10_015.0),
        (crashes("thumbs", "cured", "came_back", "came_back", "came_back"), 10_700.0),
        (crashes("gone", "cured", "came_back", "came_back", "came_back"), 10_015.0),
    ],
    ids=["twice", "each time something else", "once an hour", "over for ten minutes", "not there any more"],
)  # fmt: skip
def test_what_was_mended_is_not_called_broken(rows: list[dict[str, Any]], at_unix_s: float) -> None:
    assert now.now(seen({"thumbs": row()}, incidents=rows), at_unix_s)["level"] == "well"


def test_what_was_done_is_shown_for_a_day() -> None:
    rows = [
        {
            "id": name,
            "worker": "web",
            "title": "t",
            "says": "s",
            "verdict": "cured",
            "opened_unix_s": at,
        }
        for name, at in (("new", 99_000.0), ("old", 1_000.0))
    ]

    found = now.now(seen({"web": row()}, incidents=rows), 100_000.0)

    assert [one["incident"] for one in found["done"]] == ["new"]


# -- what is new -----------------------------------------------------------------------------------


def test_a_delta_has_changed_keys_only_and_says_who_is_gone() -> None:
    same = {"state": "running", "pid": 1}
    before = {"workers": {"a": same, "b": {"state": "running", "pid": 2}, "c": {}}, "alerts": []}
    after = {
        "workers": {"a": same, "b": {"state": "running", "pid": 3}, "d": {"pid": 4}},
        "alerts": [],
    }

    assert delta(before, after) == {"workers": {"b": {"pid": 3}, "d": {"pid": 4}, "c": None}}


def test_a_delta_applied_to_the_look_before_is_the_look_after(node: FakeNode) -> None:
    """What a page holds after any number of deltas has to be what a page that is opened now is given."""
    view = View(place(node))
    held = dict(view.look())
    node.workers["web"] = {**node.workers["web"], "n": 2, "restarts": 1}
    del node.workers["mail"]
    node.raise_flag("web", "slow", phase="shown")
    break_something(node, "2026-11-03")

    after = view.look(is_urgent=True)
    told = delta(held, after)
    workers = dict(held["workers"])
    for name, change in told.pop("workers").items():
        if change is None:
            del workers[name]
        else:
            workers[name] = {**workers.get(name, {}), **change}
    held = {**held, **told, "workers": workers}

    for key in ("workers", "incidents", "now", "flags", "splits", "alerts"):
        assert held[key] == after[key]
    assert held["workers"]["web"]["n"] == 2
    assert "mail" not in held["workers"]


def test_time_that_passes_is_no_news(node: FakeNode) -> None:
    """An idle node must not send something to every open page every second."""
    view = View(place(node))
    before = view.look()
    later = {
        **before,
        "at_unix_s": before["at_unix_s"] + 1,
        "node": {**before["node"], "uptime_s": 99_999},
    }
    later["house"] = [{**one, "uptime_s": 12.0} for one in before["house"]]

    assert delta(before, later) == {}


def test_figures_are_rounded_to_what_a_person_reads() -> None:
    raw = {
        "rss_bytes": (40 << 20) + 4096,
        "cpu_share": 0.0021,
        "lag_ms": 1.2345,
        "tasks": 3,
        "work_rate": 123.456,
        "in_flight": None,
    }

    assert compact(raw) == {
        "rss_bytes": 40 << 20, "cpu_share": 0.0, "lag_ms": 1.2, "tasks": 3, "work_rate": 123, "in_flight": None,
    }  # fmt: skip


def alerting(worker: str, severity: str, says: str = "", since: float = 100.0) -> dict[str, Any]:
    signs = [{"worker": worker, "says": says}] if says else []
    return {"cause": worker, "severity": severity, "state": "firing", "since_unix_s": since, "signs": signs, "incidents": []}  # fmt: skip


def test_between_two_deaths_nothing_is_well() -> None:
    """Who dies every few seconds runs at most instants: a screenshot of such an instant said that everything serves."""
    state = seen({"mail": row(n=7)}, alerts=[alerting("mail", "critical", "ended with status 1 after 4 s")])  # fmt: skip

    found = now.now(state, 200.0)

    assert found["level"] == "trouble"
    assert found["broken"][0] | {"because": ""} == {
        "worker": "mail", "says": "ended with status 1 after 4 s", "since_unix_s": 100.0, "incident": None, "because": "",
    }  # fmt: skip
    assert now.now(seen({"mail": row()}, alerts=[alerting("mail", "warning", "slow")]), 200.0)["level"] == "care"  # fmt: skip


def test_since_when_is_since_the_first_of_it_and_why_is_what_was_seen_last() -> None:
    """Flags are raised anew with each death; nobody had service all the time."""
    incident = {"id": "2026-11-22-mail-9", "worker": "mail", "title": "mail crashed: KeyError", "opened_unix_s": 190.0, "says": "", "verdict": "open"}  # fmt: skip
    state = seen(
        {"mail": row(flags=[flag("mail", "crash_loop", "gave_up") | {"since_unix_s": 195.0}])},
        incidents=[incident],
        alerts=[alerting("mail", "critical", "it dies again and again")],
    )

    (broken,) = now.now(state, 200.0)["broken"]

    assert (broken["since_unix_s"], broken["because"], broken["incident"]) == (100.0, "mail crashed: KeyError", "2026-11-22-mail-9")  # fmt: skip
    old = now.now(state | {"incidents": [incident | {"opened_unix_s": -9000.0}]}, 200.0)
    assert old["broken"][0]["because"] == ""


# -- figures ---------------------------------------------------------------------------------------


def sampled(number: int, **more: int) -> tuple[int, ...]:
    values = dict.fromkeys(sample.FIELDS, 0) | {
        "number": number,
        "unix_ns": 1,
        "pid": 7,
        "mono_ns": number * 10**9,
    }
    return tuple((values | more).values())


def test_two_samples_of_one_life_give_a_share_and_a_rate() -> None:
    before, last = (
        sampled(4, cpu_ns=10**9, work_done=10),
        sampled(5, cpu_ns=15 * 10**8, work_done=40, rss_bytes=5),
    )

    found = figures.of_samples(before, last, 7, 5 * 10**9)

    assert (found["cpu_share"], found["work_rate"], found["rss_bytes"]) == (0.5, 30.0, 5)


def test_samples_of_another_life_or_of_long_ago_say_nothing() -> None:
    """After a restart the figures of the dead one would stand beside the living one's pid."""
    before, last = sampled(4), sampled(5, cpu_ns=10**9)

    assert figures.of_samples(before, last, 8, 5 * 10**9) == figures.NOTHING
    assert figures.of_samples(before, last, 7, 60 * 10**9)["cpu_share"] is None


def test_a_ring_is_read_from_where_the_last_look_ended(node: FakeNode) -> None:
    node.write_samples("web", 50, 0.5, first=590)
    ring = figures.Ring(node.run_dir, "web")

    first = ring.read()
    node.write_samples("web", 52, 0.5, first=590)
    fresh = ring.read()

    assert [one[0] for one in first] == list(range(590, 640))
    assert [one[0] for one in fresh] == [640, 641]
    assert ring.read() == []


def test_the_line_of_a_worker_is_by_time_and_a_rest_is_part_of_it() -> None:
    """Of a worker that does not move the watchdog keeps the first and the last sample of the rest: a line by samples would be one of bursts only."""
    burst = [sampled(number, cpu_ns=number * 5 * 10**8) for number in range(10)]
    rest = [sampled(10, cpu_ns=45 * 10**8, mono_ns=10 * 10**9), sampled(11, cpu_ns=45 * 10**8, mono_ns=49 * 10**9)]  # fmt: skip

    line = figures.line_of([*burst, *rest], 50 * 10**9)

    assert line == [*[0.5] * 5, *[0.0] * 20]
    assert figures.line_of(rest, 10**9 * 400)[-1:] == []  # all of it long ago


def test_who_rests_for_an_hour_uses_nothing_now() -> None:
    """The last sample is dated anew at each look; nobody has to ask the kernel beside it."""
    before, last = sampled(1, rss_bytes=9), sampled(2, rss_bytes=9, mono_ns=3600 * 10**9)

    found = figures.of_samples(before, last, 7, 3601 * 10**9)

    assert (found["cpu_share"], found["rss_bytes"]) == (0.0, 9)


def test_a_sample_that_is_dated_anew_is_seen(node: FakeNode) -> None:
    node.write_samples("web", 2, 0.0)
    ring = figures.Ring(node.run_dir, "web")
    ring.read()
    assert ring.last is not None
    again = (ring.last[0], ring.last[1], ring.last[2] + 10**9, *ring.last[3:])
    path = f"{node.run_dir}/{layout.SAMPLES}/web"
    with open(path, "r+b") as file:
        file.seek(ring.last[0] % sample.SLOTS * sample.RECORD.size)
        file.write(sample.RECORD.pack(*again))

    assert ring.read() == []
    assert ring.last == again


def test_a_ring_that_went_round_while_nobody_looked_begins_anew(node: FakeNode) -> None:
    node.write_samples("web", 10, 0.5)
    ring = figures.Ring(node.run_dir, "web")
    ring.read()

    node.write_samples("web", 600, 0.5, first=1000)

    assert ring.read()[-1][0] == 1599


def test_alerts_are_none_where_nobody_ever_sent_one(node: FakeNode) -> None:
    """Looking must not make the file of a process that does not run."""
    assert state.Alerts(node.state_dir).look() == []
    assert "alerts" not in os.listdir(node.state_dir)
