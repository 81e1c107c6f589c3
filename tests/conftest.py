"""What all tests share."""

from __future__ import annotations

import signal
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

# Whoever starts the suite in the background of a shell has it ignore Ctrl-C, and every program in it as well.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGQUIT) == signal.SIG_IGN:
    signal.signal(signal.SIGQUIT, signal.SIG_DFL)


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    """A node that is ended after the test, however it went."""
    made = Node(tmp_path)
    yield made
    made.end()
