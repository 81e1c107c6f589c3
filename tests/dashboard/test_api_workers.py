"""One worker's page: plan without secrets, lives and deaths, columns of its charts, its log backwards."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("starlette", reason="needs holdfast[dashboard]")

from cli.fake_node import FakeNode, planned
from dashboard.seen import asked, break_something, leave_log, place
from holdfast.cli.tops.past import Life
from holdfast.dashboard import charts
from holdfast.dashboard import planned as plans
from holdfast.dashboard.api import logs, workers
from holdfast.dashboard.asking import Refused
from holdfast.wire import layout, sample


@pytest.fixture
def node() -> Iterator[FakeNode]:
    web = planned(
        "web", kind="container", components=[{"name": "front", "use": "shop.front:app"}, {"name": "back", "use": "shop.back:app"}],
        env={"API_KEY": "topsecret"}, argv=["serve", "--port", "80", "--token", "topsecret", "--api-key=topsecret"],
    )  # fmt: skip
    with FakeNode(web, planned("quiet", log=None)) as made:
        made.plan["workers"][0]["log"] = {"directory": f"{made.state_dir}/logs/web"}
        made.write_plan()
        yield made.up()


# -- the page --------------------------------------------------------------------------------------


def test_the_page_of_a_worker_knows_its_plan_components_incidents_and_orders(
    node: FakeNode,
) -> None:
    incident = break_something(node, "2026-11-01", verdict="cured")
    break_something(node, "2026-11-01/2", worker="other")
    node.write_samples("web", 3, 0.1)

    found = asked(node, workers.worker, name="web")

    assert found["plan"]["kind"] == "container"
    assert [(one["name"], one["use"]) for one in found["components"]] == [
        ("front", "shop.front:app"),
        ("back", "shop.back:app"),
    ]
    assert [one["id"] for one in found["incidents"]] == [incident]
    assert found["may"] == ["restart", "stop", "profile", "stacks", "isolate"]
    assert "flagged when" in found["explain"]


def test_no_secret_of_a_plan_is_on_the_page(node: FakeNode) -> None:
    """Readers see the page; passwords are in the environment and on command lines."""
    found = asked(node, workers.worker, name="web")

    assert "topsecret" not in repr(found)
    assert found["plan"]["env"] == ["API_KEY"]
    assert found["plan"]["argv"] == ["serve", "--port", "80", "--token", "…", "--api-key=…"]


def test_a_worker_that_nobody_has_is_told_so(node: FakeNode) -> None:
    for function in (workers.worker, workers.chart, logs.page):
        with pytest.raises(Refused, match="there is no worker") as caught:
            asked(node, function, name="nobody")
        assert caught.value.status == 404


@pytest.mark.parametrize(
    ("state", "orders"), [("down", ["start"]), ("failed", ["start"]), ("stopping", [])]
)
def test_only_orders_that_make_sense_are_offered(state: str, orders: list[str]) -> None:
    assert workers.may({"name": "web", "kind": "guest"}, {"state": state, "pid": None}) == orders


def test_a_part_of_a_split_worker_can_be_joined_again() -> None:
    assert "join" in workers.may(
        {"name": "web+front", "kind": "container"}, {"state": "running", "pid": 5}
    )


def test_a_death_leads_to_its_incident_and_a_restart_to_none() -> None:
    died, asked_for, alive = Life(1, 10.0), Life(2, 20.0), Life(3, 30.0)
    died.ended_s, died.is_death, died.cause, died.status = 19.5, True, "died", 256
    asked_for.ended_s, asked_for.cause, asked_for.status = 29.0, "restart", 15
    rows = [
        {"id": "i-died", "start": 1, "opened_unix_s": 19.6},
        {"id": "i-slow", "start": 1, "opened_unix_s": 12.0},
        {"id": "i-lag", "start": 2, "opened_unix_s": 22.0},
    ]

    told = workers.told_lives([died, asked_for, alive], rows)

    assert [one["incident"] for one in told] == ["i-died", None, None]
    assert [one["ended_unix_s"] for one in told] == [19.5, 29.0, None]
    assert "status 1" in told[0]["status_words"]
    assert told[1]["status_words"].endswith("restarted by somebody")
    assert ":" not in told[1]["status_words"]  # "it ended by itself, restarted by somebody"


def test_the_plan_is_read_in_both_of_its_forms(node: FakeNode) -> None:
    """A line for each worker as the keeper writes it, or one piece, as somebody else may have."""
    from holdfast.wire import plan

    in_one_piece = plans.entry(place(node), "quiet")
    whole: Any = {**node.plan, "env": {}}
    for directory in (node.run_dir, node.state_dir):
        Path(directory, layout.PLAN).write_bytes(plan.encode(whole))

    assert plans.entry(place(node), "quiet") == in_one_piece
    assert plans.header(place(node))["node"] == "fake"
    assert [one["name"] for one in plans.entries(place(node), '"kind":"container"')] == ["web"]


# -- charts ----------------------------------------------------------------------------------------


def taken(at_s: float, pid: int = 7, **more: int) -> dict[str, int]:
    ns = int(at_s * 1e9)
    return dict.fromkeys(sample.FIELDS, 0) | {"unix_ns": ns, "mono_ns": ns, "pid": pid} | more


def test_columns_are_equally_long_and_rates_begin_with_the_second_sample() -> None:
    rows = [
        taken(1, cpu_ns=0, tasks=3, work_done=10, rss_bytes=5),
        taken(2, cpu_ns=5 * 10**8, tasks=4, work_done=30, rss_bytes=6, latency_sum_ns=4 * 10**7),
    ]

    found = charts.columns(rows)

    assert {len(column) for column in found.values()} == {2}
    assert (found["cpu"], found["work_rate"], found["latency_ms"]) == (
        [None, 0.5],
        [None, 20.0],
        [None, 2.0],
    )
    assert (found["rss_bytes"], found["tasks"]) == ([5, 6], [3, 4])


def test_between_two_lives_there_is_a_gap_and_no_line() -> None:
    """A line from the dead one's memory to the living one's would show a fall that nobody had."""
    found = charts.columns(
        [taken(1, rss_bytes=9), taken(2, pid=8, rss_bytes=1), taken(3, pid=8, rss_bytes=2)]
    )

    assert found["rss_bytes"] == [9, None, 1, 2]
    assert found["at_unix_s"] == [1.0, 1.5, 2.0, 3.0]
    assert found["cpu"] == [None, None, None, 0.0]


def test_the_chart_of_a_worker_that_does_not_move_is_a_line_and_no_dot() -> None:
    """The watchdog keeps two samples of ten quiet minutes: their figures held all the while."""
    rows = [taken(1, rss_bytes=8, cpu_ns=3), taken(601, rss_bytes=8, cpu_ns=3)]

    found = charts.columns(rows)

    assert found["at_unix_s"] == [1.0, 2.0, 601.0]
    assert found["rss_bytes"] == [8, 8, 8]
    assert found["cpu"] == [None, 0.0, 0.0]


def test_a_rest_that_began_before_the_chart_is_all_of_it() -> None:
    rows = [taken(1, rss_bytes=8), taken(601, rss_bytes=8), taken(602, rss_bytes=9, cpu_ns=10**8)]

    found = charts.columns(rows, 500.0)

    assert found["at_unix_s"] == [500.0, 601.0, 602.0]
    assert found["rss_bytes"] == [8, 8, 9]
    assert found["cpu"] == [0.0, 0.0, 0.1]


def test_what_nobody_has_seen_is_no_rest() -> None:
    """The watchdog was away for a minute, and the worker went on meanwhile."""
    times = [*range(1, 9), 80, 81]
    rows = [taken(at, rss_bytes=8, cpu_ns=10**9 * (at >= 80)) for at in times]

    found = charts.columns(rows)

    assert found["rss_bytes"] == [*[8] * 8, None, 8, 8]


def test_memory_does_not_fall_to_nothing_where_a_worker_dies() -> None:
    """A zombie has no pages; a chart that ends at zero tells of a fall that nobody had."""
    found = charts.columns(
        [taken(1, rss_bytes=8), taken(2, rss_bytes=0), taken(3, pid=8, rss_bytes=8)]
    )

    assert 0 not in found["rss_bytes"]


def test_what_only_a_container_tells_is_unknown_of_a_guest() -> None:
    found = charts.columns([taken(1), taken(2, fds=-1)])

    assert (found["lag_ms"], found["tasks"], found["fds"]) == (
        [None, None],
        [None, None],
        [0, None],
    )


def test_a_chart_has_the_starts_and_incidents_of_its_time(node: FakeNode) -> None:
    recent = break_something(node, "2026-11-01", at_s=time.time() - 20)
    break_something(node, "2026-11-01/2", at_s=time.time() - 4000)
    node.write_samples("web", 30, 0.5)
    record = {
        "seq": 1,
        "k": "start",
        "unix_s": time.time() - 25,
        "mono_s": 1.0,
        "worker": "web",
        "n": 1,
        "pid": 7,
        "ticks": 1,
        "role": "main",
    }
    from holdfast.wire import journal

    Path(node.run_dir, layout.JOURNAL).write_bytes(journal.encode(record))

    found = asked(node, workers.chart, name="web", query={"for": "60"})

    assert len(found["at_unix_s"]) == 30
    assert found["cpu"][-1] == 0.5
    assert [one["incident"] for one in found["marks"]] == [recent]
    assert len(found["starts"]) == 1


def test_a_damaged_bundle_has_an_empty_chart() -> None:
    for document in (None, {}, {"fields": ["a"], "rows": [[1, 2]]}, {"fields": 3, "rows": 4}):
        assert charts.of_bundle(document)["cpu"] == []


# -- the log ---------------------------------------------------------------------------------------


def paged(node: FakeNode, **query: str) -> list[list[str]]:
    """Read the log backwards until there is nothing before; return the pages."""
    pages: list[list[str]] = []
    while True:
        found = asked(node, logs.page, name="web", query=query)
        pages.append([line["text"] for line in found["lines"]])
        if found["before"] is None:
            return pages
        query["before"] = found["before"]
        assert len(pages) < 50, "the cursor does not come to an end"


@pytest.mark.parametrize("size", ["3", "7", "10"])
def test_a_log_is_read_backwards_without_a_line_lost_or_twice(node: FakeNode, size: str) -> None:
    """All lines have one time here: the logger took them in one go. A cursor of time alone would lose or repeat them."""
    lines = [f"line {at}" for at in range(20)]
    leave_log(node, "web", lines)

    pages = paged(node, lines=size)

    assert [line for page in reversed(pages) for line in page] == lines


def test_a_search_finds_a_text_whatever_its_case_and_goes_on_where_it_ended(node: FakeNode) -> None:
    leave_log(node, "web", [f"{'ERROR' if at % 3 == 0 else 'ok'} {at}" for at in range(20)])

    pages = paged(node, lines="4", grep="error")

    found = [line for page in reversed(pages) for line in page]
    assert found == [f"ERROR {at}" for at in range(0, 20, 3)]


def test_a_search_is_for_a_text_and_never_a_pattern(node: FakeNode) -> None:
    """A regular expression of a stranger can hold the interpreter for hours, and with it the loop that beats."""
    leave_log(node, "web", ["(a+)+$", "aaaa"])

    assert paged(node, grep="(a+)+$") == [["(a+)+$"]]


def test_what_a_log_says_does_nothing_to_who_reads_it(node: FakeNode) -> None:
    leave_log(node, "web", ["\x1b[31mred\x1b[0m <b>\x07", "y" * 10_000])

    (page,) = paged(node)

    assert page[0] == "red <b> "
    assert len(page[1]) == 4000


@pytest.mark.parametrize("cursor", ["x", "1:y", ":::", "nan:1e99"])
def test_a_cursor_that_is_none_is_refused(node: FakeNode, cursor: str) -> None:
    with pytest.raises(Refused, match="no cursor"):
        asked(node, logs.page, name="web", query={"before": cursor})


def test_a_worker_whose_output_is_not_kept_is_told_so(node: FakeNode) -> None:
    with pytest.raises(Refused, match="log = false"):
        asked(node, logs.page, name="quiet")


@pytest.mark.parametrize("name", ["../../etc", "..", ".hidden", "web/../web", "a\x00b"])
def test_no_name_leads_out_of_the_logs(node: FakeNode, name: str) -> None:
    with pytest.raises(Refused):
        asked(node, logs.page, name=name)


def test_the_log_of_holdfast_itself_can_be_read(node: FakeNode) -> None:
    leave_log(node, "holdfast", ["keeper: hello"])

    assert [line["text"] for line in asked(node, logs.page, name="holdfast")["lines"]] == [
        "keeper: hello"
    ]


def test_answers_are_json(node: FakeNode) -> None:
    """Everything that is answered goes through one encoder, which knows no NaN and no bytes."""
    leave_log(node, "web", ["\udcff broken"[1:]])
    node.write_samples("web", 3, 0.1)

    for function in (workers.worker, workers.chart, logs.page):
        json.dumps(asked(node, function, name="web"), allow_nan=False)
