"""The schema, the reference page and the check are made from one definition, and agree."""

import json
import tomllib
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.config import bus_definitions as bus
from holdfast.config import definitions as d
from holdfast.config.problems import Document, Problems, Where
from holdfast.config.schema import (
    REFERENCE_FILE,
    SCHEMA_FILE,
    json_schema,
    reference_markdown,
    schema_text,
)
from holdfast.config.tables import Key, Table

_REFERENCE = Path(__file__).parents[2] / "docs" / "reference"
_SCHEMA = json_schema()
_VALIDATOR = jsonschema.Draft202012Validator(_SCHEMA)
_TABLES = (d.ROOT, d.NODE, d.DEFAULTS, d.DEFAULTS_WORKER, d.WORKER, d.COMPONENT, d.GROUP, d.RESTART, d.READY,
           d.HEARTBEAT, d.STOP, d.LOG, d.LISTENER, bus.REALM, bus.ROLE, bus.PERMISSION, bus.HISTORY, bus.TRANSPORT, bus.TLS,
           bus.AUTH, bus.ANONYMOUS, bus.TICKET, bus.WAMPCRA, bus.SCRAM, bus.CRYPTOSIGN, bus.TLS_CLIENT, bus.COOKIE, bus.WEBSOCKET,
           bus.RAWSOCKET, bus.LIMITS, bus.LINK, bus.SIGN_IN, *bus.PATH_KINDS.values())  # fmt: skip
_HOW = "python -c \"from holdfast.config.schema import write_reference as w; w('docs/reference')\""


def _accepted_by_check(data: dict[str, Any]) -> bool:
    problems = Problems()
    d.ROOT.check(data, Where(Document(0, "/x", "x", "", data), ()), problems)
    return not problems


def _accepted_by_schema(data: dict[str, Any]) -> bool:
    return bool(_VALIDATOR.is_valid(data))


@pytest.mark.parametrize(
    ("file", "text"), [(SCHEMA_FILE, schema_text()), (REFERENCE_FILE, reference_markdown())]
)
def test_the_files_in_docs_are_up_to_date(file: str, text: str) -> None:
    assert (_REFERENCE / file).read_text(encoding="utf-8") == text, f"write it anew: {_HOW}"


def test_the_schema_is_a_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(json_schema())


def test_every_object_of_the_schema_is_closed_but_the_settings() -> None:
    """An editor should underline a misspelt key."""
    schema = json_schema()
    for part in (schema, *schema["$defs"].values()):
        if "properties" in part:
            assert part["additionalProperties"] is False


def _keys() -> list[Any]:
    return [
        pytest.param(key, id=f"{table.title}.{key.name}")
        for table in _TABLES
        for key in table.keys.values()
    ]


@pytest.mark.parametrize("key", _keys())
def test_every_key_has_words_a_default_that_holds_and_an_example_that_is_right(key: Key) -> None:
    """The reference shows them all; an example that is wrong there costs an evening."""
    assert key.doc.endswith(".")
    if key.default is not None:
        assert Table("t", "", key).defaults[key.name] is not None
    if key.example:
        data = tomllib.loads(f"{key.name} = {key.example}")
        problems = Problems()
        Table("t", "", key).check(data, Where(Document(0, "/x", "x", "", data), ()), problems)
        assert not problems
        schema = {**Table("t", "", key).schema(), "$defs": _SCHEMA["$defs"]}
        assert jsonschema.Draft202012Validator(schema).is_valid(data)


_WORKER = {"command": ["sleep", "9"]}
_CORPUS: list[tuple[bool, dict[str, Any]]] = [
    (True, {"worker": {"w": _WORKER}}),
    (True, {"worker": {"w": {"command": "sleep 9", "kind": "guest"}}}),
    (True, {"component": {"c": {"use": "a.b:c.d", "settings": {"x": [1, {"y": 2}]}}}}),
    (True, {"worker": {"w": {"components": ["c"], "spare": 1, "ready": "pulse", "heartbeat": False, "log": False}}}),
    (True, {"worker": {"w": {**_WORKER, "ready": {"tcp": 80, "timeout": "5s"}, "restart": "never"}}}),
    (True, {"worker": {"w": {**_WORKER, "ready": {"tcp": "${HOST}:80"}, "memory_max": "${MEM}", "restart": {"limit": "${N}"}}}}),
    (True, {"worker": {"w": {**_WORKER, "listen": ["unix:x", {"address": "tcp://127.0.0.1:0", "backlog": 5}], "env": {"A": 1.5}}}}),
    (True, {"node": {"objectives": {"kill-worker": "250ms"}, "log": {"max_size": 5000}}, "include": ["a"], "defaults": {"worker": {}}}),
    (True, {"worker": {"w": {"kind": "router", "listen": ["ws://127.0.0.1:80/ws", "rs://[::1]:0"], "realms": ["com.example r"]}}}),
    (True, {"worker": {"w": {"kind": "router", "transport": [{"listen": "tcp://127.0.0.1:80", "rawsocket": True,
        "paths": {"/": {"kind": "static", "directory": "x"}, "a/b": {"kind": "websocket", "auth": {"cookie": True}}}}]}}}),
    (True, {"realm": {"com.x": {"role": {"the boss": {"permissions": [{"uri": "", "match": "prefix", "allow": ["call"]}]}}}}}),
    (True, {"component": {"c": {"use": "a:b", "bus": ["ws://h/ws", "unix:x"], "auth": {"method": "anonymous"}}}}),
    (True, {"component": {"c": {"use": "a:b", "bus": False}}}),
    (False, {"worker": {"w": {"kind": "router", "transport": [{"listen": "tcp://127.0.0.1:80", "paths": {"/a": {"kind": "health"}}}]}}}),
    (False, {"worker": {"w": {"kind": "router", "transport": [{"listen": "tcp://127.0.0.1:80", "paths": {"a": {"kind": "health", "x": 1}}}]}}}),
    (False, {"worker": {"w": {"kind": "router", "transport": [{"rawsocket": True}]}}}),
    (False, {"worker": {"w": {"kind": "router", "transport": [{"listen": "unix:x", "auth": {"ticket": {}}}]}}}),
    (False, {"realm": {"r": {"role": {"x": {"permissions": [{"allow": ["call"]}]}}}}}),
    (False, {"realm": {"r": {"role": {"x": {"permissions": [{"uri": "x", "allow": ["shout"]}]}}}}}),
    (False, {"component": {"c": {"use": "a:b", "bus": "example.com"}}}),
    (False, {"wroker": {}}),
    (False, {"worker": {"a b": _WORKER}}),
    (False, {"worker": {"w": {**_WORKER, "memory-max": 5}}}),
    (False, {"worker": {"w": {**_WORKER, "memory_max": "5 apples"}}}),
    (False, {"worker": {"w": {**_WORKER, "memory_max": True}}}),
    (False, {"worker": {"w": {**_WORKER, "ready": {"tcp": 80, "file": "x"}}}}),
    (False, {"worker": {"w": {**_WORKER, "ready": {"timeout": 5}}}}),
    (False, {"worker": {"w": {**_WORKER, "ready": True}}}),
    (False, {"worker": {"w": {**_WORKER, "ready": "sometime"}}}),
    (False, {"worker": {"w": {**_WORKER, "heartbeat": {"unix": "x"}}}}),
    (False, {"worker": {"w": {**_WORKER, "restart": "alway"}}}),
    (False, {"worker": {"w": {**_WORKER, "restart": {"limit": -1}}}}),
    (False, {"worker": {"w": {**_WORKER, "restart": {"window": "5"}}}}),
    (False, {"worker": {"w": {**_WORKER, "restart": {"window": 0}}}}),
    (False, {"worker": {"w": {**_WORKER, "env": {"A": [1]}}}}),
    (False, {"worker": {"w": {**_WORKER, "env": {"HOLDFAST_RUN": "x"}}}}),
    (False, {"worker": {"w": {**_WORKER, "listen": [{"name": "x"}]}}}),
    (False, {"worker": {"w": {**_WORKER, "listen": ["127.0.0.1:80"]}}}),
    (False, {"worker": {"w": {**_WORKER, "after": "x"}}}),
    (False, {"worker": {"w": {**_WORKER, "spare": 2}}}),
    (False, {"worker": {"w": {**_WORKER, "umask": "9"}}}),
    (False, {"worker": {"w": {**_WORKER, "stop": "TERM"}}}),
    (False, {"worker": {"w": {"command": []}}}),
    (False, {"worker": {"w": {"command": 5}}}),
    (False, {"component": {"c": {}}}),
    (False, {"component": {"c": {"use": "a.b"}}}),
    (False, {"group": {"g": {"strategy": "one_for_all"}}}),
    (False, {"group": {"g": {"strategy": "x", "workers": ["w"]}}}),
    (False, {"node": {"disk_min_share": 1.5}}),
    (False, {"node": {"objectives": {"x": "soon"}}}),
    (False, {"node": 5}),
    (False, {"defaults": {"worker": {"command": "sleep 9"}}}),
]  # fmt: skip


@pytest.mark.parametrize(("is_right", "data"), _CORPUS, ids=lambda value: json.dumps(value)[:60])
def test_schema_and_check_agree(is_right: bool, data: dict[str, Any]) -> None:
    # Variables are filled in before the check; the schema sees them as they are written.
    if "${" not in json.dumps(data):
        assert _accepted_by_check(data) == is_right
    assert _accepted_by_schema(data) == is_right


_SOME = st.sampled_from([
    0, 1, 2, 5, 80, -1, 1.5, 0.2, True, False, "", "x", "5s", "250ms", "10M", "100kb", "64", "150%", "never", "notify", "pulse",
    "TERM", "sigint", "027", "unix:x", "tcp://127.0.0.1:80", "tcp://*:0", "http://127.0.0.1:80/x", "[::1]:80", "m:c", "sleep 9",
    ["w"], ["sleep", "9"], [], {}, {"A": "1"}, {"A": 2.5}, {"tcp": 80}, {"notify": True, "timeout": 3}, {"limit": 3}, {"grace": 0},
    {"keep": 3, "max_size": "1M"}, ["unix:x"], [{"address": "unix:x"}], {"http": "http://127.0.0.1/", "period": "1s"}, 10**20,
    {"window": 1e9}, {"exec": "true"}, ["tcp://127.0.0.1:80", "unix:y"], {"x": 1e-9}, 1e-9, 4_000_000_000, "0", "  5s ", "1.5G",
])  # fmt: skip


@settings(max_examples=250, deadline=None)
@given(st.sampled_from(sorted(d.WORKER.keys)), st.sampled_from(sorted(d.NODE.keys)), _SOME, _SOME)
def test_what_the_check_accepts_the_schema_accepts(
    key: str, node_key: str, value: Any, node_value: Any
) -> None:
    """An editor must never underline what is right."""
    worker = (
        {key: value} if key in ("command", "components") else {"command": "sleep 9", key: value}
    )
    if key == "components":
        worker = {"components": value}

    for data in ({"worker": {"w": worker}}, {"node": {node_key: node_value}}):
        if _accepted_by_check(data):
            assert list(_VALIDATOR.iter_errors(data)) == []


@pytest.mark.parametrize("table", _TABLES, ids=lambda table: table.title)
def test_words_of_other_tools_are_no_keys_themselves(table: Table) -> None:
    for key in table.keys.values():
        assert not set(key.also) & set(table.keys)
