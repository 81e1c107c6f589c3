"""A worker for each test of this folder."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from engine.working import Worker

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def worker() -> Iterator[Worker]:
    # Short: the control socket's path has to fit into a socket address.
    with tempfile.TemporaryDirectory(prefix="hf-") as root:
        made = Worker(Path(root))
        try:
            yield made
        finally:
            made.end()
