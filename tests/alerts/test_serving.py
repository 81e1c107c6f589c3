"""One life of the alerts work, in this process: what would take a minute on the clock."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from alerts.sinks import Sink
from holdfast.alerts import serving, settings
from holdfast.alerts.channels.alertmanager import REFRESH_S
from node import wait_for

if TYPE_CHECKING:
    from alerts.conftest import Town


def test_alertmanager_hears_of_an_open_alert_again_and_again(town: Town, sink: Sink) -> None:
    """There an alert ends by itself when nobody speaks of it: silence would look like a cure."""
    made = settings.read({"channel": {"am": {"type": "alertmanager", "url": sink.url}}}, {})
    (town.run_dir / "plan.json").write_text(json.dumps({"node": "t", "workers": []}))
    town.flag("web", "crash_loop", "gave_up")
    desk = serving.Desk(str(town.run_dir), str(town.state), made, lambda *_a, **_k: None)
    desk.turn()
    wait_for(lambda: len(sink.received) == 1, "the alert")

    desk._refreshed_s -= REFRESH_S
    desk.turn()
    wait_for(lambda: len(sink.received) == 2, "the alert again")

    first, again = (one.json[0] for one in sink.received)
    assert first["labels"] == again["labels"]
    assert first["startsAt"] == again["startsAt"]
    assert first["endsAt"] < again["endsAt"]


def test_a_plan_that_cannot_be_read_is_said_once_and_keeps_no_alert_back(town: Town, sink: Sink) -> None:  # fmt: skip
    """Four lines a second would bury what matters."""
    said: list[str] = []
    made = settings.read({"channel": {"h": {"type": "webhook", "url": f"{sink.url}/hook"}}}, {})
    town.flag("web", "crash_loop", "gave_up")
    desk = serving.Desk(str(town.run_dir), str(town.state), made, lambda *words, **_: said.append(words[1]))  # fmt: skip

    for _ in range(5):
        desk.turn()

    wait_for(lambda: sink.messages(), "the alert")
    assert len([line for line in said if "the plan cannot be read" in line]) == 1
