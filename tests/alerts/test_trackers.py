"""Trackers of errors: what Sentry and Honeybadger are really sent for an incident, and that it is every incident, once."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from alerts.sinks import Sink
from holdfast.alerts.channels import crash, sentry
from holdfast.alerts.channels.channel import NotDelivered
from holdfast.alerts.channels.honeybadger import Honeybadger, notice
from holdfast.alerts.channels.sentry import Dsn, Sentry, event, limit_s
from holdfast.alerts.crashes import Crashes
from holdfast.core import alerting
from holdfast.linux import files
from holdfast.records import incidents
from node import SLOWNESS, wait_for

if TYPE_CHECKING:
    from alerts.conftest import Town

TIMEOUT_S = 5.0 * SLOWNESS
RECORD: dict[str, Any] = {
    "format": 1, "id": "2024-11-03-web-1", "key": "exit-7", "worker": "web", "component": "board", "kind": "crash",
    "title": 'worker "web": component "board" crashed: BoardError: no room', "opened_unix_s": 1_700_000_000.25, "start": 4, "pid": 4711,
    "lived_s": 12.5, "status": 70 << 8, "status_words": "exited with status 70", "fatal": "shop.errors.BoardError: no room",
    "findings": [{"says": "raised in place (board.py:31)"}], "changed": ["aiohttp 3.9.1 -> 3.9.2"],
    "cause": {
        "says": "crashed: BoardError: no room", "where": "/srv/shop/board.py:31 in place", "source": "raise BoardError('no room')",
        "frames": ["/srv/shop/board.py:31 in place", "/srv/v/lib/python3.11/site-packages/aiohttp/web.py:99 in handle"],
        "signature": "crash|shop.errors.BoardError|board.py:place|web.py:handle",
    },
}  # fmt: skip


def bundle(root: Path, **changes: Any) -> dict[str, Any]:
    """Lay a bundle down, and return the message about it."""
    record = {**RECORD, **changes}
    path = root / record["id"]
    path.mkdir(parents=True)
    (path / "incident.json").write_text(json.dumps(record))
    (path / "environment.json").write_text(
        '{"interpreter": {"version": "3.11.7"}, "hostname": "box"}'
    )
    row = json.loads(incidents.encode_row(record))
    (message,) = Crashes(0.0).messages([row], "clandeck-1", str(root))
    return message


def parsed(data: bytes) -> tuple[dict[str, Any], list[tuple[dict[str, Any], bytes]]]:
    """Take an envelope apart, to the byte: a head, and items whose heads say how long they are."""
    head, _, rest = data.partition(b"\n")
    items = []
    while rest:
        line, _, rest = rest.partition(b"\n")
        item = json.loads(line)
        payload, end = rest[: item["length"]], rest[item["length"] : item["length"] + 1]
        assert len(payload) == item["length"]
        assert end in (b"\n", b"")
        items.append((item, payload))
        rest = rest[item["length"] + 1 :]
    return json.loads(head), items


def test_sentry_gets_an_envelope_with_the_error_its_frames_and_its_fingerprint(
    tmp_path: Path,
) -> None:
    """Read as Relay reads it: lengths in bytes, the key in the header, the innermost frame last."""
    message = bundle(tmp_path, fatal="shop.errors.BoardError: kein Platz für zwölf")
    with Sink() as sink:
        dsn = f"http://k3y@127.0.0.1:{sink.port}/under/42"
        Sentry(dsn, "shop@1.2", "production", ["*"], TIMEOUT_S).deliver(message)
    (got,) = sink.received
    head, ((item, payload),) = parsed(got.body)
    found = json.loads(payload)
    (error,) = found["exception"]["values"]

    assert got.path == "/under/api/42/envelope/"
    assert got.headers["content-type"] == "application/x-sentry-envelope"
    assert re.fullmatch(
        r"Sentry sentry_version=7, sentry_client=holdfast/\S+, sentry_key=k3y",
        got.headers["x-sentry-auth"],
    )
    assert (item["type"], item["content_type"]) == ("event", "application/json")
    assert re.fullmatch("[0-9a-f]{32}", head["event_id"])
    assert found["event_id"] == head["event_id"]
    assert found["timestamp"] == "2023-11-14T22:13:20.250Z"
    assert (found["platform"], found["level"]) == ("python", "fatal")
    assert (found["release"], found["environment"], found["server_name"]) == (
        "shop@1.2",
        "production",
        "clandeck-1",
    )
    assert found["fingerprint"][-1] == RECORD["cause"]["signature"]
    assert found["tags"] == {
        "node": "clandeck-1",
        "worker": "web",
        "kind": "crash",
        "component": "board",
    }
    assert (error["module"], error["type"], error["value"]) == (
        "shop.errors",
        "BoardError",
        "kein Platz für zwölf",
    )
    assert error["mechanism"]["handled"] is False
    frames = error["stacktrace"]["frames"]
    assert [(one["function"], one["lineno"], one["in_app"]) for one in frames] == [
        ("handle", 99, False),
        ("place", 31, True),
    ]
    assert frames[-1]["context_line"] == "raise BoardError('no room')"
    assert frames[0]["filename"] == "aiohttp/web.py"
    assert found["contexts"]["runtime"]["version"] == "3.11.7"


def test_a_death_by_signal_is_named_by_it_and_two_of_one_cause_are_one_issue(
    tmp_path: Path,
) -> None:
    """No exception was raised, yet there is one thing that died again and again."""
    first = bundle(tmp_path / "a", status=11, fatal="Fatal Python error: Segmentation fault")
    second = bundle(
        tmp_path / "b",
        id="2024-11-03-web-2",
        status=11,
        fatal="Fatal Python error: Segmentation fault",
    )
    one, two = (event(crash.Crash(message), "", "") for message in (first, second))
    (error,) = one["exception"]["values"]

    assert (error["type"], error["value"]) == ("SIGSEGV", "Fatal Python error: Segmentation fault")
    assert error["mechanism"]["meta"]["signal"] == {"number": 11, "name": "SIGSEGV"}
    assert one["fingerprint"] == two["fingerprint"]
    assert one["event_id"] != two["event_id"]
    assert "release" not in one


def test_an_event_that_is_sent_twice_has_the_same_id(tmp_path: Path) -> None:
    """Killed between the delivery and the note about it: the other side knows it again."""
    message = bundle(tmp_path)

    assert crash.Crash(message).id == crash.Crash(json.loads(json.dumps(message))).id


def test_a_bundle_that_is_gone_leaves_what_the_message_says() -> None:
    row = json.loads(incidents.encode_row(RECORD))
    (message,) = Crashes(0.0).messages([row], "n", "/nowhere")

    (error,) = event(crash.Crash(message), "", "")["exception"]["values"]

    assert (error["type"], error["value"]) == ("crash", RECORD["title"])


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("60:transaction:key, 2700:default;error;security:organization", 2700.0),
        ("60::organization", 60.0),
        ("60:transaction:key", 0.0),
        ("", 0.0),
        ("soon:error", 0.0),
        ("7:error:key:quota:custom", 7.0),
    ],
)
def test_limits_are_read_as_they_are_documented(header: str, seconds: float) -> None:
    assert limit_s(header) == seconds


def test_a_limit_that_comes_with_a_success_is_kept_to(tmp_path: Path) -> None:
    """The next event waits in the outbox, not on the other side's patience."""
    message = bundle(tmp_path)
    with Sink() as sink:
        sink.answer = lambda _: (200, {"X-Sentry-Rate-Limits": "300:error:key"})
        channel = Sentry(f"http://k@127.0.0.1:{sink.port}/1", "", "", ["*"], TIMEOUT_S)
        channel.deliver(message)
        with pytest.raises(NotDelivered) as caught:
            channel.deliver(message)

    assert len(sink.received) == 1
    assert 200 < caught.value.after_s <= 300


@pytest.mark.parametrize(
    "text",
    ["", "https://sentry.io/1", "https://k3y@host/", "https://k3y@host/shop", "ftp://k3y@host/1"],
)
def test_what_is_no_dsn_is_refused_without_being_repeated(text: str) -> None:
    with pytest.raises(ValueError) as caught:
        Dsn(text)

    assert "k3y" not in str(caught.value)


def test_the_parser_of_sentry_itself_reads_our_envelope(tmp_path: Path) -> None:
    """Where its package is installed, its own reader is the judge."""
    theirs = pytest.importorskip("sentry_sdk.envelope")
    found = crash.Crash(bundle(tmp_path))

    read = theirs.Envelope.deserialize(
        sentry.envelope(found.id, event(found, "1", "test"), time.time())
    )

    assert read.headers["event_id"] == found.id
    assert read.get_event()["exception"]["values"][0]["type"] == "BoardError"


def test_honeybadger_gets_a_notice(tmp_path: Path) -> None:
    """The keys and types of its documentation: numbers of lines are texts, the innermost line is first."""
    message = bundle(tmp_path)
    with Sink() as sink:
        sink.answer = lambda _: 201
        Honeybadger("k3y", sink.url, "abc123", "", ["*"], TIMEOUT_S).deliver(message)
    (got,) = sink.received
    found = got.json

    assert got.path == "/v1/notices"
    assert (got.headers["x-api-key"], got.headers["content-type"], got.headers["accept"]) == (
        "k3y",
        "application/json",
        "application/json",
    )
    assert set(found) == {"notifier", "error", "request", "server"}
    assert set(found["notifier"]) == {"name", "url", "version"}
    assert (found["error"]["class"], found["error"]["message"]) == (
        "shop.errors.BoardError",
        "no room",
    )
    assert found["error"]["backtrace"][0] == {
        "number": "31", "file": "/srv/shop/board.py", "method": "place", "source": {"31": "raise BoardError('no room')"},
    }  # fmt: skip
    assert found["error"]["fingerprint"] == f"web|{RECORD['cause']['signature']}"
    assert re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", found["error"]["token"])
    assert (
        found["server"]["revision"],
        found["server"]["environment_name"],
        found["server"]["pid"],
    ) == ("abc123", "production", 4711)
    assert found["request"]["component"] == "web"
    assert found["request"]["context"]["changed"] == ["aiohttp 3.9.1 -> 3.9.2"]


def test_a_notice_stays_below_what_honeybadger_takes(tmp_path: Path) -> None:
    """An exception may quote a whole document."""
    found = notice(crash.Crash(bundle(tmp_path, fatal="ValueError: " + "x" * 900_000)), "", "")

    assert len(json.dumps(found)) < 262_144


def test_only_the_kinds_that_somebody_wants_and_never_an_alert(tmp_path: Path) -> None:
    message = bundle(tmp_path)
    channel = Sentry("https://k@h/1", "", "", ["oom", "cra*"], TIMEOUT_S)

    assert channel.wants(message)
    assert not channel.wants({**message, "kind": "memory_leak"})
    assert not channel.wants({**message, "change": alerting.TOLD_FIRING})


def test_every_incident_is_reported_once_wherever_the_process_is_killed(
    town: Town, sink: Sink
) -> None:
    """A crash that a restart healed pages nobody, and is in the tracker all the same; the pager gets none of it."""
    directory = town.state / "incidents"
    directory.mkdir()
    (town.state / "dsn").write_text(f"http://k@127.0.0.1:{sink.port}/7\n")
    town.configure(
        channel={
            "tracker": {"type": "sentry", "dsn_file": str(town.state / "dsn")},
            "pager": {"type": "webhook", "url": f"{sink.url}/hook"},
        }
    )

    def happens(number: int) -> None:
        record = {
            **RECORD,
            "id": f"2024-11-03-web-{number}",
            "key": f"exit-{number}",
            "opened_unix_s": time.time(),
        }
        files.append(str(town.state / "incidents/index.jsonl"), incidents.encode_row(record))

    old = {**RECORD, "id": "2023-01-01-web-1", "key": "exit-0", "opened_unix_s": 1.0}
    files.append(str(town.state / "incidents/index.jsonl"), incidents.encode_row(old))
    town.start()
    wait_for(lambda: (town.state / "alerts/alerts.db").exists(), "the first look")
    happens(1)
    wait_for(lambda: town.rows("delivered"), "the first report")
    town.kill()
    happens(2)
    town.start()
    wait_for(lambda: len(town.rows("delivered")) == 2, "the second report")

    events = [json.loads(parsed(one.body)[1][0][1]) for one in sink.at("/api/7/envelope/")]
    told = [one["contexts"]["holdfast"]["incident"] for one in events]
    assert told == ["2024-11-03-web-1", "2024-11-03-web-2"]
    assert sink.at("/hook") == []
