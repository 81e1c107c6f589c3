"""Nothing is dropped in silence: the books of every import have to balance."""

import copy
import json
import os
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from holdfast.config.importers import Imported, import_file
from holdfast.config.load import load_plan
from holdfast.model.errors import ConfigError

HERE = Path(__file__).parent
SHARED = Path(os.environ.get("HOLDFAST_SHARED", HERE.parents[2] / "shared")) / "crossbar-configs"
OWN = sorted((HERE / "samples").iterdir())
FOUND = (
    [path for path in sorted(SHARED.glob("*")) if path.suffix != ".md"] if SHARED.is_dir() else []
)
REAL: list[Any] = [*FOUND] or [
    pytest.param(
        None,
        marks=pytest.mark.skip(reason=f"no sample configurations at {SHARED} (HOLDFAST_SHARED)"),
    )
]


#: What depends on the machine that the import was made for, and not on the import.
_OF_THE_MACHINE = re.compile(
    r"there is no such (program|directory|user|file)|there is no program|nothing to run|only root|not on the PATH"
)


#: What the configurations want from whoever starts them.
SETTINGS = {
    "HOME": "/root", "PORT": "8089", "SECRET": "hush", "DESKCONN_PORT": "8088", "DESKCONN_SOCK_DIR": "/tmp",
    "EXTRA": "--more",
}  # fmt: skip


def name_of(path: Any) -> str:
    return path.name if isinstance(path, Path) else "none"


def check_books(imported: Imported) -> dict[str, Any]:
    notes = "\n".join(imported.notes)
    assert imported.settings
    for setting in imported.settings:
        assert setting.fate in ("used", "noted"), setting.path
        if setting.fate == "noted":
            assert f"{setting.path} = " in notes, setting.path
    for note in imported.notes:
        assert re.match(r"\S.*?:\d+ ", note), f"no place in: {note}"
        assert len(note.split("\n")[0].split(": ", 1)) == 2, f"no advice in: {note}"
        assert f"# {note.splitlines()[0][:40]}" in imported.toml  # the file tells it, too
    return tomllib.loads(imported.toml)


@pytest.mark.parametrize("path", OWN, ids=name_of)
def test_every_setting_of_our_samples_is_used_or_noted(path: Path) -> None:
    """A key that an importer forgets has to turn up in a note by itself."""
    check_books(import_file(str(path)))


@pytest.mark.parametrize("path", REAL, ids=name_of)
def test_every_setting_of_a_real_configuration_is_used_or_noted(path: Path) -> None:
    """Configurations that people published: none may be read half."""
    imported = import_file(str(path))
    plan = check_books(imported)

    assert imported.kind == "crossbar"
    named = [
        name for worker in plan.get("worker", {}).values() for name in worker.get("components", [])
    ]
    assert sorted(named) == sorted(plan.get("component", {}))


def leaf_paths(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    pairs = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, list)
        else ()
    )
    below = list(pairs)
    if not below and path:
        yield path
    for key, item in below:
        yield from leaf_paths(item, (*path, key))


def outcome(path: Path, value: Any) -> str:
    """What an import says about a value, with no word about lines and numbers of list entries."""
    path.write_text(json.dumps(value))
    try:
        text = import_file(str(path)).toml
    except ConfigError as error:
        text = str(error)
    return re.sub(r"\[\d+\]|-\d+\b", "", text)


JSON = [path for path in [*OWN, *FOUND] if path.suffix == ".json" and path.stat().st_size < 6000]


@pytest.mark.parametrize("path", JSON, ids=name_of)
def test_taking_any_setting_away_makes_a_difference(path: Path, tmp_path: Path) -> None:
    """`used` is a claim: a setting is used only if the result would not be the same without it."""
    given = json.loads(path.read_text())
    target = tmp_path / path.name
    whole = outcome(target, given)
    for leaf in leaf_paths(given):
        without = copy.deepcopy(given)
        place = without
        for key in leaf[:-1]:
            place = place[key]
        del place[leaf[-1]]
        assert outcome(target, without) != whole, leaf


INI = [path for path in OWN if path.suffix in (".conf", ".ini", ".service")]


@pytest.mark.parametrize("path", INI, ids=name_of)
def test_taking_any_line_of_an_ini_file_away_makes_a_difference(path: Path, tmp_path: Path) -> None:
    """The same for the formats that are lines."""
    target = tmp_path / path.name

    def told(lines: list[str]) -> str:
        target.write_text("\n".join(lines))
        try:
            text = import_file(str(target)).toml
        except ConfigError as error:
            text = str(error)
        return re.sub(r"(\.[a-z]+:|line )\d+", "", text)

    lines = path.read_text().splitlines()
    whole = told(lines)
    for number, line in enumerate(lines):
        if line.strip() and line.lstrip()[0] not in "#;":
            assert told(lines[:number] + lines[number + 1 :]) != whole, (
                f"{path.name}:{number + 1} {line}"
            )


def test_a_secret_without_a_counterpart_is_named_but_not_repeated(tmp_path: Path) -> None:
    """Notes end up in mails and tickets."""
    path = tmp_path / "supervisord.conf"
    path.write_text("[inet_http_server]\npassword=hush-hush\n[program:a]\ncommand=a\n")
    imported = import_file(str(path))

    assert "inet_http_server.password = (not shown here)" in imported.toml
    assert "hush-hush" not in imported.toml


@pytest.mark.parametrize("path", [*OWN, *REAL], ids=name_of)
def test_the_toml_of_every_sample_loads(path: Path, tmp_path: Path) -> None:
    """But for programs, users and directories that this machine does not have."""
    imported = import_file(str(path))
    target = tmp_path / "holdfast.toml"
    target.write_text(imported.toml)
    try:
        plan = load_plan(str(target), {**os.environ, **SETTINGS})
    except ConfigError as error:
        for problem in error.problems:
            assert _OF_THE_MACHINE.search(problem), problem
    else:
        assert {worker["name"] for worker in plan["workers"]} == set(
            tomllib.loads(imported.toml)["worker"]
        )
