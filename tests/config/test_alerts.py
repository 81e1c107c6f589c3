"""[alerts]: a worker of its own, its settings, and every mistake with its place."""

from typing import Any

import pytest

from config.desk import Desk
from holdfast.alerts import settings
from holdfast.config.alerts_definitions import CHANNELS

WEB = '[worker.web]\ncommand = ["sleep", "9"]\n'
HOOK = '[alerts.channel.hook]\ntype = "webhook"\nurl = "https://example.com/hook"\n'


def made(desk: Desk, text: str) -> dict[str, Any]:
    (component,) = desk.workers(WEB + text)["alerts"]["components"]
    assert component["use"] == "holdfast.alerts:app"
    return component["settings"]


def test_alerts_are_a_worker_that_is_never_left_down(desk: Desk) -> None:
    """Who would tell of that?"""
    worker = desk.workers(WEB + HOOK)["alerts"]

    assert worker["kind"] == "container"
    assert (worker["restart"]["limit"], worker["isolate"], worker["requires"]) == (0, 0, [])


def test_without_the_table_there_is_no_such_worker(desk: Desk) -> None:
    assert list(desk.workers(WEB)) == ["web"]


def test_paths_of_secrets_are_relative_to_the_file_and_nothing_of_a_secret_is_in_the_plan(desk: Desk) -> None:  # fmt: skip
    """`plan.json` is read by whoever looks after the node, and copied into bug reports."""
    desk.write("whsec_topsecret", "key")

    found = made(desk, HOOK + 'secret_file = "key"\n')

    assert found["channel"]["hook"]["secret_file"] == f"{desk.directory}/key"
    assert "topsecret" not in repr(desk.plan(WEB + HOOK + 'secret_file = "key"\n'))


EVERY = {
    "webhook": 'url_env = "HOOK"\nsecret_env = "KEY"\nheaders = { X-Team = "web" }',
    "email": 'host = "mail"\nport = 25\ntls = "none"\nuser = "u"\npassword_env = "P"\nfrom = "a@b"\nto = ["c@d"]',
    "alertmanager": 'url = "http://127.0.0.1:9093"\nlabels = { team = "web" }\nbearer_file = "token"',
    "pagerduty": 'routing_key_env = "KEY"\nurl = "https://events.eu.pagerduty.com/v2/enqueue"',
    "command": 'command = ["./page.py", "--loud"]',
    "apprise": 'urls_file = "urls"',
    "sentry": 'dsn_env = "DSN"\nrelease = "1"\nenvironment = "test"\nkinds = ["crash"]',
    "honeybadger": 'api_key_env = "KEY"\nurl = "https://eu-api.honeybadger.io"\nrelease = "1"\nenvironment = "test"\nkinds = ["crash"]',
}


@pytest.mark.parametrize("sort", CHANNELS)
def test_what_the_configuration_lets_through_the_process_understands(desk: Desk, sort: str) -> None:
    """Two places know the keys of a channel: one that passes here and ends the process there would be found at 3 am."""
    text = f'[alerts.channel.x]\ntype = "{sort}"\ntimeout = "20s"\nleast = "error"\ndigest = false\n{EVERY[sort]}\n'
    text += (
        '[[alerts.route]]\nworkers = ["w*"]\nkinds = ["death"]\nleast = "critical"\nto = ["x"]\n'
    )
    text += '[alerts.dead_man]\nurl = "http://127.0.0.1/ping"\nevery = "30s"\n'

    read = settings.read(
        made(desk, text),
        {"HOOK": "https://x/y", "P": "p", "KEY": "a" * 32, "DSN": "https://k@host/1"},
    )

    assert list(read.channels) == ["x"]
    assert read.dead_man is not None
    assert read.dead_man.every_s == 30.0


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[alerts]\nhold = 3\n", 'holdfast.toml:3 alerts: there is no "channel" here: tables by name'),
        ("[alerts]\nchannel = {}\n", "holdfast.toml:4 alerts.channel: there is no channel here"),
        ('[alerts.channel.a]\ntype = "fax"\n', 'holdfast.toml:4 alerts.channel.a.type: there is no type "fax"'),
        ('[alerts.channel.a]\nurl = "x"\n', 'holdfast.toml:3 alerts.channel.a: there is no "type" here'),
        ('[alerts.channel.a]\ntype = "webhook"\n', "holdfast.toml:3 alerts.channel.a: does not say where to"),
        (HOOK + '[[alerts.route]]\nto = ["hok"]\n', 'alerts.route[0].to: there is no channel "hok"\n  Did you mean "hook"?'),
        (HOOK + 'secret_env = "A"\nsecret_file = "b"\n', "cannot both be right"),
        (HOOK + "[alerts.dead_man]\n", "alerts.dead_man: does not say where to"),
        (HOOK + '[component.alerts]\nuse = "m:x"\n', 'component.alerts: the name "alerts" is taken'),
        ('[alerts.channel.m]\ntype = "email"\nhost = "h"\nfrom = "a@b"\nto = ["c@d"]\nuser = "u"\n', "belong together"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_with_its_place(desk: Desk, text: str, problem: str) -> None:
    assert problem in desk.problem(WEB + text)


@pytest.mark.parametrize("line", ['secret = "whsec_topsecret"', 'secret_env = "whsec_top/secret="'])
def test_a_secret_that_stands_in_the_file_is_refused_and_not_repeated(
    desk: Desk, line: str
) -> None:
    found = desk.problem(WEB + HOOK + line + "\n")

    assert "secret_env" in found
    assert "top" not in found
