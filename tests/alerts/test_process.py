"""The alerts process itself: quick, and told exactly once wherever it is killed."""

from __future__ import annotations

import json
import random
import sqlite3
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from alerts.sinks import Received, Sink
from holdfast.alerts.channels.webhook import key_of, sign
from holdfast.alerts.store import Store
from holdfast.linux import files
from node import SLOWNESS, wait_for

if TYPE_CHECKING:
    from alerts.conftest import Town

pytestmark = pytest.mark.faults

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


def hook(sink: Sink, **more: Any) -> dict[str, Any]:
    return {"channel": {"hook": {"type": "webhook", "url": f"{sink.url}/hook", "timeout": 20}}, **more}  # fmt: skip


def told(sink: Sink) -> list[tuple[str, str]]:
    return [(one["change"], one["cause"]) for one in sink.messages()]


def test_what_nobody_can_remedy_is_delivered_within_five_seconds_and_signed(town: Town, sink: Sink) -> None:  # fmt: skip
    """The promise: from the fault to a person's phone, not five minutes, five seconds. And nothing of the secret in the log."""
    (town.state / "secret").write_text(f"{SECRET}\n")
    settings = hook(sink)
    settings["channel"]["hook"]["secret_file"] = str(town.state / "secret")
    town.configure(**settings)
    town.start()

    began_s = time.monotonic()
    town.flag("web", "crash_loop", "gave_up", "it died 6 times in 60 s")
    (got,) = wait_for(lambda: sink.at("/hook"), "the alert")
    took_s = time.monotonic() - began_s

    assert took_s < 5.0 * SLOWNESS
    name, stamp = got.headers["webhook-id"], got.headers["webhook-timestamp"]
    assert got.headers["webhook-signature"] == sign(key_of(SECRET), name, stamp, got.body)
    assert "it died 6 times in 60 s" in got.json["data"]["text"]
    wait_for(lambda: "delivered" in town.container.stdout(), "a line in the log")
    assert SECRET not in town.container.stdout() + town.container.stderr()


def test_killed_between_the_write_and_the_delivery_it_is_delivered_once(town: Town) -> None:
    """Nobody is at the other end yet, the row is written, the process is shot: the next life delivers it, under the same id."""
    with Sink() as absent:
        pass  # its port is free now, so not even half of a request can have arrived there
    town.configure(**hook(absent))
    town.start()
    town.flag("web", "crash_loop", "gave_up")
    ((message, _, _),) = wait_for(lambda: town.rows("waiting"), "a row that waits")
    town.kill()

    with Sink(absent.port) as sink:
        town.start()
        wait_for(lambda: town.rows("delivered"), "the delivery")

        assert [row[0] for row in town.rows()] == [message]
        assert [one.headers["webhook-id"] for one in sink.received] == [message]


def test_killed_between_the_delivery_and_its_mark_it_repeats_the_same_id(town: Town, sink: Sink) -> None:  # fmt: skip
    """Nobody can know here whether the other side has it: the id says that it is the same message."""

    def answer(_: Received) -> int:
        if town.n == 1:
            town.container.process.kill()  # taken, but we never hear of it
        return 200

    sink.answer = answer
    town.configure(**hook(sink))
    town.start()
    town.flag("web", "crash_loop", "gave_up")
    wait_for(lambda: town.container.process.poll() is not None, "the kill")

    town.start()
    wait_for(lambda: town.rows("delivered"), "the delivery")

    assert len(sink.at("/hook")) == 2
    assert told(sink) == [("firing", "web")]


def test_a_new_life_tells_nothing_twice_and_goes_on_where_the_old_one_was(town: Town, sink: Sink) -> None:  # fmt: skip
    town.configure(**hook(sink, calm=0.5))
    town.start()
    town.flag("web", "crash_loop", "gave_up")
    wait_for(lambda: town.rows("delivered"), "the alert")
    town.kill()

    town.clear("web", "crash_loop")
    town.start()
    wait_for(lambda: len(sink.messages()) > 1, "its end")

    assert told(sink) == [("firing", "web"), ("resolved", "web")]
    assert len(sink.at("/hook")) == 2


def test_shot_again_and_again_it_loses_nothing_and_repeats_nothing(town: Town, sink: Sink) -> None:
    """At random moments, while alerts come and go: each is told once from its beginning to its end."""
    chance = random.Random(7)
    town.configure(**hook(sink, calm=0.2, storm=100))
    for number in range(4):
        town.start()
        town.flag(f"w{number}", "crash_loop", "gave_up")
        if number:
            town.clear(f"w{number - 1}", "crash_loop")
        time.sleep(chance.uniform(0.0, 0.6))  # the moment of the kill is the point
        town.kill()
    town.clear("w3", "crash_loop")
    town.flag("last", "crash_loop", "gave_up")
    town.start()
    wait_for(lambda: ("firing", "last") in told(sink), "the last one")
    wait_for(lambda: not town.rows("waiting"), "an empty outbox")
    wait_for(lambda: len({c for _, c in told(sink)}) * 2 == len(told(sink)) + 1, "the end of all others")  # fmt: skip

    by_id = [one.headers["webhook-id"] for one in sink.at("/hook")]
    for cause in {cause for _, cause in told(sink)}:
        changes = [change for change, other in told(sink) if other == cause]
        assert changes == ["firing"] + ["resolved"] * (cause != "last")
    assert sorted(row[0] for row in town.rows()) == sorted(set(by_id))


def test_a_death_that_was_answered_by_a_good_restart_is_no_page(town: Town, sink: Sink) -> None:
    """The keeper's journal, not a flag: killed, back, well; and one that is left down is a page."""
    town.configure(**hook(sink, calm=0.2, digest=1))
    town.record(k="keeper", began_s=1.0, pid=1, unix_s=time.time())
    town.start()
    end = {"k": "exit", "role": "main", "cause": "died", "status": 9, "lived_s": 5.0, "unix_s": time.time()}  # fmt: skip
    town.record(worker="backend", n=1, next="restart", **end)
    town.record(k="ready", worker="backend", n=2, unix_s=time.time())
    town.record(worker="backend", n=2, next="down", **{**end, "unix_s": time.time()})

    wait_for(lambda: sink.messages(), "the page")

    (page,) = sink.messages()
    assert (page["change"], page["severity"], page["cause"]) == ("firing", "critical", "backend")
    assert "was killed by signal 9" in page["says"]


def test_a_channel_that_hangs_does_not_hold_up_the_other(town: Town, sink: Sink) -> None:
    """The mail server is stuck; the pager must not be."""
    gate = threading.Event()
    with Sink() as stuck:
        stuck.answer = lambda _: (gate.wait(60), 200)[1]
        town.configure(
            channel={
                "a": {"type": "webhook", "url": f"{stuck.url}/hook", "timeout": 60},
                "b": {"type": "webhook", "url": f"{sink.url}/hook"},
            }
        )
        town.start()
        town.flag("web", "crash_loop", "gave_up")

        wait_for(lambda: sink.messages(), "the alert on the channel that works")

        wait_for(lambda: len(town.rows("waiting")) == 1, "its mark")
        gate.set()


def test_a_cause_with_thirty_consequences_is_one_message(town: Town, sink: Sink) -> None:
    """The database is gone and thirty workers with it: one page, and it says who else."""
    town.configure(**hook(sink))
    town.start()
    names = [f"w{number}" for number in range(30)]
    plan = json.loads((town.run_dir / "plan.json").read_text())
    plan["workers"] += [{"name": "db"}, *({"name": name, "requires": ["db"]} for name in names)]
    files.write_atomic(str(town.run_dir / "plan.json"), json.dumps(plan).encode())
    town.flag("db", "failed_probe", "remedy")
    for name in names:
        town.flag(name, "crash_loop", "gave_up")

    wait_for(lambda: sink.messages(), "the page")
    for name in names:
        town.clear(name, "crash_loop")
    town.flag("end", "crash_loop", "gave_up")  # whatever is told of the others is told before
    wait_for(lambda: len(sink.messages()) > 1, "the last one")

    assert told(sink) == [("firing", "db"), ("firing", "end")]
    assert {one["cause"] for one in sink.messages()[0]["consequences"]} == set(names)


def test_a_secret_that_is_missing_breaks_its_channel_only(town: Town, sink: Sink) -> None:
    settings = hook(sink)
    settings["channel"]["pager"] = {"type": "pagerduty", "routing_key_env": "NO_SUCH_VARIABLE"}
    town.configure(**settings)
    town.start()
    town.flag("web", "crash_loop", "gave_up")

    wait_for(lambda: sink.messages(), "the alert")

    assert "the environment variable NO_SUCH_VARIABLE is not set" in town.container.stderr()


def test_wrong_settings_end_it_with_all_that_is_wrong_and_no_traceback(town: Town) -> None:
    town.configure(channel={"a": {"type": "webhok"}, "b": {"type": "webhook", "secret": "x"}}, hold=-1)  # fmt: skip
    town.container.start(1)

    status = town.container.wait_exit()

    said = town.container.stderr()
    assert status == 78
    assert "alerts.channel.a.type: 'webhok' is no type of channel" in said
    assert 'write "secret_env" or "secret_file"' in said.replace("\\", "")
    assert "alerts.hold: -1 is not a number" in said
    assert "Traceback" not in said


def test_a_damaged_file_is_set_aside_and_alerts_go_on(town: Town, sink: Sink) -> None:
    """Whatever happened to the disk: the alarm about it has to come."""
    (town.state / "alerts").mkdir()
    (town.state / "alerts/alerts.db").write_bytes(b"not a database at all" * 1000)
    town.configure(**hook(sink))
    town.start()
    town.flag("web", "crash_loop", "gave_up")

    wait_for(lambda: sink.messages(), "the alert")

    assert (town.state / "alerts/alerts.db.damaged").exists()


def test_without_a_place_to_write_alerts_go_out_all_the_same(town: Town, sink: Sink) -> None:
    """A full or broken disk is the very thing that people have to hear of."""
    (town.state / "alerts").write_text("a file where the directory should be")
    town.configure(**hook(sink))
    town.start()
    town.flag("@node", "disk_low", "gave_up", "2 % of the disk are free")

    wait_for(lambda: sink.messages(), "the alert")

    assert told(sink) == [("firing", "@node/disk")]
    assert len(sink.at("/hook")) == 1


def test_a_channel_that_took_nothing_for_a_day_is_told_to_the_others(town: Town, sink: Sink) -> None:  # fmt: skip
    """Somebody believes to be on call and is not."""
    with Sink() as broken:
        broken.answer = lambda _: 500
        town.configure(
            channel={
                "pager": {"type": "webhook", "url": f"{broken.url}/hook"},
                "team": {"type": "webhook", "url": f"{sink.url}/hook"},
            }
        )
        town.start()
        town.flag("web", "crash_loop", "gave_up")
        wait_for(lambda: len(town.rows("delivered")) == 1 and broken.received, "a delivery and a failure")  # fmt: skip
        wait_for(lambda: _attempts(town), "its mark")
        town.kill()
        connection = sqlite3.connect(town.state / "alerts/alerts.db")
        with connection:
            connection.execute("UPDATE outbox SET made_unix_s = made_unix_s - 90000 WHERE state = 'waiting'")  # fmt: skip
        connection.close()

        town.start()
        wait_for(lambda: len(told(sink)) == 2, "the word of it")

        assert told(sink)[1] == ("undelivered", "@alerts")
        assert "the channel pager has taken nothing since" in sink.messages()[1]["title"]
        # The page itself is not given up.
        wait_for(lambda: [row[1] for row in town.rows("waiting")] == ["firing"], "its mark")


def _attempts(town: Town) -> bool:
    connection = sqlite3.connect(town.state / "alerts/alerts.db", timeout=20)
    try:
        return bool(connection.execute("SELECT 1 FROM outbox WHERE state = 'waiting' AND attempts > 0").fetchone())  # fmt: skip
    finally:
        connection.close()


def test_orders_of_people_survive_a_kill(town: Town, sink: Sink) -> None:
    """Acknowledged while nothing runs: the next life knows it, and stays quiet."""
    town.configure(**hook(sink))
    town.start()
    town.flag("web", "crash_loop", "gave_up")
    wait_for(lambda: town.rows("delivered"), "the alert")
    town.kill()
    store = Store(str(town.state))
    number = store.ask("ack", {"alert": "web"})
    store.close()

    town.start()
    answer = wait_for(lambda: _answer(town, number), "the answer")

    assert answer["ok"]
    wait_for(lambda: told(sink) == [("firing", "web"), ("acknowledged", "web")], "the word of it")


def _answer(town: Town, number: int) -> Any:
    store = Store(str(town.state))
    try:
        return store.answer(number)
    except sqlite3.OperationalError:
        return None
    finally:
        store.close()
