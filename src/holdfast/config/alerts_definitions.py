"""Which tables and keys do alerts have in a ``holdfast.toml``? Part of the one definition (:mod:`holdfast.config.definitions`).

One table for each type of channel. No key takes a secret: those that end in ``_env`` name a variable, those in ``_file`` a file. What follows across
tables is :mod:`holdfast.config.alerts`'s business.
"""

import re
from typing import Any

from holdfast.config.kinds import (
    Boolean,
    Choice,
    Command,
    Duration,
    Integer,
    Kind,
    PathText,
    Text,
    Wrong,
)
from holdfast.config.tables import Environment, Key, ListOf, Named, OneOf, Table

SEVERITIES = ("warning", "error", "critical")
_WEB = ("http://", "https://")


class WebUrl(Kind):
    """Where something is sent to."""

    brief = "URL"
    words = 'an address such as "https://example.com/hook"'

    def parse(self, value: object) -> str:
        """Return the URL. Complaints never repeat it: there may be a secret in it."""
        if not isinstance(value, str):
            raise self.refuse(value)
        if not value.startswith(_WEB):
            raise Wrong(f"this is not {self.words}")
        if any(ord(c) <= 32 or ord(c) >= 127 for c in value):
            raise Wrong("has a blank or a special letter in it", "write a blank as %20")
        return str(value)

    def schema(self) -> dict[str, Any]:
        """Return a pattern."""
        return {"type": "string", "pattern": "^https?://[^ ]+$|\\$\\{"}


class Texts(Environment):
    """Names and texts."""

    brief = "table of texts"
    words = 'a table of texts, as { team = "web" }'
    _OURS: tuple[str, ...] = ()

    def schema(self) -> dict[str, Any]:
        """Return a schema of texts and numbers."""
        return {"type": "object", "additionalProperties": {"type": ["string", "number"]}}


class Variable(Kind):
    """The name of an environment variable."""

    brief = "name of a variable"
    words = "the name of an environment variable"
    _pattern = "[A-Za-z_][A-Za-z0-9_]*"

    def parse(self, value: object) -> str:
        """Return the name. Complaints never repeat it: it may be the secret itself."""
        if not isinstance(value, str) or not re.fullmatch(self._pattern, value):
            hint = "the name alone, without a dollar; the value never stands here"
            raise Wrong(f"this is not {self.words}", hint)
        return str(value)

    def schema(self) -> dict[str, Any]:
        """Return a pattern."""
        return {"type": "string", "pattern": f"^{self._pattern}$"}


_VARIABLE = Variable()
PATTERNS = ListOf(Text("a name, with * for any letters"), 'a list of names, as ["web*"]', least=1)


def secret(name: str, doc: str, also: tuple[str, ...] = ()) -> tuple[Key, Key]:
    """Return the two keys that say where a secret is."""
    return (
        Key(f"{name}_env", _VARIABLE, f"{doc}: the environment variable that holds it.", also=(name, *also),
            example=f'"{name.upper()}"'),
        Key(f"{name}_file", PathText("the path of a file"), f"{doc}: the file that holds it.", example=f'"/run/secrets/{name}"'),
    )  # fmt: skip


def url(doc: str) -> tuple[Key, Key, Key]:
    """Return the keys of an address that may be a secret."""
    return (
        Key("url", WebUrl(), f"{doc}, where it is no secret.", also=("endpoint", "address"), example='"https://example.com/hook"'),
        *secret("url", doc),
    )  # fmt: skip


_URLS = ("url", "url_env", "url_file")
WHERE = "does not say where to"


def _channel(sort: str, doc: str, *keys: Key, **more: Any) -> Table:
    return Table(
        f"channel of type {sort}", doc,
        Key("type", Choice(sort), "How it is delivered.", required=True, also=("kind",), example=f'"{sort}"'),
        *keys,
        Key("least", Choice(*SEVERITIES), "Less severe alerts do not go here.", default_words="all go here", also=("severity", "min_severity"),
            example='"error"'),
        Key("digest", Boolean(), "Whether the digest goes here.", default_words="true, but not for PagerDuty", example="false"),
        Key("timeout", Duration(), "One attempt may take so long.", default_words='"10s"; Apprise at least "30s"', example='"10s"'),
        **more,
    )  # fmt: skip


_HEADERS = Key("headers", Texts(), "More headers; a token does not belong here but into `bearer_env` or `bearer_file`.",
               example='{ X-Team = "web" }')  # fmt: skip

_REPORTS = (
    Key("kinds", PATTERNS, "Incidents of these kinds.", default_words="all", also=("kind",), example='["crash", "oom", "hang"]'),
    Key("release", Text(), "The release that is deployed here.", also=("version", "revision"), example='"${RELEASE}"'),
    Key("environment", Text(), "Where this is.", default_words="none; Honeybadger: production", also=("env", "stage"), example='"production"'),
)  # fmt: skip

CHANNELS = {
    "webhook": _channel(
        "webhook", "A POST of JSON, signed as Standard Webhooks has it.", *url("Where to"),
        *secret("secret", "The key of the signature (`whsec_…`); several, apart by blanks, while it is being changed"),
        *secret("bearer", "A token for `Authorization: Bearer`", ("token",)), _HEADERS, choose=_URLS, choose_words=WHERE,
    ),
    "email": _channel(
        "email", "A mail by SMTP.",
        Key("host", Text("the name of a mail server"), "The mail server.", required=True, also=("server", "smtp", "smarthost"), example='"mail.example.com"'),
        Key("port", Integer(1, 65535), "Its port.", default_words='587; 465 with `tls = "tls"`', example="587"),
        Key("tls", Choice("starttls", "tls", "none"), "How it is encrypted; a server that does not offer it is refused.",
            default_words='"starttls"', example='"tls"'),
        Key("user", Text(), "Who signs in; with a password.", default_words="nobody", also=("username", "login"), example='"alerts"'),
        *secret("password", "The password of `user`"),
        Key("from", Text("a mailbox", r"[^\s@]+@[^\s@]+"), "The sender.", required=True, also=("sender",), example='"holdfast@example.com"'),
        Key("to", ListOf(Text("a mailbox", r"[^\s@]+@[^\s@]+"), 'a list of mailboxes, as ["oncall@example.com"]', least=1),
            "The recipients.", required=True, also=("recipients",), example='["oncall@example.com"]'),
    ),
    "alertmanager": _channel(
        "alertmanager", "Prometheus Alertmanager, by its API v2.", *url("Its address, without /api/v2/alerts"),
        Key("labels", Texts(), "More labels, for its routes.", example='{ team = "web" }'),
        *secret("bearer", "A token for `Authorization: Bearer`", ("token",)), _HEADERS, choose=_URLS, choose_words=WHERE,
    ),
    "pagerduty": _channel(
        "pagerduty", "PagerDuty, by its Events API v2.", *secret("routing_key", "The integration key", ("integration_key",)),
        Key("url", WebUrl(), "Another address than PagerDuty's own (the EU region, a proxy).",
            default_words="https://events.pagerduty.com/v2/enqueue", example='"https://events.eu.pagerduty.com/v2/enqueue"'),
        choose=("routing_key_env", "routing_key_file"), choose_words="does not say where the integration key is",
    ),
    "command": _channel(
        "command", "Any program: the message comes as JSON on its stdin, status 0 means delivered.",
        Key("command", Command(), "The program and its arguments; no shell reads it.", required=True, also=("cmd", "exec", "program"),
            example='["./page.py"]'),
    ),
    "sentry": _channel(
        "sentry", "Each incident as an event of Sentry, or of what speaks its protocol; alerts do not go here.",
        *secret("dsn", "The DSN of the project (`https://KEY@HOST/PROJECT`)", ("url",)), *_REPORTS,
        choose=("dsn_env", "dsn_file"), choose_words="does not say where the DSN is",
    ),
    "honeybadger": _channel(
        "honeybadger", "Each incident as a notice of Honeybadger; alerts do not go here.", *secret("api_key", "The API key of the project", ("token",)),
        Key("url", WebUrl(), "Another address than Honeybadger's own (the EU region, a proxy).", default_words="https://api.honeybadger.io",
            example='"https://eu-api.honeybadger.io"'),
        *_REPORTS, choose=("api_key_env", "api_key_file"), choose_words="does not say where the API key is",
    ),
    "apprise": _channel(
        "apprise", "Everything else, through Apprise (`pip install holdfast[apprise]`).",
        *secret("urls", "Apprise's URLs, apart by blanks or lines", ("url",)),
        choose=("urls_env", "urls_file"), choose_words="does not say where its URLs are",
    ),
}  # fmt: skip
CHANNEL = OneOf("channel", "A way to people.", CHANNELS, by="type")

ROUTE = Table(
    "route of alerts",
    "Which alerts go to which channels. All routes that fit count; an alert that no route takes goes to every channel.",
    Key("workers", PATTERNS, "Alerts of these workers.", default_words="all", also=("worker",), example='["web*"]'),
    Key("kinds", PATTERNS, "Alerts of these kinds: the name of a flag, or `death`.", default_words="all", also=("kind", "flags"),
        example='["memory_leak", "death"]'),
    Key("least", Choice(*SEVERITIES), "Only as severe as this.", default_words="all", also=("severity", "min_severity"), example='"critical"'),
    Key("to", ListOf(Text("the name of a channel"), 'a list of channels, as ["oncall"]', least=1), "Names of channels.", required=True,
        also=("channels", "channel"), example='["oncall"]'),
)  # fmt: skip

DEAD_MAN = Table(
    "dead man",
    "A request to the outside as long as this node lives, so that somebody notices when it does not (docs/how-to/dead-man.md).",
    *url("Where to"),
    Key("every", Duration(), "How often.", default="1m", also=("period", "interval"), example='"1m"'),
    Key("timeout", Duration(), "One attempt may take so long.", default="10s", example='"10s"'),
    choose=_URLS,
    choose_words=WHERE,
)  # fmt: skip

ALERTS = Table(
    "alerts",
    "How people are told of what needs them. With this table a worker `alerts` runs, which does nothing else.",
    Key("hold", Duration(zero=True), "A remedy may take so long before anybody hears of the trouble.", default="3s", also=("for", "delay"), example='"3s"'),
    Key("doubt", Duration(zero=True), "A suspicion has to last so long.", default="30s", example='"30s"'),
    Key("calm", Duration(zero=True), "An alert ends when all signs were away for so long.", default="10s", also=("resolve",), example='"10s"'),
    Key("digest", Duration(), "What went well without anybody is told together, so long after the first of it.", default="1d", example='"1d"'),
    Key("often", Integer(1, 1000), "A restart that helped so many times within an hour is told all the same.", default=5, example="5"),
    Key("storm", Integer(1, 1000), "So many alerts within a minute are told one by one; the others become one.", default=3, example="3"),
    Key("channel", Named(CHANNEL, ref=False), "Channels by name.", required=True, also=("channels", "receiver", "receivers"),
        example='{ oncall = { type = "command", command = ["./page.py"] } }'),
    Key("route", ListOf(ROUTE, "a list of routes, written [[alerts.route]]"), "Which alerts go where.",
        default_words="all to every channel", also=("routes",), example='[{ least = "critical", to = ["oncall"] }]'),
    Key("dead_man", DEAD_MAN, "Who is told that this node lives.", also=("deadman", "heartbeat", "ping"), example='{ url_env = "PING_URL" }'),
)  # fmt: skip
