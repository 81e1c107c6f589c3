"""`holdfast export`: prints or writes, and never over something that is there."""

import json
from pathlib import Path

import pytest

from holdfast.cli.main import main

NODE = '[node]\nname = "shop"\n[worker.web]\ncommand = "sleep 600"\n'


@pytest.fixture
def config(tmp_path: Path) -> str:
    path = tmp_path / "holdfast.toml"
    path.write_text(NODE)
    return str(path)


def test_one_file_is_printed_as_it_is(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    """`holdfast export systemd > shop.service` is what people try first."""
    assert main(["export", "systemd", config]) == 0
    printed = capsys.readouterr()

    assert printed.out.startswith("# /etc/systemd/system/shop.service")
    assert "----" not in printed.out
    assert "note: node.env_pass" in printed.err


def test_files_are_written_all_or_none(
    config: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nobody's own Dockerfile is replaced."""
    out = tmp_path / "out"
    out.mkdir()
    (out / "Dockerfile").write_text("mine")

    assert main(["export", "compose", config, "-o", str(out)]) == 2
    assert "Dockerfile: this is there already, nothing was written" in capsys.readouterr().err
    assert sorted(path.name for path in out.iterdir()) == ["Dockerfile"]

    (out / "Dockerfile").unlink()
    assert main(["export", "compose", config, "-o", str(out), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert sorted(told["written"]) == sorted(str(path) for path in out.iterdir())
    assert told["files"]["compose.yaml"] == (out / "compose.yaml").read_text()


def test_watched_is_a_wish_of_one_unit(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", "compose", config, "--watched"]) == 2
    assert main(["export", "systemd", config, "--watched", "--each"]) == 2
    assert "leave out --each, or --watched" in capsys.readouterr().err


def test_nothing_to_export_is_no_success(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "holdfast.toml"
    path.write_text('[component.board]\nuse = "m:c"\n')

    assert main(["export", "systemd", str(path), "--each"]) == 1
    assert "nothing was written" in capsys.readouterr().err


def test_a_directory_that_cannot_be_written_is_a_sentence(
    config: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")

    assert main(["export", "systemd", config, "-o", str(tmp_path / "file")]) == 2
    assert "cannot be written" in capsys.readouterr().err
