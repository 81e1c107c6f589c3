"""What a person orders by a button, and what is written down about it."""

import json
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("starlette", reason="needs holdfast[dashboard]")

from cli.fake_node import FakeNode, planned
from dashboard.seen import ANN, asked
from holdfast.alerts.store import DIRECTORY, Store
from holdfast.dashboard.access import audit
from holdfast.dashboard.api import alerts, machine, orders
from holdfast.dashboard.asking import Accepted, Refused
from holdfast.linux import locks
from node import wait_for


@pytest.fixture
def node() -> Iterator[FakeNode]:
    components = [{"name": "front", "use": "a:b"}, {"name": "back", "use": "a:b"}]
    with FakeNode(planned("web", kind="container", components=components), planned("mail")) as made:
        yield made.up()


def carried_out(site: Any, answer: Any) -> dict[str, Any]:
    """Wait until an order is over, and return what became of it."""
    assert isinstance(answer, Accepted)

    def look() -> Any:
        found = site.orders.get(answer.body["order"])
        return found if found["state"] != orders.UNDER_WAY else None

    found: dict[str, Any] = wait_for(look, "the order to be over", 30.0)
    return found


def test_an_order_is_carried_out_seen_and_on_record(node: FakeNode) -> None:
    """The page says what was seen, as a terminal does; the audit says who wanted it."""

    def stop(request: dict[str, Any]) -> dict[str, Any]:
        node.workers["web"] |= {"state": "down", "pid": None, "up": False}
        return {"state": "down"} | ({"by": request["by"]})

    node.on["stop"] = stop

    found = asked(node, orders.give, body={"do": "stop", "worker": "web"}, then=carried_out)

    assert (found["state"], found["by"]) == ("done", "ann")
    assert found["says"].startswith("web: stopped")
    (entry,) = audit.read(node.state_dir)
    assert (entry["who"], entry["what"], entry["target"]) == ("ann", "stop", "web")
    assert entry["result"].startswith("done: web: stopped")
    assert next(one for one in node.requests if one["do"] == "stop")["worker"] == "web"


def test_an_order_that_the_keeper_refuses_has_failed_and_says_why(node: FakeNode) -> None:
    node.on["restart"] = lambda _: {"ok": False, "error": "the node is being taken down"}

    found = asked(node, orders.give, body={"do": "restart", "worker": "mail"}, then=carried_out)

    assert (found["state"], found["says"]) == ("failed", "the node is being taken down")
    assert audit.read(node.state_dir)[0]["result"] == "failed: the node is being taken down"


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        ({"do": "rm", "worker": "web"}, 400, "no order"),
        ({"do": "restart", "worker": "nobody"}, 404, "no worker"),
        ({"do": "restart"}, 404, "no worker"),
        ({"do": "restart", "worker": "web", "component": "nothing"}, 404, "no component"),
        ({"do": "restart", "worker": ["web"]}, 400, "has to be a text"),
        ({"do": "isolate", "worker": "web"}, 400, "which component"),
        ({"do": "profile", "worker": "web", "for_s": 1e9}, 400, "number of seconds"),
        ({"do": "profile", "worker": "web", "for_s": True}, 400, "number of seconds"),
        ({"do": "restart", "worker": "--help"}, 404, "no worker"),
        ({}, 400, "no order"),
    ],
)
def test_nonsense_is_refused_before_anything_is_started(
    node: FakeNode, body: dict[str, Any], status: int, says: str
) -> None:
    """A name goes onto a command line: only one that the plan has ever gets there."""
    with pytest.raises(Refused, match=says) as caught:
        asked(node, orders.give, body=body)

    assert caught.value.status == status
    assert audit.read(node.state_dir) == []


def left_by(node: FakeNode, pid: int, *whats: tuple[str, str]) -> "list[str]":
    """Write entries down as a process that did not live to finish them."""
    book = audit.Audit(node.state_dir)
    entries = [book.note(ANN, what, target) for what, target in whats]
    path = Path(book.path)
    path.write_text(path.read_text().replace(f'"pid":{os.getpid()}', f'"pid":{pid}'))
    return entries


def test_what_a_killed_life_left_open_is_finished_by_the_next(node: FakeNode) -> None:
    """Its own restart kills who carries it out; that the next life begins is how it ended. Of all else nobody knows, and that is what it says."""
    gone = subprocess.Popen(["true"])
    gone.wait()
    own, other = left_by(node, gone.pid, ("restart", "dashboard"), ("restart", "web"))
    book = audit.Audit(node.state_dir)
    mine = book.note(ANN, "stop", "mail")

    book.close_left("dashboard")
    book.close_left("dashboard")  # killed right here, it is done again

    results = {one["entry"]: one["result"] for one in audit.read(node.state_dir)}
    assert results == {own: audit.OWN_END, other: audit.UNSEEN_END, mine: None}
    assert len(Path(book.path).read_text().splitlines()) == 5


def test_a_page_that_waits_for_an_order_of_the_life_before_is_told_how_it_ended(node: FakeNode) -> None:  # fmt: skip
    gone = subprocess.Popen(["true"])
    gone.wait()
    own, entered = left_by(node, gone.pid, ("restart", "dashboard"), ("enter", ""))
    found = asked(node, orders.look, id=own)
    assert (found["state"], found["worker"]) == (orders.UNDER_WAY, "dashboard")

    audit.Audit(node.state_dir).close_left("dashboard")

    found = asked(node, orders.look, id=own)
    assert (found["state"], found["says"]) == (
        orders.DONE,
        "the dashboard was ended, and runs again",
    )
    for nothing in (entered, "nothing"):
        with pytest.raises(Refused, match="no such order"):
            asked(node, orders.look, id=nothing)


def test_the_same_order_twice_is_one_and_there_is_a_bound() -> None:
    book = orders.Orders()
    for number in range(4):
        book.begin(
            {
                "order": str(number),
                "do": "restart",
                "worker": f"w{number}",
                "state": orders.UNDER_WAY,
            }
        )

    with pytest.raises(Refused, match="under way already"):
        book.begin({"order": "x", "do": "restart", "worker": "w1", "state": orders.UNDER_WAY})
    with pytest.raises(Refused, match="4 orders") as caught:
        book.begin({"order": "x", "do": "stop", "worker": "w1", "state": orders.UNDER_WAY})
    assert caught.value.status == 429
    book.end("1", orders.DONE, "done", None)
    book.begin({"order": "x", "do": "restart", "worker": "w1", "state": orders.UNDER_WAY})


def test_a_command_of_ours_does_not_look_like_a_life_of_the_dashboard(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A keeper that died in the middle of a start looks for processes by these marks, and would adopt it as the dashboard."""
    for name in (
        "HOLDFAST_START",
        "HOLDFAST_WORKER",
        "HOLDFAST_RUN",
        "NOTIFY_SOCKET",
        "LISTEN_FDS",
    ):
        monkeypatch.setenv(name, "mark")
    given: dict[str, Any] = {}

    class Started(Exception):  # noqa: N818
        pass

    def started(_: list[str], **more: Any) -> None:
        given.update(more["env"])
        raise Started

    monkeypatch.setattr("holdfast.dashboard.api.orders.subprocess.Popen", started)
    with pytest.raises(Started):
        orders.run(["status"], 1.0)

    assert "mark" not in given.values()
    assert given["PATH"] == os.environ["PATH"]


def test_a_profile_that_is_unknown_is_told_so(node: FakeNode) -> None:
    for name in ("0123456789ab", "..", "a/b"):
        with pytest.raises(Refused, match="no such profile"):
            asked(node, orders.result, id=name)


def test_what_a_command_said_becomes_one_sentence() -> None:
    trouble = 'web (pid 7): taking samples for 5s …\nno profile of worker "web": not allowed\n  holdfast doctor\n'
    hot = json.dumps(
        {
            "samples": 250,
            "seconds": 5.0,
            "hot": {"where": "a.py in f", "share": 0.5},
            "functions": [{"own": 0.5, "total": 1.0, "function": "f"}],
        }
    )

    says, more = orders.told("profile", "", trouble, is_done=False)
    assert says == 'no profile of worker "web": not allowed'
    assert more is not None
    assert "holdfast doctor" in more["text"]
    says, more = orders.told("profile", hot, "", is_done=True)
    assert says == "250 samples in 5 s; 50% of the time: a.py in f"


def test_old_profiles_make_room(tmp_path: Path) -> None:
    for at in range(25):
        (tmp_path / f"{at}.json").write_text("{}")
        os.utime(tmp_path / f"{at}.json", (at, at))

    orders._tidy(str(tmp_path))

    assert sorted(int(path.stem) for path in tmp_path.iterdir()) == list(range(5, 25))


# -- alerts ----------------------------------------------------------------------------------------


def open_alert(node: FakeNode) -> str:
    alert = {
        "id": "a1b2", "cause": "web", "state": "firing", "severity": "error", "since_unix_s": 5.0, "snoozed_until_unix_s": 0.0, "signs": [],
        "incidents": [], "members": ["web"],
    }  # fmt: skip
    store = Store(node.state_dir)
    store.save({"rules": json.dumps({"alerts": [alert]})}, [], [])
    store.close()
    return "a1b2"


def test_open_alerts_are_part_of_the_state(node: FakeNode) -> None:
    name = open_alert(node)

    found = asked(node, lambda site, _: site.view.state["alerts"])

    assert [(one["id"], one["cause"]) for one in found] == [(name, "web")]


def test_an_acknowledgement_is_done_by_the_process_that_sends(node: FakeNode) -> None:
    """Here nobody sends, so it is written down for who comes, and the person is told that it is not done yet."""
    name = open_alert(node)

    with pytest.raises(Exception, match="does not run"):
        asked(node, alerts.change, body={"do": "ack"}, id=name)

    store = Store(node.state_dir)
    ((_, what, body),) = store.requests()
    store.close()
    assert (what, body) == ("ack", {"alert": name})
    assert audit.read(node.state_dir)[0]["result"].startswith(
        "refused: the alerts process does not run"
    )


def test_a_snooze_is_answered_with_the_alert_as_it_is_now(node: FakeNode) -> None:
    name = open_alert(node)
    held = locks.take(f"{node.state_dir}/{DIRECTORY}/alerts.lock")
    assert held is not None
    store = Store(node.state_dir)

    def change(site: Any, ask: Any) -> Any:
        from threading import Thread

        def answer() -> None:
            number = wait_for(lambda: [one for one, _, _ in store.requests()], "the request")[0]
            alert = {"id": name, "cause": "web", "state": "snoozed", "severity": "error", "since_unix_s": 5.0,
                     "snoozed_until_unix_s": 9.0, "signs": [], "incidents": [], "members": []}  # fmt: skip
            store.save({}, [], [(number, {"ok": True, "alert": alert})])
            store.close()

        thread = Thread(target=answer)
        thread.start()
        try:
            return alerts.change(site, ask)
        finally:
            thread.join()

    try:
        found = asked(node, change, body={"do": "snooze", "for_s": 600}, id=name)
    finally:
        os.close(held)
        locks.forget(f"{node.state_dir}/{DIRECTORY}/alerts.lock")

    assert found["alert"]["state"] == "snoozed"
    assert audit.read(node.state_dir)[0]["result"] == "snoozed"


@pytest.mark.parametrize("body", [{"do": "close"}, {"do": "snooze"}, {"do": "snooze", "for_s": "1h"}, {"do": "snooze", "for_s": 1e12}, {}])  # fmt: skip
def test_nonsense_about_an_alert_is_refused(node: FakeNode, body: dict[str, Any]) -> None:
    open_alert(node)
    with pytest.raises(Refused) as caught:
        asked(node, alerts.change, body=body, id="a1b2")
    assert caught.value.status == 400


def test_who_never_sent_an_alert_has_none_to_acknowledge(node: FakeNode) -> None:
    with pytest.raises(Refused, match="no alert was ever sent"):
        asked(node, alerts.change, body={"do": "ack"}, id="x")
    assert not os.path.exists(f"{node.state_dir}/{DIRECTORY}")


# -- the machine -----------------------------------------------------------------------------------


def test_the_machine_says_who_uses_it_and_which_of_them_are_workers(node: FakeNode) -> None:
    began = time.monotonic()
    while time.monotonic() - began < 0.02:
        pass  # so that this process has used something

    found = asked(node, machine.machine)

    assert found["disk"][0]["total_bytes"] > 0
    assert found["memory"]["total_bytes"] > 0
    ours = [row for row in found["top"] if row["worker"]]
    assert {row["pid"] for row in ours} <= {os.getpid()}
    assert any("the machine was booted" in row["says"] for row in found["changed"])
    json.dumps(found, allow_nan=False)


def test_command_lines_are_shown_without_their_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    """Passwords stand on command lines."""
    lines = {
        1: ["/usr/bin/mysqld", "--password=topsecret"], 2: ["/v/bin/python3", "-X", "dev", "-m", "shop", "--key", "topsecret"],
        3: ["python", "-P", "/srv/holdfast/container/__main__.py"], 4: ["python", "-c", "topsecret"], 5: ["nginx: worker topsecret"], 6: [],
    }  # fmt: skip
    monkeypatch.setattr("holdfast.dashboard.api.machine.procfs.command_line", lines.__getitem__)

    assert [machine._command(pid) for pid in lines] == [
        "mysqld", "python3 -m shop", "python container/__main__.py", "python -c …", "nginx:", "",
    ]  # fmt: skip


def test_a_configuration_that_is_not_in_effect_is_said(node: FakeNode) -> None:
    os.utime(node.config, (time.time() + 5, time.time() + 5))

    found = asked(node, machine.machine)

    assert any("not in effect yet" in row["says"] for row in found["changed"])
