"""`holdfast alerts` as a person types it, over a real alerts process."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from holdfast.cli.main import main
from node import wait_for

if TYPE_CHECKING:
    from alerts.conftest import Town
    from alerts.sinks import Sink

pytestmark = pytest.mark.faults

JSON = Path(__file__).parents[2] / "docs/reference/json.md"


class Person:
    """Somebody at a terminal."""

    def __init__(self, town: Town, capsys: pytest.CaptureFixture[str]) -> None:
        self.town = town
        self.capsys = capsys

    def types(self, *words: str, status: int = 0) -> str:
        self.capsys.readouterr()
        assert main(["alerts", *words, "--state", str(self.town.state)]) == status
        out, err = self.capsys.readouterr()
        return out if status == 0 else err

    def asks(self, *words: str) -> Any:
        return json.loads(self.types(*words, "--json"))


@pytest.fixture
def person(town: Town, capsys: pytest.CaptureFixture[str]) -> Person:
    return Person(town, capsys)


def begun(town: Town, sink: Sink) -> None:
    town.configure(channel={"hook": {"type": "webhook", "url": f"{sink.url}/hook"}})
    town.start()
    town.flag("web", "crash_loop", "gave_up", "it died 6 times in 60 s")
    wait_for(lambda: town.rows("delivered"), "the alert")


def test_an_alert_is_listed_acknowledged_and_snoozed(town: Town, sink: Sink, person: Person) -> None:  # fmt: skip
    begun(town, sink)

    listed = person.types()
    assert "critical  web  firing" in listed
    assert "it died 6 times in 60 s" in listed
    assert person.types("ack", "web") == "web: acknowledged\n"
    assert person.types("snooze", "web", "2h") == "web: snoozed for 2h\n"
    (alert,) = person.asks("list")["alerts"]
    assert alert["state"] == "snoozed"
    outbox = person.asks("outbox")
    assert {one["change"] for one in outbox["messages"]} == {"firing", "acknowledged", "snoozed"}
    explained = set(re.findall(r"\w+", JSON.read_text().split("## holdfast alerts")[1].split("\n## ")[0]))  # fmt: skip
    assert set(alert) | set(outbox) | set(outbox["messages"][0]) <= explained


def test_a_mistyped_alert_is_answered_with_the_one_that_was_meant(town: Town, sink: Sink, person: Person) -> None:  # fmt: skip
    begun(town, sink)

    assert 'Did you mean "web"?' in person.types("ack", "wbe", status=2)
    assert "is not a span of time" in person.types("snooze", "web", "soon", status=2)


def test_a_channel_is_tested_by_the_process_that_will_have_to_use_it(town: Town, sink: Sink, person: Person) -> None:  # fmt: skip
    """With its environment and its secrets: a test from a shell proves nothing about the pager at night."""
    begun(town, sink)

    assert person.types("test", "hook").startswith("hook: delivered in ")
    assert [one["change"] for one in sink.messages()] == ["firing", "test"]
    assert "there are: hook" in person.types("test", "hok", status=2)
    sink.answer = lambda _: 404
    assert "not delivered: 127.0.0.1 answered 404" in person.types("test", "hook", status=1)


def test_looking_needs_no_process_and_orders_wait_for_one(town: Town, sink: Sink, person: Person) -> None:  # fmt: skip
    assert person.types() == "no open alerts\n"
    begun(town, sink)
    town.kill()

    assert "web  firing" in person.types()
    assert person.asks()["pid"] is None
    assert "would prove nothing" in person.types("test", "hook", status=1)
    assert "written down and done when it does" in person.types("ack", "web", status=1)
    town.start()
    wait_for(lambda: "web  acknowledged" in person.types(), "the order of before")
