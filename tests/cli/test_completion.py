"""The completion scripts, run by the shells themselves."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from cli.fake_node import SLOWNESS, FakeNode, planned
from holdfast.cli import commands, completion
from holdfast.cli.main import main

SOURCE = str(Path(commands.__file__).parents[2])


@pytest.fixture
def on_path(tmp_path: Path) -> Path:
    """A directory with a `holdfast` in it, as a shell finds it."""
    script = tmp_path / "holdfast"
    script.write_text(f'#!/bin/sh\nPYTHONPATH={SOURCE} exec "{sys.executable}" -m holdfast "$@"\n')
    script.chmod(0o755)
    (tmp_path / "completion.bash").write_text(completion.bash(completion.describe()))
    return tmp_path


def complete(
    on_path: Path, *words: str, env: dict[str, str] | None = None, cwd: Path | None = None
) -> list[str]:
    """Return what bash offers for the last word."""
    quoted = " ".join(f"'{word}'" for word in words)
    script = (
        f"source {on_path}/completion.bash\n"
        f"COMP_WORDS=({quoted}); COMP_CWORD={len(words) - 1}\n"
        '_holdfast; printf "%s\\n" "${COMPREPLY[@]}"\n'
    )
    done = subprocess.run(
        ["bash", "--norc", "-c", script], capture_output=True, text=True, cwd=cwd or on_path, check=True,
        timeout=60 * SLOWNESS, env={**(env or os.environ), "PATH": f"{on_path}:{os.environ['PATH']}"},
    )  # fmt: skip
    assert done.stderr == ""
    return [word for word in done.stdout.splitlines() if word]


def test_bash_takes_the_script(on_path: Path) -> None:
    done = subprocess.run(
        ["bash", "-n", f"{on_path}/completion.bash"], capture_output=True, text=True, check=False
    )

    assert (done.returncode, done.stderr) == (0, "")


def test_bash_completes_commands_and_options(on_path: Path) -> None:
    assert complete(on_path, "holdfast", "st") == ["status", "start", "stop", "stacks"]
    assert complete(on_path, "holdfast", "up", "--det") == ["--detach"]
    assert complete(on_path, "holdfast", "--state", "up", "restart", "--no-w") == ["--no-wait"]
    assert complete(on_path, "holdfast", "completion", "") == ["bash", "zsh", "fish"]
    assert complete(on_path, "holdfast", "import", "--kind", "pro") == ["procfile"]
    assert "--json" in complete(on_path, "holdfast", "--")


def test_bash_completes_files_where_files_go(on_path: Path) -> None:
    (on_path / "my.toml").touch()
    (on_path / "mine").mkdir()

    assert complete(on_path, "holdfast", "-c", "my") == ["my.toml"]
    assert complete(on_path, "holdfast", "check", "my") == ["my.toml"]
    assert complete(on_path, "holdfast", "init", "m") == ["mine"]


def test_bash_offers_no_worker_where_a_value_goes(on_path: Path) -> None:
    with FakeNode(planned("web")) as node:
        assert (
            complete(
                on_path, "holdfast", "--state", node.state_dir, "logs", "--since", "", env=node.env
            )
            == []
        )


def test_bash_completes_the_names_of_the_node_that_is_meant(on_path: Path) -> None:
    plan = planned("backend", components=[{"name": "board"}])
    with FakeNode(plan, planned("beta"), planned("web")) as node:
        where = Path(node.config).parent
        (Path(node.state_dir) / "incidents" / "2024-11-03-web-1").mkdir(parents=True)

        def offered(*words: str, cwd: Path = where) -> list[str]:
            return complete(on_path, "holdfast", *words, env=node.env, cwd=cwd)

        assert offered("stop", "b") == ["backend", "backend/board", "beta"]
        assert offered("logs", "--worker", "w") == ["web"]
        assert offered("status", "be") == ["beta"]
        assert offered("incident", "") == ["2024-11-03-web-1"]
        assert offered("--state", node.state_dir, "stop", "w", cwd=on_path) == ["web"]
        assert offered("stop", "w", cwd=on_path) == []


def test_completing_never_fails(
    on_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A shell that completes must not show an error."""
    monkeypatch.chdir(on_path)
    assert main(["__complete", "workers"]) == 0
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_the_other_shells_get_every_command_and_option(shell: str) -> None:
    text = getattr(completion, shell)(completion.describe())

    for command in completion.describe():
        assert command.name in text
        for option, _ in command.options:
            assert (option if shell == "zsh" else option.lstrip("-")) in text
    if shutil.which(shell):
        done = subprocess.run(
            [shell, "-n", "/dev/stdin"], input=text, capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_is_printed(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", shell]) == 0
    assert capsys.readouterr().out == getattr(completion, shell)(completion.describe())
