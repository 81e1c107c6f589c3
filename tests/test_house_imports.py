"""The house processes pay for every import at each of their restarts, four times over."""

import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent.parent / "src"

#: Modules that cost more than they are worth there (measured: see DESIGN and ARCHITECTURE).
TOO_DEAR = {
    "argparse", "asyncio", "collections", "contextlib", "ctypes", "dataclasses", "enum", "inspect", "json",
    "logging", "multiprocessing", "os", "pathlib", "posixpath", "re", "resource", "shutil", "socket", "sqlite3", "ssl", "subprocess",
    "tempfile", "termios", "threading", "typing",
}  # fmt: skip


@pytest.mark.parametrize("module", ["anchor.loop", "keeper.loop", "watchdog.watch", "logger.loop"])
def test_a_house_process_imports_next_to_nothing(module: str) -> None:
    """A keeper that imports `json` starts 20 ms later: 20 ms in which a crashed worker stays down."""
    code = f"import sys; sys.path.insert(0, {str(SOURCE)!r}); import holdfast.{module}; print(*sys.modules)"

    run = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=False
    )

    assert run.returncode == 0, run.stderr
    assert TOO_DEAR & set(run.stdout.split()) == set()
