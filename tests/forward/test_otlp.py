"""What goes to a collector is what the protocol says, to the letter: names of fields, types of numbers, kinds of sums."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.forward import journald, jsonlines, levels, otlp, otlp_metrics
from holdfast.forward.otlp import Resources
from holdfast.forward.reading import OPENED, SETTLED, News, Portion
from holdfast.records import metrics
from holdfast.records.logs import Line
from holdfast.wire import jsonlite
from records.test_metrics import full, state, worker

RESOURCES = Resources("box", {"deployment.environment.name": "test"})
INCIDENT: dict[str, Any] = {
    "id": "2024-11-03-web-1", "worker": "web", "component": "board", "kind": "crash", "title": "it crashed", "start": 4, "pid": 4711,
    "fatal": "shop.BoardError: no room", "findings": [{"says": "raised in place"}], "changed": [],
    "cause": {"signature": "crash|BoardError", "frames": ["/srv/board.py:31 in place", "/srv/main.py:9 in main"]},
}  # fmt: skip

# The messages of the protocol, as far as we may use them: field -> what is in it. Anything else is a mistake.
TEXT, DOUBLE, BOOL, UINT32 = "text", "double", "bool", "uint32"
INT64 = "int64"  # in JSON a text of digits
ANY_VALUE: dict[str, Any] = {
    "stringValue": TEXT,
    "intValue": INT64,
    "doubleValue": DOUBLE,
    "boolValue": BOOL,
}
ANY_VALUE["arrayValue"] = {"values": [ANY_VALUE]}
ATTRIBUTES = [{"key": TEXT, "value": ANY_VALUE}]
SCOPE = {"name": TEXT, "version": TEXT}
RESOURCE = {"attributes": ATTRIBUTES}
LOGS = {"resourceLogs": [{"resource": RESOURCE, "scopeLogs": [{"scope": SCOPE, "logRecords": [{
    "timeUnixNano": INT64, "observedTimeUnixNano": INT64, "severityNumber": UINT32, "severityText": TEXT, "body": ANY_VALUE,
    "attributes": ATTRIBUTES, "eventName": TEXT,
}]}]}]}  # fmt: skip
TIMES = {"timeUnixNano": INT64, "startTimeUnixNano": INT64, "attributes": ATTRIBUTES}
NUMBERS = [{**TIMES, "asInt": INT64, "asDouble": DOUBLE}]
METRICS = {"resourceMetrics": [{"resource": RESOURCE, "scopeMetrics": [{"scope": SCOPE, "metrics": [{
    "name": TEXT, "description": TEXT, "unit": TEXT,
    "gauge": {"dataPoints": NUMBERS},
    "sum": {"dataPoints": NUMBERS, "aggregationTemporality": UINT32, "isMonotonic": BOOL},
    "histogram": {"aggregationTemporality": UINT32,
                  "dataPoints": [{**TIMES, "count": INT64, "sum": DOUBLE, "bucketCounts": [INT64], "explicitBounds": [DOUBLE]}]},
    "summary": {"dataPoints": [{**TIMES, "count": INT64, "sum": DOUBLE}]},
}]}]}]}  # fmt: skip


def check(value: Any, shape: Any, where: str = "") -> None:
    if isinstance(shape, dict):
        assert isinstance(value, dict), where
        for key, inner in value.items():
            assert key in shape, f"{where}.{key}: there is no such field"
            check(inner, shape[key], f"{where}.{key}")
        if shape is ANY_VALUE:
            assert len(value) == 1, where
    elif isinstance(shape, list):
        assert isinstance(value, list), where
        for at, inner in enumerate(value):
            check(inner, shape[0], f"{where}[{at}]")
    elif shape == INT64:
        assert isinstance(value, str), where
        assert -(2**63) <= int(value) < 2**64, where
    elif shape == DOUBLE:
        is_number = isinstance(value, float | int) and not isinstance(value, bool)
        assert is_number or value in ("NaN", "Infinity", "-Infinity"), where
    elif shape == UINT32:
        assert type(value) is int, where
    else:
        assert isinstance(value, {TEXT: str, BOOL: bool}[shape]), where


def attributes(found: dict[str, Any]) -> dict[str, Any]:
    return {one["key"]: next(iter(one["value"].values())) for one in found["attributes"]}


def sent(portion: Portion) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Return (resource, record) of what is sent for a portion; all of it was checked."""
    body = json.loads(
        json.dumps(otlp.logs(portion, "clandeck-1", RESOURCES, 1_700_000_009.0), allow_nan=False)
    )
    check(body, LOGS)
    return [
        (attributes(resource["resource"]), record)
        for resource in body["resourceLogs"] for scope in resource["scopeLogs"] for record in scope["logRecords"]
    ]  # fmt: skip


def measured(found: metrics.State) -> dict[str, list[tuple[dict[str, Any], dict[str, Any]]]]:
    """Return name -> (resource, metric) of the figures of a node; all of it was checked."""
    names: dict[str, list[tuple[dict[str, Any], dict[str, Any]]]] = {}
    for body in otlp_metrics.requests(metrics.families(found), found, RESOURCES, 1_700_000_100.0):
        body = json.loads(json.dumps(body, allow_nan=False))
        check(body, METRICS)
        for resource in body["resourceMetrics"]:
            for metric in resource["scopeMetrics"][0]["metrics"]:
                names.setdefault(metric["name"], []).append(
                    (attributes(resource["resource"]), metric)
                )
    return names


def portion(*lines: Line, news: tuple[News, ...] = ()) -> Portion:
    made = Portion()
    made.lines, made.news = list(lines), list(news)
    return made


def test_a_line_is_a_record_of_its_worker() -> None:
    line = Line(1_700_000_000.123456, "err", "web", 4, "level=error component=board no room")
    ((resource, record),) = sent(portion(line))

    assert resource == {
        "service.name": "web", "service.namespace": "clandeck-1", "service.instance.id": "box/clandeck-1", "host.name": "box",
        "deployment.environment.name": "test",
    }  # fmt: skip
    assert record["timeUnixNano"] == "1700000000123456000"
    assert (record["severityNumber"], record["body"]) == (17, {"stringValue": line.text})
    assert attributes(record) == {"log.iostream": "stderr", "holdfast.start": "4"}
    assert "eventName" not in record


def test_bytes_that_are_no_text_do_not_spoil_the_request() -> None:
    """JSON knows no half characters, and one line of a broken program must not cost the others."""
    line = Line(
        1.0, "out", "web", 0, b"\xff\xfe caf\xc3\xa9 \x00".decode("utf-8", "surrogateescape")
    )
    ((_, record),) = sent(portion(line))

    assert record["body"] == {"stringValue": "�� café \x00"}


_PARTS = st.sampled_from(
    [
        "a",
        "\n",
        "=",
        "é",
        "\ud800",
        "\udcff",
        "\udc80",
        "\x00",
        '"',
        "\\",
        "level=",
        "<3>",
        "\U0001f600",
    ]
)


@settings(max_examples=60, deadline=None)
@given(st.lists(_PARTS).map("".join))
def test_no_line_and_no_title_can_stop_the_forwarding(text: str) -> None:
    """One that could would be sent again by each next life, for ever."""
    some = portion(
        Line(1.0, "out", "web", 1, text),
        news=(News(OPENED, {**INCIDENT, "title": text, "fatal": text}, "", 1.0),),
    )
    body = otlp.logs(some, text, RESOURCES, 1.0)
    check(msgspec.json.decode(msgspec.json.encode(body)), LOGS)
    for line in some.lines:
        assert journald.encode(journald.line_fields(line, text))
        assert json.loads(jsonlite.dumps(jsonlines.line_value(line, "n")))
    for one in some.news:
        assert journald.encode(journald.news_fields(one, "n"))
        assert json.loads(jsonlite.dumps(jsonlines.news_value(one, "n")))


@pytest.mark.parametrize("odd", [None, "x", 5, ["x"], {"says": 1}, [None]])
def test_a_bundle_of_another_shape_is_told_as_far_as_it_is_understood(odd: object) -> None:
    record = {
        "id": "i",
        "worker": odd,
        "title": odd,
        "findings": odd,
        "cause": odd,
        "changed": odd,
        "fatal": odd,
        "start": odd,
        "pid": odd,
    }
    some = portion(news=(News(OPENED, record, "", 1.0), News(SETTLED, record, "cured", 1.0)))

    assert next(one["eventName"] for _, one in sent(some)) == "holdfast.incident.opened"
    for one in some.news:
        assert journald.encode(journald.news_fields(one, "n"))
        assert jsonlite.dumps(jsonlines.news_value(one, "n"))


def test_an_incident_is_an_event_with_its_exception_and_its_verdict_another_one() -> None:
    news = (
        News(OPENED, INCIDENT, "", 1_700_000_000.0),
        News(SETTLED, INCIDENT, "cured", 1_700_000_008.0),
    )
    (_, opened), (resource, settled) = sent(portion(news=news))

    assert resource["service.name"] == "web"
    assert (opened["eventName"], settled["eventName"]) == (
        "holdfast.incident.opened",
        "holdfast.incident.settled",
    )
    assert (opened["severityNumber"], settled["severityNumber"]) == (17, 9)
    found = attributes(opened)
    assert (found["exception.type"], found["exception.message"]) == ("shop.BoardError", "no room")
    assert found["exception.stacktrace"].splitlines()[-2:] == [
        "  /srv/board.py:31 in place",
        "shop.BoardError: no room",
    ]
    assert found["holdfast.incident.id"] == INCIDENT["id"]
    assert attributes(settled)["holdfast.incident.verdict"] == "cured"


@pytest.mark.parametrize("signal", ["logs", "metrics"])
def test_the_messages_of_the_protocol_themselves_read_it(signal: str) -> None:
    """Where opentelemetry-proto is installed, its strict reader is the judge: a field that it does not know is an error."""
    theirs = pytest.importorskip(f"opentelemetry.proto.collector.{signal}.v1.{signal}_service_pb2")
    reader = pytest.importorskip("google.protobuf.json_format")
    news = (News(OPENED, INCIDENT, "", 1.0), News(SETTLED, INCIDENT, "cured", 2.0))
    if signal == "logs":
        line = Line(1_700_000_000.5, "err", "web", 4, "level=error no room")
        message = theirs.ExportLogsServiceRequest()
        reader.Parse(
            msgspec.json.encode(otlp.logs(portion(line, news=news), "n", RESOURCES, 9.0)), message
        )
        assert message.resource_logs[0].scope_logs[0].log_records[0].severity_number == 17
        return
    found = full()
    for body in otlp_metrics.requests(metrics.families(found), found, RESOURCES, 9.0):
        message = theirs.ExportMetricsServiceRequest()
        reader.Parse(msgspec.json.encode(body), message)
        assert message.resource_metrics[0].scope_metrics[0].metrics[0].name


def test_an_incident_of_the_machine_belongs_to_the_node() -> None:
    one = News(OPENED, {**INCIDENT, "worker": "@node", "fatal": None}, "", 1.0)
    ((resource, record),) = sent(portion(news=(one,)))

    assert resource["service.name"] == "holdfast"
    assert "exception.type" not in attributes(record)


def test_sums_are_cumulative_from_where_they_began_and_gauges_are_gauges() -> None:
    found = measured(full())
    ((_, cpu),) = found["holdfast.worker_cpu"]
    ((_, memory),) = found["holdfast.worker_memory"]
    ((_, restarts),) = found["holdfast.worker_restarts"]

    assert (cpu["unit"], memory["unit"]) == ("s", "By")
    assert cpu["sum"]["aggregationTemporality"] == 2
    assert cpu["sum"]["isMonotonic"] is True
    assert cpu["sum"]["dataPoints"][0]["startTimeUnixNano"] == "1700000000500000000"  # of that life
    assert (
        restarts["sum"]["dataPoints"][0]["startTimeUnixNano"] == "1700000000000000000"
    )  # of the node
    assert "startTimeUnixNano" not in memory["gauge"]["dataPoints"][0]


def test_the_names_become_those_of_prometheus_again() -> None:
    """By the rules that collectors and Prometheus itself go by: dots, then the unit, then _total. So one dashboard fits both ways."""
    families = [family for family in metrics.families(full()) if family.samples]
    for family in families:
        unit = {"seconds": "_seconds", "bytes": "_bytes"}.get(family.unit, "")
        total = "_total" if family.kind == "counter" else ""
        again = otlp_metrics.name_of(family).replace(".", "_") + unit + total
        assert again == family.name + {"info": "_info", "counter": "_total"}.get(family.kind, "")


def test_the_classes_of_a_histogram_count_for_themselves() -> None:
    """Prometheus counts all below, too; sent like that each value would be there twenty times."""
    ((_, metric),) = measured(full())["holdfast.component"]
    (point,) = metric["histogram"]["dataPoints"]

    assert sum(map(int, point["bucketCounts"])) == int(point["count"]) == 4
    assert len(point["bucketCounts"]) == len(point["explicitBounds"]) + 1
    assert point["explicitBounds"] == sorted(point["explicitBounds"])
    assert "le" not in attributes(point)


def test_a_summary_has_its_count_and_its_sum() -> None:
    ((_, metric),) = measured(full())["holdfast.route"]
    by_route = {attributes(point)["route"]: point for point in metric["summary"]["dataPoints"]}

    assert (by_route["GET /"]["count"], by_route["GET /"]["sum"]) == ("40", 2.0)


def test_a_worker_is_told_in_the_words_of_the_conventions_too() -> None:
    found = measured(full())
    names = {name for name in found if name.startswith("process.")}
    ((resource, memory),) = found["process.memory.usage"]

    assert names == {
        "process.cpu.time",
        "process.memory.usage",
        "process.thread.count",
        "process.open_file_descriptor.count",
        "process.paging.faults",
    }
    assert resource["service.name"] == "web"
    assert memory["sum"]["isMonotonic"] is False
    assert attributes(found["process.paging.faults"][0][1]["sum"]["dataPoints"][0]) == {
        "system.paging.fault.type": "major"
    }


@pytest.mark.parametrize("value", [float("inf"), float("nan"), 1e300, -3])
def test_whatever_a_component_measures_can_be_sent(value: float) -> None:
    found = measured(state(components=[("web", "shop", {"gauges": {"g": value}})]))

    assert "holdfast.component_value" in found


def test_a_thousand_workers_are_several_requests_none_too_large() -> None:
    big = state(*[worker(f"w{at:04d}") for at in range(1000)])
    bodies = otlp_metrics.requests(metrics.families(big), big, RESOURCES, 1.0)
    points = [json.dumps(body).count('"timeUnixNano"') for body in bodies]

    assert len(points) > 1
    assert max(points) <= otlp_metrics.MOST_POINTS + 10


@pytest.mark.parametrize(
    ("text", "level"),
    [
        ("level=warning component=x slow", "warning"), ('{"level": "error", "msg": "x"}', "error"), ("ERROR:root:no", "error"),
        ("2024-11-03 10:00:00,123 - app - WARNING - slow", "warning"), ("[CRITICAL] down", "critical"), ("<3>disk", "error"),
        ("<7>x", "debug"), ("an error in a sentence", "info"), ("INFO: fine", "info"), ("", "info"),
        ("Traceback (most recent call last):", "error"), ("Fatal Python error: Segmentation fault", "error"), ("level=", "info"),
        ('{"severity":"NOTICE"}', "notice"),
    ],
)  # fmt: skip
def test_a_level_is_what_the_line_says(text: str, level: str) -> None:
    assert levels.level_of(text) == level
