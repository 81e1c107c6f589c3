"""What all tests share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

from node import Node

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# A busy two-core machine is the normal case; a property is about values, not about time.
settings.register_profile("holdfast", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("holdfast")


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    """A node that is ended after the test, however it went."""
    made = Node(tmp_path)
    yield made
    made.end()
