"""What the example keeps on disk is whole after a kill at any instant."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

FILES = Path(__file__).parents[2] / "examples" / "clandeck" / "clandeck" / "files.py"


def files() -> Any:
    """The example's own module, without putting the example on the path of everybody."""
    spec = importlib.util.spec_from_file_location("clandeck_files", FILES)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_line_torn_by_a_kill_is_cut_off_and_the_rest_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "board.journal"
    journal = files().Journal(path)
    for n in range(3):
        journal.append(["card", n])
    with path.open("ab") as file:
        file.write(b'0123abcd ["card",')  # killed in the middle of a write

    again = files().Journal(path)

    assert again.records == [["card", n] for n in range(3)]
    assert again.torn_bytes == 17
    again.append(["card", 3])
    assert list(files().read_journal(path)) == [["card", n] for n in range(4)]
