"""The pages of docs/reference about the command line say what the program does."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from cli.fake_node import FakeNode, planned
from holdfast.cli import commands, reference
from holdfast.cli import main as outcome
from holdfast.cli.main import main
from holdfast.model import errors

DOCS = Path(__file__).parents[2] / "docs" / "reference"
JSON = (DOCS / "json.md").read_text(encoding="utf-8")


def test_the_page_of_commands_is_up_to_date() -> None:
    """To write it anew: python -m holdfast.cli.reference > docs/reference/cli.md."""
    assert (DOCS / "cli.md").read_text(encoding="utf-8") == reference.page()


def test_every_exit_status_is_explained() -> None:
    text = (DOCS / "exit-statuses.md").read_text(encoding="utf-8")
    explained = {int(number) for number in re.findall(r"^\| (\d+) \|", text, re.MULTILINE)}
    raised = {
        kind.exit_status for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, errors.HoldfastError)
    }  # fmt: skip

    assert explained >= raised | {
        outcome.OK,
        outcome.INTERNAL,
        outcome.INTERRUPTED,
        outcome.PIPE_CLOSED,
    }


def test_every_command_has_its_shape_of_json_explained() -> None:
    headings = " ".join(re.findall(r"^## (.*)$", JSON, re.MULTILINE))
    explained = set(re.findall(r"holdfast (\w+)", headings))

    # The shape of a scorecard is with the drills.
    assert explained == {name for name in commands.COMMANDS if not name.startswith("_")} - {"drill"}


def section(name: str) -> str:
    """Return what json.md says about a command."""
    return JSON.split(f"## holdfast {name}", 1)[1].split("\n## ", 1)[0]


def keys_of(value: Any) -> set[str]:
    """Return all keys of a JSON value, at any depth."""
    if isinstance(value, list):
        return {key for entry in value for key in keys_of(entry)}
    if isinstance(value, dict):
        return set(value) | {key for entry in value.values() for key in keys_of(entry)}
    return set()


def unexplained(name: str, printed: str) -> set[str]:
    return keys_of(json.loads(printed)) - set(re.findall(r"\w+", section(name)))


def test_every_key_that_is_printed_is_explained(capsys: pytest.CaptureFixture[str]) -> None:
    """Each command is run, and its keys are looked for in its section of json.md."""
    with FakeNode(planned("web", components=[{"name": "board"}])) as node:
        node.up()
        node.raise_flag("web", "missed_heartbeat")
        Path(node.config).write_text("[node]\nnames = 1\n")
        for name, *argv in (
            ["status"],
            ["restart", "web", "--no-wait"],
            ["check", node.config],
            ["version"],
            ["incidents"],
            ["doctor"],
        ):
            main([name, "--state", node.state_dir, "--json", *argv])
            assert (
                unexplained("start" if name == "restart" else name, capsys.readouterr().out)
                == set()
            )
        directory = f"{node.root}/new"
        main(["init", directory, "--json"])
        assert unexplained("init", capsys.readouterr().out) == set()
