"""JSON on the stdout of a node: whoever reads it finds nothing else there, and is never left without a word."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from holdfast.linux import locks
from holdfast.wire import beats, layout
from node import SLOWNESS

SOURCE = Path(__file__).parents[2] / "src"
SAYS = "import sys; from holdfast.linux.house import House; House(sys.argv[1], 'logger').say('a worker died')"


def house_says(run_dir: Path) -> tuple[str, str]:
    done = subprocess.run(
        [sys.executable, "-c", SAYS, str(run_dir)], env={**os.environ, "PYTHONPATH": str(SOURCE)}, capture_output=True, text=True,
        timeout=30 * SLOWNESS, check=True,
    )  # fmt: skip
    return done.stdout, done.stderr


def test_the_house_is_silent_on_stdout_only_while_somebody_makes_json_of_its_log(
    tmp_path: Path,
) -> None:
    """The kernel drops the lock at death, so a killed forwarder never leaves a node that says nothing."""
    (tmp_path / layout.BEATS).write_bytes(bytes(beats.SIZE))
    path = f"{tmp_path}/{layout.lock('stdout')}"
    before = house_says(tmp_path)
    lock = locks.take(path)
    assert lock is not None
    during = house_says(tmp_path)
    os.close(lock)
    locks.forget(path)
    after = house_says(tmp_path)

    assert [bool(stdout) for stdout, _ in (before, during, after)] == [True, False, True]
    assert all("logger: a worker died" in stderr for _, stderr in (before, during, after))
