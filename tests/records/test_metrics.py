"""Do the figures of a node say what is, in a form that every reader takes?"""

from __future__ import annotations

import json
import math
import os
import re
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.model.jobs import Counts
from holdfast.records import metrics, openmetrics
from holdfast.sdk.metrics import BOUNDS_S, Metrics
from holdfast.wire.pulse import _NOTHING_MORE, Pulse
from records import strict

SLOWNESS = float(os.environ.get("HOLDFAST_SLOWNESS", "1"))
ROOT = Path(__file__).parents[2]


def worker(name: str, **more: Any) -> metrics.Worker:
    found: Any = {
        "name": name, "kind": "guest", "state": "running", "ready": True, "up": True, "pid": 4711, "restarts": 2,
        "why": "", "started_unix_s": 1_700_000_000.5, "rss_bytes": 20 << 20, "cpu_ns": 1_500_000_000, "threads": 3,
        "major_faults": 0, "memory_limit_bytes": None, "fds": 12, "children": 0, "pulse": None, "pulse_age_s": None,
    }  # fmt: skip
    found.update(more)
    return found  # type: ignore[no-any-return]


def beating(**values: int) -> Pulse:
    pulse = Pulse((4711, 1, 5, 5, 2_000_000, 7, 3, 1, 40, 0, 1, 0, 0), "", (90, 4, -1, 3_000_000_000, 2, *_NOTHING_MORE[5:]))  # fmt: skip
    for name, value in values.items():
        setattr(pulse, name, value)
    return pulse


def state(*workers: metrics.Worker, **more: Any) -> metrics.State:
    found: Any = {
        "node": "clandeck-1", "version": "0.1.0", "digest": "abc", "running": True, "keeper_answers": True,
        "began_unix_s": 1_700_000_000.0,
        "house": [
            {"name": "keeper", "pid": 12, "beat_age_s": 0.5, "started_unix_s": 1_700_000_000.0, "rss_bytes": 9_000_000, "cpu_ns": 20_000_000},
            {"name": "logger", "pid": 0, "beat_age_s": 9.5, "started_unix_s": None, "rss_bytes": None, "cpu_ns": None},
        ],
        "workers": list(workers), "flags": [], "deaths": {}, "incidents": {}, "last_incident_unix_s": None,
        "disks": [{"of": "state", "size_bytes": 100, "free_bytes": 40, "inodes": 0, "free_inodes": 0}],
        "components": [], "unanswered": 0, "jobs": [], "bounds_s": BOUNDS_S, "took_s": 0.0123456,
    }  # fmt: skip
    found.update(more)
    return found  # type: ignore[no-any-return]


def read(found: metrics.State) -> strict.Exposition:
    return strict.openmetrics(openmetrics.openmetrics(metrics.families(found)))


def flag(name: str, phase: str, of: str = "web") -> dict[str, Any]:
    return {"worker": of, "flag": name, "phase": phase, "says": "it does not beat"}


def figures(name: str = "fetch") -> dict[str, Any]:
    made = Metrics()
    made.count(name, 3)
    made.gauge(name, -2.5)
    for took_s in (0.00005, 0.0003, 0.0003, 99.0):
        made.timing(name, took_s)
    return made.read()


#: What went over a realm, as a router tells it.
TOTALS = {"sessions": 2, "calls": 7, "calls_failed": 1, "published": 3, "events": 9}


def full() -> metrics.State:
    """A node of which everything is known."""
    counts = Counts()
    counts.queues = {"default": (12, 3.25, False), "mail": (0, 0.0, True)}
    counts.dead, counts.processed, counts.failed = 2, 100, 3
    busy = beating()
    busy.routes = [("GET /", 40, 2_000_000_000, 1_000_000), ("POST /login", 2, 5, 6)]
    return state(
        worker("web", pulse=busy, pulse_age_s=0.1, kind="container", memory_limit_bytes=1 << 30),
        worker("mail", pid=0, ready=False, state="backoff", rss_bytes=None, cpu_ns=None, threads=None, fds=None, children=None),
        flags=[flag("loop_lag", "shown"), flag("disk_low", "gave_up", "@node"), flag("slow", "shown", "gone")],
        deaths={("web", "died"): 3, ("web", "restart"): 1, ("gone", "died"): 9},
        incidents={("crash", "cured"): 2, ("oom", "open"): 1}, last_incident_unix_s=1_700_000_100.0,
        disks=[{"of": "state", "size_bytes": 100, "free_bytes": 40, "inodes": 9, "free_inodes": 3}],
        components=[("web", "shop", figures()), ("router", "router", {"bus": {"realm1": TOTALS}})],
        jobs=[{"store": "sqlite:///jobs.db", "counts": counts}, {"store": "redis://away", "counts": None}],
    )  # fmt: skip


def test_every_figure_stands_where_a_reader_looks_for_it() -> None:
    """Somebody builds alerts on these names; they stay."""
    found = read(full())

    assert found.value("holdfast_up") == 1
    assert found.value("holdfast_node_info", node="clandeck-1", digest="abc") == 1
    assert found.value("holdfast_house_up", process="keeper") == 1
    assert found.value("holdfast_house_up", process="logger") == 0
    assert found.value("holdfast_house_beat_age_seconds", process="logger") == 9.5
    assert found.value("holdfast_workers", state="running") == 1
    assert found.value("holdfast_workers", state="failed") == 0
    assert found.value("holdfast_worker_up", worker="mail") == 0
    assert found.value("holdfast_worker_memory_bytes", worker="web") == 20 << 20
    assert found.value("holdfast_worker_memory_bytes", worker="mail") is None
    assert found.value("holdfast_worker_memory_limit_bytes", worker="web") == 1 << 30
    assert found.value("holdfast_worker_cpu_seconds_total", worker="web") == 1.5
    assert found.value("holdfast_worker_loop_lag_seconds", worker="web") == 0.002
    assert found.value("holdfast_worker_work_total", worker="web") == 40
    assert found.value("holdfast_worker_work_seconds_total", worker="web") == 3
    assert found.value("holdfast_worker_flag", worker="web", flag="loop_lag") == 1
    assert found.value("holdfast_node_flag", flag="disk_low") == 1
    assert found.value("holdfast_worker_deaths_total", worker="web", cause="died") == 3
    assert found.value("holdfast_worker_deaths_total", worker="web", cause="restart") == 1
    assert found.value("holdfast_worker_deaths_total", worker="gone", cause="died") is None
    assert found.value("holdfast_route_seconds_sum", worker="web", route="GET /") == 2
    assert found.value("holdfast_route_seconds_count", worker="web", route="GET /") == 40
    assert found.value("holdfast_incidents", kind="oom", verdict="open") == 1
    assert found.value("holdfast_disk_free_bytes", of="state") == 40
    assert found.value("holdfast_disk_free_inodes", of="state") == 3
    assert found.value("holdfast_job_store_up", store="redis://away") == 0
    assert found.value("holdfast_queue_latency_seconds", store="sqlite:///jobs.db", queue="default") == 3.25  # fmt: skip
    assert found.value("holdfast_queue_paused", store="sqlite:///jobs.db", queue="mail") == 1
    assert found.value("holdfast_jobs", store="sqlite:///jobs.db", place="dead") == 2
    assert found.value("holdfast_jobs_processed_total", store="sqlite:///jobs.db") == 100


def test_a_worker_has_its_series_of_deaths_before_it_dies() -> None:
    """`increase()` does not see a series that begins at one: the first death would wake nobody."""
    found = read(state(worker("web")))

    assert found.value("holdfast_worker_deaths_total", worker="web", cause="died") == 0
    assert found.value("holdfast_worker_deaths_total", worker="web", cause="remedy") == 0


def test_deaths_that_cannot_be_told_truly_are_not_told() -> None:
    assert read(state(worker("web"), deaths=None)).samples("holdfast_worker_deaths_total") == {}


def test_a_timing_has_all_its_classes_and_they_add_up() -> None:
    """A class that appears with its first value is no increase, and a quantile over it is wrong."""
    found = read(state(worker("web"), components=[("web", "shop", figures())]))
    buckets = found.samples("holdfast_component_seconds_bucket")
    by_le = {dict(key)["le"]: value for key, value in buckets.items()}

    assert len(by_le) == len(BOUNDS_S) + 1
    assert (by_le["0.0001"], by_le["0.0002"], by_le["0.0004"], by_le["52.4288"]) == (1, 1, 3, 3)
    assert by_le["+Inf"] == 4
    of = {"worker": "web", "component": "shop", "name": "fetch"}
    assert found.value("holdfast_component_seconds_count", **of) == 4
    assert found.value("holdfast_component_events_total", **of) == 3
    assert found.value("holdfast_component_value", **of) == -2.5


def test_a_router_tells_what_went_over_each_realm() -> None:
    """A bus that stands still while its workers are all up is seen by its calls, not by its processes."""
    told = {**figures(), "bus": {"realm1": TOTALS, "odd": {"calls": "7"}}}
    found = read(state(worker("router"), components=[("router", "router", told)]))
    of = {"worker": "router", "realm": "realm1"}

    assert found.value("holdfast_bus_calls_total", **of) == 7
    assert found.value("holdfast_bus_events_total", **of) == 9
    assert found.value("holdfast_bus_sessions", **of) == 2
    assert list(found.samples("holdfast_bus_calls_total").values()) == [7]


def test_routes_that_look_the_same_are_one_series() -> None:
    """The pulse cuts names at 40 bytes. Two samples of one series, and Prometheus refuses the whole scrape."""
    busy = beating()
    busy.routes = [("GET /a-very-long-beginning", 2, 10, 1), ("GET /a-very-long-beginning", 3, 10, 1)]  # fmt: skip
    found = read(state(worker("web", pulse=busy)))

    assert list(found.samples("holdfast_route_seconds_count").values()) == [5]


def test_a_broken_pulse_does_not_spoil_the_scrape() -> None:
    """A worker writes its pulse itself; one that writes nonsense must not blind everybody."""
    found = read(state(worker("web", pulse=beating(work_done=-4, tasks=-1, latency_sum_ns=-9))))

    assert found.value("holdfast_worker_work_total", worker="web") is None
    assert found.value("holdfast_worker_tasks", worker="web") == -1


@pytest.mark.parametrize("value", [math.nan, math.inf, -1.0, 10**400])
def test_what_a_counter_cannot_be_is_left_out(value: float) -> None:
    said = {"counts": {"bad": value, "good": 1}, "gauges": {}, "timings": {}, "refused": 0}
    found = read(state(worker("web"), components=[("web", "shop", said)]))

    assert [dict(key)["name"] for key in found.samples("holdfast_component_events_total")] == ["good"]  # fmt: skip


def test_a_gauge_may_be_anything_and_json_has_no_word_for_it() -> None:
    said = {"gauges": {"a": math.nan, "b": -math.inf, "c": True, "d": "text"}}
    families = metrics.families(state(worker("web"), components=[("web", "shop", said)]))
    found = strict.openmetrics(openmetrics.openmetrics(families))
    values = {dict(k)["name"]: v for k, v in found.samples("holdfast_component_value").items()}

    assert math.isnan(values["a"])
    assert (values["b"], values["c"]) == (-math.inf, 1)
    assert "d" not in values
    in_json = next(f for f in openmetrics.values(families) if f["name"] == "holdfast_component_value")  # fmt: skip
    assert [sample["value"] for sample in in_json["samples"]] == [None, None, 1]
    json.dumps(in_json, allow_nan=False)


@settings(max_examples=60, deadline=None)
@given(
    names=st.dictionaries(st.text(max_size=12), st.floats() | st.integers() | st.booleans(), max_size=6),
    worker_name=st.text(min_size=1, max_size=8),
    junk=st.dictionaries(st.text(max_size=4), st.none() | st.text(max_size=3) | st.lists(st.integers(), max_size=2), max_size=3),
)  # fmt: skip
def test_whatever_a_component_says_the_rest_can_be_read(
    names: dict[str, float], worker_name: str, junk: dict[str, Any]
) -> None:
    """Quotes, newlines, half characters, no numbers at all: names are the application's."""
    said = {"counts": names, "gauges": {**names, **junk}, "timings": junk, "refused": 0}
    name = metrics.text(worker_name)
    families = metrics.families(state(worker(name), components=[(name, 'x\n"\\', said)]))
    found = strict.openmetrics(openmetrics.openmetrics(families))

    assert found.value("holdfast_worker_up", worker=name) == 1
    said_names = {dict(key)["name"] for key in found.samples("holdfast_component_value")}
    assert said_names <= {metrics.text(one) for one in {*names, *junk}}
    assert strict.prometheus(openmetrics.prometheus(families)).value("holdfast_up") == 1


def test_half_a_character_is_replaced_and_names_that_become_one_are_one() -> None:
    said = {"counts": {"\ud800": 1, "?": 2}}
    found = read(state(worker("web"), components=[("web", "shop", said)]))

    assert list(found.samples("holdfast_component_events_total").values()) == [1]


def test_both_formats_tell_the_same() -> None:
    families = metrics.families(full())
    one = strict.openmetrics(openmetrics.openmetrics(families))
    other = strict.prometheus(openmetrics.prometheus(families))

    def flat(found: strict.Exposition) -> dict[tuple[str, strict.Key], float]:
        return {(f.name + s, k): v for f in found.families.values() for s, k, v in f.samples}

    assert flat(one) == flat(other)
    assert len(flat(one)) > 100


def test_every_family_can_be_told() -> None:
    """A family that nothing fills is a promise in the documentation and nowhere else."""
    assert [family.name for family in metrics.families(full()) if not family.samples] == []


def test_a_disk_that_makes_inodes_as_it_goes_has_no_number_of_them() -> None:
    """btrfs says 0 of 0: an alert on what is free would stand for ever."""
    found = read(state())

    assert found.value("holdfast_disk_free_bytes", of="state") == 40
    assert found.samples("holdfast_disk_free_inodes") == {}


def test_a_node_that_does_not_run_says_so_and_little_else() -> None:
    found = read(state(running=False, house=[], deaths=None, began_unix_s=None))

    assert found.value("holdfast_up") == 0
    assert found.value("holdfast_node_ready") == 0
    assert found.samples("holdfast_workers") == {}


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("", openmetrics.PROMETHEUS),
        ("*/*", openmetrics.PROMETHEUS),
        ("text/html,application/xhtml+xml,*/*;q=0.8", openmetrics.PROMETHEUS),
        ("application/openmetrics-text", openmetrics.OPENMETRICS),
        ("application/openmetrics-text; version=0.0.1,text/plain;version=0.0.4;q=0.5,*/*;q=0.1", openmetrics.OPENMETRICS),
        ("application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=1.0.0;q=0.3,text/plain;version=0.0.4;q=0.2,*/*;q=0.1", openmetrics.OPENMETRICS),
        ("text/plain;version=0.0.4;q=0.9, application/openmetrics-text;q=0.2", openmetrics.PROMETHEUS),
        ("application/openmetrics-text;q=0", openmetrics.PROMETHEUS),
        ("application/openmetrics-text;q=nan", openmetrics.PROMETHEUS),
        ("application/json", openmetrics.JSON),
        ("application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily", openmetrics.PROMETHEUS),
        (";;;,q=,=;q=x", openmetrics.PROMETHEUS),
    ],
)  # fmt: skip
def test_a_reader_gets_the_format_that_it_asked_for(accept: str, kind: str) -> None:
    assert openmetrics.negotiate(accept) == kind


@pytest.mark.parametrize(
    ("changes", "whats"),
    [
        ({}, []),
        ({"running": False}, ["down"]),
        ({"keeper_answers": False}, ["keeper"]),
        ({"flags": [flag("loop_lag", "shown")]}, []),
        ({"flags": [flag("loop_lag", "raised")]}, []),
        ({"flags": [flag("slow", "remedy")]}, ["flag"]),
        ({"flags": [flag("slow", "verify")]}, []),
        ({"flags": [flag("missed_heartbeat", "raised")]}, ["flag"]),
        ({"flags": [flag("missed_heartbeat", "verify")]}, []),
        ({"flags": [flag("disk_low", "gave_up", "@node")]}, ["flag"]),
        ({"flags": [{"worker": "web", "flag": "slow"}]}, []),
    ],
)
def test_ready_means_that_nobody_is_left_unserved(changes: Any, whats: list[str]) -> None:
    """A suspicion takes no node out of a load balancer, a hang does, at once."""
    assert [reason["what"] for reason in metrics.not_ready(state(worker("web"), **changes))] == whats  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "is_reason"),
    [
        ({"ready": False, "state": "starting"}, True),
        ({"ready": False, "state": "failed", "up": True}, True),
        ({"ready": False, "state": "down", "up": False}, False),
        ({"ready": False, "state": "done"}, False),
        ({"ready": False, "state": "idle"}, False),
    ],
)
def test_a_worker_is_a_reason_only_where_it_is_wanted(changes: Any, is_reason: bool) -> None:
    """Somebody who stopped a worker knows that it is down."""
    found = metrics.not_ready(state(worker("web", **changes)))

    assert [reason.get("worker") for reason in found] == (["web"] if is_reason else [])


def test_a_thousand_reasons_are_told_in_fifty_lines() -> None:
    many = [worker(f"w{at}", ready=False, state="waiting", why="for db") for at in range(1000)]
    found = metrics.not_ready(state(*many))

    assert len(found) == metrics.MOST_REASONS + 1
    assert found[0]["says"] == "waiting: for db"
    assert found[-1]["says"] == "and 950 more"


def test_a_thousand_workers_are_told_in_a_moment() -> None:
    """Some 20 ms where nothing else runs; the scrape of a large node must not be felt by it."""
    big = state(*[worker(f"w{at:04d}", pulse=beating()) for at in range(1000)])
    took_s, data = [], b""
    for _ in range(3):
        began_s = time.process_time()
        data = openmetrics.openmetrics(metrics.families(big))
        took_s.append(time.process_time() - began_s)

    assert min(took_s) < 0.25 * SLOWNESS
    assert len(strict.openmetrics(data).samples("holdfast_worker_up")) == 1000


# -- the dashboard ------------------------------------------------------------------------------------

DASHBOARD = json.loads((ROOT / "docs" / "grafana" / "holdfast.json").read_text())
#: The functions of PromQL that the dashboard uses, and Grafana's own.
FUNCTIONS = {
    "sum",
    "min",
    "max",
    "count",
    "rate",
    "increase",
    "topk",
    "histogram_quantile",
    "by",
    "and",
    "or",
    "label_values",
}


def expressions() -> list[str]:
    panels = [*DASHBOARD["panels"], *(p for row in DASHBOARD["panels"] for p in row.get("panels", ()))]  # fmt: skip
    found = [target["expr"] for panel in panels for target in panel.get("targets", ())]
    queries = [entry["query"] for entry in DASHBOARD["templating"]["list"] if entry["type"] == "query"]  # fmt: skip
    return found + [query if isinstance(query, str) else query["query"] for query in queries]


@pytest.mark.parametrize("expression", expressions())
def test_the_dashboard_asks_for_what_there_is(expression: str) -> None:
    """A panel that stays empty looks like a node on which all is well."""
    told = read(full())
    series: dict[str, set[str]] = {}
    for family in told.families.values():
        for suffix, key, _ in family.samples:
            series.setdefault(family.name + suffix, {"instance", "job"}).update(dict(key))
    names = re.findall(r"\bholdfast_\w+", expression)

    assert names
    assert [name for name in names if name not in series] == []
    for name, selector in re.findall(r"\b(holdfast_\w+)\{([^}]*)\}", expression):
        assert set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", selector)) <= series[name], name
    known = set().union(*(series[name] for name in names))
    for grouped in re.findall(r"\bby\s*\(([^)]*)\)", expression):
        assert {label.strip() for label in grouped.split(",")} <= known
    assert set(re.findall(r"\b([a-z_]+)\s*\(", expression)) <= FUNCTIONS
    assert expression.count("(") == expression.count(")")


def test_the_dashboard_has_a_panel_for_each_question_and_no_panel_twice() -> None:
    panels = DASHBOARD["panels"]

    assert len({panel["id"] for panel in panels}) == len(panels)
    assert len({panel["title"] for panel in panels}) == len(panels)
    assert DASHBOARD["uid"]
    assert all(panel["type"] == "row" or panel["targets"] for panel in panels)


def test_the_page_names_every_family_with_its_labels() -> None:
    """Somebody writes alerts from that page."""
    page = (ROOT / "docs" / "how-to" / "metrics.md").read_text()
    rows = re.findall(r"^\| `(holdfast_\w+)` \| (\w+) \| (.*) \| (.*) \|$", page, re.MULTILINE)
    told = {
        name: (kind, set(re.findall(r"\w+", labels)), says) for name, kind, labels, says in rows
    }
    real = {
        family.name + family.suffix: (
            family.kind,
            {key for _, labels, _ in family.samples for key, _ in labels.pairs},
            family.help,
        )
        for family in metrics.families(full())
    }

    assert told == real
