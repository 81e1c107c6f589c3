"""The house's own ``os``: what it has, and that it says what ``os`` says."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from holdfast.linux import system

SOURCE = Path(__file__).parents[2] / "src"


def in_a_house_process(code: str, **env: str) -> Any:
    """Run ``code`` in an interpreter as bare as a house process; return what it prints, as JSON."""
    head = f"import sys; sys.path.insert(0, {str(SOURCE)!r}); from holdfast.linux import system; from holdfast.wire.jsonlite import dumps"
    run = subprocess.run(
        [sys.executable, "-I", "-S", "-c", f"{head}\n{code}"],
        capture_output=True, text=True, check=False, env={**os.environ, **env},
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


def test_every_name_is_there_without_os() -> None:
    """A name that is missing would be found by the one process that needs it, in its worst moment."""
    missing, is_loaded = in_a_house_process(
        "print(dumps([[n for n in system.__all__ if not hasattr(system, n)], 'os' in sys.modules]))"
    )

    assert missing == []
    assert not is_loaded


def test_where_os_is_loaded_its_own_functions_are_used() -> None:
    """The command line and the tests change ``os.environ``; two copies of it would disagree."""
    assert system.environ is os.environ
    assert system.open is os.open
    assert system.path is os.path


def test_the_numbers_that_are_written_down_are_those_of_os() -> None:
    found = in_a_house_process(
        "print(dumps([system.P_PIDFD, system.SEEK_SET, system.defpath, system.environ['HF_NAME']]))",
        HF_NAME="caf\u00e9",
    )

    assert found == [os.P_PIDFD, os.SEEK_SET, os.defpath, "caf\u00e9"]


def test_paths_are_taken_apart_and_followed_as_os_path_does(tmp_path: Path) -> None:
    """The name of a node is derived from the real path of its state directory: both have to find the same one."""
    (tmp_path / "state").mkdir()
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path / "state")
    (tmp_path / "loose").symlink_to(tmp_path / "gone")
    names = ["/", "a", "/a", "a/", "/a//b", "/a//b/", "", "a/b/../c", "./x", "/x/../../y"]
    places = [
        *(str(tmp_path / n) for n in ("state", "file", "link", "loose", "gone", "link/../file")), "/proc/self/..",
    ]  # fmt: skip

    for name, values in (
        ("dirname", names), ("basename", names), ("abspath", names[:-1] + names[1:]), ("realpath", places),
        ("exists", places), ("lexists", places), ("isdir", places), ("islink", places),
    ):  # fmt: skip
        code = f"print(dumps([getattr(system.path, {name!r})(v) for v in {values!r}]))"
        assert in_a_house_process(code) == [getattr(os.path, name)(v) for v in values], name


def test_directories_are_made_with_all_above_them(tmp_path: Path) -> None:
    """A log directory that cannot be made is a worker without a log."""
    deep, file = tmp_path / "a" / "b" / "c", tmp_path / "file"
    file.touch()
    code = (
        f"system.makedirs({str(deep)!r}, mode=0o755, exist_ok=True)\n"
        f"system.makedirs({str(deep)!r}, exist_ok=True)\n"
        "said = []\n"
        f"for path, may in (({str(deep)!r}, False), ({str(file)!r}, True)):\n"
        "    try:\n"
        "        system.makedirs(path, exist_ok=may)\n"
        "    except FileExistsError as error:\n"
        "        said.append(error.filename)\n"
        "print(dumps(said))"
    )

    assert in_a_house_process(code) == [str(deep), str(file)]
    assert deep.is_dir()
