"""Settings: everything that is wrong is said, nothing of a secret is; and where messages go."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from alerts.test_channels import SECRET, message
from holdfast.alerts import settings
from holdfast.alerts.channels.channel import NotDelivered

if TYPE_CHECKING:
    from pathlib import Path


def wrong(**raw: Any) -> str:
    with pytest.raises(settings.SettingsError) as caught:
        settings.read(raw, {})
    return str(caught.value)


CAT = {"type": "command", "command": ["cat"]}


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        ({}, "alerts.channel: there is no channel"),
        ({"chanel": {}}, "alerts.chanel: there is no such key"),
        ({"channel": {"a": {"type": "fax"}}}, "alerts.channel.a.type: 'fax' is no type of channel"),
        ({"channel": {"a": 5}}, "alerts.channel.a: this is not a table"),
        ({"channel": {"a": {"type": "webhook"}}}, 'there is no "url" or "url_env" or "url_file" here'),
        ({"channel": {"a": {"type": "webhook", "url": "ftp://x"}}}, "has to begin with http:// or https://"),
        ({"channel": {"a": {**CAT, "timeout": "5s"}}}, "alerts.channel.a.timeout: '5s' is not a number"),
        ({"channel": {"a": {**CAT, "least": "bad"}}}, "'bad' is no severity"),
        ({"channel": {"a": {**CAT, "host": "x"}}}, "a channel of type command has no such key"),
        ({"channel": {"a": {"type": "command", "command": "cat x"}}}, "is not a list of texts"),
        ({"channel": {"a": {"type": "email", "host": "h", "from": "f", "to": ["t"], "user": "u"}}}, "belong together"),
        ({"channel": {"a": CAT}, "route": [{"to": ["b"]}]}, 'there is no channel "b"'),
        ({"channel": {"a": CAT}, "route": [{"workers": ["x"]}]}, 'there is no "to" here'),
        ({"channel": {"a": CAT}, "dead_man": {"every": 5}}, 'there is no "url"'),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(raw: dict[str, Any], says: str) -> None:
    assert says in wrong(**raw)


def test_a_secret_in_the_settings_is_refused_and_not_repeated() -> None:
    """What stands in a configuration ends in backups, in chat and in `plan.json`."""
    said = wrong(channel={"a": {"type": "webhook", "url": "http://x", "secret": SECRET}})

    assert 'write "secret_env" or "secret_file"' in said
    assert SECRET not in said


def test_secrets_come_from_the_environment_or_a_file(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("R0UT1NG\n")
    raw = {
        "channel": {
            "a": {"type": "pagerduty", "routing_key_file": "key"},
            "b": {"type": "webhook", "url_env": "HOOK", "secret_env": "SECRET"},
        }
    }

    made = settings.read(raw, {"HOOK": "https://x/y", "SECRET": SECRET}, str(tmp_path))

    assert made.broken == {}


@pytest.mark.parametrize("secret", ["whsec_!!!", "whsec_c2hvcnQ="])
def test_a_secret_that_is_none_breaks_its_channel_and_is_not_repeated(secret: str) -> None:
    raw = {"channel": {"a": {"type": "webhook", "url": "http://x", "secret_env": "S"}, "b": CAT}}

    made = settings.read(raw, {"S": secret})

    assert "is none of Standard Webhooks" in made.broken["alerts.channel.a"]
    assert secret.removeprefix("whsec_") not in made.broken["alerts.channel.a"]
    with pytest.raises(NotDelivered):
        made.channels["a"].deliver(message())


def test_routes_choose_and_what_none_takes_goes_to_everybody() -> None:
    """A page must not fall on the floor because somebody forgot a route."""
    raw = {
        "channel": {"pager": CAT, "chat": CAT, "quiet": {**CAT, "least": "critical"}},
        "route": [
            {"workers": ["web*"], "least": "critical", "to": ["pager"]},
            {"workers": ["web*"], "to": ["chat"]},
        ],
    }
    made = settings.read(raw, {})
    page = message()

    assert made.ways(page) == ["pager", "chat"]
    assert made.ways({**page, "severity": "warning"}) == ["chat"]
    assert made.ways({**page, "worker": "db", "cause": "db"}) == ["pager", "chat", "quiet"]
    assert made.ways({**page, "worker": "db", "cause": "db", "severity": "error"}) == ["pager", "chat"]  # fmt: skip


def test_an_alert_of_many_workers_goes_where_any_of_them_goes() -> None:
    raw = {"channel": {"a": CAT, "b": CAT}, "route": [{"workers": ["web"], "to": ["a"]}]}
    made = settings.read(raw, {})

    assert made.ways({**message(), "worker": "x", "cause": "@many", "members": ["x", "web"]}) == ["a"]  # fmt: skip
