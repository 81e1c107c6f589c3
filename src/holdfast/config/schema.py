"""What may stand in a ``holdfast.toml``, for editors (JSON Schema) and for readers (Markdown)?

Both are made from :mod:`holdfast.config.definitions`, and kept as files in docs/reference; a test holds them up to date.
The schema knows single values only: names that nobody has or a port that is claimed twice, only the check sees.
To write the files again: ``python -c "from holdfast.config.schema import write_reference as w; w('docs/reference')"``.
"""

import json
import os
from collections.abc import Iterator
from typing import Any

from holdfast.config import alerts_definitions as alerts
from holdfast.config import bus_definitions as bus
from holdfast.config import dashboard_definitions as dashboard
from holdfast.config import definitions as d
from holdfast.config import forward_definitions as forward
from holdfast.config import jobs_definitions as jobs
from holdfast.config.tables import Key, Named, Table
from holdfast.linux.files import write_atomic

SCHEMA_FILE = "holdfast.schema.json"
REFERENCE_FILE = "configuration.md"

_INTRODUCTION = """\
# Configuration reference

A node is described by a `holdfast.toml`, written in [TOML](https://toml.io).
This page is generated from the definitions that also check the file.
`holdfast check` tells everything that is wrong with a file, at once.
For editors there is a [JSON Schema](holdfast.schema.json), also printed by `holdfast schema`.

- **Times** are texts with a unit (`"250ms"`, `"5s"`, `"2m"`, `"1h"`, `"1d"`) or numbers of seconds.
- **Sizes** are texts (`"512M"` and `"512MiB"` are 512 · 1024², `"512MB"` is 512 · 1000²) or numbers of bytes.
- **Names** are letters, digits, `-` and `_`, beginning with a letter or digit, at most 48; `holdfast` itself is taken.
- **Variables**: `"${NAME}"` in a text is replaced by the environment variable, `"${NAME:-default}"` by the default where it
  is unset or empty. A missing variable without a default is an error. `"$$"` stands for one `$`; a `$` before anything
  else is left alone.
- **Paths** of `state_dir`, `directory`, `env_file`, `pythonpath`, `python` and `include` are relative to the file they stand
  in; what the worker itself uses (`command`, `ready.file`, `unix:` sockets, …) is relative to its `directory`.
"""


#: Kinds of workers whose name alone would not read well.
_KINDS = {"jobs": "jobs worker"}
_REALM_EXAMPLE = """\
[realm.realm1.role.anonymous]
permissions = [
  { uri = "com.example.*", allow = ["call", "subscribe"] },
  { uri = "com.example.admin.*" },
]"""


_JOBS_EXAMPLE = """\
[jobs]
store = "redis://:${REDIS_PASSWORD}@127.0.0.1:6379/0"

[worker.mail]
kind = "jobs"
use = ["shop.tasks"]
queues = { critical = 6, default = 2 }"""


_ALERTS_EXAMPLE = """\
[alerts.channel.oncall]
type = "pagerduty"
routing_key_env = "PAGERDUTY_KEY"

[alerts.channel.team]
type = "email"
host = "mail.example.com"
from = "holdfast@example.com"
to = ["team@example.com"]

[[alerts.route]]
least = "critical"
to = ["oncall", "team"]

[[alerts.route]]
to = ["team"]"""


_FORWARD_EXAMPLE = """\
[forward.target.collector]
type = "otlp"
url = "http://127.0.0.1:4318"

[forward.target.journal]
type = "journald"
incidents = false"""


_DASHBOARD_EXAMPLE = """\
[dashboard]
listen = "127.0.0.1:8750"

[dashboard.user.ann]
password_hash_file = "ann.hash"
role = "operator\""""


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of a configuration file."""
    schema: dict[str, Any] = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "https://holdfast.invalid/holdfast.schema.json",
        **d.ROOT.schema(),
    }
    schema["$defs"] = {
        "expanded": {
            "type": "string",
            "pattern": r"\$\{",
            "description": "A text that takes its value from the environment; checked when the file is loaded.",
        },
        **{table.title: table.schema() for table in (d.COMPONENT, d.WORKER, d.GROUP, bus.REALM)},
        **{table.title: table.definition() for table in bus.SHARED},
    }
    # What is written "[worker.NAME]" in TOML has to say what it runs.
    worker = schema["$defs"]["worker"]
    worker["if"] = {"required": ["kind"], "properties": {"kind": {"enum": ["router", "jobs"]}}}
    worker["then"] = {
        "not": {"required": ["command"]},
        "if": {"properties": {"kind": {"const": "jobs"}}},
        "then": {"required": ["use"]},
    }
    worker["else"] = {"oneOf": [{"required": ["command"]}, {"required": ["components"]}]}
    return schema


def reference_markdown() -> str:
    """Return the reference page."""
    parts = [_INTRODUCTION]
    parts += _section("Top level", d.ROOT, example="")
    parts += _section("[node]", d.NODE)
    parts += _section("[worker.NAME]", d.WORKER)
    parts += _section("[component.NAME]", d.COMPONENT)
    parts += _section("[group.NAME]", d.GROUP)
    parts += _section("[jobs]", jobs.JOBS, example=_JOBS_EXAMPLE)
    parts += _section("[alerts]", alerts.ALERTS, example=_ALERTS_EXAMPLE)
    parts += _section("[forward]", forward.FORWARD, example=_FORWARD_EXAMPLE)
    parts += _section("[dashboard]", dashboard.DASHBOARD, example=_DASHBOARD_EXAMPLE)
    parts += _section("[realm.NAME]", bus.REALM, example=_REALM_EXAMPLE)
    parts += _section("[realm.NAME.role.ROLE]", bus.ROLE, example="")
    names = ", ".join(f"`{name}`" for name in d.DEFAULTS_WORKER.keys)
    parts.append(f"## [defaults.worker]\n\n{d.DEFAULTS_WORKER.doc}\nPossible are {names}.\n")
    parts.append(
        "# Tables inside\n\nEach may be written inline (`ready = { tcp = 6390 }`) or as a table of its own "
        "(`[worker.cache.ready]`).\n"
    )
    parts += _section("restart", d.RESTART)
    parts += _section("ready", d.READY)
    parts += _section("heartbeat", d.HEARTBEAT)
    parts += _section("stop", d.STOP)
    parts += _section("log", d.LOG)
    parts += _section(
        "listen",
        d.LISTENER,
        example='listen = [{ address = "tcp://127.0.0.1:8080", name = "web" }]',
    )
    parts += _bus_sections()
    parts += _alert_sections()
    parts += _forward_sections()
    parts += _dashboard_sections()
    return "\n".join(parts)


def _bus_sections() -> list[str]:
    parts = ["# Tables of the bus\n"]
    for title, table in (
        ("permissions (of a role)", bus.PERMISSION),
        ("history (of a realm)", bus.HISTORY),
        ("[[worker.NAME.transport]]", bus.TRANSPORT),
        ("tls", bus.TLS),
        ("websocket", bus.WEBSOCKET),
        ("rawsocket", bus.RAWSOCKET),
        ("limits", bus.LIMITS),
        ("[[worker.NAME.link]]", bus.LINK),
        ("auth (of a component or link)", bus.SIGN_IN),
        ("auth (of a transport or path)", bus.AUTH),
        ("auth.anonymous", bus.ANONYMOUS),
    ):
        parts += _section(title, table, example="")
    for method in (bus.TICKET, bus.WAMPCRA, bus.SCRAM, bus.CRYPTOSIGN, bus.TLS_CLIENT):
        name = method.title.split(" ", 1)[0]
        parts += _section(f"auth.{name}", method, example="")
        people = next(iter(method.keys.values()))
        kind = people.kind
        if isinstance(kind, Named) and isinstance(kind.table, Table):
            parts += _section(f"auth.{name}.{people.name}.AUTHID", kind.table, example="")
    parts += _section("auth.cookie", bus.COOKIE, example="")
    parts.append(f"# Services at a path\n\n`[worker.NAME.transport.paths.PATH]`: {bus.PATH.doc}\n")
    for table in bus.PATH_KINDS.values():
        parts += _section(table.title, table, example="")
    return parts


def _alert_sections() -> list[str]:
    parts = ["# Tables of alerts\n"]
    for name, table in alerts.CHANNELS.items():
        parts += _section(f'[alerts.channel.NAME], type = "{name}"', table, example="")
    parts += _section("[[alerts.route]]", alerts.ROUTE, example="")
    parts += _section("[alerts.dead_man]", alerts.DEAD_MAN, example="")
    return parts


def _forward_sections() -> list[str]:
    parts = ["# Tables of forwarding\n"]
    for name, table in forward.TARGETS.items():
        parts += _section(f'[forward.target.NAME], type = "{name}"', table, example="")
    return parts


def _dashboard_sections() -> list[str]:
    parts = ["# Tables of the dashboard\n"]
    parts += _section("[dashboard.user.NAME]", dashboard.USER, example="")
    parts += _section("[dashboard.proxy]", dashboard.PROXY, example="")
    return parts


def schema_text() -> str:
    """Return the schema as it stands in docs/reference and as `holdfast schema` prints it."""
    return json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n"


def write_reference(directory: str) -> None:
    """Write both files."""
    write_atomic(os.path.join(directory, SCHEMA_FILE), schema_text().encode())
    write_atomic(os.path.join(directory, REFERENCE_FILE), reference_markdown().encode())


def _section(title: str, table: Table, example: str | None = None) -> Iterator[str]:
    yield f"## {title}\n\n{table.doc}\n"
    yield "| key | value | default | meaning |\n|---|---|---|---|"
    for key in table.keys.values():
        only = f" Only for a {_KINDS.get(key.only, key.only)}." if key.only else ""
        value = key.kind.brief or key.kind.words
        if key.example and key.example not in value:
            value += f"; as `{key.example}`"
        yield f"| `{key.name}` | {_cell(value)} | {_cell(_default(key))} | {_cell(key.doc + only)} |"
    yield ""
    if example is None:
        written = [
            f"{key.name} = {key.example}"
            for key in table.keys.values()
            if key.required and key.example
        ]
        example = "\n".join(written)
    if example:
        is_whole = example.startswith("[") or not title.startswith("[")
        head = "" if is_whole else f"{title.replace('NAME', 'example')}\n"
        yield f"```toml\n{head}{example}\n```\n"


def _default(key: Key) -> str:
    if key.required:
        return "has to be given"
    if key.default is None:
        return key.default_words or "—"
    value = (
        {True: "true", False: "false"}.get(key.default, key.default)
        if isinstance(key.default, bool)
        else key.default
    )
    return f'`"{value}"`' if isinstance(key.default, str) else f"`{value}`"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
