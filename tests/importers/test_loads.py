"""What an import writes is a configuration that Holdfast takes."""

import os
from pathlib import Path
from typing import Any

from holdfast.config.importers import import_file
from holdfast.config.load import load_plan


def loaded(tmp_path: Path, name: str, text: str, **environ: str) -> dict[str, Any]:
    (tmp_path / name).write_text(text)
    target = tmp_path / "holdfast.toml"
    target.write_text(import_file(str(tmp_path / name)).toml)
    plan = load_plan(str(target), {**os.environ, **environ})
    return {worker["name"]: worker for worker in plan["workers"]}


def test_a_supervisord_conf_arrives_in_the_plan(tmp_path: Path) -> None:
    """All the way: text of theirs, TOML, plan."""
    text = """
[program:web]
command = /bin/sleep %(ENV_HF_SPAN)s ${HOME} $$ 100%%
directory = %(here)s
umask = 027
environment = A="1,2"
autorestart = true
startretries = 3
stopsignal = INT
stopwaitsecs = 2
stdout_logfile_maxbytes = 1MB
stdout_logfile_backups = 4
priority = 2
[program:first]
command = /bin/sleep 1
priority = 1
[fcgi-program:php]
command = /bin/cat
socket = tcp://127.0.0.1:0
[group:both]
programs = web,first
"""
    workers = loaded(tmp_path, "supervisord.conf", text, HF_SPAN="77")
    web = workers["web"]

    assert web["argv"][1:] == ["77", "${HOME}", "$$", "100%"]
    assert (web["directory"], web["umask"], web["env"]["A"]) == (str(tmp_path), 0o027, "1,2")
    assert (web["restart"]["policy"], web["restart"]["limit"], web["restart"]["after_limit"]) == (
        "always",
        3,
        "down",
    )
    assert web["stop"] == {"signal": 2, "grace_s": 2.0}
    assert (web["log"]["max_bytes"], web["log"]["keep"]) == (1 << 20, 4)
    assert web["after"] == ["first"]
    assert workers["php"]["listen"][0]["kind"] == "tcp"


def test_a_procfile_arrives_in_the_plan(tmp_path: Path) -> None:
    """A shell reads its dollars, Holdfast does not."""
    workers = loaded(tmp_path, "Procfile", "web: echo $PORT ${PORT} $$\n")

    assert workers["web"]["argv"][-1] == "exec echo $PORT ${PORT} $$"
    assert workers["web"]["env"]["PORT"] == "5000"


def test_a_node_configuration_arrives_in_the_plan(tmp_path: Path) -> None:
    """Extra becomes settings, digit for digit."""
    text = """{"workers": [{"type": "container", "options": {"pythonpath": ["."]}, "components": [
        {"type": "class", "classname": "a.b.C", "extra": {"n": 1, "t": "${X}", "d": {"l": [1.5, false]}}}]}]}"""
    (worker,) = loaded(tmp_path, "config.json", text).values()

    (component,) = worker["components"]
    assert component == {
        "name": "c",
        "use": "a.b:C",
        "settings": {"n": 1, "t": "${X}", "d": {"l": [1.5, False]}},
    }
