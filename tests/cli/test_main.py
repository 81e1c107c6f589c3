"""What happens between typing and the exit status."""

import json
import os
import subprocess
import sys
import types
from pathlib import Path

import pytest

from cli.fake_node import SLOWNESS, FakeNode, planned
from holdfast.cli import commands
from holdfast.cli.main import main
from holdfast.model import errors

SOURCE = str(Path(commands.__file__).parents[2])


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> types.SimpleNamespace:
    """A command that does whatever a test wants."""
    module = types.SimpleNamespace(add_arguments=lambda _: None, run=lambda _: 0)
    monkeypatch.setitem(sys.modules, "holdfast.cli.broken", module)
    monkeypatch.setitem(commands.COMMANDS, "broken", ("broken", "breaks"))
    monkeypatch.delenv("HOLDFAST_DEBUG", raising=False)
    return module


def raising(error: BaseException) -> object:
    def run(_: object) -> int:
        raise error

    return run


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0

    out = capsys.readouterr().out
    for name in commands.COMMANDS:
        assert name.startswith("_") or f"\n  {name} " in out


def test_nothing_typed_is_answered_with_the_overview_and_status_2(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main([]) == 2
    assert "usage: holdfast" in capsys.readouterr().out


def test_an_unknown_command_is_answered_with_the_nearest(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["statsu"]) == 2
    assert (
        capsys.readouterr().err
        == 'there is no command "statsu"\n  Did you mean "holdfast status"?\n'
    )
    assert main(["frobnicate"]) == 2
    assert "holdfast --help lists them" in capsys.readouterr().err


def test_the_hidden_command_is_not_suggested(capsys: pytest.CaptureFixture[str]) -> None:
    main(["_complete"])

    assert "__complete" not in capsys.readouterr().err


def test_an_unknown_option_names_the_command_it_was_meant_for(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["down", "--frob"]) == 2
    assert capsys.readouterr().err == (
        "holdfast down: unrecognized arguments: --frob\n  holdfast down --help\n"
    )


def test_options_are_not_abbreviated(capsys: pytest.CaptureFixture[str]) -> None:
    """`--js` would become something else with the next option that begins so."""
    assert main(["version", "--js"]) == 2
    assert "--js" in capsys.readouterr().err


@pytest.mark.parametrize(
    "argv", [["--json", "version"], ["version", "--json"], ["--version", "--json"]]
)
def test_global_options_may_stand_before_or_after_the_command(
    argv: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(argv) == 0
    assert json.loads(capsys.readouterr().out)["version"]


def test_the_value_of_a_global_option_is_not_taken_for_the_command() -> None:
    assert commands.find_command(["-c", "up", "--state", "down", "status"]) == 4
    assert commands.find_command(["--config=x", "status"]) == 1
    assert commands.find_command(["--json"]) == -1


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (errors.UsageError("u"), 2), (errors.ConfigError(["a", "b"]), 2), (errors.NodeError("n"), 1),
        (errors.NotRunning("n"), 3), (errors.AlreadyRunning("a"), 4), (errors.StateError("s"), 5),
    ],
)  # fmt: skip
def test_each_error_has_its_status(
    broken: types.SimpleNamespace,
    capsys: pytest.CaptureFixture[str],
    error: errors.HoldfastError,
    status: int,
) -> None:
    broken.run = raising(error)

    assert main(["broken"]) == status
    out, err = capsys.readouterr()
    assert (out, err) == ("", f"{error}\n")


def test_an_error_is_json_too_when_json_was_asked_for(
    broken: types.SimpleNamespace, capsys: pytest.CaptureFixture[str]
) -> None:
    broken.run = raising(errors.NotRunning("no node"))

    assert main(["broken", "--json"]) == 3
    out, err = capsys.readouterr()
    assert json.loads(out) == {"error": {"message": "no node", "exit_status": 3}}
    assert err == "no node\n"


def test_our_own_mistake_is_one_line_and_a_hint(
    broken: types.SimpleNamespace,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    broken.run = raising(KeyError("pid"))

    assert main(["broken"]) == 70
    err = capsys.readouterr().err
    assert err.startswith("holdfast made a mistake: KeyError: 'pid'\n")
    assert "HOLDFAST_DEBUG=1" in err
    assert "Traceback" not in err

    monkeypatch.setenv("HOLDFAST_DEBUG", "1")
    assert main(["broken"]) == 70
    assert "Traceback" in capsys.readouterr().err


def test_a_file_that_may_not_be_read_is_named(
    broken: types.SimpleNamespace, capsys: pytest.CaptureFixture[str]
) -> None:
    broken.run = raising(PermissionError(13, "Permission denied", "/etc/shadow"))

    assert main(["broken"]) == 1
    assert capsys.readouterr().err == "/etc/shadow: Permission denied\n"


def test_ctrl_c_is_quiet(broken: types.SimpleNamespace, capsys: pytest.CaptureFixture[str]) -> None:
    broken.run = raising(KeyboardInterrupt())

    assert main(["broken"]) == 130
    assert capsys.readouterr() == ("", "")


def run(*argv: str, **more: object) -> "subprocess.CompletedProcess[str]":
    env = {**os.environ, "PYTHONPATH": SOURCE}
    return subprocess.run(  # type: ignore[call-overload, no-any-return]
        [sys.executable, "-m", "holdfast", *argv],
        **{
            "env": env,
            "text": True,
            "capture_output": True,
            "timeout": 60 * SLOWNESS,
            "check": False,
            **more,
        },
    )


def test_a_reader_that_goes_away_is_no_error() -> None:
    """`holdfast --help | head -1`."""
    reader, writer = os.pipe()
    os.close(reader)
    done = run("--help", capture_output=False, stdout=writer, stderr=subprocess.PIPE)
    os.close(writer)

    assert done.stderr == ""
    assert done.returncode == 141


def test_a_closed_stdout_is_no_error() -> None:
    done = subprocess.run(
        ["/bin/sh", "-c", f'exec "{sys.executable}" -m holdfast version >&- 2>&-'],
        env={**os.environ, "PYTHONPATH": SOURCE}, check=False, timeout=60 * SLOWNESS,
    )  # fmt: skip

    assert done.returncode == 0


def test_a_narrow_encoding_loses_a_sign_and_not_the_answer() -> None:
    done = run(
        "--help", env={**os.environ, "PYTHONPATH": SOURCE, "PYTHONIOENCODING": "ascii:strict"}
    )

    assert done.returncode == 0
    assert "COMMAND ?" in done.stdout


def test_status_imports_nothing_it_does_not_need() -> None:
    """At 3 am on a swapping box each module costs; a machine's speed is no measure for a test, their names are."""
    with FakeNode(planned("web")) as node:
        node.up()
        code = (
            "import sys; from holdfast.cli.main import main; status = main(sys.argv[1:]); "
            "print(*sorted(sys.modules), file=sys.stderr); sys.exit(status)"
        )
        done = subprocess.run(
            [sys.executable, "-I", "-S", "-c", f"import sys; sys.path.insert(0, {SOURCE!r}); {code}", "status",
             "--state", node.state_dir],
            env=node.env, text=True, capture_output=True, timeout=60 * SLOWNESS, check=False,
        )  # fmt: skip

    assert done.returncode == 0, done.stderr
    loaded = set(done.stderr.split())
    heavy = {"typing", "json", "shutil", "subprocess", "dataclasses", "tomllib", "socket", "asyncio", "logging",
             "pathlib", "tempfile", "datetime", "difflib", "inspect", "holdfast.config", "holdfast.records"}  # fmt: skip
    assert loaded & heavy == set()
