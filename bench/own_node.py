"""A node for a benchmark: configuration in, `holdfast up --detach`, and everything gone at the end."""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SOURCE = str(Path(__file__).resolve().parent.parent / "src")
sys.path.insert(0, SOURCE)

from holdfast.cli import place  # noqa: E402
from holdfast.cli.drills.scene import Scene  # noqa: E402

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Any, Self


class OwnNode:
    """A running node in a temporary directory."""

    def __init__(self, configuration: str, files: "dict[str, str] | None" = None) -> None:
        # Short: the path of a Unix socket has 107 bytes.
        self.home = tempfile.mkdtemp(prefix="hfb", dir="/tmp")
        self.state = f"{self.home}/state"
        Path(self.home, "holdfast.toml").write_text(configuration)
        for name, text in (files or {}).items():
            Path(self.home, name).write_text(text)

    def __enter__(self) -> "Self":
        self.command("up", "--detach", "--timeout", "120")
        where = place.Place(self.state, "")
        self.plan: dict[str, Any] = place.read_plan(where)
        self.scene = Scene(where, self.plan, float(os.environ.get("HOLDFAST_SLOWNESS", "1")))
        return self

    def __exit__(
        self,
        kind: "type[BaseException] | None",
        error: "BaseException | None",
        trace: "TracebackType | None",
    ) -> None:
        try:
            self.scene.mend()
            self.command("down", "--kill")
        finally:
            shutil.rmtree(self.home, ignore_errors=True)

    def command(self, *argv: str) -> None:
        """Run a holdfast command on this node; what it says is shown when it fails."""
        done = subprocess.run(
            [sys.executable, "-m", "holdfast", "-c", f"{self.home}/holdfast.toml", *argv],
            env={**os.environ, "PYTHONPATH": SOURCE}, capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode:
            raise SystemExit(f"holdfast {argv[0]}: {done.stdout}{done.stderr}")


def wait_for(look: "Callable[[], Any]", what: str, within_s: float = 60.0) -> "Any":
    """Return the first true value of ``look()``."""
    until = time.monotonic() + within_s
    while not (found := look()):
        if time.monotonic() > until:
            raise SystemExit(f"waited {within_s:g} s in vain for {what}")
        time.sleep(0.002)
    return found


def percentile(values: "list[float]", share: float) -> float:
    """Return the value below which this share of them lies (nearest rank)."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, max(0, round(share * len(ordered) + 0.5) - 1))]
