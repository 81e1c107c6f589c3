"""A container process and, where asked for, a router that it can join."""

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from container.hosting import SLOWNESS, SOURCE, Container


@pytest.fixture
def container() -> Iterator[Container]:
    # Short: the control socket's path has to fit into a socket address.
    with tempfile.TemporaryDirectory(prefix="hf-") as root:
        container = Container(Path(root))
        try:
            yield container
        finally:
            container.kill_all()


class Router:
    """A router process at a Unix socket; killed and started again at the same place."""

    def __init__(self, path: Path) -> None:
        self.url = f"unix:{path}"
        self.process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "holdfast.router.alone", "--listen", self.url],
            stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(SOURCE)},
        )  # fmt: skip
        assert self.process.stdout is not None
        assert self.process.stdout.readline(), "the router did not start"

    def kill(self) -> None:
        if self.process is not None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait(timeout=20 * SLOWNESS)
            assert self.process.stdout is not None
            self.process.stdout.close()
            self.process = None


@pytest.fixture
def router() -> Iterator[Router]:
    with tempfile.TemporaryDirectory(prefix="hf-") as root:
        router = Router(Path(root, "bus"))
        try:
            yield router
        finally:
            router.kill()
