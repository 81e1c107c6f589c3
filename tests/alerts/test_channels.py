"""What each channel really puts on the wire, to servers on loopback."""

from __future__ import annotations

import base64
import email
import email.policy
import hashlib
import hmac
import json
import os
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest

from alerts.sinks import MailSink, Sink
from holdfast.alerts import deadman, wording
from holdfast.alerts.channels.alertmanager import Alertmanager
from holdfast.alerts.channels.channel import NotDelivered
from holdfast.alerts.channels.command import Command
from holdfast.alerts.channels.mail import Mail
from holdfast.alerts.channels.other import Apprise
from holdfast.alerts.channels.pagerduty import PagerDuty
from holdfast.alerts.channels.webhook import Webhook, key_of, sign
from holdfast.alerts.settings import DeadMan
from holdfast.core import alerting
from holdfast.core.alerting import Alert, Notice, Sign
from node import SLOWNESS, wait_for
from router.peers import tls_files

if TYPE_CHECKING:
    from pathlib import Path

SECRET = "whsec_" + base64.b64encode(b"k" * 32).decode()
TIMEOUT_S = 5.0 * SLOWNESS


def message(change: str = alerting.TOLD_FIRING, says: str = "was killed by signal 9") -> dict[str, Any]:  # fmt: skip
    alert = Alert("web", 10.0, 1_700_000_000.0)
    alert.signs = [Sign("web", "death", alerting.HOPELESS, says, "2024-11-03-web-1").to_json()]
    alert.incidents = ["2024-11-03-web-1"]
    notice = Notice(f"{alert.id}-1", change, "critical", 1_700_000_003.5, alert)
    return wording.message(notice, "clandeck-1", {"2024-11-03-web-1": f'worker "web": {says}'}, str)


def test_a_webhook_is_signed_as_standard_webhooks_has_it() -> None:
    """The receiver recomputes the signature over the very bytes that came, with each of its keys."""
    new, old = key_of(SECRET), b"o" * 24
    with Sink() as sink:
        channel = Webhook(f"{sink.url}/hook", [SECRET, base64.b64encode(old).decode()], {}, TIMEOUT_S)  # fmt: skip
        channel.deliver(message())
    (got,) = sink.received

    assert abs(int(got.headers["webhook-timestamp"]) - time.time()) < 60 * SLOWNESS
    for key, given in zip((new, old), got.headers["webhook-signature"].split(" "), strict=True):
        signed = f"{got.headers['webhook-id']}.{got.headers['webhook-timestamp']}.".encode()
        digest = hmac.new(key, signed + got.body, hashlib.sha256).digest()
        assert given == "v1," + base64.b64encode(digest).decode()
    assert got.json["type"] == "alert.firing"
    assert got.json["timestamp"] == "2023-11-14T22:13:23.500Z"
    assert got.json["data"]["incident"] == "2024-11-03-web-1"


def test_the_signature_is_that_of_the_reference_libraries() -> None:
    """The vector that the specification's own libraries are tested with."""
    key = key_of("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")

    given = sign(key, "msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", b'{"test": 2432232314}')

    assert given == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_a_refusal_names_the_host_and_never_the_path() -> None:
    """The path of many a webhook is its secret, and errors go into logs and on screens."""
    for status, is_refused in ((404, True), (410, True), (500, False), (302, False)):
        with Sink() as sink:
            sink.answer = lambda _, status=status: (status, {"Location": "/elsewhere"})  # type: ignore[misc]
            with pytest.raises(NotDelivered) as caught:
                Webhook(f"{sink.url}/s3cr3t", [], {}, TIMEOUT_S).deliver(message())
        assert str(caught.value) == f"127.0.0.1 answered {status}"
        assert caught.value.is_refused is is_refused
        assert [one.path for one in sink.received] == ["/s3cr3t"]  # no redirect was followed
    with Sink() as gone:
        pass
    with pytest.raises(NotDelivered) as caught:
        Webhook(f"{gone.url}/s3cr3t", [], {}, TIMEOUT_S).deliver(message())
    assert "s3cr3t" not in str(caught.value)


def test_who_asks_for_a_pause_gets_it() -> None:
    with Sink() as sink:
        sink.answer = lambda _: (429, {"Retry-After": "77"})
        with pytest.raises(NotDelivered) as caught:
            Webhook(sink.url, [], {}, TIMEOUT_S).deliver(message())

    assert caught.value.after_s == 77.0


def test_pagerduty_gets_trigger_acknowledge_and_resolve_under_one_key() -> None:
    with Sink() as sink:
        sink.answer = lambda _: 202
        channel = PagerDuty("R0UT1NG", f"{sink.url}/v2/enqueue", TIMEOUT_S)
        for change in (alerting.TOLD_FIRING, alerting.TOLD_ACK, alerting.TOLD_RESOLVED):
            channel.deliver(message(change))
    events = [one.json for one in sink.received]

    assert [one["event_action"] for one in events] == ["trigger", "acknowledge", "resolve"]
    assert len({one["dedup_key"] for one in events}) == 1
    assert events[0]["payload"]["severity"] == "critical"
    assert events[0]["payload"]["source"] == "clandeck-1"
    assert all(one["routing_key"] == "R0UT1NG" for one in events)
    assert not channel.wants({"change": alerting.TOLD_DIGEST})


def test_alertmanager_sees_one_alert_that_ends() -> None:
    """Its identity are the labels: if they changed with the severity, the resolved one would be another alert."""
    with Sink() as sink:
        channel = Alertmanager(sink.url, {"team": "web"}, {}, TIMEOUT_S)
        channel.deliver(message())
        channel.deliver({**message(alerting.TOLD_RESOLVED), "severity": "error", "title": "other"})
    first, last = (one.json[0] for one in sink.at("/api/v2/alerts"))

    assert first["labels"] == last["labels"]
    assert first["labels"]["team"] == "web"
    assert first["startsAt"] == last["startsAt"] == "2023-11-14T22:13:20.000Z"
    assert first["endsAt"] > "2025"  # it lasts until nobody speaks of it any more
    assert last["endsAt"] == "2023-11-14T22:13:23.500Z"


def test_a_mail_is_one_however_often_it_is_sent_and_nobody_writes_into_its_headers() -> None:
    """Titles come from programs that went wrong; a line break in one must not become a header."""
    with MailSink() as sink:
        channel = Mail("127.0.0.1", sink.port, "none", "", "", "hf@example.com", ["a@example.com", "b@example.com"], TIMEOUT_S)  # fmt: skip
        nasty = message(says="ended\r\nBcc: evil@example.com")
        channel.deliver(nasty)
        channel.deliver(nasty)
    first, second = (email.message_from_string(one, policy=email.policy.default) for one in sink.mails)  # fmt: skip

    assert first["Message-ID"] == second["Message-ID"]
    assert first["Bcc"] is None
    assert first["Subject"].startswith("[critical] clandeck-1: worker web: ended")
    assert "holdfast incident 2024-11-03-web-1" in first.get_content()
    assert first["Auto-Submitted"] == "auto-generated"


def test_a_mail_server_without_encryption_gets_no_password() -> None:
    with MailSink(("AUTH PLAIN LOGIN",)) as sink:
        channel = Mail("127.0.0.1", sink.port, "starttls", "me", "p4ssw0rd", "hf@example.com", ["a@example.com"], TIMEOUT_S)  # fmt: skip
        with pytest.raises(NotDelivered) as caught:
            channel.deliver(message())

    assert "p4ssw0rd" not in str(caught.value)
    assert sink.mails == []
    assert not [line for line in sink.lines if line.startswith("AUTH")]


def test_a_mailbox_that_is_full_is_asked_again_and_one_that_is_not_there_rarely() -> None:
    for refusal in ("452 full", "550 nobody here"):
        with MailSink() as sink:
            sink.refusal = refusal
            channel = Mail("127.0.0.1", sink.port, "none", "", "", "hf@example.com", ["a@example.com"], TIMEOUT_S)  # fmt: skip
            with pytest.raises(NotDelivered) as caught:
                channel.deliver(message())
        assert caught.value.is_refused is refusal.startswith("5")


def test_who_has_a_mail_does_not_get_it_again_because_somebody_else_was_refused() -> None:
    with MailSink() as sink:
        channel = Mail("127.0.0.1", sink.port, "none", "", "", "hf@example.com", ["a@example.com", "b@example.com"], TIMEOUT_S)  # fmt: skip
        sink.refusal, sink.refused = "450 later", "b@"
        with pytest.raises(NotDelivered, match="refuses b@example"):
            channel.deliver(message())
        sink.refusal = ""
        channel.deliver(message())

    asked = [line for line in sink.lines if line.upper().startswith("RCPT")]
    assert [line.partition("<")[2][:2] for line in asked] == ["a@", "b@", "b@"]
    assert len(sink.mails) == 2


def test_a_mail_goes_out_encrypted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """STARTTLS with a certificate that is checked; the password only after it."""
    certificate, key = tls_files(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", certificate)
    with MailSink(("STARTTLS", "AUTH PLAIN"), tls=(certificate, key)) as sink:
        channel = Mail("localhost", sink.port, "starttls", "me", "p4ssw0rd", "hf@example.com", ["a@example.com"], TIMEOUT_S)  # fmt: skip
        channel.deliver(message())

    verbs = [line.split(" ")[0].upper() for line in sink.lines]
    assert verbs.index("STARTTLS") < verbs.index("AUTH") < verbs.index("DATA")
    assert len(sink.mails) == 1


def test_a_command_gets_json_on_stdin_and_nothing_in_its_arguments(tmp_path: Path) -> None:
    """Arguments can be read by everybody on the machine."""
    out = tmp_path / "out"
    script = f"import sys; open({str(out)!r}, 'w').write(sys.stdin.read())"

    Command([sys.executable, "-I", "-S", "-c", script], 20 * SLOWNESS).deliver(message())

    assert json.loads(out.read_text())["title"].startswith("clandeck-1: worker web")


def test_a_command_that_hangs_is_killed_with_its_children(tmp_path: Path) -> None:
    """A pager script that waits for the network must not hold up the next page, nor leave processes behind."""
    out = tmp_path / "pid"
    began_s = time.monotonic()

    with pytest.raises(NotDelivered, match="took longer than"):
        Command(["sh", "-c", f"sleep 1000 & echo $! > {out}; wait"], 0.5).deliver(message())

    assert time.monotonic() - began_s < 10 * SLOWNESS
    if out.exists() and out.read_text().strip():
        child = f"/proc/{out.read_text().strip()}/stat"
        wait_for(lambda: not os.path.exists(child) or _is_zombie(child), "the child to be gone")


def _is_zombie(path: str) -> bool:
    try:
        with open(path) as file:
            return file.read().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def test_a_command_that_fails_says_why() -> None:
    with pytest.raises(NotDelivered, match="sh ended with status 3: no such number"):
        Command(["sh", "-c", "cat >/dev/null; echo no such number >&2; exit 3"], 20 * SLOWNESS).deliver(message())  # fmt: skip
    with pytest.raises(NotDelivered, match="cannot be started") as caught:
        Command(["/nonexistent/pager"], 5).deliver(message())
    assert caught.value.is_refused


def test_apprise_that_is_not_installed_is_said_so() -> None:
    """It is an extra: a channel that silently did nothing would be the worst kind."""
    try:
        import apprise  # type: ignore[import-not-found,unused-ignore]  # noqa: F401
    except ImportError:
        with pytest.raises(NotDelivered, match=r"pip install holdfast\[apprise\]"):
            Apprise(["json://127.0.0.1:9"], 30 * SLOWNESS).deliver(message())
    else:
        with Sink() as sink:
            Apprise([f"json://127.0.0.1:{sink.port}/x"], 30 * SLOWNESS).deliver(message())
            assert sink.received


def test_the_dead_man_hears_how_it_is_and_stops_hearing_when_nobody_looks() -> None:
    """The ping vouches for the loop that looks at the node; once that hangs it has to stop."""
    with Sink() as sink:
        pinger = deadman.Pinger(DeadMan(f"{sink.url}/ping/uuid?x=1", 0.05, TIMEOUT_S), lambda *_a, **_k: None)  # fmt: skip
        pinger.tell(time.monotonic(), False, "all is well")
        pinger.start()
        wait_for(lambda: sink.at("/ping/uuid?x=1"), "a ping")
        pinger.tell(time.monotonic(), True, "web is down")
        bad = wait_for(lambda: sink.at("/ping/uuid/fail?x=1"), "a ping that says so")
        assert bad[0].body == b"web is down"
        pinger.tell(time.monotonic() - 1000, True, "old news")
        wait_for(lambda: _is_silent(sink), "silence")


def _is_silent(sink: Sink) -> bool:
    before = len(sink.received)
    until_s = time.monotonic() + 0.5
    while time.monotonic() < until_s:
        if len(sink.received) != before:
            return False
        time.sleep(0.01)
    return True
