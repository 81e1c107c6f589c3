"""Which file is meant, and does the first one that a newcomer gets really work?"""

import ast

import pytest

from config.desk import Desk
from holdfast.config.find import find_config, starter_toml
from holdfast.config.load import load_plan
from holdfast.model.errors import ConfigError, UsageError


def test_the_nearest_file_upwards_is_meant(desk: Desk) -> None:
    """As with git: from anywhere inside the project."""
    path = desk.write("")
    inner = desk.directory / "a" / "b"
    inner.mkdir(parents=True)

    assert find_config(None, str(inner)) == path
    assert find_config(None, str(desk.directory)) == path


def test_a_named_file_or_directory_is_taken_as_it_is(desk: Desk) -> None:
    path = desk.write("")
    other = desk.write("", "split.toml")

    assert find_config("split.toml", str(desk.directory)) == other
    assert find_config(str(desk.directory), "/") == path


def test_no_file_leads_to_init(desk: Desk) -> None:
    with pytest.raises(ConfigError, match="holdfast init"):
        find_config(None, str(desk.directory))
    for given in ("gone.toml", "", "a\0b"):
        with pytest.raises(UsageError, match="there is no such configuration file"):
            find_config(given, str(desk.directory))


@pytest.mark.parametrize("name", ["shop", "my shop (old)", "", "ü", "x" * 99])
def test_the_starter_is_right(desk: Desk, name: str) -> None:
    """`holdfast init` in a directory of any name, then `holdfast up`: the first minute with the program."""
    files = starter_toml(name)
    for file, text in files.items():
        desk.write(text, file)

    plan = load_plan(str(desk.directory / "holdfast.toml"), desk.environ)

    assert [worker["name"] for worker in plan["workers"]] == ["greeter", "ticker"]
    module, _, attribute = plan["workers"][0]["components"][0]["use"].partition(":")
    tree = ast.parse(files[f"{module}.py"])
    assert any(
        isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == attribute
        for node in tree.body
    )
