"""Whatever stands in the file: a plan or a ConfigError, never a traceback."""

import json
import os
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from config.desk import Desk
from holdfast.config import definitions as d
from holdfast.config.load import load_plan
from holdfast.config.tables import Table
from holdfast.model.errors import ConfigError
from holdfast.wire.jsonlite import dumps

_QUICK = settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
_SLOW = settings(_QUICK, max_examples=200)

_WORDS = st.sampled_from([
    "w", "c", "m:c", "sleep", "sleep 9", "5s", "512M", "${HOME}", "${NOPE}", "${", "$$", "always", "never", "notify", "pulse",
    "guest", "container", "tcp://127.0.0.1:80", "tcp://[::1]:0", "unix:x", "http://127.0.0.1:80/", "http://[", "150%", "TERM",
    "", " ", "\0", "\n", "\x7f", "é", "-1", "0", "root", "..", "/", "~", "~nobody/x", "[::1]:80", "a:b:80", "(", "*", "x" * 300,
])  # fmt: skip
_ODD = st.one_of(
    _WORDS,
    st.text(st.characters(blacklist_categories=["Cs"]), max_size=8),
    st.integers(),
    st.sampled_from([0, 1, 2, 80, 10**30, -(10**30), 1 << 63]),
    st.floats(),
    st.booleans(),
    st.dates(),
    st.datetimes(),
    st.times(),
)
_VALUES = st.recursive(
    _ODD,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_WORDS, inner, max_size=3),
    max_leaves=6,
)
_KNOWN = sorted({
    key
    for table in (d.ROOT, d.NODE, d.WORKER, d.COMPONENT, d.GROUP, d.RESTART, d.READY, d.HEARTBEAT, d.STOP, d.LOG, d.LISTENER)
    for key in table.keys
})  # fmt: skip


def _tables(table: Table) -> Any:
    """Draw tables with the right keys and mostly wrong values."""
    inner = {
        "restart": d.RESTART,
        "ready": d.READY,
        "heartbeat": d.HEARTBEAT,
        "stop": d.STOP,
        "log": d.LOG,
    }
    optional: dict[str, Any] = {
        key: (_tables(inner[key]) | _VALUES)
        if key in inner and key not in table.choose
        else _VALUES
        for key in table.keys
    }
    if "listen" in table.keys:
        optional["listen"] = st.lists(_tables(d.LISTENER) | _VALUES, max_size=2) | _VALUES
    return st.fixed_dictionaries(
        {}, optional={k: v for k, v in optional.items() if k != "include"}
    ).map(lambda found: dict(list(found.items())[:6]))


def _named(table: Table) -> Any:
    return st.dictionaries(
        st.sampled_from(["w", "c", "v", "holdfast", "a b", "é"]),
        _tables(table) | _VALUES,
        max_size=3,
    )


_DOCUMENTS = st.fixed_dictionaries(
    {},
    optional={
        "node": _tables(d.NODE) | _VALUES,
        "defaults": st.fixed_dictionaries(
            {}, optional={"worker": _tables(d.DEFAULTS_WORKER) | _VALUES}
        )
        | _VALUES,
        "worker": _named(d.WORKER) | _VALUES,
        "component": _named(d.COMPONENT) | _VALUES,
        "group": _named(d.GROUP) | _VALUES,
        "include": st.lists(_WORDS.filter(lambda w: w not in ("*", "..")), max_size=2) | _VALUES,
        "odd": _VALUES,
    },
)


def toml(value: object) -> str:
    """Write a value as TOML, tables inline."""
    if isinstance(value, dict):
        return (
            "{"
            + ", ".join(f"{json.dumps(k)} = {toml(v)}" for k, v in value.items()).replace(
                "\x7f", "\\u007f"
            )
            + "}"
        )
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return '"' + "".join(c if c.isalnum() else f"\\U{ord(c):08x}" for c in value) + '"'
    if isinstance(value, int | float):
        return repr(value)
    return value.isoformat()  # type: ignore[attr-defined, no-any-return]


def _load(directory: Path, text: str) -> None:
    path = directory / "holdfast.toml"
    path.write_text(text, encoding="utf-8", newline="")
    environ = {"PATH": os.environ.get("PATH", os.defpath), "HOME": "/home/x"}
    try:
        plan = load_plan(str(path), environ)
    except ConfigError as error:
        _check_readable(error)
        return
    assert plan["workers"]
    assert "NaN" not in dumps(plan)


def _check_readable(error: ConfigError) -> None:
    assert error.problems
    lines = [line for problem in error.problems for line in problem.split("\n")]
    assert all(line.isprintable() and len(line) < 2000 for line in lines), lines


@_QUICK
@given(st.text(max_size=200) | st.text("[]{}=.,#\"'\\\n $abc1-", max_size=80))
def test_any_text(shared_desk: Desk, text: str) -> None:
    _load(shared_desk.directory, text.encode("utf-8", "replace").decode())


@_SLOW
@given(_DOCUMENTS)
def test_any_structure(shared_desk: Desk, document: dict[str, Any]) -> None:
    _load(
        shared_desk.directory,
        "".join(f"{key} = {toml(value)}\n" for key, value in document.items()),
    )


@_SLOW
@given(
    st.sampled_from(_KNOWN),
    _VALUES,
    st.sampled_from(["guest", "container", "node", "component", "group"]),
)
def test_one_odd_value_in_an_otherwise_right_file(
    shared_desk: Desk, key: str, value: Any, place: str
) -> None:
    """The likeliest of all: everything is right but for one thing."""
    tables: dict[str, dict[str, Any]] = {
        "node": {"name": "n"},
        "guest": {"command": ["sleep", "9"]},
        "container": {"components": ["c"]},
        "component": {"use": "m:c"},
        "group": {"workers": ["guest"]},
    }
    tables[place][key] = value
    names = {
        "node": "node",
        "guest": "worker.guest",
        "container": "worker.box",
        "component": "component.c",
        "group": "group.g",
    }
    text = "".join(
        f"[{names[name]}]\n" + "".join(f"{k} = {toml(v)}\n" for k, v in table.items())
        for name, table in tables.items()
    )
    _load(shared_desk.directory, text)
