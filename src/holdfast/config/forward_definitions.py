"""Which tables and keys does forwarding have in a ``holdfast.toml``? Part of the one definition (:mod:`holdfast.config.definitions`).

One table for each type of target. No key takes a secret: those that end in ``_env`` name a variable, those in ``_file`` a file. What follows across tables
is :mod:`holdfast.config.forward`'s business.
"""

from typing import Any

from holdfast.config.alerts_definitions import PATTERNS, WHERE, Texts, secret, url
from holdfast.config.kinds import Boolean, Choice, Duration, PathText
from holdfast.config.tables import Key, Named, OneOf, Table


def _target(sort: str, doc: str, *keys: Key, **more: Any) -> Table:
    return Table(
        f"target of type {sort}", doc,
        Key("type", Choice(sort), "What it is.", required=True, also=("kind",), example=f'"{sort}"'),
        *keys,
        Key("logs", Boolean(), "Lines go here.", default=True, also=("lines",), example="false"),
        Key("workers", PATTERNS, "Only lines of these workers.", default_words="of all", also=("worker",), example='["web*"]'),
        Key("house", Boolean(), "Also what Holdfast itself writes.", default=True, example="false"),
        Key("incidents", Boolean(), "Incidents go here: one entry when it is opened, one for its verdict.", default=True, also=("events",),
            example="false"),
        **more,
    )  # fmt: skip


TARGETS = {
    "otlp": _target(
        "otlp", "An OpenTelemetry collector, or anything else that takes OTLP/HTTP with JSON.",
        *url("Its address, without /v1/logs"),
        Key("headers", Texts(), "More headers; a key does not belong here but into `headers_env` or `headers_file`.", example='{ X-Scope-OrgID = "7" }'),
        *secret("headers", "Headers that are secret, as `name=value,name=value`"),
        *secret("bearer", "A token for `Authorization: Bearer`", ("token",)),
        Key("metrics", Boolean(), "Figures go here, those of `holdfast metrics`.", default=True, example="false"),
        Key("every", Duration(), "How often figures are sent.", default="60s", also=("interval", "period"), example='"60s"'),
        Key("attributes", Texts(), "More attributes of the resource.", also=("resource", "resource_attributes", "labels"),
            example='{ "deployment.environment.name" = "production" }'),
        Key("compress", Boolean(), "Bodies are compressed (gzip).", default=True, also=("gzip", "compression"), example="false"),
        Key("timeout", Duration(), "One request may take so long.", default="10s", example='"10s"'),
        choose=("url", "url_env", "url_file"), choose_words=WHERE,
    ),
    "journald": _target(
        "journald", "The journal of systemd, by its native protocol.",
        Key("socket", PathText("the path of a socket"), "Where journald listens.", default_words='"/run/systemd/journal/socket"',
            example='"/run/systemd/journal/socket"'),
    ),
    "json": _target(
        "json", "One JSON object a line, in a file or on the node's own stdout.",
        Key("path", PathText("the path of a file"), "The file; others may rename it at any time.", default_words="the stdout of the node", also=("file",),
            example='"/var/log/site.jsonl"'),
    ),
}  # fmt: skip
TARGET = OneOf("target", "Where lines, incidents and figures go.", TARGETS, by="type")

FORWARD = Table(
    "forward",
    "What the node says, for other tools. With this table a worker `forward` runs, which does nothing else (docs/how-to/forward.md).",
    Key("target", Named(TARGET, ref=False), "Targets by name.", required=True, also=("targets", "to", "sink", "sinks", "exporter", "exporters"),
        example='{ journal = { type = "journald" } }'),
)  # fmt: skip
