"""What may stand in a ``probe.toml``? One definition: for the check, the JSON Schema and the how-to page.

Each kind of probe is a table of its own. What follows across tables (names that nobody has, circles) is :mod:`holdfast.cli.probes.load`'s
business. The tables of ``[alerts]`` are those of a node, with other defaults.
"""

import re
from typing import Any

from holdfast.cli.probes.kinds import HostPort, PageUrl, Pattern, RouterUrl, Status
from holdfast.config.alerts_definitions import ALERTS as NODE_ALERTS
from holdfast.config.bus_definitions import SIGN_IN
from holdfast.config.kinds import (
    Boolean,
    Choice,
    Duration,
    Integer,
    NameText,
    Number,
    PathText,
    Text,
)
from holdfast.config.tables import Anything, Environment, Key, ListOf, Named, OneOf, Settings, Table

#: What a value that was taken from an answer may be called.
TAKEN = re.compile("[a-z][a-z0-9_]{0,31}")
#: The types of DNS records that can be asked for.
RECORDS = ("A", "AAAA", "CNAME", "MX", "NS", "TXT")


class _Headers(Environment):
    """Names and texts."""

    brief = "table of texts"
    words = 'a table of texts, as { Accept = "application/json" }'
    _OURS: tuple[str, ...] = ()

    def schema(self) -> dict[str, Any]:
        """Return a schema of texts and numbers."""
        return {"type": "object", "additionalProperties": {"type": ["string", "number"]}}


_NAMES = ListOf(NameText(), 'a list of names of probes, as ["gateway"]')
_WHEN = (
    Key("every", Duration(), "How often; drawn a little shorter, so that many probes do not march in step.", default="2s", also=("interval", "period"), example='"1m"'),
    Key("again", Duration(), "How soon once more, while it is in doubt or has no answer yet.", default="500ms", also=("retry", "recheck"), example='"1s"'),
    Key("timeout", Duration(), "All of one look together may take so long.", default_words='three quarters of `every`, "5s" at most',
        example='"5s"'),
    Key("fails", Integer(1, 100), "So many failures among the last `of` looks: it is down.", default=3, also=("failures",), example="3"),
    Key("of", Integer(1, 100), "Among so many looks.", default_words="as many as `fails`", example="5"),
    Key("good", Integer(1, 100), "So many good looks in a row: it is up again.", default=2, also=("successes",), example="2"),
)  # fmt: skip
_CA = (
    Key("ca_file", PathText(), "Trust these authorities instead of the system's.", also=("ca", "cafile"), example='"ca.pem"'),
    Key("verify", Boolean(), "Whether the certificate has to be right.", default=True, example="false"),
)  # fmt: skip
_SLOW = Key("slow", Duration(), "An answer that takes longer is a failure.", default_words="`timeout`", also=("max_time", "slower_than"), example='"2s"')  # fmt: skip

_ASK = (
    Key("url", PageUrl(), "What is asked for.", required=True, also=("address",), example='"https://example.com/health"'),
    Key("method", Text("an HTTP method", "[A-Z]{1,20}"), "The method.", default="GET", example='"POST"'),
    Key("headers", _Headers(), "More headers.", example='{ Accept = "application/json" }'),
    Key("body", Text(), "What is sent.", also=("data",), example='"user=probe&password=${PASSWORD}"'),
)  # fmt: skip
_WANT = (
    Key("status", Status(), "The right answers.", default="2xx", also=("code", "expect_status"), example='[200, "3xx"]'),
    Key("contains", Text(), "This text is in the body.", also=("text", "body_contains", "keyword"), example='"All is well"'),
    Key("lacks", Text(), "This text is not.", also=("body_lacks",), example='"Traceback"'),
    Key("matches", Pattern(), "This regular expression is found in it.", also=("regex",), example='"version 2\\\\.[0-9]+"'),
    Key("json", Settings(), "The body is JSON, and has these values at these places (names and numbers with dots in between).",
        also=("json_path",), example='{ status = "ok", "workers.0.ready" = true }'),
    Key("redirects", Integer(0, 20), "So many redirects are followed; 0: the redirect itself is the answer.", default=5, also=("follow",),
        example="0"),
    Key("location", Text(), "The redirect that is the answer leads to an address that begins with this; or, where redirects are followed, the "
        "last one did.", also=("redirects_to", "lands"), example='"https://example.com/"'),
)  # fmt: skip


def _probe(kind: str, doc: str, *keys: Key, **more: Any) -> Table:
    return Table(
        f"probe of kind {kind}", doc,
        Key("kind", Choice(kind), "What is looked at.", required=True, also=("type",), example=f'"{kind}"'),
        Key("name", NameText(), "What it is called.", required=True, example='"shop"'),
        *keys,
        *_WHEN,
        Key("after", _NAMES, "While one of these is down, this one is told as its consequence.", also=("needs", "depends_on"),
            example='["gateway"]'),
        **more,
    )  # fmt: skip


TAKE = Table(
    "value that is taken",
    "Where in the answer a value is that a later step needs.",
    Key("json", Text(), "At this place of a JSON body.", example='"session.token"'),
    Key("header", Text(), "A header.", example='"X-Token"'),
    Key("match", Pattern("a regular expression with one group", groups=1), "What the group of this regular expression matches in the body.",
        also=("regex",), example='"name=\\"csrf\\" value=\\"([^\\"]+)\\""'),
    Key("cookie", Text(), "A cookie.", example='"session"'),
    choose=("json", "header", "match", "cookie"),
    choose_words="does not say what to take",
)  # fmt: skip

STEP = Table(
    "step",
    "One request of several. Cookies are kept, and `{NAME}` in `url`, `headers` and `body` stands for what an earlier step took.",
    Key("name", NameText(), "What it is called in messages.", default_words="its number", example='"sign-in"'),
    *_ASK,
    *_WANT,
    Key("take", Named(TAKE, names=TAKEN, names_words="small letters, digits and _, beginning with a letter", ref=False),
        "Values for the steps that follow.", also=("save", "extract"), example='{ token = { json = "token" } }'),
)  # fmt: skip

KINDS = {
    "http": _probe("http", "An HTTP or HTTPS request.", *_ASK, *_WANT, _SLOW, *_CA),
    "tcp": _probe(
        "tcp", "A TCP connection.",
        Key("address", HostPort(), "Where.", required=True, also=("host", "target"), example='"example.com:25"'),
        Key("send", Text(), "What is sent.", example='"PING\\r\\n"'),
        Key("expect", Pattern(), "A regular expression that is found in what comes back.", also=("matches",), example='"^220 "'),
        _SLOW,
    ),
    "tls": _probe(
        "tls", "The certificate of a TLS server: is it trusted, is it for this name, and for how long?",
        Key("address", HostPort(443), "Where.", required=True, also=("host", "target"), example='"example.com:443"'),
        Key("server_name", Text("a name"), "The name that it has to be for.", default_words="the host of `address`", also=("sni",),
            example='"www.example.com"'),
        Key("days", Number(0, 3650), "It is valid for at least so many days more.", default=14, also=("days_left", "min_days"), example="14"),
        _CA[0],
    ),
    "dns": _probe(
        "dns", "A record of the DNS.",
        Key("record", Text("a name", r"[^\s]{1,253}"), "The name that is asked for.", required=True, also=("query", "host"), example='"example.com"'),
        Key("type", Choice(*RECORDS), "The type of the record.", default="A", example='"MX"'),
        Key("server", HostPort(53), "The name server that is asked.", default_words="this machine's own way to look up names (A and AAAA only)",
            also=("resolver", "nameserver"), example='"9.9.9.9"'),
        Key("equals", ListOf(Text(), 'a list of texts, as ["192.0.2.7"]', least=1), "The answer is exactly this, in any order.",
            also=("expect",), example='["192.0.2.7"]'),
        Key("has", ListOf(Text(), 'a list of texts, as ["192.0.2.7"]', least=1), "These are in the answer.", also=("contains",),
            example='["10 mail.example.com"]'),
        _SLOW,
    ),
    "wamp": _probe(
        "wamp", "A call over a WAMP router: router, sign-in and procedure together.",
        Key("url", RouterUrl(), "The router.", required=True, also=("router", "address"), example='"wss://example.com/ws"'),
        Key("realm", Text("the name of a realm"), "The realm.", required=True, example='"realm1"'),
        Key("auth", SIGN_IN, "How it signs in.", default_words="anonymously",
            example='{ method = "ticket", authid = "probe", ticket = "${TICKET}" }'),
        Key("procedure", Text("a URI", r"[^\s]+"), "What is called.", required=True, also=("call",), example='"com.example.ping"'),
        Key("args", ListOf(Anything(), "a list"), "Arguments.", example="[1, 2]"),
        Key("kwargs", Settings(), "Arguments by name.", example='{ user = "probe" }'),
        Key("result", Anything(), "What it has to return.", default_words="anything but an error", also=("equals", "expect"), example="3"),
        _SLOW, *_CA,
    ),
    "steps": _probe(
        "steps", "Several HTTP requests, one after another, as a person who signs in.",
        Key("step", ListOf(STEP, "tables: [[probe.step]]", least=1), "The requests.", required=True, also=("steps",),
            example='[{ url = "https://example.com/" }]'),
        _SLOW, *_CA,
    ),
}  # fmt: skip
PROBE = OneOf("probe", "One thing that is looked at.", KINDS)

DEFAULTS = Table("defaults", "What probes have that do not say otherwise.", *_WHEN)


def _alert_key(name: str, **changes: Any) -> Key:
    """Return a key of a node's alerts, changed."""
    key = NODE_ALERTS.keys[name]
    kept = {slot: getattr(key, slot) for slot in Key.__slots__}
    return Key(**{**kept, **changes})


ALERTS = Table(
    "alerts",
    "Whom to tell, as in a node. A probe that is down is told at once, what went away before that is in the digest.",
    _alert_key("hold", default="0s", doc="A probe that is down may come back within this time without a word."),
    _alert_key("doubt", default="15m", doc="A probe that fails now and then, but is never down, is told after so long, as a warning."),
    _alert_key("calm", default="0s", doc="An alert ends when the probe was up for so long."),
    *(NODE_ALERTS.keys[name] for name in ("digest", "storm", "channel", "route", "dead_man")),
)  # fmt: skip

ROOT = Table(
    "probe file",
    "What `holdfast probe` looks at from outside.",
    Key("name", NameText(), "Where it looks from; stands in every message.", default_words="the name of this machine", example='"helsinki"'),
    Key("state_dir", PathText(), "Where what has to survive is kept; relative to the file.", default=".holdfast-probe",
        example='"/var/lib/holdfast-probe"'),
    Key("parallel", Integer(1, 1000), "So many probes run at a time; those that hang count.", default=200, also=("concurrency",), example="64"),
    Key("defaults", DEFAULTS, "What probes have that do not say otherwise.", example='{ every = "30s" }'),
    Key("alerts", ALERTS, "Whom to tell.", default_words="nobody: only what is printed", example="{ }"),
    Key("probe", ListOf(PROBE, "tables: [[probe]]", least=1), "The probes.", required=True, also=("probes", "check", "checks", "monitor"),
        example='[{ kind = "http", name = "shop", url = "https://example.com/" }]'),
)  # fmt: skip


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of a probe file."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "https://holdfast.invalid/probe.schema.json",
        **ROOT.schema(),
        "$defs": {
            "expanded": {
                "type": "string",
                "pattern": r"\$\{",
                "description": "A text that takes its value from the environment; checked when the file is loaded.",
            },
            SIGN_IN.title: SIGN_IN.definition(),
        },
    }
