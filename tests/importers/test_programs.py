"""What systemd, Compose, pm2 and circus mean: only where it is not plain from the sample files."""

import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporters.conftest import Exporting, exporting
from holdfast.config.exporters import units
from holdfast.config.importers import Imported, import_file
from holdfast.config.importers.compose import filled
from holdfast.config.importers.draft import literal
from holdfast.config.importers.pm2 import as_json
from holdfast.config.importers.systemd import seconds, unquoted
from holdfast.model.errors import ConfigError

__all__ = ["exporting"]  # a fixture


def written(tmp_path: Path, name: str, text: str) -> Imported:
    path = tmp_path / name
    path.write_text(text)
    return import_file(str(path))


def workers(imported: Imported) -> dict[str, Any]:
    found = tomllib.loads(imported.toml)["worker"]
    assert isinstance(found, dict)
    return found


@given(st.lists(st.text(alphabet=st.characters(exclude_characters="\0", codec="utf-8"))))
@settings(deadline=None)
def test_what_our_exporter_quotes_our_importer_reads(words: list[str]) -> None:
    """Both are made from systemd.syntax(7), and not from each other."""
    line = units.command(["/bin/x", *words])

    assert "\n" not in line
    assert unquoted(line)[1:] == [word.replace("$", "$$").replace("%", "%%") for word in words]


def test_a_worker_comes_back_from_systemd_as_it_left(exporting: Exporting, tmp_path: Path) -> None:
    """Out by the exporter, in by the importer: what both can say is the same."""
    text = """
[node]
name = "n"
[worker.w]
command = ["sleep", "600", "100% $HOME \\\\ \\"q\\"", "a\\tb"]
env = { A = "5% $5 \\"x\\"" }
umask = "027"
memory_max = 268435456
cpu_max = 0.5
processes_max = 9
files_max = 100
ready = { notify = true, timeout = "9s" }
heartbeat = { notify = true, timeout = "7s" }
restart = { policy = "on-failure", limit = 3, window = "1m", after_limit = "down", delay = "250ms" }
stop = { signal = "INT", grace = "1500ms" }
listen = [{ address = "tcp://127.0.0.1:8080", name = "front", backlog = 9 }]
"""
    files, _ = exporting(text, "systemd", each=True)
    for name, unit in files.items():
        (tmp_path / name).write_text(unit)
    back = workers(import_file(str(tmp_path / "n-w.service")))["n-w"]
    given_there = tomllib.loads(text)["worker"]["w"]

    assert back["command"][1:] == [literal(word) for word in given_there["command"][1:]]
    assert back["cpu_max"] == "50%"
    assert back["env"]["A"] == given_there["env"]["A"]
    for key in ("umask", "memory_max", "processes_max", "files_max", "ready", "heartbeat", "stop"):
        assert back[key] == given_there[key], key
    assert back["restart"] == {**given_there["restart"], "window": "60s"}
    assert back["listen"] == given_there["listen"]


def test_systemd_does_not_restart_what_nobody_asked_it_to(tmp_path: Path) -> None:
    """Its default is `no`, ours is `always`."""
    found = workers(written(tmp_path, "a.service", "[Service]\nExecStart=/bin/sleep 1\n"))

    assert found["a"]["restart"] == {"policy": "never"}


def test_an_empty_line_of_systemd_clears_what_stood_above_it(tmp_path: Path) -> None:
    """Drop-ins replace a command this way."""
    imported = written(tmp_path, "a.service", "[Service]\nExecStart=/bin/one\nExecStart=\nExecStart=/bin/two 'x y'\n")  # fmt: skip

    assert workers(imported)["a"]["command"] == ["/bin/two", "x y"]
    assert any("cleared by the empty one in line 3" in note for note in imported.notes)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("90", 90.0), ("1min 30s", 90.0), ("1h30min", 5400.0), ("250ms", 0.25), ("2weeks", 1209600.0)],
)
def test_times_of_systemd(text: str, expected: float) -> None:
    assert seconds(text) == expected


@pytest.mark.parametrize("text", ["soon", "5 parsecs", "-3", "1.2.3x"])
def test_a_time_that_is_none_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError, match=r"a\.service:3 Service\.TimeoutStopSec"):
        written(tmp_path, "a.service", f"[Service]\nExecStart=/bin/x\nTimeoutStopSec={text}\n")


def test_variables_of_compose_are_filled_in_when_holdfast_reads_them() -> None:
    """A password belongs into the environment, not into the imported file."""
    assert literal(filled("a $$ ${B:-c} $D ${E:?says} ${F}")) == "a $ ${B:-c} ${D} ${E} ${F}"


def test_a_service_without_a_command_is_noted_and_nobody_waits_for_it(tmp_path: Path) -> None:
    pytest.importorskip("yaml")
    imported = written(tmp_path, "compose.yaml", "services:\n  cache: { image: redis }\n  web: { command: sleep 1, depends_on: [cache] }\n")  # fmt: skip

    assert list(workers(imported)) == ["web"]
    assert "after" not in workers(imported)["web"]
    assert any("services.cache" in note and "in its image alone" in note for note in imported.notes)


def test_unhealthy_takes_as_long_as_it_took_in_compose(tmp_path: Path) -> None:
    """Four failures, ten seconds apart: forty seconds of silence."""
    pytest.importorskip("yaml")
    text = "services:\n  db:\n    command: serve\n    healthcheck: { test: check it, interval: 10s, retries: 4, start_period: 20s }\n"
    db = workers(written(tmp_path, "docker-compose.yml", text))["db"]

    assert db["heartbeat"] == {"exec": ["/bin/sh", "-c", "check it"], "period": "10s", "timeout": "40s"}  # fmt: skip
    assert db["ready"]["timeout"] == "60s"


def test_an_ecosystem_file_that_computes_is_refused_with_a_way_out(tmp_path: Path) -> None:
    """Only Node.js knows what it means; it can also print it."""
    text = "const os = require('os');\nmodule.exports = { apps: [{ script: 'a.js' }] };\n"
    with pytest.raises(ConfigError, match=r"ecosystem\.config\.js:1 this is computed") as caught:
        written(tmp_path, "ecosystem.config.js", text)

    assert "node -p 'JSON.stringify(require(" in str(caught.value)
    with pytest.raises(ConfigError, match=r":2 this is computed"):
        written(
            tmp_path, "ecosystem.config.js", "module.exports = {\n apps: [{ script: a + 'b' }] }"
        )


def test_places_of_a_javascript_file_are_those_of_the_file(tmp_path: Path) -> None:
    """A note that names the wrong line is worse than none."""
    text = "// a\n/* b\n c */\nmodule.exports = { apps: [\n  { script: `a\nb.js`,\n    // c\n    watch: true },\n] };\n"
    imported = written(tmp_path, "ecosystem.config.js", text)

    assert any(note.startswith("ecosystem.config.js:8 apps[0].watch = true") for note in imported.notes)  # fmt: skip


@given(st.text())
@settings(deadline=None, max_examples=200)
def test_any_text_is_data_or_refused(text: str) -> None:
    """Whatever is in the file, a person gets an answer and no traceback."""
    says = ""
    try:
        as_json(text, "x.js")
    except ConfigError as error:
        says = str(error)

    assert says == "" or says.startswith("x.js:")


def test_circus_hands_over_its_sockets_and_so_do_we(tmp_path: Path) -> None:
    """The descriptor's number is known in advance: socket activation starts at 3."""
    text = "[watcher:a]\ncmd = serve --fd $(circus.sockets.two)\nuse_sockets = True\n[socket:one]\nport = 1\n[socket:two]\npath = /run/x\n"
    found = workers(written(tmp_path, "circus.ini", text))["a"]

    assert found["command"] == ["serve", "--fd", "4"]
    assert [entry["address"] for entry in found["listen"]] == ["tcp://127.0.0.1:1", "unix:/run/x"]


@pytest.mark.parametrize(
    ("name", "text", "kind"),
    [
        ("docker-compose.yml", "services:\n  a: { command: x }\n", "compose"),
        ("c.json", '{"services": {"a": {"command": "x"}}}', "compose"),
        ("ecosystem.json", '{"apps": [{"script": "a.js"}]}', "pm2"),
        ("shop.service", "[Service]\nExecStart=/bin/x\n", "systemd"),
        ("shop.ini", "[watcher:a]\ncmd = x\n", "circus"),
    ],
)
def test_the_kind_is_told(tmp_path: Path, name: str, text: str, kind: str) -> None:
    pytest.importorskip("yaml")
    assert written(tmp_path, name, text).kind == kind


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("circus.ini", "[watcher:a]\ncmd = x\ngraceful_timeout = nan\n"),
        ("ecosystem.json", '{"apps": [{"script": "a.js", "uid": null}]}'),
        ("ecosystem.json", '{"apps": [{"script": "a.js", "max_memory_restart": "%s"}]}' % ("9" * 400)),
        ("ecosystem.json", '{"apps": 5}'),
        ("c.json", '{"services": {"a": {"command": "x", "mem_limit": "much"}}}'),
        ("c.json", '{"services": {"a": {"command": "x \'"}}}'),
        ("a.service", "[Service]\nExecStart=/bin/x 'y\n"),
        ("a.service", "[Service]\nExecStart=/bin/x\nRestart=often\n"),
    ],
)  # fmt: skip
def test_values_that_cannot_be_are_a_sentence_with_a_place(
    tmp_path: Path, name: str, text: str
) -> None:
    """Found by changing the samples at random: each of them once ended in a traceback or passed."""
    with pytest.raises(ConfigError, match=rf"^{name}:\d+ "):
        written(tmp_path, name, text)


def test_times_and_checks_without_end_are_cut(tmp_path: Path) -> None:
    """Numbers that are too large for a clock are a wish for `never`."""
    text = '{"services": {"a": {"command": "x", "stop_grace_period": "%ss", "healthcheck": {"test": []}}}}'
    found = workers(written(tmp_path, "c.json", text % ("9" * 400)))["a"]

    assert found["stop"]["grace"] == "315360000s"
    assert "heartbeat" not in found
