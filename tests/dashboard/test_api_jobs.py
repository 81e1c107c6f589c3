"""The queues of a node in the browser: the figures and changes of `holdfast jobs`."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

pytest.importorskip("starlette", reason="needs holdfast[dashboard]")

from cli.fake_node import FakeNode, planned
from cli.queue_hands import OWNER, die, push, take
from dashboard.seen import asked
from holdfast.dashboard.access import audit
from holdfast.dashboard.api import jobs
from holdfast.dashboard.asking import Refused
from holdfast.jobs.opening import open_store

if TYPE_CHECKING:
    from holdfast.jobs.store import Store


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite://{tmp_path}/jobs.db"


@pytest.fixture
def node(url: str) -> Iterator[FakeNode]:
    with FakeNode(
        planned("mail", jobs={"store": url, "prefix": "", "role": "worker", "family": "mail"})
    ) as made:
        yield made.up()


@pytest.fixture
def store(url: str) -> "Iterator[Store]":
    made = open_store(url)
    made.register(OWNER, 60.0)
    yield made
    made.close()


def test_figures_are_those_of_the_queue(node: FakeNode, store: "Store") -> None:
    push(store)
    push(store, queue="mail")
    push(store, at_s=time.time() + 600)
    take(store)
    die(store, queue="other")

    (found,) = asked(node, jobs.stores)["stores"]

    queues = {one["name"]: (one["waiting"], one["busy"]) for one in found["queues"]}
    assert (queues["default"], queues["mail"]) == ((0, 1), (1, 0))
    counts = {key: found["counts"][key] for key in ("busy", "scheduled", "dead", "retries")}
    assert counts == {"busy": 1, "scheduled": 1, "dead": 1, "retries": 0}
    json.dumps(found, allow_nan=False)


def test_the_dead_are_listed_with_what_killed_them(node: FakeNode, store: "Store") -> None:
    jid = die(store, "shop.send", 7)

    found = asked(node, jobs.listed, query={"state": "dead"})

    (row,) = found["rows"]
    assert (row["jid"], row["class"], row["about"]) == (jid, "shop.send", "7")
    assert row["trouble"] == "ValueError: no such page at all"
    assert found["total"] == 1


def test_the_page_of_a_job_says_what_may_be_done(node: FakeNode, store: "Store") -> None:
    jid = die(store)
    running = push(store)
    take(store)

    assert asked(node, jobs.job, id=jid)["may"] == ["retry", "delete"]
    assert asked(node, jobs.job, id=running)["may"] == []
    with pytest.raises(Refused, match="there is no job") as caught:
        asked(node, jobs.job, id="f" * 24)
    assert caught.value.status == 404


def test_a_retry_puts_a_dead_job_back_once_and_is_on_record(node: FakeNode, store: "Store") -> None:
    jid = die(store)

    first = asked(node, jobs.change, body={"do": "retry", "ids": [jid, "f" * 24]})
    again = asked(node, jobs.change, body={"do": "retry", "ids": [jid]})

    assert (first["done"], again["done"]) == (1, 0)
    assert first["says"].startswith("1 job retried; 1 not")
    assert [entry.where for entry in store.page("queue:default")] == ["queue:default"]
    assert [(one["what"], one["result"]) for one in audit.read(node.state_dir)] == [
        ("retry jobs", "1 of 2"),
        ("retry jobs", "0 of 1"),
    ]


def test_a_running_job_is_not_deleted(node: FakeNode, store: "Store") -> None:
    jid = push(store)
    take(store)

    assert asked(node, jobs.change, body={"do": "delete", "ids": [jid]})["done"] == 0
    assert store.find(jid) is not None


def test_a_queue_is_paused_and_goes_on(node: FakeNode, store: "Store") -> None:
    push(store)

    asked(node, jobs.change, body={"do": "pause", "queue": "default"})
    assert store.counts().queues["default"][2]
    asked(node, jobs.change, body={"do": "resume", "queue": "default"})
    assert not store.counts().queues["default"][2]
    with pytest.raises(Refused, match="there is no queue"):
        asked(node, jobs.change, body={"do": "pause", "queue": "nothing"})


@pytest.mark.parametrize("body", [{"do": "wipe"}, {"do": "retry"}, {"do": "retry", "ids": []}, {"do": "delete", "ids": "all"}, {"do": "delete", "ids": [1]}, {}])  # fmt: skip
def test_nonsense_is_refused(node: FakeNode, store: "Store", body: "dict[str, object]") -> None:
    del store
    with pytest.raises(Refused) as caught:
        asked(node, jobs.change, body=body)
    assert caught.value.status == 400


@pytest.mark.parametrize("query", [{}, {"state": "gone"}])
def test_a_list_of_nothing_is_refused(node: FakeNode, query: dict[str, str]) -> None:
    with pytest.raises(Refused):
        asked(node, jobs.listed, query=query)


def test_a_node_without_a_queue_has_no_store() -> None:
    with FakeNode(planned("web")) as made:
        assert asked(made.up(), jobs.stores) == {"stores": []}
        assert asked(made, jobs.listed, query={"state": "dead"}) == {"rows": [], "total": 0}


def test_a_store_that_is_away_is_told_without_its_password() -> None:
    url = "redis://:topsecret@127.0.0.1:1/0"
    with FakeNode(planned("mail", jobs={"store": url, "prefix": "", "role": "worker"})) as made, pytest.raises(Refused) as caught:  # fmt: skip
        asked(made.up(), jobs.stores)

    assert caught.value.status == 503
    assert "topsecret" not in repr(caught.value.to_json())
