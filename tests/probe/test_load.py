"""A probe file: what is right is understood, what is wrong is told with its place."""

from __future__ import annotations

import json
import tomllib
from typing import TYPE_CHECKING

import pytest

from holdfast.cli.probes import definitions
from holdfast.cli.probes.load import load
from holdfast.config.problems import ConfigProblems

if TYPE_CHECKING:
    from pathlib import Path

WHOLE = """\
name = "helsinki"
state_dir = "state"
parallel = 20

[defaults]
every = "30s"
timeout = "5s"

[[probe]]
kind = "tcp"
name = "gateway"
address = "[2001:db8::1]:22"
expect = "^SSH-"

[[probe]]
kind = "http"
name = "shop"
url = "https://shop.example/health"
status = [200, "3xx"]
json = { status = "ok" }
headers = { Authorization = "Bearer ${TOKEN}" }
slow = "2s"
fails = 2
of = 5
after = ["gateway"]

[[probe]]
kind = "tls"
name = "certificate"
address = "shop.example"
every = "1h"

[[probe]]
kind = "dns"
name = "mail"
record = "shop.example"
type = "MX"
server = "9.9.9.9"
has = ["10 mail.shop.example"]

[[probe]]
kind = "wamp"
name = "bus"
url = "wss://shop.example/ws"
realm = "realm1"
auth = { method = "ticket", authid = "probe", ticket = "t" }
procedure = "shop.ping"
result = { ok = true }

[[probe]]
kind = "steps"
name = "sign-in"
[[probe.step]]
url = "https://shop.example/sign-in"
take = { csrf = { match = 'value="([^"]+)"' } }
[[probe.step]]
url = "https://shop.example/sign-in"
method = "POST"
body = "csrf={csrf}"

[alerts]
doubt = "5m"
[alerts.channel.oncall]
type = "webhook"
url = "https://pager.example/hook"
secret_file = "key"
[[alerts.route]]
workers = ["shop"]
to = ["oncall"]
[alerts.dead_man]
url = "https://ping.example/x"
"""


def test_a_whole_file_is_understood(tmp_path: Path) -> None:
    path = tmp_path / "probe.toml"
    path.write_text(WHOLE)

    found = load(str(path), {"TOKEN": "secret"})

    by_name = {probe.name: probe for probe in found.probes}
    shop = by_name["shop"]
    assert (found.name, found.state_dir, found.parallel) == (
        "helsinki",
        str(tmp_path / "state"),
        20,
    )
    assert (shop.every_s, shop.timeout_s, shop.slow_s, shop.after) == (30.0, 5.0, 2.0, ("gateway",))
    assert (shop.rule.fails, shop.rule.of, shop.rule.good) == (2, 5, 2)
    assert shop.given["headers"]["Authorization"] == "Bearer secret"
    assert by_name["certificate"].given["address"] == "shop.example:443"
    assert by_name["gateway"].given["address"] == "[2001:db8::1]:22"
    assert by_name["sign-in"].given["step"][0]["redirects"] == 5
    assert found.alerts is not None
    assert (found.alerts["hold"], found.alerts["doubt"], found.alerts["calm"]) == (0.0, 300.0, 0.0)
    assert found.alerts["channel"]["oncall"]["secret_file"] == str(tmp_path / "key")
    assert found.notes == ()


def test_the_schema_takes_what_the_check_takes() -> None:
    """An editor that marks a right file as wrong teaches people to ignore it."""
    jsonschema = pytest.importorskip("jsonschema")
    schema = definitions.json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)

    assert [error.message for error in validator.iter_errors(tomllib.loads(WHOLE))] == []
    assert list(
        validator.iter_errors(tomllib.loads(WHOLE.replace('kind = "tcp"', 'kind = "icmp"')))
    )
    assert json.dumps(schema)


HTTP = '[[probe]]\nkind = "http"\nname = "a"\nurl = "http://x/"\n'
STEPS = '[[probe]]\nkind = "steps"\nname = "a"\n[[probe.step]]\nurl = "http://x/{id}"\n'
DNS = '[[probe]]\nkind = "dns"\nname = "a"\nrecord = "x"\n'


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("x = 1\n", 'probe.toml:1 x: there is no such key'),
        ('name = "x"\n', 'probe.toml:1: there is no "probe" here'),
        ('[[probe]]\nkind = "htpp"\nname = "a"\n', 'probe.toml:2 probe[0].kind: there is no kind "htpp"\n  Did you mean "http"?'),
        ('[[probe]]\nkind = "http"\nname = "a"\n', 'probe.toml:1 probe: there is no "url" here'),
        (HTTP + 'contain = "x"\n', 'probe.toml:5 probe[0].contain: there is no such key\n  Did you mean "contains"?'),
        (HTTP + 'interval = "5s"\n', 'probe.toml:5 probe[0].interval: there is no such key\n  Did you mean "every"?'),
        (HTTP + "status = 999\n", 'probe.toml:5 probe[0].status: 999 is not a status such as 200 or "2xx"'),
        (HTTP + 'matches = "("\n', 'probe.toml:5 probe[0].matches: "(" is not a regular expression'),
        (HTTP + 'every = "5s"\ntimeout = "9s"\n', "probe.toml:6 probe[0].timeout: a look that may take 9 s does not fit into 5 s"),
        (HTTP + "fails = 3\nof = 2\n", "probe.toml:6 probe[0].of: 3 failures among 2 looks can never be"),
        (HTTP + 'after = ["b"]\n', 'probe.toml:5 probe[0].after: there is no probe "b"'),
        (HTTP + 'after = ["a"]\n', "probe.toml:5 probe[0].after: a probe does not follow from itself"),
        (HTTP + HTTP, 'probe.toml:7 probe[1].name: the name "a" is taken already, at '),
        (HTTP + 'ca_file = "no.pem"\n', "probe.toml:5 probe[0].ca_file: "),
        (HTTP.replace("http://x/", "ftp://x/"), 'probe.toml:4 probe[0].url: "ftp://x/" is not an address'),
        (HTTP.replace("http://x/", "http://u:p@x/"), "a name and a password do not stand here"),
        (HTTP.replace("http://x/", "${NOWHERE}"), "the environment variable NOWHERE is not set"),
        (DNS + 'type = "MX"\n', "probe.toml:5 probe[0].type: this machine's own way to look up names knows no MX records"),
        (DNS + 'equals = ["1"]\nhas = ["1"]\n', '"equals" and "has" cannot both be meant'),
        ('[[probe]]\nkind = "tcp"\nname = "a"\naddress = "x"\n', 'probe.toml:4 probe[0].address: "x" has no port'),
        ('[[probe]]\nkind = "wamp"\nname = "a"\nurl = "http://x"\nrealm = "r"\nprocedure = "p"\n', "a router's URL begins with"),
        (STEPS + '[[probe.step]]\nurl = "http://x/"\ntake = { id = { json = "id" } }\n', '"{id}" is not known yet'),
        (STEPS + 'take = { id = { match = "x" } }\n', "has 0 groups"),
        (STEPS + "take = { id = { } }\n", "does not say what to take"),
        (HTTP + '[alerts.channel.a]\ntype = "fax"\n', 'probe.toml:6 alerts.channel.a.type: there is no type "fax"'),
        (HTTP + '[alerts.channel.a]\ntype = "command"\ncommand = ["x"]\n[[alerts.route]]\nto = ["b"]\n', 'there is no channel "b"'),
    ],
)  # fmt: skip
def test_every_mistake_is_told_with_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, problem: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "probe.toml").write_text(text)

    with pytest.raises(ConfigProblems) as caught:
        load("probe.toml", {})

    assert problem in str(caught.value)


def test_a_circle_of_causes_is_refused(tmp_path: Path) -> None:
    text = "".join(
        f'[[probe]]\nkind = "tcp"\nname = "{name}"\naddress = "x:1"\nafter = ["{other}"]\n'
        for name, other in (("a", "b"), ("b", "c"), ("c", "a"))
    )
    (tmp_path / "probe.toml").write_text(text)

    with pytest.raises(ConfigProblems, match="follows from itself, by way of others"):
        load(str(tmp_path / "probe.toml"), {})


def test_too_little_room_for_probes_that_hang_is_told(tmp_path: Path) -> None:
    """With all of them hanging, the last ones would wait for the first."""
    rows = "".join(
        f'[[probe]]\nkind = "tcp"\nname = "p{n}"\naddress = "x:1"\nevery = "10s"\ntimeout = "10s"\n'
        for n in range(5)
    )
    (tmp_path / "probe.toml").write_text("parallel = 4\n" + rows)

    (note,) = load(str(tmp_path / "probe.toml"), {}).notes
    assert "15 run at a time, and there is room for 4" in note
